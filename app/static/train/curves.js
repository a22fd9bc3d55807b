// The curves of a run. The server says what to draw, in the names of the page's colours; Plotly draws it into places that stay
// where they are, so that nothing jumps while points come in, and what was zoomed into stays so.

const curves = element.querySelector(".train-curves");
const HEIGHT = 240;
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
let drawn = null, script = null, drawing = Promise.resolve();

function loadPlotly() {
  if (window.Plotly) return Promise.resolve();
  script ??= new Promise((loaded, failed) => {
    const tag = document.createElement("script");
    tag.src = element.querySelector(".train").dataset.plotly;
    tag.onload = loaded;
    tag.onerror = () => { script = null; tag.remove(); failed(new Error("Plotly's script did not come")); };
    document.head.append(tag);
  });
  return script;
}

const colourOf = (name) => getComputedStyle(curves).getPropertyValue(name).trim();

// Every "var(--name)" in a figure becomes the colour that it has now, light or dark.
function coloured(value) {
  if (typeof value === "string") return value.startsWith("var(") ? colourOf(value.slice(4, -1)) : value;
  if (Array.isArray(value)) return value.length && typeof value[0] === "number" ? value : value.map(coloured);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, coloured(one)]));
  return value;
}

function layoutOf(layout) {
  const ink = colourOf("--ink"), faint = colourOf("--faint"), line = colourOf("--line"), panel = colourOf("--panel");
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: colourOf("--line-strong"), tickfont: { size: 11, color: faint },
    titlefont: { size: 11, color: faint }, fixedrange: false, automargin: false };
  const found = coloured(layout);
  return { ...found, height: HEIGHT, autosize: true, paper_bgcolor: panel, plot_bgcolor: panel, hovermode: "x unified",
    font: { family: FONT, size: 11.5, color: ink }, margin: { l: 46, r: 12, t: 50, b: 34 },
    title: { ...found.title, x: 0, xref: "container", xanchor: "left", pad: { l: 10 }, y: 0.97, yanchor: "top", font: { size: 13, color: ink } },
    legend: { orientation: "h", x: 0, y: 1.0, yanchor: "bottom", font: { size: 11, color: faint }, bgcolor: "rgba(0,0,0,0)", itemwidth: 30 },
    hoverlabel: { bgcolor: panel, bordercolor: colourOf("--line-strong"), font: { color: ink, size: 11.5 } },
    annotations: (found.annotations || []).map((note) => ({ ...note, font: { size: 10.5, color: faint }, bgcolor: panel, opacity: 0.85 })),
    xaxis: { ...axis, ...found.xaxis, title: { ...found.xaxis.title, font: { size: 11, color: faint } } },
    yaxis: { ...axis, ...found.yaxis } };
}

const SETTINGS = { displayModeBar: false, responsive: true, doubleClick: "reset" };

// One drawing after the other: a slow machine must not be told to draw while it draws.
function drawCurves(figures) {
  drawn = figures;
  const names = Object.keys(figures).filter((name) => figures[name].data.length);
  curves.hidden = !names.length;
  if (!names.length) return drawing;
  drawing = drawing.then(loadPlotly).then(async () => {
    if (drawn !== figures) return;
    for (const place of [...curves.children]) if (!names.includes(place.dataset.figure)) { window.Plotly.purge(place); place.remove(); }
    for (const [index, name] of names.entries()) {
      let place = curves.querySelector(`[data-figure="${name}"]`);
      if (!place) {
        place = document.createElement("div");
        place.dataset.figure = name;
        place.className = "train-curve";
        curves.insertBefore(place, curves.children[index] || null);
      }
      await window.Plotly.react(place, figures[name].data.map(coloured), layoutOf(figures[name].layout), SETTINGS);
    }
  }).catch((error) => { console.warn(error.message); });
  return drawing;
}

// Other colours, the same figures.
new MutationObserver(() => { if (drawn) drawCurves({ ...drawn }); })
  .observe(document.body, { attributes: true, attributeFilter: ["class"] });
