# SPDX-License-Identifier: MIT
"""Inbounds: mixed, socks, http as top-level ports and as listeners, tunnels, users, who may come in from where."""
import base64
import hashlib
import http.client
import socket
import struct

import lib
from lib import BASE, HOST, Core, Refused, Udp, ended, eq, pong, read_all, read_n, response

CONFIG = BASE + """
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks, udp: true}
listeners:
  - {name: one, type: mixed, port: $one, listen: 127.0.0.1, proxy: DIRECT}
  - {name: two, type: socks, port: $two, listen: 127.0.0.1, udp: false, users: [{username: ann, password: "p:w"}]}
  - {name: three, type: http, port: $three, listen: 127.0.0.1, users: []}
tunnels:
  - tcp/udp,127.0.0.1:$tun,127.0.0.1:$s_echo,DIRECT
  - {network: [udp], address: "127.0.0.1:$tun2", target: "127.0.0.1:$s_udp"}
rules:
  - IN-NAME,three,REJECT
  - IN-USER,ann,up
  - IP-CIDR,127.0.0.0/8,DIRECT,no-resolve
  - MATCH,up
"""
AUTH = BASE + """
authentication: ["user:pass", "u2:p:2", "nocolon"]
skip-auth-prefixes: [127.0.0.9/32]
listeners:
  - {name: open, type: mixed, port: $open, listen: 127.0.0.1, users: []}
  - {name: same, type: mixed, port: $same, listen: 127.0.0.1}
rules:
  - MATCH,DIRECT
"""


def basic(word):
    return {"Proxy-Authorization": "Basic " + base64.b64encode(word.encode()).decode()}


def origin(path="/hello"):
    return "http://127.0.0.1:%d%s" % (lib.servers.port["origin"], path)


# ---- SOCKS
def test_socks5_addresses(core):
    for port in ("mixed", "socks"):
        for host in ("name.test", "10.0.0.1", "2001:db8::1", "a" * 63 + ".test"):
            core.held(host, 4101, port).close()
            eq(lib.servers.seen[-1], ("socks", host, 4101))
    s = core.held(HOST, lib.servers.port["echo"], "one")
    eq(core.one(inboundName="one")["chains"], ["DIRECT"])
    s.close()


def socks4(core, port, host, name=b""):
    s = core.connect(port)
    s.sendall(b"\x04\x01" + struct.pack("!H", 4102) + socket.inet_aton(host) + b"user\0" + (name + b"\0" if name else b""))
    return s, read_n(s, 8)


def test_socks4(core):
    for port in ("mixed", "socks"):
        s, r = socks4(core, port, "10.0.0.2")
        eq(r[:2], b"\0\x5a")
        pong(s)
        eq(lib.servers.seen[-1], ("socks", "10.0.0.2", 4102))
        s.close()
        s, r = socks4(core, port, "0.0.0.1", b"four-a.test")
        eq(r[:2], b"\0\x5a")
        pong(s)
        eq(lib.servers.seen[-1], ("socks", "four-a.test", 4102))
        s.close()


def test_bytes_that_come_with_the_handshake(core):
    with core.connect("socks") as s:
        s.sendall(b"\x05\x01\x00\x05\x01\x00" + lib.address("early.test") + struct.pack("!H", 4103) + b"early bytes")
        eq(read_n(s, 2 + 10 + 11)[-11:], b"early bytes")
    with core.connect("http") as s:
        s.sendall(b"CONNECT early.test:4103 HTTP/1.1\r\nHost: early.test:4103\r\n\r\nearly bytes")
        eq(read_n(s, 39 + 11)[-11:], b"early bytes")


def test_handshake_in_single_bytes(core):
    with core.connect("mixed") as s:
        for b in b"\x05\x01\x00\x05\x01\x00" + lib.address("slow.test") + struct.pack("!H", 4104):
            s.sendall(bytes([b]))
        read_n(s, 12)
        pong(s)
    with core.connect("mixed") as s:
        for b in b"CONNECT slow.test:4104 HTTP/1.1\r\nHost: slow.test\r\n\r\n":
            s.sendall(bytes([b]))
        eq(read_n(s, 12), b"HTTP/1.1 200")


def test_socks_bind_is_refused(core):
    with core.connect("socks") as s:
        s.sendall(b"\x05\x01\x00\x05\x02\x00\x01\x7f\0\0\1\0\x50")
        r = read_all(s, 1)
        eq((r[:2], len(r) < 4 or r[3] != 0), (b"\x05\x00", True))


def test_rubbish_is_survived(core):
    for data in (b"", b"\x05", b"\x05\x01", b"\x05\xff\x00", b"\x04\x01", b"\x05\x01\x00\x05\x01\x00\x03\xff", b"CONNECT", b"GET http://", b"\x05\x01\x00\x05\x09\x00\x01", b"\x05\x00",
                 b"\x05\x01\x00\x05\x01\x00\x07", b"\x05\x01\x00\x05\x01\x00\x03\x00\x00\x50", b"\x00" * 200, b"\xff" * 5000, b"\x04\x01\x00\x50\x00\x00\x00\x01" + b"a" * 5000,
                 b"GET / HTTP/1.1\r\n" + b"x" * 200000):
        for port in ("mixed", "socks", "http", "tun"):
            core.raw(data, port, 0.05)
    core.held("alive.test", 4105, "mixed").close()


# ---- HTTP
def test_http_forward(core):
    r = core.fetch("http://a.test/hello", "http")
    eq((r.status, r.body), (200, b"hello\n"))
    r = core.fetch(origin("/204"), "mixed")
    eq((r.status, r.body), (204, b""))
    eq(core.fetch(origin(), "mixed", "HEAD").body, b"")
    eq(core.fetch("http://a.test/status/418", "http").status, 418)


def test_http_hop_by_hop_headers(core):
    r = core.fetch("http://a.test/headers", headers={"Proxy-Connection": "keep-alive", "Proxy-Authorization": "Basic eDp5", "Connection": "X-Hop", "X-Hop": "1", "Keep-Alive": "3",
                                                     "TE": "trailers", "X-Kept": "yes"})
    head = r.body.decode().lower()
    eq(head.startswith("get /headers http/1.1\r\n"), True, head)
    for name in ("proxy-connection", "proxy-authorization", "x-hop", "keep-alive", "te:"):
        eq("\r\n" + name in head, False, name)
    eq("\r\nx-kept: yes\r\n" in head and "\r\nhost: a.test\r\n" in head, True, head)


def test_http_keep_alive_and_several_hosts(core):
    c = http.client.HTTPConnection(HOST, core.port["http"], timeout=5)
    for host in ("one.test", "two.test", "one.test", "three.test"):
        c.request("GET", "http://%s/headers" % host)
        eq(("\r\nhost: %s\r\n" % host) in c.getresponse().read().decode().lower(), True, host)
    for _ in range(30):
        c.request("GET", "http://one.test/hello")
        eq(c.getresponse().read(), b"hello\n")
    c.close()


def test_http_pipelining(core):
    one = b"GET http://p.test/hello HTTP/1.1\r\nHost: p.test\r\n\r\n"
    data = core.raw(one * 4 + one.replace(b"Host", b"Connection: close\r\nHost"), "http")
    eq(data.count(b"hello\n"), 5)


def test_http_bodies(core):
    body = lib.pattern(3000000)
    want = hashlib.sha256(body).hexdigest().encode()
    eq(core.fetch("http://a.test/sha", method="POST", body=body).body, want)
    chunks = (body[i:i + 70000] for i in range(0, len(body), 70000))
    eq(core.fetch("http://a.test/sha", method="POST", body=chunks).body, want)    # http.client sends it chunked
    eq(core.fetch("http://a.test/chunked/1000000").body == lib.pattern(1000000), True)
    eq(core.fetch("http://a.test/close").body, b"until the end")


def test_http_expect_continue(core):
    with core.connect("http") as s:
        s.sendall(b"POST http://a.test/echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
        try:
            s.settimeout(1)
            s.recv(100)
        except TimeoutError:
            pass
        s.sendall(b"body")
        eq(b"body" in read_all(s, 2), True)


def test_http_errors(core):
    eq(core.fetch("http://127.0.0.1:%d/" % lib.servers.port["closed"]).status, 502)
    for line in (b"GET / HTTP/1.1", b"GET ftp://a.test/ HTTP/1.1", b"CONNECT a.test HTTP/1.1", b"CONNECT a.test:99999 HTTP/1.1", b"GET http:// HTTP/1.1"):
        r = core.raw(line + b"\r\nHost: a.test\r\n\r\n", "http", 1)
        eq(response(r)[0] == 0 or response(r)[0] >= 400, True, "%r -> %r" % (line, r[:100]))
    r = core.raw(b"POST http://a.test/echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET http://a.test/hello HTTP/1.1\r\nHost: a.test\r\n\r\n", "http", 1)
    eq(b"hello" in r, False, "two lengths are refused")


def test_connect_refused_is_told(core):
    r = core.raw(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % lib.servers.port["closed"], "http", 2)
    eq(response(r)[0] in (0, 502), True, repr(r))


# ---- listeners, tunnels
def test_listener_users(core):
    for user in (None, ("ann", "no"), ("bob", "p:w")):
        try:
            core.socks("a.test", 4106, "two", user=user)
            raise AssertionError("%r came in" % (user,))
        except Refused:
            pass
    s = core.socks("a.test", 4106, "two", user=("ann", "p:w"))
    pong(s)
    c = core.one(destinationPort="4106")
    eq((c["metadata"]["inboundUser"], c["metadata"]["inboundName"], c["rule"], c["chains"]), ("ann", "two", "InUser", ["up"]))
    s.close()


def test_listener_without_udp(core):
    try:
        u = Udp(core.port["two"], user=("ann", "p:w"))
    except Refused:
        return
    u.s.settimeout(0.5)
    u.send(HOST, lib.servers.port["udp"], b"x")
    try:
        u.recv()
        raise AssertionError("UDP works where it is off")
    except OSError:
        pass


def test_listener_name_is_seen_by_rules(core):
    r = core.raw(b"GET http://a.test/hello HTTP/1.1\r\nHost: a.test\r\n\r\n", "three", 1)
    eq(b"hello" in r, False)


def test_tunnels(core):
    with core.connect("tun") as s:
        pong(s, b"through the tunnel")
        c = core.one(type="Tunnel")
        eq((c["metadata"]["destinationPort"], c["chains"]), (str(lib.servers.port["echo"]), ["DIRECT"]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
        u.settimeout(3)
        u.sendto(b"datagram", (HOST, core.port["tun2"]))
        eq(u.recv(100), b"datagram")


# ---- authentication
def test_auth():
    with Core(AUTH) as c:
        for port in ("mixed", "http", "same"):
            r = c.fetch(origin(), port)
            eq((r.status, r.headers["Proxy-Authenticate"].lower().startswith("basic")), (407, True), port)
            for word, want in (("user:pass", 200), ("u2:p:2", 200), ("user:no", 403), ("nobody:pass", 403), (":", 403), ("user", 403), ("nocolon:", 403)):
                eq(c.fetch(origin(), port, headers=basic(word)).status, want, word)
            eq(c.fetch(origin(), port, headers={"Proxy-Authorization": "Basic !!!"}).status in (403, 407), True)
        for port in ("mixed", "socks", "same"):
            for user, want in ((("user", "pass"), True), (("u2", "p:2"), True), (("user", "no"), False), (("user", ""), False), (None, False)):
                try:
                    c.socks(HOST, lib.servers.port["echo"], port, user=user).close()
                    eq(want, True, "%r came in at %s" % (user, port))
                except Refused:
                    eq(want, False, "%r was refused at %s" % (user, port))
        c.held(HOST, lib.servers.port["echo"], "open").close()
        eq(c.fetch(origin(), "open").status, 200)
        with c.connect("socks") as s:           # SOCKS4 has no password
            s.sendall(b"\x04\x01" + struct.pack("!H", lib.servers.port["echo"]) + socket.inet_aton(HOST) + b"user\0")
            eq(read_all(s, 1)[:2] == b"\0\x5a", False)
        s = lib.socks5(c.port["socks"], HOST, lib.servers.port["echo"], source="127.0.0.9")
        pong(s)
        s.close()
        s = c.socks(HOST, lib.servers.port["echo"], user=("u2", "p:2"))
        eq(c.one(inboundUser="u2")["metadata"]["type"], "Socks5")
        s.close()
        u = Udp(c.port["socks"], user=("user", "pass"))
        eq(u.ask(HOST, lib.servers.port["udp"], b"x"), b"x")
        u.close()


def test_auth_keep_alive_needs_it_each_time():
    with Core(AUTH) as c:
        k = http.client.HTTPConnection(HOST, c.port["http"], timeout=5)
        for word, want in (("user:pass", 200), ("user:pass", 200)):
            k.request("GET", origin(), headers=basic(word))
            r = k.getresponse()
            r.read()
            eq(r.status, want)
        k.close()


def come_in(core, source, port="socks"):
    try:
        s = socket.create_connection((HOST, core.port[port]), 2, (source, 0))
        s.settimeout(2)
        s.sendall(b"\x05\x01\x00")
        got = s.recv(2) == b"\x05\x00"
        s.close()
        return got
    except OSError:
        return False


def test_lan_lists():
    with Core(BASE + "lan-allowed-ips: [127.0.0.0/29, '::/0']\nlan-disallowed-ips: [127.0.0.3/32]\nrules: ['MATCH,DIRECT']\n") as c:
        eq([come_in(c, x) for x in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.9")], [True, True, False, False])
        eq(c.api("PATCH", "/configs", {"lan-disallowed-ips": ["127.0.0.2/32"], "lan-allowed-ips": ["127.0.0.0/8"]}).status, 204)
        eq([come_in(c, x) for x in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.9")], [True, False, True, True])


def own_address():
    """An address of this machine that is not 127/8, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            a = s.getsockname()[0]
            return None if a.startswith("127.") else a
        except OSError:
            return None


def reachable(address, port):
    try:
        socket.create_connection((address, port), 2).close()
        return True
    except OSError:
        return False


def test_allow_lan():
    own = own_address()
    if own is None:
        raise lib.Skip("this machine has no address beside 127.0.0.1")
    with Core(BASE + "rules: ['MATCH,DIRECT']\n") as c:
        eq([reachable(own, c.port[p]) for p in ("mixed", "socks", "http")], [False] * 3)
        eq(c.api("PATCH", "/configs", {"allow-lan": True}).status, 204)
        eq([reachable(own, c.port[p]) for p in ("mixed", "socks", "http")], [True] * 3)
        c.held(HOST, lib.servers.port["echo"]).close()
        eq(c.api("PATCH", "/configs", {"bind-address": own}).status, 204)
        eq([reachable(own, c.port["mixed"]), reachable(HOST, c.port["mixed"])], [True, False])
        eq(c.api("PATCH", "/configs", {"allow-lan": False}).status, 204)
        eq([reachable(own, c.port["mixed"]), reachable(HOST, c.port["mixed"])], [False, True])


def test_ipv6_listener():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        raise lib.Skip("no IPv6 here") from None
    with Core(BASE + "listeners:\n  - {name: six, type: mixed, port: $six, listen: '::1'}\nrules: ['MATCH,DIRECT']\n") as c:
        s = socket.create_connection(("::1", c.port["six"]), 3)
        s.settimeout(3)
        s.sendall(b"\x05\x01\x00\x05\x01\x00" + lib.address(HOST) + struct.pack("!H", lib.servers.port["echo"]))
        eq(read_n(s, 4)[:2], b"\x05\x00")
        read_n(s, 8)
        pong(s)
        eq(c.one(inboundName="six")["metadata"]["sourceIP"], "::1")
        s.close()


def test_half_open_clients_are_ended():
    """A client that says nothing, or half of something, does not stay for ever; one that is joined does."""
    with Core(BASE + "rules: ['MATCH,DIRECT']\n") as c:
        s = c.connect("mixed")
        s.sendall(b"\x05")
        eq(ended(s, 25) != "open", True, "still open after 25 s")
        s.close()
