// @ts-check
/* Lanes on one time line: spectrograms or waveforms, findings above them, the loop with its handles, the playhead. */

import { bytes } from "./api.mjs";
import { clock, h, say } from "../../report/assets/dom.mjs";
import { barLines, deck, state } from "./model.mjs";
import { pluck } from "../../report/assets/pluck.mjs";
import { drawRoll, noteNear, soundingAt } from "../../report/assets/roll.mjs";
import { colours, hueOf, picture, pitchName } from "../../report/assets/spectrogram.mjs";
import { dark } from "../../report/assets/theme.mjs";
import { t } from "./words.mjs";

const MOST_PICTURES = 80;
const MOST_BEATS = 240;
const pictures = new Map();
let lanes = [];
let place = null;

/* The frequencies that are worth seeing of a stem. */
const rangeOf = (name) => (name === "bass" ? [30, 3000] : name.startsWith("guitar") || name === "other" ? [60, 10000] : [30, 16000]);

export const percent = (seconds) => `${(100 * (seconds - state.view.start)) / (state.view.end - state.view.start)}%`;

/* The picture of a strip, to be laid beside it, with a button in its corner. */
export function lane(name, corner = null) {
  const canvas = h("canvas", { role: "img", "aria-label": `${t("picture")}: ${t(name)}` });
  const plot = h("div.picture", {}, canvas, state.picture === "mel" && frequencies(name), corner);
  steer(plot, name);
  lanes.push({ name, canvas });
  return plot;
}

/* The scale of a spectrogram, over the frequencies that are shown. */
function frequencies(name) {
  const [low, high] = rangeOf(name);
  const rows = state.song.hz.filter((hz) => hz >= low && hz <= high);
  return [[100, "100 Hz"], [1000, "1 kHz"], [10000, "10 kHz"]].map(([hz, text]) => {
    const row = rows.findIndex((one) => one >= hz);
    if (row < 0) return null;
    const label = h("span.hz", { "aria-hidden": "true" }, text);
    label.style.bottom = `${(100 * row) / rows.length}%`;
    return label;
  });
}

export function beginLanes(element) {
  lanes = [];
  place = element;
}

export function ruler() {
  const line = h("div.ruler", { id: "ruler" }, h("div.marks", {}), h("div.beats", {}));
  steer(line, null);
  return line;
}

export function findingsLane() {
  return h("div.findings", { id: "findingslane", role: "group", "aria-label": t("findings") });
}

const keyOf = (name, kind) => `${state.song.id}/${name === "mixture" ? "mixture" : state.take.name}/${name}/${kind}`;

/* The picture of a sound: asked for once, whoever waits for it. That of the mixture is the same beside every take. */
function load(name, kind) {
  const take = name === "mixture" ? "mixture" : state.take.name;
  const key = keyOf(name, kind);
  if (!pictures.has(key)) {
    const seconds = name === "mixture" ? state.song.seconds : state.take.seconds;
    while (pictures.size >= MOST_PICTURES) pictures.delete(pictures.keys().next().value);
    const promise = bytes(`/api/songs/${state.song.id}/${kind}/${encodeURIComponent(take)}/${encodeURIComponent(name)}`)
      .then((content) => ({ kind, seconds, bytes: new Uint8Array(content) }))
      .then((one) => ({ ...one, top: kind === "mel" ? one.bytes.reduce((most, value) => Math.max(most, value), 1) : 0 }));
    promise.catch(() => pictures.delete(key));
    pictures.set(key, promise);
  }
  return pictures.get(key);
}

/* Waveforms first, which are there at once, then spectrograms; one at a time, so that sound finds a free connection. */
export async function paint() {
  const mine = lanes;
  draw();
  const early = !state.take || state.take.name.startsWith("first~");
  const kinds = state.picture === "wave" || early ? ["wave"] : ["wave", "mel"];
  for (const kind of kinds) {
    for (const one of mine) {
      if (kind !== kinds.at(-1) && pictures.has(keyOf(one.name, kinds.at(-1)))) continue;
      try {
        const got = await load(one.name, kind);
        if (mine !== lanes) return;
        one.picture = got;
      } catch (error) {
        if (mine !== lanes) return;
        say(error.message);
      }
      draw();
    }
  }
}

export function draw() {
  if (!state.song) return;
  for (const one of lanes) {
    const { clientWidth: width, clientHeight: height } = one.canvas;
    if (!width || !one.picture?.bytes) continue;
    const scale = devicePixelRatio || 1;
    one.canvas.width = Math.round(width * scale);
    one.canvas.height = Math.round(height * scale);
    one.canvas.parentElement.classList.toggle("wave", one.picture.kind === "wave");
    (one.picture.kind === "mel" ? drawMel : drawWave)(one);
    drawRoll(one.canvas.getContext("2d"), notesOf(one.name), state.view, scale);
  }
  marks();
  follow(true);
}

/* The notes of a stem that are kept and shown. */
const notesOf = (name) => (state.blind || state.unshown.has(name) ? [] : state.written[name]?.notes ?? []);

function drawMel({ name, canvas, picture: one }) {
  const rows = state.song.n_mels;
  const span_db = (70 / (state.song.range_db[1] - state.song.range_db[0])) * 255; // in the unit of the bytes
  const top = Math.max(span_db, ...lanes.map((each) => (each.picture?.kind === "mel" ? each.picture.top : 0))); // one scale for all
  const key = `${dark()} ${top}`;
  if (one.key !== key) {
    Object.assign(one, { key, image: picture(one.bytes, one.bytes.length / rows, rows, colours(hueOf(name), dark()), top - span_db, top) });
  }
  const [low, high] = rangeOf(name);
  const first = Math.max(0, state.song.hz.findIndex((hz) => hz >= low));
  const above = state.song.hz.findIndex((hz) => hz > high);
  const last = above < 0 ? rows : above;
  const span = state.view.end - state.view.start;
  const brush = canvas.getContext("2d");
  brush.imageSmoothingQuality = "high";
  brush.drawImage(one.image, 0, rows - last, one.image.width, last - first,
    (-state.view.start / span) * canvas.width, 0, (one.seconds / span) * canvas.width, canvas.height);
}

function drawWave({ name, canvas, picture: one }) {
  const brush = canvas.getContext("2d");
  const columns = one.bytes.length / 2;
  const values = new Int8Array(one.bytes.buffer);
  const span = state.view.end - state.view.start;
  const [red, green, blue] = colours(hueOf(name), dark())[dark() ? 170 : 200];
  brush.fillStyle = `rgb(${red} ${green} ${blue})`;
  const middle = canvas.height / 2;
  for (let x = 0; x < canvas.width; x += 1) {
    const at = ((state.view.start + (x / canvas.width) * span) / one.seconds) * columns;
    const to = Math.max(at + 1, ((state.view.start + ((x + 1) / canvas.width) * span) / one.seconds) * columns);
    let [low, high] = [127, -127];
    for (let column = Math.floor(at); column < Math.min(columns, to); column += 1) {
      low = Math.min(low, values[2 * column]);
      high = Math.max(high, values[2 * column + 1]);
    }
    if (high < low) continue;
    const top = middle - (high / 127) * middle;
    brush.fillRect(x, top, 1, Math.max(1, middle - (low / 127) * middle - top));
  }
}

function marks() {
  const line = document.querySelector("#ruler .marks");
  if (!line) return;
  const span = state.view.end - state.view.start;
  const wide = Math.max(1, line.clientWidth / 70);
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((one) => span / one <= wide) ?? 1200;
  const ticks = [];
  for (let time = Math.ceil(state.view.start / step) * step; time <= state.view.end; time += step) {
    const tick = h("span", {}, clock(time, step < 1 ? 1 : 0));
    tick.style.left = percent(time);
    ticks.push(tick);
  }
  line.replaceChildren(...ticks);
  const bars = new Set(barLines());
  const beats = (state.tempo?.beats ?? []).filter((beat) => beat >= state.view.start && beat <= state.view.end);
  const drawn = beats.length > MOST_BEATS ? beats.filter((beat) => bars.has(beat)) : beats;
  document.querySelector("#ruler .beats").replaceChildren(...(drawn.length > MOST_BEATS ? [] : drawn.map((beat) => {
    const tick = h(bars.has(beat) ? "i.bar" : "i", {});
    tick.style.left = percent(beat);
    return tick;
  })));
  const pins = document.getElementById("findingslane");
  pins.replaceChildren(...sorted(state.take?.findings ?? []).map((one) => {
    const words = `${clock(one.start_s)} ${one.stem}: ${one.message}`;
    const pin = h("button.pin", { type: "button", "data-severity": one.severity, title: words, "aria-label": words, onclick: () => deck.seek(Math.max(0, one.start_s - 0.3)) });
    pin.style.left = percent(one.start_s);
    pin.style.width = `${(100 * (one.end_s - one.start_s)) / span}%`;
    return pin;
  }));
}

/* The worst are drawn last, above the others. */
const sorted = (findings) => [...findings].sort((a, b) => (a.severity === b.severity ? a.start_s - b.start_s : a.severity === "error" ? 1 : -1));

export function zoom(factor, middle = deck.seconds) {
  const whole = state.song.seconds;
  const span = Math.min(whole, Math.max(1, (state.view.end - state.view.start) / factor));
  const inside = middle >= state.view.start && middle <= state.view.end ? middle : (state.view.start + state.view.end) / 2;
  const part = (inside - state.view.start) / (state.view.end - state.view.start);
  const start = Math.min(Math.max(0, inside - part * span), whole - span);
  state.view = { start, end: start + span };
  draw();
}

function timeAt(element, event) {
  const box = element.getBoundingClientRect();
  const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  return state.view.start + part * (state.view.end - state.view.start);
}

/* The note of a stem under the pointer. */
function noteAt(plot, name, event) {
  const box = plot.getBoundingClientRect();
  const pixel = (state.view.end - state.view.start) / box.width;
  return noteNear(notesOf(name), timeAt(plot, event), box.bottom - event.clientY, box.height, pixel);
}

/* Click to go there or to hear a note, drag for a loop, wheel to zoom. */
function steer(plot, name) {
  let from = null;
  plot.onpointerdown = (event) => {
    if (event.button || event.target.closest("button")) return;
    from = { x: event.clientX, time: timeAt(plot, event), dragged: false };
    plot.setPointerCapture(event.pointerId);
  };
  plot.onpointermove = (event) => {
    if (name && state.song) hover(plot, name, event);
    if (!from || (!from.dragged && Math.abs(event.clientX - from.x) <= 6)) return;
    from.dragged = true;
    const time = timeAt(plot, event);
    showLoop({ start: Math.min(from.time, time), end: Math.max(from.time, time) });
  };
  plot.onpointerup = (event) => {
    if (!from) return;
    const { time, dragged } = from;
    from = null;
    const other = timeAt(plot, event);
    if (dragged && Math.abs(other - time) > 0.2) {
      deck.setLoop({ start: Math.min(time, other), end: Math.max(time, other) });
      if (deck.seconds < Math.min(time, other) || deck.seconds > Math.max(time, other)) deck.seek(Math.min(time, other));
      return;
    }
    const note = name && noteAt(plot, name, event);
    if (note) pluck(note);
    if (!note) deck.seek(time);
    else if (!deck.playing) deck.seek(note[0]);
  };
  plot.onpointercancel = () => { from = null; };
  plot.onwheel = (event) => {
    if (!event.ctrlKey && !event.altKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, timeAt(plot, event));
  };
}

function hover(plot, name, event) {
  const told = document.getElementById("hover");
  if (!told) return;
  const words = [clock(timeAt(plot, event))];
  if (state.picture === "mel" && state.take) {
    const [low, high] = rangeOf(name);
    const rows = state.song.hz.filter((hz) => hz >= low && hz <= high);
    const box = plot.getBoundingClientRect();
    const row = Math.floor((1 - (event.clientY - box.top) / box.height) * rows.length);
    words.push(pitchName(rows[Math.min(rows.length - 1, Math.max(0, row))]));
  }
  const note = soundingAt(notesOf(name), timeAt(plot, event));
  if (note) words.push(`♪ ${note}`);
  told.textContent = words.join(" · ");
}

export function showLoop(range) {
  if (!place) return;
  place.classList.toggle("looping", Boolean(range));
  if (!range) return;
  place.style.setProperty("--loop-start", percent(range.start));
  place.style.setProperty("--loop-end", percent(range.end));
}

/* A handle of the loop: dragged, or moved with the arrows. */
export function loopHandle(edge) {
  const handle = h("button.handle", { type: "button", "data-edge": edge, role: "slider", "aria-label": t(edge === "start" ? "loopStart" : "loopEnd") });
  const move = (seconds) => {
    const range = deck.loop;
    if (!range) return;
    const fresh = { ...range, [edge]: Math.min(state.song.seconds, Math.max(0, seconds)) };
    if (fresh.end - fresh.start > 0.1) deck.setLoop(fresh);
  };
  handle.onpointerdown = (event) => handle.setPointerCapture(event.pointerId);
  handle.onpointermove = (event) => { if (event.buttons) move(timeAt(document.getElementById("ruler"), event)); };
  handle.onkeydown = (event) => {
    const by = { ArrowLeft: -0.1, ArrowRight: 0.1 }[event.key];
    if (!by || !deck.loop) return;
    event.preventDefault();
    event.stopPropagation();
    move(deck.loop[edge] + by);
  };
  return handle;
}

let shown = -1;

export function follow(force = false) {
  if (!place || !state.song) return;
  const seconds = deck.seconds;
  if (!force && seconds === shown) return;
  shown = seconds;
  const span = state.view.end - state.view.start;
  if (deck.playing && !force && !deck.loop && (seconds > state.view.end || seconds < state.view.start) && span < state.song.seconds) {
    const start = Math.min(Math.max(0, seconds - 0.05 * span), state.song.seconds - span);
    state.view = { start, end: start + span };
    draw();
    return;
  }
  place.style.setProperty("--playhead", percent(seconds));
  if (force) {
    showLoop(deck.loop);
    for (const handle of place.querySelectorAll(".handle")) {
      const at = deck.loop?.[handle.dataset.edge] ?? 0;
      handle.setAttribute("aria-valuenow", at.toFixed(1));
      handle.setAttribute("aria-valuemin", "0");
      handle.setAttribute("aria-valuemax", state.song.seconds.toFixed(1));
      handle.setAttribute("aria-valuetext", clock(at));
    }
  }
}
