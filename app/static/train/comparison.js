// Runs side by side. Which ones are ticked stands in the address, so that a link to the comparison can be sent; the server makes
// the table and says what to draw.

import { Curves } from "./curves.js";

const FEWEST = 2;
const MOST = 6;

export const comparedInAddress = () => (/compare=([\d,]+)/.exec(location.hash)?.[1] || "").split(",").filter(Boolean).map(Number);

export class Comparison {
  // `load` fetches the comparison of some runs, `put` replaces the content of a part, `changed` hears of other ticks.
  constructor(element, plotly, { load, put, changed }) {
    Object.assign(this, { element, load, put, changed });
    this.list = element.querySelector("[data-part='runs']");
    this.article = element.querySelector(".train-compare");
    this.table = element.querySelector(".train-comparison");
    this.curves = new Curves(this.article.querySelector(".train-curves"), plotly);
    this.runs = comparedInAddress().slice(0, MOST);
    this.isLive = false;
    this.shown = "";
    this.figures = {};
    element.addEventListener("change", ({ target }) => {
      if (target.dataset.compare) this.tick(Number(target.dataset.compare), target.checked);
    });
    element.addEventListener("click", ({ target }) => {
      const button = target.closest("[data-uncompare]");
      if (button) this.set(button.dataset.uncompare ? this.runs.filter((run) => run !== Number(button.dataset.uncompare)) : []);
    });
  }

  tick(run, isTicked) { this.set(isTicked ? [...this.runs, run] : this.runs.filter((other) => other !== run)); }

  set(runs) {
    this.runs = runs;
    this.fitBoxes();
    this.changed();
  }

  // The list of runs knows nothing of ticks: they belong to this browser. No more can be ticked than there are colours.
  fitBoxes() {
    for (const box of this.list.querySelectorAll("[data-compare]")) {
      box.checked = this.runs.includes(Number(box.dataset.compare));
      box.disabled = !box.checked && this.runs.length >= MOST;
    }
  }

  // Fetches and shows the table; `draw` draws the curves, which needs a page that is seen.
  async show() {
    const runs = this.runs.join(",");
    if (this.runs.length < FEWEST) {
      this.article.hidden = true;
      this.isLive = false;
      return;
    }
    const { html, figures, live } = await this.load(runs);
    if (runs !== this.runs.join(",")) return;  // other ticks meanwhile
    this.isLive = live;
    this.article.hidden = !html;
    if (html !== this.shown) this.put(this.table, html);
    this.shown = html;
    this.figures = figures;
  }

  draw() {
    if (!this.article.hidden) this.curves.draw(this.figures);
  }
}
