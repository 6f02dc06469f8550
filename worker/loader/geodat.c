/* SPDX-License-Identifier: MIT */
/* geosite.dat and geoip.dat, spec/config.md 13.2: Protocol Buffers messages of which only the fields named there are
 * read, the others skipped by their wire type. One list or country of the file becomes an image. Called by ruleset.c. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/config_tree.h"
#include "common/log.h"
#include "worker/loader/ruleset.h"

enum { ATTRS_MAX = 8, ATTR_MAX = 64, CODE_MAX = 256 };
enum { SITE_PLAIN, SITE_REGEX, SITE_ROOT, SITE_FULL };	/* Domain.type */

struct msg {
	const uint8_t *p;
	size_t n;
};
struct field {
	uint32_t number, wire;
	uint64_t v;		/* wire 0 */
	struct msg m;		/* wire 2 */
};
struct filter {
	char code[CODE_MAX], attr[ATTRS_MAX][ATTR_MAX];
	int n;
};

static int
varint(struct msg *m, uint64_t *out)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && m->n > 0; shift += 7) {
		uint8_t c = *m->p;

		m->p++;
		m->n--;
		v |= (uint64_t)(c & 0x7f) << shift;
		if ((c & 0x80) == 0) {
			*out = v;
			return 0;
		}
	}
	return -E_PROTO;
}

/* The next field; -E_EOF at the end. */
static int
next(struct msg *m, struct field *f)
{
	uint64_t tag, len;

	if (m->n == 0)
		return -E_EOF;
	if (varint(m, &tag) != 0 || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
		return -E_PROTO;
	*f = (struct field){ .number = (uint32_t)(tag >> 3), .wire = tag & 7 };
	switch (f->wire) {
	case 0:
		return varint(m, &f->v);
	case 1:
		len = 8;
		break;
	case 2:
		if (varint(m, &len) != 0)
			return -E_PROTO;
		break;
	case 5:
		len = 4;
		break;
	default:
		return -E_PROTO;
	}
	if (len > m->n)
		return -E_PROTO;
	f->m = (struct msg){ m->p, (size_t)len };
	m->p += len;
	m->n -= (size_t)len;
	return 0;
}

/* The first field of a number that holds bytes; false: none. */
static bool
find_bytes(struct msg m, uint32_t number, struct msg *out)
{
	struct field f;

	while (next(&m, &f) == 0)
		if (f.number == number && f.wire == 2) {
			*out = f.m;
			return true;
		}
	return false;
}

static bool
text_is(struct msg m, const char *s)
{
	return m.n == strlen(s) && strncasecmp((const char *)m.p, s, m.n) == 0;
}

/* The first entry of the list whose country_code is code. The others are only stepped over, to the end: a file that is cut
 * off is refused whatever was asked for. 0, -E_NOTFOUND, -E_PROTO. */
static int
find_entry(struct msg list, const char *code, struct msg *out)
{
	bool found = false;
	struct field f;
	struct msg name;
	int rc;

	while ((rc = next(&list, &f)) == 0)
		if (!found && f.number == 1 && f.wire == 2 && find_bytes(f.m, 1, &name) && text_is(name, code)) {
			*out = f.m;
			found = true;
		}
	if (rc != -E_EOF)
		return rc;
	return found ? 0 : -E_NOTFOUND;
}

/* "list@attr@attr" */
static int
read_filter(struct filter *f, const char *s)
{
	size_t n = strcspn(s, "@");

	memset(f, 0, sizeof *f);
	while (n > 0 && s[n - 1] == ' ')
		n--;
	if (n == 0 || n >= sizeof f->code)
		return -E_INVAL;
	memcpy(f->code, s, n);
	for (s += strcspn(s, "@"); *s == '@'; s += n) {
		s++;
		s += strspn(s, " ");
		n = strcspn(s, "@");
		if (n == 0)
			continue;
		if (f->n == ATTRS_MAX || n >= ATTR_MAX)
			return -E_INVAL;
		memcpy(f->attr[f->n], s, n);
		for (size_t k = n; k > 0 && s[k - 1] == ' '; k--)
			f->attr[f->n][k - 1] = '\0';
		f->n++;
	}
	return 0;
}

/* Every attribute asked for is among the domain's. */
static bool
passes(const struct filter *f, struct msg domain)
{
	for (int i = 0; i < f->n; i++) {
		struct msg m = domain, key;
		struct field a;
		bool found = false;

		while (!found && next(&m, &a) == 0)
			found = a.number == 3 && a.wire == 2 && find_bytes(a.m, 1, &key) && text_is(key, f->attr[i]);
		if (!found)
			return false;
	}
	return true;
}

static void
add_line(struct image_builder *b, const char *type, struct msg value)
{
	char line[RULESET_LINE_MAX];
	int n = snprintf(line, sizeof line, "%s,%.*s", type, value.n < sizeof line ? (int)value.n : 0, (const char *)value.p);

	if (n > 0 && (size_t)n < sizeof line)
		image_add_line(b, line, (size_t)n);
}

static void
add_site(struct image_builder *b, uint64_t type, struct msg value)
{
	const char *s = (const char *)value.p;

	if (value.n == 0 || memchr(s, '\0', value.n) != NULL)
		return;
	if (type == SITE_PLAIN)
		image_add_word(b, s, value.n);
	else if (type == SITE_REGEX)
		add_line(b, "DOMAIN-REGEX", value);
	else if ((type == SITE_ROOT || type == SITE_FULL) &&
	    !image_add_name(b, s, value.n, type == SITE_ROOT ? IMAGE_HERE | IMAGE_BELOW : IMAGE_HERE))
		add_line(b, type == SITE_ROOT ? "DOMAIN-SUFFIX" : "DOMAIN", value);
	image_count(b, 1);
}

static int
read_site(struct image_builder *b, const struct ruleset_job *job, struct cfg_err *err)
{
	struct msg entry;
	struct filter filter;
	struct field f;
	int rc;

	if (read_filter(&filter, job->name) != 0)
		return cfg_fail(err, NULL, NULL, "empty listname in rule: %.200s", job->name);
	rc = find_entry((struct msg){ (const uint8_t *)job->p, job->n }, filter.code, &entry);
	if (rc == -E_NOTFOUND)
		return cfg_fail(err, NULL, NULL, "list %.200s not found in GeoSite.dat", filter.code);
	while (rc == 0 && (rc = next(&entry, &f)) == 0) {
		struct msg m = f.m, value = { NULL, 0 };
		uint64_t type = SITE_PLAIN;
		struct field d;

		if (f.number != 2 || f.wire != 2 || !passes(&filter, f.m))
			continue;
		while ((rc = next(&m, &d)) == 0) {
			if (d.number == 1 && d.wire == 0)
				type = d.v;
			else if (d.number == 2 && d.wire == 2)
				value = d.m;
		}
		rc = rc == -E_EOF ? 0 : rc;
		if (rc == 0)
			add_site(b, type, value);
	}
	if (rc == -E_EOF && filter.n > 0 && image_counted(b) == 0)
		log_warn("GEOSITE,%s: no domain of the list has the attribute", job->name);
	return rc == -E_EOF ? 0 : rc;
}

static int
read_ip(struct image_builder *b, const struct ruleset_job *job, struct cfg_err *err)
{
	struct msg entry;
	struct field f;
	int rc = find_entry((struct msg){ (const uint8_t *)job->p, job->n }, job->name, &entry);

	if (rc == -E_NOTFOUND)
		return cfg_fail(err, NULL, NULL, "country code %.200s not found in GeoIP.dat", job->name);
	while (rc == 0 && (rc = next(&entry, &f)) == 0) {
		struct msg m = f.m, ip = { NULL, 0 };
		struct prefix p = { .bits = 0 };
		uint64_t bits = 0;
		struct field c;

		if (f.number != 2 || f.wire != 2)
			continue;
		while ((rc = next(&m, &c)) == 0) {
			if (c.number == 1 && c.wire == 2)
				ip = c.m;
			else if (c.number == 2 && c.wire == 0)
				bits = c.v;
		}
		rc = rc == -E_EOF ? 0 : rc;
		if (rc == 0 && ((ip.n != 4 && ip.n != 16) || bits > ip.n * 8))
			return cfg_fail(err, NULL, NULL, "error when loading GeoIP: invalid IP");
		if (rc == 0) {
			p.ip.family = ip.n == 4 ? 4 : 6;
			memcpy(p.ip.b, ip.p, ip.n);
			p.bits = (uint8_t)bits;
			image_add_prefix(b, &p, false);
			image_count(b, 1);
		}
	}
	return rc == -E_EOF ? 0 : rc;
}

int
geodat_read(struct image_builder *b, const struct ruleset_job *job, struct cfg_err *err)
{
	int rc = job->kind == IMAGE_GEOSITE ? read_site(b, job, err) : read_ip(b, job, err);

	if (rc == -E_PROTO)
		(void)cfg_fail(err, NULL, NULL, "the file is damaged");
	return rc;
}
