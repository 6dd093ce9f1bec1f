// @ts-check
/* The keyboard. */

import { hearLetter } from "./blindtest.mjs";
import { redo, toggleOriginal, undo } from "./chain.mjs";
import { h } from "../../report/assets/dom.mjs";
import { solo, toggleMixture } from "./mixer.mjs";
import { deck, state, studio } from "./model.mjs";
import { edge, faster, fourBars, higher, skip, toggle } from "./practice.mjs";
import { toggleTheme } from "../../report/assets/theme.mjs";
import { zoom } from "./timeline.mjs";
import { t } from "./words.mjs";

const KEYS = [["Space", "keyPlay"], ["← →", "keySeek"], ["1 … 9", "keySolo"], ["X", "keyAB"], ["A B L 4", "keyLoop"], ["[ ]", "keySpeed"], ["↓ ↑", "keyPitch"],
  ["N P", "keyFinding"], [", .", "keySong"], ["Z Y", "keyUndo"], ["O", "compare"], ["+ −", "keyZoom"], ["T W", "keyLook"], ["?", "keyHelp"]];

export function helpDialog() {
  return h("dialog", { id: "help", "aria-labelledby": "keys" }, h("h2", { id: "keys" }, t("keys")),
    h("dl", {}, KEYS.map(([key, what]) => [h("dt", {}, key.split(" ").map((one) => (one === "…" ? one : h("kbd", {}, one)))), h("dd", {}, t(what))])),
    h("form", { method: "dialog" }, h("button.main", {}, t("close"))));
}

export function help() {
  const dialog = /** @type {any} */ (document.getElementById("help"));
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

let byKeyboard = false;

const isTyped = (element) => element.matches("textarea, select, input:not([type=range]):not([type=checkbox])");
const takesSpace = (element) => isTyped(element) || (byKeyboard && element.matches("button, a, summary, input[type=checkbox]"));

function nextFinding(by) {
  const starts = (state.take?.findings ?? []).map((one) => one.start_s).sort((a, b) => a - b);
  const next = by > 0 ? starts.find((one) => one > deck.seconds + 0.5) : starts.findLast((one) => one < deck.seconds - 0.5);
  if (next !== undefined) deck.seek(Math.max(0, next - 0.3));
}

function otherSong(by) {
  const songs = state.library.songs;
  const next = songs[songs.findIndex((one) => one.id === state.song?.id) + by];
  if (next) studio.open(next.id);
}

export function togglePicture() {
  state.picture = state.picture === "mel" ? "wave" : "mel";
  studio.lanes();
}

/* What is pressed; where a key writes no Latin letter, as in Korean, the letter that is printed on it too. */
function keyOf({ key, code }) {
  if (/^Key[A-Z]$/.test(code) && !/^[\x20-\x7e]$/.test(key)) return code[3].toLowerCase();
  return key.length === 1 ? key.toLowerCase() : key;
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyped(event.target) || /** @type {any} */ (document.getElementById("help"))?.open) return;
  if (event.key === " " ? takesSpace(event.target) : event.key.startsWith("Arrow") && event.target.matches("input[type=range]")) return;
  const key = keyOf(event);
  const actions = {
    " ": () => { if (!event.repeat) toggle(); },
    ArrowLeft: () => skip(event.shiftKey ? -1 : -5),
    ArrowRight: () => skip(event.shiftKey ? 1 : 5),
    ArrowUp: () => higher(1),
    ArrowDown: () => higher(-1),
    x: () => state.take && toggleMixture(),
    a: () => edge("start"), b: () => edge("end"), l: () => deck.setLoop(null),
    "[": () => faster(-1), "]": () => faster(1),
    n: () => nextFinding(1), p: () => nextFinding(-1),
    ",": () => otherSong(-1), ".": () => otherSong(1),
    z: undo, y: redo, o: () => state.take && toggleOriginal(),
    "+": () => zoom(2), "=": () => zoom(2), "-": () => zoom(0.5),
    t: toggleTheme, w: togglePicture, "?": help,
  };
  if (/^Digit[1-9]$/.test(event.code)) actions[key] = () => (event.code === "Digit4" && !state.blind && !event.shiftKey && (state.take?.tracks.length ?? 0) < 4 ? fourBars() : state.blind ? hearLetter(Number(event.code[5]) - 1) : solo(Number(event.code[5]) - 1, event.shiftKey));
  if (!actions[key] || (!state.song && !"t?".includes(key))) return;
  actions[key]();
  event.preventDefault();
}

export function watchKeys() {
  addEventListener("pointerdown", () => { byKeyboard = false; }, true);
  addEventListener("keydown", (event) => { byKeyboard ||= event.key === "Tab"; }, true);
  addEventListener("keydown", press);
  addEventListener("keyup", (event) => {
    if (event.key === " " && !takesSpace(event.target) && !/** @type {any} */ (document.getElementById("help"))?.open) event.preventDefault();
  });
}
