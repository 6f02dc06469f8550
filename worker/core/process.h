/* SPDX-License-Identifier: MIT */
/* Which program a connection comes from: questions to the nethelper. One per process; without a nethelper questions wait for
 * one, each until its deadline, and are then answered "unknown". */
#ifndef SLUICE_WORKER_CORE_PROCESS_H
#define SLUICE_WORKER_CORE_PROCESS_H

#include <stdint.h>

#include "common/imsg_types.h"
#include "common/list.h"
#include "worker/worker.h"

enum {
	PROCESS_ASKS_MAX = 1024,	/* waiting; one more is not asked: its connection's program is unknown */
	PROCESS_WANT_MS = 1000,		/* without a channel the supervisor is asked for one so often at most */
	/* an answer takes a millisecond or ten; a busy machine must not change a route, a helper that hangs not hold us up */
	PROCESS_TIMEOUT_MS = 250,
	/* after it was first wanted the helper starts: until its first answer questions wait to the end of this time */
	PROCESS_START_MS = 2000
};

/* uid 0, path "": unknown; path is lent. */
typedef void process_cb(void *arg, uint32_t uid, const char *path);
struct process_req {			/* embedded by who asks; zero it first */
	struct list link;
	struct msg_find find;
	uint32_t id;			/* 0 = not waiting */
	uint64_t deadline_ms;
	process_cb *cb;
	void *arg;
};

/* Without a channel: the supervisor shall send one, and start a nethelper if there is none. */
void process_want(struct worker *w);
/* A channel to it, taken: the first one, or a new one after the helper's end. */
void process_channel(struct worker *w, int fd);
/* cb is called once, from the loop. -E_LIMIT (too many wait) or -E_UNSUP (no supervisor: in tests): it will not be. */
int process_ask(struct worker *w, struct process_req *r, const struct msg_find *find, process_cb *cb, void *arg);
void process_cancel(struct process_req *r);

#endif
