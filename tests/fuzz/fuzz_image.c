/* SPDX-License-Identifier: MIT */
/* The image verifier: what it lets through can be searched without reading outside of it or running on. An input is either
 * an image, whose size and magic are filled in so that the rest is reached, or, when it begins with EDITS, a list of changes
 * to an image that the builder made: each two bytes place and one byte value, the upper bit of the place meaning the header. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/loader/image.h"
#include "worker/match/image.h"

enum { EDITS = 0xed };

static void
search(const struct image *im)
{
	static const char *const names[] = { "www.a.com", "a.b.c.d.e.f", "n7.a", "x.n9.b.a", "q.star", "" };
	static const char *const ips[] = { "1.2.3.4", "250.9.0.1", "2001::", "2001:7::1", "2001:db8::5", "ffff::", "::" };
	struct ip ip;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		(void)image_has_name(im, names[i], strlen(names[i]));
		(void)image_has_word(im, names[i], strlen(names[i]));
	}
	for (size_t i = 0; i < sizeof ips / sizeof *ips; i++) {
		if (ip_parse(&ip, ips[i]) != 0)
			abort();
		(void)image_has_ip(im, &ip);
		(void)image_has_src(im, &ip);
	}
	for (const char *l = NULL; (l = image_next_line(im, l)) != NULL;)
		;
}

/* Every part is in it, and the tree has more than one level. */
static void
build(struct image *im)
{
	struct image_builder *b = image_begin(IMAGE_CLASSICAL);
	int fd;

	if (b == NULL)
		abort();
	for (unsigned i = 0; i < 100; i++) {
		struct prefix v4 = { .ip = { .family = 4, .b = { (uint8_t)(2 * i), 9 } }, .bits = 16 };
		struct prefix v6 = { .ip = { .family = 6, .b = { 0x20, 1, 0, (uint8_t)(2 * i) } },
			.bits = (uint8_t)(i % 9 == 0 ? 70 : 32) };
		char name[16];
		int n = snprintf(name, sizeof name, "%sn%u.%c", i % 2 == 0 ? "+." : "", i, i % 3 == 0 ? 'a' : 'b');

		(void)image_add_pattern(b, name, (size_t)n);
		image_add_prefix(b, &v4, i % 7 == 0);
		image_add_prefix(b, &v6, i % 7 == 0);
	}
	(void)image_add_pattern(b, "*.star", 6);
	image_add_word(b, "word", 4);
	image_add_word(b, "a.c", 3);
	image_add_line(b, "DST-PORT,1", 10);
	image_add_line(b, "DST-PORT,2", 10);
	if (image_finish(b, &fd) != 0 || image_open(im, fd) != 0)
		abort();
	close(fd);
}

static size_t
edited(struct image_header **out, const uint8_t *data, size_t n)
{
	static struct image genuine;
	uint8_t *p;

	if (genuine.h == NULL)
		build(&genuine);
	p = aligned_alloc(64, (genuine.size + 63) / 64 * 64);
	if (p == NULL)
		return 0;
	memcpy(p, genuine.h, genuine.size);
	for (; n >= 3; n -= 3, data += 3) {
		size_t at = (size_t)(data[0] & 0x7f) << 8 | data[1];

		p[at % ((data[0] & 0x80) != 0 ? sizeof(struct image_header) : genuine.size)] = data[2];
	}
	*out = (struct image_header *)(void *)p;
	return genuine.size;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct image_header *h = NULL;
	struct image im;

	if (n > 0 && data[0] == EDITS) {
		n = edited(&h, data + 1, n - 1);
	} else if (n >= sizeof *h) {
		h = aligned_alloc(64, (n + 63) / 64 * 64);
		if (h != NULL) {
			memcpy(h, data, n);
			memcpy(h->magic, IMAGE_MAGIC, sizeof h->magic);
			h->size = n;
		}
	}
	if (h == NULL)
		return 0;
	if (image_from_memory(&im, h, n) == 0)
		search(&im);
	free(h);
	return 0;
}
