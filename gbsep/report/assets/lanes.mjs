// @ts-check
/* Spectrograms one below the other on one time line, with a playhead, findings and notes. */

import { clock, colour, h, say } from "./dom.mjs";
import { REFERENCE, choose, goTo, labelOf, listen, placeOf, rendersOf, shortOf, sourceOf, titleOf, tracks } from "./sources.mjs";
import { drawRoll, noteNear, soundingAt } from "./roll.mjs";
import { colours, hueOf, picture, pitchName } from "./spectrogram.mjs";
import { load, page, player, report, state } from "./state.mjs";
import { dark } from "./theme.mjs";

export const pictures = new Map();

function lane(id) {
  const source = state.song.sources[id];
  const canvas = h("canvas", { role: "img", "aria-label": `Mel spectrogram, ${labelOf(source)}` });
  const plot = h("div.picture", {}, canvas, frequencies());
  const markers = h("div.markers", {});
  plot.append(markers);
  steer(plot, id);
  const button = h("button.play", { type: "button", "aria-pressed": "false", onclick: () => listen(id) },
    h("i.dot", {}), h("span.who", { dir: "auto" }, source.kind === "mixture" ? "mixture" : shortOf(source.kind === "reference" ? REFERENCE : source.render)),
    h("small", {}, gainLabel(id)));
  const element = colour(h(source.silent ? "div.lane.silent" : "div.lane", {}, button, plot), source.name);
  state.lanes.push({ id, element, canvas, markers, button });
  return element;
}

/* The scale of a spectrogram. */
function frequencies() {
  return [[100, "100 Hz"], [1000, "1 kHz"], [10000, "10 kHz"]].map(([hz, text]) => {
    const row = state.song.hz.findIndex((one) => one >= hz);
    if (row < 0) return null;
    const label = h("span.hz", { "aria-hidden": "true" }, text);
    label.style.bottom = `max(0.35rem, ${(100 * row) / state.song.hz.length}%)`;
    return label;
  });
}

function gainLabel(id) {
  if (state.song.sources[id].silent) return "silent";
  const gain = state.matched || state.blind ? state.song.sources[id].gain_db : state.song.shared_gain_db;
  return gain === 0 ? "" : `${gain > 0 ? "+" : "−"}${Math.abs(gain).toFixed(1)} dB`;
}

export function toggleMatched() {
  if (state.blind) return;
  state.matched = !state.matched;
  document.getElementById("matched").checked = state.matched;
  for (const { id, button } of state.lanes) button.querySelector("small").textContent = gainLabel(id);
  player.level();
  say(state.matched ? "Equal loudness" : "Levels as rendered");
}

export function listening() {
  state.lanes = [];
  const ruler = h("div.ruler", {}, h("div.marks", {}));
  const groups = tracks().map((track) => {
    if (state.blind && track !== "mixture") return null;
    const own = track === "mixture" ? [sourceOf(track)]
      : [sourceOf(track, REFERENCE), ...rendersOf(track).map((index) => sourceOf(track, index))].filter((id) => id >= 0);
    return h("div.group", { role: "group", "aria-label": track },
      track !== "mixture" && colour(h("h3", {}, h("i.dot", {}), titleOf(track)), track),
      own.every((id) => state.song.sources[id].silent) ? h("p.quiet", {}, "Silent in every render") : own.map(lane));
  });
  const lost = !tracks().includes("mixture") && h("p.quiet", {}, "The recording itself was moved or changed since: it cannot be heard here.");
  const section = h("section.panel.listen", { "aria-label": "Listen" },
    h("div.tools", {},
      h("h2", {}, "Listen"),
      h("span.quiet.hover", { id: "hover" }, "Click to play from there, drag to loop"),
      h("span.space", {}),
      h("label.switch", {}, h("input", { type: "checkbox", id: "matched", checked: state.matched, disabled: Boolean(state.blind), onchange: toggleMatched }), "Equal loudness"),
      h("button.plain", { type: "button", "aria-label": "Zoom out", onclick: () => zoom(0.5) }, "−"),
      h("button.plain", { type: "button", "aria-label": "Zoom in", onclick: () => zoom(2) }, "+")),
    lost,
    h("div.lanes", { id: "lanes" }, h("div.lane.timeline", {}, h("span", {}), ruler), groups));
  return section;
}

export async function paint() {
  const mine = state.song;
  let top = 1;
  for (const { id } of state.lanes) {
    if (!pictures.has(id)) {
      try {
        pictures.set(id, { bytes: await load(`${state.song.id}-${id}-mel`) });
      } catch (error) {
        say(error.message);
        return;
      }
      if (mine !== state.song) return;
    }
    const one = pictures.get(id);
    one.top ??= one.bytes.reduce((most, value) => Math.max(most, value), 1);
    top = Math.max(top, one.top);
  }
  const floor = top - (70 / (report.range_db[1] - report.range_db[0])) * 255;
  for (const { id } of state.lanes) {
    const one = pictures.get(id);
    const key = `${dark()} ${top}`;
    if (one.key !== key) {
      const palette = colours(hueOf(state.song.sources[id].name), dark());
      Object.assign(one, { key, image: picture(one.bytes, one.bytes.length / report.n_mels, report.n_mels, palette, floor, top) });
    }
  }
  draw();
}

export function draw() {
  const scale = devicePixelRatio || 1;
  const span = state.view.end - state.view.start;
  for (const { id, canvas, markers } of state.lanes) {
    const image = pictures.get(id)?.image;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (image && width) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      const brush = canvas.getContext("2d");
      const seconds = state.song.sources[id].seconds;
      brush.imageSmoothingQuality = "high";
      brush.drawImage(image, 0, 0, image.width, image.height,
        (-state.view.start / span) * canvas.width, 0, (seconds / span) * canvas.width, canvas.height);
      if (!state.blind) drawRoll(brush, state.song.sources[id].written, state.view, scale, state.picked?.id === id ? state.picked.note : null);
    }
    mark(markers, id);
  }
  ruler();
  follow(true);
}

const percent = (seconds) => `${(100 * (seconds - state.view.start)) / (state.view.end - state.view.start)}%`;

function mark(place, id) {
  const source = state.song.sources[id];
  const own = source.render === null || state.blind ? [] : state.song.renders[source.render].findings.filter((one) => one.stem === source.name).sort((a, b) => a.start_s - b.start_s);
  const rows = [];
  place.replaceChildren(...own.map((one) => {
    const free = rows.findIndex((end) => end <= one.start_s);
    const row = free < 0 ? Math.min(rows.length, 4) : free;
    rows[row] = one.end_s;
    const pin = h("button.pin", { type: "button", "data-severity": one.severity, title: `${clock(one.start_s)} ${one.message}`,
      "aria-label": `${clock(one.start_s)}, ${one.severity}: ${one.message}`,
      onclick: (event) => { event.stopPropagation(); goTo({ ...one, index: source.render }); } });
    pin.style.left = percent(one.start_s);
    pin.style.top = `${row * 9}px`;
    pin.style.width = `${(100 * (one.end_s - one.start_s)) / (state.view.end - state.view.start)}%`;
    return pin;
  }));
}

function ruler() {
  const place = document.querySelector(".ruler .marks");
  const span = state.view.end - state.view.start;
  const wide = place.clientWidth / 70;
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((one) => span / one <= wide) ?? 1200;
  const marks = [];
  for (let time = Math.ceil(state.view.start / step) * step; time <= state.view.end; time += step) {
    const tick = h("span", {}, clock(time, step < 1 ? 1 : 0));
    tick.style.left = percent(time);
    marks.push(tick);
  }
  for (const note of state.blind ? [] : state.song.review.notes) {
    const pin = h("button.note", { type: "button", title: note.text, "aria-label": `Note at ${clock(note.time_s)}: ${note.text}`, onclick: () => goTo(placeOf(note)) }, "✎");
    pin.style.left = percent(note.time_s);
    marks.push(pin);
  }
  place.replaceChildren(...marks);
}

export function zoom(factor) {
  const middle = player.seconds >= state.view.start && player.seconds <= state.view.end ? player.seconds : (state.view.start + state.view.end) / 2;
  const span = Math.min(state.song.seconds, Math.max(1, (state.view.end - state.view.start) / factor));
  const start = Math.min(Math.max(0, middle - span / 2), state.song.seconds - span);
  state.view = { start, end: start + span };
  draw();
}

function steer(plot, id) {
  let from = null;
  const timeAt = (event) => {
    const box = plot.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return state.view.start + part * (state.view.end - state.view.start);
  };
  const noteOf = (event) => {
    const box = plot.getBoundingClientRect();
    const pixel = (state.view.end - state.view.start) / box.width;
    return state.blind ? null : noteNear(state.song.sources[id].written, timeAt(event), box.bottom - event.clientY, box.height, pixel);
  };
  plot.onpointerdown = (event) => {
    if (event.button || event.target.closest("button")) return;
    from = { x: event.clientX, time: timeAt(event), dragged: false };
    plot.setPointerCapture(event.pointerId);
  };
  plot.onpointermove = (event) => {
    const box = plot.getBoundingClientRect();
    const high = 1 - (event.clientY - box.top) / box.height;
    const hz = state.song.hz[Math.min(state.song.hz.length - 1, Math.max(0, Math.floor(high * state.song.hz.length)))];
    const note = state.blind ? "" : soundingAt(state.song.sources[id].written, timeAt(event));
    document.getElementById("hover").textContent = `${clock(timeAt(event))} · ${pitchName(hz)}${note && ` · plays ${note}`}`;
    if (from && (from.dragged || Math.abs(event.clientX - from.x) > 6)) {
      from.dragged = true;
      showLoop({ start: Math.min(from.time, timeAt(event)), end: Math.max(from.time, timeAt(event)) });
    }
  };
  plot.onpointerup = (event) => {
    if (!from) return;
    const { time, dragged } = from;
    from = null;
    choose(id);
    if (dragged && Math.abs(timeAt(event) - time) > 0.2) {
      player.setLoop({ start: Math.min(time, timeAt(event)), end: Math.max(time, timeAt(event)) });
      player.seek(Math.min(time, timeAt(event)), true);
    } else {
      const note = noteOf(event);
      if (note) page.pickNote(id, note);
      else player.seek(time, true);
    }
  };
  plot.onpointercancel = () => { from = null; };
}

export function showLoop(range) {
  const place = document.getElementById("lanes");
  place.classList.toggle("looping", Boolean(range));
  if (!range) return;
  place.style.setProperty("--loop-start", percent(range.start));
  place.style.setProperty("--loop-end", percent(range.end));
}

let shown = -1;

export function follow(force = false) {
  const seconds = player.seconds;
  if (!force && seconds === shown) return;
  shown = seconds;
  const span = state.view.end - state.view.start;
  if (player.playing && !force && (seconds > state.view.end || seconds < state.view.start) && span < state.song.seconds) {
    const start = Math.min(Math.max(0, seconds - 0.05 * span), state.song.seconds - span);
    state.view = { start, end: start + span };
    draw();
    return;
  }
  document.getElementById("lanes").style.setProperty("--playhead", percent(seconds));
  document.getElementById("time").textContent = `${clock(seconds)} / ${clock(state.song.seconds, 0)}`;
  const seek = document.getElementById("seek");
  if (document.activeElement !== seek || player.playing) seek.value = seconds;
  seek.setAttribute("aria-valuetext", clock(seconds));
}
