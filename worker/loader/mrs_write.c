/* SPDX-License-Identifier: MIT */
/* Writes the compiled rule sets of the reference, spec/config.md 13.1; mrs.c reads them. Called by convert.c. */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "worker/loader/convert.h"

enum { LEVEL = 12 };	/* of zstd: the window stays below what every reader takes */
enum { DOMAIN_BYTE, IPCIDR_BYTE, VERSION = 1 };

static void
put_be64(struct wire *w, uint64_t v)
{
	uint8_t b[8];

	for (int i = 0; i < 8; i++)
		b[i] = (uint8_t)(v >> (56 - 8 * i));
	wire_put(w, b, sizeof b);
}

static void
put_head(struct wire *w, uint8_t behavior, uint32_t count)
{
	wire_put(w, "MRS\1", 4);
	wire_put_u8(w, behavior);
	put_be64(w, count);
	put_be64(w, 0);		/* nothing extra */
	wire_put_u8(w, VERSION);
}

/* Packs all of in; frees it. */
static int
pack(struct wire *out, struct wire *in)
{
	size_t cap = ZSTD_compressBound(in->len), n;
	uint8_t *p = in->failed ? NULL : malloc(cap);
	int rc = p != NULL ? 0 : -E_LIMIT;

	if (rc == 0) {
		n = ZSTD_compress(p, cap, in->p, in->len, LEVEL);
		if (ZSTD_isError(n))
			rc = -E_NOMEM;
		else
			wire_put(out, p, n);
	}
	free(p);
	wire_free(in);
	return rc == 0 && out->failed ? -E_LIMIT : rc;
}

/* ---- bits: 64 to a word, the lowest first */

struct bits {
	uint64_t *w;
	size_t n, cap;		/* words */
	bool failed;
};

static void
set_bit(struct bits *b, size_t i, bool on)
{
	size_t word = i / 64;

	if (word >= b->cap) {
		size_t cap = b->cap < 64 ? 64 : b->cap * 2;
		uint64_t *w = realloc(b->w, (cap > word ? cap : word + 64) * sizeof *w);

		if (w == NULL) {
			b->failed = true;
			return;
		}
		b->w = w;
		b->cap = cap > word ? cap : word + 64;
	}
	for (; b->n <= word; b->n++)
		b->w[b->n] = 0;
	b->w[word] |= (uint64_t)on << i % 64;
}

static void
put_bits(struct wire *w, const struct bits *b)
{
	put_be64(w, b->n);
	for (size_t i = 0; i < b->n; i++)
		put_be64(w, b->w[i]);
	w->failed |= b->failed;
}

/* ---- names: a trie, its nodes numbered level by level */

struct node { uint32_t from, to; };	/* the names that begin as it does */
struct trie {
	const uint8_t *pool;
	const struct mrs_name *name;
	struct bits leaves, bitmap;
	struct wire labels;
	size_t node, bit;
	struct node *level, *next;	/* each of at most as many as there are names */
};

/* One node at a depth; adds its children to next. */
static size_t
put_node(struct trie *t, struct node at, uint32_t depth, size_t n_next)
{
	uint32_t i = at.from;

	if (i < at.to && t->name[i].n == depth) {	/* the shortest comes first, and only once */
		set_bit(&t->leaves, t->node, true);
		i++;
	}
	while (i < at.to) {
		uint8_t c = t->pool[t->name[i].at + depth];
		uint32_t from = i;

		while (i < at.to && t->pool[t->name[i].at + depth] == c)
			i++;
		t->next[n_next++] = (struct node){ from, i };
		wire_put_u8(&t->labels, c);
		set_bit(&t->bitmap, t->bit++, false);
	}
	set_bit(&t->bitmap, t->bit++, true);
	t->node++;
	return n_next;
}

static void
put_levels(struct trie *t, uint32_t n)
{
	size_t n_level = 1, n_next;

	t->level[0] = (struct node){ 0, n };
	for (uint32_t depth = 0; n_level > 0; depth++) {
		struct node *swap = t->level;

		n_next = 0;
		for (size_t i = 0; i < n_level; i++)
			n_next = put_node(t, t->level[i], depth, n_next);
		t->level = t->next;
		t->next = swap;
		n_level = n_next;
	}
}

int
mrs_write_domains(struct wire *out, const uint8_t *pool, const struct mrs_name *name, size_t n, uint32_t count)
{
	struct trie t = { .pool = pool, .name = name };
	struct wire w;
	int rc = -E_NOMEM;

	wire_init(&w);
	wire_init(&t.labels);
	t.level = calloc(n + 1, sizeof *t.level);
	t.next = calloc(n + 1, sizeof *t.next);
	if (t.level == NULL || t.next == NULL || n > UINT32_MAX)
		goto out;
	put_levels(&t, (uint32_t)n);
	put_head(&w, DOMAIN_BYTE, count);
	put_bits(&w, &t.leaves);
	put_bits(&w, &t.bitmap);
	put_be64(&w, t.labels.len);
	wire_put(&w, t.labels.p, t.labels.len);
	w.failed |= t.labels.failed;
	rc = pack(out, &w);
out:
	free(t.level);
	free(t.next);
	free(t.leaves.w);
	free(t.bitmap.w);
	wire_free(&t.labels);
	return rc;
}

/* ---- ranges */

static void
put_address(struct wire *w, const uint64_t a[static 2], bool v4)
{
	put_be64(w, a[0]);
	put_be64(w, v4 ? a[1] | (uint64_t)0xffff << 32 : a[1]);
}

int
mrs_write_ranges(struct wire *out, struct image_builder *b, uint32_t count)
{
	size_t n4, n6;
	const struct image_range6 *r4 = image_ranges(b, 4, &n4), *r6 = image_ranges(b, 6, &n6);
	struct wire w;

	wire_init(&w);
	put_head(&w, IPCIDR_BYTE, count);
	put_be64(&w, n4 + n6);
	for (size_t i = 0; i < n4 + n6; i++) {	/* IPv4 sorts before IPv6 */
		const struct image_range6 *r = i < n4 ? &r4[i] : &r6[i - n4];

		put_address(&w, r->from, i < n4);
		put_address(&w, r->to, i < n4);
	}
	return pack(out, &w);
}
