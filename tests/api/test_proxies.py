# SPDX-License-Identifier: MIT
"""/proxies, /group, delay tests, providers that come of groups, and how selections are kept."""
import re
import threading

import lib
from lib import BASE, Core, eq, quote

JP = "日本 🇯🇵/1 %41"
CONFIG = BASE + """
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks, udp: true, tfo: true, interface-name: ""}
  - {name: up2, type: http, server: 127.0.0.1, port: $s_http, dialer-proxy: up}
  - {name: dead, type: socks5, server: 127.0.0.1, port: $s_closed}
  - {name: "日本 🇯🇵/1 %41", type: socks5, server: 127.0.0.1, port: $s_socks}
proxy-groups:
  - {name: Pick, type: select, proxies: [up, up2, dead, DIRECT, REJECT, "日本 🇯🇵/1 %41"], icon: "http://127.0.0.1/i.png", hidden: true}
  - {name: Outer, type: select, proxies: [Pick, DIRECT]}
rules:
  - MATCH,Outer
"""
COMMON = {"alive": bool, "dialer-proxy": str, "extra": dict, "history": list, "interface": str, "mptcp": bool, "name": str, "provider-name": str,
          "routing-mark": int, "smux": bool, "tfo": bool, "type": str, "udp": bool, "uot": bool, "xudp": bool}


def delay(path, url="204", timeout="3000", **more):
    q = {"url": "http://127.0.0.1:%d/%s" % (lib.servers.port["origin"], url), "timeout": timeout, **more}
    return path + "/delay?" + "&".join("%s=%s" % (k, quote(v)) for k, v in q.items() if v is not None)


def test_all(core):
    j = core.get("/proxies")
    eq(list(j), ["proxies"])
    ps = j["proxies"]
    eq(list(ps), sorted(ps, key=lambda k: k.encode()), "sorted by bytes")
    eq(set(ps), {"DIRECT", "REJECT", "REJECT-DROP", "PASS", "COMPATIBLE", "GLOBAL", "up", "up2", "dead", JP, "Pick", "Outer"})
    for name, p in ps.items():
        eq(list(p), sorted(p), name + ": sorted keys")
        for k, t in COMMON.items():
            eq(type(p.get(k)), t, "%s.%s" % (name, k))
        eq(p["name"], name)
        group = name in ("GLOBAL", "Pick", "Outer")
        eq([k in p for k in ("all", "now", "hidden", "icon", "id")], [group, group, group, group, not group], name)
    eq({n: p["type"] for n, p in ps.items()}, {"DIRECT": "Direct", "REJECT": "Reject", "REJECT-DROP": "RejectDrop", "PASS": "Pass", "COMPATIBLE": "Compatible",
                                               "GLOBAL": "Selector", "up": "Socks5", "up2": "Http", "dead": "Socks5", JP: "Socks5", "Pick": "Selector", "Outer": "Selector"})
    eq(ps["GLOBAL"]["all"], ["DIRECT", "REJECT", "up", "up2", "dead", JP, "Pick", "Outer"])
    eq([ps["up"]["udp"], ps["up"]["tfo"], ps["up2"]["udp"], ps["up2"]["dialer-proxy"]], [True, True, False, "up"])
    eq([ps["Pick"]["hidden"], ps["Pick"]["icon"], ps["Outer"]["hidden"], ps["Outer"]["icon"]], [True, "http://127.0.0.1/i.png", False, ""])
    eq(bool(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", ps["up"]["id"])), True)
    eq(len({p["id"] for p in ps.values() if "id" in p}), 9, "ids differ")


def test_one(core):
    p = core.get("/proxies")["proxies"]["up"]
    eq(core.get("/proxies/up"), p)
    eq(core.get("/proxies/" + quote(JP))["name"], JP)
    eq(core.api("GET", "/proxies/" + quote(JP).replace("%25", "%")).status, 404)    # decoded once
    for path in ("/proxies/nobody", "/proxies/UP", "/group/nobody", "/group/up", "/proxies/" + "x" * 5000):
        core.api("GET", path).error(404, "Resource not found")


def test_groups(core):
    j = core.get("/group")
    eq([p["name"] for p in j["proxies"]], ["Pick", "Outer", "GLOBAL"])
    eq(core.get("/group/Pick"), core.get("/proxies/Pick"))


def test_select(core):
    r = core.api("PUT", "/proxies/Pick", {"name": "up2"}, headers={"Content-Type": "text/plain"})
    eq((r.status, r.body), (204, b""))
    eq(core.get("/proxies/Pick")["now"], "up2")
    s = core.held("a.test", 4101)
    eq(core.one(destinationPort="4101")["chains"], ["up2", "Pick", "Outer"])
    eq(core.api("PUT", "/proxies/Pick", raw=b'{"NAME":"up","x":1} tail').status, 204)
    eq(core.get("/proxies/Pick")["now"], "up")
    lib.pong(s)                                             # a selection closes nothing
    s.close()
    eq(core.get("/proxies/Outer")["udp"], True)             # that of the choice


def test_select_errors(core):
    for path, body, status, message in (("/proxies/nobody", b'{"name":"up"}', 404, "Resource not found"), ("/proxies/Pick", b"{", 400, "Body invalid"),
                                        ("/proxies/Pick", b"[]", 400, "Body invalid"), ("/proxies/Pick", b'{"name":1}', 400, "Body invalid"),
                                        ("/proxies/up", b'{"name":"up"}', 400, "Must be a Selector"), ("/proxies/DIRECT", b"{}", 400, "Must be a Selector"),
                                        ("/proxies/Pick", b"{}", 400, "Selector update error: proxy not exist"),
                                        ("/proxies/Pick", b'{"name":"Outer"}', 400, "Selector update error: proxy not exist")):
        core.api("PUT", path, raw=body).error(status, message)
    eq(core.get("/proxies/Pick")["now"], "up")


def test_unfix(core):
    core.api("DELETE", "/proxies/Pick").error(400, "Body invalid")
    core.api("DELETE", "/group/Pick").error(400, "Body invalid")
    core.api("DELETE", "/proxies/up").error(400, "Body invalid")
    core.api("DELETE", "/proxies/nobody").error(404, "Resource not found")
    core.api("DELETE", "/group/nobody").error(404, "Resource not found")


def test_delay(core):
    for name in ("up", "up2", "DIRECT", "Pick", "Outer"):
        r = core.api("GET", delay("/proxies/" + name))
        eq((r.status, list(r.json), r.json.get("delay", 0) >= 1), (200, ["delay"], True), name)
    h = core.get("/proxies/up")
    eq([sorted(h["history"][-1]), h["alive"], h["history"][-1]["delay"] >= 1], [["delay", "time"], True, True])
    eq(bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", h["history"][-1]["time"])), True)
    extra = h["extra"]["http://127.0.0.1:%d/204" % lib.servers.port["origin"]]
    eq([extra["alive"], len(extra["history"]) > 0], [True, True])


def test_delay_failures(core):
    for path, status, message in ((delay("/proxies/nobody"), 404, "Resource not found"), (delay("/proxies/up", timeout=None), 400, "Body invalid"),
                                  (delay("/proxies/up", timeout="abc"), 400, "Body invalid"), (delay("/proxies/up", timeout="0"), 504, "Timeout"),
                                  (delay("/proxies/up", timeout="-5"), 504, "Timeout"), (delay("/proxies/up", expected="x"), 400, "Body invalid"),
                                  (delay("/proxies/dead"), 503, "An error occurred in the delay test"), (delay("/proxies/REJECT"), 503, "An error occurred in the delay test"),
                                  (delay("/proxies/up", url="slow/2000", timeout="300"), 504, "Timeout")):
        core.api("GET", path).error(status, message)
    eq(core.api("GET", "/proxies/up/delay?timeout=1000&url=ftp%3A%2F%2Fx").status, 503)
    eq(core.get("/proxies/dead")["alive"], False)
    eq(core.get("/proxies/dead")["history"][-1]["delay"], 0)


def test_delay_expected(core):
    for want in ("200-299", "204", "*", "404,204", "100/200-204"):
        eq(core.api("GET", delay("/proxies/up", expected=want)).status, 200, want)
    eq(core.api("GET", delay("/proxies/up", expected="/".join(str(i) for i in range(100, 129)))).status, 400)
    r = core.api("GET", delay("/proxies/up", url="status/500", expected="204"))
    eq(r.status, 200)                                       # told, and yet recorded as a failure
    e = core.get("/proxies/up")["extra"]["http://127.0.0.1:%d/status/500" % lib.servers.port["origin"]]
    eq([e["alive"], e["history"][-1]["delay"]], [False, 0])


def test_history_is_bounded(core):
    for _ in range(13):
        core.api("GET", delay("/proxies/up2"))
    eq(len(core.get("/proxies/up2")["history"]), 10)
    for i in range(40):
        core.api("GET", delay("/proxies/DIRECT", url="status/2%02d" % i))
    eq(len(core.get("/proxies/DIRECT")["extra"]) <= 32, True, "urls kept: %d" % len(core.get("/proxies/DIRECT")["extra"]))


def test_group_delay(core):
    r = core.api("GET", delay("/group/Pick"))
    eq((r.status, sorted(r.json)), (200, sorted(["up", "up2", "DIRECT", JP])))
    core.api("GET", delay("/group/up")).error(404, "Resource not found")
    core.api("GET", delay("/group/Pick", timeout="x")).error(400, "Body invalid")
    core.api("GET", delay("/group/Pick", url="slow/2000", timeout="200")).error(504, "get delay: all proxies timeout")


def test_many_delays_at_once(core):
    out = []
    ts = [threading.Thread(target=lambda: out.append(core.api("GET", delay("/proxies/up", url="slow/300")).status)) for _ in range(60)]
    for t in ts:
        t.start()
    eq(core.api("GET", "/version").status, 200)             # short calls are not held up
    for t in ts:
        t.join()
    eq(out, [200] * 60)


def test_providers_of_groups(core):
    core.api("GET", "/providers/proxies/nobody").error(404, "Resource not found")
    core.api("PUT", "/providers/proxies/nobody").error(404, "Resource not found")
    eq(core.get("/providers/rules"), {"providers": {}})
    ps = core.get("/providers/proxies")["providers"]
    if not ps:
        raise lib.Skip("groups are not shown as providers yet")
    eq(set(ps), {"default", "Pick", "Outer"})
    p = ps["Pick"]
    eq(list(p), ["name", "type", "vehicleType", "proxies", "testUrl", "expectedStatus", "updatedAt"])
    eq([p["name"], p["type"], p["vehicleType"], p["expectedStatus"], p["updatedAt"]], ["Pick", "Proxy", "Compatible", "*", "0001-01-01T00:00:00Z"])
    eq([x["name"] for x in p["proxies"]], ["up", "up2", "dead", "DIRECT", "REJECT", JP])
    eq([x["name"] for x in ps["default"]["proxies"]], core.get("/proxies/GLOBAL")["all"])
    eq(core.get("/providers/proxies/Pick")["name"], "Pick")


def test_selection_is_kept():
    with Core(CONFIG) as c:
        c.api("PUT", "/proxies/Pick", {"name": "dead"})
        eq(c.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
        eq(c.get("/proxies/Pick")["now"], "dead")
        eq(c.api("POST", "/restart").status, 200)
        eq(c.get("/proxies/Pick")["now"], "dead")
        eq(c.stop(), 0)
        c.start()
        eq(c.get("/proxies/Pick")["now"], "dead")


def test_selection_is_not_kept_when_told_so():
    with Core(CONFIG + "profile: {store-selected: false}\n") as c:
        c.api("PUT", "/proxies/Pick", {"name": "dead"})
        eq(c.stop(), 0)
        c.start()
        eq(c.get("/proxies/Pick")["now"], "up")


def test_selection_of_a_member_that_is_gone():
    with Core(CONFIG) as c:
        c.api("PUT", "/proxies/Pick", {"name": "up2"})
        eq(c.api("PUT", "/configs?force=true", {"payload": c.config.replace("[up, up2, dead,", "[up, dead,")}).status, 204)
        eq(c.get("/proxies/Pick")["now"], "up")
