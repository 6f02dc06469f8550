/* SPDX-License-Identifier: MIT */
/* Where the nodes of proxy-providers come from: the configuration, files, downloads; and their updates. */
#ifndef SLUICE_WORKER_NODES_H
#define SLUICE_WORKER_NODES_H

#include "worker/worker.h"

/* A step of apply.c, between the names of groups and their members. A provider without nodes is logged, never an error. */
int nodes_load(struct gen *g, const struct cfg_node *root, struct cfg_err *err);

#endif
