/* SPDX-License-Identifier: MIT */
/* codec/socks.c: every message whole, cut at every byte, and broken. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/err.h"
#include "worker/codec/socks.h"

#define BYTES(s) (const uint8_t *)(s), sizeof(s) - 1

typedef int parse_fn(const uint8_t *p, size_t n);

static int
greeting(const uint8_t *p, size_t n)
{
	return socks5_greeting_parse(p, n, &(struct socks5_greeting){ 0 });
}

static int
auth(const uint8_t *p, size_t n)
{
	return socks5_auth_parse(p, n, &(struct socks_auth){ 0 });
}

static int
request5(const uint8_t *p, size_t n)
{
	return socks5_request_parse(p, n, &(struct socks_request){ 0 });
}

static int
request4(const uint8_t *p, size_t n)
{
	return socks4_request_parse(p, n, &(struct socks_request){ 0 });
}

static int
reply5(const uint8_t *p, size_t n)
{
	uint8_t rep;

	return socks5_reply_parse(p, n, &rep, &(struct socks_addr){ 0 });
}

/* Complete only at its last byte; what follows is not looked at. */
static void
cut_everywhere(parse_fn *fn, const uint8_t *p, size_t n)
{
	uint8_t more[700];
	size_t i;

	for (i = 0; i < n; i++)
		assert_int_equal(fn(p, i), -E_AGAIN);
	assert_int_equal(fn(p, n), n);
	memcpy(more, p, n);
	memset(more + n, 0xff, sizeof(more) - n);
	assert_int_equal(fn(more, sizeof(more)), n);
}

static void
test_parse_cut_everywhere(void **state)
{
	(void)state;
	cut_everywhere(greeting, BYTES("\5\2\0\2"));
	cut_everywhere(greeting, BYTES("\5\0"));
	cut_everywhere(auth, BYTES("\1\4user\4pass"));
	cut_everywhere(auth, BYTES("\1\4user\0"));
	cut_everywhere(request5, BYTES("\5\1\0\1\177\0\0\1\0\120"));
	cut_everywhere(request5, BYTES("\5\1\0\3\10one.test\0\120"));
	cut_everywhere(request5, BYTES("\5\1\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1\1\273"));
	cut_everywhere(request4, BYTES("\4\1\0\120\12\0\0\2me\0"));
	cut_everywhere(request4, BYTES("\4\1\0\120\0\0\0\1me\0host.test\0"));
	cut_everywhere(reply5, BYTES("\5\0\0\1\0\0\0\0\0\0"));
}

static void
test_request_parse_targets(void **state)
{
	struct socks_request r;

	(void)state;
	assert_int_equal(socks5_request_parse(BYTES("\5\1\0\3\11one.test.\1\273"), &r), 16);
	assert_int_equal(r.command, SOCKS_CONNECT);
	assert_int_equal(r.to.port, 443);
	assert_int_equal(r.to.host_len, 9);
	assert_memory_equal(r.to.host, "one.test.", 9);
	assert_int_equal(r.to.ip.family, 0);
	/* a literal as a name, and a mapped address, are IPv4 */
	assert_true(socks5_request_parse(BYTES("\5\3\0\3\10""10.0.0.1\0\1"), &r) > 0);
	assert_null(r.to.host);
	assert_int_equal(r.to.ip.family, 4);
	assert_int_equal(r.to.ip.b[0], 10);
	assert_true(socks5_request_parse(BYTES("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\377\377\12\0\0\7\0\1"), &r) > 0);
	assert_int_equal(r.to.ip.family, 4);
	assert_int_equal(r.to.ip.b[3], 7);
	assert_true(socks4_request_parse(BYTES("\4\1\17\244\0\0\0\1me\0host4a.test\0hi"), &r) > 0);
	assert_int_equal(r.to.port, 4004);
	assert_int_equal(r.nu, 2);
	assert_memory_equal(r.to.host, "host4a.test", r.to.host_len);
	/* 0.0.0.0 itself is an address, not the mark of 4a */
	assert_int_equal(socks4_request_parse(BYTES("\4\1\0\1\0\0\0\0\0"), &r), 9);
	assert_int_equal(r.to.ip.family, 4);
}

static void
test_parse_refuses(void **state)
{
	uint8_t long4[8 + 300];
	struct socks_request r;

	(void)state;
	assert_int_equal(greeting(BYTES("\4\1\0")), -E_PROTO);
	assert_int_equal(auth(BYTES("\5\1a\1b")), -E_PROTO);
	assert_int_equal(request5(BYTES("\4\1\0\1")), -E_PROTO);
	assert_int_equal(request5(BYTES("\5\1\0\11\1\2\3\4\5\6")), -E_UNSUP);
	assert_int_equal(request5(BYTES("\5\1\0\3\0\0\120")), -E_PROTO);
	assert_int_equal(request5(BYTES("\5\1\0\3\3a\0b\0\120")), -E_PROTO);
	assert_int_equal(request4(BYTES("\4\1\0\120\0\0\0\1me\0\0")), -E_PROTO);
	memset(long4, 'u', sizeof(long4));
	memcpy(long4, "\4\1\0\120\12\0\0\2", 8);
	assert_int_equal(socks4_request_parse(long4, sizeof(long4), &r), -E_LIMIT);
}

static void
test_client_messages_are_read_by_server(void **state)
{
	uint8_t out[SOCKS5_AUTH_MAX];
	struct socks_addr to = { .host = "two.test", .host_len = 8, .port = 8080 }, bound;
	struct socks5_greeting g;
	struct socks_request r;
	struct socks_auth a;
	struct ip ip = { .family = 6, .b = { 0x20, 1 } };
	uint8_t rep;
	int n;

	(void)state;
	n = socks5_greeting_write(out, true, true);
	assert_int_equal(socks5_greeting_parse(out, (size_t)n, &g), n);
	assert_true(g.no_auth && g.userpass);
	n = socks5_auth_write(out, "user", "p:2");
	assert_int_equal(socks5_auth_parse(out, (size_t)n, &a), n);
	assert_int_equal(a.nu, 4);
	assert_memory_equal(a.password, "p:2", 3);
	n = socks5_request_write(out, SOCKS_UDP_ASSOCIATE, &to);
	assert_int_equal(socks5_request_parse(out, (size_t)n, &r), n);
	assert_int_equal(r.command, SOCKS_UDP_ASSOCIATE);
	assert_memory_equal(r.to.host, "two.test", 8);
	assert_int_equal(r.to.port, 8080);
	n = socks5_reply_write(out, SOCKS5_REFUSED, &ip, 9);
	assert_int_equal(n, 22);
	assert_int_equal(socks5_reply_parse(out, (size_t)n, &rep, &bound), n);
	assert_int_equal(rep, SOCKS5_REFUSED);
	assert_true(ip_equal(&bound.ip, &ip));
	assert_int_equal(socks5_auth_reply_parse(BYTES("\1\0")), 2);
	assert_int_equal(socks5_auth_reply_parse(BYTES("\1\1")), -E_AUTH);
	to.host = NULL;
	assert_int_equal(socks5_request_write(out, SOCKS_CONNECT, &to), -E_INVAL);
}

static void
test_udp_header(void **state)
{
	struct socks_addr a;
	uint8_t out[SOCKS5_UDP_HEADER_MAX];

	(void)state;
	assert_int_equal(socks5_udp_parse(BYTES("\0\0\0\1\177\0\0\1\0\65ping"), &a), 10);
	assert_int_equal(a.port, 53);
	assert_int_equal(socks5_udp_write(out, &a), 10);
	assert_memory_equal(out, "\0\0\0\1\177\0\0\1\0\65", 10);
	assert_int_equal(socks5_udp_parse(BYTES("\0\0\1\1\177\0\0\1\0\65ping"), &a), -E_UNSUP);
	assert_int_equal(socks5_udp_parse(BYTES("\0\0\0\1\177\0\0\1\0"), &a), -E_PROTO);
	assert_int_equal(socks5_udp_parse(BYTES("\0\0\0\3\77name"), &a), -E_PROTO);
	assert_int_equal(socks5_udp_parse(BYTES(""), &a), -E_PROTO);
}

static void
test_rep_from_err_round(void **state)
{
	(void)state;
	assert_int_equal(socks5_rep_from_err(0), SOCKS5_OK);
	assert_int_equal(socks5_rep_from_err(-E_REFUSED), SOCKS5_REFUSED);
	assert_int_equal(socks5_rep_from_err(E_TIMEOUT), SOCKS5_TTL_EXPIRED);
	assert_int_equal(socks5_rep_from_err(E_REJECTED), SOCKS5_NOT_ALLOWED);
	assert_int_equal(socks5_rep_from_err(E_DNS), SOCKS5_HOST_UNREACH);
	assert_int_equal(socks5_err_from_rep(SOCKS5_OK), 0);
	assert_int_equal(socks5_err_from_rep(200), E_PROTO);
	assert_non_null(socks5_rep_text(200));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_cut_everywhere),
		cmocka_unit_test(test_request_parse_targets),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_client_messages_are_read_by_server),
		cmocka_unit_test(test_udp_header),
		cmocka_unit_test(test_rep_from_err_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
