// @ts-check
/* Mel spectrograms as pictures. The colours run through Oklab with evenly rising lightness, so that equal steps in dB
   look equal; hue tells the stem. */

const HUES = { mixture: 300, bass: 245, guitar: 65, other: 65, drums: 150, vocals: 350, piano: 190, residual: null };

export function hueOf(name) {
  if (name in HUES) return HUES[name];
  let hash = 7;
  for (const letter of name) hash = (hash * 31 + letter.codePointAt(0)) % 3600;
  return (20 + hash * 137.5) % 360;
}

/* Oklab to sRGB: B. Ottosson, A perceptual color space for image processing (2020). */
function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((linear) => {
    const value = Math.min(1, Math.max(0, linear));
    return Math.round(255 * (value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055));
  });
}

export function colours(hue, dark) {
  return Array.from({ length: 256 }, (_, step) => {
    const level = step / 255;
    const lightness = dark ? 0.2 + 0.77 * level : 0.985 - 0.72 * level;
    const chroma = hue === null ? 0 : 0.155 * Math.sin(Math.PI * level ** 0.85);
    return oklch(lightness, chroma, (hue ?? 0) + (dark ? 25 : -20) * (level - 0.5));
  });
}

/* `bytes` in rows from low to high, shown between the levels `floor` and `top`, 0 to 255. */
export function picture(bytes, width, rows, palette, floor, top) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = rows;
  const image = new ImageData(width, rows);
  const shades = new Uint32Array(256);
  for (let level = 0; level < 256; level += 1) {
    const step = Math.min(255, Math.max(0, Math.round((255 * (level - floor)) / (top - floor))));
    const [red, green, blue] = palette[step];
    shades[level] = (255 << 24) | (blue << 16) | (green << 8) | red;
  }
  const pixels = new Uint32Array(image.data.buffer);
  for (let row = 0; row < rows; row += 1) {
    const from = (rows - 1 - row) * width;
    for (let column = 0; column < width; column += 1) pixels[row * width + column] = shades[bytes[from + column]];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

const NOTES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];

/* `220 Hz, A3`: the nearest note at A4 = 440 Hz. */
export function pitchName(hz) {
  const midi = Math.round(69 + 12 * Math.log2(hz / 440));
  const figure = hz < 1000 ? `${Math.round(hz)} Hz` : `${(hz / 1000).toFixed(1)} kHz`;
  return `${figure}, ${NOTES[((midi % 12) + 12) % 12]}${Math.floor(midi / 12) - 1}`;
}
