// Classifies here in the browser, with ONNX Runtime Web. Nothing is sent anywhere.
import * as ort from "./ort.wasm.min.mjs";

const CELLS = 7;
const PATCH = 2;
let session = null;
let gallery = null;

async function fetched(name, kind) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} is missing beside this page.`);
  return answer[kind]();
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return exponent ? sign * (1 + fraction / 1024) * 2 ** (exponent - 15) : sign * fraction * 2 ** -24;
}

function unitOf(vector) {
  const length = Math.max(Math.hypot(...vector), 1e-12);
  return Float32Array.from(vector, (value) => value / length);
}

async function readGallery() {
  const bits = new Uint16Array(await fetched("range.bin", "arrayBuffer"));
  const table = Float32Array.from({ length: 65536 }, (_, each) => fromHalf(each));
  const { width } = facts.distribution;
  return Array.from({ length: bits.length / width }, (_, row) =>
    unitOf(Array.from(bits.subarray(row * width, (row + 1) * width), (each) => table[each])),
  );
}

function distanceOf(embedding) {
  const vector = unitOf(embedding);
  const away = gallery.map((known) => 1 - known.reduce((sum, value, at) => sum + value * vector[at], 0));
  return Math.min(Math.max(away.sort((a, b) => a - b)[facts.distribution.k - 1], 0), 2);
}

async function run(view) {
  const side = facts.preprocessing.resolution;
  return session.run({ input: new ort.Tensor("uint8", view, [1, side, side, 3]) });
}

function standing(distance) {
  const limit = facts.distribution.threshold;
  const digits = distance.toFixed(2) > limit.toFixed(2) ? 2 : 5;
  const warning = `Unlike the training images (distance ${distance.toFixed(digits)}, limit ${limit.toFixed(digits)}).`;
  return { distance, out_of_distribution: distance > limit, warning: distance > limit ? warning : "" };
}

function logOdds(logits, label) {
  const others = [...logits].filter((_, at) => at !== label);
  const top = Math.max(...others);
  return logits[label] - top - Math.log(others.reduce((sum, value) => sum + Math.exp(value - top), 0));
}

function dataUrl(view, side) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const pixels = new ImageData(side, side);
  for (let at = 0; at < side * side; at += 1) pixels.data.set([view[3 * at], view[3 * at + 1], view[3 * at + 2], 255], 4 * at);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}

function hidden(view, side, row, column) {
  const copy = view.slice();
  const edge = (cell) => roundEven((side * cell) / CELLS);
  const mean = [0, 1, 2].map((color) => {
    let sum = 0;
    for (let at = color; at < view.length; at += 3) sum += view[at];
    return roundEven(sum / (side * side));
  });
  for (let y = edge(row); y < edge(row + PATCH); y += 1) {
    for (let x = edge(column); x < edge(column + PATCH); x += 1) copy.set(mean, 3 * (y * side + x));
  }
  return copy;
}

// Log-odds of labels for a view: of one class among all, or of each label by itself.
function oddsOf(logits, labels) {
  if (facts.thresholds) return labels.map((label) => facts.scales[label] * logits[label]);
  const scaled = logits.map((value) => value / facts.temperature);
  return labels.map((label) => logOdds(scaled, label));
}

async function heatsOf(view) {
  const side = facts.preprocessing.resolution;
  const first = await run(view);
  const labels = labelsToExplain(first.probabilities.data);
  const whole = oddsOf(first.logits.data, labels);
  const grid = () => Array.from({ length: CELLS }, () => new Float64Array(CELLS));
  const [sums, times] = [labels.map(grid), grid()];
  for (let row = 0; row + PATCH <= CELLS; row += 1) {
    for (let column = 0; column + PATCH <= CELLS; column += 1) {
      const left = oddsOf((await run(hidden(view, side, row, column))).logits.data, labels);
      await new Promise((resolve) => setTimeout(resolve)); // the page stays responsive
      for (let cell = 0; cell < PATCH * PATCH; cell += 1) {
        const [y, x] = [row + Math.floor(cell / PATCH), column + (cell % PATCH)];
        sums.forEach((sum, at) => { sum[y][x] += whole[at] - left[at]; });
        times[y][x] += 1;
      }
    }
  }
  const means = (sum) => sum.map((line, y) => Array.from(line, (value, x) => value / times[y][x]));
  return sums.map((sum, at) => ({ label: facts.classes[labels[at]], values: means(sum), view: dataUrl(view, side) }));
}

// The class, or the labels that are given, most probable first; without any, the most probable one.
function labelsToExplain(shares) {
  const given = facts.thresholds ? decisionsOf(shares).filter((each) => each.given) : [];
  return given.length ? given.map((each) => facts.classes.indexOf(each.label)) : [shares.indexOf(Math.max(...shares))];
}

function decisionsOf(shares) {
  const found = facts.classes.map((label, at) => {
    const threshold = facts.thresholds[label];
    return { label, probability: shares[at], threshold, given: shares[at] >= threshold };
  });
  return found.sort((a, b) => b.probability - a.probability);
}

const engine = {
  where: "Images stay on this device: the classifier runs in the browser.",
  explainsAtOnce: false,
  async open() {
    facts = await fetched("model.json", "json");
    ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
    ort.env.wasm.wasmPaths = new URL("./", location.href).href;
    const model = new Uint8Array(await fetched("model.onnx", "arrayBuffer"));
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    if (facts.distribution) gallery = await readGallery();
    if ("serviceWorker" in navigator && isSecureContext) navigator.serviceWorker.register("./offline.js").catch(() => {});
    return facts;
  },
  async predict(file) {
    const found = await run(await viewOf(file, facts.preprocessing));
    const shares = found.probabilities.data;
    const known = gallery ? standing(distanceOf(found.embeddings.data)) : { warning: "" };
    if (facts.thresholds) {
      const decisions = decisionsOf(shares);
      const labels = decisions.filter((each) => each.given).map((each) => each.label);
      return { labels, decisions, error: "", ...known };
    }
    const best = shares.indexOf(Math.max(...shares));
    const probabilities = Object.fromEntries(facts.classes.map((name, at) => [name, shares[at]]));
    return { label: facts.classes[best], probability: shares[best], probabilities, error: "", ...known };
  },
  async explain(file) {
    const heats = await heatsOf(await viewOf(file, facts.preprocessing));
    return { view: heats[0].view, heats, similar: [] };
  },
};
