"""The store: videos, pairs, judgements, labels, runs and checkpoints. SQLite by default, PostgreSQL by DATABASE_URL.

Open it with `open_database`, then use the functions of `storage.pairs`, `storage.judgements`, `storage.votes`
and `storage.video_files`; they return frozen dataclasses.
"""

from storage.database import Database, Session, open_database
from storage.errors import NotInStoreError, StorageError

__all__ = ["Database", "NotInStoreError", "Session", "StorageError", "open_database"]
