// What tests/test_studio_page.py has a browser do: ten minutes of sound through the mixer's own thread, faster than they
// last, with a change every few seconds. Gives what was found as {changes, checked, off}.
async ({ seconds, rate, every, piece, fade }) => {
  // Every frame of a stream is unlike every other: a track that is a frame off cannot hide.
  const noise = (frame) => {
    let x = Math.imul(frame + 1, 2654435761) >>> 0;
    x ^= x >>> 15;
    x = Math.imul(x, 2246822519) >>> 0;
    x ^= x >>> 13;
    return Math.fround(x / 4294967296 - 0.5);
  };
  let seed = 411;
  const chance = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 4294967296;
  };
  const context = new OfflineAudioContext(2, seconds * rate, rate);
  await context.audioWorklet.addModule(`/worklet.mjs${location.search}`);
  const node = new AudioWorkletNode(context, "gbsep-mixer", { numberOfInputs: 0, outputChannelCount: [2], processorOptions: { pieceFrames: piece } });
  node.connect(context.destination);

  const names = ["bass", "guitar"];
  const stretches = []; // from a frame that was rendered on: which stream sounds, from which of its frames, how loudly
  let now = { out: 0, id: 1, at: 0, gains: { bass: 1, guitar: 1 } };
  const whole = seconds * rate;
  const long = () => Math.round(whole / now.speed);
  now.speed = 1;

  const content = (id, number, side) => {
    const made = new Float32Array(2 * piece);
    for (let index = 0; index < piece; index += 1) made[side * piece + index] = noise(id * 1e8 + number * piece + index);
    return made;
  };
  const SILENT = ["take", "ready", "keep"];
  let unanswered = 0;
  const say = (...message) => {
    if (!SILENT.includes(message[0])) unanswered += 1;
    node.port.postMessage(message);
  };
  /* Until the mixer has heard all that it was told at a time; of its own accord it told only of times before. */
  const heard = (time) => new Promise((resolve) => {
    node.port.onmessage = ({ data }) => {
      if (data.time < time - 0.5 / rate) return;
      unanswered -= 1;
      if (unanswered) return;
      node.port.onmessage = null;
      resolve();
    };
  });
  const feed = (what) => {
    const first = Math.floor(now.at / piece);
    const last = Math.floor((now.at + 2 * every) / piece);
    if (what === "take") say("keep", Array.from({ length: last - first + 1 }, (_, index) => first + index));
    for (let number = first; number <= last; number += 1) names.forEach((name, side) => say(what, now.id, name, number, content(now.id, number, side)));
  };
  const show = () => {
    feed("ready");
    say("show", { id: now.id, end: long(), speed: now.speed }, names.map((name) => ({ name, lazy: false })), now.at);
  };
  const level = () => say("gains", Object.fromEntries(names.map((name) => [name, [now.gains[name], now.gains[name]]])));

  let changes = 0;
  function change() {
    const which = Math.floor(chance() * 4);
    if (which === 0) now.gains = { bass: chance() < 0.5 ? 0 : 1, guitar: chance() < 0.5 ? 0 : 1 };      // mute
    if (which === 1) now.gains = chance() < 0.5 ? { bass: 1, guitar: 0 } : { bass: 0, guitar: 0.5 };     // solo
    if (which === 2 || now.at + 2 * every > long()) {
      now.at = Math.floor(chance() * (long() - 4 * every));
      say("seek", now.at);
    }
    if (which === 3) {
      now.id += 1;
      now.speed = Math.round(40 + 90 * chance()) / 100;
      now.at = Math.floor(chance() * (long() - 4 * every));
      show();
    }
    changes += 1;
  }

  show();
  say("play", null);
  level();
  await heard(0);
  stretches.push(structuredClone(now));
  for (let out = every; out < whole; out += every) {
    context.suspend(out / rate).then(async () => {
      now.out = out;
      now.at += every;
      const answer = heard(out / rate);
      change();
      feed("take");
      level();
      await answer;
      stretches.push(structuredClone(now));
      context.resume();
    });
  }
  const [left, right] = await context.startRendering().then((sound) => [sound.getChannelData(0), sound.getChannelData(1)]);

  let [checked, off] = [0, 0];
  for (const { out, id, at, gains } of stretches) {
    for (let index = 2 * fade; index < Math.min(every, whole - out); index += 1) {
      const wanted = noise(id * 1e8 + at + index);
      if (left[out + index] !== Math.fround(wanted * gains.bass) || right[out + index] !== Math.fround(wanted * gains.guitar)) off += 1;
      checked += 1;
    }
  }
  return { changes, checked, off };
}
