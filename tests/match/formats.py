# SPDX-License-Identifier: MIT
"""Reads and writes the formats of rule data, slowly and plainly, for differential.py: text, yaml, .mrs, geosite.dat, geoip.dat, MaxMind databases.
Nothing here knows how sluice does it; spec sections are those of the formats' own documentation."""
import ctypes
import ctypes.util
import ipaddress
import struct

ZSTD = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
for f in ("ZSTD_decompress", "ZSTD_compress", "ZSTD_compressBound"):
    getattr(ZSTD, f).restype = ctypes.c_size_t
UNPACKED_MAX = 64 << 20


def unzstd(data):
    out = ctypes.create_string_buffer(UNPACKED_MAX)
    n = ZSTD.ZSTD_decompress(out, ctypes.c_size_t(UNPACKED_MAX), data, ctypes.c_size_t(len(data)))
    if n > UNPACKED_MAX:
        raise ValueError("not a zstd stream")
    return ctypes.string_at(out, n)


def zstd(data):
    size = ZSTD.ZSTD_compressBound(ctypes.c_size_t(len(data)))
    out = ctypes.create_string_buffer(size)
    n = ZSTD.ZSTD_compress(out, ctypes.c_size_t(size), data, ctypes.c_size_t(len(data)), 3)
    return ctypes.string_at(out, n)


# ---- text and yaml

def read_text(text):
    lines = (line.strip() for line in text.split("\n"))
    return [s for s in lines if s and not s.startswith(("#", "//"))]


def read_yaml(text):
    """The list under payload:, with plain and quoted items, as lists of rules are written."""
    out, inside = [], False
    for line in text.split("\n"):
        s = line.strip()
        if not inside:
            inside = s in ("payload:", "rules:")
        elif s.startswith("- "):
            s = s[2:].strip()
            if s[:1] in ("'", '"'):
                s = s[1:s.index(s[0], 1)]
            out.append(s.split(" #")[0])
    return out


def write_yaml(entries):
    return "# a list\npayload:\n" + "".join("  - %s\n" % (e if i % 2 and e[0] != "*" else "'%s'" % e) for i, e in enumerate(entries))


# ---- .mrs

def mrs_arrays(data):
    """Behaviour, and the arrays behind the header."""
    data = unzstd(data)
    if data[:4] != b"MRS\1":
        raise ValueError("no .mrs")
    count, extra = struct.unpack(">qq", data[5:21])
    at = 21 + extra
    if data[at] != 1:
        raise ValueError("version")
    return data[4], data[at + 1:]


def read_mrs(data):
    """("domain", keys) or ("ipcidr", ranges as (family, from, to))."""
    behavior, p = mrs_arrays(data)
    if behavior == 1:
        n = struct.unpack(">q", p[:8])[0]
        out = []
        for i in range(n):
            a, b = (ipaddress.IPv6Address(p[8 + 32 * i + 16 * k:24 + 32 * i + 16 * k]) for k in (0, 1))
            if a.ipv4_mapped is not None and b.ipv4_mapped is not None:
                out.append((4, int(a.ipv4_mapped), int(b.ipv4_mapped)))
            else:
                out.append((6, int(a), int(b)))
        return "ipcidr", out
    words = []
    for _ in range(2):
        n = struct.unpack(">q", p[:8])[0]
        words.append(struct.unpack(">%dQ" % n, p[8:8 + 8 * n]))
        p = p[8 + 8 * n:]
    labels = p[8:8 + struct.unpack(">q", p[:8])[0]]
    leaves, bitmap = words
    # each node's children are the zeros before its one; nodes are numbered as they are met
    text = {0: b""}
    node, edge = 0, 0
    for i in range(len(bitmap) * 64):
        if bitmap[i // 64] >> i % 64 & 1:
            node += 1
            if node > edge:
                break
        elif edge < len(labels):
            text[edge + 1] = text[node] + labels[edge:edge + 1]
            edge += 1
    # turned around by characters, not bytes
    keys = [t.decode()[::-1] for n, t in text.items() if n // 64 < len(leaves) and leaves[n // 64] >> n % 64 & 1]
    return "domain", keys


def bits_to_words(bits):
    words = [0] * ((len(bits) + 63) // 64)
    for i, b in enumerate(bits):
        words[i // 64] |= b << i % 64
    return struct.pack(">q%dQ" % len(words), len(words), *words)


def write_mrs_domain(keys):
    keys = sorted(k[::-1].encode() for k in set(keys))
    leaves, bitmap, labels = [], [], b""
    todo = [(keys, 0)]
    while todo:
        group, depth = todo.pop(0)
        leaves.append(int(len(group[0]) == depth))
        rest = [k for k in group if len(k) > depth]
        for c in sorted({k[depth] for k in rest}):
            todo.append(([k for k in rest if k[depth] == c], depth + 1))
            labels += bytes([c])
            bitmap.append(0)
        bitmap.append(1)
    body = b"\1" + bits_to_words(leaves) + bits_to_words(bitmap) + struct.pack(">q", len(labels)) + labels
    return zstd(b"MRS\1\0" + struct.pack(">qq", len(keys), 0) + body)


def write_mrs_ranges(ranges):
    def wide(family, v):
        return (v | 0xffff << 32 if family == 4 else v).to_bytes(16, "big")
    body = b"\1" + struct.pack(">q", len(ranges)) + b"".join(wide(f, a) + wide(f, b) for f, a, b in ranges)
    return zstd(b"MRS\1\1" + struct.pack(">qq", len(ranges), 0) + body)


# ---- Protocol Buffers

def varint(p, at):
    v = shift = 0
    while True:
        c = p[at]
        at += 1
        v |= (c & 127) << shift
        shift += 7
        if c < 128:
            return v, at


def fields(p):
    at = 0
    while at < len(p):
        tag, at = varint(p, at)
        if tag & 7 == 0:
            v, at = varint(p, at)
        elif tag & 7 == 2:
            n, at = varint(p, at)
            v, at = p[at:at + n], at + n
        else:
            raise ValueError("wire type %d" % (tag & 7))
        yield tag >> 3, v


def put(number, v):
    def number_of(n):
        out = b""
        while n > 127:
            out += bytes([n & 127 | 128])
            n >>= 7
        return out + bytes([n])
    if isinstance(v, int):
        return number_of(number << 3) + number_of(v)
    return number_of(number << 3 | 2) + number_of(len(v)) + v


def read_dat(data):
    """{code: [the entries' fields]}; the first list of a code counts."""
    out = {}
    for number, entry in fields(data):
        if number == 1:
            f = list(fields(entry))
            code = next((v.decode().lower() for n, v in f if n == 1), "")
            out.setdefault(code, [dict_of(v) for n, v in f if n == 2])
    return out


def dict_of(entry):
    d = {}
    for n, v in fields(entry):
        d.setdefault(n, []).append(v)
    return d


def read_geosite(data):
    """{code: [(type, value, {attributes})]}"""
    return {code: [(d.get(1, [0])[-1], d.get(2, [b""])[-1].decode(),
                    {dict_of(a).get(1, [b""])[0].decode().lower() for a in d.get(3, [])}) for d in entries]
            for code, entries in read_dat(data).items()}


def read_geoip(data):
    """{code: [network]}"""
    return {code: [ipaddress.ip_network((d[1][-1], d.get(2, [0])[-1]), strict=False) for d in entries]
            for code, entries in read_dat(data).items()}


def write_geosite(lists):
    out = b""
    for code, entries in lists.items():
        body = put(1, code.upper().encode())
        for kind, value, attributes in entries:
            d = put(1, kind) if kind else b""
            body += put(2, d + put(2, value.encode()) + b"".join(put(3, put(1, a.encode()) + put(2, 1)) for a in sorted(attributes)))
        out += put(1, body)
    return out


def write_geoip(lists):
    out = b""
    for code, networks in lists.items():
        out += put(1, put(1, code.upper().encode()) + b"".join(
            put(2, put(1, n.network_address.packed) + (put(2, n.prefixlen) if n.prefixlen else b"")) for n in networks))
    return out


# ---- MaxMind databases

def mmdb_value(p, at, base=0):
    """One value of a data section and the place behind it."""
    c = p[at]
    kind, size, at = c >> 5, c & 31, at + 1
    if kind == 1:
        n = (c >> 3 & 3) + 1
        v = int.from_bytes(p[at:at + n], "big")
        v += {1: (c & 7) << 8, 2: ((c & 7) << 16) + 2048, 3: ((c & 7) << 24) + 526336, 4: 0}[n]
        return mmdb_value(p, v)[0], at + n
    if kind == 0:
        kind, at = 7 + p[at], at + 1
    if size >= 29:
        n = size - 28
        size = int.from_bytes(p[at:at + n], "big") + (29, 285, 65821)[n - 1]
        at += n
    if kind == 7:
        out = {}
        for _ in range(size):
            k, at = mmdb_value(p, at)
            out[k], at = mmdb_value(p, at)
        return out, at
    if kind == 11:
        out = []
        for _ in range(size):
            v, at = mmdb_value(p, at)
            out.append(v)
        return out, at
    if kind == 14:
        return bool(size), at
    v = p[at:at + size]
    return (v.decode() if kind == 2 else int.from_bytes(v, "big") if kind in (5, 6, 9, 10) else v), at + size


def codes_of(kind, record):
    """Codes or numbers that a record stands for."""
    if isinstance(record, str):
        return [record.lower()]
    if isinstance(record, list):
        return [c.lower() for c in record]
    if "autonomous_system_number" in record:
        return [str(record["autonomous_system_number"])]
    code = record.get("country", {}).get("iso_code")
    return [code.lower()] if code else []


def read_mmdb(data):
    """(database type, {code: [network]}); the aliases of IPv4 in the IPv6 space are left out."""
    mark = b"\xab\xcd\xefMaxMind.com"
    meta = mmdb_value(data[data.rindex(mark) + len(mark):], 0)[0]
    nodes, bits = meta["node_count"], meta["record_size"]
    section = data[nodes * bits // 4 + 16:]
    out, records = {}, {}

    def child(node, right):
        p = data[node * bits // 4:(node + 1) * bits // 4]
        if bits == 28:
            p = bytes([p[3] & 15]) + p[4:] if right else bytes([p[3] >> 4]) + p[:3]
        else:
            p = p[bits // 8:] if right else p[:bits // 8]
        return int.from_bytes(p, "big")

    def walk(node, width, skip):
        todo = [(node, 0, 0)]
        while todo:
            at, value, depth = todo.pop()
            if at == nodes or (at == skip and depth):
                continue
            if at < nodes:
                todo += [(child(at, right), value << 1 | right, depth + 1) for right in (0, 1)]
                continue
            if at not in records:
                records[at] = codes_of(meta["database_type"], mmdb_value(section, at - nodes - 16)[0])
            address = (ipaddress.IPv4Address if width == 32 else ipaddress.IPv6Address)(value << width - depth)
            for code in records[at]:
                out.setdefault(code, []).append(ipaddress.ip_network((address, depth)))

    v4 = 0
    if meta["ip_version"] == 6:
        for _ in range(96):
            v4 = child(v4, 0) if v4 < nodes else v4
        walk(0, 128, v4)
    walk(v4, 32, None)
    return meta["database_type"], out


def mmdb_put(v):
    def head(kind, size):
        extra = b""
        if size >= 29:
            size, extra = (29, bytes([size - 29])) if size < 285 else (30, (size - 285).to_bytes(2, "big"))
        return (bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])) + extra
    if isinstance(v, str):
        return head(2, len(v.encode())) + v.encode()
    if isinstance(v, int):
        b = v.to_bytes((v.bit_length() + 7) // 8, "big")
        return head(6, len(b)) + b
    if isinstance(v, list):
        return head(11, len(v)) + b"".join(map(mmdb_put, v))
    return head(7, len(v)) + b"".join(mmdb_put(k) + mmdb_put(x) for k, x in v.items())


def write_mmdb(kind, records, bits):
    """records: [(network, value)], apart from each other."""
    tree, data, at = [[None, None]], b"", {}
    for network, value in records:
        key = repr(value)
        if key not in at:
            at[key] = len(data)
            data += mmdb_put(value)
        number = int(network.network_address)
        path = [number >> network.max_prefixlen - 1 - i & 1 for i in range(network.prefixlen)]
        path = [0] * 96 + path if network.version == 4 else path
        node = 0
        for bit in path[:-1]:
            if tree[node][bit] is None:
                tree[node][bit] = len(tree)
                tree.append([None, None])
            node = tree[node][bit]
        tree[node][path[-1]] = ("data", at[key])
    nodes = len(tree)
    out = b""
    for pair in tree:
        a, b = (nodes if c is None else nodes + 16 + c[1] if isinstance(c, tuple) else c for c in pair)
        if bits == 28:
            out += (a & 0xffffff).to_bytes(3, "big") + bytes([a >> 24 << 4 | b >> 24]) + (b & 0xffffff).to_bytes(3, "big")
        else:
            out += a.to_bytes(bits // 8, "big") + b.to_bytes(bits // 8, "big")
    meta = {"node_count": nodes, "record_size": bits, "ip_version": 6, "database_type": kind}
    return out + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + mmdb_put(meta)
