"""What the Judge page keeps in a browser: the pair it showed last, its prompt, and how it was asked.

state = checked_state({"mode": "k", "k": 5, "voter": "me"})     # {"mode": "k", "k": 5}: anybody can send anything
mode, k = asked_in(state)                                       # ("think", 8) for a browser that never asked
"""

from __future__ import annotations

from typing import Any

from app.judge.api import MODES, MOST_THOUGHTS, VOTER
from descore.judgement import Mode
from descore.prompt import prompt_problem

THOUGHTS = 8  # in mode k, until somebody chooses another number
_TEXTS = ("voter", "a", "b", "bundled")
_LONGEST_ID = 100
_MODES = tuple(mode for _, mode in MODES)


def checked_state(saved: Any) -> dict[str, Any]:
    """Return what may be kept of a browser's state.

    Its keys, all optional: voter (32 hex digits), a and b (public ids of the videos), bundled (an id of the gallery), own
    (True while videos of one's own are shown or chosen), prompt, mode, k, vote_first
    (True while the model's answer waits for a vote).
    """
    state = saved if isinstance(saved, dict) else {}
    texts = {name: value for name in _TEXTS if isinstance(value := state.get(name), str)}
    kept: dict[str, Any] = {name: value for name, value in texts.items() if len(value) <= _LONGEST_ID}
    if "voter" in kept and not VOTER.fullmatch(kept["voter"]):
        del kept["voter"]
    prompt, mode, k = state.get("prompt"), state.get("mode"), state.get("k")
    if isinstance(prompt, str) and prompt_problem(prompt) is None:
        kept["prompt"] = prompt
    if mode in _MODES:
        kept["mode"] = mode
    if isinstance(k, int) and not isinstance(k, bool) and 2 <= k <= MOST_THOUGHTS:
        kept["k"] = k
    return kept | {name: True for name in ("own", "vote_first") if state.get(name) is True}


def asked_in(state: dict[str, Any]) -> tuple[Mode, int]:
    """Return the mode of a checked state, and the number of thoughts in mode k."""
    return state.get("mode", "think"), state.get("k", THOUGHTS)
