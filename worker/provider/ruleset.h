/* SPDX-License-Identifier: MIT */
/* rule-providers: (spec/config.md 10) as configured, and shown. The rules look into gen.rule_sets; what fills those comes by
 * worker/rule_sets.c. */
#ifndef SLUICE_WORKER_PROVIDER_RULESET_H
#define SLUICE_WORKER_PROVIDER_RULESET_H

#include "common/wire.h"
#include "worker/provider/config.h"
#include "worker/rule/ruleset.h"

struct source;

struct rule_provider {
	struct ruleset *set;
	const struct cfg_node *node;
	enum vehicle vehicle;
	uint32_t format;		/* enum image_format */
	const char *url, *path, *proxy;	/* "" */
	int64_t interval_s, size_limit;
	struct source *source;		/* worker/source.h; NULL in tests */
	const char *why;		/* its last update failed; "" = it did not */
};

enum { RULE_PROVIDERS_MAX = 1000 };	/* of a configuration: more refuse it */

/* After provider_check_rules(): makes gen.rule_providers, without content. */
int rule_providers_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
struct rule_provider *rule_provider_find(struct gen *g, const char *name);
/* value map of all (name NULL), or of one: 0 or -E_NOTFOUND */
int rule_providers_show(struct gen *g, const char *name, struct wire *out);

#endif
