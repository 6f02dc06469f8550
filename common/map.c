/* SPDX-License-Identifier: MIT */
/* The string-keyed hash map for names of a configuration: open addressing with linear probing, at most 5/8 full, deletion by
 * moving back (no tombstones). The map owns its slots, keys are borrowed, values are the caller's. The hash is SipHash-1-3
 * with a key drawn once per process, so that nobody outside can aim at collisions. */
#include "common/map.h"

#include <endian.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"

enum { MAP_FIRST = 16 };

static pthread_once_t seed_once = PTHREAD_ONCE_INIT;
static uint8_t seed[16];

static void
seed_make(void)
{
	rand_secret(seed, sizeof(seed));
}

struct sip {
	uint64_t v0, v1, v2, v3;
};

static uint64_t
rotl(uint64_t v, unsigned k)
{
	return v << k | v >> (64 - k);
}

static void
sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v0 = rotl(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v2 = rotl(s->v2, 32);
}

static uint64_t
load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

/* Aumasson and Bernstein, "SipHash: a fast short-input PRF", section 2, with c = 1 and d = 3. */
uint64_t
siphash13(const uint8_t key[static 16], const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t k0 = load64(key), k1 = load64(key + 8), last = (uint64_t)n << 56;
	struct sip s = { k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573 };
	size_t left = n;

	for (; left >= 8; left -= 8, p += 8) {
		uint64_t m = load64(p);

		s.v3 ^= m;
		sip_round(&s);
		s.v0 ^= m;
	}
	for (size_t i = 0; i < left; i++)
		last |= (uint64_t)p[i] << (8 * i);
	s.v3 ^= last;
	sip_round(&s);
	s.v0 ^= last;
	s.v2 ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t
hash_bytes(const void *p, size_t n)
{
	(void)pthread_once(&seed_once, seed_make);
	return siphash13(seed, p, n);
}

void
map_init(struct map *m)
{
	memset(m, 0, sizeof(*m));
}

void
map_free(struct map *m)
{
	free(m->slots);
	map_init(m);
}

/* The slot that holds key, or the empty one where it belongs. Needs cap > 0; there is always an empty slot. */
static size_t
find(const struct map *m, const char *key, uint64_t hash)
{
	size_t mask = m->cap - 1, i = (size_t)hash & mask;

	while (m->slots[i].key != NULL && (m->slots[i].hash != hash || strcmp(m->slots[i].key, key) != 0))
		i = (i + 1) & mask;
	return i;
}

static void
grow(struct map *m)
{
	struct map_slot *old = m->slots;
	size_t n = m->cap;

	m->cap = n == 0 ? MAP_FIRST : n * 2;
	m->slots = calloc(m->cap, sizeof(*m->slots));
	if (m->slots == NULL)
		fatal("out of memory: a map of %zu slots", m->cap);
	for (size_t i = 0; i < n; i++) {
		if (old[i].key != NULL)
			m->slots[find(m, old[i].key, old[i].hash)] = old[i];
	}
	free(old);
}

void *
map_get(const struct map *m, const char *key)
{
	return m->count == 0 ? NULL : m->slots[find(m, key, hash_bytes(key, strlen(key)))].value;
}

int
map_put(struct map *m, const char *key, void *value)
{
	uint64_t hash = hash_bytes(key, strlen(key));
	size_t i;

	if (m->cap > 0 && m->slots[find(m, key, hash)].key != NULL)
		return -E_BUSY;
	if ((m->count + 1) * 8 > m->cap * 5)
		grow(m);
	i = find(m, key, hash);
	m->slots[i] = (struct map_slot){ key, value, hash };
	m->count++;
	return 0;
}

void *
map_remove(struct map *m, const char *key)
{
	size_t mask = m->cap - 1, hole, i;
	void *value;

	if (m->count == 0)
		return NULL;
	hole = find(m, key, hash_bytes(key, strlen(key)));
	if (m->slots[hole].key == NULL)
		return NULL;
	value = m->slots[hole].value;
	for (i = (hole + 1) & mask; m->slots[i].key != NULL; i = (i + 1) & mask) {
		/* may move back only if its home is not between the hole and itself */
		if (((i - (size_t)m->slots[i].hash) & mask) >= ((i - hole) & mask)) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole] = (struct map_slot){ 0 };
	m->count--;
	return value;
}
