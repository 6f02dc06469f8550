# SPDX-License-Identifier: MIT
"""GET, PATCH and PUT /configs."""
import os
import socket

from lib import BASE, HOST, eq, until

CONFIG = BASE + """
authentication: []
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
  - {name: up2, type: http, server: 127.0.0.1, port: $s_http}
proxy-groups:
  - {name: Pick, type: select, proxies: [up, up2, DIRECT]}
rules:
  - DOMAIN,one.test,up
  - MATCH,Pick
"""
FILES = {"other.yaml": CONFIG.replace("mode: rule", "mode: global"), "broken.yaml": "mixed-port: [\n", "empty.yaml": ""}
KEYS = """port socks-port redir-port tproxy-port mixed-port tun tuic-server ss-config vmess-config authentication skip-auth-prefixes lan-allowed-ips
lan-disallowed-ips allow-lan bind-address inbound-tfo inbound-mptcp mode unified-delay log-level ipv6 interface-name routing-mark geox-url
geo-auto-update geo-update-interval geodata-mode geodata-loader geosite-matcher tcp-concurrent find-process-mode sniffing
global-client-fingerprint global-ua etag-support keep-alive-idle keep-alive-interval disable-keep-alive""".split()
BACK = {"path": "", "payload": ""}


def now(core, *keys):
    j = core.get("/configs")
    return [j[k] for k in keys]


def chain(core, host, port):
    s = core.held(host, port)
    c = core.one(destinationPort=str(port))
    s.close()
    return c["chains"]


def test_keys_and_order(core):
    j = core.get("/configs")
    eq([k for k in j if k in KEYS], KEYS)


def test_values(core):
    eq(now(core, "mode", "log-level", "ipv6", "allow-lan", "bind-address", "mixed-port", "socks-port", "port", "redir-port", "authentication", "lan-allowed-ips",
           "lan-disallowed-ips", "skip-auth-prefixes", "tcp-concurrent", "find-process-mode", "interface-name", "geo-update-interval", "geodata-loader"),
       ["rule", "debug", True, False, "*", core.port["mixed"], core.port["socks"], core.port["http"], 0, None, ["0.0.0.0/0", "::/0"], None, None, False, "off", "",
        24, "memconservative"])
    t = core.get("/configs")["tun"]
    eq([t["enable"], t["stack"], t["dns-hijack"]], [False, "gVisor", ["0.0.0.0:53"]])


def test_secrets_are_not_shown(core):
    eq(b"test-secret" in core.api("GET", "/configs").body, False)


def test_patch_mode(core):
    eq(core.api("PUT", "/proxies/GLOBAL", {"name": "up2"}).status, 204)
    for mode, shown, want in (("Global", "global", ["up2", "GLOBAL"]), ("DIRECT", "direct", None), ("rule", "rule", ["up"])):
        r = core.api("PATCH", "/configs", {"mode": mode})
        eq((r.status, r.body, r.type), (204, b"", None))
        eq(now(core, "mode"), [shown])
        if want:
            eq(chain(core, "one.test", 4101), want)
    eq(core.api("PUT", "/proxies/GLOBAL", {"name": "DIRECT"}).status, 204)


def test_patch_many(core):
    eq(core.api("PATCH", "/configs", {"allow-lan": True, "ipv6": False, "tcp-concurrent": True, "bind-address": "127.0.0.1", "LOG-level": "Warning"}).status, 204)
    eq(now(core, "allow-lan", "ipv6", "tcp-concurrent", "bind-address", "log-level"), [True, False, True, "127.0.0.1", "warning"])
    eq(core.api("PATCH", "/configs", {"allow-lan": False, "ipv6": True, "tcp-concurrent": False, "bind-address": "*", "log-level": "debug"}).status, 204)
    eq(now(core, "allow-lan", "ipv6", "tcp-concurrent", "bind-address", "log-level"), [False, True, False, "*", "debug"])


def test_patch_bad(core):
    before = core.get("/configs")
    for body in (b"{", b"", b"null", b"[]", b'"x"', b'{"mixed-port":"x"}', b'{"mixed-port":"1"}', b'{"mixed-port":1.0}', b'{"mixed-port":true}', b'{"mode":"sideways"}',
                 b'{"mode":1}', b'{"log-level":"warn"}', b'{"allow-lan":"yes"}', b'{"lan-allowed-ips":["1.1.1.1"]}', b'{"mode":"direct","ipv6":1}'):
        r = core.api("PATCH", "/configs", raw=body)
        eq((r.status, r.body), (400, b'{"message":"Body invalid"}\n'), body.decode())
    eq(core.get("/configs"), before)


def test_patch_forgives(core):
    for body in (b"{}", b'{"no-such-key":1}', b'{"dns":{},"tunnels":[],"sniffer":null}', b'{"mode":null}', b'{"mode":"global","mode":"rule"} trailing', b' {"mode":"rule"}'):
        eq(core.api("PATCH", "/configs", raw=body, headers={"Content-Type": "text/plain"}).status, 204, body.decode())
    eq(now(core, "mode"), ["rule"])


def refuses(port):
    try:
        socket.create_connection((HOST, port), 1).close()
        return False
    except ConnectionRefusedError:
        return True


def test_patch_ports(core):
    new = core.port["new"] if "new" in core.port else core.fill("$new") and core.port["new"]
    held = core.held("one.test", 4103, "mixed")
    eq(core.api("PATCH", "/configs", {"mixed-port": new}).status, 204)
    eq(now(core, "mixed-port"), [new])
    core.held("one.test", 4104, new).close()
    until(lambda: refuses(core.port["mixed"]), why="the old port is closed")
    held.sendall(b"still here")
    eq(held.recv(100), b"still here")
    eq(core.api("PATCH", "/configs", {"mixed-port": 0}).status, 204)
    until(lambda: refuses(new), why="the port is closed")
    eq(core.api("PATCH", "/configs", {"mixed-port": core.port["mixed"]}).status, 204)
    core.held("one.test", 4105, "mixed").close()
    held.close()


def test_patch_to_a_busy_port(core):
    """Told, where the reference answers 204, loses the old port and only logs."""
    with socket.create_server((HOST, 0)) as other:
        busy = other.getsockname()[1]
        r = core.api("PATCH", "/configs", {"socks-port": busy})
        eq((r.status, str(busy) in r.json["message"]), (409, True), repr(r))
    eq(now(core, "socks-port"), [core.port["socks"]])
    core.held("one.test", 4106).close()


def test_put_path_and_back(core):
    eq(core.api("PUT", "/configs?force=true", {"path": core.path("other.yaml")}).status, 204)
    eq(now(core, "mode"), ["global"])
    eq(core.api("PUT", "/configs?force=true", BACK).status, 204)
    eq(now(core, "mode"), ["rule"])


def test_put_payload(core):
    eq(core.api("PUT", "/configs", {"payload": core.config.replace("MATCH,Pick", "MATCH,up2").replace("DOMAIN,one.test,up", "DOMAIN,other.test,up")}).status, 204)
    eq(chain(core, "one.test", 4107), ["up2"])
    eq(core.api("PUT", "/configs?force=true", BACK).status, 204)
    eq(chain(core, "one.test", 4108), ["up"])


def test_put_ports_need_force(core):
    core.fill("$new2")
    text = core.config.replace("mixed-port: %d" % core.port["mixed"], "mixed-port: %d" % core.port["new2"])
    eq(core.api("PUT", "/configs?force=yes", {"payload": text}).status, 204)
    eq(now(core, "mixed-port"), [core.port["mixed"]])
    core.held("one.test", 4109, "mixed").close()
    eq(core.api("PUT", "/configs?force=true", {"payload": text}).status, 204)
    eq(now(core, "mixed-port"), [core.port["new2"]])
    core.held("one.test", 4110, "new2").close()
    eq(core.api("PUT", "/configs?force=true", BACK).status, 204)
    core.held("one.test", 4111, "mixed").close()


def test_put_bad(core):
    before = core.get("/configs")

    def bad(body=None, raw=None, text="", status=400):
        r = core.api("PUT", "/configs?force=true", body, raw=raw)
        eq(r.status, status, "%s %s: %r" % (body, raw, r))
        message = r.json["message"]
        eq(text in message, True, "%r in %r" % (text, message))
        return message
    for raw in (b"", b"nope", b"[]", b'{"path":1}', b'{"payload":{}}'):
        bad(raw=raw, text="Body invalid")
    bad({"path": "other.yaml"}, text="path is not a absolute path")
    m = bad({"path": "/etc/passwd"}, text="path is not subpath of home directory or SAFE_PATHS: /etc/passwd \n allowed paths: [")
    eq(os.path.realpath(core.dir) in m, True, m)
    bad({"path": core.path("../x/config.yaml")}, text="path is not subpath")
    bad({"path": core.path("none.yaml")}, text="stat " + core.path("none.yaml") + ": no such file or directory")
    bad({"path": core.path("broken.yaml")}, text="line ")
    bad({"path": core.path("empty.yaml")}, text="empty")
    bad({"path": core.dir})
    bad({"payload": "mixed-port: abc\n"}, text="line 1")
    bad({"payload": "rules: ['MATCH,nobody']\n"}, text="nobody")
    bad({"payload": "a: &a [x]\nmode: rule\nmode: rule\n"}, text="line 3")
    bad({"payload": "just text"})
    eq(core.get("/configs"), before)
    eq(chain(core, "one.test", 4112), ["up"])


def test_put_does_not_touch_the_api(core):
    text = core.config.replace("secret: test-secret", "secret: changed").replace("127.0.0.1:%d" % core.port["ctl"], "127.0.0.1:1")
    eq(core.api("PUT", "/configs?force=true", {"payload": text}).status, 204)
    eq(core.api("GET", "/version").status, 200)
    eq(core.api("PUT", "/configs?force=true", BACK).status, 204)


def test_put_needs_no_content_type_and_takes_any(core):
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        eq(core.api("PUT", "/configs", BACK, headers={"Content-Type": kind}).status, 204, kind)


def test_geo_update_answers(core):
    for path in ("/configs/geo", "/upgrade/geo"):
        eq(core.api("POST", path, BACK).status in (204, 500, 503), True, path)


def test_upgrade_answers_clearly(core):
    for path in ("/upgrade", "/upgrade/ui"):
        r = core.api("POST", path)
        eq((r.status in (500, 501, 503), bool(r.json["message"])), (True, True), "%s %r" % (path, r))
    eq(core.api("GET", "/version").status, 200)
