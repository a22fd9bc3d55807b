// Plotly's script is large: it is fetched once, when there is something to draw.

let loading = null;

export function loadPlotly(address) {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      loading = null;  // the next figure tries again
      script.remove();
      reject(new Error("the script that draws figures can't be fetched"));
    };
    document.head.append(script);
  });
  return loading;
}
