"""`descore serve`: judging over HTTP, with FastAPI and uvicorn; `app.py` has the addresses, `run.py` the process."""
