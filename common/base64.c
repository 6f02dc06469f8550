/* SPDX-License-Identifier: MIT */
/* Base64 (RFC 4648, sections 4 and 5), for keys, secrets and share links; declared in strutil.h. Strict: one alphabet per
 * text, padding complete or absent, no white space. Set bits after the last byte are ignored, as the links in circulation
 * need it. */
#include "common/strutil.h"

#include <limits.h>

#include "common/err.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

enum { ALPHABET_STD = 1, ALPHABET_URL = 2 };

/* Value of one character, or -1; notes in *seen which alphabet its kind belongs to. */
static int
value(char c, unsigned *seen)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '/') {
		*seen |= ALPHABET_STD;
		return c == '+' ? 62 : 63;
	}
	if (c == '-' || c == '_') {
		*seen |= ALPHABET_URL;
		return c == '-' ? 62 : 63;
	}
	return -1;
}

int
base64_decode(uint8_t *out, size_t cap, const char *in, size_t n)
{
	size_t digits = n, len = 0;
	unsigned seen = 0, bits = 0;
	uint32_t acc = 0;

	while (digits > 0 && n - digits < 2 && in[digits - 1] == '=')
		digits--;
	if ((digits != n && n % 4 != 0) || digits % 4 == 1 || digits / 4 > INT_MAX / 3 - 1)
		return -E_INVAL;
	for (size_t i = 0; i < digits; i++) {
		int v = value(in[i], &seen);

		if (v < 0 || seen == (ALPHABET_STD | ALPHABET_URL))
			return -E_INVAL;
		acc = (acc << 6 | (uint32_t)v) & 0xffff;
		bits += 6;
		if (bits < 8)
			continue;
		if (len == cap)
			return -E_INVAL;
		bits -= 8;
		out[len++] = (uint8_t)(acc >> bits);
	}
	return (int)len;
}

size_t
base64_encode(char *out, size_t cap, const uint8_t *in, size_t n)
{
	size_t k = 0;

	if (n > SIZE_MAX / 4 || cap < (n + 2) / 3 * 4 + 1) {
		if (cap > 0)
			out[0] = '\0';
		return 0;
	}
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16;

		if (n - i > 1)
			v |= (uint32_t)in[i + 1] << 8;
		if (n - i > 2)
			v |= in[i + 2];
		out[k++] = alphabet[v >> 18];
		out[k++] = alphabet[v >> 12 & 63];
		out[k++] = n - i > 1 ? alphabet[v >> 6 & 63] : '=';
		out[k++] = n - i > 2 ? alphabet[v & 63] : '=';
	}
	out[k] = '\0';
	return k;
}
