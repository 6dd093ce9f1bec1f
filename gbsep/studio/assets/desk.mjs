// @ts-check
/* The desk of a song as it was left: faders, loop, speed, tempo, chains. The server keeps it beside the renders. */

import { post } from "./api.mjs";
import { bypasses, hearAll, recallChains, turnedChains } from "./chain.mjs";
import { deck, state } from "./model.mjs";
import { correct } from "./practice.mjs";

const EVERY_MS = 1500;
const MOST_LEAVING = 20_000;  // letters that a browser surely sends for a page that is gone
let known = "";         // as the server has it
let mine = "";          // the song whose desk that is

/* The first seconds are left as the whole take that follows them. */
const wholeName = (take) => take.name.replace(/^first~/, "");

function desk() {
  const corrected = state.tempo?.corrected;
  return {
    take: wholeName(state.take), chains: turnedChains(), bypassed: bypasses(), strips: state.strips,
    loop: deck.loop && [deck.loop.start, deck.loop.end], ...deck.setting, tempo: corrected ?? null,
  };
}

/* The faders and the speed of a song that is opened; its chains come with the take. */
export function recallDesk() {
  const kept = state.song.desk;
  [mine, known] = [state.song.id, kept ? JSON.stringify(kept) : ""];
  const { strips, ...wanted } = kept ?? { strips: {}, speed: 1, semitones: 0 }; // nothing of the song before
  state.strips = strips;
  const { speed, semitones } = deck.setting;
  if (speed !== wanted.speed || semitones !== wanted.semitones) deck.setSpeed({ speed: wanted.speed, semitones: wanted.semitones });
}

/* The chains and the loop, once their take is there. */
export function recallTake(take) {
  const kept = state.song.desk;
  if (kept?.take === wholeName(take)) recallChains(kept);
}

export function recallLoop() {
  const kept = state.song.desk;
  if (kept?.loop) deck.setLoop({ start: kept.loop[0], end: kept.loop[1] });
  hearAll();
}

export function recallTempo() {
  const told = Object.entries(state.song.desk?.tempo ?? {}).filter(([, value]) => value !== null);
  if (told.length) correct(Object.fromEntries(told));
}

/* Have the server keep it: now and then, before another song is opened, and when the page is left. */
export async function keepDesk() {
  if (!state.song || !state.take || state.song.id !== mine || state.blind) return;
  const now = JSON.stringify(desk());
  if (now === known) return;
  known = now;
  try {
    await post(`/api/songs/${mine}/desk`, JSON.parse(now), { keepalive: now.length < MOST_LEAVING });
  } catch {
    known = "";         // the next time, then
  }
}

export function watchDesk() {
  setInterval(keepDesk, EVERY_MS);
  addEventListener("visibilitychange", keepDesk);
  addEventListener("pagehide", keepDesk);
}
