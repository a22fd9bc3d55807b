"""The store: videos, pairs, judgements and votes. SQLite by default, PostgreSQL by DATABASE_URL.

Open it with `open_database`, then use the functions of `storage.pairs`, `storage.judgements`, `storage.votes`
and `storage.video_files`; they return frozen dataclasses.
"""

from storage.database import Database, open_database
from storage.errors import NotInStoreError, StorageError

__all__ = ["Database", "NotInStoreError", "StorageError", "open_database"]
