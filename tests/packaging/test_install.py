# SPDX-License-Identifier: MIT
"""make install, into a directory: every file by a rename, the programs of a version in a directory of their own, and a service that runs from there
meanwhile."""
import os
import re
import shutil
import subprocess
import tempfile

import lib
from lib import BASE, HOST, Core, Threads, eq, pong

TIMEOUT = 60
CONFIG = BASE + "rules: ['MATCH,DIRECT']\n"
INSTALL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../packaging/install.sh")
NAMES = ("sluice", "libexec/sluice-worker", "libexec/sluice-loader", "libexec/sluice-controller", "libexec/sluice-nethelper")


class Destination:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="sluice-dest-")
        os.chmod(self.dir, 0o755)
        self.version = subprocess.run([lib.PROGRAM, "-v"], capture_output=True, text=True, check=True).stdout.split()[1]
        self.program = self.dir + "/usr/bin/sluice"
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def install(self, last=None):
        """The build under test, or one whose version ends in that letter; the version."""
        version = self.version[:-1] + last if last else self.version
        with tempfile.TemporaryDirectory() as build:
            os.mkdir(build + "/libexec")
            for name in NAMES:
                with open(os.path.join(os.path.dirname(lib.PROGRAM), name), "rb") as f, open(os.path.join(build, name), "wb") as g:
                    g.write(f.read().replace(self.version.encode() + b"\0", version.encode() + b"\0"))
            subprocess.run(["sh", INSTALL, build, version], check=True, env=dict(os.environ, DESTDIR=self.dir, PREFIX="/usr"))
        return version

    def versions(self):
        return sorted(os.listdir(self.dir + "/usr/libexec/sluice"))


def test_layout():
    with Destination() as d:
        version = d.install()
        files = {os.path.relpath(os.path.join(top, n), d.dir) for top, _, names in os.walk(d.dir) for n in names}
        want = {"usr/bin/sluice", "usr/share/man/man8/sluice.8", "usr/share/man/man5/sluice.yaml.5", "usr/share/man/man7/sluice-ipc.7",
                "usr/lib/systemd/system/sluice.service", "usr/lib/systemd/system/sluice.socket", "usr/lib/sysusers.d/sluice.conf",
                "usr/lib/tmpfiles.d/sluice.conf"} | {"usr/libexec/sluice/%s/%s" % (version, os.path.basename(n)) for n in NAMES}
        eq(want - files, set())
        eq([f for f in files if f.endswith(".new")], [])
        with open(d.dir + "/usr/lib/systemd/system/sluice.service") as f:
            unit = f.read()
        eq(("@" in re.sub("SystemCallFilter=.*", "", unit), "ExecStart=/usr/bin/sluice " in unit), (False, True))
        eq(subprocess.run([d.program, "-v"], capture_output=True, text=True).stdout.split()[1], version)


def test_the_version_before_stays_and_earlier_ones_go():
    with Destination() as d:
        first = d.install("A")
        second = d.install("B")
        eq(d.versions(), sorted([first, second]))
        third = d.install("C")
        eq(d.versions(), sorted([second, third]))
        d.install("C")
        eq(d.versions(), [third])


def test_over_a_running_service():
    """New processes may be started at any moment: the service's own are those that it holds, whatever is on the disk."""
    was = lib.PROGRAM
    try:
        with Destination() as d:
            one = d.install()
            inodes = {n: os.stat(d.dir + "/usr/libexec/sluice/%s/%s" % (one, os.path.basename(n))).st_ino for n in NAMES}
            lib.PROGRAM = d.program
            with Core(CONFIG) as core:
                lib.PROGRAM = was
                held = core.held(HOST, lib.servers.port["echo"])
                load = Threads(2, lambda: core.held(HOST, lib.servers.port["echo"]).close())
                d.install()                     # the same version: new files under the old names
                eq([n for n, i in inodes.items() if os.stat(d.dir + "/usr/libexec/sluice/%s/%s" % (one, os.path.basename(n))).st_ino == i], [])
                eq(core.cli("reload").returncode, 0)
                for last in "XY":
                    two = d.install(last)
                    eq(core.cli("restart").returncode, 0)
                    eq(core.get("/version")["sluice"] != two, True)
                    out = core.cli("upgrade")
                    eq((out.returncode, out.stderr), (0, ""))
                    eq(core.get("/version")["sluice"], two)
                shutil.rmtree(d.dir + "/usr/libexec/sluice")
                eq(core.cli("restart").returncode, 0, "the programs are gone")
                r = core.api("POST", "/upgrade?force=true")
                eq((r.status, "No such file" in r.json["message"]), (503, True), r.json["message"])
                errors = load.stop()
                eq(errors[:5], [], "%d connections failed" % len(errors))
                pong(held)
                eq(core.proc.poll(), None)
    finally:
        lib.PROGRAM = was
