# SPDX-License-Identifier: MIT
"""sluice.worker-memory-limit: a worker that is nearly full refuses what is new and keeps what it has; one that is over it is replaced live."""
import socket
import time

import lib
from lib import BASE, HOST, Core, eq, pong, until

LIMIT = """
sluice: {workers: 1, worker-memory-limit: 4MiB}
rules: ['MATCH,DIRECT']
"""
TIMEOUT = 60
HEAD = b"GET http://127.0.0.1/ HTTP/1.1\r\nX: "


class Heavy:
    """HTTP clients whose heads do not end: each costs the worker as much as was sent."""
    def __init__(self, core):
        self.core, self.all = core, []

    def add(self, n, size):
        for _ in range(n):
            try:
                s = socket.create_connection((HOST, self.core.port["http"]), 5)
            except ConnectionResetError:         # refused as early as that
                continue
            s.settimeout(5)
            self.all.append(s)
            self.grow(s, size)

    def grow(self, s, size):
        try:
            s.sendall(HEAD + b"y" * size)
        except OSError:
            pass

    def close(self):
        for s in self.all:
            s.close()


def refused(core):
    """A new connection is closed without an answer."""
    try:
        with core.connect("http") as s:
            s.sendall(b"GET http://127.0.0.1:%d/hello HTTP/1.1\r\nHost: x\r\n\r\n" % lib.servers.port["origin"])
            return lib.read_all(s, 1) in (b"", b"<reset>")
    except OSError:
        return True


def test_new_connections_are_refused_and_old_ones_kept():
    with Core(BASE + LIMIT) as c:
        held = [c.held(HOST, lib.servers.port["echo"]) for _ in range(20)]
        h = Heavy(c)
        h.add(200, 30000)
        until(lambda: refused(c), 5, "they are refused")
        c.wait_log("worker-memory-limit\\): new connections are refused")
        c.wait_log("connection from 127.0.0.1 refused: sluice.worker-memory-limit is nearly reached")
        for s in held:
            pong(s)
        eq(c.get("/version")["meta"], True)
        h.close()
        until(lambda: not refused(c), 5, "they are taken again")
        c.wait_log("new connections are taken again", 5)
        for s in held:
            pong(s)
            s.close()


def test_a_worker_over_the_limit_is_replaced():
    """By hand-over: what can move does, with its identity; the rest ends in the old process."""
    with Core(BASE + LIMIT) as c:
        held = [c.held(HOST, lib.servers.port["echo"]) for _ in range(20)]
        u = lib.Udp(c.port["socks"])
        eq(u.ask(HOST, lib.servers.port["udp"], b"one"), b"one")
        ids = {x["id"] for x in c.connections()}
        time.sleep(10.5)                 # a younger one is not replaced
        old = c.serving()
        h = Heavy(c)
        h.add(200, 10)
        for s in h.all:
            h.grow(s, 30000)
        until(lambda: c.serving() and c.serving() != old, 8, "it is replaced")
        c.wait_log("\\(sluice.worker-memory-limit\\): it is replaced")
        for s in held:
            pong(s)
        eq(u.ask(HOST, lib.servers.port["udp"], b"two", tries=1), b"two")
        until(lambda: {x["id"] for x in c.connections()} == ids, 2, "the same connections are listed")
        until(lambda: not refused(c), 3, "the new one takes connections")
        eq(c.get("/configs")["mode"], "rule")       # it is the lead now, although the other lives
        eq(c.api("PATCH", "/configs", {"mode": "direct"}).status, 204)
        h.close()
        until(lambda: c.pids("worker") == c.serving(), 5, "the old one ends")
        u.close()


def test_a_limit_that_is_no_size():
    for v in ("5", "1M", "many", "[1]"):
        status, text = lib.check_config(BASE + "sluice: {worker-memory-limit: %s}\n" % v)
        eq((status, "worker-memory-limit" in text), (1, True), text)
