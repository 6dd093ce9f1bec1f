// @ts-check
/* Notes that were written down, over the spectrogram of their stem as a roll of their own: the lane's height is from its
   lowest pitch to its highest, and a note is faint where it is unsure. A note is [onset_s, end_s, midi, confidence]. */

import { pitchName } from "./spectrogram.mjs";
import { state } from "./state.mjs";
import { dark } from "./theme.mjs";

const NEAR_PX = 8;

/* Which pitches a roll has: the lowest, and how many rows. */
function roll(notes) {
  const lowest = Math.min(...notes.map(([, , midi]) => midi)) - 2;
  return { lowest, rows: Math.max(...notes.map(([, , midi]) => midi), lowest + 12) + 3 - lowest };
}

export function drawNotes(brush, id, scale) {
  const notes = state.song.sources[id].written;
  if (!notes.length) return;
  const { start, end } = state.view;
  const { width, height } = brush.canvas;
  const { lowest, rows } = roll(notes);
  const thick = Math.max(2 * scale, Math.min(5 * scale, height / rows));
  for (const one of notes) {
    const [onset, over, midi, confidence] = one;
    if (over < start || onset > end) continue;
    const left = ((onset - start) / (end - start)) * width;
    const long = Math.max(2 * scale, ((over - onset) / (end - start)) * width - scale);
    const top = height * (1 - (midi - lowest + 0.5) / rows) - thick / 2;
    const picked = isPicked(id, one);
    const wide = picked ? 3 * scale : scale;
    brush.globalAlpha = picked ? 1 : 0.35 + 0.65 * confidence;
    brush.fillStyle = dark() ? "#000" : "#fff";
    brush.fillRect(left - wide, top - wide, long + 2 * wide, thick + 2 * wide);
    brush.fillStyle = picked ? (dark() ? "#ffb454" : "#d4380d") : dark() ? "#fff" : "#000";
    brush.fillRect(left, top, long, thick);
  }
  brush.globalAlpha = 1;
}

const isPicked = (id, note) => state.picked?.id === id && state.picked.note[0] === note[0] && state.picked.note[2] === note[2];

/* The note under the mouse, at a second and so many pixels above the foot of a lane. */
export function noteUnder(id, second, high, height, seconds_px) {
  const notes = state.song.sources[id].written;
  if (!notes.length) return null;
  const { lowest, rows } = roll(notes);
  const off = (midi) => Math.abs(high - (height * (midi - lowest + 0.5)) / rows);
  const reach = 3 * seconds_px;
  const near = notes.filter(([onset, over, midi]) => onset - reach <= second && second < over + reach && off(midi) <= NEAR_PX);
  return near.sort((one, other) => off(one[2]) - off(other[2]))[0] ?? null;
}

export const nameOfPitch = (midi) => pitchName(440 * 2 ** ((midi - 69) / 12)).split(", ")[1];

/* The name of the note of a source that sounds at a second, or nothing. */
export function noteAt(source, second) {
  const one = source.written.findLast(([onset, over]) => onset <= second && second < over);
  return one ? nameOfPitch(one[2]) : "";
}
