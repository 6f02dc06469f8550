/* SPDX-License-Identifier: MIT */
/* Any bytes as a tree's image: what tree_from_memory() accepts must be walkable in as many steps as it has nodes, by every
 * getter. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t
walk(const struct cfg_node *n)
{
	static const char *const names[] = { "rule", "global", NULL };
	const struct cfg_node *list;
	const char *s = NULL;
	size_t sum = 1;
	int64_t i;
	bool b;
	int e;

	(void)cfg_int(n, "k", 0, 10, &i, &(struct cfg_err){ 0 });
	(void)cfg_bool(n, "k", &b, &(struct cfg_err){ 0 });
	(void)cfg_str(n, "k", &s, &(struct cfg_err){ 0 });
	(void)cfg_enum(n, "k", names, "bad", &e, &(struct cfg_err){ 0 });
	(void)cfg_list(n, "k", &list, &(struct cfg_err){ 0 });
	(void)cfgw_int(n, "a", 0, 10, &i, &(struct cfg_err){ 0 });
	(void)cfgw_str_required(n, "a", &s, &(struct cfg_err){ 0 });
	(void)cfgw_bool(n, "a", &b, &(struct cfg_err){ 0 });
	if (cfg_text(n) != NULL && strlen(cfg_text(n)) != n->text_len)
		abort();
	cfg_each(c, n)
		sum += walk(c);
	return sum;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cfg_err err = { 0 };
	void *copy = malloc(size + 1);		/* aligned, and nothing behind it */
	struct tree t;

	if (copy == NULL)
		return 0;
	memcpy(copy, data, size);
	if (tree_from_memory(&t, copy, size, &err) == 0) {
		uint32_t nodes;

		memcpy(&nodes, (const char *)copy + 12, sizeof nodes);
		if (walk(t.root) != nodes)
			abort();
	} else if (err.text[0] == '\0') {
		abort();
	}
	free(copy);
	return 0;
}
