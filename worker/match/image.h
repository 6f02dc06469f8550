/* SPDX-License-Identifier: MIT */
/* Compiled rule data (common/image.h) as a worker uses it: mapped from a sealed memfd, verified once, searched without
 * allocation. An image that was verified cannot make a search read outside of it or run without end, whatever else it
 * holds. */
#ifndef SLUICE_WORKER_MATCH_IMAGE_H
#define SLUICE_WORKER_MATCH_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/image.h"

struct image {
	const struct image_header *h;	/* NULL: none, matches nothing */
	const void *part[IMAGE_PARTS_];
	struct {
		const uint64_t *key;
		uint64_t n;
	} level[IMAGE_LEVELS_MAX];	/* of the IPv6 prefixes, these themselves first */
	int levels;
	size_t size;
};

/* Maps what fd holds; fd stays the caller's. 0, or -E_PROTO: not a sealed, valid image. */
int image_open(struct image *im, int fd);
int image_from_memory(struct image *im, const void *p, size_t n);	/* borrows p, 64-aligned; for tests and fuzzing */
void image_close(struct image *im);

/* host is in lower case, without a trailing dot. */
bool image_has_name(const struct image *im, const char *host, size_t n);
bool image_has_word(const struct image *im, const char *host, size_t n);	/* some keyword is in it */
bool image_has_ip(const struct image *im, const struct ip *ip);
bool image_has_src(const struct image *im, const struct ip *ip);
/* Walks IMAGE_LINES: the first one for NULL, NULL after the last. */
const char *image_next_line(const struct image *im, const char *line);

#endif
