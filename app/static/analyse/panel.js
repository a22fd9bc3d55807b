// A panel of the Analyse page: a shared panel that draws its figures and saves their tables.

import { Panel } from "../shared/panel.js";
import { loadPlotly } from "../shared/plotly.js";
import { drawFigures, save } from "./figures.js";

const PHONE = 760;  // pixels; below this the pair stands under the list

export function mount({ plotly, ...gradio }) {
  const { element, watch } = gradio;
  const { body } = new Panel(gradio);
  const load = () => loadPlotly(plotly);
  const draw = () => drawFigures(body, load);

  element.addEventListener("click", (event) => {
    save(event, load);
    if (event.target.closest('[data-act="look"]') && innerWidth < PHONE) document.querySelector("#analyse-case")?.scrollIntoView();
  });
  watch("value", draw);
  draw();

  // The page's colours changed from light to dark, or back.
  new MutationObserver(() => {
    for (const plot of body.querySelectorAll(".analyse-plot[data-drawn]")) {
      window.Plotly?.purge(plot);
      delete plot.dataset.drawn;
    }
    draw();
  }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
}
