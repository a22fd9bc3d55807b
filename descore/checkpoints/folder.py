"""One folder format for checkpoints, local or on the Hub.

    descore.json            the manifest (`descore.checkpoints.manifest`), and every other file with its size and hash
    scoring.safetensors     query token and head
    backbone/               weights, configuration and processor, if the backbone is embedded
    adapter/                a peft adapter, if there is one
    familiarity.safetensors features of videos that it knows, if there is one; not a part of the fingerprint
    README.md               the model card; curves.svg, its figure, where the training left curves

A folder is written under a temporary name and then renamed, so a reader finds the old checkpoint or the new one,
never half of one. What is incomplete is refused when it is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import snapshot_download

from descore.checkpoints.card_curves import curves_svg
from descore.checkpoints.disk_space import is_without_room, no_room_sentence
from descore.checkpoints.export_manifest import EXPORT_KEY
from descore.checkpoints.listed_files import MANIFEST_FILE as MANIFEST_FILE
from descore.checkpoints.listed_files import SCORING_FILE, check_files, list_files
from descore.checkpoints.manifest import BaseModel, Manifest
from descore.checkpoints.model_card import CURVES_FILE, render_card
from descore.errors import CheckpointError, DeviceError
from descore.familiarity import FAMILIARITY_FILE, read_familiarity
from descore.modeling.backbone_files import read_json

# Torch, transformers and peft take seconds to import, so the functions that hold a model import what needs them: to push,
# pull, copy and check a folder none of them is needed.
if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from descore.familiarity import Familiarity
    from descore.modeling.model import DeScoreModel

CARD_FILE, BACKBONE_DIR, ADAPTER_DIR = "README.md", "backbone", "adapter"
BUNDLED = "bundled"
BESIDE = "../"  # begins the source of a base model that lies beside the checkpoint's folder and travels with it
# Beside the weights of reward models of others; only an import opens it.
HEAD_PICKLE = "rm_head.pth"
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", CARD_FILE, CURVES_FILE, HEAD_PICKLE]


def save_checkpoint(folder: str | Path, model: DeScoreModel, manifest: Manifest) -> Path:
    """Write a checkpoint folder, replacing the checkpoint that may be there.

    Raises:
        CheckpointError: the model has no scoring module, the folder holds something that is no checkpoint, or the disk is
            full; what was there before stays.
    """
    if model.scoring is None:
        raise CheckpointError("there is no scoring module to save; save a bare backbone with transformers instead")
    if model.adapter_is_merged and manifest.base_model is not None:
        raise CheckpointError(
            "the adapter was merged for judging and the base model is not embedded; copy the folder instead"
        )
    folder = Path(folder).absolute()
    try:
        with work_folder(folder) as work:
            _write_files(work, model, manifest)
            put_in_place(work, folder)
    except Exception as error:
        if is_without_room(error):
            raise CheckpointError(no_room_sentence(folder)) from error
        raise
    return folder


def copy_checkpoint(
    source: Path,
    folder: Path,
    name: str,
    lineage: Mapping[str, Any],
    base_model: BaseModel | None = None,
    link: bool = True,
) -> Path:
    """Copy a checkpoint to another folder, under another name.

    Args:
        source: folder of the checkpoint.
        folder: where the copy goes; a checkpoint that is there is replaced.
        lineage: entries that the copy's manifest gets besides those of the source.
        base_model: where the copy finds its base model, if that is not embedded; by default where the source does.
        link: link the files where the disk allows it; otherwise both have files of their own.

    Raises:
        CheckpointError: the source is incomplete, or the folder exists and is no checkpoint.
    """
    manifest, folder = read_manifest(source), folder.absolute()
    with work_folder(folder) as work:
        for path in sorted(source.rglob("*")):
            relative = path.relative_to(source)
            if path.is_file() and str(relative) not in (MANIFEST_FILE, CARD_FILE, CURVES_FILE):
                _copy(path, work / relative, link)
        base = manifest.base_model if manifest.base_model is None or base_model is None else base_model
        _describe(work, replace(manifest, name=name, base_model=base, lineage={**manifest.lineage, **lineage}))
        put_in_place(work, folder)
    return folder


def add_familiarity(folder: Path, familiarity: Familiarity) -> None:
    """Put the videos that a checkpoint knows into its folder; nothing else of it changes, nor does its fingerprint.

    Raises:
        CheckpointError: the folder is no whole checkpoint.
    """
    manifest, folder = read_manifest(folder), folder.absolute()
    values = read_json(folder / MANIFEST_FILE)
    with work_folder(folder) as work:
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder)
            if path.is_file() and str(relative) not in (MANIFEST_FILE, CARD_FILE, FAMILIARITY_FILE):
                _copy(path, work / relative, link=True)
        familiarity.save(work / FAMILIARITY_FILE)
        added = {FAMILIARITY_FILE: list_files(work)[FAMILIARITY_FILE]}
        values["files"] = dict(sorted({**values["files"], **added}.items()))
        (work / CARD_FILE).write_text(render_card(manifest.to_dict(), familiarity=familiarity), "utf-8")
        (work / MANIFEST_FILE).write_text(manifest_text(values), "utf-8")
        put_in_place(work, folder)


def load_checkpoint(
    path_or_hub_id: str | Path, device: str | torch.device | None = None, dtype: torch.dtype | str | None = None
) -> tuple[DeScoreModel, Manifest]:
    """Load a checkpoint: a folder, a Hub id, or "bundled". A bare backbone loads without a scoring module.

    Raises:
        CheckpointError: there is none, or it is incomplete or damaged; the message says what to do.
    """
    return load_located(*locate(path_or_hub_id), device, dtype)


def load_located(
    folder: Path,
    base: BaseModel,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    token: str | None = None,
    device_map: str | Mapping[str, Any] | None = None,
) -> tuple[DeScoreModel, Manifest]:
    """Load what `locate` returned.

    Args:
        token: of the Hub, for a base model that is there.
        device_map: as in `descore.modeling.backbone.load_backbone`.

    Raises:
        CheckpointError: as `load_checkpoint`.
    """
    from descore.modeling.backbone import load_backbone
    from descore.modeling.lora import load_adapter
    from descore.modeling.model import DeScoreModel
    from descore.modeling.scoring_head import ScoringModule

    if not (folder / MANIFEST_FILE).exists():
        if not (folder / "config.json").exists():
            raise CheckpointError(
                f"{folder} is no checkpoint: it holds neither {MANIFEST_FILE} nor a backbone's config.json"
            )
        if (folder / HEAD_PICKLE).exists():
            raise CheckpointError(
                f"{folder.name} has a reward's head in {HEAD_PICKLE}, which would be left out: turn it into a checkpoint "
                "with `descore import`, or remove that file to use the backbone alone"
            )
        backbone, processor = load_backbone(folder, device=device, dtype=dtype, device_map=device_map)
        name = folder.name if base.revision is None else base.source
        return DeScoreModel(backbone, processor).eval(), Manifest(name=name, base_model=base)
    try:
        manifest = read_manifest(folder)
        source = backbone_folder(folder, manifest, token)
        backbone, processor = load_backbone(source, None, device, dtype, trained_here=True, device_map=device_map)
        _check_base(backbone, manifest.base_model)
        if (folder / ADAPTER_DIR).exists():
            load_adapter(backbone, folder / ADAPTER_DIR)
        scoring = ScoringModule.load(folder / SCORING_FILE, backbone.config.get_text_config().hidden_size)
        familiarity = read_familiarity(folder)
    except DeviceError:
        raise
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {folder.name} can't be used: {error}") from error
    model = DeScoreModel(backbone, processor, scoring).eval()
    model.familiarity = familiarity
    return model, manifest


def locate(path_or_hub_id: str | Path, revision: str | None = None, token: str | None = None) -> tuple[Path, BaseModel]:
    """Return the local folder of a checkpoint or backbone, fetched from the Hub if need be, and where it comes from.

    Args:
        path_or_hub_id: a folder, "bundled", owner/name, or owner/name@revision.
        revision: commit, tag or branch of a Hub id without one.
        token: of the Hub; by default that of `hf auth login` or HF_TOKEN.

    Raises:
        CheckpointError: there is no such folder, and no such repository that can be reached.
    """
    source = str(path_or_hub_id)
    try:
        folder = Path(__file__).parents[1] / BUNDLED if source == BUNDLED else Path(source).expanduser()
        previous = _previous(folder.absolute())
        if not folder.exists() and (previous / MANIFEST_FILE).exists():
            folder = previous  # a crash between the two renames of `_swap_in`
        is_folder = folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # longer than a name may be, an unknown user after ~
        raise CheckpointError(f"{source[:80]!r} is no name of a checkpoint folder") from error
    if is_folder:
        return folder, BaseModel(source if source == BUNDLED else str(folder.absolute()))
    repository, _, pinned = source.partition("@")
    if folder.exists() or folder.is_absolute() or source == BUNDLED or repository.count("/") != 1 or source[0] in ".~":
        raise CheckpointError(f"there is no checkpoint folder {folder}; give a folder, a Hub id (owner/name) or {BUNDLED!r}")
    snapshot = fetch_snapshot(repository, pinned or revision, token=token)
    return snapshot, BaseModel(repository, snapshot.name)


def fetch_snapshot(repository: str, revision: str | None = None, offline: bool = False, token: str | None = None) -> Path:
    """Return the folder of the Hub client's cache that has a repository's files; its name is the commit.

    Args:
        revision: commit, tag or branch; by default the newest, or without a network the newest that was fetched.
        offline: look into the cache alone.
        token: as in `locate`.

    Raises:
        CheckpointError: there is no such repository or revision that can be reached.
    """
    try:
        snapshot = snapshot_download(
            repository, revision=revision, allow_patterns=_HUB_FILES, local_files_only=offline, token=token
        )
        return Path(snapshot)
    except Exception as error:  # whatever the Hub client's HTTP library raises: nothing was fetched
        where = "was not fetched before" if offline else "is no local folder and can't be fetched from the Hub"
        version = f" at {revision}" if revision else ""
        raise CheckpointError(f"{repository}{version} {where}: {error}") from error


def folder_fingerprint(folder: Path) -> str:
    """Return a hash of all that a judgement depends on: the manifest lists every file with its hash.

    Familiarity is left out, since no reward or thought depends on it: a checkpoint that learns later which videos it knows
    keeps its fingerprint, and with it the judgements that were kept under it. A bare backbone has no manifest; there the
    files' names, sizes and times must do.
    """
    manifest = folder / MANIFEST_FILE
    if manifest.is_file():
        return hashlib.sha256(_without_familiarity(manifest.read_bytes())).hexdigest()
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())]
    return hashlib.sha256(repr(files).encode()).hexdigest()


def _without_familiarity(manifest: bytes) -> bytes:
    """Return a manifest as it is written for a checkpoint without familiarity."""
    if FAMILIARITY_FILE.encode() not in manifest:
        return manifest
    try:
        values = json.loads(manifest)
        del values["files"][FAMILIARITY_FILE]
    except (ValueError, KeyError, TypeError):  # reading the manifest says what is wrong with it
        return manifest
    return manifest_text(values).encode()


def manifest_text(values: Mapping[str, Any]) -> str:
    """Return the text of a `descore.json`; always the same for the same values, since fingerprints are taken of it."""
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read a checkpoint's manifest and check that every file it lists is there and whole.

    A base model beside the checkpoint ("../base", as packs have it) is returned with its present path.

    Raises:
        CheckpointError: the manifest can't be read or is that of a stock export, or a file is missing or was changed.
    """
    values = read_json(folder / MANIFEST_FILE)
    if EXPORT_KEY in values:
        raise CheckpointError(
            f"{folder.name} is a stock export, made for vLLM and transformers: name the checkpoint that it was made of, or "
            "turn it into one with `descore import`"
        )
    manifest = Manifest.from_dict(values)
    listed = values.get("files")
    if not isinstance(listed, dict) or SCORING_FILE not in listed:
        raise CheckpointError(f"{MANIFEST_FILE} does not list {SCORING_FILE}, the query token and the head")
    check_files(folder, listed)
    base = manifest.base_model
    if base is not None and base.source.startswith(BESIDE):
        manifest = replace(manifest, base_model=replace(base, source=str((folder / base.source).resolve())))
    return manifest


def backbone_folder(folder: Path, manifest: Manifest, token: str | None = None) -> Path:
    """Return the folder of the backbone's weights: inside the checkpoint, or with the base model.

    Raises:
        CheckpointError: it is missing, or the base model is itself built on another.
    """
    if manifest.base_model is None:
        if not (folder / BACKBONE_DIR / "config.json").exists():
            raise CheckpointError(f"{BACKBONE_DIR}/ is missing and no base model is named; fetch the whole folder again")
        return folder / BACKBONE_DIR
    base, _ = locate(manifest.base_model.source, manifest.base_model.revision, token)
    if not (base / MANIFEST_FILE).exists():
        return base
    if read_manifest(base).base_model is not None or (base / ADAPTER_DIR).exists():
        raise CheckpointError(f"the base model {manifest.base_model.source} is itself built on another; name that one")
    return base / BACKBONE_DIR


def _check_base(backbone: PreTrainedModel, base: BaseModel | None) -> None:
    from descore.modeling.backbone import fingerprint

    if base is not None and base.fingerprint not in (None, fingerprint(backbone.state_dict())):
        raise CheckpointError(
            f"its base model {base.source} is not the one it was trained on: the weights differ. "
            "Restore that one, or train again"
        )


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """Make a temporary folder beside the one that a checkpoint will be written to; it goes unless it is put in place.

    Raises:
        CheckpointError: the folder exists and is no checkpoint.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST_FILE).exists())):
        raise CheckpointError(f"{folder} exists and is no checkpoint; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    work.chmod(0o755)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def put_in_place(work: Path, folder: Path) -> None:
    """Make a finished work folder the checkpoint's, once all of it is on the disk."""
    _sync(work)
    _swap_in(work, folder)


def _copy(source: Path, path: Path, link: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(source, path)
        except OSError:  # another disk, or one without links
            pass
        else:
            return
    shutil.copy2(source, path)


def _write_files(work: Path, model: DeScoreModel, manifest: Manifest) -> None:
    from descore.modeling.backbone import fingerprint
    from descore.modeling.lora import adapter_config, save_adapter, without_adapter

    assert model.scoring is not None
    model.scoring.save(work / SCORING_FILE)
    weights = without_adapter(model.backbone)
    if manifest.base_model is None:
        model.backbone.save_pretrained(work / BACKBONE_DIR, state_dict=weights)
        model.processor.save_pretrained(work / BACKBONE_DIR)
    else:
        manifest = replace(manifest, base_model=replace(manifest.base_model, fingerprint=fingerprint(weights)))
    if adapter_config(model.backbone) is not None:
        save_adapter(model.backbone, work / ADAPTER_DIR)
    if model.familiarity is not None:
        model.familiarity.save(work / FAMILIARITY_FILE)
    _describe(work, manifest)


def _describe(work: Path, manifest: Manifest) -> None:
    """Write the card, and the manifest with every file's size and hash."""
    files = list_files(work)
    (work / CARD_FILE).write_text(render_card(manifest.to_dict(), familiarity=read_familiarity(work)), "utf-8")
    if figure := curves_svg(manifest.lineage.get("curves", {})):
        (work / CURVES_FILE).write_text(figure, "utf-8")
    (work / MANIFEST_FILE).write_text(manifest_text({**manifest.to_dict(), "files": files}), "utf-8")


def _swap_in(work: Path, folder: Path) -> None:
    """Replace `folder` by `work`: two renames; after a crash between them `locate` finds both."""
    previous = _previous(folder)
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    try:
        work.rename(folder)
    except OSError:
        if previous.exists():
            previous.rename(folder)
        raise
    _sync_path(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def _previous(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync_path(path)


def _sync_path(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
