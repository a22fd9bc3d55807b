// Ways to look at a synced pair beyond playing it: both videos in one frame with an edge between them (wipe), closer (zoom, moved by
// dragging), full screen, and the wish to swap A and B, which the page answers.

const ZOOMS = [1, 2, 4];
const DRAG = 4;  // pixels until a press is no click any more

export class PairTools {
  constructor(root, swap) {
    this.root = root;
    this.edge = root.querySelector(".pair-edge");
    this.zoom = 1;
    this.shift = { x: 0, y: 0 };  // in percent of the picture
    this.acts = {
      s: swap,
      w: () => this.toggleWipe(),
      z: () => this.setZoom(ZOOMS[(ZOOMS.indexOf(this.zoom) + 1) % ZOOMS.length]),
      f: () => this.toggleFullScreen(),
    };
    this.buttons = Object.fromEntries(["swap", "wipe", "zoom", "full"].map((name) => [name, root.querySelector(`.pair-${name}`)]));
    Object.entries({ swap: "s", wipe: "w", zoom: "z", full: "f" }).forEach(([name, key]) => {
      this.buttons[name].addEventListener("click", this.acts[key]);
    });
    this.buttons.full.hidden = !document.fullscreenEnabled;
    this.edge.addEventListener("input", () => this.moveEdge());
    root.querySelectorAll(".pair-frame").forEach((frame) => this.listenToDrags(frame));
    root.addEventListener("fullscreenchange", () => {
      this.buttons.full.setAttribute("aria-pressed", String(document.fullscreenElement === root));
    });
    new ResizeObserver(() => this.sizeEdge()).observe(root.querySelector(".pair-frame"));
    this.moveEdge();
  }

  toggleWipe() {
    const wipes = this.root.classList.toggle("is-wiping");
    this.edge.hidden = !wipes;
    this.sizeEdge();
    this.buttons.wipe.setAttribute("aria-pressed", String(wipes));
    if (wipes) this.edge.focus({ preventScroll: true });
  }

  // The edge is as high as the picture.
  sizeEdge() {
    this.root.style.setProperty("--edge-height", `${this.root.querySelector(".pair-frame").offsetHeight}px`);
  }

  moveEdge() {
    this.root.style.setProperty("--edge", `${this.edge.value}%`);
    this.edge.setAttribute("aria-valuetext", `A to ${Math.round(this.edge.value)} percent of the width, then B`);
  }

  setZoom(zoom) {
    this.zoom = zoom;
    this.buttons.zoom.setAttribute("aria-pressed", String(zoom > 1));
    this.buttons.zoom.firstChild.data = zoom > 1 ? `zoom ${zoom}\u00d7` : "zoom";
    this.root.classList.toggle("is-zoomed", zoom > 1);
    this.moveBy(0, 0);
  }

  // Both pictures move alike, and never so far that their edge comes in.
  moveBy(x, y) {
    const most = 50 * (1 - 1 / this.zoom);
    const within = (value) => Math.min(most, Math.max(-most, value));
    this.shift = { x: within(this.shift.x + x), y: within(this.shift.y + y) };
    this.root.style.setProperty("--zoom", this.zoom);
    this.root.style.setProperty("--shift-x", `${this.shift.x.toFixed(2)}%`);
    this.root.style.setProperty("--shift-y", `${this.shift.y.toFixed(2)}%`);
  }

  listenToDrags(frame) {
    let from = null;
    let moved = false;
    frame.addEventListener("pointerdown", (event) => {
      from = this.zoom > 1 && event.button === 0 ? { x: event.clientX, y: event.clientY } : null;
      moved = false;
    });
    frame.addEventListener("pointermove", (event) => {
      if (!from) return;
      const x = event.clientX - from.x;
      const y = event.clientY - from.y;
      if (!moved && Math.hypot(x, y) < DRAG) return;
      if (!moved) frame.setPointerCapture(event.pointerId);
      moved = true;
      from = { x: event.clientX, y: event.clientY };
      this.moveBy((100 * x) / (frame.clientWidth * this.zoom), (100 * y) / (frame.clientHeight * this.zoom));
    });
    ["pointerup", "pointercancel"].forEach((name) => frame.addEventListener(name, () => { from = null; }));
    // A drag is no click: that would start or stop the videos.
    frame.addEventListener("click", (event) => { if (moved) event.stopPropagation(); moved = false; }, true);
  }

  async toggleFullScreen() {
    if (document.fullscreenElement === this.root) await document.exitFullscreen();
    else await this.root.requestFullscreen().catch(() => {});
  }
}
