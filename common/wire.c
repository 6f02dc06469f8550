/* SPDX-License-Identifier: MIT */
/* Pack and unpack of message bodies and snapshots: little endian, no padding, a string is u32 length + bytes. Every program
 * reads bytes of less trusted ones through these readers, so each get checks before it consumes and a failed reader stays
 * failed. A writer owns its memory, a reader borrows. */
#include "common/wire.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

enum { WIRE_FIRST = 256 };	/* bytes of a writer's first allocation */

void
wire_init(struct wire *w)
{
	memset(w, 0, sizeof(*w));
}

void
wire_read(struct wire *w, const void *p, size_t n)
{
	static uint8_t empty[1];	/* a reader always has a pointer: that is how a put tells it from an empty writer */

	wire_init(w);
	/* never written through: cap is 0 */
	w->p = p != NULL ? (uint8_t *)(uintptr_t)p : empty;
	w->len = p != NULL ? n : 0;
}

void
wire_free(struct wire *w)
{
	if (w->cap > 0)
		free(w->p);
	wire_init(w);
}

/* ---- writer */

static bool
reserve(struct wire *w, size_t n)
{
	size_t cap = w->cap == 0 ? WIRE_FIRST : w->cap;
	uint8_t *p;

	if (w->failed || (w->cap == 0 && w->p != NULL) || n > WIRE_MAX - w->len) {
		w->failed = true;
		return false;
	}
	if (w->cap - w->len >= n)
		return true;
	while (cap < w->len + n)
		cap *= 2;
	p = realloc(w->p, cap);
	if (p == NULL) {
		w->failed = true;
		return false;
	}
	w->p = p;
	w->cap = cap;
	return true;
}

void
wire_put_slow(struct wire *w, const void *p, size_t n)
{
	if (!reserve(w, n) || n == 0)
		return;
	memcpy(w->p + w->len, p, n);
	w->len += n;
}

void
wire_put_u16(struct wire *w, uint16_t v)
{
	v = htole16(v);
	wire_put(w, &v, sizeof(v));
}

void
wire_put_u32(struct wire *w, uint32_t v)
{
	v = htole32(v);
	wire_put(w, &v, sizeof(v));
}

void
wire_put_u64(struct wire *w, uint64_t v)
{
	v = htole64(v);
	wire_put(w, &v, sizeof(v));
}

void
wire_put_bool(struct wire *w, bool v)
{
	wire_put_u8(w, v ? 1 : 0);
}

void
wire_put_str(struct wire *w, const char *s)
{
	wire_put_bytes(w, s, s == NULL ? 0 : strlen(s));
}

void
wire_put_bytes(struct wire *w, const void *p, size_t n)
{
	if (n > WIRE_MAX) {
		w->failed = true;
		return;
	}
	wire_put_u32(w, (uint32_t)n);
	wire_put(w, p, n);
}

void
wire_set_u32(struct wire *w, size_t at, uint32_t v)
{
	if (w->failed || w->cap == 0 || at > w->len || w->len - at < sizeof(v)) {
		w->failed = true;
		return;
	}
	v = htole32(v);
	memcpy(w->p + at, &v, sizeof(v));
}

/* ---- reader */

size_t
wire_left(const struct wire *w)
{
	return w->failed ? 0 : w->len - w->off;
}

static int
fail(struct wire *w)
{
	w->failed = true;
	return -E_PROTO;
}

int
wire_get(struct wire *w, void *out, size_t n)
{
	if (w->failed || w->len - w->off < n)
		return fail(w);
	if (out != NULL && n > 0)
		memcpy(out, w->p + w->off, n);
	w->off += n;
	return 0;
}

int
wire_get_u8(struct wire *w, uint8_t *out)
{
	return wire_get(w, out, sizeof(*out));
}

int
wire_get_u16(struct wire *w, uint16_t *out)
{
	uint16_t v;

	if (wire_get(w, &v, sizeof(v)) != 0)
		return -E_PROTO;
	if (out != NULL)
		*out = le16toh(v);
	return 0;
}

int
wire_get_u32(struct wire *w, uint32_t *out)
{
	uint32_t v;

	if (wire_get(w, &v, sizeof(v)) != 0)
		return -E_PROTO;
	if (out != NULL)
		*out = le32toh(v);
	return 0;
}

int
wire_get_u64(struct wire *w, uint64_t *out)
{
	uint64_t v;

	if (wire_get(w, &v, sizeof(v)) != 0)
		return -E_PROTO;
	if (out != NULL)
		*out = le64toh(v);
	return 0;
}

int
wire_get_bool(struct wire *w, bool *out)
{
	uint8_t v;

	if (wire_get(w, &v, sizeof(v)) != 0)
		return -E_PROTO;
	if (v > 1)
		return fail(w);
	if (out != NULL)
		*out = v == 1;
	return 0;
}

int
wire_get_bytes(struct wire *w, const void **p, size_t *n, size_t max)
{
	uint32_t len;

	if (wire_get_u32(w, &len) != 0)
		return -E_PROTO;
	if (len > max || len > w->len - w->off)
		return fail(w);
	if (p != NULL)
		*p = w->p + w->off;
	if (n != NULL)
		*n = len;
	w->off += len;
	return 0;
}

/* Text inside the buffer, without a NUL in it. */
static int
get_text(struct wire *w, const void **p, size_t *n, size_t max)
{
	if (wire_get_bytes(w, p, n, max) != 0)
		return -E_PROTO;
	return memchr(*p, '\0', *n) == NULL ? 0 : fail(w);
}

int
wire_get_str(struct wire *w, char *out, size_t cap)
{
	const void *p;
	size_t n;

	if (out == NULL)
		return get_text(w, &p, &n, cap == 0 ? WIRE_MAX : cap - 1);
	if (cap == 0)
		return fail(w);
	if (get_text(w, &p, &n, cap - 1) != 0)
		return -E_PROTO;
	memcpy(out, p, n);
	out[n] = '\0';
	return 0;
}

char *
wire_get_strdup(struct wire *w, size_t max)
{
	const void *p;
	size_t n;
	char *s;

	if (get_text(w, &p, &n, max) != 0)
		return NULL;
	s = malloc(n + 1);
	if (s == NULL) {
		w->failed = true;
		return NULL;
	}
	memcpy(s, p, n);
	s[n] = '\0';
	return s;
}

int
wire_done(const struct wire *w)
{
	return w->failed || w->off != w->len ? -E_PROTO : 0;
}
