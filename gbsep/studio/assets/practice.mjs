// @ts-check
/* The transport and what one practises with: loop, speed, pitch, count-in, tempo and key. */

import { ask } from "./api.mjs";
import { clock, h, say } from "../../report/assets/dom.mjs";
import { dressVerdict, verdict } from "./deciding.mjs";
import { barLines, deck, level, state, studio } from "./model.mjs";
import { draw } from "./timeline.mjs";
import { t } from "./words.mjs";

const METERS = [2, 3, 4, 5, 6, 7];
const SPEEDS = [0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1, 1.1, 1.2, 1.3];

export function transport() {
  const seek = h("input.seek", { type: "range", min: "0", max: String(state.song.seconds), step: "0.01", value: "0", id: "seek", "aria-label": t("seek"),
    oninput: (event) => deck.seek(Number(event.target.value)) });
  return h("footer.transport", { "aria-label": t("player") },
    h("div.row", {},
      h("button.round", { type: "button", id: "play", "aria-label": t("play"), onclick: toggle }, h("span", { "aria-hidden": "true" }, "▶")),
      h("div.now", {}, h("output", { id: "time" }, "0:00.0"), h("small.quiet", { id: "waiting", role: "status" }, "")),
      seek,
      h("label.volume", {}, h("span.sr", {}, t("volume")),
        h("input", { type: "range", min: "0", max: "1", step: "0.01", value: String(Math.sqrt(deck.volume)), oninput: (event) => deck.setVolume(event.target.value ** 2) })),
      verdict()),
    h("div.row.practice", { role: "group", "aria-label": t("practice") },
      h("span.group", {},
        h("button.plain", { type: "button", id: "loopA", "aria-label": t("loopStart"), onclick: () => edge("start") }, "A"),
        h("button.plain", { type: "button", id: "loopB", "aria-label": t("loopEnd"), onclick: () => edge("end") }, "B"),
        h("button.plain", { type: "button", id: "bars", onclick: fourBars }, t("bars4")),
        h("button.plain", { type: "button", id: "barhere", title: t("barHereHow"), onclick: () => correct({ bar_s: Number(deck.seconds.toFixed(3)) }) }, t("barHere")),
        h("button.plain", { type: "button", id: "loopOff", onclick: () => deck.setLoop(null) }, t("loopOff"))),
      choice("speed", t("speed"), SPEEDS.map((one) => [one, `${Math.round(100 * one)} %`]), deck.setting.speed, (value) => turn({ speed: Number(value) })),
      choice("pitch", t("pitch"), Array.from({ length: 25 }, (_, index) => 12 - index).map((one) => [one, one > 0 ? `+${one}` : String(one)]), deck.setting.semitones, (value) => turn({ semitones: Number(value) })),
      choice("countin", t("countIn"), [[0, "–"], [2, "2"], [3, "3"], [4, "4"], [8, "8"]], state.countIn, (value) => { state.countIn = Number(value); }),
      h("label.field", {}, h("span", {}, t("tempo")), h("input", { type: "number", id: "bpm", min: "20", max: "400", step: "any", value: state.tempo?.bpm ?? "", oninput: (event) => event.target.validity.valid && correct({ bpm: Number(event.target.value) || null }) })),
      choice("perbar", t("perBar"), METERS.map((one) => [one, String(one)]), state.tempo?.per_bar ?? 4, (value) => correct({ per_bar: Number(value) })),
      h("label.field", {}, h("span", {}, t("key")), h("input", { type: "text", id: "key", size: "8", maxlength: "20", value: state.tempo?.key ?? "", oninput: (event) => correct({ key: event.target.value }) }))));
}

function choice(id, label, options, chosen, pick) {
  return h("label.field", {}, h("span", {}, label), h("select", { id, onchange: (event) => pick(event.target.value) },
    options.map(([value, text]) => h("option", { value: String(value), selected: value === chosen }, text))));
}

export function correct(values) {
  state.tempo = { beats: [], bpm: null, key: null, ...state.tempo, ...values, corrected: { ...state.tempo?.corrected, ...values } };
  for (const [id, value] of [["bpm", state.tempo.bpm], ["key", state.tempo.key], ["perbar", state.tempo.per_bar ?? 4]]) {
    const field = /** @type {any} */ (document.getElementById(id));
    if (field && document.activeElement !== field) field.value = value ?? "";
  }
  if (values.bpm) { // an even grid from the first beat on
    const first = state.tempo.beats[0] ?? 0;
    state.tempo.beats = Array.from({ length: Math.min(5000, Math.floor(((state.song.seconds - first) * values.bpm) / 60)) }, (_, index) => first + (60 * index) / values.bpm);
  }
  draw();
}

export async function tellTempo() {
  const mine = state.song.id;
  try {
    const found = await ask(`/api/songs/${mine}/tempo`);
    if (state.song.id !== mine) return;
    state.tempo = found;
    state.song.loudness_lufs = found.loudness_lufs;
    level();
    const [bpm, key] = [document.getElementById("bpm"), document.getElementById("key")];
    if (bpm && document.activeElement !== bpm) /** @type {any} */ (bpm).value = found.bpm ?? "";
    if (key && document.activeElement !== key) /** @type {any} */ (key).value = found.key ?? "";
    studio.refresh();
    draw();
  } catch (error) {
    say(error.message);
  }
}

const beat = () => 60 / (state.tempo?.bpm || 120);

export function toggle() {
  if (deck.playing) deck.pause();
  else deck.play(state.countIn ? { count: state.countIn, seconds: beat() } : null);
  refreshTransport();
}

export function turn(values) {
  deck.setSpeed({ ...deck.setting, ...values });
  studio.mixed();
  for (const [id, value] of [["speed", deck.setting.speed], ["pitch", deck.setting.semitones]]) {
    const field = document.getElementById(id);
    if (field) /** @type {any} */ (field).value = String(value);
  }
}

export function faster(by) {
  const at = SPEEDS.findIndex((one) => one >= deck.setting.speed - 1e-9);
  turn({ speed: SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, at + by))] });
}

export function higher(by) {
  turn({ semitones: Math.min(12, Math.max(-12, deck.setting.semitones + by)) });
}

export function edge(which) {
  const here = deck.seconds;
  const range = deck.loop ?? { start: 0, end: state.song.seconds };
  const fresh = { ...range, [which]: here };
  if (fresh.end < fresh.start) Object.assign(fresh, which === "start" ? { end: state.song.seconds } : { start: 0 }); // past the other
  if (fresh.end - fresh.start > 0.1) deck.setLoop(fresh);
}

/* Four bars from the bar line before the playhead; from the beat before it as long as nobody told where a bar begins. */
export function fourBars() {
  const beats = state.tempo?.beats ?? [];
  const lines = barLines();
  const before = (times) => times[Math.max(0, times.findLastIndex((one) => one <= deck.seconds + 0.05))];
  const start = before(lines.length ? lines : beats) ?? deck.seconds;
  const count = 4 * (state.tempo?.per_bar ?? 4);
  const end = beats[beats.indexOf(start) + count] ?? start + count * beat();
  deck.setLoop({ start, end: Math.min(state.song.seconds, end) });
  deck.seek(start);
}

export function skip(seconds) {
  const range = deck.loop;
  const at = deck.seconds + seconds;
  if (!range) deck.seek(at);
  else deck.seek(range.start + ((((at - range.start) % (range.end - range.start)) + (range.end - range.start)) % (range.end - range.start)));
}

export function refreshTransport() {
  const play = document.getElementById("play");
  if (!play) return;
  play.setAttribute("aria-label", t(deck.playing ? "pause" : "play"));
  play.firstChild.textContent = deck.playing ? "❚❚" : "▶";
  const early = deck.take && deck.take.seconds < state.song.seconds - 0.5;
  document.getElementById("waiting").textContent = deck.counting ? `${deck.counting} / ${state.countIn}` : deck.playing && deck.stalled ? t(early ? "waitingRest" : "working") : "";
  dressVerdict();
  document.getElementById("loopOff").toggleAttribute("disabled", !deck.loop);
  tick();
}

let told = "";

export function tick() {
  const time = document.getElementById("time");
  if (!time) return;
  const text = `${clock(deck.seconds)} / ${clock(state.song.seconds, 0)}`;
  if (text === told && time.textContent === text) return;
  told = text;
  time.textContent = text;
  const seek = /** @type {any} */ (document.getElementById("seek"));
  if (document.activeElement !== seek || deck.playing) seek.value = deck.seconds;
  seek.setAttribute("aria-valuetext", clock(deck.seconds));
}
