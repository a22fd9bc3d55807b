"""A browser's tab on the Judge page, driven by the page's own handlers."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.requests import Request

from app.web.auth import COOKIE
from app.web.uploads import uploads_folder

if TYPE_CHECKING:
    from app.judge.page import JudgePage

PROMPT = "A shared square."


def request(query: str = "", cookie: str | None = None) -> gr.Request:
    headers = [] if cookie is None else [(b"cookie", f"{COOKIE}={cookie}".encode())]
    scope = {"type": "http", "headers": headers, "query_string": query.encode(), "client": ("127.0.0.1", 1)}
    return gr.Request(Request(scope), session_hash="tab")


def event(**data: Any) -> gr.EventData:
    return gr.EventData(None, data)


def uploaded(path: Path) -> str:
    """A copy where uploads wait for their use."""
    return str(shutil.copy(path, uploads_folder() / f"{secrets.token_hex(4)}-{path.name}"))


class Tab:
    """What the page shows and keeps, by the names of its parts."""

    def __init__(self, page: JudgePage, saved: dict[str, Any] | None = None, query: str = "", cookie: str | None = None):
        self.page, self.cookie = page, cookie
        self.shown: dict[str, Any] = {}
        self.show(page._restore(saved or {}, request(query, cookie)))

    def show(self, updates: dict[str, Any]) -> None:
        self.shown |= updates

    def __getattr__(self, name: str) -> Any:
        return self.shown[name]

    @property
    def text(self) -> str:
        return str(self.shown["prompt"].value)

    def write(self, prompt: str) -> None:
        """Write a prompt in the browser, and leave its box."""
        self.shown["prompt"] = gr.Textbox(prompt)
        _, self.shown["saved"] = self.page._reword(self.selection, prompt, self.saved, request("", self.cookie))

    def bring(self, a: Path, b: Path, prompt: str = PROMPT) -> None:
        """Use two videos of one's own."""
        self.show(self.page._begin_own(self.saved, event(turn=1), request("", self.cookie)))
        self.write(prompt)
        self.take(a={"path": uploaded(a)}, b={"path": uploaded(b)})

    def take(self, **sides: dict[str, str] | None) -> None:
        """Name both sides, as the browser does once a file is uploaded."""
        self.show(self.page._take_own(self.text, self.saved, event(**sides, turn=2), request("", self.cookie)))

    def judge(self, mode: Any = "quick") -> None:
        asked = (self.selection, self.text, mode, 8, self.saved, request("", self.cookie))
        *_, (panel, _, _, share, answered) = self.page._judge(*asked)
        assert panel["phase"] == "done", panel
        self.shown |= {"panel": panel, "share": share, "answered": answered}
        asked = (self.selection, self.text, mode, 8, self.saved, answered, request("", self.cookie))
        self.shown["history"], self.shown["saved"] = self.page._remember(*asked)

    def make_link(self) -> str:
        """Share the pair; the token, or "" if it was refused."""
        asked = (self.selection, self.text, self.answered, self.saved, request("", self.cookie))
        self.shown["share"] = self.page.links.make(*asked)
        return str(self.share["path"]).removeprefix("judge?share=")

    def end_link(self) -> None:
        asked = (self.selection, self.text, self.answered, self.saved, request("", self.cookie))
        self.shown["share"] = self.page.links.end(*asked)
