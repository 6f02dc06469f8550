/* SPDX-License-Identifier: MIT */
/* Any text as a configuration: yaml_load() must answer with a text, or with an image that tree_from_memory() accepts. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"
#include "common/strutil.h"
#include "worker/loader/settings.h"
#include "worker/loader/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cfg_err err = { 0 };
	struct msg_job_done done;
	struct tree t;
	void *image;
	size_t n;

	if (yaml_load(data, size, &image, &n, &err) != 0) {
		if (err.text[0] == '\0' || !utf8_valid(err.text, strlen(err.text)))
			abort();
		return 0;
	}
	if (tree_from_memory(&t, image, n, &err) != 0 || t.root->type != CFG_MAP)
		abort();
	(void)settings_read(t.root, &done, &err);
	free(image);
	return 0;
}
