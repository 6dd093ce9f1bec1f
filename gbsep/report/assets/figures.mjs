// @ts-check
/* The table of figures. */

import { colour, h, number } from "./dom.mjs";
import { choose, rendersOf, sourceOf, titleOf, tracks } from "./sources.mjs";
import { player, report, state } from "./state.mjs";

function best(track, key) {
  const better = report.columns[key].better;
  const values = rendersOf(track).map((index) => state.song.renders[index].figures[track]?.[key]).filter((one) => typeof one === "number");
  if (!better || values.length < 2) return null;
  // What the diagnosis can find depends on the backend: its count is no contest between two of them.
  if (key === "findings" && new Set(rendersOf(track).map((index) => state.song.renders[index].recipe.split(",")[0])).size > 1) return null;
  const top = better === "higher" ? Math.max(...values) : Math.min(...values);
  return values.every((value) => value === top) ? null : top;
}

export function figures() {
  const measured = tracks().filter((track) => state.song.renders.some((one) => one.figures[track]));
  const keys = Object.keys(report.columns).filter((key) =>
    state.song.renders.some((one) => Object.values(one.figures).some((row) => typeof row[key] === "number")));
  const body = measured.map((track) => h("tbody", {},
    colour(h("tr.stem", {}, h("th", { colspan: keys.length + 1, scope: "rowgroup" }, h("i.dot", {}), titleOf(track))), track),
    rendersOf(track).map((index) => {
      const row = state.song.renders[index].figures[track] ?? {};
      return h("tr", {},
        h("th", { scope: "row", title: state.song.renders[index].title },
          h("button.link", { type: "button", dir: "auto", onclick: () => { choose(sourceOf(track, index)); player.play(); } }, state.song.renders[index].name)),
        keys.map((key) => {
          const top = best(track, key);
          const first = top !== null && row[key] === top;
          return h(first ? "td.best" : "td", {}, number(row[key], report.columns[key].unit ? 1 : 0),
            first && h("span.sr", {}, " (best)"));
        }));
    })));
  return h("section.panel", { id: "figures", "aria-label": "Figures" },
    h("h2", {}, "Figures"),
    h("div.scroll", { tabindex: "0", role: "region", "aria-label": "Figures, scrollable" },
      h("table", {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Preset"), keys.map((key) => {
          const { label, unit, meaning, better } = report.columns[key];
          const arrow = { higher: " ↑", lower: " ↓" }[better] ?? "";
          return h("th", { scope: "col", title: `${meaning}${better ? `; ${better} is better` : ""}` }, label + arrow,
            unit && h("small", {}, unit));
        }))),
        body)));
}
