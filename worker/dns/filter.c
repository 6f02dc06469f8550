/* SPDX-License-Identifier: MIT */
/* The keys of dns: that select by name or address: nameserver-policy, fake-ip-filter, fallback-filter (spec/config.md 4).
 * Validated here with the reference's texts; what they select is not acted upon yet, so nothing is kept. Called by config.c. */
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/config.h"
#include "worker/match/domain.h"

struct check {
	struct arena *arena;
	const struct cfg_node *root, *node;	/* node: for the line of an error */
	const char *key;
	struct cfg_err *err;
};

static const struct cfg_node *
find_set(const struct cfg_node *root, const char *name)
{
	cfg_each(c, cfg_get(root, "rule-providers"))
		if (str_equal(cfg_key(c), name))
			return c;
	return NULL;
}

static bool
set_behaves(const struct cfg_node *set, const char *behavior)
{
	const char *s = cfg_text(cfg_get(set, "behavior"));

	return s != NULL && str_case_equal(s, behavior);
}

/* "a,b" of "rule-set:a,b"; changed. */
static int
check_sets(const struct check *c, char *names)
{
	char *save = NULL;

	for (char *name = strtok_r(names, ",", &save); name != NULL; name = strtok_r(NULL, ",", &save)) {
		const struct cfg_node *set = find_set(c->root, name);

		if (set == NULL)
			return cfg_fail(c->err, c->node, c->key, "not found rule-set: %s", name);
		if (set_behaves(set, "ipcidr"))
			return cfg_fail(c->err, c->node, c->key, "rule provider type error, except domain,actual IPCIDR");
		if (set_behaves(set, "classical"))
			log_warn("line %u: %s: of the classical rule set %s only the domain rules count", c->node->line,
			    c->key, name);
	}
	return 0;
}

/* What follows prefix, in any case; NULL when the text does not begin so. */
static char *
after(char *text, const char *prefix)
{
	size_t n = strlen(prefix);

	return strlen(text) >= n && strncasecmp(text, prefix, n) == 0 ? text + n : NULL;
}

/* ---- nameserver-policy */

static int
check_policy_key(const struct check *c, const char *text)
{
	char *copy = arena_strdup(c->arena, text), *sets = after(copy, "rule-set:"), *save = NULL;

	if (sets != NULL)
		return check_sets(c, sets);
	if (after(copy, "geosite:") != NULL)
		return 0;
	if (copy[0] == '\0')
		return cfg_fail(c->err, c->node, c->key, "DNS ResoverRule invalid domain: ");
	for (char *p = strtok_r(copy, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save))
		if (!domain_pattern_valid(p))
			return cfg_fail(c->err, c->node, c->key, "DNS ResoverRule invalid domain: %s", p);
	return 0;
}

static int
check_policy_value(const struct check *c)
{
	const struct cfg_node *n = c->node;
	struct dns_server server;
	struct dns_servers list;

	if (n->type == CFG_SCALAR)
		return dns_server_parse(c->arena, cfg_text(n), 0, &server, n, c->key, c->err);
	if (n->type != CFG_LIST)
		return cfg_fail(c->err, n, c->key, "value format error, must be string or array");
	cfg_each(item, n)
		if (cfg_text(item) == NULL)
			return cfg_fail(c->err, item, c->key, "value format error, must be string or array");
	return dns_servers_parse(c->arena, n, c->key, &list, c->err);
}

int
dns_policy_check(struct arena *a, const struct cfg_node *root, const struct cfg_node *dns, const char *key, struct cfg_err *err)
{
	const struct cfg_node *map;
	int rc = cfg_map(cfg_get(dns, key), key, &map, err);

	if (rc != 0)
		return rc;
	cfg_each(n, map) {
		struct check c = { .arena = a, .root = root, .node = n, .key = key, .err = err };

		rc = check_policy_value(&c);
		if (rc == 0)
			rc = check_policy_key(&c, cfg_key(n));
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* ---- fake-ip-filter */

/* One line of mode `rule`: TYPE,payload,action or MATCH,action. */
static int
check_fake_rule(const struct check *c, int index, const char *line)
{
	static const char *const types[] = { "DOMAIN", "DOMAIN-SUFFIX", "DOMAIN-KEYWORD", "DOMAIN-REGEX", "DOMAIN-WILDCARD",
		"GEOSITE", "RULE-SET" };
	char *copy = arena_strdup(c->arena, line), *type = copy, *payload = strchr(copy, ','), *action;
	const struct cfg_node *set;
	size_t i = 0;

	action = payload != NULL ? strrchr(payload, ',') + 1 : copy + strlen(copy);
	if (payload != NULL) {
		action[-1] = '\0';
		*payload = '\0';
		payload = payload + 1 < action ? str_trim(payload + 1) : payload;
	}
	type = str_trim(type);
	action = str_trim(action);
	if (!str_case_equal(action, "fake-ip") && !str_case_equal(action, "real-ip"))
		return cfg_fail(c->err, c->node, c->key,
		    "dns.fake-ip-filter[%d] [%s] error: invalid action '%s', must be 'fake-ip' or 'real-ip'", index, line,
		    action);
	if (str_equal(type, "MATCH"))
		return 0;
	while (i < countof(types) && !str_equal(type, types[i]))
		i++;
	if (i == countof(types))
		return cfg_fail(c->err, c->node, c->key,
		    "dns.fake-ip-filter[%d] [%s] error: rule type '%s' not supported, only domain-based rules allowed",
		    index, line, type);
	if (i < countof(types) - 1)
		return 0;
	set = find_set(c->root, payload);
	if (set == NULL)
		return cfg_fail(c->err, c->node, c->key, "dns.fake-ip-filter[%d] [%s] error: rule-set '%s' not found", index,
		    line, payload);
	if (set_behaves(set, "ipcidr"))
		return cfg_fail(c->err, c->node, c->key,
		    "dns.fake-ip-filter[%d] [%s] error: rule-set behavior is IPCIDR, must be domain or classical", index, line);
	return 0;
}

static int
check_fake_item(const struct check *c, const char *text)
{
	char *copy = arena_strdup(c->arena, text), *sets = after(copy, "rule-set:");

	if (sets != NULL)
		return check_sets(c, sets);
	if (after(copy, "geosite:") != NULL || domain_pattern_valid(copy))
		return 0;
	return cfg_fail(c->err, c->node, c->key, "invalid domain: %s", copy);
}

int
dns_fake_filter_check(struct arena *a, const struct cfg_node *root, const struct cfg_node *dns, int mode, struct cfg_err *err)
{
	const struct cfg_node *list;
	int rc = cfg_list(cfg_get(dns, "fake-ip-filter"), "dns.fake-ip-filter", &list, err), i = 0;

	if (rc != 0)
		return rc;
	cfg_each(n, list) {
		struct check c = { .arena = a, .root = root, .node = n, .key = "dns.fake-ip-filter", .err = err };

		rc = mode == FAKE_RULE ? check_fake_rule(&c, i++, cfg_text(n)) : check_fake_item(&c, cfg_text(n));
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* ---- fallback-filter */

static int
check_fallback_values(const struct cfg_node *ips, const struct cfg_node *domains, struct cfg_err *err)
{
	struct prefix prefix;
	int i = 0;

	cfg_each(n, ips) {
		const char *s = cfg_text(n);

		if (prefix_parse(&prefix, s) != 0)
			return cfg_fail(err, n, "dns.fallback-filter.ipcidr",
			    "DNS FallbackIP[%d] format error: netip.ParsePrefix(\"%s\"): %s", i, s,
			    strchr(s, '/') == NULL ? "no '/'" : "unable to parse IP or bad bits after slash");
		i++;
	}
	i = 0;
	cfg_each(n, domains) {
		if (!domain_pattern_valid(cfg_text(n)))
			return cfg_fail(
			    err, n, "dns.fallback-filter.domain", "DNS FallbackDomain[%d] format error: invalid domain", i);
		i++;
	}
	return 0;
}

/* The values count only beside a fallback list; without one a bad value is but warned about, as the reference does not look
 * at it. */
int
dns_fallback_filter_check(const struct cfg_node *dns, bool used, struct cfg_err *err)
{
	static const char *const known[] = { "geoip", "geoip-code", "ipcidr", "domain", "geosite", NULL };
	const struct cfg_node *map, *ips = NULL, *domains = NULL, *geosite = NULL;
	struct cfg_err soft = { .text = "" };
	const char *code = NULL;
	bool geoip = true;

	if (cfg_map(cfg_get(dns, "fallback-filter"), "dns.fallback-filter", &map, err) != 0)
		return -E_INVAL;
	if (cfg_bool(cfg_get(map, "geoip"), "dns.fallback-filter.geoip", &geoip, err) != 0 ||
	    cfg_str(cfg_get(map, "geoip-code"), "dns.fallback-filter.geoip-code", &code, err) != 0 ||
	    cfg_list(cfg_get(map, "ipcidr"), "dns.fallback-filter.ipcidr", &ips, err) != 0 ||
	    cfg_list(cfg_get(map, "domain"), "dns.fallback-filter.domain", &domains, err) != 0 ||
	    cfg_list(cfg_get(map, "geosite"), "dns.fallback-filter.geosite", &geosite, err) != 0)
		return -E_INVAL;
	cfg_warn_unknown(map, "dns.fallback-filter", known, NULL);
	if (check_fallback_values(ips, domains, used ? err : &soft) == 0)
		return 0;
	if (used)
		return -E_INVAL;
	log_warn("line %u: %s: %s", soft.line, soft.key, soft.text);
	return 0;
}
