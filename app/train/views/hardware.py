"""HTML of the machine of this app: what of it is in use, and which runs have it."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from app.runs.hardware import Hardware, Room
from app.ui.markup import joined, percent
from app.ui.wording import size
from storage.training.devices import lock_names
from storage.training.runs import Run

LITTLE_LEFT = 0.9  # of memory or disk, from which on a meter is marked


def hardware_view(hardware: Hardware, running: Sequence[Run], judges: str) -> Markup:
    """Show a meter for each device, with the runs that have it.

    Args:
        hardware: the machine as it is now.
        running: runs that work on this machine.
        judges: name of the checkpoint that judges on this machine; "" where none does.
    """
    load = min(1.0, hardware.load / max(1, hardware.cores))
    meters = [
        _meter(
            "Processor",
            f"{hardware.processor}, {hardware.cores} cores",
            load,
            f"{percent(load)} busy",
            _runs_on("cpu", running),
        ),
        _room("Memory", "", hardware.memory, [f"{judges} judges"] if judges else []),
        *(_room(gpu.device, gpu.name, gpu.memory, _runs_on(gpu.device, running), gpu.busy) for gpu in hardware.gpus),
        _room("Disk", "of the data folder", hardware.disk, []),
    ]
    return Markup('<h2 class="train-title">This machine</h2><ul class="train-machine">{}</ul>').format(joined(meters))


def _room(title: str, about: str, room: Room, users: Sequence[str], busy: float | None = None) -> Markup:
    text = f"{size(room.used)} of {size(room.total)} in use" + ("" if busy is None else f", {percent(busy)} busy")
    return _meter(title, about, room.share, text, users, room.share >= LITTLE_LEFT)


def _meter(title: str, about: str, share: float, text: str, users: Sequence[str], is_full: bool = False) -> Markup:
    return Markup(
        '<li{}><p><b>{}</b> <small>{}</small></p><span class="ds-bar" role="meter" aria-valuemin="0" aria-valuemax="100" '
        'aria-valuenow="{}" aria-label="{}"><span style="width: {}%"></span></span><p>{}</p>{}</li>'
    ).format(
        Markup(' class="is-full"') if is_full else "",
        title,
        about,
        round(100 * share),
        f"{title}, {text}",
        round(100 * share),
        text,
        Markup("<p><small>{}</small></p>").format(", ".join(users)) if users else "",
    )


def _runs_on(device: str, running: Sequence[Run]) -> list[str]:
    return [f"{run.name} (run {run.id})" for run in running if device in lock_names(run.device)]
