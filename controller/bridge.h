/* SPDX-License-Identifier: MIT */
/* The controller's way to the other processes, and the only place where civetweb's threads meet the event loop: a thread hands
 * a question to the loop (eventfd), sleeps on its own condition, and gets copies of the answers. All channels live on the loop.
 *
 * Answers of workers are hostile data: bounded, read by common/wire.h, never trusted for a length. */
#ifndef SLUICE_CONTROLLER_BRIDGE_H
#define SLUICE_CONTROLLER_BRIDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/imsg_types.h"
#include "common/wire.h"

struct ctl;

enum bridge_to {
	BRIDGE_LEAD,		/* worker 0 of the serving generation */
	BRIDGE_SERVING,		/* every worker of the serving generation */
	BRIDGE_WORKERS,		/* those and the draining ones */
	BRIDGE_SUPERVISOR
};

enum { BRIDGE_ANSWERS_MAX = STAT_SLOTS, BRIDGE_DATA_MAX = 64 << 20, BRIDGE_INFLIGHT_MAX = 1024 };

struct bridge_answer {		/* of one process */
	uint32_t generation, index;	/* of a worker */
	int status;		/* msg_answer.status, or 0 when it did not answer in time or went away */
	const uint8_t *data;	/* wire data, or the fixed struct the supervisor sent */
	size_t len;
	int fd;			/* MSG_FILE: the file, else -1; the holder closes it by bridge_free() unless it sets it to -1 */
	bool mapped;
};
struct bridge_reply {
	uint16_t type;		/* of the supervisor's answer: MSG_RESULT, MSG_FILE, MSG_MEMORY */
	int n;
	struct bridge_answer answer[BRIDGE_ANSWERS_MAX];
};

/* Asks and waits at most ms; on a civetweb thread only. type MSG_QUERY (kind, args) for workers; for the supervisor type is
 * the message and body its whole body. fd (or -1) goes along and is taken. 0, or -E_TIMEOUT (answers that came are there),
 * -E_LIMIT, -E_CLOSED (nobody to ask). */
int bridge_call(struct ctl *ctl, enum bridge_to to, uint16_t type, uint32_t kind, const void *body, size_t len, int fd, unsigned ms,
    struct bridge_reply *out);
void bridge_free(struct bridge_reply *r);

/* The same from the loop; done() is called on the loop exactly once, with err as above; it frees nothing (the bridge does). */
typedef void bridge_cb(struct ctl *ctl, int err, struct bridge_reply *r, void *arg);
int bridge_ask(struct ctl *ctl, enum bridge_to to, uint16_t type, uint32_t kind, const void *body, size_t len, int fd, unsigned ms,
    bridge_cb *done, void *arg);

/* Ends a parked API_ASYNC request: fill *reply through a struct api_req made by api_parked(). NULL when the client went away
 * meanwhile (the operation itself went on). After filling: api_done(). Loop only. */
struct api_req *api_parked(struct ctl *ctl, uint64_t parked);
void api_done(struct ctl *ctl, struct api_req *req);

/* ---- for life.c, stream.c and main.c; loop only */
struct peer;
/* Opens the channel to the supervisor (takes fd) with the handler table of this program. NULL: out of memory. */
struct bridge *bridge_open(struct ctl *ctl, int fd);
/* Ends every question with -E_CLOSED, wakes the threads that wait, and refuses new ones. The memory stays until
 * bridge_free_all(). */
void bridge_shut(struct ctl *ctl);
void bridge_free_all(struct ctl *ctl);		/* after civetweb's threads ended */
struct peer *bridge_supervisor(struct ctl *ctl);
void bridge_log_tap(struct ctl *ctl, int level);	/* told to the supervisor when it changes */

/* Service-wide sums over every counter page. Any thread. */
struct bridge_totals { uint64_t up, down, accepted, shed, failed; uint32_t open_tcp, open_udp, state_seq; };
void bridge_totals(struct ctl *ctl, struct bridge_totals *out);

#endif
