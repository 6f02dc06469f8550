/* SPDX-License-Identifier: MIT */
/* What the files of dns/ share: the resolver of a generation, and one exchange with a set of name servers (transport.c). */
#ifndef SLUICE_WORKER_DNS_INTERNAL_H
#define SLUICE_WORKER_DNS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"
#include "worker/dns/config.h"
#include "worker/dns/resolver.h"
#include "worker/gen.h"
#include "worker/loop/loop.h"

enum {
	UPSTREAMS_MAX = 16,		/* asked of one list; later ones are not */
	/* of all exchanges; at the cap a server is not asked, and a question that could ask none ends with E_LIMIT */
	RESOLVER_SOCKETS_MAX = 8192,
	SYSTEM_SERVERS_MAX = 3,		/* resolv.conf(5) */
	DNS_IPV6_TIMEOUT_MS = 100,
	LOOKUP_BUCKETS = 1024, CACHE_BUCKETS = 4096
};
enum { RETRY_TIMES = 3 };

struct upstream {
	struct ip ip;
	uint16_t port;
	bool tcp;
	const struct dns_server *conf;	/* NULL: the system's */
};
struct upstreams {
	struct upstream u[UPSTREAMS_MAX];
	int n;
	int rcode;			/* of the first rcode:// entry, which answers at once; -1 = none */
};

struct lookup;
struct cache_entry;
struct resolver {
	struct gen *gen;
	struct loop *loop;		/* NULL before resolver_start() */
	struct dns_config conf;
	struct upstreams sets[3];	/* by enum resolve_use; an empty one stands for USE_RULES */
	unsigned times_ms[RETRY_TIMES];	/* since the question: sent again, again, given up */
	unsigned negative_ms;		/* after an answer without addresses the other servers get this long to know better */
	struct list exchanges;
	int n_sockets;
	struct lookup *lookups[LOOKUP_BUCKETS];	/* at most RESOLVER_INFLIGHT_MAX */
	int n_lookups;
	struct cache_entry *cache[CACHE_BUCKETS];	/* at most conf.cache_max; the least recently used goes first */
	struct list lru;		/* the next to go is first */
	int n_cache;
};

/* system.c. Servers of resolv.conf: their number, at most SYSTEM_SERVERS_MAX; blocks, CONFIGURING only. */
int system_servers(struct worker *w, struct ip out[static SYSTEM_SERVERS_MAX]);
int resolv_conf_read(char *text, struct ip out[static SYSTEM_SERVERS_MAX]);	/* the text is changed */
void system_hosts(struct gen *g);

/* transport.c. The message is lent: useful (of A and AAAA: with an address), or, when no server had such a one, empty. err
 * else: E_TIMEOUT, E_DNS (every server failed or refused), E_LIMIT. */
struct exchange;
typedef void exchange_cb(void *arg, int err, const uint8_t *msg, size_t n);
/* Asks every server of the set at once. cb is called once, never from inside; the exchange is gone then. 0, -E_INVAL (no
 * such name), -E_LIMIT, -E_NOMEM. */
int exchange_start(struct resolver *r, const struct upstreams *set, const char *name, uint16_t type, exchange_cb *cb, void *arg,
    struct exchange **out);
void exchange_cancel(struct exchange *x);
void exchange_cancel_all(struct resolver *r);

/* cache.c. Names are lower case. */
struct cache_hit {
	const struct ip *ips;		/* lent; a look for another family or name leaves them alone, storing does not */
	int n;				/* 0: it is known that there is none */
};
bool cache_find(struct resolver *r, enum resolve_use use, int family, const char *name, struct cache_hit *hit);
void cache_store(struct resolver *r, enum resolve_use use, int family, const char *name, const struct ip *ips, int n,
    uint32_t ttl_s);
void cache_flush(struct resolver *r);

#endif
