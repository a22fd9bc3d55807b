// Time on task, and how much of each clip was watched.
//
// Time counts only while the page is visible and the person does something or the videos play; a person who does nothing
// for a minute is away, and that minute does not count beyond its start.

import { COLOUR, SIDES } from "./markup.js";

const AWAY_AFTER = 60_000;         // milliseconds
const BINS = 50;                   // parts of each clip's time
export const COUNT_EVERY = 500;    // milliseconds

const ACTIVITY = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"];

export class TimeOnTask {
  // `isLabelling` tells whether the form is open.
  constructor(pairRoot, isLabelling) {
    this.isLabelling = isLabelling;
    this.reset();
    const onActivity = () => {
      if (pairRoot.isConnected) this.lastInput = performance.now();
      else ACTIVITY.forEach((kind) => document.removeEventListener(kind, onActivity, { capture: true }));
    };
    ACTIVITY.forEach((kind) => document.addEventListener(kind, onActivity, { passive: true, capture: true }));
    pairRoot.addEventListener("pair:clock", (event) => this.follow(event.detail));
  }

  reset() {
    const side = () => ({ bins: Array(BINS).fill(false), plays: 0, known: 0 });
    this.seconds = 0;
    this.watched = { left: side(), right: side() };
    this.before = null;  // the clock's reading before this one, while playing
    this.playing = false;
    this.lastInput = performance.now();
    this.lastCount = this.lastInput;
  }

  // Goes on from a draft or a label; null begins at zero.
  resume(content) {
    const { playing } = this;
    this.reset();
    this.playing = playing;
    if (!content) return;
    this.seconds = content.seconds || 0;
    SIDES.forEach((side) => {
      const { bins = "", plays = 0, watched: known = 0 } = (content.playback || {})[side] || {};
      this.watched[side] = { bins: Array.from({ length: BINS }, (_, index) => bins[index] === "1"), plays, known };
    });
  }

  count() {
    const now = performance.now();
    const active = document.visibilityState === "visible" && this.isLabelling();
    if (this.playing) this.lastInput = now;
    if (active && now - this.lastInput < AWAY_AFTER) this.seconds += Math.min(now - this.lastCount, 2 * COUNT_EVERY) / 1000;
    this.lastCount = now;
  }

  // `known` is the share that an earlier sitting watched, where its bins were not kept.
  shareWatched(side) {
    const share = this.watched[side].bins.filter(Boolean).length / BINS;
    return Number(Math.max(share, this.watched[side].known).toFixed(3));
  }

  playback(withBins) {
    return Object.fromEntries(SIDES.map((side) => {
      const bins = withBins ? { bins: this.watched[side].bins.map(Number).join("") } : {};
      return [side, { watched: this.shareWatched(side), plays: this.watched[side].plays, ...bins }];
    }));
  }

  follow(reading) {
    const from = this.before;
    this.before = reading.playing ? reading : null;
    this.playing = reading.playing;
    if (!from || from.duration !== reading.duration || !this.isLabelling()) return;
    const loops = reading.loops - from.loops;
    if (reading.seeks - from.seeks !== loops) return;  // jumped, not played
    const until = loops ? reading.duration : reading.time;
    if (until <= from.time) return;
    SIDES.forEach((side) => {
      const length = reading[COLOUR[side]];
      if (!length || from.time >= length) return;
      const bin = (time) => Math.min(BINS - 1, Math.floor((time / length) * BINS));
      this.watched[side].bins.fill(true, bin(from.time), bin(until) + 1);
      if (until >= length) this.watched[side].plays += 1;
    });
  }
}
