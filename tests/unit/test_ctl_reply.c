/* SPDX-License-Identifier: MIT */
/* controller/reply.c and controller/api/body.c: the encoding of spec/api.md 1.6, and what is taken for JSON or a query value. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/err.h"
#include "common/value.h"
#include "controller/api.h"

static struct reply out;

static void
reset(void)
{
	free(out.body);
	memset(&out, 0, sizeof(out));
}

static int
teardown(void **state)
{
	(void)state;
	reset();
	return 0;
}

static void
expect(const char *text)
{
	assert_false(out.oom);
	assert_int_equal(out.len, strlen(text));
	assert_memory_equal(out.body, text, out.len);
	reset();
}

static void
str_n(const char *in, size_t n, const char *text)
{
	json_str(&out, in, n);
	expect(text);
}

static void
str(const char *in, const char *text)
{
	str_n(in, strlen(in), text);
}

static void
test_json_str_ascii(void **state)
{
	(void)state;
	str("", "\"\"");
	str("a/b\x7f~", "\"a/b\x7f~\"");
	str("\"\\", "\"\\\"\\\\\"");
	str("<>&'", "\"\\u003c\\u003e\\u0026'\"");
	str("\n\r\t\b\f", "\"\\n\\r\\t\\b\\f\"");
	str_n("\0\x01\x0b\x1f", 4, "\"\\u0000\\u0001\\u000b\\u001f\"");
}

/* Every byte at every place of texts of every length up to some words, against a rendering one byte at a time; the bytes
 * around it are those beside the special ones. */
static void
test_json_str_places(void **state)
{
	static const char around[] = " !#%';=?[]az\x7f";
	char text[20], want[20 * 6 + 3];

	(void)state;
	for (const char *fill = around; *fill != '\0'; fill++)
		for (size_t n = 1; n <= sizeof text; n++)
			for (unsigned byte = 0; byte < 256; byte++) {
				size_t at = (byte + n) % n, len = 0;

				memset(text, *fill, n);
				text[at] = (char)byte;
				want[len++] = '"';
				for (size_t i = 0; i < n; i++) {
					json_str(&out, text + i, 1);
					memcpy(want + len, out.body + 1, out.len - 2);
					len += out.len - 2;
					out.len = 0;
				}
				want[len++] = '"';
				want[len] = '\0';
				str_n(text, n, want);
			}
}

static void
test_json_str_utf8(void **state)
{
	(void)state;
	str("\xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x87\xaf", "\"\xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x87\xaf\"");
	str("\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa", "\"\xe2\x80\xa7\\u2028\\u2029\xe2\x80\xaa\"");
	str("\xef\xbf\xbd", "\"\xef\xbf\xbd\"");		/* a valid U+FFFD stays */
}

static void
test_json_str_invalid_utf8(void **state)
{
	(void)state;
	str("a\x80z", "\"a\\ufffdz\"");
	str("\xc0\xaf", "\"\\ufffd\\ufffd\"");			/* overlong */
	str("\xe0\x80\x80", "\"\\ufffd\\ufffd\\ufffd\"");
	str("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");	/* a surrogate */
	str("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");	/* past U+10FFFF */
	str("\xff<", "\"\\ufffd\\u003c\"");
	str_n("\xe6\x97\xa5", 2, "\"\\ufffd\\ufffd\"");		/* cut by the end */
	str("\xe6" "ab", "\"\\ufffdab\"");			/* cut by ASCII, which is kept */
}

static void
test_json_int_limits(void **state)
{
	(void)state;
	json_int(&out, INT64_MIN);
	json_raw(&out, " ");
	json_int(&out, 0);
	json_raw(&out, " ");
	json_uint(&out, UINT64_MAX);
	expect("-9223372036854775808 0 18446744073709551615");
}

static void
at(const char *zone, int64_t ns, const char *text)
{
	setenv("TZ", zone, 1);
	tzset();
	json_time(&out, ns);
	expect(text);
}

static void
test_json_time_zones_and_fractions(void **state)
{
	(void)state;
	at("UTC", 0, "\"0001-01-01T00:00:00Z\"");
	at("UTC", INT64_C(1763779612461134690), "\"2025-11-22T02:46:52.46113469Z\"");
	at("UTC", INT64_C(1763779612000000000), "\"2025-11-22T02:46:52Z\"");
	at("UTC", INT64_C(1763779612000000001), "\"2025-11-22T02:46:52.000000001Z\"");
	at("UTC", -1, "\"1969-12-31T23:59:59.999999999Z\"");
	at("AAA-8", INT64_C(1763779612100000000), "\"2025-11-22T10:46:52.1+08:00\"");
	at("AAA3:30", INT64_C(1763779612000000000), "\"2025-11-21T23:16:52-03:30\"");
	at("UTC", INT64_MIN, "\"1677-09-21T00:12:43.145224192Z\"");
	unsetenv("TZ");
	tzset();
}

static void
test_json_value_renders_in_order(void **state)
{
	const uint8_t id[16] = { 0xde, 0xad, [15] = 1 };
	struct wire w, in;

	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	wire_init(&w);
	value_map(&w);
	value_key(&w, "z<");
	value_list(&w);
	value_list_end(&w);
	value_key(&w, "a");
	value_list(&w);
	value_int(&w, -1);
	value_map(&w);
	value_map_end(&w);
	value_str(&w, "x");
	value_list_end(&w);
	value_key(&w, "t");
	value_time(&w, 0);
	value_key(&w, "id");
	value_uuid(&w, id);
	value_key(&w, "n");
	value_null(&w);
	value_map_end(&w);
	value_bool(&w, false);		/* the next value is left alone */
	wire_read(&in, w.p, w.len);
	assert_int_equal(json_value(&out, &in), 0);
	assert_int_equal(wire_left(&in), 1);
	expect("{\"z\\u003c\":[],\"a\":[-1,{},\"x\"],\"t\":\"0001-01-01T00:00:00Z\",\"id\":\"dead0000-0000-0000-0000-"
	       "000000000001\",\"n\":null}");
	wire_free(&w);
}

static void
test_json_value_writes_nothing_of_bad_data(void **state)
{
	const uint8_t cut[] = { V_MAP, 1, 'a', V_TRUE, 1, 'b' };
	struct wire in;

	(void)state;
	json_raw(&out, "[");
	wire_read(&in, cut, sizeof(cut));
	assert_int_equal(json_value(&out, &in), -E_PROTO);
	expect("[");
}

static void
test_reply_error_replaces_what_was_built(void **state)
{
	struct api_req req = { .reply = &out };

	(void)state;
	json_raw(&out, "{\"half\":");
	assert_int_equal(reply_error(&req, 400, "bad %s", "\"<x>\""), 400);
	assert_int_equal(out.status, 400);
	assert_string_equal(out.type, "application/json");
	expect("{\"message\":\"bad \\\"\\u003cx\\u003e\\\"\"}\n");
}

static void
test_reply_json_tree(void **state)
{
	struct api_req req = { .reply = &out };

	(void)state;
	reply_json(&req, 200, cJSON_Parse("{\"b\":[1,-2.5,1e3,true,null,\"<\"],\"a\":{}}"));
	expect("{\"b\":[1,-2.5,1000,true,null,\"\\u003c\"],\"a\":{}}\n");
	assert_int_equal(reply_json(&req, 200, NULL), 500);
	assert_int_equal(out.len, 0);
}

static void
test_reply_header_cannot_be_split(void **state)
{
	struct api_req req = { .reply = &out };

	(void)state;
	assert_int_equal(reply_header(&req, "A", "b"), 0);
	assert_int_equal(reply_header(&req, "C", "d\r\nE: f"), -E_INVAL);
	assert_string_equal(out.headers, "A: b\r\n");
}

static void
test_json_str_over_the_cap_is_oom(void **state)
{
	struct api_req req = { .reply = &out };

	(void)state;
	json_str(&out, "", SIZE_MAX / 2);
	assert_true(out.oom);
	assert_int_equal(reply_built(&req, 200), 500);
	assert_int_equal(out.len, 0);
}

/* ---- body.c */

static bool
valid(const char *s)
{
	return json_scan(s, strlen(s), 32, NULL) == strlen(s);
}

static void
test_json_scan_takes_json_only(void **state)
{
	static const char *const good[] = { "{}", "[]", " [1,2.5,-0,1e+5,0.1E-2]",
		"{\"a\":{\"b\":[null,true,false]},\"\":\"\\u00e9\\\"\"}", "\"x\"", "7" };
	static const char *const bad[] = { "", " ", "{", "[", "{]", "[1,]", "{\"a\":1,}", "{a:1}", "{\"a\"}", "{\"a\":}", "[01]",
		"[1.]", "[.5]", "[+1]", "[-]", "[1e]", "nul", "[tru]", "\"", "\"\\x\"", "\"\\u12g4\"", "\"a\nb\"", "[1 2]", "{,}",
		"[,1]", "'a'" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(valid(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(json_scan(bad[i], strlen(bad[i]), 32, NULL), 0);
	assert_int_equal(json_scan("{\"a\":1} trailing {", 18, 32, NULL), 7);
}

static void
test_json_scan_bounds_depth(void **state)
{
	char text[JSON_DEPTH_MAX + 2];

	(void)state;
	memset(text, '[', sizeof(text));
	assert_int_equal(json_scan(text, sizeof(text), JSON_DEPTH_MAX + 9, NULL), 0);
	assert_int_equal(json_scan("[[[]]]", 6, 3, NULL), 6);
	assert_int_equal(json_scan("[[[[]]]]", 8, 3, NULL), 0);
	assert_int_equal(json_scan("[[],[],[{}],{\"a\":[]}]", 21, 3, NULL), 21);
}

static cJSON *
parse(const char *body)
{
	struct api_req req = { .body = body, .body_len = strlen(body) };

	return api_json(&req);
}

static void
test_api_json_first_value_and_members(void **state)
{
	cJSON *j = parse(" {\"Name\":\"a\",\"x\":null,\"NAME\":\"b\",\"name\":null} }}");

	(void)state;
	assert_non_null(j);
	assert_string_equal(api_member(j, "name")->valuestring, "b");
	assert_null(api_member(j, "x"));
	assert_null(api_member(j, "y"));
	assert_null(api_member(NULL, "y"));
	cJSON_Delete(j);
	assert_null(parse("{\"a\":\"x\\u0000y\"}"));
	assert_null(parse(""));
	assert_null(parse("nope"));
	j = parse("null");
	assert_true(cJSON_IsNull(j));
	cJSON_Delete(j);
}

static void
test_api_query_decoding(void **state)
{
	struct api_req req = { .query = "a=1%20+2&b&c=&d=%zz&a=9&%65=x&n=a%00b&t=-5&u=%2B7&w=1x&y=99999999999999999999" };
	char buf[8];
	int64_t v = 0;

	(void)state;
	assert_true(api_query(&req, "a", buf, sizeof(buf)));
	assert_string_equal(buf, "1  2");
	assert_true(api_query(&req, "b", buf, sizeof(buf)) && buf[0] == '\0');
	assert_true(api_query(&req, "c", buf, sizeof(buf)) && buf[0] == '\0');
	assert_false(api_query(&req, "d", buf, sizeof(buf)));
	assert_true(api_query(&req, "e", buf, sizeof(buf)));
	assert_false(api_query(&req, "n", buf, sizeof(buf)));
	assert_false(api_query(&req, "a", buf, 4));
	assert_false(api_query(&req, "none", buf, sizeof(buf)));
	assert_int_equal(api_query_int(&req, "t", -10, 10, &v), 0);
	assert_int_equal(v, -5);
	assert_int_equal(api_query_int(&req, "u", -10, 10, &v), 0);
	assert_int_equal(v, 7);
	assert_int_equal(api_query_int(&req, "t", 0, 10, &v), -E_INVAL);
	assert_int_equal(api_query_int(&req, "w", 0, 10, &v), -E_INVAL);
	assert_int_equal(api_query_int(&req, "y", 0, INT64_MAX, &v), -E_INVAL);
	assert_int_equal(api_query_int(&req, "none", 0, 10, &v), -E_NOTFOUND);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_json_str_ascii, teardown),
		cmocka_unit_test_teardown(test_json_str_places, teardown),
		cmocka_unit_test_teardown(test_json_str_utf8, teardown),
		cmocka_unit_test_teardown(test_json_str_invalid_utf8, teardown),
		cmocka_unit_test_teardown(test_json_int_limits, teardown),
		cmocka_unit_test_teardown(test_json_time_zones_and_fractions, teardown),
		cmocka_unit_test_teardown(test_json_value_renders_in_order, teardown),
		cmocka_unit_test_teardown(test_json_value_writes_nothing_of_bad_data, teardown),
		cmocka_unit_test_teardown(test_reply_error_replaces_what_was_built, teardown),
		cmocka_unit_test_teardown(test_reply_json_tree, teardown),
		cmocka_unit_test_teardown(test_reply_header_cannot_be_split, teardown),
		cmocka_unit_test_teardown(test_json_str_over_the_cap_is_oom, teardown),
		cmocka_unit_test(test_json_scan_takes_json_only),
		cmocka_unit_test(test_json_scan_bounds_depth),
		cmocka_unit_test(test_api_json_first_value_and_members),
		cmocka_unit_test(test_api_query_decoding),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
