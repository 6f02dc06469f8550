/* SPDX-License-Identifier: MIT */
/* The worker process: passed around, never global. */
#ifndef SLUICE_WORKER_WORKER_H
#define SLUICE_WORKER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/imsg_types.h"
#include "common/list.h"
#include "common/peer.h"
#include "common/shm_stat.h"
#include "worker/gen.h"
#include "worker/loop/loop.h"

struct worker {
	struct loop loop;
	struct peer sup;		/* fd 3 */
	struct gen *gen;
	struct shm_stat *stat;		/* own counter page */
	struct shm_shared *shared;	/* of all workers; NULL in tests */
	uint32_t generation, index, workers;
	bool lead, test;		/* index 0; -t */
	bool built, serving, draining;
	bool udp_held;			/* UDP listeners are not read yet: handoff.c */
	uint32_t pong_owed;		/* id of the ping that handoff.c answers when UDP is settled; 0 = none */
	bool geodata_flag;		/* -m */
	struct list conns;		/* every struct conn, TCP and UDP; at most conn_limit */
	uint64_t memory_limit;		/* of mem_in_use(); 0 = none; from nine tenths of it on new connections are shed, over it we ask to be replaced */
	uint32_t n_conns, conn_limit;	/* from RLIMIT_NOFILE; beyond it new ones are shed with a reason */
};

/* Something that GET /proxies, /rules or /configs shows has changed. */
static inline void
worker_touch(struct worker *w)
{
	if (w->stat != NULL)
		atomic_fetch_add_explicit(&w->stat->state_seq, 1, memory_order_relaxed);
}

/* While CONFIGURING: asks the supervisor for a file, blocking. >= 0 a fd, or -E_INVAL with err filled (key, path, reason). */
int priv_open(struct worker *w, enum open_kind kind, const char *path, struct cfg_err *err);
/* Asks for this worker's slots of a listener, blocking at most 5 s; up to LISTEN_SLOTS_MAX fds. Number of fds, or -E_* with
 * why filled. With w->test it answers 0 and binds nothing. slots, unless NULL, gets the number of each. */
int priv_listen(struct worker *w, const struct msg_listen *key, int fds[static LISTEN_SLOTS_MAX], char *why, size_t cap);
int priv_listen_slots(struct worker *w, const struct msg_listen *key, int fds[static LISTEN_SLOTS_MAX], uint8_t slots[LISTEN_SLOTS_MAX], char *why, size_t cap);
void priv_unlisten(struct worker *w, const struct msg_listen *key);

/* Asks for a compiled image. cb is called once, never from inside this call: while CONFIGURING by priv_compile_wait(), else from
 * the loop. It takes fd (-1 when m->err is not 0; text says why). At most COMPILES_MAX wait at once: then -E_LIMIT, no call. */
enum { COMPILES_MAX = 1024 };
typedef void compile_cb(struct worker *w, void *arg, const struct msg_image *m, int fd);
int priv_compile(struct worker *w, const struct msg_compile *q, compile_cb *cb, void *arg);
/* SERVING, the lead: the same for a new content of q's file (a sealed memfd, taken), which is written there once it has compiled.
 * Without a path it is only compiled. */
int priv_compile_content(struct worker *w, const struct msg_compile *q, int content, compile_cb *cb, void *arg);
/* CONFIGURING: blocks until everything asked for has been answered; an answer that takes longer than 35 s is a failure. */
void priv_compile_wait(struct worker *w);

#endif
