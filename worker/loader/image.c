/* SPDX-License-Identifier: MIT */
/* The builder of compiled images. What is added is kept as hashes, ranges and texts; image_finish() sorts, merges and
 * lays them out. A failure to get memory is remembered and told at the end. */
#include "worker/loader/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/memfd.h"
#include "common/strutil.h"

enum {
	LOAD_OF_8 = 12,		/* of 16: names a bucket of 8 holds on average, doubled */
	IDX_RANGES_MIN = 64,
	IDX_BITS_MAX = 16,
	GRAM_BITS_MIN = 512,
	GRAM_BITS_MAX = 1 << 20
};

struct vec {
	uint8_t *p;
	size_t n, cap, size;		/* elements; bytes of one */
};
struct name { uint64_t hash; uint64_t flags; };
struct range { uint64_t from[2], to[2]; };	/* IPv4 in the lower half */
_Static_assert(sizeof(struct range) == sizeof(struct image_range6), "the same struct");

struct image_builder {
	struct image_header h;
	bool failed, over;
	struct vec names, r4[2], r6[2];	/* [1]: source */
	struct vec wide6, rest6;	/* what r6[0] is split into */
	struct vec words, word_at, lines;
};

struct image_builder *
image_begin(enum image_kind kind)
{
	struct image_builder *b = calloc(1, sizeof *b);

	if (b == NULL)
		return NULL;
	memcpy(b->h.magic, IMAGE_MAGIC, sizeof b->h.magic);
	b->h.kind = kind;
	rand_secret(b->h.key, sizeof b->h.key);
	b->h.key[1] |= 1;
	b->names.size = sizeof(struct name);
	b->r4[0].size = b->r4[1].size = b->r6[0].size = b->r6[1].size = b->rest6.size = sizeof(struct range);
	b->wide6.size = sizeof(uint64_t);
	b->word_at.size = sizeof(uint32_t);
	b->words.size = b->lines.size = 1;
	return b;
}

void
image_abandon(struct image_builder *b)
{
	if (b == NULL)
		return;
	struct vec *all[] = { &b->names, &b->r4[0], &b->r4[1], &b->r6[0], &b->r6[1], &b->wide6, &b->rest6, &b->words,
		&b->word_at, &b->lines };

	for (size_t i = 0; i < countof(all); i++)
		free(all[i]->p);
	free(b);
}

static void
push(struct image_builder *b, struct vec *v, const void *p, size_t n)
{
	if (v->n + n > (v->size == 1 ? IMAGE_BYTES_MAX : (size_t)IMAGE_ENTRIES_MAX)) {
		b->over = true;
		return;
	}
	if (v->n + n > v->cap) {
		size_t cap = v->cap < 64 ? 64 : v->cap * 2;
		uint8_t *q;

		while (cap < v->n + n)
			cap *= 2;
		q = realloc(v->p, cap * v->size);
		if (q == NULL) {
			b->failed = true;
			return;
		}
		v->p = q;
		v->cap = cap;
	}
	memcpy(v->p + v->n * v->size, p, n * v->size);
	v->n += n;
}

/* What has gone wrong so far. */
static int
trouble(const struct image_builder *b)
{
	return b->failed ? -E_NOMEM : b->over ? -E_LIMIT : 0;
}

/* ---- names */

static void
add_entry(struct image_builder *b, uint64_t hash, unsigned flags)
{
	struct name e = { hash, flags };

	push(b, &b->names, &e, 1);
}

/* Takes the labels of s from the right; stars says whether "*" is any label. False on an empty label or what cannot be kept. */
static bool
add_labels(struct image_builder *b, const char *s, size_t n, unsigned flags, bool stars)
{
	uint64_t h = b->h.key[0];
	size_t end = n, start;
	bool root = true;

	for (;; end = start - 1, root = false) {
		start = end;
		while (start > 0 && s[start - 1] != '.')
			start--;
		if (start == end)
			return false;
		if (end - start == 1 && s[start] == '*') {
			if (!stars)
				return false;
			if (root)
				b->h.root |= IMAGE_STAR;
			else
				add_entry(b, h, IMAGE_STAR);
			h = image_star(b->h.key, h);
		} else {
			h = image_label(b->h.key, h, s + start, end - start);
		}
		if (start == 0)
			break;
	}
	add_entry(b, h, flags);
	return true;
}

/* Copies in lower case; false when it is too long. */
static bool
lower(char *out, const char *s, size_t n)
{
	if (n == 0 || n >= IMAGE_PATTERN_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		out[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] - 'A' + 'a' : s[i]);
	out[n] = '\0';
	return true;
}

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
labels_valid(const char *s, size_t n)
{
	if (n == 0 || s[0] == '.' || s[n - 1] == '.')
		return false;
	return strstr(s, "..") == NULL;
}

bool
image_read_pattern(const char *s, size_t n, char p[static IMAGE_PATTERN_MAX], const char **name, unsigned *flags)
{
	if (!lower(p, s, n) || is_space(p[0]) || is_space(p[n - 1]) || memchr(p, '/', n) != NULL || memchr(p, '\0', n) != NULL)
		return false;
	*name = p;
	*flags = IMAGE_HERE;
	if (n == 1 && p[0] == '+') {
		*flags = 0;
		return true;
	}
	if (n > 2 && p[0] == '+' && p[1] == '.') {
		*flags = IMAGE_HERE | IMAGE_BELOW;
		*name += 2;
	} else if (p[0] == '.') {
		*flags = IMAGE_BELOW;
		*name += 1;
	}
	return labels_valid(*name, n - (size_t)(*name - p));
}

bool
image_add_pattern(struct image_builder *b, const char *s, size_t n)
{
	char p[IMAGE_PATTERN_MAX];
	const char *name;
	unsigned flags;

	if (!image_read_pattern(s, n, p, &name, &flags))
		return false;
	return flags == 0 || add_labels(b, name, strlen(name), flags, true);
}

bool
image_add_key(struct image_builder *b, const char *s, size_t n)
{
	bool below = n > 2 && s[0] == '+' && s[1] == '.';
	char p[IMAGE_PATTERN_MAX];

	if (!lower(p, s, n))
		return false;
	if (n == 1 && p[0] == '+')
		return true;
	return below ? add_labels(b, p + 2, n - 2, IMAGE_BELOW, true) : add_labels(b, p, n, IMAGE_HERE, true);
}

bool
image_add_name(struct image_builder *b, const char *s, size_t n, unsigned flags)
{
	char p[IMAGE_PATTERN_MAX];

	return n <= HOST_MAX && lower(p, s, n) && labels_valid(p, n) && add_labels(b, p, n, flags, false);
}

/* ---- the rest of what is added */

static uint64_t
half(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

static void
add_range(struct image_builder *b, uint8_t family, const uint8_t *from, const uint8_t *to, bool src)
{
	struct range r = { 0 };

	if (family == 4) {
		r.from[1] = half(from) >> 32;
		r.to[1] = half(to) >> 32;
	} else {
		r = (struct range){ { half(from), half(from + 8) }, { half(to), half(to + 8) } };
	}
	push(b, family == 4 ? &b->r4[src] : &b->r6[src], &r, 1);
}

void
image_add_range(struct image_builder *b, uint8_t family, const uint8_t from[static 16], const uint8_t to[static 16])
{
	add_range(b, family, from, to, false);
}

void
image_add_prefix(struct image_builder *b, const struct prefix *p, bool src)
{
	uint8_t from[16], to[16];
	unsigned width = p->ip.family == 4 ? 4 : 16;

	memcpy(from, p->ip.b, 16);
	memcpy(to, p->ip.b, 16);
	for (unsigned i = 0; i < width; i++) {
		unsigned fixed = p->bits > 8 * i ? p->bits - 8 * i : 0;
		uint8_t host = (uint8_t)(fixed >= 8 ? 0 : 0xff >> fixed);

		from[i] &= (uint8_t)~host;
		to[i] |= host;
	}
	add_range(b, p->ip.family, from, to, src);
}

void
image_add_word(struct image_builder *b, const char *s, size_t n)
{
	uint32_t at = (uint32_t)b->words.n;

	push(b, &b->word_at, &at, 1);
	push(b, &b->words, s, n);
	push(b, &b->words, "", 1);
}

void
image_add_line(struct image_builder *b, const char *s, size_t n)
{
	push(b, &b->lines, s, n);
	push(b, &b->lines, "", 1);
}

void
image_count(struct image_builder *b, uint32_t n)
{
	b->h.count += n;
}

uint32_t
image_counted(const struct image_builder *b)
{
	return b->h.count;
}

bool
image_empty(const struct image_builder *b)
{
	return b->h.count == 0 && b->lines.n == 0;
}

void
image_set_flags(struct image_builder *b, uint32_t flags)
{
	b->h.flags |= flags;
}

/* ---- the file */

struct out {
	int fd;
	uint64_t at;
	int rc;
};

static void
put(struct out *o, const void *p, size_t n)
{
	const uint8_t *s = p;

	while (o->rc == 0 && n > 0) {
		ssize_t r = write(o->fd, s, n);

		if (r == -1 && errno == EINTR)
			continue;
		if (r <= 0) {
			o->rc = -E_SYS;
			return;
		}
		s += r;
		n -= (size_t)r;
		o->at += (uint64_t)r;
	}
}

static void
put_part(struct out *o, struct image_builder *b, enum image_part part, const void *p, size_t n)
{
	static const uint8_t zero[64];
	size_t align = part == IMAGE_NAMES ? 64 : 8;

	if (n == 0)
		return;
	put(o, zero, (align - o->at % align) % align);
	b->h.part[part] = (struct image_span){ o->at, n };
	put(o, p, n * image_element(part));
}

/* Puts every entry into the table; the number of distinct ones. */
static size_t
fill(struct image_builder *b, struct image_bucket *table, uint64_t n)
{
	const struct name *e = (const struct name *)(const void *)b->names.p;
	size_t distinct = 0;

	b->h.longest = 0;
	for (size_t i = 0; i < b->names.n; i++) {
		uint64_t at = image_bucket_of(e[i].hash, n), mine = image_entry(e[i].hash);
		uint32_t looked = 1;
		bool done = false;

		for (; !done; at = at + 1 == n ? 0 : at + 1, looked++)
			for (int k = 0; k < IMAGE_SLOTS && !done; k++) {
				uint64_t *slot = &table[at].slot[k];

				if (*slot == 0 || (*slot & ~(uint64_t)IMAGE_FLAGS) == mine) {
					distinct += *slot == 0;
					*slot = mine | (*slot & IMAGE_FLAGS) | e[i].flags;
					done = true;
				}
			}
		if (looked - 1 > b->h.longest)
			b->h.longest = looked - 1;
	}
	return distinct;
}

static void
put_filter(struct out *o, struct image_builder *b, size_t names)
{
	const struct name *e = (const struct name *)(const void *)b->names.p;
	uint64_t n = names * IMAGE_FILTER_BITS / 64 + 1, *word = calloc(n, sizeof *word);

	if (word == NULL) {
		o->rc = -E_NOMEM;
		return;
	}
	for (size_t i = 0; i < b->names.n; i++)
		word[image_filter_word(e[i].hash, n)] |= image_filter_bits(e[i].hash);
	put_part(o, b, IMAGE_FILTER, word, n);
	free(word);
}

static uint64_t
buckets_for(size_t names)
{
	return names * 2 / LOAD_OF_8 + 1;
}

static void
put_names(struct out *o, struct image_builder *b)
{
	uint64_t n = buckets_for(b->names.n), fit;
	struct image_bucket *table;
	size_t names;

	if (b->names.n == 0)
		return;
	for (int round = 0;; round++) {
		table = aligned_alloc(64, n * sizeof *table);
		if (table == NULL) {
			o->rc = -E_NOMEM;
			return;
		}
		memset(table, 0, n * sizeof *table);
		names = fill(b, table, n);
		fit = buckets_for(names);
		if (round > 0 || fit * 8 > n * 7)
			break;
		free(table);		/* many were the same: a smaller one */
		n = fit;
	}
	put_part(o, b, IMAGE_NAMES, table, n);
	free(table);
	put_filter(o, b, names);
}

static int
compare_ranges(const void *pa, const void *pb)
{
	const struct range *a = pa, *b = pb;

	if (a->from[0] != b->from[0])
		return a->from[0] < b->from[0] ? -1 : 1;
	return a->from[1] < b->from[1] ? -1 : a->from[1] > b->from[1];
}

/* Whether b begins inside a or right behind it. */
static bool
touches(const struct range *a, const struct range *b)
{
	uint64_t hi = a->to[0], lo = a->to[1] + 1;

	if (lo == 0 && ++hi == 0)
		return true;
	return b->from[0] < hi || (b->from[0] == hi && b->from[1] <= lo);
}

/* Sorts, and joins what overlaps or touches. */
static size_t
merge(struct vec *v)
{
	struct range *r = (struct range *)(void *)v->p;
	size_t n = 0;

	if (v->n == 0)
		return 0;
	qsort(r, v->n, sizeof *r, compare_ranges);
	for (size_t i = 1; i < v->n; i++) {
		if (!touches(&r[n], &r[i]))
			r[++n] = r[i];
		else if (r[i].to[0] > r[n].to[0] || (r[i].to[0] == r[n].to[0] && r[i].to[1] > r[n].to[1]))
			memcpy(r[n].to, r[i].to, sizeof r[n].to);
	}
	return v->n = n + 1;
}

const struct image_range6 *
image_ranges(struct image_builder *b, uint8_t family, size_t *n)
{
	struct vec *v = family == 4 ? &b->r4[0] : &b->r6[0];

	*n = merge(v);
	return (const struct image_range6 *)(const void *)v->p;
}

static void
put_index(struct out *o, struct image_builder *b, const struct image_range4 *r, size_t n)
{
	unsigned bits = 1;
	uint32_t *idx;
	size_t i = 0;

	while (bits < IDX_BITS_MAX && (size_t)4 << bits < n)
		bits++;
	idx = calloc(((size_t)1 << bits) + 1, sizeof *idx);
	if (idx == NULL) {
		o->rc = -E_NOMEM;
		return;
	}
	b->h.idx4_shift = 32 - bits;
	for (size_t k = 0; k <= (size_t)1 << bits; k++) {
		while (i < n && (uint64_t)r[i].from >> b->h.idx4_shift < k)
			i++;
		idx[k] = (uint32_t)i;
	}
	put_part(o, b, IMAGE_IDX4, idx, ((size_t)1 << bits) + 1);
	free(idx);
}

/* Takes the prefixes of up to IMAGE_WIDE_BITS bits out of a range; before and behind them may be something left. */
static void
split(struct image_builder *b, const struct range *r)
{
	enum { BELOW = 64 - IMAGE_WIDE_BITS };
	const uint64_t low = (1 << BELOW) - 1;
	uint64_t first = r->from[0] >> BELOW, last = r->to[0] >> BELOW;
	bool head = r->from[1] != 0 || (r->from[0] & low) != 0, tail = r->to[1] != UINT64_MAX || (r->to[0] & low) != low;
	uint64_t at = first + head, end = last + !tail;

	if (at >= end && first == last) {
		push(b, &b->rest6, r, 1);
		return;
	}
	if (head)
		push(b, &b->rest6, &(struct range){ { r->from[0], r->from[1] }, { first << BELOW | low, UINT64_MAX } }, 1);
	while (at < end) {
		int bits = 63 - __builtin_clzll(end - at);
		uint64_t wide;

		if (at != 0 && __builtin_ctzll(at) < bits)
			bits = __builtin_ctzll(at);
		wide = at << BELOW | (uint64_t)(IMAGE_WIDE_BITS - bits);
		push(b, &b->wide6, &wide, 1);
		at += (uint64_t)1 << bits;
	}
	if (tail)
		push(b, &b->rest6, &(struct range){ { last << BELOW, 0 }, { r->to[0], r->to[1] } }, 1);
}

static void
put_ranges6(struct out *o, struct image_builder *b, size_t n)
{
	const struct range *r = (const struct range *)(const void *)b->r6[0].p;
	uint64_t *tree, *key;
	size_t at = 0;

	for (size_t i = 0; i < n; i++)
		split(b, &r[i]);
	if (o->rc == 0)
		o->rc = trouble(b);
	put_part(o, b, IMAGE_V6, b->rest6.p, b->rest6.n);
	put_part(o, b, IMAGE_WIDE6, b->wide6.p, b->wide6.n);
	tree = calloc(b->wide6.n / (IMAGE_FAN - 1) + IMAGE_LEVELS_MAX, sizeof *tree);
	if (tree == NULL) {
		o->rc = -E_NOMEM;
		return;
	}
	key = (uint64_t *)(void *)b->wide6.p;
	for (uint64_t level = image_level(b->wide6.n); level > 0; level = image_level(level)) {
		for (uint64_t i = 0; i < level; i++)
			tree[at + i] = key[i * IMAGE_FAN];
		key = &tree[at];
		at += level;
	}
	put_part(o, b, IMAGE_TREE6, tree, at);
	free(tree);
}

static void
put_ranges(struct out *o, struct image_builder *b, bool src)
{
	size_t n4 = merge(&b->r4[src]), n6 = merge(&b->r6[src]);
	const struct range *r = (const struct range *)(const void *)b->r4[src].p;
	struct image_range4 *out = calloc(n4 + 1, sizeof *out);

	if (out == NULL) {
		o->rc = -E_NOMEM;
		return;
	}
	for (size_t i = 0; i < n4; i++)
		out[i] = (struct image_range4){ (uint32_t)r[i].from[1], (uint32_t)r[i].to[1] };
	put_part(o, b, src ? IMAGE_SRC4 : IMAGE_V4, out, n4);
	if (!src && n4 >= IDX_RANGES_MIN)
		put_index(o, b, out, n4);
	free(out);
	if (src)
		put_part(o, b, IMAGE_SRC6, b->r6[src].p, n6);
	else
		put_ranges6(o, b, n6);
}

static int
compare_words(const void *pa, const void *pb, void *pool)
{
	return strcmp((const char *)pool + *(const uint32_t *)pa, (const char *)pool + *(const uint32_t *)pb);
}

/* Drops each word that another one begins: where the longer stands the shorter does too. */
static size_t
unique_words(struct image_builder *b, uint32_t *at, const char *pool)
{
	size_t n = 0;

	qsort_r(at, b->word_at.n, sizeof *at, compare_words, b->words.p);
	for (size_t i = 1; i < b->word_at.n; i++)
		if (!str_starts(pool + at[i], pool + at[n]))
			at[++n] = at[i];
	return n + 1;
}

static void
put_words(struct out *o, struct image_builder *b)
{
	uint32_t *at = (uint32_t *)(void *)b->word_at.p, bits = GRAM_BITS_MIN, end = 0;
	const char *pool = (const char *)b->words.p;
	uint64_t *grams;
	char *sorted;
	size_t n;

	if (b->word_at.n == 0 || o->rc != 0)
		return;
	n = unique_words(b, at, pool);
	while (bits < n * 16 && bits < GRAM_BITS_MAX)
		bits *= 2;
	grams = calloc(bits / 64, sizeof *grams);
	sorted = malloc(b->words.n);
	if (grams == NULL || sorted == NULL) {
		o->rc = -E_NOMEM;
		goto out;
	}
	b->h.gram = IMAGE_GRAM_MAX;
	for (size_t i = 0; i < n; i++)
		if (strlen(pool + at[i]) < b->h.gram)
			b->h.gram = (uint32_t)strlen(pool + at[i]);
	for (size_t i = 0; i < n; i++) {
		uint32_t bit = image_gram(pool + at[i], b->h.gram, bits), len = (uint32_t)strlen(pool + at[i]) + 1;

		grams[bit / 64] |= 1ULL << bit % 64;
		memcpy(sorted + end, pool + at[i], len);
		at[i] = end;
		end += len;
	}
	put_part(o, b, IMAGE_WORDS, sorted, end);
	put_part(o, b, IMAGE_WORD_AT, at, n);
	put_part(o, b, IMAGE_GRAMS, grams, bits / 64);
out:
	free(grams);
	free(sorted);
}

static int
put_header(struct out *o, struct image_builder *b)
{
	b->h.size = o->at;
	if (o->rc == 0 && pwrite(o->fd, &b->h, sizeof b->h, 0) != (ssize_t)sizeof b->h)
		o->rc = -E_SYS;
	if (o->rc == 0)
		o->rc = memfd_seal(o->fd);
	return o->rc;
}

int
image_finish(struct image_builder *b, int *fd)
{
	struct out o = { .fd = memfd_open("image") };
	int rc;

	o.rc = o.fd < 0 ? o.fd : trouble(b);
	put(&o, &b->h, sizeof b->h);
	put_names(&o, b);
	put_ranges(&o, b, false);
	put_ranges(&o, b, true);
	put_words(&o, b);
	put_part(&o, b, IMAGE_LINES, b->lines.p, b->lines.n);
	rc = put_header(&o, b);
	if (rc == 0)
		*fd = o.fd;
	else if (o.fd >= 0)
		close(o.fd);
	image_abandon(b);
	return rc;
}
