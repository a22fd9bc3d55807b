"""Teacher: any model behind an OpenAI-compatible chat endpoint that takes images.

    teacher = Teacher(TeacherConfig(url=url, model="large-vlm"))   # url: such as https://api.example.com/v1
    reply = teacher.think(clip, "a red circle bounces")
    reply.thought, reply.prompt_tokens, reply.completion_tokens

The teacher gets the judge's own instruction and the frames as JPEG images with their times. Its text must be an answer of
the grammar; one that only the tolerant parser reads is rewritten in the strict form, and for an unreadable one the teacher
is asked again.
"""

from __future__ import annotations

import base64
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import torch
import torchvision.io
from torchvision.transforms.v2.functional import resize

from descore.answer import AnswerError, parse_tolerant, render_answer
from descore.prompt import instruction

if TYPE_CHECKING:
    import numpy as np

    from descore.video import VideoClip

INSTRUCTION = "full-1"  # for every student: a teacher needs the grammar
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_HOPELESS = frozenset({401, 402, 403, 404})
_JPEG_QUALITY = 90
_LONGEST_PAUSE = 120.0


class TeacherError(RuntimeError):
    """The endpoint can't be used at all: wrong address, key or model. More requests would only cost money."""


class NoThoughtError(RuntimeError):
    """No usable thought about one video; the message says why, and the paid tokens are counted."""

    def __init__(self, reason: str, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        super().__init__(reason)
        self.prompt_tokens, self.completion_tokens = prompt_tokens, completion_tokens


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A teacher and the limits of its requests.

    Attributes:
        url: up to and without /chat/completions.
        key_variable: environment variable with the key; where it is empty, no key is sent.
        max_tokens: of one answer.
        attempts: requests for one video.
        backoff_seconds: pause before the second attempt; doubled each time.
        requests_per_minute: 0 for no limit.
        timeout: seconds for one request.
        max_pixels: larger frames are made smaller.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 1.0
    max_tokens: int = 4096
    attempts: int = 6
    backoff_seconds: float = 2.0
    requests_per_minute: float = 0.0
    timeout: float = 300.0
    max_pixels: int = 448 * 448

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"the teacher's url must begin with http:// or https://, not {self.url!r}")
        if self.attempts < 1 or self.max_tokens < 1 or self.timeout <= 0:
            raise ValueError("attempts, max_tokens and timeout of a teacher must be above 0")


@dataclass(frozen=True)
class Reply:
    """One thought in the strict grammar, with the tokens of all requests that it took."""

    thought: str
    prompt_tokens: int
    completion_tokens: int


class Teacher:
    """Asks one endpoint. Threads may share it; the limit of requests holds for all of them together."""

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config
        self._lock = threading.Lock()
        self._next_request = 0.0
        self._closed: TeacherError | None = None  # its refusal of all requests

    @property
    def name(self) -> str:
        """Model and host, as the data names them."""
        host = self.config.url.split("/")[2].rpartition("@")[2]
        return f"teacher {self.config.model} at {host}"

    def think(self, clip: VideoClip, prompt: str) -> Reply:
        """Ask for a thought about one video.

        Raises:
            NoThoughtError: all attempts failed, or the endpoint refuses this request.
            TeacherError: the endpoint refuses everything.
        """
        body, paid, reason = self._body(clip, prompt), (0, 0), ""
        for pause in self._pauses():
            try:
                text, *tokens = _content(self._post(body))
            except _TryAgainError as error:
                reason = str(error)
                time.sleep(min(max(pause, error.after), _LONGEST_PAUSE) if pause else 0.0)
                continue
            except NoThoughtError as error:
                raise NoThoughtError(str(error), *paid) from error
            paid = paid[0] + tokens[0], paid[1] + tokens[1]
            try:
                return Reply(as_strict(text), *paid)
            except AnswerError as error:
                reason = f"not readable: {error}"
        raise NoThoughtError(f"{self.config.attempts} attempts, the last one: {reason}", *paid)

    def _pauses(self) -> Iterator[float]:
        """Seconds to wait after each attempt, 0 after the last; random, so that threads don't come back together."""
        for attempt in range(self.config.attempts - 1):
            yield self.config.backoff_seconds * 2**attempt * random.uniform(0.75, 1.25)
        yield 0.0

    def _body(self, clip: VideoClip, prompt: str) -> bytes:
        content: list[dict[str, Any]] = [{"type": "text", "text": instruction(prompt, INSTRUCTION)}]
        for frame, moment in zip(clip.frames, clip.timestamps, strict=True):
            image = base64.b64encode(_jpeg(frame, self.config.max_pixels)).decode()
            content.append({"type": "text", "text": f"{moment:.1f} seconds:"})
            content.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{image}"}})
        fields = {
            "model": self.config.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": self.config.temperature,
            "max_tokens": self.config.max_tokens,
        }
        return json.dumps(fields).encode()

    def _post(self, body: bytes) -> Mapping[str, Any]:
        self._wait_for_slot()
        if self._closed is not None:
            raise self._closed
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.config.key_variable, "").strip():
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.config.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.config.timeout) as response:
                answer: Mapping[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            refusal = _refusal(error, self.config)
            self._closed = refusal if isinstance(refusal, TeacherError) else None
            raise refusal from error
        except (OSError, HTTPException, ValueError) as error:  # no connection, cut off, or no JSON
            raise _TryAgainError(f"no answer from {self.config.url}: {error}") from error

    def _wait_for_slot(self) -> None:
        if self.config.requests_per_minute <= 0:
            return
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next_request)
            self._next_request = at + 60.0 / self.config.requests_per_minute
        time.sleep(at - now)


class _TryAgainError(RuntimeError):
    """A request that may work later; `after`: seconds that the endpoint asks to wait."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


def as_strict(text: str) -> str:
    """Rewrite an answer in the strict grammar; a strict one stays as it is.

    Raises:
        AnswerError: it can't be read, or lacks the reasoning or the overall score.
    """
    answer = parse_tolerant(text)
    if not answer.notes:
        return text.strip()
    if answer.overall_score is None or not answer.reasoning:
        raise AnswerError(f"the answer lacks its reasoning or its overall score: {'; '.join(answer.notes)}")
    reasoning = answer.reasoning.replace("<answer>", "").replace("</answer>", "").strip()
    return render_answer(reasoning, answer.sub_scores, answer.overall_score)


def _content(answer: Mapping[str, Any]) -> tuple[str, int, int]:
    try:
        text = answer["choices"][0]["message"]["content"]
        usage = answer.get("usage") or {}
        tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _TryAgainError(f"the endpoint's answer has no choices[0].message.content: {str(answer)[:200]}") from error
    return text if isinstance(text, str) else "", *tokens


def _refusal(error: urllib.error.HTTPError, config: TeacherConfig) -> Exception:
    body = error.read(500).decode("utf-8", errors="replace").strip()
    reason = f"{config.url} answers {error.code} {error.reason}: {body}"
    if error.code in _HOPELESS:
        return TeacherError(f"{reason} (the key is read from {config.key_variable}, the model is {config.model})")
    if error.code in _AGAIN:
        after = error.headers.get("Retry-After", "")
        return _TryAgainError(reason, float(after) if after.replace(".", "", 1).isdigit() else 0.0)
    return NoThoughtError(reason)


def _jpeg(frame: np.ndarray, max_pixels: int) -> bytes:
    pixels = torch.from_numpy(frame).permute(2, 0, 1).contiguous()
    scale = (max_pixels / (frame.shape[0] * frame.shape[1])) ** 0.5
    if scale < 1:
        pixels = resize(pixels, [max(1, int(side * scale)) for side in frame.shape[:2]], antialias=True)
    return bytes(torchvision.io.encode_jpeg(pixels, quality=_JPEG_QUALITY).numpy().tobytes())
