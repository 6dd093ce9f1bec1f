// @ts-check
/* Notes that were written down, over the spectrogram of their stem as a roll of their own: the lane's height is from its
   lowest pitch to its highest, and a note is faint where it is unsure. */

import { pitchName } from "./spectrogram.mjs";
import { state } from "./state.mjs";
import { dark } from "./theme.mjs";

/* `notes` are [onset_s, end_s, midi, confidence]. */
export function drawNotes(brush, notes, scale) {
  const { start, end } = state.view;
  const { width, height } = brush.canvas;
  const lowest = Math.min(...notes.map(([, , midi]) => midi)) - 2;
  const rows = Math.max(...notes.map(([, , midi]) => midi), lowest + 12) + 3 - lowest;
  const thick = Math.max(2 * scale, Math.min(5 * scale, height / rows));
  for (const [onset, over, midi, confidence] of notes) {
    if (over < start || onset > end) continue;
    const left = ((onset - start) / (end - start)) * width;
    const long = Math.max(2 * scale, ((over - onset) / (end - start)) * width - scale);
    const top = height * (1 - (midi - lowest + 0.5) / rows) - thick / 2;
    brush.globalAlpha = 0.35 + 0.65 * confidence;
    brush.fillStyle = dark() ? "#000" : "#fff";
    brush.fillRect(left - scale, top - scale, long + 2 * scale, thick + 2 * scale);
    brush.fillStyle = dark() ? "#fff" : "#000";
    brush.fillRect(left, top, long, thick);
  }
  brush.globalAlpha = 1;
}

/* The name of the note of a source that sounds at a second, or nothing. */
export function noteAt(source, second) {
  const one = source.written.findLast(([onset, over]) => onset <= second && second < over);
  return one ? pitchName(440 * 2 ** ((one[2] - 69) / 12)).split(", ")[1] : "";
}
