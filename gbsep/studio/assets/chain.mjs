// @ts-check
/* The chain editor: the effects of a stem with their knobs; what is turned is heard through the real chain at once. */

import { post } from "./api.mjs";
import { h, number, say } from "../../report/assets/dom.mjs";
import { separate } from "./library.mjs";
import { deck, state, stemsOf, studio } from "./model.mjs";
import { t } from "./words.mjs";

const copy = (value) => JSON.parse(JSON.stringify(value));
const text = (value) => JSON.stringify(value);
const MAX_PAST = 200;

/* The chains of a take, as it was rendered. */
export function beginChains() {
  state.rendered = Object.fromEntries(stemsOf(state.take).map((name) => [name, copy(trackOf(name).chain ?? [])]));
  state.chains = copy(state.rendered);
  Object.assign(state, { past: [], future: [], original: false });
  state.bypassed = {};
  if (!stemsOf(state.take).includes(state.stem)) state.stem = stemsOf(state.take)[0] ?? null;
}

const trackOf = (name) => state.take.tracks.find((one) => one.name === name);

/* What is heard of a stem: its chain without what is bypassed. */
function soundingChain(name) {
  return state.chains[name].filter((_, index) => !state.bypassed[name]?.has(index));
}

const sending = new Map();

/* Have a stem heard as its chain now is: one request at a time, the last wish counts. */
export async function hear(name) {
  const chain = state.original ? state.rendered[name] : soundingChain(name);
  if (text(chain) === text(state.rendered[name])) {
    deck.setVoice(name, "-");
    return;
  }
  if (sending.has(name)) {
    sending.set(name, chain);
    return;
  }
  sending.set(name, null);
  try {
    const { voice } = await post(`/api/songs/${state.song.id}/chain`, { take: state.take.name, stem: name, chain });
    state.fault = null;
    deck.setVoice(name, voice);
  } catch (error) {
    state.fault = error.message;
    say(error.message);
  }
  const next = sending.get(name);
  sending.delete(name);
  if (next && text(next) !== text(chain)) hear(name);
}

/* A change of the chain of the stem that is shown; `joined` to the one before while a knob is being turned. */
function change(alter, joined = "") {
  const name = state.stem;
  const before = copy(state.chains[name]);
  const fresh = copy(before);
  alter(fresh);
  if (text(fresh) === text(before)) return;
  const last = state.past.at(-1);
  if (!(joined && last?.joined === joined)) state.past.push({ name, chain: before, joined });
  if (state.past.length > MAX_PAST) state.past.shift();
  state.future = [];
  state.chains[name] = fresh;
  hear(name);
  dressButtons();
}

function travel(from, to) {
  const one = from.pop();
  if (!one) return;
  to.push({ name: one.name, chain: copy(state.chains[one.name]), joined: "" });
  state.chains[one.name] = one.chain;
  state.bypassed[one.name]?.clear();
  state.stem = one.name;
  hear(one.name);
  studio.panels();
}

export const undo = () => travel(state.past, state.future);
export const redo = () => travel(state.future, state.past);

export function toggleOriginal() {
  state.original = !state.original;
  for (const name of stemsOf(state.take)) hear(name);
  dressButtons();
}

function dressButtons() {
  const set = (id, off) => document.getElementById(id)?.toggleAttribute("disabled", off);
  set("undo", !state.past.length);
  set("redo", !state.future.length);
  document.getElementById("original")?.setAttribute("aria-pressed", String(state.original));
}

export function chainPanel() {
  if (!state.take || !state.stem) return h("p.quiet", {}, t("empty"));
  const names = stemsOf(state.take);
  const chain = state.chains[state.stem];
  const panel = h("div.chain", {},
    h("div.tools", {},
      h("div.chips", { role: "group", "aria-label": t("stems") }, names.map((name) => h("button.chip", { type: "button", "aria-pressed": String(name === state.stem), onclick: () => { state.stem = name; studio.panels(); } }, t(name)))),
      h("span.space", {}),
      h("button.plain", { type: "button", id: "undo", disabled: !state.past.length, onclick: undo }, t("undo")),
      h("button.plain", { type: "button", id: "redo", disabled: !state.future.length, onclick: redo }, t("redo")),
      h("button.plain.toggle", { type: "button", id: "original", "aria-pressed": String(state.original), onclick: toggleOriginal }, t("compare"))),
    chain.length ? h("ol.effects", {}, chain.map((node, index) => card(node, index, chain.length))) : h("p.quiet", {}, t("none")),
    adder(), saver());
  return panel;
}

function adder() {
  const select = h("select", { id: "effect", "aria-label": t("addEffect") }, Object.entries(state.effects).map(([name, spec]) => h("option", { value: name, title: spec.summary }, `${name} – ${spec.summary}`)));
  return h("div.row", {}, select, h("button.plain", { type: "button", id: "add", onclick: () => {
    change((chain) => chain.push(fresh(/** @type {any} */ (select).value)));
    studio.panels();
  } }, t("add")));
}

/* An effect with what it needs to be given. */
function fresh(name) {
  const node = { effect: name };
  for (const param of state.effects[name].params) {
    if (param.default !== null) continue;
    if (param.kind === "choice") node[param.name] = param.choices[0];
    else if (param.kind === "stem") node[param.name] = stemsOf(state.take).find((one) => one !== state.stem) ?? state.stem;
    else if (param.kind === "float" || param.kind === "int") node[param.name] = param.cutoff ? 1000 : param.low;
    else node[param.name] = "";
  }
  return node;
}

function card(node, index, count) {
  const spec = state.effects[node.effect];
  const off = state.bypassed[state.stem]?.has(index) ?? false;
  const move = (by) => { change((chain) => chain.splice(index + by, 0, ...chain.splice(index, 1))); state.bypassed[state.stem]?.clear(); studio.panels(); };
  const wet = { name: "wet", unit: "", low: 0, high: 1, default: 1, kind: "float", automatable: true };
  return h(off ? "li.effect.off" : "li.effect", {},
    h("div.tools", {}, h("b", {}, node.effect === "Plugin" ? node.name ?? node.effect : node.effect), h("span.quiet", {}, spec?.summary ?? ""), h("span.space", {}),
      h("button.plain.toggle.small", { type: "button", "aria-pressed": String(off), "aria-label": `${t("bypass")} ${node.effect}`, onclick: () => {
        state.bypassed[state.stem] ??= new Set();
        if (off) state.bypassed[state.stem].delete(index); else state.bypassed[state.stem].add(index);
        hear(state.stem);
        studio.panels();
      } }, t("bypass")),
      h("button.plain.small", { type: "button", disabled: index === 0, "aria-label": `${t("earlier")} ${node.effect}`, onclick: () => move(-1) }, "↑"),
      h("button.plain.small", { type: "button", disabled: index === count - 1, "aria-label": `${t("later")} ${node.effect}`, onclick: () => move(1) }, "↓"),
      h("button.plain.small", { type: "button", "aria-label": `${t("remove")} ${node.effect}`, onclick: () => { change((chain) => chain.splice(index, 1)); state.bypassed[state.stem]?.clear(); studio.panels(); } }, "✕")),
    h("div.params", {}, [...(spec?.params ?? []), wet].map((param) => knob(node, index, param)),
      node.effect === "Plugin" && Object.entries(node.parameters ?? {}).map(([name, value]) => plain(index, name, value, true))));
}

/* Where on the way of a knob a value lies, and back: by equal ratios where ears are. */
const place = (param, value) => (param.logarithmic ? Math.log(Math.max(value, param.low) / param.low) / Math.log(param.high / param.low) : (value - param.low) / (param.high - param.low));
const valueAt = (param, part) => {
  const value = param.logarithmic ? param.low * (param.high / param.low) ** part : param.low + part * (param.high - param.low);
  return param.kind === "int" ? Math.round(value) : Number(value.toPrecision(4));
};

const shown = (param, value) => `${number(value, Math.abs(value) >= 100 || param.kind === "int" ? 0 : Math.abs(value) >= 10 ? 1 : 2)} ${param.unit}`.trim();

/* What a knob can reach: a cut-off has to lie below half the sample rate, and nobody hears it below 10 Hz. */
function reachable(param) {
  return param.cutoff ? { ...param, low: Math.max(10, param.low), high: Math.min(param.high, Math.floor(0.49 * state.song.sample_rate)) } : param;
}

function knob(node, index, wide) {
  const param = reachable(wide);
  const value = node[param.name] ?? param.default;
  const label = `${node.effect} ${param.name}`;
  const set = (next, joined = "") => change((chain) => { chain[index][param.name] = next; }, joined);
  if (param.kind === "bool") return h("label.param", {}, h("input", { type: "checkbox", checked: Boolean(value), onchange: (event) => set(event.target.checked) }), param.name);
  if (param.kind === "choice" || param.kind === "stem") {
    const choices = param.kind === "stem" ? stemsOf(state.take) : param.choices;
    return h("label.param", {}, h("span", {}, param.name), h("select", { "aria-label": label, onchange: (event) => set(event.target.value) }, choices.map((one) => h("option", { value: one, selected: one === value }, one))));
  }
  if (param.kind === "path") return plain(index, param.name, value, false);
  if (typeof value === "object" && value) return lanePoints(node, index, param, value);
  const out = h("output", {}, shown(param, value));
  return h("label.param", {}, h("span", {}, param.name.replace(/_(hz|db|ms|seconds)$/, "").replaceAll("_", " ")),
    h("input.turn", { type: "range", min: "0", max: "1", step: "0.001", value: String(place(param, value)), "aria-label": label, "aria-valuetext": shown(param, value), "data-param": param.name,
      oninput: (event) => {
        const next = valueAt(param, Number(event.target.value));
        out.textContent = shown(param, next);
        event.target.setAttribute("aria-valuetext", shown(param, next));
        set(next, `${state.stem}/${index}/${param.name}`);
      },
      onchange: () => { if (state.past.length) state.past.at(-1).joined = ""; } }),
    out,
    param.automatable && h("button.link.small", { type: "button", title: t("addPoint"), "aria-label": `${t("addPoint")}: ${label}`, onclick: () => {
      set({ points: [[Number(deck.seconds.toFixed(2)), state.chains[state.stem][index][param.name] ?? param.default]], shape: "linear" });
      studio.panels();
    } }, "◆"));
}

/* Points over the song: each with its time and value; one more where the playhead is. */
function lanePoints(node, index, param, lane) {
  const set = (points) => change((chain) => { chain[index][param.name] = points.length ? { ...lane, points } : param.default; });
  const points = [...lane.points].sort((a, b) => a[0] - b[0]);
  return h("div.param.lane", { role: "group", "aria-label": `${node.effect} ${param.name}` }, h("span", {}, `${param.name} ◆`),
    points.map(([time, value], at) => h("span.point", {},
      h("button.link", { type: "button", onclick: () => deck.seek(time) }, `${time.toFixed(1)} s`),
      h("input", { type: "number", step: "any", min: String(param.low), max: String(param.high), value: String(value), "aria-label": `${param.name} ${time.toFixed(1)} s`, onchange: (event) => { const next = copy(points); next[at][1] = Number(event.target.value); set(next); } }),
      h("button.link", { type: "button", "aria-label": `${t("remove")} ${time.toFixed(1)} s`, onclick: () => { set(points.filter((_, other) => other !== at)); studio.panels(); } }, "✕"))),
    h("button.plain.small", { type: "button", onclick: () => {
      const time = Number(deck.seconds.toFixed(2));
      set([...points.filter(([other]) => other !== time), [time, points.at(-1)[1]]].sort((a, b) => a[0] - b[0]));
      studio.panels();
    } }, t("addPoint")));
}

function plain(index, name, value, inside) {
  return h("label.param", {}, h("span", {}, name), h("input", { type: "text", value: value === undefined || value === null ? "" : String(value), "aria-label": name, onchange: (event) => change((chain) => {
    const next = event.target.value.trim() !== "" && Number.isFinite(Number(event.target.value)) ? Number(event.target.value) : event.target.value;
    if (inside) chain[index].parameters = { ...chain[index].parameters, [name]: next };
    else chain[index][name] = next;
  }) }));
}

function saver() {
  const name = h("input", { type: "text", id: "presetname", maxlength: "60", placeholder: t("name"), "aria-label": t("name"), value: "" });
  const save = async (render) => {
    const wish = /** @type {any} */ (name).value.trim();
    try {
      const chains = Object.fromEntries(stemsOf(state.take).map((stem) => [stem, soundingChain(stem)]));
      const made = await post("/api/presets", { name: wish, base: state.take.base, chains });
      say(`${t("saved")} ${made.file}`);
      await studio.look();
      state.preset = made.name;
      if (render) await separate([state.song.id]);
    } catch (error) {
      say(error.message);
    }
  };
  return h("div.row.saver", {}, name,
    h("button.plain", { type: "button", id: "savepreset", onclick: () => save(false) }, t("save")),
    h("button.main", { type: "button", id: "saverender", onclick: () => save(true) }, t("saveRender")));
}
