# SPDX-License-Identifier: MIT
"""Upgrade to a build whose processes speak another version of the protocol: what cannot be handed over drains, what cannot be understood is refused
before anything is touched, and a roll-back puts back what runs. The other builds are the one under test with IMSG_VERSION alone changed."""
import functools
import glob
import os
import re
import shutil
import subprocess
import tempfile

import lib
from lib import BASE, HOST, Core, Threads, eq, pong, until

CONFIG = BASE + """
sluice: {workers: 2}
rules: ['MATCH,DIRECT']
"""
TIMEOUT = 200
TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
NAMES = ("sluice", "libexec/sluice-worker", "libexec/sluice-loader", "libexec/sluice-controller", "libexec/sluice-nethelper")


@functools.cache
def build(ipc):
    """The directory of the build that speaks that version; 1: the one under test. Only the objects that know the number are compiled anew."""
    here = os.path.dirname(lib.PROGRAM)
    if ipc == 1:
        return here
    if lib.SLOW > 1 or not shutil.which("make") or not os.path.isdir(here + "/obj"):
        raise lib.Skip("it needs a plain build tree")
    there = os.path.join(lib.servers.dir, "build%d" % ipc)
    shutil.copytree(here + "/obj", there + "/obj", copy_function=shutil.copy2, ignore=shutil.ignore_patterns("tests"))
    shutil.copy2(here + "/version.stamp", there)
    for part in ("common", "supervisor", "worker", "controller"):
        for source in glob.glob(os.path.join(TOP, part, "**/*.c"), recursive=True):
            with open(source) as f:
                if "IMSG_VERSION" in f.read():
                    os.unlink(os.path.join(there, "obj", os.path.relpath(source, TOP)[:-2] + ".o"))
    with open(here + "/version.stamp") as f:
        version = f.read().strip()
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    r = subprocess.run(["make", "-C", TOP, "-j2", "B=" + there, "VERSION=" + version, "all"], capture_output=True, text=True,
                       env=dict(env, CPPFLAGS="-DSLUICE_IPC_VERSION=%d" % ipc))
    eq(r.returncode, 0, r.stdout[-2000:] + r.stderr[-2000:])
    return there


class Installed:
    """A service whose programs are replaced by those of other builds."""
    def __init__(self, ipc):
        build(2)                        # or none of these tests
        self.dir, self.was = tempfile.mkdtemp(prefix="sluice-install-"), lib.PROGRAM
        os.chmod(self.dir, 0o755)
        os.mkdir(self.dir + "/libexec", 0o755)
        self.version = subprocess.run([lib.PROGRAM, "-v"], capture_output=True, text=True, check=True).stdout.split()[1]
        self.put(ipc)

    def put(self, ipc, broken=None):
        """That build, which calls itself so; broken: a program that works once, for the test of the configuration, and fails when it is to serve."""
        version = self.version[:-1] + "ghijklmn"[ipc]     # no hexadecimal digit: the last one may be any
        for name in NAMES:
            with open(os.path.join(build(ipc), name), "rb") as f:
                data = f.read().replace(self.version.encode() + b"\0", version.encode() + b"\0")
            with open(os.path.join(self.dir, name + ".new"), "wb") as f:
                f.write(data)
            os.chmod(os.path.join(self.dir, name + ".new"), 0o755)
            os.rename(os.path.join(self.dir, name + ".new"), os.path.join(self.dir, name))
        if broken:
            self.wrap(os.path.join(self.dir, broken))
        return version

    @staticmethod
    def wrap(path):
        os.rename(path, path + ".real")
        subprocess.run(["cc", "-x", "c", "-o", path, "-"], check=True, text=True, input="""#include <fcntl.h>
#include <unistd.h>
int main(int c, char **v)
{
	int fd = open("%s.count", O_CREAT | O_EXCL | O_WRONLY, 0666);
	return c && fd != -1 ? close(fd), execv("%s.real", v) : 1;
}
""" % (path, path))
        os.chmod(os.path.dirname(path), 0o777)

    def __enter__(self):
        try:
            lib.PROGRAM = self.dir + "/sluice"
            self.core = Core(CONFIG)
        finally:
            lib.PROGRAM = self.was
        self.core.__enter__()
        return self

    def __exit__(self, *why):
        try:
            self.core.__exit__(*why)
        finally:
            shutil.rmtree(self.dir)


def serves(core, version):
    eq(core.get("/version")["sluice"], version)
    eq([g["program"] for g in core.get("/generations")["generations"] if g["state"] == "serving"], [version])


def upgraded(inst, ipc):
    version, pid = inst.put(ipc), inst.core.proc.pid
    load = Threads(2, lambda: inst.core.held(HOST, lib.servers.port["echo"]).close())
    r = inst.core.api("POST", "/upgrade", timeout=60)
    errors = load.stop()
    eq((r.status, r.body, errors[:3]), (200, b'{"status":"ok"}\n', []), inst.core.log()[-3000:])
    eq((inst.core.proc.poll(), inst.core.proc.pid), (None, pid))
    serves(inst.core, version)


def refused(inst, ipc, why):
    before = inst.core.get("/version")["sluice"], sorted(inst.core.serving())
    inst.put(ipc)
    r = inst.core.api("POST", "/upgrade", timeout=60)
    eq((r.status, bool(re.search(why, r.json["message"]))), (500, True), r.json["message"])
    eq((inst.core.get("/version")["sluice"], sorted(inst.core.serving())), before)


def old_workers(core):
    return [x for x in core.cli("status").stdout.splitlines() if x.startswith("worker") and " draining " in x]


def test_a_newer_version_drains_what_it_cannot_take_over():
    with Installed(1) as inst:
        core = inst.core
        held = core.held(HOST, lib.servers.port["echo"])
        upgraded(inst, 2)
        pong(held)
        until(lambda: len(old_workers(core)) == 1, 5, "only the worker that has it stays")
        # the old worker is still one of ours: it takes part in what concerns all, and ends with its connection
        eq(core.cli("reload").returncode, 0)
        eq(core.api("PATCH", "/configs", {"mode": "direct"}).status, 204)
        pong(held)
        moved = core.held(HOST, lib.servers.port["echo"])
        eq(core.cli("restart").returncode, 0)
        until(lambda: len(old_workers(core)) == 1, 5, "between workers of one version it moves")
        pong(moved)
        held.close()
        until(lambda: not old_workers(core), 10, "the old worker ends")
        pong(moved)
        upgraded(inst, 3)
        pong(moved)
        moved.close()


def test_a_version_too_far_is_refused():
    with Installed(1) as inst:
        held = inst.core.held(HOST, lib.servers.port["echo"])
        refused(inst, 3, "go by a build between the two")
        pong(held)
        upgraded(inst, 2)
        refused(inst, 3, "go by a build between the two")     # a worker of version 1 is still there
        pong(held)
        held.close()
        until(lambda: not old_workers(inst.core), 10, "the old worker ends")
        upgraded(inst, 3)


def rolled_back(broken):
    """The programs before speak less: what the new ones have started must be gone before the supervisor before is."""
    with Installed(1) as inst:
        core, pid = inst.core, inst.core.proc.pid
        before = core.get("/version")["sluice"]
        held = core.held(HOST, lib.servers.port["echo"])
        inst.put(2, broken)
        load = Threads(2, lambda: core.held(HOST, lib.servers.port["echo"]).close())
        r = core.api("POST", "/upgrade", timeout=60)
        errors = load.stop()
        eq((r.status, "rolled back" in r.json["message"], errors[:3]), (500, True, []), "%s %s" % (r, core.log()[-3000:]))
        eq((core.proc.poll(), core.proc.pid), (None, pid))
        serves(core, before)
        pong(held)
        upgraded(inst, 2)
        held.close()


def test_workers_of_a_newer_version_that_do_not_come_up():
    rolled_back("libexec/sluice-worker")


def test_a_controller_of_a_newer_version_that_does_not_come_up():
    rolled_back("libexec/sluice-controller")


def test_a_downgrade():
    """The older supervisor cannot speak with the newer workers: it follows when the last of them has ended."""
    with Installed(2) as inst:
        core, version = inst.core, inst.put(2)
        held = core.held(HOST, lib.servers.port["echo"])
        upgraded(inst, 1)
        pong(held)
        until(lambda: len(old_workers(core)) == 1, 5, "only the worker that has it stays")
        eq(core.cli("status").stdout.split()[1].rstrip(","), version, "the supervisor")
        eq(core.cli("reload").returncode, 0)
        moved = core.held(HOST, lib.servers.port["echo"])
        r = core.api("POST", "/upgrade", timeout=60)
        eq((r.status, "until the ones before have ended" in r.json["message"]), (503, True), str(r))
        pong(held)
        held.close()
        until(lambda: not old_workers(core) and core.cli("status").stdout.count("\ncontroller") == 1, 20, "they end")
        upgraded(inst, 1)
        pong(moved)
        eq(core.cli("status").stdout.split()[1].rstrip(","), core.get("/version")["sluice"], "the supervisor")
        eq(core.api("POST", "/upgrade", timeout=60).status, 503)
        upgraded(inst, 2)
        pong(moved)


def test_a_downgrade_that_does_not_come_up():
    with Installed(2) as inst:
        core, before = inst.core, inst.core.get("/version")["sluice"]
        held = core.held(HOST, lib.servers.port["echo"])
        inst.put(1, "libexec/sluice-worker")
        r = core.api("POST", "/upgrade", timeout=60)
        eq((r.status, "rolled back" in r.json["message"]), (500, True), "%s %s" % (r, core.log()[-3000:]))
        serves(core, before)
        pong(held)
        upgraded(inst, 1)
        pong(held)
