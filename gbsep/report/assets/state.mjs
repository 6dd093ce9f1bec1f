// @ts-check
/* What the page shows and what sounds: the one place where modules share what changes. */

import { say, take } from "./dom.mjs";
import { createPlayer } from "./player.mjs";
import { createStore } from "./store.mjs";

export const report = JSON.parse(take("report"));
export const query = report.served ? location.search : "";
export const load = createStore(report.folder, query);

/**
 * song: the model of the song that is shown, null before the first is there.
 * blind: the blind test that runs: {stem, order: [render], vote, choice, tally, rounds}.
 * matched: whether sounds are heard at equal loudness.
 * last: the source before this one, for A and B.
 * view: the seconds that the lanes show.
 * kept: stem and render that were heard last, while the mixture sounds.
 * picked: the note that was picked: {id of its source, note}.
 * lanes: {id, element, canvas, markers, button} of each source on the page.
 */
export const state = {
  song: null, blind: null, matched: true, last: null, view: { start: 0, end: 1 }, kept: {}, picked: null, lanes: [],
};

/* What the page does as a whole, for its parts to ask for; page.mjs fills it. */
export const page = {
  build() {}, paint() {}, refresh() {},
  /** @param {number} index of a song */
  open(index) {},
  /** @param {number} id of a source @param {number[]} note of it */
  pickNote(id, note) {},
};

export const player = createPlayer(load, ({ error }) => {
  if (error) say(error);
  page.refresh();
});
