# SPDX-License-Identifier: MIT
"""Geodata files: what is missing comes in the background, updates reach every worker without a new generation, and what is junk changes nothing."""
import http.server
import os
import socket
import threading
import time

from lib import BASE, Core, Threads, check_config, eq, on_every_worker, rule_of, until


class Site:
    """An HTTP server of files = {"/path": bytes or status}; wait: seconds before an answer."""
    def __init__(self, **files):
        site, self.files, self.seen, self.wait = self, {"/" + k: v for k, v in files.items()}, [], 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.seen.append(self.path)
                time.sleep(site.wait)
                body = site.files.get(self.path, 404)
                self.send_response(200 if isinstance(body, bytes) else body)
                self.send_header("Content-Length", str(len(body) if isinstance(body, bytes) else 0))
                self.end_headers()
                if isinstance(body, bytes) and body:
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None      # clients that do not wait for the end
        self.url = "http://127.0.0.1:%d/" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def field(number, data):
    n, size = len(data), b""
    while n > 127:
        size, n = size + bytes([n & 127 | 128]), n >> 7
    return bytes([number << 3 | 2]) + size + bytes([n]) + data


def geosite(**lists):
    """GeoSite.dat of lists of root domains."""
    return b"".join(field(1, field(1, code.upper().encode()) + b"".join(field(2, b"\x08\x02" + field(2, d.encode())) for d in domains))
                    for code, domains in lists.items())


def geoip(**codes):
    """GeoIP.dat; each code is one a.b.0.0/16."""
    return b"".join(field(1, field(1, code.upper().encode()) + field(2, field(1, bytes(map(int, (net + ".0.0").split(".")))) + b"\x10\x10"))
                    for code, net in codes.items())


def mmdb(code):
    """Two nodes of 24 bits: 64.0.0.0/2 is of the code, everything else of nobody. sing-geoip."""
    meta = (b"\xe4\x4anode_count\xa1\x02\x4brecord_size\xa1\x18\x4aip_version\xa1\x04\x4ddatabase_type\x4asing-geoip")
    record = bytes([0x40 | len(code)]) + code.encode()
    return b"\0\0\1\0\0\2" + b"\0\0\2" + (2 + 16).to_bytes(3, "big") + b"\0" * 16 + record + b"\xab\xcd\xefMaxMind.com" + meta


def config(site, extra="", rules=("GEOSITE,cn,up",)):
    return BASE + """
geox-url: {geosite: "%(u)ssite", geoip: "%(u)sip", mmdb: "%(u)smmdb", asn: "%(u)sasn"}
hosts: {in.test: 10.9.0.1, out.test: 10.8.0.1, far.test: 100.1.1.1, near.test: 10.1.1.1}
proxies:
  - {name: up, type: socks5, server: 127.0.0.1, port: $s_socks}
%(extra)s
rules:
  - IP-CIDR,127.0.0.0/8,DIRECT,no-resolve
%(rules)s
  - MATCH,up
""" % {"u": site.url, "extra": extra, "rules": "".join("  - %s\n" % r for r in rules)}


def generation(core):
    return [(g["generation"], sorted(w["pid"] for w in g["workers"])) for g in core.get("/generations")["generations"]]


def post(core, path="/configs/geo"):
    return core.api("POST", path, {"path": "", "payload": ""})


def test_missing_files_come_while_it_serves():
    rules = ("GEOSITE,cn,up", "GEOIP,de,up", "'NOT,((GEOSITE,other)),up'")
    with Site(site=geosite(cn=["a.test"], other=["b.test"]), ip=geoip(de="10.9")) as site:
        site.wait = 1
        began = time.monotonic()
        with Core(config(site, "geodata-mode: true", rules)) as core:
            eq(site.wait > time.monotonic() - began or "GeoSite.dat" not in os.listdir(core.dir), True, "the start waited")
            core.wait_log("GEOSITE,cn matches nothing: GeoSite.dat is not in the working directory; it is downloaded")
            core.wait_log(r"GEOIP,de matches nothing: GeoIP.dat is not")
            eq(rule_of(core, "x.a.test", 4501), ("Match", ""))      # and under NOT neither
            before = generation(core)
            core.wait_log(r"\[GEO\] GeoSite.dat is up to date", 5)
            core.wait_log(r"\[GEO\] GeoIP.dat is up to date", 5)
            on_every_worker(core, "x.a.test", 4510, ("GeoSite", "cn"))
            on_every_worker(core, "in.test", 4530, ("GeoIP", "de"))
            eq(rule_of(core, "out.test", 4550)[0], "NOT")
            eq(rule_of(core, "x.b.test", 4551), ("Match", ""))
            eq(generation(core), before, "no new generation")
            eq([r["size"] for r in core.get("/rules")["rules"]], [-1, 1, 1, -1, -1])
            eq(sorted(site.seen), ["/ip", "/site"])
            with open(core.path("GeoSite.dat"), "rb") as f:
                eq(f.read(), site.files["/site"])
            # a start that finds them asks nobody
            eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
            on_every_worker(core, "x.a.test", 4560, ("GeoSite", "cn"))
            eq(len(site.seen), 2)


def test_junk_keeps_what_is_there():
    old, cut = geosite(cn=["a.test"], other=["b.test"]), geosite(cn=["new.test"], other=["b.test"])[:-3]
    with Site(site=old) as site, Core(config(site, rules=("GEOSITE,cn,up", "GEOSITE,other,up")), {"GeoSite.dat": old}) as core:
        before = generation(core)
        for junk, text in ((b"<html>a login page</html>", "invalid GeoSite database file: the file is damaged"),
                           (cut, "invalid GeoSite database file: the file is damaged"), (b"", "not found in GeoSite.dat"),
                           (geosite(cn=["new.test"]), "invalid GeoSite database file: list other not found in GeoSite.dat"),
                           (404, "can't download GeoSite database file: 404")):
            site.files["/site"] = junk
            r = post(core, "/upgrade/geo")
            eq((r.status, text in r.json["message"]), (500, True), r)
            with open(core.path("GeoSite.dat"), "rb") as f:
                eq(f.read(), old)
        core.wait_log("404.*: the old file stays in use")
        on_every_worker(core, "x.a.test", 4601, ("GeoSite", "cn"))
        eq(rule_of(core, "new.test", 4640), ("Match", ""))
        site.files["/site"] = geosite(cn=["new.test"], other=["b.test"])
        held = core.held("x.a.test", 4641)
        eq(post(core).status, 204)
        on_every_worker(core, "new.test", 4650, ("GeoSite", "cn"))
        on_every_worker(core, "x.a.test", 4670, ("Match", ""))
        eq(generation(core), before)
        core.one(destinationPort="4641")
        held.close()


def test_one_update_at_a_time():
    with Site(site=geosite(cn=["a.test"])) as site, Core(config(site), {"GeoSite.dat": geosite(cn=["b.test"])}) as core:
        site.wait = 1.5
        first = []
        t = threading.Thread(target=lambda: first.append(post(core).status))
        t.start()
        until(lambda: site.seen)
        post(core).error(500, "GEO database is updating, skip")
        t.join()
        eq(first, [204])
        # it is told apart from what is no longer wanted: a reload in the middle ends the call
        t = threading.Thread(target=lambda: first.append(post(core).status))
        t.start()
        until(lambda: len(site.seen) == 2)
        eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
        t.join()
        eq(first, [204, 500])
        eq(rule_of(core, "a.test", 4700), ("GeoSite", "cn"))


def test_none_in_use():
    with Site() as site, Core(config(site, rules=("GEOIP,lan,up",))) as core:
        eq([post(core, p).status for p in ("/configs/geo", "/upgrade/geo")], [204, 204])
        eq(site.seen, [])


def test_mmdb_goes_where_it_lies():
    with Site(mmdb=mmdb("de")) as site, Core(config(site, rules=("GEOIP,de,up", "IP-ASN,1,up")), {"Country.mmdb": mmdb("us")}) as core:
        core.wait_log("can't download ASN database file: 404.*goes on matching nothing")
        eq(rule_of(core, "far.test", 4720)[0], "Match")
        r = post(core)
        eq((r.status, "ASN database file: 404" in r.json["message"]), (500, True), r)      # the other was updated all the same
        on_every_worker(core, "far.test", 4721, ("GeoIP", "de"))
        eq(rule_of(core, "near.test", 4740)[0], "Match")
        eq(sorted(x for x in os.listdir(core.dir) if "mmdb" in x or "metadb" in x), ["Country.mmdb"])


def test_a_damaged_file_counts_as_missing():
    with Site(site=geosite(cn=["a.test"])) as site, Core(config(site), {"GeoSite.dat": b"\xff" * 100}) as core:
        core.wait_log("GEOSITE,cn matches nothing: GeoSite.dat: the file is damaged")
        until(lambda: rule_of(core, "x.a.test", 4760) == ("GeoSite", "cn"), 5)


def test_a_damaged_file_refuses_a_reload():
    """What works goes on: only a start, and who does without the file already, take a damaged one for a missing one."""
    good, junk = geosite(cn=["a.test"]), b"\xff" * 100
    put = {"path": "", "payload": ""}
    with Site(site=404) as site, Core(config(site), {"GeoSite.dat": good}) as core:
        before = generation(core)
        core.write("GeoSite.dat", junk)
        r = core.api("PUT", "/configs?force=true", put)
        eq((r.status, "GeoSite.dat: the file is damaged" in r.json["message"], r.json.get("key")), (400, True, "rules"), r)
        eq(core.api("POST", "/restart", {}).status, 400)
        until(lambda: generation(core) == before)       # what was refused may still be ending
        on_every_worker(core, "x.a.test", 4780, ("GeoSite", "cn"))
        pid = before[-1][1][0]              # a worker that replaces another comes up all the same
        os.kill(pid, 9)
        until(lambda: len(generation(core)[-1][1]) == len(before[-1][1]) and pid not in generation(core)[-1][1], 5)
        eq(core.api("PUT", "/configs?force=true", put).status, 400)
        core.write("GeoSite.dat", good)
        eq(core.api("PUT", "/configs?force=true", put).status, 204)
        on_every_worker(core, "x.a.test", 4785, ("GeoSite", "cn"))
        eq(check_config("rules: ['GEOSITE,cn,DIRECT']\n", files={"GeoSite.dat": junk})[0], 1)
    with Site(site=404) as site, Core(config(site), {"GeoSite.dat": junk}) as core:
        core.wait_log("GEOSITE,cn matches nothing: GeoSite.dat: the file is damaged")
        eq(core.api("PUT", "/configs?force=true", put).status, 204)
        eq(core.api("POST", "/restart", {}).status, 200)
        site.files["/site"] = good
        until(lambda: post(core).status == 204)     # the new lead may be asking already
        core.write("GeoSite.dat", junk)
        eq(core.api("PUT", "/configs?force=true", put).status, 400)


def test_auto_update():
    with Site(site=geosite(cn=["a.test"])) as site:
        core = Core(config(site, "geo-auto-update: true\ngeo-update-interval: 1"), {"GeoSite.dat": geosite(cn=["b.test"])}, start=False)
        old = time.time() - 3700
        os.utime(core.path("GeoSite.dat"), (old, old))
        with core.start():
            core.wait_log(r"\[GEO\] GeoSite.dat is up to date", 5)
            on_every_worker(core, "a.test", 4780, ("GeoSite", "cn"))
            eq(site.seen, ["/site"])
            # the same again: only the time of the file changes, and the next generation need not look either
            os.utime(core.path("GeoSite.dat"), (old, old))
            eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
            until(lambda: os.stat(core.path("GeoSite.dat")).st_mtime > old + 3600)
            loaders = core.log().count("loader started")
            eq(core.api("POST", "/restart", {}).status, 200)
            on_every_worker(core, "a.test", 4800, ("GeoSite", "cn"))
            eq((site.seen, core.log().count("loader started") - loaders), (["/site"] * 2, 0))


def test_a_check_stays_offline():
    with Site(site=geosite(cn=["a.test"])) as site:
        conf = "geox-url: {geosite: '%ssite'}\nrules: ['GEOSITE,cn,DIRECT']\n" % site.url
        code, out = check_config(conf)
        eq((code, "GEOSITE,cn matches nothing: GeoSite.dat is not in the working directory\"" in out), (0, True), out)
        code, out = check_config("geodata-loader: x\n" + conf)
        eq((code, "unable to locate GeoData loader x" in out), (1, True), out)
        eq(check_config("geodata-loader: Standard\n" + conf)[0], 0)
        eq(site.seen, [])
        # -m is the default of geodata-mode
        ip = "geox-url: {}\nrules: ['GEOIP,de,DIRECT']\n"
        eq(check_config(ip, args=("-t", "-m"), files={"GeoIP.dat": geoip(us="10.9")})[0], 1)
        eq(check_config(ip, files={"GeoIP.dat": geoip(us="10.9")})[0], 0)


def ask(core, name, kind=1):
    """What dns.listen says: the rcode, or the last address."""
    q = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0" + kind.to_bytes(2, "big") + b"\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(q, ("127.0.0.1", core.port["dns"]))
        a = s.recv(4096)
    return a[3] & 15 or ".".join(map(str, a[-4:]))


def test_lists_in_dns():
    """fake-ip-filter, nameserver-policy and fallback-filter look into the same images, and see their updates."""
    conf = """geodata-mode: true
dns:
  enable: true
  listen: 127.0.0.1:$dns
  enhanced-mode: fake-ip
  nameserver: ["127.0.0.1:$s_dns"]
  fallback: ["rcode://not_implemented"]
  fallback-filter: {geoip: true, geoip-code: DE, geosite: [only]}
  nameserver-policy: {"rule-set:d": "rcode://name_error", "geosite:refused,nobody": "rcode://refused"}
  fake-ip-filter: ["geosite:cn", "rule-set:d,c", "geosite:refused,only"]
rule-providers:
  d: {type: file, behavior: domain, format: text, path: ./d.txt}
  c: {type: inline, behavior: classical, payload: ["DOMAIN-REGEX,^r+$$", "NETWORK,tcp", "DST-PORT,0"]}
"""
    old = dict(cn=["ip9-9-1-1.test", "ip8-8-8-8.test"], refused=["r.test"], only=["o.test"], nobody=[])
    with Site(site=geosite(**old), ip=geoip(de="9.9")) as site, \
            Core(config(site, conf), {"d.txt": "+.d.test\n", "GeoSite.dat": geosite(**old), "GeoIP.dat": geoip(de="9.9")}) as core:
        eq(ask(core, "ip9-9-1-1.test"), "9.9.1.1")      # real, and of the country
        eq(ask(core, "ip8-8-8-8.test"), 4)              # real, of another: the fallback's word counts
        eq(ask(core, "other.test")[:7], "198.18.")      # in no list
        eq(ask(core, "x.d.test"), 3)
        eq(ask(core, "r.test"), 5)
        eq(ask(core, "o.test"), 4)
        eq(ask(core, "rrr"), "127.0.0.1")               # the pattern of c; its other rules do not count
        site.files["/site"] = geosite(**dict(old, cn=["other.test"], refused=["s.test"]))
        eq(post(core).status, 204)
        eq(ask(core, "ip9-9-1-1.test")[:7], "198.18.")
        eq(ask(core, "s.test"), 5)
        core.write("d.txt", "+.e.test\n")
        eq(core.api("PUT", "/providers/rules/d").status, 204)
        eq(ask(core, "x.e.test"), 3)
        eq(ask(core, "x.d.test")[:7], "198.18.")


def test_dns_works_before_its_lists_come():
    conf = """dns:
  enable: true
  listen: 127.0.0.1:$dns
  enhanced-mode: fake-ip
  nameserver: ["127.0.0.1:$s_dns"]
  nameserver-policy: {"geosite:cn": "rcode://refused"}
  fake-ip-filter: ["geosite:cn"]
"""
    with Site(site=404) as site, Core(config(site, conf, rules=())) as core:
        core.wait_log("dns.fake-ip-filter: geosite:cn matches nothing|nameserver-policy: geosite:cn matches nothing")
        eq(ask(core, "a.test")[:7], "198.18.")
        core.wait_log("can't download GeoSite database file: 404")
        site.files["/site"] = geosite(cn=["a.test"])
        r = post(core)
        eq(r.status, 204, r)
        eq(ask(core, "a.test"), 5)


def test_updates_under_load():
    """A name that both versions have never misses its rule, and no connection fails, while the file is replaced again and again."""
    sites = [geosite(cn=["a.test"] + ["%s%d.test" % (x, i) for i in range(20000)]) for x in "xy"]
    with Site(site=sites[0]) as site, Core(config(site, rules=("GEOSITE,cn,up", "MATCH,REJECT")), {"GeoSite.dat": sites[1]}) as core:
        ts = Threads(3, lambda: core.held("a.test", 4900).close())
        for i in range(6):
            site.files["/site"] = sites[i % 2]
            eq(post(core).status, 204)
        eq(ts.stop(), [])
        eq(min(ts.rounds) > 0, True, ts.rounds)
        eq([r["size"] for r in core.get("/rules")["rules"]][1], 20001)
