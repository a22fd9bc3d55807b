"""The list of accounts, and the form that invites."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from markupsafe import Markup

from app.ui.dates import day
from app.ui.markup import button, joined, options, pill, table
from storage.accounts.attempts import Attack
from storage.accounts.invitations import MadeInvitation
from storage.accounts.users import User
from storage.schema import utc_now

ROLES = {
    "annotator": "annotator: labels pairs",
    "viewer": "viewer: sees progress and agreement",
    "lead": "lead: everything on this page",
}
DAYS = {"1": "1 day", "7": "7 days", "30": "30 days"}


def account_list(
    people: Sequence[User],
    viewer_id: int,
    link: str = "",
    link_for: str = "",
    attacks: Sequence[Attack] = (),
    invitations: Sequence[MadeInvitation] = (),
) -> Markup:
    """Return all accounts, the form that invites, and (once) a link that was just made.

    Args:
        viewer_id: the person who looks; their own account has no buttons.
        link: path of a one-time link, shown this one time.
        link_for: the person that it is for.
        attacks: accounts whose passwords are guessed at from many addresses.
        invitations: links that were made, the newest first.
    """
    rows = [_row(person, person.id == viewer_id) for person in people]
    accounts = table(("name", "role", "state", "since", ""), rows)
    return joined([_attacks(attacks), _invite_form(), _link(link, link_for), accounts, invitation_list(invitations)])


def invitation_list(invitations: Sequence[MadeInvitation]) -> Markup:
    """Return the one-time links: for whom, by whom, until when, what became of them; open ones can be revoked."""
    if not invitations:
        return Markup("")
    now = utc_now()
    rows = [_invitation(one, now) for one in invitations]
    return Markup("<h3>One-time links</h3>") + table(("for", "made by", "made", "ends", "state", ""), rows)


def _invitation(invitation: MadeInvitation, now: datetime) -> list[Markup | str]:
    person, revoke = invitation.person, Markup("")
    what = f"{person}, a new password" if invitation.for_password else f"a new {invitation.role}"
    if invitation.used_at is not None:
        state = pill(f"used by {person}" if person else "replaced by a newer one", "")
    elif invitation.revoked_at is not None:
        state = pill("revoked", "bad")
    elif invitation.expires_at <= now:
        state = pill("out of date", "")
    else:
        state = pill("open", "good")
        ask = f"Revoke the link for {what}? Whoever has it can't use it any more."
        revoke = button("Revoke", "revoke", invitation.id, confirm=ask)
    by = invitation.created_by or "the console"
    return [what, by, day(invitation.created_at), day(invitation.expires_at), state, revoke]


def _invite_form() -> Markup:
    return Markup(
        '<form class="ds-form ds-inline" data-act="invite"><label>Invite <select name="role">{}</select></label>'
        '<label>link works for <select name="days">{}</select></label>'
        '<button class="ds-button is-main">Make a one-time link</button>'
        '<span class="ds-hint">The first person who opens the link chooses a name and a password. It works once.'
        "</span></form>"
    ).format(options(ROLES, "annotator"), options(DAYS, "7"))


def _attacks(attacks: Sequence[Attack]) -> Markup:
    note = Markup(
        '<p role="note">{} {} failed sign-ins for <b>{}</b> from {} addresses in the last day. Somebody may be guessing the '
        "password; browsers in which this person was signed in before don't have to wait. If others may know the "
        "password, make a new password link.</p>"
    )
    pieces = (note.format(pill("guessed at", "bad"), one.failures, one.name, one.addresses) for one in attacks)
    return joined(pieces)


def _link(path: str, link_for: str) -> Markup:
    if not path:
        return Markup("")
    return Markup(
        '<div class="lead-link"><label>One-time link for {0}, shown only now'
        '<input id="lead-one-time" class="ds-input" readonly data-path="{1}" value="{1}"></label>'
        '<button type="button" class="ds-button" data-copy="#lead-one-time">Copy</button></div>'
    ).format(link_for, path)


def _row(person: User, is_me: bool) -> list[Markup | str]:
    if not person.active:
        state = pill("switched off", "bad")
    else:
        state = pill("can sign in", "good") if person.can_sign_in else pill("no password yet")
    if is_me:
        return [Markup("<b>{}</b> (you)").format(person.name), person.role, state, day(person.created_at), ""]
    return [Markup("<b>{}</b>").format(person.name), _role(person), state, day(person.created_at), _actions(person)]


def _role(person: User) -> Markup:
    names = {role: role for role in ROLES}
    return Markup(
        '<form class="ds-inline" data-act="role" data-id="{}"><select name="role" data-change="role" '
        'aria-label="Role of {}">{}</select></form>'
    ).format(person.id, person.name, options(names, person.role))


def _actions(person: User) -> Markup:
    if not person.active:
        return button("Switch on", "activate", person.id)
    ask = f"Switch off {person.name}? They are signed out and can't sign in; their labels stay."
    return button("New password link", "password", person.id) + button("Switch off", "deactivate", person.id, confirm=ask)
