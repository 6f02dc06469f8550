/* SPDX-License-Identifier: MIT */
/* common/strutil.c, base64.c, uuid.c and err.c: edges of the small helpers that parsers of foreign text lean on. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"

static void
test_str_compare(void **state)
{
	(void)state;
	assert_true(str_equal(NULL, NULL));
	assert_false(str_equal(NULL, ""));
	assert_true(str_case_equal("AbZ", "aBz"));
	assert_false(str_case_equal("@", "`"));		/* differ by the case bit alone */
	assert_false(str_case_equal("abc", "ab"));
	assert_false(str_case_equal("\xc3\x84", "\xc3\xa4"));
	assert_true(str_starts("abc", "") && str_starts("abc", "abc") && !str_starts("ab", "abc"));
	assert_true(str_ends("abc", "") && str_ends("abc", "bc") && !str_ends("bc", "abc"));
}

static void
test_str_copy_cut(void **state)
{
	char d[4] = "xyz";

	(void)state;
	assert_int_equal(str_copy(d, sizeof(d), "ab"), 2);
	assert_string_equal(d, "ab");
	assert_int_equal(str_copy(d, sizeof(d), "abcd"), 4);
	assert_string_equal(d, "abc");
	d[0] = 'Q';
	assert_int_equal(str_copy(d, 0, "abcd"), 4);
	assert_int_equal(d[0], 'Q');
}

static void
test_str_trim_lower(void **state)
{
	char a[] = " \t a b\t ", b[] = "   ", c[] = "", d[] = "AZ[\xc3\x84";

	(void)state;
	assert_string_equal(str_trim(a), "a b");
	assert_string_equal(str_trim(b), "");
	assert_string_equal(str_trim(c), "");
	str_lower(d);
	assert_string_equal(d, "az[\xc3\x84");
}

static void
test_str_to_i64(void **state)
{
	static const char *const bad[] = { "", "-1", "+1", " 1", "1 ", "0x1", "1.0", "9223372036854775808",
		"18446744073709551617", "a" };
	int64_t v = 5;

	(void)state;
	for (size_t i = 0; i < countof(bad); i++)
		assert_int_equal(str_to_i64(bad[i], INT64_MIN, INT64_MAX, &v), -E_INVAL);
	assert_int_equal(str_to_i64(NULL, 0, 1, &v), -E_INVAL);
	assert_int_equal(str_to_i64("11", 0, 10, &v), -E_INVAL);
	assert_int_equal(str_to_i64("0", 1, 10, &v), -E_INVAL);
	assert_int_equal(v, 5);
	assert_int_equal(str_to_i64("9223372036854775807", 0, INT64_MAX, &v), 0);
	assert_true(v == INT64_MAX);
	assert_int_equal(str_to_i64("007", 0, 7, &v), 0);
	assert_int_equal(v, 7);
}

static void
check_percent(const char *in, const char *want)
{
	char b[64];
	size_t n = strlen(in);

	memcpy(b, in, n);
	n = str_percent_decode(b, b, n);
	assert_int_equal(n, strlen(want));
	assert_memory_equal(b, want, n);
}

static void
test_str_percent_decode(void **state)
{
	char b[8];

	(void)state;
	check_percent("a%20b%2Fc%2f", "a b/c/");
	check_percent("%25%34%31", "%41");	/* once only */
	check_percent("%41%4", "%41%4");	/* one bad escape: all stays */
	check_percent("%zz%41", "%zz%41");
	check_percent("%", "%");
	check_percent("", "");
	assert_int_equal(str_percent_decode(b, "%00x", 4), 2);
	assert_memory_equal(b, "\0x", 2);
}

static void
test_str_distance(void **state)
{
	char a[200], b[200];

	(void)state;
	assert_int_equal(str_distance("", ""), 0);
	assert_int_equal(str_distance("abc", ""), 3);
	assert_int_equal(str_distance("kitten", "sitting"), 3);
	assert_int_equal(str_distance("mixed-port", "mixed-prot"), 2);
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	a[199] = b[199] = '\0';
	assert_int_equal(str_distance(a, b), 64);
}

static void
test_utf8_valid(void **state)
{
	static const struct {
		const char *s;
		size_t n;
		bool ok;
	} v[] = {
		{ "", 0, true }, { "a\0b", 3, true }, { "\xc2\x80", 2, true }, { "\xdf\xbf", 2, true },
		{ "\xe0\xa0\x80", 3, true },
		{ "\xed\x9f\xbf", 3, true }, { "\xef\xbf\xbf", 3, true }, { "\xf0\x90\x80\x80", 4, true },
		{ "\xf4\x8f\xbf\xbf", 4, true },
		{ "\x80", 1, false }, { "\xc0\x80", 2, false }, { "\xc1\xbf", 2, false }, { "\xe0\x9f\xbf", 3, false },
		{ "\xed\xa0\x80", 3, false }, { "\xf0\x8f\xbf\xbf", 4, false }, { "\xf4\x90\x80\x80", 4, false },
		{ "\xf5\x80\x80\x80", 4, false },
		{ "\xc2", 1, false }, { "\xe4\xb8", 2, false }, { "\xf0\x9f\x9a", 3, false }, { "\xe4\xb8" "a", 3, false },
		{ "\xf0\x9f\x9a" "a", 4, false }, { "\xff", 1, false },
	};

	(void)state;
	for (size_t i = 0; i < countof(v); i++)
		assert_int_equal(utf8_valid(v[i].s, v[i].n), v[i].ok);
}

static void
test_base64_decode_good(void **state)
{
	/* RFC 4648, section 10, and both alphabets */
	static const char *const v[][2] = { { "", "" }, { "Zg==", "f" }, { "Zg", "f" }, { "Zm8=", "fo" }, { "Zm8", "fo" },
		{ "Zm9v", "foo" },
		{ "Zm9vYg==", "foob" }, { "Zm9vYmE", "fooba" }, { "Zm9vYmFy", "foobar" }, { "+/+/", "\xfb\xff\xbf" },
		{ "-_-_", "\xfb\xff\xbf" },
		{ "-_8=", "\xfb\xff" }, { "Zh==", "f" } };
	uint8_t out[16];

	(void)state;
	for (size_t i = 0; i < countof(v); i++) {
		int n = base64_decode(out, sizeof(out), v[i][0], strlen(v[i][0]));

		assert_int_equal(n, strlen(v[i][1]));
		assert_memory_equal(out, v[i][1], (size_t)n);
	}
}

static void
test_base64_decode_bad(void **state)
{
	static const char *const v[] = { "Z", "Zg=", "Zg===", "Zm8==", "Zm9v=", "Zm9v==", "Zm9v====", "=", "==", "====",
		"Zg==Zg==", "Z=g=", "Zm9v Yg==",
		"Zm9v\n", " Zm9v", "Zm9*", "+_+_", "Zm9vY", "Zm9\xc3" };
	uint8_t out[16];

	(void)state;
	for (size_t i = 0; i < countof(v); i++)
		assert_int_equal(base64_decode(out, sizeof(out), v[i], strlen(v[i])), -E_INVAL);
	assert_int_equal(base64_decode(out, 2, "Zm9v", 4), -E_INVAL);
	assert_int_equal(base64_decode(out, 3, "Zm9v", 4), 3);
}

static void
test_base64_encode(void **state)
{
	static const char *const v[][2] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
		{ "\xfb\xff\xbf", "+/+/" } };
	char out[16];

	(void)state;
	for (size_t i = 0; i < countof(v); i++) {
		size_t n = base64_encode(out, sizeof(out), (const uint8_t *)v[i][0], strlen(v[i][0]));

		assert_string_equal(out, v[i][1]);
		assert_int_equal(n, strlen(out));
	}
	assert_int_equal(base64_encode(out, 4, (const uint8_t *)"foo", 3), 0);
	assert_string_equal(out, "");
	assert_int_equal(base64_encode(out, 5, (const uint8_t *)"foo", 3), 4);
}

static void
test_uuid_parse(void **state)
{
	static const char *const good[] = { "00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-AABBCCDDEEFF",
		"00112233445566778899aabbccddeeff", "{00112233-4455-6677-8899-aabbccddeeff}",
		"urn:uuid:00112233-4455-6677-8899-aabbccddeeff" };
	static const char *const bad[] = { "", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeefff",
		"00112233x4455-6677-8899-aabbccddeeff", "0011223-34455-6677-8899-aabbccddeeff",
		"00112233-4455-6677-8899-aabbccddeefg",
		"{00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899aabbccddeeff",
		"urn:uuid:", "{}", " 0112233445566778899aabbccddeeff" };
	uint8_t u[16];
	char t[37];

	(void)state;
	for (size_t i = 0; i < countof(good); i++) {
		memset(u, 0, sizeof(u));
		assert_int_equal(uuid_parse(u, good[i]), 0);
		uuid_text(t, u);
		assert_string_equal(t, good[0]);
	}
	for (size_t i = 0; i < countof(bad); i++)
		assert_int_equal(uuid_parse(u, bad[i]), -E_INVAL);
	assert_int_equal(uuid_parse(u, NULL), -E_INVAL);
}

static void
test_uuid_make(void **state)
{
	uint8_t a[16], b[16], seen_or[16] = { 0 }, seen_and[16];

	(void)state;
	memset(seen_and, 0xff, sizeof(seen_and));
	for (int i = 0; i < 200; i++) {
		uuid_make(a);
		uuid_make(b);
		assert_memory_not_equal(a, b, 16);
		assert_int_equal(a[6] >> 4, 4);
		assert_int_equal(a[8] >> 6, 2);
		for (int k = 0; k < 16; k++) {
			seen_or[k] |= a[k];
			seen_and[k] &= a[k];
		}
	}
	for (int k = 0; k < 16; k++) {		/* every free bit was seen in both states */
		assert_int_equal(seen_or[k], k == 6 ? 0x4f : k == 8 ? 0xbf : 0xff);
		assert_int_equal(seen_and[k], k == 6 ? 0x40 : k == 8 ? 0x80 : 0);
	}
}

static void
test_secret_equal(void **state)
{
	(void)state;
	assert_true(secret_equal("", 0, "", 0));
	assert_true(secret_equal("a\0b", 3, "a\0b", 3));
	assert_false(secret_equal("a\0b", 3, "a\0c", 3));
	assert_false(secret_equal("abc", 3, "abcd", 4));
	assert_false(secret_equal("xbc", 3, "abc", 3));
}

static void
test_err_text(void **state)
{
	(void)state;
	for (int i = 0; i < E_MAX_; i++) {
		assert_string_not_equal(err_text(i), "unknown error");
		assert_ptr_equal(err_text(i), err_text(-i));
	}
	assert_string_equal(err_text(E_MAX_), "unknown error");
	assert_string_equal(err_text(-2147483647 - 1), "unknown error");
	assert_int_equal(err_from_errno(ECONNREFUSED), E_REFUSED);
	assert_int_equal(err_from_errno(EADDRINUSE), E_BUSY);
	assert_int_equal(err_from_errno(99999), E_SYS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_str_compare),
		cmocka_unit_test(test_str_copy_cut),
		cmocka_unit_test(test_str_trim_lower),
		cmocka_unit_test(test_str_to_i64),
		cmocka_unit_test(test_str_percent_decode),
		cmocka_unit_test(test_str_distance),
		cmocka_unit_test(test_utf8_valid),
		cmocka_unit_test(test_base64_decode_good),
		cmocka_unit_test(test_base64_decode_bad),
		cmocka_unit_test(test_base64_encode),
		cmocka_unit_test(test_uuid_parse),
		cmocka_unit_test(test_uuid_make),
		cmocka_unit_test(test_secret_equal),
		cmocka_unit_test(test_err_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
