/* SPDX-License-Identifier: MIT */
/* See convert.h. What can be read is told by ruleset.c and mrs.c; here it is put in order and written. The input is as hostile as
 * any other: an entry that would read as something else in the new format is left out. */
#include "worker/loader/convert.h"

#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"
#include "common/memfd.h"
#include "common/strutil.h"

struct names {		/* domains, turned round by character */
	struct wire pool;
	struct mrs_name *name;
	size_t n, cap;
	uint32_t count;
	bool failed;
};
struct writer {
	struct wire out;
	uint32_t to;
	uint32_t lines;
};

/* ---- lines of text and YAML */

static void
put_line(struct writer *w, const char *front, const char *s, size_t n)
{
	bool yaml = w->to == FORMAT_YAML;

	wire_put(&w->out, yaml ? "  - '" : "", yaml ? 5 : 0);
	wire_put(&w->out, front, strlen(front));
	for (size_t i = 0; i < n; i++)
		wire_put(&w->out, yaml && s[i] == '\'' ? "''" : s + i, yaml && s[i] == '\'' ? 2 : 1);
	wire_put(&w->out, yaml ? "'\n" : "\n", yaml ? 2 : 1);
	w->lines++;
}

/* An entry that is one line of any format, no comment and no page, and the same when it has been turned round twice. */
static bool
is_plain(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			return false;
	return n > 0 && n < RULESET_LINE_MAX && utf8_valid(s, n) && strchr("#<{", s[0]) == NULL &&
	    !(n > 1 && s[0] == '/' && s[1] == '/');
}

/* ---- domains */

/* Writes s, valid UTF-8, to out with its characters in the other order. */
static void
turn_round(uint8_t *out, const void *s, size_t n)
{
	const char *in = s;

	out += n;
	for (size_t k; n > 0; in += k, n -= k) {
		k = utf8_length(in, n);
		out -= k;
		memcpy(out, in, k);
	}
}

/* "+." in front, turned round, is ".+" behind. */
static bool
add_name(struct names *all, bool below, const char *s, size_t n)
{
	struct mrs_name at = { (uint32_t)all->pool.len, (uint32_t)(below ? n + 2 : n) };

	if (all->n == all->cap) {
		size_t cap = all->cap < 1024 ? 1024 : all->cap * 2;
		struct mrs_name *name = cap <= IMAGE_ENTRIES_MAX ? realloc(all->name, cap * sizeof *name) : NULL;

		if (name == NULL) {
			all->failed = true;
			return false;
		}
		all->name = name;
		all->cap = cap;
	}
	wire_put(&all->pool, s, n);
	wire_put(&all->pool, ".+", below ? 2 : 0);
	if (all->pool.failed)
		return false;
	turn_round(all->pool.p + at.at, s, n);
	all->name[all->n++] = at;
	return true;
}

/* A pattern that can be written in any format: its name is a pattern by itself, too. */
static bool
read_pattern(const char *s, size_t n, char p[static IMAGE_PATTERN_MAX], const char **name, unsigned *flags)
{
	char alone[IMAGE_PATTERN_MAX];
	const char *same;
	unsigned here;

	if (!is_plain(s, n) || !image_read_pattern(s, n, p, name, flags))
		return false;
	n = strlen(*name);
	return *flags == 0 || (is_plain(*name, n) && image_read_pattern(*name, n, alone, &same, &here) && here == IMAGE_HERE);
}

static const char *
take_pattern(void *arg, const char *s, size_t n)
{
	struct names *all = arg;
	char p[IMAGE_PATTERN_MAX];
	const char *name;
	unsigned flags;

	if (!read_pattern(s, n, p, &name, &flags))
		return "invalid domain:";
	n = strlen(name);
	all->count++;
	if ((flags & IMAGE_HERE) != 0)
		(void)add_name(all, false, name, n);
	if ((flags & IMAGE_BELOW) != 0)
		(void)add_name(all, true, name, n);
	return NULL;
}

/* A name of an .mrs stands for itself: "+.a" there is not "a". One that no list can hold is left out. */
static bool
take_key(void *arg, const char *key, size_t n)
{
	char p[IMAGE_PATTERN_MAX];
	const char *name;
	unsigned flags;

	if (!read_pattern(key, n, p, &name, &flags) || (flags & IMAGE_HERE) == 0)
		return false;
	return add_name(arg, (flags & IMAGE_BELOW) != 0, name, strlen(name));
}

static int
compare(const uint8_t *a, size_t na, const uint8_t *b, size_t nb)
{
	int c = memcmp(a, b, na < nb ? na : nb);

	return c != 0 ? c : (na > nb) - (na < nb);
}

static int
by_bytes(const void *pa, const void *pb, void *pool)
{
	const struct mrs_name *a = pa, *b = pb;

	return compare((uint8_t *)pool + a->at, a->n, (uint8_t *)pool + b->at, b->n);
}

static void
sort_names(struct names *all)
{
	size_t n = 0;

	if (all->n == 0)
		return;
	qsort_r(all->name, all->n, sizeof *all->name, by_bytes, all->pool.p);
	for (size_t i = 1; i < all->n; i++)
		if (by_bytes(&all->name[n], &all->name[i], all->pool.p) != 0)
			all->name[++n] = all->name[i];
	all->n = n + 1;
}

static bool
has(const struct names *all, const uint8_t *p, size_t n)
{
	size_t lo = 0, hi = all->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = compare(p, n, all->pool.p + all->name[mid].at, all->name[mid].n);

		if (c == 0)
			return true;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return false;
}

/* "+.a" stands for "a" and "+.a" of the names, ".a" for "+.a" alone. */
static void
put_names(struct writer *w, const struct names *all)
{
	uint8_t s[IMAGE_PATTERN_MAX + 2], below[IMAGE_PATTERN_MAX + 4];

	for (size_t i = 0; i < all->n; i++) {
		const uint8_t *p = all->pool.p + all->name[i].at;
		size_t n = all->name[i].n;
		bool is_below = n > 2 && p[n - 1] == '+' && p[n - 2] == '.';
		const char *front = "";

		if (n > sizeof s)
			continue;
		memcpy(below, p, n);
		memcpy(below + n, ".+", 2);
		if (is_below) {
			n -= 2;
			front = has(all, p, n) ? "+." : ".";
		} else if (has(all, below, n + 2)) {
			continue;
		}
		turn_round(s, p, n);
		put_line(w, front, (const char *)s, n);
	}
}

static int
convert_domains(const struct ruleset_job *job, struct writer *w, uint32_t *count, struct cfg_err *err)
{
	struct names all = { .n = 0 };
	unsigned bad = 0;
	int rc;

	wire_init(&all.pool);
	rc = job->format == FORMAT_MRS ? mrs_each(job, take_key, &all, &all.count, err) :
	    ruleset_each(job, take_pattern, &all, &bad, err);
	if (rc == 0 && (all.failed || all.pool.failed))
		rc = -E_LIMIT;
	if (rc == 0 && all.n == 0)
		rc = cfg_fail(err, NULL, NULL, bad > 0 ? "none of its %u entries is valid" : "there is no entry in it", bad);
	if (rc == 0)
		sort_names(&all);
	if (rc == 0 && w->to == FORMAT_MRS)
		rc = mrs_write_domains(&w->out, all.pool.p, all.name, all.n, all.count);
	else if (rc == 0)
		put_names(w, &all);
	*count = w->to == FORMAT_MRS ? all.count : w->lines;
	wire_free(&all.pool);
	free(all.name);
	return rc;
}

/* ---- addresses */

static void
put_prefix(struct writer *w, unsigned __int128 a, uint8_t family, unsigned bits)
{
	struct prefix p = { .ip.family = family, .bits = (uint8_t)bits };
	unsigned width = family == 4 ? 4 : 16;
	char text[ADDR_TEXT_MAX];

	for (unsigned i = width; i-- > 0; a >>= 8)
		p.ip.b[i] = (uint8_t)a;
	(void)prefix_text(&p, text);
	put_line(w, "", text, strlen(text));
}

/* The fewest prefixes that make up a range. One that would be read as IPv4 (RFC 4291 2.5.5.2) is left out of an IPv6 range. */
static void
put_range(struct writer *w, const struct image_range6 *r, uint8_t family)
{
	unsigned __int128 at = (unsigned __int128)r->from[0] << 64 | r->from[1];
	unsigned __int128 to = (unsigned __int128)r->to[0] << 64 | r->to[1];
	unsigned width = family == 4 ? 32 : 128;

	for (;;) {
		unsigned host = 0;	/* bits that the prefix leaves open */
		unsigned __int128 mask = 0;

		while (host < width && (at & (mask << 1 | 1)) == 0 && (at | mask << 1 | 1) <= to) {
			mask = mask << 1 | 1;
			host++;
		}
		if (family == 4 || at >> 32 != 0xffff)
			put_prefix(w, at, family, width - host);
		if ((at | mask) >= to)
			return;
		at = (at | mask) + 1;
	}
}

static int
convert_addresses(const struct ruleset_job *job, struct writer *w, uint32_t *count, struct cfg_err *err)
{
	struct image_builder *b = image_begin(job->kind);
	int rc = b != NULL ? ruleset_read(b, job, err) : -E_NOMEM;
	size_t n4 = 0, n6 = 0;

	if (rc != 0)
		goto out;
	const struct image_range6 *r4 = image_ranges(b, 4, &n4), *r6 = image_ranges(b, 6, &n6);

	*count = image_counted(b);
	if (n4 + n6 == 0) {
		rc = cfg_fail(err, NULL, NULL, "there is no entry in it");
	} else if (w->to == FORMAT_MRS) {
		rc = mrs_write_ranges(&w->out, b, *count);
	} else {
		for (size_t i = 0; i < n4; i++)
			put_range(w, &r4[i], 4);
		for (size_t i = 0; i < n6; i++)
			put_range(w, &r6[i], 6);
		*count = w->lines;
	}
out:
	image_abandon(b);
	return rc;
}

/* ---- classical rules */

static const char *
take_rule(void *arg, const char *s, size_t n)
{
	if (!is_plain(s, n) || memchr(s, ',', n) == NULL)
		return "parse rule error:";
	put_line(arg, "", s, n);
	return NULL;
}

static int
convert_rules(const struct ruleset_job *job, struct writer *w, uint32_t *count, struct cfg_err *err)
{
	unsigned bad = 0;
	int rc;

	if (w->to == FORMAT_MRS || job->format == FORMAT_MRS)
		return cfg_fail(err, NULL, NULL, "classical rules have no form in .mrs");
	rc = ruleset_each(job, take_rule, w, &bad, err);
	if (rc == 0 && w->lines == 0)
		rc = cfg_fail(err, NULL, NULL, bad > 0 ? "none of its %u entries is valid" : "there is no entry in it", bad);
	*count = w->lines;
	return rc;
}

int
ruleset_convert(const struct ruleset_job *job, uint32_t to, int *fd, uint32_t *count, struct cfg_err *err)
{
	struct writer w = { .to = to };
	int rc = -E_INVAL;

	if (to < FORMAT_YAML || to > FORMAT_MRS || job->format < FORMAT_YAML || job->format > FORMAT_MRS)
		return cfg_fail(err, NULL, NULL, "invalid format");
	wire_init(&w.out);
	if (to == FORMAT_YAML)
		wire_put(&w.out, "payload:\n", 9);
	if (job->kind == IMAGE_DOMAIN)
		rc = convert_domains(job, &w, count, err);
	else if (job->kind == IMAGE_IPCIDR)
		rc = convert_addresses(job, &w, count, err);
	else if (job->kind == IMAGE_CLASSICAL)
		rc = convert_rules(job, &w, count, err);
	if (rc == 0 && w.out.failed)
		rc = -E_LIMIT;
	if (rc == 0) {
		*fd = memfd_from("converted", w.out.p, w.out.len);
		rc = *fd < 0 ? *fd : 0;
	}
	wire_free(&w.out);
	return rc;
}
