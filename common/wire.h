/* SPDX-License-Identifier: MIT */
/* Typed pack and unpack of message bodies and memfd snapshots: little endian, no padding, strings as u32 length + bytes. Readers
 * check, consume and accept NULL for a value they skip; a failed reader stays failed, so a run of gets may be checked once at its
 * end with wire_done(). Source of shape: sshbuf's getters. */
#ifndef SLUICE_COMMON_WIRE_H
#define SLUICE_COMMON_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct wire {
	uint8_t *p;
	size_t len;		/* bytes valid */
	size_t off;		/* reader's position */
	size_t cap;		/* 0: borrowed memory, read only or fixed */
	bool failed;		/* writer out of memory or over its limit, or reader past the end */
};

enum { WIRE_MAX = 64 << 20 };	/* no writer grows past this: it fails */

void wire_init(struct wire *w);					/* an empty writer that owns its memory */
void wire_read(struct wire *w, const void *p, size_t n);	/* a reader; borrows p */
void wire_free(struct wire *w);

void wire_put_slow(struct wire *w, const void *p, size_t n);	/* grows first */
/* Inline: snapshots of thousands of connections are made of puts of a few bytes. */
static inline void
wire_put(struct wire *w, const void *p, size_t n)
{
	if (w->len + n <= w->cap && !w->failed) {
		if (n > 0)	/* p may be NULL then */
			memcpy(w->p + w->len, p, n);
		w->len += n;
	} else
		wire_put_slow(w, p, n);
}

static inline void
wire_put_u8(struct wire *w, uint8_t v)
{
	wire_put(w, &v, sizeof v);
}

void wire_put_u16(struct wire *w, uint16_t v);
void wire_put_u32(struct wire *w, uint32_t v);
void wire_put_u64(struct wire *w, uint64_t v);
void wire_put_bool(struct wire *w, bool v);
void wire_put_str(struct wire *w, const char *s);		/* NULL is written as "" */
void wire_put_bytes(struct wire *w, const void *p, size_t n);	/* u32 length + bytes */
/* Overwrites the u32 at offset at, to fill in a count afterwards. */
void wire_set_u32(struct wire *w, size_t at, uint32_t v);

int wire_get(struct wire *w, void *out, size_t n);		/* 0 or -E_PROTO, as all below */
int wire_get_u8(struct wire *w, uint8_t *out);
int wire_get_u16(struct wire *w, uint16_t *out);
int wire_get_u32(struct wire *w, uint32_t *out);
int wire_get_u64(struct wire *w, uint64_t *out);
int wire_get_bool(struct wire *w, bool *out);
/* Lends the bytes inside the buffer; refused over max. */
int wire_get_bytes(struct wire *w, const void **p, size_t *n, size_t max);
/* Copies to out with a terminating NUL; refused when it does not fit or holds a NUL. */
int wire_get_str(struct wire *w, char *out, size_t cap);
/* malloc'ed copy; refused over max or with a NUL inside. NULL on error. */
char *wire_get_strdup(struct wire *w, size_t max);
size_t wire_left(const struct wire *w);
/* 0 when nothing failed and nothing is left, else -E_PROTO. */
int wire_done(const struct wire *w);

#endif
