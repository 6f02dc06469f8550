/* SPDX-License-Identifier: MIT */
/* common/wire.c: the layout that both ends must agree on, and readers that meet short, long and lying input. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/wire.h"

static void
test_wire_put_layout(void **state)
{
	static const uint8_t want[] = { 0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09,
		0x08, 0x01,
		0x02, 0x00, 0x00, 0x00, 'h', 'i', 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0xff, 0x00, 0xfe };
	struct wire w;

	(void)state;
	wire_init(&w);
	wire_put_u8(&w, 0x01);
	wire_put_u16(&w, 0x0203);
	wire_put_u32(&w, 0x04050607);
	wire_put_u64(&w, 0x08090a0b0c0d0e0f);
	wire_put_bool(&w, true);
	wire_put_str(&w, "hi");
	wire_put_str(&w, NULL);
	wire_put_bytes(&w, "\xff\x00\xfe", 3);
	assert_false(w.failed);
	assert_int_equal(w.len, sizeof(want));
	assert_memory_equal(w.p, want, sizeof(want));
	wire_free(&w);
	assert_null(w.p);
}

static void
test_wire_get_round_trip(void **state)
{
	struct wire w, r;
	uint8_t u8;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	bool b;
	char s[3], *dup;
	const void *p;
	size_t n;

	(void)state;
	wire_init(&w);
	wire_put_u8(&w, 200);
	wire_put_u16(&w, 60000);
	wire_put_u32(&w, 4000000000);
	wire_put_u64(&w, UINT64_MAX - 1);
	wire_put_bool(&w, true);
	wire_put_str(&w, "ab");
	wire_put_str(&w, "copy");
	wire_put_bytes(&w, "x\0y", 3);
	wire_read(&r, w.p, w.len);
	assert_int_equal(wire_get_u8(&r, &u8), 0);
	assert_int_equal(wire_get_u16(&r, &u16), 0);
	assert_int_equal(wire_get_u32(&r, &u32), 0);
	assert_int_equal(wire_get_u64(&r, &u64), 0);
	assert_int_equal(wire_get_bool(&r, &b), 0);
	assert_int_equal(wire_get_str(&r, s, sizeof(s)), 0);
	dup = wire_get_strdup(&r, 4);
	assert_int_equal(wire_done(&r), -E_PROTO);	/* something is left */
	assert_int_equal(wire_get_bytes(&r, &p, &n, 3), 0);
	assert_int_equal(wire_done(&r), 0);
	assert_int_equal(u8, 200);
	assert_int_equal(u16, 60000);
	assert_int_equal(u32, 4000000000);
	assert_true(u64 == UINT64_MAX - 1);
	assert_true(b);
	assert_string_equal(s, "ab");
	assert_string_equal(dup, "copy");
	assert_int_equal(n, 3);
	assert_memory_equal(p, "x\0y", 3);
	free(dup);
	/* every value can be skipped */
	wire_read(&r, w.p, w.len);
	wire_get_u8(&r, NULL);
	wire_get_u16(&r, NULL);
	wire_get_u32(&r, NULL);
	wire_get_u64(&r, NULL);
	wire_get_bool(&r, NULL);
	wire_get_str(&r, NULL, 0);
	wire_get_str(&r, NULL, 5);
	wire_get_bytes(&r, NULL, NULL, 3);
	assert_int_equal(wire_done(&r), 0);
	wire_free(&w);
}

static void
test_wire_get_short_stays_failed(void **state)
{
	static const uint8_t three[3] = { 1, 2, 3 };
	struct wire r;
	uint32_t u32 = 77;
	uint8_t u8 = 88;

	(void)state;
	wire_read(&r, three, sizeof(three));
	assert_int_equal(wire_get_u32(&r, &u32), -E_PROTO);
	assert_int_equal(u32, 77);
	assert_int_equal(wire_get_u8(&r, &u8), -E_PROTO);	/* it would fit, but the reader has failed */
	assert_int_equal(u8, 88);
	assert_int_equal(wire_left(&r), 0);
	assert_int_equal(wire_done(&r), -E_PROTO);
	wire_read(&r, NULL, 0);
	assert_int_equal(wire_done(&r), 0);
	assert_int_equal(wire_get_u8(&r, &u8), -E_PROTO);
}

static void
test_wire_get_bytes_lying_length(void **state)
{
	static const uint8_t huge[] = { 0xff, 0xff, 0xff, 0xff, 'a', 'b' }, one_over[] = { 3, 0, 0, 0, 'a', 'b' };
	static const uint8_t with_nul[] = { 3, 0, 0, 0, 'a', 0, 'b' };
	struct wire r;
	char s[8] = "old";
	const void *p;
	size_t n;

	(void)state;
	wire_read(&r, huge, sizeof(huge));
	assert_int_equal(wire_get_bytes(&r, &p, &n, SIZE_MAX), -E_PROTO);
	wire_read(&r, one_over, sizeof(one_over));
	assert_int_equal(wire_get_bytes(&r, &p, &n, SIZE_MAX), -E_PROTO);
	wire_read(&r, one_over, sizeof(one_over));
	assert_null(wire_get_strdup(&r, 100));
	wire_read(&r, with_nul, sizeof(with_nul));
	assert_int_equal(wire_get_str(&r, s, sizeof(s)), -E_PROTO);
	assert_string_equal(s, "old");
	wire_read(&r, with_nul, sizeof(with_nul));
	assert_null(wire_get_strdup(&r, 100));
	wire_read(&r, with_nul, sizeof(with_nul));
	assert_int_equal(wire_get_str(&r, NULL, 0), -E_PROTO);
}

static void
test_wire_get_str_too_long(void **state)
{
	static const uint8_t abc[] = { 3, 0, 0, 0, 'a', 'b', 'c' };
	struct wire r;
	char s[4];

	(void)state;
	wire_read(&r, abc, sizeof(abc));
	assert_int_equal(wire_get_str(&r, s, 3), -E_PROTO);
	wire_read(&r, abc, sizeof(abc));
	assert_int_equal(wire_get_str(&r, s, 0), -E_PROTO);
	wire_read(&r, abc, sizeof(abc));
	assert_int_equal(wire_get_str(&r, s, 4), 0);
	assert_string_equal(s, "abc");
	wire_read(&r, abc, sizeof(abc));
	assert_int_equal(wire_get_bytes(&r, NULL, NULL, 2), -E_PROTO);
	wire_read(&r, abc, sizeof(abc));
	assert_null(wire_get_strdup(&r, 2));
}

static void
test_wire_get_bool_only_0_and_1(void **state)
{
	static const uint8_t two[] = { 2 };
	struct wire r;
	bool b = false;

	(void)state;
	wire_read(&r, two, sizeof(two));
	assert_int_equal(wire_get_bool(&r, &b), -E_PROTO);
	assert_int_equal(wire_done(&r), -E_PROTO);
}

static void
test_wire_put_over_limit(void **state)
{
	uint8_t *big = calloc(1, WIRE_MAX);
	struct wire w;

	(void)state;
	assert_non_null(big);
	wire_init(&w);
	wire_put_u8(&w, 1);
	wire_put(&w, big, WIRE_MAX);
	assert_true(w.failed);
	wire_put_u8(&w, 1);
	assert_int_equal(w.len, 1);		/* a failed writer takes nothing more */
	wire_free(&w);
	wire_put_bytes(&w, big, (size_t)WIRE_MAX + 1);
	assert_true(w.failed);
	wire_free(&w);
	free(big);
}

static void
test_wire_put_into_reader_fails(void **state)
{
	static const uint8_t fixed[4] = { 0 };
	struct wire r;

	(void)state;
	wire_read(&r, fixed, sizeof(fixed));
	wire_put_u8(&r, 1);
	assert_true(r.failed);
	wire_read(&r, fixed, sizeof(fixed));
	wire_set_u32(&r, 0, 7);
	assert_true(r.failed);
	assert_int_equal(fixed[0], 0);
	wire_read(&r, NULL, 0);
	wire_put_u8(&r, 1);
	assert_true(r.failed);
	wire_free(&r);
}

static void
test_wire_set_u32_bounds(void **state)
{
	struct wire w, r;
	uint32_t v = 0;

	(void)state;
	wire_init(&w);
	wire_put_u32(&w, 0);
	wire_put_u8(&w, 9);
	wire_set_u32(&w, 0, 0x01020304);
	assert_false(w.failed);
	wire_read(&r, w.p, w.len);
	wire_get_u32(&r, &v);
	assert_int_equal(v, 0x01020304);
	wire_set_u32(&w, 2, 1);
	assert_true(w.failed);
	wire_free(&w);
	wire_put_u32(&w, 0);
	wire_set_u32(&w, SIZE_MAX, 1);
	assert_true(w.failed);
	wire_free(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wire_put_layout),
		cmocka_unit_test(test_wire_get_round_trip),
		cmocka_unit_test(test_wire_get_short_stays_failed),
		cmocka_unit_test(test_wire_get_bytes_lying_length),
		cmocka_unit_test(test_wire_get_str_too_long),
		cmocka_unit_test(test_wire_get_bool_only_0_and_1),
		cmocka_unit_test(test_wire_put_over_limit),
		cmocka_unit_test(test_wire_put_into_reader_fails),
		cmocka_unit_test(test_wire_set_u32_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
