/* SPDX-License-Identifier: MIT */
/* Every reader of rule data, and the image each makes: whatever the input, the image is refused or valid, and can be
 * searched. The first byte chooses the kind, the second the format; .mrs is also fed with what the packing holds. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "common/log.h"
#include "worker/loader/ruleset.h"
#include "worker/match/image.h"

static void
search(const struct image *im)
{
	struct ip v4 = { .family = 4, .b = { 1, 2, 3, 4 } }, v6 = { .family = 6, .b = { 0x20, 1 } };

	(void)image_has_name(im, "www.a.com", 9);
	(void)image_has_word(im, "www.a.com", 9);
	(void)image_has_ip(im, &v4);
	(void)image_has_ip(im, &v6);
	(void)image_has_src(im, &v4);
	for (const char *l = NULL; (l = image_next_line(im, l)) != NULL;)
		;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const names[] = { "cn", "cn@ads", "13335", "p" };
	struct ruleset_job job;
	struct cfg_err err = { 0 };
	struct image im;
	uint32_t count;
	void *p;
	int fd;

	if (n < 2)
		return 0;
	log_set_level(LL_SILENT);
	job = (struct ruleset_job){ .kind = 1 + data[0] % (IMAGE_KINDS_ - 1), .format = 1 + data[1] % (FORMAT_KINDS_ - 1) };
	job.name = names[data[1] >> 6];
	job.n = job.format == FORMAT_MRS && (data[0] & 0x80) != 0 ? ZSTD_compressBound(n - 2) : n - 2;
	p = aligned_alloc(16, (job.n + 31) / 16 * 16);
	if (p == NULL)
		return 0;
	if (job.format == FORMAT_MRS && (data[0] & 0x80) != 0)
		job.n = ZSTD_compress(p, job.n, data + 2, n - 2, 1);
	else
		memcpy(p, data + 2, n - 2);
	job.p = p;
	if (ruleset_compile(&job, &fd, &count, &err) == 0) {
		if (image_open(&im, fd) != 0)
			abort();
		search(&im);
		image_close(&im);
		close(fd);
	}
	free(p);
	return 0;
}
