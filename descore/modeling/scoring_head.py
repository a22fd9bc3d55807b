"""The scoring module: one learnable query token and a bias-free linear head.

The query token is a vector of its own, put in where an embedding would stand; it has no id, so nothing can
sample it and the embedding matrix stays as it is. Placed after the thought, it sees video, prompt and thought
through causal attention, and the head reads the reward off its last hidden state (DeScore, arXiv 2605.05922).

Both stay in float32 whatever the backbone's dtype, and live in one small file, `scoring.safetensors`:
`query_token` (hidden,) and `head.weight` (1, hidden).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from descore.errors import CheckpointError


class ScoringModule(nn.Module):
    """Query token and regression head of a backbone with `hidden_size` channels."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.query_token = nn.Parameter(torch.empty(hidden_size, dtype=torch.float32))
        self.head = nn.Linear(hidden_size, 1, bias=False, dtype=torch.float32)
        # The query starts as embeddings do; the head so that rewards of normalised states start around +-1.
        nn.init.normal_(self.query_token, std=0.02)
        nn.init.normal_(self.head.weight, std=(hidden_size + 1) ** -0.5)

    @property
    def hidden_size(self) -> int:
        """Channels of the backbone that the module belongs to."""
        return int(self.query_token.shape[0])

    def query_embeds(self, rows: int, dtype: torch.dtype) -> torch.Tensor:
        """Return the query token for each row, (rows, 1, hidden), in the dtype of the backbone's embeddings."""
        return self.query_token.to(dtype).expand(rows, 1, -1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Compute rewards (B,) in float32 from the query token's last hidden states (B, hidden)."""
        # The head's product written out: autocast would run a linear layer in half precision.
        return (hidden.float() * self.head.weight[0]).sum(-1)

    def save(self, path: Path) -> None:
        """Write the two tensors to `path`."""
        save_file({key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}, path)

    @classmethod
    def load(cls, path: Path, hidden_size: int) -> ScoringModule:
        """Load the module that `save` wrote, for a backbone with `hidden_size` channels.

        Raises:
            CheckpointError: the file is missing or damaged, or holds other tensors or shapes, or values that
                are not finite.
        """
        if not path.is_file():
            raise CheckpointError(f"{path.name} is missing: the query token and the head that give the reward")
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path.name} can't be read: {error}") from error
        module = cls(hidden_size)
        expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        shapes = {key: tuple(value.shape) for key, value in tensors.items()}
        if expected != shapes:
            raise CheckpointError(f"{path.name} must hold {expected} for this backbone; it holds {shapes}")
        if not all(torch.isfinite(value).all() for value in tensors.values()):
            raise CheckpointError(f"{path.name} holds values that are not finite")
        module.load_state_dict(tensors)
        return module
