# SPDX-License-Identifier: MIT
"""kill -9 of a worker, the controller and a loader under load: only what that process held is lost, and it is back within a second."""
import os
import signal
import threading
import time

import lib
from lib import BASE, HOST, Core, Threads, eq, kill, pong, until

CONFIG = BASE + """
sluice: {workers: 2}
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
  - {name: up2, type: socks5, server: 127.0.0.1, port: $s_socks}
proxy-groups:
  - {name: Pick, type: select, proxies: [up, up2]}
rules:
  - DOMAIN,first.test,up
  - MATCH,Pick
"""
TIMEOUT = 60


def sockets(pid):
    """Inodes of the sockets that a process has open."""
    out = set()
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            name = os.readlink("/proc/%d/fd/%s" % (pid, fd))
        except OSError:
            continue
        if name.startswith("socket:["):
            out.add(name[8:-1])
    return out


def owners(held, pids):
    """For each worker, those of the client sockets that it accepted. What the kernel lists may be long: it is read once for all
    of them, and again when one was passed over because others came or went meanwhile."""
    ours = {"%04X %04X" % (s.getpeername()[1], s.getsockname()[1]): s for s in held}
    of = {inode: p for p in pids for inode in sockets(p)}

    def look():
        found = {}
        with open("/proc/net/tcp") as f:
            for line in f:
                x = line.split(maxsplit=10)
                s = ours.get(x[1][-4:] + " " + x[2][-4:])
                if s is not None and x[9] in of:
                    found[s] = of[x[9]]
        return found if len(found) == len(held) else None
    found = until(look, 5, "the sockets of the connections")
    return {p: [s for s in held if found[s] == p] for p in pids}


def test_kill_a_worker(core):
    if os.getuid() != 0:
        raise lib.Skip("only root can see whose a socket is")
    core.api("PUT", "/proxies/Pick", {"name": "up2"})
    core.api("PATCH", "/rules/disable", {"0": True})
    until(lambda: len(core.serving()) == 2)
    pids = core.serving()
    held = [core.held("a.test", 4101) for _ in range(60)]
    mine = owners(held, pids)
    eq(all(mine.values()), True, "both workers accept: %s" % {p: len(v) for p, v in mine.items()})
    victim, other = pids
    t = time.monotonic()
    kill(victim, signal.SIGKILL)
    for s in mine[victim]:
        eq(lib.ended(s) in ("end", "reset"), True)
    for s in mine[other]:
        pong(s)
    until(lambda: len(core.serving()) == 2 and victim not in core.serving(), 3, "it is back")
    eq(time.monotonic() - t < 1.5 * lib.SLOW, True, "it took %.1f s" % (time.monotonic() - t))
    for s in mine[other]:
        pong(s)
        s.close()
    # a new worker knows what was changed while the old one lived
    eq(core.get("/proxies/Pick")["now"], "up2")
    for _ in range(20):
        s = core.held("first.test", 4102)
        eq(core.one(sourcePort=str(s.getsockname()[1]))["chains"], ["up2", "Pick"])
        s.close()
    core.api("PATCH", "/rules/disable", {"0": False})


def test_kill_workers_under_load(core):
    """New connections: those in the dead worker's hands may fail, later ones not."""
    bad = []

    def once():
        try:
            core.held("a.test", 4103).close()
        except (OSError, EOFError, lib.Refused):
            bad.append(time.monotonic())
    ts = Threads(4, once)
    kills = []
    for _ in range(3):
        time.sleep(0.7)
        kills.append(time.monotonic())
        kill(core.serving()[0], signal.SIGKILL)
    time.sleep(2)
    eq(ts.stop()[:3], [])
    late = [b for b in bad if min((b - k for k in kills if b >= k), default=9) > 1.5 * lib.SLOW]
    eq((late, len(bad) < 100), ([], True), "%d failed" % len(bad))
    until(lambda: len(core.serving()) == 2, 10)


def test_kill_the_lead_keeps_the_api(core):
    until(lambda: len(core.serving()) == 2, 10)
    s = core.held("a.test", 4104)
    kill(core.serving()[0], signal.SIGKILL)
    until(lambda: core.api("GET", "/proxies").status == 200, 3)
    until(lambda: len(core.serving()) == 2, 10)
    s.close()
    eq(core.get("/configs")["mode"], "rule")


def test_a_generation_that_keeps_crashing_is_rolled_back():
    with Core(CONFIG) as core:
        before = [r["payload"] for r in core.get("/rules")["rules"]]
        eq("rollback" in core.get("/version"), False)
        text = core.fill(CONFIG).replace("first.test", "poison.test")
        eq(core.api("PUT", "/configs", {"payload": text}).status, 204)
        eq([r["payload"] for r in core.get("/rules")["rules"]] != before, True)
        for _ in range(3):
            pids = until(lambda: (lambda p: p if len(p) == 2 else None)(core.serving()), 8, "two workers serve")
            kill(pids[0], signal.SIGKILL)
            until(lambda: pids[0] not in core.serving(), 5, "it is gone")
        until(lambda: [r["payload"] for r in core.get("/rules")["rules"]] == before, 10, "the configuration before is back")
        eq("failed 3 times in its first" in core.get("/version")["rollback"], True)
        eq(core.api("POST", "/restart").status, 200)
        eq("rollback" in core.get("/version"), True, "a restart changes no configuration")
        eq(core.api("PUT", "/configs", {"path": "", "payload": ""}).status, 204)
        eq("rollback" in core.get("/version"), False, "another configuration has come")


def test_the_api_waits_for_the_only_worker():
    """Questions while it is away are answered by the next one."""
    with Core(CONFIG.replace("workers: 2", "workers: 1")) as c:
        for _ in range(3):
            kill(c.pids("worker")[0], signal.SIGKILL)
            for path in ("/configs", "/proxies", "/rules", "/connections"):
                eq(c.api("GET", path).status, 200, path)


def test_kill_the_heirs():
    """What an old worker could not give yet goes to whoever comes after its heir."""
    with Core(CONFIG) as c:
        ss = [lib.socks_hello(c.port["socks"]) for _ in range(20)]
        eq(c.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
        for p in c.serving():
            kill(p, signal.SIGKILL)
        until(lambda: len(c.serving()) == 2, 5, "they are back")
        for s in ss:
            lib.socks_command(s, 1, "a.test", 4104)
            pong(s)
        until(lambda: sorted(c.pids("worker")) == sorted(c.serving()), 3, "only the serving workers are left")
        for s in ss:
            pong(s)
            s.close()


def test_a_port_outlives_its_only_worker_and_an_old_one():
    """The old generation ends while the only worker of the new one is dead: nobody has the ports but the supervisor, and they stay."""
    with Core(CONFIG.replace("workers: 2", "workers: 1")) as c:
        for _ in range(3):
            s = lib.socks_hello(c.port["socks"])           # keeps the old worker until it is closed
            eq(c.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
            first = c.serving()
            kill(first[0], signal.SIGKILL)
            until(lambda: c.serving() not in ([], first), 5)
            kill(c.serving()[0], signal.SIGKILL)           # its successor is put off
            s.close()
            for _ in range(20):
                c.held("a.test", 4106, "mixed").close()
            until(lambda: sorted(c.pids("worker")) == sorted(c.serving()), 3, "only the serving workers are left")


def test_kill_a_worker_that_is_being_given_to():
    """kill -9 of new workers at any moment of the hand-over: what they had not taken yet comes back and goes to the next ones."""
    with Core(CONFIG) as c:
        lost = 0
        for i in range(6):
            ss = [c.held("a.test", 4105) for _ in range(150)]
            old = c.serving()
            t = threading.Thread(target=lambda: c.api("PUT", "/configs?force=true", {"path": "", "payload": ""}, timeout=60))
            t.start()
            until(lambda: any(p not in old for p in c.pids("worker")), 3)
            time.sleep(0.01 * i)
            new = [p for p in c.pids("worker") if p not in old]
            if new:
                kill(new[0], signal.SIGKILL)
            t.join()
            until(lambda: len(c.serving()) == 2, 10, "two serve")
            until(lambda: sorted(c.pids("worker")) == sorted(c.serving()), 5, "only the serving workers are left")
            for s in ss:
                try:
                    pong(s)
                except (OSError, EOFError):
                    lost += 1
                s.close()
        eq(lost <= 6 * 100, True, "lost %d of 900: more than the killed ones can have held" % lost)


def test_kill_the_controller(core):
    s = core.held("a.test", 4105)
    ident = core.one(sourcePort=str(s.getsockname()[1]))["id"]
    old = core.pids("controller")

    def once():
        core.held("a.test", 4106).close()
    ts = Threads(3, once)
    t = time.monotonic()
    kill(old[0], signal.SIGKILL)

    def back():
        try:
            return core.api("GET", "/version", timeout=2).status == 200
        except OSError:
            return False
    until(back, 3, "the API is back")
    eq(time.monotonic() - t < 1.5 * lib.SLOW, True, "it took %.1f s" % (time.monotonic() - t))
    eq(ts.stop()[:3], [], "the proxy did not notice")
    pong(s)
    eq(core.one(sourcePort=str(s.getsockname()[1]))["id"], ident)
    eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
    pong(s)
    s.close()
    eq(core.pids("controller") != old, True)


def test_kill_the_loader(core):
    """A reload whose loader dies says so; nothing else changes."""
    big = core.config + "".join("# %060d\n" % i for i in range(30000)) + "x:\n" + "".join("  - {a: [1, 2, 3], b: %d}\n" % i for i in range(40000))
    out = []
    before = core.get("/configs")
    for _ in range(5):
        t = threading.Thread(target=lambda: out.append(core.api("PUT", "/configs", {"payload": big}, timeout=40).status))
        t.start()
        end = time.monotonic() + 3
        while time.monotonic() < end and t.is_alive():
            for p in core.pids("loader"):
                kill(p, signal.SIGKILL)
        t.join()
        if out[-1] != 204:
            break
    eq(out[-1] in (204, 500), True, str(out))
    eq(core.get("/configs"), before)
    core.held("a.test", 4107).close()
    eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)


def test_a_worker_that_stops_is_replaced():
    """SIGSTOP: it acknowledges nothing; a change still comes through and the others serve."""
    with Core(CONFIG) as c:
        pids = c.serving()
        os.kill(pids[-1], signal.SIGSTOP)
        try:
            r = c.api("PATCH", "/configs", {"mode": "global"}, timeout=40)
            eq(r.status in (204, 500, 503), True, repr(r))
            until(lambda: len(c.serving()) == 2 and pids[-1] not in c.serving(), 20, "it is replaced")
        finally:
            kill(pids[-1], signal.SIGCONT)
        eq(c.get("/configs")["mode"], "global")
