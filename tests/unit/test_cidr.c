/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/match/cidr.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/strutil.h"
#include "worker/match/cidr.h"

static struct ip
ip(const char *s)
{
	struct ip out;

	assert_int_equal(ip_parse(&out, s), 0);
	return out;
}

static struct prefix
prefix(const char *s)
{
	char why[CIDR_WHY_MAX];
	struct prefix p;

	assert_int_equal(cidr_parse(&p, s, why), 0);
	return p;
}

static bool
suffix(const char *p, const char *s)
{
	struct prefix pp = prefix(p);
	struct ip i = ip(s);

	return cidr_suffix_match(&pp, &i);
}

static void
test_cidr_parse_errors(void **state)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "x", "netip.ParsePrefix(\"x\"): no '/'" },
		{ "1.1.1.1", "netip.ParsePrefix(\"1.1.1.1\"): no '/'" },
		{ "300.0.0.0/8", "netip.ParsePrefix(\"300.0.0.0/8\"): ParseAddr(\"300.0.0.0\"): unable to parse IP" },
		{ "1.1.1.1/33", "netip.ParsePrefix(\"1.1.1.1/33\"): prefix length out of range" },
		{ "1.1.1.1/a", "netip.ParsePrefix(\"1.1.1.1/a\"): bad bits after slash: \"a\"" },
		{ "/", "netip.ParsePrefix(\"/\"): ParseAddr(\"\"): unable to parse IP" },
	};
	char why[CIDR_WHY_MAX], text[400];
	struct prefix p;

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		assert_int_not_equal(cidr_parse(&p, bad[i].text, why), 0);
		assert_string_equal(why, bad[i].why);
	}
	for (size_t i = 0; i < sizeof text - 1; i++)
		text[i] = i == 200 ? '/' : '1';
	text[sizeof text - 1] = '\0';
	assert_int_not_equal(cidr_parse(&p, text, why), 0);
}

static void
test_cidr_match_list(void **state)
{
	struct prefix list[] = { prefix("10.1.2.3/16"), prefix("2001:db8::/32"), prefix("0.0.0.0/0") };
	struct ip a = ip("10.1.255.1"), b = ip("2001:db9::1"), none = { 0 };

	(void)state;
	assert_true(cidr_match(list, 1, &a));
	assert_false(cidr_match(list, 2, &b));
	assert_false(cidr_match(list, 3, &b));		/* 0.0.0.0/0 is IPv4 only */
	assert_false(cidr_match(list, 3, &none));
	assert_false(cidr_match(list, 0, &a));
}

static void
test_cidr_suffix_match_bits(void **state)
{
	(void)state;
	assert_true(suffix("8.8.8.8/24", "9.8.8.8"));
	assert_false(suffix("8.8.8.8/24", "7.7.7.8"));
	assert_true(suffix("0.0.0.5/3", "1.2.3.13"));
	assert_false(suffix("0.0.0.5/3", "1.2.3.12"));
	assert_true(suffix("1.2.3.4/0", "9.9.9.9"));
	assert_true(suffix("1.2.3.4/32", "1.2.3.4"));
	assert_false(suffix("1.2.3.4/32", "1.2.3.5"));
	assert_true(suffix("::1:2/20", "2001::f1:2"));
	assert_false(suffix("::1:2/20", "2001::2:2"));
	assert_false(suffix("8.8.8.8/24", "::8.8.8.8"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cidr_parse_errors),
		cmocka_unit_test(test_cidr_match_list),
		cmocka_unit_test(test_cidr_suffix_match_bits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
