"""Settings for every test: hypothesis draws the same examples each time, and never fails for being slow."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
