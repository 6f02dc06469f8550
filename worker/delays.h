/* SPDX-License-Identifier: MIT */
/* What delay tests found, beyond the process that tested: told to the other workers, and kept for the workers to come
 * (STATE_DELAYS). */
#ifndef SLUICE_WORKER_DELAYS_H
#define SLUICE_WORKER_DELAYS_H

#include "common/wire.h"
#include "worker/worker.h"

struct outbound;

/* The lead has a result: it is recorded, groups hear of it, and the other workers soon, several at a time. */
void delays_record(struct worker *w, struct outbound *ob, const char *url, uint16_t ms, bool alive, int64_t at_ns);
/* What they have not been told yet goes out now: before something that depends on it. */
void delays_flush(struct worker *w);
/* CHANGE_DELAY: HTTP status. */
int delays_take(struct gen *g, struct wire *in);
/* Once a second, the lead: what must go out goes out, what must be kept is kept. */
void delays_tick(struct worker *w);
/* All histories as one blob, and back; nodes that are not here any more are passed over. -E_PROTO: what came before the
 * damage was taken. */
void delays_save(struct gen *g, struct wire *out);
int delays_load(struct gen *g, struct wire *in);

#endif
