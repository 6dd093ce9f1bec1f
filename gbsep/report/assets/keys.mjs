// @ts-check
/* The keyboard. */

import { toggleBlind } from "./blind.mjs";
import { h } from "./dom.mjs";
import { toggleMatched, zoom } from "./lanes.mjs";
import { reviewKeys } from "./review.mjs";
import { choose, current, goTo, placeOf, rendersOf, sourceOf, stems } from "./sources.mjs";
import { page, player, report, state } from "./state.mjs";
import { toggleTheme } from "./theme.mjs";
import { skip, toggle } from "./transport.mjs";

const KEYS = [
  ["Space", "Play or pause"],
  ["← →", "Five seconds back or on; with Shift one second"],
  ["1 … 9", "Preset"],
  ["↑ ↓", "Preset before or after, of the same stem"],
  ["S", "Next stem; with Shift the one before"],
  ["X", "Back to the last sound, and again: A and B"],
  ["M", "Mixture, and back"],
  ["E", "Equal loudness, or as rendered"],
  ["N P", "Next or previous finding or note"],
  ["L", "End the loop; drag on a spectrogram to begin one"],
  ["+ −", "Zoom in or out"],
  [", .", "Song before or after"],
  ["V", "Blind test on or off"],
  ["T", "Dark or light"],
  ["?", "These keys"],
];

export function help() {
  const dialog = document.getElementById("help");
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

export function helpDialog() {
  const keys = report.served ? [...KEYS, ["A", "Accept the song"], ["C", "Write a note here"]] : KEYS;
  return h("dialog", { id: "help", "aria-labelledby": "keys" }, h("h2", { id: "keys" }, "Keys"),
    h("dl", {}, keys.map(([key, what]) => [h("dt", {}, key.split(" ").map((one) => (one === "…" ? one : h("kbd", {}, one)))), h("dd", {}, what)])),
    h("form", { method: "dialog" }, h("button.main", {}, "Close")));
}

function stops() {
  const found = state.song.renders.flatMap((render, index) => render.findings.map((one) => ({ ...one, index })));
  const notes = state.song.review.notes.map(placeOf);
  return state.blind ? [] : [...found, ...notes].sort((a, b) => a.start_s - b.start_s);
}

/* Whether the keyboard went to a control, and not the mouse: then Space is for that control, as everywhere. */
let byKeyboard = false;

const isTyped = (element) => element.matches("textarea, select, input:not([type=range]):not([type=checkbox])");

const takesSpace = (element) => isTyped(element)
  || (byKeyboard && element.matches("button, a, summary, [role=button], input[type=checkbox]"));

const takesArrows = (element) => element.matches("input[type=range]") || element.closest(".scroll, .list.long");

function press(event) {
  if (!state.song || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyped(event.target) || document.getElementById("help").open) return;
  if (event.key === " " ? takesSpace(event.target) : event.key.startsWith("Arrow") && takesArrows(event.target)) return;
  const here = current();
  const order = (state.blind && !state.blind.vote ? state.blind.order : state.song.renders.map((_, index) => index)).map((index) => sourceOf(here?.name, index)).filter((id) => id >= 0);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const actions = {
    " ": () => { if (!event.repeat) toggle(); },
    ArrowLeft: () => skip(event.shiftKey ? -1 : -5),
    ArrowRight: () => skip(event.shiftKey ? 1 : 5),
    ArrowUp: () => order.length && step(order, -1),
    ArrowDown: () => order.length && step(order, 1),
    s: () => nextStem(event.shiftKey ? -1 : 1),
    x: () => state.last !== null && choose(state.last),
    m: () => (here?.kind === "mixture" ? state.last !== null && choose(state.last) : choose(sourceOf("mixture"))),
    e: toggleMatched,
    l: () => player.setLoop(null),
    n: () => stops().filter((one) => one.start_s - 0.3 > player.seconds + 0.2).slice(0, 1).forEach(goTo),
    p: () => stops().filter((one) => one.start_s - 0.3 < player.seconds - 0.5).slice(-1).forEach(goTo),
    "+": () => zoom(2),
    "=": () => zoom(2),
    "-": () => zoom(0.5),
    ",": () => state.song.place > 0 && page.open(state.song.place - 1),
    ".": () => state.song.place + 1 < report.songs.length && page.open(state.song.place + 1),
    v: toggleBlind,
    t: toggleTheme,
    "?": help,
    ...(report.served && !state.blind ? reviewKeys : {}),
  };
  if (/^[1-9]$/.test(key)) actions[key] = () => {
    const all = state.blind && !state.blind.vote ? state.blind.order : state.song.renders.map((_, index) => index);
    const track = here?.kind === "mixture" ? state.kept.track : here?.name;
    if (all[key - 1] !== undefined) choose(sourceOf(track, all[key - 1]));
  };
  if (!actions[key] || (!state.song.sources.length && !",.t?".includes(key))) return;
  const done = actions[key]();
  if (done !== false) event.preventDefault();
}

function step(list, by) {
  const at = list.indexOf(player.source);
  choose(list[(at + by + list.length) % list.length]);
}

function nextStem(by) {
  const names = stems();
  const at = names.indexOf(current()?.name);
  const name = names[(at + by + names.length) % names.length];
  const found = sourceOf(name, state.kept.render ?? 0);
  choose(found >= 0 ? found : sourceOf(name, rendersOf(name)[0]));
}

export function watchKeys() {
  addEventListener("pointerdown", () => { byKeyboard = false; }, true);
  addEventListener("keydown", (event) => { byKeyboard ||= event.key === "Tab"; }, true);
  addEventListener("keydown", press);
  addEventListener("keyup", (event) => { // a button is pressed when Space is let go
    if (event.key === " " && !document.getElementById("help")?.open && !takesSpace(event.target)) event.preventDefault();
  });
}
