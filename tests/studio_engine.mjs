// What tests/test_studio_engine.py asks of the mixer: node studio_engine.mjs ENGINE CHECK prints what came out as JSON.

const { createEngine, FADE } = await import(process.argv[2]);
const PIECE = 4096, BLOCK = 128;
// Every frame of a stream is unlike every other: a track that is a frame off cannot hide.
const noise = (frame) => { let x = (frame + 1) * 2654435761 >>> 0; x ^= x >>> 15; x = Math.imul(x, 2246822519) >>> 0; x ^= x >>> 13; return Math.fround((x / 4294967296 - 0.5)); };
function piece(stream, number, side) {
  const made = new Float32Array(2 * PIECE);
  for (let index = 0; index < PIECE; index += 1) made[side * PIECE + index] = noise(stream * 1e6 + number * PIECE + index);
  return made;
}
const names = [{ name: "bass", lazy: false }, { name: "guitar", lazy: false }];
const LEVELS = { bass: [1, 1], guitar: [1, 1] };
function feed(engine, stream, from, count) {
  for (let number = from; number < from + count; number += 1) {
    engine.take(stream, "bass", number, piece(stream, number, 0));
    engine.take(stream, "guitar", number, piece(stream, number, 1));
  }
}
function random(seed) { let state = seed; return () => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return state / 4294967296; }; }
const out = () => [new Float32Array(BLOCK), new Float32Array(BLOCK)];

const checks = {
  tracks_are_in_step_to_the_frame_through_200_changes_in_ten_minutes() {
    const RATE = 44100, END = 600 * RATE, chance = random(7);
    const engine = createEngine(RATE, PIECE);
    let stream = 1, speed = 1, off = 0, checked = 0, changes = 0, quiet = 0, blocks = 0;
    let levels = structuredClone(LEVELS);
    engine.show({ id: 1, end: END, speed: 1 }, names, 0);
    engine.gains(levels);
    engine.play();
    while (engine.frames < END) {
      const at = engine.position, number = Math.floor(at / PIECE);
      if (number !== engine.fed) { engine.keep([number, number + 1]); feed(engine, stream, number, 2); engine.fed = number; quiet = 3; }
      const [left, right] = out();
      engine.process(left, right);
      blocks += 1;
      if (quiet > 0) quiet -= 1;
      else if (engine.position === at + BLOCK) {
        for (let index = 0; index < BLOCK; index += 1) {
          const wanted = noise(stream * 1e6 + at + index);
          if (left[index] !== Math.fround(wanted * levels.bass[0]) || right[index] !== Math.fround(wanted * levels.guitar[1])) off += 1;
          checked += 1;
        }
      }
      if (blocks % 1000 === 0) {
        const which = Math.floor(chance() * 4), end = Math.round(END / speed);
        changes += 1;
        quiet = 6;
        if (which === 0) { levels = { bass: [1, 1].map((one) => one * (chance() < 0.5)), guitar: [1, 1].map((one) => one * (chance() < 0.5)) }; engine.gains(levels); }
        if (which === 1) { engine.seek(Math.floor(chance() * end * 0.9)); engine.fed = null; }
        if (which === 2) { stream += 1; speed = 0.4 + 0.9 * chance(); engine.show({ id: stream, end: Math.round(END / speed), speed }, names); engine.gains(levels); engine.fed = null; }
        if (which === 3) { levels = structuredClone(LEVELS); engine.gains(levels); }
      }
      if (!engine.playing) { engine.seek(0); engine.play(); engine.fed = null; }
    }
    return { off, checked, changes };
  },

  a_loop_comes_round_to_the_frame_for_an_hour() {
    const RATE = 8000, START = 1001, STOP = 1001 + 7 * 3001;
    const engine = createEngine(RATE, PIECE);
    engine.show({ id: 1, end: 60 * RATE, speed: 1 }, names, START);
    feed(engine, 1, 0, 8);
    engine.gains(LEVELS);
    engine.loop({ start: START, end: STOP });
    engine.play();
    let off = 0, held = 0, first = null;
    const length = STOP - START;
    for (let done = 0; done < 3600 * RATE; done += BLOCK) {
      const [left, right] = out();
      engine.process(left, right);
      for (let index = 0; index < BLOCK; index += 1) {
        const into = (done + index) % length;
        if (into < FADE) continue;
        const wanted = noise(1e6 + START + into);
        if (left[index] !== wanted || right[index] !== wanted) { off += 1; first ??= [done, index, into]; }
      }
      held = Math.max(held, engine.held);
    }
    return { off, laps: engine.laps, held, first };
  },

  a_missing_piece_of_one_track_stops_all() {
    const engine = createEngine(44100, PIECE);
    engine.show({ id: 1, end: 10 * PIECE, speed: 1 }, names, 0);
    feed(engine, 1, 0, 1);
    engine.take(1, "bass", 1, piece(1, 1, 0));
    engine.gains(LEVELS);
    engine.play();
    for (let block = 0; block < 100; block += 1) { const [left, right] = out(); engine.process(left, right); }
    const waiting = [engine.position, engine.stalled];
    engine.take(1, "guitar", 1, piece(1, 1, 1));
    const [left, right] = out();
    engine.process(left, right);
    return { waiting, after: engine.position, same: left.every((one, index) => one === right[index]) };
  },

  a_track_that_is_turned_down_is_not_waited_for() {
    const engine = createEngine(44100, PIECE);
    engine.show({ id: 1, end: 10 * PIECE, speed: 1 }, [{ name: "bass", lazy: false }, { name: "mixture", lazy: true }], 0);
    engine.take(1, "bass", 0, piece(1, 0, 0));
    engine.gains({ bass: [0, 0], mixture: [1, 1] });
    engine.play();
    const block = () => { const [left, right] = out(); engine.process(left, right); };
    for (let count = 0; count < 10; count += 1) block();
    const waiting = [engine.position, engine.stalled];
    engine.gains({ bass: [1, 1], mixture: [0, 0] });
    for (let count = 0; count < 10; count += 1) block();
    return { waiting, after: [engine.position, engine.stalled] };
  },

  nothing_jumps_when_it_is_turned() {
    const RATE = 44100, tone = (number) => Float32Array.from({ length: 2 * PIECE }, (_, index) => Math.fround(0.5 * Math.sin(2 * Math.PI * 100 * (number * PIECE + (index % PIECE)) / RATE)));
    const engine = createEngine(RATE, PIECE);
    engine.show({ id: 1, end: 100 * PIECE, speed: 1 }, [{ name: "bass", lazy: false }], 0);
    for (let number = 0; number < 8; number += 1) engine.take(1, "bass", number, tone(number));
    engine.gains({ bass: [1, 1] });
    engine.play();
    const heard = [];
    for (let block = 0; block < 200; block += 1) {
      const [left, right] = out();
      if (block === 60) engine.take(1, "bass", Math.floor(engine.position / PIECE), tone(Math.floor(engine.position / PIECE)));
      if (block === 120) engine.gains({ bass: [0, 0] });
      engine.process(left, right);
      heard.push(...left);
    }
    const steps = heard.map((one, index) => Math.abs(one - (heard[index - 1] ?? 0)));
    const worst = steps.reduce((most, one) => Math.max(most, one), 0);
    let off = 0;
    for (let index = 2000; index < 120 * BLOCK; index += 1) off = Math.max(off, Math.abs(heard[index] - 0.5 * Math.sin(2 * Math.PI * 100 * index / RATE)));
    return { worst, off, end: Math.abs(heard.at(-1)) };
  },

};

console.log(JSON.stringify(checks[process.argv[3]]()));
