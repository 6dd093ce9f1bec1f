// @ts-check
/* The review inside the studio: accept, reject, swap, notes at a time, the preset to use; the blind test on its page. */

import { addressOf, post } from "./api.mjs";
import { clock, h, say } from "../../report/assets/dom.mjs";
import { deck, state, studio } from "./model.mjs";
import { t } from "./words.mjs";

async function decide(decision) {
  try {
    state.song.review = await post(`/api/songs/${state.song.id}/review`, { song: state.song.id, ...decision });
    studio.panels();
  } catch (error) {
    say(error.message);
  }
}

export function reviewPanel() {
  if (!state.take || state.take.name.startsWith("first~")) return h("p.quiet", {}, t(state.take ? "waitingRest" : "empty"));
  const { status, preset, notes } = state.song.review;
  const set = (value) => decide({ status: status === value ? null : value });
  const text = h("textarea", { id: "note", rows: "2", maxlength: "2000", "aria-label": t("note") });
  const stems = state.take.tracks.map((one) => one.name);
  const partner = ["guitar", "other"].find((name) => stems.includes(name));
  return h("div.deciding", {},
    h("div.row", {},
      h("button.plain.toggle", { type: "button", id: "accept", "aria-pressed": String(status === "accepted"), onclick: () => set("accepted") }, `✓ ${t("accept")}`),
      h("button.plain.toggle", { type: "button", id: "reject", "aria-pressed": String(status === "rejected"), onclick: () => set("rejected") }, `✕ ${t("reject")}`),
      h("span.badge", { "data-status": status ?? "" }, t(status ?? "unreviewed")),
      h("button.plain.toggle", { type: "button", id: "usepreset", "aria-pressed": String(preset === state.take.name), onclick: () => decide({ preset: preset === state.take.name ? null : state.take.name }) }, `${t("usePreset")}: ${state.take.name}`),
      stems.includes("bass") && partner && h("button.plain.toggle", { type: "button", id: "swap", "aria-pressed": String(Boolean(state.song.review.swap[state.take.name])), onclick: () => decide({ swap: { preset: state.take.name, stems: ["bass", partner] } }) }, t("swap")),
      h("a.plain.button", { href: addressOf("/review") }, t("blind"))),
    h("div.row", {}, text, h("button.plain", { type: "button", id: "addnote", onclick: () => {
      const words = /** @type {any} */ (text).value;
      if (words.trim()) decide({ note: { time_s: Number(deck.seconds.toFixed(3)), text: words, preset: state.take.name, stem: null } });
    } }, t("note"))),
    h("ul.list", {}, notes.map((one) => h("li", {},
      h("button.time", { type: "button", onclick: () => deck.seek(one.time_s) }, clock(one.time_s)),
      h("span", { dir: "auto" }, one.text),
      h("button.link", { type: "button", "aria-label": `${t("remove")}: ${one.text}`, onclick: () => decide({ remove_note: { written_at: one.written_at, text: one.text } }) }, "✕")))));
}
