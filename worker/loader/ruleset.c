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

enum { FIELDS_MAX = 16, PAGE_SHOWN = 40 };

struct reader {
	const struct ruleset_job *job;
	ruleset_entry_cb *entry;
	void *arg;
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
	log_warn("%s%s:%s %s [%.*s]", r->job->is_file ? "" : "rule-provider ", r->job->name, line, what,
	    n < 256 ? (int)n : 256, s);
}

static void
take(struct reader *r, const char *s, size_t n)
{
	const char *why = r->entry(r->arg, s, n);

	if (why != NULL)
		warn(r, why, s, n);
}

/* ---- entries */

static const char *
take_domain(void *arg, const char *s, size_t n)
{
	if (!image_add_pattern(arg, s, n))
		return "invalid domain:";
	image_count(arg, 1);
	return NULL;
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

static const char *
take_ipcidr(void *arg, const char *s, size_t n)
{
	struct prefix p;

	if (!read_prefix(&p, s, n))
		return "invalid Ipcidr:";
	image_add_prefix(arg, &p, false);
	image_count(arg, 1);
	return NULL;
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
index_rule(struct image_builder *b, const char *type, char *payload, char *const *param, int n)
{
	bool src = strcmp(type, "SRC-IP-CIDR") == 0, asks = !src;
	size_t len = strlen(payload);
	struct prefix p;

	if (strcmp(type, "DOMAIN") == 0)
		return is_ascii(payload) && image_add_name(b, payload, len, IMAGE_HERE);
	if (strcmp(type, "DOMAIN-SUFFIX") == 0)
		return is_ascii(payload) && image_add_name(b, payload, len, IMAGE_HERE | IMAGE_BELOW);
	if (strcmp(type, "DOMAIN-KEYWORD") == 0) {
		if (len == 0 || !is_ascii(payload))
			return false;
		str_lower(payload);
		image_add_word(b, payload, len);
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
		image_set_flags(b, IMAGE_WANTS_IP);
	image_add_prefix(b, &p, src);
	return true;
}

static const char *
take_classical(void *arg, const char *s, size_t n)
{
	char text[RULESET_LINE_MAX], *field[FIELDS_MAX], *next = text;
	int fields = 0;
	char *comma;

	if (n >= sizeof text || memchr(s, '\0', n) != NULL || memchr(s, ',', n) == NULL)
		return "parse rule error:";
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
	if (index_rule(arg, field[0], field[1], field + 2, fields - 2))
		image_count(arg, 1);
	else
		image_add_line(arg, s, n);
	return NULL;
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
	size_t n = r->job->n, shown = 0;
	uint32_t line = 1;

	for (; n > 0 && is_space(*p); n--)
		line += *p++ == '\n';
	if (n == 0 || (*p != '<' && *p != '{'))
		return 0;
	while (shown < n && shown < PAGE_SHOWN && (unsigned char)p[shown] >= ' ' && p[shown] != 0x7f)
		shown++;
	(void)cfg_fail(err, NULL, NULL, "this is a page and no list of rules: %.*s", (int)shown, p);
	if (err != NULL)
		err->line = line;
	return -E_INVAL;
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

int
ruleset_each(const struct ruleset_job *job, ruleset_entry_cb *entry, void *arg, unsigned *bad, struct cfg_err *err)
{
	struct reader r = { .job = job, .entry = entry, .arg = arg };
	int rc;

	switch (job->format) {
	case FORMAT_TEXT:
		rc = read_text(&r, err);
		break;
	case FORMAT_YAML:
		rc = read_yaml(&r, err);
		break;
	case FORMAT_INLINE:
		rc = read_inline(&r, err);
		break;
	default:
		return cfg_fail(err, NULL, NULL, "invalid format");
	}
	if (r.warnings > RULESET_WARNINGS_MAX)
		log_warn(
		    "%s%s: %u entries are not valid and left out", job->is_file ? "" : "rule-provider ", job->name, r.warnings);
	*bad = r.warnings;
	return rc;
}

int
ruleset_read(struct image_builder *b, const struct ruleset_job *j, struct cfg_err *err)
{
	static ruleset_entry_cb *const takers[] = {
		[IMAGE_DOMAIN] = take_domain, [IMAGE_IPCIDR] = take_ipcidr, [IMAGE_CLASSICAL] = take_classical
	};
	unsigned bad = 0;
	int rc;

	if (j->kind >= IMAGE_GEOSITE) {
		if (j->format == FORMAT_DAT && j->kind != IMAGE_ASN)
			return geodat_read(b, j, err);
		if (j->format == FORMAT_MMDB && j->kind != IMAGE_GEOSITE)
			return mmdb_read(b, j, err);
		return cfg_fail(err, NULL, NULL, "invalid format");
	}
	if (j->format == FORMAT_MRS)
		return mrs_read(b, j, err);
	rc = ruleset_each(j, takers[j->kind], b, &bad, err);
	if (rc == 0 && bad > 0 && j->format != FORMAT_INLINE && image_empty(b))
		rc = cfg_fail(err, NULL, NULL, "none of its %u entries is valid", bad);
	return rc;
}

int
ruleset_compile(const struct ruleset_job *job, int *fd, uint32_t *count, struct cfg_err *err)
{
	struct image_builder *b = image_begin(job->kind);
	int rc;

	if (b == NULL)
		return -E_NOMEM;
	rc = ruleset_read(b, job, err);
	if (rc != 0) {
		image_abandon(b);
		return rc;
	}
	*count = image_counted(b);
	return image_finish(b, fd);
}
