// @ts-check
/* Values of parameters: where they lie on a knob's way, how they are written, and lines of points of them over the song. */

import { clock, h, number } from "../../report/assets/dom.mjs";
import { deck, state, studio } from "./model.mjs";
import { t } from "./words.mjs";

/* Where on the way of a knob a value lies, and back: by equal ratios where ears are. */
export const place = (param, value) => (param.logarithmic ? Math.log(Math.max(value, param.low) / param.low) / Math.log(param.high / param.low) : (value - param.low) / (param.high - param.low));
export const valueAt = (param, part) => {
  const value = param.logarithmic ? param.low * (param.high / param.low) ** part : param.low + part * (param.high - param.low);
  if (param.steps?.length) return param.steps.reduce((near, one) => (Math.abs(one - value) < Math.abs(near - value) ? one : near));
  return param.kind === "int" ? Math.round(value) : Math.min(param.high, Math.max(param.low, Number(value.toPrecision(4))));
};

export const shown = (param, value) => `${number(value, Math.abs(value) >= 100 || param.kind === "int" ? 0 : Math.abs(value) >= 10 ? 1 : 2)} ${param.unit}`.trim();

export const plainName = (name) => name.replace(/_(hz|db|ms|seconds)$/, "").replaceAll("_", " ");

/* A line of points over the song: drag them, press on the line for one more, Delete takes one away. */
export function pointsLane(node, param, lane, set) {
  const label = `${node.name ?? node.effect} ${param.name}`;
  const points = [...lane.points].sort((a, b) => a[0] - b[0]);
  const write = (next, joined = "") => set(next.length ? { ...lane, points: [...next].sort((a, b) => a[0] - b[0]) } : param.default, joined);
  const left = (time) => `${(100 * time) / state.song.seconds}%`;
  const height = (value) => 100 * Math.min(1, Math.max(0, place(param, value)));
  const at = (box, event) => {
    const across = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const up = Math.min(1, Math.max(0, 1 - (event.clientY - box.top) / box.height));
    return [Number((across * state.song.seconds).toFixed(2)), valueAt(param, up)];
  };
  const line = h("svg:polyline", { "vector-effect": "non-scaling-stroke" });
  const dots = points.map(([time, value], index) => dot(index, time, value));
  const words = h("output.quiet", {}, `${points.length} ◆`);
  const plot = h("div.curve-plot", {}, h("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" }, line), dots);
  plot.onpointerdown = (event) => {
    if (event.button || event.target.closest("button")) return;
    const fresh = at(plot.getBoundingClientRect(), event);
    write([...points.filter(([time]) => time !== fresh[0]), fresh]);
    studio.panels();
  };
  plot.style.setProperty("--here", left(deck.seconds));
  trace(points);

  function trace(now) {
    const flat = now.flatMap(([time, value], index) => {
      const x = (1000 * time) / state.song.seconds;
      const before = lane.shape === "hold" && index ? [`${x},${100 - height(now[index - 1][1])}`] : [];
      return [...before, `${x},${100 - height(value)}`];
    });
    const [first, last] = [100 - height(now[0][1]), 100 - height(now.at(-1)[1])];
    line.setAttribute("points", [`0,${first}`, ...flat, `1000,${last}`].join(" "));
  }

  function dot(index, time, value) {
    const one = h("button.dot-point", { type: "button", role: "slider", "aria-label": `${label} ${clock(time)}`, "aria-valuemin": "0", "aria-valuemax": "1",
      "aria-valuenow": place(param, value).toFixed(3), "aria-valuetext": shown(param, value), title: `${clock(time)}: ${shown(param, value)}` });
    one.style.left = left(time);
    one.style.bottom = `${height(value)}%`;
    let now = null;
    one.onpointerdown = (event) => { one.setPointerCapture(event.pointerId); now = points; event.preventDefault(); one.focus(); };
    one.onpointermove = (event) => {
      if (!now) return;
      const fresh = at(plot.getBoundingClientRect(), event);
      fresh[0] = Math.min((points[index + 1]?.[0] ?? state.song.seconds + 0.01) - 0.01, Math.max((points[index - 1]?.[0] ?? -0.01) + 0.01, fresh[0]));
      now = points.map((each, other) => (other === index ? fresh : each));
      one.style.left = left(fresh[0]);
      one.style.bottom = `${height(fresh[1])}%`;
      words.textContent = `${clock(fresh[0])} · ${shown(param, fresh[1])}`;
      trace(now);
      write(now, `${label}/${index}`);
    };
    one.onpointerup = one.onpointercancel = () => {
      if (!now) return;
      now = null;
      if (state.past.length) state.past.at(-1).joined = "";
      studio.panels();
    };
    one.onkeydown = (event) => {
      const [across, up] = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.02], ArrowDown: [0, -0.02] }[event.key] ?? [0, 0];
      const gone = ["Delete", "Backspace"].includes(event.key);
      if (!across && !up && !gone) return;
      event.preventDefault();
      event.stopPropagation();
      const moved = [Number(Math.min(state.song.seconds, Math.max(0, time + across)).toFixed(2)), up ? valueAt(param, Math.min(1, Math.max(0, place(param, value) + up))) : value];
      const others = points.filter((_, other) => other !== index);
      if (!gone && others.some(([other]) => other === moved[0])) return;
      write(gone ? others : [...others, moved], `${label}/${index}/key`);
      studio.panels();
      if (!gone) /** @type {any} */ (document.querySelectorAll(`.curve-plot .dot-point[aria-label^=${JSON.stringify(label)}]`)[index])?.focus();
    };
    return one;
  }

  return h("div.param.lane", { role: "group", "aria-label": label }, h("span", {}, `${plainName(param.name)} ◆`), words,
    h("select.small", { "aria-label": `${label}: ${t("shape")}`, onchange: (event) => { set({ ...lane, shape: event.target.value }); studio.panels(); } },
      ["linear", "exponential", "hold"].filter((one) => one !== "exponential" || param.low > 0).map((one) => h("option", { value: one, selected: one === lane.shape }, t(`shape_${one}`)))),
    h("button.plain.small", { type: "button", onclick: () => {
      const time = Number(deck.seconds.toFixed(2));
      write([...points.filter(([other]) => other !== time), [time, points.findLast(([other]) => other <= time)?.[1] ?? points[0][1]]]);
      studio.panels();
    } }, t("addPoint")),
    h("button.link", { type: "button", "aria-label": `${t("remove")} ◆ ${label}`, onclick: () => { set(points[0][1]); studio.panels(); } }, "✕"), plot);
}
