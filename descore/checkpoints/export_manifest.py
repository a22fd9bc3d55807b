"""The manifest of a stock export, its `descore.json` apart from the list of files. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from descore.checkpoints.manifest import Manifest
from descore.errors import CheckpointError

# The key of a `descore.json` that lies in a stock export and not in a checkpoint.
EXPORT_KEY = "export_version"
EXPORT_VERSION = 1


@dataclass(frozen=True)
class ExportManifest:
    """The `descore.json` of a stock export, apart from its list of files.

    Attributes:
        checkpoint: the manifest of the exported checkpoint (frame policy, prompt version, longest thought, calibration);
            it names no base model, since the export holds all weights.
        fingerprint: `descore.checkpoints.folder.folder_fingerprint` of the exported checkpoint.
        query_id: id of `<|descore_query|>`, which follows prompt and thought.
        reward_id: id of `<|descore_reward|>`, whose logit at the query token is the raw reward.
        end_ids: ids that end a thought, in order.
        never_sampled: ids that an engine must rule out while it thinks, in order.
        dtype: of the weights, such as "float32".

    Raises:
        CheckpointError: an id that can't be one, or the same twice.
    """

    checkpoint: Manifest
    fingerprint: str
    query_id: int
    reward_id: int
    end_ids: tuple[int, ...]
    never_sampled: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        ids = [self.query_id, self.reward_id, *self.end_ids, *self.never_sampled]
        texts = isinstance(self.fingerprint, str) and isinstance(self.dtype, str)
        if not texts or not all(type(each) is int and each >= 0 for each in ids) or self.query_id == self.reward_id:
            raise CheckpointError("the ids in descore.json are not those of an export; export the checkpoint again")
        if not self.end_ids:
            raise CheckpointError("descore.json names no token that ends a thought; export the checkpoint again")

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values."""
        return {
            EXPORT_KEY: EXPORT_VERSION,
            "checkpoint": self.checkpoint.to_dict(),
            "fingerprint": self.fingerprint,
            "query_id": self.query_id,
            "reward_id": self.reward_id,
            "end_ids": list(self.end_ids),
            "never_sampled": list(self.never_sampled),
            "dtype": self.dtype,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExportManifest:
        """Build the manifest from the mapping that `to_dict` returns; a list of files beside it is passed over.

        Raises:
            CheckpointError: another version, missing or unknown keys, values that can't be honoured.
        """
        if values.get(EXPORT_KEY) != EXPORT_VERSION:
            raise CheckpointError(
                f"export version {values.get(EXPORT_KEY)!r}, and this code reads {EXPORT_VERSION}: export it again"
            )
        named = {key: value for key, value in values.items() if key not in (EXPORT_KEY, "files")}
        try:
            for key in ("end_ids", "never_sampled"):
                named[key] = tuple(named[key])
            return cls(**{**named, "checkpoint": Manifest.from_dict(named["checkpoint"])})
        except CheckpointError:
            raise
        except Exception as error:  # whatever the parts meet in values of other kinds
            raise CheckpointError(f"descore.json is no manifest of an export: {error}") from error
