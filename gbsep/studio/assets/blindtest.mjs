// @ts-check
/* The blind test: one stem of several renders, names hidden, order shuffled, all as loud as the quietest. */

import { hearAll } from "./chain.mjs";
import { h, say, shuffled } from "../../report/assets/dom.mjs";
import { deck, deckTake, level, state, studio } from "./model.mjs";
import { t } from "./words.mjs";

const whole = () => state.song.takes.filter((one) => !one.name.startsWith("first~"));
const loudness = (take, stem) => take.tracks.find((one) => one.name === stem)?.loudness_lufs ?? null;

/* The stems that two renders or more have. */
export function judged() {
  const names = whole().flatMap((take) => take.tracks.filter((one) => loudness(take, one.name) !== null).map((one) => one.name));
  return [...new Set(names)].filter((name) => names.filter((other) => other === name).length > 1);
}

export function beginBlind(stem = judged().includes(state.stem) ? state.stem : judged()[0]) {
  if (!stem) {
    say(t("blindNeeds"));
    return;
  }
  const order = shuffled(whole().filter((take) => loudness(take, stem) !== null));
  const before = state.blind?.stem === stem ? state.blind : { tally: {}, rounds: 0 };
  state.blind = { stem, order, chosen: null, at: 0, gain: 1, tally: before.tally, rounds: before.rounds };
  hearLetter(0);
}

/* The letter of that place, from where the playhead is. */
export function hearLetter(index) {
  const { order, stem } = state.blind;
  if (!order[index]) return;
  state.blind.at = index;
  const quietest = Math.min(...order.map((take) => loudness(take, stem)));
  state.blind.gain = 10 ** ((quietest - loudness(order[index], stem)) / 20);
  level(false);
  deck.load(state.song, deckTake(order[index]));
  studio.panels();
}

export function endBlind() {
  if (!state.blind) return;
  state.blind = null;
  level(false);
  Promise.resolve(deck.load(state.song, deckTake(state.take))).then(hearAll);
  studio.panels();
}

function vote(take) {
  const { tally } = state.blind;
  state.blind.chosen = take.name;
  state.blind.rounds += 1;
  tally[take.name] = (tally[take.name] ?? 0) + 1;
  studio.panels();
}

export function blindPanel(use) {
  const { order, stem, chosen, at, tally, rounds } = state.blind;
  const letter = (index) => String.fromCharCode(65 + index);
  return h("section.blindtest", { "aria-label": t("blind") },
    h("p.quiet", {}, t(chosen ? "blindShown" : "blindHow")),
    h("div.chips", { role: "group", "aria-label": t("stems") }, judged().map((name) => h("button.chip", { type: "button", "aria-pressed": String(name === stem), onclick: () => beginBlind(name) }, t(name)))),
    h("ol.cards", {}, order.map((take, index) => h(chosen === take.name ? "li.card.chosen" : "li.card", {},
      h("button.letter", { type: "button", "aria-pressed": String(index === at), "aria-label": `${t("play")} ${letter(index)}`, onclick: () => hearLetter(index) }, letter(index)),
      chosen
        ? [h("b", { dir: "auto" }, take.name), h("span.quiet", {}, `${tally[take.name] ?? 0} / ${rounds}`), h("button.plain.small", { type: "button", onclick: () => use(take.name) }, t("usePreset"))]
        : h("button.main", { type: "button", onclick: () => vote(take) }, `${letter(index)} ${t("isBest")}`)))),
    h("div.row", {}, chosen && h("button.main", { type: "button", id: "again", onclick: () => beginBlind(stem) }, t("nextRound")),
      h("button.plain", { type: "button", id: "endblind", onclick: endBlind }, t("endBlind"))));
}
