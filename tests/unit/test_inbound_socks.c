/* SPDX-License-Identifier: MIT */
/* inbound/socks.c: handshakes as clients see them, whole and byte by byte. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/inbound_rig.h"
#include "worker/inbound/socks.h"

#define SAY(s) say_n(client, s, sizeof(s) - 1)
#define EXPECT(s) expect_n(client, s, sizeof(s) - 1)

static const char *users[] = { "user:pass" };

static int
setup(void **state)
{
	(void)state;
	rig_open(&inbound_socks);
	return 0;
}

static int
setup_auth(void **state)
{
	(void)state;
	rig_open(&inbound_socks);
	rig.gen.general.auth_users = users;
	rig.gen.general.n_auth = 1;
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
test_connect_with_early_bytes(void **state)
{
	(void)state;
	SAY("\5\1\0\5\1\0\3\11One.test.\1\273hello");	/* all at once */
	EXPECT("\5\0");
	assert_string_equal(host_seen, "one.test:443");
	assert_int_equal(dialled->meta.kind, IN_SOCKS5);
	assert_null(dialled->hs);
	dial_ends(0);
	EXPECT("\5\0\0\1\0\0\0\0\0\0");
	expect(server, "hello");
	say(server, "back");
	expect(client, "back");
}

static void
test_connect_byte_by_byte(void **state)
{
	static const char ask[] = "\1\4user\4pass\5\1\0\4\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1\0\120";
	size_t i;

	(void)state;
	SAY("\5");
	expect_nothing(client);
	SAY("\1\2");
	EXPECT("\5\2");
	for (i = 0; i < sizeof(ask) - 1; i++)
		say_n(client, ask + i, 1);
	EXPECT("\1\0");
	assert_string_equal(host_seen, "2001:db8::1:80");
	assert_string_equal(dialled->meta.in_user, "user");
	dial_ends(E_TIMEOUT);
	EXPECT("\5\6\0\1\0\0\0\0\0\0");
	expect_end(client);
}

static void
test_auth_refusals(void **state)
{
	(void)state;
	SAY("\5\1\0");
	EXPECT("\5\377");
	expect_end(client);
	close(client);
	connect_client();
	SAY("\5\1\2\1\4user\2no");
	EXPECT("\5\2\1\1");
	expect_end(client);
	close(client);
	connect_client();
	SAY("\4\1\0\120\12\0\0\2user\0");	/* a user id is a name with an empty password */
	EXPECT("\0\135\0\0\0\0\0\0");
	assert_int_equal(n_dials, 0);
}

static void
test_offers_only_credentials(void **state)
{
	(void)state;
	SAY("\5\1\2");
	EXPECT("\5\2");
	SAY("\1\1a\1b");
	EXPECT("\1\0");
	SAY("\5\1\0\1\177\0\0\1\0\120");
	assert_string_equal(dialled->meta.in_user, "");
	dial_ends(E_REFUSED);
	EXPECT("\5\5\0\1\0\0\0\0\0\0");
}

static void
test_refused_commands(void **state)
{
	(void)state;
	SAY("\5\1\0\5\2\0\1\177\0\0\1\0\120");
	EXPECT("\5\0\5\7\0\1\0\0\0\0\0\0");
	expect_end(client);
	close(client);
	connect_client();
	SAY("\5\1\0\5\1\0\11\1\2\3\4\5");
	EXPECT("\5\0\5\10\0\1\0\0\0\0\0\0");
	close(client);
	connect_client();
	SAY("\4\2\0\120\12\0\0\2me\0");
	EXPECT("\0\133\0\0\0\0\0\0");
	assert_int_equal(n_dials, 0);
}

static void
test_socks4_replies(void **state)
{
	(void)state;
	SAY("\4\1\17\244\0\0\0\1me\0host4a.test\0hi");
	assert_string_equal(host_seen, "host4a.test:4004");
	assert_int_equal(dialled->meta.kind, IN_SOCKS4);
	dial_ends(0);
	EXPECT("\0\132\0\0\0\0\0\0");
	expect(server, "hi");
}

static void
test_associate_stays_unlisted_until_closed(void **state)
{
	struct conn *c;

	(void)state;
	SAY("\5\1\0");
	EXPECT("\5\0");
	SAY("\5\3\0\1\0\0\0\0\0\0");
	EXPECT("\5\0\0\1\177\0\0\1\0\7");
	c = container_of(rig.w.conns.next, struct conn, link);
	assert_false(c->listed);
	assert_int_equal(c->deadline_ms, 0);
	SAY("junk");
	assert_int_equal(rig.w.n_conns, 1);
	shutdown(client, SHUT_WR);
	turns();
	assert_int_equal(rig.w.n_conns, 0);
	assert_int_equal(n_dials, 0);
	close(client);
	connect_client();
	inb.udp = false;
	SAY("\5\1\0\5\3\0\1\0\0\0\0\0\0");
	EXPECT("\5\0\5\7\0\1\0\0\0\0\0\0");
}

static void
test_garbage_is_closed(void **state)
{
	static const struct {
		const char *p;
		size_t n;
	} bad[] = { { "\6\1\0", 3 }, { "\5\1\0\4\1\0\1", 7 }, { "\5\1\0\5\1\0\3\0\0\120", 10 } };
	size_t i;
	char c;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		say_n(client, bad[i].p, bad[i].n);
		while (recv(client, &c, 1, MSG_DONTWAIT) == 1)
			;
		expect_end(client);
		assert_int_equal(rig.w.n_conns, 0);
		close(client);
		connect_client();
	}
}

static void
test_wrap(void **state)
{
	struct target from = { .port = 53 };
	uint8_t header[UDP_HEADER_MAX];

	(void)state;
	assert_int_equal(ip_parse(&from.ip, "127.0.0.1"), 0);
	assert_int_equal(socks_wrap(&inb, &from, header), 10);
	assert_memory_equal(header, "\0\0\0\1\177\0\0\1\0\65", 10);
	from = (struct target){ .host = "a.b", .port = 53 };
	assert_int_equal(socks_wrap(&inb, &from, header), 10);
	assert_memory_equal(header, "\0\0\0\3\3a.b\0\65", 10);
	from.host = NULL;
	assert_true(socks_wrap(&inb, &from, header) < 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_connect_with_early_bytes), cmocka_unit_test_setup_teardown(test_connect_byte_by_byte, setup_auth, teardown),
		cmocka_unit_test_setup_teardown(test_auth_refusals, setup_auth, teardown), T(test_offers_only_credentials),
		T(test_refused_commands), T(test_socks4_replies), T(test_associate_stays_unlisted_until_closed), T(test_garbage_is_closed),
		T(test_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
