/* SPDX-License-Identifier: MIT */
/* The keys of dns: that select name servers by name or address: nameserver-policy, fallback-filter (spec/config.md 4), read with
 * the reference's error texts, and asked by question.c. Called by config.c. What needs geosite, geoip or rule sets is warned
 * about: no name is of such a list, and every public address is distrusted where only GeoIP could tell. */
#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/config.h"
#include "worker/match/cidr.h"
#include "worker/match/domain.h"

const struct cfg_node *
filter_find_set(const struct cfg_node *root, const char *name)
{
	cfg_each(c, cfg_get(root, "rule-providers"))
		if (str_equal(cfg_key(c), name))
			return c;
	return NULL;
}

bool
filter_set_behaves(const struct cfg_node *set, const char *behavior)
{
	const char *s = cfg_text(cfg_get(set, "behavior"));

	return s != NULL && str_case_equal(s, behavior);
}

/* "a,b" of "rule-set:a,b"; changed. */
int
filter_check_sets(const struct filter_check *c, char *names)
{
	char *save = NULL;

	for (char *name = strtok_r(names, ",", &save); name != NULL; name = strtok_r(NULL, ",", &save)) {
		const struct cfg_node *set = filter_find_set(c->root, name);

		if (set == NULL)
			return cfg_fail(c->err, c->node, c->key, "not found rule-set: %s", name);
		if (filter_set_behaves(set, "ipcidr"))
			return cfg_fail(c->err, c->node, c->key, "rule provider type error, except domain,actual IPCIDR");
		if (filter_set_behaves(set, "classical"))
			log_warn("line %u: %s: of the classical rule set %s only the domain rules count", c->node->line,
			    c->key, name);
	}
	return 0;
}

char *
filter_after(char *text, const char *prefix)
{
	size_t n = strlen(prefix);

	return strlen(text) >= n && strncasecmp(text, prefix, n) == 0 ? text + n : NULL;
}

/* ---- nameserver-policy */

struct reader {				/* of one policy */
	struct filter_check c;
	struct dns_policy *out;
	bool joined;			/* the last step may take another plain key */
};

/* A list that no name can be looked up in yet is a step of its own: what follows it does not join what goes before. */
static int
read_policy_key(struct reader *rd, struct dns_policy_rule *rule, const char *text)
{
	const struct filter_check *c = &rd->c;
	char *copy = arena_strdup(c->arena, text), *sets = filter_after(copy, "rule-set:"), *save = NULL;
	struct domain_trie *step;

	if (sets != NULL || filter_after(copy, "geosite:") != NULL) {
		rd->joined = false;
		log_warn("line %u: %s: %s does not work yet and selects nothing", c->node->line, c->key, text);
		return sets != NULL ? filter_check_sets(c, sets) : 0;
	}
	if (copy[0] == '\0')
		return cfg_fail(c->err, c->node, c->key, "DNS ResoverRule invalid domain: ");
	if (!rd->joined)
		domain_trie_init(&rd->out->steps[rd->out->n_steps++], c->arena);
	rd->joined = true;
	step = &rd->out->steps[rd->out->n_steps - 1];
	for (char *p = strtok_r(copy, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save))
		if (domain_trie_insert(step, p, rule) != 0)
			return cfg_fail(c->err, c->node, c->key, "DNS ResoverRule invalid domain: %s", p);
	return 0;
}

static int
read_policy_value(const struct filter_check *c, struct dns_servers *out)
{
	const struct cfg_node *n = c->node;

	if (n->type == CFG_SCALAR) {
		*out = (struct dns_servers){ .s = arena_alloc(c->arena, sizeof(*out->s)), .n = 1 };
		return dns_server_parse(c->arena, cfg_text(n), 0, out->s, n, c->key, c->err);
	}
	if (n->type != CFG_LIST)
		return cfg_fail(c->err, n, c->key, "value format error, must be string or array");
	cfg_each(item, n)
		if (cfg_text(item) == NULL)
			return cfg_fail(c->err, item, c->key, "value format error, must be string or array");
	return dns_servers_parse(c->arena, n, c->key, out, c->err);
}

int
dns_policy_parse(struct arena *a, const struct cfg_node *root, const struct cfg_node *dns, const char *key,
    struct dns_policy *out, struct cfg_err *err)
{
	struct reader rd = { .c = { .arena = a, .root = root, .key = key, .err = err }, .out = out };
	const struct cfg_node *map;
	int rc = cfg_map(cfg_get(dns, key), key, &map, err);

	if (rc != 0)
		return rc;
	*out = (struct dns_policy){ .steps = arena_array(a, cfg_count(map) + 1, sizeof(*out->steps)),
		.rules = arena_array(a, cfg_count(map) + 1, sizeof(*out->rules)) };
	cfg_each(n, map) {
		struct dns_policy_rule *rule = arena_alloc(a, sizeof(*rule));

		rd.c.node = n;
		rc = read_policy_value(&rd.c, &rule->servers);
		if (rc == 0)
			rc = read_policy_key(&rd, rule, cfg_key(n));
		if (rc != 0)
			return rc;
		out->rules[out->n_rules++] = rule;
	}
	return 0;
}

const struct upstreams *
dns_policy_search(const struct dns_policy *p, const char *name)
{
	for (int i = 0; i < p->n_steps; i++) {
		const struct dns_policy_rule *rule = domain_trie_search(&p->steps[i], name);

		if (rule != NULL)
			return rule->set;
	}
	return NULL;
}

/* ---- fallback-filter */

static int
read_fallback_values(const struct cfg_node *ips, const struct cfg_node *domains, struct fallback_filter *out, struct cfg_err *err)
{
	int i = 0;

	cfg_each(n, ips) {
		const char *s = cfg_text(n);

		if (prefix_parse(&out->ips[out->n_ips], s) != 0)
			return cfg_fail(err, n, "dns.fallback-filter.ipcidr",
			    "DNS FallbackIP[%d] format error: netip.ParsePrefix(\"%s\"): %s", i, s,
			    strchr(s, '/') == NULL ? "no '/'" : "unable to parse IP or bad bits after slash");
		out->n_ips++;
		i++;
	}
	i = 0;
	cfg_each(n, domains) {
		if (domain_trie_insert(&out->domains, cfg_text(n), out) != 0)
			return cfg_fail(
			    err, n, "dns.fallback-filter.domain", "DNS FallbackDomain[%d] format error: invalid domain", i);
		i++;
	}
	return 0;
}

/* The values count only beside a fallback list; without one a bad value is but warned about, as the reference does not look
 * at it. */
int
dns_fallback_filter_parse(struct arena *a, const struct cfg_node *dns, bool used, struct fallback_filter *out,
    struct cfg_err *err)
{
	static const char *const known[] = { "geoip", "geoip-code", "ipcidr", "domain", "geosite", NULL };
	const struct cfg_node *map, *ips = NULL, *domains = NULL, *geosite = NULL;
	struct cfg_err soft = { .text = "" };

	*out = (struct fallback_filter){ .geoip = true, .geoip_code = "CN" };
	domain_trie_init(&out->domains, a);
	if (cfg_map(cfg_get(dns, "fallback-filter"), "dns.fallback-filter", &map, err) != 0)
		return -E_INVAL;
	if (cfg_bool(cfg_get(map, "geoip"), "dns.fallback-filter.geoip", &out->geoip, err) != 0 ||
	    cfg_str(cfg_get(map, "geoip-code"), "dns.fallback-filter.geoip-code", &out->geoip_code, err) != 0 ||
	    cfg_list(cfg_get(map, "ipcidr"), "dns.fallback-filter.ipcidr", &ips, err) != 0 ||
	    cfg_list(cfg_get(map, "domain"), "dns.fallback-filter.domain", &domains, err) != 0 ||
	    cfg_list(cfg_get(map, "geosite"), "dns.fallback-filter.geosite", &geosite, err) != 0)
		return -E_INVAL;
	cfg_warn_unknown(map, "dns.fallback-filter", known, NULL);
	out->ips = arena_array(a, cfg_count(ips) + 1, sizeof(*out->ips));
	if (used && out->geoip)
		log_warn("dns.fallback-filter.geoip: no GeoIP data can be read yet: of public addresses the fallback's count");
	if (used && cfg_count(geosite) > 0)
		log_warn("line %u: dns.fallback-filter.geosite does not work yet and selects nothing", geosite->line);
	if (read_fallback_values(ips, domains, out, used ? err : &soft) == 0)
		return 0;
	if (used)
		return -E_INVAL;
	log_warn("line %u: %s: %s", soft.line, soft.key, soft.text);
	return 0;
}

bool
dns_fallback_only(const struct fallback_filter *f, const char *name)
{
	return domain_trie_search(&f->domains, name) != NULL;
}

bool
dns_fallback_distrusts(const struct fallback_filter *f, const struct ip *ip)
{
	return cidr_match(f->ips, f->n_ips, ip) || (f->geoip && !ip_is_private(ip));
}
