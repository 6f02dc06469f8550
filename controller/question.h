/* SPDX-License-Identifier: MIT */
/* What bridge.c (the channels and their messages) and question.c (the questions in flight) share. Nobody else includes this. */
#ifndef SLUICE_CONTROLLER_QUESTION_H
#define SLUICE_CONTROLLER_QUESTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ev.h"
#include "common/imsg_types.h"
#include "common/list.h"
#include "common/peer.h"
#include "common/shm_stat.h"
#include "controller/bridge.h"

enum {
	WORKERS_MAX = 256,		/* channels, all generations; a further one is refused */
	QUEUE_MAX = 4096		/* questions handed over and not yet begun */
};

struct worker {
	struct list link;
	struct bridge *bridge;
	struct peer peer;
	struct msg_peer id;
	char name[32];
};

struct question {
	struct list link;		/* queued */
	struct ctl *ctl;
	enum bridge_to to;
	uint16_t type;
	uint32_t kind;
	void *body;
	size_t len;
	int fd;
	unsigned ms;
	uint32_t number;		/* id on the channels; 0 = not begun */
	struct worker *asked[BRIDGE_ANSWERS_MAX];	/* whose answer is missing, beside out->answer[] */
	int missing, err;
	bool again;			/* was asked of a second lead */
	bool waits;			/* no worker serves: for the next one, or the deadline */
	ev_timer timer;
	struct bridge_reply *out;
	bridge_cb *done;		/* NULL: a thread waits */
	void *arg;
	bool ended;
	pthread_cond_t wake;
};

struct bridge {
	struct ctl *ctl;
	struct peer supervisor;
	struct list workers;
	unsigned nworkers;
	int tap;
	_Atomic(const struct shm_stat *) pages[STAT_SLOTS];	/* stay mapped for good: any thread reads them */
	struct question *table[BRIDGE_INFLIGHT_MAX];	/* by number % size; more are answered -E_LIMIT */
	uint32_t last;
	int bell;
	ev_io ring;
	pthread_mutex_t lock;		/* guards queue, nqueue, shut, and ended of thread's questions */
	struct list queue;
	unsigned nqueue;
	bool shut;
};

/* Frees or wakes whoever asked; err as bridge.h says. */
void question_end(struct bridge *b, struct question *q, int err);
/* w answers no more: its part of every question stays at status 0. */
void question_forget(struct bridge *b, const struct worker *w);
/* A worker serves: what waited for one is asked. */
void question_go_on(struct bridge *b);
/* The eventfd rang: begins what threads and the loop queued. */
void question_ring(struct bridge *b);
/* The question in flight with this number, to workers or to the supervisor; NULL when it came too late. */
struct question *question_find(struct bridge *b, uint32_t number, bool of_workers);
int answer_inline(struct bridge_answer *a, const uint8_t *p, size_t n);	/* copies; 0 or -E_NOMEM */
int answer_memfd(struct bridge_answer *a, int fd);			/* maps; 0 or -E_PROTO; fd stays the caller's */

#endif
