/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/dns/config.c, server.c, filter.c, fake_filter.c and sets.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/internal.h"
#include "worker/loader/yaml.h"
#include "worker/worker.h"

int
priv_open(struct worker *w, enum open_kind kind, const char *path, struct cfg_err *err)
{
	(void)w;
	(void)kind;
	(void)path;
	(void)err;
	return -E_NOTFOUND;
}

struct fix {
	struct gen g;
	struct tree tree;
	void *image;
	struct cfg_err err;
};

static char logged[16384];

static void
on_log(int level, const char *text, size_t len)
{
	(void)level;
	snprintf(logged + strlen(logged), sizeof(logged) - strlen(logged), "%.*s\n", (int)len, text);
}

/* Lists: "late" has not come, "gone" is not in its database, any other has the names that contain its own, and 1.0.0.0/8. */
static const char *const list_names[] = { "cn", "private", "late", "us", "d", "c" };
static int asked_only;

static const struct ruleset *
list_find(struct gen *g, enum dns_list kind, const char *name, const char *who, struct cfg_err *err)
{
	(void)g;
	asked_only += who == NULL && kind != DNS_LIST_RULE_SET;
	for (size_t i = 0; i < countof(list_names); i++)
		if (str_equal(list_names[i], name))
			return (const struct ruleset *)(const void *)&list_names[i];
	(void)cfg_fail(err, NULL, NULL, "list %s not found in GeoSite.dat", name);
	return NULL;
}

static int
list_has(const struct ruleset *s, const char *host, const struct ip *ip)
{
	const char *name = *(const char *const *)(const void *)s;

	if (str_equal(name, "late"))
		return -1;
	return host != NULL ? strstr(host, name) != NULL : ip->family == 4 && ip->b[0] == 1;
}

static int
load(struct fix *f, const char *yaml)
{
	size_t n;

	memset(f, 0, sizeof(*f));
	logged[0] = '\0';
	asked_only = 0;
	arena_init(&f->g.arena);
	f->g.dns_hooks.list = list_find;
	f->g.dns_hooks.list_has = list_has;
	if (yaml_load(yaml, strlen(yaml), &f->image, &n, &f->err) != 0)
		fail_msg("%s: %s", yaml, f->err.text);
	assert_int_equal(tree_from_memory(&f->tree, f->image, n, &f->err), 0);
	return dns_parse(&f->g, f->tree.root, &f->err);
}

static void
unload(struct fix *f)
{
	arena_free(&f->g.arena);
	free(f->image);
}

static void
test_parse_defaults(void **state)
{
	const struct dns_config *c;
	struct fix f;

	(void)state;
	assert_int_equal(load(&f, "dns:\n"), 0);
	c = &f.g.resolver->conf;
	assert_false(c->enable);
	assert_true(c->use_hosts && c->use_system_hosts);
	assert_int_equal(c->mode, ENHANCED_REDIR_HOST);
	assert_int_equal(c->ipv6_timeout_ms, 100);
	assert_int_equal(c->cache_max, RESOLVER_CACHE_MAX);
	assert_int_equal(c->main.n, 2);
	assert_int_equal(c->bootstrap.n, 4);
	assert_string_equal(logged, "");
	unload(&f);
}

static void
test_parse_accepts(void **state)
{
	static const char *const good[] = {
		"a: 1\n",
		"dns: {enable: true}\n",
		"dns: {enable: true, nameserver: ['https://1.1.1.1/dns-query', 'tls://1.1.1.1', 'quic://1.1.1.1', "
		"'tcp://1.1.1.1', '1.1.1.1:53', 'system', "
		"'https://1.1.1.1/dns-query#h3=true']}\n",
		"dns: {enable: true, ipv6: yes, nameserver: [1.1.1.1], default-nameserver: [system, 'tls://1.1.1.1:853', "
		"'https://[2606::1]/q']}\n",
		"dns: {enable: false, nameserver: []}\n",
		"dns: {fake-ip-range: nope, fake-ip-filter: ['a..b']}\n", /* looked at in fake-ip mode only */
		"dns: {fallback-filter: {ipcidr: [nope]}}\n", /* beside a fallback only */
		"dns: {enhanced-mode: FAKE-IP, fake-ip-range: 198.18.0.1/29, fake-ip-filter: ['+.a', 'geosite:cn', "
		"'rule-set:d']}\n"
		"rule-providers: {d: {behavior: domain}}\n",
		"dns: {enhanced-mode: fake-ip, fake-ip-filter-mode: rule, fake-ip-filter: ['DOMAIN,a.b,real-ip', "
		"'RULE-SET,d,Fake-IP', 'MATCH,fake-ip']}\n"
		"rule-providers: {d: {behavior: classical}}\n",
		"dns: {enhanced-mode: fake-ip, fake-ip-range: '', fake-ip-range6: 'fdfe::/64'}\n",
		"dns: {nameserver-policy: {'+.a,b.c': 1.1.1.1, 'geosite:cn,private': [system, rcode://success], "
		"'rule-set:d': [tls://h]}}\n"
		"rule-providers: {d: {behavior: classical}}\n",
		"dns: {respect-rules: true, proxy-server-nameserver: [1.1.1.1]}\n",
		"dns: {cache-algorithm: arc, ipv6-timeout: 0, fallback: [8.8.8.8], fallback-filter: {geoip: false, "
		"geoip-code: US, ipcidr: [240.0.0.0/4], "
		"domain: [+.x]}}\n",
	};

	(void)state;
	for (size_t i = 0; i < countof(good); i++) {
		struct fix f;

		if (load(&f, good[i]) != 0)
			fail_msg("%s: %s", good[i], f.err.text);
		unload(&f);
	}
}

static void
test_parse_refuses(void **state)
{
	static const struct {
		const char *yaml, *text;
	} bad[] = {
		{ "dns: [x]\n", "line 1: cannot unmarshal !!seq into map[string]interface {}" },
		{ "dns: {enable: maybe}\n", "line 1: cannot unmarshal !!str `maybe` into bool" },
		{ "dns: {nameserver-policy: {'geosite:gone': 1.1.1.1}}\n", "list gone not found in GeoSite.dat" },
		{ "dns: {nameserver-policy: {'geosite:cn,': 1.1.1.1}}\n", "country code could not be empty" },
		{ "dns: {fallback: [1.1.1.1], fallback-filter: {geoip: false, geosite: [cn, gone]}}\n",
		    "DNS FallbackGeosite[1] format error: list gone not found in GeoSite.dat" },
		{ "dns: {fallback: [1.1.1.1], fallback-filter: {geoip-code: gone}}\n",
		    "load GeoIP dns fallback filter error, list gone not found in GeoSite.dat" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-filter-mode: rule,\n"
		    "  fake-ip-filter: ['MATCH,fake-ip', 'GEOSITE,gone,real-ip']}\n",
		    "dns.fake-ip-filter[1] [GEOSITE,gone,real-ip] error: list gone not found in GeoSite.dat" },
		{ "dns: {nameserver: 1.1.1.1}\n", "line 1: cannot unmarshal !!str `1.1.1.1` into []string" },
		{ "dns: {enable: true, nameserver: []}\n", "if DNS configuration is turned on, NameServer cannot be empty" },
		{ "dns: {enable: true, nameserver: }\n", "if DNS configuration is turned on, NameServer cannot be empty" },
		{ "dns: {nameserver: ['nope://1.1.1.1']}\n", "DNS NameServer[0] unsupport scheme: nope" },
		{ "dns: {enable: false, nameserver: [1.1.1.1, 'nope://x']}\n", "DNS NameServer[1] unsupport scheme: nope" },
		{ "dns: {nameserver: ['1.1.1.1:x']}\n", "DNS NameServer[0] format error: invalid port \":x\" after host" },
		{ "dns: {nameserver: ['rcode://what']}\n", "DNS NameServer[0] format error: unsupported RCode type: what" },
		{ "dns: {nameserver: ['udp://a:1:2']}\n",
		    "DNS NameServer[0] format error: address a:1:2: too many colons in address" },
		{ "dns: {nameserver: ['udp://']}\n", "DNS NameServer[0] format error: missing host" },
		{ "dns: {nameserver: [1.1.1.1], default-nameserver: [dns.test]}\n", "default nameserver should be pure IP" },
		{ "dns: {default-nameserver: ['dhcp://eth0']}\n", "default nameserver should be pure IP" },
		{ "dns: {default-nameserver: []}\n", "default nameserver should have at least one nameserver" },
		{ "dns: {enhanced-mode: nope}\n", "invalid mode" },
		{ "dns: {fake-ip-filter-mode: nope}\n", "invalid mode" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-range: nope}\n", "netip.ParsePrefix(\"nope\"): no '/'" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-range: 198.18.0.1/30}\n", "ipnet don't have valid ip" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-range: 198.18.0.1/32}\n", "ipnet don't have valid ip" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-range: 'fd00::/64'}\n", "dns.fake-ip-range must be a IPv4 prefix" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-range6: 10.0.0.0/8}\n",
		    "dns.fake-ip-range6 must be a IPv6 prefix" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-range: ''}\n",
		    "disallow `fake-ip-range` and `fake-ip-range6` both empty with fake-ip mode" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-filter: ['a..b']}\n", "invalid domain: a..b" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-filter: ['rule-set:x']}\n", "not found rule-set: x" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-filter: ['rule-set:x']}\nrule-providers: {x: {behavior: ipcidr}}\n",
		    "rule provider type error, except domain,actual IPCIDR" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-filter-mode: rule, fake-ip-filter: ['DOMAIN,a,nope']}\n",
		    "dns.fake-ip-filter[0] [DOMAIN,a,nope] error: invalid action 'nope', must be 'fake-ip' or 'real-ip'" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-filter-mode: rule, fake-ip-filter: "
		  "['IP-CIDR,1.0.0.0/8,real-ip']}\n",
		    "dns.fake-ip-filter[0] [IP-CIDR,1.0.0.0/8,real-ip] error: rule type 'IP-CIDR' not supported, only "
		    "domain-based rules allowed" },
		{ "dns: {enhanced-mode: fake-ip, fake-ip-filter-mode: rule, fake-ip-filter: ['RULE-SET,q,real-ip']}\n",
		    "dns.fake-ip-filter[0] [RULE-SET,q,real-ip] error: rule-set 'q' not found" },
		{ "dns: {respect-rules: true}\n",
		    "if “respect-rules” is turned on, “proxy-server-nameserver” cannot be empty" },
		{ "dns: {fallback: [1.1.1.1], fallback-filter: {ipcidr: [1.1.1.1]}}\n",
		    "DNS FallbackIP[0] format error: netip.ParsePrefix(\"1.1.1.1\"): no '/'" },
		{ "dns: {fallback: [1.1.1.1], fallback-filter: {domain: [a, 'b.']}}\n",
		    "DNS FallbackDomain[1] format error: invalid domain" },
		{ "dns: {nameserver-policy: {a.b: {}}}\n", "value format error, must be string or array" },
		{ "dns: {nameserver-policy: {a.b: }}\n", "value format error, must be string or array" },
		{ "dns: {nameserver-policy: {'': 1.1.1.1}}\n", "DNS ResoverRule invalid domain: " },
		{ "dns: {nameserver-policy: {'a.': 1.1.1.1}}\n", "DNS ResoverRule invalid domain: a." },
		{ "dns: {nameserver-policy: {'a.b,c.': 1.1.1.1}}\n", "DNS ResoverRule invalid domain: c." },
		{ "dns: {nameserver-policy: {'rule-set:x': 1.1.1.1}}\n", "not found rule-set: x" },
		{ "dns: {nameserver-policy: {a.b: [1.1.1.1, 'x://y']}}\n", "DNS NameServer[1] unsupport scheme: x" },
		{ "dns: {proxy-server-nameserver-policy: {a.b: 1.1.1.1}}\n",
		    "disallow empty `proxy-server-nameserver` when `proxy-server-nameserver-policy` is set" },
	};

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		struct fix f;

		if (load(&f, bad[i].yaml) != -E_INVAL)
			fail_msg("%s is taken", bad[i].yaml);
		if (strcmp(f.err.text, bad[i].text) != 0)
			fail_msg("%s: %s", bad[i].yaml, f.err.text);
		unload(&f);
	}
}

static void
test_server_forms(void **state)
{
	static const struct {
		const char *text;
		enum dns_net net;
		const char *host;
		uint16_t port;
		const char *path, *user, *via;
		bool is_ip, usable;
	} t[] = {
		{ "1.1.1.1", DNS_NET_UDP, "1.1.1.1", 53, "", "", NULL, true, true },
		{ "1.1.1.1:5353", DNS_NET_UDP, "1.1.1.1", 5353, "", "", NULL, true, true },
		{ "dns.test", DNS_NET_UDP, "dns.test", 53, "", "", NULL, false, true },
		{ "2001:db8::1", DNS_NET_UDP, "2001:db8::1", 53, "", "", NULL, true, true },
		{ "[2001:db8::1]:54", DNS_NET_UDP, "2001:db8::1", 54, "", "", NULL, true, true },
		{ "udp://8.8.8.8#DIRECT", DNS_NET_UDP, "8.8.8.8", 53, "", "", "DIRECT", true, true },
		{ "8.8.8.8#my%20proxy", DNS_NET_UDP, "8.8.8.8", 53, "", "", "my proxy", true, true },
		{ "TCP://8.8.8.8", DNS_NET_TCP, "8.8.8.8", 53, "", "", NULL, true, true },
		{ "tls://h", DNS_NET_TLS, "h", 853, "", "", NULL, false, true },
		{ "quic://[::1]", DNS_NET_QUIC, "::1", 853, "", "", NULL, true, false },
		{ "https://u:p@h:444/q?x=1#proxy&h3=true", DNS_NET_HTTPS, "h", 444, "/q?x=1", "u:p", "proxy", false, false },
		{ "https://h/q", DNS_NET_HTTPS, "h", 443, "/q", "", NULL, false, true },
		{ "http://1.2.3.4/q", DNS_NET_HTTP, "1.2.3.4", 80, "/q", "", NULL, true, false },
		{ "system", DNS_NET_SYSTEM, NULL, 0, "", "", NULL, false, true },
		{ "system://", DNS_NET_SYSTEM, NULL, 0, "", "", NULL, false, true },
		{ "dhcp://system", DNS_NET_SYSTEM, "system", 0, "", "", NULL, false, true },
		{ "dhcp://eth0", DNS_NET_DHCP, "eth0", 0, "", "", NULL, false, false },
		{ "rcode://refused", DNS_NET_RCODE, "refused", 0, "", "", NULL, false, true },
	};
	struct arena a;

	(void)state;
	arena_init(&a);
	for (size_t i = 0; i < countof(t); i++) {
		struct cfg_err err = { .text = "" };
		struct dns_server s;

		if (dns_server_parse(&a, t[i].text, 0, &s, NULL, "k", &err) != 0)
			fail_msg("%s: %s", t[i].text, err.text);
		assert_int_equal(s.net, t[i].net);
		assert_true(str_equal(s.host, t[i].host));
		assert_int_equal(s.port, t[i].port);
		assert_string_equal(s.path, t[i].path);
		assert_string_equal(s.user, t[i].user);
		assert_true(str_equal(s.via, t[i].via));
		assert_int_equal(s.ip.family != 0, t[i].is_ip);
		assert_int_equal(dns_server_usable(&s), t[i].usable);
	}
	arena_free(&a);
}

static void
test_server_params(void **state)
{
	struct cfg_err err = { .text = "" };
	struct dns_server s;
	struct arena a;

	(void)state;
	arena_init(&a);
	logged[0] = '\0';
	assert_int_equal(
	    dns_server_parse(&a,
		"https://h/q#h3=true&skip-cert-verify=true&name-cert-verify=n.test&ecs=1.2.3.0/24&ecs-override=true&"
		"disable-ipv4=true&disable-ipv6=false&disable-qtype-65=true&RULES",
		0, &s, NULL, "k", &err),
	    0);
	assert_true(s.h3 && s.skip_verify && s.ecs_override && s.no_ipv4 && s.rules);
	assert_false(s.no_ipv6);
	assert_null(s.via);
	assert_string_equal(s.verify_name, "n.test");
	assert_int_equal(s.ecs.bits, 24);
	assert_int_equal(s.n_no_qtypes, 1);
	assert_int_equal(s.no_qtypes[0], 65);
	assert_string_equal(logged, "");
	assert_int_equal(dns_server_parse(&a, "1.1.1.1#ecs=zzz&huh=1", 3, &s, NULL, "k", &err), 0);
	assert_int_equal(s.ecs.ip.family, 0);
	assert_non_null(strstr(logged, "k[3]: ecs=zzz"));
	assert_non_null(strstr(logged, "huh=1"));
	arena_free(&a);
}

static void
test_servers_duplicates(void **state)
{
	struct fix f;

	(void)state;
	assert_int_equal(load(&f, "dns: {nameserver: [1.1.1.1, 8.8.8.8, 1.1.1.1]}\n"), 0);
	assert_int_equal(f.g.resolver->conf.main.n, 2);
	unload(&f);
}

/* What a name of a policy is answered by: the first server of its list. */
static const char *
server_of(const struct dns_policy *p, const char *name)
{
	static struct upstreams sets[8];
	const struct upstreams *found;

	assert_true(p->n_rules <= (int)countof(sets));
	for (int i = 0; i < p->n_rules; i++)
		p->rules[i]->set = &sets[i];
	found = dns_policy_search(p, name);
	return found == NULL ? "" : p->rules[found - sets]->servers.s[0].text;
}

static void
test_policy_lists(void **state)
{
	const struct dns_policy *p;
	struct fix f;

	(void)state;
	assert_int_equal(load(&f, "dns: {nameserver-policy: {'+.a.test': 1.1.1.1, 'geosite:CN, private': 1.1.1.2,\n"
	    "    'b.test,c.test': 1.1.1.3,\n"
	    "    'Geosite:late,!late': 1.1.1.4, 'rule-set:d': 1.1.1.5, 'geosite:!c': 1.1.1.6}}\n"
	    "rule-providers: {d: {behavior: classical}}\n"), 0);
	assert_int_equal(asked_only, 5);	/* before any of them is waited for */
	p = &f.g.resolver->conf.policy;
	assert_int_equal(p->n_steps, 6);
	assert_string_equal(server_of(p, "cn.a.test"), "1.1.1.1");	/* order of the file */
	assert_string_equal(server_of(p, "cn.b.test"), "1.1.1.2");
	assert_string_equal(server_of(p, "private"), "1.1.1.2");
	assert_string_equal(server_of(p, "c.test"), "1.1.1.3");
	assert_string_equal(server_of(p, "late.c"), "");		/* not there: neither it nor its opposite */
	assert_string_equal(server_of(p, "d.c"), "1.1.1.5");
	assert_string_equal(server_of(p, "x.test"), "1.1.1.6");
	assert_non_null(strstr(logged, "of the classical rule set d only the domain rules count"));
	unload(&f);
}

static void
test_fallback_lists(void **state)
{
	const struct fallback_filter *filter;
	struct ip one, two, lan;
	struct fix f;

	(void)state;
	assert_int_equal(ip_parse(&one, "1.1.1.1"), 0);
	assert_int_equal(ip_parse(&two, "2.2.2.2"), 0);
	assert_int_equal(ip_parse(&lan, "10.0.0.1"), 0);
	assert_int_equal(load(&f, "dns: {fallback: [1.1.1.1],\n"
	    "  fallback-filter: {geoip-code: US, geosite: [cn, late], domain: [x.test]}}\n"), 0);
	filter = &f.g.resolver->conf.fallback_filter;
	assert_true(dns_fallback_only(filter, "cn.test"));
	assert_true(dns_fallback_only(filter, "x.test"));
	assert_false(dns_fallback_only(filter, "late.test"));
	assert_false(dns_fallback_distrusts(filter, &one));
	assert_true(dns_fallback_distrusts(filter, &two));
	assert_false(dns_fallback_distrusts(filter, &lan));
	unload(&f);
	/* no data says where an address is */
	assert_int_equal(load(&f, "dns: {fallback: [1.1.1.1], fallback-filter: {geoip-code: late}}\n"), 0);
	assert_true(dns_fallback_distrusts(&f.g.resolver->conf.fallback_filter, &one));
	unload(&f);
	/* nothing is asked for what is not used */
	assert_int_equal(load(&f, "dns: {fallback-filter: {geoip-code: gone, geosite: [gone]}}\n"), 0);
	assert_int_equal(asked_only, 0);
	unload(&f);
}

static void
test_fake_filter_lists(void **state)
{
	const struct fake_filter *filter;
	struct fix f;

	(void)state;
	assert_int_equal(load(&f, "dns: {enhanced-mode: fake-ip, fake-ip-filter: ['geosite:cn,late', 'rule-set:d', x.test]}\n"
	    "rule-providers: {d: {behavior: domain}}\n"), 0);
	filter = &f.g.resolver->conf.fake_filter;
	assert_true(
	    fake_filter_is_real(filter, "cn.test") && fake_filter_is_real(filter, "d") && fake_filter_is_real(filter, "x.test"));
	assert_false(fake_filter_is_real(filter, "late.test"));
	unload(&f);
	assert_int_equal(load(&f, "dns: {enhanced-mode: fake-ip, fake-ip-filter-mode: whitelist,\n"
	    "  fake-ip-filter: ['geosite:cn', 'geosite:us']}\n"), 0);
	filter = &f.g.resolver->conf.fake_filter;
	assert_true(!fake_filter_is_real(filter, "us.test") && fake_filter_is_real(filter, "x.test"));
	unload(&f);
	assert_int_equal(load(&f,
			     "dns: {enhanced-mode: fake-ip, fake-ip-filter-mode: rule, fake-ip-filter: ['GEOSITE,CN,fake-ip',\n"
			     "  'RULE-SET,d,real-ip', 'MATCH,fake-ip']}\nrule-providers: {d: {behavior: classical}}\n"),
	    0);
	filter = &f.g.resolver->conf.fake_filter;
	assert_false(fake_filter_is_real(filter, "cn.d"));
	assert_true(fake_filter_is_real(filter, "d.test"));
	assert_false(fake_filter_is_real(filter, "x.test"));
	unload(&f);
}

static void
test_parse_warns(void **state)
{
	struct fix f;

	(void)state;
	assert_int_equal(
	    load(&f,
		"dns: {enable: true, listen: '0.0.0.0:53', enhanced-mode: fake-ip, nameserver: [1.1.1.1, 'quic://8.8.8.8'], "
		"namserver: [x], "
		"prefer-h3: true, fallback: [8.8.8.8], nameserver-policy: {a.b: 1.1.1.1, 'geosite:cn': 1.1.1.1}, "
		"fake-ip-filter: ['geosite:cn'], direct-nameserver: ['https://h/q#h3=true']}\n"),
	    0);
	assert_non_null(strstr(logged, "dns.prefer-h3 does not work yet"));
	assert_non_null(strstr(logged, "dns.nameserver: quic://8.8.8.8 does not work yet"));
	assert_non_null(strstr(logged, "dns.direct-nameserver: no server of this list can be asked"));
	assert_non_null(strstr(logged, "unknown key namserver is ignored, did you mean nameserver?"));
	assert_null(strstr(logged, "1.1.1.1 does not"));
	unload(&f);
	assert_int_equal(load(&f, "dns: {enable: false, listen: '0.0.0.0:53', nameserver: ['tls://8.8.8.8']}\n"), 0);
	assert_string_equal(logged, "");
	unload(&f);
}

static int
group_setup(void **state)
{
	(void)state;
	log_set_sink(on_log);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_defaults),
		cmocka_unit_test(test_parse_accepts),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_server_forms),
		cmocka_unit_test(test_server_params),
		cmocka_unit_test(test_servers_duplicates),
		cmocka_unit_test(test_policy_lists),
		cmocka_unit_test(test_fallback_lists),
		cmocka_unit_test(test_fake_filter_lists),
		cmocka_unit_test(test_parse_warns),
	};

	return cmocka_run_group_tests_name("dns_config", tests, group_setup, NULL);
}
