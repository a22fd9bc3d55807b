"""ShapeWorld's rules: sub-scores, overall score, preference, and which pairs a split holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from descore.answer import parse_strict
from trainer.shapeworld.pairs import HELD_OUT_MOTIONS, HELD_OUT_SUBJECTS, SPLITS, shape_pair, shape_pairs
from trainer.shapeworld.scene import Rendering, Request, Scene, overall_score, preference, sub_scores

RENDERING = Rendering(2.0, 12, 0.18, 0.5, 0.5, 1.0, 0.0, 0, 0, 7)
SCENE = Scene("red", "circle", "bounces", "static", "meadow", "bright", "sepia", RENDERING)
REQUEST = Request("red", "circle", "bounces", "static", "meadow", "bright", "sepia")


def test_a_clip_that_follows_wholly_scores_two_everywhere() -> None:
    assert set(sub_scores(REQUEST, SCENE).values()) == {"2"}
    assert overall_score(sub_scores(REQUEST, SCENE)) == 5.0


@pytest.mark.parametrize(
    ("change", "dimension", "score"),
    [
        ({"colour": "blue"}, "subject", "1"),
        ({"colour": "blue", "shape": "star"}, "subject", "0"),
        ({"dynamics": "spins"}, "dynamics", "0"),
        ({"camera": "shake"}, "camera", "0"),
        ({"light": "dim"}, "environment", "1"),
        ({"place": "sea"}, "environment", "0"),
        ({"style": "grayscale"}, "style", "1"),
        ({"style": "plain"}, "style", "0"),
    ],
)
def test_each_flaw_costs_its_own_dimension_alone(change: dict[str, str], dimension: str, score: str) -> None:
    scores = sub_scores(REQUEST, replace(SCENE, **change))
    assert scores.pop(dimension) == score
    assert set(scores.values()) == {"2"}


def test_near_values_match_partly() -> None:
    moving = replace(REQUEST, dynamics="moves left", camera="zoom in")
    shown = replace(SCENE, dynamics="moves up", camera="zoom out")
    assert sub_scores(moving, shown)["dynamics"] == "1"
    assert sub_scores(moving, shown)["camera"] == "1"


def test_what_is_not_asked_is_not_scored() -> None:
    scores = sub_scores(Request("red", "circle", "bounces", None, None, None, None), SCENE)
    assert [scores[name] for name in ("camera", "environment", "style")] == ["N/A"] * 3


@pytest.mark.parametrize(
    ("subject", "dynamics", "secondary", "low", "high"),
    [
        ("2", "2", "2", 5, 5),
        ("2", "2", "0", 4, 5),
        ("2", "1", "2", 3, 4),
        ("1", "1", "0", 3, 4),
        ("2", "0", "1", 2, 3),
        ("0", "1", "0", 2, 3),
        ("0", "0", "2", 1, 2),
        ("0", "0", "0", 1, 2),
    ],
)
def test_overall_scores_lie_in_the_bands_of_the_method(
    subject: str, dynamics: str, secondary: str, low: int, high: int
) -> None:
    scores = {"subject": subject, "dynamics": dynamics} | dict.fromkeys(("camera", "environment", "style"), secondary)
    assert low <= overall_score(scores) <= high


def test_preference_is_symmetric_and_knows_ties() -> None:
    assert preference(4.0, 3.0) == "A"
    assert preference(3.0, 4.0) == "B"
    assert preference(3.0, 3.0 + 0.04) == "tie"


@pytest.mark.parametrize("split", SPLITS)
def test_pairs_are_the_same_every_time_and_thoughts_tell_the_truth(split: str) -> None:
    for pair in shape_pairs(split, 40):
        assert pair == shape_pair(split, int(pair.identity.rsplit("-", 1)[1]))
        for thought, scores, overall in zip(pair.thoughts, pair.scores, pair.overall, strict=True):
            answer = parse_strict(thought)
            assert answer.sub_scores == scores
            assert answer.overall_score == overall


def test_every_split_has_preferences_for_both_sides_and_ties() -> None:
    for split in SPLITS:
        labels = [pair.label for pair in shape_pairs(split, 200)]
        assert all(labels.count(label) > 20 for label in ("A", "B", "tie")), split


def test_held_out_combinations_are_asked_only_in_their_split() -> None:
    def held_out(thing: Request | Scene) -> bool:
        return (thing.colour, thing.shape) in HELD_OUT_SUBJECTS or (thing.dynamics, thing.camera) in HELD_OUT_MOTIONS

    assert all(held_out(pair.request) for pair in shape_pairs("unseen-combinations", 100))
    for split in ("train", "test"):
        for pair in shape_pairs(split, 300):
            assert not held_out(pair.request)
            assert not any(held_out(scene) for scene in pair.scenes)


def test_unseen_phrasings_share_no_prompt_and_no_sentence_form_with_training() -> None:
    train = {pair.prompt for pair in shape_pairs("train", 1000)}
    unseen = [pair.prompt for pair in shape_pairs("unseen-phrasings", 100)]
    assert not train.intersection(unseen)
    openings = {prompt.split()[0] for prompt in train}
    assert sum(prompt.split()[0] not in openings for prompt in unseen) > 25
    assert any(";" in prompt for prompt in unseen)
    assert not any(";" in prompt for prompt in train)


def test_unseen_rendering_differs_in_palette_texture_size_rate_and_length() -> None:
    seen = {(scene.rendering.fps, scene.rendering.seconds) for pair in shape_pairs("train", 300) for scene in pair.scenes}
    for pair in shape_pairs("unseen-rendering", 100):
        for scene in pair.scenes:
            assert scene.rendering.palette > 2
            assert scene.rendering.texture == 1
            assert scene.rendering.radius < 0.15
            assert (scene.rendering.fps, scene.rendering.seconds) not in seen


def test_annotator_noise_turns_about_its_share_of_the_labels() -> None:
    exact = [pair.label for pair in shape_pairs("train", 400)]
    noisy = [pair.label for pair in shape_pairs("train", 400, noise=0.2)]
    assert 0.13 < sum(a != b for a, b in zip(exact, noisy, strict=True)) / 400 < 0.27


def test_an_unknown_split_is_named() -> None:
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        shape_pair("dev", 0)
