"""The optional vLLM engine. vLLM itself can't run here: a small module stands in at the import, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from descore.encode import Batch, Row, collate, encode_prompt, pad_token_id
from descore.engines.vllm_prompts import PLACEHOLDERS, frames_of, request_of, rows_of
from descore.errors import EngineError
from descore.modeling.lora import add_adapter
from descore.modeling.model import DeScoreModel
from descore.modeling.scoring_head import ScoringModule
from tests.helpers.tiny import POLICY, tiny_backbone, tiny_clip, tiny_processor
from trainer.engine.trainable import lora_targets
from trainer.rollouts.vllm_engine import VllmEngine, plain_weights

if TYPE_CHECKING:
    from trainer.rollouts.sampling import SampledThoughts

LIMITS = {"max_prompt_tokens": 400, "max_tokens": 20}


@dataclass
class Served:
    """What reached vLLM: how it was built, its requests, the weights that were handed over."""

    settings: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    loaded: list[dict[str, torch.Tensor]] = field(default_factory=list)


def stand_in(tokens_of: Callable[[dict[str, Any]], list[int]], thought: list[int]) -> tuple[ModuleType, Served]:
    """Make a module of vLLM's shape: `tokens_of` makes prompt tokens of a request, every thought is `thought`."""
    served = Served()

    class Things:
        def __init__(self, **values: Any) -> None:
            self.__dict__.update(values)

    class LLM:
        def __init__(self, **settings: Any) -> None:
            served.settings = settings | {"files": {p.name for p in Path(settings["model"]).iterdir()}}
            model = Things(load_weights=lambda weights: served.loaded.append(dict(weights)))
            worker = Things(model_runner=Things(model=model))
            self.llm_engine = Things(model_executor=Things(driver_worker=worker))

        def generate(self, requests: list[dict[str, Any]], params: list[Any], use_tqdm: bool) -> list[Any]:  # noqa: ARG002 - vLLM's signature
            served.requests += [(one, vars(some)) for one, some in zip(requests, params, strict=True)]
            return [
                Things(
                    prompt_token_ids=tokens_of(request),
                    outputs=[
                        Things(
                            index=g,
                            token_ids=thought[: some.max_tokens],
                            logprobs=[{token: Things(logprob=-1.0)} for token in thought[: some.max_tokens]],
                            finish_reason="stop" if g == 0 else "length",
                        )
                        for g in reversed(range(some.n))
                    ],
                )
                for request, some in zip(requests, params, strict=True)
            ]

    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = LLM, Things  # type: ignore[attr-defined]
    return module, served


def processed(model: DeScoreModel, request: dict[str, Any]) -> Batch:
    """Process a request by the real processor, with frames that are neither sampled nor resized again."""
    frames, metadata = request["multi_modal_data"]["video"][0]
    known = {name: metadata[name] for name in ("fps", "frames_indices", "total_num_frames", "duration")}
    return model.processor(
        text=[request["prompt"]],
        videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)],
        videos_kwargs={"video_metadata": [known], "input_data_format": "channels_first", **request["mm_processor_kwargs"]},
        return_tensors="pt",
    )


@pytest.fixture
def model() -> DeScoreModel:
    return DeScoreModel(tiny_backbone(), tiny_processor(), ScoringModule(64)).eval()


@pytest.fixture
def rows(model: DeScoreModel) -> list[Row]:
    clips = [tiny_clip(1), tiny_clip(2, frames=6)]
    prompts = ["A red circle.", "A longer prompt that says <0.5 seconds> in the middle, é."]
    return [
        encode_prompt(model.processor, clip, prompt, POLICY, "compact-1")
        for clip, prompt in zip(clips, prompts, strict=True)
    ]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[ModuleType | None], None]]:
    return lambda module: monkeypatch.setitem(sys.modules, "vllm", module)  # type: ignore[misc]


def sampled(engine: VllmEngine, model: DeScoreModel, rows: list[Row], seeds: list[str]) -> SampledThoughts:
    return engine(model, rows, seeds, num_generations=2, max_tokens=20)


# what goes to vLLM


def test_frames_and_text_are_rebuilt_exactly(model: DeScoreModel, rows: list[Row]) -> None:
    batch = collate(rows, pad_token_id(model.processor))
    for row, wanted in zip(rows_of(batch), rows, strict=True):
        assert torch.equal(row["input_ids"], wanted["input_ids"])
        request, ids = request_of(model.processor, row, PLACEHOLDERS[1])
        made = processed(model, request)
        assert made["input_ids"][0].tolist() == ids
        assert torch.equal(made["pixel_values_videos"], wanted["pixel_values_videos"])
        assert torch.equal(made["video_grid_thw"], wanted["video_grid_thw"])


def test_rebuilt_frames_are_the_clips_own(model: DeScoreModel) -> None:
    clip = tiny_clip(3)  # at the model's size, so nothing was resized
    row = encode_prompt(model.processor, clip, "A cat.", POLICY, "compact-1")
    assert (frames_of(model.processor.video_processor, row) == clip.frames).all()


# refusals


def test_without_vllm_the_engine_says_what_to_install(model: DeScoreModel, install: Any) -> None:
    install(None)  # as Python marks what can't be imported
    with pytest.raises(EngineError, match=r"vLLM can't be imported .*pip install vllm"):
        VllmEngine(model, **LIMITS)


def test_the_module_itself_needs_no_vllm() -> None:
    assert "vllm" not in sys.modules


def test_another_prompt_is_refused(model: DeScoreModel, rows: list[Row], install: Any) -> None:
    module, served = stand_in(lambda request: processed(model, request)["input_ids"][0].tolist()[:-1], [5, 6])
    install(module)
    engine = VllmEngine(model, **LIMITS)
    length = len(rows[0]["input_ids"])
    with pytest.raises(EngineError, match=f"vLLM made {length - 1} prompt tokens, the processor {length}"):
        sampled(engine, model, rows, ["a", "b"])
    assert [request["prompt"].count("<|vision_start|>") for request, _ in served.requests] == [2, 1]  # both ways tried


def test_another_prompt_is_refused_in_every_later_call_too(model: DeScoreModel, rows: list[Row], install: Any) -> None:
    def tokens_of(request: dict[str, Any]) -> list[int]:
        ids = processed(model, request)["input_ids"][0].tolist()
        return [*ids[:-1], ids[-1] + 1] if "longer" in request["prompt"] else ids

    install(stand_in(tokens_of, [5, 6])[0])
    engine = VllmEngine(model, **LIMITS)
    assert sampled(engine, model, rows[:1], ["a"]).tokens > 0
    last = len(rows[1]["input_ids"]) - 1
    with pytest.raises(EngineError, match=f"differ from token {last} on"):
        sampled(engine, model, rows, ["a", "b"])


def test_a_control_token_in_a_thought_is_refused(model: DeScoreModel, rows: list[Row], install: Any) -> None:
    pad = model.processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    install(stand_in(lambda request: processed(model, request)["input_ids"][0].tolist(), [5, pad])[0])
    with pytest.raises(EngineError, match=f"control tokens \\[{pad}\\]"):
        sampled(VllmEngine(model, **LIMITS), model, rows, ["a", "b"])


# the interface of trainer.rollouts.sampling.sample


def test_thoughts_come_back_as_from_the_own_engine(model: DeScoreModel, rows: list[Row], install: Any) -> None:
    end = min(model.end_ids)
    module, served = stand_in(lambda request: processed(model, request)["input_ids"][0].tolist(), [60, 61, end])
    install(module)
    found = sampled(VllmEngine(model, **LIMITS), model, rows, ["1/x/A", "1/x/B"])
    assert found.ids == (((60, 61), (60, 61)), ((60, 61), (60, 61)))
    assert found.ended == ((True, False), (True, False))
    assert found.ends == ((end, end), (end, end))
    assert found.log_probs == (((-1.0,) * 3,) * 2,) * 2
    assert found.texts[0][0] == model.processor.tokenizer.decode([60, 61])
    (_, first), (_, second) = served.requests[-2:]
    assert (first["n"], first["temperature"], first["max_tokens"]) == (2, 1.0, 20)
    assert first["stop_token_ids"] == sorted(model.end_ids)
    assert first["seed"] != second["seed"]
    banned = set(model.never_sampled.nonzero().flatten().tolist())
    assert set(first["logit_bias"]) == banned
    assert set(first["logit_bias"].values()) == {-100.0}
    assert served.settings["max_model_len"] == 420
    assert "config.json" in served.settings["files"]


# weights


def adapt(model: DeScoreModel) -> None:
    torch.manual_seed(0)
    targets = lora_targets(model.backbone)
    add_adapter(
        model.backbone, LoraConfig(r=4, lora_alpha=8, target_modules=targets, modules_to_save=["model.visual.merger"])
    )
    for name, parameter in model.backbone.named_parameters():
        if ".lora_" in name or ".modules_to_save." in name:
            parameter.data.normal_(0, 0.1)


def test_merged_weights_answer_as_the_adapted_model_does(model: DeScoreModel, rows: list[Row]) -> None:
    adapt(model)
    plain = tiny_backbone()
    missing = plain.load_state_dict(dict(plain_weights(model)), strict=False)
    assert missing.unexpected_keys == []
    assert missing.missing_keys in ([], ["lm_head.weight"])
    other = DeScoreModel(plain, model.processor, model.scoring).eval()
    batch = collate(rows, pad_token_id(model.processor))
    assert torch.allclose(other.rewards(batch), model.rewards(batch), atol=1e-4)
    assert not torch.allclose(
        DeScoreModel(tiny_backbone(), model.processor, model.scoring).rewards(batch), model.rewards(batch)
    )


def test_weights_are_handed_over_only_after_they_moved(model: DeScoreModel, rows: list[Row], install: Any) -> None:
    adapt(model)
    module, served = stand_in(lambda request: processed(model, request)["input_ids"][0].tolist(), [5])
    install(module)
    engine = VllmEngine(model, **LIMITS)
    folder = Path(served.settings["model"])
    started_with = load_file(folder / "model.safetensors")
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(started_with[name], dict(plain_weights(model))[name])
    sampled(engine, model, rows, ["a", "b"])
    assert served.loaded == []
    optimizer = torch.optim.SGD([p for p in model.backbone.parameters() if p.requires_grad], lr=0.1)
    batch = collate(rows, pad_token_id(model.processor))
    model.rewards(batch).sum().backward()
    optimizer.step()
    sampled(engine, model, rows, ["a", "b"])
    sampled(engine, model, rows, ["a", "b"])
    assert len(served.loaded) == 1
    assert name in served.loaded[0]
    assert not torch.equal(served.loaded[0][name], started_with[name])
    assert not any("embed_tokens" in one or ".lora_" in one for one in served.loaded[0])
