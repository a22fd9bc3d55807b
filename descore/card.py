"""The model card of a checkpoint folder, in the Hub's format, written from the manifest alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_ABOUT = """\
A video reward model that thinks, then scores: it writes a thought about one video and its prompt, gives the
sub-scores {dimensions}, and one scalar reward from a query token that reads video, prompt and thought. Of two
videos of one prompt, the one with the higher reward is preferred."""
_USAGE = """\
```python
from descore import DeScore

judge = DeScore.from_pretrained("PATH_OR_HUB_ID_OF_THIS_FOLDER")
print(judge.judge(["a.mp4", "b.mp4"], "a red circle bounces").to_json_dict())
```"""


def render_card(manifest: Mapping[str, Any]) -> str:
    """Markdown with the Hub's front matter.

    Args:
        manifest: `Manifest.to_dict()`; its metrics are split -> name -> number, interval or text.
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
        _USAGE,
        _facts(manifest),
        "## Measured\n\n" + _metrics_table(manifest["metrics"]),
        "## Scale of the reward\n\n" + _calibration_table(manifest["calibration"]),
        "## Lineage\n\n```json\n" + json.dumps(manifest["lineage"], indent=2, ensure_ascii=False) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _facts(manifest: Mapping[str, Any]) -> str:
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


def _metrics_table(metrics: Mapping[str, Any]) -> str:
    """One row for each split, one column for each number, interval or text; anything deeper is left out."""
    rows = {split: values for split, values in metrics.items() if isinstance(values, Mapping)}
    if not rows:
        return "Nothing was measured yet."
    columns = list(dict.fromkeys(key for row in rows.values() for key, value in row.items() if _is_cell(value)))
    lines = ["| split | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {split} | " + " | ".join(_cell(row.get(key)) for key in columns) + " |" for split, row in rows.items()]
    return "\n".join(lines)


def _calibration_table(calibration: Mapping[str, Mapping[str, Any]]) -> str:
    if not calibration:
        return "Not calibrated: rewards can be compared, and have no standard scale."
    lines = ["| mode | mean | std | temperature | tie threshold |", "|---|---|---|---|---|"]
    keys = ("mean", "std", "temperature", "tie_threshold")
    lines += [f"| {mode} | " + " | ".join(_cell(one[key]) for key in keys) + " |" for mode, one in calibration.items()]
    return "\n".join(lines)


def _is_cell(value: Any) -> bool:
    return isinstance(value, (int, float, str)) or (isinstance(value, (list, tuple)) and len(value) == 2)


def _cell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " to ".join(_cell(item) for item in value)
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None or isinstance(value, Mapping) else str(value)
