# SPDX-License-Identifier: MIT
"""/connections: the snapshot, its counters, closing."""
import re
import socket
import struct
import time

import lib
from lib import BASE, HOST, eq, ended, pong, read_n, until

CONFIG = BASE + """
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
proxy-groups:
  - {name: Pick, type: select, proxies: [up]}
rules:
  - DOMAIN,one.test,up
  - DOMAIN-SUFFIX,two.test,Pick
  - IP-CIDR,127.0.0.0/8,DIRECT,no-resolve
  - MATCH,Pick
"""
META = """network type sourceIP destinationIP sourceGeoIP destinationGeoIP sourceIPASN destinationIPASN sourcePort destinationPort inboundIP inboundPort inboundName
inboundUser host dnsMode uid process processPath specialProxy specialRules remoteDestination dscp sniffHost""".split()


def test_empty(core):
    until(lambda: not core.connections())
    body = core.api("GET", "/connections").body
    eq(bool(re.fullmatch(rb'\{"downloadTotal":\d+,"uploadTotal":\d+,"connections":null,"memory":[1-9]\d+\}\n', body)), True, body)


def test_object(core):
    s = core.held("one.test", 4101)
    c = core.one(destinationPort="4101")
    eq([k for k in c if k != "providerChains"], ["id", "metadata", "upload", "download", "start", "chains", "rule", "rulePayload"])
    eq([k for k in c["metadata"] if k in META], META)
    eq(bool(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", c["id"])), True, c["id"])
    m = c["metadata"]
    want = {"network": "tcp", "type": "Socks5", "sourceIP": HOST, "destinationIP": "", "sourceGeoIP": None, "destinationGeoIP": None, "sourceIPASN": "",
            "destinationIPASN": "", "sourcePort": str(s.getsockname()[1]), "destinationPort": "4101", "inboundIP": HOST, "inboundPort": str(core.port["socks"]),
            "inboundName": "DEFAULT-SOCKS", "inboundUser": "", "host": "one.test", "dnsMode": "normal", "uid": 0, "process": "", "processPath": "",
            "specialProxy": "", "specialRules": "", "remoteDestination": HOST, "dscp": 0, "sniffHost": ""}
    eq({k: m[k] for k in want}, want)
    eq((c["chains"], c["providerChains"], c["rule"], c["rulePayload"], c["upload"], c["download"]), (["up"], [""], "Domain", "one.test", 2, 2))
    when = time.mktime(time.strptime(c["start"][:19], "%Y-%m-%dT%H:%M:%S"))
    offset = 0 if c["start"].endswith("Z") else int(c["start"][-6:-3]) * 3600
    eq(abs(when - time.timezone - offset - time.time()) < 30 or abs(when - time.time()) < 30, True, c["start"])
    s.close()
    until(lambda: not core.connections(destinationPort="4101"), why="it is gone")


def test_kinds(core):
    def opened(port, head, reply):
        s = core.connect(port)
        s.sendall(head)
        eq(read_n(s, len(reply)), reply)
        return s
    s = opened("http", b"CONNECT a.two.test:4102 HTTP/1.1\r\nHost: a.two.test:4102\r\n\r\n", b"HTTP/1.1 200 Connection established\r\n\r\n")
    c = core.one(destinationPort="4102")
    eq((c["metadata"]["type"], c["metadata"]["inboundName"], c["chains"], c["rule"], c["rulePayload"]), ("HTTPS", "DEFAULT-HTTP", ["up", "Pick"], "DomainSuffix", "two.test"))
    s.close()
    s = opened("mixed", b"\x04\x01" + struct.pack("!H", 4103) + b"\x0a\0\0\1me\0", b"\0\x5a")
    c = core.one(destinationPort="4103")
    eq((c["metadata"]["type"], c["metadata"]["inboundName"], c["metadata"]["destinationIP"], c["metadata"]["host"]), ("Socks4", "DEFAULT-MIXED", "10.0.0.1", ""))
    s.close()
    s = core.socks(HOST, lib.servers.port["echo"])
    pong(s)
    c = core.one(destinationPort=str(lib.servers.port["echo"]))
    eq((c["chains"], c["rule"], c["metadata"]["remoteDestination"], c["metadata"]["destinationIP"]), (["DIRECT"], "IPCIDR", HOST, HOST))
    s.close()
    h = core.connect("http")
    h.sendall(b"GET http://b.two.test/slow/1500 HTTP/1.1\r\nHost: b.two.test\r\n\r\n")
    c = core.one(host="b.two.test")
    eq((c["metadata"]["type"], c["metadata"]["destinationPort"]), ("HTTP", "80"))
    h.close()


def test_udp(core):
    u = lib.Udp(core.port["socks"])
    eq(u.ask(HOST, lib.servers.port["udp"], b"hello"), b"hello")
    c = core.one(network="udp")
    eq((c["metadata"]["type"], c["chains"], c["upload"], c["download"]), ("Socks5", ["DIRECT"], 5, 5))
    eq(core.api("DELETE", "/connections/" + c["id"]).status, 204)
    until(lambda: not core.connections(network="udp"), why="it is gone")
    eq(u.ask(HOST, lib.servers.port["udp"], b"again"), b"again")    # the association goes on
    u.close()


def test_counters(core):
    before = core.get("/connections")
    s = core.socks("one.test", 4104)
    data = lib.pattern(1 << 20)
    pong(s, data[:1000])
    c = core.one(destinationPort="4104")
    eq((c["upload"], c["download"]), (1000, 1000))
    for i in range(0, len(data), 65536):
        pong(s, data[i:i + 65536])
    c = core.one(destinationPort="4104")
    eq((c["upload"], c["download"]), (1000 + len(data), 1000 + len(data)))
    s.close()
    until(lambda: not core.connections(destinationPort="4104"))
    after = core.get("/connections")
    eq([after[k] - before[k] for k in ("uploadTotal", "downloadTotal")], [1000 + len(data)] * 2)


def test_close_one(core):
    a, b = core.held("one.test", 4105), core.held("one.test", 4106)
    r = core.api("DELETE", "/connections/" + core.one(destinationPort="4105")["id"])
    eq((r.status, r.body), (204, b""))
    eq(ended(a) in ("end", "reset"), True)
    pong(b)
    for i in ("00000000-0000-0000-0000-000000000000", "x", "%00", "a" * 300):
        eq(core.api("DELETE", "/connections/" + i).status, 204, i)
    pong(b)
    b.close()


def test_close_all(core):
    ss = [core.held("one.test", 4107) for _ in range(12)]
    eq(core.api("DELETE", "/connections").status, 204)
    for s in ss:
        eq(ended(s) in ("end", "reset"), True)
    until(lambda: not core.connections())


def test_failed_dial_is_not_listed(core):
    s = socket.create_connection((HOST, core.port["socks"]))
    s.sendall(b"\x05\x01\x00\x05\x01\x00\x01\x7f\0\0\1" + struct.pack("!H", lib.servers.port["closed"]))
    eq(ended(s) != "open", True)
    s.close()
    until(lambda: not core.connections())


def test_asks_that_overlap(core):
    """They may share a snapshot, but only one that began after they came: each sees what was open before it asked."""
    def ask():
        s = core.held("one.test", 4190)
        port = str(s.getsockname()[1])
        seen = core.connections(sourcePort=port)
        s.close()
        if len(seen) != 1:
            raise AssertionError("%d connections from port %s" % (len(seen), port))
    t = lib.Threads(8, ask)
    time.sleep(1)
    eq(t.stop(), [])
    eq(min(t.rounds) > 0, True, t.rounds)


def test_totals_never_fall(core):
    last = core.get("/connections")
    for _ in range(3):
        core.held("one.test", 4108).close()
        eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
        now = core.get("/connections")
        eq([now[k] >= last[k] for k in ("uploadTotal", "downloadTotal")], [True, True])
        last = now
