"""The errors of the store, for callers that know nothing of SQL."""


class StorageError(RuntimeError):
    """The store can't do what was asked; the message says why and what to do."""


class NotInStoreError(StorageError):
    """Nothing is stored under that id."""


class TextError(StorageError):
    """A text that is too long to be kept, or holds characters that can't be stored; the message gives limit and length."""


class UploadQuotaError(StorageError):
    """There is no more room for uploads of people without an account."""


class ShareError(StorageError):
    """The link to a shared pair is unknown or has ended, or no more can be made."""


class NameTakenError(StorageError):
    """Somebody has this name already, or one that reads the same."""


class WeakPasswordError(StorageError):
    """A password that is too short, too long or easy to guess."""


class LastLeadError(StorageError):
    """The last active lead can't be switched off or get another role."""


class InvitationError(StorageError):
    """The link of an invitation is unknown, used or expired."""


class SignInRefusedError(StorageError):
    """Wrong name or password (the message is the same), or too many attempts: then with seconds to wait."""

    def __init__(self, message: str, retry_seconds: int | None = None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class CampaignError(StorageError):
    """A campaign can't be set up, or can't do this now: paused, closed, wrong settings."""


class GuestLimitError(CampaignError):
    """A guest of a demo wants more than guests get."""


class AnswerError(StorageError):
    """A label is not complete or not valid; the message says what to fill in, in words for the annotator."""


class NotYoursError(StorageError):
    """No assignment of this person has that token. Whether another's has is not told."""


class LeaseLostError(StorageError):
    """The assignment can't be gone on with: it was finished in another tab, or others have labelled the pair meanwhile."""


class JournalError(StorageError):
    """The journal of labels can't be read or written; the message names file and line."""


class JournalConflictError(JournalError):
    """The journal gives one label, vote or guideline in two ways, or otherwise than the store."""
