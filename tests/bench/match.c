/* SPDX-License-Identifier: MIT */
/* What a look-up in a compiled image costs: `make bench-match` builds and runs it. Each look-up waits for the result of the one
 * before, as connections do; what is asked lies in the order of asking, as a host that was just read does. The images are larger
 * than the caches of one core. One line for each kind of question: the best and the median of the rounds, in nanoseconds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/strutil.h"
#include "worker/loader/image.h"
#include "worker/match/image.h"

enum { NAMES = 1000000, RANGES = 200000, ASKED = 200000, ROUNDS = 15, NAME_SIZE = 56 };

static uint64_t seed = 1;

static uint32_t
next(uint32_t below)
{
	seed = seed * 6364136223846793005 + 1442695040888963407;
	return (uint32_t)((seed >> 33) % below);
}

static int
label(char *out, int min, int max)
{
	int n = min + (int)next((uint32_t)(max - min + 1));

	for (int i = 0; i < n; i++)
		out[i] = "abcdefghijklmnopqrstuvwxyz0123456789-"[next(36)];
	out[n] = '.';
	return n + 1;
}

/* Two labels mostly, some three, as lists of sites have them. */
static void
name_make(char out[static NAME_SIZE])
{
	static const char *const top[] = { "com", "net", "org", "cn", "io", "co.uk", "de", "info" };
	int n = next(4) == 0 ? label(out, 2, 8) : 0;

	n += label(out + n, 4, 14);
	(void)snprintf(out + n, NAME_SIZE - (size_t)n, "%s", top[next(countof(top))]);
}

static uint64_t
now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int
by_time(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

struct question {
	char host[NAME_SIZE + 8];
	struct ip ip;
	size_t n;
};

static bool
ask(const struct image *im, const struct question *q)
{
	return q->n > 0 ? image_has_name(im, q->host, q->n) : image_has_ip(im, &q->ip);
}

static void
measure(const char *what, const struct image *im, const struct question *q)
{
	volatile size_t zero = 0;
	double t[ROUNDS];
	size_t hits = 0;

	for (int r = 0; r < ROUNDS; r++) {
		uint64_t start = now();
		size_t none = zero, found = 0;

		for (size_t i = 0; i < ASKED; i++)
			found += ask(im, &q[i + (found & none)]);
		t[r] = (double)(now() - start) / ASKED;
		hits = found;
	}
	qsort(t, ROUNDS, sizeof *t, by_time);
	printf("%-42s %6.1f  %6.1f ns   %5.1f %% found\n", what, t[0], t[ROUNDS / 2], 100.0 * (double)hits / ASKED);
}

static void
finish(struct image_builder *b, struct image *im)
{
	int fd;

	if (image_finish(b, &fd) != 0 || image_open(im, fd) != 0)
		abort();
	close(fd);
}

static void
measure_names(struct question *q)
{
	struct image_builder *b = image_begin(IMAGE_DOMAIN);
	char (*names)[NAME_SIZE] = calloc(NAMES, NAME_SIZE);
	struct image im;

	if (b == NULL || names == NULL)
		abort();
	for (size_t i = 0; i < NAMES; i++) {
		char pattern[NAME_SIZE + 2];

		name_make(names[i]);
		(void)snprintf(pattern, sizeof pattern, "%s%s", next(2) == 0 ? "+." : "", names[i]);
		(void)image_add_pattern(b, pattern, strlen(pattern));
	}
	finish(b, &im);
	printf("%d names, %.1f bytes each\n", NAMES, (double)im.size / NAMES);
	for (uint32_t kind = 0; kind < 4; kind++) {
		static const char *const what[] = { "a name of the set", "a name below one of the set", "no name of the set",
			"any of these" };

		for (size_t i = 0; i < ASKED; i++) {
			uint32_t pick = kind == 3 ? next(3) : kind;
			const char *s = names[next(NAMES)];

			if (pick == 0)
				(void)snprintf(q[i].host, sizeof q->host, "%s", s);
			else if (pick == 1)
				(void)snprintf(q[i].host, sizeof q->host, "www.%s", s);
			else
				name_make(q[i].host);
			q[i].n = strlen(q[i].host);
		}
		measure(what[kind], &im, q);
	}
	image_close(&im);
	free(names);
}

static void
measure_ranges(struct question *q, uint8_t family)
{
	struct image_builder *b = image_begin(IMAGE_IPCIDR);
	struct prefix *p = calloc(RANGES, sizeof *p);
	struct image im;

	if (b == NULL || p == NULL)
		abort();
	for (size_t i = 0; i < RANGES; i++) {	/* IPv6: 2000::/3 as it is given out, most in a few dozen /12 to /20 */
		p[i] = (struct prefix){ .ip.family = family, .bits = (uint8_t)(family == 4 ? 24 : 32 + next(5) * 4) };
		for (int k = 0; k < 16; k++)
			p[i].ip.b[k] = (uint8_t)next(256);
		if (family == 6) {
			p[i].ip.b[0] = (uint8_t)(0x20 + (next(8) == 0 ? next(32) : next(2) * 4 + next(3) * 2));
			p[i].ip.b[1] = (uint8_t)next(4);
		}
		image_add_prefix(b, &p[i], false);
	}
	finish(b, &im);
	printf("%d ranges of IPv%d, %.1f bytes each\n", RANGES, family, (double)im.size / RANGES);
	for (int kind = 0; kind < 2; kind++) {
		for (size_t i = 0; i < ASKED; i++) {
			q[i].n = 0;
			q[i].ip = p[next(RANGES)].ip;
			for (int k = kind == 0 ? 12 : 2; k < 16; k++)
				q[i].ip.b[k] = (uint8_t)next(256);
		}
		if (family == 4)
			for (size_t i = 0; kind == 1 && i < ASKED; i++)
				q[i].ip.b[1] = (uint8_t)next(256), q[i].ip.b[2] = (uint8_t)next(256);
		measure(kind == 0 ? "an address of the set" : "an address nearby", &im, q);
	}
	image_close(&im);
	free(p);
}

int
main(void)
{

	struct question *q = calloc(ASKED, sizeof *q);

	if (q == NULL)
		return 1;
	measure_names(q);
	measure_ranges(q, 4);
	measure_ranges(q, 6);
	free(q);
	return 0;
}
