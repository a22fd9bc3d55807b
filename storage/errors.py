"""What goes wrong in the store, for callers that know nothing of SQL."""


class StorageError(RuntimeError):
    """The store can't do what was asked; the message says why and what to do."""


class NotInStore(StorageError):
    """Nothing is stored under that id."""
