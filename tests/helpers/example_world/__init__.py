"""A world in which the examples of docstrings run: real objects for the names that an example takes as given.

with ExitStack() as stack:
    world = world_of("storage.labelling.submit", stock, folder, stack)
    world.given("session"), world.given("annotator")

Each example gets a world of its own, with a copy of the store; what is slow to make is made once and lies in `Stock`. A
name means the same in all examples of a room, or has another meaning in the class of a module.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.helpers.example_world import app, benchmarks, descore, storage, trainer
from tests.helpers.example_world.base import ExampleWorld, Stock

if TYPE_CHECKING:
    from contextlib import ExitStack

__all__ = ["ExampleWorld", "Stock", "world_of"]

# The longest name that a module's name begins with counts.
WORLDS: dict[str, type[ExampleWorld]] = {
    **app.WORLDS,
    **benchmarks.WORLDS,
    **descore.WORLDS,
    **storage.WORLDS,
    **trainer.WORLDS,
}


def world_of(module: str, stock: Stock, folder: Path, stack: ExitStack) -> ExampleWorld:
    """The world for the example of a module.

    Args:
        module: its dotted name.
        folder: an empty folder, whose `here` is to be the working directory.
        stack: closes what the world opens.
    """
    rooms = [room for room in WORLDS if f"{module}.".startswith(f"{room}.")]
    return WORLDS[max(rooms, key=len)](stock, folder, stack)
