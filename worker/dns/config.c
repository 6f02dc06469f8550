/* SPDX-License-Identifier: MIT */
/* The dns: section (spec/config.md 4): every key is validated, with `enable: false` too, in the reference's order and with
 * its texts; what this version does not do yet is warned about by name when the section is enabled. Called by apply.c
 * through dns_parse(); the result stays in the generation's resolver. */
#include "worker/dns/config.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/internal.h"

enum { FAKE_BITS_MAX = 29 };	/* network, gateway, two unused, broadcast: a /30 has no address to give (spec/config.md 14.3) */

static const char *const default_bootstrap[] = { "114.114.114.114", "223.5.5.5", "8.8.8.8", "1.0.0.1" };
static const char *const default_main[] = { "https://doh.pub/dns-query", "tls://223.5.5.5:853" };

/* A list key: absent gives the defaults, null an empty list. */
static int
read_list(struct gen *g, const struct cfg_node *dns, const char *name, const char *key, const char *const *defaults,
    size_t n_defaults, struct dns_servers *out, struct cfg_err *err)
{
	const struct cfg_node *node = cfg_get(dns, name), *list;
	int rc;

	if (node == NULL) {
		*out = (struct dns_servers){ .s = arena_array(&g->arena, n_defaults + 1, sizeof(*out->s)) };
		for (size_t i = 0; i < n_defaults; i++) {
			rc = dns_server_parse(&g->arena, defaults[i], (int)i, &out->s[out->n++], NULL, key, err);
			if (rc != 0)
				return rc;
		}
		return 0;
	}
	rc = cfg_list(node, key, &list, err);
	return rc == 0 ? dns_servers_parse(&g->arena, list, key, out, err) : rc;
}

static int
read_scalars(const struct cfg_node *n, struct dns_config *c, struct cfg_err *err)
{
	static const char *const modes[] = { "normal", "fake-ip", "redir-host", NULL };
	static const char *const filters[] = { "blacklist", "whitelist", "rule", NULL };
	const struct {
		const char *name, *key;
		bool *out;
	} bools[] = {
		{ "enable", "dns.enable", &c->enable },
		{ "ipv6", "dns.ipv6", &c->ipv6 },
		{ "prefer-h3", "dns.prefer-h3", &c->prefer_h3 },
		{ "use-hosts", "dns.use-hosts", &c->use_hosts },
		{ "use-system-hosts", "dns.use-system-hosts", &c->use_system_hosts },
		{ "respect-rules", "dns.respect-rules", &c->respect_rules },
		{ "direct-nameserver-follow-policy", "dns.direct-nameserver-follow-policy", &c->direct_follow_policy },
		{ "fallback-lazy-query", "dns.fallback-lazy-query", &c->fallback_lazy },
	};
	const struct {
		const char *name, *key;
		int64_t max, *out;
	} ints[] = {
		{ "ipv6-timeout", "dns.ipv6-timeout", UINT32_MAX, &c->ipv6_timeout_ms },
		{ "cache-max-size", "dns.cache-max-size", INT32_MAX, &c->cache_max },
		{ "fake-ip-ttl", "dns.fake-ip-ttl", INT32_MAX, &c->fake_ttl },
		{ "listen-routing-mark", "dns.listen-routing-mark", UINT32_MAX, &c->listen_mark },
	};
	const char *algorithm = "";

	for (size_t i = 0; i < countof(bools); i++)
		if (cfg_bool(cfg_get(n, bools[i].name), bools[i].key, bools[i].out, err) != 0)
			return -E_INVAL;
	for (size_t i = 0; i < countof(ints); i++)
		if (cfg_int(cfg_get(n, ints[i].name), ints[i].key, 0, ints[i].max, ints[i].out, err) != 0)
			return -E_INVAL;
	if (cfg_str(cfg_get(n, "listen"), "dns.listen", &c->listen, err) != 0 ||
	    cfg_str(cfg_get(n, "cache-algorithm"), "dns.cache-algorithm", &algorithm, err) != 0 ||
	    cfg_enum(cfg_get(n, "enhanced-mode"), "dns.enhanced-mode", modes, "invalid mode", &c->mode, err) != 0 ||
	    cfg_enum(cfg_get(n, "fake-ip-filter-mode"), "dns.fake-ip-filter-mode", filters, "invalid mode", &c->fake_filter_mode,
	    err) != 0)
		return -E_INVAL;
	c->arc = algorithm[0] != '\0' && !str_equal(algorithm, "lru");
	if (c->ipv6_timeout_ms == 0)
		c->ipv6_timeout_ms = DNS_IPV6_TIMEOUT_MS;
	if (c->cache_max == 0 || c->cache_max > RESOLVER_CACHE_MAX)
		c->cache_max = RESOLVER_CACHE_MAX;
	return 0;
}

/* One pool; "" = none. */
static int
read_pool(const struct cfg_node *n, const char *key, const char *text, int family, struct prefix *out, struct cfg_err *err)
{
	int rc = cfg_str(n, key, &text, err);
	struct prefix p;

	if (rc != 0 || text[0] == '\0')
		return rc;
	if (prefix_parse(&p, text) != 0)
		return cfg_fail(err, n, key, "netip.ParsePrefix(\"%s\"): %s", text,
		    strchr(text, '/') == NULL ? "no '/'" : "unable to parse IP or bad bits after slash");
	if (p.ip.family != family)
		return cfg_fail(err, n, key, "%s must be a IPv%d prefix", key, family);
	if (p.bits > (family == 4 ? FAKE_BITS_MAX : FAKE_BITS_MAX + 96))
		return cfg_fail(err, n, key, "ipnet don't have valid ip");
	*out = p;
	return 0;
}

static int
read_fake_ip(struct gen *g, const struct cfg_node *root, const struct cfg_node *n, struct dns_config *c, struct cfg_err *err)
{
	int rc;

	if (c->mode != ENHANCED_FAKE_IP)
		return 0;
	rc = read_pool(cfg_get(n, "fake-ip-range"), "dns.fake-ip-range", "198.18.0.1/16", 4, &c->fake4, err);
	if (rc == 0)
		rc = read_pool(cfg_get(n, "fake-ip-range6"), "dns.fake-ip-range6", "", 6, &c->fake6, err);
	if (rc == 0 && c->fake4.ip.family == 0 && c->fake6.ip.family == 0)
		rc = cfg_fail(err, n, "dns.fake-ip-range",
		    "disallow `fake-ip-range` and `fake-ip-range6` both empty with fake-ip mode");
	return rc == 0 ? fake_filter_parse(g, root, n, c->fake_filter_mode, &c->fake_filter, err) : rc;
}

static int
check_bootstrap(const struct cfg_node *n, const struct dns_config *c, struct cfg_err *err)
{
	if (c->bootstrap.n == 0)
		return cfg_fail(err, n, "dns.default-nameserver", "default nameserver should have at least one nameserver");
	for (int i = 0; i < c->bootstrap.n; i++)
		if (c->bootstrap.s[i].net != DNS_NET_SYSTEM && c->bootstrap.s[i].ip.family == 0)
			return cfg_fail(err, n, "dns.default-nameserver", "default nameserver should be pure IP");
	return 0;
}

static int
read_servers(struct gen *g, const struct cfg_node *root, const struct cfg_node *n, struct dns_config *c, struct cfg_err *err)
{
	const struct cfg_node *names = cfg_get(n, "nameserver"), *proxy = cfg_get(n, "proxy-server-nameserver");

	if (c->enable && names != NULL && names->type != CFG_SCALAR && names->type != CFG_MAP && cfg_count(names) == 0)
		return cfg_fail(err, names, "dns.nameserver", "if DNS configuration is turned on, NameServer cannot be empty");
	if (c->respect_rules && cfg_count(proxy) == 0)
		return cfg_fail(err, cfg_get(n, "respect-rules"), "dns.respect-rules",
		    "if “respect-rules” is turned on, “proxy-server-nameserver” cannot be empty");
	if (read_list(g, n, "nameserver", "dns.nameserver", default_main, countof(default_main), &c->main, err) != 0 ||
	    read_list(g, n, "fallback", "dns.fallback", NULL, 0, &c->fallback, err) != 0 ||
	    dns_policy_parse(g, root, n, "nameserver-policy", &c->policy, err) != 0 ||
	    read_list(g, n, "proxy-server-nameserver", "dns.proxy-server-nameserver", NULL, 0, &c->server, err) != 0 ||
	    dns_policy_parse(g, root, n, "proxy-server-nameserver-policy", &c->server_policy, err) != 0)
		return -E_INVAL;
	if (c->server.n == 0 && cfg_count(cfg_get(n, "proxy-server-nameserver-policy")) > 0)
		return cfg_fail(err, cfg_get(n, "proxy-server-nameserver-policy"), "dns.proxy-server-nameserver-policy",
		    "disallow empty `proxy-server-nameserver` when `proxy-server-nameserver-policy` is set");
	if (read_list(g, n, "direct-nameserver", "dns.direct-nameserver", NULL, 0, &c->direct, err) != 0 ||
	    read_list(g, n, "default-nameserver", "dns.default-nameserver", default_bootstrap, countof(default_bootstrap),
	    &c->bootstrap, err) != 0)
		return -E_INVAL;
	return check_bootstrap(n, c, err);
}

/* ---- what does not work yet */

static void
not_yet(const struct cfg_node *n, const char *name, bool asked)
{
	const struct cfg_node *k = cfg_get(n, name);

	if (asked && k != NULL)
		log_warn("line %u: dns.%s does not work yet and is ignored", k->line, name);
}

static void
not_yet_servers(const struct dns_servers *l, const char *key)
{
	int usable = 0;

	for (int i = 0; i < l->n; i++) {
		if (dns_server_usable(&l->s[i]))
			usable++;
		else
			log_warn("%s: %s does not work yet and is not asked", key, l->s[i].text);
	}
	if (l->n > 0 && usable == 0)
		log_warn("%s: no server of this list can be asked: what needs it fails", key);
}

static void
warn_not_yet(const struct cfg_node *n, const struct dns_config *c)
{
	not_yet(n, "listen-routing-mark", c->listen_mark != 0);
	not_yet(n, "prefer-h3", c->prefer_h3);
	not_yet_servers(&c->main, "dns.nameserver");
	not_yet_servers(&c->server, "dns.proxy-server-nameserver");
	not_yet_servers(&c->direct, "dns.direct-nameserver");
	not_yet_servers(&c->fallback, "dns.fallback");
	not_yet_servers(&c->bootstrap, "dns.default-nameserver");
	for (int i = 0; i < c->policy.n_rules; i++)
		not_yet_servers(&c->policy.rules[i]->servers, "dns.nameserver-policy");
	for (int i = 0; i < c->server_policy.n_rules; i++)
		not_yet_servers(&c->server_policy.rules[i]->servers, "dns.proxy-server-nameserver-policy");
}

static void
defaults(struct dns_config *c)
{
	*c = (struct dns_config){ .listen = "", .mode = ENHANCED_REDIR_HOST, .use_hosts = true,
		.use_system_hosts = true, .fake_ttl = 1 };
}

int
dns_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	static const char *const known[] = { "enable", "listen", "listen-routing-mark", "ipv6", "ipv6-timeout", "prefer-h3",
		"cache-algorithm", "cache-max-size", "enhanced-mode", "fake-ip-range", "fake-ip-range6", "fake-ip-filter",
		"fake-ip-filter-mode", "fake-ip-ttl", "use-hosts", "use-system-hosts", "respect-rules", "default-nameserver",
		"nameserver", "fallback", "fallback-filter", "fallback-lazy-query", "nameserver-policy",
		"proxy-server-nameserver", "proxy-server-nameserver-policy", "direct-nameserver",
		"direct-nameserver-follow-policy", NULL };
	const struct cfg_node *n;
	struct dns_config *c;
	int rc = cfg_map(cfg_get(root, "dns"), "dns", &n, err);

	if (rc != 0)
		return rc;
	g->resolver = arena_alloc(&g->arena, sizeof(*g->resolver));
	c = &g->resolver->conf;
	defaults(c);
	rc = read_scalars(n, c, err);
	if (rc == 0)
		rc = read_servers(g, root, n, c, err);
	if (rc == 0)
		rc = read_fake_ip(g, root, n, c, err);
	if (rc == 0)
		rc = dns_fallback_filter_parse(g, n, c->fallback.n > 0, &c->fallback_filter, err);
	if (rc != 0)
		return rc;
	cfg_warn_unknown(n, "dns", known, NULL);
	if (c->enable)
		warn_not_yet(n, c);
	return 0;
}
