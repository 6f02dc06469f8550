/* SPDX-License-Identifier: MIT */
/* `load-balance`: round-robin, consistent-hashing by jump hash (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash
 * Algorithm"), or sticky-sessions (spec/config.md 14.5). Called through group_type.
 *
 * The hashes are seeded with a constant, so that every worker, and the next process, takes the same member for the same key.
 * The round-robin position is one for the whole service (struct shm_shared). Sticky sessions need no table: a session leaves
 * its member when that dies, and a member that was dead in the last ten minutes gets none back, which all workers know
 * alike; the reference remembers 1000 sessions for as long. The registered domain of a host is taken as its last two labels
 * as long as there is no public suffix list here: all of example.co.uk goes by co.uk. */
#include <string.h>

#include "common/map.h"
#include "common/strutil.h"
#include "worker/group/group.h"
#include "worker/worker.h"

enum { REHASH_MAX = 5, STICKY_TRIES = 4, STICKY_S = 600 };

enum strategy { ROUND_ROBIN, CONSISTENT, STICKY };
struct balance {
	struct group g;
	enum strategy strategy;
	_Atomic uint32_t *turn;	/* round-robin: counts the picks of every worker */
	_Atomic uint32_t own;	/* what turn points at where nothing is shared (tests) */
};

static uint32_t
jump(uint64_t key, uint32_t buckets)
{
	int64_t b = -1, j = 0;

	while (j < buckets) {
		b = j;
		key = key * 2862933555777941757ULL + 1;
		j = (int64_t)((double)(b + 1) * ((double)(1LL << 31) / (double)((key >> 33) + 1)));
	}
	return (uint32_t)b;
}

static const char *
last_two_labels(const char *host)
{
	const char *p = host + strlen(host);
	int dots = 0;

	while (p > host)
		if (*--p == '.' && ++dots == 2)
			return p + 1;
	return host;
}

/* Destination, with the source before it for sticky sessions. Without either: 0 bytes, one key for all. */
static uint64_t
key_of(const struct meta *m, bool with_source)
{
	static const uint8_t seed[16];
	uint8_t text[sizeof(struct ip) + HOST_MAX + 1] = { 0 };
	size_t n = 0, len;
	struct ip ip;

	if (m == NULL)
		return siphash13(seed, text, 0);
	if (with_source) {
		memcpy(text, m->src_ip.b, sizeof(m->src_ip.b));
		n = sizeof(m->src_ip.b);
	}
	if (m->host[0] != '\0') {
		const char *s = ip_parse(&ip, m->host) == 0 ? m->host : last_two_labels(m->host);

		len = strnlen(s, HOST_MAX);
		memcpy(text + n, s, len);
		n += len;
	} else if (m->dst_ip.family != 0) {
		memcpy(text + n, m->dst_ip.b, sizeof(m->dst_ip.b));
		n += sizeof(m->dst_ip.b);
	}
	return siphash13(seed, text, n);
}

static struct outbound *
round_robin(struct balance *b, bool touch)
{
	struct group *g = &b->g;
	uint32_t n = (uint32_t)g->n_members;
	uint32_t turn = touch ? atomic_fetch_add_explicit(b->turn, 1, memory_order_relaxed) :
	    atomic_load_explicit(b->turn, memory_order_relaxed);

	for (uint32_t i = 0; i < n; i++) {
		struct outbound *ob = g->members[(turn % n + i) % n];

		if (group_alive(g, ob))
			return ob;
	}
	return g->members[0];
}

static struct outbound *
consistent(struct balance *b, const struct meta *m)
{
	struct group *g = &b->g;
	uint64_t key = key_of(m, false);

	for (int i = 0; i < REHASH_MAX; i++, key++) {
		struct outbound *ob = g->members[jump(key, (uint32_t)g->n_members)];

		if (group_alive(g, ob))
			return ob;
	}
	return group_first_alive(g);
}

/* Alive, and no test of the last ten minutes found it dead. */
static bool
settled(const struct group *g, const struct outbound *ob, int64_t now_ns)
{
	const struct delay_history *h = outbound_history(ob, g->url);

	if (!group_alive(g, ob))
		return false;
	for (unsigned i = 0; h != NULL && i < h->n; i++)
		if (h->e[i].ms == 0 && now_ns - h->e[i].at_ns < STICKY_S * INT64_C(1000000000))
			return false;
	return true;
}

/* The first of the key's members that is settled, else that is alive. */
static struct outbound *
sticky(struct balance *b, const struct meta *m)
{
	struct group *g = &b->g;
	uint64_t key = key_of(m, true);
	int64_t now_ns = loop_wall_ns();
	struct outbound *alive = NULL;

	for (int i = 0; i < STICKY_TRIES; i++) {
		struct outbound *ob = g->members[jump(key + (uint64_t)i, (uint32_t)g->n_members)];

		if (settled(g, ob, now_ns))
			return ob;
		if (alive == NULL && group_alive(g, ob))
			alive = ob;
	}
	return alive != NULL ? alive : group_first_alive(g);
}

static struct outbound *
pick(struct group *g, const struct meta *m, bool touch)
{
	struct balance *b = (struct balance *)g;

	switch (b->strategy) {
	case ROUND_ROBIN:
		return round_robin(b, touch);
	case CONSISTENT:
		return consistent(b, m);
	case STICKY:
		return sticky(b, m);
	}
	return NULL;
}

static bool
udp(struct group *g)
{
	(void)g;
	return true;
}

/* Every worker finds the same counter for a name. */
static _Atomic uint32_t *
turn_of(struct balance *b)
{
	static const uint8_t seed[16];
	struct shm_shared *shared = b->g.ob.gen->w != NULL ? b->g.ob.gen->w->shared : NULL;

	if (shared == NULL)
		return &b->own;
	return &shared->turn[siphash13(seed, b->g.ob.name, strlen(b->g.ob.name)) % countof(shared->turn)];
}

static int
setup(struct group *g, const struct cfg_node *item, struct cfg_err *err)
{
	static const char *const names[] = { [ROUND_ROBIN] = "round-robin", [CONSISTENT] = "consistent-hashing",
	    [STICKY] = "sticky-sessions" };
	struct balance *b = (struct balance *)g;
	const char *s = names[CONSISTENT];

	b->turn = turn_of(b);
	if (cfgw_str(item, "strategy", &s, err) != 0)
		return -E_INVAL;
	for (int i = ROUND_ROBIN; i <= STICKY; i++) {
		if (strcmp(s, names[i]) != 0)
			continue;
		b->strategy = (enum strategy)i;
		return 0;
	}
	return cfg_fail(err, cfg_get(item, "strategy"), "strategy", "unsupported strategy: %.64s", s);
}

static const char *const keys[] = { "strategy", NULL };

const struct group_type group_loadbalance_type = {
	.ob = { .name = "load-balance", .api_name = "LoadBalance", .flags = OB_TCP | OB_UDP | OB_GROUP,
	    .size = sizeof(struct balance), .keys = keys,
		.dial = group_dial, .packet = group_packet, .fini = group_fini, .pick = group_pick_ob, .udp = group_udp },
	.setup = setup, .pick = pick, .on_dial = group_count_dial, .udp = udp,
};
