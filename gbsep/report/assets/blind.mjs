// @ts-check
/* The blind test: names hidden, order shuffled. */

import { chips, h, say, shuffled } from "./dom.mjs";
import { current, judged, listen, rendersOf, sourceOf } from "./sources.mjs";
import { page, player, state } from "./state.mjs";

export function toggleBlind() {
  if (state.blind) {
    state.blind = null;
  } else {
    const choice = judged();
    if (!choice.length) {
      say("A blind test needs two renders of one stem");
      return;
    }
    const here = current();
    const stem = choice.includes(here?.name) ? here.name : choice[0];
    state.blind = { tally: state.song.renders.map(() => 0), rounds: 0 };
    round(stem);
  }
  page.build();
}

function round(stem) {
  Object.assign(state.blind, { stem, vote: false, order: shuffled(rendersOf(stem)) });
  state.last = null;
  state.kept.render = state.blind.order[0];
  player.choose(sourceOf(stem, state.blind.order[0]));
}

function vote(render) {
  state.blind.vote = true;
  state.blind.choice = render;
  state.blind.rounds += 1;
  state.blind.tally[render] += 1;
  page.build();
  say(`You chose ${state.song.renders[render].name}`);
}

export function blindPanel() {
  const letter = (index) => String.fromCharCode(65 + index);
  const cards = state.blind.order.map((render, index) => h(state.blind.vote && state.blind.choice === render ? "li.card.chosen" : "li.card", {},
    h("button.letter", { type: "button", "aria-label": `Listen to ${letter(index)}`, onclick: () => listen(sourceOf(state.blind.stem, render)) }, letter(index)),
    state.blind.vote
      ? [h("b", { dir: "auto" }, state.song.renders[render].name), h("span.quiet", {}, `${state.blind.tally[render]} of ${state.blind.rounds}`)]
      : h("button.main", { type: "button", onclick: () => vote(render) }, `${letter(index)} is best`)));
  const choice = judged();
  return h("section.panel.blind", { id: "blindtest", "aria-label": "Blind test" },
    h("h2", {}, "Blind test"),
    h("p.quiet", {}, state.blind.vote ? "Names are shown. Another round shuffles them again."
      : "Same stem, equal loudness, names hidden, order shuffled. Switch with 1 to 9, then vote."),
    chips("Stem to judge", choice.map((name) => ({ key: name, text: name, tint: name })), state.blind.stem, (name) => { round(name); page.build(); }),
    h("ol.cards", {}, cards),
    h("div.row", {},
      state.blind.vote && h("button.main", { type: "button", id: "again", onclick: () => { round(state.blind.stem); page.build(); } }, "Next round"),
      h("button.plain", { type: "button", onclick: toggleBlind }, "End the test")));
}
