// The rest of a panel of the Analyse page, after lead.js and analyse_draw.js: Plotly is fetched once, when something is to be drawn.

function plotly() {
  window.plotlyLoaded ??= window.Plotly ? Promise.resolve(window.Plotly) : new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "{plotly}";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { window.plotlyLoaded = undefined; reject(new Error("the figures' script can't be fetched")); };
    document.head.append(script);
  });
  return window.plotlyLoaded;
}

element.addEventListener("click", (event) => {
  save(event, plotly);
  // On a phone the pair stands below the list.
  if (event.target.closest('[data-act="look"]') && innerWidth < 760) document.querySelector("#analyse-case")?.scrollIntoView();
});
watch("value", () => drawFigures(body, plotly));
drawFigures(body, plotly);

// The page's colours changed from light to dark, or back.
new MutationObserver(() => {
  for (const plot of body.querySelectorAll(".analyse-plot[data-drawn]")) {
    window.Plotly?.purge(plot);
    delete plot.dataset.drawn;
  }
  drawFigures(body, plotly);
}).observe(document.body, { attributes: true, attributeFilter: ["class"] });
