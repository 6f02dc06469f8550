# SPDX-License-Identifier: MIT
"""Outbounds, groups, modes, rules and name resolution: where a connection goes, and what it is told when it cannot go there."""
import hashlib
import re
import ssl
import time

import lib
from lib import BASE, HOST, Core, Refused, Udp, ended, eq, pong, response, until

CONFIG = BASE + """
ipv6: true
hosts: {"pinned.test": 127.0.0.1, "alias.test": pinned.test}
dns: {enable: true, nameserver: ["127.0.0.1:$s_dns"], default-nameserver: ["127.0.0.1:$s_dns"]}
proxies:
  - {name: s5, type: socks5, server: 127.0.0.1, port: $s_socks, udp: true}
  - {name: s5name, type: socks5, server: server.named.test, port: $s_socks}
  - {name: http, type: http, server: 127.0.0.1, port: $s_http, headers: {X-Own: "1", Host: other.test}}
  - {name: s5tls, type: socks5, server: 127.0.0.1, port: $s_socks_tls, tls: true, skip-cert-verify: true}
  - {name: httptls, type: http, server: 127.0.0.1, port: $s_http_tls, tls: true, sni: up.test, skip-cert-verify: true}
  - {name: checked, type: http, server: 127.0.0.1, port: $s_http_tls, tls: true, sni: up.test}
  - {name: pinned, type: http, server: 127.0.0.1, port: $s_http_tls, tls: true, sni: up.test, fingerprint: "$pin"}
  - {name: wrongpin, type: http, server: 127.0.0.1, port: $s_http_tls, tls: true, sni: up.test, fingerprint: "$badpin"}
  - {name: chained, type: socks5, server: inner.test, port: 1080, dialer-proxy: http}
  - {name: closed, type: socks5, server: 127.0.0.1, port: $s_closed}
  - {name: mydirect, type: direct, udp: true}
  - {name: lo, type: socks5, server: 127.0.0.1, port: $s_socks, interface-name: lo}
proxy-groups:
  - {name: Pick, type: select, proxies: [s5, http, DIRECT, REJECT]}
  - {name: Outer, type: select, proxies: [Pick, DIRECT]}
rules:
  - DOMAIN-SUFFIX,s5.test,s5
  - DOMAIN-SUFFIX,s5name.test,s5name
  - DOMAIN-SUFFIX,http.test,http
  - DOMAIN-SUFFIX,s5tls.test,s5tls
  - DOMAIN-SUFFIX,httptls.test,httptls
  - DOMAIN-SUFFIX,checked.test,checked
  - DOMAIN-SUFFIX,pinned-cert.test,pinned
  - DOMAIN-SUFFIX,wrongpin.test,wrongpin
  - DOMAIN-SUFFIX,chained.test,chained
  - DOMAIN-SUFFIX,closed.test,closed
  - DOMAIN-SUFFIX,lo.test,lo
  - DOMAIN-SUFFIX,reject.test,REJECT
  - DOMAIN-SUFFIX,drop.test,REJECT-DROP
  - DOMAIN-SUFFIX,pass.test,PASS
  - DOMAIN-SUFFIX,mydirect.test,mydirect
  - DOMAIN,pinned.test,DIRECT
  - DOMAIN,alias.test,DIRECT
  - DOMAIN-SUFFIX,direct.test,DIRECT
  - DOMAIN-KEYWORD,keyword,s5
  - IP-CIDR,127.0.0.0/8,DIRECT,no-resolve
  - IP-CIDR,10.9.0.0/16,s5
  - DST-PORT,4900-4999,s5
  - SRC-IP-CIDR,127.0.0.77/32,REJECT
  - NETWORK,udp,DIRECT
  - IP-CIDR6,2001:db8::/32,s5,no-resolve
  - MATCH,Outer
"""


# The servers exist before a module is loaded.
PIN = hashlib.sha256(ssl.PEM_cert_to_DER_cert(open(lib.servers.cert).read())).hexdigest()
CONFIG = CONFIG.replace("$pin", PIN).replace("$badpin", PIN[::-1])


def route(core, host, port=4101):
    """(rule, payload, chains) of a connection that works."""
    s = core.held(host, port)
    c = core.one(sourcePort=str(s.getsockname()[1]))
    s.close()
    return c["rule"], c["rulePayload"], c["chains"]


def fails(core, host, port=4101, seconds=8):
    """True when a connection to it is refused or ended before an echo."""
    try:
        s = core.socks(host, port, timeout=seconds)
        s.sendall(b"hi")
        return ended(s, seconds) in ("end", "reset")
    except (Refused, ConnectionError):
        return True


def test_upstreams(core):
    for host, chain in (("a.s5.test", "s5"), ("a.http.test", "http"), ("a.s5tls.test", "s5tls"), ("a.httptls.test", "httptls"), ("a.s5name.test", "s5name"), ("a.lo.test", "lo"),
                        ("a.pinned-cert.test", "pinned"), ("a.chained.test", "chained")):
        eq(route(core, host)[2], [chain], host)
        eq(lib.servers.seen[-1][1:], (host, 4101))


def test_http_upstream_request(core):
    core.held("a.http.test", 4102).close()
    head = lib.servers.headers[-1]
    eq(head.startswith("CONNECT a.http.test:4102 HTTP/1.1\r\n"), True, head)
    eq("X-Own: 1\r\n" in head, True, head)


def test_dialer_proxy_goes_through(core):
    core.held("a.chained.test", 4103).close()
    eq(lib.servers.seen[-2:], [("http", "inner.test", 1080), ("socks", "a.chained.test", 4103)])


def test_certificates_are_checked(core):
    eq(fails(core, "a.checked.test"), True)
    core.wait_log("checked.*(certificate|x509|verify)")
    eq(fails(core, "a.wrongpin.test"), True)


def test_certificate_of_an_own_root():
    pem = "\n".join("      " + line for line in open(lib.servers.cert).read().splitlines())
    with Core(BASE + "tls:\n  custom-certifactes:\n    - |\n%s\nproxies:\n  - {name: up, type: http, server: 127.0.0.1, port: $s_http_tls, tls: true, sni: up.test}\n"
              "  - {name: bad, type: http, server: 127.0.0.1, port: $s_http_tls, tls: true, sni: wrong.test}\nrules: ['DOMAIN,bad.test,bad', 'MATCH,up']\n" % pem) as c:
        if "custom-certifactes" in c.log():
            raise lib.Skip("the log says that custom-certifactes does not work yet")
        c.held("a.test", 4104).close()
        eq(fails(c, "bad.test"), True)


def test_upstream_authentication():
    lib.servers.users = {"me": "word:1"}
    try:
        up = "server: 127.0.0.1, port: %s, username: me, password: '%s'"
        with Core(BASE + "proxies:\n  - {name: a, type: socks5, %s}\n  - {name: b, type: http, %s}\n  - {name: c, type: socks5, %s}\n  - {name: d, type: http, %s}\n"
                  "rules: ['DOMAIN,a.test,a', 'DOMAIN,b.test,b', 'DOMAIN,c.test,c', 'MATCH,d']\n"
                  % (up % ("$s_socks", "word:1"), up % ("$s_http", "word:1"), up % ("$s_socks", "no"), up % ("$s_http", "no"))) as c:
            c.held("a.test", 4105).close()
            c.held("b.test", 4105).close()
            eq((fails(c, "c.test"), fails(c, "d.test")), (True, True))
    finally:
        lib.servers.users = {}


def test_reject(core):
    t = time.monotonic()
    eq(fails(core, "a.reject.test"), True)
    eq(time.monotonic() - t < 2, True, "REJECT is quick")
    r = core.raw(b"GET http://a.reject.test/ HTTP/1.1\r\nHost: a.reject.test\r\n\r\n", "http")
    eq(response(r)[0] in (0, 502), True, repr(r))


def test_reject_drop(core):
    try:
        s = core.socks("a.drop.test", 4106, timeout=2)
    except (Refused, TimeoutError):
        return
    s.sendall(b"x")
    eq(ended(s, 2) != "data", True)
    s.close()


def test_pass_falls_to_the_next_rules(core):
    eq(route(core, "a.pass.test")[2][-1], "Outer")


def test_rules(core):
    for host, port, want in (("x.keyword.test", 4101, ("DomainKeyword", "keyword")), ("KeyWord2.test", 4101, ("DomainKeyword", "keyword")), ("10.9.1.1", 4101, ("IPCIDR", "10.9.0.0/16")),
                             ("other.test", 4950, ("DstPort", "4900-4999")), ("2001:db8::5", 4101, ("IPCIDR", "2001:db8::/32")), ("S5.test", 4101, ("DomainSuffix", "s5.test")),
                             ("xs5.test", 4101, ("Match", "")), ("8.8.8.8", 4101, ("Match", ""))):
        eq(route(core, host, port)[:2], want, host)
    eq(route(core, "ip10-9-3-3.test")[:2], ("IPCIDR", "10.9.0.0/16"), "a name is looked up for an IP rule")
    c = [q for q in lib.servers.questions if q[0] == "ip10-9-3-3.test"]
    eq(bool(c), True)
    try:
        s = lib.socks5(core.port["socks"], "x.test", 4101, source="127.0.0.77")
        eq(ended(s) in ("end", "reset"), True)
    except Refused:
        pass


def test_direct_by_name(core):
    for host in ("pinned.test", "alias.test", "a.direct.test", "a.mydirect.test"):
        s = core.held(host, lib.servers.port["echo"])
        c = core.one(sourcePort=str(s.getsockname()[1]))
        eq((c["metadata"]["remoteDestination"], c["metadata"]["host"]), (HOST, host))
        s.close()
    eq([q for q in lib.servers.questions if q[0] in ("pinned.test", "alias.test")], [], "hosts are not asked for")


def test_names_that_do_not_resolve(core):
    t = time.monotonic()
    eq(fails(core, "nx.direct.test", 80), True)
    eq(time.monotonic() - t < 3, True, "NXDOMAIN is quick")
    eq(fails(core, "drop.direct.test", 80, 15), True)


def test_truncated_answer_is_asked_by_tcp(core):
    core.held("big.direct.test", lib.servers.port["echo"]).close()


def test_ipv6_only_name(core):
    eq(fails(core, "v6.direct.test", lib.servers.port["closed"]), True)
    eq(("v6.direct.test", 28) in lib.servers.questions, True)


def test_dial_failures_are_told(core):
    eq(fails(core, "a.closed.test"), True)
    core.wait_log(r"level=warning.*dial closed.*a\.closed\.test:4101 error: ")
    r = core.raw(b"CONNECT a.closed.test:80 HTTP/1.1\r\nHost: x\r\n\r\n", "http", 8)
    eq(response(r)[0] in (0, 502), True, repr(r))


def test_select_and_nested_groups(core):
    eq(route(core, "any.test")[2], ["s5", "Pick", "Outer"])
    core.api("PUT", "/proxies/Pick", {"name": "http"})
    eq(route(core, "any.test")[2], ["http", "Pick", "Outer"])
    core.api("PUT", "/proxies/Pick", {"name": "REJECT"})
    eq(fails(core, "any.test"), True)
    core.api("PUT", "/proxies/Pick", {"name": "s5"})


def test_modes(core):
    core.api("PUT", "/proxies/GLOBAL", {"name": "http"})
    core.api("PATCH", "/configs", {"mode": "global"})
    eq(route(core, "a.s5.test"), ("", "", ["http", "GLOBAL"]))
    core.wait_log(r"a\.s5\.test:4101 using GLOBAL")
    core.api("PATCH", "/configs", {"mode": "direct"})
    eq(route(core, HOST, lib.servers.port["echo"]), ("", "", ["DIRECT"]))
    core.wait_log(r"%d using DIRECT" % lib.servers.port["echo"])
    core.api("PATCH", "/configs", {"mode": "rule"})
    core.api("PUT", "/proxies/GLOBAL", {"name": "DIRECT"})


def test_no_matching_rule():
    with Core(BASE + "rules: ['DOMAIN,x.test,REJECT']\n") as c:
        eq(route(c, HOST, lib.servers.port["echo"]), ("", "", ["DIRECT"]))
        c.wait_log(r"127\.0\.0\.1:%d doesn't match any rule using DIRECT" % lib.servers.port["echo"])


def test_log_lines(core):
    s = core.held("a.s5.test", 4107)
    core.wait_log(r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)" level=info msg="\[TCP\] 127\.0\.0\.1:%d --> a\.s5\.test:4107 match DomainSuffix\(s5\.test\) using s5"'
                  % s.getsockname()[1])
    s.close()
    core.held("any.test", 4108).close()
    core.wait_log(r"any\.test:4108 match Match using Outer\[s5\]")


# ---- UDP
def test_udp_direct(core):
    u = Udp(core.port["socks"])
    for i in range(50):
        eq(u.ask(HOST, lib.servers.port["udp"], b"ping %d" % i), b"ping %d" % i)
    big = lib.pattern(8000)
    eq(u.ask(HOST, lib.servers.port["udp"], big) == big, True)
    eq(u.ask("a.direct.test", lib.servers.port["udp"], b"by name"), b"by name")
    u.close()


def test_udp_through_socks5(core):
    u = Udp(core.port["mixed"])
    eq(u.ask("a.s5.test", 4109, b"through"), b"through")
    eq(lib.servers.seen[-1], ("udp", "a.s5.test", 4109))
    c = core.one(network="udp", host="a.s5.test")
    eq((c["chains"], c["rule"]), (["s5"], "DomainSuffix"))
    u.close()


def test_udp_rejected_and_without_udp(core):
    u = Udp(core.port["socks"])
    u.s.settimeout(1)
    for host in ("a.reject.test", "a.drop.test"):
        u.send(host, 4110, b"x")
    try:
        eq(u.recv(), b"nothing")
    except TimeoutError:
        pass
    u.close()
    # where a client's socket goes is decided once, as in the reference; a proxy that carries no UDP is passed over by its rule
    u = Udp(core.port["socks"])
    eq(u.ask("a.http.test", lib.servers.port["udp"], b"y"), b"y")
    eq(core.one(network="udp", host="a.http.test")["chains"], ["DIRECT"])
    u.close()


def test_udp_rubbish_is_dropped(core):
    u = Udp(core.port["socks"])
    u.s.settimeout(0.5)
    for d in (b"", b"\0", b"\0\0\0", b"\0\0\1\1" + b"\x7f\0\0\1\0\x50frag", b"\0\0\0\3\xff", b"\0\0\0\7aaaa", b"\0\0\0\1\x7f\0", b"\0\0\0\3\0\0\0"):
        u.s.sendto(d, u.relay)
    try:
        eq(u.recv(), b"nothing")
    except TimeoutError:
        pass
    u.s.settimeout(3)
    eq(u.ask(HOST, lib.servers.port["udp"], b"alive"), b"alive")
    u.close()


def test_many_udp_sessions(core):
    us = [Udp(core.port["socks"]) for _ in range(100)]
    for i, u in enumerate(us):
        eq(u.ask(HOST, lib.servers.port["udp"], b"%d" % i), b"%d" % i)
    eq(len(core.connections(network="udp")) >= 100, True)
    for u in us:
        u.close()
    core.api("DELETE", "/connections")
    until(lambda: not core.connections(network="udp"))


def test_proxies_that_do_not_speak_yet_are_named():
    with Core(BASE + "proxies:\n  - {name: later, type: ss, server: 127.0.0.1, port: 1, cipher: aes-128-gcm, password: x}\n"
              "routing-mark: 5\nrules: ['DOMAIN,later.test,later', 'MATCH,DIRECT']\n") as c:
        eq(c.get("/proxies/later")["type"], "Shadowsocks")
        eq(fails(c, "later.test"), True)
        until(lambda: re.search(r"level=warning.*routing-mark", c.log()) and re.search(r"level=warning.*later", c.log()), why="both are named in the log")


def test_custom_authorities():
    with open(lib.servers.cert) as f:
        pem = "".join("      " + line for line in f)
    text = BASE + """
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks_tls, tls: true, sni: up.test}
rules:
  - MATCH,up
"""
    with Core(text) as core:
        try:
            core.held("a.test", 4101).close()
            raise AssertionError("an unknown authority is trusted")
        except lib.Refused:
            pass
        core.write("config.yaml", core.config + "tls:\n  custom-certifactes:\n    - no certificate\n    - |\n" + pem)
        eq(core.api("PUT", "/configs?force=true", {}).status, 204)
        core.held("a.test", 4102).close()
        core.wait_log("tls.custom-certifactes: add error: it is no certificate")
