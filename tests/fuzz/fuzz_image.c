/* SPDX-License-Identifier: MIT */
/* The image verifier: what it lets through can be searched without reading outside of it or running on. Size and magic
 * are filled in, so that the rest is reached. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "worker/match/image.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct ip v4 = { .family = 4, .b = { 1, 2, 3, 4 } }, v6 = { .family = 6, .b = { 0x20, 1 } };
	struct image_header *h;
	struct image im;

	if (n < sizeof *h)
		return 0;
	h = aligned_alloc(64, (n + 63) / 64 * 64);
	if (h == NULL)
		return 0;
	memcpy(h, data, n);
	memcpy(h->magic, IMAGE_MAGIC, sizeof h->magic);
	h->size = n;
	if (image_from_memory(&im, h, n) == 0) {
		(void)image_has_name(&im, "www.a.com", 9);
		(void)image_has_name(&im, "a.b.c.d.e.f", 11);
		(void)image_has_word(&im, "www.a.com", 9);
		(void)image_has_ip(&im, &v4);
		(void)image_has_ip(&im, &v6);
		(void)image_has_src(&im, &v6);
		for (const char *l = NULL; (l = image_next_line(&im, l)) != NULL;)
			;
	}
	free(h);
	return 0;
}
