# SPDX-License-Identifier: MIT
"""The Debian package: built, judged by lintian, and installed, upgraded under a running service, removed and purged in a throw-away root: an overlay
over this machine's own file system, in a mount namespace that ends with the test. Nothing is installed into the machine."""
import functools
import glob
import os
import re
import shutil
import subprocess

import lib
from lib import HOST, Threads, eq, free_port, pong, socks5, until
from root import Root, needs

TIMEOUT = 150
HERE = os.path.dirname(os.path.abspath(__file__))
BUILD_SH = os.path.join(HERE, "../../packaging/deb/build.sh")
CAPS = "-all,+net_bind_service,+setuid,+setgid,+kill"


def version_of(program):
    return subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout.split()[1]


@functools.cache
def package(name, last=None):
    """Builds the package of the programs under test in a directory of that name; last: the last letter of its version instead.
    (file, version of the programs)"""
    to = os.path.join(lib.servers.dir, "deb", name)
    source, version = os.path.dirname(lib.PROGRAM), version_of(lib.PROGRAM)
    other = version[:-1] + last if last else version
    os.makedirs(to + "/libexec")
    for name in ("sluice", "libexec/sluice-worker", "libexec/sluice-loader", "libexec/sluice-controller", "libexec/sluice-nethelper"):
        with open(os.path.join(source, name), "rb") as f:
            data = f.read().replace(version.encode() + b"\0", other.encode() + b"\0")
        with open(os.path.join(to, name), "wb") as f:
            f.write(data)
        os.chmod(os.path.join(to, name), 0o755)
    r = subprocess.run(["sh", BUILD_SH, to, other], capture_output=True, text=True, env=dict(os.environ, SOURCE_DATE_EPOCH="1700000000"))
    eq(r.returncode, 0, r.stderr)
    return r.stdout.split()[-1], other


def test_lintian_is_content():
    needs("lintian", "dpkg-shlibdeps")
    r = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", package("one")[0]], capture_output=True, text=True)
    eq((r.returncode, r.stdout), (0, ""), r.stdout + r.stderr)


def test_the_same_programs_give_the_same_package():
    needs("dpkg-shlibdeps")
    a, b = package("one")[0], package("and/another/place")[0]
    eq(os.path.basename(a), os.path.basename(b))
    eq(subprocess.run(["cmp", a, b], capture_output=True, text=True).stdout, "")


def listen_on(root, port):
    """The configuration with another port, free on this machine, as an operator's change of it. The text."""
    text = root.read("/etc/sluice/config.yaml").replace("7890", str(port))
    root.write("/etc/sluice/config.yaml", text)
    return text


def start_by_hand(root):
    """As the unit does: the user sluice with a few capabilities."""
    service = subprocess.Popen(root.argv("setpriv", "--reuid=sluice", "--regid=sluice", "--clear-groups", "--inh-caps=" + CAPS, "--ambient-caps=" + CAPS,
                                         "--bounding-set=" + CAPS, "--no-new-privs", "/usr/bin/sluice", "-d", "/etc/sluice"),
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: "serving" in root.status(), 10, "it serves")
    return service


def upgrades(root, port, *packages):
    """Installs one after the other over the running service, under connections: each is switched to live."""
    held = socks5(port, HOST, lib.servers.port["echo"])
    load = Threads(2, lambda: pong(socks5(port, HOST, lib.servers.port["echo"])))
    try:
        for deb, version in packages:
            said = root.install(deb)
            eq(("upgraded live" in said, version in root.status()), (True, True), said + root.status())
    finally:
        errors = load.stop()
    eq(errors[:5], [], "%d connections failed" % len(errors))
    eq(min(load.rounds) > 0, True)
    pong(held)
    return held


def test_install_upgrade_live_remove_purge():
    with Root() as root:
        one, two = package("one"), package("two", "Z")
        root.install(one[0])
        mode = ["3770 root:sluice", "640 root:sluice"]
        eq(root.run("stat", "-c", "%a %U:%G", "/etc/sluice", "/etc/sluice/config.yaml").stdout.splitlines(), mode)
        eq("/etc/sluice/config.yaml" in root.run("dpkg-query", "-W", "-f", "${Conffiles}", "sluice").stdout, True)
        eq(root.run("readlink", "/etc/systemd/system/multi-user.target.wants/sluice.service").stdout, "/lib/systemd/system/sluice.service\n")
        for user in ("sluice", "sluice-worker", "sluice-api"):
            root.run("id", user)
        eq("test is successful" in root.run("sluice", "-t", "-d", "/etc/sluice").stdout, True)
        eq(root.status(), "")

        port = free_port()
        text = listen_on(root, port)
        root.install(one[0])
        eq(root.read("/etc/sluice/config.yaml"), text, "what the operator changed")
        eq(root.run("stat", "-c", "%a %U:%G", "/etc/sluice", "/etc/sluice/config.yaml").stdout.splitlines(), mode)
        service = start_by_hand(root)
        held = upgrades(root, port, two, one)
        eq(service.poll(), None)
        eq(os.listdir(root.path("/usr/libexec/sluice")), [one[1]])

        # programs that cannot serve: the package is installed, the service goes on
        shutil.copy(two[0], root.path("/tmp/two.deb"))
        root.run("sh", "-c", "dpkg-deb -R /tmp/two.deb /tmp/bad && ln -sf /bin/false /tmp/bad/usr/libexec/sluice/%s/sluice-worker" % two[1])
        root.run("dpkg-deb", "-b", "/tmp/bad", "/tmp/bad.deb")
        said = root.install(root.path("/tmp/bad.deb"))
        eq(("goes on with the programs it has" in said, one[1] in root.status()), (True, True), said)
        pong(held)

        root.write("/etc/sluice/mine.pem", "the operator's")
        root.run("dpkg", "-r", "sluice")
        eq(service.wait(5), 0, "its removal ends it")
        eq(os.path.exists(root.path("/etc/sluice/config.yaml")), True)
        root.run("dpkg", "-P", "sluice")
        eq(os.listdir(root.path("/etc/sluice")), ["mine.pem"])
        left = [p for p in ("/usr/bin/sluice", "/usr/libexec/sluice", "/etc/systemd/system/multi-user.target.wants/sluice.service",
                            "/usr/share/doc/sluice", "/lib/systemd/system/sluice.service") if os.path.lexists(root.path(p))]
        eq(left + glob.glob(root.path("/var/lib/systemd/deb-systemd-helper-*/sluice*")), [])


def shown(root, name):
    return root.run("systemctl", "show", "-P", name, "sluice.service").stdout.strip()


def test_under_systemd():
    """The unit with all its hardening, by the real service manager: boot, upgrade, reload, a crash, the drop-ins, removal."""
    with Root(systemd=True) as root:
        one, two = package("one"), package("two", "Z")
        port = free_port()
        root.write("/etc/sluice/config.yaml", "mixed-port: %d\nrules: ['MATCH,DIRECT']\n" % port)
        root.install(one[0])
        eq((shown(root, "ActiveState"), shown(root, "UnitFileState")), ("active", "enabled"), root.run("systemctl", "status", "sluice", ok=False).stdout)
        pid = shown(root, "MainPID")
        held = upgrades(root, port, two, one)
        eq((shown(root, "MainPID"), shown(root, "NRestarts")), (pid, "0"))

        root.run("systemctl", "reload", "sluice")
        good = root.read("/etc/sluice/config.yaml")
        root.write("/etc/sluice/config.yaml", "mixed-port: [")
        eq(root.run("systemctl", "reload", "sluice", ok=False).returncode, 1, "a reload that was refused")
        root.write("/etc/sluice/config.yaml", good)
        root.run("systemctl", "reload", "sluice")
        eq((shown(root, "MainPID"), shown(root, "ActiveState")), (pid, "active"))
        pong(held)

        load = Threads(2, lambda: pong(socks5(port, HOST, lib.servers.port["echo"], timeout=10)))
        root.run("systemctl", "restart", "sluice")
        eq([e for e in load.errors if "refused" in e], [], "a restart keeps its ports")
        root.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", "sluice")
        until(lambda: shown(root, "NRestarts") == "1" and shown(root, "ActiveState") == "active", 10, "it is started again")
        eq([e for e in load.stop() if "refused" in e], [], "a crash keeps its ports")
        pong(socks5(port, HOST, lib.servers.port["echo"]))

        os.mkdir(root.path("/run/systemd/system/sluice.service.d"))
        for name in ("tun", "process-rules"):
            root.run("cp", "/usr/share/doc/sluice/examples/%s.conf" % name, "/run/systemd/system/sluice.service.d/")
        root.run("systemctl", "daemon-reload")
        root.run("systemctl", "restart", "sluice")
        pong(socks5(port, HOST, lib.servers.port["echo"]))
        pid = shown(root, "MainPID")
        has = {w: os.path.exists(root.path("/proc/%s/root/dev/%s" % (pid, w))) for w in ("net/tun", "shm", "kmsg", "mem")}
        eq(has, {"net/tun": os.path.exists("/dev/net/tun"), "shm": True, "kmsg": False, "mem": False})
        for child in root.read("/proc/%s/task/%s/children" % (pid, pid)).split():
            eq(re.findall(r"^(Cap(?:Eff|Prm|Inh|Amb)):\t0*([1-9a-f].*)", root.read("/proc/%s/status" % child), re.M), [], "what a child may")

        root.run("dpkg", "-r", "sluice")
        eq((shown(root, "ActiveState"), shown(root, "LoadState")), ("inactive", "not-found"))
