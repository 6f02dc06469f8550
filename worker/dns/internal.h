/* SPDX-License-Identifier: MIT */
/* What the files of dns/ share: the resolver of a generation, and one exchange with a set of name servers (transport.c). */
#ifndef SLUICE_WORKER_DNS_INTERNAL_H
#define SLUICE_WORKER_DNS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"
#include "worker/codec/dns.h"
#include "worker/dns/config.h"
#include "worker/dns/fakeip.h"
#include "worker/dns/resolver.h"
#include "worker/dns/serve.h"
#include "worker/gen.h"
#include "worker/loop/loop.h"

enum {
	UPSTREAMS_MAX = 16,		/* asked of one list; later ones are not */
	/* of all exchanges; at the cap a server is not asked, and a question that could ask none ends with E_LIMIT */
	RESOLVER_SOCKETS_MAX = 8192,
	SYSTEM_SERVERS_MAX = 3,		/* resolv.conf(5) */
	DNS_IPV6_TIMEOUT_MS = 100,
	LOOKUP_BUCKETS = 1024, QUESTION_BUCKETS = 1024, CACHE_BUCKETS = 4096,
	CACHE_BYTES_MAX = 16 << 20,	/* of messages and names; at the cap entries go as at conf.cache_max */
	FOLLOWER_CACHE_MAX = 1024, FOLLOWER_BYTES_MAX = 2 << 20,	/* of a worker that asks the lead */
	CACHE_STALE_MS = 86400000	/* an answer that has run out is still told while it is asked for anew (RFC 8767 5: 1 to 3 days) */
};
enum { RETRY_TIMES = 3 };

struct upstream {
	struct ip ip;
	uint16_t port;
	struct carrier *carrier;	/* NULL: UDP to ip */
	const char *iface;		/* UDP: of "#name"; NULL: interface-name */
	const struct dns_server *conf;	/* NULL: the system's */
	struct dns_ignored *ignored;	/* never NULL */
};
struct upstreams {
	struct upstream u[UPSTREAMS_MAX];
	int n;
	int rcode;			/* of the first rcode:// entry, which answers at once; -1 = none */
};

/* ---- cache.c */
struct cache_entry;
enum cache_list { CACHE_RECENT, CACHE_ONCE, CACHE_ONCE_GHOST, CACHE_RECENT_GHOST, CACHE_LISTS };
struct cache {
	struct cache_entry *bucket[CACHE_BUCKETS];
	struct list list[CACHE_LISTS];
	size_t n[CACHE_LISTS];
	size_t max, bytes, target;
	size_t max_bytes;
	bool arc, lost_recent;
	bool no_stale;			/* a follower's: what has run out is the lead's to tell */
};
struct cache_hit {
	const uint8_t *msg;		/* lent: until the next store or flush */
	size_t n;
	bool stale;			/* to be asked for anew */
};
void cache_init(struct cache *c, size_t max, bool arc);
void cache_resize(struct cache *c, size_t max, bool follower);
size_t cache_count(const struct cache *c);	/* messages */
void cache_flush(struct cache *c);
/* Names are lower case, without final dot. */
struct resolver;
uint64_t cache_hash(enum resolve_use use, uint16_t type, const char *name);
bool cache_find(struct resolver *r, uint64_t hash, enum resolve_use use, uint16_t type, const char *name, struct cache_hit *hit);
void cache_store(struct resolver *r, uint64_t hash, enum resolve_use use, uint16_t type, const char *name, const uint8_t *msg,
    size_t n);

struct system_list {		/* of resolv.conf; read when the first list needs it */
	bool read;
	int n;
	struct ip ips[SYSTEM_SERVERS_MAX];
	struct dns_ignored ignored[SYSTEM_SERVERS_MAX];	/* also of those that stand in when there are none */
};

/* The DNS server's door, for link.c, which must not need the server: dns_serve_ask(), for this worker itself. */
typedef int dns_serve_fn(struct gen *g, const uint8_t *p, size_t n, bool udp, dns_serve_cb *cb, void *arg);

struct link;
struct lookup;
struct question;
struct resolver {
	struct gen *gen;
	struct loop *loop;		/* NULL before resolver_start() */
	struct dns_config conf;
	struct upstreams sets[USES_];	/* by enum resolve_use; see resolver_use() */
	struct carrier *carriers;	/* of all lists */
	struct system_list system;
	struct upstreams fallback;	/* beside sets[USE_RULES] */
	unsigned times_ms[RETRY_TIMES];	/* since the question: sent again, again, given up */
	unsigned negative_ms;		/* after an answer without addresses the other servers get this long to know better */
	struct list exchanges;
	int n_sockets;
	struct lookup *lookups[LOOKUP_BUCKETS];	/* at most RESOLVER_INFLIGHT_MAX */
	int n_lookups;
	struct question *questions[QUESTION_BUCKETS];	/* at most RESOLVER_INFLIGHT_MAX */
	int n_questions;
	struct cache cache;
	dns_serve_fn *serve;		/* NULL before dns_serve_open() */
	struct link *link;		/* to the lead, or from other workers; NULL: never had one */
	struct fake_pool fake4, fake6;
	struct mapping_table *mapping;	/* NULL: none */
	const struct mapping_table *mapping_reads;	/* that of a stand-in before it led; else NULL */
};

/* ---- question.c: a question is asked once, however many wait for its answer. name: lower case, no final dot. */
/* An answer that is kept; a stale one is asked for anew meanwhile. */
bool question_cached(struct resolver *r, enum resolve_use use, uint16_t type, const char *name, struct cache_hit *hit);
/* Joins the question in flight, or asks. cb is called once, never from inside. 0, -E_INVAL (no such name), -E_LIMIT, -E_NOMEM. */
int question_ask(struct resolver *r, enum resolve_use use, uint16_t type, const char *name, struct dns_wait *w, dns_raw_cb *cb,
    void *arg);
void question_end_all(struct resolver *r);	/* nobody is called */
/* The name servers of a use: an empty list of its own means the main ones. */
enum resolve_use resolver_use(const struct resolver *r, enum resolve_use use);

/* ---- edns.c */
enum {
	EDNS_PAD = 128,			/* an encrypted question is a multiple of it (RFC 8467 4.1) */
	EDNS_QUERY_MAX = 2 * DNS_QUERY_MAX + EDNS_PAD
};
/* The question, with an OPT record where one is needed: its length. ecs of family 0 is none. */
size_t edns_add(uint8_t out[static EDNS_QUERY_MAX], const uint8_t *query, size_t n, const struct prefix *ecs, bool pad);
/* Without an OPT record at its end, which is between the server and us: the length that is left. */
size_t edns_strip(uint8_t *p, size_t n);

/* ---- upstream.c: the lists of servers made ready to be asked; again when system_list has changed */
void upstreams_make(struct resolver *r);
/* What nameserver-policy says of a name (lower case); NULL: nothing. */
const struct upstreams *dns_policy_find(const struct resolver *r, enum resolve_use use, const char *name);

/* system.c. Servers of resolv.conf: their number, at most SYSTEM_SERVERS_MAX. These two block, CONFIGURING only. */
int system_servers(struct worker *w, struct ip out[static SYSTEM_SERVERS_MAX]);
void system_hosts(struct gen *g);
int resolv_conf_read(char *text, struct ip out[static SYSTEM_SERVERS_MAX]);	/* the text is changed */

/* fakeip.c: memory that all workers share, read-only but for the lead; NULL when there is none. CONFIGURING only. */
void *shared_map(struct worker *w, const char *name, size_t size);

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

#endif
