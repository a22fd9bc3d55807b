"""Settings of the unit tests: no time limit for a single hypothesis example, since machines are shared."""

from hypothesis import settings

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")
