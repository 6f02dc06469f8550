/* SPDX-License-Identifier: MIT */
/* Proxy-providers: which nodes of a list are taken, what an override makes of them, and lists that take each other's place
 * under groups. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "tests/unit/outbound_kit.h"

static const char url[] = "http://127.0.0.1/204";

static const char *
names(struct outbound *const *nodes, int n)
{
	static char text[1024];
	size_t at = 0;

	text[0] = '\0';
	for (int i = 0; i < n; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", i > 0 ? "," : "", nodes[i]->name);
	return text;
}

static const char *
nodes_of(struct kit *k, const char *provider)
{
	struct provider *p = provider_find(&k->g, provider);

	return names(p->set.nodes, p->set.n);
}

static const char *
members_of(struct kit *k, const char *group)
{
	struct group *g = group_of(kit_find(k, group));

	return names(g->members, g->n_members);
}

/* Another list for a provider; looking at it first changes nothing. */
static int
update(struct kit *k, const char *provider, const char *yaml, bool *changed)
{
	struct provider *p = provider_find(&k->g, provider);
	struct cfg_err err = { 0 };
	void *image = NULL;
	char before[1024];
	struct tree t;
	size_t n;
	int rc, checked;

	(void)snprintf(before, sizeof(before), "%s", nodes_of(k, provider));
	assert_int_equal(yaml_load(yaml, strlen(yaml), &image, &n, &err), 0);
	assert_int_equal(tree_from_memory(&t, image, n, &err), 0);
	checked = provider_check(p, cfg_get(t.root, "proxies"), &err);
	assert_string_equal(nodes_of(k, provider), before);
	rc = provider_load(p, cfg_get(t.root, "proxies"), changed, &err);
	assert_int_equal(checked, rc);
	free(image);
	return rc;
}

static void
loads(struct kit *k, const char *yaml)
{
	if (kit_load(k, yaml) != 0)
		fail_msg("refused: %s", k->err.text);
}

static void
test_filters(void **state)
{
	struct kit k;

	(void)state;
	loads(&k,
	    "x: &x [{name: HK 1, type: socks5, server: h, port: 1}, {name: HK x2, type: socks5, server: h, port: 1}, {name: JP 1, type: ss, server: h, "
	    "port: 1, cipher: none, password: p}, {name: US, type: http, server: h, port: 1}, {name: HK 1, type: direct}, {name: bad, type: nope}, "
	    "{name: no server, type: socks5}, {type: direct}, {name: lost, type: direct, dialer-proxy: nobody}]\n"
	    "proxy-providers:\n"
	    "  all: {type: inline, payload: *x}\n"
	    "  some: {type: inline, payload: *x, filter: 'HK|JP', exclude-filter: x2, exclude-type: 'HTTP|trojan'}\n"
	    "  order: {type: inline, payload: *x, filter: 'US`JP`HK 1'}\n");
	assert_string_equal(nodes_of(&k, "all"), "HK 1,HK x2,JP 1,US");
	assert_string_equal(nodes_of(&k, "some"), "HK 1,JP 1");
	assert_string_equal(nodes_of(&k, "order"), "US,JP 1,HK 1");
	assert_string_equal(node_find(&k.g, "", "HK 1")->provider, "all");
	assert_string_equal(node_find(&k.g, "some", "HK 1")->provider, "some");
	assert_null(node_find(&k.g, "some", "US"));
	assert_null(node_find(&k.g, "nobody", "US"));
	assert_ptr_equal(node_find(&k.g, "", "DIRECT"), k.g.direct);
	assert_null(outbound_find(&k.g, "HK 1")); /* rules and groups cannot name them */
	kit_free(&k);
}

static void
test_override(void **state)
{
	struct kit k;
	struct outbound *ob;

	(void)state;
	loads(&k,
	    "proxies: [{name: via, type: http, server: v, port: 1}]\n"
	    "x: &x [{name: home, type: socks5, server: h, port: 1, TFO: false, udp: false}, {name: b home, type: http, server: h, port: 1}]\n"
	    "proxy-providers:\n"
	    "  p: {type: inline, payload: *x, override: {additional-prefix: '[p]', additional-suffix: '!', proxy-name: [{pattern: '^\\[p\\](.*)!$', "
	    "target: '<$1>'}]}}\n"
	    "  q: {type: inline, payload: *x, dialer-proxy: via, override: {tfo: true, udp: true, ip-version: ipv4, interface-name: eth9, routing-mark: 7, "
	    "proxy-name: [{pattern: 'o', target: '$$0$&'}, {pattern: '(?<a>h)(x)?', target: '${a}$2$'}]}}\n"
	    "  r: {type: inline, payload: *x, dialer-proxy: nobody, override: {dialer-proxy: via}, filter: '^home$'}\n");
	assert_string_equal(nodes_of(&k, "p"), "<home>,<b home>");
	assert_string_equal(nodes_of(&k, "q"), "h$$0ome,b h$$0ome");
	ob = node_find(&k.g, "q", "h$$0ome");
	assert_true(ob->tcp.tfo);
	assert_true(ob->flags & OB_UDP);
	assert_int_equal(ob->ip_version, IPV_4);
	assert_string_equal(ob->tcp.iface, "eth9");
	assert_int_equal(ob->tcp.mark, 7);
	assert_ptr_equal(ob->dialer, kit_find(&k, "via"));
	assert_string_equal(node_find(&k.g, "r", "home")->dialer_proxy, "via");
	kit_free(&k);
	assert_int_equal(
	    kit_load(&k,
		"proxy-providers: {p: {type: inline, payload: [{name: a, type: direct}], override: {proxy-name: [{pattern: '('}]}}}\n"),
	    -E_INVAL);
	kit_free(&k);
	assert_int_equal(
	    kit_load(&k,
		"proxy-providers: {p: {type: inline, payload: [{name: a, type: direct}], override: {override-expr: ['.a = 1', '.b =']}}}\n"),
	    -E_INVAL);
	assert_int_equal(k.err.line, 1);
	kit_free(&k);
	/* after everything else; a node that it cannot make is left out */
	loads(&k,
	    "proxy-providers:\n"
	    "  p: {type: inline, payload: [{name: a, type: http, server: h, port: 1}, {name: b, type: socks5, server: h, port: 1}],\n"
	    "    override: {udp: true, additional-prefix: 'p-', override-expr: ['(select(.type == \"socks5\") | .tfo) = .udp', "
	    "'.name |= sub(\"^p-\", \"\")', 'select(.name != \"b\" or .tfo) | .name += \"!\"']}}\n"
	    "  q: {type: inline, payload: [{name: a, type: http, server: h, port: 1}, {name: b, type: socks5, server: h, port: 1}],\n"
	    "    override: {override-expr: ['select(.type == \"http\")']}}\n");
	assert_string_equal(nodes_of(&k, "p"), "a!,b!");
	assert_true(node_find(&k.g, "p", "b!")->tcp.tfo);
	assert_false(node_find(&k.g, "p", "a!")->tcp.tfo);
	assert_string_equal(nodes_of(&k, "q"), "a");
	kit_free(&k);
}

#define NODE(name, port) "{name: " name ", type: socks5, server: h, port: " #port "}"
static void
test_update(void **state)
{
	struct kit k;
	struct outbound *a, *b;
	struct group *g;
	const char *why;
	bool changed;
	uint32_t version;

	(void)state;
	loads(&k,
	    "proxy-providers: {p: {type: inline, payload: [" NODE("a", 1) ", " NODE("b", 1) ", " NODE(
		"c", 1) "]}}\n"
			"proxy-groups:\n"
			"  - {name: pick, type: select, use: [p]}\n"
			"  - {name: auto, type: url-test, use: [p], url: 'http://127.0.0.1/204'}\n"
			"  - {name: ab, type: select, proxies: [DIRECT], use: [p], filter: 'a|b'}\n"
			"  - {name: only, type: select, use: [p], filter: '^c$'}\n");
	g = group_of(kit_find(&k, "pick"));
	a = node_find(&k.g, "p", "a");
	b = node_find(&k.g, "p", "b");
	outbound_record(b, url, 5, true, 1);
	assert_int_equal(group_select(&k.g, "pick", "b", &why), 204);
	assert_string_equal(group_pick(group_of(kit_find(&k, "auto")), NULL, true)->name, "b");

	version = g->version;
	assert_int_equal(update(&k, "p", "proxies: [" NODE("a", 1) ", " NODE("b", 1) ", " NODE("c", 1) "]\n", &changed), 0);
	assert_false(changed);
	assert_int_equal(g->version, version);
	assert_int_equal(k.g.providers->n_retired, 0);

	/* b is another node now, c went, d came; a stays what it was */
	assert_int_equal(update(&k, "p", "proxies: [" NODE("d", 1) ", " NODE("b", 2) ", " NODE("a", 1) "]\n", &changed), 0);
	assert_true(changed);
	assert_string_equal(members_of(&k, "pick"), "d,b,a");
	assert_string_equal(members_of(&k, "ab"), "DIRECT,b,a");
	assert_string_equal(members_of(&k, "only"), "COMPATIBLE");
	assert_ptr_equal(node_find(&k.g, "p", "a"), a);
	assert_ptr_not_equal(node_find(&k.g, "p", "b"), b);
	assert_string_equal(b->name, "b"); /* still there for whoever uses it */
	assert_int_equal(k.g.providers->n_retired, 2);
	assert_string_equal(group_pick(g, NULL, true)->name, "b"); /* chosen by name */
	assert_string_equal(group_pick(group_of(kit_find(&k, "auto")), NULL, true)->name, "b"); /* kept by name, too */

	/* what cannot be used changes nothing */
	assert_int_equal(update(&k, "p", "proxies: [{name: x, type: nope}]\n", &changed), -E_INVAL);
	assert_int_equal(update(&k, "p", "proxies: []\n", &changed), -E_INVAL);
	assert_string_equal(members_of(&k, "pick"), "d,b,a");

	/* the selected node goes and comes back */
	assert_int_equal(update(&k, "p", "proxies: [" NODE("a", 1) "]\n", &changed), 0);
	assert_string_equal(group_pick(g, NULL, true)->name, "a");
	assert_int_equal(update(&k, "p", "proxies: [" NODE("a", 1) ", " NODE("b", 2) "]\n", &changed), 0);
	assert_string_equal(group_pick(g, NULL, true)->name, "b");
	assert_int_equal(k.g.providers->n_retired, 4);

	/* freed when old enough, not marked, and nothing unknown is older */
	loop_fake_clock(&k.w.loop, loop_clock_ms() + 2 * NODES_RETIRED_MS);
	b->visiting = 77;
	providers_reclaim(&k.g, 77, 0);
	assert_int_equal(k.g.providers->n_retired, 4);
	providers_reclaim(&k.g, 77, UINT64_MAX);
	assert_int_equal(k.g.providers->n_retired, 1);
	providers_reclaim(&k.g, 78, UINT64_MAX);
	assert_int_equal(k.g.providers->n_retired, 0);
	kit_free(&k);
}

static void
test_names(void **state)
{
	static const struct {
		const char *pattern, *name;
		bool match;
	} t[] = {
		{ "HK|JP", "xx JP", true },
		{ "HK|JP", "jp", false },
		{ "(?i)hk|JP", "xHkx", true },
		{ "(?i)hk", "H", false },
		{ "^HK", "HK 1", true },
		{ "^HK", "x HK", false },
		{ "HK$", "1 HK", true },
		{ "HK$", "HK 1", false },
		{ "^(a|bc)$", "bc", true },
		{ "^(a|bc)$", "bcd", false },
		{ "^a|b$", "ax", true },
		{ "^a|b$", "xb", true },
		{ "^a|b$", "xbx", false },
		{ "(a)|(b)", "b", true },
		{ "a.c", "abc", true },
		{ "香港|日本", "🇭🇰 香港 1", true },
		{ "(?i)É", "é", true },
		{ "(?i)k", "\u212a", true },
		{ "a|", "z", true },
		{ "^$", "", true },
		{ "^(a|b)", "bx", true },
		{ "(a|b)$", "xa", true },
		{ "(a|b)$", "ax", false },
		{ "a\\.b", "a.b", true },
		{ "^^a", "a", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct filter *f = NULL;
		struct cfg_err err = { 0 };

		assert_int_equal(filter_compile_one(t[i].pattern, "filter", NULL, &f, &err), 0);
		if (filter_match(f, 0, t[i].name) != t[i].match)
			fail_msg("%s on %s", t[i].pattern, t[i].name);
		filter_free(f);
	}
}

static void
test_userinfo(void **state)
{
	struct userinfo u = { 0 };

	(void)state;
	userinfo_parse(&u, "");
	assert_false(u.seen);
	userinfo_parse(&u, "upload=1; download=2; total=3; expire=4");
	assert_true(u.seen && u.upload == 1 && u.download == 2 && u.total == 3 && u.expire == 4);
	userinfo_parse(&u, "EXPIRE = 1 9;Total=7.9;upload=x;download;;=;junk=5");
	assert_true(u.expire == 19 && u.total == 7 && u.upload == 0 && u.download == 0);
	userinfo_parse(&u, "total=9223372036854775807; upload=99999999999999999999; download=-5; expire=1.5.2");
	assert_true(u.total == INT64_MAX && u.upload == 0 && u.download == -5 && u.expire == 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_override),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_userinfo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
