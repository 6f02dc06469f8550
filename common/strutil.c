/* SPDX-License-Identifier: MIT */
/* Small text helpers for every program: bounded, ASCII rules only, no locale. They own nothing. */
#include "common/strutil.h"

#include <string.h>

#include "common/err.h"

enum { DISTANCE_MAX = 64 };	/* bytes of each text that str_distance() looks at */

static unsigned char
lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

bool
str_equal(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

bool
str_case_equal(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	while (*a != '\0' && lower(*a) == lower(*b)) {
		a++;
		b++;
	}
	return lower(*a) == lower(*b);
}

bool
str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool
str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), k = strlen(suffix);

	return n >= k && memcmp(s + n - k, suffix, k) == 0;
}

void
str_lower(char *s)
{
	for (; *s != '\0'; s++)
		*s = (char)lower(*s);
}

size_t
str_copy(char *dst, size_t cap, const char *src)
{
	size_t n = strlen(src), k = n < cap ? n : cap - 1;

	if (cap == 0)
		return n;
	memcpy(dst, src, k);
	dst[k] = '\0';
	return n;
}

char *
str_trim(char *s)
{
	char *end;

	while (*s == ' ' || *s == '\t')
		s++;
	end = s + strlen(s);
	while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	*end = '\0';
	return s;
}

int
str_to_i64(const char *s, int64_t min, int64_t max, int64_t *out)
{
	uint64_t v = 0;

	if (s == NULL || *s == '\0')
		return -E_INVAL;
	for (; *s != '\0'; s++) {
		unsigned d = (unsigned char)*s - (unsigned)'0';

		if (d > 9 || v > ((uint64_t)INT64_MAX - d) / 10)
			return -E_INVAL;
		v = v * 10 + d;
	}
	if ((int64_t)v < min || (int64_t)v > max)
		return -E_INVAL;
	if (out != NULL)
		*out = (int64_t)v;
	return 0;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t
str_percent_decode(char *out, const char *in, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		if (in[i] == '%' && (n - i < 3 || hex_value(in[i + 1]) < 0 || hex_value(in[i + 2]) < 0)) {
			memmove(out, in, n);
			return n;
		}
	}
	for (size_t i = 0; i < n; i++) {
		if (in[i] == '%') {
			out[k++] = (char)(hex_value(in[i + 1]) * 16 + hex_value(in[i + 2]));
			i += 2;
		} else {
			out[k++] = in[i];
		}
	}
	return k;
}

unsigned
str_distance(const char *a, const char *b)
{
	size_t na = strnlen(a, DISTANCE_MAX), nb = strnlen(b, DISTANCE_MAX);
	unsigned row[DISTANCE_MAX + 1];

	for (size_t j = 0; j <= nb; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= nb; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[nb];
}

/* RFC 3629, section 4: the ranges of the second byte keep out overlong forms, surrogates and what is past U+10FFFF. */
size_t
utf8_length(const char *s, size_t n)
{
	const uint8_t *u = (const uint8_t *)s;
	uint8_t lo = 0x80, hi = 0xbf;
	size_t len;

	if (n == 0)
		return 0;
	if (u[0] < 0x80)
		return 1;
	if (u[0] < 0xc2 || u[0] > 0xf4)
		return 0;
	len = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
	if (u[0] == 0xe0)
		lo = 0xa0;
	else if (u[0] == 0xed)
		hi = 0x9f;
	else if (u[0] == 0xf0)
		lo = 0x90;
	else if (u[0] == 0xf4)
		hi = 0x8f;
	if (n < len || u[1] < lo || u[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++) {
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	}
	return len;
}

bool
utf8_valid(const char *s, size_t n)
{
	while (n > 0) {
		size_t k = utf8_length(s, n);

		if (k == 0)
			return false;
		s += k;
		n -= k;
	}
	return true;
}

bool
secret_equal(const char *a, size_t na, const char *b, size_t nb)
{
	volatile unsigned char diff = 0;

	if (na != nb)
		return false;
	for (size_t i = 0; i < na; i++)
		diff = (unsigned char)(diff | (a[i] ^ b[i]));
	return diff == 0;
}
