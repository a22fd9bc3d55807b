"""A campaign to measure with, made in the store before the app starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.clip_store import ClipStore
from app.judge.gallery import load_gallery
from storage.accounts.sessions import open_sign_in
from storage.accounts.users import add_user
from storage.campaigns.campaign import CampaignConfig, Gold, create_campaign
from storage.campaigns.guidelines import DEFAULT_GUIDELINES
from storage.pairs import add_pair

if TYPE_CHECKING:
    from storage import Database

OVERLAP = 3
GOLD_SHARE = 0.02


def prepare(database: Database, pairs: int, annotators: int, *, blind: bool = True) -> tuple[int, dict[str, str]]:
    """Make a campaign over the bundled videos with new prompts, and sign people in; return its id and cookies by name.

    Args:
        blind: else the campaign shows rewards before a label is saved, and its videos stay open to everybody.
    """
    clips = load_gallery(ClipStore(database))
    videos = [video for pair in clips for video in (pair.a, pair.b)]
    with database.write() as session:
        ids = []
        for number in range(pairs):
            first, second = number % len(videos), (number + 1 + number // len(videos)) % len(videos)
            second = second if second != first else (second + 1) % len(videos)
            ids.append(add_pair(session, videos[first], videos[second], f"Scene {number}.", source="measured").id)
        gold = {pair_id: Gold(choice="A") for pair_id in ids[: max(1, int(GOLD_SHARE * pairs))]}
        visible = () if blind else ("rewards",)
        settings = CampaignConfig(name="measured", overlap=OVERLAP, visible=visible)
        campaign = create_campaign(session, settings, ids, DEFAULT_GUIDELINES, created_by=None, gold=gold)
        people = [add_user(session, f"annotator {number:02}", "annotator") for number in range(annotators)]
        cookies = {person.name: open_sign_in(session, person.id).token for person in people}
    return campaign.id, cookies
