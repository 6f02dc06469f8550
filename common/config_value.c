/* SPDX-License-Identifier: MIT */
/* Reading the configuration tree: walking, the scalars' types, the strict and the weak getters and their error texts. Called by
 * everything that builds objects from a configuration; owns nothing. Nodes come from an image that tree_open() verified, so
 * offsets are not checked here.
 *
 * A plain scalar has the type that the reference's YAML reader gives it (YAML 1.2 core schema plus 0b, 0777 and '_' in
 * numbers); the words of YAML 1.1 (yes, on, ...) are booleans only where a boolean is asked for. */
#include "common/config_tree.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/strutil.h"

enum { NUMBER_MAX = 80 };		/* a longer scalar is no number */
enum { WARN_MAX = 32 };			/* unknown keys named per map; the rest is counted */
enum kind { KIND_STR, KIND_INT, KIND_BIG /* an integer past int64 */, KIND_FLOAT, KIND_BOOL };

/* ---- walking */

static const void *
follow(const int32_t *field)
{
	return *field != 0 ? (const char *)field + *field : NULL;
}

const char *
cfg_key(const struct cfg_node *n)
{
	return n != NULL ? follow(&n->key) : NULL;
}

const char *
cfg_text(const struct cfg_node *n)
{
	if (n == NULL || n->type == CFG_LIST || n->type == CFG_MAP)
		return NULL;
	return n->type == CFG_SCALAR ? follow(&n->text) : "";
}

const struct cfg_node *
cfg_first(const struct cfg_node *n)
{
	return n != NULL ? follow(&n->child) : NULL;
}

const struct cfg_node *
cfg_next(const struct cfg_node *n)
{
	return n != NULL ? follow(&n->next) : NULL;
}

size_t
cfg_count(const struct cfg_node *n)
{
	return n != NULL ? n->count : 0;
}

static char
fold(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c - 'A' + 'a');
	return c == '_' ? '-' : c;
}

static bool
same_key(const char *a, const char *b)
{
	while (*a != '\0' && fold(*a) == fold(*b))
		a++, b++;
	return fold(*a) == fold(*b);
}

const struct cfg_node *
cfg_get(const struct cfg_node *n, const char *key)
{
	const struct cfg_node *near = NULL;

	if (n == NULL || n->type != CFG_MAP)
		return NULL;
	cfg_each(c, n) {
		if (strcmp(cfg_key(c), key) == 0)
			return c;
		if (near == NULL && same_key(cfg_key(c), key))
			near = c;
	}
	return near;
}

bool
cfg_is_null(const struct cfg_node *n)
{
	return n == NULL || n->type == CFG_NULL;
}

/* ---- what a scalar is */

static bool
word_in(const char *s, const char *const *words)
{
	for (; *words != NULL; words++)
		if (strcmp(s, *words) == 0)
			return true;
	return false;
}

/* An integer in the forms of strconv.ParseInt with base 0: sign, then 0x, 0o, 0b, 0 (octal) or decimal. */
static enum kind
read_int(const char *s, int64_t *out)
{
	bool minus = *s == '-';
	unsigned base = 10, digits = 0;
	uint64_t v = 0, limit;
	bool over = false;

	if (*s == '+' || *s == '-')
		s++;
	if (*s == '0' && s[1] != '\0') {
		char c = fold(s[1]);

		base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
		s += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
	}
	for (; *s != '\0'; s++, digits++) {
		char c = fold(*s);
		unsigned d = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10) : 16;

		if (d >= base)
			return KIND_STR;
		over = over || __builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, d, &v);
	}
	if (digits == 0)
		return KIND_STR;
	limit = (uint64_t)INT64_MAX + (minus ? 1 : 0);
	if (over || v > limit)
		return KIND_BIG;
	*out = minus ? (int64_t)(0 - v) : (int64_t)v;
	return KIND_INT;
}

static const char *
skip_digits(const char *s)
{
	while (*s >= '0' && *s <= '9')
		s++;
	return s;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool
is_float(const char *s)
{
	const char *p = s + (*s == '+' || *s == '-' ? 1 : 0), *e = skip_digits(p);
	bool whole = e != p;

	if (*e == '.') {
		p = e + 1;
		e = skip_digits(p);
		if (!whole && e == p)
			return false;
	} else if (!whole) {
		return false;
	}
	if (*e == 'e' || *e == 'E') {
		p = e + (e[1] == '+' || e[1] == '-' ? 2 : 1);
		e = skip_digits(p);
		if (e == p)
			return false;
	}
	return *e == '\0';
}

/* The type of a scalar; *i of an integer, 0 or 1 of a boolean. */
static enum kind
resolve(const struct cfg_node *n, int64_t *i)
{
	static const char *const yes[] = { "true", "True", "TRUE", NULL }, *const no[] = { "false", "False", "FALSE", NULL };
	static const char *const odd[] = { ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf",
		"-.Inf", "-.INF", NULL };
	const char *s = cfg_text(n);
	char plain[NUMBER_MAX];
	size_t len = 0;
	enum kind kind;

	if ((n->flags & CFG_QUOTED) != 0 || n->text_len >= NUMBER_MAX)
		return KIND_STR;
	if (word_in(s, yes) || word_in(s, no)) {
		*i = word_in(s, yes) ? 1 : 0;
		return KIND_BOOL;
	}
	if (word_in(s, odd))
		return KIND_FLOAT;
	if (strchr("+-.0123456789", *s) == NULL)
		return KIND_STR;
	for (; *s != '\0'; s++)
		if (*s != '_')
			plain[len++] = *s;
	plain[len] = '\0';
	kind = read_int(plain, i);
	return kind == KIND_STR && is_float(plain) ? KIND_FLOAT : kind;
}

const char *
cfg_tag(const struct cfg_node *n)
{
	static const char *const tags[] = { [KIND_STR] = "!!str", [KIND_INT] = "!!int", [KIND_BIG] = "!!int",
		[KIND_FLOAT] = "!!float", [KIND_BOOL] = "!!bool" };
	int64_t i;

	if (cfg_is_null(n))
		return "!!null";
	if (n->type == CFG_SCALAR)
		return tags[resolve(n, &i)];
	return n->type == CFG_LIST ? "!!seq" : "!!map";
}

/* ---- errors */

/* How many bytes of s to show: at most max, and no character in part. */
static int
shown(const char *s, size_t max)
{
	size_t n = strnlen(s, max + 1);

	if (n <= max)
		return (int)n;
	for (n = max; n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80; n--)
		;
	return (int)n;
}

int
cfg_fail(struct cfg_err *err, const struct cfg_node *n, const char *key, const char *fmt, ...)
{
	char text[sizeof err->text + 4];	/* room to see that a character is cut */
	va_list ap;

	if (err == NULL || err->text[0] != '\0')
		return -E_INVAL;
	err->line = n != NULL ? n->line : 0;
	err->column = n != NULL ? n->column : 0;
	key = key != NULL ? key : "";
	(void)snprintf(err->key, sizeof err->key, "%.*s", shown(key, sizeof err->key - 1), key);
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	(void)snprintf(err->text, sizeof err->text, "%.*s", shown(text, sizeof err->text - 1), text);
	return -E_INVAL;
}

int
cfg_mismatch(struct cfg_err *err, const struct cfg_node *n, const char *key, const char *type)
{
	const char *s = cfg_text(n);
	unsigned line = n != NULL ? n->line : 0;

	if (s == NULL)
		return cfg_fail(err, n, key, "line %u: cannot unmarshal %s into %s", line, cfg_tag(n), type);
	if (strlen(s) <= 10)
		return cfg_fail(err, n, key, "line %u: cannot unmarshal %s `%s` into %s", line, cfg_tag(n), s, type);
	return cfg_fail(err, n, key, "line %u: cannot unmarshal %s `%.*s...` into %s", line, cfg_tag(n), shown(s, 7), s, type);
}

static int
check_range(const struct cfg_node *n, const char *key, int64_t v, int64_t min, int64_t max, struct cfg_err *err)
{
	if (v >= min && v <= max)
		return 0;
	return cfg_fail(err, n, key, "line %u: %s: %" PRId64 " is not in %" PRId64 "..%" PRId64, n->line, key, v, min, max);
}

/* ---- strict getters */

int
cfg_int(const struct cfg_node *n, const char *key, int64_t min, int64_t max, int64_t *out, struct cfg_err *err)
{
	int64_t v = 0;
	int rc;

	if (cfg_is_null(n))
		return 0;
	if (n->type != CFG_SCALAR || resolve(n, &v) != KIND_INT)
		return cfg_mismatch(err, n, key, "int");
	rc = check_range(n, key, v, min, max, err);
	if (rc == 0)
		*out = v;
	return rc;
}

int
cfg_bool(const struct cfg_node *n, const char *key, bool *out, struct cfg_err *err)
{
	static const char *const yes[] = { "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", NULL };
	static const char *const no[] = { "n", "N", "no", "No", "NO", "off", "Off", "OFF", NULL };
	int64_t v = 0;

	if (cfg_is_null(n))
		return 0;
	if (n->type != CFG_SCALAR)
		return cfg_mismatch(err, n, key, "bool");
	if (resolve(n, &v) == KIND_BOOL)
		*out = v != 0;
	else if (word_in(cfg_text(n), yes))	/* in quotes too, as the reference */
		*out = true;
	else if (word_in(cfg_text(n), no))
		*out = false;
	else
		return cfg_mismatch(err, n, key, "bool");
	return 0;
}

int
cfg_str(const struct cfg_node *n, const char *key, const char **out, struct cfg_err *err)
{
	if (cfg_is_null(n))
		return 0;
	if (n->type != CFG_SCALAR)
		return cfg_mismatch(err, n, key, "string");
	*out = cfg_text(n);
	return 0;
}

int
cfg_enum(const struct cfg_node *n, const char *key, const char *const *names, const char *bad, int *out, struct cfg_err *err)
{
	const char *s = NULL;
	int rc;

	rc = cfg_str(n, key, &s, err);
	if (rc != 0 || s == NULL)
		return rc;
	for (int i = 0; names[i] != NULL; i++) {
		if (str_case_equal(s, names[i])) {
			*out = i;
			return 0;
		}
	}
	return cfg_fail(err, n, key, "%s", bad);
}

/* A list whose items are all of one class: scalars, or maps. */
static int
get_list(const struct cfg_node *n, const char *key, bool maps, const struct cfg_node **out, struct cfg_err *err)
{
	*out = NULL;
	if (cfg_is_null(n))
		return 0;
	if (n->type != CFG_LIST)
		return cfg_mismatch(err, n, key, maps ? "[]map[string]interface {}" : "[]string");
	cfg_each(c, n) {
		if (maps && c->type != CFG_MAP)
			return cfg_mismatch(err, c, key, "map[string]interface {}");
		if (!maps && cfg_text(c) == NULL)
			return cfg_mismatch(err, c, key, "string");
	}
	*out = n;
	return 0;
}

int
cfg_list(const struct cfg_node *n, const char *key, const struct cfg_node **out, struct cfg_err *err)
{
	return get_list(n, key, false, out, err);
}

int
cfg_list_of_maps(const struct cfg_node *n, const char *key, const struct cfg_node **out, struct cfg_err *err)
{
	return get_list(n, key, true, out, err);
}

int
cfg_map(const struct cfg_node *n, const char *key, const struct cfg_node **out, struct cfg_err *err)
{
	*out = NULL;
	if (cfg_is_null(n))
		return 0;
	if (n->type != CFG_MAP)
		return cfg_mismatch(err, n, key, "map[string]interface {}");
	*out = n;
	return 0;
}

/* ---- weak getters */

/* What the reference's decoder calls the value. */
static const char *
weak_type(const struct cfg_node *n)
{
	static const char *const types[] = { [KIND_STR] = "string", [KIND_INT] = "int", [KIND_BIG] = "uint64",
		[KIND_FLOAT] = "float64", [KIND_BOOL] = "bool" };
	int64_t i;

	if (n->type == CFG_SCALAR)
		return types[resolve(n, &i)];
	return n->type == CFG_LIST ? "[]interface {}" : "map[string]interface {}";
}

static int
weak_mismatch(struct cfg_err *err, const struct cfg_node *n, const char *key, const char *type)
{
	return cfg_fail(err, n, key, "'%s' expected type '%s', got unconvertible type '%s'", key, type, weak_type(n));
}

static int
missing(struct cfg_err *err, const struct cfg_node *item, const char *key)
{
	return cfg_fail(err, item, key, "key '%s' missing", key);
}

int
cfgw_int(const struct cfg_node *item, const char *key, int64_t min, int64_t max, int64_t *out, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(item, key);
	enum kind kind = KIND_BIG;
	int64_t v = 0;
	int rc;

	if (cfg_is_null(n))
		return 0;
	if (n->type == CFG_SCALAR)
		kind = resolve(n, &v);
	if (n->type != CFG_SCALAR || kind == KIND_FLOAT || kind == KIND_BOOL)
		return weak_mismatch(err, n, key, "int");
	if (kind == KIND_STR)
		kind = read_int(cfg_text(n), &v);
	if (kind != KIND_INT)
		return cfg_fail(err, n, key, "cannot parse '%s' as int: strconv.ParseInt: parsing \"%.*s\": %s", key,
		    shown(cfg_text(n), 64), cfg_text(n), kind == KIND_BIG ? "value out of range" : "invalid syntax");
	rc = check_range(n, key, v, min, max, err);
	if (rc == 0)
		*out = v;
	return rc;
}

int
cfgw_bool(const struct cfg_node *item, const char *key, bool *out, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(item, key);
	enum kind kind = KIND_STR;
	int64_t v = 1;

	if (cfg_is_null(n))
		return 0;
	if (n->type == CFG_SCALAR)
		kind = resolve(n, &v);
	if (n->type != CFG_SCALAR || kind == KIND_STR || kind == KIND_FLOAT)
		return weak_mismatch(err, n, key, "bool");
	*out = v != 0;
	return 0;
}

int
cfgw_str(const struct cfg_node *item, const char *key, const char **out, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(item, key);
	int64_t v;

	if (cfg_is_null(n))
		return 0;
	if (n->type != CFG_SCALAR || resolve(n, &v) == KIND_BOOL)
		return weak_mismatch(err, n, key, "string");
	*out = cfg_text(n);
	return 0;
}

int
cfgw_str_required(const struct cfg_node *item, const char *key, const char **out, struct cfg_err *err)
{
	return cfg_is_null(cfg_get(item, key)) ? missing(err, item, key) : cfgw_str(item, key, out, err);
}

int
cfgw_int_required(const struct cfg_node *item, const char *key, int64_t min, int64_t max, int64_t *out, struct cfg_err *err)
{
	return cfg_is_null(cfg_get(item, key)) ? missing(err, item, key) : cfgw_int(item, key, min, max, out, err);
}

/* ---- keys nobody knows */

static bool
key_in(const char *key, const char *const *names)
{
	for (; names != NULL && *names != NULL; names++)
		if (same_key(key, *names))
			return true;
	return false;
}

/* The known key that is at most two edits (and not a whole rewrite) away; NULL when there is none. */
static const char *
nearest(const char *key, const char *const *known)
{
	const char *best = NULL;
	unsigned least = 3;

	for (; known != NULL && *known != NULL; known++) {
		unsigned d = str_distance(key, *known);

		if (d < least && d * 2 <= strlen(*known)) {
			least = d;
			best = *known;
		}
	}
	return best;
}

void
cfg_warn_unknown(const struct cfg_node *n, const char *where, const char *const *known, const char *const *unspoken)
{
	unsigned warned = 0, more = 0;

	if (n == NULL || n->type != CFG_MAP || !log_enabled(LL_WARNING))
		return;
	cfg_each(c, n) {
		const char *key = cfg_key(c), *near;
		bool silent = key_in(key, unspoken);

		if (!silent && key_in(key, known))
			continue;
		if (warned == WARN_MAX) {
			more++;
			continue;
		}
		warned++;
		near = silent ? NULL : nearest(key, known);
		if (silent)
			log_warn("line %u: %s: key %.*s does not work yet and is ignored", c->line, where, shown(key, 64), key);
		else if (near != NULL)
			log_warn("line %u: %s: unknown key %.*s is ignored, did you mean %s?", c->line, where, shown(key, 64),
			    key, near);
		else
			log_warn("line %u: %s: unknown key %.*s is ignored", c->line, where, shown(key, 64), key);
	}
	if (more != 0)
		log_warn("%s: %u more unknown keys are ignored", where, more);
}
