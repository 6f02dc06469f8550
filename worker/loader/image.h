/* SPDX-License-Identifier: MIT */
/* Builds a compiled image (common/image.h). Used by the readers of rule sets and geodata in this folder.
 *
 *   struct image_builder *b = image_begin(IMAGE_DOMAIN);
 *   if (!image_add_pattern(b, line, n)) ... not a valid pattern ...
 *   rc = image_finish(b, &fd);		// frees b */
#ifndef SLUICE_LOADER_IMAGE_H
#define SLUICE_LOADER_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/image.h"

struct image_builder;

enum {
	IMAGE_ENTRIES_MAX = 16 << 20,	/* of each kind in one image; more fail the job with -E_LIMIT */
	IMAGE_PATTERN_MAX = 1024	/* bytes of a pattern; a longer one is not valid */
};

struct image_builder *image_begin(enum image_kind kind);	/* NULL: out of memory */
/* A pattern of spec/config.md 12, in any case; false: no valid one. In p: the name in lower case, without what stands in front of
 * it and is told by the flags IMAGE_HERE and IMAGE_BELOW; 0: valid, and matches nothing in a set. */
bool image_read_pattern(const char *s, size_t n, char p[static IMAGE_PATTERN_MAX], const char **name, unsigned *flags);
bool image_add_pattern(struct image_builder *b, const char *s, size_t n);
/* A name as it is kept in a compiled set of the reference: "+.a.com" means below a.com and not a.com itself
 * (spec/config.md 13.1). */
bool image_add_key(struct image_builder *b, const char *s, size_t n);
/* A name without patterns; flags IMAGE_HERE, IMAGE_BELOW. False when it cannot be kept as one (an empty label, a "*"
 * label, over HOST_MAX): nothing a host can be, or something for image_add_line(). */
bool image_add_name(struct image_builder *b, const char *s, size_t n, unsigned flags);
void image_add_prefix(struct image_builder *b, const struct prefix *p, bool src);
/* Both ends count; network order, IPv4 in the first four bytes. */
void image_add_range(struct image_builder *b, uint8_t family, const uint8_t from[static 16], const uint8_t to[static 16]);
void image_add_word(struct image_builder *b, const char *s, size_t n);	/* not empty, no NUL */
void image_add_line(struct image_builder *b, const char *s, size_t n);	/* no NUL */
void image_count(struct image_builder *b, uint32_t n);		/* adds to what the API shows */
uint32_t image_counted(const struct image_builder *b);
/* The destination ranges of a family so far, sorted and apart from each other, IPv4 as numbers in the lower half; lent until more
 * are added. */
const struct image_range6 *image_ranges(struct image_builder *b, uint8_t family, size_t *n);
bool image_empty(const struct image_builder *b);		/* nothing counted, no line */
void image_set_flags(struct image_builder *b, uint32_t flags);
/* The sealed file in *fd. 0, -E_NOMEM, -E_LIMIT or -E_SYS; frees b in any case. */
int image_finish(struct image_builder *b, int *fd);
void image_abandon(struct image_builder *b);			/* NULL is fine */

#endif
