"""Scenes of ShapeWorld, requests of its prompts, and the exact rules that judge one by the other.

A `Request` is what a prompt asks for, a `Scene` is what a clip shows. The sub-scores, the overall score and the preference
between two clips follow from the two by rule, so every label in this world is exact.

The subject is filmed in its own plane: camera pans and zooms are seen in the environment, the subject's own motion
against the frame. A monochrome style drains the environment of colour and leaves the subject a trace of it, so that
every attribute stays visible in every scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from descore.answer import NOT_ASKED, PRIMARY, SECONDARY

COLOURS = ("red", "yellow", "green", "blue", "purple", "white")
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
DYNAMICS = (
    "moves left", "moves right", "moves up", "moves down", "bounces", "spins", "grows", "shrinks", "stays still",
)  # fmt: skip
CAMERAS = ("static", "pan left", "pan right", "zoom in", "zoom out", "shake")
PLACES = ("checkerboard", "stripes", "bricks", "meadow", "sea", "starry sky")
LIGHTS = ("bright", "dim")
STYLES = ("plain", "grayscale", "sepia", "grain", "pixelated")
ASKED_STYLES = STYLES[1:]

# Members of one family are near each other: a clip that shows one where the prompt asks for another follows it partly.
FAMILIES: tuple[frozenset[str], ...] = (
    frozenset({"moves left", "moves right", "moves up", "moves down"}),
    frozenset({"grows", "shrinks"}),
    frozenset({"pan left", "pan right"}),
    frozenset({"zoom in", "zoom out"}),
    frozenset({"grayscale", "sepia"}),
)

# Overall scores nearer than this are a tie (the smallest step of the scale is 1/12).
TIE_MARGIN = 0.05

Preference = Literal["A", "B", "tie"]
# The sign that losses and metrics give a preference.
SIGN: dict[Preference, int] = {"A": 1, "B": -1, "tie": 0}


@dataclass(frozen=True)
class Rendering:
    """How a scene is drawn where its attributes leave freedom. Lengths are fractions of the frame's side.

    Attributes:
        seconds: length of the clip.
        fps: frames a second.
        radius: size of the subject.
        x: horizontal place of the subject's rest position, from the left.
        y: vertical place of the subject's rest position, from the top.
        tempo: factor on every motion of subject and camera.
        tilt: turn of the subject, in radians.
        texture: 0 draws the textures of training, 1 those of the unseen rendering.
        palette: index into the two-tone palettes of the environment.
        seed: of texture offset, grain and shake.
    """

    seconds: float
    fps: int
    radius: float
    x: float
    y: float
    tempo: float
    tilt: float
    texture: int
    palette: int
    seed: int


@dataclass(frozen=True)
class Scene:
    """What a clip shows.

    Attributes:
        colour: of the subject.
        shape: of the subject.
        dynamics: motion of the subject.
        camera: motion of the camera.
        place: texture of the environment.
        light: of the environment.
        style: of the whole picture.
        rendering: everything that no prompt speaks of.
    """

    colour: str
    shape: str
    dynamics: str
    camera: str
    place: str
    light: str
    style: str
    rendering: Rendering


@dataclass(frozen=True)
class Request:
    """What a prompt asks for; the fields are a scene's, None where it does not ask.

    `light` is only asked for together with `place`.
    """

    colour: str
    shape: str
    dynamics: str
    camera: str | None
    place: str | None
    light: str | None
    style: str | None


def _grade(asked: str | None, shown: str) -> str:
    if asked is None:
        return NOT_ASKED
    if asked == shown:
        return "2"
    return "1" if any(asked in family and shown in family for family in FAMILIES) else "0"


def sub_scores(request: Request, scene: Scene) -> dict[str, str]:
    """Return the exact sub-score of each dimension, "2" / "1" / "0" / "N/A"."""
    right = (request.colour == scene.colour) + (request.shape == scene.shape)
    environment = _grade(request.place, scene.place)
    if environment == "2" and request.light not in (None, scene.light):
        environment = "1"
    return {
        "subject": str(right),
        "dynamics": _grade(request.dynamics, scene.dynamics),
        "camera": _grade(request.camera, scene.camera),
        "environment": environment,
        "style": _grade(request.style, scene.style),
    }


def overall_score(scores: dict[str, str]) -> float:
    """Return the overall score, 1.00 .. 5.00, by the bands of the method.

    The primaries choose the band; within it each secondary flaw costs its share (an unasked dimension costs nothing).
    """
    first, second = (int(scores[name]) for name in PRIMARY)
    top, span = {
        (2, 2): (5.0, 1.0), (2, 1): (4.0, 0.5), (1, 1): (3.5, 0.5),
        (2, 0): (3.0, 0.5), (1, 0): (2.5, 0.5), (0, 0): (2.0, 1.0),
    }[max(first, second), min(first, second)]  # fmt: skip
    missing = sum(2 - int(scores[name]) for name in SECONDARY if scores[name] != NOT_ASKED)
    return round(top - span * missing / (2 * len(SECONDARY)), 2)


def preference(score_a: float, score_b: float) -> Preference:
    """Return the label of a pair: the higher overall score wins, a difference below `TIE_MARGIN` is a tie."""
    if abs(score_a - score_b) < TIE_MARGIN:
        return "tie"
    return "A" if score_a > score_b else "B"
