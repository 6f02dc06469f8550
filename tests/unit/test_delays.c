/* SPDX-License-Identifier: MIT */
/* Delay histories that outlive a process: saved and loaded, cut anywhere; results as the lead tells them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/outbound_kit.h"
#include "worker/delays.h"

static const char yaml[] =
    "proxies: [{name: a, type: socks5, server: h, port: 1}, {name: s, type: ss, server: h, port: 1, cipher: none, password: x}]\n"
    "proxy-providers:\n"
    "  p: {type: inline, payload: [{name: n, type: socks5, server: h, port: 1}, {name: m, type: socks5, server: h, port: 1}]}\n"
    "  q: {type: inline, payload: [{name: n, type: socks5, server: h, port: 2}]}\n";

static void
test_save_and_load(void **state)
{
	struct kit k, l;
	struct wire w, r;
	struct outbound *pn, *qn;

	(void)state;
	assert_int_equal(kit_load(&k, yaml), 0);
	outbound_record(node_find(&k.g, "p", "n"), "http://u/1", 10, true, 5);
	outbound_record(node_find(&k.g, "p", "n"), "http://u/2", 0, false, 6);
	outbound_record(node_find(&k.g, "q", "n"), "http://u/1", 30, true, 7);
	outbound_record(node_find(&k.g, "p", "m"), "http://u/1", 40, true, 8);
	outbound_record(kit_find(&k, "a"), "http://u/1", 20, true, 8);
	outbound_record(kit_find(&k, "s"), "http://u/1", 20, true, 8);
	wire_init(&w);
	delays_save(&k.g, &w);
	assert_false(w.failed);

	assert_int_equal(kit_load(&l,
			     "proxies: [{name: s, type: ss, server: h, port: 1, cipher: none, password: x}]\nproxy-providers:\n"
			     "  p: {type: inline, payload: [{name: n, type: socks5, server: h, port: 1}]}\n"
			     "  q: {type: inline, payload: [{name: n, type: socks5, server: h, port: 2}]}\n"),
	    0);
	wire_read(&r, w.p, w.len);
	assert_int_equal(delays_load(&l.g, &r), 0);
	pn = node_find(&l.g, "p", "n");
	qn = node_find(&l.g, "q", "n");
	assert_int_equal(outbound_last_delay(pn, "http://u/1"), 10);
	assert_false(outbound_alive(pn, "http://u/2"));
	assert_false(pn->history.alive);
	assert_int_equal(pn->history.n, 2);
	assert_int_equal(pn->history.e[1].at_ns, 6);
	assert_int_equal(outbound_last_delay(qn, "http://u/1"), 30);
	assert_false(kit_find(&l, "s")->history.alive); /* not spoken: never alive */
	for (size_t cut = 0; cut < w.len; cut++) {
		wire_read(&r, w.p, cut);
		assert_int_equal(delays_load(&l.g, &r), -E_PROTO);
	}
	wire_free(&w);
	kit_free(&k);
	kit_free(&l);
}

static void
test_take(void **state)
{
	struct kit k;
	struct wire w, r;

	(void)state;
	assert_int_equal(kit_load(&k, yaml), 0);
	wire_init(&w);
	for (int i = 0; i < 2; i++) {
		wire_put_str(&w, i == 0 ? "q" : "gone");
		wire_put_str(&w, "n");
		wire_put_str(&w, "http://u/");
		wire_put_u16(&w, 33);
		wire_put_u64(&w, 9);
		wire_put_bool(&w, true);
	}
	wire_read(&r, w.p, w.len);
	assert_int_equal(delays_take(&k.g, &r), 204);
	assert_int_equal(outbound_last_delay(node_find(&k.g, "q", "n"), "http://u/"), 33);
	assert_null(outbound_history(node_find(&k.g, "p", "n"), "http://u/"));
	wire_read(&r, w.p, w.len - 1);
	assert_int_equal(delays_take(&k.g, &r), 400);
	wire_free(&w);
	kit_free(&k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_save_and_load), cmocka_unit_test(test_take) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
