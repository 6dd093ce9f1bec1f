// @ts-check
/* Decisions, where the page is served by `gbsep review`: each goes to review.json at once. */

import { h, say } from "./dom.mjs";
import { current } from "./sources.mjs";
import { page, player, query, report, state } from "./state.mjs";

const drafts = new Map(); // notes not yet added, by song: the page is drawn anew under them

export async function decide(decision) {
  const about = state.song;
  const answer = await fetch("review", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Gbsep-Token": new URLSearchParams(query).get("token") },
    body: JSON.stringify({ song: about.id, ...decision }),
  }).catch(() => null);
  if (!answer?.ok) {
    say(answer ? await answer.text() : "gbsep review is not running any more: start it again");
    return false;
  }
  about.review = await answer.json();
  const { status, notes } = about.review;
  for (const one of report.songs) if (one.folder === report.songs[about.place].folder) Object.assign(one, { status, notes: notes.length });
  page.build();
  say("Saved");
  return true;
}

export const reviewKeys = {
  a: () => state.song.renders.length > 0 && decide({ status: state.song.review.status === "accepted" ? null : "accepted" }),
  c: () => document.getElementById("note")?.focus(),
};

const isPending = (render) => {
  const wanted = state.song.review.swap[render.name] ?? [];
  const key = (pairs) => JSON.stringify(pairs.map((pair) => [...pair].sort()).sort());
  return key(wanted) !== key(render.swapped);
};

export function reviewPanel() {
  const { status, preset } = state.song.review;
  const set = (value, text) => h("button.verdict", { type: "button", "data-status": value, "aria-pressed": String(status === value),
    onclick: () => decide({ status: status === value ? null : value }) }, text);
  return h("section.panel.review", { id: "review", "aria-label": "Review" },
    h("div.tools", {}, h("h2", {}, "Your verdict"), h("span.space", {}), state.song.renders.length > 0 && [set("accepted", "✓ Accept"), set("rejected", "✕ Reject")]),
    h("ul.presets", {}, state.song.renders.map((render) => h("li", {},
      h("b", { dir: "auto" }, render.name),
      h("button.plain", { type: "button", "aria-pressed": String(preset === render.name), "aria-label": `Use ${render.name} for this song`,
        onclick: () => decide({ preset: preset === render.name ? null : render.name }) }, preset === render.name ? "★ Used for this song" : "☆ Use for this song"),
      swapButtons(render),
      isPending(render) && h("span.badge", { "data-status": "pending" }, "applies on the next render")))),
    noteForm());
}

function swapButtons(render) {
  const stems = render.stems;
  const pairs = stems.flatMap((first, index) => stems.slice(index + 1).map((second) => [first, second].sort()));
  const isOn = (pair) => (state.song.review.swap[render.name] ?? []).some((one) => [...one].sort().join("\n") === pair.join("\n"));
  return pairs.map((pair) => h("button.plain.swap", { type: "button", "aria-pressed": String(isOn(pair)),
    "aria-label": `Swap ${pair.join(" and ")} in ${render.name}`, onclick: () => decide({ swap: { preset: render.name, stems: pair } }) },
  `⇄ ${isOn(pair) ? "Swapped" : "Swap"} ${pair.join(" and ")}`));
}

function noteForm() {
  const text = h("textarea", { id: "note", rows: "1", maxlength: "2000", placeholder: "Note at the playhead", "aria-label": "Note at the playhead",
    oninput: () => drafts.set(state.song.id, text.value),
    onkeydown: (event) => {
      if (event.key === "Enter" && !event.shiftKey) {
        event.preventDefault();
        event.target.form.requestSubmit();
      } else if (event.key === "Escape") event.target.blur();
    } });
  text.value = drafts.get(state.song.id) ?? "";
  return h("form.noteform", { onsubmit: async (event) => {
    event.preventDefault();
    const { id } = state.song;
    const here = current();
    const words = text.value;
    if (!words.trim()) return;
    const about = here && here.kind !== "mixture" && here.kind !== "reference" ? { preset: state.song.renders[here.render].name, stem: here.name } : {};
    text.value = "";
    text.blur();
    drafts.delete(id);
    if (await decide({ note: { time_s: state.song.sources.length ? Math.round(player.seconds * 1000) / 1000 : 0, text: words.trim(), ...about } }) || drafts.get(id)) return;
    drafts.set(id, words);
    if (state.song.id === id) document.getElementById("note").value = words;
  } }, text, h("button.main", { type: "submit" }, "Add note"));
}
