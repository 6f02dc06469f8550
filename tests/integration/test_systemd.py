# SPDX-License-Identifier: MIT
"""What a service manager sees: notifications, the watchdog, the descriptor store over a crash and a restart, and sockets given at the start. The
manager here is a thread with a datagram socket that keeps the store as systemd does: a descriptor once, removal by name."""
import array
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import lib
from lib import BASE, HOST, Core, alive, eq, pong, socks_command, until

CONFIG = BASE + """
external-controller-unix: api.sock
proxy-groups:
  - {name: g, type: select, proxies: [DIRECT, REJECT]}
rules:
  - DOMAIN,blocked.test,REJECT
  - MATCH,g
"""
TIMEOUT = 60
# Puts the descriptors where sd_listen_fds(3) says and names the process by its pid, then becomes the program.
LAUNCH = """
import fcntl, os, sys
fds = [fcntl.fcntl(int(f), fcntl.F_DUPFD, 500) for f in os.environ.pop("GIVEN").split()]
for i, f in enumerate(fds):
    os.dup2(f, 3 + i)
os.closerange(3 + len(fds), 1000)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(fds))
os.execv(sys.argv[1], sys.argv[1:])
"""


class Manager:
    def __init__(self, abstract=False, deaf=False):
        self.dir = tempfile.mkdtemp(prefix="sluice-notify-")
        self.name = "@sluice-test-%d-%x" % (os.getpid(), id(self)) if abstract else self.dir + "/notify"
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.name.replace("@", "\0"))
        self.notes, self.store, self.lock = [], {}, threading.Lock()
        self.thread = threading.Thread(target=self.listen, daemon=True)
        if not deaf:
            self.thread.start()

    def listen(self):
        while True:
            try:
                data, anc, _, _ = self.sock.recvmsg(8192, socket.CMSG_SPACE(4))
            except OSError:
                return
            if not data:
                return
            fds = array.array("i")
            for _, _, d in anc:
                fds.frombytes(d[:4])
            note = dict(line.split("=", 1) for line in data.decode().split("\n"))
            with self.lock:
                self.handle(note, list(fds))

    def handle(self, note, fds):
        self.notes.append((time.monotonic(), note))
        name = note.get("FDNAME")
        if "FDSTOREREMOVE" in note and name in self.store:
            os.close(self.store.pop(name))
        if "FDSTORE" in note:
            if any(os.path.sameopenfile(f, fds[0]) and socket_name(f) == socket_name(fds[0]) for f in self.store.values()):
                os.close(fds[0])
                return
            assert name not in self.store, "%s is stored twice" % name
            self.store[name] = fds[0]
        elif fds:
            os.close(fds[0])                # BARRIER=1: everything before is handled

    def all(self, key):
        with self.lock:
            return [n[key] for _, n in self.notes if key in n]

    def times(self, key):
        with self.lock:
            return [t for t, n in self.notes if key in n]

    def wait(self, key, value=None, seconds=10):
        return until(lambda: [v for v in self.all(key) if value is None or re.search(value, v)], seconds, "no %s=%s" % (key, value))[-1]

    def listeners(self):
        """(type, port) of the stored sockets, sorted."""
        with self.lock:
            return sorted(socket_name(f) for n, f in self.store.items() if n.startswith("sluice/listen/") and socket_name(f)[1])

    def names(self):
        with self.lock:
            return set(self.store)

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for f in self.store.values():
            os.close(f)
        subprocess.run(["rm", "-rf", self.dir], check=True)


def socket_name(fd):
    """(type, port) of a socket, ("", 0) of anything else."""
    try:
        s = socket.socket(fileno=os.dup(fd))
    except OSError:
        return "", 0
    with s:
        a = s.getsockname()
        return ("tcp" if s.type & 15 == socket.SOCK_STREAM else "udp", a[1]) if isinstance(a, tuple) else ("unix", 0)


class Service(Core):
    """A Core under a Manager. start(): with what its store holds; sockets: of a .socket unit, name -> socket."""
    def __init__(self, config=CONFIG, watchdog=None, start=True, **kw):
        self.manager, self.watchdog = Manager(**kw), watchdog
        super().__init__(config, start=False)
        if start:
            self.start()

    def start(self, sockets=(), wait=True):
        given = [(n, s.fileno()) for n, s in sockets] + [(n, f) for n, f in reversed(self.manager.store.items())]
        env = dict(self.environ, NOTIFY_SOCKET=self.manager.name, GIVEN=" ".join(str(f) for _, f in given), LISTEN_FDNAMES=":".join(n for n, _ in given))
        if self.watchdog:
            env.update(WATCHDOG_USEC=str(int(self.watchdog * 1e6)))
        self.log_file = open(self.path("log"), "ab")
        self.proc = subprocess.Popen([sys.executable, "-c", LAUNCH, lib.PROGRAM, "-d", self.dir] + self.args, stdin=subprocess.DEVNULL, stdout=self.log_file,
                                     stderr=subprocess.STDOUT, env=env, start_new_session=True, pass_fds=[f for _, f in given])
        if wait:
            until(lambda: self.proc.poll() is not None or self.manager.all("READY"), 15)
            eq(self.proc.poll(), None, "exit status; " + self.log()[-2000:])
        return self

    def crash(self):
        tree = self.tree()
        os.kill(self.proc.pid, signal.SIGKILL)
        self.proc.wait(5)
        until(lambda: not any(alive(p) for p in tree), why="the children do not end with the supervisor")
        self.log_file.close()
        with self.manager.lock:
            self.manager.notes.clear()

    def clean(self):
        try:
            return super().clean()
        finally:
            self.manager.close()

    def __exit__(self, *a):
        try:
            super().__exit__(*a)
        finally:
            self.manager.close()


def bound(port=0, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((HOST, port))
    if kind == socket.SOCK_STREAM:
        s.listen(64)
    return s


def early(core, port="socks"):
    """A client that connects now and has sent its greeting, whoever will read it."""
    s = socket.create_connection((HOST, core.port[port]), 5)
    s.settimeout(10 * lib.SLOW)
    s.sendall(b"\x05\x01\x00")
    return s


def served(s):
    eq(lib.read_n(s, 2), b"\x05\x00", "the greeting of a client that waited")
    socks_command(s, 1, HOST, lib.servers.port["echo"])
    pong(s, b"still here")


# ---------------------------------------------------------------- notifications
def test_ready_status_stopping():
    for abstract in (False, True):
        with Service(abstract=abstract) as core:
            m = core.manager
            eq([n for _, n in m.notes if "READY" in n], [{"READY": "1", "MAINPID": str(core.proc.pid)}])
            eq(bool(re.fullmatch(r"generation 1: (\d+) of \1 workers, \d+ listeners, 0 connections", m.wait("STATUS"))), True, m.all("STATUS")[-1])
            s = core.held(HOST, lib.servers.port["echo"])
            m.wait("STATUS", ", 1 connections$")
            s.close()
            eq(core.stop(), 0)
            eq((m.wait("STOPPING"), m.all("STATUS")[-1], int(m.all("EXTEND_TIMEOUT_USEC")[-1]) > 1_500_000), ("1", "stopping", True))


def test_nothing_is_told_without_a_manager():
    with Core(CONFIG, env={"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "1000000", "LISTEN_PID": "1", "LISTEN_FDS": "3"}) as core:
        eq(core.api("GET", "/version").status, 200)


def test_a_socket_that_does_not_exist():
    with Core(CONFIG, env={"NOTIFY_SOCKET": "/nonexistent/notify"}) as core:
        core.wait_log("NOTIFY_SOCKET /nonexistent/notify cannot be used")


def test_children_do_not_inherit_the_variables():
    with Service(watchdog=30) as core:
        for role in ("worker", "controller"):
            for pid in core.pids(role):
                env = open("/proc/%d/environ" % pid).read()
                eq([w for w in ("NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_") if w in env], [], role)


def test_sighup_is_a_reload_of_type_notify_reload():
    with Service() as core:
        m = core.manager
        for good in (True, False, True):
            core.write("config.yaml", core.config if good else core.config + "mode: [\n")
            n = len(m.all("READY"))
            before = time.monotonic()
            core.signal(signal.SIGHUP)
            until(lambda: len(m.all("READY")) > n, 10, "READY=1 after SIGHUP")
            usec = int(m.wait("MONOTONIC_USEC"))
            eq(before * 1e6 - 1000 <= usec <= time.monotonic() * 1e6, True, "MONOTONIC_USEC")
            eq(len(m.all("RELOADING")), len(m.all("READY")) - 1)
            m.wait("STATUS", "connections$" if good else "the last reload was refused")


def test_reload_command_says_nothing_but_status():
    with Service() as core:
        eq(core.cli("reload").returncode, 0)
        core.manager.wait("STATUS", "generation 2")
        eq((core.manager.all("RELOADING"), len(core.manager.all("READY"))), ([], 1))


def test_a_manager_that_does_not_read():
    with Service(start=False, deaf=True) as core:
        core.start(wait=False)
        until(core.up, 10, "it serves although nobody reads the notifications")
        core.cli("reload")
        core.manager.thread.start()
        core.manager.wait("READY")
        core.manager.wait("STATUS", "generation 2")
        until(lambda: ("tcp", core.port["socks"]) in core.manager.listeners(), why="descriptors that waited are stored")


# ---------------------------------------------------------------- watchdog
def test_watchdog():
    with Service(watchdog=2) as core:
        m = core.manager
        until(lambda: len(m.times("WATCHDOG")) >= 5, 10, "five WATCHDOG=1")
        t = m.times("WATCHDOG")
        eq(max(b - a for a, b in zip(t, t[1:])) < 1.5 * lib.SLOW, True, "the gaps of the watchdog")
        eq(len(t) <= 2 + (t[-1] - t[0]), True, "about one each second")


def test_watchdog_of_another_process():
    with Service(start=False) as core:
        core.environ.update(WATCHDOG_USEC="400000", WATCHDOG_PID="1")
        core.start()
        time.sleep(1)
        eq(core.manager.all("WATCHDOG"), [])


def test_a_worker_that_hangs_is_replaced_in_time():
    with Service(watchdog=3) as core:
        m = core.manager
        m.wait("WATCHDOG")
        pid = core.pids("worker")[0]
        os.kill(pid, signal.SIGSTOP)
        core.wait_log("has not answered for .* it is replaced", 5)
        until(lambda: not alive(pid))
        n = len(m.all("WATCHDOG"))
        until(lambda: len(m.all("WATCHDOG")) > n + 1, 8)
        t = m.times("WATCHDOG")
        eq(max(b - a for a, b in zip(t, t[1:])) < 3, True, "never too late for the manager")
        until(lambda: len(core.serving()) == len(core.pids("worker")), why="the replacement serves")
        core.held(HOST, lib.servers.port["echo"])


def test_a_supervisor_that_hung_blames_nobody():
    with Service(watchdog=2) as core:
        core.manager.wait("WATCHDOG")
        workers = core.pids("worker")
        n = len(core.manager.all("WATCHDOG"))
        core.signal(signal.SIGSTOP)
        time.sleep(3)
        eq(len(core.manager.all("WATCHDOG")) <= n + 1, True, "a supervisor that does not run is silent")
        core.signal(signal.SIGCONT)
        until(lambda: len(core.manager.all("WATCHDOG")) > n + 2, 8)
        eq(core.pids("worker"), workers)


# ---------------------------------------------------------------- descriptor store
def test_store_holds_what_must_survive():
    with Service() as core:
        m = core.manager
        ports = {core.port[p] for p in ("mixed", "socks", "http", "ctl")}
        until(lambda: {p for _, p in m.listeners()} >= ports)
        names = m.names()
        for name in ("sluice/shared", "sluice/page/00", "sluice/tree", "sluice/run"):
            eq(name in names, True, "%s in %s" % (name, sorted(names)))
        eq(all(re.fullmatch(r"[!-9;-~]{1,64}", n) for n in names), True, "names are legal")
        eq([v for v in m.all("FDPOLL") if v != "0"], [])
        # the controller keeps the keys of another tree: two are to be kept
        eq("sluice/ctl-tree" in names, False)
        eq(core.api("PUT", "/configs?force=true", {"payload": core.config.replace("test-secret", "other")}).status, 204)
        until(lambda: "sluice/ctl-tree" in m.names())
        eq(core.cli("reload").returncode, 0)
        until(lambda: "sluice/ctl-tree" not in m.names())


def test_a_port_that_goes_leaves_the_store_and_may_come_back():
    with Service() as core:
        m = core.manager
        for _ in range(3):
            eq(core.api("PATCH", "/configs", {"socks-port": 0}).status, 204)
            until(lambda: ("tcp", core.port["socks"]) not in m.listeners(), why="it is removed")
            try:
                socket.create_connection((HOST, core.port["socks"]), 1).close()
                raise AssertionError("a removed port still takes connections")
            except ConnectionRefusedError:
                pass
            eq(core.api("PATCH", "/configs", {"socks-port": core.port["socks"]}).status, 204, core.log()[-1500:])
            core.held(HOST, lib.servers.port["echo"])
            until(lambda: ("tcp", core.port["socks"]) in m.listeners())


def test_crash_keeps_queues_selections_switches_counters():
    with Service() as core:
        m = core.manager
        core.held(HOST, lib.servers.port["echo"])
        eq(core.api("PUT", "/proxies/g", {"name": "REJECT"}).status, 204)
        eq(core.api("PUT", "/proxies/g", {"name": "DIRECT"}).status, 204)
        eq(core.api("PATCH", "/configs", {"mode": "direct"}).status, 204)
        eq(core.api("PATCH", "/rules/disable", {"0": True}).status, 204)
        total = core.get("/connections")["uploadTotal"]
        generation = core.cli("status").stdout
        until(lambda: {"sluice/state/1", "sluice/state/2", "sluice/state/3"} <= m.names())
        core.write("config.yaml", "mode: [")         # a crash must not make an edit effective
        core.crash()
        waiting = [early(core, p) for p in ("socks", "mixed", "socks", "socks", "socks", "socks", "socks", "socks")]
        core.start()
        for s in waiting:
            served(s)
        core.wait_log("after a crash of the supervisor: what generation 1 served")
        eq(core.get("/configs")["mode"], "direct")
        eq(core.get("/proxies/g")["now"], "DIRECT")
        eq([r.get("extra", r).get("disabled") for r in core.get("/rules")["rules"]][0], True, "the rule switch")
        eq(core.get("/connections")["uploadTotal"] >= total > 0, True, "counters go on")
        eq("generation 2," in core.cli("status").stdout, True, generation)
        eq(len(core.connections()), len(waiting), "connections of before are not counted")
        unix = socket.socket(socket.AF_UNIX)
        unix.connect(core.path("api.sock"))
        unix.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        eq(b"200 OK" in lib.read_all(unix), True, "the API's Unix socket")
        # once more, to see that what was given back is still in the store
        core.crash()
        s = early(core)
        core.start()
        served(s)
        core.write("config.yaml", core.config)
        eq(core.cli("reload").returncode, 0)
        eq(core.get("/configs")["mode"], "rule", "a reload reads the file")


def test_crash_with_a_tree_of_another_build():
    with Service() as core:
        m = core.manager
        until(lambda: "sluice/run" in m.names())
        core.crash()
        with m.lock:
            os.close(m.store["sluice/run"])
            m.store["sluice/run"] = os.memfd_create("run")
        s = early(core)
        core.start()
        served(s)
        eq("after a crash" in core.log(), False, "its tree is not used")
        until(lambda: "sluice/run" in m.names())


def test_crash_with_a_tree_that_cannot_be_built():
    with Service() as core:
        m = core.manager
        until(lambda: "sluice/run" in m.names())
        core.crash()
        with m.lock:
            os.close(m.store["sluice/tree"])
            m.store["sluice/tree"] = os.dup(m.store["sluice/run"])     # sealed, and no tree
        s = early(core)
        core.start()
        served(s)
        eq(("after a crash" in core.log(), "configuration refused" in core.log()), (True, True))


def test_ports_that_changed_while_it_was_down():
    with Service() as core:
        m = core.manager
        until(lambda: "sluice/run" in m.names())
        core.crash()
        with m.lock:
            os.close(m.store.pop("sluice/run"))
        old = core.port["socks"]
        core.config = core.config.replace("socks-port: %d" % old, "allow-lan: true")
        core.write("config.yaml", core.config)
        core.start()                                 # mixed-port is on every address now; its old socket is in the way
        pong(core.socks(HOST, lib.servers.port["echo"], via="mixed"))
        until(lambda: ("tcp", old) not in m.listeners(), why="what nobody wants is removed")
        try:
            socket.create_connection((HOST, old), 1).close()
            raise AssertionError("it still takes connections")
        except ConnectionRefusedError:
            pass


def test_orderly_restart_loses_no_client_and_is_a_cold_start():
    with Service() as core:
        m = core.manager
        eq(core.api("PATCH", "/configs", {"mode": "direct"}).status, 204)
        eq(core.api("PUT", "/proxies/g", {"name": "REJECT"}).status, 204)
        until(lambda: "sluice/state/3" in m.names())
        eq(core.stop(), 0)
        until(lambda: all(n.startswith("sluice/listen/") for n in m.names()), why="only listeners stay in the store: %s" % m.names())
        s = early(core)
        with m.lock:
            m.notes.clear()
        core.start()
        eq(lib.read_n(s, 2), b"\x05\x00", "a client of the time between")
        eq((core.get("/configs")["mode"], core.get("/proxies/g")["now"]), ("rule", "REJECT"))


# ---------------------------------------------------------------- socket activation
def test_sockets_of_a_unit_are_used():
    with Service(start=False) as core:
        mine = [("web", bound(core.port["socks"])), ("web", bound(core.port["ctl"])), ("other", bound())]
        s = early(core)
        core.start(mine)
        served(s)
        m = core.manager
        eq(core.api("GET", "/version").status, 200)
        eq(len(re.findall("does not use: other \\(tcp 127.0.0.1:%d\\)" % mine[2][1].getsockname()[1], core.log())), 1, core.log())
        eq([k for k in m.listeners() if k[0] == "tcp" and k[1] in (core.port["socks"], core.port["ctl"])], [], "they are the unit's, not ours to store")
        eq(core.cli("reload").returncode, 0)
        core.held(HOST, lib.servers.port["echo"])
        eq(core.stop(), 0)
        s = early(core)                             # the unit goes on listening
        with m.lock:
            m.notes.clear()
        core.start(mine)
        served(s)
        for _, x in mine:
            x.close()


def test_a_unix_socket_of_a_unit():
    with Service(start=False) as core:
        u = socket.socket(socket.AF_UNIX)
        u.bind(core.path("api.sock"))
        u.listen(8)
        inode = os.stat(core.path("api.sock")).st_ino
        core.start([("api", u)])
        eq(os.stat(core.path("api.sock")).st_ino, inode, "it was not bound again")
        c = socket.socket(socket.AF_UNIX)
        c.connect(core.path("api.sock"))
        c.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        eq(b"200 OK" in lib.read_all(c), True)
        eq(core.stop(), 0)
        eq(os.path.exists(core.path("api.sock")), True, "it is the unit's")
        u.close()


def test_what_is_given_need_not_be_a_socket():
    with Service(start=False) as core:
        r, w = os.pipe()

        class Pipe:
            def fileno(self):
                return r
        core.start([("pipe", Pipe())])
        core.wait_log("does not use: pipe \\(no socket\\)")
        os.close(r)
        os.close(w)


# ---------------------------------------------------------------- the service user
def test_a_service_user_gives_children_users_of_their_own():
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        raise lib.Skip("it needs root and setpriv")
    who, caps = 64700, "-all,+net_bind_service,+setuid,+setgid,+kill"
    core = Core(CONFIG, start=False)
    try:
        os.chown(core.dir, who, who)
        os.chown(core.path("config.yaml"), who, who)
        core.log_file = open(core.path("log"), "ab")
        core.proc = subprocess.Popen(["setpriv", "--reuid", str(who), "--regid", str(who), "--clear-groups", "--inh-caps=" + caps, "--ambient-caps=" + caps,
                                      "--bounding-set=" + caps, "--no-new-privs", lib.PROGRAM, "-d", core.dir], stdin=subprocess.DEVNULL,
                                     stdout=core.log_file, stderr=subprocess.STDOUT, start_new_session=True)
        until(core.up, 10, "it serves")
        users = {}
        for pid in core.tree():
            status = dict(line.split(":\t", 1) for line in open("/proc/%d/status" % pid).read().splitlines() if ":\t" in line)
            users.setdefault(status["Name"], set()).add((status["Uid"].split()[0], status["CapEff"] == "0" * 16))
        eq(users["sluice"], {(str(who), False)})
        children = set().union(*(v for k, v in users.items() if k != "sluice"))
        if "sandbox is off" not in core.log():      # a sanitizer build keeps the user
            eq(({u for u, _ in children} & {"0", str(who)}, len(children), all(none for _, none in children)), (set(), 2, True), str(users))
        eq("ordinary user" in core.log(), False)
        os.kill(core.pids("worker")[0], signal.SIGSTOP)      # and it can end them
        eq(core.stop(), 0)
    finally:
        core.clean()
