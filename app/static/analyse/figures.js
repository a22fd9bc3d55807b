// Draws figures and saves them and their tables, on the panels of the Analyse page and inside the report. It imports nothing: the
// report is one HTML file, which holds the text of this module. A figure is data,
// <div class="analyse-plot"></div><script class="analyse-figure">; its colours are those of the light page and are exchanged here
// for those of the page that shows it.

const LIGHT = { "#1c2127": "--ink", "#626b76": "--faint", "#dfe3e8": "--line", "#c4cad1": "--line-strong", "#ffffff": "--panel",
  "#eef1f4": "--hover", "#b42318": "--bad", "#0f766e": "--accent", "#dcf1ee": "--accent-soft", "#9fd5ce": "--accent-line",
  "#2a6fdb": "--a", "#e07a1f": "--b" };

function recoloured(value, style) {
  if (typeof value === "string") return value in LIGHT ? style.getPropertyValue(LIGHT[value]).trim() || value : value;
  if (Array.isArray(value)) return value.map((item) => recoloured(item, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, recoloured(item, style)]));
}

async function draw(plot, load) {
  const plotly = await load();
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
export function drawFigures(root, load) {
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting || !target.clientWidth) continue;
      observer.unobserve(target);
      draw(target, load);
    }
  }, { rootMargin: "400px" });
  for (const plot of root.querySelectorAll(".analyse-plot:not([data-drawn])")) observer.observe(plot);
}

function fileName(button, ending) {
  const words = [button.closest("[data-name]")?.dataset.name, button.closest("figcaption")?.firstChild.textContent];
  return words.filter((word) => word && word.trim()).join(" ").trim().replace(/[^\p{L}\p{N}]+/gu, "-").toLowerCase() + ending;
}

function saveTable(button) {
  const text = JSON.parse(button.closest("[data-name]").querySelector(".analyse-csv").textContent);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  link.download = fileName(button, ".csv");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function savePicture(button, load) {
  const plot = button.closest("figure").querySelector(".analyse-plot");
  await draw(plot, load);
  const size = { width: Math.max(700, plot.clientWidth), height: plot.clientHeight, scale: 2 };
  (await load()).downloadImage(plot, { format: "png", filename: fileName(button, ""), ...size });
}

export function save(event, load) {
  const button = event.target.closest("[data-save]");
  if (button?.dataset.save === "csv") saveTable(button);
  if (button?.dataset.save === "png") savePicture(button, load);
}

// The report brings Plotly along, and draws every figure at once, so that it can be printed.
export function drawReport() {
  const load = async () => window.Plotly;
  document.addEventListener("click", (event) => save(event, load));
  for (const plot of document.querySelectorAll(".analyse-plot")) draw(plot, load);
}
