"""Names of devices: one, or several of a kind that one run takes together.

    lock_names("cuda:0-3")              # ("cuda:0", "cuda:1", "cuda:2", "cuda:3"): one run at a time on each of them
    process_count("cuda:0-3")           # 4: a process for each
    overlap("cuda:0-3", "cuda:2")       # True: a run on the one waits for a run on the other
    several("cuda", 8)                  # "cuda:0-7"

"cpu:0-1" are two processes on the processor, which is one device.
"""

from __future__ import annotations

import re

_SEVERAL = re.compile(r"([a-z]+):(\d{1,3})-(\d{1,3})")


def one_name(device: str) -> str:
    """Normalise the name of a device: "cuda" is its first GPU."""
    return "cuda:0" if device == "cuda" else device


def several(kind: str, count: int) -> str:
    """Name the first `count` devices of a kind together; of one device, its own name."""
    return f"{kind}:0-{count - 1}" if count > 1 else one_name(kind)


def lock_names(device: str) -> tuple[str, ...]:
    """Return the devices behind a name, each of which takes one run at a time."""
    kind, numbers = _parts(device)
    return (one_name(device),) if not numbers else ("cpu",) if kind == "cpu" else tuple(f"{kind}:{n}" for n in numbers)


def process_count(device: str) -> int:
    """Return the number of processes that train on a device together."""
    return max(1, len(_parts(device)[1]))


def overlap(a: str, b: str) -> bool:
    """Whether two runs on these devices would be in each other's way."""
    return not set(lock_names(a)).isdisjoint(lock_names(b))


def _parts(device: str) -> tuple[str, range]:
    match = _SEVERAL.fullmatch(device)
    return (device, range(0)) if match is None else (match[1], range(int(match[2]), int(match[3]) + 1))
