#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""5,000 nodes in 3 providers and 200 groups: tests/bench/groups.py [PROGRAM]

Measures, with everything on 127.0.0.1 and ports of its own: the start until the API answers, GET /proxies, the memory of all processes, and a
full health check: how long it takes, that it keeps to its budget (16 at once, 100 a second), and what it does to the latency of an open
connection and of new ones. Latencies with and without the check are taken in turns of the same run, for a machine is never quiet. Exit status
1 when a goal is missed; figures of a busy machine mean little."""
import asyncio
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HOST = "127.0.0.1"
NODES, GROUPS, REGIONS = 5000, 200, 48
GOALS = {"start ms": 300, "GET /proxies ms": 30, "GET /proxies ms, all tested": 30, "memory MB": 40, "memory MB, all tested": 40,
         "tests at once": 16, "tests in a second": 101 + 16, "p99 of a round trip, with / without": 2, "p99 of a new connection, with / without": 2}


def far_end(port, seen):
    """A SOCKS5 server that answers every request on every connection with 204: what nodes and their targets are. seen: now, most at once,
    all, most in a second. A test is in flight from its connection to its last answer: that the far end then closes is seen here later."""
    async def serve(reader, writer):
        waiting = True
        seen[0] += 1
        seen[1] = max(seen[1], seen[0])
        seen[2] += 1
        now = int(time.monotonic())
        seen[5] = seen[5] + 1 if seen[4] == now else 1
        seen[4] = now
        seen[3] = max(seen[3], seen[5])
        try:
            n = (await reader.readexactly(2))[1]
            await reader.readexactly(n)
            writer.write(b"\x05\x00")
            kind = (await reader.readexactly(4))[3]
            await reader.readexactly((await reader.readexactly(1))[0] + 2 if kind == 3 else 6)
            writer.write(b"\x05\x00\x00\x01\0\0\0\0\0\0")
            while await reader.readuntil(b"\r\n\r\n"):
                seen[0] += not waiting
                seen[1] = max(seen[1], seen[0])
                await asyncio.sleep(0.02)
                seen[0] -= 1
                waiting = False
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError):
            pass
        seen[0] -= waiting
        writer.close()

    async def main():
        await (await asyncio.start_server(serve, HOST, port, backlog=4096)).serve_forever()
    asyncio.run(main())


def echo(port):
    async def serve(reader, writer):
        try:
            while data := await reader.read(4096):
                writer.write(data)
        except OSError:
            pass
        writer.close()

    async def main():
        await (await asyncio.start_server(serve, HOST, port, backlog=4096)).serve_forever()
    asyncio.run(main())


def free_port():
    with socket.socket() as s:
        s.bind((HOST, 0))
        return s.getsockname()[1]


def configuration(ports):
    out = ["mixed-port: %(mixed)d\nexternal-controller: 127.0.0.1:%(ctl)d\nlog-level: warning\nproxy-providers:" % ports]
    for p in range(3):
        out.append("  p%d: {type: file, path: ./p%d.yaml, health-check: {enable: true, url: 'http://t.test/204', interval: 3600}}" % (p, p))
    out.append("proxy-groups:")
    for i in range(GROUPS):
        kind = ("select", "url-test", "fallback", "load-balance")[i % 4]
        some = "" if i < 8 else ", filter: '^R%02d '" % (i % REGIONS)
        out.append("  - {name: G%03d, type: %s, use: [p0, p1, p2], url: 'http://t.test/204', interval: 3600%s}" % (i, kind, some))
    out.append("rules: ['MATCH,DIRECT']\n")
    return "\n".join(out)


def provider(p, port):
    lines = ["proxies:"]
    for i in range(p, NODES, 3):
        lines.append("  - {name: 'R%02d node %04d | premium', type: socks5, server: 127.0.0.1, port: %d, "
                     "udp: true, interface-name: ''}" % (i % REGIONS, i, port))
    return "\n".join(lines) + "\n"


def api(ctl, path):
    c = http.client.HTTPConnection(HOST, ctl, timeout=120)
    c.request("GET", path)
    r = c.getresponse()
    body = r.read()
    c.close()
    return r.status, body


def memory(pid):
    """MB of a process and its children: private memory, and what is shared once, by proportional set size."""
    pids, total = [pid], 0
    for p in pids:
        with open("/proc/%d/task/%d/children" % (p, p)) as f:
            pids += [int(x) for x in f.read().split()]
        with open("/proc/%d/smaps_rollup" % p) as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    return total / 1024


def cpu_ms(pid):
    """Of a process, its children, and those of them that have ended."""
    pids, total = [pid], 0
    for p in pids:
        with open("/proc/%d/task/%d/children" % (p, p)) as f:
            pids += [int(x) for x in f.read().split()]
        with open("/proc/%d/stat" % p) as f:
            v = f.read().rpartition(")")[2].split()
        total += sum(int(x) for x in v[11:15])
    return total * 1000 / os.sysconf("SC_CLK_TCK")


def dial(mixed, port):
    s = socket.create_connection((HOST, mixed), 10)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(b"\x05\x01\x00\x05\x01\x00\x01" + socket.inet_aton(HOST) + struct.pack("!H", port))
    got = b""
    while len(got) < 12:
        got += s.recv(64)
    return s


def round_trip(s):
    s.sendall(b"x" * 64)
    n = 0
    while n < 64:
        n += len(s.recv(64))


def traffic(mixed, port, seconds, held):
    """Latencies in ms of round trips on an open connection, and of new connections with one round trip."""
    trips, fresh, end = [], [], time.monotonic() + seconds
    while time.monotonic() < end:
        t = time.perf_counter()
        round_trip(held)
        trips.append(time.perf_counter() - t)
        t = time.perf_counter()
        with dial(mixed, port) as s:
            round_trip(s)
            fresh.append(time.perf_counter() - t)
        time.sleep(0.002)
    return trips, fresh


def p99(v):
    return sorted(v)[int(len(v) * 0.99)] * 1000


def timed(fn, n=20):
    out = []
    for _ in range(n):
        t = time.perf_counter()
        fn()
        out.append((time.perf_counter() - t) * 1000)
    return sorted(out)[n // 2]


def measure(program, where, ports, seen, figures):
    began = time.monotonic()
    core = subprocess.Popen([program, "-d", where], stdin=subprocess.DEVNULL, stdout=open(where + "/log", "w"), stderr=subprocess.STDOUT)
    try:
        while True:
            try:
                if api(ports["ctl"], "/version")[0] == 200:
                    break
            except OSError:
                if core.poll() is not None or time.monotonic() - began > 30:
                    raise SystemExit("it does not start:\n" + open(where + "/log").read()[-2000:])
                time.sleep(0.002)
        figures["start ms"] = (time.monotonic() - began) * 1000
        figures["start CPU ms"] = cpu_ms(core.pid)
        held = dial(ports["mixed"], ports["echo"])
        time.sleep(1)
        figures["GET /proxies ms"] = timed(lambda: api(ports["ctl"], "/proxies"))
        figures["memory MB"] = memory(core.pid)
        while seen[2] < NODES and time.monotonic() - began < 180:       # the check after the start
            time.sleep(0.2)
        figures["first full check s"] = time.monotonic() - began
        with_check, without = ([], []), ([], [])
        for p in range(3):                                              # in turns: quiet, then a provider's nodes
            for store, check in ((without, False), (with_check, True)):
                asked = None
                if check:
                    asked = http.client.HTTPConnection(HOST, ports["ctl"], timeout=120)
                    asked.request("GET", "/providers/proxies/p%d/healthcheck" % p)
                    time.sleep(0.3)
                got = traffic(ports["mixed"], ports["echo"], 10, held)
                store[0].extend(got[0])
                store[1].extend(got[1])
                if asked:
                    asked.getresponse().read()
        for i, what in enumerate(("a round trip", "a new connection")):
            figures["p99 ms of %s, quiet" % what] = p99(without[i])
            figures["p99 ms of %s, checking" % what] = p99(with_check[i])
            figures["p99 of %s, with / without" % what] = p99(with_check[i]) / p99(without[i])
        figures["tests at once"], figures["tests in a second"] = seen[1], seen[3]
        figures["GET /proxies ms, all tested"] = timed(lambda: api(ports["ctl"], "/proxies"))
        all_ = json.loads(api(ports["ctl"], "/proxies")[1])["proxies"]
        figures["MB of GET /proxies"] = len(api(ports["ctl"], "/proxies")[1]) / 1e6
        nodes = [p for p in all_.values() if p["type"] == "Socks5"]
        figures["nodes tested and alive"] = sum(1 for p in nodes if p["alive"] and p["history"])
        figures["memory MB, all tested"] = memory(core.pid)
    finally:
        core.terminate()
        core.wait()


def main():
    program = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", "..", "build", "sluice"))
    where = tempfile.mkdtemp(prefix="sluice-bench-")
    ports = {name: free_port() for name in ("mixed", "ctl", "far", "echo")}
    seen = multiprocessing.Array("q", 6, lock=False)
    helpers = [multiprocessing.Process(target=far_end, args=(ports["far"], seen), daemon=True),
               multiprocessing.Process(target=echo, args=(ports["echo"],), daemon=True)]
    figures = {}
    for h in helpers:
        h.start()
    with open(where + "/config.yaml", "w") as f:
        f.write(configuration(ports))
    for p in range(3):
        with open(where + "/p%d.yaml" % p, "w") as f:
            f.write(provider(p, ports["far"]))
    try:
        measure(program, where, ports, seen, figures)
    finally:
        for h in helpers:
            h.terminate()
        shutil.rmtree(where)
    missed = figures["nodes tested and alive"] != NODES
    for name, value in figures.items():
        goal = GOALS.get(name)
        missed |= goal is not None and value > goal
        print("%-45s %9.2f%s" % (name, value, "" if goal is None else "   <= %g%s" % (goal, "" if value <= goal else "  MISSED")))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
