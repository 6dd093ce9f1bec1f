// @ts-check
/* The desk of a song as it was left: faders, loop, speed, tempo, chains. The server keeps it beside the renders. */

import { post } from "./api.mjs";
import { hearAll, recallChains, turnedChains } from "./chain.mjs";
import { deck, state } from "./model.mjs";
import { correct } from "./practice.mjs";

const EVERY_MS = 1500;
let known = "";         // as the server has it
let mine = "";          // the song whose desk that is

function desk() {
  const { bpm, key, corrected } = state.tempo ?? {};
  return {
    take: state.take.name, chains: turnedChains(), strips: state.strips,
    loop: deck.loop && [deck.loop.start, deck.loop.end], ...deck.setting, tempo: corrected ? { bpm, key } : null,
  };
}

/* The faders and the speed of a song that is opened; its chains come with the take. */
export function recallDesk() {
  const kept = state.song.desk;
  [mine, known] = [state.song.id, kept ? JSON.stringify(kept) : ""];
  if (!kept) return;
  state.strips = kept.strips;
  const { speed, semitones } = deck.setting;
  if (speed !== kept.speed || semitones !== kept.semitones) deck.setSpeed({ speed: kept.speed, semitones: kept.semitones });
}

/* The chains and the loop, once their take is there. */
export function recallTake(take) {
  const kept = state.song.desk;
  if (kept?.take === take.name) recallChains(kept.chains);
}

export function recallLoop() {
  const kept = state.song.desk;
  if (kept?.loop) deck.setLoop({ start: kept.loop[0], end: kept.loop[1] });
  hearAll();
}

export function recallTempo() {
  if (state.song.desk?.tempo) correct(state.song.desk.tempo);
}

async function keep() {
  if (!state.song || !state.take || state.song.id !== mine || state.blind || state.take.name.startsWith("first~")) return;
  const now = JSON.stringify(desk());
  if (now === known) return;
  known = now;
  try {
    await post(`/api/songs/${mine}/desk`, JSON.parse(now));
  } catch {
    known = "";         // the next time, then
  }
}

export function watchDesk() {
  setInterval(keep, EVERY_MS);
  addEventListener("visibilitychange", keep);
}
