// @ts-check
/* What leaves the page: files to drag or download, the mix as the faders stand, sessions, the report. */

import { addressOf, post } from "./api.mjs";
import { h, number, say } from "../../report/assets/dom.mjs";
import { separate, watchQueue } from "./library.mjs";
import { deck, isHeard, state, stripOf } from "./model.mjs";
import { t } from "./words.mjs";

const FORMATS = [["wav", null, "WAV float"], ["wav", "24", "WAV 24"], ["wav", "16", "WAV 16"], ["flac", "24", "FLAC 24"], ["mp3", null, "MP3"]];
let format = 0;
let names = "{stem}";

/* A link to a file that can be dragged out of the page into a DAW, or clicked. */
function fileLink(take, file) {
  const address = addressOf(`/api/songs/${state.song.id}/file/${encodeURIComponent(take)}/${encodeURIComponent(file)}`);
  return h("a.file", { href: address, download: file, draggable: "true", title: t("drag"),
    ondragstart: (event) => event.dataTransfer.setData("DownloadURL", `application/octet-stream:${state.song.name.replaceAll("/", " ")} - ${file}:${new URL(address, location.href)}`) }, `↓ ${file}`);
}

async function doing(button, what) {
  button.disabled = true;
  const before = button.textContent;
  button.textContent = t("working");
  try {
    await what();
  } catch (error) {
    say(error.message);
  }
  button.disabled = false;
  button.textContent = before;
}

/* What a job has made, once it is done. */
async function ended(number) {
  for (;;) {
    const job = state.jobs.find((one) => one.number === number);
    if (job?.state === "done") return job.result;
    if (job && ["failed", "cancelled"].includes(job.state)) throw new Error(job.error || t("cancelled"));
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const results = () => document.getElementById("taken");

/* A mix that was exported. */
const mixRow = ({ take, file, lower_db: lower = 0 }) => h("li", {}, `${take}: `, fileLink(take, file), lower < 0 ? ` ${t("lowered")} ${number(lower)} dB` : null);

/* The strips that are in the mix. */
const mixed = () => state.take.tracks.filter((one) => isHeard(one.name) && stripOf(one.name).gain_db > -60);

function mixNow(onlyLoop) {
  const strips = mixed().map((one) => ({
    track: one.name, voice: deck.take?.tracks.find((each) => each.name === one.name)?.voice ?? "-", gain_db: stripOf(one.name).gain_db, pan: stripOf(one.name).pan }));
  const [container, depth] = FORMATS[format];
  const range = onlyLoop && deck.loop ? { start_s: deck.loop.start, end_s: deck.loop.end } : {};
  return { take: state.take.name, strips, ...deck.setting, format: container, bit_depth: depth, ...range };
}

export function takeHomePanel() {
  if (!state.take || state.take.name.startsWith("first~")) return h("p.quiet", {}, t(state.take ? "waitingRest" : "empty"));
  const select = h("select", { id: "format", "aria-label": t("format"), onchange: (event) => { format = Number(event.target.value); } },
    FORMATS.map(([, , label], index) => h("option", { value: String(index), selected: index === format }, label)));
  const only = h("input", { type: "checkbox", id: "onlyloop" });
  return h("div.home", {},
    h("section", {}, h("h3", {}, t("stems")), h("p.quiet", {}, t("drag")),
      h("div.files", {}, state.take.tracks.map((one) => fileLink(state.take.name, one.file))),
      h("div.row", {}, select,
        h("label.field", {}, h("span", {}, t("names")), h("input", { type: "text", id: "names", value: names, size: "16", oninput: (event) => { names = event.target.value; } })),
        h("button.plain", { type: "button", id: "again", onclick: () => {
          const [container, depth] = FORMATS[format];
          state.preset = state.take.base;
          separate([state.song.id], { format: container, bit_depth: depth, name: names });
        } }, t("inFormat")))),
    h("section", {}, h("h3", {}, t("playAlong")), h("p.quiet", { id: "mixwords" }, summary()),
      h("div.row", {}, h("label", {}, only, " ", t("selection")),
        h("button.main", { type: "button", id: "export", onclick: (event) => doing(event.target, async () => {
          if (!mixed().length) throw new Error(t("allMuted"));
          const mine = state.song.id;
          const job = await post(`/api/songs/${mine}/mix`, mixNow(/** @type {any} */ (only).checked));
          watchQueue();
          const made = await ended(job.number);
          if (mine !== state.song.id) return;
          state.song.mixes = [...state.song.mixes.filter((one) => one.take !== made.take), made];
          results()?.append(mixRow(made));
        }) }, t("export")))),
    h("section", {}, h("h3", {}, t("session")), h("div.row", {},
      ["reaper", "dawproject"].map((kind) => h("button.plain", { type: "button", "data-session": kind, onclick: (event) => doing(event.target, async () => {
        const { projects } = await post(`/api/songs/${state.song.id}/session`, { format: kind, take: state.take.name });
        for (const one of projects) {
          const address = addressOf(`/api/songs/${state.song.id}/project/${encodeURIComponent(one.name)}`);
          results().append(h("li", {}, h("a.file", { href: address, download: one.name }, `↓ ${one.name}`), " ", one.warnings.join("; ")));
        }
      }) }, t(kind))),
      h("button.plain", { type: "button", id: "report", onclick: (event) => doing(event.target, async () => {
        const { file } = await post("/api/report", {});
        results().append(h("li", {}, h("a.file", { href: addressOf("/api/report.html"), download: file }, `↓ ${file}`)));
      }) }, t("report")))),
    h("ul.list", { id: "taken", "aria-live": "polite" }, state.song.mixes.map(mixRow)));
}

export function dressSummary() {
  const words = document.getElementById("mixwords");
  if (words) words.textContent = summary();
}

/* What the mix is made of, in words. */
function summary() {
  if (!mixed().length) return t("allMuted");
  const words = mixed().map((one) => `${t(one.name)} ${stripOf(one.name).gain_db > 0 ? "+" : ""}${stripOf(one.name).gain_db} dB`);
  if (deck.setting.speed !== 1) words.push(`${Math.round(100 * deck.setting.speed)} %`);
  if (deck.setting.semitones) words.push(`${deck.setting.semitones > 0 ? "+" : ""}${deck.setting.semitones}`);
  return words.join(" · ");
}
