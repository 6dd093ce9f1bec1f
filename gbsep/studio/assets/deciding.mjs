// @ts-check
/* The review inside the studio: accept, reject, swap, notes at a time, the preset to use, the blind test. */

import { beginBlind, blindPanel, judged } from "./blindtest.mjs";
import { addressOf, post } from "./api.mjs";
import { clock, h, say } from "../../report/assets/dom.mjs";
import { deck, state, studio } from "./model.mjs";
import { t } from "./words.mjs";

async function decide(decision) {
  try {
    state.song.review = await post(`/api/songs/${state.song.id}/review`, { song: state.song.id, ...decision });
    const row = state.library.songs.find((one) => one.id === state.song.id);
    if (row) Object.assign(row, { status: state.song.review.status, best: state.song.review.preset });
    studio.sidebar();
    studio.panels();
  } catch (error) {
    say(error.message);
  }
}

const judge = (value) => decide({ status: state.song.review.status === value ? null : value });

/* The verdict, docked beside the player: it is given while one listens. */
export function verdict() {
  const button = (status, word, sign) => h("button.plain.toggle", { type: "button", id: `dock-${status}`, "aria-pressed": "false", "aria-label": t(word), title: t(word), onclick: () => judge(status) }, sign);
  return h("span.group.verdict", { role: "group", "aria-label": t("review") }, button("accepted", "accept", "✓"), button("rejected", "reject", "✕"));
}

export function dressVerdict() {
  for (const status of ["accepted", "rejected"]) {
    const button = document.getElementById(`dock-${status}`);
    button?.setAttribute("aria-pressed", String(state.song.review.status === status));
    button?.toggleAttribute("disabled", !state.take || state.take.name.startsWith("first~"));
  }
}

export function reviewPanel() {
  if (state.blind) return blindPanel((preset) => decide({ preset }));
  if (!state.take || state.take.name.startsWith("first~")) return h("p.quiet", {}, t(state.take ? "waitingRest" : "empty"));
  const { status, preset, notes } = state.song.review;
  const text = h("textarea", { id: "note", rows: "2", maxlength: "2000", "aria-label": t("note") });
  const stems = state.take.tracks.map((one) => one.name);
  const partner = ["guitar", "other"].find((name) => stems.includes(name));
  const swaps = [["swap", ["bass", partner]], ["swapGuitars", ["guitar1", "guitar2"]]].filter(([, pair]) => pair.every((name) => stems.includes(name)));
  const isSwapped = (pair) => (state.song.review.swap[state.take.name] ?? []).some((one) => pair.every((name) => one.includes(name)));
  return h("div.deciding", {},
    h("div.row", {},
      h("button.plain.toggle", { type: "button", id: "accept", "aria-pressed": String(status === "accepted"), onclick: () => judge("accepted") }, `✓ ${t("accept")}`),
      h("button.plain.toggle", { type: "button", id: "reject", "aria-pressed": String(status === "rejected"), onclick: () => judge("rejected") }, `✕ ${t("reject")}`),
      h("span.badge", { "data-status": status ?? "" }, t(status ?? "unreviewed")),
      h("button.plain.toggle", { type: "button", id: "usepreset", "aria-pressed": String(preset === state.take.name), onclick: () => decide({ preset: preset === state.take.name ? null : state.take.name }) }, `${t("usePreset")}: ${state.take.name}`),
      swaps.map(([id, pair]) => h("button.plain.toggle", { type: "button", id, "aria-pressed": String(isSwapped(pair)), onclick: () => decide({ swap: { preset: state.take.name, stems: pair } }) }, t(id))),
      h("button.plain", { type: "button", id: "blindbegin", disabled: judged().length === 0, title: t("blindNeeds"), onclick: () => beginBlind() }, t("blind")),
      h("a.button", { href: addressOf("/review") }, t("figures"))),
    h("div.row", {}, text, h("button.plain", { type: "button", id: "addnote", onclick: () => {
      const words = /** @type {any} */ (text).value;
      if (words.trim()) decide({ note: { time_s: Number(deck.seconds.toFixed(3)), text: words, preset: state.take.name, stem: null } });
    } }, t("note"))),
    h("ul.list", {}, notes.map((one) => h("li", {},
      h("button.time", { type: "button", onclick: () => deck.seek(one.time_s) }, clock(one.time_s)),
      h("span", { dir: "auto" }, one.text),
      h("button.link", { type: "button", "aria-label": `${t("remove")}: ${one.text}`, onclick: () => decide({ remove_note: { written_at: one.written_at, text: one.text } }) }, "✕")))));
}
