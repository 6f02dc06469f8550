/* SPDX-License-Identifier: MIT */
/* The packet side of an outbound: one association that can send to many targets. cb gets ST_OPEN, ST_FAIL, or a batch of
 * packets, lent: copy to keep. Up to DGRAM_EARLY packets or DGRAM_EARLY_BYTES are queued before ST_OPEN; later ones are dropped
 * on -E_AGAIN. */
#ifndef SLUICE_WORKER_STREAM_DGRAM_H
#define SLUICE_WORKER_STREAM_DGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/wire.h"
#include "worker/loop/loop.h"

enum { DGRAM_EARLY = 4, DGRAM_EARLY_BYTES = 16384, DGRAM_BATCH = 32, DGRAM_MAX = 65535 };

struct target {			/* a destination: a name, an address, or both (a name that was resolved) */
	const char *host;	/* NULL or "" = address only; lent */
	struct ip ip;		/* family 0 = not resolved */
	uint16_t port;
};

struct packet {
	const uint8_t *data;
	size_t len;
	struct target addr;	/* sendv: to; cb: from */
};

struct dgram;
typedef void dgram_cb(struct dgram *d, int events, const struct packet *p, int n, void *arg);

struct dgram_ops {
	const char *name;
	int (*sendv)(struct dgram *, const struct packet *, int n);	/* number taken; lends; drops what would block */
	void (*want)(struct dgram *, bool read);
	int (*freeze)(struct dgram *, struct wire *, int *fds);		/* as stream_ops.freeze: -E_UNSUP and nothing given up; NULL = drain */
	void (*destroy)(struct dgram *);				/* from the reaper only */
};
struct dgram {			/* first member */
	const struct dgram_ops *ops;
	struct loop *loop;
	dgram_cb *cb;
	void *arg;
	int err;
	unsigned state;		/* ST_OPEN | ST_FAIL | ST_CLOSED */
	char *text;
	struct loop_task task;
};

void dgram_init(struct dgram *d, const struct dgram_ops *ops, struct loop *loop);
void dgram_fail(struct dgram *d, int code, int sys_errno, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void dgram_close(struct dgram *d);	/* takes; no callback after return */
const char *dgram_why(const struct dgram *d);
/* Hand-over: writes the layer's name and state and gives up its fds: their number, or -E_UNSUP with only w changed. What the
 * other process does with it: outbound_thaw(). */
int dgram_freeze(struct dgram *d, struct wire *w, int *fds);

/* ---- packets kept until a way is open: at most DGRAM_EARLY and DGRAM_EARLY_BYTES; for layers before ST_OPEN and for sessions
 * while they route */
struct dgram_queued;
struct dgram_queue {		/* zero it first */
	struct dgram_queued *head, *tail;
	int n;
	size_t bytes;
};
int dgram_queue_put(struct dgram_queue *q, const struct packet *p);	/* copies; -E_AGAIN over the caps (dropped), -E_NOMEM */
/* Takes all out, oldest first: give() lends each to the caller, then it is freed. */
void dgram_queue_drain(struct dgram_queue *q, void (*give)(void *arg, const struct packet *p), void *arg);
void dgram_queue_clear(struct dgram_queue *q);

#endif
