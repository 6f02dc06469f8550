/* SPDX-License-Identifier: MIT */
/* DOMAIN, DOMAIN-SUFFIX, DOMAIN-KEYWORD, DOMAIN-WILDCARD (spec/config.md 11). Payloads are lower-cased and in ASCII form, as
 * hosts are when they arrive. Called by the engine; owns nothing beside arena memory. */
#include <string.h>

#include "worker/match/glob.h"
#include "worker/match/punycode.h"
#include "worker/rule/types.h"

enum { NAME_MAX_BYTES = 1024 };	/* of a payload in ASCII form; no host is longer than 253 */

static int
compile(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	char name[NAME_MAX_BYTES];

	(void)err;
	r->payload = arena_strdup(&g->arena, punycode_name(name, sizeof name, payload));
	return 0;
}

static int
match_domain(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return strcmp(rule_host(m), r->payload) == 0;
}

static int
match_suffix(const struct rule *r, const struct meta *m, struct verdict *v)
{
	const char *host = rule_host(m);
	size_t n = strlen(host), k = strlen(r->payload);

	(void)v;
	if (n < k || memcmp(host + n - k, r->payload, k) != 0)
		return 0;
	return n == k || host[n - k - 1] == '.';
}

static int
match_keyword(const struct rule *r, const struct meta *m, struct verdict *v)
{
	const char *host = rule_host(m);

	(void)v;
	return host[0] != '\0' && strstr(host, r->payload) != NULL;
}

static int
match_wildcard(const struct rule *r, const struct meta *m, struct verdict *v)
{
	const char *host = rule_host(m);

	(void)v;
	return host[0] != '\0' && glob_match(r->payload, host);
}

const struct rule_type rule_domain = { .name = "DOMAIN", .api_name = "Domain", .compile = compile, .match = match_domain };
const struct rule_type rule_domain_suffix = { .name = "DOMAIN-SUFFIX", .api_name = "DomainSuffix", .compile = compile,
    .match = match_suffix };
const struct rule_type rule_domain_keyword = { .name = "DOMAIN-KEYWORD", .api_name = "DomainKeyword", .compile = compile,
    .match = match_keyword };
const struct rule_type rule_domain_wildcard = { .name = "DOMAIN-WILDCARD", .api_name = "DomainWildcard", .compile = compile,
    .match = match_wildcard };
