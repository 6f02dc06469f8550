/* SPDX-License-Identifier: MIT */
/* rule-providers: (spec/config.md 10): their images asked for, taken, shown and renewed. The rules look into
 * gen.rule_sets; this owns where a set comes from. */
#ifndef SLUICE_WORKER_PROVIDER_RULESET_H
#define SLUICE_WORKER_PROVIDER_RULESET_H

#include "common/wire.h"
#include "worker/provider/config.h"
#include "worker/rule/ruleset.h"

struct rule_provider {
	struct gen *g;
	struct ruleset *set;
	const struct cfg_node *node;
	enum vehicle vehicle;
	uint32_t format;		/* enum image_format */
	const char *path;		/* "" for inline */
	/* an answer that came while the configuration is read */
	struct msg_image answer;
	int fd;
};

enum { RULE_PROVIDERS_MAX = 1000 };	/* of a configuration: more refuse it */

/* After provider_check_rules(): asks for every set and takes what there is. What cannot be had is named in the log and
 * matches nothing. */
int rule_providers_load(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
struct rule_provider *rule_provider_find(struct gen *g, const char *name);
/* value map of all (name NULL), or of one: 0 or -E_NOTFOUND */
int rule_providers_show(struct gen *g, const char *name, struct wire *out);

/* Reads the set anew; done is called once, later: err 0, or E_* and a text (lent). Anew for this worker alone: the lead
 * tells the others. */
typedef void rule_provider_cb(void *arg, int err, const char *text);
int rule_provider_renew(struct rule_provider *p, rule_provider_cb *done, void *arg);	/* 0, or -E_*: done is not called */

#endif
