# SPDX-License-Identifier: MIT
"""Proxy providers against a subscription server: what an update changes and what it leaves alone, what is kept over reload and restart, and that
every worker decides alike."""
import base64
import http.server
import os
import re
import subprocess
import threading
import time

import lib
from lib import BASE, HOST, Core, Skip, eq, free_port, pong, until

URL = "http://origin.test/204"
USERINFO = "upload=1; download=22; total=333; expire=1700000000"


class Subscriptions(http.server.ThreadingHTTPServer):
    """Answers each path with what answer[path] is: (status, headers, body), or a function of the request's headers."""
    daemon_threads = True

    def __init__(self):
        self.answer, self.seen = {}, []
        super().__init__((HOST, free_port()), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path, user=""):
        return "http://%s%s:%d%s" % (user, HOST, self.server_address[1], path)

    def put(self, path, body, status=200, **headers):
        self.answer[path] = (status, headers, body if isinstance(body, bytes) else body.encode())

    def count(self, path):
        return sum(1 for p, _ in self.seen if p == path)

    def last(self, path):
        return [h for p, h in self.seen if p == path][-1]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        a = self.server.answer.get(self.path, (404, {}, b""))
        self.server.seen.append((self.path, dict(self.headers)))
        status, headers, body = a(self.headers) if callable(a) else a
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), v)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass                                            # it has read enough

    def log_message(self, *_):
        pass

    def finish(self):
        try:
            super().finish()
        except OSError:
            pass


def node(name, kind="socks5"):
    return "  - {name: %s, type: %s, server: %s, port: %d}\n" % (name, kind, HOST, lib.servers.port["socks" if kind == "socks5" else "http"])


def nodes(*names):
    return "proxies:\n" + "".join(node(n, "http" if n.startswith("h") else "socks5") for n in names)


def config(subs, more="", user="", url="/sub"):
    return BASE + """
sluice: {workers: 2}
proxies:
  - {name: via, type: socks5, server: 127.0.0.1, port: $s_socks}
proxy-providers:
  p: {type: http, url: "%s", path: ./p.yaml, interval: 3600, health-check: {enable: true, url: "%s", interval: 300, lazy: false}%s}
proxy-groups:
  - {name: Pick, type: select, use: [p]}
rules:
  - MATCH,Pick
""" % (subs.url(url, user), URL, more)


def provider(core, name="p"):
    return core.get("/providers/proxies/" + name)


def names(core):
    return [n["name"] for n in provider(core)["proxies"]]


def history(core, node_):
    return core.get("/providers/proxies/p/" + node_)["history"]


def update(core, want=204):
    r = core.api("PUT", "/providers/proxies/p")
    eq(r.status, want, "PUT of the provider: %r" % r)
    return r


def served(**headers):
    subs = Subscriptions()
    subs.put("/sub", nodes("a", "b"), **headers)
    return subs


def chains(core, host, port=80):
    with core.held(host, port) as s:
        c = core.one(host=host)
        pong(s)
        return c["chains"]


def every_worker_uses(core, chain, tag, n=8):
    for i in range(n):
        eq(chains(core, "%s%d.echo.test" % (tag, i), 7), chain)


def ready(subs, more="", **kw):
    core = Core(config(subs, more, **kw), wait_api=True)
    until(lambda: names(core) != [], 5, "the first download")
    update(core)                                            # answered when every worker has them
    return core


def test_a_change_reaches_every_worker():
    subs = served()
    with ready(subs) as core:
        eq(names(core), ["a", "b"])
        every_worker_uses(core, ["a", "Pick"], "one")
        subs.put("/sub", nodes("h1", "b"))
        update(core)
        eq(names(core), ["h1", "b"])
        every_worker_uses(core, ["h1", "Pick"], "two")
        with open(core.path("p.yaml")) as f:
            eq(f.read(), nodes("h1", "b"))


def test_what_does_not_change_is_left_alone():
    subs = served()
    with ready(subs) as core:
        until(lambda: history(core, "a") and history(core, "b"), 5, "the first check")
        eq(core.api("PUT", "/proxies/Pick", {"name": "b"}).status, 204)
        before = [core.get("/proxies/" + n) for n in ("a", "b")]
        at = provider(core)["updatedAt"]
        with core.held("kept.echo.test", 7) as s:
            update(core)                                    # the same bytes
            subs.put("/sub", "# other bytes, the same nodes\n" + nodes("b", "a"))
            update(core)                                    # and another order
            pong(s)
            eq(core.one(host="kept.echo.test")["chains"], ["b", "Pick"])
        eq([core.get("/proxies/" + n) for n in ("a", "b")], before)
        eq(core.get("/proxies/Pick")["now"], "b")
        eq(provider(core)["updatedAt"] > at, True)


def test_not_modified():
    subs = served()
    body = nodes("a")
    subs.answer["/sub"] = lambda h: (304, {}, b"") if h["If-None-Match"] == '"v1"' else (200, {"ETag": '"v1"'}, body.encode())
    with ready(subs) as core:
        at = provider(core)["updatedAt"]
        update(core)
        eq(subs.last("/sub")["If-None-Match"], '"v1"')
        eq(names(core), ["a"])
        eq(provider(core)["updatedAt"] > at, True)
        eq(core.api("PUT", "/configs?force=true", {}).status, 204)
        update(core)
        eq(subs.last("/sub")["If-None-Match"], '"v1"', "kept over a reload")
        at, asked = provider(core)["updatedAt"], subs.count("/sub")
        core.stop()
        core.start()                                        # as old as its last confirmation, not as the file
        eq(provider(core)["updatedAt"], at)
        eq(subs.count("/sub"), asked)
        update(core)
        eq(subs.last("/sub")["If-None-Match"], '"v1"', "kept over a start")


def test_not_modified_since():
    subs = served()
    date, body = "Wed, 21 Oct 2015 07:28:00 GMT", nodes("a")
    subs.answer["/sub"] = lambda h: (304, {}, b"") if h["If-Modified-Since"] == date else (200, {"Last-Modified": date}, body.encode())
    with ready(subs) as core:
        update(core)
        update(core)
        eq((subs.last("/sub")["If-Modified-Since"], subs.last("/sub").get("If-None-Match")), (date, None))
        eq(names(core), ["a"])


def test_what_is_no_subscription_changes_nothing():
    subs = served()
    with ready(subs, ", size-limit: 2000, exclude-filter: ^z") as core:
        with core.held("kept.echo.test", 7) as s:
            for body, why in ((b"\x00\x01junk", ""), (b"", "file doesn't have any proxy"), (b"<html>sold out</html>", ""), (b"proxies: []\n", ""),
                              (b"proxies:\n  - {name: x, type: nosuch}\n", "any proxy"), (nodes("z").encode(), "check your filter"),
                              (nodes("a", "b", *["n%d" % i for i in range(90)]).encode(), "")):
                subs.put("/sub", body)
                r = update(core, 503)
                eq(why in r.json["message"], True, r.json["message"])
                eq(names(core), ["a", "b"])
            subs.put("/sub", "", status=500)
            eq("500" in update(core, 503).json["message"], True)
            subs.put("/sub", nodes("c"))
            subs.server_close()
            subs.shutdown()
            update(core, 503)
            eq(names(core), ["a", "b"])
            pong(s)
        core.wait_log(r"\[Provider\] p pull error")
        core.wait_log("proxy-provider p: proxy x is left out: ")
        with open(core.path("p.yaml")) as f:
            eq(f.read(), nodes("a", "b"))
        core.stop()
        core.start()
        eq(names(core), ["a", "b"])


def test_a_bad_node_is_left_out_by_name():
    subs = served()
    subs.put("/sub", nodes("a") + "  - {name: broken, type: ss, server: h, port: 1, cipher: nosuch, password: x}\n" + node("c") + node("a"))
    with ready(subs) as core:
        eq(names(core), ["a", "c"])
        core.wait_log("proxy-provider p: proxy broken is left out: ")
        core.wait_log("the name a is taken")


def test_share_links_in_base64():
    subs = served()
    auth = base64.b64encode(b"u:p").decode()
    links = "socks://%s@%s:1#home\r\nsocks5://%s:2#home\nhttp://%s:3#web\nnosuch://x\n" % (auth, HOST, HOST, HOST)
    subs.put("/sub", base64.urlsafe_b64encode(links.encode()).decode().rstrip("="))
    with ready(subs) as core:
        eq([(n["name"], n["type"]) for n in provider(core)["proxies"]], [("home", "Socks5"), ("home-01", "Socks5"), ("web", "Http")])


def test_vanished_nodes_finish_their_connections():
    subs = served()
    with ready(subs) as core:
        held = [core.held("old%d.echo.test" % i, 7) for i in range(6)]
        subs.put("/sub", nodes("h1"))
        update(core)
        for s in held:
            pong(s)
        every_worker_uses(core, ["h1", "Pick"], "new", 4)
        eq(core.api("GET", "/proxies/a").status, 404)
        eq(core.one(host="old0.echo.test")["chains"], ["a", "Pick"])
        for s in held:
            pong(s)
            s.close()


def test_request_headers():
    subs = served()
    with ready(subs, user="me:pass%20word@") as core:
        h = subs.last("/sub")
        eq(re.fullmatch(r"clash\.meta/v?[\w.+-]+", h["User-Agent"]) is not None, True, h["User-Agent"])
        eq(h["Authorization"], "Basic " + base64.b64encode(b"me:pass word").decode())
        core.write("config.yaml", core.config.replace("mode: rule", "mode: rule\nglobal-ua: my agent/1"))
        eq(core.api("PUT", "/configs?force=true", {}).status, 204)
        update(core)
        eq(subs.last("/sub")["User-Agent"], "my agent/1")
        core.write("config.yaml", core.config.replace("interval: 3600", "header: {User-Agent: [own], X-One: ['1'], X-Two: two}"))
        eq(core.api("PUT", "/configs?force=true", {}).status, 204)
        update(core)
        h = subs.last("/sub")
        eq((h["User-Agent"], h["X-One"], h["X-Two"]), ("own", "1", "two"))


def test_through_a_proxy():
    subs = served()
    with ready(subs, ", proxy: via") as core:
        eq(("socks", HOST, subs.server_address[1]) in lib.servers.seen, True)
        eq(names(core), ["a", "b"])


def test_userinfo_is_kept():
    subs = served(Subscription_Userinfo=USERINFO)
    want = {"Upload": 1, "Download": 22, "Total": 333, "Expire": 1700000000}
    with ready(subs) as core:
        eq(provider(core)["subscriptionInfo"], want)
        subs.put("/sub", nodes("a", "b"))                   # a server that does not say: as it was
        update(core)
        eq(provider(core)["subscriptionInfo"], want)
        eq(core.api("PUT", "/configs?force=true", {}).status, 204)
        eq(provider(core)["subscriptionInfo"], want)
        asked = subs.count("/sub")
        core.stop()
        subs.put("/sub", "", status=500)
        core.start()                                        # cold, and nothing is downloaded: the file is young
        eq(provider(core)["subscriptionInfo"], want)
        eq(names(core), ["a", "b"])
        eq(subs.count("/sub"), asked)


def test_an_old_file_serves_while_it_is_renewed():
    subs = served()
    subs.answer["/sub"] = lambda h: (time.sleep(1), (200, {}, nodes("new").encode()))[1]
    with Core(config(subs), files={"p.yaml": nodes("old")}, start=False) as core:
        os.utime(core.path("p.yaml"), (1, 1))
        core.start()
        eq(names(core), ["old"])
        until(lambda: names(core) == ["new"], 5)
        core.wait_log("not updated for a long time, force refresh")


def test_workers_decide_alike():
    subs = served()
    more = """
proxy-groups:
  - {name: Turn, type: load-balance, strategy: round-robin, use: [p]}
  - {name: Hash, type: load-balance, use: [p]}
  - {name: Stick, type: load-balance, strategy: sticky-sessions, use: [p]}
  - {name: Auto, type: url-test, use: [p], tolerance: 5}
rules:
  - DOMAIN-SUFFIX,turn.test,Turn
  - DOMAIN-SUFFIX,hash.test,Hash
  - DOMAIN-SUFFIX,stick.test,Stick
  - MATCH,Auto
"""
    subs.put("/sub", nodes("a", "b", "h1", "h2"))
    with Core(config(subs).partition("proxy-groups:")[0] + more) as core:
        until(lambda: len(names(core)) == 4 and all(history(core, n) for n in names(core)), 5, "nodes and their check")
        update(core)
        turns = [chains(core, "x%d.turn.test" % i, 7)[0] for i in range(12)]
        at = names(core).index(turns[0])
        eq(turns, [names(core)[(at + i) % 4] for i in range(12)], "one position for all workers")
        for group in ("hash", "stick", "auto"):
            eq(len({chains(core, "x%d.y.%s.test" % (i, group), 7)[0] for i in range(8)}), 1, group)


def test_nothing_while_the_machine_is_offline():
    """In a network namespace with nothing in it, not even a loopback that is up."""
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode != 0:
        raise Skip("no network namespaces here")
    listed = "".join("  - {name: n%d, type: socks5, server: %s, port: 1}\n" % (i, "n%d.test" % i if i % 2 else "192.0.2.%d" % i) for i in range(40))
    text = """
log-level: debug
external-controller-unix: ctl.sock
dns: {enable: true, nameserver: [192.0.2.53]}
proxy-providers:
  p: {type: file, path: ./p.yaml, health-check: {enable: true, url: "http://t.test/", interval: 2, lazy: false, timeout: 300}}
proxy-groups:
  - {name: Auto, type: fallback, use: [p]}
"""
    core = Core(text, files={"p.yaml": "proxies:\n" + listed}, start=False)
    wrapper = core.path("run.sh")
    core.write("run.sh", "#!/bin/sh\nexec unshare -n %s \"$@\"\n" % os.path.abspath(lib.PROGRAM))
    os.chmod(wrapper, 0o755)
    program, lib.PROGRAM = lib.PROGRAM, wrapper
    try:
        core.start()
    finally:
        lib.PROGRAM = program
    with core:
        def ask():
            out = subprocess.run(["curl", "-s", "--unix-socket", core.path("ctl.sock"), "http://x/providers/proxies/p"], capture_output=True, check=True).stdout
            return lib.json.loads(out)["proxies"]
        core.wait_log("health checks pause: there is no network", 8)
        tested = sum(1 for n in ask() if n["history"])
        eq(tested < 16, True, "nodes that were found dead: %d" % tested)
        eq(sum(1 for n in ask() if n["alive"]) > 24, True)
        time.sleep(2.5 * lib.SLOW)
        eq(sum(1 for n in ask() if n["history"]), tested)
