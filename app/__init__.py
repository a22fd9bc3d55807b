"""The web app: one folder a page, put together by `app.studio`; `python -m app` imports and exports without it."""
