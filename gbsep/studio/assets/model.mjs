// @ts-check
/* What the studio shows and what sounds: the one place where modules share what changes. */

import { createDeck } from "./deck.mjs";
import { say } from "../../report/assets/dom.mjs";

/**
 * library: what lies in the folder; jobs: the queue; song: the song that is open, its model of the server in `model`.
 * strips: {name: {gain_db, pan, mute, solo}}; mixtureOnly: whether the mixture is heard in place of the strips.
 * blind: the blind test that is going on, {stem, order, chosen, at, gain, tally, rounds}. plugins: those of this machine.
 * view: the seconds that the lanes show; picture: "mel" or "wave". chains: {stem: chain} as turned; past, future: of it.
 * written: {stem: {notes, mark, fresh}} that the take keeps, fresh when they were written just now; unshown: stems without.
 */
export const state = {
  library: { songs: [], presets: [], unreadable: {}, suffixes: [] }, jobs: [], song: null, take: null, preset: "default",
  strips: {}, mixtureOnly: false, view: { start: 0, end: 1 }, picture: "mel", tempo: null, countIn: 0,
  chains: {}, rendered: {}, past: [], future: [], plugins: null, blind: null, original: false, stem: null, effects: {}, panel: "chain", sending: new Map(),
  written: {}, unshown: new Set(),
};

/* What parts ask of others; studio.mjs fills it. */
export const studio = {
  build() {}, lanes() {}, refresh() {}, sidebar() {}, transport() {}, panels() {}, mixed() {},
  /** @param {string} id of a song */
  async open(id) {},
  /** Songs and presets anew. */
  async look() {},
  /** The model of the open song anew, and its best take. */
  async renew() {},
  /** What is open is not there any more. */
  async lost() {},
};

export const deck = createDeck((fully, error) => {
  if (error) say(error.message);
  if ([404, 410].includes(error?.status)) studio.lost();
  if (fully) studio.refresh();
});

/* A take for the player: its tracks as they are rendered, and the mixture. */
export function deckTake(take) {
  const tracks = [...take.tracks.map((one) => ({ name: one.name, lazy: false, voice: "-" })), { name: "mixture", lazy: true, voice: "-" }];
  return { name: take.name, frames: take.frames, seconds: take.seconds, tracks };
}

export const tracksOf = (take) => take?.tracks.map((one) => one.name) ?? [];

export function stripOf(name) {
  state.strips[name] ??= { gain_db: 0, pan: 0, mute: false, solo: false };
  return state.strips[name];
}

export const isHeard = (name) => {
  const soloed = tracksOf(state.take).some((one) => stripOf(one).solo);
  return !stripOf(name).mute && (!soloed || stripOf(name).solo);
};

const amplitude = (db) => (db <= -60 ? 0 : 10 ** (db / 20));

/* Left and right of a strip: the pan turns the other side down, as a mix that is taken home does. */
function sides(gain, pan) {
  return [gain * Math.cos((Math.max(0, pan) * Math.PI) / 2), gain * Math.cos((Math.max(0, -pan) * Math.PI) / 2)];
}

const powerOf = (lufs) => 10 ** (lufs / 10);

/* By what the mixture is as loud as the strips together. The loudness of each strip is known, and that of the mixture
   once it is measured; where the strips make up the mixture, it tells what they have in common too: all up the gain is
   1, and one alone is as loud as it is. */
function matchingGain() {
  const parts = state.take.tracks.filter((one) => one.loudness_lufs !== null).map((one) => {
    const strip = stripOf(one.name);
    const [left, right] = sides(isHeard(one.name) ? amplitude(strip.gain_db) : 0, strip.pan);
    return { gain: Math.sqrt((left ** 2 + right ** 2) / 2), power: powerOf(one.loudness_lufs) };
  });
  const sum = parts.reduce((all, { power }) => all + power, 0);
  const alone = parts.reduce((all, { gain, power }) => all + gain ** 2 * power, 0);
  const measured = state.take.name.startsWith("first~") ? null : state.song.loudness_lufs ?? null;
  const whole = measured === null ? sum : powerOf(measured);
  const changes = state.take.tracks.some((one) => one.chain?.length);
  const pairs = parts.flatMap((one, index) => parts.slice(index + 1).map((two) => ({ gain: one.gain * two.gain, weight: Math.sqrt(one.power * two.power) })));
  const weight = pairs.reduce((all, one) => all + one.weight, 0);
  const common = changes || !weight ? 0 : ((whole - sum) * pairs.reduce((all, one) => all + one.gain * one.weight, 0)) / weight;
  return alone > 0 && whole > 0 ? Math.min(2, Math.sqrt(Math.max(alone / 4, alone + common) / whole)) : 1;
}

/* The gains of all tracks to the mixer, at once or with the next take. The mixture is as loud as the strips together. */
export function level(atOnce = true) {
  if (!state.take) return;
  const levels = {};
  if (state.blind) {
    levels[state.blind.stem] = [state.blind.gain, state.blind.gain];
    deck.setLevels(levels, atOnce);
    return;
  }
  for (const { name } of state.take.tracks) {
    const strip = stripOf(name);
    const gain = !state.mixtureOnly && isHeard(name) ? amplitude(strip.gain_db) : 0;
    levels[name] = sides(gain, strip.pan);
  }
  const gain = matchingGain();
  levels.mixture = state.mixtureOnly ? [gain, gain] : [0, 0];
  deck.setLevels(levels, atOnce);
}

/* The beats on which bars begin, once somebody told where one does. */
export function barLines() {
  const { beats = [], bar_s: told = null, per_bar: count = 4 } = state.tempo ?? {};
  if (told === null || !beats.length) return [];
  const first = beats.reduce((near, beat, index) => (Math.abs(beat - told) < Math.abs(beats[near] - told) ? index : near), 0);
  return beats.filter((_, index) => (index - first) % count === 0);
}

/* Stems first, what is left of the mixture last. */
export const stemsOf = (take) => tracksOf(take).filter((name) => name !== "residual");
