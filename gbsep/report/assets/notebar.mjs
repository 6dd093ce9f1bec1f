// @ts-check
/* One note that was written down: heard, and where the page is served corrected, in the file that is kept beside its
   stem. */

import { clock, h, say } from "./dom.mjs";
import { pluck } from "./pluck.mjs";
import { nameOfPitch, sameNote } from "./roll.mjs";
import { labelOf } from "./sources.mjs";
import { page, player, query, report, state } from "./state.mjs";

const STEP_S = 0.02;
const SHORTEST_S = 0.03;
const NEW_S = 0.25;

/* Take a note of a source and play it; the playhead goes there, unless something plays. */
export function pickNote(id, note) {
  state.picked = { id, note };
  pluck(note);
  if (!player.playing) player.seek(note[0]);
  show();
}

export function dropNote() {
  if (!state.picked) return;
  state.picked = null;
  show();
}

function show() {
  const bar = document.getElementById("written");
  const held = bar?.contains(document.activeElement) && document.activeElement.getAttribute("aria-label");
  const fresh = noteBar();
  if (fresh) bar?.replaceWith(fresh);
  else bar?.remove();
  if (held) fresh?.querySelector(`[aria-label="${held}"]`)?.focus({ preventScroll: true });
  page.paint();
}

/* Say what a note was and is now; true once it is in the file. */
async function correct(id, was, now) {
  const song = state.song;
  const source = song.sources[id];
  const meant = (note) => note && { onset_s: note[0], midi: note[2] };
  const answer = await fetch("review/notes", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Gbsep-Token": new URLSearchParams(query).get("token") },
    body: JSON.stringify({ song: song.id, preset: song.renders[source.render].name, stem: source.name,
      was: meant(was), now: now && { ...meant(now), end_s: now[1] } }),
  }).catch(() => null);
  if (!answer?.ok) {
    say(answer ? await answer.text() : "gbsep review is not running any more: start it again");
    return;
  }
  source.written = await answer.json();
  if (song !== state.song) return;
  const found = now && source.written.find((one) => one[2] === now[2] && Math.abs(one[0] - now[0]) < 0.002);
  if (found) pickNote(id, found);
  else dropNote();
  if (!now) say("Removed");
}

const rounded = (seconds) => Math.round(seconds * 1e4) / 1e4;

/* The picked note moved, longer, or at another pitch. */
export function changeNote(later, longer, higher) {
  const { id, note } = state.picked;
  const onset = rounded(Math.max(0, note[0] + later));
  const over = rounded(Math.max(onset + SHORTEST_S, onset + (note[1] - note[0]) + longer));
  correct(id, note, [onset, over, Math.min(127, Math.max(0, note[2] + higher))]);
}

function addNote(id) {
  const at = rounded(player.seconds);
  const before = state.song.sources[id].written.findLast(([onset]) => onset <= at) ?? state.song.sources[id].written[0];
  correct(id, null, [at, rounded(at + NEW_S), before ? before[2] : 33]);
}

function step(id, by) {
  const notes = state.song.sources[id].written;
  const at = state.picked?.id === id ? notes.findIndex((one) => sameNote(one, state.picked.note))
    : notes.findIndex(([onset]) => onset >= player.seconds) - (by > 0 ? 1 : 0);
  const next = notes[Math.min(notes.length - 1, Math.max(0, at + by))];
  if (next) pickNote(id, next);
}

export function noteBar() {
  const id = state.picked?.id ?? state.song.sources.findIndex((one) => one.written.length);
  if (id < 0 || state.blind) return null;
  const source = state.song.sources[id];
  const note = state.picked?.note;
  const button = (name, text, act, off = false) => h("button.plain", { type: "button", "aria-label": name, title: name, disabled: off, onclick: act }, text);
  const told = note ? `${nameOfPitch(note[2])}, ${clock(note[0], 2)} – ${clock(note[1], 2)}` : `${source.written.length} notes: click one to hear it`;
  return h("div.panel.row", { id: "written", role: "group", "aria-label": `Notes of ${labelOf(source)}` },
    h("b", { dir: "auto" }, labelOf(source)),
    button("Note before", "‹", () => step(id, -1)), h("span.hover", { id: "picked" }, told), button("Next note", "›", () => step(id, 1)),
    report.served && [
      button("Lower by a semitone", "♭", () => changeNote(0, 0, -1), !note), button("Higher by a semitone", "♯", () => changeNote(0, 0, 1), !note),
      button("Earlier", "←", () => changeNote(-STEP_S, 0, 0), !note), button("Later", "→", () => changeNote(STEP_S, 0, 0), !note),
      button("Shorter", "Shorter", () => changeNote(0, -STEP_S, 0), !note), button("Longer", "Longer", () => changeNote(0, STEP_S, 0), !note),
      button("Remove the picked note", "Remove", () => correct(id, note, null), !note), button("Add a note at the playhead", "Add at the playhead", () => addNote(id)),
    ]);
}
