# SPDX-License-Identifier: MIT
"""Requests that are wrong on purpose: smuggling, slow and greedy clients, rubbish."""
import os
import socket
import struct
import threading
import time

import lib
from lib import BASE, HOST, eq, read_all, response

CONFIG = BASE + "rules:\n  - MATCH,DIRECT\n"
TIMEOUT = 60
AUTH = b"Host: x\r\nAuthorization: Bearer test-secret\r\n"
INNER = b"GET /configs HTTP/1.1\r\n" + AUTH + b"\r\n"


def alive(core):
    eq(core.api("GET", "/version").status, 200, "alive")


def test_smuggling(core):
    """Where two readers could disagree about the end of a request it is refused and the connection closed: the inner request is never answered."""
    for fields, body in ((b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello" + INNER), (b"Content-Length: 5, 5\r\n", b"hello" + INNER),
                         (b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + INNER), (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n" + INNER),
                         (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n" + INNER), (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n" + INNER),
                         (b"Content-Length: +5\r\n", b"hello" + INNER), (b"Content-Length: -1\r\n", INNER), (b"Content-Length: 0x5\r\n", b"hello" + INNER),
                         (b"Content-Length:\r\n 5\r\n", b"hello" + INNER), (b"X: a\r\n folded\r\n", INNER), (b"Content-Length: 5\n", b"hello" + INNER),
                         (b"Transfer-Encoding: chunked\r\n", b"5\nhello\r\n0\r\n\r\n" + INNER), (b"Transfer-Encoding: chunked\r\n", b"-1\r\n\r\n" + INNER),
                         (b"Transfer-Encoding: chunked\r\n", b"FFFFFFFFFFFFFFFFF\r\nx" + INNER), (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + INNER),
                         (b"Content-Length: 99999999999999999999\r\n", INNER), (b"Host: y\r\n", INNER), (b"Bad Header: x\r\n", INNER), (b": x\r\n", INNER), (b"X\x00Y: x\r\n", INNER)):
        data = core.raw(b"PATCH /configs HTTP/1.1\r\n" + AUTH + fields + b"\r\n" + body, seconds=1)
        eq((data.count(b"HTTP/1.1"), response(data)[0] >= 400, b"mixed-port" in data), (1, True, False), "%r -> %r" % (fields, data[:300]))
    alive(core)


def test_chunked_bodies(core):
    body = b'{"mode":"rule"}'
    chunks = b"".join(b"%x;ext=1\r\n%c\r\n" % (1, c) for c in body) + b"0\r\nTrailer: x\r\n\r\n"
    data = core.raw(b"PATCH /configs HTTP/1.1\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + INNER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    eq((data.startswith(b"HTTP/1.1 204"), data.count(b"HTTP/1.1 "), b"mixed-port" in data), (True, 2, True))


def test_expect_continue(core):
    with core.connect() as s:
        s.sendall(b"PATCH /configs HTTP/1.1\r\n" + AUTH + b"Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
        s.settimeout(2)
        eq(s.recv(100).startswith(b"HTTP/1.1 100"), True)
        s.sendall(b"{}")
        eq(response(read_all(s))[0], 204)


def test_bad_requests(core):
    for line in (b"GET\r\n", b"GET /\r\n", b"GET / HTTP/2.0\r\n", b"GET / HTTP/1.1 x\r\n", b"G\x01T / HTTP/1.1\r\n", b" GET / HTTP/1.1\r\n", b"GET  / HTTP/1.1\r\n", b"GET /\x00 HTTP/1.1\r\n",
                 b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", b"\x00" * 50 + b"\r\n", b"GET /a b HTTP/1.1\r\n"):
        data = core.raw(line + AUTH + b"\r\n", seconds=1)
        eq(response(data)[0] >= 400 or data in (b"", b"<reset>"), True, "%r -> %r" % (line, data[:100]))
    data = core.raw(b"GET /version HTTP/1.1\r\nAuthorization: Bearer test-secret\r\n\r\n", seconds=1)
    eq(response(data)[0], 400, "no Host")
    alive(core)


def test_long_heads(core):
    for head in (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n" + AUTH, b"GET / HTTP/1.1\r\n" + AUTH + b"X: " + b"a" * 70000 + b"\r\n",
                 b"GET / HTTP/1.1\r\n" + AUTH + b"".join(b"X%d: 1\r\n" % i for i in range(2000))):
        data = core.raw(head + b"\r\n", seconds=1)
        eq(response(data)[0] in (400, 414, 431) or data.endswith(b"<reset>"), True, repr(data[:80]))
    with core.connect() as s:           # a head that never ends does not grow for ever
        try:
            for _ in range(100):
                s.sendall(b"X-Pad: " + b"a" * 10000 + b"\r\n")
                time.sleep(0.001)
            eq(read_all(s, 1) != b"", True)
        except ConnectionError:
            pass
    alive(core)


def test_big_bodies(core):
    for path, method, size in (("/configs", "PUT", 9 << 20), ("/configs", "PATCH", 2 << 20), ("/proxies/GLOBAL", "PUT", 2 << 20)):
        data = core.raw(b"%s %s HTTP/1.1\r\n" % (method.encode(), path.encode()) + AUTH + b"Content-Length: %d\r\n\r\n" % size, seconds=1)
        eq(response(data)[0], 413, "%s %s" % (method, path))
    data = core.raw(b"PATCH /configs HTTP/1.1\r\n" + AUTH + b"Content-Length: 9999999999999\r\n\r\n", seconds=1)
    eq(response(data)[0], 413)
    with core.connect() as s:           # the same in chunks, where the size is not said before
        got = b""
        try:
            s.sendall(b"PATCH /configs HTTP/1.1\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(64):
                s.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        except ConnectionError:
            pass
        got = read_all(s, 1)
        eq(response(got)[0] in (413, 0), True, repr(got[:80]))
    text = "mixed-port: %d\nsecret: %s\n#" % (core.port["mixed"], "x" * 10)
    eq(core.api("PUT", "/configs", {"payload": text + "y" * (4 << 20)}).status, 204, "a payload of 4 MiB")
    eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
    alive(core)


def test_a_401_does_not_need_the_body(core):
    data = core.raw(b"PUT /configs HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n\r\n", seconds=1)
    eq(response(data)[0], 401)


def test_slow_clients(core):
    """300 clients that never finish their head take nothing from the others, and are ended."""
    slow = [core.connect() for _ in range(300)]
    for i, s in enumerate(slow):
        s.sendall(b"GET /version HTTP/1.1\r\n" if i % 2 else b"PUT /storage/x HTTP/1.1\r\n" + AUTH + b"Content-Length: 100\r\n\r\n{")
    t = time.monotonic()
    for _ in range(20):
        eq(core.api("GET", "/version").status, 200)
    eq(time.monotonic() - t < 4 * lib.SLOW, True)
    data = read_all(slow[1], 13)
    eq(response(data)[0] in (0, 408), True, "ended after the head's time limit: %r" % data)
    eq(lib.ended(slow[1], 0.5) != "open", True)
    for s in slow:
        s.close()


def test_clients_that_vanish(core):
    for request in (b"GET /version HTTP/1.1\r\n" + AUTH + b"\r\n", b"GET /connections HTTP/1.1\r\n" + AUTH, b"GET /traffic HTTP/1.1\r\n" + AUTH + b"\r\n", b"",
                    b"PUT /configs?force=true HTTP/1.1\r\n" + AUTH + b"Content-Length: 2\r\n\r\n{}", b"GET /proxies/DIRECT/delay?timeout=5000&url=http%3A%2F%2F127.0.0.1%3A9 HTTP/1.1\r\n" + AUTH + b"\r\n"):
        for _ in range(15):
            s = core.connect()
            s.sendall(request)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
    alive(core)


def test_rubbish(core):
    for _ in range(60):
        core.raw(os.urandom(500) + b"\r\n\r\n", seconds=0.05)
    alive(core)


def test_many_connections(core):
    many = [core.connect() for _ in range(600)]
    alive(core)
    for s in many[::50]:
        s.sendall(b"GET /version HTTP/1.1\r\n" + AUTH + b"\r\n")
        eq(s.recv(12), b"HTTP/1.1 200")
    for s in many:
        s.close()


def test_parallel_calls(core):
    out = []

    def work():
        for path in ("/version", "/configs", "/proxies", "/rules", "/connections", "/group", "/providers/proxies"):
            for _ in range(10):
                out.append(core.api("GET", path).status)
    ts = [threading.Thread(target=work) for _ in range(12)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    eq((len(out), set(out)), (840, {200}))
