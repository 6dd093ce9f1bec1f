// @ts-check
/* The studio: what is in the folder at the side, the open song in the middle, the player below. */

import { ask } from "./api.mjs";
import { beginChains, chainPanel, hearAll } from "./chain.mjs";
import { endBlind } from "./blindtest.mjs";
import { keepDesk, recallDesk, recallLoop, recallTake, recallTempo, watchDesk } from "./desk.mjs";
import { dressVerdict, reviewPanel } from "./deciding.mjs";
import { clock, h, say } from "../../report/assets/dom.mjs";
import { createEngine } from "./engine.mjs";
import { redrawing } from "./focus.mjs";
import { busy, dressQueue, dropZone, queueList, rows, separate, songList, watchDrops, watchQueue, welcome } from "./library.mjs";
import { dress, lanes, meter } from "./mixer.mjs";
import { deck, deckTake, level, state, studio } from "./model.mjs";
import { recallNotes } from "./notes.mjs";
import { refreshTransport, tellTempo, tick, transport } from "./practice.mjs";
import { help, helpDialog, togglePicture, watchKeys } from "./shortcuts.mjs";
import { dressSummary, takeHomePanel } from "./takehome.mjs";
import { toggleTheme, watchSystem } from "../../report/assets/theme.mjs";
import { draw, follow, paint, zoom } from "./timeline.mjs";
import { t, table, toggleLanguage, tongue } from "./words.mjs";
import { post } from "./api.mjs";

const app = document.getElementById("app");
const PANELS = { chain: ["chain", chainPanel], home: ["takeHome", takeHomePanel], review: ["review", reviewPanel] };

function header() {
  return h("header.top", {},
    h("span.brand", { "aria-hidden": "true" }, h("i", {}), h("i", {}), h("i", {}), "gbsep"),
    h("h1.sr", {}, "gbsep studio"),
    h("span.quiet.where", { dir: "auto" }, state.library.folder ?? ""), h("span.space", {}),
    h("button.plain", { type: "button", id: "language", lang: tongue() === "ko" ? "en" : "ko", onclick: () => { toggleLanguage(); build(); } }, t("language")),
    h("button.plain", { type: "button", id: "theme", "aria-label": t("dark"), title: t("dark"), onclick: toggleTheme }, "◐"),
    h("button.plain", { type: "button", id: "helpbutton", "aria-label": t("keys"), title: `${t("keys")} (?)`, onclick: help }, "?"));
}

/* All of the page anew. */
const build = () => redrawing(buildAll);

function buildAll() {
  const helping = /** @type {any} */ (document.getElementById("help"))?.open;
  document.documentElement.lang = tongue();
  const fresh = [header(), h("div.desk", {}, h("aside", { id: "side", "aria-label": t("songs") }), h("main", { id: "main" }))];
  if (state.song) fresh.push(transport());
  app.replaceChildren(...fresh, helpDialog(), h("div", { id: "say", role: "status", "aria-live": "polite" }));
  document.body.classList.toggle("playable", Boolean(state.song));
  document.body.classList.toggle("blind", Boolean(state.blind));
  const side = document.getElementById("side");
  side.append(dropZone(), queueList(), songList());
  const main = document.getElementById("main");
  if (state.song) main.append(heading(), h("div", { id: "mix" }), panels());
  else main.append(welcome(presetSelect(), openDemo));
  if (state.song) {
    showLanes();
    refreshTransport();
  }
  if (helping) help();
}

function sidebar() {
  dressQueue();
  rows();
}

/* The presets by what they are for: one's own first. */
function presetSelect() {
  const option = (one) => h("option", { value: one.name, selected: one.name === state.preset }, `${one.title} – ${one.name}`);
  const rows = state.library.presets;
  const [own, usual, variants] = [rows.filter((one) => one.own), rows.filter((one) => !one.own && !one.variant), rows.filter((one) => one.variant)];
  return h("select", { id: "preset", "aria-label": t("preset"), onchange: (event) => { state.preset = event.target.value; build(); } },
    own.length > 0 && h("optgroup", { label: t("own") }, own.map(option)),
    h("optgroup", { label: "gbsep" }, usual.map(option)),
    variants.length > 0 && h("optgroup", { label: t("variants") }, variants.map(option)));
}

async function openDemo() {
  const song = await post("/api/demo", {});
  await look();
  await separate([song.id]);
  await open(song.id, true);
}

function presetChoice() {
  const rows = state.library.presets;
  const select = presetSelect();
  const chosen = rows.find((one) => one.name === state.preset);
  return h("div.row", {}, select,
    h("button.main", { type: "button", id: "render", disabled: Boolean(chosen?.missing), onclick: () => separate([state.song.id]) }, t("render")),
    h("button.plain", { type: "button", id: "batch", disabled: Boolean(chosen?.missing), onclick: () => separate(state.library.songs.map((one) => one.id)) }, t("batchAll")),
    chosen?.missing && h("p.failure", {}, chosen.missing, " ",
      chosen.model && h("button.plain", { type: "button", id: "weights", onclick: async (event) => {
        event.target.disabled = true;
        try {
          await post("/api/weights", { model: chosen.model });
          await studio.look();
        } catch (error) {
          say(error.message);
        }
        build();
      } }, t("getWeights"))),
    !chosen?.missing && chosen?.description && h("p.quiet.about", {}, chosen.description));
}

function heading() {
  const takes = state.song.takes;
  return h("section.heading", {},
    h("div.row", {}, h("h2.title", { dir: "auto" }, state.song.name),
      h("span.quiet", {}, `${clock(state.song.seconds, 0)} · ${(state.song.sample_rate / 1000).toFixed(1)} kHz`),
      h("span.space", {}),
      takes.length > 0 && h("div.chips", { role: "group", "aria-label": t("preset") }, takes.map((one) => h("button.chip", { type: "button", "data-take": one.name, "aria-pressed": String(one.name === state.take?.name), onclick: () => showTake(one) },
        one.name.startsWith("first~") ? `${one.preset} · ${t("first")}` : one.name))),
      h("button.plain", { type: "button", id: "picture", "aria-label": t("picture"), title: t("picture"), onclick: togglePicture }, state.picture === "mel" ? "▤" : "∿"),
      h("button.plain", { type: "button", "aria-label": t("zoomOut"), onclick: () => zoom(0.5) }, "−"),
      h("button.plain", { type: "button", "aria-label": t("zoomIn"), onclick: () => zoom(2) }, "+")),
    presetChoice());
}

function showLanes() {
  redrawing(() => document.getElementById("mix")?.replaceChildren(lanes()));
  dress();
  paint();
}

function panels() {
  const tabs = Object.entries(PANELS).map(([key, [word]]) => h("button.tab", { type: "button", role: "tab", id: `tab-${key}`, "aria-selected": String(key === state.panel), "aria-controls": "panel", onclick: () => {
    if (key !== "review") endBlind();
    state.panel = key;
    refreshPanels();
  } }, t(word)));
  return h("section.panel.below", { id: "below" }, h("div.tabs", { role: "tablist", "aria-label": t("listen") }, tabs),
    h("div", { id: "panel", role: "tabpanel", "aria-labelledby": `tab-${state.panel}`, tabindex: "0" }, PANELS[state.panel][1]()));
}

function refreshPanels() {
  document.body.classList.toggle("blind", Boolean(state.blind));
  dressVerdict();
  redrawing(() => document.getElementById("below")?.replaceWith(panels()));
}

/* A take for the player: its tracks as they are rendered, and the mixture. */
function showTake(take, how = {}) {
  const before = state.take;
  state.take = take;
  state.blind = null;
  beginChains(before);
  if (!before) recallTake(take);
  level(false);
  const loading = deck.load(state.song, deckTake(take), how);
  state.written = {};
  build();
  recallNotes();
  return Promise.resolve(loading).then(() => (before ? hearAll() : recallLoop()));
}

/* The take to open: the preset that is chosen, else the reviewed one, else any whole one, else the first seconds
   while the rest is on its way. */
function bestTake() {
  const whole = state.song.takes.filter((one) => !one.name.startsWith("first~"));
  const left = !state.take && whole.find((one) => one.name === state.song.desk?.take);
  if (left) return left;
  const early = state.song.takes.find((one) => busy(state.song.id) && one.name === `first~${state.preset}`);
  return whole.find((one) => one.name === state.preset) ?? early ?? whole.find((one) => one.name === state.song.review.preset) ?? whole[0] ?? state.song.takes[0] ?? null;
}

const LOOK_MS = 3000;
let listening = false;    // whether a song that was dropped is to sound as soon as it can

async function open(id, andPlay = false) {
  await keepDesk();
  try {
    state.song = await ask(`/api/songs/${id}`);
  } catch (error) {
    say(error.message);
    return;
  }
  deck.pause();
  state.tempo = null;
  state.mixtureOnly = false;
  state.blind = null;
  recallDesk();
  history.replaceState(null, "", `${location.pathname}${location.search}#${id}`);
  state.view = { start: 0, end: state.song.seconds };
  state.take = null;
  listening = andPlay;
  document.title = `${state.song.name} · gbsep studio`;
  const take = bestTake();
  if (take) {
    listening = false;
    await showTake(take, { at: 0, playing: andPlay });
  } else build();
  wonder();
}

/* Tempo and key, as soon as that does not keep the first seconds waiting. */
function wonder() {
  if (state.tempo || (!state.take && busy(state.song.id))) return;
  state.tempo = { bpm: null, beats: [], key: null };
  tellTempo().then(recallTempo);
}

/* The open song as it is now: a better take goes on where the other was. */
async function renew() {
  const fresh = await ask(`/api/songs/${state.song.id}`);
  if (fresh.id !== state.song.id) return;
  state.song = { ...fresh, loudness_lufs: state.song.loudness_lufs };
  const take = bestTake();
  if (!take) {
    state.take = null;
    deck.unload();
    build();
  } else if (take.name !== state.take?.name) {
    const playing = listening || deck.playing;
    listening = false;
    await showTake(take, state.take ? { playing } : { at: 0, playing });
  } else build();
  wonder();
}

let lostAt = -Infinity;

/* What is open has gone from under the page: go on with what is left of it, or with another song. */
async function lost() {
  if (!state.song || performance.now() - lostAt < LOOK_MS) return;
  lostAt = performance.now();
  try {
    await renew();
    if (state.take) hearAll();
  } catch (error) {
    if (error.status !== 404) return;
    deck.unload();
    state.song = state.take = null;
    await look();
    const [first] = state.library.songs;
    if (first) await open(first.id);
    else build();
  }
}

async function look() {
  state.library = await ask("/api/library");
  if (!state.library.presets.some((one) => one.name === state.preset)) state.preset = "default";
  sidebar();
}

function animate() {
  if (state.song) {
    follow();
    tick();
    meter();
  }
  requestAnimationFrame(animate);
}

Object.assign(studio, { build, lanes: showLanes, sidebar, panels: refreshPanels, mixed: dressSummary, open, look, renew, lost, refresh: () => { if (!state.song) return; refreshTransport(); follow(true); } });

async function begin() {
  build();
  try {
    [state.effects] = await Promise.all([ask("/api/effects"), look()]);
  } catch (error) {
    say(error.message);
    return;
  }
  build();
  watchKeys();
  watchDrops();
  watchDesk();
  watchSystem(() => { if (state.song) paint(); });
  addEventListener("resize", () => draw());
  addEventListener("focus", () => look().catch(() => {})); // the folder may have changed; the queue tells of a server that is gone
  requestAnimationFrame(animate);
  watchQueue();
  const wanted = location.hash.slice(1);
  const first = state.library.songs.find((one) => one.id === wanted) ?? state.library.songs[0];
  if (first) await open(first.id);
}

globalThis.gbsep = { deck, state, studio, createEngine, table }; // for the console, and for tests
begin();
