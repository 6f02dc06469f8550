/* SPDX-License-Identifier: MIT */
/* MATCH: everything (spec/config.md 11). Called by the engine; owns nothing. */
#include "worker/rule/types.h"

static int
compile(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	(void)g;
	(void)payload;
	(void)err;
	r->payload = "";
	return 0;
}

static int
match(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)r;
	(void)m;
	(void)v;
	return 1;
}

const struct rule_type rule_match = { .name = "MATCH", .api_name = "Match", .flags = RT_NO_PAYLOAD, .compile = compile,
    .match = match };
