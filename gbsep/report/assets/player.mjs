// @ts-check
/* One clock for all sounds. Time is cut into pieces that are laid on the clock of the audio context; what sounds is a
   voice that plays those pieces of one source. Switching fades from one voice to another on the same pieces, so the new
   sound is where the old one was, to the frame. Only pieces near the playhead are held decoded. */

const AHEAD_S = 1.5;
const START_S = 0.04;
const AT_HAND_S = 0.5;        // so much is decoded before it begins to sound
const FADE_S = 0.01;
const HELD_BYTES = 160e6;

export function createPlayer(load, changed) {
  let context, master, analyser, timer;
  let song = null;
  let source = null;      // what sounds, or would
  let wanted = null;      // what is being switched to
  let voice = null;
  let pieces = [];
  let next = null;        // frame in the song and time of the next piece, null at the end
  let rest = 0;           // playhead in frames while nothing plays
  let playing = false;
  let turn = 0;           // raised by whatever makes a waiting start pointless
  let loop = null;
  let volume = 1;
  let near = [];          // sources worth holding, the likeliest first
  const held = new Map();

  const rate = () => song.sample_rate;
  const chunkFrames = () => song.chunk_s * rate();

  function open() {
    if (context && context.wanted === rate()) return;
    context?.close();
    try {
      context = new AudioContext({ sampleRate: rate(), latencyHint: "interactive" });
    } catch {
      context = new AudioContext();
    }
    context.wanted = rate();
    master = context.createGain();
    master.gain.value = volume;
    analyser = context.createAnalyser();
    analyser.fftSize = 2048;
    master.connect(analyser).connect(context.destination);
    held.clear();
  }

  function buffer(id, number) {
    const key = `${id}-${number}`;
    if (number >= song.sources[id].chunks) return Promise.resolve(null);
    let one = held.get(key);
    held.delete(key);
    if (!one) {
      one = { ready: null, failed: null };
      const into = context;
      one.promise = load(`${song.id}-${id}-${number}`)
        .then((bytes) => into.decodeAudioData(bytes.buffer))
        .then((decoded) => { one.ready = decoded; return decoded; });
      one.promise.catch(() => held.delete(key));
    }
    held.set(key, one);
    let bytes = 0;
    for (const [other, { ready }] of [...held].reverse()) {
      bytes += ready ? 4 * ready.length * ready.numberOfChannels : 0;
      if (bytes > HELD_BYTES) held.delete(other);
    }
    return one.promise;
  }

  /* All that a source sounds soon, if it begins at a frame, decoded. */
  const atHand = (id, frame) => Promise.all([0, AT_HAND_S * rate()]
    .map((later) => buffer(id, Math.floor((frame + later) / chunkFrames()))));

  const ready = (id, number) => held.get(`${id}-${number}`)?.ready;
  const onGrid = (time) => Math.ceil(time * context.sampleRate) / context.sampleRate;

  function lay() {
    const until = context.currentTime + AHEAD_S;
    while (next && next.time < until) {
      const number = Math.floor(next.frame / chunkFrames());
      const ends = [(number + 1) * chunkFrames(), song.frames];
      if (loop && next.frame < loop.end) ends.push(loop.end);
      const end = Math.min(...ends);
      pieces.push({ number, frame: next.frame, time: next.time, seconds: (end - next.frame) / rate() });
      const time = next.time + (end - next.frame) / rate();
      if (loop && end === loop.end) next = { frame: loop.start, time };
      else next = end < song.frames ? { frame: end, time } : null;
    }
    const now = context.currentTime;
    while (pieces.length > 1 && pieces[1].time < now - 1) voice?.fed.delete(pieces.shift());
  }

  function feed(one) {
    for (const piece of pieces) {
      if (one.fed.has(piece) || piece.time + piece.seconds < context.currentTime) continue;
      const decoded = ready(one.id, piece.number);
      if (!decoded) {
        buffer(one.id, piece.number).then((some) => some && voice === one && feed(one), failed);
        continue;
      }
      one.fed.add(piece);
      const late = Math.max(0, onGrid(context.currentTime + 0.005) - piece.time);
      const offset = (piece.frame - piece.number * chunkFrames()) / rate() + late;
      const seconds = Math.min(piece.seconds - late, decoded.duration - offset);
      if (seconds <= 0) continue;
      const node = context.createBufferSource();
      node.buffer = decoded;
      node.connect(one.gain);
      node.start(piece.time + late, offset, seconds);
      one.nodes.add(node);
      node.onended = () => one.nodes.delete(node);
    }
  }

  const soon = () => context.currentTime + 0.005;

  /* A voice that fades in at a time, and one that fades out. */
  function raise(id, at = soon()) {
    const one = { id, gain: context.createGain(), nodes: new Set(), fed: new Set() };
    one.gain.gain.setValueAtTime(0, context.currentTime);
    one.gain.gain.setValueAtTime(0, at);
    one.gain.gain.linearRampToValueAtTime(song.amplitude(id), at + FADE_S);
    one.gain.connect(master);
    return one;
  }

  function lower(one, at = soon()) {
    if (!one) return;
    const now = context.currentTime;
    const level = one.gain.gain.value;
    one.gain.gain.cancelScheduledValues(now);
    one.gain.gain.setValueAtTime(level, now);
    one.gain.gain.setValueAtTime(level, at);
    one.gain.gain.linearRampToValueAtTime(0, at + FADE_S);
    for (const node of one.nodes) node.stop(at + 2 * FADE_S);
    setTimeout(() => one.gain.disconnect(), 1000 * (at - now) + 200);
  }

  /* The pieces from here on anew, without a break: what was laid ahead no longer holds. */
  function layAgain() {
    const at = onGrid(context.currentTime + START_S);
    next = { frame: frame(at), time: at };
    pieces = [];
    lay();
    lower(voice, at);
    voice = raise(source, at);
    feed(voice);
  }

  /* Where the playhead is, or will be at a time, in frames. */
  function frame(at = context?.currentTime) {
    if (!playing || !pieces.length) return rest;
    const piece = pieces.findLast((one) => one.time <= at) ?? pieces[0];
    const inside = Math.min(Math.max(0, at - piece.time), piece.seconds);
    return Math.min(song.frames, Math.round(piece.frame + inside * rate()));
  }

  function tick() {
    lay();
    if (voice) feed(voice);
    const last = pieces.at(-1);
    if (!next && last && context.currentTime > last.time + last.seconds) {
      halt(0);
      return;
    }
    warm();
  }

  let warming = false;
  async function warm() {
    if (warming) return;
    warming = true;
    const mine = turn;
    const number = Math.floor(frame() / chunkFrames());
    try {
      for (const offset of [0, 1]) {
        for (const id of near) {
          if (mine !== turn) return;
          if (!ready(id, number + offset)) await buffer(id, number + offset);
        }
      }
    } catch (error) {
      failed(error);
    } finally {
      warming = false;
    }
  }

  function failed(error) {
    changed({ error: error.message });
  }

  function halt(at) {
    turn += 1;
    rest = at;
    playing = false;
    clearInterval(timer);
    lower(voice);
    voice = null;
    pieces = [];
    next = null;
    changed({});
  }

  async function start(at) {
    open();
    const mine = ++turn;
    const id = (source = wanted ?? source);
    wanted = null;
    lower(voice);
    voice = null;
    pieces = [];
    next = null;
    rest = at >= song.frames ? 0 : at;
    playing = true;
    changed({});
    try {
      await Promise.all([context.resume(), atHand(id, rest)]);
    } catch (error) {
      if (mine === turn) halt(rest);
      failed(error);
      return;
    }
    if (mine !== turn) return;
    next = { frame: rest, time: onGrid(context.currentTime + START_S) };
    lay();
    voice = raise(source);
    feed(voice);
    clearInterval(timer);
    timer = setInterval(tick, 200);
    warm();
    changed({});
  }

  async function choose(id) {
    if (!playing || !voice) {
      source = id;
      wanted = null;
      changed({});
      return;
    }
    wanted = id;
    changed({});
    const mine = turn;
    try {
      await atHand(id, frame());
    } catch (error) {
      if (wanted === id) wanted = null;
      failed(error);
      return;
    }
    if (mine !== turn || wanted !== id) return;
    wanted = null;
    source = id;
    const fresh = raise(id);
    feed(fresh);
    lower(voice);
    voice = fresh;
    changed({});
  }

  return {
    get playing() { return playing; },
    get source() { return wanted ?? source; },
    get sounding() { return voice?.id ?? null; },
    get seconds() { return song ? frame() / rate() : 0; },
    get loop() { return loop && { start: loop.start / rate(), end: loop.end / rate() }; },
    get analyser() { return analyser; },
    get context() { return context; },
    /* A song: id, sample_rate, chunk_s, frames, sources with chunks, and amplitude(source). */
    show(one, first) {
      if (playing) halt(0);
      turn += 1;
      song = one;
      source = first;
      wanted = null;
      loop = null;
      rest = 0;
      held.clear();
    },
    near(ids) { near = ids; },
    choose,
    play() { if (!playing) start(rest); },
    pause() { if (playing) halt(frame()); },
    /* A loop ends where one leaves it. */
    seek(seconds, andPlay = playing) {
      const at = Math.min(Math.max(0, Math.round(seconds * rate())), song.frames - 1);
      if (loop && (at < loop.start || at >= loop.end)) loop = null;
      if (andPlay) return start(at);
      rest = at;
      changed({});
    },
    setLoop(range) {
      loop = range && { start: Math.round(range.start * rate()), end: Math.round(range.end * rate()) };
      if (voice && (!loop || (frame() >= loop.start && frame() < loop.end))) layAgain();
      else if (playing) start(loop ? loop.start : rest);
      changed({});
    },
    setVolume(value) {
      volume = value;
      if (master) master.gain.setTargetAtTime(value, context.currentTime, 0.01);
    },
    /* Levels of all sources changed. */
    level() {
      if (voice) voice.gain.gain.setTargetAtTime(song.amplitude(voice.id), context.currentTime, 0.005);
    },
  };
}
