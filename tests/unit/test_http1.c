/* SPDX-License-Identifier: MIT */
/* codec/http1.c and http1_body.c: what is a message, where it ends, and what is refused because two readers could disagree. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/err.h"
#include "worker/codec/http1.h"

static struct http1_head head;

static int
request(const char *s)
{
	return http1_parse_request((const uint8_t *)s, strlen(s), &head);
}

static int
response(const char *s, enum http1_to to)
{
	return http1_parse_response((const uint8_t *)s, strlen(s), to, &head);
}

static void
test_head_length_any_cut(void **state)
{
	static const char s[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n";
	size_t n, seen, whole = sizeof("GET / HTTP/1.1\r\nHost: a\r\n\r\n") - 1;

	(void)state;
	for (n = 0; n < whole; n++) {
		seen = 0;
		assert_int_equal(http1_head_length((const uint8_t *)s, n, &seen), -E_AGAIN);
		assert_int_equal(http1_head_length((const uint8_t *)s, sizeof(s) - 1, &seen), whole);
	}
	seen = 0;
	for (n = 1; n <= whole; n++)
		assert_int_equal(http1_head_length((const uint8_t *)s, n, &seen), n < whole ? -E_AGAIN : (int)whole);
}

static void
test_head_length_cap(void **state)
{
	static uint8_t big[HTTP1_HEAD_MAX + 100];
	size_t seen = 0;

	(void)state;
	memset(big, 'a', sizeof(big));
	assert_int_equal(http1_head_length(big, HTTP1_HEAD_MAX - 1, &seen), -E_AGAIN);
	assert_int_equal(http1_head_length(big, HTTP1_HEAD_MAX, &seen), -E_LIMIT);
	memcpy(big + sizeof(big) - 4, "\r\n\r\n", 4);
	seen = 0;
	assert_int_equal(http1_head_length(big, sizeof(big), &seen), -E_LIMIT);
}

static void
test_parse_request_fields(void **state)
{
	(void)state;
	assert_int_equal(
	    request("POST http://one.test/x?y HTTP/1.1\r\nHost: one.test\r\nContent-Length:  12 \r\nX-A: b\tc\r\n\r\n"), 0);
	assert_true(http1_text_is(head.method, "POST"));
	assert_true(http1_text_is(head.target, "http://one.test/x?y"));
	assert_int_equal(head.framing, HTTP1_LENGTH);
	assert_int_equal(head.length, 12);
	assert_true(head.keep_alive);
	assert_true(http1_text_is(*http1_find(&head, "x-a"), "b\tc"));
	assert_int_equal(request("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), 0);
	assert_true(head.keep_alive);
	assert_int_equal(request("GET / HTTP/1.0\r\n\r\n"), 0);
	assert_false(head.keep_alive);
	assert_int_equal(head.framing, HTTP1_EMPTY);
	assert_int_equal(request("GET / HTTP/1.1\r\nConnection: foo, close\r\n\r\n"), 0);
	assert_false(head.keep_alive);
	assert_int_equal(request("GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), 0);
	assert_true(head.upgrade);
	assert_int_equal(request("GET / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n"), 0);
	assert_int_equal(head.framing, HTTP1_CHUNKED);
}

static void
test_parse_request_refuses_smuggling(void **state)
{
	static const char *const bad[] = {
		"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length:\r\n\r\n",
		"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
		"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
		"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
		"GET / HTTP/1.1\r\nA : b\r\n\r\n",
		"GET / HTTP/1.1\r\n: b\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
		"GET / HTTP/1.1\nA: b\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\n\r\n",
		"GET / HTTP/1.1\r\nno colon\r\n\r\n",
		"GET  / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1 \r\n\r\n",
		"GET /\r\n\r\n",
		"G@T / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.11\r\n\r\n",
		"GET / HTTP/1.1\r\nA: \x01\r\n\r\n",
	};
	static const char nul[] = "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n";
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (request(bad[i]) != -E_PROTO)
			fail_msg("taken: %s", bad[i]);
	assert_int_equal(http1_parse_request((const uint8_t *)nul, sizeof(nul) - 1, &head), -E_PROTO);
	assert_int_equal(request("GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), -E_UNSUP);
	assert_int_equal(request("PRI * HTTP/2.0\r\n\r\n"), -E_UNSUP);
}

static void
test_parse_response_framing(void **state)
{
	(void)state;
	assert_int_equal(response("HTTP/1.1 200 OK\r\n\r\n", HTTP1_TO_OTHER), 0);
	assert_int_equal(head.framing, HTTP1_UNTIL_CLOSE);
	assert_false(head.keep_alive);
	assert_int_equal(response("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", HTTP1_TO_HEAD), 0);
	assert_int_equal(head.framing, HTTP1_EMPTY);
	assert_int_equal(response("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", HTTP1_TO_OTHER), 0);
	assert_int_equal(head.framing, HTTP1_EMPTY);
	assert_true(head.keep_alive);
	assert_int_equal(response("HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP1_TO_CONNECT), 0);
	assert_int_equal(head.framing, HTTP1_EMPTY);
	assert_int_equal(response("HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\n", HTTP1_TO_CONNECT), 0);
	assert_int_equal(head.framing, HTTP1_LENGTH);
	assert_true(http1_text_is(head.reason, "No"));
	assert_int_equal(response("HTTP/1.0 200 OK\nServer: old\n\n", HTTP1_TO_OTHER), 0);	/* bare LF: read, and rewritten by us */
	assert_int_equal(response("HTTP/1.1 20 OK\r\n\r\n", HTTP1_TO_OTHER), -E_PROTO);
	assert_int_equal(response("HTTP/1.1 2000 OK\r\n\r\n", HTTP1_TO_OTHER), -E_PROTO);
	assert_int_equal(response("SSH-2.0-x\r\n\r\n", HTTP1_TO_OTHER), -E_PROTO);
}

static void
test_is_hop(void **state)
{
	static const bool want[] = { true, true, false, false, true, true, false };
	int i;

	(void)state;
	assert_int_equal(
	    request("GET / HTTP/1.1\r\nConnection: x-mine, content-length, host\r\nX-Mine: 1\r\nContent-Length: 4\r\nHost: a\r\n"
		    "Proxy-Authorization: z\r\nTE: trailers\r\nX-Kept: yes\r\n\r\n"),
	    0);
	for (i = 0; i < head.n; i++)
		assert_int_equal(http1_is_hop(&head, i), want[i]);
}

static struct http1_text
text(const char *s)
{
	return (struct http1_text){ s, strlen(s) };
}

static void
test_parse_uri(void **state)
{
	struct http1_text host;
	struct http1_uri u;
	uint16_t port;

	(void)state;
	assert_int_equal(http1_parse_uri(text("http://One.test/a?b#c"), &u), 0);
	assert_true(http1_text_is(u.host, "one.test") && http1_text_is(u.path, "/a?b") && u.port == 80);
	assert_int_equal(http1_parse_uri(text("HTTP://u:p@[2001:db8::1]:8080"), &u), 0);
	assert_true(http1_text_is(u.host, "2001:db8::1") && u.path.n == 0 && u.port == 8080);
	assert_true(http1_text_is(u.authority, "[2001:db8::1]:8080"));
	assert_int_equal(http1_parse_uri(text("http://a?q=http://b"), &u), 0);
	assert_true(http1_text_is(u.host, "a") && http1_text_is(u.path, "?q=http://b"));
	assert_int_equal(http1_parse_uri(text("https://a/"), &u), -E_UNSUP);
	assert_int_equal(http1_parse_uri(text("/path"), &u), -E_PROTO);
	assert_int_equal(http1_parse_uri(text("*"), &u), -E_PROTO);
	assert_int_equal(http1_parse_uri(text("http:///x"), &u), -E_PROTO);
	assert_int_equal(http1_parse_uri(text("http://a:99999/"), &u), -E_PROTO);
	assert_int_equal(http1_parse_uri(text("http://a@b@c/"), &u), -E_PROTO);
	assert_int_equal(http1_parse_uri(text("http://[::1/"), &u), -E_PROTO);
	assert_int_equal(http1_parse_authority(text("a.test:443"), &host, &port), 0);
	assert_int_equal(port, 443);
	assert_int_equal(http1_parse_authority(text("a.test"), &host, &port), -E_PROTO);
	assert_int_equal(http1_parse_authority(text("a.test:"), &host, &port), -E_PROTO);
	assert_int_equal(http1_parse_authority(text("a:b:1"), &host, &port), -E_PROTO);
}

/* The same end and the same content for every cut into two; content comes out decoded. */
static void
check_chunked(const char *s, size_t end, const char *content)
{
	size_t n = strlen(s), cut;

	for (cut = 0; cut <= n; cut++) {
		const uint8_t *p = (const uint8_t *)s;
		struct http1_body b;
		char out[64] = "";
		size_t at = 0, len = 0;
		bool is;
		ssize_t k;

		http1_body_set(&b, HTTP1_CHUNKED, 0);
		while ((k = http1_body_step(&b, p + at, (at < cut ? cut : n) - at, &is)) > 0 || at < cut) {
			assert_true(k >= 0);
			if (k == 0)
				break;
			if (is) {
				memcpy(out + len, p + at, (size_t)k);
				len += (size_t)k;
			}
			at += (size_t)k;
		}
		assert_int_equal(at, end);
		assert_true(b.done);
		assert_string_equal(out, content);
	}
}

static void
test_body_chunked(void **state)
{
	(void)state;
	check_chunked("0\r\n\r\nGET", 5, "");
	check_chunked("5\r\nhello\r\n00a;x=\"y\"\r\n0123456789\r\n0\r\nT: v\r\nU: w\r\n\r\nnext", 50, "hello0123456789");
	check_chunked("1 \r\na\r\n0\r\n\r\n", 12, "a");
}

static void
test_body_chunked_refuses(void **state)
{
	static const char *const bad[] = { "\r\n", "g\r\n", "-1\r\n", "0x5\r\n", "5\nhello", "5\rhello", "5\r\nhellox",
		"5\r\nhello\rx", "1 2\r\n", "fffffffffffffffff\r\n", "5;a\nb\r\n", "0\r\n\n", "0\r\nA: b\n\r\n",
		"0\r\n x\r\n\r\n", ";x\r\n" };
	static uint8_t line[HTTP1_CHUNK_LINE_MAX + 10];
	struct http1_body b;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		http1_body_set(&b, HTTP1_CHUNKED, 0);
		if (http1_body_pass(&b, (const uint8_t *)bad[i], strlen(bad[i])) != -E_PROTO)
			fail_msg("taken: %s", bad[i]);
	}
	http1_body_set(&b, HTTP1_CHUNKED, 0);
	memset(line, ' ', sizeof(line));
	line[0] = '1';
	assert_int_equal(http1_body_pass(&b, line, sizeof(line)), -E_PROTO);
}

static void
test_body_length_and_close(void **state)
{
	struct http1_body b;

	(void)state;
	http1_body_set(&b, HTTP1_LENGTH, 5);
	assert_int_equal(http1_body_pass(&b, (const uint8_t *)"abc", 3), 3);
	assert_false(b.done);
	assert_int_equal(http1_body_pass(&b, (const uint8_t *)"defgh", 5), 2);
	assert_true(b.done);
	http1_body_set(&b, HTTP1_UNTIL_CLOSE, 0);
	assert_int_equal(http1_body_pass(&b, (const uint8_t *)"abc", 3), 3);
	assert_false(b.done);
	http1_body_set(&b, HTTP1_EMPTY, 0);
	assert_true(b.done);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_head_length_any_cut),
		cmocka_unit_test(test_head_length_cap),
		cmocka_unit_test(test_parse_request_fields),
		cmocka_unit_test(test_parse_request_refuses_smuggling),
		cmocka_unit_test(test_parse_response_framing),
		cmocka_unit_test(test_is_hop),
		cmocka_unit_test(test_parse_uri),
		cmocka_unit_test(test_body_chunked),
		cmocka_unit_test(test_body_chunked_refuses),
		cmocka_unit_test(test_body_length_and_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
