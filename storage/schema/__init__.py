"""The tables. Rows never leave the storage package: its functions return frozen dataclasses.

    pairs.py        videos (one file by content hash), who uploaded them, pairs (two videos and their prompt)
    judgements.py   judgements of videos by checkpoints
    votes.py        votes of visitors on the Judge page, append-only
    shares.py       links to pairs that somebody shared
    people.py       accounts, invitations, signed-in browsers, failed attempts
    campaigns.py    campaigns, guidelines, their pairs, their members, running totals; imports
    labels.py       assignments with their leases, drafts, labels as append-only revisions
    training.py     checkpoints, which one serves, runs with their data and notes; scores of other models, facts of videos

A change here needs a migration in `storage/migrations/versions`; a test compares the two.
"""

from storage.schema.base import NAMING, Base, Choice, Side, UtcDateTime, text_hash, utc_now
from storage.schema.campaigns import (
    AgreementPatternRow,
    CampaignPairRow,
    CampaignRow,
    CampaignStatus,
    GuidelineRow,
    ImportRow,
    MemberRow,
    Ordering,
    PairState,
    Standing,
)
from storage.schema.judgements import JudgementRow, Mode
from storage.schema.labels import Action, AssignmentRow, AssignmentState, DraftRow, Kind, LabelRow, Strength
from storage.schema.pairs import PairRow, UploadRow, VideoRow
from storage.schema.people import InvitationRow, Role, SignInAttemptRow, SignInRow, UserRow
from storage.schema.shares import ShareRow
from storage.schema.training import (
    CheckpointRow,
    ExternalScoreRow,
    Part,
    PromotionAction,
    PromotionRow,
    RunKind,
    RunNoteRow,
    RunPairRow,
    RunPlace,
    RunRow,
    RunState,
    Start,
    VideoStatsRow,
)
from storage.schema.votes import VoteRow

__all__ = [
    "NAMING",
    "Action",
    "AgreementPatternRow",
    "AssignmentRow",
    "AssignmentState",
    "Base",
    "CampaignPairRow",
    "CampaignRow",
    "CampaignStatus",
    "CheckpointRow",
    "Choice",
    "DraftRow",
    "ExternalScoreRow",
    "GuidelineRow",
    "ImportRow",
    "InvitationRow",
    "JudgementRow",
    "Kind",
    "LabelRow",
    "MemberRow",
    "Mode",
    "Ordering",
    "PairRow",
    "PairState",
    "Part",
    "PromotionAction",
    "PromotionRow",
    "Role",
    "RunKind",
    "RunNoteRow",
    "RunPairRow",
    "RunPlace",
    "RunRow",
    "RunState",
    "ShareRow",
    "Side",
    "SignInAttemptRow",
    "SignInRow",
    "Standing",
    "Start",
    "Strength",
    "UploadRow",
    "UserRow",
    "UtcDateTime",
    "VideoRow",
    "VideoStatsRow",
    "VoteRow",
    "text_hash",
    "utc_now",
]
