// @ts-check
/* The player at the foot of the page. */

import { chips, h } from "./dom.mjs";
import { follow, showLoop } from "./lanes.mjs";
import { REFERENCE, choose, current, labelOf, rendersOf, shortOf, sourceOf, stems, tracks } from "./sources.mjs";
import { player, state } from "./state.mjs";

export function transport() {
  const seek = h("input.seek", { type: "range", min: "0", max: String(state.song.seconds), step: "0.01", value: "0", id: "seek", "aria-label": "Time",
    oninput: (event) => player.seek(Number(event.target.value)) });
  return h("footer.transport", { "aria-label": "Player" },
    h("div.row", {},
      h("button.round", { type: "button", id: "play", "aria-label": "Play", onclick: toggle }, h("span", {}, "▶")),
      h("div.now", {}, h("output", { id: "time" }, "0:00.0"), h("b", { id: "now", dir: "auto" }, "")),
      seek,
      h("canvas.meter", { id: "meter", width: "84", height: "8", "aria-hidden": "true" }),
      h("label.volume", {}, h("span.sr", {}, "Volume"),
        h("input", { type: "range", min: "0", max: "1", step: "0.01", value: "1", oninput: (event) => player.setVolume(event.target.value ** 2) }))),
    h("div.row", { id: "choices" }));
}

function choices() {
  const place = document.getElementById("choices");
  const here = current();
  if (!here) return;
  const focused = place.contains(document.activeElement) ? document.activeElement.textContent : null;
  const render = here.kind === "reference" ? REFERENCE : here.render;
  const order = state.blind && !state.blind.vote ? state.blind.order : state.song.renders.map((_, index) => index);
  const track = here.kind === "mixture" ? state.kept.track ?? tracks().find((one) => one !== "mixture") : here.name;
  state.kept.track = track;
  if (render !== null) state.kept.render = render;
  const who = [...order, ...(state.song.sources.some((one) => one.kind === "reference") && !state.blind ? [REFERENCE] : [])];
  const other = (name) => {
    const wish = state.kept.render ?? who[0];
    const found = sourceOf(name, wish);
    return found >= 0 ? found : sourceOf(name, rendersOf(name)[0]);
  };
  place.replaceChildren(
    chips("Stem", [...(sourceOf("mixture") >= 0 ? ["mixture"] : []), ...stems()].map((name) => ({ key: name, text: name, tint: name })), here.name, (name) => choose(name === "mixture" ? sourceOf(name) : other(name))),
    chips("Preset", who.map((one) => ({ key: one, text: shortOf(one), off: sourceOf(track, one) < 0, tint: null })), render, (one) => choose(sourceOf(track, one))));
  if (focused) [...place.querySelectorAll("button")].find((one) => one.textContent === focused)?.focus();
}

export function refresh() {
  if (!state.song?.sources.length) return;
  const here = current();
  document.getElementById("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  document.getElementById("play").firstChild.textContent = player.playing ? "❚❚" : "▶";
  document.getElementById("now").textContent = here ? labelOf(here) : "nothing to hear";
  for (const { id, element, button } of state.lanes) {
    const on = id === player.source;
    element.classList.toggle("on", on);
    button.setAttribute("aria-pressed", String(on));
  }
  showLoop(player.loop);
  choices();
  follow(true);
}

export function toggle() {
  if (player.playing) player.pause();
  else player.play();
}

/* On or back by so many seconds: round a loop, if there is one. */
export function skip(seconds) {
  const { start, end } = player.loop ?? {};
  const at = player.seconds + seconds;
  player.seek(start === undefined ? at : start + ((((at - start) % (end - start)) + (end - start)) % (end - start)));
}

const samples = new Float32Array(2048);

function meter() {
  const canvas = document.getElementById("meter");
  if (!canvas) return;
  const brush = canvas.getContext("2d");
  brush.clearRect(0, 0, canvas.width, canvas.height);
  if (!player.playing || !player.analyser) return;
  player.analyser.getFloatTimeDomainData(samples);
  const power = samples.reduce((sum, one) => sum + one * one, 0) / samples.length;
  const level = Math.max(0, 1 + (10 * Math.log10(power + 1e-9)) / 60);
  brush.fillStyle = getComputedStyle(canvas).color;
  brush.fillRect(0, 0, level * canvas.width, canvas.height);
}

export function animate() {
  if (state.song?.sources.length) {
    follow();
    meter();
  }
  requestAnimationFrame(animate);
}
