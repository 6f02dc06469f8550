# SPDX-License-Identifier: MIT
"""Rule providers and geodata: what they match, that every worker has them, that one compilation serves all, and that junk changes nothing."""
import re

from lib import BASE, Core, check_config, eq, on_every_worker, rule_of

CONFIG = BASE + """
geox-url: {geosite: "http://127.0.0.1:1/"}
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
rule-providers:
  d: {type: file, behavior: domain, format: text, path: ./d.txt}
  c: {type: inline, behavior: classical, payload: ["DOMAIN-SUFFIX,inline.test", "DST-PORT,4999"]}
  gone: {type: file, behavior: ipcidr, path: ./gone.yaml}
rules:
  - RULE-SET,d,up
  - AND,((RULE-SET,c),(NETWORK,tcp)),up
  - RULE-SET,gone,REJECT
  - GEOSITE,nofile,REJECT
  - NOT,((GEOSITE,nofile)),REJECT
  - IP-CIDR,203.0.113.0/24,REJECT
  - MATCH,up
"""
FILES = {"d.txt": "+.first.test\n*.star.test\n"}


def loaders(core):
    return len(re.findall(r"msg=\"loader started", core.log()))


def test_matches(core):
    eq(rule_of(core, "a.first.test", 4301), ("RuleSet", "d"))
    eq(rule_of(core, "x.star.test", 4302), ("RuleSet", "d"))
    eq(rule_of(core, "x.y.star.test", 4303), ("Match", ""))
    eq(rule_of(core, "x.inline.test", 4304)[0], "AND")
    eq(rule_of(core, "other.test", 4999)[0], "AND")


def test_what_is_missing_is_named(core):
    core.wait_log("rule provider gone error: .*no such file")
    core.wait_log("GEOSITE,nofile matches nothing: GeoSite.dat is not in the working directory")
    eq(core.get("/providers/rules")["providers"]["gone"]["ruleCount"], 0)


def test_update_reaches_every_worker(core):
    core.write("d.txt", "+.second.test\n")
    eq(core.api("PUT", "/providers/rules/d").status, 204)
    on_every_worker(core, "a.second.test", 4320, ("RuleSet", "d"))
    on_every_worker(core, "a.first.test", 4340, ("Match", ""))
    eq(core.get("/providers/rules")["providers"]["d"]["ruleCount"], 1)
    eq(core.api("PUT", "/providers/rules/c").status, 204)
    eq(core.api("PUT", "/providers/rules/zz").status, 404)
    core.api("PUT", "/providers/rules/gone").error(503, "stat ./gone.yaml: no such file or directory")


def test_a_reload_compiles_nothing_again():
    with Core(CONFIG, FILES) as core:
        before = loaders(core)
        for _ in range(3):
            eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
        # one for each new tree, one for the inline set in it
        eq(loaders(core) - before, 6)
        before = loaders(core)
        eq(core.api("POST", "/restart", {}).status, 200)
        eq(loaders(core) - before, 0)
        eq(rule_of(core, "a.first.test", 4361), ("RuleSet", "d"))


def test_junk_changes_nothing():
    config = CONFIG.replace("format: text", "format: yaml")
    with Core(config, {"d.txt": "payload:\n- +.first.test\n"}) as core:
        core.write("d.txt", "<html>not found</html>\n")
        core.api("PUT", "/providers/rules/d").error(503, "file must have a `payload` field")
        on_every_worker(core, "a.first.test", 4380, ("RuleSet", "d"))
        core.write("d.txt", "payload:\n- IP\n- 'third.test'\n")
        eq(core.api("PUT", "/providers/rules/d").status, 204)
        on_every_worker(core, "third.test", 4400, ("RuleSet", "d"))


def test_an_address_is_asked_for_once_a_set_wants_one():
    """A classical set that gets an address rule by an update: the rules that use it resolve from then on."""
    config = BASE + """
hosts: {known.test: 203.0.113.7}
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
rule-providers:
  c: {type: file, behavior: classical, format: text, path: ./c.txt}
rules:
  - OR,((RULE-SET,c),(DOMAIN,never.test)),up
  - MATCH,up
"""
    with Core(config, {"c.txt": "DOMAIN,one.test\n"}) as core:
        eq(rule_of(core, "known.test", 4420)[0], "Match")
        core.write("c.txt", "IP-CIDR,203.0.113.0/24\n")
        eq(core.api("PUT", "/providers/rules/c").status, 204)
        eq(rule_of(core, "known.test", 4421)[0], "OR")


def test_a_list_that_is_not_there_refuses():
    site = b"\x0a\x0b\x0a\x02CN\x12\x05\x12\x03key"
    base = "rules: ['%s']\n"
    for rule, text in (("GEOSITE,zz,DIRECT", "list zz not found in GeoSite.dat"), ("GEOSITE,cn,DIRECT", "successful")):
        code, out = check_config(base % rule, files={"GeoSite.dat": site})
        eq((code, text in out), (0 if text == "successful" else 1, True), out)
