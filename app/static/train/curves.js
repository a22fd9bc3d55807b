// The curves of a run. The server says what to draw, in the names of the page's colours; Plotly draws it into boxes that stay
// where they are, so that nothing jumps while points come in, and what was zoomed into stays so.

import { make } from "../shared/dom.js";
import { loadPlotly } from "../shared/plotly.js";

const HEIGHT = 240;
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const OPTIONS = { displayModeBar: false, responsive: true, doubleClick: "reset" };

export class Curves {
  // `plotly` is the address of Plotly's script.
  constructor(root, plotly) {
    this.root = root;
    this.plotly = plotly;
    this.figures = null;
    this.drawing = Promise.resolve();
    // Other colours, the same figures.
    new MutationObserver(() => { if (this.figures) this.draw({ ...this.figures }); })
      .observe(document.body, { attributes: true, attributeFilter: ["class"] });
  }

  // One drawing after the other: a slow machine must not start to draw while it draws.
  draw(figures) {
    this.figures = figures;
    const names = Object.keys(figures).filter((name) => figures[name].data.length);
    this.root.hidden = !names.length;
    if (!names.length) return this.drawing;
    // The boxes at once, the script and the lines later: nothing below moves then.
    for (const [index, name] of names.entries()) this.boxOf(name, index, figures[name].about);
    this.drawing = this.drawing
      .then(() => loadPlotly(this.plotly))
      .then((plotly) => (this.figures === figures ? this.drawAll(plotly, figures, names) : null))
      .catch((error) => { console.warn(error.message); });
    return this.drawing;
  }

  async drawAll(plotly, figures, names) {
    for (const box of [...this.root.querySelectorAll("[data-figure]")]) {
      if (names.includes(box.dataset.figure)) continue;
      plotly.purge(box);
      box.parentElement.remove();
    }
    for (const [index, name] of names.entries()) {
      const { data, layout, about, text } = figures[name];
      const box = this.boxOf(name, index, about);
      box.setAttribute("aria-label", text);
      await plotly.react(box, data.map((trace) => this.coloured(trace)), this.layoutOf(layout), OPTIONS);
    }
  }

  // The box that Plotly draws into stands in a frame, above the words about it.
  boxOf(name, index, about) {
    const box = this.root.querySelector(`[data-figure="${name}"]`);
    if (box) return box;
    const frame = make("figure", "train-figure");
    const added = make("div", "train-curve");
    added.dataset.figure = name;
    added.setAttribute("role", "img");
    frame.append(added, make("figcaption", "", about));
    this.root.insertBefore(frame, this.root.children[index] || null);
    return added;
  }

  colourOf(name) { return getComputedStyle(this.root).getPropertyValue(name).trim(); }

  // Every "var(--name)" in a figure becomes the colour that it has now, light or dark.
  coloured(value) {
    if (typeof value === "string") return value.startsWith("var(") ? this.colourOf(value.slice(4, -1)) : value;
    if (Array.isArray(value)) return value.length && typeof value[0] === "number" ? value : value.map((item) => this.coloured(item));
    if (!value || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.coloured(item)]));
  }

  layoutOf(layout) {
    const ink = this.colourOf("--ink");
    const faint = this.colourOf("--faint");
    const line = this.colourOf("--line");
    const panel = this.colourOf("--panel");
    const strongLine = this.colourOf("--line-strong");
    const small = { size: 11, color: faint };
    const axis = { gridcolor: line, linecolor: line, zerolinecolor: strongLine, tickfont: small, titlefont: small,
      fixedrange: false, automargin: false };
    const given = this.coloured(layout);
    return {
      ...given,
      height: HEIGHT,
      autosize: true,
      paper_bgcolor: panel,
      plot_bgcolor: panel,
      hovermode: "x unified",
      font: { family: FONT, size: 11.5, color: ink },
      margin: { l: 46, r: 12, t: 50, b: 34 },
      title: { ...given.title, x: 0, xref: "container", xanchor: "left", pad: { l: 10 }, y: 0.97, yanchor: "top", font: { size: 13, color: ink } },
      legend: { orientation: "h", x: 0, y: 1.0, yanchor: "bottom", font: small, bgcolor: "rgba(0,0,0,0)", itemwidth: 30 },
      hoverlabel: { bgcolor: panel, bordercolor: strongLine, font: { color: ink, size: 11.5 } },
      annotations: (given.annotations || []).map((note) => ({ ...note, font: { size: 10.5, color: faint }, bgcolor: panel, opacity: 0.85 })),
      xaxis: { ...axis, ...given.xaxis, title: { ...given.xaxis.title, font: small } },
      yaxis: { ...axis, ...given.yaxis },
    };
  }
}
