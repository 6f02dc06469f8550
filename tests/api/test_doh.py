# SPDX-License-Identifier: MIT
"""external-doh-server: DNS over HTTPS on the API's port, without the secret; its answers are those of the DNS server."""
import base64
import socket
import struct

import lib
from lib import BASE, Core, Threads, eq

CONFIG = BASE + """
external-doh-server: /dns-query
hosts: {own.test: 192.0.2.1}
dns:
  enable: true
  enhanced-mode: fake-ip
  fake-ip-filter: ["+.real.test"]
  nameserver: ["127.0.0.1:$s_dns"]
  default-nameserver: ["127.0.0.1:$s_dns"]
"""
TYPE = "application/dns-message"


def question(name):
    return lib.dns_question(name, number=b"\0\0")


def post(core, q, **kw):
    return core.api("POST", "/dns-query", raw=q, auth=False, headers={"Content-Type": TYPE}, **kw)


def get(core, text, **kw):
    return core.api("GET", "/dns-query?dns=" + text, auth=False, **kw)


def b64(q):
    return base64.urlsafe_b64encode(q).rstrip(b"=").decode()


def check(r, address):
    eq((r.status, r.type), (200, TYPE), "%r" % r)
    eq((r.body[:2], r.body[3] & 15, socket.inet_ntoa(r.body[-4:])), (b"\0\0", 0, address))


def plain(r, status, text):
    eq((r.status, r.type, r.body.decode()), (status, "text/plain; charset=utf-8", text))


def test_stages(core):
    """hosts, fake-ip, the resolver; both methods."""
    check(post(core, question("own.test")), "192.0.2.1")
    check(get(core, b64(question("own.test"))), "192.0.2.1")
    check(get(core, b64(question("first.test"))), "198.18.0.4")
    check(post(core, question("first.test")), "198.18.0.4")
    check(post(core, question("ip10-9-8-7.real.test")), "10.9.8.7")
    check(get(core, b64(question("ip10-9-8-7.real.test")) + "&x=1"), "10.9.8.7")
    eq(post(core, question("nx.real.test")).body[3] & 15, 3)
    eq(core.api("GET", "/dns-query/?dns=" + b64(question("own.test")), auth=False).status, 200)


def test_long_answer(core):
    r = post(core, question("huge.real.test"))
    eq((r.status, struct.unpack("!H", r.body[6:8])[0]), (200, 1500))


def test_refusals(core):
    plain(get(core, "AA*A"), 500, "illegal base64 data at input byte 2")
    plain(get(core, b64(question("own.test")) + "=="), 500, "illegal base64 data at input byte %d" % len(b64(question("own.test"))))
    plain(core.api("POST", "/dns-query", raw=question("own.test"), auth=False, headers={"Content-Type": "text/plain"}), 500, "invalid content-type")
    plain(core.api("POST", "/dns-query", raw=b"", auth=False), 500, "invalid content-type")
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        plain(core.api(method, "/dns-query", auth=False), 405, "method not allowed")
    plain(post(core, b"x" * 5000), 413, "the question is too long")
    eq(post(core, b"x" * 70000).status, 413)
    for junk in (b"", b"\0" * 11, question("own.test")[:-5], b"\xff" * 100):
        eq(post(core, junk).status in (200, 500), True, "%r" % junk)
    eq(get(core, "").status, 500)
    eq(core.api("GET", "/dns-query", auth=False).status, 500)


def test_the_rest_stays_closed(core):
    for path in ("/dns-queryx", "/dns-query/x", "/dns-query//", "/configs", "/dns/query?name=own.test"):
        eq(core.api("GET", path, auth=False).status in (401, 404), True, path)
    core.api("POST", "/cache/dns/flush", auth=False).error(401, "Unauthorized")


def test_many_at_once(core):
    load = Threads(40, lambda: eq(post(core, question("ip10-1-2-3.real.test")).status, 200))
    for _ in range(20):
        eq(core.get("/version")["meta"], True)
    eq(load.stop(), [])


def test_dns_off():
    with Core(BASE + "external-doh-server: /q\n") as core:
        r = core.api("POST", "/q", raw=question("a.test"), auth=False, headers={"Content-Type": TYPE})
        plain(r, 500, "DNS section is disabled")
    with Core(BASE + "external-doh-server: q\n") as core:
        eq(core.api("GET", "/q", auth=False).status, 404)
