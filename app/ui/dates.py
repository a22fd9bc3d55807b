"""The one format of dates on all pages: 2026-11-27 13:05.

The server writes UTC and says so; `static/shared/dates.js` turns it into the time of the person's machine.
"""

from __future__ import annotations

from datetime import datetime, timezone

from markupsafe import Markup

from app.ui.markup import NOTHING


def moment(at: datetime) -> str:
    """Write a moment as text, to the minute."""
    return f"{at.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def day(at: datetime | None) -> Markup:
    """Write a moment as HTML that machines can read, too; a dash for none."""
    return NOTHING if at is None else Markup('<time datetime="{}">{}</time>').format(at.isoformat(), moment(at))
