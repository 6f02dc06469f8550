# SPDX-License-Identifier: MIT
"""Process rules: real programs under names of their own as clients, over TCP and UDP, IPv4 and IPv6; find-process-mode; and the nethelper's own life."""
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import lib
from lib import BASE, HOST, NOBODY, Core, eq, kill, until

ON = BASE.replace('find-process-mode: "off"', "find-process-mode: strict")
RULES = """
sluice: {workers: 2}
listeners:
  - {name: six, type: mixed, port: $six, listen: "::1"}
  - {name: any, type: socks, port: $any, listen: "0.0.0.0"}
sub-rules:
  below: ["PROCESS-NAME,client-below,DIRECT"]
rules:
  - DOMAIN,first.test,DIRECT
  - PROCESS-NAME,Client-Name,DIRECT
  - PROCESS-PATH,$dir/path/client,DIRECT
  - PROCESS-NAME-REGEX,^client-re[0-9]$,DIRECT
  - PROCESS-PATH-WILDCARD,*/wild/*,DIRECT
  - AND,((PROCESS-NAME,client-and),(NETWORK,UDP)),DIRECT
  - SUB-RULE,(NETWORK,TCP),below
  - UID,65534,DIRECT
  - MATCH,DIRECT
hosts: {first.test: 127.0.0.1}
"""
CONFIG = ON + RULES
# A client: HOST PORT tcp|udp TARGET-PORT. Says "ok" once an answer came through the proxy, and holds the connection until its input ends.
CLIENT = r"""
import socket, struct, sys
host, port, kind, to = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
name = sys.argv[5] if len(sys.argv) > 5 else ""
where = (b"\3" + bytes([len(name)]) + name.encode() if name else b"\1\x7f\0\0\1") + struct.pack("!H", to)
t = socket.create_connection((host, port), 20)
t.sendall(b"\5\1\0"); assert t.recv(2) == b"\5\0"
if kind == "tcp":
    t.sendall(b"\5\1\0" + where); assert t.recv(64)[1] == 0
    t.sendall(b"x"); assert t.recv(1) == b"x"
else:
    t.sendall(b"\5\3\0\1" + bytes(6)); head = t.recv(64); assert head[1] == 0
    u = socket.socket(t.family, socket.SOCK_DGRAM); u.settimeout(20)
    if kind == "udp-connected": u.connect((host, struct.unpack("!H", head[-2:])[0]))
    else: u.bind(("", 0))
    to, packet = (host, struct.unpack("!H", head[-2:])[0]), b"\0\0\0" + where + b"x"
    u.send(packet) if kind == "udp-connected" else u.sendto(packet, to)
    assert u.recv(64)[-1:] == b"x"
    print(u.getsockname()[1], end=" ")
print(t.getsockname()[1], "ok", flush=True)
sys.stdin.read()
"""


def program(core, name):
    """A program of that path below the core's directory: a copy, which every user may run."""
    path = core.path(name)
    if not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        for d in {core.dir, os.path.dirname(path)}:
            os.chmod(d, 0o755)
        shutil.copy(os.path.realpath(sys.executable), path)
    return path


@contextlib.contextmanager
def client(core, name, kind="tcp", host=HOST, port="socks", user=None, target=None):
    """A connection of that program; gives what /connections says of it."""
    who = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    to = lib.servers.port["echo" if kind == "tcp" else "udp"]
    p = subprocess.Popen([program(core, name), "-I", "-S", "-c", CLIENT, host, str(core.port[port]), kind, str(to)] + ([target] if target else []), stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True, env={"PYTHONHOME": sys.prefix}, **who)
    try:
        said = p.stdout.readline().split()
        if said[-1:] != ["ok"]:
            raise AssertionError("the client ended with %s" % p.wait(5))
        yield core.one(sourcePort=said[0], network=kind[:3])
    finally:
        p.stdin.close()
        p.wait(5)
        p.stdout.close()


def rule(c):
    return c["rule"], c["rulePayload"], c["metadata"]["process"]


def helper(core):
    return core.pids("nethelper")


# ---- rules
def test_by_name(core):
    with client(core, "bin/client-name") as c:
        eq(rule(c), ("ProcessName", "Client-Name", "client-name"))
        eq((c["metadata"]["processPath"], c["metadata"]["uid"]), (core.path("bin/client-name"), os.getuid()))


def test_by_path_and_patterns(core):
    for name, want in (("path/client", ("ProcessPath", core.path("path/client"))), ("bin/client-re7", ("ProcessNameRegex", "^client-re[0-9]$")),
                       ("wild/thing", ("ProcessPathWildcard", "*/wild/*")), ("bin/other", ("Match", ""))):
        with client(core, name) as c:
            eq(rule(c), want + (os.path.basename(name),))


def test_logic_and_sub_rules(core):
    with client(core, "bin/client-below") as c:
        eq((rule(c)[0], rule(c)[2]), ("SubRules", "client-below"))
    with client(core, "bin/client-and") as c:
        eq(rule(c)[0], "Match")
    with client(core, "bin/client-and", "udp") as c:
        eq((rule(c)[0], c["metadata"]["network"]), ("AND", "udp"))


def test_udp(core):
    for kind in ("udp", "udp-connected"):
        with client(core, "bin/client-name", kind) as c:
            eq(rule(c), ("ProcessName", "Client-Name", "client-name"), kind)


def test_ipv6(core):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        raise lib.Skip("no IPv6 here")
    for kind in ("tcp", "udp"):
        with client(core, "bin/client-name", kind, "::1", "six") as c:
            eq(rule(c), ("ProcessName", "Client-Name", "client-name"), kind)


def test_listener_of_every_address(core):
    for kind in ("tcp", "udp", "udp-connected"):
        with client(core, "bin/client-name", kind, port="any") as c:
            eq(rule(c), ("ProcessName", "Client-Name", "client-name"), kind)


def test_http_proxy_connection_is_asked_for_again(core):
    """Requests over one client connection: the second is answered from what is kept."""
    with socket.create_connection((HOST, core.port["http"]), 10) as s:
        for _ in range(3):
            s.sendall(b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\n\r\n" % lib.servers.port["origin"])
            until(lambda: s.recv(65536), why="an answer")


def test_uid(core):
    if os.getuid() != 0:
        raise lib.Skip("not root")
    with client(core, "bin/other", user=NOBODY) as c:
        eq(rule(c), ("Uid", "65534", "other"))
        eq(c["metadata"]["uid"], NOBODY)
        core.wait_log(r"\[TCP\] %s:%s\(other, uid=65534\) --> " % (HOST, c["metadata"]["sourcePort"]))


def test_asked_only_when_a_rule_needs_it(core):
    with client(core, "bin/client-name", target="first.test") as c:
        eq(rule(c), ("Domain", "first.test", ""))
        eq(c["metadata"]["processPath"], "")


def test_a_replaced_program_keeps_its_name(core):
    path = program(core, "bin/client-re1")
    with client(core, "bin/client-re1") as c:
        eq(rule(c)[2], "client-re1")
    p = subprocess.Popen([path, "-I", "-S", "-c", "import sys; sys.stdin.readline(); exec(sys.argv.pop(1))", CLIENT, HOST, str(core.port["socks"]), "tcp",
                          str(lib.servers.port["echo"])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONHOME": sys.prefix})
    os.unlink(path)
    p.stdin.write("go\n")
    p.stdin.flush()
    port = p.stdout.readline().split()[0]
    eq(rule(core.one(sourcePort=port)), ("ProcessNameRegex", "^client-re[0-9]$", "client-re1"))
    p.stdin.close()
    p.wait(5)
    p.stdout.close()


# ---- the mode
def test_modes():
    rules = "rules: ['MATCH,DIRECT']\n"
    with Core(ON + rules) as c:
        with client(c, "bin/x") as x:
            eq((rule(x), helper(c)), (("Match", "", ""), []), "strict, without a rule that asks")
        eq(c.api("PATCH", "/configs", {"find-process-mode": "always"}).status, 204)
        with client(c, "bin/x") as x:
            eq(rule(x), ("Match", "", "x"))
        eq(c.api("PATCH", "/configs", {"mode": "direct"}).status, 204)
        with client(c, "bin/x") as x:
            eq(x["metadata"]["process"], "", "no rule is looked at")
        eq(c.api("PATCH", "/configs", {"mode": "rule", "find-process-mode": "off"}).status, 204)
        with client(c, "bin/x") as x:
            eq(x["metadata"]["process"], "")
    with Core(BASE.replace('"off"', "always") + rules) as c:
        with client(c, "bin/x", "udp") as x:
            eq(rule(x), ("Match", "", "x"))
    with Core(BASE + "rules: ['PROCESS-NAME,x,REJECT', 'NOT,((PROCESS-NAME,y)),DIRECT']\n") as c:
        with client(c, "bin/x") as x:
            eq((x["rule"], x["metadata"]["process"], helper(c)), ("NOT", "", []), "off")


# ---- the nethelper's life
def test_one_only_while_it_is_wanted():
    with Core(ON + "rules: ['MATCH,DIRECT']\n") as c:
        def load(text):
            eq(c.api("PUT", "/configs?force=true", {"path": "", "payload": c.fill(ON) + text}).status, 204)
        eq(helper(c), [])
        load("rules: ['PROCESS-NAME,x,DIRECT', 'MATCH,DIRECT']\n")
        first = until(lambda: helper(c), why="a nethelper")
        with client(c, "bin/x") as x:
            eq(rule(x), ("ProcessName", "x", "x"))
            load("rules: ['PROCESS-NAME,y,REJECT', 'NOT,((PROCESS-NAME,z)),DIRECT']\n")
            eq(helper(c), first, "it serves the next generation too")
        with client(c, "bin/x") as x:
            eq(x["rule"], "NOT")
        load("rules: ['MATCH,DIRECT']\n")
        until(lambda: not helper(c), 5, why="no nethelper any more")
        eq(c.api("PUT", "/configs?force=true", {"path": "", "payload": "rules: ['PROCESS-NAME,x,NOBODY']"}).status, 400)
        eq(helper(c), [])


def test_killed_again_and_again(core):
    """No connection fails meanwhile; rules work again with the next one."""
    def named():
        with client(core, "bin/client-name") as c:
            return rule(c)[1:] == ("Client-Name", "client-name")
    for _ in range(4):
        old = until(lambda: helper(core), why="a nethelper")[0]
        kill(old, signal.SIGKILL)
        until(named, 10, why="the client's name")
        until(lambda: helper(core) and helper(core) != [old], why="another one")


def test_one_that_hangs(core):
    pid = until(lambda: helper(core), why="a nethelper")[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with client(core, "bin/client-name") as c:
            eq(rule(c), ("Match", "", ""))
        eq(time.monotonic() - began < 10 * lib.SLOW, True)
    finally:
        os.kill(pid, signal.SIGCONT)
    with client(core, "bin/client-name") as c:
        eq(rule(c)[2], "client-name")


def test_upgrade():
    with Core(CONFIG) as c:
        old = until(lambda: helper(c), why="a nethelper")
        eq(c.api("POST", "/upgrade?force=true", timeout=60).status, 200)
        with client(c, "bin/client-name") as x:
            eq(rule(x), ("ProcessName", "Client-Name", "client-name"))
        until(lambda: len(helper(c)) == 1 and helper(c) != old, 10, why="the new programs' nethelper alone")


def test_ordinary_user():
    if os.getuid() != 0:
        raise lib.Skip("the other tests ran so")
    if subprocess.run([lib.PROGRAM, "-v"], user=NOBODY, group=NOBODY, capture_output=True).returncode != 0:
        raise lib.Skip("the build directory is not readable by others")
    with Core(CONFIG, user=NOBODY) as c:
        with client(c, "bin/client-name", user=NOBODY) as x:
            eq(rule(x), ("ProcessName", "Client-Name", "client-name"))
        with client(c, "bin/client-name") as x:
            eq((rule(x), x["metadata"]["uid"]), (("Match", "", ""), 0))
        eq(c.log().count("only programs of uid 65534 are known by name") > 0 or "-asan" in lib.PROGRAM, True)


# ---- alone, with hostile questions
class Helper:
    """The program by itself; this is its supervisor and its workers."""
    def __init__(self):
        self.sup, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log, log = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def place():
            a, b = (os.dup(f) for f in (theirs.fileno(), log.fileno()))
            a, b = (os.dup2(f, n) for f, n in ((a, 30), (b, 31)))
            os.dup2(a, 3)
            os.dup2(b, 4)
        path = os.path.join(os.path.dirname(lib.PROGRAM), "libexec/sluice-nethelper")
        self.proc = subprocess.Popen([path], preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL)
        theirs.close()
        log.close()
        self.sup.settimeout(5 * lib.SLOW)
        eq(self.sup.recv(100)[:2], struct.pack("H", 4), "READY")

    @staticmethod
    def message(type_, body=b"", ident=0, length=None):
        return struct.pack("=HHIII", type_, 1, len(body) if length is None else length, ident, 0) + body

    def channel(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.sup, [self.message(141)], [theirs.fileno()])
        theirs.close()
        ours.settimeout(5 * lib.SLOW)
        return ours

    @staticmethod
    def find(src, dst, udp=False):
        def ip(a):
            return b"\x04" + socket.inet_aton(a[0]) + bytes(12)
        return struct.pack("BB", udp, 0) + ip(src) + ip(dst) + struct.pack("=HH", src[1], dst[1])

    def close(self):
        self.sup.close()
        status = self.proc.wait(5 * lib.SLOW)
        self.log.close()
        return status


def test_hostile_questions():
    h = Helper()
    try:
        with socket.create_server((HOST, 0)) as listener, socket.create_connection(listener.getsockname()) as s:
            good = h.message(142, h.find(s.getsockname(), s.getpeername()), 7)
            ours = h.channel()
            for bad in (b"", b"x", h.message(142), good[:-1], good + b"x", h.message(142, bytes(40), length=41), h.message(143, bytes(12)), h.message(1, bytes(24)),
                        h.message(140), h.message(0xffff, os.urandom(5000)), struct.pack("=HHIII", 142, 9, 40, 1, 0) + bytes(40)):
                other = h.channel()
                try:
                    other.send(bad)
                    if bad:
                        eq(other.recv(10), b"", "it is ended")
                except ConnectionError:
                    pass
                other.close()
            # well-formed nonsense is answered: nobody's
            for body in (bytes(40), b"\xff" * 40, os.urandom(40), h.find((HOST, 0), (HOST, 0)), h.find(("192.0.2.1", 5), (HOST, 6), True)):
                ours.send(h.message(142, body, 3))
                eq(ours.recv(5000)[16:], struct.pack("=III", 0, 0, 0), body.hex())
            # a socket bound to every address does not answer for the same port number of another machine
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
                u.bind(("", 0))
                for ip, want in ((HOST, os.path.realpath(sys.executable)), ("192.0.2.1", "")):
                    ours.send(h.message(142, h.find((ip, u.getsockname()[1]), (HOST, 6), True), 4))
                    eq(ours.recv(5000)[28:].decode(), want, ip)
            # a crowd at once, one of them gone before the answers
            gone = h.channel()
            for i in range(200):
                gone.send(good)
            gone.close()
            for i in range(100):
                ours.send(h.message(142, h.find(s.getsockname(), s.getpeername()), 1000 + i))
            seen = set()
            while len(seen) < 100:
                m = ours.recv(5000)
                seen.add(struct.unpack_from("=I", m, 8)[0])
                eq(m[28:].decode(), os.path.realpath(sys.executable))
            eq(seen, set(range(1000, 1100)))
            ours.close()
    finally:
        status = h.close()
    eq(status, 0, "it ends with its supervisor")
