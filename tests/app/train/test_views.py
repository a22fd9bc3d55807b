"""What the Train page shows: curves that keep their place, runs and their buttons, the verdict, the registry, the form."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from app.runs.places.places import PlaceChoice
from app.runs.preflight import about
from app.train.commands import run_command, terminal_command
from app.train.run_form import check_form, device_of
from app.train.views.away import away_view
from app.train.views.checkpoints import CheckpointSummary, checkpoint_list
from app.train.views.curves import MOST_POINTS, StageLog, run_figures
from app.train.views.gate import verdict_view
from app.train.views.note import note_view
from app.train.views.notices import Notice
from app.train.views.run_form import FormDraft, RunPreview, new_labels_view, preview_view, run_form_view
from app.train.views.runs import RunSummary, run_head, run_list
from app.train.views.thoughts import SampledPair, log_view, thoughts_view
from app.ui.wording import duration, ordinal, size
from app.web.form_data import FormError
from storage.data_home import default_data_home
from storage.labelling.krippendorff import krippendorff_alpha
from storage.training.model_registry import Checkpoint
from storage.training.new_labels import NewLabels
from storage.training.preflight import Preflight
from storage.training.run_notes import RunNote
from storage.training.runs import Run
from trainer.config import load_preset

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=timezone.utc)
EVIL = "<img src=x onerror=alert(1)>"
GPUS = {"1gpu": "cuda:0", "8gpu": "cuda:0-7"}
PLACES = (PlaceChoice("here"), PlaceChoice("slurm", why_not="needs slurm.yaml"), PlaceChoice("elsewhere"))
PREFLIGHT: dict[str, Any] = {
    "device": "cpu",
    "device_name": "2 CPU cores",
    "memory_free": 8e9,
    "presets": [
        {
            "name": "tiny-cpu",
            "title": "The bundled checkpoint on two CPU cores",
            "why_not": None,
            "stages": ["cold-start", "dual-rl"],
            "knobs": {
                "cold_start.steps": 24,
                "cold_start.optim.lr": 1e-4,
                "dual_rl.steps": 10,
                "dual_rl.objective.groups_without_spread": "leave_out",
            },
            "memory_bytes": 1.9e9,
            "steps_aside": False,
            "seconds": {"cold-start": 200, "dual-rl": 100, "gate": 60},
            "seconds_per_step": {"cold-start": 8.0, "dual-rl": 9.0},
            "known_from": "trial",
        },
        {"name": "large", "title": "Large", "why_not": "no GPU here", "stages": ["cold-start"], "knobs": {}}
        | {"memory_bytes": None, "steps_aside": False, "seconds": {}, "seconds_per_step": {}, "known_from": ""},
    ],
}


def a_run(**changes: Any) -> Run:
    run = Run(
        id=7,
        kind="train",
        state="running",
        name="week 12",
        stages=("cold-start", "dual-rl"),
        start="current",
        parent_id=1,
        rival_id=1,
        preset="tiny-cpu",
        overrides=("dual_rl.steps=4",),
        request={},
        device="cpu",
        folder="runs/7",
        snapshot={},
        snapshot_hash="ab" * 32,
        last_label_id=40,
        counts={"new": 8, "replay": 4, "held_out": 3, "labels": 30, "annotators": 3},
        auto_promote=False,
        created_by_id=1,
        created_at=NOW - timedelta(minutes=6),
        started_at=NOW - timedelta(minutes=5),
        ended_at=None,
        pid=1,
        host="here",
        cancel_requested_at=None,
        exit_code=None,
        message="",
        progress={
            "stage": "dual-rl",
            "part": "training",
            "step": 3,
            "steps": 4,
            "done": 3,
            "total": 4,
            "seconds_left": 75.0,
        },
        candidate_id=None,
        verdict=None,
        place="here",
        job="",
    )
    return replace(run, **changes)


def a_summary(**changes: Any) -> RunSummary:
    mine = {name: changes.pop(name) for name in ("queue_position", "candidate", "verdict", "promoted") if name in changes}
    line = RunSummary(a_run(**changes), None, "Mira", "bundled v1", "bundled v1", None, None, False)
    return replace(line, **mine)


def a_checkpoint(**changes: Any) -> Checkpoint:
    checkpoint = Checkpoint(
        id=2,
        name="week 12",
        location="./checkpoints/run-7",
        fingerprint="cd" * 32,
        parent_id=1,
        run_id=7,
        stage="dual-rl",
        snapshot_hash="ab" * 32,
        settings={"seed": 0},
        code_version="5e95c59",
        metrics={},
        gate={"verdict": "better", "candidate": {"accuracy_without_ties": 0.8, "accuracy_with_ties": 0.7}},
        disk_bytes=12_400_000,
        created_at=NOW,
        deleted_at=None,
    )
    return replace(checkpoint, **changes)


# ---- curves --------------------------------------------------------------------------------------------------------


def logged(steps: int, **figures: float) -> list[dict[str, Any]]:
    return [{"step": step, **{name: value + step for name, value in figures.items()}} for step in range(steps)]


def test_stages_stand_one_after_the_other_and_are_not_joined() -> None:
    cold = StageLog("cold-start", 10, logged(10, loss=1.0), {"accuracy_without_ties": 0.5}, {"accuracy_without_ties": 0.6})
    rl = StageLog("dual-rl", 6, logged(2, loss=5.0, reward=0.1), {"accuracy_without_ties": 0.6}, {})
    found = run_figures([cold, rl], "7")
    (loss,) = found["loss"]["data"]
    assert loss["x"] == [*range(1, 11), None, 11, 12]
    assert loss["y"][-2:] == [5.0, 6.0]
    held_out = found["accuracy"]["data"][-1]
    assert (held_out["x"], held_out["y"]) == ([0, 10], [0.5, 0.6])
    assert found["reward"]["data"][0]["x"] == [11, 12]
    assert not found["drift"]["data"]


def test_axes_and_zoom_stay_while_points_come_in() -> None:
    few, more = (run_figures([StageLog("cold-start", 50, logged(n, loss=1.0), {}, {})], "7") for n in (3, 40))
    for name in few:
        assert few[name]["layout"]["xaxis"] == more[name]["layout"]["xaxis"]
        assert few[name]["layout"]["uirevision"] == more[name]["layout"]["uirevision"] == "7"
    assert few["loss"]["layout"]["xaxis"]["range"] == [-1, 51]


@pytest.mark.slow
def test_a_long_run_is_thinned_to_its_newest_point_and_smoothed() -> None:
    (thin, bold) = run_figures([StageLog("cold-start", 5000, logged(5000, loss=1.0), {}, {})], "7")["loss"]["data"]
    assert len(thin["x"]) <= MOST_POINTS
    assert thin["x"][-1] == 5000
    assert bold["y"][-1] < thin["y"][-1]
    assert thin["hoverinfo"] == "skip"


def test_a_figure_that_is_no_number_leaves_a_gap_and_the_rest_is_json() -> None:
    rows = [{"step": 0, "loss": None, "drift": 0.1}, {"step": 1, "loss": 2.0, "drift": "?"}]
    found = run_figures([StageLog("cold-start", 2, rows, {}, {})], "7")
    assert found["loss"]["data"][0]["x"] == [2]
    assert found["drift"]["data"][0]["x"] == [1]
    json.dumps(found, allow_nan=False)


# ---- runs ----------------------------------------------------------------------------------------------------------


def test_what_runs_comes_first_then_the_queue_in_its_order() -> None:
    states = {9: "finished", 8: "queued", 7: "queued", 6: "running", 5: "failed"}
    summaries = [a_summary(id=number, state=state, queue_position=1) for number, state in states.items()]
    order = re.findall(r'data-open="(\d)"', str(run_list(summaries, 9)))
    assert order == ["6", "7", "8", "9", "5"]


def test_a_run_says_how_far_it_is_and_where_it_waits() -> None:
    lines = [a_summary(), a_summary(id=8, state="queued", queue_position=2, progress={})]
    html = str(run_list(lines, 7))
    assert "dual RL: training, step 3 of 4, about 75 s left" in html
    assert "2nd in the queue of cpu" in html
    assert html.count('aria-current="true"') == 1


@pytest.mark.parametrize(
    ("changes", "act"),
    [
        ({"state": "queued"}, "cancel"),
        ({"state": "running"}, "cancel"),
        ({"state": "running", "cancel_requested_at": NOW}, "end"),
        ({"state": "lost"}, "resume"),
        ({"state": "failed"}, "resume"),
        ({"state": "cancelled"}, "resume"),
        ({"state": "finished", "candidate_id": 2, "candidate": "week 12", "verdict": "worse"}, "promote"),
    ],
)
def test_a_run_offers_what_can_be_done_with_it_and_only_to_leads(changes: dict[str, Any], act: str) -> None:
    line = a_summary(**changes)
    shown = str(run_head(line, True, NOW))
    assert f'data-act="{act}"' in shown
    assert shown.count("data-act") == 1
    assert "data-act" not in str(run_head(line, False, NOW))
    assert "<b>" not in str(run_head(line, True, NOW, [Notice("note", "a <b>bad</b> video")]))


def test_promoting_what_is_not_better_says_so_when_it_asks() -> None:
    worse = a_summary(state="finished", candidate_id=2, candidate="week 12", verdict="worse")
    shown = str(run_head(worse, True, NOW))
    assert "The comparison says: worse." in shown
    assert "is-main" not in shown
    assert "is-main" in str(run_head(replace(worse, verdict="better"), True, NOW))
    promoted = replace(worse, promoted=True)
    assert "data-act" not in str(run_head(promoted, True, NOW))


def test_a_note_says_who_wrote_it_and_only_leads_change_it() -> None:
    note = RunNote(7, "too many steps", "Olu", NOW)
    html = str(note_view(a_summary(), note, True))
    assert "note by Olu" in html
    assert 'data-act="note" data-id="7"' in html
    assert 'datetime="2026-05-04T12:00:00+00:00">2026-05-04 12:00 UTC<' in html
    assert "<form" not in str(note_view(a_summary(), note, False))
    assert not note_view(a_summary(), None, False)
    assert "too many steps" in str(run_list([replace(a_summary(), note="too many steps")], None))


def test_nothing_that_people_wrote_becomes_markup() -> None:
    line = a_summary(name=EVIL, message=EVIL, state="failed")
    pair = SampledPair(1, EVIL, ("a.jpg", "b.jpg"), 1, [{"stage": "x", "when": EVIL, "thought_a": EVIL, "thought_b": EVIL}])
    gate = {"verdict": EVIL, "sentence": EVIL, "candidate": {}, "rival": {}}
    shown = [
        run_list([line], None),
        run_head(line, True, NOW),
        note_view(line, RunNote(7, EVIL, EVIL, NOW), True),
        thoughts_view([pair]),
        log_view(EVIL, True),
        away_view(a_run(place="elsewhere"), Path(EVIL), False, EVIL),
        verdict_view(gate, EVIL, EVIL),
        run_form_view(Preflight.from_dict(PREFLIGHT), FormDraft(name=EVIL), [EVIL], PLACES),
        checkpoint_list([CheckpointSummary(a_checkpoint(name=EVIL), EVIL, EVIL, {}, False, False, False)], True, []),
    ]
    assert all("<img src=x" not in str(one) and "&lt;img" in str(one) for one in shown)


# ---- verdict and registry --------------------------------------------------------------------------------------------


GATE = {
    "verdict": "better",
    "sentence": "Better: right on 80.0 % of them.",
    "pairs": 40,
    "ties": 5,
    "left_out": [],
    "candidate": {
        "accuracy_without_ties": 0.8,
        "accuracy_with_ties": 0.7,
        "brier": 0.15,
        "seconds_per_pair": 0.61,
        "strict_format": 0.99,
        "dimensions": {"camera": {"known": 10, "agreement": 0.9}},
    },
    "rival": {"accuracy_without_ties": 0.6, "dimensions": {"camera": {"known": 10, "agreement": 0.5}}},
    "difference": {"before": 0.6, "after": 0.8, "difference": 0.2, "interval": [0.05, 0.33], "better": 9, "worse": 2},
    "benchmark": {"name": "the test split", "pairs": 100, "before": 0.9, "after": 0.89, "difference": -0.01}
    | {"interval": [-0.04, 0.02], "better": 1, "worse": 2},
    "scale_note": "fitted on other folds",
}


def test_the_verdict_shows_both_checkpoints_with_differences_and_intervals() -> None:
    html = str(verdict_view(GATE, "week 12", "bundled v1"))
    assert html.lower().count("better: ") == 0, "the verdict stands once, as a pill"
    for text in (
        ">better<",
        "Right on",
        "80.0 %",
        "60.0 %",
        "+20.0",
        "+5.0 to +33.0",
        "9 better, 2 worse",
        "the test split",
    ):
        assert text in html
    assert "−4.0 to +2.0" in html
    assert "0.150" in html
    assert "0.61" in html
    assert "40 held-out pairs" in html
    assert "Sub" not in html
    assert "accuracy without a thought" not in html


def test_a_gate_without_figures_is_no_error() -> None:
    assert "not shown" in str(verdict_view({"verdict": "not shown to be better", "sentence": ""}, "a", "b"))


def test_the_serving_checkpoint_and_the_base_can_not_be_deleted() -> None:
    base = a_checkpoint(id=1, name="bundled v1", location="bundled", parent_id=None, run_id=None, gate=None, disk_bytes=0)
    lines = [
        CheckpointSummary(a_checkpoint(), "bundled v1", "run 7", {"new": 8, "replay": 4}, True, True, False),
        CheckpointSummary(base, None, None, {}, False, True, True),
        CheckpointSummary(a_checkpoint(id=3, name="other"), "bundled v1", "run 8", {}, False, False, False),
    ]
    html = str(checkpoint_list(lines, True, []))
    assert html.count('data-act="delete"') == 1
    assert 'data-act="delete" data-id="3"' in html
    assert 'data-act="roll_back" data-id="1"' in html
    assert 'data-act="promote" data-id="3"' in html
    assert "12.4 MB" in html
    assert "comes with the program" in html
    assert "12 pairs" in html
    assert "data-act" not in str(checkpoint_list(lines, False, []))


# ---- what is new, and the form -----------------------------------------------------------------------------------------


NEWS = NewLabels(312, 280, 9, {"2,0,0,0": 30, "1,1,0,0": 6, "0,2,0,0": 20}, 56, 56, 224, 180, 280, 12, 0)


def test_news_tell_what_can_be_used() -> None:
    html = str(new_labels_view(NEWS, krippendorff_alpha(NEWS.alpha_patterns or {}, "nominal"), "bundled v1", NOW))
    for text in ("312", "280", "56", "224", "12 pairs without a majority"):
        assert text in html
    nothing = replace(NEWS, labels=0)
    assert "No label is newer" in str(new_labels_view(nothing, None, "bundled v1", None))


def test_the_form_has_the_presets_knobs_and_says_why_others_cant_run() -> None:
    preflight = Preflight.from_dict(PREFLIGHT)
    html = str(
        run_form_view(preflight, FormDraft(preset="tiny-cpu", knobs={"cold_start.steps": "3"}), ["First round"], PLACES)
    )
    assert 'name="knob-cold_start.steps" value="3"' in html
    assert 'value="0.0001"' in html
    assert '<option value="leave_out" selected>are left out</option>' in html
    assert "large (no GPU here)" in html
    assert "disabled" in html
    assert "First round" in html
    assert "Measuring what" in str(run_form_view(None, FormDraft(), [], PLACES))
    assert "no trainer" in str(run_form_view(Preflight(trouble="no trainer"), FormDraft(), [], PLACES))


def test_places_are_offered_with_what_they_have_or_why_not() -> None:
    preflight = Preflight.from_dict(PREFLIGHT)
    html = str(run_form_view(preflight, FormDraft(), [], PLACES))
    assert 'value="here" data-change="place" checked' in html
    assert 'value="slurm" data-change="place" disabled' in html
    assert "needs slurm.yaml" in html
    slurm = (PLACES[0], PlaceChoice("slurm", "partition gpu, 8 GPUs, 12 h"), PLACES[2])
    html = str(run_form_view(preflight, FormDraft(place="slurm"), [], slurm))
    assert 'value="slurm" data-change="place" checked' in html
    assert "partition gpu, 8 GPUs, 12 h" in html


def test_what_no_machine_here_can_train_is_trained_elsewhere() -> None:
    """A preset whose only trouble is this machine's hardware can be packed; one for another model nowhere."""
    large = PREFLIGHT["presets"][1]
    preflight = Preflight.from_dict({**PREFLIGHT, "presets": [{**large, "name": "other", "elsewhere": False}, large]})
    html = str(run_form_view(preflight, FormDraft(), [], PLACES))
    assert 'value="here" data-change="place" disabled' in html
    assert 'value="elsewhere" data-change="place" checked' in html
    assert '<option value="large" selected>' in html
    assert '<option value="other" disabled>' in html
    draft = FormDraft(stages="cold-start", preset="large", place="elsewhere")
    assert check_form(draft, preflight, PLACES).place == "elsewhere"
    for changes, sentence in (
        ({"place": "here"}, "can run here"),
        ({"place": ""}, "can run here"),
        ({"preset": "other"}, "can run on this checkpoint"),
        ({"place": "slurm"}, "SLURM needs slurm.yaml"),
        ({"place": "the moon"}, "Choose where"),
    ):
        with pytest.raises(FormError, match=sentence):
            check_form(replace(draft, **changes), preflight, PLACES)


def test_a_machine_with_eight_gpus_is_offered_all_of_them() -> None:
    one, all_of_them = ({**PREFLIGHT["presets"][0], "name": name, "device": device} for name, device in GPUS.items())
    preflight = Preflight.from_dict({**PREFLIGHT, "device_name": "8 x H100", "presets": [one, all_of_them]})
    html = str(run_form_view(preflight, FormDraft(), [], PLACES))
    assert '<option value="8gpu" selected>' in html
    assert "all 8 GPUs (8 x H100)" in html
    form = check_form(FormDraft(preset="8gpu"), preflight, PLACES)
    assert device_of(form, preflight) == "cuda:0-7"
    assert device_of(replace(form, place="elsewhere"), preflight) == "elsewhere"


AWAY = {"place": "elsewhere", "job": "/data/packs/run-7", "progress": {"stage": "elsewhere"}, "pid": None}


def test_a_packed_run_says_what_to_type_and_takes_its_result_back() -> None:
    summary = a_summary(**AWAY)
    head, row = str(run_head(summary, True, NOW)), str(run_list([summary], 7))
    assert "elsewhere, packed" in head
    assert "Its pack stays" in head
    assert "packed, waits for its result" in row
    html = str(away_view(summary.run, Path("/data/my packs/run-7"), False, "run-7 is damaged"))
    there = "rsync -a &#39;/data/my packs/run-7&#39; MACHINE:"
    for text in (there, "python -m trainer run ~/run-7", "run-7 is damaged."):
        assert text in html
    assert 'data-act="bring_back" data-id="7"' in html
    assert 'value="/data/my packs/run-7"' in html
    assert "is finished" not in html.replace("that it is finished", "")
    assert "the pack here is finished" in str(away_view(summary.run, Path("/data/run-7"), True, ""))


def test_a_job_says_what_slurm_does_with_it() -> None:
    waiting = a_summary(place="slurm", job="4711", progress={"stage": "slurm", "part": "PENDING"}, pid=None)
    head = str(run_head(waiting, True, NOW))
    assert "in SLURM&#39;s queue" in head
    assert "Job 4711 is pending in SLURM" in head
    assert "SLURM, job 4711" in head
    assert 'data-act="cancel"' in head


def test_the_plan_tells_pairs_time_and_command() -> None:
    preset = Preflight.from_dict(PREFLIGHT).presets[0]
    plan = RunPreview(
        ("dual-rl",),
        preset,
        "2 CPU cores",
        8e9,
        224,
        180,
        56,
        {"dual-rl": 100.0, "gate": 60.0},
        "python -m trainer dual-rl --preset tiny-cpu",
        (),
        1,
    )
    html = str(preview_view(plan))
    for text in (
        "224 new, 180 replayed; 56 held out",
        "about 3 min",
        "python -m trainer dual-rl --preset tiny-cpu",
        "after 1 other run",
        "1.9 GB",
    ):
        assert text in html
    assert "go on while it trains" in html
    aside = replace(plan, preset=replace(preset, steps_aside=True))
    assert "is unloaded" in str(preview_view(aside))
    assert "There is no pair to train on" in str(preview_view(replace(plan, new=0, replay=0)))
    packed = str(preview_view(replace(plan, place="elsewhere", seconds={}, command="")))
    assert "python" not in packed
    assert "as that machine takes" in packed
    assert "written into one folder" in packed
    assert "SLURM: 8 GPUs" in str(preview_view(replace(plan, place="slurm", place_about="8 GPUs")))


def test_commands_have_the_forms_settings_and_the_number_of_a_run_that_is_queued() -> None:
    draft = FormDraft("Words & more", "cold-start", preset="tiny-cpu", knobs={"cold_start.steps": "3"}, min_labels="2")
    form = check_form(replace(draft, campaigns=("First round",)), Preflight.from_dict(PREFLIGHT), PLACES)
    lines = terminal_command(form, "/data/my checkpoints/run-7", default_data_home()).split(" \\\n    ")
    assert lines == [
        "python -m trainer cold-start",
        "--preset tiny-cpu --checkpoint '/data/my checkpoints/run-7'",
        "--set cold_start.steps=3",
        "--set data.min_labels=2",
        "--set 'data.campaigns=[\"First round\"]'",
        "--out runs/words-more",
    ]
    overrides = [shlex.split(line)[1] for line in lines if line.startswith("--set")]
    config = load_preset("tiny-cpu", overrides)
    assert config.cold_start.steps == 3
    assert config.data.campaigns == ("First round",)
    both = replace(form, stages=("cold-start", "dual-rl"))
    assert terminal_command(both, "bundled", Path("/else")).startswith("DESCORE_HOME=/else python -m trainer run \\\n")

    eight = replace(form, preset=replace(form.preset, device="cuda:0-7"))
    assert "--num_processes 8 -m trainer cold-start \\" in terminal_command(eight, "bundled", default_data_home())

    queued = a_run(state="queued", progress={})
    assert run_command(queued, default_data_home()) == "python -m trainer run 7"
    assert run_command(queued, Path("/my data")) == "DESCORE_HOME='/my data' python -m trainer run 7"
    assert run_command(a_run(state="finished"), Path("/else")) == run_command(a_run(**AWAY), Path("/else")) == ""
    assert "python -m trainer run 7" in str(run_head(a_summary(state="queued"), True, NOW, (), "python -m trainer run 7"))


def test_words_for_durations_sizes_and_places() -> None:
    assert [duration(s) for s in (0.4, 89, 95, 3600, 7800)] == ["0 s", "89 s", "2 min", "60 min", "2 h 10 min"]
    assert [size(n) for n in (900, 2.5e6, 1.7e10)] == ["1 kB", "2.5 MB", "17.0 GB"]
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 22)] == ["1st", "2nd", "3rd", "4th", "11th", "22nd"]
    assert [about(n) for n in (0, 7, 44, 448, 5200)] == [10, 10, 40, 400, 5000]
