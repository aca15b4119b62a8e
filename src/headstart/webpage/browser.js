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

async function heatOf(view) {
  const side = facts.preprocessing.resolution;
  const odds = async (each, label) => {
    const logits = (await run(each)).logits.data.map((value) => value / facts.temperature);
    return [logOdds(logits, label ?? logits.indexOf(Math.max(...logits))), label ?? logits.indexOf(Math.max(...logits))];
  };
  const [whole, label] = await odds(view);
  const sums = Array.from({ length: CELLS }, () => new Float64Array(CELLS));
  const times = Array.from({ length: CELLS }, () => new Float64Array(CELLS));
  for (let row = 0; row + PATCH <= CELLS; row += 1) {
    for (let column = 0; column + PATCH <= CELLS; column += 1) {
      const [left] = await odds(hidden(view, side, row, column), label);
      await new Promise((resolve) => setTimeout(resolve)); // the page stays responsive
      for (let cell = 0; cell < PATCH * PATCH; cell += 1) {
        const [y, x] = [row + Math.floor(cell / PATCH), column + (cell % PATCH)];
        sums[y][x] += whole - left;
        times[y][x] += 1;
      }
    }
  }
  const values = sums.map((line, y) => Array.from(line, (sum, x) => sum / times[y][x]));
  return { label: facts.classes[label], values, view: dataUrl(view, side) };
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
    const best = shares.indexOf(Math.max(...shares));
    const known = gallery ? standing(distanceOf(found.embeddings.data)) : { warning: "" };
    const probabilities = Object.fromEntries(facts.classes.map((name, at) => [name, shares[at]]));
    return { label: facts.classes[best], probability: shares[best], probabilities, error: "", ...known };
  },
  async explain(file) {
    return { heat: await heatOf(await viewOf(file, facts.preprocessing)), similar: [] };
  },
};
