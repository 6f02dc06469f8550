/* SPDX-License-Identifier: MIT */
/* NETWORK: tcp or udp (spec/config.md 11). Called by the engine; owns nothing. */
#include "common/strutil.h"
#include "worker/rule/types.h"

static int
compile(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	(void)g;
	if (str_case_equal(payload, "tcp"))
		r->payload = "tcp";
	else if (str_case_equal(payload, "udp"))
		r->payload = "udp";
	else
		return cfg_fail(err, NULL, "rules", "unsupported network type, only TCP/UDP");
	return 0;
}

static int
match(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return r->payload[0] == (m->network == NET_UDP ? 'u' : 't');
}

const struct rule_type rule_network = { .name = "NETWORK", .api_name = "Network", .about = ABOUT_NETWORK,
    .compile = compile, .match = match };
