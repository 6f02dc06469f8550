/* SPDX-License-Identifier: MIT */
/* The worker's event loop: libev on epoll, plus what libev lacks: work at the end of a turn (ready streams, deferred frees), a
 * monotonic millisecond clock read once a turn, and forgetting a fd that is handed to another process. One per process. */
#ifndef SLUICE_WORKER_LOOP_LOOP_H
#define SLUICE_WORKER_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/ev.h"
#include "common/list.h"

struct loop {
	struct ev_loop *ev;
	int epfd;
	bool fake;			/* loop_fake_clock(): now_ms is the test's */
	uint64_t now_ms;		/* CLOCK_MONOTONIC, of this turn; tests set it (see loop_fake_clock) */
	struct list tasks;		/* struct loop_task: run in order at the end of this turn */
	struct list dead;		/* struct loop_task: run after all tasks: frees */
	ev_prepare prepare;
	ev_check check;
	ev_idle idle;			/* active while tasks wait, so that the next turn does not block */
};

/* Embedded by its owner; an unlinked node means not scheduled. */
struct loop_task {
	struct list node;
	void (*fn)(struct loop_task *);
};

void loop_init(struct loop *l);
void loop_run(struct loop *l);		/* until loop_stop() */
void loop_stop(struct loop *l);
void loop_fini(struct loop *l);		/* runs what is left of tasks and dead first */
static inline void
loop_task_init(struct loop_task *t, void (*fn)(struct loop_task *))
{
	list_init(&t->node);
	t->fn = fn;
}

/* Runs fn once at the end of this turn; scheduled twice is scheduled once. A task scheduled by a task runs in the next turn,
 * which then does not block. */
void loop_defer(struct loop *l, struct loop_task *t);
void loop_cancel(struct loop_task *t);
/* The reaper: fn frees its object after everything else of this turn, when nobody on the stack uses it. */
void loop_bury(struct loop *l, struct loop_task *t);
/* EPOLL_CTL_DEL now: before a fd is sent away or closed while another process holds it (design 7). The ev_io must be stopped. */
void loop_forget(struct loop *l, int fd);
/* One turn, not waiting; for tests. */
void loop_turn(struct loop *l);
void loop_fake_clock(struct loop *l, uint64_t ms);
void loop_fake_wall(int64_t ns);	/* what loop_wall_ns() says; 0 = the real time again */
uint64_t loop_clock_ms(void);		/* CLOCK_MONOTONIC, read now */
int64_t loop_wall_ns(void);		/* CLOCK_REALTIME */

#endif
