// @ts-check
/* The other parts of the page: songs, heading, findings, notes, recipes. */

import { toggleBlind } from "./blind.mjs";
import { clock, colour, h } from "./dom.mjs";
import { help } from "./keys.mjs";
import { decide } from "./review.mjs";
import { goTo, placeOf } from "./sources.mjs";
import { page, query, report, state } from "./state.mjs";
import { toggleTheme } from "./theme.mjs";

function glyph(one) {
  if (!one.renders) return "!";
  return { accepted: "✓", rejected: "✕" }[one.status] ?? "○";
}

function unreviewed() {
  const heard = report.songs.filter((one) => one.renders);
  const left = heard.filter((one) => !one.status).length;
  return left ? `${left} of ${heard.length} unreviewed` : "all reviewed";
}

let unfolded = true;

export function overview() {
  if (report.songs.length < 2) return null;
  const list = h("ol.songs", {}, report.songs.map((one, index) => h("li", {},
    h("button.link", { type: "button", dir: "auto", "aria-current": index === state.song.place ? "true" : null, onclick: () => page.open(index) }, one.name),
    h("span.badge", { "data-status": one.status ?? "" }, `${glyph(one)} ${one.renders ? one.status ?? "unreviewed" : "failed"}`),
    one.notes > 0 && h("span.quiet", {}, one.notes === 1 ? "1 note" : `${one.notes} notes`),
    one.failed.length > 0 && h("span.failure", { dir: "auto" }, `${one.failed.join(", ")} failed`))));
  return h("details.panel", { id: "songs", open: unfolded, ontoggle: (event) => { unfolded = event.target.open; } },
    h("summary", {}, h("b", {}, "Songs"), " ", h("span.quiet", {}, unreviewed())), list);
}

export function header() {
  const several = report.songs.length > 1;
  const picker = several && h("select.picker", { "aria-label": "Song", id: "song", onchange: (event) => page.open(Number(event.target.value)) },
    report.songs.map((one, index) => h("option", { value: index }, `${glyph(one)} ${one.name}`)));
  const count = several && h("span.quiet", { id: "unreviewed" }, unreviewed());
  return h("header.top", {},
    h("span.brand", { "aria-hidden": "true" }, h("i", {}), h("i", {}), h("i", {}), "gbsep"),
    h("span.sr", {}, "gbsep report"),
    picker, count, h("span.space", {}),
    h("button.plain", { type: "button", id: "blind", "aria-pressed": "false", onclick: toggleBlind }, "Blind test"),
    h("button.plain", { type: "button", "aria-label": "Dark or light", title: "Dark or light (T)", onclick: toggleTheme }, "◐"),
    h("button.plain", { type: "button", "aria-label": "Keyboard help", title: "Keys (?)", onclick: help }, "?"));
}

export function heading() {
  const facts = [clock(state.song.seconds, 0), `${(state.song.sample_rate_hz / 1000).toFixed(1)} kHz`,
    state.song.renders.length === 1 ? "1 render" : `${state.song.renders.length} renders`];
  return h("section.heading", {},
    h("h1", { dir: "auto" }, state.song.name),
    h("p.quiet", {}, facts.join(" · ")),
    state.song.renders.length > 0 && h("span.badge", { id: "status", "data-status": state.song.review.status ?? "" }, state.song.review.status ?? "unreviewed"),
    Object.entries(state.song.failures).map(([preset, why]) => h("p.failure", {}, h("b", { dir: "auto" }, preset), " failed: ", why)));
}

export function findings() {
  const found = state.song.renders.flatMap((render, index) => render.findings.map((one) => ({ ...one, index })));
  if (!found.length) return null;
  found.sort((a, b) => a.start_s - b.start_s);
  return h("section.panel", { id: "findings", "aria-label": "Findings" },
    h("h2", {}, "Findings"),
    h("ul.list.long", { tabindex: "0", "aria-label": "Findings" }, found.map((one) => h("li", {},
      h("button.time", { type: "button", onclick: () => goTo(one) }, `${clock(one.start_s)} – ${clock(one.end_s)}`),
      h("span.severity", { "data-severity": one.severity }, `${one.severity === "error" ? "▲ " : "△ "}${one.kind.replaceAll("_", " ")}`),
      colour(h("span.tag", {}, h("i.dot", {}), h("span", { dir: "auto" }, state.song.renders[one.index].name), " · ", one.stem), one.stem),
      h("span", { dir: "auto" }, one.message)))));
}

export function recipes() {
  return h("section.panel", { id: "recipes", "aria-label": "How they were made" },
    h("h2", {}, "How they were made"),
    h("ul.recipes", {}, state.song.renders.map((render, index) => h("li", {},
      h("b", { dir: "auto" }, render.name), " ", h("span", { dir: "auto" }, render.title), h("br", {}),
      h("span.quiet", {}, render.recipe), " ",
      state.song.sources.filter((one) => one.render === index && one.file).map((one) =>
        h("a", { href: one.file + query, download: report.served ? "" : null }, one.name)),
      render.swapped.length > 0 && h("p.quiet", {}, `Swapped as reviewed: ${render.swapped.map((pair) => pair.join(" and ")).join(", ")}`),
      render.remarks.map((text) => h("p.warning", { dir: "auto" }, text))))));
}

export function notes() {
  if (!state.song.review.notes.length && !report.served) return null;
  return h("section.panel", { id: "notes", "aria-label": "Notes" }, h("h2", {}, "Notes"),
    state.song.review.notes.length === 0 && h("p.quiet", {}, "None yet. Press C to write one at the playhead."),
    h("ul.list", {}, state.song.review.notes.map((note) => h("li", {},
      h("button.time", { type: "button", onclick: () => goTo(placeOf(note)) }, clock(note.time_s)),
      (note.preset || note.stem) && h("span.tag", { dir: "auto" }, [note.preset, note.stem].filter(Boolean).join(" · ")),
      h("span.text", { dir: "auto" }, note.text),
      report.served && h("button.plain", { type: "button", "aria-label": `Remove the note at ${clock(note.time_s)}`, onclick: () => decide({ remove_note: { written_at: note.written_at, text: note.text } }) }, "×")))));
}
