/* SPDX-License-Identifier: MIT */
/* Searching compiled images. Called by the rules RULE-SET, GEOSITE, GEOIP and IP-ASN; owns the mapping of an open image,
 * nothing else. */
#include "worker/match/image.h"

#include <endian.h>
#include <string.h>
#include <sys/mman.h>

#include "common/err.h"
#include "common/memfd.h"

enum { LABELS_FAST = 16,	/* of a name that is searched the quick way */
       STATES_MAX = 256 };	/* ways through "*" labels that wait at once; a name with more of them is not found */

/* Every build sets local variables to zero; arrays that are written before they are read need not pay for that on each search. */
#define SCRATCH __attribute__((uninitialized))

/* ---- opening */

static bool
sorted4(const struct image_range4 *r, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		if (r[i].from > r[i].to || (i > 0 && r[i].from <= r[i - 1].to))
			return false;
	return true;
}

/* Indices and offsets that a search follows without looking. */
static bool
verify_inside(const struct image *im)
{
	const struct image_header *h = im->h;
	const struct image_span *p = h->part;
	const uint32_t *idx = im->part[IMAGE_IDX4], *at = im->part[IMAGE_WORD_AT];
	const char *words = im->part[IMAGE_WORDS], *lines = im->part[IMAGE_LINES];
	uint64_t n = p[IMAGE_IDX4].n;

	if (p[IMAGE_NAMES].n > 0 && (h->longest == 0 || h->longest > p[IMAGE_NAMES].n || p[IMAGE_FILTER].n == 0))
		return false;
	if (n > 0 && (h->idx4_shift < 8 || h->idx4_shift > 31 || n != ((uint64_t)1 << (32 - h->idx4_shift)) + 1))
		return false;
	for (uint64_t i = 0; i < n; i++)
		if (idx[i] > p[IMAGE_V4].n || (i > 0 && idx[i] < idx[i - 1]))
			return false;
	if ((p[IMAGE_WORDS].n > 0) != (p[IMAGE_WORD_AT].n > 0) || (p[IMAGE_WORDS].n > 0) != (p[IMAGE_GRAMS].n > 0))
		return false;
	if (p[IMAGE_WORDS].n > 0 && (words[p[IMAGE_WORDS].n - 1] != '\0' || h->gram < 1 || h->gram > IMAGE_GRAM_MAX ||
	    p[IMAGE_GRAMS].n > 1 << 20 || (p[IMAGE_GRAMS].n & (p[IMAGE_GRAMS].n - 1)) != 0))
		return false;
	for (uint64_t i = 0; i < p[IMAGE_WORD_AT].n; i++)
		if (at[i] >= p[IMAGE_WORDS].n)
			return false;
	if (p[IMAGE_LINES].n > 0 && lines[p[IMAGE_LINES].n - 1] != '\0')
		return false;
	return sorted4(im->part[IMAGE_V4], p[IMAGE_V4].n) && sorted4(im->part[IMAGE_SRC4], p[IMAGE_SRC4].n);
}

/* Finds the levels of the IPv6 tree; false when the file does not hold them. */
static bool
find_levels(struct image *im)
{
	const uint64_t *key = im->part[IMAGE_WIDE6];
	uint64_t left = im->h->part[IMAGE_TREE6].n;

	for (uint64_t n = im->h->part[IMAGE_WIDE6].n; n > 0; n = image_level(n)) {
		if (im->levels > 0) {
			key = im->levels == 1 ? im->part[IMAGE_TREE6] : key + im->level[im->levels - 1].n;
			if (n > left)
				return false;
			left -= n;
		}
		im->level[im->levels].key = key;
		im->level[im->levels++].n = n;
	}
	return left == 0;
}

int
image_from_memory(struct image *im, const void *p, size_t n)
{
	const struct image_header *h = p;
	struct image out = { .h = h, .size = n };

	if (n < sizeof *h || n > IMAGE_BYTES_MAX || memcmp(h->magic, IMAGE_MAGIC, sizeof h->magic) != 0 || h->size != n ||
	    h->kind == 0 || h->kind >= IMAGE_KINDS_)
		return -E_PROTO;
	for (int i = 0; i < IMAGE_PARTS_; i++) {
		struct image_span s = h->part[i];

		if (s.n == 0)
			continue;
		if (s.at < sizeof *h || s.at > n || s.at % 8 != 0 || s.n > (n - s.at) / image_element((enum image_part)i))
			return -E_PROTO;
		out.part[i] = (const uint8_t *)p + s.at;
	}
	if (!verify_inside(&out) || !find_levels(&out))
		return -E_PROTO;
	*im = out;
	return 0;
}

int
image_open(struct image *im, int fd)
{
	const void *p;
	size_t n;
	int rc = memfd_map(fd, &p, &n, IMAGE_BYTES_MAX);

	if (rc != 0)
		return rc;
	rc = image_from_memory(im, p, n);
	if (rc != 0 && p != NULL)
		munmap((void *)(uintptr_t)p, n);
	return rc;
}

void
image_close(struct image *im)
{
	if (im->h != NULL)
		munmap((void *)(uintptr_t)im->h, im->size);
	memset(im, 0, sizeof *im);
}

/* ---- names */

static inline unsigned
probe(const struct image *im, uint64_t hash)
{
	const struct image_bucket *table = im->part[IMAGE_NAMES];
	uint64_t n = im->h->part[IMAGE_NAMES].n, at = image_bucket_of(hash, n), mine = image_entry(hash);

	for (uint32_t i = 0; i < im->h->longest; i++) {
		const uint64_t *s = table[at].slot;
		uint64_t flags = 0;

		for (int k = 0; k < IMAGE_SLOTS; k++)	/* no branch: which slot it is cannot be foretold */
			flags |= (s[k] ^ mine) <= IMAGE_FLAGS ? s[k] & IMAGE_FLAGS : 0;
		if (flags != 0 || s[IMAGE_SLOTS - 1] == 0)	/* slots fill from the first on */
			return (unsigned)flags;
		at = at + 1 == n ? 0 : at + 1;
	}
	return 0;
}

/* Whether the filter has all bits of a hash; when not, the table does not have the hash. */
static inline bool
may_have(const uint64_t *filter, uint64_t words, uint64_t hash)
{
	uint64_t bits = image_filter_bits(hash);

	return (filter[image_filter_word(hash, words)] & bits) == bits;
}

/* Where the label that ends before end begins; eight bytes at once, so that its length need not be foretold. */
static inline size_t
label_start(const char *host, size_t end)
{
	const uint64_t low = 0x7f7f7f7f7f7f7f7f, dots = 0x2e2e2e2e2e2e2e2e;
	uint64_t x;

	for (; end >= 8; end -= 8) {
		memcpy(&x, host + end - 8, 8);
		x = le64toh(x) ^ dots;
		x = ~(((x & low) + low) | x | low);	/* the upper bit of each byte that was a dot */
		if (x != 0)
			return end - (size_t)__builtin_clzll(x) / 8;
	}
	while (end > 0 && host[end - 1] != '.')
		end--;
	return end;
}

struct state {
	uint64_t hash;
	size_t end;		/* of what is left in front, its dot not counted; SIZE_MAX: nothing */
};

/* Any name and set: a state for each way that is still open. */
static bool
search_any(const struct image *im, const char *host, size_t n)
{
	const uint64_t *filter = im->part[IMAGE_FILTER];
	uint64_t words = im->h->part[IMAGE_FILTER].n;
	struct state todo[STATES_MAX] SCRATCH;
	int count = 0;

	todo[count++] = (struct state){ im->h->key[0], n };
	while (count > 0) {
		struct state s = todo[--count];
		bool root = s.hash == im->h->key[0] && s.end == n;

		for (;; root = false) {
			unsigned flags = root ? im->h->root : may_have(filter, words, s.hash) ? probe(im, s.hash) : 0;
			size_t start;

			if (s.end == SIZE_MAX) {
				if ((flags & IMAGE_HERE) != 0)
					return true;
				break;
			}
			if ((flags & IMAGE_BELOW) != 0)
				return true;
			start = label_start(host, s.end);
			if (start == s.end)
				return false;
			if ((flags & IMAGE_STAR) != 0 && count < STATES_MAX)
				todo[count++] = (struct state){
					image_star(im->h->key, s.hash), start == 0 ? SIZE_MAX : start - 1
				};
			s.hash = image_label(im->h->key, s.hash, host + start, s.end - start);
			s.end = start == 0 ? SIZE_MAX : start - 1;
		}
	}
	return false;
}

/* Nearly every name: the filter is asked about all suffixes, and the table about those that it lets pass. What meets a "*",
 * and what has many labels, is left to search_any(). */
static bool
search(const struct image *im, const char *host, size_t n)
{
	const uint64_t *filter = im->part[IMAGE_FILTER];
	const struct image_bucket *table = im->part[IMAGE_NAMES];
	uint64_t hash[LABELS_FAST] SCRATCH, words = im->h->part[IMAGE_FILTER].n, h = im->h->key[0];
	uint32_t pass = 0;
	int labels = 0;

	for (size_t end = n, start;; end = start - 1) {
		start = label_start(host, end);
		if (start == end)
			return false;
		if (labels == LABELS_FAST)
			return search_any(im, host, n);
		h = image_label(im->h->key, h, host + start, end - start);
		pass |= (uint32_t)may_have(filter, words, h) << labels;
		__builtin_prefetch(&table[image_bucket_of(h, im->h->part[IMAGE_NAMES].n)]);
		hash[labels++] = h;
		if (start == 0)
			break;
	}
	if (im->h->root != 0)
		return search_any(im, host, n);
	for (; pass != 0; pass &= pass - 1) {
		int i = __builtin_ctz(pass);
		unsigned flags = probe(im, hash[i]);

		if ((flags & (i == labels - 1 ? IMAGE_HERE : IMAGE_BELOW)) != 0)
			return true;
		if ((flags & IMAGE_STAR) != 0)
			return search_any(im, host, n);
	}
	return false;
}

bool
image_has_name(const struct image *im, const char *host, size_t n)
{
	return im->part[IMAGE_NAMES] != NULL && n > 0 && n <= HOST_MAX && search(im, host, n);
}

/* Whether a keyword begins text, which has room for a gram. The words are sorted and none begins another, so only the
 * last that is not behind the text can. */
static bool
word_here(const struct image *im, const char *text, size_t left)
{
	const uint32_t *at = im->part[IMAGE_WORD_AT];
	const char *pool = im->part[IMAGE_WORDS], *w;
	uint64_t lo = 0, hi = im->h->part[IMAGE_WORD_AT].n;
	size_t len;

	while (lo < hi) {
		uint64_t mid = (lo + hi) / 2;

		if (strncmp(pool + at[mid], text, left) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return false;
	w = pool + at[lo - 1];
	len = strlen(w);
	return len <= left && memcmp(w, text, len) == 0;
}

bool
image_has_word(const struct image *im, const char *host, size_t n)
{
	const uint64_t *grams = im->part[IMAGE_GRAMS];
	uint32_t gram, bits;

	if (grams == NULL)
		return false;
	gram = im->h->gram;
	bits = (uint32_t)im->h->part[IMAGE_GRAMS].n * 64;
	for (size_t i = 0; i + gram <= n; i++) {
		uint32_t bit = image_gram(host + i, gram, bits);

		if ((grams[bit / 64] >> bit % 64 & 1) != 0 && word_here(im, host + i, n - i))
			return true;
	}
	return false;
}

/* ---- addresses */

static bool
search4(const struct image *im, enum image_part part, uint32_t v)
{
	const struct image_range4 *r = im->part[part];
	const uint32_t *idx = part == IMAGE_V4 ? im->part[IMAGE_IDX4] : NULL;
	uint64_t lo = 0, n = im->h->part[part].n;

	if (n == 0)
		return false;
	if (idx != NULL) {	/* the range that holds v begins in its bucket, or is the last before it */
		uint32_t k = v >> im->h->idx4_shift;

		lo = idx[k] > 0 ? idx[k] - 1 : 0;
		n = idx[k + 1] - lo;
		if (n == 0)
			return false;
	}
	while (n > 1) {		/* branch-free: the last with from <= v */
		uint64_t h = n / 2;

		lo += r[lo + h].from <= v ? h : 0;
		n -= h;
	}
	return r[lo].from <= v && v <= r[lo].to;
}

static inline bool
not_after(const uint64_t a[2], const uint64_t b[2])
{
	return (a[0] < b[0]) | ((a[0] == b[0]) & (a[1] <= b[1]));
}

/* How many of a block but for the first are not behind v; written out, so that they are counted side by side. */
static inline uint64_t
behind(const uint64_t b[static IMAGE_FAN], uint64_t v)
{
	_Static_assert(IMAGE_FAN == 8, "seven besides the first");
	return (uint64_t)(((b[1] <= v) + (b[2] <= v)) + ((b[3] <= v) + (b[4] <= v)) + ((b[5] <= v) + (b[6] <= v)) + (b[7] <= v));
}

/* Goes down to the last number that is not behind v: only that prefix can hold it. */
static bool
search_wide(const struct image *im, uint64_t v)
{
	uint64_t at = 0, key;

	if (im->levels == 0)
		return false;
	v |= ((uint64_t)1 << (64 - IMAGE_WIDE_BITS)) - 1;
	for (int l = im->levels - 1; l >= 0; l--) {
		const uint64_t *block = im->level[l].key + at * IMAGE_FAN;
		uint64_t left = im->level[l].n - at * IMAGE_FAN;

		at *= IMAGE_FAN;
		if (left >= IMAGE_FAN)
			at += behind(block, v);
		else
			for (uint64_t i = 1; i < left; i++)
				at += block[i] <= v;
	}
	key = im->level[0].key[at];
	return (v ^ key) >> 1 >> (63 - (key & 63)) == 0;
}

static bool
search6(const struct image *im, enum image_part part, const uint64_t v[2])
{
	const struct image_range6 *r = im->part[part];
	uint64_t lo = 0, n = im->h->part[part].n;

	if (n == 0)
		return false;
	while (n > 1) {
		uint64_t h = n / 2;

		lo += not_after(r[lo + h].from, v) ? h : 0;
		n -= h;
	}
	return not_after(r[lo].from, v) && not_after(v, r[lo].to);
}

static void
read_ip(uint64_t v[static 2], const struct ip *ip)
{
	memcpy(v, ip->b, sizeof ip->b);
	v[0] = __builtin_bswap64(v[0]);
	v[1] = __builtin_bswap64(v[1]);
}

bool
image_has_ip(const struct image *im, const struct ip *ip)
{
	uint64_t v[2];

	if (im->h == NULL || ip->family == 0)
		return false;
	read_ip(v, ip);
	if (ip->family == 4)
		return search4(im, IMAGE_V4, (uint32_t)(v[0] >> 32));
	return search_wide(im, v[0]) || search6(im, IMAGE_V6, v);
}

bool
image_has_src(const struct image *im, const struct ip *ip)
{
	uint64_t v[2];

	if (im->h == NULL || ip->family == 0)
		return false;
	read_ip(v, ip);
	return ip->family == 4 ? search4(im, IMAGE_SRC4, (uint32_t)(v[0] >> 32)) : search6(im, IMAGE_SRC6, v);
}

const char *
image_next_line(const struct image *im, const char *line)
{
	const char *base = im->part[IMAGE_LINES];

	if (base == NULL)
		return NULL;
	if (line == NULL)
		return base;
	line += strlen(line) + 1;
	return line < base + im->h->part[IMAGE_LINES].n ? line : NULL;
}
