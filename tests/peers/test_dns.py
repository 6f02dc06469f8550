# SPDX-License-Identifier: MIT
"""DNS beside other people's programs: unbound and knot as upstreams over UDP, TCP, TLS and HTTPS; kdig and dnsperf as clients.
SOAK=1800 in the environment makes the soak that long."""
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time

import lib
from lib import HOST, Core, Skip, eq, free_port, until

TIMEOUT = 60
LONG = "x" * 200
BIG = 40                          # TXT records of 200 bytes: more than any UDP answer holds
ZONE = [("a", "A", "192.0.2.1"), ("a", "AAAA", "2001:db8::1"), ("mx", "MX", "10 a.peers.test."), ("alias", "CNAME", "a.peers.test."),
        ("srv", "SRV", "1 2 443 a.peers.test."), ("caa", "CAA", '0 issue "ca.test"'), ("txt", "TXT", '"one" "two \\"2\\""'),
        ("svc", "HTTPS", "1 . alpn=h2 ipv4hint=192.0.2.1")] + [("big", "TXT", '"%02d%s"' % (i, LONG)) for i in range(BIG)] + \
       [("n%d" % i, "A", "192.0.2.%d" % (i % 250 + 1)) for i in range(200)]
CONFIG = """
mixed-port: $mixed
external-controller: 127.0.0.1:$ctl
secret: test-secret
log-level: info
ipv6: true
dns:
  enable: true
  ipv6: true
  listen: 127.0.0.1:$dnsl
  default-nameserver: [127.0.0.1]
  nameserver: ["%s"]
rules: ["MATCH,DIRECT"]
"""


def need(program):
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None:
        raise Skip("%s is not installed" % program)
    return path


class Daemon:
    """A name server for peers.test in a directory of its own. Its program is copied there, so that a profile that confines the
    packaged path to /etc does not apply."""
    def __init__(self, program, config, *args):
        self.dir = tempfile.mkdtemp(prefix="sluice-peer-")
        try:
            self.port = {n: free_port() for n in ("dns", "tls", "https")}
            for path in (lib.servers.cert, lib.servers.key):
                shutil.copy(path, self.dir)
            exe = shutil.copy(need(program), os.path.join(self.dir, program))
            config(self)
            self.log = open(os.path.join(self.dir, "log"), "wb")
            self.proc = subprocess.Popen([exe, *[a.replace("DIR", self.dir) for a in args]], stdout=self.log, stderr=self.log, cwd=self.dir)
            try:
                until(lambda: b"192.0.2.1" in kdig(self.port["dns"], "a.peers.test", "A"), 10, "%s answers" % program)
            except AssertionError as e:
                raise AssertionError("%s\n%s" % (e, open(self.log.name).read()[-2000:])) from None
        except BaseException:
            self.close()
            raise

    def write(self, name, text):
        with open(os.path.join(self.dir, name), "w") as f:
            f.write(text)

    def close(self):
        if hasattr(self, "proc"):
            self.proc.terminate()
            self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def unbound():
    def config(d):
        d.write("unbound.conf", """
server:
  username: ""
  chroot: ""
  directory: "%s"
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  num-threads: 1
  interface: 127.0.0.1@%d
  interface: 127.0.0.1@%d
  interface: 127.0.0.1@%d
  tls-port: %d
  https-port: %d
  tls-service-key: key.pem
  tls-service-pem: cert.pem
  module-config: "iterator"
  local-zone: "peers.test." static
%s
remote-control:
  control-enable: no
""" % (d.dir, d.port["dns"], d.port["tls"], d.port["https"], d.port["tls"], d.port["https"],
            "\n".join("  local-data: '%s.peers.test. 300 IN %s %s'" % r for r in ZONE)))
    return Daemon("unbound", config, "-d", "-c", "DIR/unbound.conf")


def knot():
    def config(d):
        d.write("zone", "$ORIGIN peers.test.\n$TTL 300\n@ SOA ns.peers.test. me.peers.test. 1 2 3 4 5\n@ NS ns\nns A 127.0.0.1\n" +
                "".join("%s %s %s\n" % r for r in ZONE))
        d.write("knot.conf", """
server:
    rundir: "%s"
    listen: [127.0.0.1@%d]
database:
    storage: "%s/db"
control:
    listen: "%s/control"
zone:
  - domain: peers.test
    file: "%s/zone"
    zonefile-sync: -1
""" % (d.dir, d.port["dns"], d.dir, d.dir, d.dir))
    return Daemon("knotd", config, "-c", "DIR/knot.conf")


def kdig(port, name, kind, *args):
    r = subprocess.run([need("kdig"), "@" + HOST, "-p", str(port), "+timeout=2", "+retry=1", *args, name, kind], capture_output=True, timeout=20)
    return r.stdout


def answer(text):
    """(status, the answer section without TTLs, in any order)."""
    text = text.decode()
    status = re.search(r"status: (\w+)", text)
    part = re.search(r"ANSWER SECTION:\n(.*?)\n\n", text + "\n\n", re.S)
    rows = sorted(re.sub(r"\s+\d+\s+IN", " IN", re.sub(r"[ \t]+", " ", x), count=1) for x in part[1].split("\n")) if part else []
    return status[1] if status else text, rows


def through(daemon, upstream):
    """Every record of the zone through sluice is what the daemon says itself."""
    with Core(CONFIG % upstream) as c:
        port = c.port["dnsl"]
        for name, kind in sorted({(r[0], r[1]) for r in ZONE if not re.fullmatch(r"n\d+", r[0])} | {("alias", "A"), ("nothing", "A"), ("a", "MX")}):
            for way in ((), ("+tcp",)):
                want = answer(kdig(daemon.port["dns"], name + ".peers.test", kind, "+tcp"))
                eq(want[0], "NXDOMAIN" if name == "nothing" else "NOERROR")
                eq(answer(kdig(port, name + ".peers.test", kind, *way, "+bufsize=1232")), want, "%s %s %s" % (name, kind, way))
        r = c.get("/dns/query?name=mx.peers.test&type=MX")
        eq((r["Status"], [a["data"] for a in r["Answer"]]), (0, ["10 a.peers.test."]))


def test_unbound_udp_and_tcp_when_truncated():
    with unbound() as d:
        through(d, "127.0.0.1:%d" % d.port["dns"])


def test_unbound_tcp():
    with unbound() as d:
        through(d, "tcp://127.0.0.1:%d" % d.port["dns"])


def test_unbound_tls():
    with unbound() as d:
        through(d, "tls://127.0.0.1:%d#skip-cert-verify=true" % d.port["tls"])


def test_unbound_https():
    with unbound() as d:
        through(d, "https://127.0.0.1:%d/dns-query#skip-cert-verify=true" % d.port["https"])


def test_knot_udp():
    with knot() as d:
        through(d, "127.0.0.1:%d" % d.port["dns"])


def test_knot_tcp():
    with knot() as d:
        through(d, "tcp://127.0.0.1:%d" % d.port["dns"])


# ---- load

def dnsperf(core, seconds, rate, *args):
    """dnsperf's counts: sent, completed, lost."""
    names = core.path("names")
    with open(names, "w") as f:
        f.writelines("n%d.peers.test A\n" % i for i in range(200))
    r = subprocess.run([need("dnsperf"), "-s", HOST, "-p", str(core.port["dnsl"]), "-d", names, "-l", str(seconds), "-Q", str(rate), "-t", "2",
                        *args], capture_output=True, text=True, timeout=seconds + 30)
    count = {k: int(re.search(r"Queries %s:\s+(\d+)" % k, r.stdout)[1]) for k in ("sent", "completed", "lost")}
    codes = re.search(r"Response codes:\s+(.*)", r.stdout)
    return count, codes[1] if codes else r.stdout


def test_dnsperf_over_tcp():
    with unbound() as d, Core(CONFIG % ("127.0.0.1:%d" % d.port["dns"])) as c:
        count, codes = dnsperf(c, 2, 1000, "-m", "tcp", "-c", "8")
        eq((count["lost"], count["completed"] > 1000, codes.startswith("NOERROR") and "," not in codes), (0, True, True), "%s %s" % (count, codes))


def test_reloads_lose_no_question():
    reloads = 10
    with unbound() as d, Core(CONFIG % ("127.0.0.1:%d" % d.port["dns"])) as c:
        out = []
        t = threading.Thread(target=lambda: out.append(dnsperf(c, 5, 2000, "-c", "20")))
        t.start()
        time.sleep(0.5)
        for i in range(reloads):
            eq(c.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
            time.sleep(0.2)
        t.join()
        count, codes = out[0]
        eq((count["lost"], count["sent"] > 5000, codes.startswith("NOERROR") and "," not in codes), (0, True, True), "%s %s" % (count, codes))


def memory(core):
    total = 0
    for pid in core.tree():
        with open("/proc/%d/smaps_rollup" % pid) as f:
            total += int(re.search(r"Pss:\s+(\d+)", f.read())[1])
    return total


def test_soak_does_not_grow():
    seconds = int(os.environ.get("SOAK", "4"))
    if os.getuid() != 0:
        raise Skip("only root may read the memory of the workers")
    with unbound() as d, Core(CONFIG % ("127.0.0.1:%d" % d.port["dns"])) as c:
        dnsperf(c, 2, 5000)
        before = memory(c)
        end = time.monotonic() + seconds
        lost = 0
        while time.monotonic() < end:
            lost += dnsperf(c, min(20, seconds), 5000)[0]["lost"]
        after = memory(c)
        print("# soak of %d s: %d KB before, %d KB after, %d lost" % (seconds, before, after, lost))
        eq((lost, after - before < 1024), (0, True), "%d KB before, %d KB after" % (before, after))
