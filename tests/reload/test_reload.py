# SPDX-License-Identifier: MIT
"""Reload, restart and SIGHUP: no connection is refused, reset or lost; what cannot work changes nothing and says why."""
import hashlib
import signal
import socket
import threading
import time

import lib
from lib import BASE, HOST, Core, Threads, Udp, ended, eq, pattern, pong, until

CONFIG = BASE + """
dns: {enable: true, nameserver: ["127.0.0.1:$s_dns"], default-nameserver: ["127.0.0.1:$s_dns"]}
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks, udp: true}
  - {name: up2, type: http, server: 127.0.0.1, port: $s_http}
  - {name: tls, type: socks5, server: 127.0.0.1, port: $s_socks_tls, tls: true, skip-cert-verify: true}
proxy-groups:
  - {name: Pick, type: select, proxies: [up, up2]}
listeners:
  - {name: extra, type: mixed, port: $extra, listen: 127.0.0.1}
# $other
rules:
  - DOMAIN-SUFFIX,tls.test,tls
  - DOMAIN-SUFFIX,up.test,up
  - IP-CIDR,127.0.0.0/8,DIRECT,no-resolve
  - MATCH,Pick
"""
TIMEOUT = 120
BACK = {"path": "", "payload": ""}
RELOADS, RESTARTS, PAUSE = 20, 5, 0.1          # s between two


def reload(core):
    eq(core.api("PUT", "/configs?force=true", BACK, timeout=60).status, 204)


def restart(core):
    r = core.api("POST", "/restart", timeout=60)
    eq((r.status, r.body), (200, b'{"status":"ok"}\n'))


def churn(core, during, workers=4):
    """Opens connections without a pause while `during` runs; none may fail."""
    echo = lib.servers.port["echo"]

    def once():
        core.held(HOST, echo, "mixed").close()
        core.held("x.up.test", 4101, "extra").close()
        eq(core.fetch("http://x.up.test/hello", "http").body, b"hello\n")
    ts = Threads(workers, once)
    try:
        during()
    finally:
        errors = ts.stop()
    eq(errors[:5], [], "%d failed" % len(errors))
    eq(min(ts.rounds) > 0, True, "rounds: %s" % ts.rounds)


class Held:
    """An open connection that plays ping-pong; its identity and counters must last."""
    def __init__(self, core, host, port, via="socks"):
        self.core, self.s, self.n = core, core.held(host, port, via), 2
        self.key = {"sourcePort": str(self.s.getsockname()[1])}
        self.before = core.one(**self.key)

    def check(self, listed=True):
        pong(self.s, b"ping-pong")
        self.n += 9
        if listed:
            c = self.core.one(**self.key)
            for k in ("id", "start", "chains", "providerChains", "rule", "rulePayload", "metadata"):
                eq(c[k], self.before[k], k)
            until(lambda: [self.core.one(**self.key)[k] for k in ("upload", "download")] == [self.n, self.n], 1, "counters say %d" % self.n)

    def close_by_id(self):
        eq(self.core.api("DELETE", "/connections/" + self.before["id"]).status, 204)
        eq(ended(self.s) in ("end", "reset"), True)
        self.s.close()


def some_held(core):
    echo = lib.servers.port["echo"]
    return [Held(core, HOST, echo), Held(core, "a.up.test", 4101), Held(core, "a.tls.test", 4101), Held(core, "any.test", 4102, "extra"), Held(core, HOST, echo, "mixed")]


def test_nothing_is_refused_in_reloads(core):
    churn(core, lambda: [reload(core) or time.sleep(PAUSE) for _ in range(RELOADS)])


def test_nothing_is_refused_in_restarts(core):
    churn(core, lambda: [restart(core) or time.sleep(PAUSE) for _ in range(RESTARTS)])


def test_nothing_is_refused_in_sighups(core):
    def during():
        for _ in range(5):
            at = len(core.log())
            core.signal(signal.SIGHUP)
            core.wait_log("generation \\d+ serves", 10, at)
            time.sleep(0.1)
    churn(core, during)


def test_open_connections_survive(core):
    held = some_held(core)
    for act in [reload] * 6 + [restart] * 3:
        act(core)
        for h in held:
            h.check()
    at = len(core.log())
    core.signal(signal.SIGHUP)
    core.wait_log("generation \\d+ serves", 10, at)
    for h in held:
        h.check()
    for h in held:
        h.close_by_id()
    until(lambda: not core.connections())


def test_many_open_connections_survive(core):
    echo = lib.servers.port["echo"]
    held = [core.held(HOST, echo) for _ in range(400)] + [core.held("a.up.test", 4103) for _ in range(200)]
    ids = {c["id"] for c in core.connections()}
    reload(core)
    restart(core)
    for s in held:
        pong(s)
    eq({c["id"] for c in core.connections()}, ids)
    eq({(c["upload"], c["download"]) for c in core.connections()}, {(6, 6)})
    for s in held:
        s.close()
    until(lambda: not core.connections(), 5)


def test_a_transfer_goes_on(core):
    """20 MB each way while the program is reloaded under it."""
    data = pattern(20_000_000)
    for host, port in ((HOST, lib.servers.port["echo"]), ("a.up.test", 4104), ("a.tls.test", 4104)):
        s = core.socks(host, port, timeout=30)
        t = threading.Thread(target=lambda s=s: [s.sendall(data[i:i + 500_000]) or time.sleep(0.02) for i in range(0, len(data), 500_000)])
        t.start()
        acts = threading.Thread(target=lambda: [f(core) for f in (reload, restart, reload)])
        acts.start()
        h, n = hashlib.sha256(), 0
        while n < len(data) and (d := s.recv(1 << 20)):
            h.update(d)
            n += len(d)
        t.join()
        acts.join()
        eq((n, h.hexdigest()), (len(data), hashlib.sha256(data).hexdigest()), host)
        s.close()


def test_half_closed_connections_survive(core):
    with socket.create_server((HOST, 0)) as server:
        s = core.socks(HOST, server.getsockname()[1])
        r, _ = server.accept()
        r.settimeout(5)
        s.sendall(b"asked")
        s.shutdown(socket.SHUT_WR)
        eq(lib.read_n(r, 5), b"asked")
        eq(r.recv(1), b"")
        reload(core)
        restart(core)
        r.sendall(b"answer")
        r.close()
        eq(lib.read_n(s, 6), b"answer")
        eq(ended(s), "end")
        s.close()


def test_udp_over_a_reload(core):
    u = Udp(core.port["socks"])
    v = Udp(core.port["mixed"])
    for act in (None, reload, restart, reload):
        if act:
            act(core)
        eq(u.ask(HOST, lib.servers.port["udp"], b"direct"), b"direct")
        eq(v.ask("a.up.test", 4105, b"through"), b"through")
    w = Udp(core.port["socks"])
    eq(w.ask(HOST, lib.servers.port["udp"], b"new"), b"new")
    for x in (u, v, w):
        x.close()


def test_udp_datagrams_are_not_lost(core):
    """Paced question and answer while reloading: a lost one would time out."""
    lost, n, stop = [], [0], threading.Event()

    def talk():
        u = Udp(core.port["socks"])
        u.s.settimeout(2 * lib.SLOW)
        while not stop.is_set():
            n[0] += 1
            d = b"%d" % n[0]
            u.send(HOST, lib.servers.port["udp"], d)
            try:
                if u.recv() != d:
                    lost.append("another answer")
            except OSError as e:
                lost.append(type(e).__name__)
            time.sleep(0.002)
        u.close()
    t = threading.Thread(target=talk)
    t.start()
    for _ in range(5):
        reload(core)
        time.sleep(PAUSE)
        restart(core)
        time.sleep(PAUSE)
    stop.set()
    t.join()
    eq((lost, n[0] > 50), ([], True), "of %d" % n[0])


def test_the_api_has_no_gap(core):
    def once():
        for path in ("/version", "/connections", "/proxies", "/rules", "/group"):
            r = core.api("GET", path)
            eq(r.status, 200, "%s %r" % (path, r))
        eq(core.get("/configs")["mixed-port"], core.port["mixed"])
    ts = Threads(4, once)
    for _ in range(6):
        reload(core)
    for _ in range(3):
        restart(core)
    errors = ts.stop()
    eq(errors[:5], [], "%d failed" % len(errors))


def test_concurrent_requests(core):
    """Ten at once: each is answered truly, and they are not ten generations."""
    out = []
    ts = [threading.Thread(target=lambda: out.append(core.api("PUT", "/configs?force=true", BACK, timeout=60).status)) for _ in range(10)]
    ts += [threading.Thread(target=lambda: out.append(core.api("POST", "/restart", timeout=60).status)) for _ in range(3)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    eq(set(out) <= {200, 204}, True, str(out))
    core.held(HOST, lib.servers.port["echo"]).close()


def test_what_was_being_set_up_follows(core):
    """A connection in its handshake cannot move; when it can, its first heir has drained and ended, and the one after that."""
    s = lib.socks_hello(core.port["socks"])
    for _ in range(3):
        reload(core)
        time.sleep(0.2)
    lib.socks_command(s, 1, HOST, lib.servers.port["echo"])
    pong(s)
    until(lambda: sorted(core.pids("worker")) == sorted(core.serving()), 3, "it has moved on: only the serving workers are left")
    for _ in range(8):
        reload(core)
    pong(s)
    s.close()


def test_reloads_without_a_pause_close_nothing(core):
    """More than sluice.max-generations of them, while each still has what it cannot hand over yet."""
    ss = []
    for _ in range(8):
        ss.append(lib.socks_hello(core.port["socks"]))
        reload(core)
    for s in ss[-4:]:
        lib.socks_command(s, 1, HOST, lib.servers.port["echo"])
        pong(s)
    at = len(core.log())
    for _ in range(8):
        reload(core)
    eq("is closed: more than" in core.log()[at:], False)
    for s in ss[-4:]:
        pong(s)
    for s in ss:
        s.close()


def test_a_removed_port_refuses_at_once(core):
    """Also while the old generation drains something that came by it; and it can be had again."""
    s = core.held("a.tls.test", 4101, "extra")
    without = core.config.replace("  - {name: extra, type: mixed, port: %d, listen: 127.0.0.1}" % core.port["extra"], "  - {name: other, type: mixed, port: %d, listen: 127.0.0.1}" % core.port["other"])
    for _ in range(3):
        eq(core.api("PUT", "/configs?force=true", {"payload": without}).status, 204)
        with socket.socket() as c:
            eq(c.connect_ex((HOST, core.port["extra"])) != 0, True, "the port is refused")
        core.held(HOST, lib.servers.port["echo"], "other").close()
        reload(core)
        core.held(HOST, lib.servers.port["echo"], "extra").close()
        with socket.socket() as c:
            eq(c.connect_ex((HOST, core.port["other"])) != 0, True, "the other one is")
    pong(s)
    s.close()


def test_old_generations_end(core):
    for _ in range(4):
        reload(core)
    core.api("DELETE", "/connections")
    until(lambda: sorted(core.pids("worker")) == sorted(core.serving()), 5, "only the serving workers are left")


def test_totals_and_rules_after_a_reload(core):
    before = core.get("/connections")["uploadTotal"]
    s = core.held(HOST, lib.servers.port["echo"])
    reload(core)
    pong(s, b"12345")
    until(lambda: core.get("/connections")["uploadTotal"] >= before + 7)
    s.close()


# ---- what cannot work
def refused(core, status, words, payload):
    held = Held(core, HOST, lib.servers.port["echo"])
    before, workers = core.get("/configs"), core.serving()
    r = core.api("PUT", "/configs?force=true", {"payload": payload}, timeout=60)
    eq(r.status in status, True, repr(r))
    said = "%s line %s column %s" % (r.json["message"], r.json.get("line"), r.json.get("column"))
    for w in words:
        eq(w in said, True, "%r in %r" % (w, r.json))
    eq(core.get("/configs"), before)
    held.check()
    held.s.close()
    core.held("a.up.test", 4106, "extra").close()
    eq(core.serving(), workers)


def test_broken_configurations_change_nothing(core):
    for words, payload in ((["line "], "mode: rule\nmixed-port: [\n"), (["line 2", "nobody"], "rules:\n  - MATCH,nobody\n"), (["line 3", "nobody"], "proxy-groups:\n  - name: g\n    proxies: [nobody]\n    type: select\n"),
                           (["line 1"], "mode: sideways\n"), (["line "], "x: &x [1]\nmixed-port: *x\n"), ([], "\x00\x01\x02"), ([], "a: &a [*a, *a]\n"), (["line 1"], "mixed-port: 70000000000000000000\n")):
        refused(core, (400,), words, payload)


def test_a_busy_port_changes_nothing(core):
    with socket.create_server((HOST, 0)) as other:
        busy = other.getsockname()[1]
        refused(core, (400, 409), [str(busy)], core.config.replace("socks-port: %d" % core.port["socks"], "socks-port: %d" % busy))
        refused(core, (400, 409), [str(busy)], core.config + "tunnels: ['tcp,127.0.0.1:%d,127.0.0.1:1,DIRECT']\n" % busy)


def test_broken_then_good(core):
    for _ in range(5):
        eq(core.api("PUT", "/configs", {"payload": "mode: ["}).status, 400)
        reload(core)
    core.held(HOST, lib.servers.port["echo"]).close()


def test_broken_configurations_under_load(core):
    def during():
        for i in range(10):
            eq(core.api("PUT", "/configs?force=true", {"payload": "rules: ['MATCH,nobody%d']" % i}).status, 400)
            reload(core)
    churn(core, during, 2)


# ---- ports
def test_patch_of_ports_under_load(core):
    """A port that is not touched loses nothing while others come and go."""
    core.fill("$spare1 $spare2")

    def during():
        for i in range(10):
            eq(core.api("PATCH", "/configs", {"redir-port": 0, "socks-port": core.port["spare%d" % (i % 2 + 1)]}).status, 204)
            core.held(HOST, lib.servers.port["echo"], "spare%d" % (i % 2 + 1)).close()
        eq(core.api("PATCH", "/configs", {"socks-port": core.port["socks"]}).status, 204)
    churn(core, during, 2)


def test_a_patch_outlives_a_restart_and_not_a_reload(core):
    eq(core.api("PATCH", "/configs", {"mode": "direct", "log-level": "warning"}).status, 204)
    restart(core)
    eq([core.get("/configs")[k] for k in ("mode", "log-level")], ["direct", "warning"])
    reload(core)
    eq([core.get("/configs")[k] for k in ("mode", "log-level")], ["rule", "debug"])


def test_workers_can_change_their_number():
    with Core(BASE + "sluice: {workers: 1}\nrules: ['MATCH,DIRECT']\n") as c:
        s = c.held(HOST, lib.servers.port["echo"])
        for n in (3, 1, 2):
            def during(n=n):
                eq(c.api("PUT", "/configs?force=true", {"payload": c.config.replace("workers: 1", "workers: %d" % n)}).status, 204)

            def once():
                c.held(HOST, lib.servers.port["echo"]).close()
            ts = Threads(3, once)
            during()
            time.sleep(0.3)
            eq(ts.stop()[:5], [])
            pong(s)
            eq(len(c.serving()), n)
        s.close()
