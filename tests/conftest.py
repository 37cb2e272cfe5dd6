"""Settings for every test.

Hypothesis draws the same examples each time, and never fails for being slow. Ctrl-C reaches the programs that
tests start, even where the tests themselves run in the background of a script, which ignores it.
"""

import signal

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

signal.signal(signal.SIGINT, signal.default_int_handler)
