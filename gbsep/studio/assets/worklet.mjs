// @ts-check
/* The mixer in the thread of the audio. */

import { createEngine } from "./engine.mjs";

const EVERY = 10;         // blocks of 128 frames between reports

class Mixer extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.engine = createEngine(sampleRate, processorOptions.pieceFrames);
    this.blocks = 0;
    this.waiting = new Map();
    this.port.onmessage = ({ data }) => this.hear(data);
  }

  hear([what, ...values]) {
    if (what === "ready") { // pieces of a stream that is shown later
      const [id, name, number, piece] = values;
      if (!this.waiting.has(id)) this.waiting.set(id, new Map());
      const own = this.waiting.get(id);
      if (!own.has(name)) own.set(name, new Map());
      own.get(name).set(number, piece);
    } else if (what === "show") {
      const [fresh, names, at] = values;
      this.engine.show({ ...fresh, pieces: this.waiting.get(fresh.id) }, names, at);
      this.waiting.clear();
    } else {
      this.engine[what](...values);
    }
    if (what !== "take" && what !== "ready" && what !== "keep") this.tell();
  }

  tell() {
    this.blocks = 0;
    this.port.postMessage({ ...this.engine.report(), time: currentTime });
  }

  process(inputs, [[left, right]]) {
    this.engine.process(left, right ?? left);
    this.blocks += 1;
    if (this.blocks >= EVERY) this.tell();
    return true;
  }
}

registerProcessor("gbsep-mixer", Mixer);
