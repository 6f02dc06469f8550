/* SPDX-License-Identifier: MIT */
/* Typed values on the wire (value.h): the writer used by workers for their snapshots and by the controller for JSON bodies, and
 * the bounded reader of both. The reader believes nothing: what it reads may come from a worker that was taken over. It owns no
 * memory; strings and keys are lent out of the wire's buffer. */
#include "common/value.h"

#include <endian.h>
#include <string.h>

#include "common/err.h"

static void
put_number(struct wire *w, enum value_tag tag, uint64_t v)
{
	value_tag(w, tag);
	wire_put_u64(w, v);
}

void
value_int(struct wire *w, int64_t v)
{
	put_number(w, V_INT, (uint64_t)v);
}

void
value_uint(struct wire *w, uint64_t v)
{
	put_number(w, V_UINT, v);
}

void
value_time(struct wire *w, int64_t unix_ns)
{
	put_number(w, V_TIME, (uint64_t)unix_ns);
}

void
value_reader_init(struct value_reader *r, struct wire *w)
{
	memset(r, 0, sizeof(*r));
	r->w = w;
}

/* Borrows n bytes of the buffer. */
static inline int
lend(struct wire *w, const char **p, size_t n)
{
	if (w->len - w->off < n)
		return -E_PROTO;
	*p = (const char *)w->p + w->off;
	w->off += n;
	return 0;
}

static int
close_innermost(struct value_reader *r, struct value *v)
{
	v->tag = V_END;
	r->depth--;
	r->done = r->depth == 0;
	return 0;
}

/* As wire_get_u8(), inlined: the hot path of an answer of megabytes. */
static inline bool
next_byte(struct wire *w, uint8_t *out)
{
	if (w->off >= w->len)
		return false;
	*out = w->p[w->off++];
	return true;
}

/* A map's next key, or its end. */
static int
read_key(struct value_reader *r, struct value *v)
{
	uint8_t n;

	if (!next_byte(r->w, &n))
		return -E_PROTO;
	v->key_len = n;
	return n == 0 ? 0 : lend(r->w, &v->key, n);
}

static int
read_body(struct value_reader *r, struct value *v)
{
	const char *p;
	uint64_t u;
	uint32_t n;

	switch (v->tag) {
	case V_NULL:
	case V_FALSE:
	case V_TRUE:
		return 0;
	case V_INT:
	case V_TIME:
	case V_UINT:
		if (lend(r->w, &p, sizeof u) != 0)
			return -E_PROTO;
		memcpy(&u, p, sizeof u);
		v->u = le64toh(u);
		v->i = (int64_t)v->u;
		return 0;
	case V_STR:
		if (lend(r->w, &p, sizeof n) != 0)
			return -E_PROTO;
		memcpy(&n, p, sizeof n);
		v->len = le32toh(n);
		return lend(r->w, &v->str, v->len);
	case V_UUID:
		v->len = 16;
		return lend(r->w, &v->str, 16);
	case V_LIST:
	case V_MAP:
		if (r->depth == VALUE_DEPTH_MAX)
			return -E_PROTO;
		r->open[r->depth++] = (uint8_t)v->tag;
		return 0;
	case V_END:
	default:
		return -E_PROTO;
	}
}

int
value_next(struct value_reader *r, struct value *v)
{
	bool in_map = r->depth > 0 && r->open[r->depth - 1] == V_MAP;
	uint8_t tag;

	*v = (struct value){ .tag = V_END };
	if (r->done)
		return -E_EOF;
	if (r->w->failed)
		return -E_PROTO;
	if (in_map) {
		if (read_key(r, v) != 0)
			goto bad;
		if (v->key_len == 0)
			return close_innermost(r, v);
	}
	if (!next_byte(r->w, &tag))
		goto bad;
	if (tag == V_END && !in_map && r->depth > 0)
		return close_innermost(r, v);
	v->tag = tag > V_MAP ? V_END : (enum value_tag)tag;
	if (read_body(r, v) != 0)
		goto bad;
	r->done = r->depth == 0;
	return 0;
bad:
	r->w->failed = true;	/* a failed reader stays failed */
	return -E_PROTO;
}
