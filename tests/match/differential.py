#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares what rule sets match with a slow and obvious matcher: tests/match/differential.py [--build DIR] [--asks N] [--seed N] [FOLDER]

Without FOLDER it makes small lists of every kind and format; with one, every list in it (.list .txt .yaml .mrs .dat .mmdb .metadb) is asked
about --asks names or addresses: some of the list, some just beside it, some below it, some random. Lists of a geo database share them. Prints
"ok match NAME: ..." or "not ok match NAME: WHY" for each file, then "N passed, N failed"."""
import argparse
import fnmatch
import ipaddress
import os
import random
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import formats  # noqa: E402

SHOWN = 5
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-"


# ---- the slow matcher: one object a list, has_host(), has_ip(), has_src()

class Names:
    """Patterns of domain sets. A key of a compiled set differs in one thing: "+.a.com" does not mean a.com itself."""

    def __init__(self, patterns, compiled=False):
        self.exact, self.below, self.stars = set(), set(), []
        for p in patterns:
            p = p.lower()
            below = p.startswith(("+.", "."))
            here = not below or (p.startswith("+.") and not compiled)
            p = p[2:] if p.startswith("+.") else p[1:] if below else p
            if p == "+":
                continue
            if "*" in p.split("."):
                self.stars.append((p.split("."), here, below))
                continue
            if here:
                self.exact.add(p)
            if below:
                self.below.add(p)

    def has_host(self, host):
        labels = host.split(".")
        if "" in labels:
            return False
        if host in self.exact:
            return True
        if any(".".join(labels[i:]) in self.below for i in range(1, len(labels))):
            return True
        for p, here, below in self.stars:
            tail = labels[-len(p):]
            fits = len(tail) == len(p) and all(a in ("*", b) for a, b in zip(p, tail))
            if fits and (here if len(labels) == len(p) else below):
                return True
        return False


class Networks:
    def __init__(self, networks=(), ranges=()):
        self.by_length, self.ranges = {}, {4: [], 6: []}
        for n in networks:
            self.by_length.setdefault((n.version, n.prefixlen), set()).add(int(n.network_address) >> n.max_prefixlen - n.prefixlen)
        for family, a, b in ranges:
            self.ranges[family].append((a, b))
        for r in self.ranges.values():
            r.sort()

    def has_ip(self, ip):
        v, width = int(ip), ip.max_prefixlen
        if any(v >> width - length in values for (family, length), values in self.by_length.items() if family == ip.version):
            return True
        r = self.ranges[ip.version]
        lo, hi = 0, len(r)            # the last that does not begin behind it; they do not overlap
        while lo < hi:
            mid = (lo + hi) // 2
            lo, hi = (mid + 1, hi) if r[mid][0] <= v else (lo, mid)
        return lo > 0 and v <= r[lo - 1][1]


class List:
    """What a list says: names, networks, source networks, words and tests on the host."""

    def __init__(self, names=None, ips=None, sources=None, words=(), tests=()):
        self.names, self.ips, self.sources = names or Names([]), ips or Networks(), sources or Networks()
        self.words, self.tests = list(words), list(tests)

    def has(self, question):
        kind, text = question[0], question[1:]
        if kind == "h":
            return self.names.has_host(text) or any(w in text for w in self.words) or any(t(text) for t in self.tests)
        return (self.ips if kind == "i" else self.sources).has_ip(ipaddress.ip_address(text))


def regex(pattern):
    return re.compile(pattern, re.I).search


def classical(lines):
    names, ips, sources, words, tests = [], [], [], [], []
    for line in lines:
        kind, payload, *params = line.split(",")
        if kind == "DOMAIN-REGEX":
            payload, params = line.split(",", 1)[1], []
        if kind == "DOMAIN":
            names.append(payload)
        elif kind == "DOMAIN-SUFFIX":
            names.append("+." + payload)
        elif kind == "DOMAIN-KEYWORD":
            words.append(payload.lower())
        elif kind == "DOMAIN-REGEX":
            tests.append(regex(payload))
        elif kind == "DOMAIN-WILDCARD":
            tests.append(lambda host, p=payload: fnmatch.fnmatchcase(host, p))
        elif kind in ("IP-CIDR", "IP-CIDR6", "SRC-IP-CIDR"):
            (sources if kind == "SRC-IP-CIDR" or "src" in params else ips).append(ipaddress.ip_network(payload, strict=False))
    return List(Names(names), Networks(ips), Networks(sources), words, tests)


def geosite(entries):
    names = ["+." + v for kind, v, _ in entries if kind == 2] + [v for kind, v, _ in entries if kind == 3]
    return List(Names(names), words=[v for kind, v, _ in entries if kind == 0], tests=[regex(v) for kind, v, _ in entries if kind == 1])


# ---- questions

def word(rnd, low=1, high=10):
    return "".join(rnd.choice(ALPHABET[:36]) for _ in range(rnd.randint(low, high)))


def near_host(rnd, name):
    """A host made of a pattern: itself, below it, above it, or nearly it."""
    labels = [word(rnd) if label in ("*", "") else label for label in re.sub(r"^(\+\.|\.)", "", name.lower()).split(".")]
    how = rnd.randrange(8)
    if how == 1:
        labels.insert(0, "www")
    elif how == 2:
        labels = [word(rnd) for _ in range(rnd.randint(1, 3))] + labels
    elif how == 3:
        labels = labels[1:] or labels
    elif how == 4:
        labels[0] = word(rnd, 1, 3) + labels[0]
    elif how == 5:
        labels[rnd.randrange(len(labels))] = word(rnd)
    elif how == 6:
        host = ".".join(labels)
        at = rnd.randrange(len(host))
        return host[:at] + rnd.choice(ALPHABET + ".") + host[at + 1:]
    elif how == 7:
        labels.append(word(rnd, 2, 4))
    return ".".join(labels)


def host_questions(rnd, names, n):
    for _ in range(n):
        if names and rnd.randrange(8):
            yield "h" + near_host(rnd, rnd.choice(names))[:253]
        else:
            yield "h" + ".".join(word(rnd) for _ in range(rnd.randint(1, 5)))


def ip_questions(rnd, ranges, n, kind="i"):
    for _ in range(n):
        family, a, b = rnd.choice(ranges) if ranges and rnd.randrange(8) else (rnd.choice((4, 6)), 0, 0)
        width = 32 if family == 4 else 128
        how = rnd.randrange(6)
        v = (a, b, a - 1, b + 1, rnd.randint(a, b), a ^ 1 << rnd.randrange(width))[how] if b else rnd.getrandbits(width)
        yield kind + str((ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address)(v % (1 << width)))


def spans(networks):
    return [(n.version, int(n.network_address), int(n.broadcast_address)) for n in networks]


# ---- running

class Failure(Exception):
    pass


def compare(ask, kind, form, path, lists):
    """lists: {name: (List, questions)}"""
    lines, at = [], []
    for name, (_, questions) in lists.items():
        at.append((name, len(lines)))
        lines += ["=" + name] + questions
    p = subprocess.run([ask, kind, form, path], input="\n".join(lines) + "\n", capture_output=True, text=True)
    answers = p.stdout.split("\n")[:-1]
    if p.returncode != 0 or len(answers) != len(lines):
        raise Failure("the program ended with status %d after %d of %d answers: %s" % (p.returncode, len(answers), len(lines), p.stderr[-300:]))
    wrong, yes = [], 0
    for name, start in at:
        slow, questions = lists[name]
        if not answers[start].startswith("="):
            raise Failure("%s: %s" % (name, answers[start]))
        for q, got in zip(questions, answers[start + 1:start + 1 + len(questions)]):
            want = "1" if slow.has(q) else "0"
            yes += want == "1"
            if got != want:
                wrong.append("%s: %s is %s, expected %s" % (name, q, got, want))
    if wrong:
        raise Failure("%d of %d answers are wrong:\n    %s" % (len(wrong), len(lines), "\n    ".join(wrong[:SHOWN])))
    return "%d lists, %d questions, %d found" % (len(lists), len(lines) - len(lists), yes)


def entries_list(entries):
    """(kind, List, names, networks) of the entries of a text or yaml list, by what they look like."""
    if any("," in e for e in entries):
        payloads = [e.split(",")[1] for e in entries if e.startswith("DOMAIN") and "REGEX" not in e]
        networks = [ipaddress.ip_network(e.split(",")[1], strict=False) for e in entries if "IP-CIDR" in e]
        return "classical", classical(entries), payloads, networks
    try:
        networks = [ipaddress.ip_network(e, strict=False) for e in entries]
        return "ipcidr", List(ips=Networks(networks)), [], networks
    except ValueError:
        return "domain", List(Names(entries)), entries, []


def check(ask, path, rnd, asks):
    base, ext = os.path.basename(path).lower(), os.path.splitext(path)[1].lower()
    data = open(path, "rb").read()
    if ext in (".list", ".txt", ".yaml"):
        text = data.decode()
        kind, slow, names, networks = entries_list(formats.read_yaml(text) if ext == ".yaml" else formats.read_text(text))
        q = []
        if kind != "ipcidr":
            q += host_questions(rnd, names, asks)
        if kind != "domain":
            q += ip_questions(rnd, spans(networks), asks)
        if kind == "classical":
            q += ip_questions(rnd, spans(networks), asks, "s")
        return compare(ask, kind, "yaml" if ext == ".yaml" else "text", path, {"p": (slow, q)})
    if ext == ".mrs":
        kind, content = formats.read_mrs(data)
        if kind == "domain":
            return compare(ask, kind, "mrs", path, {"p": (List(Names(content, True)), list(host_questions(rnd, content, asks)))})
        return compare(ask, kind, "mrs", path, {"p": (List(ips=Networks(ranges=content)), list(ip_questions(rnd, content, asks)))})
    if ext == ".dat" and "site" in base:
        lists = formats.read_geosite(data)
        chosen = dict(lists)
        for code, entries in lists.items():
            for a in sorted({a for e in entries for a in e[2]})[:2]:
                chosen["%s@%s" % (code, a)] = [e for e in entries if a in e[2]]
        each = max(asks // len(chosen), 50)
        return compare(ask, "geosite", "dat", path, {name: (geosite(entries), list(host_questions(
            rnd, [v for kind, v, _ in entries if kind != 1], each))) for name, entries in chosen.items()})
    if ext == ".dat":
        kind, form, lists = "geoip", "dat", formats.read_geoip(data)
    else:
        db, lists = formats.read_mmdb(data)
        kind, form = "asn" if "ASN" in db else "geoip", "mmdb"
    each = max(asks // len(lists), 50)
    return compare(ask, kind, form, path, {code: (List(ips=Networks(networks)), list(ip_questions(rnd, spans(networks), each)))
                                           for code, networks in lists.items()})


# ---- lists of our own

def random_networks(rnd, n):
    out = []
    for _ in range(n):
        six = rnd.randrange(2)
        width = 128 if six else 32
        length = rnd.choice((29, 32, 36, 48, 56, 58, 59, 64, 127, 128) if six else (8, 12, 16, 20, 24, 31, 32))
        v = rnd.getrandbits(width)
        if rnd.randrange(2):            # crowded, so that they overlap and touch
            v = (0x20010db8 << 96 | rnd.getrandbits(14) << 64 | rnd.getrandbits(3)) if six else 10 << 24 | rnd.getrandbits(14)
        out.append(ipaddress.ip_network((v, length), strict=False))
    return out


def apart(networks):
    """Without those that lie in others."""
    return [n for v in (4, 6) for n in ipaddress.collapse_addresses([x for x in networks if x.version == v])]


def random_patterns(rnd, n):
    tops = [word(rnd, 2, 3) for _ in range(6)]
    bases = ["%s.%s" % (word(rnd, 1, 4), rnd.choice(tops)) for _ in range(max(n // 3, 1))]
    out = []
    for _ in range(n):
        name = ".".join([rnd.choice(("*", word(rnd, 1, 2), word(rnd, 9, 40))) if rnd.randrange(20) == 0 else word(rnd, 1, 3)
                         for _ in range(rnd.randint(0, 3))] + [rnd.choice(bases)])
        out.append(rnd.choice(("", "", "+.", "+.", ".")) + name)
    out += ["+." + tops[0], word(rnd)]
    return out + {1: [], 40: ["*"]}.get(n, ["*." + tops[1]])     # "*" leads every name another way through the search


def synthetic(folder, rnd):
    """Writes a list of every kind and format."""
    def save(name, content):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
    for size in (1, 40, 3000):
        patterns, networks = random_patterns(rnd, size), random_networks(rnd, size)
        save("domain-%d.list" % size, "# names\n" + "\n".join(patterns) + "\n// end")
        save("domain-%d.yaml" % size, formats.write_yaml(patterns))
        # a compiled set has "+.a" beside "a" where the source has "+.a", and "+.a" where it has ".a"
        keys = {"+" + p if p.startswith(".") else p for p in patterns} | {p[2:] for p in patterns if p.startswith("+.")}
        save("domain-%d.mrs" % size, formats.write_mrs_domain(keys))
        save("ip-%d.list" % size, "\n".join(map(str, networks)))
        save("ip-%d.yaml" % size, formats.write_yaml(list(map(str, networks))))
        save("ip-%d.mrs" % size, formats.write_mrs_ranges(spans(apart(networks))))
    plain = [p.lstrip("+.") for p in patterns if "*" not in p]
    rules = ["%s,%s" % (rnd.choice(("DOMAIN", "DOMAIN-SUFFIX")), p) for p in plain[:800]]
    rules += ["DOMAIN-KEYWORD,%s" % word(rnd, 3, 5) for _ in range(60)] + ["DOMAIN-REGEX,^%s[0-9]{1,3}\\." % word(rnd, 1, 2) for _ in range(20)]
    rules += ["DOMAIN-WILDCARD,%s?*.%s" % (word(rnd, 1, 1), p) for p in plain[800:830]]
    rules += ["%s,%s%s" % (rnd.choice(("IP-CIDR", "IP-CIDR6", "SRC-IP-CIDR")), n, rnd.choice(("", ",no-resolve", ",src"))) for n in networks[:800]]
    rnd.shuffle(rules)
    save("classical.list", "\n".join(rules))
    save("classical.yaml", formats.write_yaml(rules))
    sites = {"l%d" % i: [(kind, ("^%s[0-9]+" % word(rnd, 1, 2)) if kind == 1 else word(rnd, 3, 4) if kind == 0 else rnd.choice(plain),
                          set(rnd.sample(("ads", "cn"), rnd.randrange(3)))) for kind in (rnd.choices(range(4), (1, 1, 9, 9), k=4 ** i))]
             for i in range(5)}
    save("geosite.dat", formats.write_geosite(sites))
    countries = {"c%d" % i: random_networks(rnd, 4 ** i) for i in range(6)}
    save("geoip.dat", formats.write_geoip(countries))
    records = [(n, word(rnd, 2, 2)) for n in apart(networks)]
    codes = [c for _, c in records[:12]]
    pick = [(n, rnd.choice(codes)) for n, _ in records]
    save("sing.mmdb", formats.write_mmdb("sing-geoip", pick, 24))
    save("meta.metadb", formats.write_mmdb("Meta-geoip0", [(n, [c, "telegram"] if i % 5 == 0 else c) for i, (n, c) in enumerate(pick)], 28))
    save("country.mmdb", formats.write_mmdb("GeoLite2-Country", [(n, {"country": {"iso_code": c.upper()}}) for n, c in pick], 32))
    save("asn.mmdb", formats.write_mmdb("GeoLite2-ASN", [(n, {"autonomous_system_number": 13000 + codes.index(c),
                                                              "autonomous_system_organization": "x" * 300}) for n, c in pick], 24))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?")
    p.add_argument("--build", default="build")
    p.add_argument("--asks", type=int)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    a = p.parse_args()
    ask, passed, failed = os.path.join(a.build, "tests", "match-ask"), 0, 0
    with tempfile.TemporaryDirectory(prefix="sluice-match.") as own:
        if a.folder is None:
            synthetic(own, random.Random(a.seed))
        folder = a.folder or own
        for name in sorted(os.listdir(folder)):
            if os.path.splitext(name)[1].lower() not in (".list", ".txt", ".yaml", ".mrs", ".dat", ".mmdb", ".metadb"):
                continue
            try:
                said = check(ask, os.path.join(folder, name), random.Random(a.seed), a.asks or (100000 if a.folder else 3000))
                print("ok match %s: %s" % (name, said), flush=True)
                passed += 1
            except (Failure, ValueError, OSError) as e:
                print("not ok match %s (--seed %d): %s" % (name, a.seed, e), flush=True)
                failed += 1
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
