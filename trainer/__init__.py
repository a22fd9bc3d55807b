"""Training of a DeScore checkpoint on people's labels: `python -m trainer`."""
