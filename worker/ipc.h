/* SPDX-License-Identifier: MIT */
/* The worker's channels: to the supervisor (fd 3) and to each controller. */
#ifndef SLUICE_WORKER_IPC_H
#define SLUICE_WORKER_IPC_H

#include "common/imsg_types.h"
#include "common/wire.h"
#include "worker/worker.h"

/* Opens fd 3 and waits for the first messages; the rest happens on the loop. */
void ipc_start(struct worker *w);
void ipc_set_state(struct worker *w, enum child_state state);
/* The lead's blob of a kind for the generations to come; wire is freed. Others do nothing. */
void ipc_save(struct worker *w, enum state_kind kind, struct wire *blob);
/* What the supervisor sent of a kind before CONFIG; false if nothing. The reader borrows process-long memory. */
bool ipc_state(enum state_kind kind, struct wire *out);
/* Ends the process now, or when the last connection of a draining worker has gone. */
void ipc_end(struct worker *w);

#endif
