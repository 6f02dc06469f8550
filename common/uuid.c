/* SPDX-License-Identifier: MIT */
/* Random numbers and UUIDs, declared in strutil.h. The fast generator is xoshiro256** (public domain algorithm of Blackman
 * and Vigna), seeded by getrandom once per thread; it names connections and picks members, and is never the source of a
 * secret. */
#include "common/strutil.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "common/err.h"
#include "common/log.h"

struct rng {
	uint64_t s[4];
	bool seeded;
};

static _Thread_local struct rng rng;

void
rand_secret(void *out, size_t n)
{
	uint8_t *p = out;

	while (n > 0) {
		ssize_t r = getrandom(p, n, 0);

		if (r == -1 && errno == EINTR)
			continue;
		if (r <= 0)
			fatal("the kernel gives no random numbers: errno %d", errno);
		p += r;
		n -= (size_t)r;
	}
}

static uint64_t
rotl(uint64_t v, unsigned k)
{
	return v << k | v >> (64 - k);
}

uint64_t
rand_u64(void)
{
	uint64_t *s = rng.s, r, t;

	if (!rng.seeded) {
		rand_secret(s, sizeof(rng.s));
		s[0] |= 1;		/* the all-zero state is the only bad one */
		rng.seeded = true;
	}
	r = rotl(s[1] * 5, 7) * 9;
	t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return r;
}

/* RFC 9562, section 5.4: version 4 in the high half of byte 6, variant 10 in the top bits of byte 8. */
void
uuid_make(uint8_t out[static 16])
{
	uint64_t r[2] = { rand_u64(), rand_u64() };

	memcpy(out, r, sizeof(r));
	out[6] = (uint8_t)((out[6] & 0x0f) | 0x40);
	out[8] = (uint8_t)((out[8] & 0x3f) | 0x80);
}

void
uuid_text(char out[static 37], const uint8_t u[static 16])
{
	static const char hex[] = "0123456789abcdef";
	size_t k = 0;

	for (size_t i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[k++] = '-';
		out[k++] = hex[u[i] >> 4];
		out[k++] = hex[u[i] & 15];
	}
	out[k] = '\0';
}

static int
nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The forms that the reference's users write: with dashes, without any, and each of both in braces or after "urn:uuid:". */
int
uuid_parse(uint8_t out[static 16], const char *s)
{
	size_t n = s == NULL ? 0 : strlen(s);
	uint8_t u[16];
	bool dashes;

	if (n > 9 && str_starts(s, "urn:uuid:")) {
		s += 9;
		n -= 9;
	} else if (n > 2 && s[0] == '{' && s[n - 1] == '}') {
		s++;
		n -= 2;
	}
	if (n != 36 && n != 32)
		return -E_INVAL;
	dashes = n == 36;
	for (size_t i = 0; i < 16; i++) {
		int hi, lo;

		if (dashes && (i == 4 || i == 6 || i == 8 || i == 10) && *s++ != '-')
			return -E_INVAL;
		hi = nibble(s[0]);
		lo = hi < 0 ? -1 : nibble(s[1]);
		if (lo < 0)
			return -E_INVAL;
		u[i] = (uint8_t)(hi << 4 | lo);
		s += 2;
	}
	memcpy(out, u, sizeof(u));
	return 0;
}
