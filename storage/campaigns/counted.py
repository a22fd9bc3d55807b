"""Which campaigns count: all but those that a lead has not switched on, such as the votes of the Judge page at first.

ids = counted_campaigns(session)                       # None where all count
ids = counted_campaigns(session, ("winter models",))   # those named
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import select

from storage.errors import StorageError
from storage.schema import CampaignRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def counted_campaigns(session: Session, names: Sequence[str] = ()) -> tuple[int, ...] | None:
    """Return the ids of the campaigns and imports whose labels count; None for all of them, which is quicker to ask for.

    Args:
        names: of campaigns and imports; without any, all that count.

    Raises:
        StorageError: one of the names is unknown, or its labels don't count.
    """
    rows = session.execute(select(CampaignRow.name, CampaignRow.id, CampaignRow.counted).order_by(CampaignRow.id)).all()
    if not names:
        return None if all(row.counted for row in rows) else tuple(row.id for row in rows if row.counted)
    by_name = {row.name: row for row in rows}
    unknown = [name for name in names if name not in by_name]
    if unknown:
        raise StorageError(f"there is no campaign {', '.join(unknown)}; there are {', '.join(by_name) or 'none'}")
    left_out = [name for name in names if not by_name[name].counted]
    if left_out:
        raise StorageError(f"the labels of {', '.join(left_out)} don't count: a lead switches them on on the Lead page")
    return tuple(by_name[name].id for name in names)
