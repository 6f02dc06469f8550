/* SPDX-License-Identifier: MIT */
/* Health checks (spec/config.md 14.6), by the lead alone: when which nodes are tested, within one budget for the whole
 * service. Results are recorded here and told to the other workers (delays.c).
 *
 * Owners are what the reference has checks for: every provider, with its own URL and those that groups registered with it,
 * and every group that lists proxies. A run walks an owner's nodes; at most one run per owner is under way, and only as many
 * tests as the budget gives are: nothing is queued but the runs themselves. One (node, URL) is tested once however many
 * owners ask. */
#ifndef SLUICE_WORKER_HEALTH_H
#define SLUICE_WORKER_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/outbound/outbound.h"
#include "worker/worker.h"

enum {
	HEALTH_CONCURRENT = 16, /* default of sluice.health-check.max-concurrent */
	HEALTH_PER_SECOND = 100, /* of .per-second; 0 = no limit */
	HEALTH_CONCURRENT_MAX = 1024,
	HEALTH_WAITERS_MAX = 256 /* API calls that wait for a run */
};

/* sluice.health-check of the configuration; a step of apply.c. */
int health_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* The lead begins to serve: owners are made, all with an interval are tested once. */
void health_start(struct worker *w);
/* No more checks: this process drains. */
void health_stop(struct worker *w);
/* A provider has got its first nodes, or others: those that were not tested yet are. */
void health_nodes_changed(struct worker *w, const struct node_set *set);
/* Tests all of a provider, or of a group that lists proxies, now; done(arg) once, later or from inside. -E_NOTFOUND, -E_LIMIT. */
typedef void health_done_fn(void *arg);
int health_check_now(struct worker *w, const char *name, health_done_fn *done, void *arg);
void health_forget(void *arg); /* whoever waits with this arg is gone */

/* For the timer, and for tests, which bring their own clock and network. */
void health_tick(struct worker *w);
struct health_world {
	struct delay_test *(*test)(struct outbound *, const char *url, unsigned timeout_ms, const char *expected, delay_cb *done,
	    void *arg, int *err, bool *status_ok); /* delay_start() */
	bool (*routed)(void); /* whether the machine has a way out */
};
void health_set_world(const struct health_world *world);

#endif
