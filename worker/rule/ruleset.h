/* SPDX-License-Identifier: MIT */
/* What RULE-SET, GEOSITE, GEOIP and IP-ASN rules look into: a compiled image, and the rules of a classical set that no
 * table can hold. Made by provider/ and geo.c, lives as long as the generation; its content may be replaced while it
 * serves. */
#ifndef SLUICE_WORKER_RULE_RULESET_H
#define SLUICE_WORKER_RULE_RULESET_H

#include "common/imsg_types.h"
#include "worker/match/image.h"
#include "worker/rule/rule.h"

struct ruleset {
	const char *name;
	uint32_t kind;			/* enum image_kind */
	struct image image;		/* image.h is NULL until it is loaded: matches nothing */
	struct arena arena;		/* of the rules below */
	struct rule *rule;
	int n;
	unsigned needs;
	uint32_t count;			/* as the API shows it */
	int64_t updated_ns;		/* the file's time; inline: of the load */
};

enum { RULESET_RULES_MAX = 1 << 16 };	/* one-by-one rules of a set: more are left out with a warning */

/* The set of a rule-provider; NULL: the configuration has none of that name. */
struct ruleset *ruleset_get(struct gen *g, const char *name);
/* Takes the image in fd (stays the caller's). 0, or -E_PROTO: refused, the old content stays. */
int ruleset_load(struct gen *g, struct ruleset *s, const struct msg_image *m, int fd);
bool ruleset_match(const struct ruleset *s, const struct meta *m);
/* For dns_hooks: host (lower case), or if that is NULL ip, is in it: 1, 0; -1: it is not loaded. Of a classical set only the
 * domain rules count. */
int ruleset_has(const struct ruleset *s, const char *host, const struct ip *ip);
void ruleset_free(struct ruleset *s);

/* geo.c: asks for what the rules and sub-rules name, all at once, before they are compiled. 0, or -E_INVAL with err filled. */
void geo_prepare(struct gen *g, const struct cfg_node *rules, const struct cfg_node *sub_rules);
/* parse.c: after a set's needs have grown. */
void rules_renew(struct gen *g);

#endif
