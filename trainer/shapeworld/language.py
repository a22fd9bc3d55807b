"""The English of ShapeWorld: prompts of a request, reference thoughts about a request and a scene.

Prompts come from clause lists and sentence forms. The "unseen phrasings" split draws both from lists that training
never sees (`OOD_*`); the words that carry meaning in them occur in training inside other clauses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from descore.answer import NOT_ASKED, render_answer
from trainer.shapeworld.scene import Request, Scene, overall_score, sub_scores

if TYPE_CHECKING:
    import random

Phrasing = Literal["train", "unseen"]

_VERBS = {
    "moves left": ("moves left", "moves to the left", "slides left", "is moving left"),
    "moves right": ("moves right", "moves to the right", "slides right", "is moving right"),
    "moves up": ("moves up", "moves upwards", "slides up", "is moving up"),
    "moves down": ("moves down", "moves downwards", "slides down", "is moving down"),
    "bounces": ("bounces", "bounces up and down", "keeps bouncing", "is bouncing"),
    "spins": ("spins", "spins around", "keeps spinning", "is spinning"),
    "grows": ("grows", "grows bigger", "keeps growing", "is growing"),
    "shrinks": ("shrinks", "shrinks away", "keeps shrinking", "is shrinking"),
    "stays still": ("stays still", "does not move", "rests in place", "is standing still"),
}  # fmt: skip
_OOD_VERBS = {
    "moves left": ("goes moving off to the left",), "moves right": ("goes moving off to the right",),
    "moves up": ("goes sliding upwards",), "moves down": ("goes sliding downwards",),
    "bounces": ("never stops bouncing",), "spins": ("never stops spinning",),
    "grows": ("never stops growing",), "shrinks": ("never stops shrinking",),
    "stays still": ("remains still in one place",),
}  # fmt: skip
_CAMERAS = {
    "static": ("the camera is static", "a static camera", "the camera does not move"),
    "pan left": ("the camera pans left", "the camera panning left", "a pan to the left"),
    "pan right": ("the camera pans right", "the camera panning right", "a pan to the right"),
    "zoom in": ("the camera zooms in", "the camera zooming in", "a zoom in"),
    "zoom out": ("the camera zooms out", "the camera zooming out", "a zoom out"),
    "shake": ("the camera shakes", "a shaking camera", "the camera shaking"),
}  # fmt: skip
_OOD_CAMERAS = {
    "static": ("filmed by a static camera",), "pan left": ("filmed by a camera that pans to the left",),
    "pan right": ("filmed by a camera that pans to the right",), "zoom in": ("filmed by a camera that zooms in",),
    "zoom out": ("filmed by a camera that zooms out",), "shake": ("filmed by a camera that shakes",),
}  # fmt: skip
_PLACES = {
    "checkerboard": ("a {light}checkerboard",), "stripes": ("{light}stripes",), "bricks": ("{light}bricks",),
    "meadow": ("a {light}meadow",), "sea": ("a {light}sea",), "starry sky": ("a {light}starry sky",),
}  # fmt: skip
_STYLES = {
    "grayscale": ("in grayscale", "grayscale style", "a grayscale look"),
    "sepia": ("in sepia", "sepia style", "a sepia look"),
    "grain": ("with film grain", "film grain style", "a grainy look"),
    "pixelated": ("pixelated", "pixelated style", "a pixelated look"),
}  # fmt: skip
_OOD_STYLES = {
    "grayscale": ("whose whole style is grayscale",), "sepia": ("whose whole style is sepia",),
    "grain": ("whose whole style is film grain",), "pixelated": ("whose whole style is pixelated",),
}  # fmt: skip

_LEADS = (
    "", "", "", "", "a video of", "a clip of", "a short film of", "show", "an animation of", "imagine", "we see",
    "a scene with", "high quality video of", "look at", "there is", "once upon a time there was", "make a movie about",
)  # fmt: skip
_TAILS = ("", "", "", "", "Nice and simple.", "High quality.", "Very smooth.", "For kids.", "Short clip.", "4k, detailed.")
_OOD_LEADS = ("please create some footage featuring", "what I want to watch is", "render", "our next shot has")
_OOD_TAILS = ("", "Thank you.", "Nothing else matters.", "Keep it tidy.")
_PREPOSITIONS = ("on", "over", "in front of", "against")
_OOD_PREPOSITIONS = ("somewhere on", "with behind it")

# Clause orders: s subject and dynamics (always), e environment, c camera, y style.
_ORDERS = ("secy", "secy", "scey", "syec", "esyc", "ysec", "csye", "escy", "csey", "yces")
_OOD_ORDERS = ("ycse", "cyse", "eysc")
_SYLLABLES = ("ba", "ko", "mi", "tu", "ra", "ne", "lo", "shi", "vu", "pa", "fe", "gri", "zo", "dal", "wen")


def write_prompt(request: Request, rng: random.Random, phrasing: Phrasing = "train") -> str:
    """Write one English prompt for a request."""
    unseen = phrasing == "unseen"
    verb = rng.choice((_OOD_VERBS if unseen else _VERBS)[request.dynamics])
    subject = f"a {request.colour} {request.shape} {rng.choice(('that ', 'which ') if unseen else ('', 'that '))}{verb}"
    clauses = {"s": " ".join(filter(None, (rng.choice(_OOD_LEADS if unseen else _LEADS), subject)))}
    if request.place is not None:
        place = rng.choice(_PLACES[request.place]).format(light=f"{request.light} " if request.light else "")
        preposition = rng.choice(_OOD_PREPOSITIONS if unseen else _PREPOSITIONS)
        clauses["e"] = f"with {place} behind it" if preposition == "with behind it" else f"{preposition} {place}"
    if request.camera is not None:
        camera = rng.choice((_OOD_CAMERAS if unseen else _CAMERAS)[request.camera])
        clauses["c"] = camera if unseen else f"{rng.choice(('', 'with ', 'while '))}{camera}"
    if request.style is not None:
        clauses["y"] = rng.choice((_OOD_STYLES if unseen else _STYLES)[request.style])
    order = rng.choice(_OOD_ORDERS if unseen else _ORDERS)
    ordered = [clauses[key] for key in order if key in clauses]
    if not unseen:
        ordered = _distract(ordered, rng)
    text = _join(ordered, rng, unseen)
    return " ".join(filter(None, (text, rng.choice(_OOD_TAILS if unseen else _TAILS))))


def _distract(clauses: list[str], rng: random.Random) -> list[str]:
    """Insert a made-up word now and then, so that the model learns to pass over words without meaning."""
    if rng.random() < 0.25:
        word = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 3)))
        index = rng.randrange(len(clauses))
        words = clauses[index].split(" ")
        words.insert(rng.choice((0, len(words))), word)
        clauses = [*clauses[:index], " ".join(words), *clauses[index + 1 :]]
    return clauses


def _join(clauses: list[str], rng: random.Random, unseen: bool) -> str:
    separator = "; " if unseen else rng.choice((", ", ", ", " ", ". "))
    if separator == ". ":
        clauses = [clause[0].upper() + clause[1:] for clause in clauses]
    text = separator.join(clauses)
    return text[0].upper() + text[1:] + "."


def describe(scene: Scene) -> str:
    """Describe a scene in the words of a thought's observation."""
    return (
        f"a {scene.colour} {scene.shape} that {scene.dynamics}, on {scene.light} {scene.place}, "
        f"camera {scene.camera}, style {scene.style}"
    )


def expect(request: Request) -> str:
    """Describe a request in the words of a thought's expectation."""
    place = " ".join(filter(None, (request.light, request.place))) or "any place"
    return (
        f"a {request.colour} {request.shape} that {request.dynamics}, on {place}, "
        f"camera {request.camera or 'free'}, style {request.style or 'free'}"
    )


_EXPECT = ("The prompt asks for {0}.", "I expect {0}.", "Asked for: {0}.")
_OBSERVE = (" The video shows {0}.", " I see {0}.", " Seen: {0}.")
_VERDICTS = (
    {"2": "right", "1": "partly right", "0": "wrong", NOT_ASKED: "free"},
    {"2": "matches", "1": "partly matches", "0": "fails", NOT_ASKED: "not asked"},
)


def _asked_and_shown(request: Request, scene: Scene) -> dict[str, tuple[str | None, str]]:
    place = None if request.place is None else " ".join(filter(None, (request.light, request.place)))
    return {
        "subject": (f"{request.colour} {request.shape}", f"{scene.colour} {scene.shape}"),
        "dynamics": (request.dynamics, scene.dynamics),
        "camera": (request.camera, scene.camera),
        "environment": (place, f"{scene.light} {scene.place}"),
        "style": (request.style, scene.style),
    }


def write_thought(request: Request, scene: Scene, rng: random.Random) -> str:
    """Write a reference thought and its answer in the strict grammar: expectation, observation, dimension by dimension.

    The last part puts what was asked beside what is shown before it judges, colour and shape one by one, so that a reader,
    and a small model, compares neighbours.
    """
    scores = sub_scores(request, scene)
    verdicts = rng.choice(_VERDICTS)
    halves = ", ".join(
        f"{asked} {verdicts['2' if asked == shown else '0']}"
        for asked, shown in ((request.colour, scene.colour), (request.shape, scene.shape))
    )
    parts = []
    for name, (asked, shown) in _asked_and_shown(request, scene).items():
        compared = "" if asked is None else f"asked {asked}, shows {shown}, "
        steps = f"{halves}, " if name == "subject" else ""
        parts.append(f"{name} {compared}{steps}{verdicts[scores[name]]}")
    assessment = "; ".join(parts)
    reasoning = (
        rng.choice(_EXPECT).format(expect(request)) + rng.choice(_OBSERVE).format(describe(scene))
        + " " + assessment[0].upper() + assessment[1:] + "."
    )  # fmt: skip
    return render_answer(reasoning, scores, overall_score(scores))


def verdict_start(reply: str) -> int:
    """Return the character position at which a thought begins to judge; its length if it never does."""
    start = reply.rfind(". Subject ")
    return len(reply) if start < 0 else start + 1
