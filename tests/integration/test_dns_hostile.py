# SPDX-License-Identifier: MIT
"""Hostile name servers: whatever they send, the right answer wins or the question fails in its time, and the next one is answered."""
import re
import socket
import struct
import threading
import time

import lib
from lib import BASE, HOST, Core, eq, until

TIMEOUT = 60
CONFIG = BASE + """
dns: {enable: true, ipv6: false, listen: "127.0.0.1:$dnsl", nameserver: ["127.0.0.1:%d"]}
"""
GOOD = "192.0.2.77"
DROP = object()


def name_of(q):
    labels, o = [], 12
    while n := q[o]:
        labels.append(q[o + 1:o + 1 + n].decode("latin1").lower())
        o += 1 + n
    return ".".join(labels), q[12:o + 5]


def rr(name, kind, data, ttl=60):
    return name + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def wire(name):
    return b"".join(bytes([len(x)]) + x for x in name.encode().split(b".")) + b"\0"


def message(q, records=(), flags=0x8180, ident=None, question=None):
    return (ident or q[:2]) + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + (question or name_of(q)[1]) + b"".join(records)


def good(q):
    return message(q, [rr(b"\xc0\x0c", 1, socket.inet_aton(GOOD))])


def evil(q):
    return [rr(b"\xc0\x0c", 1, socket.inet_aton("203.0.113.66"))]


def other_id(q):
    return struct.pack("!H", struct.unpack("!H", q[:2])[0] ^ 0x5555)


# what comes before the good answer, by the first label; DROP: no good answer follows
EVIL = {
    "wrong-id": lambda q: [message(q, evil(q), ident=other_id(q))] * 100,
    "wrong-name": lambda q: [message(q, evil(q), question=wire("bank.test") + b"\0\1\0\1")],
    "wrong-type": lambda q: [message(q, evil(q), question=name_of(q)[1][:-4] + b"\0\x10\0\1")],
    "wrong-class": lambda q: [message(q, evil(q), question=name_of(q)[1][:-2] + b"\0\3")],
    "a-question": lambda q: [message(q, evil(q), flags=0x0100)],
    "two-questions": lambda q: [q[:2] + struct.pack("!HHHHH", 0x8180, 2, 1, 0, 0) + name_of(q)[1] * 2 + evil(q)[0]],
    "short": lambda q: [q[:n] for n in range(12)] + [b""],
    "loop": lambda q: [message(q, [rr(b"\xc0" + bytes([12 + len(name_of(q)[1])]), 1, b"\1\2\3\4")])],
    "forward": lambda q: [message(q, [rr(b"\xff\xff", 1, b"\1\2\3\4")])],
    "long-data": lambda q: [message(q, [b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 65535) + b"\1\2\3\4"])],
    "many-records": lambda q: [q[:2] + struct.pack("!HHHHH", 0x8180, 1, 65535, 65535, 65535) + name_of(q)[1] + evil(q)[0]],
    "odd-address": lambda q: [message(q, [rr(b"\xc0\x0c", 1, b"\1\2\3")])],
    "noise": lambda q: [q[:2] + bytes((i * 73 + k) & 255 for i in range(500)) for k in range(20)],
}

# answers to the question that was asked, from who was asked, which cannot be read: this server has failed
BROKEN = ("loop", "forward", "long-data", "many-records", "odd-address")


class Evil:
    """UDP and TCP on one port. over_tcp counts the questions that came by TCP."""
    def __init__(self):
        self.port, self.done, self.over_tcp, self.asked = lib.free_port(), False, 0, []
        self.u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.u.bind((HOST, self.port))
        self.t = socket.create_server((HOST, self.port))
        for s, fn in ((self.u, self.udp), (self.t, self.tcp)):
            threading.Thread(target=self.guard, args=(fn, s), daemon=True).start()

    def guard(self, fn, s):
        try:
            fn(s)
        except OSError:
            if not self.done:
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done = True
        for s in (self.u, self.t):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def udp(self, s):
        while True:
            q, peer = s.recvfrom(4096)
            if self.done:
                return
            name = name_of(q)[0]
            kind = name.split(".")[0]
            self.asked.append(name)
            for m in EVIL.get(kind, lambda q: [])(q):
                s.sendto(m, peer)
            if kind == "stranger":
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                    other.sendto(message(q, evil(q)), peer)
            elif kind == "silent":
                continue
            elif kind == "late":
                threading.Timer(6 * lib.SLOW, s.sendto, (message(q, evil(q)), peer)).start()
                continue
            elif kind in ("huge", "endless", "slow-tcp", "half"):
                s.sendto(message(q, flags=0x8380), peer)      # truncated: ask by TCP
                continue
            elif kind == "chain":
                s.sendto(self.chain(q, name), peer)
                continue
            s.sendto(good(q), peer)

    @staticmethod
    def chain(q, name, n=60):
        records = [rr(wire(name) if i == 0 else wire("c%d.test" % i), 5, wire("c%d.test" % (i + 1))) for i in range(n)]
        return message(q, records + [rr(wire("c%d.test" % n), 1, socket.inet_aton(GOOD))])

    def tcp(self, s):
        while True:
            c = s.accept()[0]
            threading.Thread(target=self.guard, args=(self.one, c), daemon=True).start()

    def one(self, c):
        with c:
            head = c.recv(2, socket.MSG_WAITALL)
            if len(head) < 2:
                return
            q = c.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
            kind = name_of(q)[0].split(".")[0]
            self.over_tcp += 1
            if kind == "huge":
                a = message(q, [rr(b"\xc0\x0c", 16, b"\xff" + b"x" * 255)] * 240 + [rr(b"\xc0\x0c", 1, socket.inet_aton(GOOD))])
                a += b"\0" * (65535 - len(a))
                c.sendall(struct.pack("!H", 65535) + a)
            elif kind == "endless":
                try:
                    for _ in range(2000):
                        c.sendall(struct.pack("!H", 65535) + b"\xff" * 65535)
                except OSError:
                    pass
            elif kind == "half":
                a = good(q)
                c.sendall(struct.pack("!H", len(a) + 5) + a)
            elif kind == "slow-tcp":
                a = good(q)
                for b in struct.pack("!H", len(a)) + a:
                    c.sendall(bytes([b]))
                    time.sleep(0.005)
            c.recv(1)


def ask(core, name, kind="A"):
    """Status and addresses of GET /dns/query; None when it failed."""
    r = core.api("GET", "/dns/query?name=%s&type=%s" % (name, kind), timeout=20 * lib.SLOW)
    return [a["data"] for a in r.json.get("Answer", [])] if r.status == 200 else None


def resident(core):
    total = 0
    for pid in core.pids("worker"):
        with open("/proc/%d/statm" % pid) as f:
            total += int(f.read().split()[1]) * 4
    return total


def test_the_right_answer_wins():
    with Evil() as e, Core(CONFIG % e.port) as c:
        for kind in [*EVIL, "stranger"]:
            got = ask(c, kind + ".evil.test")
            eq(got == [GOOD] or (kind in BROKEN and got is None), True, "%s: %r" % (kind, got))
        eq(ask(c, "fine.test"), [GOOD])
        told = [int(n) for n in re.findall(r"dns: (\d+) answers of 127.0.0.1:%d were ignored" % e.port, c.log())]
        eq((len(told), told[0] > 50), (1, True), "one line a minute, with their number: %r" % told)


def test_by_tcp():
    with Evil() as e, Core(CONFIG % e.port) as c:
        eq(ask(c, "slow-tcp.test"), [GOOD])
        before = resident(c)
        eq(ask(c, "huge.test") in (None, [GOOD]) or GOOD in ask(c, "huge.test"), True)
        t = time.monotonic()
        eq(ask(c, "endless.test"), None)
        eq(ask(c, "half.test"), None)
        eq(time.monotonic() - t < 13 * lib.SLOW, True, "a question fails within its five seconds")
        eq(ask(c, "fine.test"), [GOOD])
        eq(resident(c) - before < 4096, True, "memory: %d KB, then %d KB" % (before, resident(c)))
        eq(e.over_tcp >= 4, True)


def test_a_chain_of_aliases_is_bounded():
    with Evil() as e, Core(CONFIG % e.port) as c:
        a = ask(c, "chain.test")
        eq(a is None or len(a) <= 61, True)
        eq(ask(c, "fine.test"), [GOOD])


def test_silence_and_late_answers():
    with Evil() as e, Core(CONFIG % e.port) as c:
        took = {}

        def one(name):
            t = time.monotonic()
            took[name] = (ask(c, name), time.monotonic() - t)
        threads = [threading.Thread(target=one, args=(n,)) for n in ("silent.test", "late.test")]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        for name, (got, seconds) in took.items():
            eq((got, seconds < 6 * lib.SLOW), (None, True), "%s: %.1f s" % (name, seconds))
        time.sleep(1.5 * lib.SLOW)        # the late answer has come
        eq(ask(c, "fine.test"), [GOOD])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:     # and was kept by nobody: a kept one would be here at once
            s.settimeout(1)
            s.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0" + wire("late.test") + b"\0\1\0\1", (HOST, c.port["dnsl"]))
            try:
                eq(socket.inet_aton("203.0.113.66") in s.recv(512), False)
            except TimeoutError:
                pass


def test_many_silent_questions_leave_room():
    with Evil() as e, Core(CONFIG % e.port) as c:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for i in range(2000):
                s.sendto(struct.pack("!H", i) + b"\1\0\0\1\0\0\0\0\0\0" + wire("silent.n%d.test" % i) + b"\0\1\0\1", (HOST, c.port["dnsl"]))
                if i % 100 == 0:
                    time.sleep(0.01)
            until(lambda: len(e.asked) > 100)
            eq(ask(c, "fine.test"), [GOOD])
