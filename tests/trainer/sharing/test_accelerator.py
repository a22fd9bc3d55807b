"""The time limit of the group of processes, as its setting says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from trainer.sharing.accelerator import TIME_LIMIT, collective_time_limit, make_accelerator


def test_the_limit_is_hours_and_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TIME_LIMIT, raising=False)
    assert collective_time_limit() == timedelta(hours=4)
    monkeypatch.setenv(TIME_LIMIT, "0.5")
    assert collective_time_limit() == timedelta(minutes=30)


@pytest.mark.parametrize("text", ["0", "-1", "soon", "inf", "nan"])
def test_a_limit_that_is_no_number_of_hours_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(TIME_LIMIT, text)
    with pytest.raises(ValueError, match="number of hours above 0"):
        make_accelerator()
