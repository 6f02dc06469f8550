# SPDX-License-Identifier: MIT
"""torture.py in its short form: fewer flows, 50 reloads with their share of restarts, upgrades and kills. The long one is make reload-torture."""
import os

import lib
from lib import eq
from reload import torture

TIMEOUT = 150


def test_the_short_form():
    if not os.access(torture.LOAD, os.X_OK):
        raise lib.Skip("no %s: make load" % os.path.relpath(torture.LOAD))
    args = torture.arguments([lib.PROGRAM, "--short", "-n", "50" if lib.SLOW == 1 else "10", "--show", "12", "--before", "1"])
    t = torture.Torture(args, torture.SHORT)
    try:
        text, bad = t.run()
    finally:
        t.clean()
    eq(bad, 0, text)
