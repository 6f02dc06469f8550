# SPDX-License-Identifier: MIT
"""use-system-hosts and `system` name servers: /etc/hosts and /etc/resolv.conf are read again when they change, by every worker and without a
reload. The files are ours, mounted over the machine's in a namespace of their own."""
import os
import subprocess

import lib
from lib import BASE, HOST, Core, eq, until

CONFIG = BASE.replace("log-level: debug", "log-level: info") + """
ipv6: true
sluice: {workers: 2}
hosts:
  own.test: 192.0.2.1
  '*.wild.test': 192.0.2.2
  '+.plus.test': 192.0.2.3
  alias.test: box.test
  chain.test: alias.test
  list.test: [192.0.2.4, 192.0.2.5, "2001:db8::5"]
dns:
  enable: true
  ipv6: true
  listen: 127.0.0.1:$dns
  nameserver: ["127.0.0.1:$s_dns"]
  nameserver-policy: {"+.sys.test": system}
  default-nameserver: ["127.0.0.1:$s_dns"]
rules: ["MATCH,DIRECT"]
"""
TIMEOUT = 60


class Namespace(Core):
    """With files of its own over two of the system's."""
    def start(self, wait=10):
        self.write("program", '#!/bin/sh\nexec unshare -m sh -c \'mount --bind "$0/hosts" /etc/hosts && '
                   'mount --bind "$0/resolv" /etc/resolv.conf && exec "$@"\' %s %s "$@"\n' % (self.dir, lib.PROGRAM))
        os.chmod(self.path("program"), 0o755)
        real, lib.PROGRAM = lib.PROGRAM, self.path("program")
        try:
            return super().start(wait)
        finally:
            lib.PROGRAM = real


def test_the_hosts_section(core):
    for name, address in (("own.test", "192.0.2.1"), ("OWN.test", "192.0.2.1"), ("a.wild.test", "192.0.2.2"), ("plus.test", "192.0.2.3"),
                          ("b.a.plus.test", "192.0.2.3"), ("list.test", "192.0.2.5"), ("localhost", HOST)):
        eq(core.dns(name), (0, address), name)
    eq(core.dns("b.a.wild.test"), (0, HOST), "one label only")


def test_live_re_reading():
    if os.getuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        raise lib.Skip("no namespaces")
    with Namespace(CONFIG, {"hosts": "192.0.2.10 box.test\n", "resolv": "nameserver 127.0.0.77\n"}) as core:
        until(lambda: len(core.serving()) == 2)
        eq(core.dns("box.test"), (0, "192.0.2.10"))
        eq(core.dns("chain.test"), (0, "192.0.2.10"), "an alias of an alias of it")
        core.write("hosts", "127.0.0.1 box.test second.test\n# 192.0.2.11 third.test\n")
        core.write("resolv", "nameserver 127.0.0.78\nnameserver 127.0.0.79\n")
        until(lambda: core.log().count("hosts file has changed") == 2 and core.log().count("2 name servers") == 2, 8, "both workers read both")
        for name in ("box.test", "second.test", "alias.test"):
            eq(core.dns(name), (0, HOST), name)
        core.dial_all("second.test", 12)
