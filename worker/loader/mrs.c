/* SPDX-License-Identifier: MIT */
/* Compiled rule sets of the reference, spec/config.md 13.1: one zstd stream around a succinct trie of reversed names, or
 * sorted address ranges. All integers are big-endian. The trie's nodes are numbered breadth first, so one pass over its
 * bitmap tells each node's parent, and each name is read from its leaf up to the root, which gives it the right way
 * round. */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/config_tree.h"
#include "worker/loader/ruleset.h"

enum { HEADER = 21, WINDOW_LOG_MAX = 27, KEY_MAX = 1024 };

struct bytes {
	const uint8_t *p;
	size_t n;
};

static uint64_t
be64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

/* Unpacks all frames; the caller frees *out. */
static int
unpack(const struct ruleset_job *job, uint8_t **out, size_t *len)
{
	ZSTD_DCtx *ctx = ZSTD_createDCtx();
	ZSTD_inBuffer in = { job->p, job->n, 0 };
	size_t cap = job->n * 4 + 65536, r = 1;
	ZSTD_outBuffer o = { ctx != NULL ? malloc(cap) : NULL, cap, 0 };
	int rc = o.dst != NULL ? 0 : -E_NOMEM;

	if (ctx != NULL)
		(void)ZSTD_DCtx_setParameter(ctx, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	while (rc == 0) {
		r = ZSTD_decompressStream(ctx, &o, &in);
		if (ZSTD_isError(r)) {
			rc = -E_PROTO;
		} else if (o.pos == o.size) {
			void *p = o.size < MRS_BYTES_MAX ? realloc(o.dst, o.size * 2) : NULL;

			if (p == NULL) {
				rc = o.size < MRS_BYTES_MAX ? -E_NOMEM : -E_LIMIT;
			} else {
				o.dst = p;
				o.size *= 2;
			}
		} else if (in.pos == in.size) {
			break;
		}
	}
	if (rc == 0 && r != 0)
		rc = -E_PROTO;		/* cut off */
	ZSTD_freeDCtx(ctx);
	if (rc != 0) {
		free(o.dst);
		return rc;
	}
	*out = o.dst;
	*len = o.pos;
	return 0;
}

/* An int64 count of elements and their bytes. */
static int
take(struct bytes *in, size_t element, struct bytes *out, uint64_t *count)
{
	uint64_t n;

	if (in->n < 8)
		return -E_PROTO;
	n = be64(in->p);
	if (n < 1 || n > (in->n - 8) / element)
		return -E_PROTO;
	*out = (struct bytes){ in->p + 8, (size_t)n * element };
	*count = n;
	in->p += 8 + out->n;
	in->n -= 8 + out->n;
	return 0;
}

static bool
bit(const struct bytes *words, uint64_t words_n, uint64_t i)
{
	return i / 64 < words_n && (words->p[i / 64 * 8 + (7 - i % 64 / 8)] >> i % 8 & 1) != 0;
}

/* Reversed names were reversed by character: the bytes of one that has several are the wrong way round after climbing. */
static void
mend_utf8(char *s, size_t n)
{
	for (size_t i = 0, k; i < n; i = k + 1) {
		for (k = i; k < n && ((unsigned char)s[k] & 0xc0) == 0x80; k++)
			;
		for (size_t a = i, b = k; k < n && a < b; a++, b--) {
			char c = s[a];

			s[a] = s[b];
			s[b] = c;
		}
	}
}

/* Reads the name that ends at node; false when it is too long. */
static bool
climb(mrs_key_cb *cb, void *arg, const uint32_t *parent, const uint8_t *labels, uint32_t node)
{
	char key[KEY_MAX];
	size_t n = 0;

	for (; node != 0; node = parent[node]) {
		if (n == sizeof key)
			return false;
		key[n++] = (char)labels[node - 1];
	}
	mend_utf8(key, n);
	return n > 0 && cb(arg, key, n);
}

static int
read_domains(mrs_key_cb *cb, void *arg, struct bytes in)
{
	struct bytes leaves, bitmap, labels;
	uint64_t n_leaves, n_bitmap, n_labels, node = 0, edge = 0;
	uint32_t *parent;

	if (take(&in, 8, &leaves, &n_leaves) != 0 || take(&in, 8, &bitmap, &n_bitmap) != 0 ||
	    take(&in, 1, &labels, &n_labels) != 0 || n_labels >= UINT32_MAX)
		return -E_PROTO;
	parent = calloc(n_labels + 1, sizeof *parent);
	if (parent == NULL)
		return -E_NOMEM;
	for (uint64_t i = 0; i < n_bitmap * 64 && node <= n_labels; i++) {
		if (bit(&bitmap, n_bitmap, i)) {
			node++;
		} else if (edge < n_labels) {
			if (edge < node) {	/* a child before its parent: no tree */
				free(parent);
				return -E_PROTO;
			}
			parent[++edge] = (uint32_t)node;
		}
	}
	for (uint64_t i = 1; i <= edge; i++)
		if (bit(&leaves, n_leaves, i))
			(void)climb(cb, arg, parent, labels.p, (uint32_t)i);
	free(parent);
	return 0;
}

static int
read_ranges(struct image_builder *b, struct bytes in)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct bytes ranges;
	uint64_t n;

	if (take(&in, 32, &ranges, &n) != 0)
		return -E_PROTO;
	for (uint64_t i = 0; i < n; i++) {
		const uint8_t *from = ranges.p + i * 32, *to = from + 16;
		uint8_t from4[16] = { 0 }, to4[16] = { 0 };

		if (memcmp(from, to, 16) > 0)
			return -E_PROTO;
		if (memcmp(from, mapped, 12) == 0 && memcmp(to, mapped, 12) == 0) {
			memcpy(from4, from + 12, 4);
			memcpy(to4, to + 12, 4);
			image_add_range(b, 4, from4, to4);
		} else {
			image_add_range(b, 6, from, to);
		}
	}
	return 0;
}

/* Checks the head: the rest in *in, the number of entries in *count. */
static int
read_head(const struct ruleset_job *job, const uint8_t *p, size_t n, struct bytes *in, uint32_t *count, struct cfg_err *err)
{
	uint64_t extra, entries;

	if (n < HEADER || memcmp(p, "MRS\1", 4) != 0)
		return cfg_fail(err, NULL, NULL, "invalid MrsMagic bytes");
	if (p[4] != (job->kind == IMAGE_DOMAIN ? 0 : 1))
		return cfg_fail(err, NULL, NULL, "invalid behavior");
	entries = be64(p + 5);
	extra = be64(p + 13);
	if (extra > n - HEADER || n - HEADER - extra < 1)
		return cfg_fail(err, NULL, NULL, "length is invalid");
	*in = (struct bytes){ p + HEADER + extra, n - HEADER - (size_t)extra };
	if (in->p[0] != 1)
		return cfg_fail(err, NULL, NULL, "version is invalid");
	in->p++;
	in->n--;
	*count = entries > INT32_MAX ? INT32_MAX : (uint32_t)entries;
	return 0;
}

/* Names go to cb, ranges to b. */
static int
read_all(const struct ruleset_job *job, mrs_key_cb *cb, void *arg, struct image_builder *b, uint32_t *count, struct cfg_err *err)
{
	uint8_t *p = NULL;
	struct bytes in;
	size_t n = 0;
	int rc;

	if (job->kind != IMAGE_DOMAIN && job->kind != IMAGE_IPCIDR)
		return cfg_fail(err, NULL, NULL, "invalid format");
	rc = unpack(job, &p, &n);
	if (rc == 0)
		rc = read_head(job, p, n, &in, count, err);
	if (rc == 0)
		rc = job->kind == IMAGE_DOMAIN ? read_domains(cb, arg, in) : read_ranges(b, in);
	free(p);
	if (rc == -E_PROTO)
		(void)cfg_fail(err, NULL, NULL, "length is invalid");
	return rc;
}

static bool
add_key(void *arg, const char *key, size_t n)
{
	return image_add_key(arg, key, n);
}

int
mrs_read(struct image_builder *b, const struct ruleset_job *job, struct cfg_err *err)
{
	uint32_t count = 0;
	int rc = read_all(job, add_key, b, b, &count, err);

	if (rc == 0)
		image_count(b, count);
	return rc;
}

int
mrs_each(const struct ruleset_job *job, mrs_key_cb *cb, void *arg, uint32_t *count, struct cfg_err *err)
{
	return job->kind != IMAGE_DOMAIN ? -E_INVAL : read_all(job, cb, arg, NULL, count, err);
}
