/* SPDX-License-Identifier: MIT */
/* Compiled rule data: what the loader makes of a rule provider, a geosite list or a country, and every worker maps. One
 * position-independent, read-only file in a sealed memfd, in the machine's own byte order (it never leaves it): a
 * header, then parts that the header names by offset. worker/loader/image.c builds it, worker/match/image.c verifies and
 * searches it.
 *
 * Names are kept as a table of keyed 64-bit hashes, not as a trie: measured with 500,000 names it takes 12 bytes a name
 * and one or two cache lines a search, where a byte-wise succinct trie takes two bytes a character and a dependent read a
 * character. A name that is not in the set passes for one with a chance of entries / 2^64 a label; the key is drawn anew
 * for each image and leaves neither the loader nor the workers, so nobody can look for such a name.
 *
 * The hash of a name is taken label by label from the right, so one pass over a host gives the hash of each of its
 * suffixes. An entry is the hash's upper bits and flags: IMAGE_HERE the name itself is in the set, IMAGE_BELOW every
 * name below it, IMAGE_STAR a pattern goes on with "*" there; a "*" label has a step of its own. Entries lie in buckets
 * of one cache line; a full one continues in the next. In front stands a filter of 10 bits a name, small enough for the
 * caches of one core: a word is chosen by the hash's upper bits, four bits in it by the lower. It lets 1 in 40 of the
 * suffixes pass that are not in the set, so the table is touched where there is something to find.
 *
 * IPv6 prefixes of up to IMAGE_WIDE_BITS bits, which is nearly all there are, are a sorted array of numbers (the bits, and
 * the length in the low six), with a tree above it: each level holds every IMAGE_FAN'th number of the one below. The shape
 * follows from the count alone, so no content can lead a search astray. What is longer is kept as ranges. */
#ifndef SLUICE_COMMON_IMAGE_H
#define SLUICE_COMMON_IMAGE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define IMAGE_MAGIC "SLUICE\x1a\2"

/* PROXIES: nothing of this, but a tree of common/config_tree.h (worker/loader/provider_proxy.h) */
enum image_kind { IMAGE_DOMAIN = 1, IMAGE_IPCIDR, IMAGE_CLASSICAL, IMAGE_GEOSITE, IMAGE_GEOIP, IMAGE_ASN, IMAGE_PROXIES, IMAGE_KINDS_ };
/* INLINE: in the configuration tree */
enum image_format { FORMAT_YAML = 1, FORMAT_TEXT, FORMAT_MRS, FORMAT_INLINE, FORMAT_DAT, FORMAT_MMDB, FORMAT_KINDS_ };
enum image_part {
	IMAGE_NAMES, /* image_bucket[] */
	IMAGE_FILTER, /* u64[]: in front of it; empty only when it is */
	IMAGE_V4,
	IMAGE_V6, /* image_range4[], image_range6[]: sorted by from, apart from each other; of IPv6 what IMAGE_WIDE6 cannot hold */
	IMAGE_SRC4,
	IMAGE_SRC6, /* all of the source addresses */
	IMAGE_WIDE6, /* u64[]: IPv6 prefixes of up to IMAGE_WIDE_BITS bits, apart from each other, sorted */
	IMAGE_TREE6, /* u64[]: the levels above it, the one next to it first; image_level() gives their sizes */
	IMAGE_IDX4, /* u32[2^bits + 1]: where in IMAGE_V4 the ranges of each value of the upper bits begin; empty for few */
	IMAGE_WORDS, /* keywords: NUL-terminated texts, sorted, none the beginning of another */
	IMAGE_WORD_AT, /* u32[]: where each begins */
	IMAGE_GRAMS, /* u64[2^k]: a bit for each hash of the first `gram` bytes of a keyword */
	IMAGE_LINES, /* rules that are tried one by one: "TYPE,payload[,param]" NUL-terminated texts */
	IMAGE_PARTS_
};
enum { IMAGE_HERE = 1, IMAGE_BELOW = 2, IMAGE_STAR = 4, IMAGE_FLAGS = 15 };
enum { IMAGE_WANTS_IP = 1 };	/* header flags: an address rule without no-resolve is in it */
enum { IMAGE_SLOTS = 8, IMAGE_FILTER_BITS = 10, IMAGE_WIDE_BITS = 58, IMAGE_FAN = 8,
    IMAGE_LEVELS_MAX = 9, /* of the IPv6 tree: IMAGE_FAN to its power is more than a file can hold */ IMAGE_GRAM_MAX = 3 };
#define IMAGE_BYTES_MAX ((size_t)256 << 20)

struct image_span { uint64_t at, n; };	/* offset in the file, number of elements */
struct image_header {
	uint8_t magic[8];
	uint64_t size;			/* of the whole file */
	uint32_t kind, flags;
	uint32_t count;			/* entries of the source, as the API shows them; without those of IMAGE_LINES */
	uint32_t root;			/* flags of the empty name: IMAGE_STAR only */
	uint32_t reserved;
	uint32_t longest;		/* buckets that a search looks at before it gives up */
	uint32_t idx4_shift;		/* address >> this = index into IMAGE_IDX4 */
	uint32_t gram;			/* 1 .. IMAGE_GRAM_MAX when there are keywords */
	uint64_t key[2];
	struct image_span part[IMAGE_PARTS_];
};
struct image_bucket { uint64_t slot[IMAGE_SLOTS]; };	/* 0 = free */
struct image_range4 { uint32_t from, to; };		/* inclusive, as numbers */
struct image_range6 { uint64_t from[2], to[2]; };	/* upper half first */

/* Size of an element of each part. */
static inline size_t
image_element(enum image_part part)
{
	switch (part) {
	case IMAGE_NAMES:
		return sizeof(struct image_bucket);
	case IMAGE_V4:
	case IMAGE_SRC4:
		return sizeof(struct image_range4);
	case IMAGE_V6:
	case IMAGE_SRC6:
		return sizeof(struct image_range6);
	case IMAGE_IDX4:
	case IMAGE_WORD_AT:
		return sizeof(uint32_t);
	case IMAGE_FILTER:
	case IMAGE_WIDE6:
	case IMAGE_TREE6:
	case IMAGE_GRAMS:
		return sizeof(uint64_t);
	default:
		return 1;
	}
}

/* A 64 x 64 bit product folded to 64 bits. */
static inline uint64_t
image_fold(uint64_t a, uint64_t b)
{
	unsigned __int128 p = (unsigned __int128)a * b;

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* The hash of a name that gets one more label in front; the empty name's is key[0]. */
static inline uint64_t
image_label(const uint64_t key[static 2], uint64_t h, const char *p, size_t n)
{
	uint64_t v = 0, len = (uint64_t)n << 56 | 1;
	uint32_t lo, hi;

	for (; n > 8; n -= 8, p += 8) {
		memcpy(&v, p, 8);
		h = image_fold(h ^ v, key[1]);
	}
	if (n >= 4) {
		memcpy(&lo, p, 4);
		memcpy(&hi, p + n - 4, 4);
		v = (uint64_t)hi << 32 | lo;
	} else {
		v = n == 0 ? 0 : (uint64_t)(uint8_t)p[0] | (uint64_t)(uint8_t)p[n >> 1] << 8 | (uint64_t)(uint8_t)p[n - 1] << 16;
	}
	return image_fold(h ^ v ^ 0x9e3779b97f4a7c15, key[1] ^ len);
}

static inline uint64_t
image_star(const uint64_t key[static 2], uint64_t h)
{
	return image_fold(h ^ 0xd1b54a32d192ed03, key[1] ^ 0xff00000000000000);
}

/* Where the entry of a hash belongs, and how it looks there without its flags. */
static inline uint64_t
image_bucket_of(uint64_t h, uint64_t n_buckets)
{
	return (uint64_t)((unsigned __int128)h * n_buckets >> 64);
}

static inline uint64_t
image_entry(uint64_t h)
{
	return h << 4;		/* the upper bits are those that choose the bucket */
}

/* Where a hash belongs in the filter, and the bits that stand there for it. */
static inline uint64_t
image_filter_word(uint64_t h, uint64_t n_words)
{
	return image_bucket_of(h, n_words);
}

static inline uint64_t
image_filter_bits(uint64_t h)
{
	return 1ULL << (h & 63) | 1ULL << (h >> 6 & 63) | 1ULL << (h >> 12 & 63) | 1ULL << (h >> 18 & 63);
}

/* How many numbers the level above n of them has: 0, n is the top. */
static inline uint64_t
image_level(uint64_t n)
{
	return n <= IMAGE_FAN ? 0 : (n + IMAGE_FAN - 1) / IMAGE_FAN;
}

/* The bit of a keyword's first bytes among bits (a power of two). */
static inline uint32_t
image_gram(const char *p, uint32_t gram, uint32_t bits)
{
	uint32_t v = (uint8_t)p[0];

	if (gram > 1)
		v |= (uint32_t)(uint8_t)p[1] << 8;
	if (gram > 2)
		v |= (uint32_t)(uint8_t)p[2] << 16;
	return (v * 0x9e3779b1u) >> 8 & (bits - 1);
}

#endif
