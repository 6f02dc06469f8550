# SPDX-License-Identifier: MIT
"""/ui and /storage."""
import os
import threading

from lib import BASE, Core, eq, quote, response

CONFIG = BASE + """
external-ui: ui
rules:
  - MATCH,DIRECT
"""
TYPES = {"a/b.js": "text/javascript; charset=utf-8", "m.mjs": "text/javascript; charset=utf-8", "s.css": "text/css; charset=utf-8", "d.json": "application/json",
         "x.webmanifest": "application/manifest+json", "i.svg": "image/svg+xml", "i.png": "image/png", "i.ico": "image/x-icon", "i.jpg": "image/jpeg",
         "f.woff": "font/woff", "f.woff2": "font/woff2", "w.wasm": "application/wasm", "t.txt": "text/plain; charset=utf-8"}
FILES = {"ui/index.html": "<h1>dashboard</h1>\n", "ui/sub/index.html": "<h1>sub</h1>\n", "ui/empty/x.txt": "x", "ui/big.bin": bytes(range(256)) * 4096, "ui/none.txt": "",
         **{"ui/" + k: "1;\n" for k in TYPES}, "secret.txt": "not for you"}


def ui(core, path, method="GET", **headers):
    return core.api(method, path, auth=None, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_redirects(core):
    for path, status, where in (("/ui", 307, "/ui/"), ("/ui/index.html", 301, "./"), ("/ui/sub", 301, None)):
        r = ui(core, path)
        eq(r.status, status, path)
        if where:
            eq(r.headers["Location"], where)
    eq(ui(core, "/ui/sub").headers["Location"] in ("sub/", "./sub/"), True)


def test_index(core):
    for path, body in (("/ui/", b"<h1>dashboard</h1>\n"), ("/ui/sub/", b"<h1>sub</h1>\n")):
        r = ui(core, path)
        eq((r.status, r.type, r.body), (200, "text/html; charset=utf-8", body))
        eq((r.headers["Cache-Control"], r.headers["X-Content-Type-Options"]), ("no-cache", "nosniff"))


def test_types(core):
    for name, kind in TYPES.items():
        r = ui(core, "/ui/" + name)
        eq((r.status, r.type, r.body), (200, kind, b"1;\n"), name)


def test_missing_and_no_listing(core):
    for path in ("/ui/nope.js", "/ui/empty/", "/ui/empty", "/ui/a/", "/ui/index.html/x"):
        r = ui(core, path)
        eq((r.status, r.type, r.body), (404, "text/plain; charset=utf-8", b"404 page not found\n"), path)


def test_no_traversal(core):
    os.symlink("../secret.txt", core.path("ui/link.txt"))
    os.symlink("/etc", core.path("ui/etc"))
    for path in ("/ui/../secret.txt", "/ui/%2e%2e/secret.txt", "/ui/..%2fsecret.txt", "/ui/a/../../secret.txt", "/ui/%2e%2e%2fsecret.txt", "/ui/..\\secret.txt", "/ui/..%5csecret.txt",
                 "/ui//secret.txt", "/ui/link.txt", "/ui/etc/passwd", "/ui//etc/passwd", "/ui/%2fetc/passwd", "/ui/%00", "/ui/index.html%00.js", "/ui/a/./b.js", "/ui/%252e%252e/secret.txt"):
        r = core.raw(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
        eq((response(r)[0] in (400, 404, 301), b"not for you" in r, b"root:" in r), (True, False, False), path + ": " + repr(r[:100]))


def test_head(core):
    r = ui(core, "/ui/big.bin", "HEAD")
    eq((r.status, r.body, r.headers["Content-Length"]), (200, b"", str(1 << 20)))
    eq(ui(core, "/ui/nope", "HEAD").status, 404)


def test_range(core):
    whole = FILES["ui/big.bin"]
    r = ui(core, "/ui/big.bin")
    eq((r.status, r.body == whole, r.headers["Accept-Ranges"]), (200, True, "bytes"))
    for spec, part, shown in (("0-9", whole[:10], "0-9"), ("1000-", whole[1000:], "1000-1048575"), ("-5", whole[-5:], "1048571-1048575"), ("5-99999999", whole[5:], "5-1048575")):
        r = ui(core, "/ui/big.bin", Range="bytes=" + spec)
        eq((r.status, r.body == part, r.headers["Content-Range"]), (206, True, "bytes %s/1048576" % shown), spec)
    r = ui(core, "/ui/big.bin", Range="bytes=1048576-")
    eq((r.status, r.headers["Content-Range"]), (416, "bytes */1048576"))
    eq((ui(core, "/ui/big.bin", Range="bytes=x-y").status, ui(core, "/ui/none.txt").body), (200, b""))


def test_if_modified_since(core):
    r = ui(core, "/ui/t.txt")
    eq(ui(core, "/ui/t.txt", If_Modified_Since=r.headers["Last-Modified"]).status, 304)
    eq(ui(core, "/ui/t.txt", If_Modified_Since="Thu, 01 Jan 1970 00:00:00 GMT").status, 200)


def test_methods(core):
    eq(ui(core, "/ui/t.txt", "POST").status, 405)


def test_no_ui():
    with Core(BASE) as c:
        for path in ("/ui", "/ui/", "/ui/index.html"):
            eq(ui(c, path).status, 404, path)


def test_ui_outside_needs_safe_paths():
    for env, want in ((None, (400, 404)), ({"SAFE_PATHS": "/usr/share/doc"}, (200, 301, 404))):
        try:
            with Core(BASE + "external-ui: /etc\n", env=env) as c:
                eq(ui(c, "/ui/passwd").status in (404, 400), True)
        except AssertionError as e:         # refusing to start is as good, when it says why
            eq("SAFE_PATHS" in str(e), True, str(e))


# ---- storage
def test_storage(core):
    r = core.api("GET", "/storage/dash")
    eq((r.status, r.type, r.body), (200, "application/json", b"null"))
    value = b' {"a": [1, 2.50],\n "b":null, "\xc3\xa9": "\\u00e9"} '
    r = core.api("PUT", "/storage/dash", raw=value)
    eq((r.status, r.body), (204, b""))
    r = core.api("GET", "/storage/dash")
    eq((r.status, r.type, r.body), (200, "application/json", value), "the bytes as they came")
    for bad in (b"{not json", b"", b"{} {}", b"{'a':1}", b"\xff", b"[" * 100000):
        core.api("PUT", "/storage/dash", raw=bad).error(400, "Body invalid")
    eq(core.api("GET", "/storage/dash").body, value)
    eq(core.api("DELETE", "/storage/dash").status, 204)
    eq(core.api("DELETE", "/storage/dash").status, 204)
    eq(core.api("GET", "/storage/dash").body, b"null")


def test_storage_sizes(core):
    most = b'"' + b"x" * (1048576 - 2) + b'"'
    eq(core.api("PUT", "/storage/big", raw=most).status, 204)
    eq(core.api("GET", "/storage/big").body == most, True)
    core.api("PUT", "/storage/big", raw=most + b" ").error(413, "payload exceeds 1MB limit")
    eq(core.api("PUT", "/storage/big", raw=b'"' + b"x" * (9 << 20) + b'"').status, 413)
    eq(len(core.api("GET", "/storage/big").body), 1048576)
    core.api("DELETE", "/storage/big")


def test_storage_keys(core):
    for key in ("a/b", "..", ".", "../x", "ключ 🔑", "%", "a" * 200, "-", "sluice.lock", "x\ny"):
        eq(core.api("PUT", "/storage/" + quote(key), raw=b'"%d"' % len(key)).status, 204, key)
        eq(core.api("GET", "/storage/" + quote(key)).body, b'"%d"' % len(key), key)
    eq(core.api("GET", "/storage/" + "a" * 199).body, b"null")
    eq(core.api("PUT", "/storage/" + "a" * 3000, raw=b"1").status in (400, 414), True)
    eq(core.api("PUT", "/storage/", raw=b"1").status in (400, 404, 405), True)
    eq(sorted(os.listdir(core.dir)), sorted(set(os.listdir(core.dir)) - {"x"}))
    for key in ("a/b", "..", ".", "../x", "ключ 🔑", "%", "a" * 200, "-", "sluice.lock", "x\ny"):
        eq(core.api("DELETE", "/storage/" + quote(key)).status, 204)


def test_storage_is_bounded_in_number(core):
    codes = [core.api("PUT", "/storage/n%d" % i, raw=b"1").status for i in range(300)]
    eq((codes[:200] == [204] * 200, codes[-1] >= 400), (True, True), str(codes[-3:]))
    for i in range(300):
        core.api("DELETE", "/storage/n%d" % i)
    eq(core.api("PUT", "/storage/again", raw=b"1").status, 204)


def test_storage_survives(core):
    core.api("PUT", "/storage/kept", raw=b"[1]")
    eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
    eq(core.api("POST", "/restart").status, 200)
    eq(core.api("GET", "/storage/kept").body, b"[1]")
    core.stop()
    core.start()
    eq(core.api("GET", "/storage/kept").body, b"[1]")


def test_storage_parallel_writes_never_mix(core):
    values = [b'"' + bytes([65 + i]) * 50000 + b'"' for i in range(8)]
    ts = [threading.Thread(target=lambda v=v: core.api("PUT", "/storage/race", raw=v)) for v in values]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    eq(core.api("GET", "/storage/race").body in values, True)
