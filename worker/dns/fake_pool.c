/* SPDX-License-Identifier: MIT */
/* One pool of fake addresses in shared memory; see common/shm_fakeip.h for what lies where and fakeip.h for who calls.
 * Addresses are given in order, from the fourth after the network's on; at the end the pool begins anew, and what was not
 * asked for since its last round is given to another name (the clock algorithm: an approximation of the least recently asked
 * one). The last address, and what is before the first, is never given (spec/config.md 14.3).
 *
 * Writers exclude each other by a word in the memory that holds the generation's number. A writer that died inside is
 * overridden by the next one that takes over, which believes nothing but slots whose checksum is right. */
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/map.h"
#include "common/strutil.h"
#include "worker/dns/fakeip.h"
#include "worker/loop/loop.h"

enum {
	FIRST = 4, RESERVED = 5,	/* with the last address */
	COUNT_MAX = 1 << 30,		/* of the addresses of a wide IPv6 pool that are given */
	LOCK_MS = 50, READ_TRIES = 1000
};
_Static_assert(FAKE_NAME + FAKE_TAIL > UINT8_MAX, "any length of a name fits");
static const char magic[8] = "sluFIP1";

struct content {			/* of a slot, copied out */
	uint32_t offset;
	uint64_t sum;
	uint16_t tail;
	uint8_t len;
	char name[FAKE_NAME + FAKE_TAIL];
};

/* ---- addresses */

static unsigned
width(const struct fake_pool *p)
{
	return p->range.ip.family == 4 ? 4 : 16;
}

static struct ip
address_of(const struct fake_pool *p, uint32_t offset)
{
	struct ip ip = p->range.ip;
	unsigned carry = 0, n = width(p);
	uint32_t add = offset + FIRST;

	for (unsigned i = 0; i < n; i++) {
		unsigned at = n - 1 - i, sum = ip.b[at] + carry + (i < 4 ? (add >> (8 * i) & 0xff) : 0);

		ip.b[at] = (uint8_t)sum;
		carry = sum >> 8;
	}
	return ip;
}

/* The place of an address behind the network's own; UINT64_MAX: too far. */
static uint64_t
place_of(const struct fake_pool *p, const struct ip *ip)
{
	unsigned n = width(p), from = n > 8 ? n - 8 : 0;
	uint64_t a = 0, base = 0;

	if (memcmp(ip->b, p->range.ip.b, from) != 0)
		return UINT64_MAX;
	for (unsigned i = from; i < n; i++) {
		a = a << 8 | ip->b[i];
		base = base << 8 | p->range.ip.b[i];
	}
	return a - base;
}

void
fake_pool_init(struct fake_pool *p, const struct prefix *range, struct fake_table *t, bool writes)
{
	unsigned n, host;

	*p = (struct fake_pool){ .range = *range, .t = t, .writes = writes };
	n = width(p);
	host = n * 8 - range->bits;
	for (unsigned i = 0; i < n; i++) {	/* the network's address */
		unsigned keep = range->bits > i * 8 ? range->bits - i * 8 : 0;

		p->range.ip.b[i] &= (uint8_t)(keep >= 8 ? 0xff : 0xff << (8 - keep));
	}
	p->count = host >= 30 ? COUNT_MAX : (1u << host) - RESERVED;
	p->n_slots = p->count < FAKE_SLOTS ? p->count : FAKE_SLOTS;
	memcpy(p->key, p->range.ip.b, sizeof(p->key));
	p->key[15] ^= p->range.bits;
	p->key[14] ^= p->range.ip.family;
}

/* ---- slots */

static uint64_t
sum_of(const struct fake_pool *p, const struct content *c)
{
	uint8_t text[4 + 1 + sizeof(c->name)];

	memcpy(text, &c->offset, 4);
	text[4] = c->len;
	memcpy(text + 5, c->name, c->len);
	return siphash13(p->key, text, 5u + c->len);
}

static void
copy_slot(const struct fake_table *t, uint32_t i, struct content *c)
{
	const struct fake_slot *s = &t->slot[i];

	c->offset = s->offset;
	c->sum = s->sum;
	c->tail = s->tail;
	c->len = s->len;
	memcpy(c->name, s->name, FAKE_NAME);
	if (c->len > FAKE_NAME && c->tail > 0 && c->tail <= FAKE_TAILS)
		memcpy(c->name + FAKE_NAME, t->tail[c->tail - 1].name, FAKE_TAIL);
	else
		memset(c->name + FAKE_NAME, 0, FAKE_TAIL);
}

static bool
is_good(const struct fake_pool *p, uint32_t i, const struct content *c)
{
	return c->len > 0 && c->offset < p->count && c->offset % p->n_slots == i &&
	    c->tail <= FAKE_TAILS && (c->len > FAKE_NAME) == (c->tail > 0) && c->sum == sum_of(p, c);
}

/* A whole slot while others may write. */
static bool
read_slot(const struct fake_pool *p, uint32_t i, struct content *c)
{
	const struct fake_slot *s = &p->t->slot[i];

	for (int k = 0; k < READ_TRIES; k++) {
		uint32_t seq = atomic_load_explicit(&s->seq, memory_order_acquire);

		if ((seq & 1) != 0)
			continue;
		copy_slot(p->t, i, c);
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&s->seq, memory_order_relaxed) == seq)
			return is_good(p, i, c);
	}
	return false;
}

static void
write_begin(struct fake_slot *s)
{
	uint32_t seq = atomic_load_explicit(&s->seq, memory_order_relaxed);

	atomic_store_explicit(&s->seq, seq | 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

static void
write_end(struct fake_slot *s)
{
	uint32_t seq = atomic_load_explicit(&s->seq, memory_order_relaxed);

	atomic_store_explicit(&s->seq, seq + 1, memory_order_release);
}

/* ---- the lock */

static bool
lock(struct fake_pool *p, bool force)
{
	uint64_t until = 0;

	for (;;) {
		uint32_t nobody = 0;

		if (atomic_compare_exchange_strong_explicit(&p->t->lock, &nobody, p->writer, memory_order_acquire,
		    memory_order_relaxed))
			return true;
		if (until == 0)
			until = loop_clock_ms() + LOCK_MS;
		else if (loop_clock_ms() >= until)
			break;
	}
	if (force)
		atomic_store_explicit(&p->t->lock, p->writer, memory_order_relaxed);
	return force;
}

static void
unlock(struct fake_pool *p)
{
	atomic_store_explicit(&p->t->lock, 0, memory_order_release);
}

/* ---- the index, under the lock: open addressing, at most half full */

static uint32_t
home_of(const struct fake_pool *p, const char *name, size_t n)
{
	return (uint32_t)(siphash13(p->t->secret, name, n) % FAKE_INDEX);
}

/* Where the name is in the index, or the empty place where it belongs. */
static uint32_t
index_find(const struct fake_pool *p, const char *name, size_t n)
{
	const struct fake_table *t = p->t;
	uint32_t at = home_of(p, name, n);
	struct content c;

	for (uint32_t k = 0; k < FAKE_INDEX; k++, at = (at + 1) % FAKE_INDEX) {
		uint32_t i = t->index[at];

		if (i == 0)
			break;
		if (i > FAKE_SLOTS || t->slot[i - 1].len != n ||
		    memcmp(t->slot[i - 1].name, name, n < FAKE_NAME ? n : FAKE_NAME) != 0)
			continue;
		copy_slot(t, i - 1, &c);
		if (memcmp(c.name, name, n) == 0)
			break;
	}
	return at;
}

/* Those behind an emptied place move up, so that nobody is looked for in vain. */
static void
index_remove(struct fake_pool *p, uint32_t at)
{
	struct fake_table *t = p->t;
	uint32_t hole = at;

	for (uint32_t k = 1; k < FAKE_INDEX; k++) {
		uint32_t here = (at + k) % FAKE_INDEX, i = t->index[here], home;
		struct content c;

		if (i == 0 || i > FAKE_SLOTS)
			break;
		copy_slot(t, i - 1, &c);
		home = home_of(p, c.name, c.len);
		if ((here - home) % FAKE_INDEX < (here - hole) % FAKE_INDEX)
			continue;
		t->index[hole] = i;
		hole = here;
	}
	t->index[hole] = 0;
}

/* ---- giving, under the lock */

static void
clear_slot(struct fake_slot *s)
{
	write_begin(s);
	s->len = 0;
	s->tail = 0;
	s->sum = 0;
	write_end(s);
}

static void
forget(struct fake_pool *p, uint32_t i)
{
	struct content c;
	uint32_t at;

	copy_slot(p->t, i, &c);
	at = index_find(p, c.name, c.len);
	if (p->t->index[at] == i + 1)
		index_remove(p, at);
	clear_slot(&p->t->slot[i]);
}

/* A tail for a long name; its owner is forgotten. */
static uint16_t
take_tail(struct fake_pool *p, uint32_t owner)
{
	struct fake_table *t = p->t;
	uint32_t k = t->next_tail % FAKE_TAILS, i = t->tail[k].owner;

	t->next_tail = (k + 1) % FAKE_TAILS;
	if (i < p->n_slots && t->slot[i].tail == k + 1 && t->slot[i].len > FAKE_NAME)
		forget(p, i);
	t->tail[k].owner = owner;
	return (uint16_t)(k + 1);
}

static void
fill_slot(struct fake_pool *p, uint32_t offset, const char *name, size_t n)
{
	struct content c = { .offset = offset, .len = (uint8_t)n };
	uint32_t i = offset % p->n_slots;
	struct fake_slot *s = &p->t->slot[i];

	memcpy(c.name, name, n);
	c.tail = n > FAKE_NAME ? take_tail(p, i) : 0;
	write_begin(s);
	s->offset = offset;
	s->tail = c.tail;
	s->len = c.len;
	memcpy(s->name, c.name, FAKE_NAME);
	if (c.tail > 0)
		memcpy(p->t->tail[c.tail - 1].name, c.name + FAKE_NAME, FAKE_TAIL);
	s->sum = sum_of(p, &c);
	atomic_store_explicit(&s->touched, 0, memory_order_relaxed);
	write_end(s);
	p->t->index[index_find(p, name, n)] = i + 1;
}

/* The next address whose name was not asked for since the last round. */
static uint32_t
next_offset(struct fake_pool *p)
{
	struct fake_table *t = p->t;

	for (;;) {	/* ends after one round, which takes every mark away */
		uint32_t offset = t->cursor < p->count ? t->cursor : 0;
		struct fake_slot *s = &t->slot[offset % p->n_slots];

		t->cursor = offset + 1 < p->count ? offset + 1 : 0;
		if (s->len == 0)
			return offset;
		if (atomic_exchange_explicit(&s->touched, 0, memory_order_relaxed) != 0)
			continue;
		forget(p, offset % p->n_slots);
		return offset;
	}
}

int
fake_pool_give(struct fake_pool *p, const char *host, struct ip *out)
{
	size_t n = strlen(host);
	uint32_t i;

	if (n == 0 || n > HOST_MAX)
		return -E_INVAL;
	if (p->t == NULL || p->writer == 0 || !lock(p, false))
		return -E_BUSY;
	i = p->t->index[index_find(p, host, n)];
	if (i > 0 && i <= p->n_slots && p->t->slot[i - 1].offset < p->count) {
		struct fake_slot *s = &p->t->slot[i - 1];

		atomic_store_explicit(&s->touched, 1, memory_order_relaxed);
		*out = address_of(p, s->offset);
	} else {
		uint32_t offset = next_offset(p);

		fill_slot(p, offset, host, n);
		*out = address_of(p, offset);
	}
	unlock(p);
	return 0;
}

enum fake_found
fake_pool_find(const struct fake_pool *p, const struct ip *ip, char host[static HOST_MAX + 1])
{
	struct content c;
	uint64_t place;

	if (p->range.ip.family == 0 || !ip_in_prefix(ip, &p->range))
		return FAKE_FOREIGN;
	place = place_of(p, ip);
	if (place < 2 || (p->count < COUNT_MAX && place == (uint64_t)p->count + FIRST))
		return FAKE_FOREIGN;	/* network, gateway, broadcast */
	if (place < FIRST || place - FIRST >= p->count || p->t == NULL)
		return FAKE_MISSING;
	if (!read_slot(p, (uint32_t)(place - FIRST) % p->n_slots, &c) || c.offset != place - FIRST)
		return FAKE_MISSING;
	memcpy(host, c.name, c.len);
	host[c.len] = '\0';
	return FAKE_FOUND;
}

/* ---- taking over */

/* Believes nothing but slots with a right checksum, and of two with one name or one tail the first. */
static void
rebuild(struct fake_pool *p)
{
	static uint8_t taken[FAKE_TAILS];
	struct fake_table *t = p->t;

	memset(t->index, 0, sizeof(t->index));
	memset(taken, 0, sizeof(taken));
	rand_secret(t->secret, sizeof(t->secret));
	for (uint32_t i = 0; i < FAKE_SLOTS; i++) {
		struct fake_slot *s = &t->slot[i];
		struct content c;
		uint32_t at;

		if (s->len == 0 && s->seq % 2 == 0)
			continue;
		copy_slot(t, i, &c);
		if (i >= p->n_slots || s->seq % 2 != 0 || !is_good(p, i, &c) || (c.tail > 0 && taken[c.tail - 1] != 0) ||
		    t->index[at = index_find(p, c.name, c.len)] != 0) {
			clear_slot(s);
			continue;
		}
		t->index[at] = i + 1;
		if (c.tail > 0) {
			taken[c.tail - 1] = 1;
			t->tail[c.tail - 1].owner = i;
		}
	}
	if (t->cursor >= p->count)
		t->cursor = 0;
}

void
fake_pool_start(struct fake_pool *p, uint32_t generation)
{
	if (p->t == NULL || !p->writes)
		return;
	p->writer = generation != 0 ? generation : 1;
	(void)lock(p, true);
	if (memcmp(p->t->magic, magic, sizeof(magic)) != 0) {
		if (memcmp(p->t->magic, (char[sizeof(magic)]){ 0 }, sizeof(magic)) != 0)	/* zeros: a new one */
			log_warn("sluice.fakeip%s: the stored fake addresses cannot be read, they start anew",
			    p->range.ip.family == 6 ? "6" : "");
		memset(p->t->slot, 0, sizeof(p->t->slot));
		p->t->cursor = p->t->next_tail = 0;
		memcpy(p->t->magic, magic, sizeof(magic));
	}
	rebuild(p);
	unlock(p);
}

void
fake_pool_flush(struct fake_pool *p)
{
	if (p->t == NULL || p->writer == 0 || !lock(p, false))
		return;
	for (uint32_t i = 0; i < p->n_slots; i++)
		if (p->t->slot[i].len > 0)
			clear_slot(&p->t->slot[i]);
	memset(p->t->index, 0, sizeof(p->t->index));
	p->t->cursor = 0;
	unlock(p);
}
