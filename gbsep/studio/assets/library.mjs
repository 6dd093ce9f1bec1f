// @ts-check
/* The songs of the folder: dropped, chosen, listed; the queue of renders. */

import { ask, post, upload } from "./api.mjs";
import { clock, h, say } from "../../report/assets/dom.mjs";
import { redrawing } from "./focus.mjs";
import { state, studio } from "./model.mjs";
import { t } from "./words.mjs";

const MOST_JOBS = 12;
const MOST_FAILED = 4;
let filter = "";
let kind = "all";

const KINDS = { all: () => true, undecided: (one) => !one.status, found: (one) => one.findings > 0, apart: (one) => one.takes.length === 0 };

export async function takeFiles(files) {
  const audio = [...files].filter((file) => state.library.suffixes.some((suffix) => file.name.toLowerCase().endsWith(suffix)));
  if (audio.length < files.length) say(`${[...files].find((file) => !audio.includes(file)).name}: ${t("notAudio")}`);
  let opened = false;
  for (const file of audio) {
    state.sending.set(file.name, 0);
    studio.sidebar();
    try {
      const song = await upload(file, (fraction) => {
        state.sending.set(file.name, fraction);
        studio.sidebar();
      });
      state.sending.delete(file.name);
      await studio.look();
      if (!song.takes.includes(state.preset)) await separate([song.id]);
      if (!opened) {
        opened = true;
        await studio.open(song.id, true);
      }
    } catch (error) {
      state.sending.delete(file.name);
      say(error.message);
    }
    studio.sidebar();
  }
}

export async function separate(songs, more = {}) {
  try {
    await post("/api/jobs", { songs, preset: state.preset, ...more });
    watchQueue();
  } catch (error) {
    say(error.message);
  }
}

export const busy = (song) => state.jobs.some((job) => job.song === song && ["waiting", "running"].includes(job.state));

let watching = false;
let hurry = () => {};

/* Look at the queue: often while something is at work, now and then otherwise, for another page may have begun it. */
export async function watchQueue() {
  hurry();
  if (watching) return;
  watching = true;
  let lost = false;
  let before = new Map(state.jobs.filter((job) => !["waiting", "running"].includes(job.state)).map((job) => [job.number, job.state]));
  let wait = 250;
  for (;;) {
    try {
      const { jobs } = await ask("/api/jobs");
      const changed = jobs.filter((job) => before.get(job.number) !== job.state);
      state.jobs = jobs;
      for (const job of changed) {
        if (job.state === "failed") say(`${nameOf(job.song)}: ${job.error}`);
        if (job.state === "done" && job.kind === "render" && state.song?.id === job.song) await studio.renew();
      }
      if (changed.some((job) => job.state === "done" && !job.first)) await studio.look();
      before = new Map(jobs.map((job) => [job.number, job.state])); // what was not taken in is tried again
      if (lost) await studio.look();
      lost = false;
      wait = jobs.some((job) => ["waiting", "running"].includes(job.state)) ? 250 : 2500;
    } catch (error) {
      if (!lost) say(error.message);
      lost = true;
      wait = 3000;
    }
    studio.sidebar();
    await new Promise((resolve) => {
      hurry = resolve;
      setTimeout(resolve, wait);
    });
  }
}

export const nameOf = (id) => state.library.songs.find((one) => one.id === id)?.name ?? "";

/* The page before the first song: what to do, and what comes of it. */
export function welcome(presets, demo) {
  return h("section.welcome", { "aria-labelledby": "welcome" }, h("h2", { id: "welcome" }, t("welcome")),
    h("ol.steps", {}, ["stepDrop", "stepMix", "stepTurn", "stepHome"].map((word) => h("li", {}, t(word)))),
    h("div.row", {},
      h("button.main", { type: "button", onclick: () => document.getElementById("files")?.click() }, t("choose")),
      h("button.plain", { type: "button", id: "demo", onclick: async (event) => {
        event.target.disabled = true;
        try {
          await demo();
        } catch (error) {
          event.target.disabled = false;
          say(error.message);
        }
      } }, t("demo"))),
    h("label.field", {}, h("span", {}, t("separateBy")), presets));
}

export function dropZone() {
  const input = h("input.sr", { type: "file", id: "files", multiple: true, accept: state.library.suffixes.join(","), tabindex: "-1", "aria-label": t("choose"),
    onchange: (event) => { takeFiles(event.target.files); event.target.value = ""; } });
  return h("div.drop", { id: "drop" }, h("b", {}, t("drop")),
    h("p.quiet", {}, t("dropMore")),
    h("button.main", { type: "button", onclick: () => input.click() }, t("choose")), input);
}

export function watchDrops() {
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    takeFiles(event.dataTransfer.files);
  });
}

export function songList() {
  const search = h("input", { type: "search", id: "filter", placeholder: t("filter"), "aria-label": t("filter"), value: filter,
    oninput: (event) => { filter = event.target.value; rows(); } });
  const list = h("ul.songs", { id: "songlist", "aria-label": t("songs") });
  const which = h("select", { id: "kind", "aria-label": t("which"), onchange: (event) => { kind = event.target.value; rows(); } },
    Object.keys(KINDS).map((one) => h("option", { value: one, selected: one === kind }, t(`kind_${one}`))));
  const place = h("section.side", { "aria-label": t("songs") }, h("h2", {}, t("songs")), h("div.sifting", {}, search, which), list);
  rows(list);
  return place;
}

/* The songs that are sifted out, drawn where they have changed. */
export function rows(list = document.getElementById("songlist")) {
  if (!list) return;
  const fresh = songRows();
  const same = (one, at) => one.isEqualNode(list.children[at]);
  if (fresh.length !== list.children.length || !fresh.every(same)) redrawing(() => list.replaceChildren(...fresh));
}

function songRows() {
  const found = state.library.songs.filter((one) => KINDS[kind](one) && one.name.toLowerCase().includes(filter.toLowerCase()));
  return [...found.map((one) => {
    const job = state.jobs.find((each) => each.song === one.id && ["running", "waiting"].includes(each.state));
    const decided = { accepted: "✓", rejected: "✕" }[one.status];
    const takes = one.takes.map((name) => (name === one.best ? `★ ${name}` : name));
    const about = [clock(one.seconds, 0), takes.slice(0, 3).join(", ") + (takes.length > 3 ? ` +${takes.length - 3}` : ""), one.findings ? `${one.findings} ${t("findings").toLowerCase()}` : null, job && t(job.state)];
    return h("li", {}, h("button.song", { type: "button", id: `song-${one.id}`, "aria-current": one.id === state.song?.id ? "true" : null, onclick: () => studio.open(one.id) },
      h("b", { dir: "auto" }, decided && h("span", { title: t(one.status), "aria-label": t(one.status), role: "img" }, `${decided} `), one.name), h("small.quiet", {}, about.filter(Boolean).join(" · "))));
  }), ...Object.entries(state.library.unreadable).map(([name, why]) => h("li.failure", { dir: "auto" }, `${name}: ${why}`))];
}

/* The queue as it is now: how far a job is changes in its place, so that what is pressed there stays. */
export function dressQueue() {
  const [now, fresh] = [document.getElementById("queue"), queueList()];
  if (!now) return;
  const moving = (place) => [...place.querySelectorAll("progress, small")];
  const shape = (place) => [...place.querySelectorAll("li")].map((one) => `${one.dataset.job} ${one.dataset.state}`).join();
  const [from, to] = [moving(fresh), moving(now)];
  if (shape(now) !== shape(fresh) || from.length !== to.length) {
    redrawing(() => now.replaceWith(fresh));
    return;
  }
  to.forEach((one, at) => {
    if (one.localName === "progress") one.value = from[at].value;
    else if (one.textContent !== from[at].textContent) one.textContent = from[at].textContent;
  });
}

export function queueList() {
  const sending = [...state.sending].map(([name, fraction]) => h("li", { "data-job": name }, h("b", { dir: "auto" }, name),
    h("progress", { max: "1", value: String(fraction), "aria-label": name })));
  const listed = ["running", "failed", "waiting"].flatMap((kind) => state.jobs.filter((job) => job.state === kind).slice(kind === "failed" ? -MOST_FAILED : 0));
  const shown = listed.slice(0, MOST_JOBS);
  const active = listed.filter((job) => job.state !== "failed");
  return h("section.side", { id: "queue", "aria-label": t("queue"), hidden: !sending.length && !shown.length },
    h("h2", {}, t("queue")),
    h("ul.jobs", {}, sending, shown.map((job) => h("li", { "data-job": job.number, "data-state": job.state },
      h("b", { dir: "auto" }, nameOf(job.song)),
      h("small.quiet", {}, [job.kind === "mix" && t("playAlong"), job.preset, job.first && t("first"), t(job.state), job.left_s !== null && `${clock(job.left_s, 0)} ${t("left")}`].filter(Boolean).join(" · ")),
      job.state === "running" && h("progress", { max: "1", value: String(job.fraction), "aria-label": nameOf(job.song) }),
      job.state === "failed" ? h("small.failure", {}, job.error)
        : h("button.plain.small", { type: "button", id: `cancel-${job.number}`, "aria-label": `${t("cancel")} ${nameOf(job.song)}`, onclick: () => post(`/api/jobs/${job.number}/cancel`, {}).then(watchQueue, (error) => say(error.message)) }, "✕"))),
      listed.length > shown.length && h("li.quiet", { "data-job": "more" }, h("small", {}, `+${listed.length - shown.length} ${t("waiting")}`))),
    active.length > 2 && h("button.plain.small", { type: "button", id: "cancelall", onclick: () => post("/api/jobs/cancel", {}).then(watchQueue, (error) => say(error.message)) }, t("cancelAll")));
}
