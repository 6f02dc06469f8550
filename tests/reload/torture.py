#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reloads, restarts, upgrades and kill -9 under load: tests/reload/torture.py [-n N] [PROGRAM], or make reload-torture N=1000.

While build/tests/load (its own head comment) keeps new connections, idle and busy ones, UDP flows and DNS questions going, and clients ask the API
without a pause, in random order: N reloads (the same configuration, other rules, ports added and removed, another number of workers; by PUT /configs
with file or payload, by the command, singly and in bursts), N/10 restarts, N/10 upgrades between two builds, N/20 times kill -9 of a worker (at rest
or while a reload is under way), the controller or a loader. After each the answer is held against what is then in force.

Must be zero: failed connections, resets, short or corrupt transfers, lost datagrams, DNS time-outs, API refusals, answers that are not true, leaked
descriptors and processes, growing memory. What a killed worker held is counted apart (load/kill.c knows what that was); only root can look.

--against PROGRAM measures another program that reads the same file and answers the same API (reloads and restarts only): for a comparison.
--figures measures what a reload costs those who use the proxy meanwhile. The exit status is 1 when a counter is not zero."""
import argparse
import collections
import contextlib
import http.client
import json
import os
import platform
import queue
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.dirname(HERE))
sys.dont_write_bytecode = True
import lib  # noqa: E402
from lib import HOST, SECRET, alive, descendants, kill, program  # noqa: E402
from servers import free_port  # noqa: E402

LOAD = os.path.join(ROOT, "build", "tests", "load")
PORTS = ("socks", "mixed", "http", "tunnel", "dns", "ctl", "echo", "nameserver")
FULL = {"ping": 2000, "busy": 500, "assoc": 250, "tunnels": 250, "churn": 16}
SHORT = {"ping": 300, "busy": 60, "assoc": 40, "tunnels": 40, "churn": 8}
BACK_S = 20                        # a killed process must be replaced by then: the back-off grows with repeated kills
SETTLE_S = 15


class Load:
    """The load process: commands go in, events come out."""
    def __init__(self, path, **numbers):
        self.failed, self.killed, self.answers = [], [], collections.defaultdict(queue.Queue)
        self.proc = subprocess.Popen([path] + ["%s=%d" % x for x in numbers.items()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        threading.Thread(target=self.read, daemon=True).start()
        self.answers["ready"].get(timeout=10)

    def read(self):
        for line in self.proc.stdout:
            e = json.loads(line)
            if e["event"] in ("fail", "lost"):
                self.failed.append(e)
            else:
                self.answers[e["event"]].put(e)

    def say(self, *words):
        self.proc.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.proc.stdin.flush()

    def ask(self, command, event=None, timeout=30):
        self.say(*command.split())
        return self.answers[event or command].get(timeout=timeout)

    def report(self):
        return self.ask("report")

    def end(self):
        self.proc.stdin.close()
        self.proc.wait(10)


class Install:
    """Two builds in turn under one name, as a package manager replaces them."""
    def __init__(self, path, other):
        self.dir = tempfile.mkdtemp(prefix="torture-install-")
        os.chmod(self.dir, 0o755)
        os.mkdir(os.path.join(self.dir, "libexec"), 0o755)
        self.sets = [self.programs(path), self.programs(other) if other else None]
        self.names = [self.name(path), self.name(other) if other else None]
        if not other:              # the same build under another name of the same length
            a = self.names[0]
            self.names[1] = a[:-1] + ("A" if a[-1] != "A" else "B")
            self.sets[1] = {n: d.replace(a.encode() + b"\0", self.names[1].encode() + b"\0") for n, d in self.sets[0].items()}
        self.now = 1
        self.switch()

    @staticmethod
    def name(path):
        return subprocess.run([path, "-v"], capture_output=True, text=True, check=True).stdout.split()[1]

    @staticmethod
    def programs(path):
        out, top = {}, os.path.dirname(os.path.abspath(path))
        for n in [os.path.basename(path)] + ["libexec/" + x for x in os.listdir(os.path.join(top, "libexec")) if x.startswith("sluice-")]:
            with open(os.path.join(top, n), "rb") as f:
                out[n] = f.read()
        return out

    def switch(self):
        self.now = 1 - self.now
        for name, data in self.sets[self.now].items():
            path = os.path.join(self.dir, name)
            with open(path + ".new", "wb") as f:
                f.write(data)
            os.chmod(path + ".new", 0o755)
            os.rename(path + ".new", path)
        return self.names[self.now]


class Asker(threading.Thread):
    """A client of the API without a pause to speak of; what fails is kept, with the time it was asked at."""
    def __init__(self, t, checks):
        super().__init__(daemon=True)
        self.t, self.checks, self.bad, self.n, self.stop_now, self.wait = t, checks, [], 0, threading.Event(), 0.01

    def run(self):
        while not self.stop_now.is_set():
            for path, check in self.checks:
                at = time.monotonic()
                try:
                    status, body = self.t.api("GET", path)
                    why = None if status == 200 else "%d %s" % (status, body[:100])
                    if why is None and not check(json.loads(body)):
                        why = "not true: %s" % body[:200]
                except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as e:
                    why = "%s: %s" % (type(e).__name__, e)
                self.n += 1
                if why:
                    self.bad.append((at, "GET %s after %.3f s: %s" % (path, time.monotonic() - at, why)))
                time.sleep(self.wait)


class Torture:
    def __init__(self, args, sizes):
        self.args, self.sizes, self.dice = args, sizes, random.Random(args.seed)
        self.other = args.against is not None
        self.port = {n: free_port() for n in PORTS}
        self.spare = [free_port() for _ in range(6)]
        self.extra, self.workers, self.rule = [], 2, 0
        self.dir = tempfile.mkdtemp(prefix="torture-")
        self.inst = None if self.other else Install(args.program, args.other)
        self.path = args.against if self.other else os.path.join(self.inst.dir, "sluice")
        self.wrong, self.log, self.lost_api, self.counts, self.controller_kills = [], [], [], collections.Counter(), []
        self.outages, self.memory = [], []
        self.lock = threading.Lock()

    # ---- the program
    def text(self):
        return """mixed-port: %(mixed)d
socks-port: %(socks)d
port: %(http)d
mode: rule
log-level: %(level)s
find-process-mode: "off"
external-controller: 127.0.0.1:%(ctl)d
secret: %(secret)s
dns: {enable: true, listen: "127.0.0.1:%(dns)d", enhanced-mode: redir-host, ipv6: false, nameserver: ["127.0.0.1:%(nameserver)d"]}
tunnels:
  - {network: [udp], address: "127.0.0.1:%(tunnel)d", target: "127.0.0.1:%(echo)d", proxy: DIRECT}
""" % dict(self.port, secret=SECRET, level=self.args.log_level) + "listeners:\n" + "".join(
            "  - {name: extra%d, type: socks, port: %d, listen: 127.0.0.1}\n" % (p, p) for p in self.extra) * bool(self.extra) + """rules:
  - DOMAIN,rule%d.test,REJECT
  - DOMAIN-SUFFIX,nowhere.test,REJECT
  - MATCH,DIRECT
sluice: {workers: %d}
""" % (self.rule, self.workers)

    def write(self):
        text = self.text() if self.extra else self.text().replace("listeners:\n", "")
        with open(os.path.join(self.dir, "config.yaml.new"), "w") as f:
            f.write(text)
        os.rename(os.path.join(self.dir, "config.yaml.new"), os.path.join(self.dir, "config.yaml"))
        return text

    def start(self):
        self.write()
        self.out = open(os.path.join(self.dir, "log"), "ab")
        self.proc = subprocess.Popen([self.path, "-d", self.dir], stdin=subprocess.DEVNULL, stdout=self.out, stderr=subprocess.STDOUT, start_new_session=True)
        self.until(self.up, 20, "the program serves")
        time.sleep(1 if self.other else 0)     # its other listeners come after the API

    def up(self):
        try:
            return self.api("GET", "/version")[0] == 200
        except (OSError, http.client.HTTPException):
            if self.proc.poll() is not None:
                raise RuntimeError("the program ended:\n" + self.tail()) from None
            return False

    def tail(self, n=4000):
        with open(os.path.join(self.dir, "log"), "rb") as f:
            return f.read()[-n:].decode("utf8", "replace")

    @staticmethod
    def until(fn, seconds, what):
        end = time.monotonic() + seconds
        while not fn():
            if time.monotonic() > end:
                raise TimeoutError("not within %g s: %s" % (seconds, what))
            time.sleep(0.01)

    def api(self, method, path, body=None, timeout=30):
        c = http.client.HTTPConnection(HOST, self.port["ctl"], timeout=timeout)
        try:
            c.request(method, path, json.dumps(body).encode() if body is not None else None, {"Authorization": "Bearer " + SECRET})
            r = c.getresponse()
            return r.status, r.read().decode("utf8", "replace")
        finally:
            c.close()

    def get(self, path):
        """An answer that must come; a killed controller's successor may take its time."""
        for i in range(40):
            try:
                status, body = self.api("GET", path)
                if status == 200:
                    return json.loads(body)
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.05)
        raise TimeoutError("GET " + path)

    def serving(self):
        for g in self.get("/generations")["generations"]:
            if g["state"] == "serving":
                return [w["pid"] for w in g["workers"] if w["state"] == "serving"]
        return []

    def pids(self, role):
        return [p for p in descendants(self.proc.pid) if program(p) == "sluice-" + role]

    def say_wrong(self, what):
        with self.lock:
            self.wrong.append((time.monotonic(), what))
        if self.args.verbose:
            print("# %.3f %s" % (time.monotonic(), what), flush=True)

    # ---- what is done
    def ask(self, method, path, body, good, what):
        at = time.monotonic()
        try:
            status, text = self.api(method, path, body, 90)
        except (OSError, http.client.HTTPException) as e:
            status, text = 0, "%s: %s" % (type(e).__name__, e)
        self.log.append((at, time.monotonic(), what))
        if status not in good:
            self.say_wrong("%s: %s %s: %d %s" % (what, method, path, status, text[:300]))
        return status

    def change(self):
        kind = self.dice.choice(("same", "rules", "ports", "workers") if not self.other else ("same", "rules", "ports"))
        if kind == "rules":
            self.rule += 1
        elif kind == "ports":
            self.extra = self.dice.sample(self.spare, self.dice.randrange(4))
        elif kind == "workers":
            self.workers = self.dice.choice((1, 2, 2, 3, 4))
        return kind

    def reload(self, good=(204,), what=""):
        was = (list(self.extra), self.workers, self.rule)
        kind, text = self.change(), self.write()
        way = self.dice.random()
        what = "%sreload (%s)" % (what, kind)
        if way < 0.15 and not self.other and good == (204,):
            at = time.monotonic()
            r = subprocess.run([self.path, "reload", "-d", self.dir], capture_output=True, text=True, timeout=90)
            self.log.append((at, time.monotonic(), what))
            if r.returncode != 0:
                self.say_wrong("sluice reload: %d %s" % (r.returncode, r.stderr[:300]))
            status = 204 if r.returncode == 0 else 500
        else:
            status = self.ask("PUT", "/configs?force=true", {"path": "", "payload": text if way > 0.8 else ""}, good, what)
        if status != 204:
            self.extra, self.workers, self.rule = was
        self.counts["reloads"] += 1
        self.check(what)
        return status

    def burst(self):
        """Five at once, one behind the other and equal ones together."""
        self.change()
        self.write()
        ts = [threading.Thread(target=self.ask, args=("PUT", "/configs?force=true", {"path": "", "payload": ""}, (204,), "burst")) for _ in range(5)]
        for t in ts:
            t.start()
        for t in ts:
            t.join()
        self.counts["reloads"] += 5
        self.check("burst")

    def quick(self):
        """One behind the other without a pause, more than sluice.max-generations."""
        for _ in range(5):
            self.ask("PUT", "/configs?force=true", {"path": "", "payload": ""}, (204,), "quick reload")
        self.counts["reloads"] += 5
        self.check("quick reloads")

    def restart(self):
        self.ask("POST", "/restart", None, (200,), "restart")
        self.counts["restarts"] += 1
        if self.other:
            self.until(self.up, 10, "the API is back")
        self.check("restart")

    def upgrade(self):
        name = self.inst.switch()
        status = self.ask("POST", "/upgrade", None, (200,), "upgrade")
        self.counts["upgrades"] += 1
        v = self.get("/version")
        if status == 200 and v["sluice"] != name:
            self.say_wrong("upgrade: 200, and the version is %r" % v)
        if status != 200:
            self.inst.switch()
        self.check("upgrade")

    def check(self, what):
        """Whether what was answered is so."""
        try:
            rules = self.get("/rules")["rules"]
            if not rules or rules[0]["payload"] != "rule%d.test" % self.rule:
                self.say_wrong("%s: the rules are %s, not those of rule%d" % (what, rules[:1], self.rule))
            for p in self.spare:
                s = socket.socket()
                s.settimeout(10)
                try:
                    open_ = s.connect_ex((HOST, p)) == 0
                finally:
                    s.close()
                if open_ != (p in self.extra):
                    self.say_wrong("%s: port %d is %s" % (what, p, "open" if open_ else "refused"))
            if not self.other and self.killing == 0 and len(self.serving()) != self.workers:
                self.say_wrong("%s: %d workers serve, not %d" % (what, len(self.serving()), self.workers))
        except (OSError, KeyError, IndexError, ValueError) as e:
            self.say_wrong("%s: %s: %s" % (what, type(e).__name__, e))

    killing = 0

    def end_worker(self, pid):
        others = [p for p in [self.proc.pid] + descendants(self.proc.pid) if p != pid]
        e = self.load.ask("kill %d %s" % (pid, " ".join(map(str, others))), "killed")
        self.log.append((e["at"] - e["took"], e["at"], "kill -9 of worker %d with %d connections and %d flows" % (pid, e["tcp"], e["udp"])))
        return e

    def kill_worker(self):
        self.end_worker(self.dice.choice(self.serving()))

    def kill_in_reload(self):
        """Any worker of any generation, at any moment of a reload: it succeeds or it is refused; a half of it there is not."""
        t = threading.Thread(target=self.reload, args=((204, 500), "kill in "))
        t.start()
        time.sleep(self.dice.random() * 0.08)
        pids = self.pids("worker")
        if pids:
            self.end_worker(self.dice.choice(pids))
        t.join()

    def kill_controller(self):
        pids = self.pids("controller")
        at = time.monotonic()
        self.controller_kills.append([at, at + BACK_S])
        kill(pids[0], signal.SIGKILL)
        self.until(lambda: self.pids("controller") not in ([], pids) and self.up(), BACK_S, "the controller is back")
        self.controller_kills[-1][1] = time.monotonic()
        self.outages.append(time.monotonic() - at)
        self.log.append((at, time.monotonic(), "kill -9 of the controller"))

    def kill_loader(self):
        t = threading.Thread(target=self.reload, args=((204, 500), "kill of the loader in "))
        t.start()
        end = time.monotonic() + 1
        while t.is_alive() and time.monotonic() < end:
            for p in self.pids("loader")[:1]:
                kill(p, signal.SIGKILL)
                end = 0
        t.join()

    def kill(self):
        self.counts["kills"] += 1
        fn = self.dice.choice((self.kill_worker, self.kill_worker, self.kill_in_reload, self.kill_in_reload, self.kill_controller, self.kill_loader))
        self.counts[fn.__name__] += 1
        self.killing += 1
        try:
            fn()
            self.until(lambda: len(self.serving()) == self.workers, BACK_S, "all workers serve again")
        except TimeoutError as e:
            self.say_wrong("%s: %s" % (fn.__name__, e))
        finally:
            self.killing -= 1

    def plan(self):
        n = self.args.n
        if self.args.only:         # to look into one of them
            return [getattr(self, name) for name in self.args.only.split(",")] * n
        singles = n - n // 10 * 5
        ops = [self.reload] * singles + [self.burst] * (n // 20) + [self.quick] * (n // 10 - n // 20) + [self.restart] * (n // 10)
        if not self.other:
            ops += [self.upgrade] * (n // 10) + [self.kill] * (n // 20 if self.args.kills else 0)
        self.dice.shuffle(ops)
        return ops

    # ---- what may leak
    def descriptors(self):
        out = collections.Counter()
        for pid in [self.proc.pid] + descendants(self.proc.pid):
            role = "supervisor" if pid == self.proc.pid else program(pid)
            for fd in os.listdir("/proc/%d/fd" % pid):
                with contextlib.suppress(OSError):
                    name = os.readlink("/proc/%d/fd/%s" % (pid, fd))
                    if "counters" not in name:         # the supervisor keeps as many as there ever were workers at once
                        out[role, re.sub(r"^/(?!memfd|dev).*", "file", name.partition("[")[0].partition(":")[0])] += 1
        return out

    def pss(self):
        total = 0
        for pid in [self.proc.pid] + descendants(self.proc.pid):
            try:
                with open("/proc/%d/smaps_rollup" % pid) as f:
                    total += sum(int(x.split()[1]) for x in f if x.startswith("Pss:"))
            except OSError:
                pass
        return total

    def settle(self):
        """At rest, with every flow still open: one generation, nothing under way. What is there then, to be compared."""
        self.load.say("pause")
        self.load.ask("quiet", timeout=30)
        if not self.other:
            try:
                self.until(lambda: len(self.get("/generations")["generations"]) == 1 and len(self.pids("controller")) == 1, SETTLE_S, "one generation is left")
            except TimeoutError as e:
                self.say_wrong("%s: %s" % (e, [(g["generation"], g["state"], g["connections"]) for g in self.get("/generations")["generations"]]))
        time.sleep(0.5)
        out = {"fds": self.descriptors(), "pss": self.pss(), "processes": sorted(program(p) for p in descendants(self.proc.pid)), "zombies": self.zombies()}
        self.load.say("go")
        return out

    def zombies(self):
        n = 0
        for d in os.listdir("/proc"):
            if d.isdigit():
                try:
                    with open("/proc/%s/stat" % d) as f:
                        x = f.read().rpartition(")")[2].split()
                    n += x[0] == "Z" and int(x[1]) == self.proc.pid
                except OSError:
                    pass
        return n

    # ---- the whole
    def open_load(self, **more):
        self.load = Load(LOAD, **dict({k: self.port[k] for k in PORTS if k != "ctl"}, **self.sizes, **more))

    def opened(self):
        want = {"ping": self.sizes["ping"], "assoc": self.sizes["assoc"]}

        def all_open():
            r = self.load.report()
            return all(r[k]["living"] == n for k, n in want.items()) and r["busy"]["living"] >= self.sizes["busy"] * 0.8
        self.until(all_open, 60, "the load's connections are open")

    def askers(self):
        def version(v):
            return self.other or v["sluice"] in self.inst.names

        def configs(c):
            return c["mixed-port"] == self.port["mixed"] and c["mode"] == "rule"
        return [Asker(self, checks) for checks in (
            [("/version", version), ("/configs", configs)], [("/rules", lambda r: r["rules"][-1]["proxy"] == "DIRECT"), ("/proxies", lambda p: "DIRECT" in p["proxies"])])]

    def same_processes(self):
        """One configuration for what is compared."""
        self.extra, self.workers = [], 2
        self.write()
        self.ask("PUT", "/configs?force=true", {"path": "", "payload": ""}, (204,), "last reload")
        if not self.other and self.inst.now != 0:
            self.upgrade()
            self.counts["upgrades"] -= 1

    def run(self):
        began = time.monotonic()
        self.open_load(rate=self.args.rate)
        self.start()
        self.load.say("start")
        self.opened()
        askers = self.askers()
        for a in askers:
            a.start()
        self.load.say("phase")
        time.sleep(self.args.before)
        before = self.load.report()
        warm = random.Random(1)
        for i in range(6):         # what is allocated once is allocated now
            self.workers = warm.choice((1, 2, 4))
            self.write()
            self.ask("PUT", "/configs?force=true", {"path": "", "payload": ""}, (204,), "warm up")
        if not self.other:
            self.upgrade()
            self.upgrade()
            self.counts.clear()
        self.same_processes()
        base = self.settle()
        self.load.say("phase")
        ops = self.plan()
        t0 = time.monotonic()
        for i, op in enumerate(ops):
            op()
            time.sleep(self.dice.choice((0, 0, 0.01, 0.05, 0.1)))
            if self.proc.poll() is not None:
                self.say_wrong("the program ended with status %s" % self.proc.returncode)
                break
            if i % (len(ops) // 10 or 1) == 0:
                self.memory.append(round(self.pss() / 1024, 1))
                self.progress(i, len(ops))
        took = time.monotonic() - t0
        during = self.load.report()
        if self.proc.poll() is None:
            self.same_processes()
            time.sleep(0.5)
            end = self.settle()
        else:
            end = base
        for a in askers:
            a.stop_now.set()
        for a in askers:
            a.join(30)
        self.lost_api = [b for a in askers for b in a.bad]
        last = self.load.report()
        self.load.end()
        self.stop()
        return self.result(before, during, last, base, end, took, time.monotonic() - began, sum(a.n for a in askers))

    # ---- figures
    def timed(self, name, seconds, act=None, every=0.25):
        """What the clients see for that long, with act() every so often; the counters of it alone."""
        self.load.say("phase")
        end, n = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            began = time.monotonic()
            if act:
                act()
                n += 1
            time.sleep(max(0, min(every - (time.monotonic() - began), end - time.monotonic())))
        r = self.load.report()
        self.rows.append((name, n, r))
        return r

    def figure(self, title, sizes, settings, steps):
        self.sizes, self.rows = sizes, []
        self.port = {n: free_port() for n in PORTS}
        self.open_load(**settings)
        self.start()
        self.load.say("start")
        self.opened()
        time.sleep(1)
        for name, act in steps:
            self.timed(name, self.args.seconds, act)
        r = self.load.report()
        self.load.end()
        self.stop()
        bad = sum(r[k]["bad"]["all"] for k in ("churn", "ping", "busy", "assoc")) + r["udp"]["lost"] + r["dns"]["lost"] + len(self.wrong)
        out = ["", title, "%-28s %6s %26s %26s" % ("", "times", "connect p50 p99 max ms", "message p50 p99 max ms")]
        for name, n, r in self.rows:
            out.append("%-28s %6d %26s %26s" % tuple([name, n] + [" ".join("%.1f" % (r[h][q] / 1000) for q in ("p50", "p99", "max")) for h in ("connect_us", "ping_us")]))
        return out + ["failed or lost: %d" % bad], bad

    def figures(self):
        def reload():
            self.ask("PUT", "/configs?force=true", {"path": "", "payload": ""}, (204,), "reload")

        def restart():
            self.ask("POST", "/restart", None, (200,), "restart")
            if self.other:
                self.until(self.up, 10, "the API is back")
        none = {"ping": 0, "busy": 0, "assoc": 0, "tunnels": 0, "churn": 0}
        steps = [("nothing", None), ("reloads", reload), ("nothing", None), ("restarts", restart)]
        more = [] if self.other else [("upgrades", self.upgrade)]
        parts = [
            ("New connections, 300 a second, beside 100 idle ones", dict(none, churn=64, ping=100), {"rate": 300, "ping-rate": 200}, steps + more),
            ("1,000 held connections, each a message every 100 ms", dict(none, ping=1000), {"ping-rate": 10000}, steps + more),
            ("500 busy connections, SHA-256 of every transfer", dict(none, busy=500, ping=20), {"busy-rate": 1000, "ping-rate": 200}, steps[:2] + more)]
        text, all_bad = ["figures of %s, %g s each row" % (self.about(), self.args.seconds)], 0
        for p in parts:
            out, bad = self.figure(*p)
            text += out
            all_bad += bad
        text += ["what was not true: %s" % w for _, w in self.wrong[:10]]
        return "\n".join(text) + "\n", all_bad

    def progress(self, i, n):
        if self.args.verbose:
            r = self.load.report()
            print("# %d of %d: %d bad, %d lost, %d wrong, PSS %s" % (i, n, sum(r[k]["bad"]["all"] for k in ("churn", "ping", "busy", "assoc")),
                  r["udp"]["lost"] + r["dns"]["lost"], len(self.wrong), self.memory[-1:]), flush=True)

    def stop(self):
        tree = [self.proc.pid] + descendants(self.proc.pid)
        if self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(15)
            except subprocess.TimeoutExpired:
                pass
        left = [p for p in tree if alive(p)]
        for p in left:
            kill(p, signal.SIGKILL)
        if left and not self.other:
            self.say_wrong("processes %s did not end with the service" % left)
        if not self.other and self.proc.returncode not in (0, None):
            self.say_wrong("exit status %s" % self.proc.returncode)
        with open(os.path.join(self.dir, "log"), errors="replace") as f:
            crash = next((line for line in f if not self.other and re.search(r"Sanitizer|runtime error:|SIGSYS|SIGSEGV|SIGABRT|ended by signal (?!9|15)", line)), None)
        if crash:
            self.say_wrong("the log says: " + crash.strip())

    def api_failures(self):
        """All but the questions that a killed controller had taken."""
        own = [b for b in self.lost_api if any(a - 1 < b[0] < a + 0.005 for a, _ in self.controller_kills)]
        return [b for b in self.lost_api if b not in own], len(own)

    def result(self, before, during, last, base, end, took, whole, asked):
        kinds = ("churn", "ping", "busy", "assoc")
        bad = collections.Counter()
        for k in kinds:
            bad.update({w: n for w, n in last[k]["bad"].items() if w != "all"})
        api, own_api = self.api_failures()
        grown = {"%s %s" % k: n - base["fds"].get(k, 0) for k, n in end["fds"].items() if n > base["fds"].get(k, 0) + self.slack(k)}
        memory = round((end["pss"] - base["pss"]) / 1024, 1)
        zero = {
            "connections refused": bad["refused"], "connections reset": bad["reset"], "closed before their time": bad["closed"], "refused by a reply": bad["reply"],
            "timed out": bad["timeout"] + bad["other"], "short or corrupt transfers": bad["short"] + bad["corrupt"],
            "datagrams lost": last["udp"]["lost"], "datagrams corrupt": last["udp"]["corrupt"],
            "DNS questions without answer": last["dns"]["lost"], "DNS answers wrong": last["dns"]["wrong"],
            "API questions refused": len(api), "answers not true": len(self.wrong),
            "descriptors leaked": sum(grown.values()), "processes leaked": len(end["processes"]) - len(base["processes"]) + end["zombies"],
            # a sanitizer keeps what is freed
            "MB of memory grown": memory if memory > max(2, base["pss"] / 1024 * 0.1) and "san/" not in self.args.program else 0}
        lines = ["%-34s %s" % (k, v) for k, v in zero.items()]
        own = {k: last[k]["own"]["all"] for k in kinds if last[k]["own"]["all"]}
        about = {
            "done": ", ".join("%d %s" % (self.counts[k], k) for k in ("reloads", "restarts", "upgrades", "kills") if self.counts[k]) + " in %.0f s" % took,
            "killed": ", ".join("%d %s" % (n, k[5:].replace("_", " ")) for k, n in sorted(self.counts.items()) if k.startswith("kill_")),
            "new connections": "%d, %.0f a second" % (last["churn"]["ok"], (during["churn"]["ok"] - before["churn"]["ok"]) / (took or 1)),
            "held connections": "%d idle with %d messages, %d busy with %d transfers, %d MB, SHA-256 equal" % (
                self.sizes["ping"], last["ping"]["ok"], self.sizes["busy"], last["transfers"], last["bytes"] // 1000000),
            "UDP": "%d flows, %d datagrams" % (last["udp"]["flows"], last["udp"]["sent"]), "DNS": "%d questions" % last["dns"]["sent"],
            "API": "%d questions" % asked, "a killed worker's own": "%s, %d datagrams (%d astray), %d DNS questions, %d API questions" % (
                ", ".join("%d %s" % (n, k) for k, n in own.items()) or "none", last["udp"]["own"], last["udp"]["astray"], last["dns"]["own"], own_api),
            "controller away at most": "%.2f s" % max(self.outages, default=0),
            "connect, one message, ms": "before: p50 %.1f p99 %.1f max %.1f; during: p50 %.1f p99 %.1f max %.1f" % tuple(
                r["connect_us"][q] / 1000 for r in (before, during) for q in ("p50", "p99", "max")),
            "message on an idle one, ms": "before: p99 %.1f max %.1f; during: p99 %.1f max %.1f" % tuple(r["ping_us"][q] / 1000 for r in (before, during) for q in ("p99", "max")),
            "datagram, ms": "before: p99 %.1f max %.1f; during: p99 %.1f max %.1f" % tuple(r["udp_us"][q] / 1000 for r in (before, during) for q in ("p99", "max")),
            "DNS, ms": "before: p99 %.1f max %.1f; during: p99 %.1f max %.1f" % tuple(r["dns_us"][q] / 1000 for r in (before, during) for q in ("p99", "max")),
            "memory of all, MB (PSS)": "%.1f at the begin, %.1f at the end; on the way %s" % (base["pss"] / 1024, end["pss"] / 1024, self.memory),
            "descriptors of all": "%d at the begin, %d at the end %s" % (sum(base["fds"].values()), sum(end["fds"].values()), grown or ""),
        }
        out = ["torture of %s, N=%d, seed %d, %.0f s in all" % (self.about(), self.args.n, self.args.seed, whole), ""]
        out += ["%-30s %s" % x for x in about.items() if x[1]] + ["", "must be zero:"] + ["  " + x for x in lines]
        events = [(e["at"], "%s %s: %s" % (e["kind"], e.get("why", "lost"), e["text"])) for e in self.load.failed] + api + self.wrong
        if events:
            out += ["", "what went wrong, first %d of %d:" % (min(len(events), self.args.show), len(events))]
            for at, text in sorted(events)[:self.args.show]:
                ops = [w for a, b, w in self.log if a - 0.3 < at < b + 0.3]
                out.append("  %.3f %s  [%s]" % (at, text, "; ".join(ops[-4:])))
        return "\n".join(out) + "\n", sum(1 for v in zero.values() if v)

    @staticmethod
    def slack(key):
        """Pipes come and go with the bytes under way, and a socket more or less with the flows that are between two transfers."""
        return {"pipe": 600, "socket": 60}.get(key[1], 0) + (4 if key[0] == "sluice-controller" else 2 if "worker" in key[0] else 1)

    def about(self):
        v = subprocess.run([self.path, "-v"], capture_output=True, text=True).stdout.split("\n")[0] if self.other else "sluice %s and %s" % tuple(self.inst.names)
        cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
        return "%s on %d CPUs (%s), Linux %s" % (v, os.cpu_count(), cpu, ".".join(platform.release().split(".")[:2]).split("-")[0])

    def clean(self):
        if getattr(self, "load", None) and self.load.proc.poll() is None:
            self.load.end()
        if getattr(self, "proc", None) and self.proc.poll() is None:
            self.stop()
        if self.args.keep:
            print("# kept: %s" % self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)
        if self.inst:
            shutil.rmtree(self.inst.dir, ignore_errors=True)


def arguments(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    p.add_argument("program", nargs="?", default=os.path.join(ROOT, "build/sluice"))
    p.add_argument("-n", type=int, default=100, help="reloads")
    p.add_argument("--short", action="store_true", help="fewer flows")
    p.add_argument("--rate", type=int, default=0, help="new connections a second; 0: as many as 16 at a time can be")
    p.add_argument("--against", metavar="PROGRAM", help="another program, for a comparison")
    p.add_argument("--other", metavar="PROGRAM", help="the second build; default: the same under another name")
    p.add_argument("--no-kills", dest="kills", action="store_false")
    p.add_argument("--only", metavar="NAMES", help="of these methods only, n times each")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--figures", action="store_true", help="what reloads, restarts and upgrades cost those who use the proxy meanwhile")
    p.add_argument("--seconds", type=float, default=8, help="of each row of the figures")
    p.add_argument("--before", type=float, default=3, help="seconds of load before the first reload")
    p.add_argument("--report", metavar="FILE", help="also written there")
    p.add_argument("--show", type=int, default=40, help="failures to list")
    p.add_argument("--log-level", default="info")
    p.add_argument("--keep", action="store_true", help="the working directory with the log")
    p.add_argument("-v", "--verbose", action="store_true")
    args = p.parse_args(argv)
    args.kills &= os.getuid() == 0     # another cannot tell what was whose
    return args


def main():
    args = arguments()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    t = Torture(args, SHORT if args.short else FULL)
    try:
        text, bad = t.figures() if args.figures else t.run()
    finally:
        t.clean()
    print(text, end="")
    if args.report:
        with open(args.report, "w") as f:
            f.write(text)
    return 1 if bad else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
