/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_GENERATIONS_H
#define SLUICE_SUPERVISOR_GENERATIONS_H

#include "supervisor/sup.h"

/* The value list of GET /generations, at most one message. */
void generations_show(const struct sup *s, struct wire *w);
/* Names a configuration: a hash of its tree, 0 when it cannot be read. */
uint64_t generations_hash(int tree_fd);

int generations_living(const struct generation *g);	/* processes */
void generations_kill(struct generation *g);
bool generations_stop(struct generation *g);		/* tells them to end now; false when all of them were already */
void generations_free(struct generation *g);
void generations_forget(struct generation *g);		/* frees it; its fds stay open */
void generations_drain_timer(struct generation *g, double seconds);
/* Closes the oldest while there are more than max, but none that drains for less than GENERATION_GRACE_MS. */
void generations_limit(struct sup *s, uint32_t max);
/* One more would be too many, and the oldest still hands over: closing what it has would reset connections that another moment
 * saves. */
bool generations_crowded(const struct sup *s);

#endif
