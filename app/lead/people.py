"""Tab Accounts: invitations, roles, passwords."""

from __future__ import annotations

from typing import cast

from app.lead.context import LeadSection
from app.lead.views.people import account_list
from app.web.form_data import STALE_BUTTON, FormData, FormError
from app.web.panel import Reply
from storage.accounts.attempts import attacked_accounts
from storage.accounts.invitations import invite, list_invitations, revoke
from storage.accounts.users import User, get_user, list_users, set_active, set_role
from storage.schema import Role


class AccountsTab(LeadSection):
    """All accounts with their roles."""

    name, title = "accounts", "Accounts"

    def view(self, person: User, _campaign: int | None) -> Reply:
        """Show all accounts."""
        return self._list(person)

    def act(self, form: FormData, person: User, _campaign: int | None) -> Reply:
        """Invite somebody, revoke a link, make a new password link, switch an account on or off, change a role."""
        if form.act == "invite":
            role, days = cast("Role", form.text("role")), form.whole("days")
            with self.context.database.write() as session:
                token = invite(session, role, created_by=person.id, days=days)
            return self._list(person, token, f"a new {role}")
        if form.act == "revoke":
            with self.context.database.write() as session:
                revoke(session, form.id)
            return self._list(person, status="The link was revoked; nobody can use it any more.")
        target = form.id
        if target == person.id:
            return Reply(None, "You can't change your own account. Ask another lead.", bad=True)
        with self.context.database.write() as session:
            if form.act == "password":
                token = invite(session, get_user(session, target).role, created_by=person.id, user_id=target)
            elif form.act in ("activate", "deactivate"):
                set_active(session, target, form.act == "activate")
            elif form.act == "role":
                set_role(session, target, cast("Role", form.text("role")))
            else:
                raise FormError(STALE_BUTTON)
            name = get_user(session, target).name
        if form.act == "password":
            return self._list(person, token, f"{name} to choose a new password")
        return self._list(person, status=f"{name} was changed.")

    def _list(self, person: User, token: str = "", link_for: str = "", status: str = "") -> Reply:
        with self.context.database.read() as session:
            people = [user for user in list_users(session) if not user.is_visitor]
            attacks, invitations = attacked_accounts(session), list_invitations(session)
        path = f"invite/{token}" if token else ""
        return Reply(account_list(people, person.id, path, link_for, attacks, invitations), status)
