# SPDX-License-Identifier: MIT
"""Routing, authentication, CORS and the closed defaults of the API."""
import http.client
import os
import socket

import lib
from lib import BASE, HOST, Core, WebSocket, eq, read_all, response

CONFIG = BASE + """
external-controller-unix: ctl.sock
external-controller-cors: {allow-origins: ["https://dash.test", "https://*.example.com"], allow-private-network: true}
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
proxy-groups:
  - {name: Pick, type: select, proxies: [up, DIRECT]}
rules:
  - MATCH,Pick
"""
PROTECTED = """GET /, GET /logs, GET /traffic, GET /memory, GET /version, GET /configs, PUT /configs, PATCH /configs, POST /configs/geo, POST /restart,
POST /upgrade, POST /upgrade/ui, POST /upgrade/geo, GET /group, GET /group/Pick, DELETE /group/Pick, GET /group/Pick/delay, GET /proxies,
GET /proxies/up, PUT /proxies/Pick, DELETE /proxies/Pick, GET /proxies/up/delay, GET /providers/proxies, GET /providers/proxies/x,
PUT /providers/proxies/x, GET /providers/proxies/x/healthcheck, GET /rules, PATCH /rules/disable, GET /providers/rules, PUT /providers/rules/x,
GET /connections, DELETE /connections, DELETE /connections/x, GET /dns/query?name=a.test, POST /cache/fakeip/flush, POST /cache/dns/flush,
GET /storage/x, PUT /storage/x, DELETE /storage/x, PUT /debug/gc, GET /debug,
GET /debug/pprof, GET /debug/pprof/, GET /debug/pprof/heap"""


def test_hello(core):
    r = core.api("GET", "/")
    eq((r.status, r.type, r.body), (200, "application/json", b'{"hello":"mihomo"}\n'))
    eq("Date" in r.headers, True, "Date")
    eq(r.headers["Content-Length"], str(len(r.body)))
    eq(r.headers["Vary"], "Origin")


def test_version(core):
    j = core.get("/version")
    eq(j["meta"], True)
    eq(j["version"].startswith("v1."), True, j["version"])


def test_not_found(core):
    for auth in (True, None):
        r = core.api("GET", "/nope", auth=auth)
        eq((r.status, r.type, r.body), (404, "text/plain; charset=utf-8", b"404 page not found\n"))
        eq(r.headers["X-Content-Type-Options"], "nosniff")


def test_unknown_path_below_a_protected_one(core):
    eq(core.api("GET", "/configs/nope", auth=None).status, 401)
    eq(core.api("GET", "/configs/nope").status, 404)


def test_trailing_slash(core):
    for path, want in (("/version/", 404), ("/traffic/", 404), ("/proxies/", 200), ("/configs/", 200), ("/proxies/up/", 200), ("/rules/", 200),
                       ("//version", 404), ("/x/../version", 404), ("/./version", 404)):
        eq(core.api("GET", path).status, want, path)


def test_method_not_allowed(core):
    for method, path, allow in (("POST", "/version", ["GET"]), ("DELETE", "/configs", ["GET", "PATCH", "PUT"]), ("PUT", "/proxies", ["GET"]),
                                ("POST", "/rules", ["GET"]), ("GET", "/restart", ["POST"]), ("GET", "/cache/fakeip/flush", ["POST"]),
                                ("PATCH", "/connections", ["DELETE", "GET"]), ("GET", "/upgrade", ["POST"]), ("HEAD", "/version", ["GET"])):
        r = core.api(method, path)
        eq((r.status, r.body, sorted(r.headers.get_all("Allow"))), (405, b"", allow), method + " " + path)


def test_every_endpoint_needs_the_secret(core):
    for line in PROTECTED.replace("\n", " ").split(","):
        method, path = line.split()
        core.api(method, path, auth=None).error(401, "Unauthorized")


def test_every_stream_needs_the_secret(core):
    for path in ("/logs", "/traffic", "/memory", "/connections"):
        eq(WebSocket(core.port["ctl"], path, token=None).status, 401, path)
        eq(WebSocket(core.port["ctl"], path, token="wrong").status, 401, path)


def test_authorization_forms(core):
    for value, want in (("Bearer test-secret", 200), ("bearer test-secret", 401), ("Bearer  test-secret", 401), ("Bearer test-secret ", 200),
                        ("Bearer test-secre", 401), ("Bearer test-secrets", 401), ("Basic test-secret", 401), ("Bearer", 401), ("test-secret", 401)):
        eq(core.api("GET", "/version", auth=value).status, want, value)
    r = core.api("GET", "/version", auth=None)
    eq("WWW-Authenticate" in r.headers, False)


def test_query_token_counts_with_an_upgrade_only(core):
    eq(core.api("GET", "/version?token=test-secret", auth=None).status, 401)
    eq(core.api("GET", "/version?token=test-secret", auth=None, headers={"Upgrade": "websocket"}).status, 200)
    eq(core.api("GET", "/version?token=wrong", headers={"Upgrade": "websocket"}).status, 401)   # then the header is not looked at
    eq(core.api("GET", "/version?token=", headers={"Upgrade": "websocket"}).status, 200)


def test_cors_simple(core):
    for origin, want in (("https://dash.test", "https://dash.test"), ("HTTPS://DASH.test", "HTTPS://DASH.test"), ("https://a.example.com", "https://a.example.com"),
                         ("https://evil.test", None), ("https://dash.test.evil.test", None), ("null", None)):
        r = core.api("GET", "/version", headers={"Origin": origin})
        eq((r.status, r.headers["Access-Control-Allow-Origin"], r.headers["Vary"]), (200, want, "Origin"), origin)
        eq("Access-Control-Allow-Credentials" in r.headers, False)
    for path, auth, status in (("/nope", True, 404), ("/version", None, 401)):
        r = core.api("GET", path, auth=auth, headers={"Origin": "https://dash.test"})
        eq((r.status, r.headers["Access-Control-Allow-Origin"]), (status, "https://dash.test"))


def preflight(core, path="/configs", **headers):
    h = {"Origin": "https://dash.test", "Access-Control-Request-Method": "PATCH"}
    h.update({k.replace("_", "-"): v for k, v in headers.items()})
    return core.api("OPTIONS", path, auth=None, headers={k: v for k, v in h.items() if v})


def test_cors_preflight(core):
    r = preflight(core, Access_Control_Request_Headers="authorization,content-type", Access_Control_Request_Private_Network="true")
    eq((r.status, r.body), (200, b""))
    eq(r.headers.get_all("Vary"), ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"])
    eq([r.headers["Access-Control-" + x] for x in ("Allow-Origin", "Allow-Methods", "Allow-Headers", "Max-Age", "Allow-Private-Network")],
       ["https://dash.test", "PATCH", "Authorization, Content-Type", "300", "true"])
    eq(preflight(core, path="/anything").status, 200)


def test_cors_preflight_refused(core):
    for h in ({"Origin": "https://evil.test"}, {"Access_Control_Request_Method": "BREW"}, {"Access_Control_Request_Headers": "x-evil"}):
        r = preflight(core, **h)
        eq((r.status, [k for k in r.headers if k.startswith("Access-Control")]), (200, []), str(h))
        eq(len(r.headers.get_all("Vary")), 3)
    eq(preflight(core, Access_Control_Request_Method=None).status, 401)
    eq(core.api("OPTIONS", "/version", auth=None).status, 405)


def test_keep_alive_and_pipelining(core):
    one = b"GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-secret\r\n\r\n"
    last = one.replace(b"Host: x", b"Host: x\r\nConnection: close")
    data = core.raw(one * 5 + one.replace(b"/version", b"/nope") + last)
    eq([data.count(b"HTTP/1.1 200"), data.count(b"HTTP/1.1 404"), data.count(b'"meta":true')], [6, 1, 6])
    c = http.client.HTTPConnection(HOST, core.port["ctl"], timeout=5)
    for _ in range(20):
        c.request("GET", "/proxies", headers={"Authorization": "Bearer test-secret"})
        eq(c.getresponse().read()[:12], b'{"proxies":{')
    c.close()


def test_http_1_0(core):
    data = core.raw(b"GET /version HTTP/1.0\r\nAuthorization: Bearer test-secret\r\n\r\n")
    eq(response(data)[0], 200)


def unix(path, request, auth=b""):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(request + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + auth + b"\r\n")
        return read_all(s, 2)


def test_unix_socket_needs_no_secret(core):
    eq(response(unix(core.path("ctl.sock"), b"GET /version"))[0], 200)
    eq(os.stat(core.path("ctl.sock")).st_mode & 0o777, 0o660)


def test_debug_is_behind_the_secret(core):
    eq(core.api("PUT", "/debug/gc").status, 200)
    eq(core.api("PUT", "/debug/gc", auth=None).status, 401)
    for path in ("/debug", "/debug/", "/debug/pprof"):
        r = core.api("GET", path)
        eq((r.status, r.headers["Location"]), (301, "/debug/pprof/"))
    eq(b"heap?debug=1" in core.api("GET", "/debug/pprof/").body, True)
    eq(core.api("GET", "/debug/pprof/goroutine").status, 404)
    r = core.api("GET", "/debug/pprof/allocs?debug=1")
    head, *lines = r.body.decode().splitlines()
    parts = [int(x.split()[1]) for x in lines]
    eq((head, len(parts)), ("heap profile: 4: %d [4: %d] @ heapprofile" % (sum(parts), sum(parts)), 4))
    r = core.api("GET", "/debug/pprof/heap")
    eq((r.status, r.type, r.body[:8]), (200, "application/octet-stream", b"\x0a\x04\x08\x01\x10\x02\x5a\x04"))


def test_debug_is_not_mounted_without_log_level_debug():
    with Core(BASE.replace("log-level: debug", "log-level: info")) as c:
        eq(c.api("PUT", "/debug/gc").status, 404)
        eq(c.api("GET", "/debug/pprof/").status, 404)
        eq(c.api("PATCH", "/configs", {"log-level": "debug"}).status, 204)
        eq(c.api("PUT", "/debug/gc").status, 404)


# ---- closed defaults
def refused(config, *words):
    core = Core(config, start=False)
    try:
        code, text = lib.check_config(core.config)
        eq(code, 1, "-t accepts it; it said " + text)
        for w in words:
            eq(w in text, True, "%r in %s" % (w, text))
        try:
            core.start(wait=5)
        except AssertionError as e:
            eq("ended with status" in str(e), True, str(e))
            eq(words[0] in core.log(), True, core.log())
            return
        raise AssertionError("it started")
    finally:
        core.clean()


def test_no_secret_on_a_reachable_address_is_refused():
    for address in ("0.0.0.0:$ctl", ":$ctl", "'[::]:$ctl'", "'*:$ctl'"):
        refused("mixed-port: $mixed\nexternal-controller: %s\n" % address, "secret", "external-controller", "allow-open-controller")


def test_no_secret_on_a_reachable_address_is_possible_on_purpose():
    with Core("mixed-port: $mixed\nexternal-controller: 0.0.0.0:$ctl\nsluice: {allow-open-controller: true}\n") as c:
        eq(c.api("GET", "/version", auth=None).status, 200)


def test_secret_on_a_reachable_address():
    with Core(BASE.replace("127.0.0.1:$ctl", "0.0.0.0:$ctl")) as c:
        eq(c.api("GET", "/version").status, 200)
        eq(c.api("GET", "/version", auth=None).status, 401)


def test_without_a_secret_host_and_origin_are_checked():
    with Core("mixed-port: $mixed\nexternal-controller: 127.0.0.1:$ctl\n") as c:
        def status(method="GET", path="/version", body=None, **h):
            return c.api(method, path, body, auth=None, headers=h).status
        eq(status(), 200)
        for host, want in (("localhost:9090", 200), ("127.0.0.1", 200), ("[::1]:9090", 200), ("192.168.1.5:9090", 200), ("evil.test", 403), ("evil.test:9090", 403)):
            eq(status(Host=host), want, "Host " + host)
        r = c.api("GET", "/version", auth=None, headers={"Host": "rebound.evil.test"})
        eq((r.status, b"hello" in r.body or b"version" in r.body), (403, False))
        eq(status("PATCH", "/configs", {}, Origin="https://evil.test"), 403)
        eq(status("PATCH", "/configs", {}, Origin="http://127.0.0.1:%d" % c.port["ctl"]), 204)
        eq(status("PATCH", "/configs", {}), 204)
        eq("Access-Control-Allow-Origin" in c.api("GET", "/version", auth=None, headers={"Origin": "https://evil.test"}).headers, False)
        eq(WebSocket(c.port["ctl"], "/traffic", token=None, headers={"Origin": "https://evil.test"}).status, 403)
        w = WebSocket(c.port["ctl"], "/traffic", token="anything")
        eq(w.status, 101)
        w.close()


def test_command_line_overrides():
    with Core("mixed-port: $mixed\nexternal-controller: 127.0.0.1:1\nsecret: other\n# $ctl\n", start=False) as c:
        c.args = ["-ext-ctl", "127.0.0.1:%d" % c.port["ctl"], "-secret", "test-secret"]
        c.start()
        eq(c.api("GET", "/version").status, 200)
        eq(c.api("GET", "/version", auth="Bearer other").status, 401)


def test_environment_overrides():
    with Core("mixed-port: $mixed\n# $ctl\n", start=False) as c:
        c.environ.update(CLASH_OVERRIDE_EXTERNAL_CONTROLLER="127.0.0.1:%d" % c.port["ctl"], CLASH_OVERRIDE_SECRET="test-secret",
                         CLASH_OVERRIDE_EXTERNAL_CONTROLLER_UNIX="o.sock")
        c.start()
        eq(c.api("GET", "/version").status, 200)
        eq(c.api("GET", "/version", auth=None).status, 401)
        eq(response(unix(c.path("o.sock"), b"GET /version"))[0], 200)


def test_tls_controller():
    config = BASE + "external-controller-tls: 127.0.0.1:$ctls\ntls: {certificate: c.pem, private-key: k.pem}\n"
    with Core(config, {"c.pem": open(lib.servers.cert).read(), "k.pem": open(lib.servers.key).read()}) as c:
        s = lib.tls_client(c.connect("ctls"))
        s.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer test-secret\r\n\r\n")
        eq(response(read_all(s))[0], 200)
        s.close()
        # plain text and rubbish on the TLS port end that client only
        for bad in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x80" * 300):
            c.raw(bad, "ctls", 1)
        s = lib.tls_client(c.connect("ctls"))
        s.sendall(b"GET /traffic HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-secret\r\n\r\n")
        eq(b"upTotal" in lib.read_n(s, 20) + read_all(s, 2.5), True)
        s.close()


def test_bad_tls_pair_is_logged_and_the_rest_works():
    with Core(BASE + "external-controller-tls: 127.0.0.1:$ctls\ntls: {certificate: none.pem, private-key: none.pem}\n") as c:
        eq(c.api("GET", "/version").status, 200)
        c.wait_log("level=error")
