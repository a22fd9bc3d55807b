"""What the Train page shows, as pure functions: values from the store in, HTML or plain Plotly figures out."""
