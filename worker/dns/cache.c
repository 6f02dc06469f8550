/* SPDX-License-Identifier: MIT */
/* The resolver's cache: the addresses of one family of one name, as one set of name servers told them, until their TTL ends.
 * Called by resolver.c only. Capped at conf.cache_max (at most RESOLVER_CACHE_MAX) entries, each one allocation; at the cap
 * the least recently used one goes. */
#include <stdlib.h>
#include <string.h>

#include "common/map.h"
#include "worker/dns/internal.h"

struct cache_entry {
	struct list lru;
	struct cache_entry *next;	/* of its bucket */
	uint64_t hash, expires_ms;
	const char *name;		/* behind ips */
	uint8_t use, family, n;
	struct ip ips[];
};

static uint64_t
hash_of(enum resolve_use use, int family, const char *name)
{
	return hash_bytes(name, strlen(name)) + (uint64_t)use * 31 + (uint64_t)family * 7;
}

/* The link that holds the entry, or the empty one at the bucket's end. */
static struct cache_entry **
link_of(struct resolver *r, uint64_t hash, enum resolve_use use, int family, const char *name)
{
	struct cache_entry **at = &r->cache[hash % CACHE_BUCKETS];

	for (; *at != NULL; at = &(*at)->next) {
		const struct cache_entry *e = *at;

		if (e->hash == hash && e->use == use && e->family == family && strcmp(e->name, name) == 0)
			break;
	}
	return at;
}

static void
drop(struct resolver *r, struct cache_entry **at)
{
	struct cache_entry *e = *at;

	*at = e->next;
	list_remove(&e->lru);
	r->n_cache--;
	free(e);
}

static void
drop_oldest(struct resolver *r)
{
	struct cache_entry *e = container_of(r->lru.next, struct cache_entry, lru), **at = &r->cache[e->hash % CACHE_BUCKETS];

	while (*at != e)
		at = &(*at)->next;
	drop(r, at);
}

bool
cache_find(struct resolver *r, enum resolve_use use, int family, const char *name, struct cache_hit *hit)
{
	struct cache_entry **at = link_of(r, hash_of(use, family, name), use, family, name), *e = *at;

	if (e == NULL)
		return false;
	if (r->loop->now_ms >= e->expires_ms) {
		drop(r, at);
		return false;
	}
	list_remove(&e->lru);
	list_append(&r->lru, &e->lru);
	*hit = (struct cache_hit){ .ips = e->ips, .n = e->n };
	return true;
}

void
cache_store(struct resolver *r, enum resolve_use use, int family, const char *name, const struct ip *ips, int n, uint32_t ttl_s)
{
	uint64_t hash = hash_of(use, family, name);
	struct cache_entry **at = link_of(r, hash, use, family, name), *e;
	size_t len = strlen(name) + 1, size = (size_t)n * sizeof(*ips);
	char *copy;

	if (*at != NULL)
		drop(r, at);
	if (ttl_s == 0)
		return;
	if (r->n_cache >= r->conf.cache_max)
		drop_oldest(r);
	e = malloc(sizeof(*e) + size + len);
	if (e == NULL)
		return;
	if (n > 0)
		memcpy(e->ips, ips, size);
	copy = (char *)e->ips + size;
	memcpy(copy, name, len);
	e->name = copy;
	e->hash = hash;
	e->expires_ms = r->loop->now_ms + (uint64_t)ttl_s * 1000;
	e->use = (uint8_t)use;
	e->family = (uint8_t)family;
	e->n = (uint8_t)n;
	e->next = r->cache[hash % CACHE_BUCKETS];
	r->cache[hash % CACHE_BUCKETS] = e;
	list_append(&r->lru, &e->lru);
	r->n_cache++;
}

void
cache_flush(struct resolver *r)
{
	while (!list_empty(&r->lru))
		drop_oldest(r);
}
