/* SPDX-License-Identifier: MIT */
/* GEOSITE, GEOIP, SRC-GEOIP, IP-ASN, SRC-IP-ASN, RULE-SET (spec/config.md 11): checked and listed, but their data is not
 * read yet, so they match nothing and are warned about by name (parse.c); GEOIP,lan works. GEOIP and IP-ASN ask for the
 * address all the same: later rules with no-resolve count on it. Called by the engine; owns nothing beside arena memory. */
#include <string.h>

#include "common/strutil.h"
#include "worker/rule/types.h"

static int
compile_list(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	(void)g;
	if (payload[strspn(payload, "!@ ")] == '\0')
		return cfg_fail(err, NULL, "rules", "payloadRule error");
	r->payload = payload;
	return 0;
}

static int
compile_country(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	char *code = arena_strdup(&g->arena, payload);

	if (payload[strspn(payload, "! ")] == '\0')
		return cfg_fail(err, NULL, "rules", "payloadRule error");
	str_lower(code);
	r->payload = code;
	if (strcmp(code, "lan") == 0)		/* needs no data */
		r->later = NULL;
	return 0;
}

static int
compile_asn(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	(void)g;
	if (payload[0] == '\0')
		return cfg_fail(err, NULL, "rules", "payloadRule error");
	r->payload = payload;
	return 0;
}

/* The set's behaviour decides whether an address is needed; a classical one is not known before it is read. */
static int
compile_set(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	const struct cfg_node *set = NULL;
	const char *behavior = NULL;

	cfg_each(c, cfg_get(g->root, "rule-providers"))
		if (str_equal(cfg_key(c), payload))
			set = c;
	if (set == NULL)
		return cfg_fail(err, NULL, "rules", "rule set [%.128s] not found", payload);
	behavior = cfg_text(cfg_get(set, "behavior"));
	if (behavior == NULL || strcmp(behavior, "ipcidr") != 0)
		r->needs &= ~(unsigned)NEED_IP;
	r->payload = payload;
	return 0;
}

static int
match_nothing(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)r;
	(void)m;
	(void)v;
	return 0;
}

static int
match_country(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return r->later == NULL && ip_is_private(&m->dst_ip);
}

static int
match_src_country(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return r->later == NULL && ip_is_private(&m->src_ip);
}

const struct rule_type rule_geosite = { .name = "GEOSITE", .api_name = "GeoSite", .flags = RT_LATER, .compile = compile_list,
    .match = match_nothing };
const struct rule_type rule_geoip = { .name = "GEOIP", .api_name = "GeoIP", .needs = NEED_IP, .flags = RT_PARAMS | RT_LATER,
    .compile = compile_country, .match = match_country, .src = &rule_src_geoip };
const struct rule_type rule_src_geoip = { .name = "SRC-GEOIP", .api_name = "SrcGeoIP", .flags = RT_LATER,
    .compile = compile_country, .match = match_src_country };
const struct rule_type rule_ip_asn = { .name = "IP-ASN", .api_name = "IPASN", .needs = NEED_IP, .flags = RT_PARAMS | RT_LATER,
    .compile = compile_asn, .match = match_nothing, .src = &rule_src_ip_asn };
const struct rule_type rule_src_ip_asn = { .name = "SRC-IP-ASN", .api_name = "SrcIPASN", .flags = RT_LATER,
    .compile = compile_asn, .match = match_nothing };
const struct rule_type rule_rule_set = { .name = "RULE-SET", .api_name = "RuleSet", .needs = NEED_IP,
    .flags = RT_PARAMS | RT_LATER, .compile = compile_set, .match = match_nothing };
