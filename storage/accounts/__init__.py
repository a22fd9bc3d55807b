"""Users, passwords, sessions, invitations."""
