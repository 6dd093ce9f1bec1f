// @ts-check
/* The strips: one for each stem and the residual, each beside its picture; the mixture above them. */

import { colour, h, number } from "../../report/assets/dom.mjs";
import { deck, isHeard, level, state, stripOf, studio } from "./model.mjs";
import { notesButton, takeBackButton } from "./notes.mjs";
import { beginLanes, findingsLane, lane, loopHandle, ruler } from "./timeline.mjs";
import { t } from "./words.mjs";

const meters = new Map();

export function lanes() {
  meters.clear();
  const place = h("div.studio-lanes", { id: "lanes" });
  beginLanes(place);
  place.append(h("div.strip.timeline", {}, h("span.quiet", { id: "hover" }), h("div.timescale", {}, findingsLane(), ruler(), loopHandle("start"), loopHandle("end"))));
  if (!state.take) place.append(mixtureStrip(false));
  else place.append(mixtureStrip(true), ...state.take.tracks.map((one) => strip(one.name)));
  return place;
}

function mixtureStrip(choice) {
  return colour(h("section.strip.mixture", { "aria-label": t("mixture") },
    h("div.controls", {}, h("b.who", {}, h("i.dot", {}), t("mixture")),
      choice && h("button.plain.toggle", { type: "button", id: "ab", "aria-pressed": String(state.mixtureOnly), title: t("keyAB"), "aria-label": `A/B, ${t("matched")}`, onclick: toggleMixture }, "A/B")),
    lane("mixture")), "mixture");
}

export function toggleMixture() {
  state.mixtureOnly = !state.mixtureOnly;
  level();
  dress();
}

function strip(name) {
  const one = stripOf(name);
  const turn = (values) => { Object.assign(one, values); level(); dress(); };
  const shown = h("output", { "aria-hidden": "true" }, db(one.gain_db));
  const meter = h("canvas.meter", { width: "120", height: "6", "aria-hidden": "true" });
  const fader = h("input.fader", { type: "range", min: "-60", max: "12", step: "0.5", value: String(one.gain_db), "aria-label": `${t("level")} ${t(name)}`, "aria-valuetext": db(one.gain_db),
    oninput: (event) => {
      turn({ gain_db: Number(event.target.value) });
      shown.textContent = db(one.gain_db);
      event.target.setAttribute("aria-valuetext", db(one.gain_db));
    },
    ondblclick: (event) => { event.target.value = "0"; event.target.oninput(event); } });
  const pan = h("input.pan", { type: "range", min: "-1", max: "1", step: "0.05", value: String(one.pan), "aria-label": `${t("pan")} ${t(name)}`,
    oninput: (event) => turn({ pan: Number(event.target.value) }),
    ondblclick: (event) => { event.target.value = "0"; event.target.oninput(event); } });
  meters.set(name, { canvas: meter, level: 0 });
  return colour(h("section.strip", { "data-strip": name, "aria-label": t(name) },
    h("div.controls", {},
      h("b.who", { dir: "auto" }, h("i.dot", {}), t(name)),
      h("span.pair", {},
        h("button.plain.toggle", { type: "button", "data-does": "mute", "aria-pressed": String(one.mute), "aria-label": `${t("mute")} ${t(name)}`, title: t("mute"), onclick: () => turn({ mute: !one.mute }) }, "M"),
        h("button.plain.toggle", { type: "button", "data-does": "solo", "aria-pressed": String(one.solo), "aria-label": `${t("solo")} ${t(name)}`, title: t("solo"), onclick: () => turn({ solo: !one.solo }) }, "S"),
        notesButton(name)),
      h("label.knobs", {}, fader, shown),
      h("label.knobs.panning", {}, h("span.quiet", { "aria-hidden": "true" }, t("pan")), pan),
      meter),
    lane(name, takeBackButton(name))), name);
}

const db = (value) => (value <= -60 ? "−∞ dB" : `${value > 0 ? "+" : ""}${number(value, 1)} dB`);

/* What is pressed and what sounds, as it is now. */
export function dress() {
  for (const element of document.querySelectorAll("[data-strip]")) {
    const one = stripOf(element.dataset.strip);
    for (const button of element.querySelectorAll("[data-does]")) button.setAttribute("aria-pressed", String(one[button.dataset.does]));
    element.classList.toggle("off", state.mixtureOnly || !isHeard(element.dataset.strip));
  }
  studio.mixed();
  document.getElementById("ab")?.setAttribute("aria-pressed", String(state.mixtureOnly));
  document.querySelector(".strip.mixture")?.classList.toggle("off", !state.mixtureOnly && Boolean(state.take));
}

export function solo(index, mute = false) {
  const name = state.take?.tracks[index]?.name;
  if (!name) return;
  const one = stripOf(name);
  if (mute) one.mute = !one.mute;
  else one.solo = !one.solo;
  level();
  dress();
}

/* The meters fall 20 dB in a second; they rise at once. */
export function meter() {
  const peaks = deck.peaks;
  for (const [name, one] of meters) {
    const now = deck.playing ? Math.max(0, 1 + (20 * Math.log10((peaks[name] ?? 0) + 1e-6)) / 60) : 0;
    const before = one.level;
    one.level = Math.max(now, before - 0.006);
    if (one.level === before && before === 0) continue;
    const brush = one.canvas.getContext("2d");
    brush.clearRect(0, 0, one.canvas.width, one.canvas.height);
    brush.fillStyle = one.level > 0.99 ? "rgb(230 90 70)" : getComputedStyle(one.canvas).color;
    brush.fillRect(0, 0, one.level * one.canvas.width, one.canvas.height);
  }
}

export function resetStrips() {
  state.strips = {};
  state.mixtureOnly = false;
  studio.lanes();
}
