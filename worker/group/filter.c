/* SPDX-License-Identifier: MIT */
/* Name filters on PCRE2's interpreter with match limits; JIT is never used in workers. Called by groups and providers, which
 * own what filter_compile() gives. A match of a few plain words costs 0.1 us, of a look-around over the name 1 us. */
#include "worker/group/filter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "common/log.h"

enum { MATCH_LIMIT = 100000, DEPTH_LIMIT = 250, HEAP_LIMIT_KIB = 1024, GROUPS_MAX = 32, EXHAUSTED_MAX = 32 };

struct filter {
	int n;
	unsigned exhausted; /* matches that ran into the limits */
	pcre2_match_data *data;
	pcre2_match_context *limits;
	pcre2_code *code[];
};

/* .NET's [a-z-[aeiou]] compiles here, but with another meaning. */
static bool
has_subtraction(const char *s, size_t n)
{
	bool in_class = false;

	for (size_t i = 0; i < n; i++) {
		if (s[i] == '\\') {
			i++;
		} else if (!in_class && s[i] == '[') {
			in_class = true;
			i += i + 1 < n && s[i + 1] == '^' ? 1 : 0;
			i += i + 1 < n && s[i + 1] == ']' ? 1 : 0;
		} else if (in_class && s[i] == '-' && i + 1 < n && s[i + 1] == '[') {
			return true;
		} else if (in_class && s[i] == ']') {
			in_class = false;
		}
	}
	return false;
}

static int
compile_one(struct filter *f, const char *s, size_t n, const char *key, const struct cfg_node *node, struct cfg_err *err)
{
	pcre2_compile_context *ctx = pcre2_compile_context_create(NULL);
	PCRE2_UCHAR text[160];
	PCRE2_SIZE at = 0;
	int code = 0;

	if (ctx == NULL)
		return cfg_fail(err, node, key, "out of memory");
	if (has_subtraction(s, n)) {
		pcre2_compile_context_free(ctx);
		return cfg_fail(
		    err, node, key, "invalid %s regex: set subtraction is not supported: %.*s", key, n > 100 ? 100 : (int)n, s);
	}
	(void)pcre2_set_compile_extra_options(ctx, PCRE2_EXTRA_ALT_BSUX); /* \uXXXX as in .NET */
	f->code[f->n] = pcre2_compile((PCRE2_SPTR)s, n, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, ctx);
	pcre2_compile_context_free(ctx);
	if (f->code[f->n] == NULL) {
		(void)pcre2_get_error_message(code, text, sizeof(text));
		return cfg_fail(err, node, key, "invalid %s regex: %s at character %zu of %.*s", key, (const char *)text,
		    (size_t)at, n > 100 ? 100 : (int)n, s);
	}
	f->n++;
	return 0;
}

static struct filter *
filter_new(int cap)
{
	struct filter *f = calloc(1, sizeof(*f) + (size_t)cap * sizeof(f->code[0]));

	if (f == NULL)
		fatal("out of memory: a filter");
	f->data = pcre2_match_data_create(GROUPS_MAX, NULL);
	f->limits = pcre2_match_context_create(NULL);
	if (f->data == NULL || f->limits == NULL)
		fatal("out of memory: a filter");
	(void)pcre2_set_match_limit(f->limits, MATCH_LIMIT);
	(void)pcre2_set_depth_limit(f->limits, DEPTH_LIMIT);
	(void)pcre2_set_heap_limit(f->limits, HEAP_LIMIT_KIB);
	return f;
}

int
filter_compile(const char *text, const char *key, const struct cfg_node *node, struct filter **out, struct cfg_err *err)
{
	struct filter *f;
	int cap = 1;

	*out = NULL;
	if (text[0] == '\0')
		return 0;
	for (const char *p = text; *p != '\0'; p++)
		cap += *p == '`';
	if (cap > FILTER_PATTERNS_MAX)
		return cfg_fail(err, node, key, "'%s' has more than %d patterns", key, FILTER_PATTERNS_MAX);
	f = filter_new(cap);
	for (const char *p = text;; p++) {
		size_t n = strcspn(p, "`");
		int rc = compile_one(f, p, n, key, node, err);

		if (rc != 0) {
			filter_free(f);
			return rc;
		}
		p += n;
		if (*p == '\0')
			break;
	}
	*out = f;
	return 0;
}

int
filter_compile_one(const char *text, const char *key, const struct cfg_node *node, struct filter **out, struct cfg_err *err)
{
	struct filter *f = filter_new(1);
	int rc = compile_one(f, text, strlen(text), key, node, err);

	*out = rc == 0 ? f : NULL;
	if (rc != 0)
		filter_free(f);
	return rc;
}

int
filter_count(const struct filter *f)
{
	return f != NULL ? f->n : 0;
}

/* The tree holds valid UTF-8 only: it is not checked again. A name that runs into the limits does not match; a pattern that runs
 * into them again and again would stall the loop for thousands of nodes: it is given up, once and for all names. */
bool
filter_match(struct filter *f, int i, const char *name)
{
	int rc;

	if (f->exhausted >= EXHAUSTED_MAX)
		return false;
	rc = pcre2_match(f->code[i], (PCRE2_SPTR)name, strlen(name), 0, PCRE2_NO_UTF_CHECK, f->data, f->limits);
	if ((rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT || rc == PCRE2_ERROR_HEAPLIMIT) &&
	    ++f->exhausted == EXHAUSTED_MAX)
		log_warn("a name filter takes too long and matches nothing from now on, first with %.100s", name);
	return rc >= 0;
}

bool
filter_match_any(struct filter *f, const char *name)
{
	for (int i = 0; i < filter_count(f); i++)
		if (filter_match(f, i, name))
			return true;
	return false;
}

/* ---- replacing: .NET's substitutions, $1 ${1} ${name} $0 $& $$ $` $' $+ $_; a group that is not there stays as it is written */

struct replacement {
	const struct filter *f;
	const char *subject;
	const PCRE2_SIZE *at; /* pairs of the present match */
	uint32_t pairs;
	char *out;
	size_t n, cap;
};

static bool
put(struct replacement *r, const char *s, size_t n)
{
	if (n >= r->cap - r->n)
		return false;
	memcpy(r->out + r->n, s, n);
	r->n += n;
	return true;
}

/* The number of a group by its digits or its name; -1: none of that. */
static int
group_number(const struct replacement *r, const char *s, size_t n)
{
	char name[64];
	int number = 0;

	if (n == 0 || n >= sizeof(name))
		return -1;
	for (size_t i = 0; i < n && number >= 0 && number < GROUPS_MAX; i++)
		number = s[i] >= '0' && s[i] <= '9' ? number * 10 + (s[i] - '0') : -1;
	if (number < 0) {
		memcpy(name, s, n);
		name[n] = '\0';
		number = pcre2_substring_number_from_name(r->f->code[0], (PCRE2_SPTR)name);
	}
	return number >= 0 && (uint32_t)number < r->pairs ? number : -1;
}

static bool
put_group(struct replacement *r, int number)
{
	PCRE2_SIZE from = r->at[2 * number], to = r->at[2 * number + 1];

	return from == PCRE2_UNSET || to < from || put(r, r->subject + from, to - from);
}

/* What "$..." at s stands for; *used: how much of it was read. */
static bool
put_substitution(struct replacement *r, const char *s, size_t *used)
{
	size_t digits = strspn(s + 1, "0123456789"), close = s[1] == '{' && strchr(s, '}') != NULL ? strcspn(s, "}") : 0;
	int number = digits > 0 ? group_number(r, s + 1, digits) : close > 0 ? group_number(r, s + 2, close - 2) : -1;

	*used = digits > 0 ? digits + 1 : close > 0 ? close + 1 : 2;
	if (number >= 0)
		return put_group(r, number);
	switch (s[1]) {
	case '$':
		return put(r, "$", 1);
	case '&':
		return put_group(r, 0);
	case '`':
		return put(r, r->subject, r->at[0]);
	case '\'':
		return put(r, r->subject + r->at[1], strlen(r->subject + r->at[1]));
	case '+':
		return put_group(r, (int)r->pairs - 1);
	case '_':
		return put(r, r->subject, strlen(r->subject));
	default:
		*used = 1;
		return put(r, "$", 1);
	}
}

static bool
put_target(struct replacement *r, const char *target)
{
	for (size_t n; *target != '\0'; target += n) {
		n = strcspn(target, "$");
		if (n > 0 ? !put(r, target, n) : !put_substitution(r, target, &n))
			return false;
	}
	return true;
}

/* After an empty match the next one is looked for a character further on, as in .NET. */
int
filter_replace(const struct filter *f, const char *name, const char *target, char *out, size_t cap)
{
	struct replacement r = { .f = f, .subject = name, .out = out, .cap = cap };
	size_t len = strlen(name), at = 0, copied = 0;
	uint32_t groups = 0;
	int rc;

	(void)pcre2_pattern_info(f->code[0], PCRE2_INFO_CAPTURECOUNT, &groups);
	r.pairs = groups < GROUPS_MAX ? groups + 1 : GROUPS_MAX;
	r.at = pcre2_get_ovector_pointer(f->data);
	while (at <= len && (rc = pcre2_match(f->code[0], (PCRE2_SPTR)name, len, at, 0, f->data, f->limits)) >= 0) {
		size_t from = r.at[0], to = r.at[1];

		if (to < from || from < copied) /* \K in a look-around */
			return -E_INVAL;
		if (!put(&r, name + copied, from - copied) || !put_target(&r, target))
			return -E_LIMIT;
		copied = at = to;
		if (to == from)
			do
				at++;
			while (at < len && ((unsigned char)name[at] & 0xc0) == 0x80);
	}
	if (at <= len && rc != PCRE2_ERROR_NOMATCH)
		return -E_INVAL;
	if (!put(&r, name + copied, len - copied))
		return -E_LIMIT;
	out[r.n] = '\0';
	return 0;
}

void
filter_free(struct filter *f)
{
	if (f == NULL)
		return;
	for (int i = 0; i < f->n; i++)
		pcre2_code_free(f->code[i]);
	pcre2_match_data_free(f->data);
	pcre2_match_context_free(f->limits);
	free(f);
}
