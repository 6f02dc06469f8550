/* SPDX-License-Identifier: MIT */
/* Rules: one file per family, one registry line each; the engine walks a list top down and can stop for an address. */
#ifndef SLUICE_WORKER_RULE_RULE_H
#define SLUICE_WORKER_RULE_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/config_tree.h"
#include "worker/gen.h"
#include "worker/meta.h"

enum { NEED_IP = 1, NEED_PROCESS = 2 };	/* the engine resolves these asynchronously, then resumes at the same rule */

struct rule;
struct outbound;
struct verdict {		/* a SUB-RULE fills its own */
	struct outbound *outbound;
	const struct rule *rule;	/* the one to display */
};
enum rule_about {		/* what a type looks at: for telling why it did not match (explain.c) */
	ABOUT_HOST, ABOUT_DST, ABOUT_SRC, ABOUT_SET, ABOUT_SRC_PORT, ABOUT_DST_PORT, ABOUT_IN_PORT, ABOUT_DSCP, ABOUT_UID,
	ABOUT_IN_TYPE, ABOUT_IN_USER, ABOUT_IN_NAME, ABOUT_NETWORK, ABOUT_PROCESS, ABOUT_PROCESS_PATH, ABOUT_AND, ABOUT_OR,
	ABOUT_NOT, ABOUT_SUB
};
struct rule_type {
	const char *name, *api_name;	/* "DOMAIN-SUFFIX", "DomainSuffix" */
	enum rule_about about;
	unsigned needs;			/* cut by "no-resolve" */
	unsigned flags;			/* RT_* */
	/* fills r->data in the arena, may rewrite r->payload */
	int (*compile)(struct gen *, struct rule *, const char *payload, struct cfg_err *);
	/* 1 hit, 0 not; pure, no allocation, no I/O */
	int (*match)(const struct rule *, const struct meta *, struct verdict *);
	const struct rule_type *src;	/* what the "src" parameter makes of it; NULL: stays itself */
	void (*renew)(struct rule *);	/* needs and later again, after a set in it has changed; NULL: they never change */
	uint32_t (*size)(const struct rule *);	/* entries, for GET /rules; NULL: -1 */
};
enum { RT_PARAMS = 1,		/* takes no-resolve and src */
       RT_PAYLOAD_COMMAS = 2,	/* the target is the last field (AND, OR, NOT, SUB-RULE, -REGEX) */
       RT_NO_PAYLOAD = 4,	/* MATCH */
       RT_SUB = 32 };		/* SUB-RULE: the target is a list of sub-rules: */

enum { RULE_DEPTH_MAX = 32 };	/* of AND, OR, NOT in each other, and of sub-rules: deeper ones are refused */

struct rule {
	const struct rule_type *type;
	const char *payload;		/* as the API shows it */
	const char *target;
	struct outbound *outbound;	/* of target; NULL for SUB-RULE */
	unsigned needs;
	unsigned may_need;		/* what is left of its type's by "no-resolve" and "src" */
	bool src;			/* "src" parameter: test the source */
	bool disabled;			/* PATCH /rules/disable */
	void *data;			/* the type's, in the arena */
	const struct rule_type *later;	/* the type in it (own, or of a condition) that cannot work; NULL: none */
	int depth;			/* of logic rules around this one */
	uint64_t hits, misses;
	int64_t hit_at, miss_at;	/* unix ns */
};
struct rules {
	const char *name;		/* "" = the main list */
	const struct rule_hooks *hooks;
	struct rule *rule;
	int n;
	unsigned needs;			/* of all its rules, and of lists they lead to */
	uint8_t mark;			/* the parser's: check of loops */
};

extern const struct rule_type *const rule_types[];	/* registry.c, ended by NULL */

/* rules:, sub-rules: and every reference in them (spec/config.md 11); rule-providers must be known by then. */
int rules_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* One line "TYPE,payload,target,...", into a zeroed rule; err has the bare reason, without "rules[I] [LINE] error: ". */
int rule_parse_line(struct gen *g, struct rule *r, const char *line, struct cfg_err *err);
/* One "TYPE,payload" condition, of a line, of a logic rule or of a classical set (then without target); type is exact, upper
 * case. r zeroed, but for target and depth. payload is kept: it lives as long as the arena. */
int rule_compile(struct gen *g, struct rule *r, const char *type, const char *payload, const char *const *params, int n_params,
    struct cfg_err *err);
/* The same of a line "TYPE,payload[,param]" of a classical set. */
int rule_parse_condition(struct gen *g, struct rule *r, const char *line, struct cfg_err *err);
/* The type as the API names it: "DomainSuffix". */
const char *rule_api_name(const struct rule *r);
/* The host that domain rules look at: the sniffed name, else the one asked for (spec/config.md 14.1 9). */
const char *rule_host(const struct meta *m);
/* The data of a compiled SUB-RULE: where it goes. For the check of loops. */
const struct rules *rule_sub_target(const struct rule *r);
/* The conditions of AND, OR, NOT, SUB-RULE. */
const struct rule *rule_conditions(const struct rule *r, int *n);
/* explain.c: why r, which was passed over, does not decide about m. */
enum { RULE_WHY_MAX = 512 };
void rule_explain(const struct rule *r, const struct meta *m, const struct rule_hooks *hooks, char why[static RULE_WHY_MAX]);

enum match_result { MATCH_NONE, MATCH_HIT, MATCH_NEED_IP, MATCH_NEED_PROCESS };
struct match {			/* a walk in progress; zero it, set list; survives a wait */
	const struct rules *list;
	int pos;
	bool resolved, process_known;	/* set by the caller before it resumes (even when the look-up failed) */
	bool quiet;			/* only a question: no hit and no miss is counted */
	struct verdict verdict;
};
/* Walks from m->pos. HIT: verdict filled. NEED_*: look it up, put the result into meta, set the flag, call again. A hit
 * whose target cannot carry the connection (PASS, UDP) is passed over. Counts hits and misses. now_ns for the time stamps. */
enum match_result rules_walk(struct match *m, struct meta *meta, int64_t now_ns);

#endif
