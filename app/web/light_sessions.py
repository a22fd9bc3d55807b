"""Sessions of Gradio without a copy of every component's settings.

    make_sessions_light()       # once, before the app is served

For each new session, in the event loop, Gradio describes every component of every page: 45 ms and 230 KB for this app. The
description is for deep links alone, which are closed here (`app/web/security_headers.py`). A session costs nothing to ask
for, as each call of a program is a new one, so some hundred calls held up everybody for seconds.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gradio.state_holder import SessionState

# Sessions that are kept, the latest ones; each has the page's own state of one tab.
MOST_SESSIONS = 2000
_ORIGINAL = SessionState.__init__


def make_sessions_light() -> None:
    """Let each new session begin without descriptions; Gradio itself adds that of a component when it changes."""
    SessionState.__init__ = _begin_empty


def _begin_empty(session: SessionState, blocks: Any) -> None:
    # Gradio describes the components that are in `blocks` of both.
    _ORIGINAL(session, SimpleNamespace(default_config=blocks.default_config, blocks={}))
