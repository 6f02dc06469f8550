/* SPDX-License-Identifier: MIT */
/* Which name a real address was told for (redir-host, spec/config.md 14.2 "mapping stage"): written by the DNS server of the
 * lead or its stand-in, read by every worker when a connection comes for an address. A table of sets in shared memory; in a
 * full set that entry goes which runs out first. Slots are written and believed as those of fake addresses are. */
#include <string.h>

#include "common/map.h"
#include "worker/dns/fakeip.h"
#include "worker/dns/internal.h"
#include "worker/worker.h"

static const uint8_t key[16] = "sluice mapping 1";

void
mapping_open(struct gen *g)
{
	struct resolver *r = g->resolver;

	if (r->conf.enable && r->conf.mode != ENHANCED_NORMAL)
		r->mapping = shared_map(g->w, "mapping", sizeof(*r->mapping));
}

static uint64_t
sum_of(const struct mapping_slot *s)
{
	uint8_t text[18 + 8 + sizeof(s->name)];

	text[0] = s->family;
	text[1] = s->len;
	memcpy(text + 2, s->ip, 16);
	memcpy(text + 18, &s->expires_ms, 8);
	memcpy(text + 26, s->name, s->len);
	return siphash13(key, text, 26u + s->len);
}

static struct mapping_slot *
set_of(const struct resolver *r, const struct ip *ip)
{
	return r->mapping->slot[siphash13(key, ip->b, sizeof(ip->b)) % MAPPING_SETS];
}

static bool
is_of(const struct mapping_slot *s, const struct ip *ip)
{
	return s->family == ip->family && memcmp(s->ip, ip->b, sizeof(ip->b)) == 0;
}

void
mapping_put(struct gen *g, const struct ip *ip, const char *host, uint32_t ttl_s)
{
	struct resolver *r = g->resolver;
	struct mapping_slot *set, *s, fresh = { .family = ip->family };
	size_t n = strlen(host);
	uint32_t seq;

	if (r->mapping == NULL || !(g->w->lead || r->mapping_reads != NULL) || n == 0 || n > HOST_MAX)
		return;
	s = set = set_of(r, ip);
	for (int i = 0; i < MAPPING_WAYS; i++) {
		if (is_of(&set[i], ip)) {
			s = &set[i];
			break;
		}
		if (set[i].expires_ms < s->expires_ms)
			s = &set[i];
	}
	memcpy(fresh.ip, ip->b, sizeof(fresh.ip));
	fresh.len = (uint8_t)n;
	memcpy(fresh.name, host, n);
	fresh.expires_ms = r->loop->now_ms + (ttl_s > 0 ? ttl_s : 1) * 1000ull;
	fresh.sum = sum_of(&fresh);
	seq = atomic_load_explicit(&s->seq, memory_order_relaxed) | 1;
	atomic_store_explicit(&s->seq, seq, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	memcpy((uint8_t *)s + sizeof(s->seq), (uint8_t *)&fresh + sizeof(s->seq), sizeof(*s) - sizeof(s->seq));
	atomic_store_explicit(&s->seq, seq + 1, memory_order_release);
}

bool
mapping_name(const struct gen *g, const struct ip *ip, char host[static HOST_MAX + 1])
{
	const struct resolver *r = g->resolver;
	struct mapping_slot *set, c;

	if (r == NULL || r->mapping == NULL)
		return false;
	set = set_of(r, ip);
	for (int i = 0; i < MAPPING_WAYS; i++) {
		uint32_t seq = atomic_load_explicit(&set[i].seq, memory_order_acquire);

		if (!is_of(&set[i], ip))
			continue;
		memcpy(&c, &set[i], sizeof(c));
		atomic_thread_fence(memory_order_acquire);
		if ((seq & 1) != 0 || atomic_load_explicit(&set[i].seq, memory_order_relaxed) != seq || !is_of(&c, ip) ||
		    c.expires_ms <= r->loop->now_ms || c.len == 0 || c.sum != sum_of(&c))
			continue;
		memcpy(host, c.name, c.len);
		host[c.len] = '\0';
		return true;
	}
	return false;
}
