// @ts-check
/* The mixer: stems in pieces, one clock for all of them. It runs in the thread of the audio, and knows nothing of the
   page: pieces come in, sound goes out.

   Conventions: time is in frames of a *stream*, which is a take at a speed and a pitch. Piece n of a track holds frames
   n * pieceFrames and on, left then right. All tracks are read at one position; when a piece of one is missing, all wait.
   So they are in step by construction. Whatever cuts the sound (a jump, a loop's end, another voice, a stop) lets what
   would have come fade out over FADE frames, while what comes fades in: equal signals pass unchanged. */

export const FADE = 256;
const RAMP = 256;         // frames in which a gain reaches what it is set to
const CLICK_S = 0.03;

export function createEngine(sampleRate, pieceFrames) {
  let stream = null;      // {id, end, speed}
  let tracks = [];        // {name, lazy, pieces, left, right: {now, want, step, rest}, peak, power}
  let position = 0;
  let playing = false;
  let stalled = false;
  let loop = null;        // {start, end} in frames
  let laps = 0;
  let risen = FADE;       // how far the fade in is
  let count = null;       // the count-in: {frames, beat, at, beats}
  const tail = [new Float32Array(FADE), new Float32Array(FADE)];
  let tailAt = FADE;
  let frames = 0;         // all frames that have sounded

  const gain = () => ({ now: 0, want: 0, step: 0, rest: 0 });

  function aim(one, value) {
    if (one.want === value) return;
    one.want = value;
    one.step = (value - one.now) / RAMP;
    one.rest = RAMP;
  }

  function pieceAt(track, at) {
    return track.pieces.get(Math.floor(at / pieceFrames));
  }

  const audible = (track) => track.left.now > 0 || track.left.want > 0 || track.right.now > 0 || track.right.want > 0;
  const needed = (track) => !track.lazy || audible(track);

  /* What would come next fades out; what comes from now on fades in. */
  function cut() {
    const [left, right] = [new Float32Array(FADE), new Float32Array(FADE)];
    if (playing && !stalled && !count) {
      for (const track of tracks) {
        for (let index = 0; index < FADE; index += 1) {
          const at = position + index;
          const piece = at < stream.end ? pieceAt(track, at) : null;
          if (!piece) break;
          const inside = at % pieceFrames;
          left[index] += piece[inside] * track.left.now;
          right[index] += piece[pieceFrames + inside] * track.right.now;
        }
      }
    }
    for (let index = 0; index < FADE; index += 1) {
      const fade = 1 - (index + 0.5) / FADE;
      const old = tailAt + index;
      const rise = Math.min(1, (risen + index) / FADE);
      left[index] = left[index] * fade * rise + (old < FADE ? tail[0][old] * fade : 0);
      right[index] = right[index] * fade * rise + (old < FADE ? tail[1][old] * fade : 0);
    }
    tail[0].set(left);
    tail[1].set(right);
    tailAt = 0;
    risen = 0;
  }

  /* So many frames of all tracks from the position on, which all have them. */
  function mix(outLeft, outRight, from, length) {
    for (const track of tracks) {
      const piece = pieceAt(track, position);
      if (!piece || !audible(track)) continue;
      const inside = position % pieceFrames;
      const { left, right } = track;
      for (let index = 0; index < length; index += 1) {
        if (left.rest > 0) { left.now = --left.rest ? left.now + left.step : left.want; }
        if (right.rest > 0) { right.now = --right.rest ? right.now + right.step : right.want; }
        const rise = risen + index < FADE ? (risen + index + 0.5) / FADE : 1;
        const one = piece[inside + index] * left.now * rise;
        const two = piece[pieceFrames + inside + index] * right.now * rise;
        outLeft[from + index] += one;
        outRight[from + index] += two;
        const most = Math.max(Math.abs(one), Math.abs(two));
        if (most > track.peak) track.peak = most;
      }
    }
    risen = Math.min(FADE, risen + length);
  }

  /* A click on every beat of the count-in: the first is higher. */
  function click(outLeft, outRight, from, length) {
    for (let index = 0; index < length; index += 1) {
      const at = count.at + index;
      const since = (at % count.beat) / sampleRate;
      if (since < CLICK_S) {
        const hz = at < count.beat ? 1500 : 1000;
        const value = 0.4 * Math.sin(2 * Math.PI * hz * since) * Math.exp(-since * 150);
        outLeft[from + index] += value;
        outRight[from + index] += value;
      }
    }
    count.at += length;
    if (count.at >= count.frames) count = null;
  }

  function process(outLeft, outRight) {
    const length = outLeft.length;
    let done = 0;
    let ebbed = 0;          // frames of this block to which the tail was added
    const ebb = (until) => {
      for (; ebbed < until && tailAt < FADE; ebbed += 1, tailAt += 1) {
        outLeft[ebbed] += tail[0][tailAt];
        outRight[ebbed] += tail[1][tailAt];
      }
      ebbed = until;
    };
    stalled = false;
    while (playing && done < length) {
      if (count) {
        const some = Math.min(length - done, count.frames - count.at);
        click(outLeft, outRight, done, some);
        done += some;
        continue;
      }
      if (tracks.some((track) => needed(track) && !pieceAt(track, position))) {
        stalled = true;
        break;
      }
      const ends = [length - done, pieceFrames - (position % pieceFrames), stream.end - position];
      if (loop && position < loop.end) ends.push(loop.end - position);
      const some = Math.min(...ends);
      mix(outLeft, outRight, done, some);
      position += some;
      done += some;
      frames += some;
      if (loop && position === loop.end) {
        ebb(done);
        cut();
        position = loop.start;
        laps += 1;
      } else if (position >= stream.end) {
        playing = false;
        position = 0;
      }
    }
    ebb(length);
  }

  return {
    process,
    /* A stream and its tracks anew; sound goes on at `at`, or where the old stream was. */
    show(fresh, names, at = null) {
      cut();
      const before = stream;
      const here = at ?? (before ? Math.round((position * before.speed) / fresh.speed) : 0);
      const kept = new Map(tracks.map((track) => [track.name, track]));
      stream = fresh;
      tracks = names.map(({ name, lazy }) => {
        const old = kept.get(name);
        return { name, lazy, pieces: fresh.pieces?.get(name) ?? new Map(), left: old?.left ?? gain(), right: old?.right ?? gain(), peak: 0 };
      });
      if (loop && before && before.speed !== fresh.speed) {
        loop = { start: Math.round((loop.start * before.speed) / fresh.speed), end: Math.round((loop.end * before.speed) / fresh.speed) };
      }
      position = Math.min(Math.max(0, here), Math.max(0, stream.end - 1));
    },
    /* A longer or a shorter end of the same stream. */
    end(frames_) { stream.end = frames_; },
    /* A piece of a track. When one takes the place of another that sounds, they are faded. */
    take(id, name, number, piece) {
      if (!stream || id !== stream.id) return;
      const track = tracks.find((one) => one.name === name);
      if (!track) return;
      if (track.pieces.has(number) && number === Math.floor(position / pieceFrames)) cut();
      track.pieces.set(number, piece);
    },
    /* Only pieces of these numbers stay. */
    keep(numbers) {
      const wanted = new Set(numbers);
      for (const track of tracks) {
        for (const number of track.pieces.keys()) if (!wanted.has(number)) track.pieces.delete(number);
      }
    },
    gains(levels) {
      for (const track of tracks) {
        const [left, right] = levels[track.name] ?? [0, 0];
        aim(track.left, left);
        aim(track.right, right);
        if (!playing || stalled) { // nothing sounds: what is turned down shall not be waited for
          for (const one of [track.left, track.right]) Object.assign(one, { now: one.want, rest: 0 });
        }
      }
    },
    play(beats = null) {
      if (playing) return;
      playing = true;
      risen = 0;
      count = beats ? { at: 0, beat: beats.frames, frames: beats.frames * beats.count } : null;
    },
    pause() {
      cut();
      playing = false;
      count = null;
    },
    seek(frame) {
      cut();
      position = Math.min(Math.max(0, Math.round(frame)), stream ? Math.max(0, stream.end - 1) : 0);
    },
    loop(range) {
      loop = range && range.end - range.start >= 2 * FADE ? range : null;
    },
    get position() { return position; },
    get playing() { return playing; },
    get stalled() { return stalled; },
    get laps() { return laps; },
    get frames() { return frames; },
    get held() { return tracks.reduce((sum, track) => sum + track.pieces.size, 0); },
    /* Where it is and how loud each track has been since the last report. */
    report() {
      const peaks = {};
      for (const track of tracks) {
        peaks[track.name] = track.peak;
        track.peak = 0;
      }
      return { stream: stream?.id, position, playing, stalled, counting: count ? Math.floor(count.at / count.beat) + 1 : 0, laps, peaks };
    },
  };
}
