// A person gives each image its class; every choice is on the disk before the next image comes.

const KEYS = "1234567890abcdefghijklmnopqrstuvwxyz";
const $ = (id) => document.getElementById(id);
let task = null;
let place = 0;
let busy = false;

async function ask(path, body) {
  const request = body ? { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) } : {};
  let answer;
  try {
    answer = await fetch(path, request);
  } catch {
    throw new Error("The command that serves this page does not answer. Is it still running?");
  }
  const found = await answer.json().catch(() => ({ detail: `The answer was ${answer.status}.` }));
  if (!answer.ok) throw new Error(found.detail);
  return found;
}

function addClass(name) {
  const number = $("classes").children.length;
  const button = document.createElement("button");
  button.type = "button";
  if (number < KEYS.length) {
    const key = document.createElement("kbd");
    key.textContent = KEYS[number];
    button.append(key);
    button.setAttribute("aria-keyshortcuts", KEYS[number]);
  }
  button.append(name);
  button.dataset.name = name;
  button.onclick = () => choose(name);
  $("classes").append(button);
  const option = document.createElement("option");
  option.value = name;
  $("known").append(option);
}

function labelled() {
  return task.images.filter((image) => image.label !== null).length;
}

function show() {
  const ended = place >= task.images.length;
  $("work").hidden = ended;
  $("end").hidden = !ended;
  $("wrong").textContent = "";
  $("done").max = task.images.length;
  $("done").value = labelled();
  if (ended) {
    $("status").textContent = `${labelled()} of ${task.images.length} have a label.`;
    $("left").textContent = `The labels are in ${task.labels}.${task.note ? ` ${task.note}` : ""}`;
    $("command").textContent = task.command;
    $("end").focus();
    return;
  }
  const image = task.images[place];
  $("image").src = `v1/images/${image.rank}`;
  $("image").alt = `Image ${place + 1} to label`;
  $("file").textContent = image.image;
  $("status").textContent = `Image ${place + 1} of ${task.images.length}; ${labelled()} have a label.`;
  $("back").disabled = place === 0;
  $("clear").disabled = image.label === null;
  for (const button of $("classes").children) {
    button.setAttribute("aria-pressed", String(button.dataset.name === image.label));
  }
  if (place + 1 < task.images.length) new Image().src = `v1/images/${task.images[place + 1].rank}`;
}

function go(step) {
  if (busy) return;
  place = Math.min(Math.max(place + step, 0), task.images.length);
  show();
}

async function choose(label) {
  if (busy || place >= task.images.length) return;
  busy = true;
  const image = task.images[place];
  try {
    image.label = (await ask("v1/labels", { rank: image.rank, label })).label;
    if (image.label !== null && !task.classes.includes(image.label)) {
      task.classes.push(image.label);
      addClass(image.label);
    }
    $("name").value = "";
    busy = false;
    if (label === null) show();
    else go(1);
  } catch (error) {
    busy = false;
    $("wrong").textContent = error.message;
  }
}

function press(event) {
  if (!task || event.ctrlKey || event.metaKey || event.altKey || event.target === $("name")) return;
  const number = event.key.length === 1 ? KEYS.indexOf(event.key.toLowerCase()) : -1;
  const wanted = $("classes").children[number];
  const steps = { ArrowLeft: -1, Backspace: -1, ArrowRight: 1 };
  if (event.key in steps) go(steps[event.key]);
  else if (event.key === "Delete" && place < task.images.length) choose(null);
  else if (event.key === "/") $("name").focus();
  else if (wanted && !$("work").hidden && !event.repeat) wanted.click();
  else return;
  event.preventDefault();
}

$("back").onclick = () => go(-1);
$("skip").onclick = () => go(1);
$("clear").onclick = () => choose(null);
$("again").onclick = () => {
  place = 0;
  show();
};
$("other").onsubmit = (event) => {
  event.preventDefault();
  const name = $("name").value.trim();
  if (name) {
    $("name").blur();
    choose(name);
  }
};
document.addEventListener("keydown", press);
try {
  task = await ask("v1/task");
  $("title").textContent = `Label images for ${task.run}`;
  document.title = `Label images for ${task.run}`;
  task.classes.forEach(addClass);
  $("done").hidden = false;
  show();
} catch (error) {
  $("status").textContent = error.message;
}
