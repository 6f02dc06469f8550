# SPDX-License-Identifier: MIT
"""No leak: in a network namespace of its own, where every packet is seen, a name that the configuration sends through a proxy
reaches no direct resolver, AAAA is not asked when IPv6 is off, and with encrypted upstreams only nothing is asked in clear."""
import ctypes
import os
import select
import socket
import socketserver
import ssl
import struct
import subprocess
import threading

import lib
from lib import Core, Skip, eq, socks_command, socks_hello, until

TIMEOUT = 60
CLONE_NEWNET = 0x40000000
ETH_P_ALL, LOOPBACK_HEADER = 3, 14
RESOLVER, TLS_RESOLVER, PROXY, TARGET = "198.51.100.53", "198.51.100.54", "198.51.100.99", "203.0.113.1"

CONFIG = """
mixed-port: $mixed
log-level: debug
find-process-mode: "off"
external-controller: 127.0.0.1:$ctl
secret: test-secret
ipv6: $ipv6
proxies:
  - {name: px, type: socks5, server: $server, port: 1080, udp: true}
"""


class Namespace:
    """fn() runs in a thread of a new network namespace: what it opens and starts is in there. Needs root."""
    def __init__(self, fn):
        self.error = None
        self.fn = fn
        if os.getuid() != 0:
            raise Skip("only root can make a network namespace")
        t = threading.Thread(target=self.run)
        t.start()
        t.join()
        if self.error:
            raise self.error

    def run(self):
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
                raise Skip("no network namespaces here: %s" % os.strerror(ctypes.get_errno()))
            for args in (("link", "set", "lo", "up"), *(("addr", "add", a + "/32", "dev", "lo")
                         for a in (RESOLVER, TLS_RESOLVER, PROXY, TARGET))):
                subprocess.run(["ip", *args], check=True, capture_output=True)
            with World() as w:
                self.fn(w)
        except BaseException as e:
            self.error = e


class World:
    """The other ends: a plain resolver, one over TLS, a SOCKS5 proxy that resolves by itself, and a tap that keeps every packet."""
    def __init__(self):
        self.asked = []           # (server address, name, type)
        self.proxied = []         # host, port that the proxy was asked for
        self.packets = []         # (destination, port, payload) of TCP and UDP
        self.tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(lib.servers.cert, lib.servers.key)
        self.servers = [serve(socketserver.ThreadingUDPServer, (RESOLVER, 53), self.on_datagram),
                        serve(socketserver.ThreadingTCPServer, (RESOLVER, 53), self.on_stream),
                        serve(socketserver.ThreadingTCPServer, (TLS_RESOLVER, 853), lambda s, a: self.on_stream(tls.wrap_socket(s, server_side=True), a)),
                        serve(socketserver.ThreadingTCPServer, (PROXY, 1080), self.on_proxy)]
        self.done = False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done = True
        self.thread.join()
        for s in self.servers:
            s.shutdown()
            s.server_close()
        self.tap.close()

    def watch(self):
        while not self.done:
            if select.select([self.tap], [], [], 0.1)[0]:
                p, where = self.tap.recvfrom(65536)
                p = p[LOOPBACK_HEADER:]
                if where[2] == socket.PACKET_OUTGOING or p[0] >> 4 != 4 or p[9] not in (6, 17):      # loopback shows each packet twice
                    continue
                n = (p[0] & 15) * 4
                self.packets.append((socket.inet_ntoa(p[16:20]), struct.unpack("!H", p[n + 2:n + 4])[0], p[n:]))

    def answer(self, server, q):
        labels, o = [], 12
        while n := q[o]:
            labels.append(q[o + 1:o + 1 + n].decode("latin1").lower())
            o += 1 + n
        name, kind = ".".join(labels), struct.unpack("!H", q[o + 1:o + 3])[0]
        self.asked.append((server, name, kind))
        data = {1: socket.inet_aton(PROXY if name == "proxy.test" else TARGET)}.get(kind)
        rr = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data if data else b""
        return q[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if data else 0, 0, 0) + q[12:o + 5] + rr

    def on_datagram(self, request, address):
        request[1].sendto(self.answer(RESOLVER, request[0]), address)

    def on_stream(self, s, _):
        with s:
            server = s.getsockname()[0]
            while head := s.recv(2, socket.MSG_WAITALL if not isinstance(s, ssl.SSLSocket) else 0):
                a = self.answer(server, lib.read_n(s, struct.unpack("!H", head)[0]))
                s.sendall(struct.pack("!H", len(a)) + a)

    def on_proxy(self, s, _):
        lib.read_n(s, lib.read_n(s, 2)[1])
        s.sendall(b"\x05\x00")
        kind = lib.read_n(s, 4)[3]
        host = lib.read_n(s, lib.read_n(s, 1)[0]).decode() if kind == 3 else socket.inet_ntoa(lib.read_n(s, 4))
        port = struct.unpack("!H", lib.read_n(s, 2))[0]
        self.proxied.append((host, port))
        s.sendall(b"\x05\x00\x00\x01\0\0\0\0\0\0")
        if port in (53, 853):
            with socket.create_connection((host, port)) as far:
                ends = {s: far, far: s}
                while True:
                    for one in select.select(list(ends), [], [])[0]:
                        data = one.recv(65536)
                        if not data:
                            return
                        ends[one].sendall(data)
        s.sendall(s.recv(65536))          # an echo

    def names_at(self, server):
        return {name for where, name, _ in self.asked if where == server}

    def in_clear(self, name):
        """Packets to a resolver, or to any port 53, that show the name."""
        wire = b"".join(bytes([len(x)]) + x for x in name.encode().split(b"."))
        return [p for p in self.packets if (p[0] in (RESOLVER, TLS_RESOLVER) or p[1] == 53) and (wire in p[2].lower() or name.encode() in p[2].lower())]


def serve(kind, address, fn):
    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            try:
                fn(self.request, self.client_address)
            except (OSError, AssertionError, IndexError):
                pass
    kind.allow_reuse_address = kind.daemon_threads = True
    s = kind(address, Handler)
    threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return s


def echo(core, host, port=7):
    """Through the mixed port and back."""
    s = socks_hello(core.port["mixed"])
    socks_command(s, 1, host, port)
    s.sendall(b"ping")
    eq(lib.read_n(s, 4), b"ping")
    s.close()


def core(text, ipv6="false", server=PROXY):
    return Core(CONFIG.replace("$ipv6", ipv6).replace("$server", server) + text)


def test_a_proxied_name_is_not_asked():
    def run(w):
        with core("dns: {enable: true, nameserver: [%s]}\nrules: ['DOMAIN-SUFFIX,secret.test,px', 'IP-CIDR,10.0.0.0/8,DIRECT,no-resolve', 'MATCH,px']" % RESOLVER) as c:
            echo(c, "www.secret.test")
            echo(c, "other.test")
            eq(w.proxied, [("www.secret.test", 7), ("other.test", 7)])
            eq((w.asked, w.in_clear("secret.test"), w.in_clear("other.test")), ([], [], []))
    Namespace(run)


def test_a_rule_without_no_resolve_asks_and_only_then():
    def run(w):
        with core("dns: {enable: true, nameserver: [%s]}\nrules: ['DOMAIN,early.test,px', 'IP-CIDR,10.0.0.0/8,DIRECT', 'MATCH,px']" % RESOLVER) as c:
            echo(c, "early.test")
            eq(w.asked, [])
            echo(c, "late.test")
            eq(w.asked, [(RESOLVER, "late.test", 1)])
            eq(len(w.in_clear("late.test")) > 0, True, "the tap sees what is in clear")
    Namespace(run)


def test_fake_ip_asks_nobody():
    def run(w):
        with core("dns: {enable: true, enhanced-mode: fake-ip, listen: '127.0.0.1:$dnsl', nameserver: [%s]}\nrules: ['MATCH,px']" % RESOLVER) as c:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(3 * lib.SLOW)
                s.sendto(b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03www\x06secret\x04test\0\0\x01\0\x01", ("127.0.0.1", c.port["dnsl"]))
                ip = socket.inet_ntoa(s.recv(512)[-4:])
            eq(ip.startswith("198.18."), True, ip)
            echo(c, ip)
            eq((w.proxied, w.asked, w.in_clear("secret.test")), ([("www.secret.test", 7)], [], []))
    Namespace(run)


def test_a_name_server_behind_a_proxy_is_asked_through_it():
    def run(w):
        with core("dns: {enable: true, nameserver: ['tcp://%s#px']}\nrules: ['IP-CIDR,%s/32,px', 'MATCH,REJECT']" % (RESOLVER, TARGET)) as c:
            echo(c, "www.secret.test")
            eq((w.proxied[0], w.proxied[-1]), ((RESOLVER, 53), ("www.secret.test", 7)))
            eq({k for _, _, k in w.asked}, {1}, "IPv6 is off")
            direct = [p for p in w.packets if p[1] == 53 and p[0] != RESOLVER]
            eq(direct, [])
    Namespace(run)


def test_respect_rules_and_the_proxys_own_name():
    def run(w):
        text = """
dns:
  enable: true
  default-nameserver: [%s]
  nameserver: ["tls://%s#skip-cert-verify=true"]
  proxy-server-nameserver: [%s]
  respect-rules: true
rules: ['DOMAIN,direct.test,DIRECT', 'IP-CIDR,10.0.0.0/8,DIRECT', 'MATCH,px']
""" % (RESOLVER, TLS_RESOLVER, RESOLVER)
        with core(text, server="proxy.test") as c:
            echo(c, "www.secret.test")
            eq(w.names_at(RESOLVER), {"proxy.test"}, "the plain resolver is asked for the proxy alone")
            eq(w.names_at(TLS_RESOLVER), {"www.secret.test"})
            eq((TLS_RESOLVER, 853) in w.proxied, True, "the encrypted one is reached through the proxy")
            eq(w.in_clear("secret.test"), [])
    Namespace(run)


def test_nothing_in_clear_with_encrypted_upstreams_only():
    def run(w):
        text = "dns: {enable: true, listen: '127.0.0.1:$dnsl', ipv6: true, nameserver: ['tls://%s#skip-cert-verify=true']}\nrules: ['IP-CIDR,10.0.0.0/8,DIRECT', 'MATCH,px']"
        with core(text % TLS_RESOLVER, ipv6="true") as c:
            for i in range(5):
                echo(c, "www%d.secret.test" % i)
            eq(c.get("/dns/query?name=api.secret.test&type=A")["Status"], 0)
            eq(w.names_at(TLS_RESOLVER), {"www%d.secret.test" % i for i in range(5)} | {"api.secret.test"})
            eq((w.names_at(RESOLVER), w.in_clear("secret.test"), [p for p in w.packets if p[1] == 53]), (set(), [], []))
            w.servers[2].shutdown()       # the encrypted one is gone: an error, not a question in clear
            w.servers[2].server_close()
            r = c.api("GET", "/dns/query?name=gone.secret.test&type=A", timeout=20)
            eq((r.status, w.names_at(RESOLVER), [p for p in w.packets if p[1] == 53]), (r.status, set(), []))
    Namespace(run)


def question(core, name, kind):
    """The answer of dns.listen: (rcode, records)."""
    q = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0" + b"".join(bytes([len(x)]) + x for x in name.encode().split(b".")) + struct.pack("!BHH", 0, kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(3 * lib.SLOW)
        s.sendto(q, ("127.0.0.1", core.port["dnsl"]))
        a = s.recv(512)
    return a[3] & 15, struct.unpack("!H", a[6:8])[0]


def test_no_aaaa_when_ipv6_is_off():
    def run(w):
        with core("dns: {enable: true, listen: '127.0.0.1:$dnsl', ipv6: true, nameserver: [%s]}\nrules: ['IP-CIDR,10.0.0.0/8,DIRECT', 'MATCH,px']" % RESOLVER) as c:
            for i in range(5):
                echo(c, "www%d.test" % i)
            eq(question(c, "six.test", 28), (0, 0))
            eq(question(c, "four.test", 1), (0, 1))
            eq({k for _, _, k in w.asked}, {1})
    Namespace(run)


def test_dns_ipv6_off_is_for_the_server_alone():
    def run(w):
        with core("dns: {enable: true, listen: '127.0.0.1:$dnsl', ipv6: false, nameserver: [%s]}\nrules: ['MATCH,px']" % RESOLVER, ipv6="true") as c:
            eq((question(c, "six.test", 28), w.asked), ((0, 0), []))
    Namespace(run)


def test_aaaa_is_asked_when_it_is_on():
    def run(w):
        with core("dns: {enable: true, ipv6: true, nameserver: [%s]}\nrules: ['IP-CIDR,10.0.0.0/8,DIRECT', 'MATCH,px']" % RESOLVER, ipv6="true") as c:
            echo(c, "www.test")
            until(lambda: {k for _, _, k in w.asked} == {1, 28}, why="both are asked")
    Namespace(run)
