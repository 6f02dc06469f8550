# SPDX-License-Identifier: MIT
"""The DNS server and the workers' questions over reloads, restarts and another number of workers: no question is lost, on UDP, on TCP, by the API's
DoH and by connections that need a name; fake addresses stay, and nobody asks twice for what he knows."""
import socket
import struct
import time

import lib
from lib import BASE, HOST, Threads, eq

CONFIG = BASE.replace("log-level: debug", "log-level: info") + """
ipv6: false
external-doh-server: /dns-query
sluice: {workers: 3}
dns:
  enable: true
  listen: 127.0.0.1:$dns
  enhanced-mode: fake-ip
  fake-ip-filter: ["+.real.test"]
  nameserver: ["127.0.0.1:$s_dns"]
  default-nameserver: ["127.0.0.1:$s_dns"]
rules: ["MATCH,DIRECT"]
"""
TIMEOUT = 120
RELOADS, RESTARTS, PAUSE = 10, 2, 0.1
count = iter(range(1 << 30))


def reload(core):
    eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}, timeout=60).status, 204)


def restart(core):
    eq(core.api("POST", "/restart", timeout=60).status, 200)


class Udp:
    """A client with one socket; a question is asked once, and its answer must come within a second."""
    def __init__(self, core, name):
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.connect((HOST, core.port["dns"]))
        self.s.settimeout(1 * lib.SLOW)
        self.name, self.worst = name, 0

    def __call__(self):
        q = lib.dns_question(self.name() if callable(self.name) else self.name)
        began = time.monotonic()
        self.s.send(q)
        while self.s.recv(4096)[:2] != q[:2]:
            pass
        self.worst = max(self.worst, time.monotonic() - began)


def many(core):
    """What may happen to them while they ask is what is tested."""
    def tcp():
        eq(core.dns("known.real.test", tcp=True), (0, HOST))

    def doh():
        r = core.api("POST", "/dns-query", raw=lib.dns_question("doh.real.test", number=b"\0\0"), auth=False,
                     headers={"Content-Type": "application/dns-message"})
        eq((r.status, r.body[3] & 15), (200, 0))

    def connect():
        core.held("n%d.real.test" % next(count), lib.servers.port["echo"]).close()
    clients = [Udp(core, "known.real.test"), Udp(core, "fake.test"), Udp(core, lambda: "u%d.real.test" % next(count)),
               Udp(core, lambda: "f%d.test" % (next(count) % 5000))]
    return [Threads(1, c) for c in clients] + [Threads(1, f) for f in (tcp, doh, connect, connect)], clients


def test_under_load(core):
    fake = core.dns("fake.test")
    threads, clients = many(core)
    time.sleep(0.2)
    for i in range(RELOADS):
        reload(core)
        time.sleep(PAUSE)
    for i in range(RESTARTS):
        restart(core)
        time.sleep(PAUSE)
    for n in (1, 4, 3):
        core.write("config.yaml", core.config.replace("workers: 3", "workers: %d" % n))
        reload(core)
        time.sleep(PAUSE)
    for t in threads:
        eq(t.stop(), [])
    eq(min(sum(t.rounds) for t in threads) > 20, True, "%s" % [sum(t.rounds) for t in threads])
    eq(core.dns("fake.test"), fake, "its address")
    print("# questions %s, slowest %.0f ms" % ([sum(t.rounds) for t in threads], max(c.worst for c in clients) * 1000), flush=True)


def test_an_old_worker_still_resolves(core):
    """A connection that an old worker is still setting up gets its name resolved, although its generation has been replaced."""
    socks = [lib.socks_hello(core.port["socks"]) for _ in range(12)]
    for s in socks:
        s.sendall(b"\x05\x01\x00" + lib.address("slow%d.real.test" % id(s)) + struct.pack("!H", lib.servers.port["echo"]))
    time.sleep(0.1)
    reload(core)
    for s in socks:
        eq(lib.read_n(s, 10)[1], 0, "the answer of SOCKS")
        lib.pong(s)
        s.close()
