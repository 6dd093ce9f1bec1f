// @ts-check
/* Figures against the value of a parameter that was swept. */

import { colour, h, number } from "./dom.mjs";
import { listen, sourceOf } from "./sources.mjs";
import { report, state } from "./state.mjs";

export function sweep() {
  const keys = [...new Set(state.song.renders.flatMap((one) => Object.keys(one.overrides)))];
  const valuesOf = (key) => new Set(state.song.renders.map((one) => one.overrides[key]).filter((one) => typeof one === "number"));
  const axis = keys.filter((key) => valuesOf(key).size >= 3)[0];
  if (!axis) return null;
  const choices = Object.keys(report.columns).filter((key) =>
    state.song.renders.filter((one) => Object.values(one.figures).some((row) => typeof row[key] === "number")).length >= 3);
  const plot = h("div.plot", {});
  const draw = (key) => plot.replaceChildren(...curve(axis, key));
  const pick = h("select", { "aria-label": "Figure to plot", id: "plotted", onchange: (event) => draw(event.target.value) },
    choices.map((key) => h("option", { value: key }, report.columns[key].label)));
  draw(choices[0]);
  return h("section.panel", { id: "sweep", "aria-label": "Sweep" }, h("h2", {}, "Sweep of ", h("code", {}, axis), pick), plot);
}

function curve(axis, key) {
  const [width, height, left, right, top, bottom] = [760, 260, 52, 16, 14, 38];
  const column = report.columns[key];
  const lines = new Map();
  for (const [index, render] of state.song.renders.entries()) {
    const at = render.overrides[axis];
    if (typeof at !== "number") continue;
    const others = Object.entries(render.overrides).filter(([name]) => name !== axis).map(([name, value]) => `${name.split(".").at(-1)}=${value}`);
    for (const [track, row] of Object.entries(render.figures)) {
      if (typeof row[key] !== "number") continue;
      const name = [track, ...others].join(", ");
      if (!lines.has(name)) lines.set(name, { track, others: others.join(", "), points: [] });
      lines.get(name).points.push({ x: at, y: row[key], index });
    }
  }
  const points = [...lines.values()].flatMap((line) => line.points);
  const xs = [Math.min(...points.map((one) => one.x)), Math.max(...points.map((one) => one.x))];
  const [low, high] = [Math.min(...points.map((one) => one.y)), Math.max(...points.map((one) => one.y))];
  const size = 10 ** Math.floor(Math.log10(high - low || 1));
  const unit = [0.2, 0.5, 1, 2, 5].map((one) => one * size).find((one) => (high - low || 1) / one <= 5);
  const ys = [Math.floor((low - unit / 4) / unit) * unit, Math.ceil((high + unit / 4) / unit) * unit];
  const x = (value) => left + ((value - xs[0]) / (xs[1] - xs[0] || 1)) * (width - left - right);
  const y = (value) => height - bottom - ((value - ys[0]) / (ys[1] - ys[0])) * (height - top - bottom);
  const text = (at, to, anchor, what) => h("svg:text", { x: at, y: to, "text-anchor": anchor }, what);
  const ticks = Array.from({ length: Math.round((ys[1] - ys[0]) / unit) + 1 }, (_, index) => ys[0] + index * unit);
  const steps = [...new Set(points.map((one) => one.x))].sort((a, b) => a - b);
  const shown = steps.filter((_, index) => index % Math.ceil(steps.length / 12) === 0);
  const svg = h("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${column.label} against ${axis}` },
    ticks.map((tick) => [h("svg:line.grid", { x1: left, x2: width - right, y1: y(tick), y2: y(tick) }), text(left - 8, y(tick) + 4, "end", number(tick, unit < 0.1 ? 2 : unit < 1 ? 1 : 0))]),
    shown.map((step) => text(x(step), height - bottom + 18, "middle", String(step))),
    text(width - right, height - 4, "end", `${axis.split(".").at(-1)}`));
  const legend = h("p.legend", {}, h("span.tag", {}, [column.label, column.unit].filter(Boolean).join(", ")), h("span.space", {}));
  const kinds = [...new Set([...lines.values()].map((line) => line.others))];
  for (const [name, { track, others, points: line }] of lines) {
    const dashes = ["none", "7 4", "2 3", "9 3 2 3"][kinds.indexOf(others) % 4];
    line.sort((a, b) => a.x - b.x);
    const peak = column.better === "lower" ? Math.min(...line.map((one) => one.y)) : Math.max(...line.map((one) => one.y));
    const group = colour(h("svg:g.curve", {}), track);
    group.append(h("svg:polyline", { points: line.map((one) => `${x(one.x)},${y(one.y)}`).join(" "), "stroke-dasharray": dashes }));
    for (const one of line) {
      const wins = column.better && one.y === peak;
      group.append(h(wins ? "svg:circle.best" : "svg:circle", { cx: x(one.x), cy: y(one.y), r: wins ? 7 : 4.5, tabindex: 0, role: "button",
        "aria-label": `${name}, ${one.x}: ${number(one.y, 2)} ${column.unit}${wins ? ", best" : ""}`,
        onclick: () => listen(sourceOf(track, one.index)), onkeydown: (event) => event.key === "Enter" && listen(sourceOf(track, one.index)) },
      h("svg:title", {}, `${name}, ${one.x}: ${number(one.y, 2)} ${column.unit}`)));
    }
    const sample = h("svg", { viewBox: "0 0 28 8", width: "28", height: "8", "aria-hidden": "true" },
      h("svg:line", { x1: 0, x2: 28, y1: 4, y2: 4, stroke: "currentColor", "stroke-width": 2.5, "stroke-dasharray": dashes }));
    legend.append(h("span.tag", {}, colour(h("span.curve", {}, sample), track), " ", name));
    svg.append(group);
  }
  return [legend, svg];
}
