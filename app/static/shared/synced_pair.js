// Two <video> elements driven by one clock. The template is static and all state lives in a SyncedPair, so that an update never
// recreates the <video> nodes.
//
// A page that drives the player by script calls show, seekAndStop, pause and setTicks. The player's element sends pair:clock
// {time, duration, playing, loops, seeks, a, b} whenever one of these changes: how often the clock started over by itself, how
// often it was moved (starting over included), and the clips' own durations.
//
// The clock is this script's, not a video's: `clock.time` advances with the wall while both clips are ready, stands
// still while either is not, and each clip is steered towards it. Small drift is taken out through playbackRate, large
// drift by a seek. A clip that is shorter than the clock holds its last frame.

import { PairTools } from "./pair_tools.js";

const SEEK_DRIFT = 0.2;        // seconds; beyond this a clip is moved by a seek
const RATE_GAIN = 1.5;         // share of the drift taken out per second through playbackRate
const RATE_LIMIT = 0.25;       // at most so much faster or slower than the chosen speed
const ALIGN_DRIFT = 0.02;      // seconds a paused clip may be off before it is seeked
const READY_TIMEOUT = 10000;   // milliseconds until a clip that shows nothing is given up
const ARROW_STEP = 0.5;        // seconds
const DEFAULT_FPS = 24;

const lastFrame = (clip) => Math.max(0, clip.duration - 0.5 / clip.fps);

function clipOf(root, side) {
  const figure = root.querySelector(`[data-side="${side}"]`);
  return {
    side,
    figure,
    video: figure.querySelector("video"),
    message: figure.querySelector(".pair-message"),
    held: figure.querySelector(".pair-held"),
    url: "",
    fps: DEFAULT_FPS,
    duration: 0,
    failed: true,
    servedSeek: 0,
  };
}

export class SyncedPair {
  constructor(root) {
    this.root = root;
    this.playButton = root.querySelector(".pair-play");
    this.scrub = root.querySelector(".pair-scrub");
    this.timeLabel = root.querySelector(".pair-time");
    this.loopButton = root.querySelector(".pair-loop");
    this.speedButtons = [...root.querySelectorAll(".pair-speed button")];
    this.tickBox = root.querySelector(".pair-ticks");
    this.ticks = [];
    this.tools = null;  // see pair_tools.js; not on every page
    this.clock = { time: 0, duration: 0, rate: 1, playing: false, loop: true, seekVersion: 0, loops: 0, last: 0 };
    this.clips = ["a", "b"].map((side) => clipOf(root, side));
    this.listen();
  }

  listen() {
    this.clips.forEach((clip) => {
      clip.video.muted = true;
      clip.video.addEventListener("loadedmetadata", () => {
        if (Number.isFinite(clip.video.duration)) clip.duration = clip.video.duration;
        this.measure();
      });
      clip.video.addEventListener("loadeddata", () => clip.figure.classList.remove("is-loading"));
      clip.video.addEventListener("seeked", () => { if (clip.servedSeek !== this.clock.seekVersion) this.serveSeek(clip); });
      clip.video.addEventListener("error", () => this.fail(clip));
      clip.video.addEventListener("click", () => this.toggle());
    });
    this.playButton.addEventListener("click", () => this.toggle());
    this.scrub.addEventListener("input", () => this.seek(Number(this.scrub.value)));
    this.loopButton.addEventListener("click", () => this.toggleLoop());
    this.speedButtons.forEach((button) => button.addEventListener("click", () => this.setRate(Number(button.dataset.rate))));
    this.root.querySelector(".pair-back").addEventListener("click", () => this.stepFrames(-1));
    this.root.querySelector(".pair-forward").addEventListener("click", () => this.stepFrames(1));
    this.listenToKeys();
  }

  listenToKeys() {
    const keys = {
      " ": () => this.toggle(),
      ArrowLeft: () => this.seek(this.clock.time - ARROW_STEP),
      ArrowRight: () => this.seek(this.clock.time + ARROW_STEP),
      Home: () => this.seek(0),
      End: () => this.seek(this.clock.duration),
      ",": () => this.stepFrames(-1),
      ".": () => this.stepFrames(1),
      l: () => this.toggleLoop(),
      "[": () => this.changeRate(-1),
      "]": () => this.changeRate(1),
    };
    const onKey = (event) => {
      if (!this.root.isConnected) { document.removeEventListener("keydown", onKey); return; }
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !this.root.offsetParent) return;
      const focus = event.target;
      if (document.querySelector("dialog[open]")) return;
      if (focus.isContentEditable || focus.closest("textarea, select, [role=dialog]")) return;
      const kind = focus.tagName === "INPUT" && focus !== this.scrub ? focus.type : "";
      if (kind && !["radio", "checkbox", "range"].includes(kind)) return;
      // A focused button, radio or slider keeps the keys that drive it.
      if (event.key === " " && (kind || focus.closest("button, summary, a, [role=button]"))) return;
      if (/^(Arrow|Home|End)/.test(event.key) && (kind || focus.closest("[role=tablist]"))) return;
      const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const act = keys[name] || (this.tools && this.tools.acts[name]);
      if (!act || !this.alive().length) return;
      event.preventDefault();
      act();
    };
    document.addEventListener("keydown", onKey);
  }

  alive() { return this.clips.filter((clip) => !clip.failed); }

  holds(clip) { return this.clock.time >= lastFrame(clip); }

  target(clip) { return Math.min(this.clock.time, lastFrame(clip)); }

  waiting(clip) { return clip.video.seeking || clip.video.readyState < (this.holds(clip) ? 2 : 3); }

  // ---- loading -----------------------------------------------------------------------------------------------------

  load(clip, source) {
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
    setTimeout(() => { if (clip.url === url && clip.video.readyState < 2) this.fail(clip); }, READY_TIMEOUT);
  }

  fail(clip) {
    if (!clip.url) return;
    clip.failed = true;
    clip.figure.classList.remove("is-loading");
    clip.message.textContent = "This video can't be shown in your browser.";
    this.measure();
  }

  measure() {
    this.clock.duration = Math.max(0, ...this.alive().map((clip) => clip.duration));
    this.scrub.max = String(this.clock.duration || 1);
    this.clock.time = Math.min(this.clock.time, this.clock.duration);
    this.paint();
    this.paintTicks();
  }

  show(pair) {
    const sources = [pair.a || null, pair.b || null];
    if (this.clips.every((clip, index) => clip.url === (sources[index] ? sources[index].url : ""))) return;
    this.pause();
    this.clock.time = 0;
    this.clock.seekVersion += 1;
    this.clips.forEach((clip, index) => {
      if (clip.url === (sources[index] ? sources[index].url : "")) this.serveSeek(clip);
      else this.load(clip, sources[index]);
    });
    this.root.dataset.state = sources.some(Boolean) ? "ready" : "empty";
    this.measure();
  }

  // ---- the clock ---------------------------------------------------------------------------------------------------

  seek(time) {
    this.clock.time = Math.min(Math.max(0, time), this.clock.duration);
    this.clock.seekVersion += 1;
    this.alive().forEach((clip) => this.serveSeek(clip));
    this.paint();
  }

  // A moment that somebody asks to see.
  seekAndStop(time) {
    this.pause();
    this.seek(time);
  }

  // While a clip is still seeking, later requests only raise the version; the newest is served when it is done.
  serveSeek(clip) {
    if (clip.video.seeking || clip.video.readyState < 1) return;
    clip.servedSeek = this.clock.seekVersion;
    const goal = this.target(clip);
    if (Math.abs(clip.video.currentTime - goal) > 0.001) clip.video.currentTime = goal;
  }

  toggle() {
    if (this.clock.playing) this.pause();
    else this.play();
  }

  play() {
    if (!this.alive().length) return;
    if (this.clock.time >= this.clock.duration - 0.001) this.seek(0);
    this.clock.playing = true;
    this.clock.last = performance.now();
    this.paint();
    requestAnimationFrame((now) => this.tick(now));
  }

  pause() {
    this.clock.playing = false;
    this.alive().forEach((clip) => {
      clip.video.pause();
      clip.video.playbackRate = this.clock.rate;
      if (Math.abs(clip.video.currentTime - this.target(clip)) > ALIGN_DRIFT) this.serveSeek(clip);
    });
    this.paint();
  }

  tick(now) {
    if (!this.clock.playing) return;
    if (!this.root.isConnected) { this.clock.playing = false; return; }
    const ready = this.alive().every((clip) => !this.waiting(clip));
    if (ready) this.clock.time += Math.min(0.25, (now - this.clock.last) / 1000) * this.clock.rate;
    this.clock.last = now;
    this.root.classList.toggle("is-buffering", !ready);
    if (this.clock.time >= this.clock.duration) {
      if (this.clock.loop) { this.clock.loops += 1; this.seek(0); }
      else { this.clock.time = this.clock.duration; this.pause(); return; }
    }
    this.alive().forEach((clip) => this.steer(clip, ready));
    this.paint();
    requestAnimationFrame((now) => this.tick(now));
  }

  steer(clip, ready) {
    const video = clip.video;
    if (this.holds(clip)) {
      if (!video.paused) video.pause();
      if (!video.seeking && Math.abs(video.currentTime - lastFrame(clip)) > 0.6 / clip.fps) this.serveSeek(clip);
      return;
    }
    if (!ready) {
      // The other clip waits: stop here too, or this one would run ahead of the clock.
      if (!video.paused && !this.waiting(clip)) video.pause();
      return;
    }
    if (video.paused) video.play().catch(() => {});
    const drift = video.currentTime - this.clock.time;
    if (Math.abs(drift) > SEEK_DRIFT) this.serveSeek(clip);
    const nudge = Math.max(-RATE_LIMIT, Math.min(RATE_LIMIT, -drift * RATE_GAIN));
    video.playbackRate = this.clock.rate * (1 + nudge);
  }

  stepFrames(count) {
    this.pause();
    const fps = Math.max(...this.alive().map((clip) => clip.fps), 1);
    // The middle of a frame, so that rounding never lands on its neighbour.
    this.seek((Math.floor(this.clock.time * fps + 1e-6) + count + 0.5) / fps);
  }

  setRate(rate) {
    this.clock.rate = rate;
    this.alive().forEach((clip) => { clip.video.playbackRate = rate; });
    this.speedButtons.forEach((button) => button.setAttribute("aria-pressed", String(Number(button.dataset.rate) === rate)));
  }

  changeRate(step) {
    const rates = this.speedButtons.map((button) => Number(button.dataset.rate));
    this.setRate(rates[Math.min(rates.length - 1, Math.max(0, rates.indexOf(this.clock.rate) + step))]);
  }

  toggleLoop() {
    this.clock.loop = !this.clock.loop;
    this.loopButton.setAttribute("aria-pressed", String(this.clock.loop));
  }

  // ---- what is shown -----------------------------------------------------------------------------------------------

  paint() {
    const share = this.clock.duration ? this.clock.time / this.clock.duration : 0;
    this.scrub.value = String(this.clock.time);
    this.scrub.style.setProperty("--share", `${(share * 100).toFixed(2)}%`);
    this.scrub.setAttribute("aria-valuetext", `${this.clock.time.toFixed(2)} of ${this.clock.duration.toFixed(2)} seconds`);
    this.timeLabel.textContent = `${this.clock.time.toFixed(2)} / ${this.clock.duration.toFixed(2)} s`;
    this.root.classList.toggle("is-playing", this.clock.playing);
    this.playButton.setAttribute("aria-pressed", String(this.clock.playing));
    this.playButton.setAttribute("aria-label", this.clock.playing ? "Pause both" : "Play both");
    this.clips.forEach((clip) => {
      clip.held.hidden = clip.failed || clip.duration >= this.clock.duration - 1 / clip.fps || !this.holds(clip);
    });
    const [a, b] = this.clips.map((clip) => clip.duration);
    const { time, duration, playing, loops, seekVersion: seeks } = this.clock;
    const detail = { time, duration, playing, loops, seeks, a, b };
    this.root.dispatchEvent(new CustomEvent("pair:clock", { detail }));
  }

  setTicks(ticks) {
    this.ticks = ticks;
    this.paintTicks();
  }

  paintTicks() {
    this.tickBox.replaceChildren(...this.ticks.map((tick) => {
      const node = document.createElement("i");
      node.className = `side-${tick.side}`;
      node.style.setProperty("--share", this.clock.duration ? Math.min(1, tick.time / this.clock.duration) : 0);
      return node;
    }));
  }
}

export function mount({ element, props, trigger, watch }) {
  const pair = new SyncedPair(element.querySelector(".pair"));
  if (element.querySelector(".pair-tools")) pair.tools = new PairTools(pair.root, () => trigger("swap", {}));
  watch("value", () => pair.show(props.value || {}));
  pair.show(props.value || {});
}
