/* SPDX-License-Identifier: MIT */
/* common/addr.c: spellings of addresses that must and must not be taken, prefixes at odd lengths, host:port. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <string.h>

#include "common/addr.h"
#include "common/err.h"
#include "common/strutil.h"

static struct ip
ip(const char *s)
{
	struct ip i;

	assert_int_equal(ip_parse(&i, s), 0);
	return i;
}

static void
test_ip_parse_good(void **state)
{
	static const char *const v[][2] = {
		{ "1.2.3.4", "1.2.3.4" }, { "0.0.0.0", "0.0.0.0" }, { "::", "::" }, { "[::1]", "::1" },
		{ "2001:DB8::1", "2001:db8::1" },
		{ "fe80::1%eth0", "fe80::1" }, { "[fe80::1%eth0]", "fe80::1" }, { "::ffff:1.2.3.4", "1.2.3.4" },
		{ "[::ffff:102:304]", "1.2.3.4" },
	};
	char t[ADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < countof(v); i++) {
		struct ip a = ip(v[i][0]);

		assert_string_equal(ip_text(&a, t), v[i][1]);
	}
}

static void
test_ip_parse_junk(void **state)
{
	static const char *const v[] = { "", " 1.2.3.4", "1.2.3.4 ", "1.2.3", "1.2.3.4.5", "01.2.3.4", "256.1.1.1",
		"0x7f.1.1.1", "127.1",
		"[1.2.3.4]", "[::1", "::1]", "[]", "[", ":", ":::", "1::2::3", "12345::", "::1%", "[::1%]", "%eth0",
		"1.2.3.4%eth0",
		"::1/64", "localhost", "::ffff:1.2.3.400", "[[::1]]",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:1111:2222:3333:4444:5555:6666:7777" };
	struct ip a = { .family = 9 };

	(void)state;
	for (size_t i = 0; i < countof(v); i++)
		assert_int_equal(ip_parse(&a, v[i]), -E_INVAL);
	assert_int_equal(ip_parse(&a, NULL), -E_INVAL);
	assert_int_equal(a.family, 9);
}

static void
test_ip_kinds(void **state)
{
	static const char *const private[] = { "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "127.0.0.1",
		"127.255.0.1",
		"169.254.1.1", "0.0.0.0", "224.0.0.1", "239.255.255.255", "::", "::1", "fc00::1", "fdff::1", "fe80::1", "febf::1",
		"ff02::1", "::ffff:10.1.2.3" };
	static const char *const public[] = { "9.255.255.255", "11.0.0.1", "172.15.0.1", "172.32.0.1", "192.167.1.1",
		"169.253.1.1",
		"223.255.255.255", "240.0.0.1", "8.8.8.8", "::2", "fbff::1", "fec0::1", "2001:db8::1", "::ffff:8.8.8.8",
		"100.64.0.1" };
	struct ip a, none = { 0 };

	(void)state;
	for (size_t i = 0; i < countof(private); i++) {
		a = ip(private[i]);
		assert_true(ip_is_private(&a));
	}
	for (size_t i = 0; i < countof(public); i++) {
		a = ip(public[i]);
		assert_false(ip_is_private(&a));
	}
	assert_false(ip_is_private(&none) || ip_is_loopback(&none) || ip_is_unspecified(&none));
	a = ip("127.9.9.9");
	assert_true(ip_is_loopback(&a));
	a = ip("::1");
	assert_true(ip_is_loopback(&a));
	a = ip("::2");
	assert_false(ip_is_loopback(&a));
}

static void
test_prefix_parse(void **state)
{
	static const char *const good[][2] = { { "10.1.2.3/8", "10.1.2.3/8" }, { "0.0.0.0/0", "0.0.0.0/0" },
		{ "1.2.3.4/32", "1.2.3.4/32" },
		{ "::/0", "::/0" }, { "2001:db8::/32", "2001:db8::/32" }, { "::1/128", "::1/128" },
		{ "::ffff:10.0.0.0/104", "10.0.0.0/8" } };
	static const char *const bad[] = { "", "/", "1.2.3.4", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/-1", "1.2.3.4/+8", "1.2.3.4/08",
		"1.2.3.4/8x", "1.2.3.4/8/8", "1.2.3.4/ 8", "::/129", "[::]/64", "fe80::1%eth0/64", "x/8", "/8",
		"::ffff:1.2.3.4/90" };
	struct prefix p;
	char t[ADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < countof(good); i++) {
		assert_int_equal(prefix_parse(&p, good[i][0]), 0);
		assert_string_equal(prefix_text(&p, t), good[i][1]);
	}
	for (size_t i = 0; i < countof(bad); i++)
		assert_int_equal(prefix_parse(&p, bad[i]), -E_INVAL);
	assert_int_equal(prefix_parse(&p, NULL), -E_INVAL);
}

static void
check_in(const char *prefix, const char *addr, bool want)
{
	struct prefix p;
	struct ip a = ip(addr);

	assert_int_equal(prefix_parse(&p, prefix), 0);
	assert_int_equal(ip_in_prefix(&a, &p), want);
}

static void
test_ip_in_prefix(void **state)
{
	struct prefix p;
	struct ip none = { 0 };

	(void)state;
	check_in("10.9.9.9/8", "10.1.2.3", true);	/* host bits of the prefix do not count */
	check_in("10.0.0.0/8", "11.0.0.0", false);
	check_in("192.168.4.0/22", "192.168.7.255", true);
	check_in("192.168.4.0/22", "192.168.8.0", false);
	check_in("1.2.3.4/32", "1.2.3.4", true);
	check_in("1.2.3.4/32", "1.2.3.5", false);
	check_in("1.2.3.4/31", "1.2.3.5", true);
	check_in("0.0.0.0/0", "255.1.1.1", true);
	check_in("0.0.0.0/0", "::1", false);
	check_in("::/0", "1.2.3.4", false);
	check_in("2001:db8::/33", "2001:db8:7fff::1", true);
	check_in("2001:db8::/33", "2001:db8:8000::1", false);
	check_in("::1/128", "::1", true);
	check_in("::1/127", "::2", false);
	check_in("10.0.0.0/8", "::ffff:10.1.1.1", true);
	assert_int_equal(prefix_parse(&p, "0.0.0.0/0"), 0);
	assert_false(ip_in_prefix(&none, &p));
	p.bits = 200;					/* from a peer, unchecked */
	none = ip("1.2.3.4");
	assert_false(ip_in_prefix(&none, &p));
}

static void
test_sockaddr_round_trip(void **state)
{
	static const char *const v[] = { "1.2.3.4", "2001:db8::1" };
	union sockaddr_any sa;
	struct ip a, b;
	uint16_t port = 0;

	(void)state;
	for (size_t i = 0; i < countof(v); i++) {
		a = ip(v[i]);
		assert_int_equal(ip_to_sockaddr(&sa, &a, 8080), i == 0 ? sizeof(sa.in) : sizeof(sa.in6));
		ip_from_sockaddr(&b, &port, &sa.sa);
		assert_true(ip_equal(&a, &b));
		assert_int_equal(port, 8080);
		assert_int_equal(ip_to_sockaddr6(&sa, &a, 53), sizeof(sa.in6));
		assert_int_equal(sa.sa.sa_family, AF_INET6);
		ip_from_sockaddr(&b, NULL, &sa.sa);
		assert_true(ip_equal(&a, &b));
	}
	memset(&a, 0, sizeof(a));
	assert_int_equal(ip_to_sockaddr(&sa, &a, 1), 0);
	sa.sa.sa_family = AF_UNIX;
	ip_from_sockaddr(&b, &port, &sa.sa);
	assert_int_equal(b.family, 0);
	assert_int_equal(port, 0);
}

static void
test_hostport_parse(void **state)
{
	static const struct {
		const char *s, *host;
		uint16_t port;
	} good[] = { { "a.b:80", "a.b", 80 }, { ":0", "", 0 }, { "[::1]:65535", "::1", 65535 }, { "1.2.3.4:53", "1.2.3.4", 53 },
		{ "*:9", "*", 9 },
		{ "[fe80::1%eth0]:1", "fe80::1%eth0", 1 } };
	static const char *const bad[] = { "", "a", "a:", "a:65536", "a:-1", "a:+1", "a:1x", "a: 1", "::1:80", "[::1]",
		"[::1]80", "[::1:80",
		"::1]:80", "[a]:80", "[]:80", "a b:80", "a\n:80", "[::1]x:80", "a:99999999999999999999" };
	char host[HOST_MAX + 1], longest[300];
	uint16_t port;

	(void)state;
	for (size_t i = 0; i < countof(good); i++) {
		assert_int_equal(hostport_parse(good[i].s, host, sizeof(host), &port), 0);
		assert_string_equal(host, good[i].host);
		assert_int_equal(port, good[i].port);
	}
	for (size_t i = 0; i < countof(bad); i++)
		assert_int_equal(hostport_parse(bad[i], host, sizeof(host), &port), -E_INVAL);
	assert_int_equal(hostport_parse("abcd:80", host, 4, &port), -E_INVAL);
	assert_int_equal(hostport_parse("abc:80", host, 4, &port), 0);
	memset(longest, 'a', sizeof(longest));
	memcpy(longest + HOST_MAX, ":80", 4);
	assert_int_equal(hostport_parse(longest, host, sizeof(host), &port), 0);
	memset(longest, 'a', sizeof(longest));
	memcpy(longest + HOST_MAX + 1, ":80", 4);
	assert_int_equal(hostport_parse(longest, host, sizeof(host), &port), -E_INVAL);
}

static void
test_hostport_text(void **state)
{
	char out[32];

	(void)state;
	assert_string_equal(hostport_text(out, sizeof(out), "::1", 80), "[::1]:80");
	assert_string_equal(hostport_text(out, sizeof(out), "[::1]", 80), "[::1]:80");
	assert_string_equal(hostport_text(out, sizeof(out), "a", 0), "a:0");
	assert_string_equal(hostport_text(out, 4, "abcdef", 1), "abc");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ip_parse_good),
		cmocka_unit_test(test_ip_parse_junk),
		cmocka_unit_test(test_ip_kinds),
		cmocka_unit_test(test_prefix_parse),
		cmocka_unit_test(test_ip_in_prefix),
		cmocka_unit_test(test_sockaddr_round_trip),
		cmocka_unit_test(test_hostport_parse),
		cmocka_unit_test(test_hostport_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
