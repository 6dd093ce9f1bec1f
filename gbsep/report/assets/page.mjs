// @ts-check
/* The page: one song at a time, drawn from its model. */

import { blindPanel } from "./blind.mjs";
import { h, say } from "./dom.mjs";
import { figures } from "./figures.mjs";
import { helpDialog, watchKeys } from "./keys.mjs";
import { draw, listening, paint, pictures } from "./lanes.mjs";
import { noteBar, pickNote } from "./notebar.mjs";
import { findings, header, heading, notes, overview, recipes } from "./panels.mjs";
import { reviewPanel } from "./review.mjs";
import { amplitude, rendersOf, sourceOf, tracks, warm } from "./sources.mjs";
import { load, page, player, report, state } from "./state.mjs";
import { sweep } from "./sweep.mjs";
import { watchSystem } from "./theme.mjs";
import { animate, refresh, transport } from "./transport.mjs";

const app = document.getElementById("app");

/* The controls of the same name as this one, which keep their order when the page is drawn anew. */
function twins(element) {
  const nameOf = (one) => one.id || one.getAttribute("aria-label") || one.textContent;
  return [...app.querySelectorAll("button, input, select, textarea, [tabindex]")].filter((one) => nameOf(one) === nameOf(element));
}

/* All of the page anew; who was on a control stays on it, or comes to what took its place in a blind test. */
function build() {
  const held = app.contains(document.activeElement) ? document.activeElement : null;
  const place = held && twins(held).indexOf(held);
  const marked = held?.id === "note" ? [held.selectionStart, held.selectionEnd] : null;
  const main = h("main", {});
  if (state.blind) {
    main.append(h("section.heading", {}, h("h1", { dir: "auto" }, state.song.name)), blindPanel(), listening());
  } else {
    const parts = [overview(), heading(), report.served && reviewPanel(), sweep(), state.song.renders.length > 0 && listening(), noteBar(), findings(), state.song.renders.length > 0 && figures(), notes(), state.song.renders.length > 0 && recipes()];
    main.append(...parts.filter(Boolean));
  }
  const top = header();
  const picker = top.querySelector("#song");
  if (picker) picker.value = state.song.place;
  const fresh = [top, main];
  if (state.song.sources.length) fresh.push(transport());
  app.replaceChildren(...fresh, helpDialog(), h("div", { id: "say", role: "status", "aria-live": "polite" }));
  document.getElementById("blind").setAttribute("aria-pressed", String(Boolean(state.blind)));
  document.body.classList.toggle("playable", state.song.sources.length > 0);
  if (state.song.sources.length) {
    player.level();
    refresh();
    paint();
  }
  if (!held) return;
  const heir = twins(held)[place] ?? app.querySelector("#again") ?? app.querySelector(".letter") ?? app.querySelector("#blind");
  heir.focus({ preventScroll: true });
  if (marked) heir.setSelectionRange?.(...marked);
}

let opening = 0;

async function open(index) {
  const mine = ++opening;
  const { id } = report.songs[index];
  let model;
  try {
    model = JSON.parse(new TextDecoder().decode(await load(id)));
  } catch (error) {
    if (mine !== opening) return;
    if (!state.song) app.replaceChildren(h("p.failure", { role: "alert" }, error.message));
    else {
      say(error.message);
      const picker = document.getElementById("song");
      if (picker) picker.value = state.song.place;
    }
    return;
  }
  if (mine !== opening) return;
  player.pause();
  state.blind = null;
  state.last = null;
  state.picked = null;
  state.kept.track = state.kept.render = undefined;
  pictures.clear();
  state.song = { ...model, id, place: index, chunk_s: report.chunk_s, frames: Math.round(model.seconds * model.sample_rate_hz), sample_rate: model.sample_rate_hz, amplitude };
  state.view = { start: 0, end: state.song.seconds };
  document.title = `${state.song.name} · gbsep`;
  if (state.song.sources.length) {
    const first = tracks().find((track) => track !== "mixture" && track !== "residual");
    player.show(state.song, Math.max(0, sourceOf(first, rendersOf(first)[0])));
    warm();
  }
  build();
}

Object.assign(page, { build, paint: () => state.song?.sources.length && paint(), refresh, open, pickNote });
watchKeys();
addEventListener("resize", () => state.song?.sources.length && draw());
watchSystem(() => page.paint());
globalThis.gbsep = { player, open }; // for the console, and for tests
open(0);
requestAnimationFrame(animate);
