// @ts-check
/* Notes that were written down, over a picture as a roll of their own: its height is from their lowest pitch to their
   highest, and a note is faint where it is unsure. A note is [onset_s, end_s, midi, confidence]. */

import { pitchName } from "./spectrogram.mjs";
import { dark } from "./theme.mjs";

const NEAR_PX = 8;

/* Which pitches a roll has: the lowest, and how many rows. */
function pitchesOf(notes) {
  const lowest = Math.min(...notes.map(([, , midi]) => midi)) - 2;
  return { lowest, rows: Math.max(...notes.map(([, , midi]) => midi), lowest + 12) + 3 - lowest };
}

export const sameNote = (one, other) => one[0] === other[0] && one[2] === other[2];

/* Draw what is seen of the notes; `picked` is one of them, or null. */
export function drawRoll(brush, notes, { start, end }, scale, picked = null) {
  if (!notes.length) return;
  const { width, height } = brush.canvas;
  const { lowest, rows } = pitchesOf(notes);
  const thick = Math.max(2 * scale, Math.min(5 * scale, height / rows));
  for (const one of notes) {
    const [onset, over, midi, confidence] = one;
    if (over < start || onset > end) continue;
    const left = ((onset - start) / (end - start)) * width;
    const long = Math.max(2 * scale, ((over - onset) / (end - start)) * width - scale);
    const top = height * (1 - (midi - lowest + 0.5) / rows) - thick / 2;
    const isPicked = picked && sameNote(picked, one);
    const wide = isPicked ? 3 * scale : scale;
    brush.globalAlpha = isPicked ? 1 : 0.35 + 0.65 * confidence;
    brush.fillStyle = dark() ? "#000" : "#fff";
    brush.fillRect(left - wide, top - wide, long + 2 * wide, thick + 2 * wide);
    brush.fillStyle = isPicked ? (dark() ? "#ffb454" : "#d4380d") : dark() ? "#fff" : "#000";
    brush.fillRect(left, top, long, thick);
  }
  brush.globalAlpha = 1;
}

/* The note at a second and so many pixels above the foot of a roll. */
export function noteNear(notes, second, high, height, seconds_px) {
  if (!notes.length) return null;
  const { lowest, rows } = pitchesOf(notes);
  const off = (midi) => Math.abs(high - (height * (midi - lowest + 0.5)) / rows);
  const reach = 3 * seconds_px;
  const near = notes.filter(([onset, over, midi]) => onset - reach <= second && second < over + reach && off(midi) <= NEAR_PX);
  return near.sort((one, other) => off(one[2]) - off(other[2]))[0] ?? null;
}

export const nameOfPitch = (midi) => pitchName(440 * 2 ** ((midi - 69) / 12)).split(", ")[1];

/* The name of the note that sounds at a second, or nothing. */
export function soundingAt(notes, second) {
  const one = notes.findLast(([onset, over]) => onset <= second && second < over);
  return one ? nameOfPitch(one[2]) : "";
}
