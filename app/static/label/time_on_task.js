// The Label page: time on task, and how much of each clip was watched.
//
// Time counts only while the page is visible and the person does something or the videos play; a person who does nothing
// for a minute is away, and that minute does not count beyond its start.

const AWAY_AFTER = 60_000;  // milliseconds
const BINS = 50;            // parts of each clip's time
const WATCH_EVERY = 500;    // milliseconds

let watch = emptyWatch();
let lastInput = performance.now();
let lastCount = performance.now();
let before = null;          // the clock's reading before this one, while playing
let playing = false;

function emptyWatch() {
  const side = () => ({ bins: Array(BINS).fill(false), plays: 0, known: 0 });
  return { seconds: 0, left: side(), right: side() };
}

function countTime() {
  const now = performance.now();
  const active = document.visibilityState === "visible" && root.dataset.state === "labelling";
  if (playing) lastInput = now;
  if (active && now - lastInput < AWAY_AFTER) watch.seconds += Math.min(now - lastCount, 2 * WATCH_EVERY) / 1000;
  lastCount = now;
}

// `known`: what is known of an earlier sitting without its bins.
function watched(side) {
  const seen = watch[side].bins.filter(Boolean).length / BINS;
  return Number(Math.max(seen, watch[side].known).toFixed(3));
}

function playback(withBins) {
  return Object.fromEntries(SIDES.map((side) => {
    const bins = withBins ? { bins: watch[side].bins.map(Number).join("") } : {};
    return [side, { watched: watched(side), plays: watch[side].plays, ...bins }];
  }));
}

function resumeWatch(content) {
  watch = emptyWatch();
  before = null;
  lastInput = lastCount = performance.now();
  if (!content) return;
  watch.seconds = content.seconds || 0;
  SIDES.forEach((side) => {
    const { bins = "", plays = 0, watched: known = 0 } = (content.playback || {})[side] || {};
    watch[side] = { bins: Array.from({ length: BINS }, (_, index) => bins[index] === "1"), plays, known };
  });
}

function follow(reading) {
  const from = before;
  before = reading.playing ? reading : null;
  playing = reading.playing;
  if (!from || from.duration !== reading.duration || root.dataset.state !== "labelling") return;
  const loops = reading.loops - from.loops;
  if (reading.seeks - from.seeks !== loops) return;  // jumped, not played
  const until = loops ? reading.duration : reading.time;
  if (until <= from.time) return;
  SIDES.forEach((side) => {
    const length = reading[COLOUR[side]];
    if (!length || from.time >= length) return;
    const bin = (time) => Math.min(BINS - 1, Math.floor((time / length) * BINS));
    watch[side].bins.fill(true, bin(from.time), bin(until) + 1);
    if (until >= length) watch[side].plays += 1;
  });
}

["pointerdown", "pointermove", "keydown", "wheel", "touchstart"].forEach((kind) => {
  document.addEventListener(kind, () => { lastInput = performance.now(); }, { passive: true, capture: true });
});
pairRoot.addEventListener("pair:clock", (event) => follow(event.detail));
