# SPDX-License-Identifier: MIT
"""Downloads of rule providers: that they never hold a start or a reload, what a failing server changes (nothing), and what is asked again
when (nothing too early). What the sets match is in test_rulesets.py."""
import hashlib
import http.server
import os
import re
import signal
import socket
import struct
import threading
import time

import lib
from lib import BASE, HOST, Core, eq, until

CONFIG = BASE + """
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
rule-providers:
  a: {type: http, behavior: domain, format: text, url: "http://127.0.0.1:SITE/a.txt", interval: 3600}
rules:
  - RULE-SET,a,up
  - MATCH,DIRECT
"""
BACK = {"path": "", "payload": ""}


class Site:
    """A web server. pages: path -> bytes, or a function(handler) that answers; asked: (path, headers) of each request."""
    def __init__(self):
        self.pages, self.asked, site = {}, [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site.asked.append((self.path, self.headers))
                page = site.pages.get(self.path)
                if callable(page):
                    page(self)
                else:
                    answer(self, 200 if page is not None else 404, page or b"")

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None              # clients that leave early
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def count(self, path="/a.txt"):
        return len([p for p, _ in self.asked if p == path])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def answer(h, status, body=b"", **headers):
    h.send_response(status)
    for k, v in headers.items():
        h.send_header(k.replace("_", "-"), v)
    if status != 304:
        h.send_header("Content-Length", str(len(body)))
    h.end_headers()
    h.wfile.write(body)


def slow(seconds, body):
    def page(h):
        time.sleep(seconds)
        answer(h, 200, body)
    return page


def vanish(how):
    """Half an answer, then an end or a reset."""
    def page(h):
        h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nlate.test\n")
        h.wfile.flush()
        if how == "reset":
            h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        h.close_connection = True
        h.connection.close()
    return page


def core_of(site, config=CONFIG, **kw):
    return Core(config.replace("SITE", str(site.port)), **kw)


def stored(core, site):
    return core.path("rules/" + hashlib.md5(b"http://127.0.0.1:%d/a.txt" % site.port).hexdigest())


def shown(core, name="a"):
    return core.get("/providers/rules")["providers"][name]


def rule_of(core, host, port=4701):
    s = core.held(host, port)
    c = core.one(sourcePort=str(s.getsockname()[1]))
    s.close()
    return c["rule"], c["rulePayload"]


def matches(core, host, times=8):
    """On every worker."""
    for _ in range(times):
        eq(rule_of(core, host), ("RuleSet", "a"), host)


def loaders(core):
    return len(re.findall(r"msg=\"loader started", core.log()))


def put(core, name="a"):
    return core.api("PUT", "/providers/rules/" + name)


def test_first_start_waits_for_nothing():
    with Site() as site:
        site.pages["/a.txt"] = slow(1.5, b"+.first.test\n")
        began = time.monotonic()
        with core_of(site) as core:
            eq(time.monotonic() - began < 1.4, True, "the start took %.2f s" % (time.monotonic() - began))
            a = shown(core)
            eq((a["ruleCount"], a["updatedAt"], a["vehicleType"], a["behavior"], a["format"]), (0, "0001-01-01T00:00:00Z", "HTTP", "Domain", "TextRule"))
            began = time.monotonic()
            eq(core.api("PUT", "/configs?force=true", BACK).status, 204)
            eq(time.monotonic() - began < 1.4, True, "the reload took %.2f s" % (time.monotonic() - began))
            until(lambda: shown(core)["ruleCount"] == 1, 5)
            matches(core, "x.first.test")
            with open(stored(core, site), "rb") as f:
                eq(f.read(), b"+.first.test\n")


def test_a_reload_or_a_crash_asks_nothing_again():
    with Site() as site:
        site.pages["/a.txt"] = lambda h: answer(h, 304) if h.headers.get("If-None-Match") else answer(h, 200, b"+.kept.test\n", ETag='"1"')
        with core_of(site) as core:
            until(lambda: shown(core)["ruleCount"] == 1)
            eq(put(core).status, 204)
            eq(site.count(), 2)
            os.utime(stored(core, site), (1, 1))            # as old as can be: but what the server said does not depend on it
            before = shown(core)
            eq(core.stop(), 0)
            core.start()                                    # another file than that of the etag: asked without it
            until(lambda: site.count() == 3)
            eq("If-None-Match" in site.asked[2][1], False)
            until(lambda: shown(core)["updatedAt"] > before["updatedAt"])
            eq(put(core).status, 204)
            before = shown(core)
            eq(core.api("PUT", "/configs?force=true", BACK).status, 204)
            eq(shown(core), before)
            eq(core.api("POST", "/restart").status, 200)
            os.kill(core.serving()[0], signal.SIGKILL)
            until(lambda: len(core.serving()) == 2 or len(core.serving()) == os.cpu_count(), 5)
            eq(core.stop(), 0)
            core.start()
            eq(shown(core), before)
            time.sleep(0.5)
            eq(site.count(), 4, "downloads")
            matches(core, "x.kept.test")


def test_update():
    with Site() as site:
        site.pages["/a.txt"] = b"+.one.test\n"
        with core_of(site) as core:
            until(lambda: shown(core)["ruleCount"] == 1)
            site.pages["/a.txt"] = b"+.two.test\n+.three.test\n"
            before = shown(core)
            eq((put(core).status, shown(core)["ruleCount"]), (204, 2))
            eq(shown(core)["updatedAt"] > before["updatedAt"], True)
            matches(core, "x.three.test")
            eq(rule_of(core, "127.0.0.1", lib.servers.port["echo"])[0], "Match")
            # nothing new without an etag: seen, and neither compiled nor written
            n, before, file = loaders(core), shown(core), os.stat(stored(core, site))
            eq(put(core).status, 204)
            after = shown(core)
            eq((loaders(core), os.stat(stored(core, site)).st_mtime_ns), (n, file.st_mtime_ns))
            eq(after["updatedAt"] > before["updatedAt"], True)
            eq(after["ruleCount"], 2)


def test_an_update_is_not_answered_with_an_older_one():
    with Site() as site:
        site.pages["/a.txt"] = slow(0.7, b"+.old.test\n")
        with core_of(site) as core:
            until(lambda: site.count() == 1)
            site.pages["/a.txt"] = b"+.new.test\n"
            eq((put(core).status, site.count()), (204, 2))
            matches(core, "x.new.test")


def test_a_reload_overtakes_an_update():
    """Whatever the update is told holds for what serves then, and for the file."""
    large = b"".join(b"+.n%d.large.test\n" % i for i in range(600000))
    with Site() as site:
        site.pages["/a.txt"] = b"+.one.test\n"
        with core_of(site) as core:
            until(lambda: shown(core)["ruleCount"] == 1)
            site.pages["/a.txt"] = large
            n, answers = loaders(core), []
            t = threading.Thread(target=lambda: answers.append(put(core)))
            t.start()
            until(lambda: loaders(core) > n, 10)
            eq(core.api("PUT", "/configs?force=true", BACK).status, 204)
            t.join()
            new = answers[0].status == 204
            if not new:
                answers[0].error(503, "the configuration was replaced meanwhile")
            eq((shown(core)["ruleCount"], os.stat(stored(core, site)).st_size), (600000, len(large)) if new else (1, 11))


def test_not_modified():
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    with Site() as site:
        site.pages["/a.txt"] = lambda h: answer(h, 304) if h.headers.get("If-Modified-Since") == date else answer(h, 200, b"+.one.test\n", Last_Modified=date)
        with core_of(site) as core:
            until(lambda: shown(core)["ruleCount"] == 1)
            n, before = loaders(core), shown(core)
            eq(put(core).status, 204)
            eq([h.get("If-Modified-Since") for _, h in site.asked], [None, date])
            eq((loaders(core), shown(core)["updatedAt"] > before["updatedAt"]), (n, True))
        with core_of(site, CONFIG + "etag-support: false\n") as core:
            until(lambda: shown(core)["ruleCount"] == 1)
            eq(put(core).status, 204)
            eq(site.asked[-1][1].get("If-Modified-Since"), None)


def test_what_fails_changes_nothing():
    """Each way to fail: 503 with the reason, the same in the list and in the log, and the set serves on."""
    config = CONFIG.replace("interval: 3600", "size-limit: 100")
    with Site() as site:
        site.pages["/a.txt"] = b"+.one.test\n"
        with core_of(site, config) as core:
            until(lambda: shown(core)["ruleCount"] == 1)
            good, file = shown(core), os.stat(stored(core, site)).st_mtime_ns
            pages = ((b"<!DOCTYPE html>\n<html>\n", "this is a page and no list of rules"), (b'{"message":"Not Found"}', "this is a page and no list"),
                     (b"a/b\n\n.\n", "none of its 2 entries is valid"), (b"+.x.test\n" * 12, "the answer is larger than 100 bytes"), (None, "404"),
                     (lambda h: answer(h, 500, b"x"), "500"), (vanish("end"), "the answer is cut off"), (vanish("reset"), ""),
                     (lambda h: h.wfile.write(b"SSH-2.0-x\r\n\r\n"), "bad answer"))
            for page, why in pages:
                site.pages["/a.txt"] = page
                start = len(core.log())
                r = put(core)
                message = r.json["message"] if r.status == 503 else ""
                eq((r.status, why in message and message != ""), (503, True), "%r, wanted %s" % (r, why))
                eq(shown(core), dict(good, error=message))
                core.wait_log(r"\[Provider\] a pull error: " + re.escape(message[:20]), start=start)
            matches(core, "x.one.test")
            eq(os.stat(stored(core, site)).st_mtime_ns, file)
            site.pages["/a.txt"] = b"+.two.test\n"
            eq((put(core).status, "error" in shown(core)), (204, False))
            matches(core, "x.two.test")
            site.pages["/a.txt"] = b"# empty on purpose\n"
            eq((put(core).status, shown(core)["ruleCount"]), (204, 0))


def test_server_that_is_away():
    """From the start; then the stored file serves, and the download is tried again."""
    with Site() as site:
        port = site.port
        site.pages["/a.txt"] = b"+.one.test\n"
        core = core_of(site)
        try:
            until(lambda: shown(core)["ruleCount"] == 1)
            eq(core.stop(), 0)
            os.utime(stored(core, site), (1, 1))
            site.__exit__()
            core.start()
            core.wait_log(r"\[Provider\] a not updated for a long time, force refresh")
            core.wait_log(r"\[Provider\] a pull error: .*refused")
            eq(shown(core)["ruleCount"], 1)
            matches(core, "x.one.test")
            eq(put(core).status, 503)
            eq(core.stop(), 0)
            eq(port, site.port)
        finally:
            core.clean()


def test_interval_header_and_proxy():
    config = CONFIG.replace("interval: 3600", 'interval: 1, proxy: up, header: {X-Token: [one, two], User-Agent: [list-reader]}, path: ./lists/a.txt')
    lib.servers.seen.clear()
    with Site() as site:
        site.pages["/a.txt"] = b"+.one.test\n"
        with core_of(site, config) as core:
            until(lambda: shown(core)["ruleCount"] == 1)
            eq([site.asked[0][1].get_all(k) for k in ("X-Token", "User-Agent")], [["one", "two"], ["list-reader"]])
            eq(("socks", HOST, site.port) in lib.servers.seen, True)
            eq(os.path.exists(core.path("lists/a.txt")), True)
            site.pages["/a.txt"] = b"+.one.test\n+.two.test\n"
            until(lambda: shown(core)["ruleCount"] == 2, 4)
            matches(core, "x.two.test")
            site.pages["/a.txt"] = None
            core.wait_log(r"a pull error: 404", 4)
            until(lambda: "error" in shown(core))
            site.pages["/a.txt"] = b"+.three.test\n"
            until(lambda: shown(core)["ruleCount"] == 1 and "error" not in shown(core), 4)


def test_file_is_read_again():
    config = CONFIG.replace("type: http", "type: file").replace("interval: 3600", "interval: 1, path: ./a.txt")
    with Core(config, {"a.txt": "+.one.test\n"}) as core:
        eq(shown(core)["ruleCount"], 1)
        core.write("a.txt", "+.one.test\n+.two.test\n")
        until(lambda: shown(core)["ruleCount"] == 2, 4)
        matches(core, "x.two.test")
        os.unlink(core.path("a.txt"))
        until(lambda: shown(core).get("error") == "stat ./a.txt: no such file or directory", 4)
        eq(shown(core)["ruleCount"], 2)
        matches(core, "x.two.test")
        core.write("a.txt", "+.three.test\n")
        until(lambda: shown(core)["ruleCount"] == 1, 4)
        eq(len(re.findall("pull error", core.log())), 1)


def test_update_under_load():
    """100,000 lines, every second other ones, while connections pass that the set lets through: none fails, and they wait hardly
    longer than before."""
    lists = [b"".join(b"+.n%d-%d.example%d.test\n" % (i, k, i % 977) for i in range(99999)) + b"both.test\n" for k in range(2)]
    took, last = [], []

    def once():
        began = time.monotonic()
        core.held("both.test", 4702).close()
        took.append(time.monotonic() - began)

    def p99(seconds, during):
        took.clear()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            during()
            time.sleep(0.1)
        return sorted(took)[len(took) * 99 // 100]

    def update():
        if not last or time.monotonic() - last[-1] > 1:
            last.append(time.monotonic())
            site.pages["/a.txt"] = lists[len(last) % 2]
            eq(put(core).status, 204)
    config = CONFIG.replace("log-level: debug", "log-level: info").replace("MATCH,DIRECT", "MATCH,REJECT")
    with Site() as site:
        site.pages["/a.txt"] = lists[0]
        with core_of(site, config) as core:
            until(lambda: shown(core)["ruleCount"] == 100000, 10)
            ts = lib.Threads(4, once)
            try:
                for attempt in range(3):                    # a busy machine is forgiven twice, a lost connection never
                    before, during = p99(1.5, lambda: None), p99(2.5, update)
                    if during <= 1.5 * before + 0.01:
                        break
                else:
                    raise AssertionError("p99 before %.1f ms, during updates %.1f ms" % (before * 1000, during * 1000))
            finally:
                errors = ts.stop()
            eq(errors[:5], [], "%d failed" % len(errors))
            matches(core, "n5-%d.example5.test" % (len(last) % 2))
