// The report by itself: Plotly was brought along, every figure is drawn at once, so that it can be printed.

const loaded = async () => window.Plotly;
document.addEventListener("click", (event) => save(event, loaded));
for (const plot of document.querySelectorAll(".analyse-plot")) draw(plot, loaded);
