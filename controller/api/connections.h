/* SPDX-License-Identifier: MIT */
/* The snapshot of /connections, for the short call and for each frame of the stream. */
#ifndef SLUICE_CONTROLLER_API_CONNECTIONS_H
#define SLUICE_CONTROLLER_API_CONNECTIONS_H

#include <stdint.h>

#include "controller/api.h"
#include "controller/bridge.h"

enum { CONNECTIONS_INTERVAL_MS = 1000, CONNECTIONS_INTERVAL_MIN_MS = 100, CONNECTIONS_INTERVAL_MAX_MS = 3600000 };

/* Appends the whole object (spec/api.md 3.6), without a line feed, to r. answers: of QUERY_CONNECTIONS to BRIDGE_WORKERS; what is
 * missing or cannot be read is left out. memory: resident bytes (MSG_MEMORY). */
void connections_render(struct reply *r, struct ctl *ctl, struct bridge_reply *answers, uint64_t memory);
/* The interval of a stream in ms from the query; 0 when it is no number (400). */
unsigned connections_interval(const struct api_req *req);

#endif
