/* SPDX-License-Identifier: MIT */
/* inbound/http.c, http_gateway.c and mixed.c: what servers and clients of the HTTP proxy get to see. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/inbound_rig.h"
#include "worker/inbound/http.h"

#define GET(host, path) "GET http://" host path " HTTP/1.1\r\nHost: " host "\r\n\r\n"
#define GOT(host, path) "GET " path " HTTP/1.1\r\nHost: " host "\r\n\r\n"
#define OK2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

static int
setup(void **state)
{
	(void)state;
	rig_open(&inbound_http);
	return 0;
}

static int
setup_mixed(void **state)
{
	(void)state;
	rig_open(&inbound_mixed);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	rig_close();
	return 0;
}

static void
test_plain_rewrite_and_reuse(void **state)
{
	(void)state;
	say(client, "GET http://u:p@One.test:8080/a?b HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\n"
	    "Connection: x-mine, keep-alive\r\nX-Mine: 1\r\nTE: trailers\r\nX-Kept: yes\r\n\r\n");
	assert_string_equal(host_seen, "one.test:8080");
	assert_int_equal(dialled->meta.kind, IN_HTTP);
	assert_string_equal(dialled->meta.in_name, "test");
	dial_ends(0);
	expect(server, "GET /a?b HTTP/1.1\r\nHost: One.test:8080\r\nX-Kept: yes\r\n\r\n");
	say(server, "HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nConnection: keep-alive\r\nServer: s\r\nContent-Length: 2\r\n\r\nhi");
	expect(client, "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 2\r\n\r\nhi");
	say(client, "GET http://one.test:8080 HTTP/1.1\r\n\r\n");
	assert_int_equal(n_dials, 1);
	expect(server, "GET / HTTP/1.1\r\nHost: one.test:8080\r\n\r\n");
	say(server, OK2);
	expect(client, OK2);
}

static void
test_plain_other_host(void **state)
{
	int first;

	(void)state;
	say(client, GET("one.test", "/"));
	dial_ends(0);
	say(server, OK2);
	expect(client, OK2);
	first = dup(server);
	say(client, GET("two.test", "/"));
	assert_int_equal(n_dials, 2);
	assert_string_equal(host_seen, "two.test:80");
	dial_ends(0);
	expect(first, GOT("one.test", "/"));
	expect_end(first);
	close(first);
	expect(server, GOT("two.test", "/"));
	say(server, OK2);
	expect(client, OK2);
}

static void
test_plain_pipelined_one_by_one(void **state)
{
	(void)state;
	say(client, GET("one.test", "/1") GET("one.test", "/2"));
	dial_ends(0);
	expect(server, GOT("one.test", "/1"));
	expect_nothing(server);
	say(server, OK2);
	expect(client, OK2);
	expect(server, GOT("one.test", "/2"));
	say(server, OK2);
	expect(client, OK2);
}

static void
test_plain_byte_by_byte(void **state)
{
	static const char ask[] = "\r\nPOST http://one.test/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
	static const char answer[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: v\r\n\r\n";
	char got[300];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(ask) - 1; i++) {
		say_n(client, ask + i, 1);
		if (dialled != NULL)
			dial_ends(0);
	}
	expect(server, "POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
	for (i = 0; i < sizeof(answer) - 1; i++)
		say_n(server, answer + i, 1);
	snprintf(got, sizeof(got), "%s", answer);
	expect(client, got);
	say(client, GET("one.test", "/"));
	expect(server, GOT("one.test", "/"));
	say(server, OK2);
	expect(client, OK2);
}

static const char *users[] = { "user:pass" };

static void
test_auth(void **state)
{
	(void)state;
	rig.gen.general.auth_users = users;
	rig.gen.general.n_auth = 1;
	say(client, GET("one.test", "/"));
	expect(client, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\nContent-Length: 0\r\n\r\n");
	say(client, "GET http://one.test/ HTTP/1.1\r\nProxy-Authorization: Basic dXNlcjpubw==\r\n\r\n");
	expect(client, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(n_dials, 0);
	say(client, "CONNECT one.test:443 HTTP/1.1\r\nProxy-Authorization: bAsIc dXNlcjpwYXNz\r\n\r\n");
	assert_int_equal(n_dials, 1);
	assert_string_equal(dialled->meta.in_user, "user");
	dial_ends(0);
	expect(client, "HTTP/1.1 200 Connection established\r\n\r\n");
}

/* The body that follows a refused request must not be taken for a request. */
static void
test_auth_with_body_closes(void **state)
{
	(void)state;
	rig.gen.general.auth_users = users;
	rig.gen.general.n_auth = 1;
	say(client, "POST http://one.test/ HTTP/1.1\r\nContent-Length: 40\r\n\r\nCONNECT one.test:443 HTTP/1.1\r\n\r\n");
	expect(client,
	    "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"\r\nContent-Length: 0\r\n"
	    "Connection: close\r\n\r\n");
	expect_end(client);
}

static void
test_connect(void **state)
{
	(void)state;
	say(client, "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: x\r\n\r\nhello");
	assert_string_equal(host_seen, "2001:db8::1:443");
	assert_int_equal(dialled->meta.kind, IN_HTTPS);
	assert_int_equal(rig.w.n_conns, 1);
	dial_ends(0);
	expect(client, "HTTP/1.1 200 Connection established\r\n\r\n");
	expect(server, "hello");
	say(server, "back");
	expect(client, "back");
	shutdown(client, SHUT_WR);
	expect_end(server);
	say(server, "more");
	expect(client, "more");
}

static void
test_connect_refused(void **state)
{
	(void)state;
	say(client, "CONNECT one.test:443 HTTP/1.1\r\n\r\n");
	dial_ends(E_REFUSED);
	expect(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	expect_end(client);
}

static void
test_refuses_what_is_no_proxy_request(void **state)
{
	(void)state;
	say(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	expect(client, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	expect_end(client);
	close(client);
	connect_client();
	say_n(client, "\0\377\0garbage\r\n\r\n", 14);
	expect(client, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	close(client);
	connect_client();
	say(client, "GET http://a/ HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
	expect(client, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
	assert_int_equal(n_dials, 0);
}

static void
test_dial_failed_keeps_client(void **state)
{
	(void)state;
	say(client, GET("one.test", "/"));
	dial_ends(E_REFUSED);
	expect(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
	say(client, GET("one.test", "/"));
	dial_ends(0);
	expect(server, GOT("one.test", "/"));
	say(server, OK2);
	expect(client, OK2);
}

static void
test_old_client_gets_no_chunks(void **state)
{
	(void)state;
	say(client, "GET http://one.test/ HTTP/1.0\r\n\r\n");
	dial_ends(0);
	expect(server, "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n");
	say(server,
	    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3\r\n yo\r\n0\r\n\r\n");
	expect(client, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi yo");
	expect_end(client);
}

static void
test_answer_until_close(void **state)
{
	(void)state;
	say(client, GET("one.test", "/"));
	dial_ends(0);
	say(server, "HTTP/1.1 200 OK\r\n\r\nabc");
	expect(client, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc");
	say(server, "def");
	expect(client, "def");
	shutdown(server, SHUT_WR);
	expect_end(client);
}

static void
test_answers_without_body(void **state)
{
	(void)state;
	say(client, "HEAD http://one.test/ HTTP/1.1\r\n\r\n");
	dial_ends(0);
	say(server, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
	expect(client, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
	say(client, GET("one.test", "/"));
	say(server, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n");
	expect(client, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n");
	say(client, "POST http://one.test/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	say(server, "HTTP/1.1 100 Continue\r\n\r\n");
	expect(client, "HTTP/1.1 100 Continue\r\n\r\n");
	say(client, "ab");
	say(server, "HTTP/1.1 204 No Content\r\n\r\n");
	expect(client, "HTTP/1.1 204 No Content\r\n\r\n");
	assert_int_equal(n_dials, 1);
}

static void
test_answer_cut_short_is_a_reset(void **state)
{
	(void)state;
	say(client, GET("one.test", "/"));
	dial_ends(0);
	say(server, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf");
	expect(client, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf");
	shutdown(server, SHUT_RDWR);
	expect_reset(client);
}

static void
test_server_is_not_http(void **state)
{
	(void)state;
	say(client, GET("one.test", "/"));
	dial_ends(0);
	say(server, "SSH-2.0-OpenSSH\r\n\r\n");
	expect(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
}

static void
test_server_gone_before_answer(void **state)
{
	(void)state;
	say(client, GET("one.test", "/"));
	dial_ends(0);
	shutdown(server, SHUT_RDWR);
	turns();
	expect(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
	/* on a kept connection the client is closed instead, so that it may repeat */
	say(client, GET("one.test", "/"));
	dial_ends(0);
	say(server, OK2);
	expect(client, OK2);
	say(client, GET("one.test", "/2"));
	assert_int_equal(n_dials, 2);
	shutdown(server, SHUT_RDWR);
	expect_end(client);
}

static void
test_server_ends_idle_connection(void **state)
{
	(void)state;
	say(client, GET("one.test", "/"));
	dial_ends(0);
	say(server, OK2);
	expect(client, OK2);
	shutdown(server, SHUT_RDWR);
	turns();
	expect_nothing(client);
	say(client, GET("one.test", "/"));
	assert_int_equal(n_dials, 2);
	dial_ends(0);
	say(server, OK2);
	expect(client, OK2);
}

static void
test_upgrade_is_a_tunnel(void **state)
{
	(void)state;
	say(client, "GET http://one.test/ws HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n");
	dial_ends(0);
	expect(server,
	    "GET /ws HTTP/1.1\r\nHost: one.test\r\nSec-WebSocket-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	say(server, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nX: y\r\n\r\nframe");
	expect(client, "HTTP/1.1 101 Switching Protocols\r\nX: y\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe");
	say(client, "GET http://two.test/ HTTP/1.1\r\n\r\n");
	expect(server, "GET http://two.test/ HTTP/1.1\r\n\r\n");
	say(server, "raw");
	expect(client, "raw");
	shutdown(client, SHUT_WR);
	expect_end(server);
	say(server, "last");
	expect(client, "last");
	shutdown(server, SHUT_WR);
	expect_end(client);
}

static void
test_upgrade_not_asked_for(void **state)
{
	(void)state;
	say(client, GET("one.test", "/"));
	dial_ends(0);
	say(server, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
	expect(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
}

static void
test_client_gone_in_body(void **state)
{
	(void)state;
	say(client, "POST http://one.test/ HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc");
	dial_ends(0);
	expect(server, "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 9\r\n\r\nabc");
	shutdown(client, SHUT_RDWR);
	expect_reset(server);
	assert_int_equal(rig.w.n_conns, 0);
}

/* DELETE /connections/{id} of a request in progress. */
static void
test_conn_closed_by_api(void **state)
{
	struct conn *c;

	(void)state;
	say(client, GET("one.test", "/"));
	c = dialled;
	dial_ends(0);
	say(server, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf");
	expect(client, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf");
	conn_close(c, BY_API);
	expect_reset(client);
}

/* A time-out of the carrier during an exchange: both conns go, and walking the list stays safe. */
static void
test_carrier_closed_in_sweep(void **state)
{
	(void)state;
	say(client, GET("one.test", "/"));
	dial_ends(0);
	list_each(n, &rig.w.conns)
		container_of(n, struct conn, link)->deadline_ms = 1;
	conns_sweep(&rig.w);
	turns();
	assert_int_equal(rig.w.n_conns, 0);
}

static void
test_paused_inbound_ends_keep_alive(void **state)
{
	(void)state;
	say(client, GET("one.test", "/"));
	dial_ends(0);
	inb.serving = false;
	say(server, OK2);
	expect(client, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
	expect_end(client);
}

enum { BIG = 6 << 20 };

/* One side sends BIG bytes while the other does not read: what is held in between stays small, then all of it comes. */
static void
bulk(int from, int to, const char *skip)
{
	static uint8_t out[BIG], in[65536];
	size_t sent = 0, got = 0, head = strlen(skip), stuck = 0;
	ssize_t n;

	for (size_t i = 0; i < BIG; i++)
		out[i] = (uint8_t)(i * 7 + (i >> 12));
	while (sent < BIG && stuck < 20) {
		n = send(from, out + sent, BIG - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		stuck = n > 0 ? 0 : stuck + 1;
		turns();
	}
	assert_true(buf_in_use() <= 16);
	while (got < BIG + head) {
		n = recv(to, in, sizeof(in), MSG_DONTWAIT);
		for (ssize_t i = 0; i < n; i++, got++)
			if (in[i] != (got < head ? (uint8_t)skip[got] : out[got - head]))
				fail_msg("byte %zu differs", got);
		n = sent < BIG ? send(from, out + sent, BIG - sent, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
		sent += n > 0 ? (size_t)n : 0;
		rig_turns(&rig, 2);
	}
}

static void
test_large_bodies(void **state)
{
	char head[200];

	(void)state;
	snprintf(head, sizeof(head), "POST http://one.test/ HTTP/1.1\r\nContent-Length: %d\r\n\r\n", BIG);
	say(client, head);
	dial_ends(0);
	snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: %d\r\n\r\n", BIG);
	bulk(client, server, head);
	snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BIG);
	say(server, head);
	bulk(server, client, head);
	say(client, GET("one.test", "/"));
	expect(server, GOT("one.test", "/"));
	say(server, "HTTP/1.1 200 OK\r\n\r\n");
	bulk(server, client, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
	assert_int_equal(n_dials, 1);
}

static void
test_head_too_large(void **state)
{
	static char big[40000];

	(void)state;
	memset(big, 'a', sizeof(big));
	memcpy(big, "GET http://one.test/ HTTP/1.1\r\nA: ", 34);
	say_n(client, big, sizeof(big));
	expect(client, "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

static void
test_mixed_tells_protocols(void **state)
{
	(void)state;
	say(client, GET("one.test", "/"));
	assert_int_equal(dialled->meta.kind, IN_HTTP);
	dial_ends(0);
	say(server, OK2);
	expect(client, OK2);
	close(client);
	connect_client();
	say_n(client, "\5\1\0", 3);
	expect_n(client, "\5\0", 2);
	close(client);
	connect_client();
	say_n(client, "\4\1\0\120\12\0\0\2me\0", 11);
	assert_int_equal(dialled->meta.kind, IN_SOCKS4);
	dial_ends(E_REFUSED);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_plain_rewrite_and_reuse), T(test_plain_other_host), T(test_plain_pipelined_one_by_one), T(test_plain_byte_by_byte),
		T(test_auth), T(test_auth_with_body_closes), T(test_connect), T(test_connect_refused), T(test_refuses_what_is_no_proxy_request),
		T(test_dial_failed_keeps_client), T(test_old_client_gets_no_chunks), T(test_answer_until_close), T(test_answers_without_body),
		T(test_answer_cut_short_is_a_reset), T(test_server_is_not_http), T(test_server_gone_before_answer),
		T(test_server_ends_idle_connection), T(test_upgrade_is_a_tunnel), T(test_upgrade_not_asked_for), T(test_client_gone_in_body),
		T(test_conn_closed_by_api), T(test_carrier_closed_in_sweep), T(test_paused_inbound_ends_keep_alive), T(test_large_bodies),
		T(test_head_too_large), cmocka_unit_test_setup_teardown(test_mixed_tells_protocols, setup_mixed, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
