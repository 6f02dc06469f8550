# SPDX-License-Identifier: MIT
"""The program as its operator meets it: options, -t, the control commands, its end, an ordinary user, and what it is linked with."""
import base64
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import lib
from lib import BASE, HOST, NOBODY, Core, alive, check_config, ended, eq, pong, until

MINIMAL = "mixed-port: $mixed\nrules: ['MATCH,DIRECT']\n"


def run(*args, env=None, timeout=20, **kw):
    e = {k: v for k, v in os.environ.items() if not k.startswith("CLASH_")}
    return subprocess.run([lib.PROGRAM, *args], capture_output=True, text=True, timeout=timeout * lib.SLOW, env=dict(e, **(env or {})), **kw)


# ---- options
def test_version_and_help():
    for args in (("-v",), ("--version",)):
        r = run(*args)
        eq((r.returncode, "sluice" in r.stdout.lower(), r.stderr), (0, True, ""), str(args))
    for args in (("-h",), ("--help",), ("-help",)):
        r = run(*args)
        eq((r.returncode, all(w in r.stdout for w in ("-d", "-f", "-t", "-ext-ctl", "reload", "stop", "CLASH_HOME_DIR"))), (0, True), str(args))


def test_bad_options():
    for args in (("--no-such",), ("nonsense",), ("-d",), ("-t=perhaps",), ("reload", "-z")):
        r = run(*args)
        eq((r.returncode, args[-1].split("=")[0] in r.stderr), (2, True), "%s: %r" % (args, r.stderr))


def test_option_forms():
    d = tempfile.mkdtemp()
    with open(d + "/c.yaml", "w") as f:
        f.write("mode: rule\n")
    try:
        for args in (("-t", "-d", d, "-f", d + "/c.yaml"), ("--test", "--home=" + d, "--file=" + d + "/c.yaml"), ("-d=" + d, "-f=" + d + "/c.yaml", "-t=true"), ("test", "-d", d, "-f", d + "/c.yaml")):
            r = run(*args)
            eq((r.returncode, "test is successful" in r.stdout), (0, True), "%s: %s" % (args, r.stdout + r.stderr))
        eq(run("-t", "-d", d, "-f", "c.yaml", cwd=d).returncode, 0, "-f is relative to where the command was started")
        eq(run("-t", env={"CLASH_HOME_DIR": d, "CLASH_CONFIG_FILE": d + "/c.yaml"}).returncode, 0)
        eq(run("-t", "-d", d, "-config", base64.b64encode(b"mode: global\n").decode()).returncode, 0)
        eq(run("-t", "-d", d, "-config", "***").returncode, 1)
        eq(run("-t", "-d", d, env={"CLASH_CONFIG_STRING": base64.b64encode(b"mode: sideways\n").decode()}).returncode, 1)
        eq(run("-t", "-d", d, "-f", "-", input="mode: rule\n").returncode, 0)
        eq(sorted(os.listdir(d)), ["c.yaml"], "-t writes nothing")
    finally:
        shutil.rmtree(d)


# ---- -t
def test_check_good():
    code, text = check_config(BASE + "rules: ['MATCH,DIRECT']\n")
    eq((code, "test is successful" in text, "level=error" in text), (0, True, False), text)


def test_check_errors_name_key_line_column():
    wrong = []
    for config, words in (("mode: rule\nmixed-port: [\n", ["line"]), ("mode: rule\nmixed-port: abc\n", ["line 2", "mixed-port"]), ("mode: sideways\n", ["mode"]), ("a: 1\nb: 2\na: 3\n", ["line 3"]),
                          ("log-level: loud\n", ["log-level"]), ("rules:\n  - MATCH,nobody\n", ["line 2", "nobody"]), ("rules:\n  - NONSENSE,x,DIRECT\n", ["line 2", "NONSENSE"]),
                          ("rules:\n  - IP-CIDR,1.2.3,DIRECT\n", ["line 2"]), ("proxies:\n  - {name: a, type: socks5, server: x}\n", ["line 2", "port"]),
                          ("proxies:\n  - {name: a, type: socks5, server: x, port: 1}\n  - {name: a, type: socks5, server: x, port: 1}\n", ["line 3", "a"]),
                          ("proxies:\n  - {name: a, type: warp9, server: x, port: 1}\n", ["line 2", "warp9"]), ("proxy-groups:\n  - {name: g, type: select, proxies: [nobody]}\n", ["line 2", "nobody"]),
                          ("proxy-groups:\n  - {name: g, type: select, proxies: [h]}\n  - {name: h, type: select, proxies: [g]}\n", ["line"]), ("lan-allowed-ips: [1.2.3.4]\n", ["lan-allowed-ips"]),
                          ("find-process-mode: maybe\n", ["find-process-mode"]), ("mode: rule\n\ttab: 1\n", ["line "]), ("just text\n", []), ("- a\n- b\n", []), ("", ["empty"]),
                          ("tunnels: ['tcp,127.0.0.1:1']\n", ["line 1"]), ("sluice: {workers: many}\n", ["line 1", "workers"]),
                          ("sluice: {stop-grace: soon}\n", ["line 1", "stop-grace"]), ("listeners:\n  - {name: l, type: teapot, port: 1}\n", ["line 2", "teapot"])):
        code, text = check_config(config)
        missing = [w for w in words if w not in text]
        if code != 1 or "test failed" not in text or missing:
            wrong.append("%r gives %d, misses %s: %s" % (config, code, missing, " | ".join(re.findall("level=error msg=(.*)", text))))
    eq("\n".join(wrong), "")


def test_messages_name_the_file():
    with tempfile.TemporaryDirectory() as d:
        file = os.path.join(d, "x.yaml")
        with open(file, "w") as f:
            f.write("rules:\n  - MATCH,nobody\n")
        eq("(rules, line 2, column 5 of %s)" % file in run("-t", "-d", d, "-f", file).stderr, True)
        eq("configuration file %s: cannot read the input: Is a directory" % d in run("-t", "-d", d, "-f", d).stderr, True)


def test_check_unknown_key_is_a_warning():
    code, text = check_config("mode: rule\nmixed-prot: 7890\n")
    eq((code, bool(re.search("level=warning.*mixed-prot.*mixed-port", text))), (0, True), text)


def test_check_bombs():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join("%s: &%s [%s]\n" % (c, c, ",".join(["*" + chr(ord(c) - 1)] * 9)) for c in "bcdefghi")
    t = time.monotonic()
    for config in (bomb, "a: " + "[" * 100000, "a: &a [*a]\n", "mode: rule\nx: |\n" + "  y\n" * 10 + "rules: [" + "'MATCH,DIRECT'," * 3 + "\n"):
        code, text = check_config(config)
        eq(code, 1, text[-300:])
    eq(time.monotonic() - t < 10 * lib.SLOW, True)


def test_check_binds_and_writes_nothing():
    with socket.create_server((HOST, 0)) as busy:
        config = "mixed-port: %d\nexternal-controller: 127.0.0.1:%d\nrules: ['MATCH,DIRECT']\n" % (busy.getsockname()[1], busy.getsockname()[1])
        eq(check_config(config)[0], 0)


# ---- start
def test_first_start_makes_a_configuration():
    d = tempfile.mkdtemp()
    shutil.rmtree(d)
    p = subprocess.Popen([lib.PROGRAM, "-d", d + "/sub/dir", "-ext-ctl", "127.0.0.1:%d" % lib.free_port()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: os.path.exists(d + "/sub/dir/config.yaml"), 5)
        with open(d + "/sub/dir/config.yaml") as f:
            eq(f.read(), "mixed-port: 7890\n")
    finally:
        p.terminate()
        p.wait(5)
        shutil.rmtree(d)


def start_fails(config, *words, **kw):
    core = Core(config, start=False, **kw)
    try:
        core.start(wait=8)
        raise RuntimeError("it started:\n" + core.log())
    except AssertionError as e:
        eq(core.proc.poll() not in (None, 0), True, str(e))
        for w in words:
            eq(w in core.log(), True, "%r in %s" % (w, core.log()[-1500:]))
    finally:
        core.clean()


def test_start_with_a_bad_configuration():
    start_fails("mixed-port: $mixed\nmode: sideways\n", "level=error", "mode")
    start_fails("mixed-port: $mixed\nrules: ['MATCH,nobody']\n", "nobody", "line 2")


def test_a_busy_port_is_an_error_that_names_it():
    with socket.create_server((HOST, 0)) as busy:
        core = Core("socks-port: %d\nmixed-port: $mixed\nexternal-controller: 127.0.0.1:$ctl\nsecret: test-secret\n" % busy.getsockname()[1], start=False)
        try:
            try:
                core.start(wait=5)
            except AssertionError:
                pass
            eq(bool(re.search(r"level=(error|fatal).*%d.*in use" % busy.getsockname()[1], core.log())), True, core.log())
        finally:
            core.clean()


def test_one_directory_one_service():
    with Core(BASE) as c:
        r = run("-d", c.dir)
        eq((r.returncode != 0, "another sluice" in r.stderr + r.stdout), (True, True), r.stderr)
        eq(c.api("GET", "/version").status, 200)


def test_a_full_disk():
    """Everything that is written fails for a while: nothing ends, the API and the log say what and why, and no half file is left."""
    if os.getuid() != 0 or not shutil.which("unshare"):
        raise lib.Skip("it needs root and unshare")
    core = Core(BASE + """
profile: {store-fake-ip: true}
dns: {enable: true, enhanced-mode: fake-ip, nameserver: ["127.0.0.1:$s_dns"]}
rule-providers:
  d: {type: http, behavior: domain, format: text, url: "http://127.0.0.1:$s_origin/hello", interval: 86400}
proxy-groups: [{name: P, type: select, proxies: [DIRECT, REJECT]}]
rules: ['RULE-SET,d,REJECT', 'MATCH,P']
""", start=False)
    with tempfile.NamedTemporaryFile("w", suffix=".sh", delete=False) as f:
        f.write("""#!/bin/sh
exec unshare -m --propagation private sh -c 'c=$(cat "$2/config.yaml"); mount -t tmpfs -o size=96k tmpfs "$2" && printf "%%s\\n" "$c" >"$2/config.yaml"
dd if=/dev/zero of="$2/fill" bs=1k 2>/dev/null; exec "$0" "$@"' "%s" "$@"
""" % os.path.abspath(lib.PROGRAM))
    os.chmod(f.name, 0o755)
    program, lib.PROGRAM = lib.PROGRAM, f.name
    try:
        core.start()
    finally:
        lib.PROGRAM = program
        os.unlink(f.name)
    with core:
        inside = "/proc/%d/root%s/" % (core.proc.pid, core.dir)
        core.wait_log("sluice.fakeip: No space left on device: fake addresses are not kept")
        eq(core.api("PUT", "/proxies/P", {"name": "REJECT"}).status, 204)
        core.wait_log("selections cannot be stored in .*/sluice.state: No space left on device")
        core.api("PUT", "/storage/x", raw=b"1").error(500, core.dir + "/storage: No space left on device")
        r = core.api("PUT", "/providers/rules/d")
        eq((r.status, "No space left on device" in r.json["message"]), (503, True), r)
        core.wait_log(r"\[Provider\] d pull error: write rules/\w+: No space left on device")
        eq(core.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
        eq(core.get("/proxies/P")["now"], "REJECT")
        eq([n for top, _, names in os.walk(inside) for n in names if "tmp" in n], [])
        os.unlink(inside + "fill")
        eq(core.api("PUT", "/proxies/P", {"name": "DIRECT"}).status, 204)
        eq(core.api("PUT", "/storage/x", raw=b"1").status, 204)
        eq(core.api("PUT", "/providers/rules/d").status, 204)
        eq(os.path.getsize(inside + "sluice.state") > 0, True)


def test_own_files_that_are_damaged():
    config = "profile: {store-fake-ip: true}\ndns: {enable: true, enhanced-mode: fake-ip, nameserver: ['127.0.0.1:$s_dns']}\nrules: ['MATCH,DIRECT']\n"
    junk = b"\xa5junk" * 600
    with Core(BASE + config, {n: junk for n in ("sluice.state", "sluice.nodes", "sluice.fakeip", "sluice.lastgood")}) as c:
        c.wait_log("sluice.state: the stored selections cannot be read, they start anew")
        c.wait_log("sluice.fakeip: the stored fake addresses cannot be read, they start anew")
        c.held(HOST, lib.servers.port["echo"]).close()


def test_ordinary_user():
    if os.getuid() != 0:
        raise lib.Skip("already an ordinary user: every other test shows it")
    if subprocess.run([lib.PROGRAM, "-v"], user=NOBODY, group=NOBODY, capture_output=True).returncode != 0:
        raise lib.Skip("the build directory is not readable by others")
    with Core(BASE + "external-controller-unix: ctl.sock\nrules: ['MATCH,DIRECT']\n", user=NOBODY) as c:
        eq({lib.status_of(p)["Uid"].split()[0] for p in c.tree()}, {str(NOBODY)})
        c.held(HOST, lib.servers.port["echo"]).close()
        eq(c.api("PUT", "/configs?force=true", {"path": "", "payload": ""}).status, 204)
        eq(c.api("PUT", "/storage/x", raw=b"1").status, 204)
        s = c.held(HOST, lib.servers.port["echo"])
        eq(c.cli("restart").returncode, 0)
        pong(s)
        s.close()
        eq(len(re.findall("ordinary user", c.log())), 1, "what is missing is named once")


# ---- control commands
def test_status_reload_restart_stop():
    with Core(BASE + "rules: ['MATCH,DIRECT']\n") as c:
        r = c.cli("status")
        eq((r.returncode, "generation 1" in r.stdout, len(re.findall(r"(?m)^worker", r.stdout)) >= 1, "controller" in r.stdout), (0, True, True, True), r.stdout)
        eq((c.cli("reload").returncode, "generation 2" in c.cli("status").stdout), (0, True))
        eq((c.cli("restart").returncode, "generation 3" in c.cli("status").stdout), (0, True))
        c.write("config.yaml", c.config + "rules: [")
        r = c.cli("reload")
        eq((r.returncode, "line" in r.stderr), (1, True), r.stderr)
        eq("generation 3" in c.cli("status").stdout, True)
        c.write("config.yaml", c.config.replace("mode: rule", "mode: global"))
        eq(c.cli("reload").returncode, 0)
        eq(c.get("/configs")["mode"], "global")
        r = c.cli("stop")
        eq((r.returncode, c.proc.wait(3)), (0, 0), r.stderr)
        for command in ("status", "reload", "restart", "stop"):
            r = c.cli(command)
            eq((r.returncode, "no service runs" in r.stderr), (3, True), command)


def test_control_socket_is_the_owners():
    with Core(BASE) as c:
        eq(os.stat(c.path("sluice.sock")).st_mode & 0o777, 0o600)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:     # rubbish ends that client only
            s.connect(c.path("sluice.sock"))
            for d in (b"x", b"\xff" * 64, b"\0" * 5000):
                try:
                    s.send(d)
                except OSError:
                    break
        eq(c.cli("status").returncode, 0)


def test_what_cannot_be_asked():
    if os.getuid() != 0:
        raise lib.Skip("it needs root")
    with Core(BASE) as c:
        os.chmod(c.dir, 0o755)
        r = subprocess.run([lib.PROGRAM, "status", "-d", c.dir], capture_output=True, text=True, user=NOBODY, group=NOBODY, extra_groups=[])
        eq((r.returncode, r.stderr), (3, "sluice: cannot reach the service in %s: Permission denied\n" % c.dir))
    eq(run("explain").returncode, 2)


def test_sighup():
    with Core(BASE + "rules: ['MATCH,DIRECT']\n") as c:
        c.write("config.yaml", c.config.replace("mode: rule", "mode: direct").replace("secret: test-secret", "secret: other"))
        s = c.held(HOST, lib.servers.port["echo"])
        c.signal(signal.SIGHUP)
        until(lambda: c.api("GET", "/configs", auth="Bearer other").status == 200, 5, "the new secret counts")
        eq(c.api("GET", "/configs", auth="Bearer other").json["mode"], "direct")
        pong(s)
        s.close()


def test_a_controller_that_cannot_listen():
    """A reload whose API would be nowhere is refused, and the API stays where it is; at a start it is an error in the log."""
    rules, tls = "rules: ['MATCH,%s']\n", "external-controller-tls: 127.0.0.1:$tls\ntls: {certificate: %s, private-key: k.pem}\n"
    files = {"c.pem": open(lib.servers.cert).read(), "k.pem": open(lib.servers.key).read()}
    with socket.create_server((HOST, 0)) as taken, Core(BASE + tls % "c.pem" + rules % "DIRECT", files) as c:
        busy, good = "127.0.0.1:%d" % taken.getsockname()[1], c.config

        def serves():
            return [g["generation"] for g in c.get("/generations")["generations"] if g["state"] == "serving"]

        before = serves()
        moved = good.replace("controller-tls: 127.0.0.1:%d" % c.port["tls"], "controller-tls: " + busy)
        for config, why in ((good.replace("external-controller: 127.0.0.1:%d" % c.port["ctl"], "external-controller: " + busy),
                             r"External controller listen error: %s: .*address already in use \(line \d+, column \d+\)" % re.escape(busy)),
                            (moved, "External controller tls listen error: .*address already in use"),
                            (good.replace("c.pem", "none.pem"), "External controller tls listen error: .*none.pem: no such file")):
            c.write("config.yaml", config.replace("DIRECT", "REJECT"))
            r = c.cli("reload")
            eq((r.returncode, bool(re.search(why, r.stderr))), (1, True), r.stderr)
            eq(serves(), before)
            eq(c.get("/rules")["rules"][-1]["proxy"], "DIRECT")
            lib.tls_client(c.connect("tls")).close()
        c.write("config.yaml", c.fill(good.replace("external-controller: 127.0.0.1:%d" % c.port["ctl"], "external-controller: 127.0.0.1:$other")))
        eq(c.cli("reload").returncode, 0)
        eq(c.api("GET", "/version", port="other").status, 200)
    with socket.create_server((HOST, 0)) as taken, Core(BASE + "external-controller-tls: 127.0.0.1:%d\n" % taken.getsockname()[1] + rules % "DIRECT") as c:
        c.wait_log("External controller tls listen error")
        c.write("config.yaml", c.config.replace("DIRECT", "REJECT"))
        eq((c.cli("reload").returncode, c.get("/rules")["rules"][-1]["proxy"]), (0, "REJECT"))     # it was so before


# ---- the end
def test_sigterm_ends_the_tree():
    for sig in (signal.SIGTERM, signal.SIGINT):
        c = Core(BASE + "rules: ['MATCH,DIRECT']\n")
        try:
            tree, s = c.tree(), c.held(HOST, lib.servers.port["echo"])
            w = c.ws("/traffic")
            eq(len(tree) >= 3, True)
            t = time.monotonic()
            c.signal(sig)
            eq(c.proc.wait(5 * lib.SLOW), 0)
            eq(time.monotonic() - t < 2 * lib.SLOW, True, "it took %g s" % (time.monotonic() - t))
            eq([p for p in tree if alive(p)], [])
            eq(ended(s) in ("end", "reset"), True)
            s.close()
            w.close()
            eq(os.path.exists(c.path("sluice.sock")), False)
            c.healthy()
        finally:
            c.clean()


def test_stop_grace():
    c = Core(BASE + "sluice: {stop-grace: 3s}\nrules: ['MATCH,DIRECT']\n")
    try:
        tree = c.tree()
        a, b = (c.held(HOST, lib.servers.port["echo"]) for _ in range(2))
        t = time.monotonic()
        c.signal(signal.SIGTERM)
        time.sleep(0.5)
        try:
            socket.create_connection((HOST, c.port["mixed"]), 1).close()
            raise RuntimeError("a new connection was accepted")
        except ConnectionRefusedError:
            pass
        pong(a)
        a.close()
        time.sleep(0.5)
        pong(b)
        eq(c.proc.wait(8), 0)
        took = time.monotonic() - t
        eq(2.5 < took < 5 * lib.SLOW, True, "it took %g s" % took)
        eq([p for p in tree if alive(p)], [])
        b.close()
    finally:
        c.clean()


def test_stop_grace_ends_early_when_nothing_is_open():
    c = Core(BASE + "sluice: {stop-grace: 10s}\nrules: ['MATCH,DIRECT']\n")
    try:
        s = c.held(HOST, lib.servers.port["echo"])
        t = time.monotonic()
        c.signal(signal.SIGTERM)
        time.sleep(0.3)
        s.close()
        eq(c.proc.wait(8), 0)
        eq(time.monotonic() - t < 4 * lib.SLOW, True, "it took %g s" % (time.monotonic() - t))
    finally:
        c.clean()


def test_second_signal_ends_at_once():
    c = Core(BASE + "sluice: {stop-grace: 60s}\nrules: ['MATCH,DIRECT']\n")
    try:
        tree, s = c.tree(), c.held(HOST, lib.servers.port["echo"])
        c.signal(signal.SIGTERM)
        time.sleep(0.5)
        eq(c.proc.poll(), None)
        t = time.monotonic()
        c.signal(signal.SIGTERM)
        c.proc.wait(5)
        eq(time.monotonic() - t < 1 * lib.SLOW, True)
        until(lambda: not [p for p in tree if alive(p)], 1)
        s.close()
    finally:
        c.clean()


def test_children_end_with_a_killed_supervisor():
    c = Core(BASE + "rules: ['MATCH,DIRECT']\n")
    try:
        tree = c.tree()
        c.signal(signal.SIGKILL)
        until(lambda: not [p for p in tree[1:] if alive(p)], 3, "the children end")
    finally:
        c.proc.wait(2)
        c.log_file.close()
        c.proc = None
        c.clean()


# ---- what it is made of
def test_supervisor_links_no_parser():
    r = subprocess.run(["ldd", lib.PROGRAM], capture_output=True, text=True)
    for word in ("yaml", "json", "ssl", "crypto", "civetweb", "wslay", "pcre", "http"):
        eq(word in r.stdout, False, "libraries: " + r.stdout)
    r = subprocess.run(["nm", lib.PROGRAM], capture_output=True, text=True)
    for prefix in ("yaml_", "cJSON", "SSL_", "EVP_", "mg_", "wslay_", "pcre2_", "http_", "json_", "tree_open", "cfg_"):
        found = [x for x in r.stdout.split() if x.startswith(prefix)]
        eq(found, [], "symbols with " + prefix)


def test_programs_are_hardened():
    if "-asan" in lib.PROGRAM or "-tsan" in lib.PROGRAM:
        raise lib.Skip("a sanitizer build")
    d = os.path.dirname(lib.PROGRAM)
    for p in (lib.PROGRAM, *(d + "/libexec/sluice-" + x for x in ("worker", "loader", "controller"))):
        text = subprocess.run(["readelf", "-hldW", p], capture_output=True, text=True).stdout
        eq(("DYN (Position-Independent" in text, "BIND_NOW" in text, "GNU_RELRO" in text, bool(re.search(r"GNU_STACK.*RWE", text))), (True, True, True, False), p)
