/* SPDX-License-Identifier: MIT */
/* controller/ws.c: the handshake's refusals, and frames of a client: masked, unmasked, too large, ping, close. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <stdlib.h>

#include "common/err.h"
#include "controller/http.h"
#include "controller/ws.h"

static char head[2048], accept_text[WS_ACCEPT_MAX];
static const char *why;

static int
shake(const char *line, const char *fields)
{
	static struct http_req req;

	snprintf(head, sizeof(head), "%s\r\nHost: x\r\n%s\r\n", line, fields);
	assert_int_equal(http_parse(&req, head, strlen(head)), 0);
	return ws_handshake(&req, accept_text, &why);
}

#define UP "Upgrade: websocket\r\n"
#define CON "Connection: keep-alive, Upgrade\r\n"
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VER "Sec-WebSocket-Version: 13\r\n"

static void
test_handshake_example_of_the_rfc(void **state)
{
	(void)state;
	assert_int_equal(shake("GET /traffic HTTP/1.1", UP CON KEY VER), 0);
	assert_string_equal(accept_text, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");	/* RFC 6455 1.3 */
	assert_int_equal(shake("GET /traffic HTTP/1.1", "Upgrade: WebSocket\r\n" CON KEY VER), 0);
}

static void
test_handshake_refusals(void **state)
{
	(void)state;
	assert_int_equal(shake("POST /traffic HTTP/1.1", UP CON KEY VER), 405);
	assert_int_equal(shake("GET /traffic HTTP/1.0", UP CON KEY VER), 505);
	assert_int_equal(shake("GET /traffic HTTP/1.1", UP KEY VER), 400);
	assert_string_equal(why, "handshake error: bad \"Connection\" header");
	assert_int_equal(shake("GET /traffic HTTP/1.1", UP CON VER), 400);
	assert_int_equal(shake("GET /traffic HTTP/1.1", UP CON VER "Sec-WebSocket-Key: short\r\n"), 400);
	assert_int_equal(shake("GET /traffic HTTP/1.1", UP CON KEY), 400);
	assert_int_equal(shake("GET /traffic HTTP/1.1", UP CON KEY "Sec-WebSocket-Version: 8\r\n"), 426);
}

static uint8_t out[8192];
static size_t nout;

static void
on_out(void *arg, const void *p, size_t n)
{
	(void)arg;
	assert_true(nout + n <= sizeof(out));
	memcpy(out + nout, p, n);
	nout += n;
}

static struct ws *
open_ws(void)
{
	struct ws *ws = ws_new(on_out, NULL);

	assert_non_null(ws);
	nout = 0;
	return ws;
}

/* A client's frame of at most 125 bytes. */
static size_t
masked(uint8_t *p, uint8_t first, const char *text)
{
	static const uint8_t mask[4] = { 1, 2, 3, 4 };
	size_t n = strlen(text);

	p[0] = first;
	p[1] = (uint8_t)(0x80 | n);
	memcpy(p + 2, mask, 4);
	for (size_t i = 0; i < n; i++)
		p[6 + i] = (uint8_t)((uint8_t)text[i] ^ mask[i % 4]);
	return 6 + n;
}

static void
test_input_ping_in_pieces(void **state)
{
	struct ws *ws = open_ws();
	uint8_t f[64];
	size_t n = masked(f, 0x89, "hi");

	(void)state;
	(void)ws_heard(ws);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(ws_input(ws, f + i, 1), 0);
	assert_int_equal(nout, 4);
	assert_memory_equal(out, "\x8a\x02hi", 4);
	assert_true(ws_heard(ws));
	assert_false(ws_heard(ws));
	ws_free(ws);
}

static void
test_input_text_is_ignored(void **state)
{
	struct ws *ws = open_ws();
	uint8_t f[64];
	size_t n = masked(f, 0x81, "hello");

	(void)state;
	assert_int_equal(ws_input(ws, f, n), 0);
	assert_int_equal(nout, 0);
	ws_free(ws);
}

static void
test_input_close_is_echoed(void **state)
{
	struct ws *ws = open_ws();
	uint8_t f[64];
	size_t n = masked(f, 0x88, "\x03\xe8");

	(void)state;
	assert_int_equal(ws_input(ws, f, n), -E_EOF);
	assert_memory_equal(out, "\x88\x02\x03\xe8", 4);
	ws_free(ws);
}

static void
test_input_unmasked_is_an_error(void **state)
{
	struct ws *ws = open_ws();

	(void)state;
	assert_int_equal(ws_input(ws, "\x81\x02hi", 4), -E_EOF);
	assert_memory_equal(out, "\x88\x02\x03\xea", 4);	/* 1002 */
	ws_free(ws);
}

static void
test_input_too_large(void **state)
{
	struct ws *ws = open_ws();

	(void)state;
	assert_int_equal(ws_input(ws, "\x82\xff\x00\x00\x00\x00\x00\x10\x00\x00\x01\x02\x03\x04" "abcdefgh", 22), -E_EOF);
	assert_int_equal(out[0], 0x88);
	assert_memory_equal(out + 2, "\x03\xf1", 2);		/* 1009 */
	ws_free(ws);
}

static void
test_close_code(void **state)
{
	struct ws *ws = open_ws();

	(void)state;
	ws_close(ws, WS_POLICY);
	assert_memory_equal(out, "\x88\x02\x03\xf0", 4);
	nout = 0;
	ws_ping(ws);			/* nothing may follow a close */
	assert_int_equal(nout, 0);
	ws_free(ws);
}

static void
test_text_lengths(void **state)
{
	static const size_t sizes[] = { 0, 1, 125, 126, 65535, 65536, 300000 };
	char *big = calloc(1, 300000);

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t n = sizes[i], len = 0, hdr = n < 126 ? 2 : n < 65536 ? 4 : 10;
		uint8_t *f;
		memset(big, 'x', n);
		f = (uint8_t *)ws_text(big, n, &len);
		assert_non_null(f);
		assert_int_equal(len, n + hdr);
		assert_int_equal(f[0], 0x81);
		assert_int_equal(f[1], n < 126 ? n : n < 65536 ? 126 : 127);
		assert_memory_equal(f + hdr, big, n);
		free(f);
	}
	free(big);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake_example_of_the_rfc), cmocka_unit_test(test_handshake_refusals),
		cmocka_unit_test(test_input_ping_in_pieces), cmocka_unit_test(test_input_text_is_ignored),
		cmocka_unit_test(test_input_close_is_echoed), cmocka_unit_test(test_input_unmasked_is_an_error),
		cmocka_unit_test(test_input_too_large), cmocka_unit_test(test_close_code), cmocka_unit_test(test_text_lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
