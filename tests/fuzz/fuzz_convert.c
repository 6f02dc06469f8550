/* SPDX-License-Identifier: MIT */
/* Rule sets from one format to another. Whatever the input, what comes out of it is read again: the same number of domains, or
 * rules, and converting once more changes nothing. The first three bytes choose kind and formats. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "common/log.h"
#include "common/memfd.h"
#include "worker/loader/convert.h"

enum { OUT_MAX = 64 << 20 };

static int
convert(struct ruleset_job *job, uint32_t to, const void **out, size_t *n, uint32_t *count)
{
	struct cfg_err err = { 0 };
	int fd, rc = ruleset_convert(job, to, &fd, count, &err);

	if (rc != 0)
		return rc;
	rc = memfd_map(fd, out, n, OUT_MAX);
	close(fd);
	return rc;
}

static void
again(struct ruleset_job job, uint32_t format, const void *p, size_t n, uint32_t count)
{
	uint32_t same;
	const void *out;
	size_t len;

	job.format = format;
	job.p = p;
	job.n = n;
	if (convert(&job, format, &out, &len, &same) != 0 || same != count || len != n || memcmp(out, p, n) != 0)
		abort();
	munmap((void *)(uintptr_t)out, len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct ruleset_job job = { .name = "list", .is_file = true };
	uint32_t to, count;
	const void *out;
	size_t len;
	void *p;

	if (n < 3)
		return 0;
	log_set_level(LL_SILENT);
	job.kind = 1 + data[0] % IMAGE_CLASSICAL;
	job.format = 1 + data[1] % FORMAT_MRS;
	to = 1 + data[2] % FORMAT_MRS;
	job.n = job.format == FORMAT_MRS ? ZSTD_compressBound(n - 3) : n - 3;
	p = malloc(job.n + 1);
	if (p == NULL)
		return 0;
	if (job.format == FORMAT_MRS)
		job.n = ZSTD_compress(p, job.n, data + 3, n - 3, 1);
	else
		memcpy(p, data + 3, n - 3);
	job.p = p;
	if (convert(&job, to, &out, &len, &count) == 0) {
		again(job, to, out, len, count);
		munmap((void *)(uintptr_t)out, len);
	}
	free(p);
	return 0;
}
