/* SPDX-License-Identifier: MIT */
/* common/value.c: what is written is read back; no byte string makes the reader leave its buffer, its depth or its end. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/err.h"
#include "common/value.h"

static struct value
expect(struct value_reader *r, enum value_tag tag, const char *key)
{
	struct value v;

	assert_int_equal(value_next(r, &v), 0);
	assert_int_equal(v.tag, tag);
	if (key == NULL) {
		assert_null(v.key);
	} else {
		assert_int_equal(v.key_len, strlen(key));
		assert_memory_equal(v.key, key, v.key_len);
	}
	return v;
}

static void
write_sample(struct wire *w, const uint8_t *id)
{
	wire_init(w);
	value_map(w);
	value_key(w, "n");
	value_null(w);
	value_key(w, "b");
	value_bool(w, true);
	value_key(w, "i");
	value_int(w, INT64_MIN);
	value_key(w, "u");
	value_uint(w, UINT64_MAX);
	value_key(w, "s");
	value_str(w, "text");
	value_key(w, "l");
	value_list(w);
	value_bool(w, false);
	value_uuid(w, id);
	value_map(w);
	value_map_end(w);
	value_list_end(w);
	value_key(w, "t");
	value_time(w, -5);
	value_map_end(w);
}

static void
test_value_next_round_trip(void **state)
{
	const uint8_t id[16] = { 1, 2, 3 };
	struct value_reader r;
	struct value v;
	struct wire w, in;

	(void)state;
	write_sample(&w, id);
	wire_read(&in, w.p, w.len);
	value_reader_init(&r, &in);
	expect(&r, V_MAP, NULL);
	expect(&r, V_NULL, "n");
	expect(&r, V_TRUE, "b");
	assert_true(expect(&r, V_INT, "i").i == INT64_MIN);
	assert_true(expect(&r, V_UINT, "u").u == UINT64_MAX);
	v = expect(&r, V_STR, "s");
	assert_int_equal(v.len, 4);
	assert_memory_equal(v.str, "text", 4);
	expect(&r, V_LIST, "l");
	assert_int_equal(r.depth, 2);
	expect(&r, V_FALSE, NULL);
	v = expect(&r, V_UUID, NULL);
	assert_memory_equal(v.str, id, 16);
	expect(&r, V_MAP, NULL);
	expect(&r, V_END, NULL);
	assert_int_equal(r.open[r.depth], V_MAP);
	expect(&r, V_END, NULL);
	assert_int_equal(r.open[r.depth], V_LIST);
	assert_int_equal(expect(&r, V_TIME, "t").i, -5);
	expect(&r, V_END, NULL);
	assert_int_equal(value_next(&r, &v), -E_EOF);
	assert_int_equal(wire_done(&in), 0);
	wire_free(&w);
}

static void
test_value_next_every_cut_fails(void **state)
{
	const uint8_t id[16] = { 0 };
	struct value_reader r;
	struct value v;
	struct wire w, in;
	int rc;

	(void)state;
	write_sample(&w, id);
	for (size_t n = 0; n < w.len; n++) {
		wire_read(&in, w.p, n);
		value_reader_init(&r, &in);
		while ((rc = value_next(&r, &v)) == 0)
			;
		assert_int_equal(rc, -E_PROTO);
		assert_int_equal(value_next(&r, &v), -E_PROTO);	/* stays failed */
	}
	wire_free(&w);
}

static void
test_value_next_bounds_depth(void **state)
{
	uint8_t lists[VALUE_DEPTH_MAX + 1];
	struct value_reader r;
	struct value v;
	struct wire in;

	(void)state;
	memset(lists, V_LIST, sizeof(lists));
	wire_read(&in, lists, sizeof(lists));
	value_reader_init(&r, &in);
	for (int i = 0; i < VALUE_DEPTH_MAX; i++)
		expect(&r, V_LIST, NULL);
	assert_int_equal(value_next(&r, &v), -E_PROTO);
}

static void
test_value_next_refuses_bad_bytes(void **state)
{
	static const struct { const char *bytes; size_t n; } bad[] = {
		{ "\x00", 1 },				/* an end of nothing */
		{ "\x0b", 1 },				/* no such tag */
		{ "\xff", 1 },
		{ "\x06\xff\xff\xff\xff" "a", 6 },	/* a text longer than the data */
		{ "\x0a\x01" "k\x00", 4 },		/* a member without a value */
		{ "\x0a\xff" "k", 3 },			/* a key longer than the data */
		{ "\x08" "123456789012345", 16 },	/* 15 bytes of a UUID */
	};
	struct value_reader r;
	struct value v;
	struct wire in;
	int rc;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		wire_read(&in, bad[i].bytes, bad[i].n);
		value_reader_init(&r, &in);
		while ((rc = value_next(&r, &v)) == 0)
			;
		assert_int_equal(rc, -E_PROTO);
	}
}

static void
test_value_key_is_never_an_end(void **state)
{
	char longer[301];
	struct value_reader r;
	struct value v;
	struct wire w, in;

	(void)state;
	memset(longer, 'k', 300);
	longer[300] = '\0';
	wire_init(&w);
	value_map(&w);
	value_key(&w, "");
	value_null(&w);
	value_key(&w, longer);
	value_null(&w);
	value_map_end(&w);
	wire_read(&in, w.p, w.len);
	value_reader_init(&r, &in);
	expect(&r, V_MAP, NULL);
	expect(&r, V_NULL, "_");
	assert_int_equal(value_next(&r, &v), 0);
	assert_int_equal(v.key_len, 255);
	expect(&r, V_END, NULL);
	assert_true(r.done);
	wire_free(&w);
}

static void
test_value_str_null_is_empty(void **state)
{
	struct value_reader r;
	struct wire w, in;

	(void)state;
	wire_init(&w);
	value_str(&w, NULL);
	wire_read(&in, w.p, w.len);
	value_reader_init(&r, &in);
	assert_int_equal(expect(&r, V_STR, NULL).len, 0);
	assert_true(r.done);		/* a scalar may be the outermost value */
	wire_free(&w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_value_next_round_trip), cmocka_unit_test(test_value_next_every_cut_fails),
		cmocka_unit_test(test_value_next_bounds_depth), cmocka_unit_test(test_value_next_refuses_bad_bytes),
		cmocka_unit_test(test_value_key_is_never_an_end), cmocka_unit_test(test_value_str_null_is_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
