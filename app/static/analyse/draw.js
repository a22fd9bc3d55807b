// Draws figures and saves them and their tables. Used by the panels of the Analyse page and inside the report, which brings
// Plotly along. A figure is data: <div class="analyse-plot"></div><script class="analyse-figure">; its colours are those of the
// light page and are exchanged here for those of the page as it is.

const LIGHT = { "#1c2127": "--ink", "#626b76": "--faint", "#dfe3e8": "--line", "#c4cad1": "--line-strong", "#ffffff": "--panel",
  "#eef1f4": "--hover", "#b42318": "--bad", "#0f766e": "--accent", "#dcf1ee": "--accent-soft", "#9fd5ce": "--accent-line",
  "#2a6fdb": "--a", "#e07a1f": "--b" };

function recoloured(found, style) {
  if (typeof found === "string") return found in LIGHT ? style.getPropertyValue(LIGHT[found]).trim() || found : found;
  if (Array.isArray(found)) return found.map((one) => recoloured(one, style));
  if (found === null || typeof found !== "object") return found;
  return Object.fromEntries(Object.entries(found).map(([key, one]) => [key, recoloured(one, style)]));
}

async function draw(plot, loaded) {
  const plotly = await loaded();
  if (!plot.isConnected || plot.dataset.drawn) return;
  plot.dataset.drawn = "yes";
  const { data, layout } = recoloured(JSON.parse(plot.nextElementSibling.textContent), getComputedStyle(plot));
  await plotly.newPlot(plot, data, layout, { displayModeBar: false, responsive: false });
  let width = plot.clientWidth;
  new ResizeObserver(() => {
    if (plot.clientWidth && plot.clientWidth !== width) plotly.Plots.resize(plot);
    width = plot.clientWidth;
  }).observe(plot);
}

// Figures are drawn when they come near the screen: a tab has dozens, and one in a hidden tab has no width.
function drawFigures(root, loaded) {
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting || !target.clientWidth) continue;
      seen.unobserve(target);
      draw(target, loaded);
    }
  }, { rootMargin: "400px" });
  for (const plot of root.querySelectorAll(".analyse-plot:not([data-drawn])")) seen.observe(plot);
}

function fileName(button, ending) {
  const words = [button.closest("[data-name]")?.dataset.name, button.closest("figcaption")?.firstChild.textContent];
  return words.filter((one) => one && one.trim()).join(" ").trim().replace(/[^\p{L}\p{N}]+/gu, "-").toLowerCase() + ending;
}

function saveTable(button) {
  const text = JSON.parse(button.closest("[data-name]").querySelector(".analyse-csv").textContent);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  link.download = fileName(button, ".csv");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function savePicture(button, loaded) {
  const plot = button.closest("figure").querySelector(".analyse-plot");
  await draw(plot, loaded);
  const size = { width: Math.max(700, plot.clientWidth), height: plot.clientHeight, scale: 2 };
  (await loaded()).downloadImage(plot, { format: "png", filename: fileName(button, ""), ...size });
}

function save(event, loaded) {
  const button = event.target.closest("[data-save]");
  if (button?.dataset.save === "csv") saveTable(button);
  if (button?.dataset.save === "png") savePicture(button, loaded);
}
