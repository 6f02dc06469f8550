# SPDX-License-Identifier: MIT
"""`sluice convert-ruleset`: each format into each other, what bad input is told, and that a failure leaves the output alone."""
import os
import re
import shutil
import subprocess
import tempfile

import lib
from lib import Core, eq

LISTS = {("domain", "text"): "+.a.test\n*.b.test\n.c.test\nd.test\n", ("ipcidr", "text"): "10.0.0.0/8\n2001:db8::/32\n",
         ("classical", "text"): "DOMAIN-SUFFIX,a.test\nIP-CIDR,10.0.0.0/8,no-resolve\n"}
END = {"text": ".txt", "yaml": ".yaml", "mrs": ".mrs"}


class Folder:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="sluice-convert-")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir)

    def write(self, name, data):
        with open(os.path.join(self.dir, name), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())

    def read(self, name):
        with open(os.path.join(self.dir, name), "rb") as f:
            return f.read()

    def convert(self, *words, stdin=b"", program=None):
        r = subprocess.run([os.path.abspath(program or lib.PROGRAM), "convert-ruleset", *words], cwd=self.dir, input=stdin, capture_output=True, timeout=20 * lib.SLOW)
        return r.returncode, r.stdout, re.sub(r".*sandbox is off in this build.*\n", "", r.stderr.decode())


def test_every_format_into_every_other():
    with Folder() as f:
        for (kind, start), text in LISTS.items():
            formats = [x for x in END if kind != "classical" or x != "mrs"]
            f.write("first.txt", text)
            for a in formats:
                eq(f.convert(kind, "text", "first.txt", "a" + END[a]), (0, b"", ""), kind + " " + a)
                for b in formats:
                    eq(f.convert(kind, a, "a" + END[a], "b" + END[b]), (0, b"", ""))
                    eq(f.convert(kind, b, "b" + END[b], "c.txt"), (0, b"", ""))
                    eq(sorted(f.read("c.txt").split(b"\n")), sorted(text.encode().split(b"\n")), "%s %s %s" % (kind, a, b))
        eq(sorted(x for x in os.listdir(f.dir) if "sluice" in x), [])


def test_pipes_and_what_the_name_leaves_open():
    """Without a hint in the output's name: .mrs of lists, and a list of .mrs."""
    with Folder() as f:
        status, packed, err = f.convert("domain", "text", "-", "-", stdin=b"a.test\n")
        eq((status, packed[:4], err), (0, b"\x28\xb5\x2f\xfd", ""))
        eq(f.convert("domain", "mrs", "-", "-", stdin=packed), (0, b"a.test\n", ""))


def test_bad_input():
    with Folder() as f:
        f.write("kept.mrs", "as it was")
        f.write("list.txt", "a.test\n\nb/ad\n# c\n..\n")
        f.write("page.txt", "<html>\n")
        f.write("list.yaml", "- a.test\n")
        f.write("junk.mrs", b"junk")
        for words, status, why in ((("domain", "text", "nofile", "kept.mrs"), 1, "sluice: nofile: No such file or directory\n"),
                                   (("domain", "text", ".", "kept.mrs"), 1, "sluice: .: cannot read the input: Is a directory\n"),
                                   (("domain", "text", "page.txt", "kept.mrs"), 1, "sluice: page.txt: line 1: this is a page and no list of rules: <html>\n"),
                                   (("domain", "yaml", "list.yaml", "kept.mrs"), 1, "sluice: list.yaml: file must have a `payload` field\n"),
                                   (("ipcidr", "mrs", "junk.mrs", "kept.mrs"), 1, "sluice: junk.mrs: length is invalid\n"),
                                   (("classical", "text", "list.txt", "kept.mrs"), 1, "sluice: list.txt: classical rules have no form in .mrs\n"),
                                   (("domain", "text", "list.txt", "no/such/folder.mrs"), 1, "sluice: no/such/folder.mrs: No such file or directory\n"),
                                   (("nope", "text", "list.txt", "kept.mrs"), 2, "sluice: convert-ruleset: nope: not one of domain, ipcidr, classical\n"),
                                   (("domain", "nope", "list.txt", "kept.mrs"), 2, "sluice: convert-ruleset: nope: not one of yaml, text, mrs\n"),
                                   (("domain", "text"), 2, "usage: sluice convert-ruleset BEHAVIOR FORMAT IN OUT\n")):
            code, out, err = f.convert(*words)
            eq((code, out, err[-len(why):]), (status, b"", why), str(words))
        eq(f.read("kept.mrs"), b"as it was")
        code, out, err = f.convert("domain", "text", "list.txt", "kept.mrs")
        eq((code, "list.txt: line 3: invalid domain: [b/ad]" in err, "list.txt: line 5: invalid domain: [..]" in err), (0, True, True), err)
        eq(f.read("kept.mrs")[:4], b"\x28\xb5\x2f\xfd")


def test_what_was_written_serves():
    with Folder() as f:
        f.write("a.txt", "+.a.test\n.c.test\n")
        eq(f.convert("domain", "text", "a.txt", "a.mrs")[0], 0)
        config = lib.BASE + """
rule-providers:
  a: {type: file, behavior: domain, format: mrs, path: ./a.mrs}
rules: ['RULE-SET,a,REJECT', 'MATCH,DIRECT']
"""
        with Core(config, {"a.mrs": f.read("a.mrs")}) as core:
            eq(core.get("/providers/rules")["providers"]["a"]["ruleCount"], 2)


def test_the_reference_reads_it():
    """Only where its program is at hand, as $MIHOMO."""
    program = os.environ.get("MIHOMO", "")
    if not program:
        raise lib.Skip("$MIHOMO is not set")
    with Folder() as f:
        for (kind, start), text in LISTS.items():
            if kind == "classical":
                continue
            f.write("a.txt", text)
            eq(f.convert(kind, "text", "a.txt", "a.mrs")[0], 0)
            eq(f.convert(kind, "mrs", "a.mrs", "b.txt", program=program)[0], 0)
            eq(sorted(f.read("b.txt").split()), sorted(text.replace("\n.c.", "\n+.c.").encode().split()))
