# SPDX-License-Identifier: MIT
"""GET /rules/explain and `sluice explain`: what they say is what a connection then meets."""
import json

from lib import BASE, eq

CONFIG = BASE + """
hosts: {h.test: 10.9.9.9, local.test: 127.0.0.1}
proxies:
  - {name: p1, type: socks5, server: 127.0.0.1, port: $s_socks, udp: true}
  - {name: p2, type: http, server: 127.0.0.1, port: $s_socks}
proxy-groups:
  - {name: outer, type: select, proxies: [inner]}
  - {name: inner, type: select, proxies: [p1, p2]}
  - {name: pass, type: select, proxies: [PASS, p2]}
sub-rules:
  sub: ["DOMAIN,nobody,p1"]
rules:
  - DOMAIN,a.test,p1
  - DOMAIN-SUFFIX,pass.test,pass
  - AND,((DOMAIN-SUFFIX,b.test),(NOT,((DST-PORT,80)))),outer
  - OR,((DOMAIN,x),(DOMAIN,y)),outer
  - SUB-RULE,(NETWORK,TCP),sub
  - IP-CIDR,10.0.0.0/8,DIRECT,no-resolve
  - SRC-IP-CIDR,10.0.0.0/8,p2
  - DOMAIN-SUFFIX,udp.test,p2
  - IN-NAME,office,p2
  - PROCESS-NAME,curl,p2
  - MATCH,outer
"""


def explain(core, query):
    return core.get("/rules/explain?" + query)


def passed(core, query):
    return {p["index"]: p["why"] for p in explain(core, query)["passed"]}


def test_decides_as_a_connection(core):
    e = explain(core, "host=c.b.test:443")
    eq((e["rule"], e["chains"], e["decidedBy"], e["error"]), ({"index": 2, "type": "AND", "payload": e["rule"]["payload"], "proxy": "outer"},
       ["p1", "inner", "outer"], "rule", ""))
    s = core.held("c.b.test", 443)
    c = core.one(destinationPort="443")
    eq((c["rule"], c["rulePayload"], c["chains"]), (e["rule"]["type"], e["rule"]["payload"], e["chains"]))
    s.close()


def test_counts_nothing_and_shows_no_connection(core):
    before = [r["extra"] for r in core.get("/rules")["rules"]]
    explain(core, "host=a.test")
    explain(core, "host=other.test&network=udp")
    eq([r["extra"] for r in core.get("/rules")["rules"]], before)
    eq(core.get("/connections")["connections"], None)


def test_why(core):
    why = passed(core, "host=h.test:80&src=192.0.2.1&in-name=home")
    eq(why[0], "the host is h.test")
    eq(why[2], "DomainSuffix(b.test): the host is h.test")
    eq(why[3], "none of its conditions holds")
    eq(why[4], "no rule of its sub-rules matches")
    eq(explain(core, "host=h.test:80")["rule"]["index"], 5)
    why = passed(core, "host=z.b.test:80&src=192.0.2.1:5&in-name=home&process=wget")
    eq(why[2], "DstPort(80) holds, or cannot be told")
    eq(why[5], "the address is not looked up for this rule (no-resolve)")
    eq((why[6], why[8], why[9]), ("the source is 192.0.2.1", "the inbound's name is home", "the process is wget"))
    eq(passed(core, "host=q.pass.test")[1], "it matches, but its target is PASS now")
    why = passed(core, "host=192.0.2.7&network=udp")
    eq((why[0], why[4], why[5]), ("the host name is not known", "Network(tcp): the network is udp", "the destination is 192.0.2.7"))


def test_words(core):
    for query, index in (("host=1.2.3.4&src=10.1.1.1", 6), ("host=q&in-name=office", 8), ("host=q&process=curl", 9), ("host=[::1]:80", 10),
                         ("host=10.1.1.1", 5), ("host=a.test.", 0), ("host=A.TEST", 0)):
        eq(explain(core, query)["rule"]["index"], index, query)


def test_switches_and_modes(core):
    eq(core.api("PATCH", "/rules/disable", {"0": True}).status, 204)
    eq(passed(core, "host=a.test")[0], "switched off")
    eq(core.api("PATCH", "/rules/disable", {"0": False}).status, 204)
    eq(core.api("PATCH", "/configs", {"mode": "direct"}).status, 204)
    e = explain(core, "host=a.test")
    eq((e["decidedBy"], e["rule"], e["passed"], e["chains"]), ("mode direct", None, [], ["DIRECT"]))
    eq(core.api("PATCH", "/configs", {"mode": "rule"}).status, 204)


def test_bad_questions(core):
    core.api("GET", "/rules/explain").error(400, "host is missing")
    core.api("GET", "/rules/explain?host=").error(400, "host is missing")
    core.api("GET", "/rules/explain?host=a&port=65536").error(400, "port: not understood: 65536")
    core.api("GET", "/rules/explain?host=a&src=nobody").error(400, "src: not understood: nobody")
    core.api("GET", "/rules/explain?host=a&network=sctp").error(400, "network: not understood: sctp")
    core.api("GET", "/rules/explain?host=" + "a" * 300).error(400, "host: not understood: " + "a" * 200)


def test_command(core):
    r = core.cli("explain", "c.b.test:80", "-src", "192.0.2.1", "--network=tcp")
    lines = r.stdout.splitlines()
    eq((r.returncode, lines[0], lines[-2], lines[-1]), (0, "tcp c.b.test port 80", "decided by: rule", "outbound: outer -> inner -> p1"))
    eq(any(line.strip().startswith("2  AND") and line.endswith("DstPort(80) holds, or cannot be told") for line in lines), True, r.stdout)
    for args, text in ((("explain", "a", "-port", "x"), "port: not understood: x"), (("explain",), "host is missing"),
                       (("explain", "a", "-nonsense", "1"), "unknown option")):
        r = core.cli(*args)
        eq((r.returncode != 0, text in r.stderr), (True, True), json.dumps([args, r.stderr]))


def test_many_at_once_leave_room_for_the_controller(core):
    for _ in range(12):
        eq(core.cli("explain", "a.test").returncode, 0)
    eq(core.api("POST", "/restart").status, 200)
    eq(explain(core, "host=a.test")["rule"]["index"], 0)
