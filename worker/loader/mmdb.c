/* SPDX-License-Identifier: MIT */
/* MaxMind DB files (format 2.0), spec/config.md 13.3: the networks of one country code or one ASN become an image. The
 * tree is walked once; what a record means is asked once per record and remembered. Called by ruleset.c.
 *
 * In a tree of IPv6 the IPv4 networks hang at ::/96, and again at the ends of its mapped and 6to4 prefixes: those are
 * walked once, as IPv4. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/config_tree.h"
#include "worker/loader/ruleset.h"

enum { T_POINTER = 1, T_STRING = 2, T_UINT16 = 5, T_UINT32 = 6, T_MAP = 7, T_INT32 = 8, T_UINT64 = 9, T_ARRAY = 11, T_BOOL = 14 };
enum { META_MAX = 128 << 10, SKIP_DEPTH_MAX = 16, SKIP_STEPS_MAX = 4096, SEPARATOR = 16, TYPE_MAX = 128 };
enum db_type { DB_SING, DB_META, DB_COUNTRY, DB_ASN, DB_IPINFO };

struct db {
	const uint8_t *p;		/* the whole file */
	size_t n;
	const uint8_t *data;		/* of records */
	size_t data_n;
	uint32_t nodes, record_bits, ip_version;
	enum db_type type;
	const struct ruleset_job *job;
	struct image_builder *b;
	uint32_t v4_root;		/* a node, or a record */
	uint32_t steps;
	struct memo { uint32_t record; bool known, yes; } *memo;	/* direct mapped */
};
enum { MEMO = 1 << 14 };

struct value {
	unsigned type;
	uint64_t size;		/* bytes; of maps and arrays: elements; of booleans: the value */
	size_t at;		/* of the content, or of the first element */
};

/* ---- the data section. All offsets are within p[0..n). */

struct section {
	const uint8_t *p;
	size_t n;
};

static int
control(struct section s, size_t at, struct value *v)
{
	uint8_t c;
	unsigned extra;

	if (at >= s.n)
		return -E_PROTO;
	c = s.p[at++];
	v->type = c >> 5;
	if (v->type == T_POINTER) {
		unsigned size = c >> 3 & 3;
		uint64_t to = size < 3 ? c & 7 : 0;

		if (at + size + 1 > s.n)
			return -E_PROTO;
		for (unsigned i = 0; i <= size; i++)
			to = to << 8 | s.p[at + i];
		v->size = to + (size == 1 ? 2048 : size == 2 ? 526336 : 0);
		v->at = at + size + 1;
		return 0;
	}
	if (v->type == 0) {
		if (at >= s.n)
			return -E_PROTO;
		v->type = 7u + s.p[at++];
	}
	v->size = c & 31;
	if (v->size >= 29) {
		extra = (unsigned)v->size - 28;
		if (at + extra > s.n)
			return -E_PROTO;
		v->size = 0;
		for (unsigned i = 0; i < extra; i++)
			v->size = v->size << 8 | s.p[at + i];
		v->size += extra == 1 ? 29 : extra == 2 ? 285 : 65821;
		at += extra;
	}
	v->at = at;
	return 0;
}

static bool
holds_bytes(unsigned type)
{
	return type != T_MAP && type != T_ARRAY && type != T_BOOL && type != T_POINTER;
}

/* The value at an offset, one pointer followed; *next, if asked for, is where what stands behind it begins (scalars and
 * pointers only). */
static int
value_at(struct section s, size_t at, struct value *v, size_t *next)
{
	if (control(s, at, v) != 0)
		return -E_PROTO;
	if (v->type == T_POINTER) {
		if (next != NULL)
			*next = v->at;
		if (control(s, (size_t)v->size, v) != 0 || v->type == T_POINTER)
			return -E_PROTO;
		next = NULL;
	}
	if (holds_bytes(v->type) && v->size > s.n - v->at)
		return -E_PROTO;
	if (next != NULL)
		*next = v->at + (holds_bytes(v->type) ? (size_t)v->size : 0);
	return 0;
}

/* Where what stands behind the value at an offset begins. */
static int
skip(struct section s, size_t at, size_t *next, int depth, int *steps)
{
	struct value v;
	uint64_t items;

	if (depth > SKIP_DEPTH_MAX || ++*steps > SKIP_STEPS_MAX || control(s, at, &v) != 0)
		return -E_PROTO;
	if (v.type == T_POINTER || v.type == T_BOOL) {
		*next = v.at;
		return 0;
	}
	if (holds_bytes(v.type)) {
		*next = v.at + (size_t)v.size;
		return v.size <= s.n - v.at ? 0 : -E_PROTO;
	}
	items = v.type == T_MAP ? v.size * 2 : v.size;
	at = v.at;
	for (uint64_t i = 0; i < items; i++)
		if (skip(s, at, &at, depth + 1, steps) != 0)
			return -E_PROTO;
	*next = at;
	return 0;
}

/* The value of a key in the map at an offset; false: no map, no such key, or damage. */
static bool
map_find(struct section s, size_t at, const char *key, struct value *out, size_t *where)
{
	struct value map, k;
	int steps = 0;

	if (value_at(s, at, &map, NULL) != 0 || map.type != T_MAP)
		return false;
	at = map.at;
	for (uint64_t i = 0; i < map.size && i < SKIP_STEPS_MAX; i++) {
		size_t value;

		if (value_at(s, at, &k, &value) != 0 || k.type != T_STRING)
			return false;
		if (k.size == strlen(key) && memcmp(s.p + k.at, key, (size_t)k.size) == 0) {
			*where = value;
			return value_at(s, value, out, NULL) == 0;
		}
		if (skip(s, value, &at, 0, &steps) != 0)
			return false;
	}
	return false;
}

static uint64_t
number(struct section s, const struct value *v)
{
	uint64_t n = 0;

	if ((v->type != T_UINT16 && v->type != T_UINT32 && v->type != T_UINT64 && v->type != T_INT32) || v->size > 8)
		return 0;
	for (uint64_t i = 0; i < v->size; i++)
		n = n << 8 | s.p[v->at + i];
	return n;
}

static bool
text_is(struct section s, const struct value *v, const char *want)
{
	return v->type == T_STRING && v->size == strlen(want) &&
	    strncasecmp((const char *)s.p + v->at, want, (size_t)v->size) == 0;
}

/* ---- what a record means */

static bool
record_matches(const struct db *db, size_t at)
{
	struct section s = { db->data, db->data_n };
	const char *want = db->job->name;
	struct value v, item;
	char text[32];
	size_t where;

	switch (db->type) {
	case DB_SING:
	case DB_META:
		if (value_at(s, at, &v, NULL) != 0)
			return false;
		if (v.type == T_ARRAY) {
			where = v.at;
			for (uint64_t i = 0; i < v.size && i < SKIP_STEPS_MAX; i++) {
				if (value_at(s, where, &item, &where) != 0 || !holds_bytes(item.type))
					return false;
				if (text_is(s, &item, want))
					return true;
			}
			return false;
		}
		return text_is(s, &v, want);
	case DB_COUNTRY:
		return map_find(s, at, "country", &v, &where) && map_find(s, where, "iso_code", &v, &where) &&
		    text_is(s, &v, want);
	case DB_ASN:
		if (!map_find(s, at, "autonomous_system_number", &v, &where))
			return false;
		(void)snprintf(text, sizeof text, "%llu", (unsigned long long)number(s, &v));
		return strcmp(text, want) == 0;
	case DB_IPINFO:
		(void)snprintf(text, sizeof text, "AS%.24s", want);
		return map_find(s, at, "asn", &v, &where) && text_is(s, &v, text);
	}
	return false;
}

static bool
matches(struct db *db, uint32_t record)
{
	struct memo *m = &db->memo[record % MEMO];
	uint64_t at = (uint64_t)record - db->nodes;

	if (at < SEPARATOR || at - SEPARATOR >= db->data_n)
		return false;
	if (!m->known || m->record != record) {
		m->yes = record_matches(db, (size_t)at - SEPARATOR);
		m->record = record;
		m->known = true;
	}
	return m->yes;
}

/* ---- the tree */

static uint32_t
child(const struct db *db, uint32_t node, int right)
{
	const uint8_t *p = db->p + (size_t)node * (db->record_bits / 4);

	switch (db->record_bits) {
	case 24:
		p += right * 3;
		return (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
	case 28:
		if (right)
			return (uint32_t)(p[3] & 15) << 24 | (uint32_t)p[4] << 16 | (uint32_t)p[5] << 8 | p[6];
		return (uint32_t)(p[3] >> 4) << 24 | (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
	default:
		p += right * 4;
		return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	}
}

static void
set_bit(uint8_t *ip, unsigned i, int on)
{
	uint8_t mask = (uint8_t)(0x80 >> i % 8);

	ip[i / 8] = (uint8_t)(on ? ip[i / 8] | mask : ip[i / 8] & ~mask);
}

static void
emit(struct db *db, const uint8_t ip[static 16], unsigned bits, uint8_t family)
{
	struct prefix p = { .ip = { .family = family }, .bits = (uint8_t)bits };

	memcpy(p.ip.b, ip, family == 4 ? 4 : 16);
	image_add_prefix(db->b, &p, false);
	image_count(db->b, 1);
}

/* Everything under root, whose prefix is empty; family 6 leaves the IPv4 part out. Depth first, without recursion:
 * next[] tells which children of the path have been seen. */
static int
walk(struct db *db, uint32_t root, uint8_t family)
{
	unsigned width = family == 4 ? 32 : 128, depth = 0;
	uint32_t path[129];
	uint8_t next[129] = { 0 }, ip[16] = { 0 };

	path[0] = root;
	for (;;) {
		uint32_t at = path[depth];
		bool leaf = at >= db->nodes || (family == 6 && depth > 0 && at == db->v4_root);

		if (++db->steps > MMDB_STEPS_MAX || (!leaf && depth == width))
			return -E_PROTO;
		if (leaf && at > db->nodes && matches(db, at))
			emit(db, ip, depth, family);
		if (leaf || next[depth] == 2) {
			if (depth == 0)
				return 0;
			depth--;
			continue;
		}
		set_bit(ip, depth, next[depth]);	/* what is behind it is of no prefix */
		path[depth + 1] = child(db, at, next[depth]);
		next[depth]++;
		next[++depth] = 0;
	}
}

/* ---- the file */

static int
find_meta(struct db *db, struct section *meta)
{
	static const uint8_t mark[] = "\xab\xcd\xefMaxMind.com";
	size_t k = sizeof mark - 1, from = db->n > META_MAX ? db->n - META_MAX : 0;
	const uint8_t *found = NULL, *at = db->p + from;

	while ((at = memmem(at, db->n - (size_t)(at - db->p), mark, k)) != NULL) {	/* the last one counts */
		found = at;
		at++;
	}
	if (found == NULL)
		return -E_PROTO;
	*meta = (struct section){ found + k, db->n - (size_t)(found + k - db->p) };
	return 0;
}

static int
read_type(struct db *db, const char *type, struct cfg_err *err)
{
	if (db->job->kind == IMAGE_GEOIP) {
		db->type = strcmp(type, "sing-geoip") == 0 ? DB_SING : strcmp(type, "Meta-geoip0") == 0 ? DB_META : DB_COUNTRY;
		return 0;
	}
	if (strcmp(type, "GeoLite2-ASN") == 0 || strcmp(type, "DBIP-ASN-Lite (compat=GeoLite2-ASN)") == 0)
		db->type = DB_ASN;
	else if (strcmp(type, "ipinfo generic_asn_free.mmdb") == 0)
		db->type = DB_IPINFO;
	else
		return cfg_fail(err, NULL, NULL, "Unsupported ASN type: %.100s", type);
	return 0;
}

static int
open_db(struct db *db, struct cfg_err *err)
{
	struct section meta;
	struct value nodes, bits, version, type;
	char name[TYPE_MAX] = "";
	uint64_t tree;
	size_t where;

	if (find_meta(db, &meta) != 0 || !map_find(meta, 0, "node_count", &nodes, &where) ||
	    !map_find(meta, 0, "record_size", &bits, &where) || !map_find(meta, 0, "ip_version", &version, &where) ||
	    !map_find(meta, 0, "database_type", &type, &where) || type.type != T_STRING || type.size >= sizeof name)
		return -E_PROTO;
	memcpy(name, meta.p + type.at, (size_t)type.size);
	db->nodes = (uint32_t)number(meta, &nodes);
	db->record_bits = (uint32_t)number(meta, &bits);
	db->ip_version = (uint32_t)number(meta, &version);
	if ((db->record_bits != 24 && db->record_bits != 28 && db->record_bits != 32) ||
	    (db->ip_version != 4 && db->ip_version != 6) || db->nodes == 0)
		return -E_PROTO;
	tree = (uint64_t)db->nodes * (db->record_bits / 4);
	if (tree + SEPARATOR > (uint64_t)(meta.p - db->p))
		return -E_PROTO;
	db->data = db->p + tree + SEPARATOR;
	db->data_n = (size_t)(meta.p - db->data);
	return read_type(db, name, err);
}

int
mmdb_read(struct image_builder *b, const struct ruleset_job *job, struct cfg_err *err)
{
	struct db db = { .p = (const uint8_t *)job->p, .n = job->n, .job = job, .b = b };
	int rc = open_db(&db, err);

	db.memo = rc == 0 ? calloc(MEMO, sizeof *db.memo) : NULL;
	if (rc == 0 && db.memo == NULL)
		rc = -E_NOMEM;
	if (rc == 0 && db.ip_version == 6)
		for (int i = 0; i < 96 && db.v4_root < db.nodes; i++)
			db.v4_root = child(&db, db.v4_root, 0);
	if (rc == 0)
		rc = walk(&db, db.v4_root, 4);
	if (rc == 0 && db.ip_version == 6)
		rc = walk(&db, 0, 6);
	free(db.memo);
	if (rc == -E_PROTO)
		(void)cfg_fail(err, NULL, NULL, "the file is damaged or no MaxMind database");
	return rc;
}
