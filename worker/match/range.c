/* SPDX-License-Identifier: MIT */
/* Number ranges of the configuration: one parser, one test. Called by rules and by the sniffer's section; owns nothing.
 *
 * The reference lets a number past the type's maximum wrap around, so that port 70000 becomes 4464. Here it means what it
 * says: no port. */
#include "worker/match/range.h"

#include <string.h>

#include "common/err.h"

static const char bad[] = "intRanges error";
static const char too_many[] = "intRanges error, too many ranges to use, maximum support 28 ranges";

/* Cuts '[', ']' and spaces at both ends. */
static void
trim(const char **s, size_t *n)
{
	while (*n > 0 && strchr("[] ", **s) != NULL)
		(*s)++, (*n)--;
	while (*n > 0 && strchr("[] ", (*s)[*n - 1]) != NULL)
		(*n)--;
}

/* Decimal digits; values past 63 bits are no numbers, as in the reference. */
static int
number(const char *s, size_t n, uint64_t *out)
{
	uint64_t v = 0;

	trim(&s, &n);
	if (n == 0 || n > 18)
		return -E_INVAL;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -E_INVAL;
		v = v * 10 + (uint64_t)(s[i] - '0');
	}
	*out = v;
	return 0;
}

static int
token(struct range *out, const char *s, size_t n, uint32_t max, bool *over)
{
	const char *dash = memchr(s, '-', n);
	uint64_t from, to;

	if (number(s, dash != NULL ? (size_t)(dash - s) : n, &from) != 0)
		return -E_INVAL;
	to = from;
	if (dash != NULL && number(dash + 1, n - (size_t)(dash - s) - 1, &to) != 0)
		return -E_INVAL;
	if (from > to) {
		uint64_t swap = from;

		from = to;
		to = swap;
	}
	*over = *over || to > max;
	if (from > max)
		*out = (struct range){ .from = 1, .to = 0 };	/* holds nothing */
	else
		*out = (struct range){ .from = (uint32_t)from, .to = to > max ? max : (uint32_t)to };
	return 0;
}

const char *
range_parse_over(struct ranges *out, const char *text, uint32_t max, bool *over)
{
	size_t n = strlen(text);
	int tokens = 0;

	*over = false;
	out->n = 0;
	while (n > 0 && *text == ' ')
		text++, n--;
	while (n > 0 && text[n - 1] == ' ')
		n--;
	if (n == 0 || (n == 1 && *text == '*'))
		return NULL;
	for (size_t i = 0; i < n; i++)
		tokens += text[i] == '/' || text[i] == ',';
	if (tokens + 1 > RANGES_MAX)
		return too_many;
	for (size_t i = 0, len; i <= n; i += len + 1) {
		for (len = 0; i + len < n && text[i + len] != '/' && text[i + len] != ','; len++)
			;
		if (len == 0)
			continue;
		if (token(&out->r[out->n], text + i, len, max, over) != 0) {
			out->n = 0;
			return bad;
		}
		out->n++;
	}
	return out->n > 0 ? NULL : bad;
}

const char *
range_parse(struct ranges *out, const char *text, uint32_t max)
{
	bool over;

	return range_parse_over(out, text, max, &over);
}

bool
range_match(const struct ranges *ranges, uint32_t v)
{
	for (int i = 0; i < ranges->n; i++)
		if (v >= ranges->r[i].from && v <= ranges->r[i].to)
			return true;
	return ranges->n == 0;
}
