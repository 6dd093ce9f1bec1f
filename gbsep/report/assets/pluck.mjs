// @ts-check
/* One note that was written down, made heard. */

let context;

/* A plucked string, at the pitch and for the time that is written. */
export function pluck([onset, over, midi]) {
  context ??= new AudioContext();
  context.resume();
  const now = context.currentTime + 0.02;
  const seconds = Math.min(4, Math.max(0.15, over - onset));
  const string = context.createOscillator();
  const tone = context.createBiquadFilter();
  const level = context.createGain();
  string.type = "sawtooth";
  string.frequency.value = 440 * 2 ** ((midi - 69) / 12);
  tone.type = "lowpass";
  tone.frequency.setValueAtTime(1800, now);
  tone.frequency.exponentialRampToValueAtTime(300, now + seconds);
  level.gain.setValueAtTime(0, now);
  level.gain.linearRampToValueAtTime(0.3, now + 0.005);
  level.gain.exponentialRampToValueAtTime(0.05, now + seconds);
  level.gain.linearRampToValueAtTime(0, now + seconds + 0.05);
  string.connect(tone).connect(level).connect(context.destination);
  string.start(now);
  string.stop(now + seconds + 0.06);
}
