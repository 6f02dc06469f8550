/* SPDX-License-Identifier: MIT */
/* Where the nodes of proxy-providers come from: the configuration, files, downloads; and their updates (spec/config.md 9
 * "Fetch").
 *
 * Every worker asks the supervisor for the tree that a loader made of a provider's file; the supervisor makes it once. The
 * lead alone updates: it downloads, has the content compiled and written, takes it, and tells the others, who then take the
 * same. What fails on the way changes nothing. */
#ifndef SLUICE_WORKER_NODES_H
#define SLUICE_WORKER_NODES_H

#include "common/wire.h"
#include "worker/worker.h"

/* A step of apply.c, between the names of groups and their members. A provider without nodes is logged, never an error. */
int nodes_load(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* STATE_NODES: etags and subscription-userinfo. */
void nodes_restore(struct gen *g, struct wire *in);
/* This worker begins to serve, or to drain: the lead's updates, every one's reclaiming. */
void nodes_start(struct worker *w);
void nodes_stop(struct worker *w);
/* The lead: now; done is called once, later or from inside: status 204, or 404, 503 with the reason (lent). */
typedef void nodes_done_fn(void *arg, int status, const char *text);
void nodes_update(struct worker *w, const char *provider, nodes_done_fn *done, void *arg);
/* CHANGE_NODES. True when the acknowledgement of seq comes later. */
bool nodes_renew(struct worker *w, uint32_t seq, struct wire *in, int *status, const char **text);

#endif
