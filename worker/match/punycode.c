/* SPDX-License-Identifier: MIT */
/* Punycode, RFC 3492, for domain payloads of rules. Only ASCII is lower-cased: a rule that spells other letters in upper
 * case does not match, which is what an unmapped name does in the reference too. Called while rules are compiled; owns
 * nothing. */
#include "worker/match/punycode.h"

#include <stdint.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"

/* RFC 3492, section 5 */
enum { BASE = 36, TMIN = 1, TMAX = 26, SKEW = 38, DAMP = 700, INITIAL_BIAS = 72, INITIAL_N = 128 };
enum { POINTS_MAX = 255 };	/* code points a label */

struct out {
	char *p;
	size_t len, cap;
	int err;
};

static void
put(struct out *o, char c)
{
	if (o->len + 1 >= o->cap) {
		o->err = -E_LIMIT;
		return;
	}
	o->p[o->len++] = c;
}

static char
digit(uint32_t d)
{
	return (char)(d < 26 ? 'a' + d : '0' + (d - 26));
}

/* RFC 3492, section 6.1 */
static uint32_t
adapt(uint32_t delta, uint32_t points, bool first)
{
	uint32_t k = 0;

	delta = first ? delta / DAMP : delta / 2;
	delta += delta / points;
	for (; delta > ((BASE - TMIN) * TMAX) / 2; k += BASE)
		delta /= BASE - TMIN;
	return k + (BASE - TMIN + 1) * delta / (delta + SKEW);
}

/* A variable-length integer, RFC 3492, section 3.3. */
static void
put_delta(struct out *o, uint32_t delta, uint32_t bias)
{
	uint32_t q = delta, k, t;

	for (k = BASE;; k += BASE) {
		t = k <= bias ? TMIN : k >= bias + TMAX ? TMAX : k - bias;
		if (q < t)
			break;
		put(o, digit(t + (q - t) % (BASE - t)));
		q = (q - t) / (BASE - t);
	}
	put(o, digit(q));
}

/* RFC 3492, section 6.3. The products stay below 2^32: at most 255 points of 21 bits. */
static void
encode(struct out *o, const uint32_t *cp, uint32_t n)
{
	uint32_t at = INITIAL_N, delta = 0, bias = INITIAL_BIAS, basic = 0, done;

	for (uint32_t i = 0; i < n; i++)
		if (cp[i] < 0x80) {
			put(o, (char)cp[i]);
			basic++;
		}
	done = basic;
	if (basic > 0)
		put(o, '-');
	while (done < n) {
		uint32_t min = UINT32_MAX;

		for (uint32_t i = 0; i < n; i++)
			if (cp[i] >= at && cp[i] < min)
				min = cp[i];
		delta += (min - at) * (done + 1);
		at = min;
		for (uint32_t i = 0; i < n; i++) {
			if (cp[i] < at)
				delta++;
			if (cp[i] != at)
				continue;
			put_delta(o, delta, bias);
			bias = adapt(delta, done + 1, done == basic);
			delta = 0;
			done++;
		}
		delta++;
		at++;
	}
}

static uint32_t
point(const char *s, size_t len)
{
	const unsigned char *b = (const unsigned char *)s;

	switch (len) {
	case 1:
		return b[0];
	case 2:
		return (uint32_t)((b[0] & 0x1f) << 6 | (b[1] & 0x3f));
	case 3:
		return (uint32_t)((b[0] & 0x0f) << 12 | (b[1] & 0x3f) << 6 | (b[2] & 0x3f));
	default:
		return (uint32_t)((b[0] & 0x07) << 18 | (b[1] & 0x3f) << 12 | (b[2] & 0x3f) << 6 | (b[3] & 0x3f));
	}
}

static void
label(struct out *o, const char *s, size_t n)
{
	uint32_t cp[POINTS_MAX], points = 0;
	bool ascii = true;

	for (size_t i = 0, len; i < n; i += len) {
		len = utf8_length(s + i, n - i);
		if (len == 0 || points == POINTS_MAX) {
			o->err = -E_INVAL;
			return;
		}
		cp[points] = point(s + i, len);
		ascii = ascii && cp[points] < 0x80;
		points++;
	}
	if (ascii) {
		for (size_t i = 0; i < n; i++)
			put(o, s[i]);
		return;
	}
	for (const char *x = "xn--"; *x != '\0'; x++)
		put(o, *x);
	encode(o, cp, points);
}

const char *
punycode_name(char *out, size_t cap, const char *name)
{
	char text[1024];
	struct out o = { .p = out, .cap = cap };
	size_t n = str_copy(text, sizeof text, name);

	str_lower(text);
	if (n >= sizeof text || cap == 0)
		o.err = -E_LIMIT;
	for (const char *s = text; o.err == 0;) {
		size_t len = strcspn(s, ".");

		label(&o, s, len);
		if (s[len] == '\0')
			break;
		put(&o, '.');
		s += len + 1;
	}
	if (o.err != 0) {
		(void)str_copy(out, cap, name);
		str_lower(out);
		return out;
	}
	out[o.len] = '\0';
	return out;
}
