"""The gallery of the app: a few pairs of the test split, behind the part of it that is evaluated."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.shapeworld.pairs import shape_pair
from trainer.shapeworld.write_dataset import write_clip

GALLERY_INDICES = (1003, 1020, 1013, 1022, 1028, 1008, 1045, 1032, 1050, 1005, 1011, 1002)


def write_gallery(folder: Path) -> Path:
    """Write the gallery's clips and `pairs.json` (id, prompt, a, b: file names) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, index in enumerate(GALLERY_INDICES, start=1):
        pair = shape_pair("test", index)
        name = f"pair-{number:02d}"
        files = (f"{name}-a.mp4", f"{name}-b.mp4")
        for scene, file in zip(pair.scenes, files, strict=True):
            write_clip(scene, folder / file)
        entries.append({"id": name, "prompt": pair.prompt, "a": files[0], "b": files[1]})
    table = folder / "pairs.json"
    table.write_text(json.dumps(entries, indent=2) + "\n", "utf-8")
    return table
