/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_WORKER_APPLY_H
#define SLUICE_WORKER_APPLY_H

#include "worker/worker.h"

/* Builds everything a tree says: objects, files, listeners, state of earlier generations; then enters the final sandbox. 0, or
 * -E_* with err filled; a process that failed is not used again. */
int apply_config(struct worker *w, int tree_fd, struct cfg_err *err);
void apply_serve(struct worker *w);		/* starts accepting */
/* After a PATCH of ports, allow-lan or bind-address: opens what is new, then closes what is gone. 0, or -E_* with why and
 * everything as before. */
int apply_ports(struct worker *w, char *why, size_t cap);
/* What the rules say of our own connection to a host (or address) now; never NULL. host is lent. */
struct outbound *apply_route(struct gen *g, const char *host, uint16_t port);

#endif
