"""What a machine can train, and how long it takes: the answer of `python -m trainer preflight --json`.

    preflight = Preflight.from_dict(json.loads(text))
    preflight.preset("tiny-cpu").seconds["cold-start"]

The trainer makes it, the Train page reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from storage.training.devices import process_count


@dataclass(frozen=True)
class PresetPreflight:
    """A preset on a machine.

    Attributes:
        title: one sentence.
        stages: names of the stages that it trains.
        knobs: name of a setting, as `--set` takes it -> its value.
        why_not: what the machine lacks for it; None where it can run.
        memory_bytes: of a run; None where not known.
        steps_aside: it fits only if the serving model leaves the device.
        seconds_per_step: by stage; without the stages whose speed is not known yet.
        seconds: by stage and "gate", judging of held-out pairs included; empty where not known yet.
        known_from: where the seconds come from: "runs", "trial", "plan", or "" without any.
        device: the devices that it takes here, as "cuda:0-7"; "" as the machine's.
        elsewhere: it suits the checkpoint, so that a machine with what it needs can run it.
    """

    name: str
    title: str
    stages: tuple[str, ...]
    knobs: Mapping[str, Any]
    why_not: str | None
    memory_bytes: float | None
    steps_aside: bool
    seconds_per_step: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    known_from: str = ""
    device: str = ""
    elsewhere: bool = True


@dataclass(frozen=True)
class Preflight:
    """All presets on a machine.

    Attributes:
        checkpoint: name of the checkpoint that would be trained further.
        device: "cpu" or "cuda:0".
        device_name: for people.
        memory_total: bytes of the device.
        memory_free: free bytes of the device.
        busy: a run has the device now, so no step was tried.
        trouble: why there is no answer, "" if there is one; the trainer says it by its exit code instead.
    """

    checkpoint: str = ""
    device: str = ""
    device_name: str = ""
    memory_total: float = 0.0
    memory_free: float = 0.0
    busy: bool = False
    presets: tuple[PresetPreflight, ...] = ()
    trouble: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether the time of each preset that can run is known; a trainer in a hurry leaves some for later."""
        return not self.trouble and all(preset.seconds for preset in self.presets if not preset.why_not)

    @property
    def first(self) -> PresetPreflight | None:
        """The first preset that can run here; of a machine with several GPUs, one that takes them all."""
        able = [preset for preset in self.presets if not preset.why_not]
        return max(able, key=lambda preset: process_count(preset.device), default=None)

    @property
    def first_elsewhere(self) -> PresetPreflight | None:
        """The preset to offer for another machine: the first here, else the first that suits the checkpoint."""
        return self.first or next((preset for preset in self.presets if preset.elsewhere), None)

    def preset(self, name: str) -> PresetPreflight | None:
        """Find a preset by its name."""
        return next((preset for preset in self.presets if preset.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types."""
        return {name: value for name, value in asdict(self).items() if name != "trouble"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preflight:
        """Read the trainer's JSON.

        Raises:
            KeyError, TypeError: it is of another shape.
        """
        presets = tuple(PresetPreflight(**{**preset, "stages": tuple(preset["stages"])}) for preset in values["presets"])
        return cls(**{**values, "presets": presets})
