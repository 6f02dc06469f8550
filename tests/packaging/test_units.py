# SPDX-License-Identifier: MIT
"""The units, without a running systemd: how exposed they are, by systemd's own judgement, and that it reads them without a complaint."""
import os
import shutil
import subprocess
import tempfile

import lib
from lib import eq

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../packaging/systemd")


def units(d, *drop_ins):
    os.makedirs(d + "/sluice.service.d")
    for name in ("sluice.service", "sluice.socket"):
        with open(os.path.join(HERE, name)) as f:
            text = f.read().replace("@PREFIX@/bin/sluice", lib.PROGRAM).replace("@PREFIX@", "/usr").replace("man:", "https://man.example/")
        with open(os.path.join(d, name), "w") as f:
            f.write(text)
    for name in drop_ins:
        shutil.copy(os.path.join(HERE, name + ".conf"), d + "/sluice.service.d")


def analyze(*words):
    if not shutil.which("systemd-analyze"):
        raise lib.Skip("no systemd-analyze")
    r = subprocess.run(["systemd-analyze", "--no-pager", *words], capture_output=True, text=True)
    return r.returncode, r.stdout + r.stderr


def exposed(limit, *drop_ins):
    with tempfile.TemporaryDirectory() as d:
        units(d, *drop_ins)
        code, said = analyze("security", "--offline=true", "--threshold=%d" % limit, d + "/sluice.service")
        eq(("Overall exposure level" in said, code), (True, 0), said)


def test_exposure():
    exposed(20)


def test_exposure_with_tun():
    exposed(22, "tun")


def test_exposure_with_process_rules():
    exposed(26, "process-rules")


def test_exposure_with_both():
    exposed(28, "tun", "process-rules")


def test_no_complaint():
    version = int(analyze("--version")[1].split()[1])
    with tempfile.TemporaryDirectory() as d:
        units(d, "tun", "process-rules", *(["notify-reload"] if version >= 253 else []))
        code, said = analyze("verify", d + "/sluice.service", d + "/sluice.socket")
        eq((code, [line for line in said.splitlines() if "sluice" in line]), (0, []), said)
