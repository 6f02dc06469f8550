/* SPDX-License-Identifier: MIT */
/* Rule sets in text (spec/config.md 10): lines, YAML lists and inline payloads of the three behaviours. What can be
 * looked up at once (names, suffixes, keywords, prefixes) goes into the image's tables, also out of classical sets; the
 * rest stays as lines for the worker, which knows the rule types. Called by main.c. Entries that are not valid are left
 * out with a warning, as the reference does. */
#include "worker/loader/ruleset.h"

#include <stdio.h>
#include <string.h>

#include "common/config_tree.h"
#include "common/log.h"
#include "common/strutil.h"

enum { FIELDS_MAX = 16 };

struct reader {
	struct image_builder *b;
	const struct ruleset_job *job;
	unsigned line;		/* of the file, from 1; 0: it has none */
	unsigned warnings;
};

static void
warn(struct reader *r, const char *what, const char *s, size_t n)
{
	char line[24] = "";

	if (r->warnings++ >= RULESET_WARNINGS_MAX)
		return;
	if (r->line > 0)
		(void)snprintf(line, sizeof line, " line %u:", r->line);
	log_warn("rule-provider %s:%s %s [%.*s]", r->job->name, line, what, n < 256 ? (int)n : 256, s);
}

/* ---- entries */

static void
take_domain(struct reader *r, const char *s, size_t n)
{
	if (image_add_pattern(r->b, s, n))
		image_count(r->b, 1);
	else
		warn(r, "invalid domain:", s, n);
}

/* "ip/bits", or one address. */
static bool
read_prefix(struct prefix *p, const char *s, size_t n)
{
	char text[ADDR_TEXT_MAX];

	if (n == 0 || n >= sizeof text)
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	if (prefix_parse(p, text) == 0)
		return true;
	if (ip_parse(&p->ip, text) != 0)
		return false;
	p->bits = p->ip.family == 4 ? 32 : 128;
	return true;
}

static void
take_ipcidr(struct reader *r, const char *s, size_t n)
{
	struct prefix p;

	if (!read_prefix(&p, s, n)) {
		warn(r, "invalid Ipcidr:", s, n);
		return;
	}
	image_add_prefix(r->b, &p, false);
	image_count(r->b, 1);
}

static bool
is_ascii(const char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s >= 0x80)
			return false;
	return true;
}

/* "TYPE", payload and parameters; true when the rule went into a table. */
static bool
index_rule(struct reader *r, const char *type, char *payload, char *const *param, int n)
{
	bool src = strcmp(type, "SRC-IP-CIDR") == 0, asks = !src;
	size_t len = strlen(payload);
	struct prefix p;

	if (strcmp(type, "DOMAIN") == 0)
		return is_ascii(payload) && image_add_name(r->b, payload, len, IMAGE_HERE);
	if (strcmp(type, "DOMAIN-SUFFIX") == 0)
		return is_ascii(payload) && image_add_name(r->b, payload, len, IMAGE_HERE | IMAGE_BELOW);
	if (strcmp(type, "DOMAIN-KEYWORD") == 0) {
		if (len == 0 || !is_ascii(payload))
			return false;
		str_lower(payload);
		image_add_word(r->b, payload, len);
		return true;
	}
	if ((!src && strcmp(type, "IP-CIDR") != 0 && strcmp(type, "IP-CIDR6") != 0) || prefix_parse(&p, payload) != 0)
		return false;
	for (int i = 0; i < n && !src; i++) {
		if (strcmp(param[i], "src") == 0)
			src = true;
		if (src || strcmp(param[i], "no-resolve") == 0)
			asks = false;
	}
	if (asks)
		image_set_flags(r->b, IMAGE_WANTS_IP);
	image_add_prefix(r->b, &p, src);
	return true;
}

static void
take_classical(struct reader *r, const char *s, size_t n)
{
	char text[RULESET_LINE_MAX], *field[FIELDS_MAX], *next = text;
	int fields = 0;
	char *comma;

	if (n >= sizeof text || memchr(s, '\0', n) != NULL || memchr(s, ',', n) == NULL) {
		warn(r, "parse rule error:", s, n);
		return;
	}
	memcpy(text, s, n);
	text[n] = '\0';
	for (; next != NULL && fields < FIELDS_MAX; next = comma) {
		comma = strchr(next, ',');
		if (comma != NULL)
			*comma++ = '\0';
		field[fields++] = str_trim(next);
	}
	for (char *c = field[0]; *c != '\0'; c++)
		*c = (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
	if (index_rule(r, field[0], field[1], field + 2, fields - 2))
		image_count(r->b, 1);
	else
		image_add_line(r->b, s, n);
}

static void
take(struct reader *r, const char *s, size_t n)
{
	if (r->job->kind == IMAGE_DOMAIN)
		take_domain(r, s, n);
	else if (r->job->kind == IMAGE_IPCIDR)
		take_ipcidr(r, s, n);
	else
		take_classical(r, s, n);
}

/* ---- formats */

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next line of the input from *at on, trimmed when asked. */
static bool
next_line(struct reader *r, size_t *at, bool trim, const char **line, size_t *len)
{
	const char *p = r->job->p, *end;
	size_t n = r->job->n;

	if (*at >= n)
		return false;
	r->line++;
	*line = p + *at;
	end = memchr(*line, '\n', n - *at);
	*len = end != NULL ? (size_t)(end - *line) : n - *at;
	*at += *len + 1;
	for (; trim && *len > 0 && is_space((*line)[0]); (*len)--)
		(*line)++;
	while (trim && *len > 0 && is_space((*line)[*len - 1]))
		(*len)--;
	return true;
}

/* Many servers answer with a page or an object that says what is wrong; neither can begin a list. */
static int
refuse_page(const struct reader *r, struct cfg_err *err)
{
	const char *p = r->job->p;
	size_t n = r->job->n;

	for (; n > 0 && is_space(*p); n--)
		p++;
	if (n == 0 || (*p != '<' && *p != '{'))
		return 0;
	return cfg_fail(err, NULL, NULL, "this is a page and no list of rules: %.*s", n < 40 ? (int)n : 40, p);
}

static int
read_text(struct reader *r, struct cfg_err *err)
{
	const char *line;
	size_t at = 0, len;

	if (refuse_page(r, err) != 0)
		return -E_INVAL;
	while (next_line(r, &at, true, &line, &len))
		if (len > 0 && line[0] != '#' && !(len > 1 && line[0] == '/' && line[1] == '/'))
			take(r, line, len);
	return 0;
}

static int
read_yaml(struct reader *r, struct cfg_err *err)
{
	char item[RULESET_LINE_MAX];
	const char *line;
	size_t at = 0, len;
	bool head = false;

	while (next_line(r, &at, false, &line, &len)) {
		int n;

		if (!head) {
			head = yaml_head(line, len, "payload") || yaml_head(line, len, "rules");
			continue;
		}
		n = yaml_item(line, len, item);
		if (n > 0)
			take(r, item, (size_t)n);
	}
	if (!head)
		return cfg_fail(err, NULL, NULL, "file must have a `payload` field");
	return 0;
}

static int
read_inline(struct reader *r, struct cfg_err *err)
{
	struct tree t;
	int rc = tree_from_memory(&t, r->job->p, r->job->n, err);

	if (rc != 0)
		return rc;
	cfg_each(c, cfg_get(cfg_get(t.root, "rule-providers"), r->job->name)) {
		if (!str_equal(cfg_key(c), "payload"))
			continue;
		cfg_each(item, c)
			if (cfg_text(item) != NULL)
				take(r, cfg_text(item), strlen(cfg_text(item)));
	}
	return 0;
}

static int
read_any(struct reader *r, struct cfg_err *err)
{
	const struct ruleset_job *j = r->job;

	if (j->kind >= IMAGE_GEOSITE) {
		if (j->format == FORMAT_DAT && j->kind != IMAGE_ASN)
			return geodat_read(r->b, j, err);
		if (j->format == FORMAT_MMDB && j->kind != IMAGE_GEOSITE)
			return mmdb_read(r->b, j, err);
		return cfg_fail(err, NULL, NULL, "invalid format");
	}
	switch (j->format) {
	case FORMAT_TEXT:
		return read_text(r, err);
	case FORMAT_YAML:
		return read_yaml(r, err);
	case FORMAT_INLINE:
		return read_inline(r, err);
	case FORMAT_MRS:
		return mrs_read(r->b, j, err);
	default:
		return cfg_fail(err, NULL, NULL, "invalid format");
	}
}

int
ruleset_compile(const struct ruleset_job *job, int *fd, uint32_t *count, struct cfg_err *err)
{
	struct reader r = { .b = image_begin(job->kind), .job = job };
	int rc;

	if (r.b == NULL)
		return -E_NOMEM;
	rc = read_any(&r, err);
	if (r.warnings > RULESET_WARNINGS_MAX)
		log_warn("rule-provider %s: %u entries are not valid and left out", job->name, r.warnings);
	if (rc == 0 && r.warnings > 0 && job->format != FORMAT_INLINE && image_empty(r.b))
		rc = cfg_fail(err, NULL, NULL, "none of its %u entries is valid", r.warnings);
	if (rc != 0) {
		image_abandon(r.b);
		return rc;
	}
	*count = image_counted(r.b);
	return image_finish(r.b, fd);
}
