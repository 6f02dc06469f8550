/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_WORKER_HANDOFF_H
#define SLUICE_WORKER_HANDOFF_H

#include "worker/worker.h"

/* Takes fd: a channel to the worker that gives to us or takes from us. */
void handoff_open(struct worker *w, int fd, bool sender);
/* Begins to give: every relay that needs no user-space state. */
void handoff_give(struct worker *w);
bool handoff_busy(void);	/* something sent is not acknowledged yet */

#endif
