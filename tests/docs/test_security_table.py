"""The tables of docs/security.md name tests that exist."""

from __future__ import annotations

import re

from tests.helpers.paths import ROOT


def test_each_named_test_exists() -> None:
    rows = [line for line in (ROOT / "docs/security.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    threats = [row for row in rows if not row.startswith("| threat |")]
    assert len(threats) > 15
    assert [row for row in threats if "`test_" not in row] == [], "each threat has its test"
    named = set(re.findall(r"`(test_\w+)`", "\n".join(threats)))
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert sorted(named - written) == []
