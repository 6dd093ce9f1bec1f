// @ts-check
/* The notes of a stem: those that are kept beside it are shown over its picture; where there are none a button has them
   written down, and another takes that back. */

import { ask, post } from "./api.mjs";
import { h, say } from "../../report/assets/dom.mjs";
import { state, studio } from "./model.mjs";
import { t } from "./words.mjs";

const place = () => `/api/songs/${state.song.id}/notes/${encodeURIComponent(state.take.name)}`;
const isWhole = () => state.take && !state.take.name.startsWith("first~");

/* The notes of the take that is shown. */
export async function recallNotes() {
  if (!isWhole()) return;
  const mine = state.take;
  try {
    const found = await ask(place());
    if (mine !== state.take) return;
    state.written = found;
    if (Object.keys(found).length) studio.lanes();
  } catch (error) {
    say(error.message);
  }
}

/* Have the notes of a stem written, or with the mark of those that were, taken back. */
async function write(button, name, undo = null) {
  const mine = state.take;
  button.disabled = true;
  say(t("working"));
  try {
    const found = await post(place(), { stem: name, undo });
    if (mine !== state.take) return;
    const fresh = !undo && found[name];
    if (fresh) fresh.fresh = true;
    state.written = found;
    state.unshown.delete(name);
    say(fresh && !fresh.notes.length ? t("writtenNone") : "");
  } catch (error) {
    say(error.message);
  }
  studio.lanes();
  /** @type {any} */ (document.querySelector(`[data-strip="${name}"] [data-notes]`))?.focus({ preventScroll: true });
}

/* The button that shows the notes of a stem, or has them written. */
export function notesButton(name) {
  if (!isWhole() || !/^(bass|guitar)/.test(name)) return null;
  const kept = state.written[name];
  const words = `${t(kept ? "writtenShow" : "writtenWrite")} ${t(name)}`;
  const turn = () => {
    if (state.unshown.has(name)) state.unshown.delete(name);
    else state.unshown.add(name);
    studio.lanes();
    /** @type {any} */ (document.querySelector(`[data-strip="${name}"] [data-notes]`))?.focus({ preventScroll: true });
  };
  return h("button.plain.toggle", { type: "button", "data-notes": "show", "aria-pressed": String(Boolean(kept) && !state.unshown.has(name)), "aria-label": words, title: words,
    onclick: (event) => (kept ? turn() : write(event.target, name)) }, "♪");
}

/* The button that takes back what was written just now, in a corner of the picture. */
export function takeBackButton(name) {
  const kept = state.written[name];
  if (!kept?.fresh) return null;
  return h("button.plain.takeback", { type: "button", "data-notes": "undo", "aria-label": `${t("undoNotes")} ${t(name)}`, onclick: (event) => write(event.target, name, kept.mark) }, `↶ ${t("undoNotes")}`);
}
