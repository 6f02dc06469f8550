/* SPDX-License-Identifier: MIT */
/* The nodes of proxy-providers: of the configuration, of files, of downloads (source.h). */
#ifndef SLUICE_WORKER_NODES_H
#define SLUICE_WORKER_NODES_H

#include "worker/source.h"

/* A step of apply.c, between the names of groups and their members. A provider without nodes is logged, never an error. */
int nodes_load(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* This worker begins to serve: what vanished is freed when nothing can refer to it any more. */
void nodes_start(struct worker *w);
/* The lead: source_update(), or done with 404. */
void nodes_update(struct worker *w, const char *provider, source_done_fn *done, void *arg);

#endif
