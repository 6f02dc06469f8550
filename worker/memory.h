/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_WORKER_MEMORY_H
#define SLUICE_WORKER_MEMORY_H

#include "worker/worker.h"

/* sluice.worker-memory-limit: a number of bytes, or one with K, M or G (KiB, MiB, GiB; "256MiB", "1g"); absent or 0 = none. */
int memory_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* Looks at the limit once a second while this worker serves. */
void memory_start(struct worker *w);
void memory_check(struct worker *w);		/* one look */

#endif
