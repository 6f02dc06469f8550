/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_WORKERS_H
#define SLUICE_SUPERVISOR_WORKERS_H

#include "supervisor/sup.h"

/* Workers of a new generation: min(CPU affinity, cgroup quota, 4) unless sluice.workers says otherwise. */
int workers_count(const struct msg_job_done *o);
/* Starts worker index of g and gives it the state blobs of keep and the tree; *at is set as soon as there is a process. NULL
 * with the reason logged. */
struct child *workers_start(struct generation *g, uint32_t index, unsigned keep, struct child **at);
/* Channels to its heirs in that generation (which are READY and serve next), then DRAIN. */
void workers_drain(struct child *w, struct generation *to);
/* Every worker that drains has a channel to one that serves: what it could not give yet must not be left behind when its first
 * heir drains or dies. */
void workers_rehome(struct sup *s);

/* Of the generation that serves: */
void workers_gone(struct generation *g, struct child *c);	/* c is out of g already: its slots go to another, and a new one is started */
void workers_ready(struct child *c);				/* a replacement is built */
void workers_replace(struct child *c, const struct msg_replace_me *m);
void workers_listen(struct child *c, const struct msg_listen *key);	/* c has bound a key: as a stand-in it gets a dead one's slots of it, too */

/* Channels from that worker to the one that leads for DNS; from all when it is that one, or NULL. Before SERVE and whenever
 * the lead changes. */
void workers_link(struct generation *g, struct child *only);

/* 0, 0.1, 0.2, 0.4 ... 10 s; a life of a minute forgives. */
double workers_backoff(uint32_t *failures, ev_tstamp lived);

#endif
