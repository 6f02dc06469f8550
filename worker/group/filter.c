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

enum { MATCH_LIMIT = 100000, DEPTH_LIMIT = 250, HEAP_LIMIT_KIB = 1024, GROUPS_MAX = 32, REPLACE_MAX = 1024, EXHAUSTED_MAX = 32 };

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

/* A name that runs into the limits does not match; the tree holds valid UTF-8 only. */
/* A pattern that runs into the limits again and again would stall the loop for thousands of nodes: it is given up, once and
 * for all names. */
bool
filter_match(struct filter *f, int i, const char *name)
{
	int rc;

	if (f->exhausted >= EXHAUSTED_MAX)
		return false;
	rc = pcre2_match(f->code[i], (PCRE2_SPTR)name, strlen(name), 0, 0, f->data, f->limits);
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

/* A .NET replacement in PCRE2's words: "$1", "${name}" and "$$" are the same, "$&" is "$0", any other "$" is itself. */
static bool
translate(char *out, size_t cap, const char *target)
{
	size_t n = 0;

	for (; *target != '\0'; target++) {
		if (n + 3 > cap)
			return false;
		out[n++] = *target;
		if (*target != '$')
			continue;
		if (target[1] == '&') {
			out[n++] = '0';
			target++;
		} else if (target[1] == '$') {
			out[n++] = '$';
			target++;
		} else if (!(target[1] >= '0' && target[1] <= '9') && !(target[1] == '{' && strchr(target, '}') != NULL)) {
			out[n++] = '$';
		}
	}
	out[n] = '\0';
	return true;
}

int
filter_replace(const struct filter *f, const char *name, const char *target, char *out, size_t cap)
{
	char text[REPLACE_MAX];
	PCRE2_SIZE n = cap;
	int rc;

	if (!translate(text, sizeof(text), target))
		return -E_LIMIT;
	rc = pcre2_substitute(f->code[0], (PCRE2_SPTR)name, strlen(name), 0,
	    PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_UNSET_EMPTY | PCRE2_SUBSTITUTE_UNKNOWN_UNSET, f->data, f->limits,
	    (PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, (PCRE2_UCHAR *)out, &n);
	return rc >= 0 ? 0 : rc == PCRE2_ERROR_NOMEMORY ? -E_LIMIT : -E_INVAL;
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
