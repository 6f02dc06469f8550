# SPDX-License-Identifier: MIT
"""A throw-away root for what installs things: an overlay over this machine's file system, in namespaces of its own (mounts, processes, IPC, host name;
the network is the machine's), with or without a systemd as its first process. What is written there is memory and ends with it."""
import os
import shutil
import subprocess
import tempfile

import lib
from lib import eq, until

# $1: where; $2: "systemd" or nothing. Units and wants of the machine are not wanted: such a systemd starts what is enabled in /etc, and its targets.
INIT = """
set -e
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work r
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" r
cd r
mount -t proc proc proc
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/shm dev/pts dev/net
chmod 1777 dev/shm tmp
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for n in null zero full random urandom tty net/tun; do
	[ ! -e /dev/$n ] || { touch dev/$n && mount --bind /dev/$n dev/$n; }
done
rm -f usr/sbin/policy-rc.d
if [ "$2" = systemd ]; then
	mount -t sysfs -o ro sysfs sys
	mount -t cgroup2 cgroup2 sys/fs/cgroup
	rm -rf etc/systemd/system/* lib/systemd/system/*.wants etc/rc?.d usr/lib/systemd/system-generators usr/lib/systemd/system-environment-generators
fi
mkdir oldroot
pivot_root . oldroot
umount -l oldroot
rmdir oldroot
echo ready
[ "$2" = systemd ] || { read x || true; exit 0; }
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target --log-target=null --show-status=0
"""
DPKG = ("dpkg", "--no-triggers", "--force-unsafe-io", "--force-confold")    # man pages of the machine are not indexed each time


def needs(*tools):
    if lib.SLOW > 1:
        raise lib.Skip("a sanitizer build is not packaged")
    for t in tools:
        if not shutil.which(t):
            raise lib.Skip("no %s" % t)


class Root:
    def __init__(self, systemd=False):
        self.systemd, self.cgroup, self.init = systemd, None, None

    def __enter__(self):
        needs("dpkg", "unshare", "nsenter", "setpriv", "systemd-sysusers")
        if os.geteuid() != 0:
            raise lib.Skip("it needs root")
        if os.path.exists("/var/lib/dpkg/info/sluice.list"):
            raise lib.Skip("this machine has the package")
        self.dir = tempfile.mkdtemp(prefix="sluice-root-")
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self):
        words = ["unshare", "-m", "-p", "-i", "-u", "-f", "--kill-child", "--propagation", "private"]
        enter = None
        if self.systemd:
            words += ["-C"]
            self.cgroup = new_cgroup()
            enter = os.path.join(self.cgroup, "cgroup.procs")
        words = ["sh", "-c", '[ -z "$0" ] || echo $$ > "$0" || exit; exec "$@"', enter or "", *words, "sh", "-c", INIT, "init", self.dir,
                 "systemd" if self.systemd else ""]
        self.holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        if self.holder.stdout.readline() != "ready\n":
            raise lib.Skip("no root of its own can be made here: " + self.holder.stderr.read())
        with open("/proc/%d/task/%d/children" % (self.holder.pid, self.holder.pid)) as f:
            self.init = int(f.read().split()[0])
        if self.systemd:
            try:
                until(lambda: self.run("systemctl", "is-active", "multi-user.target", ok=False).returncode == 0, 30)
            except AssertionError:
                raise lib.Skip("systemd does not come up here") from None

    def __exit__(self, *_):
        self.holder.kill()          # and with it the first process, and with it all
        self.holder.wait(10)
        for f in (self.holder.stdin, self.holder.stdout, self.holder.stderr):
            f.close()
        if self.cgroup:
            def gone():
                for top, _, _ in os.walk(self.cgroup, topdown=False):
                    try:
                        os.rmdir(top)
                    except OSError:
                        pass
                return not os.path.exists(self.cgroup)
            until(gone, 5, "its processes end")
        os.rmdir(self.dir)

    def path(self, name):
        return "/proc/%d/root%s" % (self.init, name)

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read()

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as f:
            f.write(text)

    def argv(self, *words):
        return ["nsenter", "-m", "-p", "-i", "-u", "-t", str(self.init), *words]

    def run(self, *words, ok=True):
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        r = subprocess.run(self.argv(*words), capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, cwd="/")
        if ok:
            eq(r.returncode, 0, " ".join(words) + "\n" + r.stdout + r.stderr)
        return r

    def install(self, deb):
        """What dpkg -i says of that file."""
        shutil.copy(deb, self.path("/tmp/package.deb"))
        r = self.run(*DPKG, "-i", "/tmp/package.deb")
        return r.stdout + r.stderr

    def status(self):
        return self.run("sluice", "status", "-d", "/etc/sluice", ok=False).stdout


def new_cgroup():
    with open("/proc/mounts") as f:
        tops = [x.split()[1] for x in f if x.split()[2] == "cgroup2" and "rw" in x.split()[3].split(",")]
    for top in tops:
        path = os.path.join(top, "sluice-test-%d-%d" % (os.getpid(), lib.servers.port["echo"]))
        try:
            os.mkdir(path)
            return path
        except OSError:
            pass
    raise lib.Skip("no cgroup of its own can be made here")
