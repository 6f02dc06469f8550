/* SPDX-License-Identifier: MIT */
/* Fake addresses (spec/config.md 14.3) and the names of real ones (redir-host): given out by the lead's DNS server, read by every
 * worker when a connection comes for one. The memory is common/shm_fakeip.h. */
#ifndef SLUICE_WORKER_DNS_FAKEIP_H
#define SLUICE_WORKER_DNS_FAKEIP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/shm_fakeip.h"
#include "worker/gen.h"

enum fake_found {
	FAKE_FOREIGN,		/* not an address of a pool */
	FAKE_FOUND,
	FAKE_MISSING		/* of a pool, but nobody's now */
};

struct fake_pool {
	struct prefix range;		/* family 0: none */
	uint32_t count, n_slots;	/* addresses that are given; slots that are used */
	uint8_t key[16];		/* of the checksums */
	struct fake_table *t;		/* NULL: no memory, nothing is given nor known */
	const struct fake_table *reads;	/* the mapping of a stand-in before it led; else NULL */
	bool writes;			/* the lead's mapping */
	uint32_t writer;		/* not 0: this generation gives addresses */
};

/* CONFIGURING, after dns_parse(): maps what the supervisor holds. */
void fakeip_open(struct gen *g);
void mapping_open(struct gen *g);
/* SERVE, the lead: takes the tables over. */
void fakeip_start(struct gen *g);
/* The worker leads for a while, as stand-in: it may write that memory; takes fd. The opposite. */
void fakeip_lead(struct gen *g, const char *memory, int fd);
void fakeip_unlead(struct gen *g);
/* The address of a name (lower case), an old one or the next. 0, -E_UNSUP (no pool of this family), -E_BUSY (another writer
 * does not end), -E_INVAL. */
int fakeip_address(struct gen *g, int family, const char *host, struct ip *out);
enum fake_found fakeip_name(const struct gen *g, const struct ip *ip, char host[static HOST_MAX + 1]);
void fakeip_flush(struct gen *g);

/* mapping.c */
void mapping_put(struct gen *g, const struct ip *ip, const char *host, uint32_t ttl_s);
bool mapping_name(const struct gen *g, const struct ip *ip, char host[static HOST_MAX + 1]);

/* What a connection to an address is really for: fake addresses first, then those of answers given lately (*mapped). */
enum fake_found fakeip_behind(const struct gen *g, const struct ip *ip, char host[static HOST_MAX + 1], bool *mapped);

/* For tests: a pool on memory of the caller. */
void fake_pool_init(struct fake_pool *p, const struct prefix *range, struct fake_table *t, bool writes);
void fake_pool_start(struct fake_pool *p, uint32_t generation);
int fake_pool_give(struct fake_pool *p, const char *host, struct ip *out);
enum fake_found fake_pool_find(const struct fake_pool *p, const struct ip *ip, char host[static HOST_MAX + 1]);
void fake_pool_flush(struct fake_pool *p);

#endif
