"""The one format of dates."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from app.ui.dates import day, moment
from app.ui.markup import NOTHING


def test_a_moment_is_written_in_utc_whatever_its_zone() -> None:
    at = datetime(2026, 11, 27, 1, 5, 59, tzinfo=timezone(timedelta(hours=2)))
    assert moment(at) == "2026-11-26 23:05 UTC"
    assert day(at) == '<time datetime="2026-11-27T01:05:59+02:00">2026-11-26 23:05 UTC</time>'
    assert day(None) == NOTHING
