/* SPDX-License-Identifier: MIT */
/* common/map.c: the map against a plain array through many puts and removes, and SipHash-1-3 against values of other
 * implementations. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/map.h"

static void
test_map_put_get_remove(void **state)
{
	struct map m;
	int one, two;

	(void)state;
	map_init(&m);
	assert_null(map_get(&m, "a"));
	assert_null(map_remove(&m, "a"));
	assert_int_equal(map_put(&m, "a", &one), 0);
	assert_int_equal(map_put(&m, "a", &two), -E_BUSY);
	assert_ptr_equal(map_get(&m, "a"), &one);
	assert_null(map_get(&m, "A"));
	assert_null(map_get(&m, ""));
	assert_int_equal(map_put(&m, "", &two), 0);
	assert_ptr_equal(map_get(&m, ""), &two);
	assert_ptr_equal(map_remove(&m, "a"), &one);
	assert_null(map_get(&m, "a"));
	assert_int_equal(m.count, 1);
	map_free(&m);
	assert_null(map_get(&m, ""));
}

/* Moves after deletion: every key that is in must be found, every other not, at any time. */
static void
test_map_many_removals(void **state)
{
	enum { N = 500 };
	static char keys[N][20];
	static int in[N];
	uint32_t r = 12345;
	size_t count = 0;
	struct map m;

	(void)state;
	map_init(&m);
	for (int i = 0; i < N; i++)
		(void)snprintf(keys[i], sizeof(keys[i]), "key-%d", i);
	for (int step = 0; step < 20000; step++) {
		uint32_t k;

		r = r * 1664525 + 1013904223;
		k = (r >> 8) % N;
		if ((r >> 28) < 8) {
			assert_int_equal(map_put(&m, keys[k], keys[k]), in[k] ? -E_BUSY : 0);
			count += in[k] ? 0 : 1;
			in[k] = 1;
		} else {
			assert_ptr_equal(map_remove(&m, keys[k]), in[k] ? keys[k] : NULL);
			count -= in[k] ? 1 : 0;
			in[k] = 0;
		}
		assert_int_equal(m.count, count);
		if (step % 100 == 0) {
			for (int i = 0; i < N; i++)
				assert_ptr_equal(map_get(&m, keys[i]), in[i] ? keys[i] : NULL);
		}
	}
	map_free(&m);
}

static void
test_siphash13_vectors(void **state)
{
	static const uint8_t zero[16];
	/* key 0; produced by another implementation (CPython 3.11, hash of bytes with PYTHONHASHSEED=0) */
	static const struct {
		const char *s;
		uint64_t h;
	} v[] = {
		{ "a", 0x407448d2b89b1813 },
		{ "abcdefg", 0x6db12aae9070f506 },
		{ "abcdefgh", 0x3f7b849c0b8e35ea },
		{ "abcdefghi", 0xf89b34a3d11eb6e5 },
		{ "the quick brown fox jumps over the lazy dog", 0x80a65583f613da2d },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		assert_true(siphash13(zero, v[i].s, strlen(v[i].s)) == v[i].h);
}

static void
test_siphash13_key(void **state)
{
	uint8_t key[16];

	(void)state;
	for (int i = 0; i < 16; i++)
		key[i] = (uint8_t)i;
	assert_true(siphash13(key, "", 0) == 0xabac0158050fc4dc);
}

static void
test_hash_bytes_is_stable(void **state)
{
	uint64_t h = hash_bytes("abc", 3);

	(void)state;
	assert_true(h == hash_bytes("abc", 3));
	assert_true(h != hash_bytes("abd", 3));
	assert_true(hash_bytes("abc\0", 4) != h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_put_get_remove),
		cmocka_unit_test(test_map_many_removals),
		cmocka_unit_test(test_siphash13_vectors),
		cmocka_unit_test(test_siphash13_key),
		cmocka_unit_test(test_hash_bytes_is_stable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
