"""The JSON of requests and answers, with the examples that `/openapi.json` shows."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from descore.judgement import Judgement, Mode
from descore.prompt import PROMPT_CHARACTERS
from descore.server.config import ServerConfig
from descore.server.judging import JudgingRequest, Row
from descore.server.served import Served

_VIDEO = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_OTHER = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
_PROMPT = "a red circle bounces"
_JUDGEMENT: dict[str, Any] = {
    "path": _VIDEO,
    "mode": "quick",
    "thought": "",
    "sub_scores": None,
    "overall_score": None,
    "parse_note": None,
    "strict_format": False,
    "reward": 1.53,
    "standardised_reward": -0.19,
    "reward_spread": None,
    "sub_score_votes": None,
    "truncated": False,
    "seconds": 0.4,
    "engine": "vllm 0.32.0",
    "thoughts": None,
}
# One character more than a prompt may have is enough to refuse it with the sentence that all ways in have.
Prompt = Annotated[str, Field(max_length=8 * PROMPT_CHARACTERS)]


def _shown(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": list(examples)})


class _Judging(BaseModel):
    mode: Mode = Field("think", description="think (greedy), quick (no thought) or k (k sampled thoughts)")
    k: int = Field(8, ge=2, description="thoughts about each video in mode k")
    seed: int = Field(0, ge=-(2**63), lt=2**63, description="of the sampled thoughts")
    fingerprint: str | None = Field(None, description="of the checkpoint that has to answer; 409 if another one does")


class JudgeRequest(_Judging):
    """Videos to judge together, mostly the two of a pair."""

    model_config = _shown({"videos": [_VIDEO, _OTHER], "prompt": _PROMPT, "mode": "think"})

    videos: list[str] = Field(min_length=1, description="SHA-256 of each video, which was sent to /v1/videos before")
    prompt: Prompt | list[Prompt] = Field(description="what the videos were made from; one for all, or one for each")
    thoughts: bool = Field(False, description="send the event `finished` too: all thoughts, rewards, log-probabilities")

    def rows(self) -> JudgingRequest:
        """Return one prompt for each video; the lists are of equal length once the limits are checked."""
        prompts = [self.prompt] * len(self.videos) if isinstance(self.prompt, str) else self.prompt
        return JudgingRequest(tuple(self.videos), tuple(prompts), self.mode, self.k, self.seed)


class ScoreRow(BaseModel):
    """A video and what it was made from."""

    model_config = _shown({"video": _VIDEO, "prompt": _PROMPT})

    video: str
    prompt: Prompt


class ScoreRequest(_Judging):
    """Rows to judge, each for itself."""

    model_config = _shown({"rows": [{"video": _VIDEO, "prompt": _PROMPT}], "mode": "quick"})

    videos_and_prompts: list[ScoreRow] = Field(alias="rows", min_length=1)

    def rows(self) -> JudgingRequest:
        """Return the rows as they are judged."""
        rows = self.videos_and_prompts
        videos, prompts = tuple(row.video for row in rows), tuple(row.prompt for row in rows)
        return JudgingRequest(videos, prompts, self.mode, self.k, self.seed)


class ErrorBody(BaseModel):
    """A refusal; some kinds have more keys than these."""

    model_config = ConfigDict(extra="allow")

    kind: str
    message: str


class ErrorAnswer(BaseModel):
    """How every refusal looks."""

    model_config = _shown({"error": {"kind": "busy", "message": "64 requests wait already; try again in 3 seconds"}})

    error: ErrorBody


class ScoreResult(BaseModel):
    """One row's result: a judgement, else the error that this row met."""

    judgement: Judgement | None = None
    error: ErrorBody | None = None

    @classmethod
    def of(cls, row: Row) -> ScoreResult:
        """Make the answer's part about a row."""
        if row.error is not None:
            return cls(error=ErrorBody(**row.error.body()))
        return cls(judgement=row.judgement)


class ScoreAnswer(BaseModel):
    """The results, in the order of the rows."""

    model_config = _shown({"checkpoint": "bundled v2", "fingerprint": _OTHER, "results": [{"judgement": _JUDGEMENT}]})

    checkpoint: str
    fingerprint: str
    results: list[ScoreResult]


class VideoAnswer(BaseModel):
    """A video that is here."""

    model_config = _shown({"video": _VIDEO, "bytes": 48213})

    video: str
    bytes: int


class Limits(BaseModel):
    """How much of everything a request may have."""

    prompt_characters: int
    prompt_tokens: int | None
    file_bytes: int
    body_bytes: int
    rows: int
    thoughts: int
    frame_pixels: int
    decoded_pixels: int
    seconds: float


class CheckpointAnswer(BaseModel):
    """The checkpoint that answers, and by what."""

    name: str
    location: str
    fingerprint: str
    engine: str
    has_reward: bool
    special_tokens: list[str] = Field(description="that a prompt may not hold")
    manifest: dict[str, Any]
    limits: Limits

    @classmethod
    def of(cls, served: Served, config: ServerConfig) -> CheckpointAnswer:
        """Describe a checkpoint and the limits of a server."""
        from descore.video import LIMITS

        judge = served.judge
        tokenizer = getattr(getattr(judge.engine, "processor", None), "tokenizer", None)
        return cls(
            name=judge.name,
            location=served.location,
            fingerprint=served.fingerprint,
            engine=judge.engine.label,
            has_reward=judge.has_reward,
            special_tokens=[] if tokenizer is None else list(tokenizer.all_special_tokens),
            manifest=judge.manifest.to_dict(),
            limits=Limits(
                prompt_characters=PROMPT_CHARACTERS,
                prompt_tokens=judge.prompt_tokens,
                file_bytes=min(config.file_bytes, LIMITS.max_bytes),
                body_bytes=config.body_bytes,
                rows=config.rows,
                thoughts=config.thoughts,
                frame_pixels=LIMITS.max_pixels,
                decoded_pixels=LIMITS.max_decoded_pixels,
                seconds=LIMITS.max_seconds,
            ),
        )


class SwapRequest(BaseModel):
    """Another checkpoint, by a path that the server sees too or by its Hub id."""

    model_config = _shown({"checkpoint": "our-lab/descore-8b@1f2e3d", "fingerprint": _OTHER})

    checkpoint: str = Field(min_length=1, max_length=1000)
    fingerprint: str | None = Field(None, description="that it has to have")


class HealthAnswer(BaseModel):
    """Whether the server takes requests."""

    model_config = _shown({"status": "ok"})

    status: str
