/* SPDX-License-Identifier: MIT */
/* IP-CIDR, IP-CIDR6, SRC-IP-CIDR, IP-SUFFIX, SRC-IP-SUFFIX (spec/config.md 11). The address types need the destination's
 * address; "src" turns them into their SRC- form. Called by the engine; owns nothing beside arena memory. */
#include "worker/match/cidr.h"
#include "worker/rule/types.h"

static int
compile(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	struct prefix *p = arena_alloc(&g->arena, sizeof *p);
	char text[ADDR_TEXT_MAX];

	if (prefix_parse(p, payload) != 0)
		return cfg_fail(err, NULL, "rules", "payloadRule error");
	r->data = p;
	r->payload = arena_strdup(&g->arena, prefix_text(p, text));
	return 0;
}

static int
match_dst(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return ip_in_prefix(&m->dst_ip, r->data);
}

static int
match_src(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return ip_in_prefix(&m->src_ip, r->data);
}

static int
match_suffix(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return cidr_suffix_match(r->data, &m->dst_ip);
}

static int
match_src_suffix(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return cidr_suffix_match(r->data, &m->src_ip);
}

const struct rule_type rule_ip_cidr = { .name = "IP-CIDR", .api_name = "IPCIDR", .about = ABOUT_DST, .needs = NEED_IP,
    .flags = RT_PARAMS, .compile = compile, .match = match_dst, .src = &rule_src_ip_cidr };
const struct rule_type rule_ip_cidr6 = { .name = "IP-CIDR6", .api_name = "IPCIDR", .about = ABOUT_DST,
    .needs = NEED_IP, .flags = RT_PARAMS, .compile = compile, .match = match_dst, .src = &rule_src_ip_cidr };
const struct rule_type rule_src_ip_cidr = { .name = "SRC-IP-CIDR", .api_name = "SrcIPCIDR", .about = ABOUT_SRC,
    .compile = compile, .match = match_src };
const struct rule_type rule_ip_suffix = { .name = "IP-SUFFIX", .api_name = "IPSuffix", .about = ABOUT_DST,
    .needs = NEED_IP, .flags = RT_PARAMS, .compile = compile, .match = match_suffix, .src = &rule_src_ip_suffix };
const struct rule_type rule_src_ip_suffix = { .name = "SRC-IP-SUFFIX", .api_name = "SrcIPSuffix", .about = ABOUT_SRC,
    .compile = compile, .match = match_src_suffix };
