/* SPDX-License-Identifier: MIT */
/* What handlers read of a request: query values and the JSON body. The body's first value is checked by a strict scanner of our
 * own (RFC 8259, bounded nesting, no recursion) before cJSON sees it, because cJSON recurses and takes things no JSON text may
 * hold. Called by every endpoint; owns nothing. */
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "controller/api.h"

/* ---- query */

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes n bytes of a query into out; false when it does not fit, an escape is bad or a NUL would be in it. */
static bool
query_decode(char *out, size_t cap, const char *s, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		char c = s[i] == '+' ? ' ' : s[i];

		if (c == '%') {
			if (n - i < 3 || hex_value(s[i + 1]) < 0 || hex_value(s[i + 2]) < 0)
				return false;
			c = (char)(hex_value(s[i + 1]) << 4 | hex_value(s[i + 2]));
			i += 2;
		}
		if (c == '\0' || k + 1 >= cap)
			return false;
		out[k++] = c;
	}
	out[k] = '\0';
	return true;
}

/* The raw text of the first value named key; NULL when there is none. */
static const char *
query_find(const char *s, const char *key, size_t *len)
{
	const char *eq;
	char name[64];
	size_t n;

	for (; s != NULL && *s != '\0'; s += n + (s[n] == '&')) {
		n = strcspn(s, "&");
		eq = memchr(s, '=', n);
		if (!query_decode(name, sizeof(name), s, eq == NULL ? n : (size_t)(eq - s)) || strcmp(name, key) != 0)
			continue;
		*len = eq == NULL ? 0 : n - (size_t)(eq + 1 - s);
		return eq == NULL ? "" : eq + 1;
	}
	return NULL;
}

bool
api_query(const struct api_req *req, const char *key, char *out, size_t cap)
{
	size_t n;
	const char *raw = query_find(req->query, key, &n);

	return raw != NULL && query_decode(out, cap, raw, n);
}

int
api_query_int(const struct api_req *req, const char *key, int64_t min, int64_t max, int64_t *out)
{
	char text[64];
	bool minus;
	int64_t v;
	size_t n;

	if (!api_query(req, key, text, sizeof(text)))
		return query_find(req->query, key, &n) != NULL ? -E_INVAL : -E_NOTFOUND;
	minus = text[0] == '-';
	if (str_to_i64(text + (minus || text[0] == '+'), 0, INT64_MAX, &v) != 0)
		return -E_INVAL;
	v = minus ? -v : v;
	if (v < min || v > max)
		return -E_INVAL;
	*out = v;
	return 0;
}

/* ---- JSON */

struct scan {
	const char *p, *end;
	bool nul;
	unsigned depth;
	uint8_t open[JSON_DEPTH_MAX / 8];	/* a bit per level: 1 = object */
};

static char
peek(const struct scan *s)
{
	return s->p < s->end ? *s->p : '\0';
}

static void
skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

static bool
take(struct scan *s, char c)
{
	if (s->p == s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

/* After a backslash (RFC 8259 section 7). */
static bool
scan_escape(struct scan *s)
{
	char c = peek(s);

	if (c == '\0' || strchr("\"\\/bfnrtu", c) == NULL)
		return false;
	s->p++;
	if (c != 'u')
		return true;
	if (s->end - s->p < 4)
		return false;
	for (int i = 0; i < 4; i++)
		if (hex_value(s->p[i]) < 0)
			return false;
	if (memcmp(s->p, "0000", 4) == 0)
		s->nul = true;
	s->p += 4;
	return true;
}

static bool
scan_string(struct scan *s)
{
	if (!take(s, '"'))
		return false;
	while (s->p < s->end) {
		unsigned char c = (unsigned char)*s->p++;

		if (c == '"')
			return true;
		if (c < 0x20 || (c == '\\' && !scan_escape(s)))
			return false;
	}
	return false;
}

static bool
scan_digits(struct scan *s)
{
	const char *from = s->p;

	while (peek(s) >= '0' && peek(s) <= '9')
		s->p++;
	return s->p > from;
}

static bool
scan_number(struct scan *s)
{
	take(s, '-');
	if (!take(s, '0') && !scan_digits(s))
		return false;
	if (take(s, '.') && !scan_digits(s))
		return false;
	if (take(s, 'e') || take(s, 'E')) {
		if (!take(s, '+'))
			take(s, '-');
		return scan_digits(s);
	}
	return true;
}

static bool
scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return false;
	s->p += n;
	return true;
}

static bool
scan_scalar(struct scan *s)
{
	switch (peek(s)) {
	case '"':
		return scan_string(s);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	default:
		return scan_number(s);
	}
}

static bool
in_object(const struct scan *s)
{
	return s->depth > 0 && (s->open[(s->depth - 1) / 8] >> (s->depth - 1) % 8 & 1) != 0;
}

static void
push(struct scan *s, bool object)
{
	uint8_t bit = (uint8_t)(1U << s->depth % 8);

	if (object)
		s->open[s->depth / 8] |= bit;
	else
		s->open[s->depth / 8] &= (uint8_t)~bit;
	s->depth++;
}

/* A member's name and colon; nothing in a list. */
static bool
scan_name(struct scan *s)
{
	if (!in_object(s))
		return true;
	skip_space(s);
	if (!scan_string(s))
		return false;
	skip_space(s);
	return take(s, ':');
}

/* Behind a value: closes what ends here, up to a comma or the outermost end. */
static bool
scan_after(struct scan *s)
{
	while (s->depth > 0) {
		skip_space(s);
		if (take(s, ','))
			return scan_name(s);
		if (!take(s, in_object(s) ? '}' : ']'))
			return false;
		s->depth--;
	}
	return true;
}

size_t
json_scan(const char *p, size_t n, unsigned depth, bool *nul)
{
	struct scan s = { .p = p, .end = p + n };
	bool ok;

	do {
		skip_space(&s);
		if (peek(&s) == '{' || peek(&s) == '[') {
			if (s.depth == depth || s.depth == JSON_DEPTH_MAX)
				return 0;
			push(&s, *s.p++ == '{');
			skip_space(&s);
			if (peek(&s) == (in_object(&s) ? '}' : ']'))
				ok = scan_after(&s);
			else
				ok = scan_name(&s);
		} else {
			ok = scan_scalar(&s) && scan_after(&s);
		}
	} while (ok && s.depth > 0);
	if (nul != NULL)
		*nul = s.nul;
	return ok ? (size_t)(s.p - p) : 0;
}

cJSON *
api_json(const struct api_req *req)
{
	bool nul;
	size_t n = req->body_len == 0 ? 0 : json_scan(req->body, req->body_len, API_JSON_DEPTH_MAX, &nul);

	if (n == 0 || nul)	/* a NUL would cut a text short in silence */
		return NULL;
	return cJSON_ParseWithLength(req->body, n);
}

const cJSON *
api_member(const cJSON *object, const char *key)
{
	const cJSON *c, *found = NULL;

	if (!cJSON_IsObject(object))
		return NULL;
	cJSON_ArrayForEach(c, object)
		if (!cJSON_IsNull(c) && str_case_equal(c->string, key))
			found = c;
	return found;
}
