"""Findings as HTML: whatever a name says, it stays text; numbers say how sure they are."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone

import plotly.graph_objects as go
import pytest

from app.analyse.figures.finding import Chart, Estimate, Finding, share
from app.analyse.figures.plot_style import apply_style, dot_trace, plain_name
from app.analyse.views.findings import estimate_view, finding_view, findings_view
from app.analyse.views.report import case_table, report_html
from app.analyse.views.scoring import JudgedCounts, scoring_view
from storage.training.model_registry import Checkpoint

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
WICKED = "</script><script>alert(1)</script><b>"


def test_names_stay_text_in_tables_figures_and_csv() -> None:
    figure = apply_style(go.Figure(go.Scatter(x=[1], y=[2], text=[WICKED])), 300)
    html = str(finding_view(Finding("key", WICKED, (WICKED,), (Chart(WICKED, figure),), (WICKED,), ((WICKED,),))))
    assert "<script>alert" not in html
    assert "<b>" not in html.replace("<b></b>", "")
    held = re.findall(r'<script type="application/json" class="(analyse-\w+)">(.*?)</script>', html, re.DOTALL)
    contents = {name: json.loads(text) for name, text in held}
    assert contents["analyse-figure"]["data"][0]["text"] == [WICKED]
    assert WICKED in contents["analyse-csv"]


def test_names_in_figures_are_cut_and_say_nothing_to_plotly() -> None:
    assert "<" not in plain_name("<b>bold</b> name")
    assert len(plain_name("x" * 99)) == 34
    assert plain_name("two\nlines & more") == "two lines + more"


def test_few_cases_are_marked_and_explained() -> None:
    few = str(finding_view(Finding("key", "title", ("note",), (), ("share",), ((share(2, 3),),))))
    assert "is-few" in few
    assert "fewer than 30 cases" in few
    assert "66.7" in few
    assert "21 – 94" in few
    many = str(finding_view(Finding("key", "title", ("note",), (), ("share",), ((share(60, 90),),))))
    assert "is-few" not in many
    assert "fewer than" not in many


def test_an_undefined_value_says_why() -> None:
    assert "no calibration" in estimate_view(share(0, 0, "no calibration"))
    assert "analyse-count" not in estimate_view(Estimate(0.552, None, None, 0, percent=True))


def test_long_tables_are_folded_on_the_page_and_open_in_the_report() -> None:
    long = Finding("key", "title", (), (), ("number",), tuple((i,) for i in range(9)))
    assert "<details" in findings_view([long])
    assert "<details" not in findings_view([long], folded=False)
    assert findings_view([Finding("key", "nothing to say", ())]) == ""


def test_a_dot_plot_leaves_out_what_is_undefined() -> None:
    trace = dot_trace(["a", "b"], [share(0, 0), share(1, 2)])
    assert trace.y == (1,)
    assert trace.x == (50.0,)


def test_the_report_holds_plotly_once_and_names_only_itself() -> None:
    figure = apply_style(go.Figure(go.Scatter(x=[1], y=[2])), 300)
    part = Finding("key", "title", ("note",), (Chart("", figure),), ("a",), ((1,),))
    page = report_html(
        checkpoints=[("one <b>", "abc")],
        summary={"pairs": "all pairs"},
        parts=[("Agreement", [part]), ("Benchmarks", [part])],
        cases=case_table(()),
        at=NOW,
    )
    assert page.count("plotly.js v") == 1
    assert "one &lt;b&gt;" in page
    assert "<title>DeScore: one &lt;b&gt;" in page
    assert [page.index(f"<h2>{name}</h2>") for name in ("Agreement", "Disagreements", "Benchmarks")] == sorted(
        page.index(f"<h2>{name}</h2>") for name in ("Agreement", "Disagreements", "Benchmarks")
    )


@pytest.mark.parametrize(
    ("held_out", "text"), [(False, "Score missing pairs<"), (True, "Score missing pairs, held out or not<")]
)
def test_the_button_says_which_pairs_a_run_judges(held_out: bool, text: str) -> None:
    """A run knows no held-out pairs: it judges the whole source or campaign."""
    row = Checkpoint(1, "one", "bundled", "abc", None, None, None, None, {}, "", {}, None, 0, NOW, None)
    html = scoring_view([JudgedCounts(row, 4, 4, think=3, quick=3, missing=1, held_out=held_out)], (), {}, may_score=True)
    assert text in html
