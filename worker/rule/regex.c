/* SPDX-License-Identifier: MIT */
/* DOMAIN-REGEX (spec/config.md 11): a .NET pattern, unanchored, without regard to case. Called by the engine; the pattern
 * lives in the arena. */
#include <string.h>

#include "worker/match/regex.h"
#include "worker/rule/types.h"

static int
compile(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	char why[REGEX_WHY_MAX];

	r->data = regex_compile(&g->arena, &g->regex, payload, true, why);
	if (r->data == NULL)
		return cfg_fail(err, NULL, "rules", "error parsing regexp: %s in `%.200s`", why, payload);
	return 0;
}

static int
match(const struct rule *r, const struct meta *m, struct verdict *v)
{
	const char *host = rule_host(m);

	(void)v;
	return host[0] != '\0' && regex_match(r->data, host, strlen(host));
}

const struct rule_type rule_domain_regex = { .name = "DOMAIN-REGEX", .api_name = "DomainRegex", .flags = RT_PAYLOAD_COMMAS,
    .compile = compile, .match = match };
