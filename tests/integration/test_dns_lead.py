# SPDX-License-Identifier: MIT
"""One worker leads for DNS: a name is asked upstream once, whichever worker needs it and however many at once; a flush reaches all; when the lead
is killed another one stands in at once and nobody waits for the next."""
import re
import signal
import struct
import threading
import time

import lib
from lib import BASE, HOST, Core, Threads, eq, kill, until

DNS = "127.0.0.1:$s_dns"
CONFIG = BASE.replace("log-level: debug", "log-level: info") + """
ipv6: false
sluice: {workers: 4}
dns:
  enable: true
  listen: 127.0.0.1:$dns
  enhanced-mode: redir-host
  nameserver: ["%s"]
  default-nameserver: ["%s"]
rules: ["MATCH,DIRECT"]
""" % (DNS, DNS)
FAKE = CONFIG.replace("redir-host", "fake-ip")
TIMEOUT = 60


def asked(name):
    return sum(n == name for n, _ in lib.servers.questions)


def lead(core):
    """The process that is worker 0."""
    return int(until(lambda: re.search(r"worker \d+\.0 +pid (\d+) +serving", core.cli("status").stdout))[1])


def test_asked_once(core):
    """In flight, then cached, from every worker, the DNS server and the API."""
    until(lambda: len(core.serving()) == 4)
    threads = [threading.Thread(target=core.dial_all, args=("slow.once.test",)), threading.Thread(target=core.dns, args=("slow.once.test",))]
    for t in threads:
        t.start()
    eq(core.get("/dns/query?name=slow.once.test")["Status"], 0)
    for t in threads:
        t.join()
    eq(asked("slow.once.test"), 1, "while in flight")
    core.dial_all("slow.once.test")
    eq(core.dns("slow.once.test"), (0, HOST))
    eq(asked("slow.once.test"), 1, "from the caches")


def test_errors_travel(core):
    for name in ("nx.lead.test", "v6.lead.test"):
        for _ in range(8):
            try:
                core.socks(name, lib.servers.port["echo"]).close()
            except lib.Refused:
                continue
            raise AssertionError("a connection to " + name)


def test_flush_reaches_every_worker(core):
    core.dial_all("flushed.test")
    eq(asked("flushed.test"), 1)
    for n in range(2, 5):
        eq(core.api("POST", "/cache/dns/flush").status, 204)
        core.dial_all("flushed.test")
        eq(asked("flushed.test"), n, "after flush %d" % (n - 1))


def test_flush_under_load(core):
    """An answer of before a flush is not kept by a worker that was flushed already: no connection after the flush sees the old one."""
    load = Threads(8, lambda: core.held("loaded.test", lib.servers.port["echo"]).close())
    for _ in range(10):
        eq(core.api("POST", "/cache/dns/flush").status, 204)
        before = asked("loaded.test")
        time.sleep(0.1)
        eq(asked("loaded.test") - before <= 1, True, "asked %d times after one flush" % (asked("loaded.test") - before))
    eq(load.stop(), [])


def test_long_answers_travel(core):
    """More than one message of a channel holds."""
    core.dial_all("huge.lead.test")
    core.dial_all("huge.lead.test")
    eq(asked("huge.lead.test"), 2, "over UDP, then over TCP")
    eq(len(core.get("/dns/query?name=huge.lead.test")["Answer"]), 1500)


def test_stand_in(core):
    """The lead is killed again and again, so that its successors come later and later: the others go on without a failure, the DNS server answers
    meanwhile, and what was in flight is asked again."""
    until(lambda: len(core.serving()) == 4)
    first = lead(core)
    pids = set(core.serving())
    failed, waits, n = [], [], [0]
    stop = threading.Event()

    def client():
        while not stop.is_set():
            n[0] += 1
            began = time.monotonic()
            try:
                eq(core.dns("c%d.lead.test" % n[0], seconds=2), (0, HOST))
            except TimeoutError:
                failed.append(n[0])
            waits.append(time.monotonic() - began)
    t = threading.Thread(target=client)
    t.start()
    for i in range(3):
        kill(lead(core), signal.SIGKILL)
        time.sleep(0.02)
        eq(core.dns("killed%d.lead.test" % i, seconds=0.5), (0, HOST), "the stand-in answers")
        eq(core.dns("killed%d.lead.test" % i, tcp=True), (0, HOST), "and over TCP")
        until(lambda: len(core.serving()) == 4, 5, "the lead is back")
    stop.set()
    t.join()
    eq(len(failed) <= 3, True, "questions that died with the worker that had read them: %s" % failed)
    eq(lead(core) != first and len(pids & set(core.serving())) == 3, True, "the others live")
    core.dial_all("after.lead.test")
    eq(asked("after.lead.test"), 1, "all ask the new lead")


def test_in_flight_when_the_lead_dies(core):
    """Connections in the other workers wait for a name when the lead dies: they succeed, without waiting for a time-out."""
    until(lambda: len(core.serving()) == 4)
    socks = []
    for _ in range(40):
        s = lib.socks_hello(core.port["socks"])
        s.sendall(b"\x05\x01\x00" + lib.address("slow.dies.test") + struct.pack("!H", lib.servers.port["echo"]))
        socks.append(s)
    until(lambda: asked("slow.dies.test") == 1)
    began = time.monotonic()
    kill(lead(core), signal.SIGKILL)
    good = 0
    for s in socks:
        try:
            eq(lib.read_n(s, 10)[1], 0)
            good += 1
        except (EOFError, ConnectionResetError):
            pass        # it was the lead's
    eq(good >= 15, True, "%d of 40 connections" % good)
    eq(asked("slow.dies.test") in (2, 3), True, "once by the lead, once by who stood in, once by who came then")
    eq(time.monotonic() - began < 2 * lib.SLOW, True)
    until(lambda: len(core.serving()) == 4, 5)


def test_stand_in_gives_fake_addresses():
    with Core(FAKE) as core:
        until(lambda: len(core.serving()) == 4)
        given = {"f%d.test" % i: core.dns("f%d.test" % i)[1] for i in range(5)}
        for i in range(3):
            kill(lead(core), signal.SIGKILL)
            time.sleep(0.02)
            name = "standin%d.test" % i
            given[name] = core.dns(name, seconds=0.5)[1]
            for k, v in given.items():
                eq(core.dns(k), (0, v), "while the lead is away")
            until(lambda: len(core.serving()) == 4, 5)
        for k, v in given.items():
            eq(core.dns(k), (0, v), "when it is back")
        eq(len(set(given.values())), len(given), "one name each")
        eq(all(v.startswith("198.18.0.") for v in given.values()), True)
        # every worker knows what the stand-ins gave
        for _ in range(16):
            s = core.socks(given["standin1.test"], lib.servers.port["echo"])
            eq(core.one(sourcePort=str(s.getsockname()[1]))["metadata"]["host"], "standin1.test")
            s.close()
