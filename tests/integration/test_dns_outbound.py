# SPDX-License-Identifier: MIT
"""`type: dns`: what is sent there is answered by the DNS server, over TCP and UDP, whichever worker the connection is in."""
import socket
import struct

import lib
from lib import BASE, Core, Udp, eq, until

CONFIG = BASE.replace("log-level: debug", "log-level: info") + """
ipv6: false
sluice: {workers: 3}
hosts: {own.test: 192.0.2.1}
proxies: [{name: dns-out, type: dns}]
dns:
  enable: true
  enhanced-mode: fake-ip
  fake-ip-filter: ["+.real.test"]
  nameserver: ["127.0.0.1:$s_dns"]
  default-nameserver: ["127.0.0.1:$s_dns"]
rules: ["DST-PORT,53,dns-out", "MATCH,DIRECT"]
"""


def frame(q):
    return struct.pack("!H", len(q)) + q


def answer(s):
    a = lib.read_n(s, struct.unpack("!H", lib.read_n(s, 2))[0])
    return a[:2], a[3] & 15, socket.inet_ntoa(a[-4:]) if a[7] else None


def test_tcp(core):
    until(lambda: len(core.serving()) == 3)
    given = set()
    for i in range(12):
        with core.socks("198.51.100.%d" % i, 53) as s:
            s.sendall(frame(lib.dns_question("own.test", number=b"\0\1")))
            eq(answer(s), (b"\0\1", 0, "192.0.2.1"))
            s.sendall(frame(lib.dns_question("same.test", number=b"\0\2")))
            given.add(answer(s)[2])
            s.sendall(frame(lib.dns_question("ip10-9-8-7.real.test", number=b"\0\3")))
            eq(answer(s), (b"\0\3", 0, "10.9.8.7"))
    eq(given, {"198.18.0.4"}, "one fake address, whichever worker")


def test_tcp_pieces_and_ends(core):
    s = core.socks("dns.test", 53)
    whole = b"".join(frame(lib.dns_question("ip10-0-0-%d.real.test" % i, number=bytes([0, i]))) for i in range(100))
    for i in range(0, len(whole), 7):
        s.sendall(whole[i:i + 7])
    s.shutdown(socket.SHUT_WR)
    got = {answer(s)[0][1]: 1 for _ in range(100)}
    eq(len(got), 100)
    eq(lib.ended(s), "end")
    for junk in (b"\0\0", b"\0\x05hello", b"\xff\xff" + b"x" * 5000):
        s = core.socks("dns.test", 53)
        s.sendall(junk)
        eq(lib.ended(s) in ("end", "reset"), True, "%r" % junk[:8])


def test_udp(core):
    for i in range(6):
        u = Udp(core.port["socks"])
        for name, want in (("own.test", "192.0.2.1"), ("same.test", "198.18.0.4"), ("ip10-9-8-6.real.test", "10.9.8.6")):
            a = u.ask("198.51.100.1", 53, lib.dns_question(name, number=b"\0\7"))
            eq((a[:2], socket.inet_ntoa(a[-4:])), (b"\0\7", want), name)
        a = u.ask("198.51.100.1", 53, lib.dns_question("huge.real.test", number=b"\0\7"))
        eq((len(a) <= 512, a[2] & 2), (True, 2), "cut")
        u.close()


def test_listed(core):
    p = core.get("/proxies/dns-out")
    eq((p["type"], p["udp"], p["alive"]), ("Dns", True, True))


def test_dns_off():
    with Core(BASE + 'proxies: [{name: d, type: dns}]\nrules: ["MATCH,d"]\n') as core:
        s = core.socks("x.test", 53)
        s.sendall(frame(lib.dns_question("own.test")))
        eq(lib.ended(s) in ("end", "reset"), True)
