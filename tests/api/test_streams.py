# SPDX-License-Identifier: MIT
"""/traffic, /memory, /logs and /connections as streams: plain and WebSocket, their pace, their manners, many of them."""
import re
import time

import lib
from lib import BASE, Stream, WebSocket, eq, until

CONFIG = BASE + """
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
rules:
  - MATCH,up
"""


def test_traffic(core):
    s = Stream(core, "/traffic")
    t = time.monotonic()
    f = [s.next(), s.next()]
    took = time.monotonic() - t
    eq([list(x)[:2] for x in f], [["up", "down"]] * 2)
    eq(sorted(f[0]), ["down", "downTotal", "up", "upTotal"])
    eq(1.0 < took < 3.5, True, "two frames in %g s" % took)
    eq((s.r.headers["Content-Type"], s.r.headers["Transfer-Encoding"]), ("application/json", "chunked"))
    s.close()


def test_traffic_counts(core):
    w = core.ws("/traffic")
    first = w.json()
    eq(len(core.fetch("http://a.test/bytes/300000").body), 300000)
    frames = [w.json() for _ in range(3)]
    eq(frames[-1]["downTotal"] - first["downTotal"] >= 300000, True)
    eq(sum(f["down"] for f in frames) >= 300000, True, str(frames))
    w.close()


def test_memory(core):
    w = core.ws("/memory")
    a, b = w.json(), w.json()
    eq((list(a), a["inuse"], a["oslimit"], b["inuse"] > 1000000, b["oslimit"]), (["inuse", "oslimit"], 0, 0, True, 0))
    w.close()


def test_frames_end_with_a_line_feed(core):
    w = core.ws("/traffic")
    op, data = w.frame()
    eq((op, data[-2:]), (1, b"}\n"))
    eq(set(w.headers.keys()) & {"Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Access-Control-Allow-Origin"}, set())
    w.close()


def line_for(next_, host):
    while True:
        f = next_()
        if host in (f.get("payload") or f.get("message")):
            return f


def test_logs(core):
    s = Stream(core, "/logs?level=info")
    eq(s.status, 200)                                       # the head is there before any event
    core.fetch("http://logged.test/hello")
    f = line_for(s.next, "logged.test")
    eq(list(f), ["type", "payload"])
    eq(f["type"], "info")
    eq(bool(re.fullmatch(r"\[TCP\] 127\.0\.0\.1:\d+ --> logged\.test:80 match Match using up", f["payload"])), True, f["payload"])
    s.close()


def test_logs_structured(core):
    w = core.ws("/logs?format=structured&level=info")
    core.fetch("http://logged.test/hello")
    f = line_for(w.json, "logged.test")
    eq(list(f), ["time", "level", "message", "fields"])
    eq((f["level"], f["fields"], bool(re.fullmatch(r"\d\d:\d\d:\d\d", f["time"]))), ("info", [], True))
    w.close()


def test_logs_structured_spells_warn(core):
    w = core.ws("/logs?format=structured&level=warning")
    try:
        core.socks(lib.HOST, lib.servers.port["closed"], timeout=3)
    except lib.Refused:
        pass
    try:
        lib.pong(core.socks("x.test", 1))
    except (OSError, EOFError):
        pass
    core.api("PUT", "/configs", {"payload": core.config + "\nno-such-key: 1\n"})
    eq(w.json()["level"], "warn")
    w.close()
    core.api("PUT", "/configs?force=true", {"path": "", "payload": ""})


def test_logs_level_is_the_subscribers_own(core):
    eq(core.api("PATCH", "/configs", {"log-level": "silent"}).status, 204)
    w, quiet = core.ws("/logs?level=debug"), core.ws("/logs?level=error", seconds=1)
    time.sleep(0.3)
    core.fetch("http://own.test/hello")
    line_for(w.json, "own.test")
    try:
        eq(quiet.frame(), "nothing")
    except TimeoutError:
        pass
    eq("own.test" in core.log(), False)
    eq(core.api("PATCH", "/configs", {"log-level": "debug"}).status, 204)
    w.close()
    quiet.close()


def test_logs_bad_level(core):
    for level in ("loud", "INFO", "warn", "trace"):
        core.api("GET", "/logs?level=" + level).error(400, "Body invalid")
        eq(core.ws("/logs?level=" + level).status, 400, level)
    for level in ("", "silent"):
        w = core.ws("/logs?level=" + level)
        eq(w.status, 101, level)
        w.close()


def test_connections_ws(core):
    t = time.monotonic()
    w = core.ws("/connections?interval=200")
    first = w.json()
    eq(time.monotonic() - t < 0.9 * lib.SLOW, True, "the first frame comes at once")
    eq(list(first), ["downloadTotal", "uploadTotal", "connections", "memory"])
    for _ in range(4):
        w.json()
    eq(0.6 < time.monotonic() - t < 2.5 * lib.SLOW, True, "five frames at 200 ms")
    s = core.held("shown.test", 4101)
    until(lambda: [c for c in w.json()["connections"] or [] if c["metadata"]["host"] == "shown.test"])
    s.close()
    w.close()


def test_connections_interval_is_checked(core):
    for bad in ("abc", "1.5", "-", "99999999999999999999", "10x"):
        eq(core.ws("/connections?interval=" + bad).status, 400, bad)
    for n in ("0", "-5", "1"):
        w = core.ws("/connections?interval=" + n)
        eq(w.status in (101, 400), True, n)
        if w.status == 101:                                 # clamped, never a storm
            t = time.monotonic()
            frames = 0
            while time.monotonic() - t < 0.5:
                w.json()
                frames += 1
            eq(frames <= 12, True, "%d frames in half a second at interval %s" % (frames, n))
        w.close()
    eq(core.api("GET", "/connections?interval=abc").status, 200)


def test_ping_and_close(core):
    w = core.ws("/logs?level=error")
    w.send(9, b"are you there")
    eq(w.frame(), (10, b"are you there"))
    w.send(1, b"text is ignored")
    w.send(9, b"")
    eq(w.frame(), (10, b""))
    w.send(8, b"\x03\xe8bye")
    op, data = w.frame()
    eq((op, data[:2]), (8, b"\x03\xe8"))
    eq(w.frame()[0], None)
    w.close()


def test_bad_frames_end_the_client_only(core):
    for op, data, how in ((9, b"x" * 126, {}), (1, b"unmasked", {"mask": False}), (3, b"", {}), (1, b"x" * 100000, {}), (8, b"\x00", {}), (9, b"", {"fin": False})):
        w = core.ws("/logs?level=error")
        try:
            w.send(op, data, **how)
            f = w.frame()
            eq(f[0] in (8, None), True, "%r answered by %r" % ((op, how), f))
        except ConnectionError:
            pass
        w.close()
    eq(core.api("GET", "/version").status, 200)


def test_handshake_errors(core):
    for change, status, word in (({"Sec-WebSocket-Version": "12"}, 426, "Version"), ({"Sec-WebSocket-Version": None}, 400, "Version"),
                                 ({"Sec-WebSocket-Key": "short"}, 400, "Key"), ({"Sec-WebSocket-Key": None}, 400, "Key"), ({"Connection": "close"}, 400, "Connection")):
        w = WebSocket(core.port["ctl"], "/traffic", headers=change)
        eq((w.status, w.headers["Content-Type"]), (status, "text/plain; charset=utf-8"), str(change))
        eq(word in w.body.decode(), True, w.body.decode())
        eq(w.headers["Sec-WebSocket-Version"], "13" if status == 426 else None)
    w = WebSocket(core.port["ctl"], "/traffic", token=None, headers={"Authorization": "Bearer test-secret", "Upgrade": "WebSocket"})
    eq(w.status, 101)
    w.close()


def test_stream_after_a_call_on_one_connection(core):
    with core.connect() as s:
        auth = b"Host: x\r\nAuthorization: Bearer test-secret\r\n\r\n"
        s.sendall(b"GET /version HTTP/1.1\r\n" + auth + b"GET /traffic HTTP/1.1\r\n" + auth)
        data = b""
        while b"upTotal" not in data:
            data += s.recv(65536)
        eq((data.count(b"HTTP/1.1 200"), b'"meta":true' in data), (2, True))


def test_200_clients(core):
    ws = [core.ws("/connections?interval=1000") for _ in range(100)] + [core.ws("/traffic") for _ in range(100)]
    for _ in range(2):
        for w in ws:
            w.json()
    t = time.monotonic()
    eq(core.api("GET", "/version").status, 200)
    eq(time.monotonic() - t < 1 * lib.SLOW, True)
    for w in ws:
        w.close()


def test_a_client_that_does_not_read_hurts_nobody(core):
    dead = [core.ws("/connections?interval=100") for _ in range(5)]
    held = [core.held("x%d.test" % i, 4102) for i in range(30)]
    w = core.ws("/traffic")
    for _ in range(3):
        w.json()
    for s in held:
        s.close()
    for d in dead + [w]:
        d.close()


def test_streams_go_on_over_a_reload(core):
    streams = [core.ws("/traffic"), core.ws("/connections"), core.ws("/memory")]
    plain = Stream(core, "/traffic")
    eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
    for s in streams:
        s.json()
        s.json()
        s.close()
    plain.next()
    plain.next()
    plain.close()
