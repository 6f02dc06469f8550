/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/rule/parse.c and of every type's compile: error texts, payloads and types as the API shows them,
 * sub-rules. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "common/strutil.h"
#include "tests/unit/gen_kit.h"
#include "worker/rule/rule.h"

static int
parse_line(struct kit *k, struct rule *r, const char *line)
{
	assert_int_equal(kit_open(k,
	    "rule-providers: {dom: {type: file, behavior: domain}, ip: {type: file, behavior: ipcidr}}\n"), 0);
	memset(r, 0, sizeof *r);
	return rule_parse_line(&k->gen, r, line, &k->err);
}

static void
shows(const char *line, const char *type, const char *payload, const char *target, unsigned needs)
{
	struct kit k;
	struct rule r;

	if (parse_line(&k, &r, line) != 0)
		fail_msg("%s: %s", line, k.err.text);
	assert_string_equal(rule_api_name(&r), type);
	assert_string_equal(r.payload, payload);
	assert_string_equal(r.target, target);
	assert_int_equal(r.needs, needs);
	assert_string_equal(kit_name(r.outbound), target);
	kit_close(&k);
}

static void
refuses(const char *line, const char *why)
{
	struct kit k;
	struct rule r;

	if (parse_line(&k, &r, line) == 0)
		fail_msg("%s is taken", line);
	assert_string_equal(k.err.text, why);
	kit_close(&k);
}

static void
test_rule_parse_line_simple_types(void **state)
{
	(void)state;
	shows("DOMAIN,UPPER.test,a", "Domain", "upper.test", "a", 0);
	shows(" domain , b\xc3\xbc" "cher.test , a ", "Domain", "xn--bcher-kva.test", "a", 0);
	shows("DOMAIN-SUFFIX,suffix.test,b", "DomainSuffix", "suffix.test", "b", 0);
	shows("DOMAIN-KEYWORD,keyw,DIRECT,foo", "DomainKeyword", "keyw", "DIRECT", 0);
	shows("DOMAIN-WILDCARD,wild?.*.test,b", "DomainWildcard", "wild?.*.test", "b", 0);
	shows("DOMAIN-REGEX,^rx[0-9]{2,3}\\.test$,a", "DomainRegex", "^rx[0-9]{2,3}\\.test$", "a", 0);
	shows("DST-PORT,6002-6004/6010,a", "DstPort", "6002-6004/6010", "a", 0);
	shows("SRC-PORT,1,a", "SrcPort", "1", "a", 0);
	shows("IN-PORT,27890,a", "InPort", "27890", "a", 0);
	shows("DSCP,63,a", "DSCP", "63", "a", 0);
	shows("UID,54321,a", "Uid", "54321", "a", NEED_PROCESS);
	shows("IN-NAME,extra-in,a", "InName", "extra-in", "a", 0);
	shows("IN-USER,alice/bob,a", "InUser", "alice/bob", "a", 0);
	shows("IN-TYPE,SOCKS/HTTP,a", "InType", "SOCKS/HTTP", "a", 0);
	shows("NETWORK,UDP,a", "Network", "udp", "a", 0);
	shows("PROCESS-NAME,Curl,a", "ProcessName", "Curl", "a", NEED_PROCESS);
	shows("PROCESS-PATH,/no/such,a", "ProcessPath", "/no/such", "a", NEED_PROCESS);
	shows("PROCESS-NAME-REGEX,^a{1,2}$,a", "ProcessNameRegex", "^a{1,2}$", "a", NEED_PROCESS);
	shows("PROCESS-PATH-WILDCARD,/bin/*,a", "ProcessPathWildcard", "/bin/*", "a", NEED_PROCESS);
	shows("match,DIRECT", "Match", "", "DIRECT", 0);
	shows("MATCH,DIRECT,foo,bar", "Match", "", "DIRECT", 0);
}

static void
test_rule_parse_line_address_types(void **state)
{
	(void)state;
	shows("IP-CIDR,10.1.2.3/16,a", "IPCIDR", "10.1.2.3/16", "a", NEED_IP);
	shows("IP-CIDR,10.1.0.0/16,a,no-resolve", "IPCIDR", "10.1.0.0/16", "a", 0);
	shows("IP-CIDR6,2001:DB8:1::/48,a,no-resolve", "IPCIDR", "2001:db8:1::/48", "a", 0);
	shows("IP-CIDR,10.1.0.0/16,a,src", "SrcIPCIDR", "10.1.0.0/16", "a", 0);
	shows("SRC-IP-CIDR,10.1.0.0/16,a", "SrcIPCIDR", "10.1.0.0/16", "a", 0);
	shows("IP-SUFFIX,8.8.8.8/24,a,no-resolve", "IPSuffix", "8.8.8.8/24", "a", 0);
	shows("IP-SUFFIX,8.8.8.8/24,a,src", "SrcIPSuffix", "8.8.8.8/24", "a", 0);
	shows("SRC-IP-SUFFIX,8.8.8.8/24,a", "SrcIPSuffix", "8.8.8.8/24", "a", 0);
	shows("GEOIP,CN,a", "GeoIP", "cn", "a", NEED_IP);
	shows("GEOIP,lan,a,no-resolve", "GeoIP", "lan", "a", 0);
	shows("GEOIP,CN,a,src", "SrcGeoIP", "cn", "a", 0);
	shows("IP-ASN,13335,a", "IPASN", "13335", "a", NEED_IP);
	shows("SRC-IP-ASN,13335,a", "SrcIPASN", "13335", "a", 0);
	shows("GEOSITE,google,a", "GeoSite", "google", "a", 0);
	shows("RULE-SET,dom,a", "RuleSet", "dom", "a", 0);
	shows("RULE-SET,ip,a", "RuleSet", "ip", "a", NEED_IP);
	shows("RULE-SET,ip,a,no-resolve", "RuleSet", "ip", "a", 0);
}

/* The texts are those of the reference's list of rules (recorded). */
static void
test_rule_parse_line_logic(void **state)
{
	(void)state;
	shows("AND,((DOMAIN,baidu.com),(NETWORK,UDP)),a", "AND", "((Domain,baidu.com) && (Network,udp))", "a", 0);
	shows("AND,((DOMAIN,a.com), (NETWORK,udp)),DIRECT", "AND", "((Domain,a.com) && (Network,udp))", "DIRECT", 0);
	shows("OR,((DOMAIN,or1.test),(DOMAIN,or2.test)),b", "OR", "((Domain,or1.test) || (Domain,or2.test))", "b", 0);
	shows("NOT,((DOMAIN,baidu.com)),b", "NOT", "(!(Domain,baidu.com))", "b", 0);
	shows("AND,((NOT,((DST-PORT,6200))),(DOMAIN-SUFFIX,not.test)),a", "AND",
	    "((NOT,(!(DstPort,6200))) && (DomainSuffix,not.test))", "a", 0);
	shows("AND,((OR,((DOMAIN-SUFFIX,n1.test),(DOMAIN-SUFFIX,n2.test))),(NOT,((DOMAIN,x.n1.test)))),a", "AND",
	    "((OR,((DomainSuffix,n1.test) || (DomainSuffix,n2.test))) && (NOT,(!(Domain,x.n1.test))))", "a", 0);
	shows("AND,((IP-CIDR,10.0.0.0/8,no-resolve),(NETWORK,tcp)),a", "AND", "((IPCIDR,10.0.0.0/8) && (Network,tcp))", "a", 0);
	shows("AND,((IP-CIDR,10.0.0.0/8),(NETWORK,tcp)),a", "AND", "((IPCIDR,10.0.0.0/8) && (Network,tcp))", "a", NEED_IP);
	shows("OR,((NETWORK,tcp),(NOT,((IP-CIDR,10.0.0.0/8)))),a", "OR", "((Network,tcp) || (NOT,(!(IPCIDR,10.0.0.0/8))))", "a",
	    NEED_IP);
	shows("AND,((IP-CIDR,10.0.0.0/8,src,x)),a", "AND", "((SrcIPCIDR,10.0.0.0/8))", "a", 0);
	shows("OR,((DOMAIN-REGEX,^(a|b){1,2}$),(NETWORK,udp)),a", "OR", "((DomainRegex,^(a|b){1,2}$) || (Network,udp))", "a", 0);
	shows("AND,(DOMAIN,a.com),(NETWORK,udp),a", "AND", "((Domain,a.com) && (Network,udp))", "a", 0);
}

static void
test_rule_parse_line_errors(void **state)
{
	(void)state;
	refuses("", "format invalid");
	refuses("AND", "format invalid");
	refuses("DOMAIN,a.com", "proxy [a.com] not found");
	refuses("NOPE,x,DIRECT", "unsupported rule type NOPE");
	refuses("nope,x,DIRECT", "unsupported rule type NOPE");
	refuses("NOPE,x,zz", "proxy [zz] not found");
	refuses("MATCH,nobody", "proxy [nobody] not found");
	refuses("DOMAIN,,DIRECT", "missing subsequent parameters: DOMAIN");
	refuses("DOMAIN,DIRECT", "missing subsequent parameters: DOMAIN");
	refuses("IP-CIDR,300.1.1.1/8,DIRECT", "payloadRule error");
	refuses("IP-CIDR,1.1.1.1,DIRECT", "payloadRule error");
	refuses("DST-PORT,abc,DIRECT", "payloadRule error, intRanges error");
	refuses("DST-PORT,*,DIRECT", "payloadRule error");
	refuses("DST-PORT,1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/28/29,DIRECT",
	    "payloadRule error, intRanges error, too many ranges to use, maximum support 28 ranges");
	refuses("DSCP,64,DIRECT", "DSCP couldn't be negative or exceed 63");
	refuses("NETWORK,icmp,DIRECT", "unsupported network type, only TCP/UDP");
	refuses("IN-TYPE,HTTP/NOPE,DIRECT", "unknown type: NOPE");
	refuses("IN-NAME,a//b,DIRECT", "in name couldn't be empty");
	refuses("RULE-SET,zz,DIRECT", "rule set [zz] not found");
	refuses("SUB-RULE,(DOMAIN,a),zz", "sub-rule [zz] not found");
	refuses("DOMAIN-REGEX,(,DIRECT", "error parsing regexp: missing closing parenthesis at 1 in `(`");
}

static void
test_rule_parse_line_logic_errors(void **state)
{
	char line[1200];
	size_t n = 0;

	(void)state;
	refuses("AND,((DOMAIN,a),DIRECT", "format error is missing )");
	refuses("AND,(DOMAIN,a)),DIRECT", "missing '('");
	refuses("AND,)(,DIRECT", "missing '('");
	refuses("AND,DOMAIN,DIRECT", "payload format error");
	refuses("AND,(DOMAIN,a),DIRECT", "payload format error");	/* the reference: always true */
	refuses("AND,((DOMAIN,a)x(DOMAIN,b)),DIRECT", "payload format error");
	refuses("AND,(()),DIRECT", "[] format is error");
	refuses("AND,((DOMAIN)),DIRECT", "[DOMAIN] format is error");
	refuses("AND,((MATCH,x)),DIRECT", "unsupported rule type [MATCH] on logic rule");
	refuses("AND,((SUB-RULE,(DOMAIN,a))),DIRECT", "unsupported rule type [SUB-RULE] on logic rule");
	refuses("AND,((domain,a.com),(NETWORK,udp)),DIRECT", "unsupported rule type domain");
	refuses("AND,((IP-CIDR,zz),(NETWORK,udp)),DIRECT", "payloadRule error");
	refuses("NOT,((DOMAIN,a),(DOMAIN,b)),DIRECT", "not rule must contain one rule");
	refuses("OR,((RULE-SET,zz)),DIRECT", "rule set [zz] not found");
	n = str_copy(line, sizeof line, "NOT,");
	for (int i = 0; i < 33; i++)
		n += str_copy(line + n, sizeof line - n, "((NOT,");
	n += str_copy(line + n, sizeof line - n, "((DOMAIN,a))");
	for (int i = 0; i < 33; i++)
		n += str_copy(line + n, sizeof line - n, "))");
	str_copy(line + n, sizeof line - n, ",DIRECT");
	refuses(line, "conditions are nested deeper than 32");
}

static int
parse(struct kit *k, const char *yaml)
{
	assert_int_equal(kit_open(k, yaml), 0);
	return rules_parse(&k->gen, k->gen.root, &k->err);
}

static void
fails(const char *yaml, const char *why, unsigned line)
{
	struct kit k;

	assert_int_not_equal(parse(&k, yaml), 0);
	assert_string_equal(k.err.text, why);
	assert_int_equal(k.err.line, line);
	kit_close(&k);
}

static void
test_rules_parse_where(void **state)
{
	struct kit k;

	(void)state;
	fails("a: 1\nrules:\n  - DOMAIN,x,a\n  - MATCH,nobody\n", "rules[1] [MATCH,nobody] error: proxy [nobody] not found", 4);
	fails("rules: ['AND,((DOMAIN,a),DIRECT']\n", "rules[0] [AND,((DOMAIN,a),DIRECT] error: format error is missing )", 1);
	fails("sub-rules: {s: ['DOMAIN,x,a', 'NOPE,x,a']}\n", "sub-rules[s][1] [NOPE,x,a] error: unsupported rule type NOPE", 1);
	fails("rules: ['SUB-RULE,(DOMAIN,a),zz']\n", "rules[0] [SUB-RULE,(DOMAIN,a),zz] error: sub-rule [zz] not found", 1);
	fails("rules: [~]\n", "rules[0] [] error: format invalid", 1);
	fails("rules: abc\n", "line 1: cannot unmarshal !!str `abc` into []string", 1);
	fails("sub-rules: {'': []}\n", "sub-rule name is empty", 1);
	assert_int_equal(parse(&k, "a: 1\n"), 0);	/* no rules at all */
	assert_int_equal(k.gen.rules->n, 0);
	kit_close(&k);
	assert_int_equal(parse(&k, "rules:\nsub-rules:\n"), 0);
	kit_close(&k);
}

static void
test_rules_parse_sub_rules(void **state)
{
	struct kit k;

	(void)state;
	fails("sub-rules: {s: ['SUB-RULE,(DOMAIN,a),s']}\nrules: ['SUB-RULE,(DOMAIN,a),s']\n",
	    "sub-rule error: circular references [s->s]", 0);
	fails(
	    "sub-rules: {a: ['MATCH,a', 'SUB-RULE,(DOMAIN,a),b'], b: ['SUB-RULE,(DOMAIN,a),c'], c: ['SUB-RULE,(DOMAIN,a),b']}\n",
	    "sub-rule error: circular references [a->b->c->b]", 0);
	fails("sub-rules: {s: ['MATCH,a']}\nrules: ['SUB-RULE,(DOMAIN,a)(DOMAIN,b),s']\n",
	    "rules[0] [SUB-RULE,(DOMAIN,a)(DOMAIN,b),s] error: Sub-Rule rule must contain one rule", 2);
	fails("sub-rules: {s: ['MATCH,a']}\nrules: ['SUB-RULE,DOMAIN,s']\n",
	    "rules[0] [SUB-RULE,DOMAIN,s] error: Sub-Rule rule must contain one rule", 2);
	/* needs go up through lists, whichever is read first; what is used twice is no circle */
	assert_int_equal(parse(&k,
	    "sub-rules: {x: ['SUB-RULE,(NETWORK,tcp),z', 'SUB-RULE,(NETWORK,udp),z'], z: ['IP-CIDR,10.0.0.0/8,a']}\n"
	    "rules: ['SUB-RULE,(AND,((DOMAIN,a),(DOMAIN,b))),x', 'SUB-RULE,(NETWORK,tcp),z', 'MATCH,a']\n"), 0);
	assert_string_equal(k.gen.rules->rule[0].payload, "(AND,((DOMAIN,a),(DOMAIN,b)))");
	assert_string_equal(k.gen.rules->rule[0].target, "x");
	assert_string_equal(rule_api_name(&k.gen.rules->rule[0]), "SubRules");
	assert_int_equal(k.gen.rules->rule[0].needs, NEED_IP);
	assert_null(k.gen.rules->rule[0].outbound);
	assert_int_equal(k.gen.rules->n, 3);
	kit_close(&k);
}

static void
test_rules_parse_deep_sub_rules(void **state)
{
	char yaml[8192];
	size_t n = 0;
	struct kit k;

	(void)state;
	n = str_copy(yaml, sizeof yaml, "sub-rules:\n");
	for (int i = 0; i < 60; i++)
		n += (size_t)snprintf(yaml + n, sizeof yaml - n, "  s%d: ['SUB-RULE,(DOMAIN,a),s%d']\n", i, i + 1);
	str_copy(yaml + n, sizeof yaml - n, "  s60: []\n");
	assert_int_not_equal(parse(&k, yaml), 0);
	assert_string_equal(k.err.text, "sub-rule error: nested deeper than 32");
	kit_close(&k);
}

static void
test_rules_parse_names_what_comes_later(void **state)
{
	struct kit k;

	(void)state;
	kit_log[0] = '\0';
	log_set_sink(kit_sink);
	assert_int_equal(parse(&k, "sub-rules: {s: ['NOT,((GEOSITE,x)),a']}\n"
	    "rules: ['DOMAIN,a,a', 'GEOIP,lan,a', 'GEOIP,cn,a', 'GEOIP,us,a', 'UID,1,a']\n"), 0);
	kit_close(&k);
	log_set_sink(NULL);
	assert_non_null(strstr(kit_log, "GEOIP rules have no data and match nothing: 2, the first is rules[2]\n"));
	assert_non_null(strstr(kit_log, "GEOSITE rules have no data and match nothing: 1, the first is sub-rules[s][0]\n"));
	assert_null(strstr(kit_log, "UID rules"));
	assert_null(strstr(kit_log, "DOMAIN rules"));
}

/* All that the reference's list shows, line by line. */
static void
test_rules_parse_long_list(void **state)
{
	enum { N = 3000 };
	char *yaml = malloc(N * 40 + 100);
	size_t n;
	struct kit k;

	(void)state;
	assert_non_null(yaml);
	n = str_copy(yaml, N * 40, "rules:\n");
	for (int i = 0; i < N; i++)
		n += (size_t)snprintf(yaml + n, 40, "  - DOMAIN-SUFFIX,host%d.test,a\n", i);
	assert_int_equal(parse(&k, yaml), 0);
	assert_int_equal(k.gen.rules->n, N);
	assert_string_equal(k.gen.rules->rule[N - 1].payload, "host2999.test");
	kit_close(&k);
	free(yaml);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rule_parse_line_simple_types),
		cmocka_unit_test(test_rule_parse_line_address_types),
		cmocka_unit_test(test_rule_parse_line_logic),
		cmocka_unit_test(test_rule_parse_line_errors),
		cmocka_unit_test(test_rule_parse_line_logic_errors),
		cmocka_unit_test(test_rules_parse_where),
		cmocka_unit_test(test_rules_parse_sub_rules),
		cmocka_unit_test(test_rules_parse_deep_sub_rules),
		cmocka_unit_test(test_rules_parse_names_what_comes_later),
		cmocka_unit_test(test_rules_parse_long_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
