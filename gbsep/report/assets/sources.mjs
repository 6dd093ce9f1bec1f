// @ts-check
/* What there is to hear, and what it is called. */

import { player, state } from "./state.mjs";

export const REFERENCE = "truth";

export function sourceOf(track, render) {
  if (track === "mixture") return state.song.sources.findIndex((one) => one.kind === "mixture");
  if (render === REFERENCE) return state.song.sources.findIndex((one) => one.kind === "reference" && one.name === track);
  return state.song.sources.findIndex((one) => one.render === render && one.name === track);
}

export const current = () => (player.source === null ? null : state.song.sources[player.source]);

/* A heading for a stem: `minus_bass` is what is left without the bass. */
export function titleOf(track) {
  const words = track.replace(/^minus_/, "without ").replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export function tracks() {
  const names = new Set(state.song.sources.map((one) => one.name));
  const ordered = [...names].filter((name) => name !== "mixture" && name !== "residual");
  return [...(names.has("mixture") ? ["mixture"] : []), ...ordered, ...(names.has("residual") ? ["residual"] : [])];
}

export function rendersOf(track) {
  return state.song.renders.map((_, index) => index).filter((index) => sourceOf(track, index) >= 0);
}

/* Stems that several renders have something of. */
export function judged() {
  return tracks().filter((track) => track !== "mixture" && rendersOf(track).filter((index) => !state.song.sources[sourceOf(track, index)].silent).length > 1);
}

/* Stems to switch between: in a blind test, those of which every letter has one. */
export function stems() {
  if (!state.blind) return tracks().filter((track) => track !== "mixture");
  return judged().filter((track) => rendersOf(track).every((index) => state.blind.order.includes(index)));
}

/* What a listener may know a render by. */
function nameOf(render) {
  if (render === REFERENCE) return "True stem";
  if (state.blind && !state.blind.vote) return String.fromCharCode(65 + state.blind.order.indexOf(render));
  return state.song.renders[render].name;
}

/* The name of a render without what all have in common: `cutoff_hz=100` of a sweep. */
export function shortOf(render) {
  const name = nameOf(render);
  const bases = new Set(state.song.renders.map((one) => one.name.split("@")[0]));
  return bases.size === 1 && state.song.renders.length > 1 && state.song.renders.every((one) => one.name.includes("@"))
    ? name.slice(name.indexOf("@") + 1).replaceAll(",", ", ") : name;
}

export function labelOf(source) {
  if (source.kind === "mixture") return "Mixture";
  const who = source.kind === "reference" ? REFERENCE : source.render;
  return `${nameOf(who)} · ${source.name}`;
}

export function choose(id) {
  if (id < 0 || id === player.source) return;
  state.last = player.source;
  player.choose(id);
  warm();
}

/* The other renders of this stem are the likeliest to be asked for next, then the rest. */
export function warm() {
  const here = current();
  if (!here) return;
  const far = (one) => (one.name === here.name ? 0 : 1);
  const ids = state.song.sources.map((_, id) => id).filter((id) => id !== player.source);
  player.near([player.source, ...ids.sort((a, b) => far(state.song.sources[a]) - far(state.song.sources[b]))]);
}

export function listen(id) {
  choose(id);
  player.play();
}

/* Sound comes with its matched gain in it. */
export function amplitude(id) {
  return state.matched || state.blind ? 1 : 10 ** ((state.song.shared_gain_db - state.song.sources[id].gain_db) / 20);
}

export const placeOf = (note) => ({ start_s: note.time_s, stem: note.stem, index: state.song.renders.findIndex((one) => one.name === note.preset) });

export function goTo(one) {
  const id = sourceOf(one.stem, one.index);
  if (id >= 0) choose(id);
  player.seek(Math.max(0, one.start_s - 0.3), true);
}
