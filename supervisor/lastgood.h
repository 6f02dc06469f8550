/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_LASTGOOD_H
#define SLUICE_SUPERVISOR_LASTGOOD_H

#include "supervisor/sup.h"

void lastgood_init(struct sup *s);
/* g serves from now on: in a minute it is good, if it lives that long. */
void lastgood_serving(struct sup *s, struct generation *g);
/* A serving worker crashed. True when this is once too often in its generation's first minute and the last good configuration
 * is asked for again. */
bool lastgood_crashed(struct sup *s, struct generation *g);
/* The tree to roll back to (a duplicate fd) and its options, or -1. */
int lastgood_tree(struct sup *s, struct msg_job_done *opts);
struct adopt;
void lastgood_save(struct sup *s, struct adopt *a);
int lastgood_load(struct sup *s, struct adopt *a);
void lastgood_forget(struct sup *s);
/* The start failed: the tree stored by an earlier run, if that run's configuration said sluice.start-with-last-good; else -1. */
int lastgood_stored(struct sup *s, struct msg_job_done *opts);

#endif
