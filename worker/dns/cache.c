/* SPDX-License-Identifier: MIT */
/* The answer cache: whole messages, by the question that they answer and the set of name servers that was asked. Called by
 * question.c, resolver.c and link.c only. An entry is one allocation; its TTLs are counted down in place, once a second at most,
 * when it is looked up. Caps: conf.cache_max entries (at most RESOLVER_CACHE_MAX) and CACHE_BYTES_MAX bytes, less in a worker
 * that asks the lead; ARC remembers the names of as many again that it has lost.
 *
 * Which entry goes: LRU uses the list RECENT only. ARC (Megiddo and Modha, "ARC: a self-tuning, low overhead replacement
 * cache") keeps what was asked once in ONCE and what was asked again in RECENT; the names of what either has lost are in
 * their ghost lists, and a hit there moves target, the share of ONCE. */
#include <stdlib.h>
#include <string.h>

#include "common/map.h"
#include "worker/codec/dns.h"
#include "worker/dns/internal.h"
#include "worker/loop/pool.h"

enum { TTL_MAX_S = 86400, NEGATIVE_MAX_S = 300, SERVFAIL_S = 5 };

struct cache_entry {
	struct list lru;		/* of r->cache.list[where]; the next to go is first */
	struct cache_entry *next;	/* of its bucket */
	uint64_t hash, based_ms, expires_ms;	/* based: when the TTLs in the message were true */
	uint32_t n;			/* of the message; 0: a ghost, whose name only is left */
	uint16_t type;
	uint8_t use, where;
	bool stale_ok;			/* with records in its answer */
	char name[];			/* with its NUL; the message follows */
};

static uint8_t *
message(struct cache_entry *e)
{
	return (uint8_t *)e->name + strlen(e->name) + 1;
}

static size_t
bytes(const struct cache_entry *e)
{
	return sizeof(*e) + strlen(e->name) + 1 + e->n;
}

uint64_t
cache_hash(enum resolve_use use, uint16_t type, const char *name)
{
	return hash_bytes(name, strlen(name)) + (uint64_t)use * 31 + (uint64_t)type * 7919;
}

/* The link that holds the entry, or the empty one at the bucket's end. */
static struct cache_entry **
link_of(struct cache *c, uint64_t hash, enum resolve_use use, uint16_t type, const char *name)
{
	struct cache_entry **at = &c->bucket[hash % CACHE_BUCKETS];

	for (; *at != NULL; at = &(*at)->next) {
		const struct cache_entry *e = *at;

		if (e->hash == hash && e->use == use && e->type == type && strcmp(e->name, name) == 0)
			break;
	}
	return at;
}

static void
unlist(struct cache *c, struct cache_entry *e)
{
	list_remove(&e->lru);
	c->n[e->where]--;
	c->bytes -= bytes(e);
}

static void
enlist(struct cache *c, struct cache_entry *e, enum cache_list where)
{
	e->where = (uint8_t)where;
	list_append(&c->list[where], &e->lru);
	c->n[where]++;
	c->bytes += bytes(e);
}

static void
drop(struct cache *c, struct cache_entry **at)
{
	struct cache_entry *e = *at;

	*at = e->next;
	unlist(c, e);
	mem_free(e);
}

static void
drop_first(struct cache *c, enum cache_list from)
{
	struct cache_entry *e = container_of(c->list[from].next, struct cache_entry, lru);
	struct cache_entry **at = &c->bucket[e->hash % CACHE_BUCKETS];

	while (*at != e)
		at = &(*at)->next;
	drop(c, at);
}

/* Its message goes, its name stays behind. */
static void
make_ghost(struct cache *c, enum cache_list from)
{
	struct cache_entry *e = container_of(c->list[from].next, struct cache_entry, lru), *less;
	struct cache_entry **at = &c->bucket[e->hash % CACHE_BUCKETS];

	while (*at != e)
		at = &(*at)->next;
	unlist(c, e);
	e->n = 0;
	less = realloc(e, bytes(e));
	*at = e = less != NULL ? less : e;
	list_init(&e->lru);
	enlist(c, e, from == CACHE_ONCE ? CACHE_ONCE_GHOST : CACHE_RECENT_GHOST);
}

/* One message goes; in_recent: for an answer whose name RECENT lost. */
static void
make_room(struct cache *c, bool in_recent)
{
	enum cache_list from = CACHE_RECENT;

	if (c->n[CACHE_ONCE] > 0 &&
	    (c->n[CACHE_ONCE] > c->target || (in_recent && c->n[CACHE_ONCE] == c->target) || c->n[CACHE_RECENT] == 0))
		from = CACHE_ONCE;
	if (c->n[from] == 0)
		return;
	if (c->arc)
		make_ghost(c, from);
	else
		drop_first(c, from);
}

/* ARC, cases II to IV: where the new message goes, after the ghosts told what would have been better. */
static enum cache_list
adapt(struct cache *c, struct cache_entry **at)
{
	size_t once = c->n[CACHE_ONCE_GHOST], recent = c->n[CACHE_RECENT_GHOST], step;
	enum cache_list was = *at != NULL ? (enum cache_list)(*at)->where : CACHE_LISTS;

	if (!c->arc)
		return CACHE_RECENT;
	if (was == CACHE_ONCE_GHOST) {
		step = recent > once ? recent / once : 1;
		c->target = c->target + step < c->max ? c->target + step : c->max;
	} else if (was == CACHE_RECENT_GHOST) {
		step = once > recent ? once / recent : 1;
		c->target = c->target > step ? c->target - step : 0;
	}
	c->lost_recent = was == CACHE_RECENT_GHOST;
	return was == CACHE_LISTS || was == CACHE_ONCE ? CACHE_ONCE : CACHE_RECENT;
}

static void
trim(struct cache *c)
{
	while (c->n[CACHE_ONCE] + c->n[CACHE_RECENT] > c->max || c->bytes > c->max_bytes) {
		if (c->n[CACHE_ONCE] + c->n[CACHE_RECENT] == 0)
			break;
		make_room(c, c->lost_recent);
	}
	while (c->n[CACHE_ONCE] + c->n[CACHE_ONCE_GHOST] > c->max && c->n[CACHE_ONCE_GHOST] > 0)
		drop_first(c, CACHE_ONCE_GHOST);
	while (c->n[CACHE_RECENT_GHOST] > c->max)
		drop_first(c, CACHE_RECENT_GHOST);
}

/* Seconds that an answer may be kept, 0 = not at all: the least TTL of its records; without records in its answer what the SOA
 * record says (RFC 2308 5). */
static uint32_t
life(const uint8_t *p, size_t n, bool *has_answer)
{
	uint32_t least = TTL_MAX_S, negative = 0;
	struct dns_msg m;
	struct dns_rr rr;
	int rc;

	*has_answer = false;
	if (dns_open(&m, p, n) != 0 || (m.flags & DNS_F_TC) != 0)
		return 0;
	if ((m.flags & DNS_F_RCODE) == DNS_R_SERVFAIL)
		return SERVFAIL_S;
	while ((rc = dns_next(&m, &rr)) > 0) {
		uint32_t ttl = rr.ttl > INT32_MAX ? 0 : rr.ttl;		/* RFC 2181 8 */

		if (rr.type == DNS_T_OPT)
			continue;
		if (rr.section == DNS_AUTHORITY && dns_soa_ttl(&m, &rr) > negative)
			negative = dns_soa_ttl(&m, &rr);
		least = ttl < least ? ttl : least;
		*has_answer |= rr.section == DNS_ANSWER && rr.type == m.qtype;
	}
	*has_answer &= (m.flags & DNS_F_RCODE) == DNS_R_OK;
	if (rc < 0)
		return 0;
	if (!*has_answer)
		least = negative < least ? negative : least;
	return *has_answer || least < NEGATIVE_MAX_S ? least : NEGATIVE_MAX_S;
}

/* Takes the whole seconds since the last time off every TTL; what has run out is 1. */
static void
count_down(struct cache_entry *e, uint64_t now)
{
	uint64_t age = (now - e->based_ms) / 1000;
	uint8_t *p = message(e);
	struct dns_msg m;
	struct dns_rr rr;

	if (age == 0)
		return;
	e->based_ms += age * 1000;
	(void)dns_open(&m, p, e->n);
	while (dns_next(&m, &rr) > 0) {
		uint32_t ttl = rr.ttl > age && now < e->expires_ms ? rr.ttl - (uint32_t)age : 1;

		if (rr.type != DNS_T_OPT)
			dns_rr_set_ttl(p, &rr, ttl);
	}
}

bool
cache_find(struct resolver *r, uint64_t hash, enum resolve_use use, uint16_t type, const char *name, struct cache_hit *hit)
{
	struct cache *c = &r->cache;
	struct cache_entry **at = link_of(c, hash, use, type, name), *e = *at;
	uint64_t now = r->loop->now_ms;

	if (e == NULL || e->n == 0)
		return false;
	if (now >= e->expires_ms && (!e->stale_ok || now - e->expires_ms >= CACHE_STALE_MS)) {
		drop(c, at);
		return false;
	}
	unlist(c, e);
	enlist(c, e, CACHE_RECENT);
	count_down(e, now);
	*hit = (struct cache_hit){ .msg = message(e), .n = e->n, .stale = now >= e->expires_ms };
	return true;
}

void
cache_store(struct resolver *r, uint64_t hash, enum resolve_use use, uint16_t type, const char *name, const uint8_t *msg,
    size_t n)
{
	struct cache *c = &r->cache;
	struct cache_entry **at = link_of(c, hash, use, type, name), *e;
	bool has_answer;
	uint32_t ttl = life(msg, n, &has_answer);
	enum cache_list where = adapt(c, at);
	size_t len = strlen(name) + 1;

	if (*at != NULL)
		drop(c, at);
	e = ttl > 0 ? mem_got(malloc(sizeof(*e) + len + n)) : NULL;
	if (e == NULL)
		return;
	*e = (struct cache_entry){ .hash = hash, .based_ms = r->loop->now_ms, .n = (uint32_t)n, .type = type,
		.use = (uint8_t)use, .stale_ok = has_answer && !c->no_stale };
	e->expires_ms = e->based_ms + (uint64_t)ttl * 1000;
	memcpy(e->name, name, len);
	memcpy(e->name + len, msg, n);
	e->next = c->bucket[hash % CACHE_BUCKETS];
	c->bucket[hash % CACHE_BUCKETS] = e;
	list_init(&e->lru);
	enlist(c, e, where);
	trim(c);
}

void
cache_init(struct cache *c, size_t max, bool arc)
{
	*c = (struct cache){ .max = max, .max_bytes = CACHE_BYTES_MAX, .arc = arc };
	for (int i = 0; i < CACHE_LISTS; i++)
		list_init(&c->list[i]);
}

/* conf.cache_max, or less of it for a follower. */
void
cache_resize(struct cache *c, size_t max, bool follower)
{
	c->max = follower && max > FOLLOWER_CACHE_MAX ? FOLLOWER_CACHE_MAX : max;
	c->max_bytes = follower ? FOLLOWER_BYTES_MAX : CACHE_BYTES_MAX;
	c->no_stale = follower;
	c->target = c->target < c->max ? c->target : c->max;
	trim(c);
}

size_t
cache_count(const struct cache *c)
{
	return c->n[CACHE_ONCE] + c->n[CACHE_RECENT];
}

void
cache_flush(struct cache *c)
{
	for (int i = 0; i < CACHE_LISTS; i++)
		while (!list_empty(&c->list[i]))
			drop_first(c, (enum cache_list)i);
	c->target = 0;
}
