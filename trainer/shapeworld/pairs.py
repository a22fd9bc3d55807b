"""Pairs of ShapeWorld: the requests and scenes of a split, drawn from its name and an index alone.

Splits: train, validation, test share one distribution. Three lie outside it: `unseen-combinations` (each request holds a
subject or a motion-and-camera combination that training never shows), `unseen-phrasings` (sentence forms and clauses
never trained on), `unseen-rendering` (other textures, palettes, sizes, frame rates and lengths).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from trainer.shapeworld.language import write_prompt, write_thought
from trainer.shapeworld.scene import (
    ASKED_STYLES,
    CAMERAS,
    COLOURS,
    DYNAMICS,
    FAMILIES,
    LIGHTS,
    PLACES,
    SHAPES,
    STYLES,
    Preference,
    Rendering,
    Request,
    Scene,
    overall_score,
    preference,
    sub_scores,
)  # fmt: skip

SPLITS = ("train", "validation", "test", "unseen-combinations", "unseen-phrasings", "unseen-rendering")
BENCHMARK_SPLIT = "test"  # of which the gate judges some pairs where a checkpoint is of this world

HELD_OUT_SUBJECTS = frozenset(
    {("red", "star"), ("yellow", "heart"), ("green", "circle"), ("blue", "cross"), ("purple", "square"),
     ("white", "triangle")}
)  # fmt: skip
HELD_OUT_MOTIONS = frozenset(
    {("bounces", "pan left"), ("spins", "shake"), ("grows", "zoom out"), ("moves left", "pan right"),
     ("stays still", "zoom in"), ("moves up", "shake")}
)  # fmt: skip

# How far the clips of a pair stray from the prompt: flawed dimensions and the share of clips.
_FLAWS = ((0, 0.30), (1, 0.25), (2, 0.25), (3, 0.12), (5, 0.08))
# The same for fresh requests in pretraining: flaws are what has to be learnt.
_PRETRAINING_FLAWS = ((0, 0.10), (1, 0.20), (2, 0.30), (3, 0.25), (5, 0.15))


@dataclass(frozen=True)
class ShapePair:
    """Two clips for one prompt with everything that is known about them; tuples are in the order A, B.

    Attributes:
        identity: split and index, as in "train-000007".
        prompt: English text of the request.
        request: what the prompt asks for.
        scenes: what the clips show.
        scores: exact sub-scores by dimension.
        overall: exact overall scores.
        label: preference, wrong where an annotator's noise turned it.
        thoughts: reference thoughts with their answers.
    """

    identity: str
    prompt: str
    request: Request
    scenes: tuple[Scene, Scene]
    scores: tuple[dict[str, str], dict[str, str]]
    overall: tuple[float, float]
    label: Preference
    thoughts: tuple[str, str]


def shape_pair(split: str, index: int, noise: float = 0.0) -> ShapePair:
    """Draw the pair at an index of a split: always the same for the same arguments.

    Args:
        noise: share of labels that an annotator gets wrong (A for B, or a tie broken at random).

    Raises:
        ValueError: an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    rng = random.Random(f"shapes/{split}/{index}")
    request = _draw_request(rng, split)
    scenes = (_draw_scene(request, rng, split), _draw_scene(request, rng, split))
    scores = (sub_scores(request, scenes[0]), sub_scores(request, scenes[1]))
    overall = (overall_score(scores[0]), overall_score(scores[1]))
    prompt = write_prompt(request, rng, "unseen" if split == "unseen-phrasings" else "train")
    thoughts = (write_thought(request, scenes[0], rng), write_thought(request, scenes[1], rng))
    label = preference(*overall)
    if noise and rng.random() < noise:
        label = {"A": "B", "B": "A", "tie": rng.choice("AB")}[label]  # type: ignore[assignment]
    return ShapePair(f"{split}-{index:06d}", prompt, request, scenes, scores, overall, label, thoughts)


def shape_pairs(split: str, count: int, start: int = 0, noise: float = 0.0) -> Iterator[ShapePair]:
    """Yield `count` pairs of a split from index `start` on."""
    return (shape_pair(split, index, noise) for index in range(start, start + count))


def draw_request_for(scene: Scene, rng: random.Random) -> Request:
    """Draw a training request that a scene follows wholly, partly or not: the mirror image of a scene for a request."""
    for _ in range(200):
        request = Request(
            scene.colour, scene.shape, scene.dynamics,
            scene.camera if rng.random() < 0.6 else None,
            scene.place if rng.random() < 0.65 else None,
            None,
            (scene.style if scene.style != "plain" else rng.choice(ASKED_STYLES)) if rng.random() < 0.55 else None,
        )  # fmt: skip
        if request.place is not None and rng.random() < 0.5:
            request = replace(request, light=scene.light)
        for name in rng.sample(_ASPECTS, _draw_flaws(rng, _PRETRAINING_FLAWS)):
            request = _spoil_request(request, name, rng)
        if not _held_out(request):
            return request
    raise AssertionError("the held-out combinations leave no request")


def _draw_request(rng: random.Random, split: str) -> Request:
    while True:
        request = Request(
            rng.choice(COLOURS), rng.choice(SHAPES), rng.choice(DYNAMICS),
            rng.choice(CAMERAS) if rng.random() < 0.6 else None,
            rng.choice(PLACES) if rng.random() < 0.65 else None,
            None,
            rng.choice(ASKED_STYLES) if rng.random() < 0.5 else None,
        )  # fmt: skip
        if request.place is not None and rng.random() < 0.5:
            request = replace(request, light=rng.choice(LIGHTS))
        if _held_out(request) == (split == "unseen-combinations"):
            return request


def _held_out(shown: Request | Scene) -> bool:
    return (shown.colour, shown.shape) in HELD_OUT_SUBJECTS or (shown.dynamics, shown.camera) in HELD_OUT_MOTIONS


def _draw_flaws(rng: random.Random, shares: tuple[tuple[int, float], ...] = _FLAWS) -> int:
    return rng.choices([flaws for flaws, _ in shares], [share for _, share in shares])[0]


def _draw_scene(request: Request, rng: random.Random, split: str) -> Scene:
    rendering = _draw_rendering(rng, unseen=split == "unseen-rendering")
    while True:
        scene = Scene(
            request.colour, request.shape, request.dynamics, request.camera or rng.choice(CAMERAS),
            request.place or rng.choice(PLACES), request.light or rng.choice(LIGHTS),
            request.style or rng.choice(STYLES), rendering,
        )  # fmt: skip
        for name in rng.sample(_ASPECTS, _draw_flaws(rng)):
            scene = _spoil_scene(scene, name, rng)
        if split == "unseen-combinations" or not _held_out(scene):
            return scene


def _draw_rendering(rng: random.Random, unseen: bool) -> Rendering:
    return Rendering(
        seconds=rng.choice((2.2, 3.4, 4.0) if unseen else (2.0, 2.5, 3.0, 3.5)),
        fps=rng.choice((13, 20, 30) if unseen else (12, 16, 24)),
        radius=rng.uniform(0.12, 0.15) if unseen else rng.uniform(0.15, 0.21),
        x=rng.uniform(0.42, 0.58),
        y=rng.uniform(0.42, 0.58),
        tempo=rng.uniform(0.8, 1.1),
        tilt=rng.uniform(-0.2, 0.2),
        texture=int(unseen),
        palette=rng.choice((3, 4) if unseen else (0, 1, 2)),
        seed=rng.randrange(1_000_000),
    )


_ASPECTS = ("subject", "dynamics", "camera", "environment", "style")


def _near_or_far(value: str, values: tuple[str, ...], rng: random.Random) -> str:
    """Draw another value: a member of the same family half of the time, if it has one."""
    near = [other for family in FAMILIES if value in family for other in sorted(family) if other != value]
    if near and rng.random() < 0.5:
        return rng.choice(near)
    return rng.choice([other for other in values if other != value])


def _spoil_scene(scene: Scene, aspect: str, rng: random.Random) -> Scene:
    match aspect:
        case "subject":
            which = rng.choice(("colour", "shape", "both"))
            colour = _near_or_far(scene.colour, COLOURS, rng) if which != "shape" else scene.colour
            shape = _near_or_far(scene.shape, SHAPES, rng) if which != "colour" else scene.shape
            return replace(scene, colour=colour, shape=shape)
        case "dynamics":
            return replace(scene, dynamics=_near_or_far(scene.dynamics, DYNAMICS, rng))
        case "camera":
            return replace(scene, camera=_near_or_far(scene.camera, CAMERAS, rng))
        case "environment":
            if rng.random() < 0.4:
                return replace(scene, light=_near_or_far(scene.light, LIGHTS, rng))
            return replace(scene, place=_near_or_far(scene.place, PLACES, rng))
        case _:
            return replace(scene, style=_near_or_far(scene.style, STYLES, rng))


def _spoil_request(request: Request, aspect: str, rng: random.Random) -> Request:
    match aspect:
        case "subject":
            which = rng.choice(("colour", "shape", "both"))
            colour = _near_or_far(request.colour, COLOURS, rng) if which != "shape" else request.colour
            shape = _near_or_far(request.shape, SHAPES, rng) if which != "colour" else request.shape
            return replace(request, colour=colour, shape=shape)
        case "dynamics":
            return replace(request, dynamics=_near_or_far(request.dynamics, DYNAMICS, rng))
        case "camera" if request.camera is not None:
            return replace(request, camera=_near_or_far(request.camera, CAMERAS, rng))
        case "environment" if request.light is not None and rng.random() < 0.4:
            return replace(request, light=_near_or_far(request.light, LIGHTS, rng))
        case "environment" if request.place is not None:
            return replace(request, place=_near_or_far(request.place, PLACES, rng))
        case "style" if request.style is not None:
            return replace(request, style=_near_or_far(request.style, ASKED_STYLES, rng))
    return request
