# SPDX-License-Identifier: MIT
"""The running processes, seen from outside: no privilege, a filter in force, their own users, no stray descriptors, not dumpable. What they are
refused is shown by run.sh beside this file."""
import os
import re
import subprocess

import lib
from lib import BASE, HOST, NOBODY, Core, eq, status_of

CONFIG = BASE + """
external-controller-unix: ctl.sock
external-ui: ui
sluice: {workers: 2}
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
listeners:
  - {name: extra, type: mixed, port: $extra, listen: 127.0.0.1}
tunnels:
  - udp,127.0.0.1:$tun,127.0.0.1:$s_udp,DIRECT
rules:
  - MATCH,DIRECT
"""
FILES = {"ui/index.html": "x"}


def off():
    if "-asan" in lib.PROGRAM or "-tsan" in lib.PROGRAM:
        raise lib.Skip("a sanitizer build has no sandbox")


def confined(core):
    return [(r, p) for r in ("worker", "controller") for p in core.pids(r)]


def check(core):
    roles = confined(core)
    eq((len([r for r, _ in roles if r == "worker"]) >= 2, [r for r, _ in roles].count("controller")), (True, 1))
    for role, pid in roles:
        st = status_of(pid)
        eq((st["NoNewPrivs"], st["Seccomp"]), ("1", "2"), role)
        for cap in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            eq(int(st[cap], 16), 0, "%s %s" % (role, cap))
        for task in os.listdir("/proc/%d/task" % pid):      # every thread of the controller
            with open("/proc/%d/task/%s/status" % (pid, task)) as f:
                text = f.read()
            eq((re.search(r"Seccomp:\t(\d)", text)[1], re.search(r"NoNewPrivs:\t(\d)", text)[1]), ("2", "1"), "%s thread %s" % (role, task))


def test_privileges(core):
    off()
    check(core)


def test_bounding_set_and_users(core):
    off()
    if os.getuid() != 0:
        raise lib.Skip("not root")
    uids = {}
    for role, pid in confined(core):
        st = status_of(pid)
        eq(int(st["CapBnd"], 16), 0, role + " CapBnd")
        eq(len(set(st["Uid"].split())), 1, role)
        eq(len(set(st["Gid"].split())), 1, role)
        eq(st["Groups"].split() in ([], [st["Gid"].split()[0]]), True, role + " groups " + st["Groups"])
        uids.setdefault(role, set()).add(st["Uid"].split()[0])
    eq((len(uids["worker"]), len(uids["controller"]), uids["worker"] & uids["controller"], "0" in uids["worker"] | uids["controller"]), (1, 1, set(), False), str(uids))


def test_not_dumpable(core):
    off()
    for role, pid in confined(core):
        eq(os.stat("/proc/%d/mem" % pid).st_uid, 0, role)      # root owns what belongs to a process that is not dumpable
        with open("/proc/%d/limits" % pid) as f:
            core_limit = re.search(r"Max core file size\s+(\S+)\s+(\S+)", f.read())
        eq(core_limit.groups(), ("0", "0"), role)


def test_nethelper():
    """The one process that keeps capabilities: these two, as a user of its own, with /proc open and no other path."""
    off()
    config = CONFIG.replace('find-process-mode: "off"', "find-process-mode: strict").replace("- MATCH", "- PROCESS-NAME,x,DIRECT\n  - MATCH")
    with Core(config, FILES) as c:
        pid = lib.until(lambda: c.pids("nethelper"), why="a nethelper")[0]
        lib.until(lambda: status_of(pid)["Seccomp_filters"] == "2", why="its filters")
        st = status_of(pid)
        root = os.getuid() == 0
        eq((st["NoNewPrivs"], st["Seccomp"]), ("1", "2"))
        eq([int(st["Cap" + k], 16) for k in ("Inh", "Prm", "Eff", "Amb")], [0, 1 << 2 | 1 << 19, 1 << 2 | 1 << 19, 0] if root else [0] * 4)
        if not root:
            return
        eq(int(st["CapBnd"], 16), 0)
        others = {status_of(p)["Uid"] for p in c.tree() if p != pid}
        eq((len(set(st["Uid"].split())), len(set(st["Gid"].split())), st["Groups"].split(), st["Uid"] in others), (1, 1, [], False))
        fds = {name for n, name in kinds(pid).items() if n > 2}
        eq(fds - {"socket", "anon_inode:[eventpoll]", "anon_inode:[eventfd]"}, {"/proc"})


def kinds(pid):
    out = {}
    for fd in os.listdir("/proc/%d/fd" % pid):
        name = os.readlink("/proc/%d/fd/%s" % (pid, fd))
        out[int(fd)] = re.sub(r":\[\d+\]|\d+", "", name)
    return out


def test_descriptors(core):
    """0 to 2 are the service's own, 3 and 4 the channels; the rest sockets, shared memory, epoll: no file, no directory."""
    if os.getuid() != 0:
        raise lib.Skip("not root")
    allowed = re.compile(r"socket|anon_inode:\[?(eventpoll|eventfd|timerfd|pidfd)\]?|/memfd:.*|pipe|/dev/(null|urandom)")
    for role, pid in confined(core):
        fds = kinds(pid)
        standard = kinds(core.proc.pid)
        for fd, name in fds.items():
            if fd < 3 and name in (standard[fd], "/dev/null"):
                continue
            eq(bool(allowed.fullmatch(name)), True, "%s has %d = %s" % (role, fd, name))
        eq([fds.get(3), fds.get(4)], ["socket", "socket"], role)
        eq(len(fds) < 120, True, "%s has %d descriptors at rest" % (role, len(fds)))


def test_no_descriptor_of_the_directory_reaches_a_child(core):
    if os.getuid() != 0:
        raise lib.Skip("not root")
    for role, pid in confined(core):
        for fd in os.listdir("/proc/%d/fd" % pid):
            if int(fd) < 3:
                continue
            name = os.readlink("/proc/%d/fd/%s" % (pid, fd))
            eq(name.startswith(core.dir), False, "%s: %s" % (role, name))


def test_the_secret_is_not_in_a_command_line(core):
    for pid in core.tree():
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            eq(b"test-secret" in f.read(), False)
        if pid != core.proc.pid and os.getuid() == 0:
            with open("/proc/%d/environ" % pid, "rb") as f:
                eq(b"test-secret" in f.read(), False)


def test_still_so_after_work_and_a_reload(core):
    off()
    for _ in range(20):
        core.held(HOST, lib.servers.port["echo"]).close()
    core.get("/proxies")
    eq(core.api("GET", "/ui/", auth=None).body, b"x")
    eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
    check(core)


def test_files_of_the_directory(core):
    """What the service writes is for its owner only."""
    core.api("PUT", "/storage/x", raw=b"1")
    core.api("PUT", "/proxies/GLOBAL", {"name": "up"})
    for top, _, names in os.walk(core.dir):
        for n in names:
            if n not in ("config.yaml", "log", "index.html", "ctl.sock"):
                mode = os.stat(os.path.join(top, n)).st_mode & 0o777
                eq(mode & 0o077, 0, "%s has mode %o" % (n, mode))


def test_ordinary_user_is_confined_too():
    off()
    if os.getuid() != 0:
        raise lib.Skip("the other tests ran so")

    if subprocess.run([lib.PROGRAM, "-v"], user=NOBODY, group=NOBODY, capture_output=True).returncode != 0:
        raise lib.Skip("the build directory is not readable by others")
    with Core(CONFIG, FILES, user=NOBODY) as c:
        check(c)
        eq({status_of(p)["Uid"].split()[0] for p in c.tree()}, {str(NOBODY)})
