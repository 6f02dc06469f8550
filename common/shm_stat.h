/* SPDX-License-Identifier: MIT */
/* The counter page of one worker slot: plain relaxed stores by its worker, read-only for the controller, which believes
 * nothing in it. A page outlives its workers: the next worker of the slot goes on adding, so sums never decrease. */
#ifndef SLUICE_COMMON_SHM_STAT_H
#define SLUICE_COMMON_SHM_STAT_H

#include <stdatomic.h>
#include <stdint.h>

struct shm_stat {
	_Atomic uint64_t up, down;	/* payload bytes since the service started */
	_Atomic uint64_t accepted, shed, failed;	/* connections: taken, refused at a limit, failed to dial */
	_Atomic uint32_t open_tcp, open_udp;	/* now; set to 0 by a new worker */
	_Atomic uint32_t state_seq;	/* moves whenever what /proxies, /rules or /configs shows changes */
	_Atomic uint32_t pad;
	_Atomic uint64_t shed_memory;	/* of those shed: because of sluice.worker-memory-limit */
};

/* One page that every worker of the service writes: positions and choices that users see as one. A broken worker may disturb
 * the others' turn, make them choose another member, and cause health checks within their budget, no more. Places are found by
 * a hash of a group's name; two groups that share one only share what it says. */
struct shm_shared {
	_Atomic uint32_t turn[256];	/* load-balance */
	_Atomic uint32_t used_s[256];	/* last use by a connection, seconds of CLOCK_MONOTONIC, 0 = never */
	_Atomic uint8_t wanted[256];	/* 1: dials fail, the lead should check */
	_Atomic uint64_t choice[224];	/* url-test: what worker/group/urltest.c says; 0 = nothing yet */
};
_Static_assert(sizeof(struct shm_shared) <= 4096, "it is one page (STAT_PAGE)");

/* Single writer: no read-modify-write instruction is needed. */
static inline void
stat_add(_Atomic uint64_t *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

#endif
