/* The page: one song at a time, drawn from its model. All text goes in as text, never as markup. */

const report = JSON.parse(take("report"));
const query = report.served ? location.search : "";
const load = createStore(report.folder, query);
const app = document.getElementById("app");

let song = null;
let blind = null;             // {stem, order: [render], vote, tally}
let matched = true;
let last = null;              // the source before this one, for A/B
let view = { start: 0, end: 1 };
const kept = {};              // stem and render that were last heard, while the mixture sounds
const pictures = new Map();
let lanes = [];

const player = createPlayer(load, ({ error }) => {
  if (error) say(error);
  refresh();
});

function take(id) {
  const element = document.getElementById(id);
  const text = element.textContent;
  element.remove();
  return text;
}

/* h("button.main", {onclick, "aria-label": ...}, "text", child, ...) */
function h(kind, properties, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = tag === "svg" || tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.replace("svg:", ""))
    : document.createElement(tag || "div");
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("on")) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function clock(seconds, digits = 1) {
  const minutes = Math.floor(seconds / 60 + 1e-9);
  const left = Math.max(0, seconds - 60 * minutes).toFixed(digits);
  return `${minutes}:${left.padStart(digits ? 3 + digits : 2, "0")}`;
}

function number(value, digits = 1) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? (0).toFixed(digits) : text).replace("-", "−");
}

let saying;
function say(text) {
  const place = document.getElementById("say");
  place.textContent = text;
  place.classList.toggle("shown", Boolean(text));
  clearTimeout(saying);
  saying = setTimeout(() => place.classList.remove("shown"), 6000);
}

function colour(element, name) {
  const hue = hueOf(name);
  element.style.setProperty("--hue", hue ?? 0);
  element.style.setProperty("--tint", hue === null ? 0 : 1);
  return element;
}

// Theme: that of the system, until another is chosen

const systemIsLight = matchMedia("(prefers-color-scheme: light)");
let theme = recall();

/* A browser may keep nothing for a page from a disk, and say so with an error. */
function recall() {
  try {
    return localStorage.getItem("gbsep-theme");
  } catch {
    return null;
  }
}

function remember(value) {
  try {
    localStorage.setItem("gbsep-theme", value);
  } catch {
    // for this page only, then
  }
}

function dress() {
  const known = ["dark", "light"].includes(theme) ? theme : null;
  document.documentElement.dataset.theme = known ?? (systemIsLight.matches ? "light" : "dark");
  if (song?.sources.length) paint();
}

const dark = () => document.documentElement.dataset.theme === "dark";

function toggleTheme() {
  theme = dark() ? "light" : "dark";
  remember(theme);
  dress();
}

// What there is to hear

const REFERENCE = "truth";

function sourceOf(track, render) {
  if (track === "mixture") return song.sources.findIndex((one) => one.kind === "mixture");
  if (render === REFERENCE) return song.sources.findIndex((one) => one.kind === "reference" && one.name === track);
  return song.sources.findIndex((one) => one.render === render && one.name === track);
}

const current = () => (player.source === null ? null : song.sources[player.source]);

/* A heading for a stem: `minus_bass` is what is left without the bass. */
function titleOf(track) {
  const words = track.replace(/^minus_/, "without ").replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function tracks() {
  const names = new Set(song.sources.map((one) => one.name));
  const ordered = [...names].filter((name) => name !== "mixture" && name !== "residual");
  return [...(names.has("mixture") ? ["mixture"] : []), ...ordered, ...(names.has("residual") ? ["residual"] : [])];
}

/* Stems to switch between: in a blind test, those of which every letter has one. */
function stems() {
  if (!blind) return tracks().filter((track) => track !== "mixture");
  return judged().filter((track) => rendersOf(track).every((index) => blind.order.includes(index)));
}

function rendersOf(track) {
  return song.renders.map((_, index) => index).filter((index) => sourceOf(track, index) >= 0);
}

/* What a listener may know a render by. */
function nameOf(render) {
  if (render === REFERENCE) return "True stem";
  if (blind && !blind.vote) return String.fromCharCode(65 + blind.order.indexOf(render));
  return song.renders[render].name;
}

/* The name of a render without what all have in common: `cutoff_hz=100` of a sweep. */
function shortOf(render) {
  const name = nameOf(render);
  const bases = new Set(song.renders.map((one) => one.name.split("@")[0]));
  return bases.size === 1 && song.renders.length > 1 && song.renders.every((one) => one.name.includes("@"))
    ? name.slice(name.indexOf("@") + 1).replaceAll(",", ", ") : name;
}

function labelOf(source) {
  if (source.kind === "mixture") return "Mixture";
  const who = source.kind === "reference" ? REFERENCE : source.render;
  return `${nameOf(who)} · ${source.name}`;
}

function choose(id) {
  if (id < 0 || id === player.source) return;
  last = player.source;
  player.choose(id);
  warm();
}

/* The other renders of this stem are the likeliest to be asked for next, then the rest. */
function warm() {
  const here = current();
  if (!here) return;
  const far = (one) => (one.name === here.name ? 0 : 1);
  const ids = song.sources.map((_, id) => id).filter((id) => id !== player.source);
  player.near([player.source, ...ids.sort((a, b) => far(song.sources[a]) - far(song.sources[b]))]);
}

/* Sound comes with its matched gain in it. */
function amplitude(id) {
  return matched || blind ? 1 : 10 ** ((song.shared_gain_db - song.sources[id].gain_db) / 20);
}

// The parts of the page

function chips(label, items, chosen, pick) {
  return h("div.chips", { role: "group", "aria-label": label },
    items.map(({ key, text, off, tint }) => {
      const chip = h("button.chip", { type: "button", "aria-pressed": String(key === chosen), disabled: off,
        onclick: () => pick(key) }, text);
      return tint ? colour(chip, tint) : chip;
    }));
}

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
function overview() {
  if (report.songs.length < 2) return null;
  const list = h("ol.songs", {}, report.songs.map((one, index) => h("li", {},
    h("button.link", { type: "button", dir: "auto", "aria-current": index === song.place ? "true" : null, onclick: () => open(index) }, one.name),
    h("span.badge", { "data-status": one.status ?? "" }, `${glyph(one)} ${one.renders ? one.status ?? "unreviewed" : "failed"}`),
    one.notes > 0 && h("span.quiet", {}, one.notes === 1 ? "1 note" : `${one.notes} notes`),
    one.failed.length > 0 && h("span.failure", { dir: "auto" }, `${one.failed.join(", ")} failed`))));
  return h("details.panel", { id: "songs", open: unfolded, ontoggle: (event) => { unfolded = event.target.open; } },
    h("summary", {}, h("b", {}, "Songs"), " ", h("span.quiet", {}, unreviewed())), list);
}

function header() {
  const several = report.songs.length > 1;
  const picker = several && h("select.picker", { "aria-label": "Song", id: "song", onchange: (event) => open(Number(event.target.value)) },
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

function heading() {
  const facts = [clock(song.seconds, 0), `${(song.sample_rate_hz / 1000).toFixed(1)} kHz`,
    song.renders.length === 1 ? "1 render" : `${song.renders.length} renders`];
  return h("section.heading", {},
    h("h1", { dir: "auto" }, song.name),
    h("p.quiet", {}, facts.join(" · ")),
    song.renders.length > 0 && h("span.badge", { id: "status", "data-status": song.review.status ?? "" }, song.review.status ?? "unreviewed"),
    Object.entries(song.failures).map(([preset, why]) => h("p.failure", {}, h("b", { dir: "auto" }, preset), " failed: ", why)));
}

function best(track, key) {
  const better = report.columns[key].better;
  const values = rendersOf(track).map((index) => song.renders[index].figures[track]?.[key]).filter((one) => typeof one === "number");
  if (!better || values.length < 2) return null;
  const top = better === "higher" ? Math.max(...values) : Math.min(...values);
  return values.every((value) => value === top) ? null : top;
}

function figures() {
  const measured = tracks().filter((track) => song.renders.some((one) => one.figures[track]));
  const keys = Object.keys(report.columns).filter((key) =>
    song.renders.some((one) => Object.values(one.figures).some((row) => typeof row[key] === "number")));
  const body = measured.map((track) => h("tbody", {},
    colour(h("tr.stem", {}, h("th", { colspan: keys.length + 1, scope: "rowgroup" }, h("i.dot", {}), titleOf(track))), track),
    rendersOf(track).map((index) => {
      const row = song.renders[index].figures[track] ?? {};
      return h("tr", {},
        h("th", { scope: "row", title: song.renders[index].title },
          h("button.link", { type: "button", dir: "auto", onclick: () => { choose(sourceOf(track, index)); player.play(); } }, song.renders[index].name)),
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

function sweep() {
  const keys = [...new Set(song.renders.flatMap((one) => Object.keys(one.overrides)))];
  const valuesOf = (key) => new Set(song.renders.map((one) => one.overrides[key]).filter((one) => typeof one === "number"));
  const axis = keys.filter((key) => valuesOf(key).size >= 3)[0];
  if (!axis) return null;
  const choices = Object.keys(report.columns).filter((key) =>
    song.renders.filter((one) => Object.values(one.figures).some((row) => typeof row[key] === "number")).length >= 3);
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
  for (const [index, render] of song.renders.entries()) {
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

function listen(id) {
  choose(id);
  player.play();
}

function lane(id) {
  const source = song.sources[id];
  const canvas = h("canvas", { role: "img", "aria-label": `Mel spectrogram, ${labelOf(source)}` });
  const plot = h("div.picture", {}, canvas, frequencies());
  const markers = h("div.markers", {});
  plot.append(markers);
  steer(plot, id);
  const button = h("button.play", { type: "button", "aria-pressed": "false", onclick: () => listen(id) },
    h("i.dot", {}), h("span.who", { dir: "auto" }, source.kind === "mixture" ? "mixture" : shortOf(source.kind === "reference" ? REFERENCE : source.render)),
    h("small", {}, gainLabel(id)));
  const element = colour(h(source.silent ? "div.lane.silent" : "div.lane", {}, button, plot), source.name);
  lanes.push({ id, element, canvas, markers, button });
  return element;
}

/* The scale of a spectrogram. */
function frequencies() {
  return [[100, "100 Hz"], [1000, "1 kHz"], [10000, "10 kHz"]].map(([hz, text]) => {
    const row = song.hz.findIndex((one) => one >= hz);
    if (row < 0) return null;
    const label = h("span.hz", { "aria-hidden": "true" }, text);
    label.style.bottom = `max(0.35rem, ${(100 * row) / song.hz.length}%)`;
    return label;
  });
}

function gainLabel(id) {
  if (song.sources[id].silent) return "silent";
  const gain = matched || blind ? song.sources[id].gain_db : song.shared_gain_db;
  return gain === 0 ? "" : `${gain > 0 ? "+" : "−"}${Math.abs(gain).toFixed(1)} dB`;
}

function listening() {
  lanes = [];
  const ruler = h("div.ruler", {}, h("div.marks", {}));
  const groups = tracks().map((track) => {
    if (blind && track !== "mixture") return null;
    const own = track === "mixture" ? [sourceOf(track)]
      : [sourceOf(track, REFERENCE), ...rendersOf(track).map((index) => sourceOf(track, index))].filter((id) => id >= 0);
    return h("div.group", { role: "group", "aria-label": track },
      track !== "mixture" && colour(h("h3", {}, h("i.dot", {}), titleOf(track)), track),
      own.every((id) => song.sources[id].silent) ? h("p.quiet", {}, "Silent in every render") : own.map(lane));
  });
  const lost = !tracks().includes("mixture") && h("p.quiet", {}, "The recording itself was moved or changed since: it cannot be heard here.");
  const section = h("section.panel.listen", { "aria-label": "Listen" },
    h("div.tools", {},
      h("h2", {}, "Listen"),
      h("span.quiet.hover", { id: "hover" }, "Click to play from there, drag to loop"),
      h("span.space", {}),
      h("label.switch", {}, h("input", { type: "checkbox", id: "matched", checked: matched, disabled: Boolean(blind), onchange: toggleMatched }), "Equal loudness"),
      h("button.plain", { type: "button", "aria-label": "Zoom out", onclick: () => zoom(0.5) }, "−"),
      h("button.plain", { type: "button", "aria-label": "Zoom in", onclick: () => zoom(2) }, "+")),
    lost,
    h("div.lanes", { id: "lanes" }, h("div.lane.timeline", {}, h("span", {}), ruler), groups));
  return section;
}

function findings() {
  const found = song.renders.flatMap((render, index) => render.findings.map((one) => ({ ...one, index })));
  if (!found.length) return null;
  found.sort((a, b) => a.start_s - b.start_s);
  return h("section.panel", { id: "findings", "aria-label": "Findings" },
    h("h2", {}, "Findings"),
    h("ul.list.long", { tabindex: "0", "aria-label": "Findings" }, found.map((one) => h("li", {},
      h("button.time", { type: "button", onclick: () => goTo(one) }, `${clock(one.start_s)} – ${clock(one.end_s)}`),
      h("span.severity", { "data-severity": one.severity }, `${one.severity === "error" ? "▲ " : "△ "}${one.kind.replaceAll("_", " ")}`),
      colour(h("span.tag", {}, h("i.dot", {}), h("span", { dir: "auto" }, song.renders[one.index].name), " · ", one.stem), one.stem),
      h("span", { dir: "auto" }, one.message)))));
}

const placeOf = (note) => ({ start_s: note.time_s, stem: note.stem, index: song.renders.findIndex((one) => one.name === note.preset) });

function goTo(one) {
  const id = sourceOf(one.stem, one.index);
  if (id >= 0) choose(id);
  player.seek(Math.max(0, one.start_s - 0.3), true);
}

function recipes() {
  return h("section.panel", { id: "recipes", "aria-label": "How they were made" },
    h("h2", {}, "How they were made"),
    h("ul.recipes", {}, song.renders.map((render, index) => h("li", {},
      h("b", { dir: "auto" }, render.name), " ", h("span", { dir: "auto" }, render.title), h("br", {}),
      h("span.quiet", {}, render.recipe), " ",
      song.sources.filter((one) => one.render === index && one.file).map((one) =>
        h("a", { href: one.file + query, download: report.served ? "" : null }, one.name)),
      render.swapped.length > 0 && h("p.quiet", {}, `Swapped as reviewed: ${render.swapped.map((pair) => pair.join(" and ")).join(", ")}`),
      render.remarks.map((text) => h("p.warning", { dir: "auto" }, text))))));
}

function transport() {
  const seek = h("input.seek", { type: "range", min: "0", max: String(song.seconds), step: "0.01", value: "0", id: "seek", "aria-label": "Time",
    oninput: (event) => player.seek(Number(event.target.value)) });
  return h("footer.transport", { "aria-label": "Player" },
    h("div.row", {},
      h("button.round", { type: "button", id: "play", "aria-label": "Play", onclick: toggle }, h("span", {}, "▶")),
      h("div.now", {}, h("output", { id: "time" }, "0:00.0"), h("b", { id: "now", dir: "auto" }, "")),
      seek,
      h("canvas.meter", { id: "meter", width: "84", height: "8", "aria-hidden": "true" }),
      h("label.volume", {}, h("span.sr", {}, "Volume"),
        h("input", { type: "range", min: "0", max: "1", step: "0.01", value: "1", oninput: (event) => player.setVolume(event.target.value ** 2) }))),
    h("div.row", { id: "choices" }));
}

function choices() {
  const place = document.getElementById("choices");
  const here = current();
  if (!here) return;
  const focused = place.contains(document.activeElement) ? document.activeElement.textContent : null;
  const render = here.kind === "reference" ? REFERENCE : here.render;
  const order = blind && !blind.vote ? blind.order : song.renders.map((_, index) => index);
  const track = here.kind === "mixture" ? kept.track ?? tracks().find((one) => one !== "mixture") : here.name;
  kept.track = track;
  if (render !== null) kept.render = render;
  const who = [...order, ...(song.sources.some((one) => one.kind === "reference") && !blind ? [REFERENCE] : [])];
  const other = (name) => {
    const wish = kept.render ?? who[0];
    const found = sourceOf(name, wish);
    return found >= 0 ? found : sourceOf(name, rendersOf(name)[0]);
  };
  place.replaceChildren(
    chips("Stem", [...(sourceOf("mixture") >= 0 ? ["mixture"] : []), ...stems()].map((name) => ({ key: name, text: name, tint: name })), here.name, (name) => choose(name === "mixture" ? sourceOf(name) : other(name))),
    chips("Preset", who.map((one) => ({ key: one, text: shortOf(one), off: sourceOf(track, one) < 0, tint: null })), render, (one) => choose(sourceOf(track, one))));
  if (focused) [...place.querySelectorAll("button")].find((one) => one.textContent === focused)?.focus();
}

// Pictures

async function paint() {
  const mine = song;
  let top = 1;
  for (const { id } of lanes) {
    if (!pictures.has(id)) {
      try {
        pictures.set(id, { bytes: await load(`${song.id}-${id}-mel`) });
      } catch (error) {
        say(error.message);
        return;
      }
      if (mine !== song) return;
    }
    const one = pictures.get(id);
    one.top ??= one.bytes.reduce((most, value) => Math.max(most, value), 1);
    top = Math.max(top, one.top);
  }
  const floor = top - (70 / (report.range_db[1] - report.range_db[0])) * 255;
  for (const { id } of lanes) {
    const one = pictures.get(id);
    const key = `${dark()} ${top}`;
    if (one.key !== key) {
      const palette = colours(hueOf(song.sources[id].name), dark());
      Object.assign(one, { key, image: picture(one.bytes, one.bytes.length / report.n_mels, report.n_mels, palette, floor, top) });
    }
  }
  draw();
}

function draw() {
  const scale = devicePixelRatio || 1;
  const span = view.end - view.start;
  for (const { id, canvas, markers } of lanes) {
    const image = pictures.get(id)?.image;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (image && width) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      const brush = canvas.getContext("2d");
      const seconds = song.sources[id].seconds;
      brush.imageSmoothingQuality = "high";
      brush.drawImage(image, 0, 0, image.width, image.height,
        (-view.start / span) * canvas.width, 0, (seconds / span) * canvas.width, canvas.height);
    }
    mark(markers, id);
  }
  ruler();
  follow(true);
}

const percent = (seconds) => `${(100 * (seconds - view.start)) / (view.end - view.start)}%`;

function mark(place, id) {
  const source = song.sources[id];
  const own = source.render === null || blind ? [] : song.renders[source.render].findings.filter((one) => one.stem === source.name).sort((a, b) => a.start_s - b.start_s);
  const rows = [];
  place.replaceChildren(...own.map((one) => {
    const free = rows.findIndex((end) => end <= one.start_s);
    const row = free < 0 ? Math.min(rows.length, 4) : free;
    rows[row] = one.end_s;
    const pin = h("button.pin", { type: "button", "data-severity": one.severity, title: `${clock(one.start_s)} ${one.message}`,
      "aria-label": `${clock(one.start_s)}, ${one.severity}: ${one.message}`,
      onclick: (event) => { event.stopPropagation(); goTo({ ...one, index: source.render }); } });
    pin.style.left = percent(one.start_s);
    pin.style.top = `${row * 9}px`;
    pin.style.width = `${(100 * (one.end_s - one.start_s)) / (view.end - view.start)}%`;
    return pin;
  }));
}

function ruler() {
  const place = document.querySelector(".ruler .marks");
  const span = view.end - view.start;
  const wide = place.clientWidth / 70;
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((one) => span / one <= wide) ?? 1200;
  const marks = [];
  for (let time = Math.ceil(view.start / step) * step; time <= view.end; time += step) {
    const tick = h("span", {}, clock(time, step < 1 ? 1 : 0));
    tick.style.left = percent(time);
    marks.push(tick);
  }
  for (const note of blind ? [] : song.review.notes) {
    const pin = h("button.note", { type: "button", title: note.text, "aria-label": `Note at ${clock(note.time_s)}: ${note.text}`, onclick: () => goTo(placeOf(note)) }, "✎");
    pin.style.left = percent(note.time_s);
    marks.push(pin);
  }
  place.replaceChildren(...marks);
}

function zoom(factor) {
  const middle = player.seconds >= view.start && player.seconds <= view.end ? player.seconds : (view.start + view.end) / 2;
  const span = Math.min(song.seconds, Math.max(1, (view.end - view.start) / factor));
  const start = Math.min(Math.max(0, middle - span / 2), song.seconds - span);
  view = { start, end: start + span };
  draw();
}

function steer(plot, id) {
  let from = null;
  const timeAt = (event) => {
    const box = plot.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return view.start + part * (view.end - view.start);
  };
  plot.onpointerdown = (event) => {
    if (event.button || event.target.closest("button")) return;
    from = { x: event.clientX, time: timeAt(event), dragged: false };
    plot.setPointerCapture(event.pointerId);
  };
  plot.onpointermove = (event) => {
    const box = plot.getBoundingClientRect();
    const high = 1 - (event.clientY - box.top) / box.height;
    const hz = song.hz[Math.min(song.hz.length - 1, Math.max(0, Math.floor(high * song.hz.length)))];
    document.getElementById("hover").textContent = `${clock(timeAt(event))} · ${pitchName(hz)}`;
    if (from && (from.dragged || Math.abs(event.clientX - from.x) > 6)) {
      from.dragged = true;
      showLoop({ start: Math.min(from.time, timeAt(event)), end: Math.max(from.time, timeAt(event)) });
    }
  };
  plot.onpointerup = (event) => {
    if (!from) return;
    const { time, dragged } = from;
    from = null;
    choose(id);
    if (dragged && Math.abs(timeAt(event) - time) > 0.2) {
      player.setLoop({ start: Math.min(time, timeAt(event)), end: Math.max(time, timeAt(event)) });
      player.seek(Math.min(time, timeAt(event)), true);
    } else {
      player.seek(time, true);
    }
  };
  plot.onpointercancel = () => { from = null; };
}

function showLoop(range) {
  const place = document.getElementById("lanes");
  place.classList.toggle("looping", Boolean(range));
  if (!range) return;
  place.style.setProperty("--loop-start", percent(range.start));
  place.style.setProperty("--loop-end", percent(range.end));
}

let shown = -1;
function follow(force = false) {
  const seconds = player.seconds;
  if (!force && seconds === shown) return;
  shown = seconds;
  const span = view.end - view.start;
  if (player.playing && !force && (seconds > view.end || seconds < view.start) && span < song.seconds) {
    const start = Math.min(Math.max(0, seconds - 0.05 * span), song.seconds - span);
    view = { start, end: start + span };
    draw();
    return;
  }
  document.getElementById("lanes").style.setProperty("--playhead", percent(seconds));
  document.getElementById("time").textContent = `${clock(seconds)} / ${clock(song.seconds, 0)}`;
  const seek = document.getElementById("seek");
  if (document.activeElement !== seek || player.playing) seek.value = seconds;
  seek.setAttribute("aria-valuetext", clock(seconds));
}

const samples = new Float32Array(2048);
function meter() {
  const canvas = document.getElementById("meter");
  if (!canvas) return;
  const brush = canvas.getContext("2d");
  brush.clearRect(0, 0, canvas.width, canvas.height);
  if (!player.playing || !player.analyser) return;
  player.analyser.getFloatTimeDomainData(samples);
  const power = samples.reduce((sum, one) => sum + one * one, 0) / samples.length;
  const level = Math.max(0, 1 + (10 * Math.log10(power + 1e-9)) / 60);
  brush.fillStyle = getComputedStyle(canvas).color;
  brush.fillRect(0, 0, level * canvas.width, canvas.height);
}

function animate() {
  if (song?.sources.length) {
    follow();
    meter();
  }
  requestAnimationFrame(animate);
}

// What changes

function refresh() {
  if (!song?.sources.length) return;
  const here = current();
  document.getElementById("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  document.getElementById("play").firstChild.textContent = player.playing ? "❚❚" : "▶";
  document.getElementById("now").textContent = here ? labelOf(here) : "nothing to hear";
  for (const { id, element, button } of lanes) {
    const on = id === player.source;
    element.classList.toggle("on", on);
    button.setAttribute("aria-pressed", String(on));
  }
  showLoop(player.loop);
  choices();
  follow(true);
}

function toggle() {
  if (player.playing) player.pause();
  else player.play();
}

/* On or back by so many seconds: round a loop, if there is one. */
function skip(seconds) {
  const { start, end } = player.loop ?? {};
  const at = player.seconds + seconds;
  player.seek(start === undefined ? at : start + ((((at - start) % (end - start)) + (end - start)) % (end - start)));
}

function toggleMatched() {
  if (blind) return;
  matched = !matched;
  document.getElementById("matched").checked = matched;
  for (const { id, button } of lanes) button.querySelector("small").textContent = gainLabel(id);
  player.level();
  say(matched ? "Equal loudness" : "Levels as rendered");
}

function step(list, by) {
  const at = list.indexOf(player.source);
  choose(list[(at + by + list.length) % list.length]);
}

const KEYS = [
  ["Space", "Play or pause"],
  ["← →", "Five seconds back or on; with Shift one second"],
  ["1 … 9", "Preset"],
  ["↑ ↓", "Preset before or after, of the same stem"],
  ["S", "Next stem; with Shift the one before"],
  ["X", "Back to the last sound, and again: A and B"],
  ["M", "Mixture, and back"],
  ["E", "Equal loudness, or as rendered"],
  ["N P", "Next or previous finding or note"],
  ["L", "End the loop; drag on a spectrogram to begin one"],
  ["+ −", "Zoom in or out"],
  [", .", "Song before or after"],
  ["V", "Blind test on or off"],
  ["T", "Dark or light"],
  ["?", "These keys"],
];

function help() {
  const dialog = document.getElementById("help");
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

function helpDialog() {
  const keys = report.served ? [...KEYS, ["A", "Accept the song"], ["C", "Write a note here"]] : KEYS;
  return h("dialog", { id: "help", "aria-labelledby": "keys" }, h("h2", { id: "keys" }, "Keys"),
    h("dl", {}, keys.map(([key, what]) => [h("dt", {}, key.split(" ").map((one) => (one === "…" ? one : h("kbd", {}, one)))), h("dd", {}, what)])),
    h("form", { method: "dialog" }, h("button.main", {}, "Close")));
}

function stops() {
  const found = song.renders.flatMap((render, index) => render.findings.map((one) => ({ ...one, index })));
  const notes = song.review.notes.map(placeOf);
  return blind ? [] : [...found, ...notes].sort((a, b) => a.start_s - b.start_s);
}

/* Whether the keyboard went to a control, and not the mouse: then Space is for that control, as everywhere. */
let byKeyboard = false;
const isTyped = (element) => element.matches("textarea, select, input:not([type=range]):not([type=checkbox])");
const takesSpace = (element) => isTyped(element)
  || (byKeyboard && element.matches("button, a, summary, [role=button], input[type=checkbox]"));
const takesArrows = (element) => element.matches("input[type=range]") || element.closest(".scroll, .list.long");

function press(event) {
  if (!song || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyped(event.target) || document.getElementById("help").open) return;
  if (event.key === " " ? takesSpace(event.target) : event.key.startsWith("Arrow") && takesArrows(event.target)) return;
  const here = current();
  const order = (blind && !blind.vote ? blind.order : song.renders.map((_, index) => index)).map((index) => sourceOf(here?.name, index)).filter((id) => id >= 0);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const actions = {
    " ": () => { if (!event.repeat) toggle(); },
    ArrowLeft: () => skip(event.shiftKey ? -1 : -5),
    ArrowRight: () => skip(event.shiftKey ? 1 : 5),
    ArrowUp: () => order.length && step(order, -1),
    ArrowDown: () => order.length && step(order, 1),
    s: () => nextStem(event.shiftKey ? -1 : 1),
    x: () => last !== null && choose(last),
    m: () => (here?.kind === "mixture" ? last !== null && choose(last) : choose(sourceOf("mixture"))),
    e: toggleMatched,
    l: () => player.setLoop(null),
    n: () => stops().filter((one) => one.start_s - 0.3 > player.seconds + 0.2).slice(0, 1).forEach(goTo),
    p: () => stops().filter((one) => one.start_s - 0.3 < player.seconds - 0.5).slice(-1).forEach(goTo),
    "+": () => zoom(2),
    "=": () => zoom(2),
    "-": () => zoom(0.5),
    ",": () => song.place > 0 && open(song.place - 1),
    ".": () => song.place + 1 < report.songs.length && open(song.place + 1),
    v: toggleBlind,
    t: toggleTheme,
    "?": help,
    ...(report.served && !blind ? reviewKeys : {}),
  };
  if (/^[1-9]$/.test(key)) actions[key] = () => {
    const all = blind && !blind.vote ? blind.order : song.renders.map((_, index) => index);
    const track = here?.kind === "mixture" ? kept.track : here?.name;
    if (all[key - 1] !== undefined) choose(sourceOf(track, all[key - 1]));
  };
  if (!actions[key] || (!song.sources.length && !",.t?".includes(key))) return;
  const done = actions[key]();
  if (done !== false) event.preventDefault();
}

function nextStem(by) {
  const names = stems();
  const at = names.indexOf(current()?.name);
  const name = names[(at + by + names.length) % names.length];
  const found = sourceOf(name, kept.render ?? 0);
  choose(found >= 0 ? found : sourceOf(name, rendersOf(name)[0]));
}

// Blind test

function shuffled(list) {
  const order = [...list];
  for (let index = order.length - 1; index > 0; index -= 1) {
    const other = crypto.getRandomValues(new Uint32Array(1))[0] % (index + 1);
    [order[index], order[other]] = [order[other], order[index]];
  }
  return order;
}

/* Stems that several renders have something of. */
function judged() {
  return tracks().filter((track) => track !== "mixture" && rendersOf(track).filter((index) => !song.sources[sourceOf(track, index)].silent).length > 1);
}

function toggleBlind() {
  if (blind) {
    blind = null;
  } else {
    const choice = judged();
    if (!choice.length) {
      say("A blind test needs two renders of one stem");
      return;
    }
    const here = current();
    const stem = choice.includes(here?.name) ? here.name : choice[0];
    blind = { tally: song.renders.map(() => 0), rounds: 0 };
    round(stem);
  }
  build();
}

function round(stem) {
  Object.assign(blind, { stem, vote: false, order: shuffled(rendersOf(stem)) });
  last = null;
  kept.render = blind.order[0];
  player.choose(sourceOf(stem, blind.order[0]));
}

function vote(render) {
  blind.vote = true;
  blind.choice = render;
  blind.rounds += 1;
  blind.tally[render] += 1;
  build();
  say(`You chose ${song.renders[render].name}`);
}

function blindPanel() {
  const letter = (index) => String.fromCharCode(65 + index);
  const cards = blind.order.map((render, index) => h(blind.vote && blind.choice === render ? "li.card.chosen" : "li.card", {},
    h("button.letter", { type: "button", "aria-label": `Listen to ${letter(index)}`, onclick: () => listen(sourceOf(blind.stem, render)) }, letter(index)),
    blind.vote
      ? [h("b", { dir: "auto" }, song.renders[render].name), h("span.quiet", {}, `${blind.tally[render]} of ${blind.rounds}`)]
      : h("button.main", { type: "button", onclick: () => vote(render) }, `${letter(index)} is best`)));
  const choice = judged();
  return h("section.panel.blind", { id: "blindtest", "aria-label": "Blind test" },
    h("h2", {}, "Blind test"),
    h("p.quiet", {}, blind.vote ? "Names are shown. Another round shuffles them again."
      : "Same stem, equal loudness, names hidden, order shuffled. Switch with 1 to 9, then vote."),
    chips("Stem to judge", choice.map((name) => ({ key: name, text: name, tint: name })), blind.stem, (name) => { round(name); build(); }),
    h("ol.cards", {}, cards),
    h("div.row", {},
      blind.vote && h("button.main", { type: "button", id: "again", onclick: () => { round(blind.stem); build(); } }, "Next round"),
      h("button.plain", { type: "button", onclick: toggleBlind }, "End the test")));
}

// Putting it together

/* The controls of the same name as this one, which keep their order when the page is drawn anew. */
function twins(element) {
  const nameOf = (one) => one.id || one.getAttribute("aria-label") || one.textContent;
  return [...app.querySelectorAll("button, input, select, textarea, [tabindex]")].filter((one) => nameOf(one) === nameOf(element));
}

/* All of the page anew; who was on a control stays on it, or comes to what took its place in a blind test. */
function build() {
  const held = app.contains(document.activeElement) ? document.activeElement : null;
  const place = held && twins(held).indexOf(held);
  const marked = held?.id === "note" ? [held.selectionStart, held.selectionEnd] : null;
  const main = h("main", {});
  if (blind) {
    main.append(h("section.heading", {}, h("h1", { dir: "auto" }, song.name)), blindPanel(), listening());
  } else {
    const parts = [overview(), heading(), report.served && reviewPanel(), song.renders.length > 0 && listening(), findings(), song.renders.length > 0 && figures(), sweep(), notes(), song.renders.length > 0 && recipes()];
    main.append(...parts.filter(Boolean));
  }
  const top = header();
  const picker = top.querySelector("#song");
  if (picker) picker.value = song.place;
  const fresh = [top, main];
  if (song.sources.length) fresh.push(transport());
  app.replaceChildren(...fresh, helpDialog(), h("div", { id: "say", role: "status", "aria-live": "polite" }));
  document.getElementById("blind").setAttribute("aria-pressed", String(Boolean(blind)));
  document.body.classList.toggle("playable", song.sources.length > 0);
  if (song.sources.length) {
    player.level();
    refresh();
    paint();
  }
  if (!held) return;
  const heir = twins(held)[place] ?? app.querySelector("#again") ?? app.querySelector(".letter") ?? app.querySelector("#blind");
  heir.focus({ preventScroll: true });
  if (marked) heir.setSelectionRange?.(...marked);
}

function notes() {
  if (!song.review.notes.length && !report.served) return null;
  return h("section.panel", { id: "notes", "aria-label": "Notes" }, h("h2", {}, "Notes"),
    song.review.notes.length === 0 && h("p.quiet", {}, "None yet. Press C to write one at the playhead."),
    h("ul.list", {}, song.review.notes.map((note) => h("li", {},
      h("button.time", { type: "button", onclick: () => goTo(placeOf(note)) }, clock(note.time_s)),
      (note.preset || note.stem) && h("span.tag", { dir: "auto" }, [note.preset, note.stem].filter(Boolean).join(" · ")),
      h("span.text", { dir: "auto" }, note.text),
      report.served && h("button.plain", { type: "button", "aria-label": `Remove the note at ${clock(note.time_s)}`, onclick: () => decide({ remove_note: { written_at: note.written_at, text: note.text } }) }, "×")))));
}

let opening = 0;
async function open(index) {
  const mine = ++opening;
  const { id } = report.songs[index];
  let model;
  try {
    model = JSON.parse(new TextDecoder().decode(await load(id)));
  } catch (error) {
    if (mine !== opening) return;
    if (!song) app.replaceChildren(h("p.failure", { role: "alert" }, error.message));
    else {
      say(error.message);
      const picker = document.getElementById("song");
      if (picker) picker.value = song.place;
    }
    return;
  }
  if (mine !== opening) return;
  player.pause();
  blind = null;
  last = null;
  kept.track = kept.render = undefined;
  pictures.clear();
  song = { ...model, id, place: index, chunk_s: report.chunk_s, frames: Math.round(model.seconds * model.sample_rate_hz), sample_rate: model.sample_rate_hz, amplitude };
  view = { start: 0, end: song.seconds };
  document.title = `${song.name} · gbsep`;
  if (song.sources.length) {
    const first = tracks().find((track) => track !== "mixture" && track !== "residual");
    player.show(song, Math.max(0, sourceOf(first, rendersOf(first)[0])));
    warm();
  }
  build();
}

addEventListener("pointerdown", () => { byKeyboard = false; }, true);
addEventListener("keydown", (event) => { byKeyboard ||= event.key === "Tab"; }, true);
addEventListener("keydown", press);
addEventListener("keyup", (event) => { // a button is pressed when Space is let go
  if (event.key === " " && !document.getElementById("help")?.open && !takesSpace(event.target)) event.preventDefault();
});
addEventListener("resize", () => song?.sources.length && draw());
systemIsLight.addEventListener("change", dress);
dress();
globalThis.gbsep = { player, open }; // for the console, and for tests
open(0);
requestAnimationFrame(animate);
