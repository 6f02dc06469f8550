# SPDX-License-Identifier: MIT
"""What a relay must keep: bytes, their order, half closes, resets, counters, and memory that idle connections do not take."""
import hashlib
import os
import socket
import struct
import threading
import time

import lib
from lib import BASE, HOST, ended, eq, pattern, pong, read_n, until

CONFIG = BASE + """
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
  - {name: tls, type: socks5, server: 127.0.0.1, port: $s_socks_tls, tls: true, skip-cert-verify: true}
rules:
  - DOMAIN-SUFFIX,up.test,up
  - DOMAIN-SUFFIX,tls.test,tls
  - MATCH,DIRECT
"""
TIMEOUT = 90
WAYS = (("127.0.0.1", "echo"), ("a.up.test", 4101), ("a.tls.test", 4101))      # the TLS server of asyncio knows no half close


def target(host, port):
    return host, lib.servers.port[port] if isinstance(port, str) else port


def both_ways(s, data):
    """Sends data and reads its echo at once; returns the size and digest of what came."""
    t = threading.Thread(target=lambda: s.sendall(data))
    t.start()
    h, n = hashlib.sha256(), 0
    while n < len(data) and (d := s.recv(1 << 20)):
        h.update(d)
        n += len(d)
    t.join()
    return n, h.hexdigest()


def test_20_mb_both_ways(core):
    data = pattern(20_000_000)
    want = (len(data), hashlib.sha256(data).hexdigest())
    for way in WAYS:
        s = core.socks(*target(*way), timeout=30)
        eq(both_ways(s, data), want, way[0])
        s.close()


def test_eight_at_once(core):
    data = pattern(5_000_000)
    want = (len(data), hashlib.sha256(data).hexdigest())
    out = []
    ts = [threading.Thread(target=lambda w=w: out.append(both_ways(core.socks(*target(*w), timeout=60), data))) for w in WAYS[:2] * 4]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    eq(out, [want] * 8)


def test_sizes_around_buffers(core):
    s = core.socks(*target(*WAYS[0]))
    for n in (1, 2, 1023, 4095, 4096, 4097, 16383, 16384, 16385, 32768, 65535, 65536, 65537, 131073):
        pong(s, os.urandom(n))
    s.close()


def test_half_close(core):
    for way in WAYS[:2]:
        s = core.socks(*target(*way))
        s.sendall(b"last words")
        s.shutdown(socket.SHUT_WR)
        eq(read_n(s, 10), b"last words")
        eq(ended(s), "end", way[0])
        s.close()
    until(lambda: not core.connections())


def test_half_close_by_the_remote(core):
    """The remote ends first; what the client still sends goes through."""
    with socket.create_server((HOST, 0)) as server:
        s = core.socks(HOST, server.getsockname()[1])
        r, _ = server.accept()
        r.settimeout(5)
        r.sendall(b"bye")
        r.shutdown(socket.SHUT_WR)
        eq(read_n(s, 3), b"bye")
        eq(ended(s), "end")
        s.sendall(b"still talking")
        eq(read_n(r, 13), b"still talking")
        s.close()
        eq(ended(r), "end")
        r.close()


def linger_reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def test_reset_reaches_the_client(core):
    s = core.socks(HOST, lib.servers.port["reset"])
    pong(s)
    s.sendall(b"reset")
    eq(ended(s), "reset")
    s.close()


def test_reset_reaches_the_remote(core):
    with socket.create_server((HOST, 0)) as server:
        s = core.socks(HOST, server.getsockname()[1])
        r, _ = server.accept()
        s.sendall(b"x")
        eq(r.recv(1), b"x")
        linger_reset(s)
        eq(ended(r), "reset")
        r.close()


def test_reset_in_bulk(core):
    """A reset while much is in flight ends the connection and nothing else."""
    for _ in range(20):
        s = core.socks(*target(*WAYS[0]))
        s.sendall(pattern(300_000))
        linger_reset(s)
    until(lambda: not core.connections(), 5)
    core.held(*target(*WAYS[0])).close()


def test_a_reader_that_stops_holds_back_the_sender(core):
    """Back-pressure: what nobody reads is not piled up."""
    with socket.create_server((HOST, 0)) as server:
        s = core.socks(HOST, server.getsockname()[1])
        r, _ = server.accept()
        s.settimeout(1)
        sent = 0
        try:
            while sent < 200_000_000:
                sent += s.send(b"z" * 65536)
        except TimeoutError:
            pass
        eq(sent < 40_000_000, True, "%d bytes were taken that nobody reads" % sent)
        r.settimeout(5)
        got = 0
        while got < sent:
            got += len(r.recv(1 << 20))
        eq(got, sent)
        s.close()
        r.close()


def test_idle_connections_stay(core):
    ss = [core.held(*target(*w)) for w in WAYS]
    time.sleep(6)
    for s in ss:
        pong(s)
        s.close()


def test_2000_held_connections(core):
    port = lib.servers.port["echo"]
    held = []
    for _ in range(2000):
        held.append(core.held(HOST, port))
    cs = core.connections(destinationPort=str(port))
    eq((len(cs), len({c["id"] for c in cs}), {(c["upload"], c["download"]) for c in cs}), (2000, 2000, {(2, 2)}))
    for s in held[::100]:
        pong(s)
    memory = core.get("/connections")["memory"]
    eq(memory < 200 << 20, True, "memory %d" % memory)
    before = core.get("/connections")
    for s in held[:1000]:
        s.close()
    until(lambda: len(core.connections(destinationPort=str(port))) == 1000, 5, "1000 are gone")
    eq(core.get("/connections")["uploadTotal"], before["uploadTotal"])
    eq(core.api("DELETE", "/connections").status, 204)
    until(lambda: not core.connections(), 5)
    for s in held[1000:]:
        eq(ended(s) in ("end", "reset"), True)
        s.close()


def test_bursts_of_connections(core):
    port = lib.servers.port["echo"]

    def work():
        for _ in range(100):
            core.held(HOST, port).close()
    ts = [threading.Thread(target=work) for _ in range(8)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    until(lambda: not core.connections(), 5)


def test_descriptors_are_given_back(core):
    def fds():
        return sum(len(os.listdir("/proc/%d/fd" % p)) for p in core.tree())
    until(lambda: not core.connections())
    core.held(*target(*WAYS[0])).close()
    time.sleep(0.3)
    before = fds()
    for w in WAYS * 50:
        s = core.held(*target(*w))
        s.close()
    until(lambda: not core.connections(), 5)
    until(lambda: fds() <= before + 8, 5, "descriptors are as before (%d)" % before)
