// The page itself. `engine` classifies: by the service, or here in the browser.

const MOST_CARDS = 30;
const SHOWN_CLASSES = 5;
const $ = (id) => document.getElementById(id);
let facts = null;
let waiting = Promise.resolve();

function percent(share) {
  // What is neither 0 nor 1 is never shown as 0% or 100%.
  if (share === 0 || share === 1) return `${100 * share}%`;
  return `${Math.min(Math.max(100 * share, 0.1), 99.9).toFixed(1)}%`;
}

function counted(number, noun, plural = `${noun}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}

function made(name, words = "", kind = "") {
  const element = document.createElement(name);
  element.textContent = words;
  if (kind) element.className = kind;
  return element;
}

function interval([low, high]) {
  return `(95% interval ${percent(low)} to ${percent(high)})`;
}

function aboutClasses() {
  const { test } = facts;
  const proof = test
    ? ` ${percent(test.accuracy)} of ${counted(test.images, "sealed test image")} were right ${interval(test.accuracy_interval)}.`
    : "";
  return `Tells ${counted(facts.classes.length, "class", "classes")} apart.${proof}`;
}

function aboutLabels() {
  const { test } = facts;
  const proof = test
    ? ` On ${counted(test.images, "sealed test image")}: mean average precision ${percent(test.mean_average_precision)} ${interval(test.mean_average_precision_interval)}, micro F1 ${percent(test.micro_f1)} ${interval(test.micro_f1_interval)}.`
    : "";
  return `Gives an image any number of ${counted(facts.classes.length, "label")}, each from a probability of its own.${proof}`;
}

// What an image is, in a few words: its class, or all its labels.
function answerOf(found) {
  if (facts.thresholds) return found.labels.length ? found.labels.join(", ") : "No label";
  return `${found.label}, ${percent(found.probability)}`;
}

function introduce() {
  $("name").textContent = facts.name;
  document.title = `${facts.name}: try the classifier`;
  $("about").textContent = facts.thresholds ? aboutLabels() : aboutClasses();
  $("where").textContent = engine.where;
  $("result").textContent = `Made with headstart ${facts.version}, from ${facts.backbone} (${facts.licence}).`;
  $("drop").hidden = false;
  $("key").hidden = true;
  $("status").textContent = "";
}

async function open() {
  $("status").textContent = "Loading the classifier …";
  try {
    facts = await engine.open();
    introduce();
  } catch (error) {
    const locked = error.status === 401;
    $("status").textContent = locked ? "" : error.message;
    $("wrong").textContent = locked && $("secret").value ? "This is not the key." : "";
    $("key").hidden = !locked;
    if (locked) $("secret").focus();
  }
}

// What the bars show, most probable first; where an image has any number of labels, those that it gets come first.
function rowsOf(found) {
  if (facts.thresholds) return [true, false].flatMap((given) => found.decisions.filter((each) => each.given === given));
  const sorted = Object.entries(found.probabilities).sort((a, b) => b[1] - a[1]);
  return sorted.map(([label, probability]) => ({ label, probability }));
}

function fillBars(card, rows, most) {
  const bars = rows.slice(0, most).map(({ label, probability, threshold, given }) => {
    const item = made("li", "", given ? "given" : "");
    const track = made("div", "", "track");
    const fill = made("div", "", "fill");
    fill.style.width = `${100 * probability}%`;
    track.append(fill);
    let told = percent(probability);
    if (threshold !== undefined) {
      const from = made("div", "", "from");
      from.style.left = `${100 * threshold}%`;
      track.append(from);
      told += given ? `, given from ${percent(threshold)}` : `, not given below ${percent(threshold)}`;
    }
    item.append(made("span", label, "name"), made("span", told, "share"), track);
    return item;
  });
  const list = card.querySelector(".bars");
  list.classList.toggle("several", Boolean(facts.thresholds));
  list.replaceChildren(...bars);
  const all = card.querySelector(".all");
  all.hidden = rows.length <= most;
  all.textContent = `Show all ${rows.length} ${facts.thresholds ? "labels" : "classes"}`;
  all.onclick = () => {
    fillBars(card, rows, rows.length);
    list.tabIndex = 0;
    list.focus();
  };
}

function fillPrediction(card, found) {
  card.querySelector("h2").textContent = found.error ? "Not read" : answerOf(found);
  const warning = card.querySelector(".warning");
  warning.textContent = found.error || found.warning;
  warning.hidden = !warning.textContent;
  if (found.error) return;
  const rows = rowsOf(found);
  fillBars(card, rows, Math.max(SHOWN_CLASSES, rows.filter((each) => each.given).length));
}

async function drawHeat(card, heat) {
  const picture = card.querySelector("img");
  const canvas = card.querySelector("canvas");
  const view = new Image();
  view.src = heat.view;
  await view.decode();
  const side = heat.values.length;
  const small = document.createElement("canvas");
  small.width = small.height = side;
  const most = Math.max(...heat.values.flat());
  const pixels = new ImageData(side, side);
  heat.values.flat().forEach((value, cell) => {
    const share = most > 0 ? Math.max(value, 0) / most : 0;
    pixels.data.set([255, 120, 0, Math.round(190 * share)], 4 * cell);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  canvas.width = canvas.height = Math.max(448, view.naturalWidth);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(view, 0, 0, canvas.width, canvas.height);
  pen.globalCompositeOperation = "saturation"; // grey, so that the heat is seen on any image
  pen.fillStyle = "#808080";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.globalCompositeOperation = "source-over";
  pen.drawImage(small, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `What the network saw; parts in orange spoke for ${heat.label}`);
  const box = card.querySelector(".heat input");
  const show = () => {
    canvas.hidden = !box.checked;
    picture.hidden = box.checked || !picture.naturalWidth;
  };
  box.onchange = show;
  card.querySelector(".heat p").textContent =
    most > 0.05
      ? `What the network saw. Where it is orange, hiding it makes ${heat.label} less likely.`
      : `What the network saw. No part alone speaks for ${heat.label}.`;
  card.querySelector(".heat").hidden = false;
  show();
}

// One heat map, or one of each label, of which one is shown.
async function drawHeats(card, heats) {
  const list = card.querySelector(".for select");
  list.replaceChildren(...heats.map((each) => made("option", each.label)));
  card.querySelector(".for").hidden = heats.length < 2;
  list.onchange = () => drawHeat(card, heats[list.selectedIndex]);
  await drawHeat(card, heats[0]);
}

function fillSimilar(card, similar) {
  if (!similar || !similar.length) return;
  const items = similar.map((each) => {
    const item = made("li");
    if (each.picture) {
      const image = made("img");
      image.src = each.picture;
      image.alt = `Training image of ${each.label}`;
      item.append(image);
    } else {
      item.append(made("div", "no picture kept", "gone"));
    }
    item.append(made("b", each.label), made("span", `${each.image}, similarity ${each.similarity.toFixed(2)}`, "muted"));
    return item;
  });
  card.querySelector(".near ul").replaceChildren(...items);
  card.querySelector(".near").hidden = false;
}

async function explain(card, file) {
  const button = card.querySelector(".explain");
  button.disabled = true;
  if (!button.hidden) button.textContent = "Looking …";
  try {
    const found = await engine.explain(file);
    await drawHeats(card, found.heats ? found.heats.map((each) => ({ ...each, view: found.view })) : [found.heat]);
    fillSimilar(card, found.similar);
    button.hidden = true;
  } catch (error) {
    button.hidden = false;
    button.disabled = false;
    button.textContent = "Show where the network looked";
    card.querySelector("figcaption").textContent = error.message;
  }
}

async function classify(file) {
  const card = $("card").content.cloneNode(true).firstElementChild;
  const name = file.name || "pasted image";
  $("status").textContent = `Looking at ${name} …`;
  const picture = card.querySelector("img");
  picture.alt = name;
  picture.src = URL.createObjectURL(file);
  picture.hidden = false;
  picture.onload = () => URL.revokeObjectURL(picture.src);
  picture.onerror = () => { picture.hidden = true; };
  card.querySelector("figcaption").textContent = name;
  let found;
  try {
    found = await engine.predict(file);
  } catch (error) {
    found = { error: error.message };
  }
  fillPrediction(card, found);
  $("results").prepend(card);
  while ($("results").children.length > MOST_CARDS) $("results").lastElementChild.remove();
  const what = found.error ? `could not be read: ${found.error}` : `${answerOf(found)}. ${found.warning}`;
  $("status").textContent = `${name}: ${what}`;
  if (found.error) return;
  const button = card.querySelector(".explain");
  button.onclick = () => explain(card, file);
  if (engine.explainsAtOnce) await explain(card, file);
  else button.hidden = false;
}

function take(files) {
  if (!facts) return;
  for (const file of files) waiting = waiting.then(() => classify(file));
}

function takeFrom(event) {
  const files = [...(event.dataTransfer || event.clipboardData).files];
  if (!files.length) return;
  event.preventDefault();
  take(files);
}

$("choose").onclick = () => $("files").click();
$("camera").onclick = () => $("photo").click();
$("camera").hidden = !matchMedia("(pointer: coarse)").matches;
for (const id of ["files", "photo"]) {
  $(id).onchange = () => {
    take([...$(id).files]);
    $(id).value = "";
  };
}
document.addEventListener("paste", takeFrom);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over-it");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over-it");
});
document.addEventListener("drop", (event) => {
  $("drop").classList.remove("over-it");
  event.preventDefault();
  takeFrom(event);
});
$("key").onsubmit = (event) => {
  event.preventDefault();
  open();
};
open();
