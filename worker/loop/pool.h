/* SPDX-License-Identifier: MIT */
/* Typed pools of the data path: 16 KiB buffers and splice pipes. Both hold a small free list and a cap; at the cap the caller
 * gets NULL or -E_LIMIT and falls back (reads wait, or bytes go by read and write). One set per process. */
#ifndef SLUICE_WORKER_LOOP_POOL_H
#define SLUICE_WORKER_LOOP_POOL_H

#include <stddef.h>
#include <stdint.h>

enum {
	BUF_SIZE = 16384,
	BUF_FREE_MAX = 64,	/* kept for reuse; more are freed */
	BUF_MAX = 16384,	/* in use: 256 MiB a worker */
	PIPE_MAX = 64,		/* in use a worker: limits are per user and shared by all generations (design 7) */
	PIPE_FREE_MAX = 8,
	PIPE_SIZE = 1 << 20,	/* asked for; where the user's share of pages is used up, */
	PIPE_SIZE_LESS = 1 << 18	/* then this, then what pipe2() gave */
};

struct buf {			/* data lies in [off, len) */
	struct buf *next;
	uint32_t off, len;
	uint8_t data[BUF_SIZE];
};
struct buf *buf_get(void);	/* empty; NULL at the cap or out of memory */
void buf_put(struct buf *b);	/* NULL is fine */
size_t buf_in_use(void);

struct pipe {
	struct pipe *next;
	int r, w;
	uint32_t size;		/* what the kernel gave */
	uint32_t fill;		/* bytes inside; must be 0 when put back (else it is closed) */
};
struct pipe *pipe_get(void);	/* NULL at the cap, or when the kernel gives only crumbs (< 64 KiB) */
void pipe_put(struct pipe *p);	/* NULL is fine */
/* Hand-over: takes r and w on success; NULL at the cap or when w is no pipe. pipe_release() frees the record alone: its fds
 * went away. */
struct pipe *pipe_adopt(int r, int w, uint32_t fill);
void pipe_release(struct pipe *p);
void pool_trim(void);		/* gives free lists back: /debug/gc, memory pressure */

/* Own accounting of the heap, for sluice.worker-memory-limit (worker/memory.c): these pools, and what owners of records,
 * tables and buffers count by these. It is not the resident size: free memory that the allocator keeps is in no use. */
void mem_charge(ptrdiff_t n);		/* for what is allocated elsewhere */
size_t mem_in_use(void);
void *mem_got(void *p);			/* counts a block just allocated; returns it; NULL is fine */
void mem_free(void *p);			/* frees such a block */

#endif
