/* SPDX-License-Identifier: MIT */
/* inbound/auth.c: who gets in, who is asked for credentials, which entry counts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "worker/inbound/inbound.h"

static struct worker w;
static struct gen gen;
static struct inbound inb;
static struct prefix lists[3][2];

static struct ip
ip_of(const char *s)
{
	struct ip ip;

	assert_int_equal(ip_parse(&ip, s), 0);
	return ip;
}

static int
setup(void **state)
{
	(void)state;
	memset(&gen, 0, sizeof(gen));
	inb = (struct inbound){ .w = &w, .acl = true };
	w.gen = &gen;
	return 0;
}

static void
set_list(struct prefix_list *l, int slot, const char *a, const char *b)
{
	*l = (struct prefix_list){ .p = lists[slot], .set = true };
	if (a != NULL)
		assert_int_equal(prefix_parse(&lists[slot][l->n++], a), 0);
	if (b != NULL)
		assert_int_equal(prefix_parse(&lists[slot][l->n++], b), 0);
}

static bool
admits(const char *s)
{
	struct ip ip = ip_of(s);

	return inbound_admits(&inb, &ip);
}

static void
test_admits_lists(void **state)
{
	(void)state;
	assert_true(admits("192.0.2.1"));	/* nothing was written */
	set_list(&gen.general.lan_allowed, 0, "10.0.0.0/8", "fd00::/8");
	assert_true(admits("10.1.2.3"));
	assert_true(admits("::ffff:10.1.2.3"));
	assert_true(admits("fd00::1"));
	assert_false(admits("192.0.2.1"));
	set_list(&gen.general.lan_disallowed, 1, "10.1.0.0/16", NULL);
	assert_false(admits("10.1.2.3"));	/* it wins */
	assert_true(admits("10.2.2.3"));
	set_list(&gen.general.lan_allowed, 0, NULL, NULL);
	assert_false(admits("10.2.2.3"));	/* an empty list admits nobody */
	inb.acl = false;
	assert_true(admits("10.1.2.3"));
}

static void
test_needs_auth_skip_and_users(void **state)
{
	static const char *global[] = { "user:pass" };
	struct ip in = ip_of("127.0.0.9"), out = ip_of("127.0.0.8");
	struct user one = { "a", "b" };
	struct user_list none = { &one, 0 }, some = { &one, 1 };

	(void)state;
	assert_false(inbound_needs_auth(&inb, &out));
	gen.general.auth_users = global;
	gen.general.n_auth = 1;
	set_list(&gen.general.skip_auth, 2, "127.0.0.9/32", NULL);
	assert_true(inbound_needs_auth(&inb, &out));
	assert_false(inbound_needs_auth(&inb, &in));
	inb.users = &none;
	assert_false(inbound_needs_auth(&inb, &out));
	inb.users = &some;
	assert_true(inbound_needs_auth(&inb, &in));	/* skip-auth-prefixes are not for listeners with users */
}

static bool
check(const char *user, const char *password)
{
	return inbound_check(&inb, user, strlen(user), password, strlen(password));
}

static void
test_check_global(void **state)
{
	static const char *global[] = { "user:old", "u2:p:2", "nocolon", "user:pass", "empty:" };

	(void)state;
	gen.general.auth_users = global;
	gen.general.n_auth = 5;
	assert_true(check("user", "pass"));
	assert_false(check("user", "old"));	/* the last one of a name counts */
	assert_true(check("u2", "p:2"));	/* split at the first colon */
	assert_false(check("u2:p", "2"));
	assert_false(check("nocolon", ""));
	assert_true(check("empty", ""));
	assert_false(check("use", "pass"));
	assert_false(check("", ""));
}

static void
test_check_users_replace_global(void **state)
{
	static const char *global[] = { "user:pass" };
	struct user own[] = { { "own", "x" }, { "own", "y" } };
	struct user_list l = { own, 2 };

	(void)state;
	gen.general.auth_users = global;
	gen.general.n_auth = 1;
	inb.users = &l;
	assert_true(check("own", "y"));
	assert_false(check("own", "x"));
	assert_false(check("user", "pass"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_admits_lists, setup),
		cmocka_unit_test_setup(test_needs_auth_skip_and_users, setup),
		cmocka_unit_test_setup(test_check_global, setup),
		cmocka_unit_test_setup(test_check_users_replace_global, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
