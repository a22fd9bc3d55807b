"""Attention over keys that lie in several places, as if they lay in one: exact, differentiable, nothing joined or repeated.

    prefix, own = torch.randn(2, 4, 11, 16), torch.randn(6, 4, 5, 16)     # keys of two prefixes, and of six rows' own slots
    query = torch.randn(6, 4, 2, 5, 16)                                   # eight heads, two of which share a key head
    attended = merged_attention(query, [Part(prefix, prefix), Part(own, own, causal=True)], scale=0.25)

Each part gives an output and the logarithm of its softmax's denominator; by these the outputs are weighted into the one of
all keys together, as ring attention does it (Liu et al., arXiv 2310.01889). Backward, a kernel that is handed the merged
output and denominator gives each part the gradient that it has in the whole. No scores are kept, no keys are joined, and
query heads that share a key head stand below one another, so that it is not repeated.

Shapes: N rows of queries, B rows of keys, K key heads, R query heads that share one, T queries, S keys, D channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

_BLOCK = 1 << 24  # scores that exist at a time where PyTorch has no kernel


@dataclass(frozen=True)
class Part:
    """Keys that queries look at.

    Attributes:
        key, value: (B, K, S, D). N queries stand in B groups of N / B rows, each of which has one row of keys.
        causal: query t looks at keys up to t, where B = N and S = T; else at all of them.
        first: the first slot of each row that is no padding; None where none has any.
    """

    key: torch.Tensor
    value: torch.Tensor
    causal: bool = False
    first: tuple[int, ...] | None = None

    def split(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Cut values of queries (N, K, R, T, ...) into those of the kernel's calls, each (rows, K, queries, ...)."""
        if self.causal:
            return list(values.unbind(2))
        folded = values.unflatten(0, (len(self.key), -1)).transpose(1, 2).flatten(2, 4)
        return [folded] if self.first is None else list(folded.split(1))

    def joined(self, pieces: Sequence[torch.Tensor], shape: torch.Size) -> torch.Tensor:
        """Put pieces of `split` together again; shape: that of the queries."""
        if self.causal:
            return torch.stack(list(pieces), dim=2)
        folded = pieces[0] if len(pieces) == 1 else torch.cat(list(pieces))
        return folded.unflatten(2, (-1, *shape[2:4])).transpose(1, 2).flatten(0, 1)

    def keys(self, values: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the keys (or what has their shape) of each call, as views."""
        if self.causal:
            while True:
                yield values
        elif self.first is None:
            yield values
        else:
            for row, slot in enumerate(self.first):
                yield values[row : row + 1, :, slot:]


def merged_attention(query: torch.Tensor, parts: Sequence[Part], scale: float) -> torch.Tensor:
    """Compute softmax(scale query key^T) value over the keys of all parts together.

    Args:
        query: (N, K, R, T, D).
        parts: where keys and values lie; each query sees one of them at least.

    Returns:
        (N, K, R, T, D), differentiable in queries, keys and values; by autocast in its type, as SDPA.
    """
    device, kinds = query.device.type, [(part.causal, part.first) for part in parts]
    tensors = [query, *(tensor for part in parts for tensor in (part.key, part.value))]
    if torch.is_autocast_enabled(device):
        tensors = [tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors]
    with torch.autocast(device, enabled=False):  # which would round the products that are float32 on purpose
        attended: torch.Tensor = _Merged.apply(tensors[0], scale, kinds, *tensors[1:])
    return attended


class _Merged(torch.autograd.Function):
    """All parts as one step of the graph, which keeps queries, keys, values, the output and one number a query."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, scale: float, kinds: Sequence[Any], *tensors: torch.Tensor) -> torch.Tensor:
        kernel = _kernel(query)
        out = total = torch.empty(0)
        for number, part in enumerate(_parts(kinds, tensors)):
            calls = zip(part.split(query), part.keys(part.key), part.keys(part.value), strict=False)
            found = [kernel.forward(some, _Keys(key, value, part.causal, scale)) for some, key, value in calls]
            attended, lse = (part.joined(pieces, query.shape) for pieces in zip(*found, strict=True))
            if number == 0:
                out, total = attended, lse
                continue
            before, total = total, torch.logaddexp(total, lse)
            out = out * (before - total).exp()[..., None] + attended * (lse - total).exp()[..., None]
        out = out.to(query.dtype)
        ctx.scale, ctx.kinds = scale, kinds
        ctx.save_for_backward(query, out, total, *tensors)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[Any, ...]:
        query, out, total, *tensors = ctx.saved_tensors
        kernel, (grad,) = _kernel(query), grads
        of_query, of_tensors = torch.zeros_like(query), list[torch.Tensor]()
        for part in _parts(ctx.kinds, tensors):
            of_key, of_value = torch.zeros_like(part.key), torch.zeros_like(part.value)
            given = zip(*(part.split(values) for values in (query, grad, out, total)), strict=True)
            taken = (part.keys(values) for values in (part.key, part.value, of_key, of_value))
            of_queries = []
            for (some, *whole), key, value, to_key, to_value in zip(given, *taken, strict=False):
                found = kernel.backward(some, _Keys(key, value, part.causal, ctx.scale), _Whole(*whole))
                of_queries.append(found[0])
                to_key += found[1]
                to_value += found[2]
            of_query += part.joined(of_queries, query.shape)
            of_tensors += [of_key, of_value]
        return of_query, None, None, *of_tensors


def _parts(kinds: Sequence[Any], tensors: Sequence[torch.Tensor]) -> Iterator[Part]:
    for (causal, first), key, value in zip(kinds, tensors[::2], tensors[1::2], strict=True):
        yield Part(key, value, causal, first)


@dataclass(frozen=True)
class _Keys:
    """What the queries of one call look at: key and value (b, K, S, D)."""

    key: torch.Tensor
    value: torch.Tensor
    causal: bool
    scale: float


@dataclass(frozen=True)
class _Whole:
    """The attention of which some keys are a part, for its backward.

    Attributes:
        grad, out: (b, K, T, D), the gradient of the merged output, and this output.
        total: (b, K, T) float32, log sum exp over all keys.
    """

    grad: torch.Tensor
    out: torch.Tensor
    total: torch.Tensor


_Gradients = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # of queries, keys and values


class _Kernel(Protocol):
    """Attention of queries (b, K, T, D) that also tells its denominators."""

    def forward(self, query: torch.Tensor, keys: _Keys) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the output, and log sum exp (b, K, T) float32."""
        ...

    def backward(self, query: torch.Tensor, keys: _Keys, whole: _Whole) -> _Gradients:
        """Return the gradients that come through these keys."""
        ...


class _CpuFlash:
    """PyTorch's kernel of SDPA on CPUs."""

    def forward(self, query: torch.Tensor, keys: _Keys) -> tuple[torch.Tensor, torch.Tensor]:
        attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = attend(query, keys.key, keys.value, 0.0, keys.causal, scale=keys.scale)
        return out, lse

    def backward(self, query: torch.Tensor, keys: _Keys, whole: _Whole) -> _Gradients:
        back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        lse = whole.total.transpose(1, 2).contiguous().transpose(1, 2)  # as the kernel itself lays it out
        of_query, of_key, of_value = back(
            whole.grad, query, keys.key, keys.value, whole.out, lse, 0.0, keys.causal, scale=keys.scale
        )
        return of_query, of_key, of_value


class _CudaFlash:
    """PyTorch's flash attention on GPUs, for types of two bytes."""

    def forward(self, query: torch.Tensor, keys: _Keys) -> tuple[torch.Tensor, torch.Tensor]:
        attend = torch.ops.aten._scaled_dot_product_flash_attention
        out, lse, *_ = attend(query, keys.key, keys.value, 0.0, keys.causal, False, scale=keys.scale)
        return out, lse

    def backward(self, query: torch.Tensor, keys: _Keys, whole: _Whole) -> _Gradients:
        back = torch.ops.aten._scaled_dot_product_flash_attention_backward
        lengths = query.shape[2], keys.key.shape[2]
        chance = torch.zeros(2, dtype=torch.uint64, device=query.device)  # of dropout, which there is none of
        of_query, of_key, of_value = back(
            whole.grad, query, keys.key, keys.value, whole.out, whole.total.contiguous(), None, None, *lengths, 0.0,
            keys.causal, chance, chance[:0], scale=keys.scale,
        )  # fmt: skip
        return of_query, of_key, of_value


class _Products:
    """Matrix products in float32, some queries at a time: for types and devices that have no kernel."""

    def forward(self, query: torch.Tensor, keys: _Keys) -> tuple[torch.Tensor, torch.Tensor]:
        outs, totals = [], []
        for first, some in self._blocks(query, keys.key):
            scores = self._scores(some, keys, first)
            total = scores.logsumexp(-1)
            outs.append((scores - total[..., None]).exp() @ keys.value.float())
            totals.append(total)
        return torch.cat(outs, dim=2), torch.cat(totals, dim=2)

    def backward(self, query: torch.Tensor, keys: _Keys, whole: _Whole) -> _Gradients:
        key, value = keys.key.float(), keys.value.float()
        of_query: list[torch.Tensor] = []
        of_key, of_value = torch.zeros_like(key), torch.zeros_like(value)
        along = (whole.grad.float() * whole.out.float()).sum(-1, keepdim=True)
        for first, some in self._blocks(query, key):
            span = slice(first, first + some.shape[2])
            weights = (self._scores(some, keys, first) - whole.total[:, :, span, None]).exp()
            got = whole.grad[:, :, span].float()
            of_value += weights.transpose(-1, -2) @ got
            of_scores = weights * (got @ value.transpose(-1, -2) - along[:, :, span]) * keys.scale
            of_query.append(of_scores @ key)
            of_key += of_scores.transpose(-1, -2) @ some.float()
        return torch.cat(of_query, dim=2).to(query.dtype), of_key.to(keys.key.dtype), of_value.to(keys.value.dtype)

    @staticmethod
    def _blocks(query: torch.Tensor, key: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        size = max(1, _BLOCK // (query.shape[0] * query.shape[1] * key.shape[2]))
        first = 0
        for some in query.split(size, dim=2):
            yield first, some
            first += some.shape[2]

    @staticmethod
    def _scores(query: torch.Tensor, keys: _Keys, first: int) -> torch.Tensor:
        scores = query.float() @ keys.key.float().transpose(-1, -2) * keys.scale
        if keys.causal:
            later = torch.ones(scores.shape[2:], dtype=torch.bool, device=query.device).triu(first + 1)
            scores = scores.masked_fill(later, -torch.inf)
        return scores


def _kernel(query: torch.Tensor) -> _Kernel:
    # In bfloat16 the kernel for CPUs has a slow backward.
    if query.device.type == "cpu" and query.dtype == torch.float32:
        return _CpuFlash()
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        return _CudaFlash()
    return _Products()
