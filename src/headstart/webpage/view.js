// From an image file to the view of the network, as headstart makes it.

const STRIP = 256; // rows at a time: phones cannot draw a whole photograph

// What libjpeg does when it decodes at 1/2, 1/4 or 1/8: of the frequencies of each block, it keeps the lowest.
function shrinkingOf(times) {
  const few = 8 / times;
  const wave = (k, at, n) => (k ? Math.sqrt(2 / n) : Math.sqrt(1 / n)) * Math.cos(((2 * at + 1) * k * Math.PI) / (2 * n));
  return Array.from({ length: few }, (_, out) =>
    Array.from({ length: 8 }, (_, x) => {
      let sum = 0;
      for (let k = 0; k < few; k += 1) sum += wave(k, x, 8) * wave(k, out, few);
      return sum * Math.sqrt(few / 8);
    }),
  );
}

// Pixels (RGBA) of a strip, to pixels (RGBA) of 1/times its width and height.
function shrunken(source, width, rows, times) {
  const matrix = shrinkingOf(times);
  const few = 8 / times;
  const wide = Math.ceil(width / times);
  const high = Math.ceil(rows / times);
  const across = new Float32Array(wide * rows * 4);
  for (let row = 0; row < rows; row += 1) {
    for (let out = 0; out < wide; out += 1) {
      const block = Math.floor(out / few) * 8;
      const numbers = matrix[out % few];
      for (let color = 0; color < 3; color += 1) {
        let sum = 0;
        for (let x = 0; x < 8; x += 1) sum += numbers[x] * source[4 * (row * width + Math.min(block + x, width - 1)) + color];
        across[4 * (row * wide + out) + color] = sum;
      }
    }
  }
  const result = new Uint8ClampedArray(wide * high * 4);
  for (let out = 0; out < high; out += 1) {
    const block = Math.floor(out / few) * 8;
    const numbers = matrix[out % few];
    for (let at = 0; at < wide * 4; at += 1) {
      let sum = 0;
      for (let y = 0; y < 8; y += 1) sum += numbers[y] * across[Math.min(block + y, rows - 1) * wide * 4 + at];
      result[out * wide * 4 + at] = sum;
    }
  }
  return result;
}

// The middle of an image that is longer than three times its width, and its size when it is stored.
function placeOf(width, height, short) {
  const limit = 3 * Math.min(width, height);
  const left = Math.floor(Math.max(0, width - limit) / 2);
  const top = Math.floor(Math.max(0, height - limit) / 2);
  const [wide, high] = [Math.min(width, limit), Math.min(height, limit)];
  const shorter = Math.min(wide, high);
  const size = shorter <= short ? [wide, high] : [roundEven((wide * short) / shorter), roundEven((high * short) / shorter)];
  return { box: [left, top, left + wide, top + high], size };
}

function timesShrunk(type, width, height, short) {
  if (type !== "image/jpeg" || Math.floor(Math.min(width, height) / (2 * short)) < 2) return 1;
  const most = Math.floor(Math.min(width, height) / (2 * short));
  return [8, 4, 2].find((times) => most >= times);
}

// An image of the browser, on white, resized to the shorter side `short`: { pixels (RGB), width, height }.
function stored(bitmap, type, short) {
  const { width, height } = bitmap;
  const { box, size } = placeOf(width, height, short);
  const times = timesShrunk(type, width, height, short);
  const [wide, high] = [Math.ceil(width / times), Math.ceil(height / times)];
  const [left, top, right, bottom] = box.map((at, side) => (at * (side % 2 ? high : wide)) / (side % 2 ? height : width));
  const across = weightsOf(wide, left, right, size[0], "bicubic");
  const rows = new Uint8ClampedArray(high * size[0] * 3);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = STRIP;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  for (let start = 0; start < height; start += STRIP) {
    const part = Math.min(STRIP, height - start);
    pen.fillStyle = "#ffffff"; // transparency lies over white
    pen.fillRect(0, 0, width, STRIP);
    pen.drawImage(bitmap, 0, start, width, part, 0, 0, width, part);
    let pixels = pen.getImageData(0, 0, width, part).data;
    if (times > 1) pixels = shrunken(pixels, width, part, times);
    rows.set(acrossRows(pixels, wide, Math.ceil(part / times), 4, across), (start / times) * size[0] * 3);
  }
  const down = weightsOf(high, top, bottom, size[1], "bicubic");
  return { pixels: downColumns(rows, size[0], down), width: size[0], height: size[1] };
}

function evaluationView({ pixels, width, height }, how) {
  const short = Math.min(width, height);
  if (short !== how.resize) {
    const [wide, high] = [width, height].map((length) => (length === short ? how.resize : Math.trunc((how.resize * length) / short)));
    const rows = acrossRows(pixels, width, height, 3, weightsOf(width, 0, width, wide, how.interpolation));
    pixels = downColumns(rows, wide, weightsOf(height, 0, height, high, how.interpolation));
    [width, height] = [wide, high];
  }
  const side = how.resolution;
  const begin = (length) => (length >= side ? roundEven((length - side) / 2) : -Math.floor((side - length) / 2));
  const [left, top] = [begin(width), begin(height)];
  const view = new Uint8Array(side * side * 3); // what is missing is black
  for (let row = Math.max(0, -top); row < Math.min(side, height - top); row += 1) {
    const from = Math.max(0, left);
    const to = Math.min(width, left + side);
    const line = (top + row) * width;
    view.set(pixels.subarray(3 * (line + from), 3 * (line + to)), 3 * (row * side + from - left));
  }
  return view;
}

async function viewOf(file, how) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Error("This browser cannot read the image.");
  }
  try {
    return evaluationView(stored(bitmap, file.type, how.resize), how);
  } finally {
    bitmap.close();
  }
}
