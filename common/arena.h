/* SPDX-License-Identifier: MIT */
/* A bump allocator with the life of a configuration generation: nothing is freed singly. Out of memory while starting is
 * fatal, so no call returns NULL. Not for the data path. */
#ifndef SLUICE_COMMON_ARENA_H
#define SLUICE_COMMON_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {
	struct arena_block *head;
	size_t used;			/* bytes handed out, for /generations and memory limits */
};

void arena_init(struct arena *a);
void arena_free(struct arena *a);
void *arena_alloc(struct arena *a, size_t n);		/* zeroed, aligned to 16 */
void *arena_array(struct arena *a, size_t n, size_t size);	/* n * size with overflow check */
char *arena_strdup(struct arena *a, const char *s);	/* NULL stays NULL */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
