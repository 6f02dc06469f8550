/* SPDX-License-Identifier: MIT */
/* The content of rule-providers (spec/config.md 10): of the configuration, of files, of downloads (source.h). A set that
 * cannot be read never refuses the configuration (spec/config.md 1 "provider/geo failures"): it is named in the log and
 * matches nothing. */
#ifndef SLUICE_WORKER_RULE_SETS_H
#define SLUICE_WORKER_RULE_SETS_H

#include "worker/source.h"

/* A step of apply.c, after rule_providers_parse(). */
int rule_sets_load(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* The lead: source_update(), or done with 404. */
void rule_sets_update(struct worker *w, const char *provider, source_done_fn *done, void *arg);

#endif
