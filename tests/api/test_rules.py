# SPDX-License-Identifier: MIT
"""/rules and /rules/disable."""
from lib import BASE, eq, until

ZERO = "0001-01-01T00:00:00Z"
CONFIG = BASE + """
proxies:
  - {name: p1, type: socks5, server: 127.0.0.1, port: $s_socks}
  - {name: p2, type: socks5, server: 127.0.0.1, port: $s_socks}
rules:
  - DOMAIN,a.test,p1
  - DOMAIN-SUFFIX,a.test,p2
  - DOMAIN-KEYWORD,KEY,p1
  - IP-CIDR,127.0.0.0/8,DIRECT,no-resolve
  - IP-CIDR6,2001:db8::/32,p1,no-resolve
  - SRC-IP-CIDR,10.0.0.0/8,p1
  - SRC-PORT,1-2/5,p1
  - DST-PORT,7001,p2
  - NETWORK,UDP,DIRECT
  - IN-PORT,1,p1
  - IN-TYPE,SOCKS4,p1
  - IN-NAME,nobody,p1
  - IN-USER,nobody,p1
  - MATCH,p1
"""
WANT = [("Domain", "a.test", "p1"), ("DomainSuffix", "a.test", "p2"), ("DomainKeyword", "key", "p1"), ("IPCIDR", "127.0.0.0/8", "DIRECT"), ("IPCIDR", "2001:db8::/32", "p1"),
        ("SrcIPCIDR", "10.0.0.0/8", "p1"), ("SrcPort", "1-2/5", "p1"), ("DstPort", "7001", "p2"), ("Network", "udp", "DIRECT"), ("InPort", "1", "p1"),
        ("InType", "SOCKS4", "p1"), ("InName", "nobody", "p1"), ("InUser", "nobody", "p1"), ("Match", "", "p1")]


def route(core, host, port):
    s = core.held(host, port)
    c = core.one(destinationPort=str(port))
    s.close()
    return c["rule"], c["rulePayload"], c["chains"]


def rule(core, i):
    return core.get("/rules")["rules"][i]


def test_list(core):
    rules = core.get("/rules")["rules"]
    eq([(r["type"], r["payload"], r["proxy"]) for r in rules], WANT)
    for i, r in enumerate(rules):
        eq([k for k in r if k in ("index", "type", "payload", "proxy", "size", "extra")], ["index", "type", "payload", "proxy", "size", "extra"])
        eq((r["index"], r["size"], "uuid" in r), (i, -1, False))
        eq([k for k in r["extra"]], ["disabled", "hitCount", "hitAt", "missCount", "missAt"])


def test_disable(core):
    eq(route(core, "a.test", 4101), ("Domain", "a.test", ["p1"]))
    r = core.api("PATCH", "/rules/disable", {"0": True})
    eq((r.status, r.body), (204, b""))
    eq(rule(core, 0)["extra"]["disabled"], True)
    eq(route(core, "a.test", 4102), ("DomainSuffix", "a.test", ["p2"]))
    eq(core.api("PATCH", "/rules/disable", {"0": False, "1": False, "999": True}).status, 204)
    eq(route(core, "a.test", 4103), ("Domain", "a.test", ["p1"]))
    eq(core.api("PATCH", "/rules/disable", {}).status, 204)


def test_disable_bad(core):
    for body in (b"{", b"[]", b"null", b'{"x":true}', b'{"0":"yes"}', b'{"0":1}', b'{"0":true,"x":false}', b'{"1.5":true}', b'{"":true}'):
        core.api("PATCH", "/rules/disable", raw=body).error(400, "Body invalid")
    eq(rule(core, 0)["extra"]["disabled"], False)


def test_counters_are_one_for_all_workers(core):
    before = rule(core, 7)["extra"]
    for _ in range(24):
        core.held("counted.test", 7001).close()
    after = until(lambda: (lambda e: e if e["hitCount"] >= before["hitCount"] + 24 else None)(rule(core, 7)["extra"]), why="24 hits are counted")
    eq((after["hitCount"] - before["hitCount"], after["hitAt"] != ZERO), (24, True))
    eq(rule(core, 5)["extra"]["missCount"] >= 24, True, "misses of an earlier rule")
    eq((rule(core, 5)["extra"]["hitCount"], rule(core, 5)["extra"]["hitAt"]), (0, ZERO))


def test_disabled_survives_restart_and_not_a_reload(core):
    eq(core.api("PATCH", "/rules/disable", {"0": True}).status, 204)
    eq(core.api("POST", "/restart").status, 200)
    eq(rule(core, 0)["extra"]["disabled"], True)
    eq(route(core, "a.test", 4104)[0], "DomainSuffix")
    eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
    eq(rule(core, 0)["extra"]["disabled"], False)
    eq(route(core, "a.test", 4105)[0], "Domain")


def test_no_rules(core):
    text = core.config[:core.config.index("rules:")]
    eq(core.api("PUT", "/configs", {"payload": text}).status, 204)
    eq(core.api("GET", "/rules").body, b'{"rules":[]}\n')
    eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
