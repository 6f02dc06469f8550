# SPDX-License-Identifier: MIT
"""Manual pages and completions say what the program and its protocol have."""
import glob
import os
import re
import shutil
import subprocess

import lib
from lib import eq

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def text(name):
    with open(os.path.join(TOP, name)) as f:
        return f.read()


def words():
    """Commands and options, as the program itself lists them."""
    lines = subprocess.run([lib.PROGRAM, "-h"], capture_output=True, text=True, check=True).stdout.splitlines()
    commands = [x.split()[0] for x in lines[lines.index("commands:") + 1:lines.index("")] + lines if re.match(r"  [a-z]", x)]
    options = [o for x in lines if x.startswith("  -") for o in re.findall(r"(?<![\w-])--?([\w-]+)(?=[, ])", x[:30])]
    eq((len(commands) >= 7, len(options) >= 18), (True, True), "%s %s" % (commands, options))
    return sorted(set(commands)), sorted(set(options))


def missing(name, patterns):
    page = text(name).replace("\\", "")
    return ["%s: %s" % (name, p) for p in patterns if not re.search(p, page, re.M)]


def test_commands_and_options_are_described():
    commands, options = words()
    eq(missing("packaging/man/sluice.8", [r"^\.It Cm %s\b" % c for c in commands]), [])
    eq(missing("packaging/man/sluice.8", [r"^\.It Fl (.*[ -])?%s\b" % o for o in options]), [])
    eq(missing("packaging/completion/sluice.bash", [r"\b%s\b" % c for c in commands] + [r"[ ']--?%s\b" % o for o in options]), [])
    eq(missing("packaging/completion/sluice.fish", [r" -a %s " % c for c in commands] + [r" -[slo] %s " % o for o in options]), [])
    eq(missing("packaging/completion/_sluice", [r"\b%s:" % c for c in commands] + [r"[',{]--?%s['\[,}]" % o for o in options]), [])


def test_messages_are_described():
    types = re.findall(r"^\tMSG_(\w+)", text("common/imsg_types.h"), re.M)
    eq(len(types) > 40, True)
    eq(missing("packaging/man/sluice-ipc.7", [r"\b%s\b" % t for t in types]), [])


def test_own_keys_are_described():
    """Every key of the map sluice: what the sources take from it by name."""
    sources = "".join(text(os.path.relpath(p, TOP)) for d in ("worker", "worker/loader", "controller") for p in glob.glob(os.path.join(TOP, d, "*.c")))
    keys = set(re.findall(r"[\"']?sluice\.([a-z][a-z.-]*[a-z])", sources)) | set(re.findall(r'get\w*\(map, "([a-z-]+)"', text("worker/loader/settings.c")))
    keys -= {"yaml", "fakeip", "sock", "state", "lastgood", "health-check"}
    eq({"workers", "drain-timeout", "start-with-last-good"} <= keys, True, str(keys))
    eq(missing("packaging/man/sluice.yaml.5", [r"^\.It Cm (.* , )?%s\b" % re.escape(k) for k in sorted(keys)]), [])


def test_bash_completes():
    if not shutil.which("bash"):
        raise lib.Skip("no bash")

    def complete(*line):
        script = ". %s; COMP_WORDS=(%s); COMP_CWORD=%d; compopt() { :; }; _sluice; printf '%%s\\n' \"${COMPREPLY[@]}\"" % (
            os.path.join(TOP, "packaging/completion/sluice.bash"), " ".join("'%s'" % w for w in line), len(line) - 1)
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=TOP).stdout.split()
    eq(sorted(complete("sluice", "re")), ["reload", "restart"])
    eq(complete("sluice", "upgrade", "-fo"), ["-force"])
    eq(complete("sluice", "-d", "packagi"), ["packaging"])
    eq(complete("sluice", "-f", "READ"), ["README.md"])
    eq(complete("sluice", "-secret", ""), [])
