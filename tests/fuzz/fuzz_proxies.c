/* SPDX-License-Identifier: MIT */
/* Any bytes as a proxy-provider's body (YAML, share links, base64): proxies_load() must answer with a text, or with a tree of
 * named maps. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"
#include "common/strutil.h"
#include "worker/loader/provider_proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cfg_err err = { 0 };
	struct tree t;
	void *image;
	size_t n;
	uint32_t count;

	if (proxies_load(data, size, &image, &n, &count, &err) != 0) {
		if (!utf8_valid(err.text, strlen(err.text)))
			abort();
		return 0;
	}
	if (tree_from_memory(&t, image, n, &err) != 0 || cfg_count(cfg_get(t.root, "proxies")) != count || count == 0)
		abort();
	cfg_each(c, cfg_get(t.root, "proxies"))
		if (c->type != CFG_MAP || cfg_text(cfg_get(c, "name")) == NULL || cfg_text(cfg_get(c, "name"))[0] == '\0')
			abort();
	free(image);
	return 0;
}
