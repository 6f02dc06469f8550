/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_WORKER_HANDOFF_H
#define SLUICE_WORKER_HANDOFF_H

#include "worker/worker.h"

/* Takes fd: a channel to a worker that gives to us or takes from us. */
void handoff_open(struct worker *w, int fd, const struct msg_handoff *m);
/* Begins to give: UDP sessions of slots that others have now; when draining also every relay that needs no user-space state. */
void handoff_give(struct worker *w);
bool handoff_busy(void);	/* something sent is not acknowledged yet, or an old worker may still give */
bool handoff_settled(const struct worker *w);	/* UDP sessions: a worker that drains has given them to its heirs, one that serves has got them */
/* Before serving: sets worker.udp_held while old workers still have UDP sessions to give, for ADOPT_MS at most. */
void handoff_hold(struct worker *w);

#endif
