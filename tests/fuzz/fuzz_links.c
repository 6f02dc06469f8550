/* SPDX-License-Identifier: MIT */
/* One share link of a scheme that the input names, so that what hides in base64 (vmess, ssr, old ss) is reached: a first line
 * "SCHEME", "SCHEME base64" or "SCHEME url", a second line that follows the rest (query, fragment), and the rest. What
 * links_parse() makes of it must be a list of maps with name, type and server. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/config_tree.h"
#include "common/strutil.h"
#include "worker/loader/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BODY_MAX = 8192, LINK_BYTES = 2 * BODY_MAX + 512 };

static size_t
line(const uint8_t *data, size_t size, size_t *at, char *out, size_t cap)
{
	size_t n = 0;

	for (; *at < size && data[*at] != '\n'; (*at)++)
		if (n + 1 < cap)
			out[n++] = (char)data[*at];
	*at += *at < size;
	out[n] = '\0';
	return n;
}

static void
look(struct tree_builder *to, int64_t n)
{
	struct cfg_err err = { 0 };
	struct tree t;
	size_t size;
	void *image = tree_finish(to, &size);

	if (image == NULL)
		abort();
	if (tree_from_memory(&t, image, size, &err) != 0 || (int64_t)cfg_count(t.root) != n)
		abort();
	cfg_each(c, t.root)
		if (cfg_text(cfg_get(c, "name")) == NULL || cfg_text(cfg_get(c, "type")) == NULL ||
		    cfg_text(cfg_get(c, "server")) == NULL)
			abort();
	free(image);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[LINK_BYTES];
	char head[64], tail[256], *blank;
	struct tree_builder *to = tree_build();
	struct arena a;
	unsigned skipped = 0;
	size_t at = 0, n;
	int64_t got;

	if (to == NULL)
		abort();
	arena_init(&a);
	(void)line(data, size, &at, head, sizeof(head));
	(void)line(data, size, &at, tail, sizeof(tail));
	size = size - at > BODY_MAX ? BODY_MAX : size - at;
	blank = strchr(head, ' ');
	n = (size_t)snprintf(text, sizeof(text), "%.*s://", blank != NULL ? (int)(blank - head) : (int)strlen(head), head);
	if (blank != NULL) {
		n += base64_encode(text + n, sizeof(text) - n, data + at, size);
		for (char *c = text; strcmp(blank, " url") == 0 && *c != '\0'; c++)
			*c = *c == '+' && c > strstr(text, "://") ? '-' : *c;
	} else {
		memcpy(text + n, data + at, size);
		n += size;
	}
	memcpy(text + n, tail, strlen(tail));
	n += strlen(tail);
	(void)tree_add(to, -1, CFG_LIST, 0, NULL, NULL, 0, 1, 1);
	got = links_parse(&a, text, n, to, 0, 64, &skipped);
	if (got >= 0)
		look(to, got);
	else
		tree_abandon(to);
	arena_free(&a);
	return 0;
}
