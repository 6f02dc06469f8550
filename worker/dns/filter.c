/* SPDX-License-Identifier: MIT */
/* The keys of dns: that select name servers by name or address: nameserver-policy, fallback-filter (spec/config.md 4), read with
 * the reference's error texts, and asked by question.c. Called by config.c. While there is no GeoIP data every public address is
 * distrusted. */
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/dns/config.h"
#include "worker/match/cidr.h"
#include "worker/match/domain.h"

/* ---- nameserver-policy */

/* Plain keys in a row are one step, a key of lists is its own. */
static int
read_policy_key(const struct sets_reader *r, struct dns_policy *out, struct dns_policy_rule *rule, const char *text)
{
	struct dns_policy_step *step = out->n_steps > 0 ? &out->steps[out->n_steps - 1] : NULL;
	struct dns_sets sets;
	char *copy, *save = NULL;
	int rc = dns_sets_read(r, text, &sets);

	if (rc != 0) {
		if (rc > 0)
			out->steps[out->n_steps++] = (struct dns_policy_step){ .sets = sets, .rule = rule };
		return rc > 0 ? 0 : rc;
	}
	if (text[0] == '\0')
		return cfg_fail(r->err, r->node, r->key, "DNS ResoverRule invalid domain: ");
	if (step == NULL || step->rule != NULL) {
		step = &out->steps[out->n_steps++];
		domain_trie_init(&step->names, &r->g->arena);
	}
	copy = arena_strdup(&r->g->arena, text);
	for (char *p = strtok_r(copy, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save))
		if (domain_trie_insert(&step->names, p, rule) != 0)
			return cfg_fail(r->err, r->node, r->key, "DNS ResoverRule invalid domain: %s", p);
	return 0;
}

static int
read_policy_value(const struct sets_reader *r, struct dns_servers *out)
{
	struct arena *a = &r->g->arena;
	const struct cfg_node *n = r->node;

	if (n->type == CFG_SCALAR) {
		*out = (struct dns_servers){ .s = arena_alloc(a, sizeof(*out->s)), .n = 1 };
		return dns_server_parse(a, cfg_text(n), 0, out->s, n, r->key, r->err);
	}
	if (n->type != CFG_LIST)
		return cfg_fail(r->err, n, r->key, "value format error, must be string or array");
	cfg_each(item, n)
		if (cfg_text(item) == NULL)
			return cfg_fail(r->err, item, r->key, "value format error, must be string or array");
	return dns_servers_parse(a, n, r->key, out, r->err);
}

int
dns_policy_parse(struct gen *g, const struct cfg_node *root, const struct cfg_node *dns, const char *key, struct dns_policy *out,
    struct cfg_err *err)
{
	struct sets_reader r = { .g = g, .root = root, .key = key, .err = err };
	const struct cfg_node *map;
	int rc = cfg_map(cfg_get(dns, key), key, &map, err);

	if (rc != 0)
		return rc;
	*out = (struct dns_policy){ .steps = arena_array(&g->arena, cfg_count(map) + 1, sizeof(*out->steps)),
		.rules = arena_array(&g->arena, cfg_count(map) + 1, sizeof(*out->rules)) };
	cfg_each(n, map)
		dns_sets_ask(g, cfg_key(n));
	cfg_each(n, map) {
		struct dns_policy_rule *rule = arena_alloc(&g->arena, sizeof(*rule));

		r.node = n;
		rc = read_policy_value(&r, &rule->servers);
		if (rc == 0)
			rc = read_policy_key(&r, out, rule, cfg_key(n));
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
		const struct dns_policy_step *step = &p->steps[i];
		const struct dns_policy_rule *rule = step->rule;

		if (rule == NULL)
			rule = domain_trie_search(&step->names, name);
		else if (!dns_sets_have(&step->sets, name))
			rule = NULL;
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

static int
read_fallback_geo(const struct sets_reader *in, const struct cfg_node *geosite, struct fallback_filter *out)
{
	struct sets_reader r = *in;
	struct cfg_err why = { 0 };
	int i = 0;

	r.err = &why;
	r.key = "dns.fallback-filter.geosite";
	out->sites.s = arena_array(&r.g->arena, cfg_count(geosite) + 1, sizeof(*out->sites.s));
	cfg_each(n, geosite)
		dns_sets_ask(r.g, arena_printf(&r.g->arena, "geosite:%s", cfg_text(n)));
	if (out->geoip) {
		r.key = "dns.fallback-filter.geoip";
		if (dns_set_geoip(&r, out->geoip_code, &out->country) != 0)
			return cfg_fail(in->err, in->node, r.key, "load GeoIP dns fallback filter error, %s", why.text);
		r.key = "dns.fallback-filter.geosite";
	}
	cfg_each(n, geosite) {
		r.node = n;
		if (dns_set_geosite(&r, cfg_text(n), &out->sites.s[out->sites.n++]) != 0)
			return cfg_fail(in->err, n, r.key, "DNS FallbackGeosite[%d] format error: %s", i, why.text);
		i++;
	}
	return 0;
}

/* The values count only beside a fallback list; without one a bad value is but warned about, as the reference does not look
 * at it. */
int
dns_fallback_filter_parse(struct gen *g, const struct cfg_node *dns, bool used, struct fallback_filter *out, struct cfg_err *err)
{
	static const char *const known[] = { "geoip", "geoip-code", "ipcidr", "domain", "geosite", NULL };
	const struct cfg_node *map, *ips = NULL, *domains = NULL, *geosite = NULL;
	struct sets_reader r = { .g = g, .err = err };
	struct cfg_err soft = { .text = "" };

	*out = (struct fallback_filter){ .geoip = true, .geoip_code = "CN" };
	domain_trie_init(&out->domains, &g->arena);
	if (cfg_map(cfg_get(dns, "fallback-filter"), "dns.fallback-filter", &map, err) != 0)
		return -E_INVAL;
	r.node = map;
	if (cfg_bool(cfg_get(map, "geoip"), "dns.fallback-filter.geoip", &out->geoip, err) != 0 ||
	    cfg_str(cfg_get(map, "geoip-code"), "dns.fallback-filter.geoip-code", &out->geoip_code, err) != 0 ||
	    cfg_list(cfg_get(map, "ipcidr"), "dns.fallback-filter.ipcidr", &ips, err) != 0 ||
	    cfg_list(cfg_get(map, "domain"), "dns.fallback-filter.domain", &domains, err) != 0 ||
	    cfg_list(cfg_get(map, "geosite"), "dns.fallback-filter.geosite", &geosite, err) != 0)
		return -E_INVAL;
	cfg_warn_unknown(map, "dns.fallback-filter", known, NULL);
	out->ips = arena_array(&g->arena, cfg_count(ips) + 1, sizeof(*out->ips));
	if (read_fallback_values(ips, domains, out, used ? err : &soft) == 0)
		return used ? read_fallback_geo(&r, geosite, out) : 0;
	if (used)
		return -E_INVAL;
	log_warn("line %u: %s: %s", soft.line, soft.key, soft.text);
	return 0;
}

bool
dns_fallback_only(const struct fallback_filter *f, const char *name)
{
	return domain_trie_search(&f->domains, name) != NULL || dns_sets_have(&f->sites, name);
}

bool
dns_fallback_distrusts(const struct fallback_filter *f, const struct ip *ip)
{
	return cidr_match(f->ips, f->n_ips, ip) || (f->geoip && !ip_is_private(ip) && !dns_set_has_ip(&f->country, ip));
}
