# SPDX-License-Identifier: MIT
"""What the suites use: a Core is one running sluice in a directory of its own; the rest are clients (API, WebSocket, SOCKS, HTTP proxy, UDP) and
questions about processes. The servers on the other side are in servers.py. Nothing here knows the program but by its outside."""
import base64
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import string
import struct
import subprocess
import tempfile
import threading
import time
import urllib.parse

from servers import HOST, Servers, free_port, pattern  # noqa: F401 (re-exported)

SECRET = "test-secret"
PROGRAM = "build/sluice"          # set by run.py
SLOW = 1                          # set by run.py: waits are that much longer under a sanitizer
NOBODY = 65534
servers = None                    # a Servers, set by run.py
BASE = """
mixed-port: $mixed
socks-port: $socks
port: $http
mode: rule
log-level: debug
find-process-mode: "off"
external-controller: 127.0.0.1:$ctl
secret: test-secret
"""


class Skip(Exception):
    pass


def until(fn, seconds=3, why="it did not happen"):
    """Waits until fn() is true and returns what it gave; fails after that time."""
    end = time.monotonic() + seconds * SLOW
    while True:
        last = fn()
        if last:
            return last
        if time.monotonic() > end:
            raise AssertionError("%s within %g s (last: %r)" % (why, seconds * SLOW, last))
        time.sleep(0.02)


def eq(got, want, what=""):
    if got != want:
        raise AssertionError("%s%sgot %s, wanted %s" % (what, what and ": ", short(got), short(want)))


def short(v):
    t = v if isinstance(v, str) else repr(v)
    return t if len(t) < 4000 else t[:2000] + " ... " + t[-2000:]


# ---------------------------------------------------------------- the program under test
class Core:
    """config: a text with $names: ports (mixed, socks, http, ctl and any other name get a free one), the servers' ports as $s_NAME, $dir."""
    def __init__(self, config, files=None, args=(), env=None, user=None, start=True, wait_api=True):
        self.dir = tempfile.mkdtemp(prefix="sluice-core-")
        self.args, self.user, self.wait_api = list(args), user, wait_api
        self.environ = dict({k: v for k, v in os.environ.items() if not k.startswith("CLASH_")}, **(env or {}))
        self.port, self.proc = {}, None
        self.config = self.fill(config)
        self.write("config.yaml", self.config)
        for name, text in (files or {}).items():
            self.write(name, self.fill(text) if isinstance(text, str) else text)
        if user is not None:
            os.chmod(self.dir, 0o755)
            for top, _, names in os.walk(self.dir):
                for n in [top] + [os.path.join(top, x) for x in names]:
                    os.chown(n, user, user)
        if start:
            self.start()

    def fill(self, text):
        fixed = {"s_" + k: v for k, v in servers.port.items()}
        fixed.update(dir=self.dir, cert=servers.cert, key=servers.key)
        for name in re.findall(r"\$(\w+)", text):
            if name not in fixed and name not in self.port:
                self.port[name] = free_port()
        return string.Template(text).safe_substitute(fixed, **self.port)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())

    def start(self, wait=10):
        self.log_file = open(self.path("log"), "ab")
        who = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        self.proc = subprocess.Popen([PROGRAM, "-d", self.dir] + self.args, stdin=subprocess.DEVNULL, stdout=self.log_file,
                                     stderr=subprocess.STDOUT, env=self.environ, start_new_session=True, **who)
        end = time.monotonic() + wait * SLOW
        while not self.up():
            if self.proc.poll() is not None:
                raise AssertionError("sluice ended with status %s:\n%s" % (self.proc.returncode, self.log()[-3000:]))
            if time.monotonic() > end:
                raise AssertionError("sluice does not serve within %g s:\n%s" % (wait * SLOW, self.log()[-3000:]))
            time.sleep(0.05)
        return self

    def up(self):
        try:
            for name in ("mixed", "socks", "http"):
                if name in self.port and re.search(r"port: %d\b" % self.port[name], self.config):
                    socket.create_connection((HOST, self.port[name]), 1).close()
            return not self.wait_api or "ctl" not in self.port or self.api("GET", "/version").status in (200, 401)
        except OSError:
            return False

    def log(self):
        try:
            with open(self.path("log"), "rb") as f:
                return f.read().decode("utf8", "replace")
        except FileNotFoundError:
            return ""

    def wait_log(self, pattern_, seconds=3, start=0):
        return until(lambda: re.search(pattern_, self.log()[start:]), seconds, "no log line %r" % pattern_)

    def signal(self, sig):
        self.proc.send_signal(sig)

    def stop(self, seconds=4):
        """An orderly end; returns the exit status. What is left of the tree after that time is killed and reported."""
        if self.proc is None:
            return None
        tree = self.tree()
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(seconds * SLOW)
            except subprocess.TimeoutExpired:
                pass
        left = [p for p in tree if alive(p)]
        for p in left:
            kill(p, signal.SIGKILL)
        self.proc.wait(5)
        self.log_file.close()
        if left:
            raise AssertionError("processes %s did not end within %g s" % (left, seconds * SLOW))
        return self.proc.returncode

    def clean(self):
        try:
            return self.stop()
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            status = self.stop()
            if kind is None:
                eq(status, 0, "exit status")
                self.healthy()
        finally:
            shutil.rmtree(self.dir, ignore_errors=True)

    def healthy(self):
        m = re.search(r".*(ERROR: \w+Sanitizer|runtime error:|crashed|ended by signal (?!9|15)|SIGSYS|SIGSEGV|SIGABRT)[^\n]*(\n[^\n]*){0,12}", self.log())
        if m:
            raise AssertionError("the log says: " + m[0])

    # ---- processes
    def tree(self):
        return [self.proc.pid] + descendants(self.proc.pid)

    def pids(self, role):
        """Processes of the role: worker, controller, loader."""
        return [p for p in descendants(self.proc.pid) if program(p) == "sluice-" + role]

    def serving(self):
        """Workers of the generation that accepts."""
        return [int(line.split("pid ")[1].split()[0]) for line in self.cli("status").stdout.splitlines() if line.startswith("worker") and "serving" in line]

    def cli(self, *args, timeout=30, **kw):
        who = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        return subprocess.run([PROGRAM, *args, "-d", self.dir], capture_output=True, text=True, timeout=timeout * SLOW, env=self.environ, **who, **kw)

    # ---- API
    def connect(self, port="ctl", timeout=10):
        s = socket.create_connection((HOST, self.port.get(port, port)), timeout)
        s.settimeout(timeout * SLOW)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def api(self, method, path, body=None, raw=None, auth=True, headers=None, timeout=15, port="ctl"):
        c = http.client.HTTPConnection(HOST, self.port.get(port, port), timeout=timeout * SLOW)
        h = {"Authorization": "Bearer " + SECRET} if auth is True else {"Authorization": auth} if auth else {}
        h.update(headers or {})
        c.request(method, path, raw if raw is not None else json.dumps(body).encode() if body is not None else None, h)
        r = Answer(c.getresponse())
        c.close()
        return r

    def get(self, path, **kw):
        r = self.api("GET", path, **kw)
        eq(r.status, 200, "GET " + path)
        return r.json

    def raw(self, data, port="ctl", seconds=2):
        """Sends bytes; returns all that comes until the end of file or that time."""
        with self.connect(port) as s:
            s.sendall(data)
            return read_all(s, seconds)

    def connections(self, **match):
        """Live connections whose metadata has these values."""
        cs = self.get("/connections")["connections"] or []
        return [c for c in cs if all(c["metadata"].get(k) == v for k, v in match.items())]

    def one(self, **match):
        """The one connection with that metadata, waited for."""
        return until(lambda: (lambda x: x if len(x) == 1 else None)(self.connections(**match)), why="one connection with %r" % match)[0]

    def ws(self, path, **kw):
        return WebSocket(self.port["ctl"], path, **kw)

    # ---- through the proxy
    def socks(self, host, port, via="socks", **kw):
        return socks5(self.port.get(via, via), host, port, **kw)

    def held(self, host, port, via="socks"):
        """A connection through the proxy, proved by an echo."""
        s = self.socks(host, port, via)
        pong(s, b"hi")
        return s

    def dial_all(self, name, n=40):
        """n connections to the name at once, so that every worker needs its address."""
        errors = []

        def one():
            try:
                self.held(name, servers.port["echo"]).close()
            except Exception as e:  # told in this thread
                errors.append(repr(e))
        threads = [threading.Thread(target=one) for _ in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        eq(errors, [], "connections to " + name)

    def dns(self, name, kind=1, seconds=4, tcp=False):
        """(rcode, address of the last record or None) of an answer of dns.listen, which is the port $dns."""
        q = dns_question(name, kind)
        if tcp:
            with self.connect("dns", seconds) as s:
                s.sendall(struct.pack("!H", len(q)) + q)
                a = read_n(s, struct.unpack("!H", read_n(s, 2))[0])
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.settimeout(seconds * SLOW)
                s.sendto(q, (HOST, self.port["dns"]))
                a = s.recv(65536)
        eq(a[:2], q[:2], "the answer's number")
        return a[3] & 15, socket.inet_ntoa(a[-4:]) if a[7] and kind == 1 else None

    def fetch(self, url, via="http", method="GET", body=None, headers=None, timeout=10):
        c = http.client.HTTPConnection(HOST, self.port.get(via, via), timeout=timeout * SLOW)
        c.request(method, url, body, headers or {})
        r = Answer(c.getresponse())
        c.close()
        return r


class Answer:
    def __init__(self, r):
        self.status, self.headers, self.body = r.status, r.headers, r.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def type(self):
        return self.headers.get("Content-Type")

    def __repr__(self):
        return "%d %s" % (self.status, short(self.body.decode("utf8", "replace")))

    def error(self, status, message):
        eq((self.status, self.type, self.body), (status, "application/json", json.dumps({"message": message}).encode().replace(b'": "', b'":"') + b"\n"))


def rule_of(core, host, port):
    """The rule that a new connection to host and port meets: its type and payload."""
    s = core.held(host, port)
    c = core.one(destinationPort=str(port))
    s.close()
    return c["rule"], c["rulePayload"]


def on_every_worker(core, host, port, want, times=12):
    """So many connections, to port and those after it, that each worker has one."""
    for i in range(times):
        eq(rule_of(core, host, port + i), want)


def check_config(config, args=("-t",), files=None, env=None):
    """sluice -t on that text: exit status and all it said."""
    core = Core(config, files, env=env, start=False)
    try:
        r = subprocess.run([PROGRAM, "-d", core.dir, *args], capture_output=True, text=True, timeout=20 * SLOW, env=core.environ)
        return r.returncode, r.stdout + r.stderr
    finally:
        core.clean()


# ---------------------------------------------------------------- bytes
def read_all(s, seconds=2):
    end = time.monotonic() + seconds * SLOW
    out = b""
    try:
        while (left := end - time.monotonic()) > 0:
            s.settimeout(left)
            d = s.recv(65536)
            if not d:
                break
            out += d
    except TimeoutError:
        pass
    except ConnectionResetError:
        out += b"<reset>"
    return out


def read_n(s, n):
    out = b""
    while len(out) < n:
        d = s.recv(min(n - len(out), 1 << 20))
        if not d:
            raise EOFError("the end after %d of %d bytes" % (len(out), n))
        out += d
    return out


def pong(s, data=b"ping"):
    """One round trip over an echo."""
    s.sendall(data)
    eq(read_n(s, len(data)), data, "echo")


def ended(s, seconds=3):
    """How the other side ends: "end", "reset", or "open"."""
    s.settimeout(seconds * SLOW)
    try:
        return "end" if s.recv(1) == b"" else "data"
    except ConnectionResetError:
        return "reset"
    except TimeoutError:
        return "open"


def quote(name):
    return urllib.parse.quote(name, safe="")


def dns_question(name, kind=1, number=None):
    return (os.urandom(2) if number is None else number) + b"\x01\x00\x00\x01" + b"\0" * 6 + \
        b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0" + struct.pack("!HH", kind, 1)


def response(data):
    """(status, body) of raw HTTP bytes; (0, ...) when there is none."""
    m = re.match(rb"HTTP/1\.\d (\d{3})", data)
    return (int(m[1]), data.partition(b"\r\n\r\n")[2]) if m else (0, data)


# ---------------------------------------------------------------- SOCKS
class Refused(Exception):
    """args[0]: the reply code, or a word."""


def address(host):
    if re.fullmatch(r"[\d.]+", host):
        return b"\x01" + socket.inet_aton(host)
    if ":" in host:
        return b"\x04" + socket.inet_pton(socket.AF_INET6, host)
    return b"\x03" + bytes([len(host)]) + host.encode()


def socks_hello(port, user=None, source=None, timeout=10):
    s = socket.create_connection((HOST, port), timeout, (source, 0) if source else None)
    s.settimeout(timeout * SLOW)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(b"\x05\x01\x02" if user else b"\x05\x01\x00")
    try:
        method = read_n(s, 2)[1]
        if method == 2 and user:
            name, word = (x.encode() for x in user)
            s.sendall(b"\x01" + bytes([len(name)]) + name + bytes([len(word)]) + word)
            if read_n(s, 2)[1] != 0:
                raise Refused("auth")
        elif method != 0:
            raise Refused("method")
    except (EOFError, ConnectionResetError):
        s.close()
        raise Refused("closed") from None
    return s


def socks_command(s, command, host, port):
    s.sendall(bytes([5, command, 0]) + address(host) + struct.pack("!H", port))
    try:
        head = read_n(s, 4)
        rest = read_n(s, {1: 6, 4: 18}[head[3]])
    except (EOFError, ConnectionResetError):
        raise Refused("closed") from None
    if head[1] != 0:
        s.close()
        raise Refused(head[1])
    return socket.inet_ntop(socket.AF_INET if head[3] == 1 else socket.AF_INET6, rest[:-2]), struct.unpack("!H", rest[-2:])[0]


def socks5(proxy, host, port, user=None, source=None, timeout=10):
    s = socks_hello(proxy, user, source, timeout)
    socks_command(s, 1, host, port)
    return s


class Udp:
    """A UDP ASSOCIATE: send() and recv() of whole datagrams."""
    def __init__(self, proxy, user=None):
        self.tcp = socks_hello(proxy, user)
        host, port = socks_command(self.tcp, 3, "0.0.0.0", 0)
        self.relay = (HOST if host in ("0.0.0.0", "::") else host, port)
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.bind((HOST, 0))
        self.s.settimeout(3 * SLOW)

    def send(self, host, port, data):
        self.s.sendto(b"\0\0\0" + address(host) + struct.pack("!H", port) + data, self.relay)

    def recv(self):
        d = self.s.recv(65536)
        n = {1: 10, 3: 7 + d[4], 4: 22}[d[3]]
        return d[n:]

    def ask(self, host, port, data, tries=3):
        for i in range(tries):
            self.send(host, port, data)
            try:
                return self.recv()
            except TimeoutError:
                if i == tries - 1:
                    raise

    def close(self):
        self.tcp.close()
        self.s.close()


# ---------------------------------------------------------------- WebSocket and streams
class WebSocket:
    def __init__(self, port, path, token=SECRET, headers=None, seconds=5):
        self.s = socket.create_connection((HOST, port), seconds)
        self.s.settimeout(seconds * SLOW)
        key = base64.b64encode(os.urandom(16)).decode()
        if token:
            path += ("&" if "?" in path else "?") + "token=" + quote(token)
        lines = {"Host": "%s:%d" % (HOST, port), "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key, "Sec-WebSocket-Version": "13"}
        lines.update(headers or {})
        self.s.sendall(("GET %s HTTP/1.1\r\n%s\r\n" % (path, "".join("%s: %s\r\n" % x for x in lines.items() if x[1] is not None))).encode())
        self.f = self.s.makefile("rb")
        self.status = int(self.f.readline().split()[1])
        self.headers = http.client.parse_headers(self.f)
        self.body = b"" if self.status == 101 else self.f.read(int(self.headers.get("Content-Length", 0)))
        if self.status == 101:
            want = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
            eq(self.headers["Sec-WebSocket-Accept"], want)

    def frame(self):
        """(opcode, payload) of the next frame; (None, b"") at the end of file."""
        head = self.f.read(2)
        if len(head) < 2:
            return None, b""
        n = head[1] & 127
        if n > 125:
            n = struct.unpack("!H" if n == 126 else "!Q", self.f.read(2 if n == 126 else 8))[0]
        return head[0] & 15, self.f.read(n)

    def json(self):
        while True:
            op, data = self.frame()
            if op == 1:
                return json.loads(data)
            if op in (None, 8):
                raise EOFError("the stream ended")

    def send(self, op, data=b"", fin=True, mask=True):
        m = os.urandom(4)
        n = len(data)
        head = bytes([(128 if fin else 0) | op])
        size = bytes([n]) if n < 126 else b"\x7e" + struct.pack("!H", n) if n < 65536 else b"\x7f" + struct.pack("!Q", n)
        if not mask:
            self.s.sendall(head + size + data)
            return
        self.s.sendall(head + bytes([size[0] | 128]) + size[1:] + m + bytes(b ^ m[i % 4] for i, b in enumerate(data)))

    def close(self):
        self.f.close()
        self.s.close()


class Stream:
    """A plain GET of a stream: next() gives one JSON value."""
    def __init__(self, core, path, seconds=5):
        self.c = http.client.HTTPConnection(HOST, core.port["ctl"], timeout=seconds * SLOW)
        self.c.request("GET", path, headers={"Authorization": "Bearer " + SECRET})
        self.r = self.c.getresponse()
        self.status = self.r.status

    def next(self):
        line = self.r.readline()
        if not line:
            raise EOFError("the stream ended")
        return json.loads(line)

    def close(self):
        self.c.close()


# ---------------------------------------------------------------- processes
def program(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            name = os.path.basename(f.read().split(b"\0")[0].decode())
        if name.startswith("sluice-"):
            return name
        with open("/proc/%d/comm" % pid) as f:
            return f.read().strip()
    except OSError:
        return ""


def parents():
    out = {}
    for d in os.listdir("/proc"):
        if d.isdigit():
            try:
                with open("/proc/%s/stat" % d) as f:
                    fields = f.read().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    out[int(d)] = int(fields[1])
            except OSError:
                pass
    return out


def descendants(pid):
    up, out, more = parents(), [], [pid]
    while more:
        more = [p for p, q in up.items() if q in more]
        out += more
    return out


def alive(pid):
    return pid in parents()


def kill(pid, sig):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def status_of(pid):
    with open("/proc/%d/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


class Threads:
    """Runs fn(stop) in n threads until stopped; gathers exceptions and counts of rounds."""
    def __init__(self, n, fn):
        self.stop_now, self.errors, self.rounds = threading.Event(), [], [0] * n
        self.threads = [threading.Thread(target=self.run, args=(i, fn), daemon=True) for i in range(n)]
        for t in self.threads:
            t.start()

    def run(self, i, fn):
        while not self.stop_now.is_set():
            try:
                fn()
                self.rounds[i] += 1
            except Exception as e:  # whatever a client sees is what is tested
                self.errors.append("%s: %s" % (type(e).__name__, e))

    def stop(self):
        self.stop_now.set()
        for t in self.threads:
            t.join(15 * SLOW)
        return self.errors


def tls_client(s, name="up.test"):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(servers.cert)
    return c.wrap_socket(s, server_hostname=name)
