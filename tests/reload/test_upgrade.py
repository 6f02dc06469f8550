# SPDX-License-Identifier: MIT
"""Live upgrade: the pid stays, no connection fails, those that are open keep identity and counters, the API answers all the time; programs that do
not come up are put back. Each test installs its own copy of the build."""
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import lib
from lib import BASE, HOST, Core, Threads, Udp, WebSocket, eq, kill, pong, until

CONFIG = BASE + """
sluice: {workers: 2}
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks, udp: true}
  - {name: up2, type: socks5, server: 127.0.0.1, port: $s_socks}
proxy-groups:
  - {name: Pick, type: select, proxies: [up, up2]}
rules:
  - DOMAIN,first.test,up
  - DOMAIN-SUFFIX,up.test,up
  - IP-CIDR,127.0.0.0/8,DIRECT,no-resolve
  - MATCH,Pick
"""
TIMEOUT = 120
PROGRAMS = ("sluice", "libexec/sluice-worker", "libexec/sluice-loader", "libexec/sluice-controller", "libexec/sluice-nethelper")


class Install:
    """A directory with the programs, replaced as a package manager does it: new files under the old names."""
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="sluice-install-")
        os.chmod(self.dir, 0o755)
        self.source = os.path.dirname(lib.PROGRAM)
        os.mkdir(os.path.join(self.dir, "libexec"), 0o755)
        self.version = self.build(lib.PROGRAM)
        self.copy()

    @staticmethod
    def build(program):
        return subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout.split()[1]

    def put(self, name, data, mode=0o755):
        path = os.path.join(self.dir, name)
        with open(path + ".new", "wb") as f:
            f.write(data)
        os.chmod(path + ".new", mode)
        os.rename(path + ".new", path)

    def copy(self, version=None):
        """All programs anew; version: what they call themselves instead, of the same length."""
        for name in PROGRAMS:
            with open(os.path.join(self.source, name), "rb") as f:
                data = f.read()
            if version:
                eq(len(version), len(self.version))
                data = data.replace(self.version.encode() + b"\0", version.encode() + b"\0")
            self.put(name, data)

    def other(self, last):
        return self.version[:-1] + last

    def wrap(self, name, good, then=None):
        """A program that is itself the first `good` times, and then one that fails, or another one."""
        if not shutil.which("cc"):
            raise lib.Skip("no C compiler")
        real, count = os.path.join(self.dir, name + ".real"), os.path.join(self.dir, os.path.basename(name) + ".count")
        shutil.copy(os.path.join(self.source, name), real)
        source = os.path.join(self.dir, "wrap.c")
        with open(source, "w") as f:
            f.write("""#include <fcntl.h>\n#include <unistd.h>
int main(int c, char **v)
{
	int fd = open("%s", O_RDWR | O_CREAT | O_APPEND, 0666);
	long n = lseek(fd, 0, SEEK_END);
	(void)!write(fd, "x", 1);
	close(fd);
	(void)c;
	if (n < %d) { execv("%s", v); return 5; }
	execv("%s", v);
	return 1;
}
""" % (count, good, real, then or "/nowhere"))
        subprocess.run(["cc", "-o", source[:-2], source], check=True)
        with open(source[:-2], "rb") as f:
            self.put(name, f.read())


@contextlib.contextmanager
def installed(config=CONFIG, **kw):
    was, inst = lib.PROGRAM, Install()
    try:
        lib.PROGRAM = os.path.join(inst.dir, "sluice")
        with Core(config, **kw) as c:
            c.inst = inst
            yield c
    finally:
        lib.PROGRAM = was
        shutil.rmtree(inst.dir, ignore_errors=True)


def upgrade(core, force=False, timeout=60):
    return core.api("POST", "/upgrade" + ("?force=true" if force else ""), timeout=timeout)


def upgraded(core, force=False):
    pid = core.proc.pid
    r = upgrade(core, force)
    eq((r.status, r.body), (200, b'{"status":"ok"}\n'))
    eq(core.proc.poll(), None)
    eq(core.proc.pid, pid)


def version(core):
    return core.get("/version")


def generations(core):
    return core.get("/generations")["generations"]


def descriptors(core):
    """What the supervisor has open, by kind, but the counter pages: they are kept, as many as there ever were workers at once."""
    out = []
    for fd in os.listdir("/proc/%d/fd" % core.proc.pid):
        with contextlib.suppress(OSError):
            out.append(os.readlink("/proc/%d/fd/%s" % (core.proc.pid, fd)).partition("[")[0])
    return sorted(x for x in out if "counters" not in x)


class Held:
    """An open connection that plays ping-pong; its identity and counters must last."""
    def __init__(self, core, host, port):
        self.core, self.s, self.n = core, core.held(host, port, "socks"), 2
        self.key = {"sourcePort": str(self.s.getsockname()[1])}
        self.before = core.one(**self.key)

    def check(self):
        pong(self.s, b"ping-pong")
        self.n += 9
        c = self.core.one(**self.key)
        for k in ("id", "start", "chains", "rule", "rulePayload", "metadata"):
            eq(c[k], self.before[k], k)
        until(lambda: [self.core.one(**self.key)[k] for k in ("upload", "download")] == [self.n, self.n], 1, "counters say %d" % self.n)


@contextlib.contextmanager
def load(core, workers=3):
    """New connections without a pause, and questions to the API: none may fail."""
    echo = lib.servers.port["echo"]

    def once():
        core.held(HOST, echo, "mixed").close()
        core.held("x.up.test", 4101, "socks").close()
        eq(core.fetch("http://x.up.test/hello", "http").body, b"hello\n")

    def ask():
        for path in ("/version", "/connections", "/proxies", "/configs"):
            r = core.api("GET", path)
            eq(r.status, 200, "%s %r" % (path, r))
    ts, api = Threads(workers, once), Threads(2, ask)
    try:
        yield
    finally:
        errors, refused = ts.stop(), api.stop()
    eq(errors[:5], [], "%d failed" % len(errors))
    eq(refused[:5], [], "the API failed %d times" % len(refused))
    eq(min(ts.rounds + api.rounds) > 0, True, "rounds: %s %s" % (ts.rounds, api.rounds))


def in_service(core):
    """The controller that has the listeners; not one that was relieved."""
    lines = [x for x in core.cli("status").stdout.splitlines() if x.startswith("controller") and " serving " in x]
    return int(lines[-1].split("pid ")[1].split()[0]) if lines else None


def untouched(core, fn):
    """Runs fn, after which every process, connection and answer must be what it was."""
    held = Held(core, HOST, lib.servers.port["echo"])
    before = (sorted(core.pids("worker")), core.pids("controller"), version(core), core.get("/configs"))
    out = fn()
    until(lambda: (sorted(core.pids("worker")), core.pids("controller")) == before[:2], 5, "the processes are those from before")
    eq((version(core)["sluice"], core.get("/configs")), (before[2]["sluice"], before[3]))
    held.check()
    held.s.close()
    core.held("a.up.test", 4102).close()
    return out


# ---- what is refused
def test_the_same_build_is_refused():
    with installed() as c:
        def fn():
            r = upgrade(c)
            eq(r.status, 503)
            eq("no other build is installed" in r.json["message"], True, r.json["message"])
            out = c.cli("upgrade")
            eq((out.returncode, "no other build" in out.stderr), (1, True), out.stderr)
        untouched(c, fn)


def test_an_incomplete_or_unsafe_installation_is_refused():
    with installed() as c:
        def gone():
            os.rename(c.inst.dir + "/libexec/sluice-loader", c.inst.dir + "/away")
            return upgrade(c, True)
        r = untouched(c, gone)
        eq((r.status, "sluice-loader not found" in r.json["message"]), (503, True), r.json["message"])
        os.rename(c.inst.dir + "/away", c.inst.dir + "/libexec/sluice-loader")
        os.chmod(c.inst.dir + "/libexec/sluice-worker", 0o777)
        r = untouched(c, lambda: upgrade(c, True))
        eq((r.status, "written by others" in r.json["message"]), (503, True), r.json["message"])
        os.chmod(c.inst.dir + "/libexec/sluice-worker", 0o755)
        upgraded(c, True)


# ---- what works
def test_forced_upgrades_under_load():
    with installed() as c:
        held = [Held(c, HOST, lib.servers.port["echo"]), Held(c, "a.up.test", 4103), Held(c, "any.test", 4104)]
        udp = Udp(c.port["socks"])
        eq(udp.ask(HOST, lib.servers.port["udp"], b"one"), b"one")
        with load(c):
            for i in range(5):
                workers, controller = c.serving(), c.pids("controller")
                upgraded(c, True)
                eq(set(workers) & set(c.serving()), set(), "the workers are new")
                eq(controller[0] in c.pids("controller")[-1:], False, "the controller is new")
                for h in held:
                    h.check()
                eq(udp.ask(HOST, lib.servers.port["udp"], b"%d" % i), b"%d" % i)
                time.sleep(0.1)
        for h in held:
            h.s.close()
        udp.close()
        until(lambda: len(c.pids("controller")) == 1, 10, "only one controller is left")


def test_nothing_leaks():
    with installed() as c:
        upgraded(c, True)
        until(lambda: len(c.tree()) == 4, 10)
        fds = descriptors(c)
        for _ in range(8):
            upgraded(c, True)
        until(lambda: len(c.tree()) == 4, 10)
        until(lambda: len(descriptors(c)) <= len(fds), 5, "as many descriptors as before")


def test_another_build_and_back():
    with installed() as c:
        h = Held(c, HOST, lib.servers.port["echo"])
        for last in "XYX":
            c.inst.copy(c.inst.other(last))
            with load(c, 2):
                upgraded(c)
            eq(version(c)["sluice"], c.inst.other(last))
            eq("upgrade" in version(c), False)
            eq([g["program"] for g in generations(c) if g["state"] == "serving"], [c.inst.other(last)])
            h.check()
            eq(upgrade(c).status, 503)
        c.inst.copy()
        out = c.cli("upgrade")
        eq((out.returncode, out.stderr), (0, ""))
        eq(version(c)["sluice"], c.inst.version)
        h.check()
        h.s.close()


def test_a_moved_link_is_followed():
    with installed() as c:
        where = tempfile.mkdtemp(prefix="sluice-versions-")
        try:
            os.chmod(where, 0o755)
            os.symlink(c.inst.dir, where + "/one")
            os.symlink("one/sluice", where + "/sluice")
            lib.PROGRAM = where + "/sluice"
            eq(c.stop(), 0)
            c.start()
            two = Install.__new__(Install)
            two.__dict__.update(c.inst.__dict__, dir=where + "/two")
            os.makedirs(where + "/two/libexec", 0o755)
            two.copy(two.other("Z"))
            eq(upgrade(c).status, 503)
            os.symlink("two/sluice", where + "/sluice.new")
            os.rename(where + "/sluice.new", where + "/sluice")
            upgraded(c)
            eq(version(c)["sluice"], c.inst.other("Z"))
            c.stop()
            c.start()
        finally:
            shutil.rmtree(where)


def test_state_survives():
    with installed() as c:
        eq(c.api("PUT", "/proxies/Pick", {"name": "up2"}).status, 204)
        eq(c.api("PATCH", "/configs", {"mode": "global"}).status, 204)
        eq(c.api("PATCH", "/rules/disable", {"0": True}).status, 204)
        eq(c.api("PATCH", "/configs", {"mode": "rule", "log-level": "warning"}).status, 204)
        upgraded(c, True)
        eq(c.get("/proxies/Pick")["now"], "up2")
        eq(c.get("/configs")["log-level"], "warning")
        s = c.held("first.test", 4105)
        eq(c.one(sourcePort=str(s.getsockname()[1]))["chains"], ["up2", "Pick"])
        s.close()
        # changes, reloads and signals work as before
        eq(c.api("PUT", "/proxies/Pick", {"name": "up"}).status, 204)
        eq(c.get("/proxies/Pick")["now"], "up")
        eq(c.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
        eq(c.get("/configs")["log-level"], "debug")
        at = len(c.log())
        c.signal(signal.SIGHUP)
        c.wait_log("generation \\d+ serves", 10, at)
        eq(c.cli("reload").returncode, 0)


def test_rule_sets_survive():
    sets = CONFIG.replace("rules:\n", """rule-providers:
  set: {type: file, behavior: domain, format: text, path: ./set.txt}
rules:
  - RULE-SET,set,up2
""")
    with installed(sets, files={"set.txt": "set.test\n"}) as c:
        def chains(host):
            s = c.held(host, 4106)
            out = c.one(sourcePort=str(s.getsockname()[1]))["chains"]
            s.close()
            return out
        c.inst.wrap("libexec/sluice-controller", 1)
        eq(upgrade(c).status, 500)
        c.write("set.txt", "set.test\nmore.test\n")
        eq(c.api("PUT", "/providers/rules/set").status, 204)
        eq([chains("set.test"), chains("more.test")], [["up2"], ["up2"]], "workers that were not replaced may still ask")
        c.inst.copy()
        upgraded(c, True)
        eq([chains("set.test"), chains("more.test"), chains("x.up.test")], [["up2"], ["up2"], ["up"]])
        c.write("set.txt", "less.test\n")
        eq(c.api("PUT", "/providers/rules/set").status, 204)
        eq(chains("less.test"), ["up2"])


def test_streams_end_with_1001():
    with installed() as c:
        ws = WebSocket(c.port["ctl"], "/traffic")
        ws.json()
        upgraded(c, True)
        while True:
            op, data = ws.frame()
            if op != 1:
                break
        eq((op, int.from_bytes(data[:2], "big")), (8, 1001))
        ws.close()
        ws = WebSocket(c.port["ctl"], "/traffic")
        ws.json()
        ws.close()


def test_signals_and_requests_meanwhile():
    """SIGHUP, reloads and a second upgrade at any moment: each is answered truly, and the service lives."""
    with installed() as c:
        out, why = [], []

        def ups():
            for _ in range(6):
                r = upgrade(c, True)
                out.append(("upgrade", r.status))
                if r.status == 500:
                    why.append(r.json["message"])
        ts = [threading.Thread(target=ups) for _ in range(2)]
        ts += [threading.Thread(target=lambda: [out.append(("reload", c.api("PUT", "/configs", {"path": "", "payload": ""}, timeout=60).status)) for _ in range(6)])]
        ts += [threading.Thread(target=lambda: [c.signal(signal.SIGHUP) or time.sleep(0.03) for _ in range(20)])]
        for t in ts:
            t.start()
        for t in ts:
            t.join()
        eq({x for x in out} <= {("upgrade", 200), ("upgrade", 503), ("reload", 204)}, True, "%s %s" % (out, why))
        eq(("upgrade", 200) in out, True, str(out))
        c.held(HOST, lib.servers.port["echo"]).close()
        until(lambda: c.cli("status").stdout.count("worker") == 2, 10)
        upgraded(c, True)


def test_a_crash_during_and_after():
    with installed() as c:
        t = threading.Thread(target=lambda: [kill(p, signal.SIGKILL) for p in c.pids("worker")[:1]])
        t.start()
        r = upgrade(c, True)
        t.join()
        eq(r.status in (200, 500, 503), True, repr(r))
        until(lambda: len(c.serving()) == 2, 5)
        for role in ("worker", "controller"):
            kill(c.pids(role)[-1], signal.SIGKILL)
            until(lambda: len(c.serving()) == 2 and c.up(), 5, "it is back")
        c.held(HOST, lib.servers.port["echo"]).close()


def test_an_ordinary_user():
    if os.getuid() != 0:
        raise lib.Skip("only root can be another")
    with installed(user=lib.NOBODY) as c:
        with load(c, 2):
            upgraded(c, True)


def test_under_a_service_manager():
    """The watchdog is fed on, the manager knows the same pid, and its store is good for a crash of the new supervisor."""
    from integration.test_systemd import Service
    was, inst = lib.PROGRAM, Install()
    try:
        lib.PROGRAM = os.path.join(inst.dir, "sluice")
        with Service(watchdog=2) as c:
            m = c.manager
            until(lambda: len(m.times("WATCHDOG")) >= 2, 10)
            names = m.names()
            h = c.held(HOST, lib.servers.port["echo"])
            for _ in range(3):
                upgraded(c, True)
            eq(set(m.all("MAINPID")), {str(c.proc.pid)})
            n = len(m.times("WATCHDOG"))
            until(lambda: len(m.times("WATCHDOG")) >= n + 3, 10, "the watchdog is fed")
            t = m.times("WATCHDOG")
            eq(max(b - a for a, b in zip(t, t[1:])) < 1.6 * lib.SLOW, True, "the gaps of the watchdog")
            eq(names <= m.names(), True, "the store: %s" % (names - m.names()))
            pong(h)
            h.close()
            c.crash()
            c.start()
            c.wait_log("after a crash of the supervisor")
            c.held(HOST, lib.servers.port["echo"]).close()
            upgraded(c, True)
    finally:
        lib.PROGRAM = was
        shutil.rmtree(inst.dir, ignore_errors=True)


# ---- what does not come up
def test_a_worker_that_cannot_run_is_refused():
    with installed() as c:
        c.inst.put("libexec/sluice-worker", b"#!/bin/sh\nexit 1\n")
        r = untouched(c, lambda: upgrade(c))
        eq((r.status, "do not pass their test" in r.json["message"]), (500, True), r.json["message"])
        eq(c.log().count("the supervisor is replaced"), 0)
        c.inst.copy()
        upgraded(c)


def test_a_supervisor_that_cannot_take_over_is_refused():
    with installed() as c:
        c.inst.put("sluice", b"#!/bin/sh\ncase \"$*\" in *-t) exit 0;; esac\necho cannot\nexit 1\n")
        r = untouched(c, lambda: upgrade(c))
        eq((r.status, "does not take over" in r.json["message"], "cannot" in r.json["message"]), (500, True, True), r.json["message"])
        eq(c.log().count("the supervisor is replaced"), 0)


def test_a_configuration_that_the_new_ones_refuse():
    with installed() as c:
        c.write("config.yaml", c.config + "rules: ['MATCH,nobody']\n")
        r = untouched(c, lambda: upgrade(c, True))
        eq((r.status, "test of the configuration" in r.json["message"]), (500, True), r.json["message"])


def rolled_back(name):
    with installed() as c:
        version_before = version(c)["sluice"]
        c.inst.copy(c.inst.other("X"))
        c.inst.wrap(name, 1)
        with load(c, 2):
            r = untouched_but_controller(c, name, lambda: upgrade(c))
        eq((r.status, "rolled back" in r.json["message"]), (500, True), r.json["message"])
        v = version(c)
        eq((v["sluice"], "rolled back" in v.get("upgrade", "")), (version_before, True), str(v))
        # the supervisor is the one from before too; and the next good build works
        eq(c.cli("status").stdout.split()[1].rstrip(","), version_before)
        c.inst.copy(c.inst.other("Y"))
        upgraded(c)
        eq((version(c)["sluice"], "upgrade" in version(c)), (c.inst.other("Y"), False))


def test_a_supervisor_that_cannot_read_the_state_hands_it_back():
    """Its check said that it could: the one before is executed again, and nobody notices."""
    with installed() as c:
        with open(lib.PROGRAM, "rb") as f:
            data = f.read()
        eq(b"sluiceUP" in data, True)
        c.inst.put("broken", data.replace(b"sluiceUP", b"sluiceUQ"))
        c.inst.copy(c.inst.other("X"))
        c.inst.wrap("sluice", 2, os.path.join(c.inst.dir, "broken"))
        with load(c, 2):
            r = untouched(c, lambda: upgrade(c))
        eq((r.status, "could not take over" in r.json["message"]), (500, True), r.json["message"])
        eq("could not take over" in version(c)["upgrade"], True)
        eq(c.proc.poll(), None)
        c.inst.copy()
        upgraded(c, True)


def untouched_but_controller(core, name, fn):
    """The controller may have been replaced and put back before the workers failed; everything else is as before."""
    if "controller" in name:
        return untouched(core, fn)
    held, before = Held(core, HOST, lib.servers.port["echo"]), sorted(core.pids("worker"))
    out = fn()
    until(lambda: sorted(core.pids("worker")) == before, 5, "the workers are those from before")
    held.check()
    held.s.close()
    return out


def test_a_worker_that_does_not_come_up_is_rolled_back():
    rolled_back("libexec/sluice-worker")


def test_a_controller_that_does_not_come_up_is_rolled_back():
    rolled_back("libexec/sluice-controller")


def test_workers_that_crash_in_their_first_minute_are_rolled_back():
    with installed() as c:
        before = version(c)["sluice"]
        c.inst.copy(c.inst.other("X"))
        upgraded(c)
        h = Held(c, HOST, lib.servers.port["echo"])
        for _ in range(3):
            eq(version(c)["sluice"], c.inst.other("X"))
            until(lambda: len(c.serving()) == 2, 5)
            pid = until(lambda: in_service(c), 5, "a controller serves")
            kill(pid, signal.SIGKILL)
            until(lambda: in_service(c) not in (None, pid), 5, "another one serves")
        until(lambda: c.up() and version(c)["sluice"] == before, 10, "the programs before are back")
        until(lambda: "failed three times" in version(c).get("upgrade", ""), 10, "it says why")
        h.check()
        h.s.close()
