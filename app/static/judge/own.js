// Two boxes for videos of one's own. `props.value` is what `own_view` returns. Files are uploaded from here; once they are with the
// app, 'take' names both sides: {path} of a new file, {id} of a video that is there, or null. While one 'take' is being answered
// the next one waits, and files that come in meanwhile go with it.

import { listen, make, setText } from "../shared/dom.js";
import { upload } from "../shared/upload.js";

const SIDES = ["a", "b"];
const byName = (one, other) => one.name.localeCompare(other.name, undefined, { numeric: true });
const isVideo = (file) => file.type.startsWith("video/") || /\.(mp4|m4v|mov|webm|mkv|avi|gif|webp|ts|ogv)$/i.test(file.name);

class OwnVideos {
  constructor(root, trigger) {
    this.root = root;
    this.trigger = trigger;
    this.value = {};
    this.fresh = { a: null, b: null };    // {state: "uploading" | "waiting" | "reading", path, share, name}
    this.errors = {};                     // of uploads; those of reading come with the value
    this.turn = 0;                        // of the last `take`; its answer names it
    this.waits = false;
    this.again = false;                   // something changed while a `take` was being answered
    this.gone = { a: false, b: false };   // taken away, and the app does not know yet
    this.boxes = Object.fromEntries(SIDES.map((side) => [side, this.box(side)]));
    this.listenToDrops();
  }

  box(side) {
    const node = this.root.querySelector(`[data-side="${side}"]`);
    const part = (name) => node.querySelector(`.own-${name}`);
    const input = node.querySelector("input");
    part("choose").addEventListener("click", () => input.click());
    part("clear").addEventListener("click", () => this.clear(side));
    input.addEventListener("change", () => { this.bring([...input.files], side); input.value = ""; });
    return { node, poster: part("poster"), text: part("text"), choose: part("choose"), clear: part("clear") };
  }

  // A drop anywhere on the page counts, so that nobody has to aim; the panel opens for it.
  listenToDrops() {
    const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
    const boxAt = (event) => event.target.closest?.(".own-box")?.dataset.side;
    const stop = () => this.root.classList.remove("is-over");
    const listeners = {
      dragover: (event) => { if (hasFiles(event)) { event.preventDefault(); this.root.classList.add("is-over"); } },
      dragleave: (event) => { if (!event.relatedTarget) stop(); },
      drop: (event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        stop();
        this.begin();
        this.bring([...event.dataTransfer.files], boxAt(event));
      },
    };
    Object.entries(listeners).forEach(([name, act]) => listen(this.root, name, act));
  }

  // Opens the panel, empty and with an empty prompt.
  begin() {
    if (!this.root.hidden) return;
    this.root.hidden = false;
    this.ask("begin", {});
  }

  ask(event, sides) {
    this.waits = true;
    this.turn += 1;
    this.paint();
    this.trigger(event, { ...sides, turn: this.turn });
  }

  holds(side) { return Boolean(this.fresh[side] || this.value[side]); }

  // Two files are A and B by their names. One file is for the box it was meant for, else for the first empty one, else for B.
  bring(files, side) {
    const videos = files.filter(isVideo).sort(byName);
    if (!videos.length) {
      if (files.length) this.refuse(side || "a", "This is no video file.");
      return;
    }
    if (videos.length > 2) this.refuse(side || "a", `Two videos are judged here (these are ${videos.length}); the first two were taken.`);
    if (videos.length > 1) SIDES.forEach((name, index) => this.send(name, videos[index]));
    else this.send(side || SIDES.find((name) => !this.holds(name)) || "b", videos[0]);
  }

  refuse(side, text) {
    this.errors[side] = text;
    this.paint();
  }

  async send(side, file) {
    this.fresh[side]?.abort.abort();
    const mine = { state: "uploading", share: 0, name: file.name, abort: new AbortController() };
    this.fresh[side] = mine;
    this.gone[side] = false;
    delete this.errors[side];
    this.paint();
    try {
      mine.path = await upload(file, (share) => { mine.share = share; this.paint(); }, mine.abort.signal);
      mine.state = "waiting";
    } catch (error) {
      if (this.fresh[side] !== mine) return;
      this.fresh[side] = null;
      if (error.name !== "AbortError") this.errors[side] = error.message;
    }
    this.take();
  }

  clear(side) {
    this.fresh[side]?.abort.abort();
    this.fresh[side] = null;
    delete this.errors[side];
    this.gone[side] = true;
    this.value = { ...this.value, [side]: null, errors: {} };
    this.take(true);
  }

  // Both files of one drop go together: one 'take' instead of two.
  take(always = false) {
    this.paint();
    const states = SIDES.map((side) => this.fresh[side]?.state);
    this.again = this.waits && (this.again || always);
    if (this.waits || states.includes("uploading") || !(always || states.includes("waiting"))) return;
    const named = (side) => {
      const fresh = this.fresh[side];
      const here = this.value[side] ? { id: this.value[side].id } : null;
      if (!fresh) return here;
      fresh.state = "reading";
      return { ...here, path: fresh.path };  // the old one stays if the new one can't be used
    };
    this.gone = { a: false, b: false };
    this.ask("take", { a: named("a"), b: named("b") });
  }

  show(value) {
    this.value = { ...value };
    SIDES.forEach((side) => { if (this.gone[side]) this.value[side] = null; });
    this.root.hidden = !value.open;
    const answered = this.waits && value.turn === this.turn;
    if (answered || !value.open) this.waits = false;
    SIDES.forEach((side) => {
      if (!value.open) this.fresh[side]?.abort.abort();
      if (!value.open || (answered && this.fresh[side]?.state === "reading")) this.fresh[side] = null;
    });
    if (!value.open) Object.assign(this, { errors: {}, gone: { a: false, b: false } });
    this.take(this.again && value.open);
  }

  paint() {
    SIDES.forEach((side) => {
      const { node, poster, text, choose, clear } = this.boxes[side];
      const fresh = this.fresh[side];
      const here = this.value[side];
      const error = fresh ? "" : this.errors[side] || (this.value.errors || {})[side] || "";
      node.classList.toggle("is-reading", Boolean(fresh));
      node.classList.toggle("is-refused", Boolean(error));
      node.setAttribute("aria-busy", String(Boolean(fresh)));
      poster.hidden = !here || Boolean(fresh);
      if (here && poster.getAttribute("src") !== here.poster) poster.src = here.poster;
      setText(text, error || this.describe(side, fresh, here));
      choose.replaceChildren(...(here || fresh ? ["Replace"] : ["Choose", make("span", "own-word", ` ${side.toUpperCase()}`)]));
      clear.hidden = !here && !fresh;
    });
  }

  describe(side, fresh, here) {
    if (fresh && fresh.state === "uploading") return `${fresh.name}: ${Math.round(fresh.share * 100)} %`;
    if (fresh) return `${fresh.name}: being read`;
    if (here) return here.facts;
    return `Drop video ${side.toUpperCase()} here, or both at once`;
  }
}

export function mount({ element, props, trigger, watch }) {
  const own = new OwnVideos(element.querySelector(".own"), trigger);
  listen(element, "descore:own", () => own.begin());
  watch("value", () => own.show(props.value || {}));
  own.show(props.value || {});
}
