/* SPDX-License-Identifier: MIT */
/* Updates of the geodata files: missing ones are downloaded when a configuration that uses them serves, all in use by
 * POST /configs/geo, /upgrade/geo and geo-auto-update (spec/config.md 2, api.md 4.5). */
#ifndef SLUICE_WORKER_GEO_H
#define SLUICE_WORKER_GEO_H

#include "common/wire.h"
#include "worker/worker.h"

/* This worker begins to serve, or to drain: only the lead has something to do. */
void geo_start(struct worker *w);
void geo_stop(struct worker *w);
/* The lead: every database in use, now; done is called once, later or from inside: status 204, or 500 with the reason (lent). */
typedef void geo_update_fn(void *arg, int status, const char *text);
void geo_update(struct worker *w, geo_update_fn *done, void *arg);
/* CHANGE_GEO: str name of the database. True when the acknowledgement of seq comes later. */
bool geo_renew(struct worker *w, uint32_t seq, struct wire *in, int *status, const char **text);

#endif
