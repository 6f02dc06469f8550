/* SPDX-License-Identifier: MIT */
/* Compiled images: what the loader builds is what the worker finds, compared with slow and obvious matchers; hostile
 * images are refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/strutil.h"
#include "worker/loader/image.h"
#include "worker/match/image.h"

static uint32_t
next(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

static void
finish(struct image_builder *b, struct image *im)
{
	int fd = -1;

	assert_int_equal(image_finish(b, &fd), 0);
	assert_int_equal(image_open(im, fd), 0);
	close(fd);
}

static bool
has(const struct image *im, const char *host)
{
	return image_has_name(im, host, strlen(host));
}

/* ---- names */

static void
test_names_patterns(void **state)
{
	static const char *const patterns[] = { "+.plus.test", "exact.test", "*.star.test", ".dot.test", "a.*.mid.test",
		"+.*.deep.test", "*", "UPPER.test", "+.com.example", "one", "a*.literal.test", "+" };
	static const char *const yes[] = { "plus.test", "x.plus.test", "a.b.plus.test", "exact.test", "x.star.test", "x.dot.test",
		"a.b.dot.test", "a.b.mid.test", "x.deep.test", "y.x.deep.test", "localhost", "upper.test", "a.com.example", "one",
		"a*.literal.test" };
	static const char *const no[] = { "xplus.test", "x.exact.test", "star.test", "a.b.star.test", "dot.test",
		"a.b.c.mid.test", "b.b.mid.test", "deep.test", "two.labels", "ab.literal.test", "", ".", ".plus.test.",
		"plus.test." };
	static const char *const bad[] = { "", ".", "a..b", "a.", " a", "a ", "+.", "a/b", "+..a", "\ta" };
	struct image_builder *b = image_begin(IMAGE_DOMAIN);
	struct image im;

	(void)state;
	for (size_t i = 0; i < countof(patterns); i++)
		assert_true(image_add_pattern(b, patterns[i], strlen(patterns[i])));
	for (size_t i = 0; i < countof(bad); i++)
		assert_false(image_add_pattern(b, bad[i], strlen(bad[i])));
	finish(b, &im);
	for (size_t i = 0; i < countof(yes); i++)
		if (!has(&im, yes[i]))
			fail_msg("%s is not found", yes[i]);
	for (size_t i = 0; i < countof(no); i++)
		if (has(&im, no[i]))
			fail_msg("%s is found", no[i]);
	image_close(&im);
	assert_false(has(&im, "localhost"));	/* a closed image, and one that was never loaded, match nothing */
}

/* One label of a pattern against one of a host, from the right; i labels are left of each. */
static bool
slow_match(const char *pattern, const char *host)
{
	bool below = str_starts(pattern, "+.") || pattern[0] == '.', here = pattern[0] != '.';
	const char *p, *h;

	pattern += str_starts(pattern, "+.") ? 2 : pattern[0] == '.' ? 1 : 0;
	p = pattern + strlen(pattern);
	h = host + strlen(host);
	for (;;) {
		const char *pe = p, *he = h;

		while (p > pattern && p[-1] != '.')
			p--;
		while (h > host && h[-1] != '.')
			h--;
		if (!(pe - p == 1 && *p == '*') && (pe - p != he - h || memcmp(p, h, (size_t)(pe - p)) != 0))
			return false;
		if (p == pattern)
			return h == host ? here : below;
		if (h == host)
			return false;
		p--;
		h--;
	}
}

static void
random_name(char *out, uint32_t *seed, bool pattern)
{
	static const char *const labels[] = { "a", "b", "cc", "verylonglabelwithmorethan8", "com", "x1" };
	int n = 1 + (int)(next(seed) % 5), at = 0;

	if (pattern && next(seed) % 3 == 0)
		at = sprintf(out, "%s", next(seed) % 2 == 0 ? "+." : ".");
	for (int i = 0; i < n; i++)
		at += sprintf(out + at, "%s%s", i > 0 ? "." : "",
		    pattern && next(seed) % 5 == 0 ? "*" : labels[next(seed) % countof(labels)]);
}

static void
test_names_random(void **state)
{
	uint32_t seed = 7;

	(void)state;
	for (int round = 0; round < 300; round++) {
		int n = 1 + (int)(next(&seed) % 40);
		struct image_builder *b = image_begin(IMAGE_DOMAIN);
		char pattern[40][160], host[160];
		struct image im;

		for (int i = 0; i < n; i++) {
			random_name(pattern[i], &seed, true);
			assert_true(image_add_pattern(b, pattern[i], strlen(pattern[i])));
		}
		finish(b, &im);
		for (int k = 0; k < 200; k++) {
			bool want = false;

			random_name(host, &seed, false);
			for (int i = 0; i < n && !want; i++)
				want = slow_match(pattern[i], host);
			if (has(&im, host) != want)
				fail_msg("%s: found %d, expected %d", host, !want, want);
		}
		image_close(&im);
	}
}

/* Enough for full buckets that run over. */
static void
test_names_many(void **state)
{
	struct image_builder *b = image_begin(IMAGE_DOMAIN);
	struct image im;
	char name[64];

	(void)state;
	for (int i = 0; i < 100000; i++) {
		int n = snprintf(name, sizeof name, "+.name%d.example", i / 2);	/* each twice */

		assert_true(image_add_pattern(b, name, (size_t)n));
	}
	finish(b, &im);
	assert_true(im.size < 50000 * 14);
	for (int i = 0; i < 50000; i++) {
		(void)snprintf(name, sizeof name, "www.name%d.example", i);
		assert_true(has(&im, name));
		(void)snprintf(name, sizeof name, "name%d.example", i + 50000);
		assert_false(has(&im, name));
	}
	image_close(&im);
}

/* ---- addresses */

static void
test_ranges(void **state)
{
	uint32_t seed = 3;

	(void)state;
	for (int round = 0; round < 60; round++) {
		int n = round < 30 ? 1 + (int)(next(&seed) % 8) : 500, n6 = n / 2;
		struct image_builder *b = image_begin(IMAGE_CLASSICAL);
		struct prefix p[500], s;
		struct image im;

		for (int i = 0; i < n; i++) {
			bool six = i < n6;

			p[i] =
			    (struct prefix){ .ip = { .family = six ? 6 : 4 }, .bits = (uint8_t)(next(&seed) % (six ? 129 : 33)) };
			if (p[i].bits < 4)
				p[i].bits = 16;
			for (int k = 0; k < (six ? 16 : 4); k++)
				p[i].ip.b[k] = (uint8_t)(k < 2 ? next(&seed) % 3 : next(&seed));
			image_add_prefix(b, &p[i], false);
		}
		assert_int_equal(prefix_parse(&s, "10.0.0.0/8"), 0);
		image_add_prefix(b, &s, true);
		finish(b, &im);
		for (int k = 0; k < 2000; k++) {
			const struct prefix *near = &p[next(&seed) % (uint32_t)n];
			struct ip ip = near->ip;
			bool want = false;

			ip.b[next(&seed) % (ip.family == 4 ? 4 : 16)] ^= (uint8_t)(1 << next(&seed) % 8);
			for (int i = 0; i < n && !want; i++)
				want = ip_in_prefix(&ip, &p[i]);
			assert_int_equal(image_has_ip(&im, &ip), want);
			assert_int_equal(image_has_src(&im, &ip), ip_in_prefix(&ip, &s));
		}
		image_close(&im);
	}
}

/* Ranges that begin and end around the longest prefixes of the wide table, in a space small enough to be crowded. */
static void
test_ranges_split(void **state)
{
	uint32_t seed = 5;

	(void)state;
	for (int round = 0; round < 200; round++) {
		struct image_builder *b = image_begin(IMAGE_IPCIDR);
		int n = 1 + (int)(next(&seed) % 20);
		uint8_t from[20][16], to[20][16];
		struct image im;

		for (int i = 0; i < n; i++) {
			uint8_t high = round % 3 == 0 ? 0xff : 0;

			memset(from[i], high, 16);
			from[i][6] = (uint8_t)next(&seed);
			from[i][7] = next(&seed) % 2 == 0 ? (uint8_t)next(&seed) : (uint8_t)(next(&seed) << 6);
			from[i][8] = next(&seed) % 4 == 0 ? (uint8_t)next(&seed) : 0;
			memcpy(to[i], from[i], 16);
			to[i][6] = (uint8_t)(from[i][6] | next(&seed) % 16);
			to[i][7] = (uint8_t)(from[i][7] | next(&seed));
			memset(to[i] + 8, next(&seed) % 4 == 0 ? from[i][8] | 0x0f : 0xff, 8);
			memset(from[i] + 9, 0, 7);
			image_add_range(b, 6, from[i], to[i]);
		}
		finish(b, &im);
		for (int k = 0; k < 2000; k++) {
			const uint8_t *near =
			    next(&seed) % 2 == 0 ? from[next(&seed) % (uint32_t)n] : to[next(&seed) % (uint32_t)n];
			struct ip ip = { .family = 6 };
			bool want = false;

			memcpy(ip.b, near, 16);
			if (k % 3 != 0)
				ip.b[6 + next(&seed) % 3] ^= (uint8_t)(1 << next(&seed) % 8);
			for (int i = 0; i < n && !want; i++)
				want = memcmp(from[i], ip.b, 16) <= 0 && memcmp(ip.b, to[i], 16) <= 0;
			assert_int_equal(image_has_ip(&im, &ip), want);
		}
		image_close(&im);
	}
}

/* Counts around which the tree gets another level, and blocks that are not full. */
static void
test_ranges_levels(void **state)
{
	static const uint32_t counts[] = { 1, 2, 7, 8, 9, 63, 64, 65, 66, 511, 512, 513, 520, 4095, 4097, 33000 };

	(void)state;
	for (size_t c = 0; c < countof(counts); c++) {
		struct image_builder *b = image_begin(IMAGE_IPCIDR);
		struct image im;

		for (uint32_t i = 0; i < counts[c]; i++) {	/* every other /48: nothing touches */
			struct prefix p = { .ip = { .family = 6, .b = { 0x20, 1, 0, (uint8_t)(i >> 15), (uint8_t)(i >> 7),
							    (uint8_t)(i << 1) } }, .bits = 48 };

			image_add_prefix(b, &p, false);
		}
		finish(b, &im);
		assert_int_equal(im.h->part[IMAGE_WIDE6].n, counts[c]);
		for (uint32_t i = 0; i < 2 * counts[c] + 4; i++) {
			struct ip ip = { .family = 6, .b = { 0x20, 1, 0, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i, 9 } };

			assert_int_equal(image_has_ip(&im, &ip), i % 2 == 0 && i < 2 * counts[c]);
		}
		assert_false(image_has_ip(&im, &(struct ip){ .family = 6 }));
		image_close(&im);
	}
}

static void
test_ranges_ends(void **state)
{
	static const char *const in[] = { "0.0.0.0", "0.255.255.255", "255.255.255.255", "255.0.0.0",
		"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" };
	static const char *const out[] = { "1.0.0.0", "254.255.255.255", "::2", "8000::" };
	static const char *const lists[] = { "0.0.0.0/9", "0.128.0.0/9", "255.0.0.0/8", "255.255.255.255/32", "::/127",
		"ff00::/8" };
	struct image_builder *b = image_begin(IMAGE_IPCIDR);
	struct image im;
	struct prefix p;
	struct ip ip = { 0 };

	(void)state;
	for (size_t i = 0; i < countof(lists); i++) {
		assert_int_equal(prefix_parse(&p, lists[i]), 0);
		image_add_prefix(b, &p, false);
	}
	finish(b, &im);
	assert_int_equal(im.h->part[IMAGE_V4].n, 2);	/* touching ones are one */
	assert_false(image_has_ip(&im, &ip));		/* no address */
	for (size_t i = 0; i < countof(in); i++) {
		assert_int_equal(ip_parse(&ip, in[i]), 0);
		assert_true(image_has_ip(&im, &ip));
	}
	for (size_t i = 0; i < countof(out); i++) {
		assert_int_equal(ip_parse(&ip, out[i]), 0);
		assert_false(image_has_ip(&im, &ip));
	}
	image_close(&im);
}

/* ---- keywords */

static void
test_words(void **state)
{
	uint32_t seed = 5;

	(void)state;
	for (int round = 0; round < 200; round++) {
		struct image_builder *b = image_begin(IMAGE_CLASSICAL);
		int n = 1 + (int)(next(&seed) % 30);
		char word[30][8], host[24];
		struct image im;

		for (int i = 0; i < n; i++) {
			int len = 1 + (int)(next(&seed) % (round % 2 == 0 ? 6 : 2)), k;

			for (k = 0; k < len + round % 3 && k < 7; k++)
				word[i][k] = (char)('a' + next(&seed) % 4);
			word[i][k] = '\0';
			image_add_word(b, word[i], strlen(word[i]));
		}
		finish(b, &im);
		for (int t = 0; t < 300; t++) {
			int len = (int)(next(&seed) % 20);
			bool want = false;

			for (int k = 0; k < len; k++)
				host[k] = (char)('a' + next(&seed) % 4);
			host[len] = '\0';
			for (int i = 0; i < n && !want; i++)
				want = strstr(host, word[i]) != NULL;
			if (image_has_word(&im, host, (size_t)len) != want)
				fail_msg("%s: expected %d", host, want);
		}
		image_close(&im);
	}
}

/* ---- hostile images */

static void
test_image_refused(void **state)
{
	struct image_builder *b = image_begin(IMAGE_CLASSICAL);
	struct prefix p;
	struct image im;
	uint8_t *copy;
	uint32_t seed = 9;
	int pipe_fd[2];

	(void)state;
	for (int i = 0; i < 200; i++) {
		char name[32];
		int n = snprintf(name, sizeof name, "n%d.a.*.b", i);

		assert_true(image_add_pattern(b, name, (size_t)n));
		(void)snprintf(name, sizeof name, "%d.%d.0.0/16", i, i);
		assert_int_equal(prefix_parse(&p, name), 0);
		image_add_prefix(b, &p, false);
		(void)snprintf(name, sizeof name, "20%02d:%d::/%d", i % 40, i, 30 + i % 60);
		assert_int_equal(prefix_parse(&p, name), 0);
		image_add_prefix(b, &p, false);
	}
	image_add_word(b, "word", 4);
	image_add_line(b, "DST-PORT,1", 10);
	finish(b, &im);
	copy = aligned_alloc(64, (im.size + 63) / 64 * 64);
	for (int i = 0; i < 20000; i++) {	/* a header that lies: refused, or harmless */
		struct image bad;
		struct ip ip = { .family = 4, .b = { 9, 9 } }, six = { .family = 6, .b = { 0x20, (uint8_t)i, 9 } };

		memcpy(copy, im.h, im.size);
		copy[next(&seed) % sizeof *im.h] = (uint8_t)next(&seed);
		if (i % 4 == 0)
			copy[next(&seed) % im.size] ^= (uint8_t)(1 << next(&seed) % 8);
		if (image_from_memory(&bad, copy, im.size) != 0)
			continue;
		(void)has(&bad, "n3.a.x.b");
		(void)image_has_word(&bad, "a-word-", 7);
		(void)image_has_ip(&bad, &ip);
		(void)image_has_ip(&bad, &six);
		for (const char *l = NULL; (l = image_next_line(&bad, l)) != NULL;)
			;
	}
	for (size_t n = 0; n < im.size; n += 97)
		assert_int_not_equal(image_from_memory(&(struct image){ 0 }, im.h, n), 0);
	free(copy);
	image_close(&im);
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_not_equal(image_open(&im, pipe_fd[0]), 0);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

/* One header field of a good image is changed: what the parts before and behind it say must agree. */
static void
test_image_refused_parts(void **state)
{
	static const struct { enum image_part part; int64_t n; } lies[] = {
		{ IMAGE_FILTER, -1000 }, { IMAGE_TREE6, -1 }, { IMAGE_TREE6, 1 }, { IMAGE_TREE6, -1000 }, { IMAGE_WIDE6, -10 }, { IMAGE_WIDE6, 100 },
		{ IMAGE_WIDE6, -1000 }, { IMAGE_IDX4, -1 }, { IMAGE_V4, -1 },
	};
	struct image_builder *b = image_begin(IMAGE_IPCIDR);
	struct image_header *h;
	struct image im, bad;

	(void)state;
	for (int i = 0; i < 100; i++) {
		struct prefix v4 = { .ip = { .family = 4, .b = { (uint8_t)(2 * i), 1 } }, .bits = 16 };
		struct prefix v6 = { .ip = { .family = 6, .b = { 0x20, (uint8_t)(2 * i) } }, .bits = 16 };

		image_add_prefix(b, &v4, false);
		image_add_prefix(b, &v6, false);
	}
	assert_true(image_add_pattern(b, "+.a.test", 8));
	finish(b, &im);
	h = aligned_alloc(64, (im.size + 63) / 64 * 64);
	for (size_t i = 0; i < countof(lies); i++) {
		int64_t n;

		memcpy(h, im.h, im.size);
		assert_int_equal(image_from_memory(&bad, h, im.size), 0);
		n = (int64_t)h->part[lies[i].part].n + lies[i].n;
		h->part[lies[i].part].n = n < 0 ? 0 : (uint64_t)n;
		if (image_from_memory(&bad, h, im.size) == 0)
			fail_msg("part %d with %jd elements is taken", (int)lies[i].part, (intmax_t)n);
	}
	memcpy(h, im.h, im.size);
	h->magic[7]--;			/* of another layout */
	assert_int_not_equal(image_from_memory(&bad, h, im.size), 0);
	free(h);
	image_close(&im);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_patterns),
		cmocka_unit_test(test_names_random),
		cmocka_unit_test(test_names_many),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_ranges_split),
		cmocka_unit_test(test_ranges_levels),
		cmocka_unit_test(test_ranges_ends),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_image_refused),
		cmocka_unit_test(test_image_refused_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
