"""The model card of a checkpoint folder, in the Hub's format, written from the manifest alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from descore.checkpoints.card_curves import curves_table
from descore.familiarity import FALSE_ALARM, Familiarity

CURVES_FILE = "curves.svg"
# What a measurement may hold beside its own figures: those from before the last stage, and how they differ.
_BEFORE, _CHANGE = "before", "change"
_ABOUT = """\
A video reward model that thinks, then scores: it writes a thought about one video and its prompt, gives the
sub-scores {dimensions}, and one scalar reward from a query token that reads video, prompt and thought. Of two
videos of one prompt, the one with the higher reward is preferred."""
_INTERVAL = "_interval"
# How a report was made, not what it says.
_BOOKKEEPING = frozenset({"checkpoint", "split", "resamples", "seed", "seconds"})
_COMPARED = (
    "accuracy_without_ties",
    "accuracy_with_ties",
    "accuracy_with_ties_at_fitted_eps",
    "sub_score_exact_match",
    "strict_format",
    "quick: accuracy_without_ties",
)
_USAGE = """\
```python
from descore import DeScore

judge = DeScore.from_pretrained("REPOSITORY")
print(judge.judge(["a.mp4", "b.mp4"], "a red circle bounces").to_json_dict())
```"""


def render_card(
    manifest: Mapping[str, Any],
    repository: str = "PATH_OR_HUB_ID_OF_THIS_FOLDER",
    familiarity: Familiarity | None = None,
) -> str:
    """Render Markdown with the Hub's front matter.

    Args:
        manifest: `Manifest.to_dict()`; its metrics are split -> name -> number, interval or text.
        repository: where a reader gets it from, for the example.
        familiarity: the videos that the checkpoint knows.
    """
    name, base = manifest["name"], manifest["base_model"]
    front = {
        "library_name": "descore",
        "pipeline_tag": "video-text-to-text",
        "tags": ["reward-model", "video", "preference", "text-alignment"],
    }
    if base is not None and base["source"].count("/") == 1:
        front["base_model"] = base["source"]
    parts = [
        # JSON is YAML, and quotes every value that needs it
        "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items()) + "---",
        f"# {name}",
        manifest["trained_on"] or "No description of the training data was given.",
        _ABOUT.format(dimensions=", ".join(manifest["dimensions"])),
        _USAGE.replace("REPOSITORY", repository),
        _settings(manifest),
        "## Limits\n\n" + _limits(manifest),
        "## Measured\n\n" + _metrics_table(manifest["metrics"]),
        _before_after(manifest["metrics"]),
        _curves(manifest["lineage"]),
        "## Scale of the reward\n\n" + _calibration_table(manifest["calibration"]),
        _familiarity(familiarity),
        "## Lineage\n\n```json\n" + _lineage(manifest["lineage"]) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _settings(manifest: Mapping[str, Any]) -> str:
    base, policy = manifest["base_model"], manifest["frame_policy"]
    revision = f" at revision `{base['revision']}`" if base and base["revision"] else ""
    return "\n".join(
        [
            f"- Backbone: {'embedded in this folder' if base is None else base['source'] + revision}",
            f"- Frames: {policy['fps']:g} a second, {policy['min_frames']} to {policy['max_frames']}",
            f"- Pixels of a frame: at most {policy['max_pixels_per_frame']}",
            f"- Instruction: `{manifest['prompt_version']}`",
            f"- Thought: at most {manifest['max_thought_tokens']} tokens",
        ]
    )


def _limits(manifest: Mapping[str, Any]) -> str:
    """Say where the checkpoint's judgements end, from what the manifest knows."""
    policy = manifest["frame_policy"]
    lines = [
        "- It judges how well a video follows its prompt, in the dimensions above; nothing else, such as safety or sound.",
        f"- It sees at most {policy['max_frames']} frames of a video: what happens between them it does not know.",
        "- On videos unlike those that it was trained on (above) its rewards mean little, however sure they look.",
        "- A text inside a prompt can sway a thought: rewards of prompts that strangers wrote are to be read with care.",
    ]
    if not manifest["metrics"]:
        lines.append("- Nothing was measured on held-out pairs.")
    if not manifest["calibration"]:
        lines.append("- It has no calibration: a probability of its preference can't be given.")
    return "\n".join(lines)


def _metrics_table(metrics: Mapping[str, Any]) -> str:
    """Render one row for each number with its interval, one column for each split; nested names are joined."""
    splits = {split: _flat(values) for split, values in metrics.items() if isinstance(values, Mapping)}
    if not splits:
        return "Nothing was measured yet."
    names = list(dict.fromkeys(name for values in splits.values() for name in values))
    lines = ["| | " + " | ".join(splits) + " |", "|---" * (len(splits) + 1) + "|"]
    for name in names:
        if name.endswith(_INTERVAL) and name.removesuffix(_INTERVAL) in names:
            continue
        cells = [_measured(values, name) for values in splits.values()]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\nIn brackets: 95 % intervals."


def _before_after(metrics: Mapping[str, Any]) -> str:
    """Compare with the parent where a measurement holds its figures on the same pairs: one row for each figure and split."""
    lines = []
    for split, values in metrics.items():
        before = values.get(_BEFORE) if isinstance(values, Mapping) else None
        if not before:
            continue
        old, new, change = _flat(before), _flat(values), _flat(values.get(_CHANGE, {}))
        for name in (name for name in new if name in old and name in _COMPARED):
            cells = [split, name.replace("_", " "), _measured(old, name), _measured(new, name), _measured(change, name)]
            lines.append("| " + " | ".join(cells) + " |")
    if not lines:
        return ""
    head = "| | | before | after | change |\n|---|---|---|---|---|\n"
    note = "\n\nChange: on the very same pairs, with its 95 % interval; one that holds 0 shows no difference."
    has_change = any(isinstance(values, Mapping) and _CHANGE in values for values in metrics.values())
    return "## Before and after the last stage\n\n" + head + "\n".join(lines) + (note if has_change else "")


def _curves(lineage: Mapping[str, Any]) -> str:
    table = curves_table(lineage.get("curves", {}))
    if not table:
        return ""
    about = str(lineage["curves"].get("about", ""))
    return "\n\n".join(part for part in ("## Curves of the last stage", about, f"![curves]({CURVES_FILE})", table) if part)


def _lineage(lineage: Mapping[str, Any]) -> str:
    without_curves = {name: value for name, value in lineage.items() if name != "curves"}
    return json.dumps(without_curves, indent=2, ensure_ascii=False)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in (_BEFORE, _CHANGE):
            continue
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}: ")
        elif name not in _BOOKKEEPING and value is not None:
            flat[prefix + name] = value
    return flat


def _measured(values: Mapping[str, Any], name: str) -> str:
    interval = values.get(name + _INTERVAL)
    return _cell(values.get(name)) + (f" ({_cell(interval)})" if interval else "")


def _calibration_table(calibration: Mapping[str, Mapping[str, Any]]) -> str:
    if not calibration:
        return "Not calibrated: rewards can be compared, and have no standard scale."
    lines = ["| mode | mean | std | temperature | tie threshold |", "|---|---|---|---|---|"]
    keys = ("mean", "std", "temperature", "tie_threshold")
    lines += [f"| {mode} | " + " | ".join(_cell(scale[key]) for key in keys) + " |" for mode, scale in calibration.items()]
    sources = {mode: scale["source"] for mode, scale in calibration.items() if scale.get("source")}
    for mode, source in sources.items():
        lines.append(
            f"\nTemperature and tie threshold of mode {mode} were carried over from {source}, stretched with the rewards: "
            "this checkpoint had too few validation pairs of its own."
        )
    return "\n".join(lines)


def _familiarity(familiarity: Familiarity | None) -> str:
    if familiarity is None:
        return ""
    text = (
        f"## Familiarity\n\nIt knows {len(familiarity.references)} reference videos by their vision features. A video that "
        f"lies further from them than {100 * (1 - FALSE_ALARM):.0f} % of them do from each other is called unlike the "
        "videos that this checkpoint knows, and no probability is shown for it."
    )
    rows = [f"| {name} | {_measured(familiarity.measured, name)} |" for name in _flat(familiarity.measured)]
    rows = [row for row, name in zip(rows, _flat(familiarity.measured), strict=True) if not name.endswith(_INTERVAL)]
    return text + ("\n\n| measured | |\n|---|---|\n" + "\n".join(rows) if rows else "")


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " to ".join(_cell(item) for item in value)
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None or isinstance(value, Mapping) else str(value)
