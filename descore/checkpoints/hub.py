"""Checkpoints to and from the Hugging Face Hub.

    pushed = push_checkpoint("runs/first/dual-rl/checkpoint", "our-lab/descore-8b", private=True)
    folder = pull_checkpoint("our-lab/descore-8b", "checkpoints/descore-8b", revision=pushed.commit)

A push is one commit: all files of the checkpoint or none. Who pulls pins that commit and gets the same bytes for ever;
`DeScore.from_pretrained("our-lab/descore-8b@COMMIT")` does so without a copy. What was fetched once opens without a network.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, RepositoryNotFoundError

from descore.checkpoints.folder import (
    BUNDLED,
    CARD_FILE,
    MANIFEST_FILE,
    fetch_snapshot,
    put_in_place,
    read_manifest,
    work_folder,
)
from descore.checkpoints.model_card import CURVES_FILE, render_card
from descore.errors import CheckpointError
from descore.familiarity import read_familiarity
from descore.modeling.backbone_files import read_json

# What the Hub itself puts into a new repository.
_HUBS_OWN = frozenset({".gitattributes"})
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Pushed:
    """The commit of a push.

    Attributes:
        repository: owner/name.
        commit: its full hash, for pinning.
        url: of the commit on the Hub.
    """

    repository: str
    commit: str
    url: str


def push_checkpoint(
    folder: str | Path,
    repository: str,
    private: bool = False,
    branch: str | None = None,
    message: str = "",
    token: str | None = None,
) -> Pushed:
    """Upload a checkpoint and its card to the Hub, in one commit; files of an earlier checkpoint there are removed.

    Args:
        folder: of the checkpoint.
        repository: owner/name; it is made where it does not exist.
        private: of a new repository.
        branch: by default the main one; it is made where it does not exist.
        message: of the commit; by default the checkpoint's name.
        token: by default that of `hf auth login` or of the environment variable HF_TOKEN.

    Raises:
        CheckpointError: the checkpoint is incomplete, or needs a base model that lies on this machine alone, or the Hub
            refuses; nothing was changed there then, beyond an empty repository or branch.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    base = manifest.base_model
    if base is not None and base.revision is None and base.source != BUNDLED:
        raise CheckpointError(
            f"its base model {base.source} is a folder of this machine, which nobody else has; push that one "
            "first and train on its Hub id, or save the checkpoint with an embedded backbone"
        )
    listed = read_json(folder / MANIFEST_FILE)["files"]
    names = [MANIFEST_FILE, *listed, *([CURVES_FILE] if (folder / CURVES_FILE).is_file() else [])]
    card = render_card(manifest.to_dict(), repository, read_familiarity(folder)).encode()
    api = HfApi(token=token)

    def push() -> Pushed:
        api.create_repo(repository, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(repository, branch=branch, exist_ok=True)
        there = set(api.list_repo_files(repository, revision=branch)) - _HUBS_OWN
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(name, folder / name) for name in names),
            CommitOperationAdd(CARD_FILE, card),
            *(CommitOperationDelete(name) for name in sorted(there - {*names, CARD_FILE})),
        ]
        made = api.create_commit(
            repository, operations, commit_message=message or f"Checkpoint {manifest.name}", revision=branch
        )
        return Pushed(repository, made.oid, made.commit_url)

    return _asked(repository, push)


def pull_checkpoint(repository: str, folder: str | Path, revision: str | None = None, offline: bool = False) -> Path:
    """Copy a checkpoint from the Hub into a folder, which then depends on nothing else.

    Args:
        repository: owner/name.
        folder: where it goes; a checkpoint that is there is replaced, at once or not at all.
        revision: commit, tag or branch; by default the newest.
        offline: take what was fetched before, and ask nobody.

    Raises:
        CheckpointError: there is no such checkpoint, it is incomplete, or the folder holds something else.
    """
    snapshot = fetch_snapshot(repository, revision, offline=offline)
    if not (snapshot / MANIFEST_FILE).is_file():
        raise CheckpointError(f"{repository} holds no {MANIFEST_FILE}, so it is no checkpoint of this program")
    folder = Path(folder).absolute()
    with work_folder(folder) as work:
        shutil.copytree(snapshot, work, dirs_exist_ok=True)  # follows the links of the Hub's cache
        read_manifest(work)
        put_in_place(work, folder)
    return folder


def _asked(repository: str, ask: Callable[[], _Result]) -> _Result:
    """Return what the Hub answers; its refusals become one sentence."""
    try:
        return ask()
    except CheckpointError:
        raise
    except Exception as error:  # of the library that its client happens to use, too, where no connection is made
        raise CheckpointError(refusal(repository, error)) from error


def refusal(repository: str, error: Exception) -> str:
    """Say why the Hub did not do what was asked of it.

    Args:
        repository: owner/name, of a checkpoint or a dataset.
        error: what its client raised.
    """
    if isinstance(error, LocalTokenNotFoundError):
        return "the Hub needs a token: run `hf auth login`, or set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f"the Hub has no {repository} that this token may write to"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            return f"the Hub refuses: this token may not write to {repository}"
        return f"the Hub refused {repository}: {str(error).splitlines()[0]}"
    if isinstance(error, HFValidationError):
        return f"{repository!r} names no repository of the Hub: write owner/name"
    return f"the Hub can't be reached: {error}"
