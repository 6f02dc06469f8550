/* SPDX-License-Identifier: MIT */
/* A string-keyed hash map with open addressing, for names of a configuration. Keys are borrowed. Not for keys that a peer chooses
 * freely unless the owner caps the count; the hash is seeded per process. */
#ifndef SLUICE_COMMON_MAP_H
#define SLUICE_COMMON_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_slot {
	const char *key;
	void *value;
	uint64_t hash;
};
struct map {
	struct map_slot *slots;
	size_t cap, count;
};

void map_init(struct map *m);
void map_free(struct map *m);
void *map_get(const struct map *m, const char *key);
/* 0, or -E_BUSY when the key is there already (its value stays). Out of memory is fatal. */
int map_put(struct map *m, const char *key, void *value);
void *map_remove(struct map *m, const char *key);
uint64_t hash_bytes(const void *p, size_t n);	/* seeded per process (SipHash-1-3 or as strong) */
uint64_t siphash13(const uint8_t key[static 16], const void *p, size_t n);

#endif
