# SPDX-License-Identifier: MIT
"""UDP sessions and what stands around them: a session moves with its socket over reloads, restarts, another number of workers and the death of
a worker that is not its own; nothing is lost on a kept port, and the remote sees one source port throughout."""
import http.client
import select
import signal
import socket
import struct
import threading
import time

import lib
from lib import BASE, HOST, Core, Udp, eq, kill, until

CONFIG = BASE + """
sluice: {workers: 2}
dns: {enable: true, nameserver: ["127.0.0.1:$s_dns"]}
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $upstream, udp: true}
tunnels:
  - {network: [udp], address: "127.0.0.1:$tunnel", target: "127.0.0.1:$echo", proxy: DIRECT}
rules:
  - IP-CIDR,127.0.0.2/32,up,no-resolve
  - MATCH,DIRECT
"""
TIMEOUT = 120
BACK = {"path": "", "payload": ""}
RELOADS, RESTARTS, PAUSE = 20, 5, 0.1


def reload(core):
    r = core.api("PUT", "/configs?force=true", BACK, timeout=60)
    eq((r.status, r.body), (204, b""))


def restart(core):
    eq(core.api("POST", "/restart", timeout=60).status, 200)


class EchoUDP:
    """Sends back what comes and remembers from where; SOCKS5 datagrams as they are."""
    def __init__(self, port=0):
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.s.bind((HOST, port))
        self.port, self.peers = self.s.getsockname()[1], {}
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                data, peer = self.s.recvfrom(65536)
                self.peers.setdefault(data[-8:-4], set()).add(peer)
                self.s.sendto(data, peer)
        except OSError:
            pass

    def close(self):
        self.s.close()


class Upstream:
    """A SOCKS5 server for UDP ASSOCIATE; counts its control connections."""
    def __init__(self, port):
        self.echo, self.controls = EchoUDP(), []
        self.s = socket.create_server((HOST, port))
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                c, _ = self.s.accept()
                c.settimeout(3 * lib.SLOW)
                c.recv(64)
                c.sendall(b"\x05\x00")
                c.recv(300)
                c.sendall(b"\x05\x00\x00\x01" + socket.inet_aton(HOST) + struct.pack("!H", self.echo.port))
                self.controls.append(c)
        except OSError:
            pass

    def close(self):
        self.s.close()
        self.echo.close()
        for c in self.controls:
            c.close()


class Flow(threading.Thread):
    """Ping-pong by the clock: one datagram every 1/rate s, numbered; answers are counted as they come. to: hosts in turn,
    and a port. tag: 4 bytes that the echo knows it by."""
    def __init__(self, core, to, tag, rate=1000, via="socks", raw=False):
        super().__init__(daemon=True)
        self.udp = None if raw else Udp(core.port[via])
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM) if raw else self.udp.s
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.s.settimeout(0)
        self.poll = select.poll()
        self.poll.register(self.s, select.POLLIN)
        self.heads = [b""] if raw else [b"\0\0\0" + lib.address(host) + struct.pack("!H", to[-1]) for host in to[:-1]]
        self.at = (HOST, core.port[via]) if raw else self.udp.relay
        self.tag, self.gap, self.sent, self.seen, self.stop_now = tag, 1 / rate, 0, set(), threading.Event()
        self.start()

    def run(self):
        due = time.monotonic()
        while not self.stop_now.is_set():
            self.take(due - time.monotonic())
            if time.monotonic() >= due:
                self.s.sendto(self.heads[self.sent % len(self.heads)] + self.tag + struct.pack("!I", self.sent), self.at)
                self.sent += 1
                due = max(due + self.gap, time.monotonic() - 0.05)
        end = time.monotonic() + 1 * lib.SLOW
        while len(self.seen) < self.sent and time.monotonic() < end:
            self.take(0.05)

    def take(self, wait):
        if wait > 0 and not self.poll.poll(wait * 1000):
            return
        try:
            while True:
                d = self.s.recv(65536)
                if d[-8:-4] == self.tag:
                    self.seen.add(d[-4:])
        except BlockingIOError:
            pass

    def end(self):
        self.stop_now.set()
        self.join()
        if self.udp:
            self.udp.close()
        else:
            self.s.close()
        return self.sent - len(self.seen)


class World:
    """The echo, the upstream, and a core whose rules lead to them."""
    def __init__(self, config=CONFIG):
        self.core = Core(config, start=False)
        self.core.fill("$echo $upstream")
        self.echo, self.up = EchoUDP(self.core.port["echo"]), Upstream(self.core.port["upstream"])

    def __enter__(self):
        self.core.start()
        return self

    def __exit__(self, *e):
        self.core.__exit__(*e)
        self.echo.close()
        self.up.close()

    def flows(self, direct=4, through=2, tunnel=2, rate=1000):
        n, e = [0], self.echo.port

        def make(to, **kw):
            n[0] += 1
            return Flow(self.core, to, b"f%03d" % n[0], rate / (direct + through + tunnel), **kw)
        hosts = ((HOST,), ("one.test", HOST, "two.test"))
        return [make((*hosts[i // 2 % 2], e), via=("socks", "mixed")[i % 2]) for i in range(direct)] + [make(("127.0.0.2", e)) for _ in range(through)] + \
            [make(None, via="tunnel", raw=True) for _ in range(tunnel)]

    def check(self, flows):
        """Nothing lost; one source port each at the remote."""
        lost = [f.end() for f in flows]
        eq((sum(lost), min(f.sent for f in flows) > 20), (0, True), "lost %s of %s" % (lost, [f.sent for f in flows]))
        peers = {**self.echo.peers, **self.up.echo.peers}
        eq([len(peers[f.tag]) for f in flows], [1] * len(flows), "source ports at the remote")


def test_one_flow_at_full_rate():
    """1000 packets a second over 20 reloads and 5 restarts."""
    with World() as w:
        f = w.flows(direct=1, through=0, tunnel=0, rate=1000)
        for _ in range(RELOADS):
            reload(w.core)
            time.sleep(PAUSE)
        for _ in range(RESTARTS):
            restart(w.core)
            time.sleep(PAUSE)
        w.check(f)


def test_many_flows():
    with World() as w:
        fs = w.flows()
        time.sleep(0.3)
        ids = {c["id"] for c in w.core.connections(network="udp")}
        for _ in range(RELOADS):
            reload(w.core)
        for _ in range(RESTARTS):
            restart(w.core)
        until(lambda: {c["id"] for c in w.core.connections(network="udp")} == ids, 2, "the same sessions are listed")
        eq(len(w.up.controls), 2, "associations at the upstream")
        # nothing holds the old processes
        until(lambda: sorted(w.core.pids("worker")) == sorted(w.core.serving()), 5, "only the serving workers are left")
        w.check(fs)


def test_the_number_of_workers_changes():
    """A session goes to the worker that has its slot in the new generation."""
    with World() as w:
        fs = w.flows(rate=400)
        time.sleep(0.2)
        for n in (1, 3, 2, 4, 1, 2):
            eq(w.core.api("PUT", "/configs?force=true", {"payload": w.core.config.replace("workers: 2", "workers: %d" % n)}, timeout=60).status, 204)
            eq(len(w.core.serving()), n)
            time.sleep(0.1)
        w.check(fs)


def test_the_control_connection_lives_on():
    with World() as w:
        u = Udp(w.core.port["socks"])
        eq(u.ask(HOST, w.echo.port, b"12345678"), b"12345678")
        for _ in range(3):
            reload(w.core)
            eq(u.ask(HOST, w.echo.port, b"12345678"), b"12345678")
        eq(lib.ended(u.tcp, 0.3), "open")
        until(lambda: sorted(w.core.pids("worker")) == sorted(w.core.serving()), 5, "only the serving workers are left")
        u.close()


def test_idle_sessions_are_closed_by_id():
    with World() as w:
        u = Udp(w.core.port["socks"])
        eq(u.ask(HOST, w.echo.port, b"12345678"), b"12345678")
        c = w.core.one(network="udp")
        reload(w.core)
        after = w.core.one(network="udp")
        for k in ("id", "start", "chains", "rule", "rulePayload", "metadata", "upload", "download"):
            eq(after[k], c[k], k)
        eq(w.core.api("DELETE", "/connections/" + c["id"]).status, 204)
        until(lambda: not w.core.connections(network="udp"))
        u.close()


def test_many_idle_sessions():
    """2,000 at once: the pause is short enough for a flow beside them."""
    with World() as w:
        us = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2000)]
        for s in us:
            s.sendto(b"12345678", (HOST, w.core.port["tunnel"]))
        until(lambda: len(w.core.connections(network="udp")) == 2000, 5)
        fs = w.flows(rate=500)
        for _ in range(5):
            reload(w.core)
            time.sleep(PAUSE)
        until(lambda: len(w.core.connections(network="udp")) == 2000 + len(fs), 15)
        time.sleep(1)
        w.check(fs)
        for s in us:
            s.settimeout(1)
            eq(s.recv(100), b"12345678")
            s.close()


# ---- a worker dies
def accepted_within(core, seconds, n=200):
    """The slowest of n proxied connections, each with a round trip."""
    worst = 0
    for i in range(n):
        t = time.monotonic()
        try:
            core.held(HOST, lib.servers.port["echo"], "mixed").close()
        except (OSError, EOFError, lib.Refused):
            eq(i, 0, "a connection failed")   # the first may have been in the dying worker's hands
        worst = max(worst, time.monotonic() - t)
        if t > seconds:
            break
    return worst


def two_without(core, victim):
    now = core.serving()                # asked once: between two answers it may end
    return len(now) == 2 and victim not in now


def test_new_connections_do_not_wait_for_a_dead_worker():
    """kill -9, again and again, so that the start of the next one is put off: connections are accepted at once all the same."""
    with Core(CONFIG) as c:
        until(lambda: len(c.serving()) == 2)
        worst = []
        for i in range(6):
            victim = [p for p in c.serving()][-1] if i % 2 else [p for p in c.serving()][0]
            kill(victim, signal.SIGKILL)
            worst.append(accepted_within(c, 0.3, 40))
            until(lambda: two_without(c, victim), 15, "it is back")
        eq(max(worst) < 0.05 * lib.SLOW, True, "slowest: %s" % worst)


def test_sessions_of_a_stand_in_go_back():
    """Flows begun while a worker is dead stay whole when its successor takes its slots."""
    with World(CONFIG) as w:
        until(lambda: len(w.core.serving()) == 2, 15)
        for _ in range(3):              # the back-off gives time
            victim = w.core.serving()[1]
            kill(victim, signal.SIGKILL)
            until(lambda: two_without(w.core, victim), 15)
        at = len(w.core.log())
        kill(w.core.serving()[1], signal.SIGKILL)
        time.sleep(0.03)
        eq(len(w.core.serving()), 1, "still away")
        fs = w.flows(direct=8, through=2, tunnel=2)
        until(lambda: all(f.seen for f in fs), 1, "all are answered")
        eq(len(w.core.serving()), 1, "still away")
        w.core.wait_log("worker \\d+\\.1 serves", 15, at)
        time.sleep(0.3)
        w.check(fs)


# ---- HTTP clients between two requests
def test_an_idle_http_client_loses_no_request():
    """A request on a connection kept alive by a worker that drains is served by it; the answer says that it was the last."""
    with Core(CONFIG) as core:
        cs = []
        for _ in range(8):
            c = http.client.HTTPConnection(HOST, core.port["http"], timeout=5)
            c.request("GET", "http://127.0.0.1:%d/hello" % lib.servers.port["origin"])
            eq(c.getresponse().read(), b"hello\n")
            cs.append((c, c.sock))
        reload(core)
        reload(core)
        time.sleep(0.5)
        for c, sock in cs:
            eq(c.sock is sock, True, "the connection is open")
            c.request("GET", "http://127.0.0.1:%d/bytes/100000" % lib.servers.port["origin"])
            eq(c.sock is sock, True, "the same connection")
            r = c.getresponse()
            eq((r.status, len(r.read()), r.headers.get("Connection")), (200, 100000, "close"))
            c.close()
        until(lambda: sorted(core.pids("worker")) == sorted(core.serving()), 5, "only the serving workers are left")
