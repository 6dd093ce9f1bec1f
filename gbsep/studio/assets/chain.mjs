// @ts-check
/* The chain editor: the effects of a stem with their knobs; what is turned is heard through the real chain at once. */

import { ask, post } from "./api.mjs";
import { place, plainName, pointsLane, shown, valueAt } from "./automation.mjs";
import { h, say } from "../../report/assets/dom.mjs";
import { separate } from "./library.mjs";
import { deck, state, stemsOf, studio } from "./model.mjs";
import { t } from "./words.mjs";

const copy = (value) => JSON.parse(JSON.stringify(value));
const text = (value) => JSON.stringify(value);
const MAX_PAST = 200;

/* The chains of a take, as it was rendered; what was turned stays when the take has the same chains of the same preset. */
export function beginChains(before = null) {
  const kept = before?.base === state.take.base && { rendered: text(state.rendered), chains: state.chains, bypassed: state.bypassed, past: state.past, future: state.future };
  state.rendered = Object.fromEntries(stemsOf(state.take).map((name) => [name, copy(trackOf(name).chain ?? [])]));
  state.chains = copy(state.rendered);
  Object.assign(state, { past: [], future: [], original: false });
  state.bypassed = {};
  if (kept && kept.rendered === text(state.rendered)) Object.assign(state, kept, { rendered: copy(state.rendered) });
  if (!stemsOf(state.take).includes(state.stem)) state.stem = stemsOf(state.take)[0] ?? null;
}

const trackOf = (name) => state.take.tracks.find((one) => one.name === name);

/* What is heard of a stem: its chain without what is bypassed. */
function soundingChain(name) {
  return state.chains[name].filter((_, index) => !state.bypassed[name]?.has(index));
}

/* Chains and bypasses as they were left the last time, of stems that there are. */
export function recallChains({ chains, bypassed }) {
  for (const name of stemsOf(state.take)) {
    if (chains[name]) state.chains[name] = copy(chains[name]);
    if (bypassed[name]) state.bypassed[name] = new Set(bypassed[name]);
  }
}

/* The chains that were turned. */
export function turnedChains() {
  return Object.fromEntries(stemsOf(state.take).filter((name) => text(state.chains[name]) !== text(state.rendered[name])).map((name) => [name, state.chains[name]]));
}

/* The effects that were bypassed. */
export const bypasses = () => Object.fromEntries(stemsOf(state.take).filter((name) => state.bypassed[name]?.size).map((name) => [name, [...state.bypassed[name]]]));

export function hearAll() {
  for (const name of stemsOf(state.take)) hear(name);
}

const sending = new Set();
const wished = (name) => (state.original ? state.rendered[name] : soundingChain(name));
const isRendered = (name) => text(wished(name)) === text(state.rendered[name]);

/* Have a stem heard as its chain now is: one request at a time, the last wish counts, whatever comes back after it. */
export async function hear(name) {
  if (state.blind) return;
  if (isRendered(name)) {
    deck.setVoice(name, "-");
    return;
  }
  if (sending.has(name)) return; // it looks at the wish again once it has its answer
  sending.add(name);
  const [take, chain] = [state.take, wished(name)];
  const isShown = () => state.take === take && !state.blind;
  try {
    const { voice } = await post(`/api/songs/${state.song.id}/chain`, { take: take.name, stem: name, chain });
    state.fault = null;
    if (isShown() && !isRendered(name)) deck.setVoice(name, voice);
  } catch (error) {
    state.fault = error.message;
    say(error.message);
  }
  sending.delete(name);
  if (isShown() ? text(wished(name)) !== text(chain) : stemsOf(state.take).includes(name)) hear(name);
}

/* A change of the chain of the stem that is shown, or of what is bypassed in it; `joined` to the one before while a knob
   is being turned. */
function change(alter, joined = "") {
  const name = state.stem;
  const [chain, off] = [copy(state.chains[name]), [...(state.bypassed[name] ?? [])]];
  const [fresh, bypassed] = [copy(chain), new Set(off)];
  alter(fresh, bypassed);
  if (text([fresh, [...bypassed]]) === text([chain, off])) return;
  const last = state.past.at(-1);
  if (!(joined && last?.joined === joined)) state.past.push({ name, chain, off, joined });
  if (state.past.length > MAX_PAST) state.past.shift();
  state.future = [];
  state.chains[name] = fresh;
  state.bypassed[name] = bypassed;
  hear(name);
  dressButtons();
}

function travel(from, to) {
  const one = from.pop();
  if (!one) return;
  to.push({ name: one.name, chain: copy(state.chains[one.name]), off: [...(state.bypassed[one.name] ?? [])], joined: "" });
  state.chains[one.name] = one.chain;
  state.bypassed[one.name] = new Set(one.off);
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
    chain.length ? h("ol.effects", {}, chain.map((node, index) => card(node, [index], chain.length))) : h("p.quiet", {}, t("none")),
    adder(), saver());
  return panel;
}

/* Where an effect stands: its number in the chain; inside Parallel, the numbers of Parallel, branch and effect. */
const listAt = (chain, where) => (where.length > 1 ? listAt(chain[where[0]].branches[where[1]].chain, where.slice(2)) : chain);
const nodeAt = (chain, where) => listAt(chain, where)[where.at(-1)];

/* What a knob turns: an effect, or a branch of it. */
const spot = (where, branch = null) => ({
  key: `${state.stem}/${where.join("/")}${branch === null ? "" : `/${branch}`}`,
  of: (chain) => (branch === null ? nodeAt(chain, where) : nodeAt(chain, where).branches[branch]),
});

/* The plug-ins of this machine: asked for once, when a chain is first shown. */
let asking = null;

function findPlugins() {
  asking ??= ask("/api/plugins").then(({ plugins }) => {
    state.plugins = plugins;
    if (state.panel === "chain") studio.panels();
  }, (error) => say(error.message));
}

const pluginOf = (node) => state.plugins?.find((one) => one.name === node.name && (!node.format || node.format === one.format));

const typed = { effect: "", name: "" };   // what stands in fields that are drawn anew

/* What puts an effect at the end of the chain, or of the branch that is at [Parallel, branch]. */
function adder(branch = []) {
  findPlugins();
  const inBranch = branch.length > 0;
  const select = h("select", { id: inBranch ? null : "effect", "aria-label": t("addEffect"), onchange: (event) => { typed.effect = event.target.value; } },
    h("optgroup", { label: t("chain") }, Object.entries(state.effects).map(([name, spec]) => h("option", { value: name, title: spec.summary, selected: name === typed.effect }, `${name} – ${spec.summary}`))),
    h("optgroup", { label: t("plugins") },
      state.plugins?.map((one) => h("option", { value: `Plugin/${one.name}`, selected: `Plugin/${one.name}` === typed.effect }, `${one.name} – ${[one.vendor, one.format].filter(Boolean).join(", ")}`)),
      !state.plugins?.length && h("option", { disabled: true }, t(state.plugins ? "noPlugins" : "working"))));
  return h("div.row", {}, select, h("button.plain", { type: "button", id: inBranch ? null : "add", onclick: () => {
    change((chain) => listAt(chain, [...branch, 0]).push(fresh(/** @type {any} */ (select).value)));
    studio.panels();
  } }, t("add")));
}

/* An effect with what it needs to be given. */
function fresh(name) {
  if (name.startsWith("Plugin/")) return { effect: "Plugin", name: name.slice(7), parameters: {} };
  if (name === "Parallel") return copy(state.effects.Parallel.start);
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

/* An effect at its place among `count`. */
function card(node, where, count) {
  const spec = state.effects[node.effect];
  const index = where.at(-1);
  const isInBranch = where.length > 1;
  const off = !isInBranch && (state.bypassed[state.stem]?.has(index) ?? false);
  const arrange = (alter) => {
    change((chain, bypassed) => {
      const places = chain.map((_, at) => bypassed.has(at));
      alter(listAt(chain, where));
      if (isInBranch) return;
      alter(places); // what is bypassed moves with its effect
      bypassed.clear();
      places.forEach((one, at) => one && bypassed.add(at));
    });
    studio.panels();
  };
  const move = (by) => arrange((list) => list.splice(index + by, 0, ...list.splice(index, 1)));
  const wet = { name: "wet", unit: "", low: 0, high: 1, default: 1, kind: "float", automatable: true };
  return h(off ? "li.effect.off" : "li.effect", {},
    h("div.tools", {}, h("b", {}, node.effect === "Plugin" ? node.name ?? node.effect : node.effect), h("span.quiet", {}, spec?.summary ?? ""), h("span.space", {}),
      !isInBranch && h("button.plain.toggle.small", { type: "button", "aria-pressed": String(off), "aria-label": `${t("bypass")} ${node.effect}`, onclick: () => {
        change((_, bypassed) => (off ? bypassed.delete(index) : bypassed.add(index)));
        studio.panels();
      } }, t("bypass")),
      h("button.plain.small", { type: "button", disabled: index === 0, "aria-label": `${t("earlier")} ${node.effect}`, onclick: () => move(-1) }, "↑"),
      h("button.plain.small", { type: "button", disabled: index === count - 1, "aria-label": `${t("later")} ${node.effect}`, onclick: () => move(1) }, "↓"),
      h("button.plain.small", { type: "button", "aria-label": `${t("remove")} ${node.effect}`, onclick: () => arrange((list) => list.splice(index, 1)) }, "✕")),
    node.effect === "Parallel" && branches(node, where),
    h("div.params", {}, node.effect === "Plugin" && pluginKnobs(node, spot(where)),
      [...(spec?.params ?? []), wet].map((param) => knob(node, spot(where), param))));
}

const FIRST_KNOBS = 8;

/* The parameters of a plug-in, the first ones at once; as they stand in the chain where it is not on this machine. */
function pluginKnobs(node, at) {
  const info = pluginOf(node);
  if (!info) return Object.entries(node.parameters ?? {}).map(([name, value]) => plain(at, name, value, true));
  const params = info.parameters.filter((one) => !one.read_only).map((one) => ({ ...one, default: one.value,
    kind: typeof one.value === "boolean" ? "bool" : one.low === null ? "choice" : "float",
    logarithmic: one.unit === "Hz" && one.low > 0 && one.high / one.low > 99 }));
  const turned = (one) => node.parameters?.[one.name] !== undefined;
  const shownNow = params.filter((one, at) => at < FIRST_KNOBS || turned(one));
  const others = params.filter((one) => !shownNow.includes(one));
  const key = info.sidechain && { name: "sidechain", kind: "choice", choices: ["", ...stemsOf(state.take).filter((one) => one !== state.stem)], default: "" };
  return [shownNow.map((one) => knob(node, at, one, true)), key && knob(node, at, key),
    others.length > 0 && h("details.more", {}, h("summary", {}, `${t("allParameters")} (${others.length})`), h("div.params", {}, others.map((one) => knob(node, at, one, true))))];
}

/* The branches of Parallel: each a chain with its level in the sum. */
function branches(node, where) {
  const arrange = (alter) => { change((chain) => alter(nodeAt(chain, where).branches)); studio.panels(); };
  return h("ol.branches", {},
    node.branches.map((one, branch) => h("li.branch", { "aria-label": `${t("branch")} ${branch + 1}` },
      h("div.tools", {}, h("b", {}, `${t("branch")} ${branch + 1}`), h("span.quiet", {}, one.chain.length ? "" : t("none")), h("span.space", {}),
        h("button.plain.small", { type: "button", disabled: node.branches.length === 1, "aria-label": `${t("remove")} ${t("branch")} ${branch + 1}`, onclick: () => arrange((list) => list.splice(branch, 1)) }, "✕")),
      h("div.params", {}, state.effects.Parallel.branch.map((param) => knob(one, spot(where, branch), param))),
      one.chain.length > 0 && h("ol.effects", {}, one.chain.map((each, index) => card(each, [...where, branch, index], one.chain.length))),
      adder([...where, branch]))),
    h("li", {}, h("button.plain.small", { type: "button", onclick: () => arrange((list) => list.push({ chain: [] })) }, t("addBranch"))));
}

/* What a knob can reach: a cut-off has to lie below half the sample rate, and nobody hears it below 10 Hz. */
function reachable(param) {
  return param.cutoff ? { ...param, low: Math.max(10, param.low), high: Math.min(param.high, Math.floor(0.49 * state.song.sample_rate)) } : param;
}

function knob(node, at, wide, inside = false) {
  const param = reachable(wide);
  const value = (inside ? node.parameters?.[param.name] : node[param.name]) ?? param.default;
  const label = `${node.name ?? node.effect ?? t("branch")} ${param.name}`;
  const set = (next, joined = "") => change((chain) => {
    const owner = inside ? (at.of(chain).parameters ??= {}) : at.of(chain);
    if (param.name === "sidechain" && next === "") delete owner[param.name];
    else owner[param.name] = next;
  }, joined);
  if (param.kind === "bool") return h("label.param", {}, h("input", { type: "checkbox", checked: Boolean(value), onchange: (event) => set(event.target.checked) }), plainName(param.name));
  if (param.kind === "choice" || param.kind === "stem") {
    const choices = param.kind === "stem" ? stemsOf(state.take) : param.choices;
    return h("label.param", {}, h("span", {}, plainName(param.name)), h("select", { "aria-label": label, onchange: (event) => set(event.target.value) }, choices.map((one) => h("option", { value: one, selected: one === value }, one || "–"))));
  }
  if (param.kind === "path") return plain(at, param.name, value, false);
  if (typeof value === "object" && value) return pointsLane(node, param, value, set);
  if (typeof value === "string") return plain(at, param.name, value, inside);
  const out = h("output", {}, shown(param, value));
  return h("label.param", {}, h("span", {}, plainName(param.name)),
    h("input.turn", { type: "range", min: "0", max: "1", step: "0.001", value: String(place(param, value)), "aria-label": label, "aria-valuetext": shown(param, value), "data-param": param.name,
      oninput: (event) => {
        const next = valueAt(param, Number(event.target.value));
        out.textContent = shown(param, next);
        event.target.setAttribute("aria-valuetext", shown(param, next));
        set(next, `${at.key}/${param.name}`);
      },
      onchange: () => { if (state.past.length) state.past.at(-1).joined = ""; } }),
    out,
    param.automatable && h("button.link.small", { type: "button", title: t("addPoint"), "aria-label": `${t("addPoint")}: ${label}`, onclick: () => {
      set({ points: [[Number(deck.seconds.toFixed(2)), value]], shape: param.logarithmic ? "exponential" : "linear" });
      studio.panels();
    } }, "◆"));
}

function plain(at, name, value, inside) {
  return h("label.param", {}, h("span", {}, name), h("input", { type: "text", value: value === undefined || value === null ? "" : String(value), "aria-label": name, onchange: (event) => change((chain) => {
    const next = event.target.value.trim() !== "" && Number.isFinite(Number(event.target.value)) ? Number(event.target.value) : event.target.value;
    const node = at.of(chain);
    if (inside) node.parameters = { ...node.parameters, [name]: next };
    else node[name] = next;
  }) }));
}

function saver() {
  const name = h("input", { type: "text", id: "presetname", maxlength: "60", placeholder: t("name"), "aria-label": t("name"), value: typed.name, oninput: (event) => { typed.name = event.target.value; } });
  const save = async (render) => {
    const wish = /** @type {any} */ (name).value.trim();
    try {
      const chains = Object.fromEntries(stemsOf(state.take).map((stem) => [stem, soundingChain(stem)]));
      const made = await post("/api/presets", { name: wish, base: state.take.base, chains });
      typed.name = "";
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
