# SPDX-License-Identifier: MIT
"""The Debian package: built, judged by lintian, and installed, upgraded under a running service, removed and purged in a throw-away root: an overlay
over this machine's own file system, in a mount namespace that ends with the test. Nothing is installed into the machine."""
import atexit
import functools
import glob
import os
import shutil
import subprocess
import tempfile

import lib
from lib import HOST, Threads, eq, free_port, pong, read_n, socks5, until

TIMEOUT = 90
HERE = os.path.dirname(os.path.abspath(__file__))
BUILD_SH = os.path.join(HERE, "../../packaging/deb/build.sh")
DPKG = ("dpkg", "--no-triggers", "--force-unsafe-io")     # man pages of the machine are not indexed each time
CAPS = "-all,+net_bind_service,+setuid,+setgid,+kill"
# mounts the overlay at $1/r, says so, and keeps the namespace until its standard input ends
HOLD = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/r"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/r"
mount -t proc proc "$1/r/proc"
mount --rbind /dev "$1/r/dev"
mount -t tmpfs tmpfs "$1/r/run"
mount -t tmpfs tmpfs "$1/r/tmp"
echo ready
read x || true
"""


def needs(*tools):
    if lib.SLOW > 1:
        raise lib.Skip("a sanitizer build is not packaged")
    for t in tools:
        if not shutil.which(t):
            raise lib.Skip("no %s" % t)


def version_of(program):
    return subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stdout.split()[1]


@functools.cache
def place():
    d = tempfile.mkdtemp(prefix="sluice-deb-")
    atexit.register(shutil.rmtree, d, ignore_errors=True)
    return d


@functools.cache
def package(name, last=None):
    """Builds the package of the programs under test in a directory of that name; last: the last letter of its version instead.
    (file, version of the programs)"""
    to = os.path.join(place(), name)
    source, version = os.path.dirname(lib.PROGRAM), version_of(lib.PROGRAM)
    other = version[:-1] + last if last else version
    os.makedirs(to + "/libexec")
    for name in ("sluice", "libexec/sluice-worker", "libexec/sluice-loader", "libexec/sluice-controller"):
        with open(os.path.join(source, name), "rb") as f:
            data = f.read().replace(version.encode() + b"\0", other.encode() + b"\0")
        with open(os.path.join(to, name), "wb") as f:
            f.write(data)
        os.chmod(os.path.join(to, name), 0o755)
    r = subprocess.run(["sh", BUILD_SH, to, other], capture_output=True, text=True, env=dict(os.environ, SOURCE_DATE_EPOCH="1700000000"))
    eq(r.returncode, 0, r.stderr)
    return r.stdout.split()[-1], other


class Root:
    def __enter__(self):
        needs("dpkg-shlibdeps", "unshare", "nsenter", "setpriv", "systemd-sysusers")
        if os.geteuid() != 0:
            raise lib.Skip("it needs root")
        if os.path.exists("/var/lib/dpkg/info/sluice.list"):
            raise lib.Skip("this machine has the package")
        self.dir = tempfile.mkdtemp(prefix="sluice-root-")
        self.holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c", HOLD, "hold", self.dir], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            why = self.holder.stderr.read()
            self.__exit__()
            raise lib.Skip("no overlay can be mounted: " + why)
        self.service = None
        return self

    def __exit__(self, *_):
        if getattr(self, "service", None) and self.service.poll() is None:
            self.service.kill()
            self.service.wait(5)
        self.holder.stdin.close()
        self.holder.wait(10)
        for f in (self.holder.stdout, self.holder.stderr):
            f.close()
        os.rmdir(self.dir)

    def path(self, name):
        return "/proc/%d/root%s/r%s" % (self.holder.pid, self.dir, name)

    def argv(self, *words):
        return ["nsenter", "-m", "-t", str(self.holder.pid), "chroot", self.dir + "/r", *words]

    def run(self, *words, ok=True):
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        r = subprocess.run(self.argv(*words), capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, cwd="/")
        if ok:
            eq(r.returncode, 0, " ".join(words) + "\n" + r.stdout + r.stderr)
        return r

    def put(self, deb):
        shutil.copy(deb, self.path("/tmp/"))
        return "/tmp/" + os.path.basename(deb)

    def start(self):
        """As the unit does: the user sluice with a few capabilities."""
        log = open(self.path("/tmp/log"), "ab")
        self.service = subprocess.Popen(self.argv("setpriv", "--reuid=sluice", "--regid=sluice", "--clear-groups", "--inh-caps=" + CAPS, "--ambient-caps=" +
                                                  CAPS, "--bounding-set=" + CAPS, "--no-new-privs", "/usr/bin/sluice", "-d", "/etc/sluice"),
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        log.close()
        until(lambda: self.run("sluice", "status", "-d", "/etc/sluice", ok=False).returncode == 0, 10, "it serves")

    def status(self):
        return self.run("sluice", "status", "-d", "/etc/sluice").stdout

    def mode(self, name):
        return self.run("stat", "-c", "%a %U:%G", name).stdout.strip()


def test_lintian_is_content():
    needs("lintian", "dpkg-shlibdeps")
    r = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", package("one")[0]], capture_output=True, text=True)
    eq((r.returncode, r.stdout), (0, ""), r.stdout + r.stderr)


def test_the_same_programs_give_the_same_package():
    needs("dpkg-shlibdeps")
    a, b = package("one")[0], package("and/another/place")[0]
    eq(os.path.basename(a), os.path.basename(b))
    eq(subprocess.run(["cmp", a, b], capture_output=True, text=True).stdout, "")


def test_install_upgrade_live_remove_purge():
    with Root() as root:
        (one, v1), (two, v2) = package("one"), package("two", "Z")
        one, two = root.put(one), root.put(two)
        root.run(*DPKG, "-i", one)
        eq(root.mode("/etc/sluice"), "3770 root:sluice")
        eq(root.mode("/etc/sluice/config.yaml"), "640 root:sluice")
        eq("/etc/sluice/config.yaml" in root.run("dpkg-query", "-W", "-f", "${Conffiles}", "sluice").stdout, True)
        eq(root.run("readlink", "/etc/systemd/system/multi-user.target.wants/sluice.service").stdout, "/lib/systemd/system/sluice.service\n")
        for user in ("sluice", "sluice-worker", "sluice-api"):
            root.run("id", user)
        eq("test is successful" in root.run("sluice", "-t", "-d", "/etc/sluice").stdout, True)
        for page in ("sluice", "sluice.yaml", "sluice-ipc"):
            root.run("sh", "-c", "ls /usr/share/man/man[578]/%s.[578].gz" % page)

        # what the operator has changed stays; his port is free on this machine
        port = free_port()
        config = root.path("/etc/sluice/config.yaml")
        with open(config) as f:
            text = f.read().replace("7890", str(port))
        with open(config, "w") as f:
            f.write(text)
        root.run(*DPKG, "-i", one)
        with open(config) as f:
            eq(f.read(), text)
        eq(root.mode("/etc/sluice/config.yaml"), "640 root:sluice")

        root.start()
        eq(v1 in root.status(), True, root.status())
        held = socks5(port, HOST, lib.servers.port["echo"])
        pong(held)
        load = Threads(2, lambda: pong(socks5(port, HOST, lib.servers.port["echo"])))
        try:
            out = root.run(*DPKG, "-i", two)
            eq("upgraded live" in out.stdout, True, out.stdout + out.stderr)
            eq((v2 in root.status(), root.service.poll()), (True, None), root.status())
            out = root.run(*DPKG, "-i", one)
            eq(("upgraded live" in out.stdout, v1 in root.status()), (True, True), out.stdout + out.stderr)
        finally:
            errors = load.stop()
        eq(errors[:5], [], "%d connections failed" % len(errors))
        eq(min(load.rounds) > 0, True)
        pong(held)
        eq(os.listdir(root.path("/usr/libexec/sluice")), [v1])

        # programs that cannot serve: the package is installed, the service goes on
        root.run("sh", "-c", "dpkg-deb -R %s /tmp/bad && ln -sf /bin/false /tmp/bad/usr/libexec/sluice/%s/sluice-worker && dpkg-deb -b /tmp/bad /tmp/bad.deb" % (two, v2))
        out = root.run(*DPKG, "-i", "/tmp/bad.deb")
        eq("goes on with the programs it has" in out.stderr, True, out.stdout + out.stderr)
        pong(held)
        eq(v1 in root.status(), True, root.status())

        with open(root.path("/etc/sluice/mine.pem"), "w") as f:
            f.write("the operator's")
        root.run("dpkg", "-r", "sluice")
        eq(root.service.wait(5), 0, "its removal ends it")
        eq(read_n_or_end(held), b"")
        eq(os.path.exists(config), True)
        root.run("dpkg", "-P", "sluice")
        eq(os.listdir(root.path("/etc/sluice")), ["mine.pem"])
        left = [p for p in ("/usr/bin/sluice", "/usr/libexec/sluice", "/etc/systemd/system/multi-user.target.wants/sluice.service",
                            "/usr/share/doc/sluice", "/lib/systemd/system/sluice.service") if os.path.lexists(root.path(p))]
        eq(left + glob.glob(root.path("/var/lib/systemd/deb-systemd-helper-*/sluice*")), [])


def read_n_or_end(s):
    try:
        return read_n(s, 1)
    except (EOFError, ConnectionResetError):
        return b""
