"""What the examples of `benchmarks` take as given."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from tests.helpers.example_world.base import ExampleWorld


class BenchmarksWorld(ExampleWorld):
    """Places for what is to be made: a folder that isn't there yet, an empty store."""

    @property
    def folder(self) -> Path:  # type: ignore[override]
        return self.here / "folder"

    @cached_property
    def home(self) -> Path:
        return self.here / "home"


WORLDS: dict[str, type[ExampleWorld]] = {"benchmarks": BenchmarksWorld}
