# SPDX-License-Identifier: MIT
"""The other ends that the suites talk to, all on 127.0.0.1 and in one asyncio thread: TCP and UDP echo, a reset server, an HTTP origin, SOCKS5
and HTTP CONNECT upstreams (plain and TLS), a DNS server. start() returns a Servers with their ports and what they have seen."""
import asyncio
import base64
import hashlib
import os
import re
import socket
import ssl
import struct
import subprocess
import tempfile
import threading

HOST = "127.0.0.1"
BACKLOG = 4096


def free_port(taken=set()):
    """A port below the ephemeral range that is free for TCP and UDP now, and was not given before."""
    while True:
        port = 10000 + int.from_bytes(os.urandom(2), "big") % 22000
        if port in taken:
            continue
        taken.add(port)
        try:
            with socket.socket() as t, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
                t.bind(("0.0.0.0", port))
                u.bind(("0.0.0.0", port))
            return port
        except OSError:
            pass


class Echo(asyncio.Protocol):
    """Sends back what comes; an end is answered with an end after the last byte. Reading stops while the peer does not read."""
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class EchoUDP(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(data, peer)


def reset(writer):
    """Closes with a reset instead of an end."""
    sock = writer.get_extra_info("socket")
    if sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def pump(reader, writer):
    """One direction, with half close; a reset on one side becomes one on the other."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
    except (OSError, asyncio.IncompleteReadError):
        reset(writer)


async def join(r1, w1, r2, w2):
    await asyncio.gather(pump(r1, w2), pump(r2, w1))
    w1.close()
    w2.close()


class Servers:
    def __init__(self):
        self.seen = []            # (which, target host, target port) of each request an upstream took
        self.tasks = set()
        self.headers = []         # head of each CONNECT
        self.questions = []       # (name, type) the DNS server was asked
        self.users = {}           # upstream user -> password; empty = no authentication
        self.dir = tempfile.mkdtemp(prefix="sluice-servers-")
        self.cert, self.key = os.path.join(self.dir, "cert.pem"), os.path.join(self.dir, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                        "-subj", "/CN=up.test", "-addext", "subjectAltName=DNS:up.test,IP:127.0.0.1", "-keyout", self.key, "-out", self.cert],
                       check=True, capture_output=True)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.cert, self.key)
        self.port = {n: free_port() for n in ("echo", "udp", "reset", "origin", "socks", "http", "socks_tls", "http_tls", "dns", "closed")}
        self.loop = asyncio.new_event_loop()
        up = threading.Event()
        threading.Thread(target=self.run, args=(up,), daemon=True).start()
        if not up.wait(10):
            raise RuntimeError("the test servers did not start")

    def run(self, up):
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.listen())
        up.set()
        self.loop.run_forever()

    async def listen(self):
        p, loop = self.port, self.loop
        await loop.create_server(Echo, HOST, p["echo"], backlog=BACKLOG)
        await loop.create_datagram_endpoint(EchoUDP, (HOST, p["udp"]))
        for name, handler, tls in (("reset", self.reset, None), ("origin", self.origin, None), ("socks", self.socks, None),
                                   ("http", self.http, None), ("socks_tls", self.socks, self.tls), ("http_tls", self.http, self.tls),
                                   ("dns", self.dns_tcp, None)):
            await asyncio.start_server(self.quiet(handler), HOST, p[name], ssl=tls, backlog=BACKLOG, limit=1 << 20)
        await loop.create_datagram_endpoint(lambda: DNS(self), (HOST, p["dns"]))

    def quiet(self, handler):
        async def run(reader, writer):
            self.tasks.add(asyncio.current_task())      # the loop itself holds its tasks weakly
            try:
                await handler(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError):
                pass
            finally:
                writer.close()
                self.tasks.discard(asyncio.current_task())
        return run

    async def reset(self, reader, writer):
        """Echoes; a line "reset" is answered with a reset."""
        while data := await reader.read(65536):
            if b"reset" in data:
                reset(writer)
                return
            writer.write(data)

    # ---- HTTP origin: /hello /204 /status/N /bytes/N /chunked/N /slow/MS /headers /sha (digest of the body) /echo /close
    async def origin(self, reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode("latin1").split("\r\n")
            method, path, _ = lines[0].split(" ")
            headers = {k.lower(): v.strip() for k, _, v in (x.partition(":") for x in lines[1:] if x)}
            body = await self.body(reader, headers)
            status, kind, out, chunked = 200, "text/plain", b"", False
            if path == "/hello":
                out = b"hello\n"
            elif path == "/204":
                status = 204
            elif path.startswith("/status/"):
                status, out = int(path[8:]), b"x"
            elif path.startswith("/bytes/"):
                out = pattern(int(path[7:]))
            elif path.startswith("/chunked/"):
                out, chunked = pattern(int(path[9:])), True
            elif path.startswith("/slow/"):
                await asyncio.sleep(int(path[6:]) / 1000)
            elif path == "/headers":
                out = head
            elif path == "/sha":
                out = hashlib.sha256(body).hexdigest().encode()
            elif path == "/echo":
                out = body
            elif path == "/close":
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end")
                return
            else:
                status = 404
            if chunked:
                writer.write(b"HTTP/1.1 %d x\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % (status, kind.encode()))
                for i in range(0, len(out), 10000):
                    part = out[i:i + 10000]
                    writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                writer.write(b"0\r\n\r\n")
            else:
                length = b"" if status == 204 else b"Content-Length: %d\r\n" % len(out)
                writer.write(b"HTTP/1.1 %d x\r\nContent-Type: %s\r\n%s\r\n" % (status, kind.encode(), length))
                if method != "HEAD":
                    writer.write(out)
            await writer.drain()

    @staticmethod
    async def body(reader, headers):
        if headers.get("transfer-encoding", "").lower() == "chunked":
            out = b""
            while n := int((await reader.readline()).split(b";")[0], 16):
                out += await reader.readexactly(n)
                await reader.readexactly(2)
            await reader.readline()
            return out
        return await reader.readexactly(int(headers.get("content-length", 0)))

    async def target(self, which, host, port):
        """Where an upstream goes for a target: names never leave the machine."""
        self.seen.append((which, host, port))
        if host.endswith(".test") or not re.fullmatch(r"127\.[\d.]+|localhost|::1", host):
            port = self.port["origin"] if port == 80 else self.port["socks"] if port == 1080 else self.port["echo"]
        return await asyncio.open_connection(HOST, port)

    async def socks(self, reader, writer):
        n = (await reader.readexactly(2))[1]
        methods = await reader.readexactly(n)
        want = 2 if self.users else 0
        if want not in methods:
            writer.write(b"\x05\xff")
            return
        writer.write(bytes([5, want]))
        if want:
            user = (await reader.readexactly((await reader.readexactly(2))[1])).decode()
            word = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            good = self.users.get(user) == word
            writer.write(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return
        _, command, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, await reader.readexactly(4 if kind == 1 else 16))
        port = struct.unpack("!H", await reader.readexactly(2))[0]
        if command == 3:
            relay, _ = await self.loop.create_datagram_endpoint(lambda: SocksUDP(self), (HOST, 0))
            writer.write(b"\x05\x00\x00\x01" + socket.inet_aton(HOST) + struct.pack("!H", relay.get_extra_info("sockname")[1]))
            await reader.read()
            relay.close()
            return
        try:
            r, w = await self.target("socks", host, port)
        except OSError:
            writer.write(b"\x05\x05\x00\x01\0\0\0\0\0\0")
            return
        writer.write(b"\x05\x00\x00\x01\0\0\0\0\0\0")
        await join(reader, writer, r, w)

    async def http(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
        self.headers.append(head)
        if self.users:
            word = re.search(r"(?im)^proxy-authorization: basic (\S+)", head)
            user, _, password = base64.b64decode(word[1]).decode().partition(":") if word else ("", "", "")
            if self.users.get(user) != password:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
                return
        host, _, port = head.split(" ")[1].rpartition(":")
        try:
            r, w = await self.target("http", host.strip("[]"), int(port))
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await join(reader, writer, r, w)

    # ---- DNS: nx.* NXDOMAIN, drop.* silence, big.* truncated over UDP, huge.* the same and 24 kB over TCP, v6.* AAAA ::1 only,
    # slow.* after 0.5 s over UDP, ipA-B-C-D.* that address, else 127.0.0.1
    def answer(self, q, udp):
        labels, o = [], 12
        while n := q[o]:
            labels.append(q[o + 1:o + 1 + n].decode("latin1").lower())
            o += 1 + n
        kind = struct.unpack("!H", q[o + 1:o + 3])[0]
        question = q[12:o + 5]
        self.questions.append((".".join(labels), kind))
        if labels[0] == "drop":
            return None
        flags, data = 0x8180, None
        m = re.fullmatch(r"ip(\d+)-(\d+)-(\d+)-(\d+)", labels[0])
        if labels[0] == "nx":
            flags |= 3
        elif labels[0] in ("big", "huge") and udp:
            flags |= 0x200
        elif kind == 1 and labels[0] != "v6":
            data = socket.inet_aton(".".join(m.groups()) if m else HOST)
        elif kind == 28 and labels[0] == "v6":
            data = socket.inet_pton(socket.AF_INET6, "::1")
        n = 0 if data is None else 1500 if labels[0] == "huge" else 1
        rr = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data if data else b""
        return q[:2] + struct.pack("!HHHHH", flags, 1, n, 0, 0) + question + rr * n

    async def dns_tcp(self, reader, writer):
        while True:
            n = struct.unpack("!H", await reader.readexactly(2))[0]
            a = self.answer(await reader.readexactly(n), False)
            if a:
                writer.write(struct.pack("!H", len(a)) + a)


class DNS(asyncio.DatagramProtocol):
    def __init__(self, servers):
        self.servers = servers

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        a = self.servers.answer(data, True)
        if a and data[12:].startswith(b"\x04slow"):
            self.servers.loop.call_later(0.5, self.transport.sendto, a, peer)
        elif a:
            self.transport.sendto(a, peer)


class SocksUDP(asyncio.DatagramProtocol):
    """The relay of a UDP ASSOCIATE: every datagram is echoed as if its target had answered."""
    def __init__(self, servers):
        self.servers = servers

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        n = 5 + data[4] + 2 if data[3] == 3 else 10 if data[3] == 1 else 22
        host = data[5:5 + data[4]].decode() if data[3] == 3 else socket.inet_ntop(socket.AF_INET if data[3] == 1 else socket.AF_INET6, data[4:n - 2])
        self.servers.seen.append(("udp", host, struct.unpack("!H", data[n - 2:n])[0]))
        self.transport.sendto(data, peer)


def pattern(n):
    """n bytes that no shift or swap leaves equal."""
    block = hashlib.sha256(b"pattern").digest() * 32
    out = b"".join(struct.pack("!I", i) + block for i in range(n // (len(block) + 4) + 1))
    return out[:n]
