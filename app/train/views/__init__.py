"""HTML and figures of the Train page: pure functions from values of the store to `Markup` or Plotly figures."""
