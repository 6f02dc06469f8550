/* SPDX-License-Identifier: MIT */
/* The SOCKS5 and HTTP CONNECT clients and DIRECT against fake servers on loopback: handshakes byte by byte, refusals, bytes
 * behind the answer, UDP. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>

#include "tests/unit/script_server.h"

struct seen {
	bool open, fail, either;
	struct stream *s;
};

static void
on_stream(struct stream *s, int events, void *arg)
{
	struct seen *seen = arg;

	(void)s;
	seen->open |= (events & ST_OPEN) != 0;
	seen->fail |= (events & ST_FAIL) != 0;
	seen->either = seen->open || seen->fail;
}

/* PORT in the text becomes the port. */
static void
load(struct kit *k, const char *text, unsigned port)
{
	const char *at = strstr(text, "PORT");
	char yaml[512];

	(void)snprintf(yaml, sizeof(yaml), "%.*s%u%s", (int)(at - text), text, port, at + 4);
	if (kit_load(k, yaml) != 0)
		fail_msg("%s: %s", yaml, k->err.text);
}

static void
dial(struct kit *k, struct seen *seen, const char *name, const struct target *to)
{
	struct dial d = { .to = to };

	memset(seen, 0, sizeof(*seen));
	seen->s = outbound_dial(kit_find(k, name), &d);
	assert_non_null(seen->s);
	stream_set_cb(seen->s, on_stream, seen);
	assert_true(kit_until(k, &seen->either));
}

static ssize_t
read_some(struct kit *k, struct stream *s, char *out, size_t cap)
{
	ssize_t n = -E_AGAIN;

	stream_want(s, ST_READ);
	for (int i = 0; i < 2000 && n == -E_AGAIN; i++) {
		loop_turn(&k->w.loop);
		n = stream_read(s, out, cap);
		if (n == -E_AGAIN)
			usleep(1000);
	}
	return n;
}

static const struct target example = { .host = "example.com", .port = 443 };
#define SOCKS "proxies: [{name: a, type: socks5, server: 127.0.0.1, port: PORT, udp: true}]"
#define SOCKS_USER "proxies: [{name: a, type: socks5, server: 127.0.0.1, port: PORT, username: u, password: pw}]"
#define REQUEST "\x05\x01\x00\x03\x0b" "example.com\x01\xbb"
#define SUCCESS "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"

static void
test_socks5_connect_with_bytes_behind(void **state)
{
	static const struct script_step steps[] = { STEP("\x05\x01\x02", "\x05\x02"), STEP("\x01\x01u\x02pw", "\x01\x00"),
	    STEP(REQUEST, SUCCESS "hello"),
		STEP("ping", "pong") };
	struct script server;
	struct kit k;
	struct seen seen;
	char in[16];

	(void)state;
	script_listen(&server);
	script_go(&server, steps, 4, true);
	load(&k, SOCKS_USER, server.port);
	dial(&k, &seen, "a", &example);
	assert_true(seen.open);
	assert_int_equal(stream_raw_fd(seen.s, ST_READ), -1);	/* hello lies in the layer */
	assert_true(stream_raw_fd(seen.s, ST_WRITE) >= 0);
	assert_int_equal(read_some(&k, seen.s, in, 3), 3);
	assert_int_equal(read_some(&k, seen.s, in + 3, 13), 2);
	assert_memory_equal(in, "hello", 5);
	assert_true(stream_raw_fd(seen.s, ST_READ) >= 0);
	assert_int_equal(stream_write(seen.s, "ping", 4), 4);
	assert_int_equal(read_some(&k, seen.s, in, sizeof(in)), 4);
	assert_memory_equal(in, "pong", 4);
	stream_close(seen.s, CLOSE_FLUSH);
	kit_free(&k);
	assert_true(script_end(&server));
}

static void
refused(const struct script_step *steps, int n, const char *node, int code, const char *why)
{
	struct script server;
	struct kit k;
	struct seen seen;

	script_listen(&server);
	script_go(&server, steps, n, false);
	load(&k, node, server.port);
	dial(&k, &seen, "a", &example);
	assert_true(seen.fail);
	assert_int_equal(seen.s->err, code);
	if (why != NULL)
		assert_string_equal(stream_why(seen.s), why);
	stream_close(seen.s, CLOSE_RESET);
	kit_free(&k);
	assert_true(script_end(&server));
}

static void
test_socks5_refusals(void **state)
{
	static const struct script_step no_method[] = { STEP("\x05\x01\x00", "\x05\xff") };
	static const struct script_step wants_user[] = { STEP("\x05\x01\x00", "\x05\x02") };
	static const struct script_step bad_user[] = { STEP("\x05\x01\x02", "\x05\x02"), STEP("\x01\x01u\x02pw", "\x01\x01") };
	static const struct script_step refuses[] = { STEP("\x05\x01\x00", "\x05\x00"), STEP(REQUEST,
	    "\x05\x05\x00\x01\0\0\0\0\0\0") };
	static const struct script_step unreachable[] = { STEP("\x05\x01\x00", "\x05\x00"), STEP(REQUEST,
	    "\x05\x04\x00\x01\0\0\0\0\0\0") };
	static const struct script_step no_socks[] = { STEP("\x05\x01\x00", "HTTP/1.1 400 Bad Request\r\n\r\n") };
	static const struct script_step hangs_up[] = { STEP("\x05\x01\x00", "\x05") };

	(void)state;
	refused(no_method, 1, SOCKS, E_AUTH, NULL);
	refused(wants_user, 1, SOCKS, E_AUTH, NULL);
	refused(bad_user, 2, SOCKS_USER, E_AUTH, "user name or password refused");
	refused(refuses, 2, SOCKS, E_REFUSED, NULL);
	refused(unreachable, 2, SOCKS, E_UNREACH, NULL);
	refused(no_socks, 1, SOCKS, E_PROTO, NULL);
	refused(hangs_up, 1, SOCKS, E_CLOSED, "the server closed the connection in the handshake");
}

static void
test_socks5_close_in_handshake(void **state)
{
	static const struct script_step steps[] = { STEP("\x05\x01\x00", "") };
	struct script server;
	struct kit k;
	struct dial d = { .to = &example };
	struct stream *s;

	(void)state;
	script_listen(&server);
	script_go(&server, steps, 1, true);
	load(&k, SOCKS, server.port);
	s = outbound_dial(kit_find(&k, "a"), &d);
	assert_non_null(s);
	for (int i = 0; i < 50; i++) {
		loop_turn(&k.w.loop);
		usleep(1000);
	}
	stream_close(s, CLOSE_RESET);
	kit_free(&k);
	assert_true(script_end(&server));
}

static void
test_http_connect(void **state)
{
#define HEAD "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nUser-Agent: Go-http-client/1.1\r\nProxy-Connection: Keep-Alive\r\n"
	static const struct script_step steps[] = { STEP(HEAD "Proxy-Authorization: Basic dTpwdw==\r\nX-A: b\r\n\r\n",
	    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connection established\r\n\r\nhello"), STEP("ping", "pong") };
	static const struct script_step denied[] = { STEP(HEAD "\r\n",
	    "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") };
	static const struct script_step created[] = { STEP(HEAD "\r\n", "HTTP/1.1 201 Created\r\n\r\n") };
	static const struct target evil = { .host = "x y\r\nA: b", .port = 1 };
	struct script server;
	struct kit k;
	struct seen seen;
	char in[16];

	(void)state;
	script_listen(&server);
	script_go(&server, steps, 2, true);
	load(&k, "proxies: [{name: a, type: http, server: 127.0.0.1, port: PORT, username: u, password: pw, headers: {X-A: b}}]",
	    server.port);
	dial(&k, &seen, "a", &example);
	assert_true(seen.open);
	assert_int_equal(read_some(&k, seen.s, in, sizeof(in)), 5);
	assert_memory_equal(in, "hello", 5);
	assert_int_equal(stream_write(seen.s, "ping", 4), 4);
	assert_int_equal(read_some(&k, seen.s, in, sizeof(in)), 4);
	stream_close(seen.s, CLOSE_FLUSH);
	dial(&k, &seen, "a", &evil);		/* a client's name never ends the line */
	assert_true(seen.fail);
	assert_int_equal(seen.s->err, E_INVAL);
	stream_close(seen.s, CLOSE_RESET);
	kit_free(&k);
	assert_true(script_end(&server));
	refused(denied, 1, "proxies: [{name: a, type: http, server: 127.0.0.1, port: PORT}]", E_AUTH,
	    "the proxy answered 407 Proxy Authentication Required");
	refused(created, 1, "proxies: [{name: a, type: http, server: 127.0.0.1, port: PORT}]", E_REFUSED, NULL);
}

/* The chain lists the leaf first; the relay goes through both nodes; so does dialer-proxy. */
static void
test_chains(void **state)
{
	static const struct script_step steps[] = { STEP("\x05\x01\x00", "\x05\x00"),
	    STEP("\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x09", SUCCESS),
		STEP("CONNECT example.com:443 HTTP/1.1\r\n", "HTTP/1.1 200 OK\r\n\r\n") };
	static const char *const ways[] = { "relay", "late" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct script server;
		struct kit k;
		struct seen seen = { .open = false };
		struct chain chain = { .n = 0 };
		struct dial d = { .to = &example, .chain = &chain };

		script_listen(&server);
		script_go(&server, steps, 3, true);
		load(&k, "proxies: [{name: a, type: socks5, server: 127.0.0.1, port: PORT}, {name: b, type: http, server: 127.0.0.1, port: 9}, "
		    "{name: late, type: http, server: 127.0.0.1, port: 9, dialer-proxy: g}]\n"
		    "proxy-groups: [{name: g, type: select, proxies: [a]}, {name: relay, type: relay, proxies: [DIRECT, g, b]}]\n", server.port);
		seen.s = outbound_dial(kit_find(&k, ways[i]), &d);
		stream_set_cb(seen.s, on_stream, &seen);
		assert_true(kit_until(&k, &seen.either));
		assert_true(seen.open);
		assert_string_equal(chain.ob[0]->name, i == 0 ? "b" : "late");
		assert_int_equal(chain.n, i == 0 ? 3 : 1);
		if (i == 0) {
			assert_string_equal(chain.ob[1]->name, "a");
			assert_string_equal(chain.ob[2]->name, "relay");
		}
		stream_close(seen.s, CLOSE_FLUSH);
		kit_free(&k);
		assert_true(script_end(&server));
	}
}

static void
test_dial_loop_through_group(void **state)
{
	struct kit k;
	struct seen seen;

	(void)state;
	load(&k, "proxies: [{name: a, type: socks5, server: 127.0.0.1, port: PORT, dialer-proxy: g}]\n"
	    "proxy-groups: [{name: g, type: select, proxies: [a]}]\n", 9);
	dial(&k, &seen, "a", &example);
	assert_true(seen.fail);
	stream_close(seen.s, CLOSE_RESET);
	kit_free(&k);
}

static void
test_nowhere(void **state)
{
	struct kit k;
	struct seen seen;
	struct dial d = { .to = &example };
	struct packet p = { .data = (const uint8_t *)"x", .len = 1, .addr = example };
	struct stream *s;
	struct dgram *u;

	(void)state;
	load(&k, "proxies: [{name: v, type: trojan, server: h, port: PORT, password: p, udp: true}]", 1);
	dial(&k, &seen, "REJECT", &example);
	assert_true(seen.fail);
	assert_int_equal(seen.s->err, E_REJECTED);
	stream_close(seen.s, CLOSE_RESET);
	dial(&k, &seen, "v", &example);
	assert_int_equal(seen.s->err, E_UNSUP);
	assert_string_equal(stream_why(seen.s), "protocol \"trojan\" is not spoken yet");
	stream_close(seen.s, CLOSE_RESET);
	s = outbound_dial(kit_find(&k, "REJECT-DROP"), &d);
	stream_set_cb(s, on_stream, &seen);
	seen.either = false;
	for (int i = 0; i < 20; i++)
		loop_turn(&k.w.loop);
	assert_false(seen.either);	/* it just hangs */
	stream_close(s, CLOSE_RESET);
	u = outbound_packet(kit_find(&k, "REJECT"), &d);
	assert_true(u->state & ST_OPEN);
	assert_int_equal(u->ops->sendv(u, &p, 1), 1);
	dgram_close(u);
	u = outbound_packet(kit_find(&k, "v"), &d);
	assert_true(u->state & ST_FAIL);
	dgram_close(u);
	kit_free(&k);
}

/* ---- UDP */

struct heard {
	bool open, fail, packet;
	char data[64], host[64];
	struct packet p;
};

static void
on_dgram(struct dgram *d, int events, const struct packet *p, int n, void *arg)
{
	struct heard *h = arg;

	(void)d;
	h->open |= (events & ST_OPEN) != 0;
	h->fail |= (events & ST_FAIL) != 0;
	if (n > 0) {
		h->packet = true;
		h->p = p[n - 1];
		memcpy(h->data, p[n - 1].data, p[n - 1].len < sizeof(h->data) ? p[n - 1].len : sizeof(h->data));
		(void)snprintf(h->host, sizeof(h->host), "%s", p[n - 1].addr.host != NULL ? p[n - 1].addr.host : "");
	}
}

/* Frozen and thawed, as another process would; torn states are refused before, and their fds closed. */
static struct dgram *
moved(struct kit *k, struct dgram *u, int want_fds)
{
	int fds[4], copy[4], n;
	struct wire w, r;

	wire_init(&w);
	n = dgram_freeze(u, &w, fds);
	assert_int_equal(n, want_fds);
	dgram_close(u);
	loop_turn(&k->w.loop);
	for (size_t cut = 0; cut <= w.len; cut++) {
		for (int i = 0; i < n; i++)
			copy[i] = dup(fds[i]);
		wire_read(&r, w.p, cut);
		u = outbound_thaw(&k->g, &r, copy, cut < w.len ? n : n - 1);	/* all of it, but a fd too few */
		assert_null(u);
		loop_turn(&k->w.loop);
		for (int i = 0; i < (cut < w.len ? n : n - 1); i++)
			assert_int_equal(fcntl(copy[i], F_GETFD), -1);
		if (cut == w.len)
			(void)close(copy[n - 1]);
	}
	wire_read(&r, w.p, w.len);
	u = outbound_thaw(&k->g, &r, fds, n);
	assert_non_null(u);
	assert_int_equal(wire_done(&r), 0);
	wire_free(&w);
	return u;
}

/* Names go along: known ones keep their address, packets of the others wait there. */
static void
test_direct_udp_names_move(void **state)
{
	struct kit k;
	uint16_t port;
	int fd = kit_socket(SOCK_DGRAM, &port);
	struct target known = { .host = "127.0.0.1", .port = port }, unknown = { .host = "unknown.test", .port = port };
	struct dial d = { .to = &known };
	struct packet p[2] = { { (const uint8_t *)"one", 3, known }, { (const uint8_t *)"two", 3, unknown } };
	struct dgram *u;
	char in[16];

	(void)state;
	load(&k, "mixed-port: PORT", 1);
	u = outbound_packet(k.g.direct, &d);
	u->ops->want(u, true);
	assert_int_equal(u->ops->sendv(u, p, 2), 2);	/* both wait for the resolver, which answers in the next turn */
	u = moved(&k, u, 1);
	loop_turn(&k.w.loop);
	loop_turn(&k.w.loop);
	assert_int_equal(recv(fd, in, sizeof(in), MSG_DONTWAIT), 3);
	assert_memory_equal(in, "one", 3);
	u = moved(&k, u, 1);
	assert_int_equal(u->ops->sendv(u, p, 1), 1);	/* at once: its address came along */
	assert_int_equal(recv(fd, in, sizeof(in), MSG_DONTWAIT), 3);
	dgram_close(u);
	kit_free(&k);
	(void)close(fd);
}

static void
test_direct_udp(void **state)
{
	struct kit k;
	struct heard heard = { .open = false };
	uint16_t port;
	int fd = kit_socket(SOCK_DGRAM, &port);
	struct target to = { .ip = { .family = 4, .b = { 127, 0, 0, 1 } }, .port = port };
	struct dial d = { .to = &to };
	struct packet p[3] = { { (const uint8_t *)"one", 3, to }, { (const uint8_t *)"two", 3, to }, { (const uint8_t *)"", 0,
	    to } };
	struct dgram *u;
	union sockaddr_any from;
	socklen_t len = sizeof(from);
	char in[16];

	(void)state;
	load(&k, "mixed-port: PORT", 1);
	u = outbound_packet(k.g.direct, &d);
	assert_non_null(u);
	assert_true(u->state & ST_OPEN);
	u->cb = on_dgram;
	u->arg = &heard;
	u->ops->want(u, true);
	assert_int_equal(u->ops->sendv(u, p, 3), 3);
	assert_int_equal(recvfrom(fd, in, sizeof(in), 0, &from.sa, &len), 3);
	assert_memory_equal(in, "one", 3);
	assert_int_equal(recv(fd, in, sizeof(in), 0), 3);
	assert_int_equal(recv(fd, in, sizeof(in), 0), 0);
	assert_int_equal(sendto(fd, "back", 4, 0, &from.sa, len), 4);
	assert_true(kit_until(&k, &heard.packet));
	assert_int_equal(heard.p.len, 4);
	assert_memory_equal(heard.data, "back", 4);
	assert_int_equal(heard.p.addr.port, port);
	assert_int_equal(heard.p.addr.ip.family, 4);	/* no mapped address leaves the socket layer */
	u = moved(&k, u, 1);
	u->cb = on_dgram;
	u->arg = &heard;
	u->ops->want(u, true);
	heard.packet = false;
	assert_int_equal(sendto(fd, "late", 4, 0, &from.sa, len), 4);
	assert_true(kit_until(&k, &heard.packet));
	assert_memory_equal(heard.data, "late", 4);
	dgram_close(u);
	kit_free(&k);
	(void)close(fd);
}

static void
test_socks5_udp(void **state)
{
	uint16_t port;
	int fd = kit_socket(SOCK_DGRAM, &port);
	char reply[] = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", in[64];
	struct script_step steps[] = { STEP("\x05\x01\x00", "\x05\x00"), { "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", 10,
	    reply, 10, 50 } };
	struct script server;
	struct kit k;
	struct heard heard = { .open = false };
	struct packet p = { (const uint8_t *)"query", 5, example };
	struct dial d = { .to = &example };
	struct dgram *u;
	union sockaddr_any from;
	socklen_t len = sizeof(from);
	static const char want[] = "\0\0\0\x03\x0b" "example.com\x01\xbb" "query";

	(void)state;
	reply[8] = (char)(port >> 8);
	reply[9] = (char)port;
	script_listen(&server);
	script_go(&server, steps, 2, true);
	load(&k, SOCKS, server.port);
	u = outbound_packet(kit_find(&k, "a"), &d);
	assert_non_null(u);
	u->cb = on_dgram;
	u->arg = &heard;
	u->ops->want(u, true);
	for (int i = 0; i < DGRAM_EARLY; i++)
		assert_int_equal(u->ops->sendv(u, &p, 1), 1);	/* waits for the association */
	assert_int_equal(u->ops->sendv(u, &p, 1), -E_AGAIN);
	assert_true(kit_until(&k, &heard.open));
	for (int i = 0; i < DGRAM_EARLY; i++) {
		len = sizeof(from);
		assert_int_equal(recvfrom(fd, in, sizeof(in), 0, &from.sa, &len), sizeof(want) - 1);
		assert_memory_equal(in, want, sizeof(want) - 1);
	}
	assert_int_equal(u->ops->sendv(u, &p, 1), 1);
	assert_int_equal(recv(fd, in, sizeof(in), 0), sizeof(want) - 1);
	/* a fragment and a stump are dropped, an answer comes through */
	assert_int_equal(sendto(fd, "\0\0\x01\x01\x01\x02\x03\x04\x00\x35" "frag", 14, 0, &from.sa, len), 14);
	assert_int_equal(sendto(fd, "\0\0\0", 3, 0, &from.sa, len), 3);
	assert_int_equal(sendto(fd, "\0\0\0\x01\x01\x02\x03\x04\x00\x35" "answer", 16, 0, &from.sa, len), 16);
	assert_true(kit_until(&k, &heard.packet));
	assert_int_equal(heard.p.len, 6);
	assert_memory_equal(heard.data, "answer", 6);
	assert_int_equal(heard.p.addr.port, 53);
	assert_int_equal(heard.p.addr.ip.b[3], 4);
	u = moved(&k, u, 2);
	u->cb = on_dgram;
	u->arg = &heard;
	u->ops->want(u, true);
	assert_int_equal(u->ops->sendv(u, &p, 1), 1);
	port = from.in.sin_port;
	assert_int_equal(recvfrom(fd, in, sizeof(in), 0, &from.sa, &len), sizeof(want) - 1);
	assert_int_equal(from.in.sin_port, port);
	assert_memory_equal(in, want, sizeof(want) - 1);
	heard.packet = heard.fail = false;
	assert_int_equal(sendto(fd, "\0\0\0\x01\x01\x02\x03\x04\x00\x35" "again", 15, 0, &from.sa, len), 15);
	assert_true(kit_until(&k, &heard.packet));
	assert_false(heard.fail);	/* the control connection moved, too */
	dgram_close(u);
	kit_free(&k);
	(void)close(fd);
	assert_true(script_end(&server));
}

static void
test_socks5_udp_ends_with_control(void **state)
{
	static const struct script_step steps[] = { STEP("\x05\x01\x00", "\x05\x00"),
	    STEP("\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", SUCCESS) };
	struct script server;
	struct kit k;
	struct heard heard = { .open = false };
	struct dial d = { .to = &example };
	struct packet p = { (const uint8_t *)"query", 5, example };
	struct dgram *u;

	(void)state;
	script_listen(&server);
	script_go(&server, steps, 2, false);	/* closes after the reply */
	load(&k, SOCKS, server.port);
	u = outbound_packet(kit_find(&k, "a"), &d);
	u->cb = on_dgram;
	u->arg = &heard;
	assert_true(kit_until(&k, &heard.fail));
	assert_true(heard.open);
	assert_string_equal(dgram_why(u), "the server ended the UDP association");
	assert_true(u->ops->sendv(u, &p, 1) < 0);
	dgram_close(u);
	kit_free(&k);
	assert_true(script_end(&server));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_socks5_connect_with_bytes_behind), cmocka_unit_test(test_socks5_refusals),
		cmocka_unit_test(test_socks5_close_in_handshake), cmocka_unit_test(test_http_connect),
		    cmocka_unit_test(test_chains),
		cmocka_unit_test(test_dial_loop_through_group), cmocka_unit_test(test_nowhere), cmocka_unit_test(test_direct_udp),
		cmocka_unit_test(test_direct_udp_names_move),
		cmocka_unit_test(test_socks5_udp), cmocka_unit_test(test_socks5_udp_ends_with_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
