/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/rule/engine.c and of every type's match: what hits, when an address or process is asked for,
 * counters, skipped targets. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/gen_kit.h"
#include "worker/rule/rule.h"

static void
open_rules(struct kit *k, const char *yaml)
{
	assert_int_equal(kit_open(k, yaml), 0);
	if (rules_parse(&k->gen, k->gen.root, &k->err) != 0)
		fail_msg("%s", k->err.text);
}

static struct meta
to(const char *host, const char *ip, uint16_t port)
{
	struct meta m;

	meta_init(&m);
	m.host = host;
	if (ip != NULL)
		assert_int_equal(ip_parse(&m.dst_ip, ip), 0);
	m.dst_port = port;
	return m;
}

/* Target of the hit; "" for none, "?ip" or "?process" when the walk waits. */
static const char *
walk(struct kit *k, struct match *w, struct meta *m)
{
	w->list = k->gen.rules;
	switch (rules_walk(w, m, 77)) {
	case MATCH_HIT:
		return kit_name(w->verdict.outbound);
	case MATCH_NEED_IP:
		return "?ip";
	case MATCH_NEED_PROCESS:
		return "?process";
	case MATCH_NONE:
		break;
	}
	return "";
}

static const char *
route(struct kit *k, struct meta m)
{
	struct match w = { 0 };

	return walk(k, &w, &m);
}

static void
test_rules_walk_domains(void **state)
{
	struct kit k;
	struct meta m;

	(void)state;
	open_rules(&k, "rules:\n  - DOMAIN,exact.test,a\n  - DOMAIN-SUFFIX,suffix.test,b\n  - DOMAIN-KEYWORD,keyw,a\n"
	    "  - 'DOMAIN-REGEX,^RX[0-9]{2}\\.test$,b'\n  - DOMAIN-WILDCARD,w?.*.test,a\n  - MATCH,DIRECT\n");
	assert_string_equal(route(&k, to("exact.test", NULL, 1)), "a");
	assert_string_equal(route(&k, to("x.exact.test", NULL, 1)), "DIRECT");
	assert_string_equal(route(&k, to("suffix.test", NULL, 1)), "b");
	assert_string_equal(route(&k, to("a.b.suffix.test", NULL, 1)), "b");
	assert_string_equal(route(&k, to("nosuffix.test", NULL, 1)), "DIRECT");
	assert_string_equal(route(&k, to("xkeywx.test", NULL, 1)), "a");
	assert_string_equal(route(&k, to("rx42.test", NULL, 1)), "b");
	assert_string_equal(route(&k, to("rx4.test", NULL, 1)), "DIRECT");
	assert_string_equal(route(&k, to("w1.x.y.test", NULL, 1)), "a");
	assert_string_equal(route(&k, to("", "1.1.1.1", 1)), "DIRECT");
	m = to("other.test", NULL, 1);
	m.sniff_host = "exact.test";		/* goes before the name asked for */
	assert_string_equal(route(&k, m), "a");
	kit_close(&k);
}

static void
test_rules_walk_numbers_and_inbound(void **state)
{
	struct kit k;
	struct meta m = to("h", NULL, 6003);

	(void)state;
	open_rules(&k, "rules:\n  - DST-PORT,6002-6004/6010,a\n  - SRC-PORT,1000,b\n  - IN-PORT,7,a\n  - DSCP,40-63,b\n"
	    "  - IN-TYPE,SOCKS/HTTPS,a\n"
	    "  - IN-USER,alice/bob,b\n  - IN-NAME,extra,a\n  - NETWORK,udp,b\n  - MATCH,DIRECT\n");
	assert_string_equal(route(&k, m), "a");
	m.dst_port = 6005;
	assert_string_equal(route(&k, m), "DIRECT");
	m.in_name = "extra";
	assert_string_equal(route(&k, m), "a");
	m.in_user = "bob";
	assert_string_equal(route(&k, m), "b");
	m.in_user = "Bob";
	m.in_name = "";
	assert_string_equal(route(&k, m), "DIRECT");
	m.network = NET_UDP;
	assert_string_equal(route(&k, m), "b");
	m.kind = IN_SOCKS4;
	assert_string_equal(route(&k, m), "a");
	m.kind = IN_HTTPS;
	assert_string_equal(route(&k, m), "a");
	m.kind = IN_HTTP;
	m.dscp = 46;
	assert_string_equal(route(&k, m), "b");
	m.in_port = 7;
	assert_string_equal(route(&k, m), "a");
	m.src_port = 1000;
	assert_string_equal(route(&k, m), "b");
	kit_close(&k);
}

static void
test_rules_walk_addresses(void **state)
{
	struct kit k;
	struct meta m;

	(void)state;
	open_rules(&k, "rules:\n  - 'IP-CIDR,10.1.0.0/16,a,no-resolve'\n  - 'IP-CIDR6,2001:db8:1::/48,b,no-resolve'\n"
	    "  - 'IP-SUFFIX,8.8.8.8/24,a,no-resolve'\n"
	    "  - SRC-IP-CIDR,10.99.0.0/16,b\n  - 'IP-CIDR,10.77.0.0/16,a,src'\n  - 'GEOIP,LAN,tcponly,no-resolve'\n"
	    "  - MATCH,DIRECT\n");
	assert_string_equal(route(&k, to("", "10.1.2.3", 1)), "a");
	assert_string_equal(route(&k, to("", "2001:db8:1::5", 1)), "b");
	assert_string_equal(route(&k, to("", "2001:db9::1", 1)), "DIRECT");
	assert_string_equal(route(&k, to("", "9.8.8.8", 1)), "a");
	assert_string_equal(route(&k, to("x.test", NULL, 1)), "DIRECT");	/* no-resolve: never asks */
	assert_string_equal(route(&k, to("x.test", "10.1.2.3", 1)), "a");	/* but a known address counts */
	assert_string_equal(route(&k, to("", "192.168.1.1", 1)), "tcponly");
	m = to("", "1.1.1.1", 1);
	assert_int_equal(ip_parse(&m.src_ip, "10.99.1.1"), 0);
	assert_string_equal(route(&k, m), "b");
	assert_int_equal(ip_parse(&m.src_ip, "10.77.1.1"), 0);
	assert_string_equal(route(&k, m), "a");
	kit_close(&k);
}

/* A rule that needs the address stops the walk once; the walk goes on at the same rule, also when the look-up failed. */
static void
test_rules_walk_needs_ip(void **state)
{
	struct kit k;
	struct match w = { 0 };
	struct meta m = to("x.test", NULL, 1);

	(void)state;
	open_rules(&k, "rules:\n  - DOMAIN,early.test,b\n  - 'IP-CIDR,9.9.9.0/24,b,no-resolve'\n  - IP-CIDR,10.0.0.0/8,a\n"
	    "  - 'IP-CIDR,11.0.0.0/8,b,no-resolve'\n"
	    "  - MATCH,DIRECT\n");
	assert_string_equal(route(&k, to("early.test", NULL, 1)), "b");
	assert_string_equal(route(&k, to("", "1.1.1.1", 1)), "DIRECT");
	k.gen.rules->rule[0].misses = k.gen.rules->rule[1].misses = k.gen.rules->rule[2].misses = 0;
	assert_string_equal(walk(&k, &w, &m), "?ip");
	assert_int_equal(w.pos, 2);
	assert_int_equal(k.gen.rules->rule[1].misses, 1);
	assert_int_equal(k.gen.rules->rule[2].misses, 0);
	w.resolved = true;
	assert_string_equal(walk(&k, &w, &m), "DIRECT");	/* failed */
	assert_int_equal(k.gen.rules->rule[1].misses, 1);	/* not walked twice */
	assert_int_equal(k.gen.rules->rule[2].misses, 1);
	w = (struct match){ 0 };
	assert_string_equal(walk(&k, &w, &m), "?ip");
	w.resolved = true;
	assert_int_equal(ip_parse(&m.dst_ip, "11.1.1.1"), 0);
	assert_string_equal(walk(&k, &w, &m), "b");		/* a later no-resolve rule uses it */
	kit_close(&k);
}

static void
test_rules_walk_needs_process(void **state)
{
	struct kit k;
	struct match w = { 0 };
	struct meta m = to("x.test", NULL, 1);

	(void)state;
	open_rules(&k, "rules:\n  - PROCESS-NAME,Curl,a\n  - 'PROCESS-PATH-REGEX,/opt/.*,b'\n  - PROCESS-NAME-WILDCARD,WG*,b\n"
	    "  - UID,1000-2000,a\n  - MATCH,DIRECT\n");
	assert_string_equal(walk(&k, &w, &m), "?process");
	w.process_known = true;
	assert_string_equal(walk(&k, &w, &m), "DIRECT");
	m.process = "curl";
	assert_string_equal(route(&k, m), "a");
	m.process = "wget";
	m.process_path = "/OPT/bin/wget";
	assert_string_equal(route(&k, m), "b");
	m.process_path = "/bin/wget";
	assert_string_equal(route(&k, m), "b");
	m.process = "sh";
	m.uid = 1500;
	assert_string_equal(route(&k, m), "a");
	m.uid = 0;
	assert_string_equal(route(&k, m), "DIRECT");
	kit_close(&k);
}

static void
test_rules_walk_logic(void **state)
{
	struct kit k;
	struct meta m = to("y.n1.test", NULL, 6100);

	(void)state;
	open_rules(&k, "rules:\n  - 'AND,((DOMAIN-SUFFIX,and.test),(DST-PORT,6100)),a'\n"
	    "  - 'OR,((DOMAIN,or1.test),(DOMAIN,or2.test)),b'\n"
	    "  - 'AND,((NOT,((DST-PORT,6200))),(DOMAIN-SUFFIX,not.test)),a'\n"
	    "  - 'AND,((OR,((DOMAIN-SUFFIX,n1.test),(DOMAIN-SUFFIX,n2.test))),(NOT,((DOMAIN,x.n1.test)))),b'\n"
	    "  - 'NOT,((GEOSITE,cn)),REJECT'\n  - 'NOT,((OR,((GEOSITE,cn),(DOMAIN,zz.test)))),REJECT'\n  - MATCH,DIRECT\n");
	assert_string_equal(route(&k, to("x.and.test", NULL, 6100)), "a");
	assert_string_equal(route(&k, to("x.and.test", NULL, 6101)), "DIRECT");	/* nor does NOT of an unknown condition hit */
	assert_string_equal(route(&k, to("or1.test", NULL, 1)), "b");
	assert_string_equal(route(&k, to("or2.test", NULL, 1)), "b");
	assert_string_equal(route(&k, to("x.not.test", NULL, 1)), "a");
	assert_string_equal(route(&k, to("x.not.test", NULL, 6200)), "DIRECT");
	assert_string_equal(route(&k, m), "b");
	assert_string_equal(route(&k, to("x.n1.test", NULL, 1)), "DIRECT");
	assert_string_equal(route(&k, to("n2.test", NULL, 1)), "b");
	kit_close(&k);
}

static void
test_rules_walk_sub_rules(void **state)
{
	struct kit k;
	struct match w = { 0 };
	struct meta m = to("a.sub.test", NULL, 1);

	(void)state;
	open_rules(&k,
	    "sub-rules:\n"
	    "  subs: ['DOMAIN,a.sub.test,a', 'DST-PORT,6300,b', 'SUB-RULE,(DOMAIN-SUFFIX,deep.sub.test),more', 'DOMAIN,last.deep.sub.test,a']\n"
	    "  more: ['DOMAIN,q.deep.sub.test,b', 'DOMAIN,p.deep.sub.test,PASS']\n"
	    "rules: ['SUB-RULE,(DOMAIN-SUFFIX,sub.test),subs', 'DOMAIN,p.deep.sub.test,REJECT', 'MATCH,DIRECT']\n");
	assert_string_equal(walk(&k, &w, &m), "a");
	assert_ptr_equal(w.verdict.rule, &k.gen.rules->rule[0]);	/* what is shown is the SUB-RULE */
	assert_string_equal(route(&k, to("b.sub.test", NULL, 6300)), "b");
	assert_string_equal(route(&k, to("b.other.test", NULL, 6300)), "DIRECT");
	assert_string_equal(route(&k, to("q.deep.sub.test", NULL, 1)), "b");
	assert_string_equal(route(&k, to("last.deep.sub.test", NULL, 1)), "a");	/* nothing in "more": on in "subs" */
	assert_string_equal(route(&k, to("z.sub.test", NULL, 1)), "DIRECT");		/* nothing at all: on in the main list */
	assert_string_equal(route(&k, to("p.deep.sub.test", NULL, 1)), "REJECT");	/* PASS leaves the sub-rules */
	w = (struct match){ .list = map_get(&k.gen.sub_rules, "subs") };		/* a listener's own list */
	m = to("a.sub.test", NULL, 1);
	assert_int_equal(rules_walk(&w, &m, 1), MATCH_HIT);
	assert_string_equal(rule_api_name(w.verdict.rule), "Domain");
	m = to("none.test", NULL, 1);
	w = (struct match){ .list = map_get(&k.gen.sub_rules, "more") };
	assert_int_equal(rules_walk(&w, &m, 1), MATCH_NONE);
	kit_close(&k);
}

static void
test_rules_walk_skips_targets(void **state)
{
	struct kit k;
	struct meta m = to("pass.test", NULL, 1);

	(void)state;
	open_rules(&k, "rules: ['DOMAIN,pass.test,PASS', 'DOMAIN,x.test,tcponly', 'MATCH,DIRECT']\n");
	assert_string_equal(route(&k, m), "DIRECT");
	assert_int_equal(k.gen.rules->rule[0].hits, 1);		/* it did match */
	m = to("x.test", NULL, 1);
	assert_string_equal(route(&k, m), "tcponly");
	m.network = NET_UDP;
	assert_string_equal(route(&k, m), "DIRECT");
	kit_close(&k);
}

static void
test_rules_walk_counts_and_disabled(void **state)
{
	struct kit k;
	struct rule *r;

	(void)state;
	open_rules(&k, "rules: ['DOMAIN,x.test,a', 'MATCH,DIRECT']\n");
	r = k.gen.rules->rule;
	assert_string_equal(route(&k, to("x.test", NULL, 1)), "a");
	assert_string_equal(route(&k, to("y.test", NULL, 1)), "DIRECT");
	assert_int_equal(r[0].hits, 1);
	assert_int_equal(r[0].misses, 1);
	assert_int_equal(r[0].hit_at, 77);
	assert_int_equal(r[0].miss_at, 77);
	assert_int_equal(r[1].hits, 1);
	r[0].disabled = true;
	assert_string_equal(route(&k, to("x.test", NULL, 1)), "DIRECT");
	assert_int_equal(r[0].hits + r[0].misses, 2);		/* as if it were not there */
	kit_close(&k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules_walk_domains),
		cmocka_unit_test(test_rules_walk_numbers_and_inbound),
		cmocka_unit_test(test_rules_walk_addresses),
		cmocka_unit_test(test_rules_walk_needs_ip),
		cmocka_unit_test(test_rules_walk_needs_process),
		cmocka_unit_test(test_rules_walk_logic),
		cmocka_unit_test(test_rules_walk_sub_rules),
		cmocka_unit_test(test_rules_walk_skips_targets),
		cmocka_unit_test(test_rules_walk_counts_and_disabled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
