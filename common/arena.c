/* SPDX-License-Identifier: MIT */
/* The bump allocator of a configuration generation. Blocks are chained and freed together; a request that would waste much
 * of a block gets one of its own, put behind the head, so that the head's free rest stays in use. The arena owns its blocks. */
#include "common/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

enum {
	ARENA_ALIGN = 16,
	ARENA_BLOCK = 64 << 10		/* payload of a common block */
};

struct arena_block {
	struct arena_block *next;
	size_t used, cap;
	_Alignas(ARENA_ALIGN) unsigned char data[];
};

void
arena_init(struct arena *a)
{
	a->head = NULL;
	a->used = 0;
}

void
arena_free(struct arena *a)
{
	struct arena_block *b = a->head;

	while (b != NULL) {
		struct arena_block *next = b->next;

		free(b);
		b = next;
	}
	arena_init(a);
}

static struct arena_block *
block_new(size_t cap)
{
	struct arena_block *b = NULL;

	if (cap <= SIZE_MAX - sizeof(*b))
		b = calloc(1, sizeof(*b) + cap);
	if (b == NULL)
		fatal("out of memory: %zu bytes for the configuration", cap);
	b->cap = cap;
	return b;
}

void *
arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->head;
	void *p;

	if (n > PTRDIFF_MAX - ARENA_ALIGN)
		fatal("out of memory: %zu bytes for the configuration", n);
	n = n == 0 ? ARENA_ALIGN : (n + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	a->used += n;
	if (b == NULL || b->cap - b->used < n) {
		b = block_new(n > ARENA_BLOCK / 4 ? n : ARENA_BLOCK);
		if (n > ARENA_BLOCK / 4 && a->head != NULL) {
			b->next = a->head->next;
			a->head->next = b;
		} else {
			b->next = a->head;
			a->head = b;
		}
	}
	p = b->data + b->used;
	b->used += n;
	return p;
}

void *
arena_array(struct arena *a, size_t n, size_t size)
{
	size_t total;

	if (__builtin_mul_overflow(n, size, &total))
		fatal("out of memory: %zu times %zu bytes for the configuration", n, size);
	return arena_alloc(a, total);
}

char *
arena_strdup(struct arena *a, const char *s)
{
	return s == NULL ? NULL : arena_strndup(a, s, strlen(s));
}

char *
arena_strndup(struct arena *a, const char *s, size_t n)
{
	char *p;

	if (s == NULL)
		return NULL;
	n = strnlen(s, n);
	p = arena_alloc(a, n + 1);
	memcpy(p, s, n);
	return p;
}

char *
arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	int n;
	char *p;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0)
		fatal("arena_printf: bad format");
	p = arena_alloc(a, (size_t)n + 1);
	va_start(ap, fmt);
	(void)vsnprintf(p, (size_t)n + 1, fmt, ap);
	va_end(ap);
	return p;
}
