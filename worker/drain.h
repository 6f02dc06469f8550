/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_WORKER_DRAIN_H
#define SLUICE_WORKER_DRAIN_H

#include "worker/worker.h"

/* Stops accepting; hands over what can move, keeps the rest, ends the process when nothing is left. */
void drain_start(struct worker *w);
/* Ends when the connections have, at most grace_ms from now. */
void drain_stop(struct worker *w, uint32_t grace_ms);
/* A connection went: a draining or stopping process without any ends. */
void drain_check(struct worker *w);

#endif
