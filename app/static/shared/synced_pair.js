// Two <video> elements driven by one clock. Runs once per component, as the body of a function that Gradio calls with
// `element` (the component's root), `props` and `watch`. The template is static and all state lives here, so that an
// update never recreates the <video> nodes.
//
// A page that drives the player by script sends events to `.pair`: pair:show {a, b}, pair:seek {time}, pair:pause, and
// pair:ticks {ticks: [{time, side}]} for marks on the track. It hears pair:clock {time, duration, playing, loops, seeks, a, b}
// whenever one of these changes: how often the clock started over by itself, how often it was moved (starting over
// included), and the clips' own durations.
//
// The clock is this script's, not a video's: `clock.time` advances with the wall while both clips are ready, stands
// still while either is not, and each clip is steered towards it. Small drift is taken out through playbackRate, large
// drift by a seek. A clip that is shorter than the clock holds its last frame.

const SEEK_DRIFT = 0.2;        // seconds; beyond this a clip is moved by a seek
const RATE_GAIN = 1.5;         // share of the drift taken out per second through playbackRate
const RATE_LIMIT = 0.25;       // at most so much faster or slower than the chosen speed
const ALIGN_DRIFT = 0.02;      // seconds a paused clip may be off before it is seeked
const READY_TIMEOUT = 10000;   // milliseconds until a clip that shows nothing is given up
const ARROW_STEP = 0.5;        // seconds
const DEFAULT_FPS = 24;

const root = element.querySelector(".pair");
const playButton = root.querySelector(".pair-play");
const scrub = root.querySelector(".pair-scrub");
const timeLabel = root.querySelector(".pair-time");
const loopButton = root.querySelector(".pair-loop");
const speedButtons = [...root.querySelectorAll(".pair-speed button")];
const tickBox = root.querySelector(".pair-ticks");
let ticks = [];
const clock = { time: 0, duration: 0, rate: 1, playing: false, loop: true, seekVersion: 0, loops: 0, last: 0 };
const clips = ["a", "b"].map((side) => {
  const figure = root.querySelector(`[data-side="${side}"]`);
  return {
    side, figure, video: figure.querySelector("video"), message: figure.querySelector(".pair-message"),
    held: figure.querySelector(".pair-held"), url: "", fps: DEFAULT_FPS, duration: 0, failed: true, servedSeek: 0,
  };
});

const alive = () => clips.filter((clip) => !clip.failed);
const lastFrame = (clip) => Math.max(0, clip.duration - 0.5 / clip.fps);
const holds = (clip) => clock.time >= lastFrame(clip);
const target = (clip) => Math.min(clock.time, lastFrame(clip));
const waiting = (clip) => clip.video.seeking || clip.video.readyState < (holds(clip) ? 2 : 3);

// ---- loading -----------------------------------------------------------------------------------------------------

function load(clip, source) {
  clip.figure.classList.toggle("is-loading", Boolean(source));
  clip.message.textContent = "";
  clip.failed = !source;
  clip.url = source ? source.url : "";
  clip.fps = (source && source.fps) || DEFAULT_FPS;
  clip.duration = (source && source.duration) || 0;
  if (!source) { clip.video.removeAttribute("src"); clip.video.load(); return; }
  clip.video.src = source.url;
  clip.video.load();
  const url = source.url;
  setTimeout(() => { if (clip.url === url && clip.video.readyState < 2) fail(clip); }, READY_TIMEOUT);
}

function fail(clip) {
  if (!clip.url) return;
  clip.failed = true;
  clip.figure.classList.remove("is-loading");
  clip.message.textContent = "This video can't be shown in your browser.";
  measure();
}

function measure() {
  clock.duration = Math.max(0, ...alive().map((clip) => clip.duration));
  scrub.max = String(clock.duration || 1);
  clock.time = Math.min(clock.time, clock.duration);
  paint();
  paintTicks();
}

function show(pair) {
  const sources = [pair.a || null, pair.b || null];
  if (clips.every((clip, index) => clip.url === (sources[index] ? sources[index].url : ""))) return;
  pause();
  clock.time = 0;
  clock.seekVersion += 1;
  clips.forEach((clip, index) => load(clip, sources[index]));
  root.dataset.state = sources.some(Boolean) ? "ready" : "empty";
  measure();
}

// ---- the clock ---------------------------------------------------------------------------------------------------

function seek(time) {
  clock.time = Math.min(Math.max(0, time), clock.duration);
  clock.seekVersion += 1;
  alive().forEach(serveSeek);
  paint();
}

// While a clip is still seeking, later requests only raise the version; the newest is served when it is done.
function serveSeek(clip) {
  if (clip.video.seeking || clip.video.readyState < 1) return;
  clip.servedSeek = clock.seekVersion;
  const goal = target(clip);
  if (Math.abs(clip.video.currentTime - goal) > 0.001) clip.video.currentTime = goal;
}

function play() {
  if (!alive().length) return;
  if (clock.time >= clock.duration - 0.001) seek(0);
  clock.playing = true;
  clock.last = performance.now();
  paint();
  requestAnimationFrame(tick);
}

function pause() {
  clock.playing = false;
  alive().forEach((clip) => {
    clip.video.pause();
    clip.video.playbackRate = clock.rate;
    if (Math.abs(clip.video.currentTime - target(clip)) > ALIGN_DRIFT) serveSeek(clip);
  });
  paint();
}

function tick(now) {
  if (!clock.playing) return;
  if (!root.isConnected) { clock.playing = false; return; }
  const ready = alive().every((clip) => !waiting(clip));
  if (ready) clock.time += Math.min(0.25, (now - clock.last) / 1000) * clock.rate;
  clock.last = now;
  root.classList.toggle("is-buffering", !ready);
  if (clock.time >= clock.duration) {
    if (clock.loop) { clock.loops += 1; seek(0); }
    else { clock.time = clock.duration; pause(); return; }
  }
  alive().forEach((clip) => steer(clip, ready));
  paint();
  requestAnimationFrame(tick);
}

function steer(clip, ready) {
  const video = clip.video;
  if (holds(clip)) {
    if (!video.paused) video.pause();
    if (!video.seeking && Math.abs(video.currentTime - lastFrame(clip)) > 0.6 / clip.fps) serveSeek(clip);
    return;
  }
  if (!ready) {
    // The other clip waits: stop here too, or this one would run ahead of the clock.
    if (!video.paused && !waiting(clip)) video.pause();
    return;
  }
  if (video.paused) video.play().catch(() => {});
  const drift = video.currentTime - clock.time;
  if (Math.abs(drift) > SEEK_DRIFT) serveSeek(clip);
  const nudge = Math.max(-RATE_LIMIT, Math.min(RATE_LIMIT, -drift * RATE_GAIN));
  video.playbackRate = clock.rate * (1 + nudge);
}

function stepFrames(count) {
  pause();
  const fps = Math.max(...alive().map((clip) => clip.fps), 1);
  // The middle of a frame, so that rounding never lands on its neighbour.
  seek((Math.floor(clock.time * fps + 1e-6) + count + 0.5) / fps);
}

function setRate(rate) {
  clock.rate = rate;
  alive().forEach((clip) => { clip.video.playbackRate = rate; });
  speedButtons.forEach((button) => button.setAttribute("aria-pressed", String(Number(button.dataset.rate) === rate)));
}

function changeRate(step) {
  const rates = speedButtons.map((button) => Number(button.dataset.rate));
  setRate(rates[Math.min(rates.length - 1, Math.max(0, rates.indexOf(clock.rate) + step))]);
}

function toggleLoop() {
  clock.loop = !clock.loop;
  loopButton.setAttribute("aria-pressed", String(clock.loop));
}

// ---- what is shown -----------------------------------------------------------------------------------------------

function paint() {
  const share = clock.duration ? clock.time / clock.duration : 0;
  scrub.value = String(clock.time);
  scrub.style.setProperty("--share", `${(share * 100).toFixed(2)}%`);
  scrub.setAttribute("aria-valuetext", `${clock.time.toFixed(2)} of ${clock.duration.toFixed(2)} seconds`);
  timeLabel.textContent = `${clock.time.toFixed(2)} / ${clock.duration.toFixed(2)} s`;
  root.classList.toggle("is-playing", clock.playing);
  playButton.setAttribute("aria-pressed", String(clock.playing));
  playButton.setAttribute("aria-label", clock.playing ? "Pause both" : "Play both");
  clips.forEach((clip) => {
    clip.held.hidden = clip.failed || clip.duration >= clock.duration - 1 / clip.fps || !holds(clip);
  });
  const [a, b] = clips.map((clip) => clip.duration);
  const { time, duration, playing, loops, seekVersion: seeks } = clock;
  const detail = { time, duration, playing, loops, seeks, a, b };
  root.dispatchEvent(new CustomEvent("pair:clock", { detail }));
}

function paintTicks() {
  tickBox.replaceChildren(...ticks.map((tick) => {
    const node = document.createElement("i");
    node.className = `side-${tick.side}`;
    node.style.setProperty("--share", clock.duration ? Math.min(1, tick.time / clock.duration) : 0);
    return node;
  }));
}

// ---- wiring ------------------------------------------------------------------------------------------------------

clips.forEach((clip) => {
  clip.video.muted = true;
  clip.video.addEventListener("loadedmetadata", () => {
    if (Number.isFinite(clip.video.duration)) clip.duration = clip.video.duration;
    measure();
  });
  clip.video.addEventListener("loadeddata", () => clip.figure.classList.remove("is-loading"));
  clip.video.addEventListener("seeked", () => { if (clip.servedSeek !== clock.seekVersion) serveSeek(clip); });
  clip.video.addEventListener("error", () => fail(clip));
  clip.video.addEventListener("click", () => (clock.playing ? pause() : play()));
});
playButton.addEventListener("click", () => (clock.playing ? pause() : play()));
scrub.addEventListener("input", () => seek(Number(scrub.value)));
loopButton.addEventListener("click", toggleLoop);
speedButtons.forEach((button) => button.addEventListener("click", () => setRate(Number(button.dataset.rate))));
root.querySelector(".pair-back").addEventListener("click", () => stepFrames(-1));
root.querySelector(".pair-forward").addEventListener("click", () => stepFrames(1));

const KEYS = {
  " ": () => (clock.playing ? pause() : play()),
  ArrowLeft: () => seek(clock.time - ARROW_STEP),
  ArrowRight: () => seek(clock.time + ARROW_STEP),
  Home: () => seek(0),
  End: () => seek(clock.duration),
  ",": () => stepFrames(-1),
  ".": () => stepFrames(1),
  l: toggleLoop,
  "[": () => changeRate(-1),
  "]": () => changeRate(1),
};

function onKey(event) {
  if (!root.isConnected) { document.removeEventListener("keydown", onKey); return; }
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !root.offsetParent) return;
  const focus = event.target;
  if (document.querySelector("dialog[open]")) return;
  if (focus.isContentEditable || focus.closest("textarea, select, [role=dialog]")) return;
  const kind = focus.tagName === "INPUT" && focus !== scrub ? focus.type : "";
  if (kind && !["radio", "checkbox", "range"].includes(kind)) return;
  // A focused button, radio or slider keeps the keys that drive it.
  if (event.key === " " && (kind || focus.closest("button, summary, a, [role=button]"))) return;
  if (/^(Arrow|Home|End)/.test(event.key) && (kind || focus.closest("[role=tablist]"))) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || !alive().length) return;
  event.preventDefault();
  act();
}

document.addEventListener("keydown", onKey);
root.addEventListener("pair:show", (event) => show(event.detail));
root.addEventListener("pair:seek", (event) => { pause(); seek(event.detail.time); });
root.addEventListener("pair:pause", pause);
root.addEventListener("pair:ticks", (event) => { ticks = event.detail.ticks; paintTicks(); });
watch("value", () => show(props.value || {}));
show(props.value || {});
