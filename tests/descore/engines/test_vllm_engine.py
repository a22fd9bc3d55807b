"""vLLM as an engine, with real vLLM where it is installed (`make test-vllm`): what the other engines don't have."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from descore.engines.vllm_engine import vllm_is_usable
from descore.errors import EngineError
from descore.judge import DeScore
from descore.judgement import ThoughtDelta, Verdict
from tests.helpers.paths import ROOT

INSTALLED = importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not INSTALLED, reason="vLLM is not installed here: make test-vllm")
GALLERY = ROOT / "app" / "gallery"
PAIRS = [
    ([str(GALLERY / pair["a"]), str(GALLERY / pair["b"])], pair["prompt"])
    for pair in json.loads((GALLERY / "pairs.json").read_text("utf-8"))[:4]
]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeScore]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DESCORE_CACHE", str(tmp_path_factory.mktemp("cache")))
        judge = DeScore.from_pretrained("bundled", engine="vllm", dtype="float32")
        yield judge
        judge.close()


@pytest.fixture(scope="module")
def own() -> DeScore:
    return DeScore.from_pretrained("bundled", device="cpu", dtype="float32")


@pytest.mark.skipif(INSTALLED, reason="vLLM is installed here")
def test_without_vllm_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESCORE_CACHE", str(tmp_path))
    with pytest.raises(EngineError, match=r'pip install "descore-studio\[vllm\]"'):
        DeScore.from_pretrained("bundled", engine="vllm")
    assert not list(tmp_path.iterdir()), "nothing was exported for it"


def test_auto_takes_vllm_only_beside_a_gpu() -> None:
    assert not vllm_is_usable("cpu")
    assert DeScore.from_pretrained("bundled", device="cpu", engine="auto").engine.label.startswith("transformers ")


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(EngineError, match="unknown engine 'onnx'"):
        DeScore.from_pretrained("bundled", engine="onnx")  # type: ignore[arg-type]


@needs_vllm
def test_thoughts_and_rewards_are_the_reference_s(judge: DeScore, own: DeScore) -> None:
    for videos, prompt in PAIRS:
        theirs, ours = judge.judge(videos, prompt), own.judge(videos, prompt)
        assert [video.thought for video in theirs.videos] == [video.thought for video in ours.videos]
        for one, other in zip(theirs.videos, ours.videos, strict=True):
            assert one.reward == pytest.approx(other.reward, abs=1e-4)
            assert one.engine.startswith("vllm ")


@needs_vllm
def test_callers_at_the_same_time_share_a_batch(judge: DeScore, own: DeScore, monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = judge.engine
    step, running = engine._served._scheduler._engine.step, []

    def counted() -> Any:
        running.append(len({id(calls) for calls in engine._served._scheduler._owners.values()}))
        return step()

    monkeypatch.setattr(engine._served._scheduler._engine, "step", counted)
    verdicts: dict[int, Verdict] = {}
    begin = threading.Barrier(len(PAIRS))

    def ask(index: int) -> None:
        begin.wait()
        verdicts[index] = judge.judge(*PAIRS[index])

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(PAIRS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(running) > 1
    for index, (videos, prompt) in enumerate(PAIRS):
        assert verdicts[index].verdict == own.judge(videos, prompt).verdict


@needs_vllm
def test_who_leaves_ends_the_requests(judge: DeScore) -> None:
    engine: Any = judge.engine
    cancel = threading.Event()
    events = []
    for event in judge.stream(*PAIRS[0], cancel=cancel):
        events.append(event)
        cancel.set()
    assert all(isinstance(event, ThoughtDelta) for event in events)
    stream = judge.stream(*PAIRS[1])
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert judge.judge(*PAIRS[2]).verdict is not None
    assert not engine._served._scheduler._owners
    assert not engine._served._scheduler._engine.has_unfinished_requests()


@needs_vllm
def test_sampled_thoughts_carry_their_log_probabilities(judge: DeScore) -> None:
    videos, prompt = PAIRS[0]
    rows = [judge.engine.encode(judge.engine.read(video), prompt) for video in videos]
    thinking = judge.engine.think(rows, "k", k=3, seed=1)
    try:
        while True:
            next(thinking)
    except StopIteration as end:
        thoughts = end.value
    assert [len(each) for each in thoughts] == [3, 3]
    for thought in (thought for each in thoughts for thought in each):
        assert thought.log_probs
        assert all(log_prob <= 0 for log_prob in thought.log_probs)
        assert any(log_prob < 0 for log_prob in thought.log_probs)
