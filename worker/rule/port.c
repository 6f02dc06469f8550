/* SPDX-License-Identifier: MIT */
/* SRC-PORT, DST-PORT, IN-PORT, DSCP, UID: one number of the connection in a list of ranges (spec/config.md 11). Called by
 * the engine; owns nothing beside arena memory. */
#include "worker/match/range.h"
#include "worker/rule/types.h"

enum { PORT_MAX = 65535, DSCP_MAX = 63 };	/* RFC 2474, section 3: six bits */

static int
compile_ranges(struct gen *g, struct rule *r, const char *payload, uint32_t max, bool *over, struct cfg_err *err)
{
	struct ranges *ranges = arena_alloc(&g->arena, sizeof *ranges);
	const char *why = range_parse_over(ranges, payload, max, over);

	if (why != NULL)
		return cfg_fail(err, NULL, "rules", "payloadRule error, %s", why);
	if (ranges->n == 0)
		return cfg_fail(err, NULL, "rules", "payloadRule error");
	r->data = ranges;
	return 0;
}

static int
compile_port(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	bool over;

	return compile_ranges(g, r, payload, PORT_MAX, &over, err);
}

static int
compile_dscp(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	bool over;
	int rc = compile_ranges(g, r, payload, DSCP_MAX, &over, err);

	if (rc == 0 && over)
		return cfg_fail(err, NULL, "rules", "DSCP couldn't be negative or exceed 63");
	return rc;
}

static int
compile_uid(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	bool over;

	return compile_ranges(g, r, payload, UINT32_MAX, &over, err);
}

static int
match_src(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return range_match(r->data, m->src_port);
}

static int
match_dst(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return range_match(r->data, m->dst_port);
}

static int
match_in(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return range_match(r->data, m->in_port);
}

static int
match_dscp(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return range_match(r->data, m->dscp);
}

/* 0 is "unknown" as well as root: it never matches. */
static int
match_uid(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return m->uid != 0 && range_match(r->data, m->uid);
}

const struct rule_type rule_src_port = { .name = "SRC-PORT", .api_name = "SrcPort", .about = ABOUT_SRC_PORT,
    .compile = compile_port, .match = match_src };
const struct rule_type rule_dst_port = { .name = "DST-PORT", .api_name = "DstPort", .about = ABOUT_DST_PORT,
    .compile = compile_port, .match = match_dst };
const struct rule_type rule_in_port = { .name = "IN-PORT", .api_name = "InPort", .about = ABOUT_IN_PORT,
    .compile = compile_port, .match = match_in };
const struct rule_type rule_dscp = { .name = "DSCP", .api_name = "DSCP", .about = ABOUT_DSCP, .compile = compile_dscp,
    .match = match_dscp };
const struct rule_type rule_uid = { .name = "UID", .api_name = "Uid", .about = ABOUT_UID, .needs = NEED_PROCESS,
    .compile = compile_uid, .match = match_uid };
