/* SPDX-License-Identifier: MIT */
/* controller/http.c: heads in pieces, what is refused because two readers could disagree about it, and bodies. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "controller/http.h"

static char head[HTTP_HEAD_MAX + 1];
static struct http_req req;

static int
parse(const char *text)
{
	size_t n = strlen(text);

	memcpy(head, text, n + 1);
	return http_parse(&req, head, n);
}

static int
parse_with(const char *fields)
{
	char text[1024];

	snprintf(text, sizeof(text), "PUT /storage/k?a=b HTTP/1.1\r\nHost: h\r\n%s\r\n", fields);
	return parse(text);
}

static void
test_head_length_in_pieces(void **state)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /second";
	size_t scan = 0, whole = strlen("GET / HTTP/1.1\r\nHost: x\r\n\r\n");

	(void)state;
	for (size_t n = 1; n < whole; n++)
		assert_int_equal(http_head_length(text, n, &scan), 0);
	assert_int_equal(http_head_length(text, sizeof(text) - 1, &scan), whole);
}

static void
test_head_length_bare_line_feed(void **state)
{
	size_t scan = 0;

	(void)state;
	assert_int_equal(http_head_length("GET / HTTP/1.1\n\n", 16, &scan), -E_PROTO);
	scan = 0;
	assert_int_equal(http_head_length("\n", 1, &scan), -E_PROTO);
}

static void
test_head_length_limit(void **state)
{
	char *big = malloc(HTTP_HEAD_MAX);
	size_t scan = 0;

	(void)state;
	memset(big, 'a', HTTP_HEAD_MAX);
	assert_int_equal(http_head_length(big, HTTP_HEAD_MAX - 1, &scan), 0);
	assert_int_equal(http_head_length(big, HTTP_HEAD_MAX, &scan), -E_LIMIT);
	free(big);
}

static void
test_parse_parts(void **state)
{
	(void)state;
	assert_int_equal(parse("GET /a%2Fb?x=1?2 HTTP/1.1\r\nhOsT: me:1\r\nX: \t v w \r\nEmpty:\r\n\r\n"), 0);
	assert_string_equal(req.method, "GET");
	assert_string_equal(req.path, "/a%2Fb");
	assert_string_equal(req.query, "x=1?2");
	assert_string_equal(req.host, "me:1");
	assert_string_equal(http_get(&req, "x"), "v w");
	assert_string_equal(http_get(&req, "EMPTY"), "");
	assert_null(http_get(&req, "Absent"));
	assert_int_equal(req.length, -1);
	assert_false(req.close);
}

static void
test_parse_absolute_form(void **state)
{
	(void)state;
	assert_int_equal(parse("GET http://real:9090/version?q HTTP/1.1\r\nHost: other\r\n\r\n"), 0);
	assert_string_equal(req.path, "/version");
	assert_string_equal(req.host, "real:9090");
	assert_string_equal(req.query, "q");
	assert_int_equal(parse("GET http://real HTTP/1.1\r\nHost: other\r\n\r\n"), 400);
	assert_int_equal(parse("GET version HTTP/1.1\r\nHost: other\r\n\r\n"), 400);
	assert_int_equal(parse("OPTIONS * HTTP/1.1\r\nHost: other\r\n\r\n"), 0);
}

static void
test_parse_refuses_malformed(void **state)
{
	(void)state;
	assert_int_equal(parse("GET /\r\nHost: x\r\n\r\n"), 400);
	assert_int_equal(parse("GET / HTTP/2.0\r\nHost: x\r\n\r\n"), 505);
	assert_int_equal(parse("GET / FTP/1.1\r\nHost: x\r\n\r\n"), 400);
	assert_int_equal(parse("G(T / HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
	assert_int_equal(parse("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
	assert_int_equal(parse("GET / HTTP/1.1\r\n\r\n"), 400);		/* no Host */
	assert_int_equal(parse_with("Host: twice\r\n"), 400);
	assert_int_equal(parse_with("No colon\r\n"), 400);
	assert_int_equal(parse_with("Blank : x\r\n"), 400);
	assert_int_equal(parse_with("A: b\r\n folded\r\n"), 400);
	assert_int_equal(parse_with("A: b\x01\r\n"), 400);
	assert_int_equal(parse_with("A: b\rc\r\n"), 400);
	assert_int_equal(parse_with("Expect: 200-maybe\r\n"), 417);
}

static void
test_parse_smuggling(void **state)
{
	(void)state;
	assert_int_equal(parse_with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400);
	assert_int_equal(parse_with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400);
	assert_int_equal(parse_with("Content-Length: 5\r\nContent-Length: 5\r\n"), 400);
	assert_int_equal(parse_with("Content-Length: 5, 5\r\n"), 400);
	assert_int_equal(parse_with("Content-Length: +5\r\n"), 400);
	assert_int_equal(parse_with("Content-Length: -1\r\n"), 400);
	assert_int_equal(parse_with("Content-Length: 0x5\r\n"), 400);
	assert_int_equal(parse_with("Content-Length:\r\n"), 400);
	assert_int_equal(parse_with("Content-Length: 99999999999999999999\r\n"), 400);
	assert_int_equal(parse_with("Transfer-Encoding: chunked, chunked\r\n"), 501);
	assert_int_equal(parse_with("Transfer-Encoding: xchunked\r\n"), 501);
	assert_int_equal(parse_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), 400);
	assert_int_equal(parse_with("Transfer-Encoding : chunked\r\n"), 400);
	assert_int_equal(parse("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

static void
test_parse_connection(void **state)
{
	(void)state;
	assert_int_equal(parse_with("Connection: keep-alive, Close\r\n"), 0);
	assert_true(req.close);
	assert_int_equal(parse("GET / HTTP/1.0\r\n\r\n"), 0);
	assert_true(req.close);
	assert_int_equal(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), 0);
	assert_false(req.close);
	assert_int_equal(parse_with("Expect: 100-continue\r\n"), 0);
	assert_true(req.expect);
}

static void
test_parse_too_many_fields(void **state)
{
	char text[HTTP_HEADERS_MAX * 8 + 64] = "GET / HTTP/1.1\r\n";

	(void)state;
	for (int i = 0; i < HTTP_HEADERS_MAX; i++)
		strcat(text, "a: b\r\n");
	strcat(text, "Host: x\r\n\r\n");
	assert_int_equal(parse(text), 431);
}

static void
test_token_list(void **state)
{
	(void)state;
	assert_true(http_token("keep-alive, Upgrade", "upgrade"));
	assert_true(http_token(" ,upgrade ,", "upgrade"));
	assert_false(http_token("upgraded", "upgrade"));
	assert_false(http_token("up grade", "upgrade"));
	assert_false(http_token(NULL, "upgrade"));
}

/* Decodes text fed in pieces of step bytes into out; 1 whole, 0 not, or an error. *rest: bytes after the body. */
static int
decode(bool chunked, int64_t length, const char *text, size_t n, size_t step, char *out, size_t *rest)
{
	struct http_req r = { .chunked = chunked, .length = length };
	struct http_body b;
	size_t at = 0, o = 0, used, len;
	const char *data;
	int done = 0;

	http_body_init(&b, &r);
	while (done == 0 && at < n) {
		size_t piece = n - at < step ? n - at : step;
		done = http_body_feed(&b, text + at, piece, &used, &data, &len);
		if (len > 0)
			memcpy(out + o, data, len);
		o += len;
		at += used;
		if (used == 0 && done == 0)
			break;
	}
	out[o] = '\0';
	*rest = n - at;
	return done;
}

static void
test_body_feed_chunked_in_any_pieces(void **state)
{
	static const char text[] = "5\r\nhello\r\n1;name=\"v\"\r\n \r\n00a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nNEXT";
	char out[64];
	size_t rest;

	(void)state;
	for (size_t step = 1; step < sizeof(text); step++) {
		assert_int_equal(decode(true, -1, text, sizeof(text) - 1, step, out, &rest), 1);
		assert_string_equal(out, "hello 0123456789");
		assert_int_equal(rest, 4);
	}
}

static void
test_body_feed_length(void **state)
{
	char out[64];
	size_t rest;

	(void)state;
	assert_int_equal(decode(false, 5, "helloNEXT", 9, 2, out, &rest), 1);
	assert_string_equal(out, "hello");
	assert_int_equal(rest, 4);
	assert_int_equal(decode(false, 9, "hello", 5, 5, out, &rest), 0);
}

static void
test_body_feed_none(void **state)
{
	struct http_req r = { .length = -1 };
	struct http_body b;
	const char *data;
	size_t used, len;

	(void)state;
	http_body_init(&b, &r);
	assert_int_equal(http_body_feed(&b, "x", 1, &used, &data, &len), 1);
	assert_int_equal(used, 0);
}

static void
test_body_feed_bad_chunks(void **state)
{
	static const char *const bad[] = {
		"\r\n", "g\r\n", "-1\r\n", "5\nhello", "5\r\nhelloX", "5\r\nhello\rX", "0\r\n\rX", "0\r\nA: b\n", "1234567890abcdef0\r\n", "5 \nx",
		"0x5\r\nhello\r\n"
	};
	char out[64];
	size_t rest;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(decode(true, -1, bad[i], strlen(bad[i]), 64, out, &rest), -E_PROTO);
}

static void
test_body_feed_endless_trailer(void **state)
{
	size_t n = HTTP_TRAILER_MAX + 100, rest;
	char *text = malloc(n), *out = malloc(n);

	(void)state;
	memset(text, 'a', n);
	memcpy(text, "0\r\n", 3);
	assert_int_equal(decode(true, -1, text, n, 1000, out, &rest), -E_PROTO);
	memcpy(text, "1;a", 3);
	assert_int_equal(decode(true, -1, text, n, 1000, out, &rest), -E_PROTO);
	free(text);
	free(out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head_length_in_pieces), cmocka_unit_test(test_head_length_bare_line_feed),
		cmocka_unit_test(test_head_length_limit), cmocka_unit_test(test_parse_parts),
		cmocka_unit_test(test_parse_absolute_form), cmocka_unit_test(test_parse_refuses_malformed),
		cmocka_unit_test(test_parse_smuggling), cmocka_unit_test(test_parse_connection),
		cmocka_unit_test(test_parse_too_many_fields), cmocka_unit_test(test_token_list),
		cmocka_unit_test(test_body_feed_chunked_in_any_pieces), cmocka_unit_test(test_body_feed_length),
		cmocka_unit_test(test_body_feed_none), cmocka_unit_test(test_body_feed_bad_chunks),
		cmocka_unit_test(test_body_feed_endless_trailer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
