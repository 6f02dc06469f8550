/* SPDX-License-Identifier: MIT */
/* proxy-groups: accepted and refused configurations with their words, members and filters, the choice of every type, and the
 * saved choices. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "common/log.h"
#include "tests/unit/outbound_kit.h"

#define P "proxies: [{name: a, type: socks5, server: h, port: 1}, {name: b, type: http, server: h, port: 2}]\n"
static const char url[] = "http://127.0.0.1/204";

static void
takes(const char *yaml)
{
	struct kit k;

	if (kit_load(&k, yaml) != 0)
		fail_msg("refused: %s: %s", yaml, k.err.text);
	kit_free(&k);
}

static void
refuse(const char *yaml, const char *why)
{
	struct kit k;

	if (kit_load(&k, yaml) == 0)
		fail_msg("accepted: %s", yaml);
	if (strcmp(k.err.text, why) != 0)
		fail_msg("%s: \"%s\" instead of \"%s\"", yaml, k.err.text, why);
	kit_free(&k);
}

static void
test_parse_reference_texts(void **state)
{
	(void)state;
	takes(P "proxy-groups: [{name: g, type: select, proxies: [a, b, DIRECT]}]\n");
	takes(P "proxy-groups: [{name: g, type: select, proxies: [h]}, {name: h, type: select, proxies: [a]}]\n");
	takes(P "proxy-groups: [{name: g, type: relay, proxies: [a, b]}]\n");
	takes(P "proxy-providers: {p: {type: inline, payload: [{name: n, type: direct}]}}\nproxy-groups: [{name: g, type: select, use: [p]}]\n");
	refuse(P "proxy-groups: [{type: select, proxies: [a]}]\n", "proxy group 0: missing name");
	refuse(P "proxy-groups: [{name: '', type: select, proxies: [a]}]\n", "proxy group[0]: format error");
	refuse(P "proxy-groups: [{name: g, proxies: [a]}]\n", "proxy group[0]: format error");
	refuse(P "proxy-groups: [{name: g, type: nope, proxies: [a]}]\n", "proxy group[0]: unsupported type: nope");
	refuse(P "proxy-groups: [{name: g, type: select, proxies: [zz]}]\n", "proxy group[0]: g: 'zz' not found");
	refuse(P "proxy-groups: [{name: g, type: select}]\n", "proxy group[0]: g: `use` or `proxies` missing");
	refuse(P "proxy-groups: [{name: g, type: select, proxies: a}]\n", "ProxyGroup g: 'proxies' is not a slice");
	refuse(P "proxy-groups: [{name: g, type: select, proxies: [a]}, {name: g, type: select, proxies: [b]}]\n",
	    "ProxyGroup g: duplicate group name");
	refuse(P "proxy-groups: [{name: a, type: select, proxies: [b]}]\n", "proxy group a: the duplicate name");
	refuse(P "proxy-groups: [{name: g, type: select, use: [zz]}]\n", "proxy group[0]: g: 'zz' not found");
	refuse(P "proxy-groups: [{name: g, type: select, proxies: [a]}, {name: h, type: select, use: [g]}]\n",
	    "proxy group[1]: proxy group g can't contains in `use`");
	refuse(P "proxy-providers: {g: {type: inline, payload: [{name: n, type: direct}]}}\nproxy-groups: [{name: g, type: select, proxies: [a]}]\n",
	    "proxy group[0]: g: duplicate provider name");
	refuse(P "proxy-groups: [{name: g, type: load-balance, proxies: [a], strategy: nope}]\n",
	    "proxy group[0]: unsupported strategy: nope");
	refuse(P "proxy-groups: [{name: g, type: select, proxies: [a], expected-status: x}]\n",
	    "proxy group[0]: g: intRanges error");
	refuse(P "proxy-groups: [{name: g, type: select, proxies: [a], empty-fallback: zz}]\n",
	    "proxy group[0]: g: 'zz' not found");
}

static void
test_parse_loops(void **state)
{
	struct kit k;
	char *deep = calloc(1, 65536);
	size_t at = 0;

	(void)state;
	assert_non_null(deep);
	refuse(P "proxy-groups: [{name: g, type: select, proxies: [h]}, {name: h, type: select, proxies: [g]}]\n",
	    "loop is detected in ProxyGroup, please check following ProxyGroups: [g h]");
	refuse(P "proxy-groups: [{name: g, type: select, proxies: [g]}]\n",
	    "loop is detected in ProxyGroup, please check following ProxyGroups: [g]");
	/* those that only lead into the loop, or out of it, are not named */
	refuse(P "proxy-groups: [{name: x, type: select, proxies: [g]}, {name: g, type: select, proxies: [a, h]}, "
	    "{name: h, type: select, proxies: [g, y]}, {name: y, type: select, proxies: [a]}]\n",
	    "loop is detected in ProxyGroup, please check following ProxyGroups: [g h]");
	at = (size_t)snprintf(deep, 65536, P "proxy-groups:\n");
	for (int i = 0; i < 40; i++)
		at += (size_t)snprintf(deep + at, 65536 - at, "  - {name: g%d, type: select, proxies: [%s%.0d]}\n", i,
		    i == 39 ? "a" : "g", i == 39 ? 0 : i + 1);
	assert_int_equal(kit_load(&k, deep), -E_INVAL);
	assert_string_equal(k.err.text, "proxy groups are nested deeper than 32");
	kit_free(&k);
	free(deep);
}

static void
members_are(struct kit *k, const char *group, const char *want)
{
	struct group *g = group_of(kit_find(k, group));
	char have[512] = "";
	size_t at = 0;

	for (int i = 0; i < g->n_members; i++)
		at += (size_t)snprintf(have + at, sizeof(have) - at, "%s%s", i > 0 ? "," : "", g->members[i]->name);
	assert_string_equal(have, want);
}

static void
test_parse_members(void **state)
{
	struct kit k;

	(void)state;
	assert_int_equal(kit_load(&k,
	    "proxies:\n"
	    "  - {name: JP 1, type: socks5, server: h, port: 1}\n"
	    "  - {name: HK 1, type: socks5, server: h, port: 1}\n"
	    "  - {name: HK 2, type: http, server: h, port: 1}\n"
	    "proxy-providers:\n"
	    "  p: {type: inline, health-check: {url: 'http://p/'}, payload: [{name: HK n, type: http, server: h, port: 1}, {name: n, type: direct}]}\n"
	    "  q: {type: inline, payload: [{name: JP n, type: direct}, {name: n, type: direct}]}\n"
	    "proxy-groups:\n"
	    "  - {name: all, type: select, include-all: true}\n"
	    "  - {name: two, type: select, include-all-proxies: true, filter: 'JP`HK'}\n"
	    "  - {name: look, type: select, include-all-proxies: true, filter: '^(?!.*JP)'}\n"
	    "  - {name: type, type: select, include-all-proxies: true, exclude-type: 'http|Trojan'}\n"
	    "  - {name: out, type: select, proxies: [DIRECT, HK 1], exclude-filter: '^HK'}\n"
	    "  - {name: none, type: select, include-all-proxies: true, filter: zz}\n"
	    "  - {name: empty, type: select, include-all-proxies: true, filter: zz, empty-fallback: REJECT}\n"
	    "  - {name: use, type: url-test, use: [p]}\n"
	    "  - {name: used, type: select, proxies: [DIRECT], use: [p, q], filter: 'JP`HK'}\n"
	    "  - {name: one, type: select, use: [p], filter: '^n`(?i)N$'}\n"
	    "  - {name: auto, type: url-test, proxies: [HK 1], tolerance: 50, expected-status: ' 204 ', hidden: true}\n"), 0);
	members_are(&k, "all", "HK 1,HK 2,JP 1,HK n,n,JP n,n");
	members_are(&k, "used", "DIRECT,JP n,HK n");
	members_are(&k, "one", "n,HK n");
	members_are(&k, "two", "JP 1,HK 1,HK 2");
	members_are(&k, "look", "HK 1,HK 2");
	members_are(&k, "type", "HK 1,JP 1");
	members_are(&k, "out", "DIRECT");
	members_are(&k, "none", "COMPATIBLE");
	members_are(&k, "empty", "REJECT");
	members_are(&k, "use", "HK n,n");
	members_are(&k, "GLOBAL", "DIRECT,REJECT,JP 1,HK 1,HK 2,all,two,look,type,out,none,empty,use,used,one,auto");
	assert_string_equal(group_of(kit_find(&k, "use"))->url, "http://p/");
	assert_string_equal(group_of(kit_find(&k, "auto"))->url, "https://www.gstatic.com/generate_204");
	assert_string_equal(group_of(kit_find(&k, "auto"))->expected, "204");
	assert_int_equal(group_of(kit_find(&k, "auto"))->interval_s, 300);
	assert_int_equal(group_of(kit_find(&k, "out"))->interval_s, 0);
	assert_true(group_of(kit_find(&k, "auto"))->hidden);
	assert_ptr_equal(k.g.groups[k.g.n_groups - 1], k.g.global);
	kit_free(&k);
	assert_int_equal(kit_load(&k, P "proxy-groups: [{name: GLOBAL, type: select, proxies: [b]}]\n"), 0);
	members_are(&k, "GLOBAL", "b");
	assert_int_equal(k.g.n_groups, 1);
	kit_free(&k);
	assert_int_equal(kit_load(&k, "mixed-port: 1\n"), 0);
	members_are(&k, "GLOBAL", "DIRECT,REJECT");
	kit_free(&k);
}

static void
test_parse_bad_filter(void **state)
{
	struct kit k;
	static const char *const bad[] = { "(", "a`(", "[a-z-[aeiou]]" };
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		(void)snprintf(text, sizeof(text),
		    P "proxy-groups: [{name: g, type: select, include-all: true, filter: '%s'}]\n", bad[i]);
		assert_int_equal(kit_load(&k, text), -E_INVAL);
		assert_ptr_equal(strstr(k.err.text, "proxy group[0]: g: invalid filter regex: "), k.err.text);
		kit_free(&k);
	}
	/* a pattern that explodes neither hangs nor matches */
	assert_int_equal(kit_load(&k, "proxies: [{name: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab, type: direct}]\n"
	    "proxy-groups: [{name: g, type: select, include-all-proxies: true, filter: '(a+)+$'}]\n"), 0);
	members_are(&k, "g", "COMPATIBLE");
	kit_free(&k);
}

static const char *
picked(struct kit *k, const char *group)
{
	return group_pick(group_of(kit_find(k, group)), NULL, true)->name;
}

static void
select_is(struct kit *k, const char *group, const char *name, int status, const char *text)
{
	const char *why = NULL;

	assert_int_equal(group_select(&k->g, group, name, &why), status);
	assert_string_equal(why, text);
}

#define GROUPS P "proxy-groups:\n" \
	"  - {name: pick, type: select, proxies: [a, b]}\n" \
	"  - {name: auto, type: url-test, proxies: [a, b, REJECT], url: 'http://127.0.0.1/204', tolerance: 50}\n" \
	"  - {name: fall, type: fallback, proxies: [a, b], url: 'http://127.0.0.1/204'}\n" \
	"  - {name: bal, type: load-balance, proxies: [a, b], strategy: round-robin, url: 'http://127.0.0.1/204'}\n" \
	"  - {name: hash, type: load-balance, proxies: [a, b], url: 'http://127.0.0.1/204'}\n" \
	"  - {name: sticky, type: load-balance, proxies: [a, b], strategy: sticky-sessions, url: 'http://127.0.0.1/204'}\n"

static void
test_group_select_texts(void **state)
{
	struct kit k;

	(void)state;
	assert_int_equal(kit_load(&k, GROUPS), 0);
	select_is(&k, "nobody", "a", 404, "Resource not found");
	select_is(&k, "nobody", "", 404, "Resource not found");
	select_is(&k, "a", "a", 400, "Must be a Selector");
	select_is(&k, "a", "", 400, "Body invalid");
	select_is(&k, "bal", "a", 400, "Must be a Selector");
	select_is(&k, "pick", "nobody", 400, "Selector update error: proxy not exist");
	select_is(&k, "pick", "", 400, "Body invalid");
	select_is(&k, "pick", "b", 204, "");
	assert_string_equal(picked(&k, "pick"), "b");
	assert_string_equal(group_of(kit_find(&k, "pick"))->gtype->now(group_of(kit_find(&k, "pick"))), "b");
	select_is(&k, "auto", "b", 204, "");
	select_is(&k, "auto", "", 204, "");
	select_is(&k, "fall", "", 204, "");
	kit_free(&k);
}

static void
test_urltest_pick(void **state)
{
	struct kit k;
	struct group *g;

	(void)state;
	assert_int_equal(kit_load(&k, GROUPS), 0);
	loop_fake_clock(&k.w.loop, 1000);
	g = group_of(kit_find(&k, "auto"));
	assert_string_equal(picked(&k, "auto"), "a");	/* everything is alive before a test */
	outbound_record(kit_find(&k, "a"), url, 100, true, 1);
	outbound_record(kit_find(&k, "b"), url, 60, true, 1);
	loop_fake_clock(&k.w.loop, 20000);
	assert_string_equal(picked(&k, "auto"), "a");	/* within the tolerance */
	outbound_record(kit_find(&k, "b"), url, 40, true, 1);
	assert_string_equal(picked(&k, "auto"), "a");	/* not recomputed yet */
	loop_fake_clock(&k.w.loop, 30000);
	assert_string_equal(picked(&k, "auto"), "b");
	outbound_record(kit_find(&k, "b"), url, 0, false, 1);
	assert_string_equal(picked(&k, "auto"), "a");	/* a dead choice is left at once; REJECT is alive but unmeasured */
	select_is(&k, "auto", "REJECT", 204, "");
	assert_string_equal(picked(&k, "auto"), "REJECT");
	outbound_record(kit_find(&k, "REJECT"), url, 0, false, 1);
	assert_string_equal(picked(&k, "auto"), "a");
	assert_string_equal(g->gtype->fixed(g), "REJECT");	/* stays recorded */
	outbound_record(kit_find(&k, "a"), url, 0, false, 1);
	assert_string_equal(picked(&k, "auto"), "a");	/* none alive: the first */
	kit_free(&k);
}

static void
test_fallback_pick(void **state)
{
	struct kit k;
	struct group *g;

	(void)state;
	assert_int_equal(kit_load(&k, GROUPS), 0);
	g = group_of(kit_find(&k, "fall"));
	outbound_record(kit_find(&k, "a"), url, 0, false, 1);
	assert_string_equal(picked(&k, "fall"), "b");
	outbound_record(kit_find(&k, "a"), url, 5, true, 1);
	assert_string_equal(picked(&k, "fall"), "a");
	select_is(&k, "fall", "b", 204, "");
	assert_string_equal(picked(&k, "fall"), "b");
	assert_string_equal(g->gtype->fixed(g), "b");
	outbound_record(kit_find(&k, "b"), url, 0, false, 1);
	assert_string_equal(picked(&k, "fall"), "a");
	groups_died(kit_find(&k, "b"));
	assert_string_equal(g->gtype->fixed(g), "");
	select_is(&k, "fall", "b", 204, "");	/* still dead */
	assert_string_equal(g->gtype->fixed(g), "");
	kit_free(&k);
}

static const char *
balanced(struct kit *k, const char *group, const char *host)
{
	struct meta m;

	memset(&m, 0, sizeof(m));
	m.host = host;
	m.src_ip = (struct ip){ .family = 4, .b = { 127, 0, 0, 1 } };
	return group_pick(group_of(kit_find(k, group)), &m, true)->name;
}

static void
test_loadbalance_pick(void **state)
{
	struct kit k;
	char host[32];
	int seen[2] = { 0, 0 };
	const char *first;

	(void)state;
	assert_int_equal(kit_load(&k, GROUPS), 0);
	assert_string_equal(picked(&k, "bal"), "a");
	assert_string_equal(picked(&k, "bal"), "b");
	assert_string_equal(group_pick(group_of(kit_find(&k, "bal")), NULL, false)->name, "a");	/* looking does not advance */
	assert_string_equal(picked(&k, "bal"), "a");
	outbound_record(kit_find(&k, "b"), url, 0, false, 1);
	assert_string_equal(picked(&k, "bal"), "a");
	outbound_record(kit_find(&k, "b"), url, 1, true, 1);
	for (int i = 0; i < 64; i++) {
		(void)snprintf(host, sizeof(host), "x%d.test", i);
		seen[balanced(&k, "hash", host)[0] - 'a']++;
		assert_ptr_equal(balanced(&k, "hash", host), balanced(&k, "hash", host));
	}
	assert_true(seen[0] > 10 && seen[1] > 10);
	first = balanced(&k, "hash", "one.hash.test");
	assert_ptr_equal(balanced(&k, "hash", "n1.d1.hash.test"), first);	/* one domain, one member */
	outbound_record(kit_find(&k, first), url, 0, false, 1);
	assert_ptr_not_equal(balanced(&k, "hash", "one.hash.test"), first);
	outbound_record(kit_find(&k, first), url, 1, true, 1);
	first = balanced(&k, "sticky", "s.test");
	loop_fake_wall(700 * INT64_C(1000000000));
	outbound_record(kit_find(&k, first), url, 0, false, loop_wall_ns());
	assert_ptr_not_equal(balanced(&k, "sticky", "s.test"), first);
	outbound_record(kit_find(&k, first), url, 1, true, loop_wall_ns());
	assert_ptr_not_equal(balanced(&k, "sticky", "s.test"), first);	/* it sticks to the new one */
	loop_fake_wall(1300 * INT64_C(1000000000));
	assert_ptr_equal(balanced(&k, "sticky", "s.test"), first);
	loop_fake_wall(0);
	assert_true(outbound_udp(kit_find(&k, "bal")));
	kit_free(&k);
}

static void
test_udp_follows_the_choice(void **state)
{
	struct kit k;

	(void)state;
	assert_int_equal(kit_load(&k,
	    P "proxy-groups: [{name: g, type: select, proxies: [a, DIRECT]}, {name: o, type: select, proxies: [g]}, "
	    "{name: off, type: select, proxies: [DIRECT], disable-udp: true}]\n"), 0);
	assert_false(outbound_udp(kit_find(&k, "o")));
	select_is(&k, "g", "DIRECT", 204, "");
	assert_true(outbound_udp(kit_find(&k, "o")));
	assert_false(outbound_udp(kit_find(&k, "off")));
	assert_ptr_equal(outbound_leaf(kit_find(&k, "o"), NULL), k.g.direct);
	kit_free(&k);
}

static void
test_save_and_load(void **state)
{
	struct kit k, l;
	struct wire w, r;

	(void)state;
	assert_int_equal(kit_load(&k, GROUPS), 0);
	select_is(&k, "pick", "b", 204, "");
	select_is(&k, "auto", "b", 204, "");
	wire_init(&w);
	groups_save(&k.g, &w);
	assert_false(w.failed);
	assert_int_equal(kit_load(&l,
	    P "proxy-groups: [{name: auto, type: url-test, proxies: [a], url: 'http://127.0.0.1/204'}]\n"), 0);
	wire_read(&r, w.p, w.len);
	assert_int_equal(groups_load(&l.g, &r), 0);
	assert_string_equal(group_of(kit_find(&l, "auto"))->selected, "b");	/* no member now, remembered */
	assert_string_equal(picked(&l, "auto"), "a");
	wire_free(&w);
	wire_init(&w);
	groups_save(&l.g, &w);		/* pick, which this one does not know, is kept */
	kit_free(&l);
	assert_int_equal(kit_load(&l, GROUPS), 0);
	wire_read(&r, w.p, w.len);
	assert_int_equal(groups_load(&l.g, &r), 0);
	assert_string_equal(picked(&l, "pick"), "b");
	for (size_t cut = 0; cut < w.len; cut++) {
		wire_read(&r, w.p, cut);
		assert_int_equal(groups_load(&l.g, &r), -E_PROTO);
	}
	wire_free(&w);
	kit_free(&k);
	kit_free(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_reference_texts), cmocka_unit_test(test_parse_loops),
		    cmocka_unit_test(test_parse_members),
		cmocka_unit_test(test_parse_bad_filter), cmocka_unit_test(test_group_select_texts),
		    cmocka_unit_test(test_urltest_pick),
		cmocka_unit_test(test_fallback_pick), cmocka_unit_test(test_loadbalance_pick),
		    cmocka_unit_test(test_udp_follows_the_choice),
		cmocka_unit_test(test_save_and_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
