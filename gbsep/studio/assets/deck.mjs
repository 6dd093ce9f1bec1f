// @ts-check
/* The player: asks for pieces ahead of the playhead, hands them to the mixer, tells where it is. Only so many pieces
   are held as are near the playhead and the start of a loop, however long the song is. */

import { addressOf, bytes } from "./api.mjs";

const AHEAD = 8;          // pieces asked for before they are due
const AT_ONCE = 3;        // requests under way
const RETRY_MS = 700;

export function createDeck(changed) {
  let context = null;
  let node = null;
  let song = null;
  let take = null;        // {name, frames, tracks: [{name, lazy, voice}]}
  let setting = { speed: 1, semitones: 0 };
  let stream = 0;
  let loop = null;        // in seconds of the song
  let levels = {};
  let told = { position: 0, playing: false, stalled: false, peaks: {}, counting: 0, laps: 0, time: 0 };
  let wish = null;        // what is played next: {at, playing} until a stream is shown
  let have = new Map();   // "track/number" -> voice it was asked with
  let flying = 0;
  let generation = 0;
  let asking = new AbortController();   // ends what was asked for another stream
  let volume = 1;
  let master = null;
  let ended = 0;          // frames that can be had for now

  const rate = () => song.sample_rate;
  const piece = () => song.piece_frames;
  const length = () => Math.round(take.frames / setting.speed);
  const whole = () => Math.round(song.frames / setting.speed);   // longer, as long as only the first seconds are there
  const plain = () => setting.speed === 1 && setting.semitones === 0;
  const framesOf = (seconds) => Math.round((seconds * rate()) / setting.speed);
  const secondsOf = (frame) => (frame * setting.speed) / rate();

  async function open() {
    if (context && context.sampleRate === rate() && context.piece === piece()) return;
    await close();
    context = new AudioContext({ sampleRate: rate(), latencyHint: "interactive" });
    context.piece = piece();
    await context.audioWorklet.addModule(addressOf("/worklet.mjs"));
    node = new AudioWorkletNode(context, "gbsep-mixer", { numberOfInputs: 0, outputChannelCount: [2], processorOptions: { pieceFrames: piece() } });
    master = context.createGain();
    master.gain.value = volume;
    node.connect(master).connect(context.destination);
    node.port.onmessage = ({ data }) => hear(data);
  }

  async function close() {
    const old = context;
    context = node = null;
    await old?.close();
  }

  function tell(...message) {
    node?.port.postMessage(message);
  }

  function hear(data) {
    if (data.stream !== stream) return;
    const before = told;
    told = data;
    fill();
    changed(before.playing !== told.playing || before.stalled !== told.stalled || before.counting !== told.counting);
  }

  /* Where the playhead is, between reports too. */
  function now() {
    if (!song || !take) return 0;
    if (wish) return wish.at;
    if (!told.playing || told.stalled || told.counting) return secondsOf(told.position);
    const since = Math.min(0.1, Math.max(0, context.currentTime - told.time));
    const at = secondsOf(told.position) + since * setting.speed;
    return loop && secondsOf(told.position) < loop.end ? Math.min(at, loop.end) : at;
  }

  /* The pieces that sound next, in that order: on from a frame, and round the loop. */
  function numbersNear(frame) {
    const here = Math.floor(frame / piece());
    const last = Math.ceil(length() / piece()) - 1;
    const inLoop = loop && frame < framesOf(loop.end);
    const end = inLoop ? Math.min(last, Math.floor((framesOf(loop.end) - 1) / piece())) : last;
    const numbers = new Set();
    for (let number = here; number <= end && numbers.size < AHEAD; number += 1) numbers.add(number);
    if (loop) {
      const start = Math.floor(framesOf(loop.start) / piece());
      const most = Math.max(3, AHEAD - numbers.size);
      for (let number = start; number <= end && number < start + most; number += 1) numbers.add(number);
    }
    if (here > 0) numbers.add(here - 1);
    return [...numbers];
  }

  /* The tracks whose piece of that number is not there as it should be. Stems are stretched together, the mixture alone. */
  function missing(number) {
    const wanted = take.tracks.filter((track) => (!track.lazy || levels[track.name]?.some(Boolean)) && have.get(`${track.name}/${number}`) !== track.voice);
    if (!wanted.length || plain()) return wanted.length ? [wanted] : [];
    const alone = wanted.filter((track) => track.lazy).map((track) => [track]);
    return wanted.every((track) => track.lazy) ? alone : [take.tracks.filter((track) => !track.lazy), ...alone];
  }

  /* The mixer takes pieces of the stream that it shows: while another is on its way, none is asked for. */
  function fill() {
    if (!take || !context || wish) return;
    const numbers = numbersNear(told.position);
    const kept = new Set(numbers);
    for (const key of have.keys()) if (!kept.has(Number(key.slice(key.lastIndexOf("/") + 1)))) have.delete(key);
    tell("keep", numbers);
    for (const number of numbers) {
      if (number * piece() >= ended) continue;
      for (const tracks of missing(number)) {
        if (flying >= AT_ONCE) return;
        get(number, tracks);
      }
    }
  }

  async function get(number, tracks, into = "take", id = stream) {
    const mine = generation;
    for (const track of tracks) have.set(`${track.name}/${number}`, track.voice);
    flying += 1;
    try {
      const got = await pieces(number, tracks);
      if (mine !== generation) return;
      tracks.forEach((track, index) => {
        if (have.get(`${track.name}/${number}`) === track.voice) tell(into, id, track.name, number, got[index]);
      });
    } catch (error) {
      if (mine !== generation) return;
      for (const track of tracks) have.delete(`${track.name}/${number}`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      if (error.status !== 416) changed(true, error);
    } finally {
      flying -= 1;
      if (mine === generation && into === "take") fill();
    }
  }

  async function pieces(number, tracks) {
    const query = tracks.map((track) => `track=${encodeURIComponent(`${track.name}:${track.voice}`)}`).join("&");
    const how = plain() ? "" : `&speed=${setting.speed}&semitones=${setting.semitones}`;
    const content = await bytes(`/api/songs/${song.id}/sound/${encodeURIComponent(take.name)}/${number}?${query}${how}`, { signal: asking.signal });
    return tracks.map((_, index) => new Float32Array(content.slice(index * piece() * 8, (index + 1) * piece() * 8)));
  }

  /* A stream anew, from a time on; its first pieces are there before it is heard. */
  async function show(at, playing) {
    const mine = ++generation;
    asking.abort();
    asking = new AbortController();
    const id = ++stream;
    wish = { at, playing };
    have = new Map();
    ended = take.frames < song.frames ? Math.floor(length() / piece()) * piece() : length();
    const number = Math.max(0, Math.floor(framesOf(at) / piece()));
    const heard = take.tracks.filter((track) => !track.lazy || (plain() && levels[track.name]?.some(Boolean)));
    await open();
    const first = async (one) => {
      for (const track of heard) have.set(`${track.name}/${one}`, track.voice);
      const got = await pieces(one, heard);
      if (mine === generation) heard.forEach((track, index) => tell("ready", id, track.name, one, got[index]));
    };
    try {
      await first(number);
      if (!plain() || (number + 1) * piece() >= ended) await null;
      else await first(number + 1);
    } catch (error) {
      if (mine === generation) changed(true, error);
    }
    if (mine !== generation) return;
    const { at: from, playing: goOn, beats } = wish;
    const moved = told.playing && from === at ? null : framesOf(from);
    wish = null;
    tell("show", { id, end: whole(), speed: setting.speed }, take.tracks.map(({ name, lazy }) => ({ name, lazy })), moved);
    tell("gains", levels);
    tell("loop", loop && { start: framesOf(loop.start), end: framesOf(loop.end) });
    if (goOn && !told.playing) await start(beats);
    changed(true);
  }

  async function start(beats = null) {
    await context.resume();
    tell("play", beats && { count: beats.count, frames: Math.round((beats.seconds * rate()) / setting.speed) });
  }

  return {
    get seconds() { return now(); },
    get playing() { return wish ? wish.playing : told.playing; },
    get stalled() { return Boolean(wish) || told.stalled; },
    get counting() { return told.counting; },
    get laps() { return told.laps; },
    get peaks() { return told.peaks; },
    get loop() { return loop; },
    get setting() { return setting; },
    get volume() { return volume; },
    get levels() { return levels; },
    get context() { return context; },
    get node() { return node; },
    get master() { return master; },
    get held() { return have.size; },
    get take() { return take; },
    /* A take of a song; the playhead stays when the song does. */
    load(model, one, { at = null, playing = null } = {}) {
      const same = song?.id === model.id;
      const here = at ?? (same ? now() : 0);
      const going = playing ?? (same && this.playing);
      if (!same) {
        loop = null;
        told = { ...told, playing: false, position: 0 };
        tell("pause");
      }
      song = model;
      take = one;
      return show(Math.min(here, take.frames / rate()), going);
    },
    /* Nothing to play any more. */
    unload() {
      generation += 1;
      asking.abort();
      take = wish = null;
      tell("pause");
    },
    play(beats = null) {
      if (!take) return;
      if (wish) Object.assign(wish, { playing: true, beats });
      else start(beats);
    },
    pause() {
      if (wish) wish.playing = false;
      tell("pause");
    },
    seek(seconds) {
      if (!take) return;
      const at = Math.min(Math.max(0, seconds), take.frames / rate());
      if (wish) wish.at = at;
      else {
        tell("seek", framesOf(at));
        told = { ...told, position: framesOf(at), time: context?.currentTime ?? 0 };
        fill();
      }
      changed(true);
    },
    setLoop(range) {
      if (!take) return;
      loop = range && { start: Math.max(0, range.start), end: Math.min(range.end, song.frames / rate()) };
      tell("loop", loop && { start: framesOf(loop.start), end: framesOf(loop.end) });
      fill();
      changed(true);
    },
    /* What each track is raised by: at once, or with the next take that is loaded. */
    setLevels(fresh, atOnce = true) {
      levels = fresh;
      if (!atOnce) return;
      tell("gains", levels);
      if (take && context) fill();
    },
    setSpeed(fresh) {
      const here = now();
      const going = this.playing;
      setting = fresh;
      if (take) return show(here, going);
      return null;
    },
    /* Another voice of a track: what sounds now first. */
    setVoice(name, voice) {
      const track = take?.tracks.find((one) => one.name === name);
      if (!track || track.voice === voice) return;
      track.voice = voice;
      if (!plain()) {
        this.setSpeed(setting);
        return;
      }
      if (!wish) {
        const number = Math.floor(told.position / piece());
        for (const one of [number, number + 1]) if (one * piece() < ended) get(one, [track]);
      }
    },
    setVolume(value) {
      volume = value;
      if (master) master.gain.setTargetAtTime(value, context.currentTime, 0.01);
    },
  };
}
