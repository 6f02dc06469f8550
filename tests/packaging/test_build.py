# SPDX-License-Identifier: MIT
"""The build is reproducible: the same sources in another directory give the same programs, byte for byte."""
import os
import shutil
import subprocess
import tempfile

import lib
from lib import eq
from root import needs

TIMEOUT = 400
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
NAMES = ("sluice", "libexec/sluice-worker", "libexec/sluice-loader", "libexec/sluice-controller", "libexec/sluice-nethelper")


def test_another_directory_gives_the_same_programs():
    needs("make", os.environ.get("CC", "gcc").split()[0])
    version = subprocess.run([lib.PROGRAM, "-v"], capture_output=True, text=True, check=True).stdout.split()[1]
    with tempfile.TemporaryDirectory(prefix="sluice-elsewhere-") as d:
        there = d + "/a/longer/path"
        for part in ("common", "supervisor", "worker", "controller"):
            shutil.copytree(os.path.join(TOP, part), os.path.join(there, part))
        shutil.copy(os.path.join(TOP, "Makefile"), there)
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        r = subprocess.run(["make", "-C", there, "-j%d" % len(os.sched_getaffinity(0)), "VERSION=" + version, "SOURCE_DATE_EPOCH=1", "all"],
                           capture_output=True, text=True, env=env)
        eq(r.returncode, 0, r.stderr[-3000:])
        different = [n for n in NAMES if subprocess.run(["cmp", "-s", os.path.join(os.path.dirname(lib.PROGRAM), n), there + "/build/" + n]).returncode]
        eq(different, [], "a stale build/ differs too: make clean")
