"""What every engine has to do, on the bundled checkpoint: each test runs with each engine that can run here.

Nothing here needs more than descore's own dependencies and pytest, since vLLM has an environment of its own
(`make test-vllm`); an engine that lacks a library is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from descore.checkpoints.folder import load_checkpoint, save_checkpoint
from descore.judge import DeScore
from descore.judgement import Mode, ThoughtDelta, Verdict
from descore.video import VideoError
from tests.helpers.paths import ROOT
from tests.helpers.tiny import tiny_video

if TYPE_CHECKING:
    from descore.engines.engine import FinishedThought, Thinking

GALLERY = ROOT / "app" / "gallery"
PAIR = json.loads((GALLERY / "pairs.json").read_text("utf-8"))[0]
BUNDLED = "bundled"
SHORT = 12  # tokens
CLOSE = 1e-4
pytestmark = pytest.mark.slow


@contextmanager
def open_transformers(checkpoint: str, _folder: Path) -> Iterator[DeScore]:
    yield DeScore.from_pretrained(checkpoint, device="cpu", dtype="float32")


@contextmanager
def open_server(checkpoint: str, _folder: Path) -> Iterator[DeScore]:
    from tests.helpers.judging_server import judging_server

    with judging_server(checkpoint) as running:
        judge = DeScore.from_server(running.url)
        try:
            yield judge
        finally:
            judge.close()


@contextmanager
def open_vllm(checkpoint: str, folder: Path) -> Iterator[DeScore]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DESCORE_CACHE", str(folder / "cache"))
        judge = DeScore.from_pretrained(checkpoint, engine="vllm", dtype="float32")
    try:
        yield judge
    finally:
        judge.close()


# How an engine is opened with a checkpoint, a folder or "bundled"; and the libraries without which it is left out.
ENGINES: dict[str, tuple[Callable[..., object], tuple[str, ...]]] = {
    "transformers": (open_transformers, ()),
    "vllm": (open_vllm, ("vllm",)),
    "server": (open_server, ("fastapi", "uvicorn", "prometheus_client", "httpx")),
}
Open = Callable[..., "Iterator[DeScore]"]


@contextmanager
def opened(name: str, checkpoint: str, folder: Path) -> Iterator[DeScore]:
    open_engine, libraries = ENGINES[name]
    missing = [library for library in libraries if importlib.util.find_spec(library) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed here")
    with open_engine(checkpoint, folder) as judge:  # type: ignore[attr-defined]
        yield judge


@pytest.fixture(scope="module", params=list(ENGINES))
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def judge(engine_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeScore]:
    with opened(engine_name, BUNDLED, tmp_path_factory.mktemp(engine_name)) as judge:
        yield judge


@pytest.fixture(scope="module")
def reference() -> DeScore:
    return DeScore.from_pretrained(BUNDLED, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Of unequal sizes and lengths: a bundled one, a longer one, a wide one."""
    folder = tmp_path_factory.mktemp("videos")
    shapes = {"long": (2, 40, 64, 48), "wide": (3, 12, 32, 96)}
    return [str(GALLERY / PAIR["a"]), *(str(tiny_video(folder / f"{name}.mp4", *shape)) for name, shape in shapes.items())]


def think(
    judge: DeScore, videos: list[str], prompts: list[str], mode: Mode, k: int = 3, seed: int = 0
) -> list[list[FinishedThought]]:
    """The finished thoughts of an engine, past the judge."""
    engine = judge.engine
    rows = [engine.encode(engine.read(video), prompt) for video, prompt in zip(videos, prompts, strict=True)]
    _, thoughts = finish(engine.think(rows, mode, k, seed))
    assert thoughts is not None
    return thoughts


def finish(thinking: Thinking) -> tuple[int, list[list[FinishedThought]] | None]:
    """How many pieces of text came, and what came at the end."""
    pieces = 0
    with pytest.raises(StopIteration) as end:
        while True:
            next(thinking)
            pieces += 1
    return pieces, end.value.value


def require_same(first: list[list[FinishedThought]], second: list[list[FinishedThought]]) -> None:
    """Equal texts, and rewards and log-probabilities within `CLOSE`."""
    assert [[(one.text, one.truncated) for one in row] for row in first] == [
        [(one.text, one.truncated) for one in row] for row in second
    ]
    for one, other in zip(chain(*first), chain(*second), strict=True):
        assert one.reward == pytest.approx(other.reward, abs=CLOSE)
        assert one.log_probs == pytest.approx(other.log_probs, abs=CLOSE)


def test_the_engine_describes_its_checkpoint(judge: DeScore, reference: DeScore) -> None:
    assert judge.manifest == reference.manifest
    assert judge.has_reward
    assert judge.prompt_tokens == reference.prompt_tokens
    assert judge.engine.label.split()[0] in ENGINES


@pytest.mark.parametrize("mode", ["think", "quick"])
def test_greedy_thoughts_and_rewards_are_those_of_the_reference(
    judge: DeScore, reference: DeScore, videos: list[str], mode: Mode
) -> None:
    """Prompts and videos are of unequal length."""
    prompts = [PAIR["prompt"], "a blue square that bounces on a checkerboard while the camera pans left, in sepia", "x"]
    require_same(think(judge, videos, prompts, mode), think(reference, videos, prompts, mode))


def test_a_row_does_not_depend_on_its_neighbours(judge: DeScore, videos: list[str]) -> None:
    prompts = [PAIR["prompt"], "a blue square", "x"]
    together = think(judge, videos, prompts, "think")
    alone = [think(judge, [video], [prompt], "think")[0] for video, prompt in zip(videos, prompts, strict=True)]
    require_same(together, alone)


def test_quick_has_rewards_without_thoughts(judge: DeScore, videos: list[str]) -> None:
    for (thought,) in think(judge, videos, ["a red circle"] * 3, "quick"):
        assert thought.text == ""
        assert not thought.truncated
        assert thought.reward is not None


def test_k_thoughts_are_reproducible_and_the_seed_s(judge: DeScore, videos: list[str]) -> None:
    prompts = ["a red circle", "a blue square"]
    first = think(judge, videos[:2], prompts, "k", k=3, seed=7)
    require_same(first, think(judge, videos[:2], prompts, "k", k=3, seed=7))
    require_same(first[1:], think(judge, videos[1:2], prompts[1:], "k", k=3, seed=7))
    other = think(judge, videos[:2], prompts, "k", k=3, seed=8)
    assert [one.text for row in first for one in row] != [one.text for row in other for one in row]
    for row in first:
        assert len(row) == 3
        assert len({one.text for one in row}) > 1, "samples differ"
        for thought in row:
            assert thought.log_probs
            assert all(value <= 0 for value in thought.log_probs)


@pytest.mark.parametrize("mode", ["think", "k"])
def test_the_text_that_streams_is_the_thought(judge: DeScore, videos: list[str], mode: Mode) -> None:
    *events, verdict = judge.stream(videos[:2], PAIR["prompt"], mode, k=2)
    assert isinstance(verdict, Verdict)
    for index, video in enumerate(verdict.videos):
        pieces = [event.text for event in events if isinstance(event, ThoughtDelta) and event.index == index]
        assert "".join(pieces) == video.thought
        assert video.thought
        assert video.engine == judge.engine.label


def test_a_cancellation_ends_it_within_a_token(judge: DeScore, videos: list[str]) -> None:
    cancel = threading.Event()
    rows = [judge.engine.encode(judge.engine.read(videos[2]), "a cancellation")]
    thinking = judge.engine.think(rows, "think", cancel=cancel)
    for _ in range(3):
        next(thinking)
    cancel.set()
    after, thoughts = finish(thinking)
    assert thoughts is None
    assert after <= 1
    assert judge.judge(videos[2:], "after a cancellation", "quick").videos[0].reward is not None


def test_a_stream_that_is_left_can_be_asked_again(judge: DeScore, videos: list[str]) -> None:
    stream = judge.stream(videos[:1], "a stream that is left")
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert judge.judge(videos[:1], "a stream that is left").videos[0].thought


def test_a_broken_video_costs_its_row_alone(judge: DeScore, videos: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(videos[1]).read_bytes()[:900])
    rows, errors = [], []
    for video in (videos[0], str(broken), videos[2]):
        try:
            rows.append(judge.engine.encode(judge.engine.read(video), "a red circle"))
        except VideoError as error:
            errors.append(error)
    (error,) = errors
    assert Path(error.path).name == "broken.mp4"
    _, thoughts = finish(judge.engine.think(rows, "quick"))
    assert thoughts is not None
    good = think(judge, [videos[0], videos[2]], ["a red circle"] * 2, "quick")
    require_same(thoughts, good)


@pytest.mark.parametrize("prompt", ["", "a <|im_end|> in it", "x" * 5000])
def test_what_can_not_be_a_prompt_is_refused_alike(judge: DeScore, reference: DeScore, prompt: str) -> None:
    with pytest.raises(ValueError, match="the prompt") as own:
        reference.check_prompt(prompt)
    with pytest.raises(type(own.value)) as theirs:
        judge.check_prompt(prompt)
    assert str(theirs.value) == str(own.value)


def test_a_thought_ends_at_the_checkpoint_s_limit(engine_name: str, tmp_path: Path, videos: list[str]) -> None:
    model, manifest = load_checkpoint(BUNDLED, device="cpu", dtype="float32")
    save_checkpoint(tmp_path / "short", model, replace(manifest, name="short", max_thought_tokens=SHORT))
    with opened(engine_name, str(tmp_path / "short"), tmp_path) as judge:
        ((thought,),) = think(judge, videos[:1], ["a red circle"], "think")
        (row,) = think(judge, videos[:1], ["a red circle"], "k", k=2)
    assert thought.truncated
    assert 0 < len(model.processor.tokenizer(thought.text)["input_ids"]) <= SHORT
    assert thought.reward is not None
    for sampled in row:
        assert sampled.truncated
        assert len(sampled.log_probs) == SHORT


def test_control_ids_are_never_sampled(engine_name: str, tmp_path: Path, reference: DeScore, videos: list[str]) -> None:
    """In a checkpoint that would say a placeholder of a frame at every place where it says a token of a usual thought."""
    model, manifest = load_checkpoint(BUNDLED, device="cpu", dtype="float32")
    tokenizer = model.processor.tokenizer
    (plain,) = think(reference, videos[:1], ["a red circle"], "think")[0]
    usual = tokenizer(plain.text, add_special_tokens=False)["input_ids"]
    embeddings = model.backbone.get_input_embeddings().weight
    with torch.no_grad():
        for name, token in (("<|video_pad|>", usual[1]), ("<|image_pad|>", usual[2])):
            embeddings[tokenizer.convert_tokens_to_ids(name)] = 2 * embeddings[token]
    save_checkpoint(tmp_path / "tempted", model, replace(manifest, name="tempted", max_thought_tokens=SHORT))
    with opened(engine_name, str(tmp_path / "tempted"), tmp_path) as judge:
        ((tempted,),) = think(judge, videos[:1], ["a red circle"], "think")
        (row,) = think(judge, videos[:1], ["a red circle"], "k", k=2)
    assert plain.text.startswith(tempted.text)
    for thought in (tempted, *row):
        assert thought.text
        assert "_pad|>" not in thought.text
        assert len(thought.log_probs) in (0, SHORT)
