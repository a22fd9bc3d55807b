"""The rules of the integrity check, each as a query for the rows that break it.

Foreign keys and unique constraints hold these ends together while the program runs; the rules find what a damaged disk, a
hand in the tables or a mistake of ours did past them. Each query runs on SQLite and PostgreSQL alike.
"""

from __future__ import annotations

from dataclasses import dataclass

_CURRENT = "NOT EXISTS (SELECT 1 FROM labels AS later WHERE later.replaces_id = labels.id)"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        sentence: what is wrong, with the columns of the query in braces.
    """

    name: str
    sentence: str
    query: str


LEASES = (
    Rule(
        "leases",
        "pair {pair_id} of campaign {campaign_id} has {open_slots} open slots, where overlap {overlap} less {taken} "
        "labels and leases leaves {right_slots}",
        """
        SELECT * FROM (
            SELECT member.pair_id, member.campaign_id, member.open_slots, campaigns.overlap,
                coalesce(work.taken, 0) AS taken,
                CASE WHEN member.is_gold OR campaigns.overlap < coalesce(work.taken, 0) THEN 0
                    ELSE campaigns.overlap - coalesce(work.taken, 0) END AS right_slots
            FROM campaign_pairs AS member JOIN campaigns ON campaigns.id = member.campaign_id
            LEFT JOIN (
                SELECT campaign_pair_id, count(*) AS taken FROM assignments
                WHERE kind IN ('work', 'import') AND state IN ('leased', 'labelled') GROUP BY campaign_pair_id
            ) AS work ON work.campaign_pair_id = member.id
        ) AS slots WHERE open_slots <> right_slots
        """,
    ),
    Rule(
        "leases",
        "assignment {id} is leased to user {annotator_id} without an end (expires {expires_at}, leased {leased_at})",
        """
        SELECT id, annotator_id, expires_at, leased_at FROM assignments
        WHERE state = 'leased' AND (expires_at IS NULL OR expires_at <= leased_at)
        """,
    ),
    Rule(
        "leases",
        "user {annotator_id} has pair {pair_id} of campaign {campaign_id} {times} times in round {round}",
        """
        SELECT twice.annotator_id, member.pair_id, member.campaign_id, twice.round, twice.times FROM (
            SELECT annotator_id, campaign_pair_id, round, count(*) AS times FROM assignments
            GROUP BY campaign_pair_id, annotator_id, round HAVING count(*) > 1
        ) AS twice JOIN campaign_pairs AS member ON member.id = twice.campaign_pair_id
        """,
    ),
    Rule(
        "leases",
        "assignment {id} of kind {kind} stands in round {round}",
        """
        SELECT id, kind, round FROM assignments
        WHERE round <> CASE kind WHEN 'repeat' THEN 1 WHEN 'adjudication' THEN 2 ELSE 0 END
            AND NOT (kind = 'import' AND round = 1 AND left_video = 'B')
        """,
    ),
    Rule(
        "leases",
        "assignment {id} repeats a pair that user {annotator_id} never had",
        """
        SELECT id, annotator_id FROM assignments AS again WHERE kind = 'repeat' AND NOT EXISTS (
            SELECT 1 FROM assignments AS first WHERE first.campaign_pair_id = again.campaign_pair_id
            AND first.annotator_id = again.annotator_id AND first.round = 0
        )
        """,
    ),
    Rule(
        "leases",
        "assignment {id} names pair {pair_id} of campaign {campaign_id}, its campaign pair names pair {member_pair} of "
        "campaign {member_campaign}",
        """
        SELECT assignments.id, assignments.pair_id, assignments.campaign_id,
            member.pair_id AS member_pair, member.campaign_id AS member_campaign
        FROM assignments JOIN campaign_pairs AS member ON member.id = assignments.campaign_pair_id
        WHERE assignments.pair_id <> member.pair_id OR assignments.campaign_id <> member.campaign_id
        """,
    ),
    Rule(
        "leases",
        "user {annotator_id} has assignments in campaign {campaign_id} without being a member",
        """
        SELECT annotator_id, campaign_id FROM (SELECT DISTINCT campaign_id, annotator_id FROM assignments) AS who
        WHERE NOT EXISTS (
            SELECT 1 FROM members WHERE members.campaign_id = who.campaign_id AND members.annotator_id = who.annotator_id
        ) AND EXISTS (
            SELECT 1 FROM assignments WHERE assignments.campaign_id = who.campaign_id
            AND assignments.annotator_id = who.annotator_id AND kind NOT IN ('import', 'adjudication')
        )
        """,
    ),
    Rule(
        "gold",
        "pair {pair_id} of campaign {campaign_id} is gold without an answer, or has one without being gold",
        "SELECT pair_id, campaign_id FROM campaign_pairs WHERE is_gold <> (gold IS NOT NULL)",
    ),
)

REVISIONS = (
    Rule(
        "revisions",
        "label {id} of assignment {assignment_id} replaces label {replaces_id}, which belongs to assignment {other}",
        """
        SELECT labels.id, labels.assignment_id, labels.replaces_id, former.assignment_id AS other
        FROM labels JOIN labels AS former ON former.id = labels.replaces_id
        WHERE former.assignment_id <> labels.assignment_id
        """,
    ),
    Rule(
        "revisions",
        "label {id} replaces label {replaces_id}, which is not older",
        "SELECT id, replaces_id FROM labels WHERE replaces_id >= id",
    ),
    Rule(
        "revisions",
        "label {replaces_id} is replaced {times} times",
        """
        SELECT replaces_id, count(*) AS times FROM labels WHERE replaces_id IS NOT NULL
        GROUP BY replaces_id HAVING count(*) > 1
        """,
    ),
    Rule(
        "revisions",
        "the revisions of assignment {assignment_id} have {starts} beginnings instead of one",
        """
        SELECT assignment_id, sum(CASE WHEN replaces_id IS NULL THEN 1 ELSE 0 END) AS starts FROM labels
        GROUP BY assignment_id HAVING sum(CASE WHEN replaces_id IS NULL THEN 1 ELSE 0 END) <> 1
        """,
    ),
    Rule(
        "revisions",
        "label {id} names another campaign, pair, person or side than its assignment {assignment_id}",
        """
        SELECT labels.id, labels.assignment_id FROM labels JOIN assignments ON assignments.id = labels.assignment_id
        WHERE labels.campaign_id <> assignments.campaign_id OR labels.campaign_pair_id <> assignments.campaign_pair_id
        OR labels.pair_id <> assignments.pair_id OR labels.annotator_id <> assignments.annotator_id
        OR labels.left_video <> assignments.left_video
        """,
    ),
    Rule(
        "revisions",
        "assignment {id} is {state}, its last revision says {action}",
        f"""
        SELECT assignments.id, assignments.state, coalesce(final.action, 'nothing') AS action FROM assignments
        LEFT JOIN (SELECT assignment_id, action FROM labels WHERE {_CURRENT}) AS final
        ON final.assignment_id = assignments.id
        WHERE coalesce(final.action, 'withdraw') <> CASE assignments.state
            WHEN 'labelled' THEN 'label' WHEN 'skipped' THEN 'skip' WHEN 'flagged' THEN 'flag' ELSE 'withdraw' END
        """,
    ),
    Rule(
        "revisions",
        "assignment {id} says {seconds} s on task, its label {label_seconds} s",
        f"""
        SELECT assignments.id, assignments.seconds, final.seconds AS label_seconds FROM assignments
        JOIN (SELECT assignment_id, seconds FROM labels WHERE {_CURRENT}) AS final
        ON final.assignment_id = assignments.id
        WHERE assignments.kind <> 'adjudication'
        AND CASE assignments.state WHEN 'labelled' THEN coalesce(assignments.seconds, -1) <> final.seconds ELSE false END
        """,
    ),
)

VOTES = (
    Rule(
        "votes",
        "vote {id} replaces vote {replaces_id} of another pair or voter, or one that is not older",
        """
        SELECT votes.id, votes.replaces_id FROM votes JOIN votes AS former ON former.id = votes.replaces_id
        WHERE former.pair_id <> votes.pair_id OR former.id >= votes.id
            OR CASE WHEN former.user_id IS NULL THEN former.voter <> votes.voter
                ELSE votes.user_id IS NULL OR former.user_id <> votes.user_id END
        """,
    ),
    Rule(
        "votes",
        "voter {voter} has {times} current votes on pair {pair_id}",
        """
        SELECT voter, pair_id, count(*) AS times FROM votes
        WHERE user_id IS NULL AND NOT EXISTS (SELECT 1 FROM votes AS later WHERE later.replaces_id = votes.id)
        GROUP BY voter, pair_id HAVING count(*) > 1
        """,
    ),
    Rule(
        "votes",
        "user {user_id} has {times} current votes on pair {pair_id}",
        """
        SELECT user_id, pair_id, count(*) AS times FROM votes
        WHERE user_id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM votes AS later WHERE later.replaces_id = votes.id)
        GROUP BY user_id, pair_id HAVING count(*) > 1
        """,
    ),
    Rule(
        "votes",
        "vote {id} counts and is no label of the votes' campaign",
        """
        SELECT votes.id FROM votes LEFT JOIN (
            SELECT labels.token, labels.choice FROM labels JOIN campaigns ON campaigns.id = labels.campaign_id
            WHERE campaigns.holds_votes AND labels.action = 'label'
        ) AS labelled ON labelled.token = votes.token AND labelled.choice = votes.choice
        WHERE labelled.token IS NULL AND NOT EXISTS (SELECT 1 FROM votes AS later WHERE later.replaces_id = votes.id)
        """,
    ),
)

TRAINING = (
    Rule(
        "checkpoints",
        "the checkpoint {name} serves, and was deleted",
        """
        SELECT checkpoints.name FROM promotions JOIN checkpoints ON checkpoints.id = promotions.checkpoint_id
        WHERE promotions.id = (SELECT max(id) FROM promotions) AND checkpoints.deleted_at IS NOT NULL
        """,
    ),
    Rule(
        "runs",
        "run {id} is a finished training without the checkpoint that it made",
        "SELECT id FROM runs WHERE kind = 'train' AND state = 'finished' AND candidate_id IS NULL",
    ),
)

# SQLite gives a new row the number after the last one, and takes a number back with its transaction: a hole is a row that
# was removed. PostgreSQL leaves holes by itself.
SQLITE_ROWS = tuple(
    Rule(
        table,
        f"{{missing}} {table} below number {{last}} are gone",
        f"SELECT last, missing FROM (SELECT max(id) AS last, max(id) - count(*) AS missing FROM {table}) AS n "
        "WHERE missing > 0",
    )
    for table in ("labels", "votes", "promotions", "run_notes")
)
