// Resizing with the pixels of Pillow: antialiased, in two passes, with its fixed-point numbers.

const PRECISION = 22;
const FILTERS = {
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, (x) => cubic(Math.abs(x))],
  lanczos: [3, (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function cubic(x) {
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

// For each of `size` outputs: where its inputs begin, and their weights. The inputs `from` to `to`
// of `length` are spread over the outputs; what lies outside of these two is looked at, too.
function weightsOf(length, from, to, size, filter) {
  const scale = (to - from) / size;
  if (filter === "nearest") {
    return Array.from({ length: size }, (_, at) => [Math.floor(from + (at + 0.5) * scale), Int32Array.of(1 << PRECISION)]);
  }
  const [reach, value] = FILTERS[filter];
  const spread = Math.max(scale, 1);
  const support = reach * spread;
  return Array.from({ length: size }, (_, at) => {
    const center = from + (at + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(length, Math.trunc(center + support + 0.5));
    const weights = Float64Array.from({ length: end - first }, (_, x) => value((x + first - center + 0.5) / spread));
    const sum = weights.reduce((a, b) => a + b, 0);
    const whole = Int32Array.from(weights, (w) => Math.trunc((w / sum) * 2 ** PRECISION + (w / sum < 0 ? -0.5 : 0.5)));
    return [first, whole];
  });
}

// Takes rows of pixels, `step` bytes each, and gives rows with one pixel of three bytes for each of `weights`.
function acrossRows(source, width, rows, step, weights) {
  const result = new Uint8ClampedArray(rows * weights.length * 3);
  let out = 0;
  for (let row = 0; row < rows; row += 1) {
    const start = row * width * step;
    for (const [first, numbers] of weights) {
      let red = 1 << (PRECISION - 1), green = red, blue = red;
      for (let x = 0, at = start + first * step; x < numbers.length; x += 1, at += step) {
        red += source[at] * numbers[x];
        green += source[at + 1] * numbers[x];
        blue += source[at + 2] * numbers[x];
      }
      result[out] = red >> PRECISION;
      result[out + 1] = green >> PRECISION;
      result[out + 2] = blue >> PRECISION;
      out += 3;
    }
  }
  return result;
}

function downColumns(source, width, weights) {
  const line = width * 3;
  const result = new Uint8ClampedArray(line * weights.length);
  weights.forEach(([first, numbers], row) => {
    for (let at = 0; at < line; at += 1) {
      let sum = 1 << (PRECISION - 1);
      for (let y = 0; y < numbers.length; y += 1) sum += source[(first + y) * line + at] * numbers[y];
      result[row * line + at] = sum >> PRECISION;
    }
  });
  return result;
}

// Python's round: halves go to the even neighbour.
function roundEven(x) {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}
