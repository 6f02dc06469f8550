/* SPDX-License-Identifier: MIT */
/* override-expr: a first line as expression over the YAML map that follows. It is refused with words, or makes a map of the
 * node that a tree takes; evaluation ends within its limits. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/loader/yaml.h"
#include "worker/provider/expr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char fixed[] = "{name: n, type: ss, port: 1, l: [1, b, [2]], m: {x: 1, y: {z: a}}}";
	const uint8_t *end = memchr(data, '\n', size);
	size_t len = end != NULL ? (size_t)(end - data) : size, n, left = end != NULL ? size - len - 1 : 0;
	struct cfg_err err = { 0 };
	struct tree t, out;
	struct arena a;
	struct expr *x;
	void *image = NULL, *made;
	char *text;

	if (!utf8_valid((const char *)data, len) || memchr(data, '\0', len) != NULL) /* as the tree guarantees */
		return 0;
	if (left < 3 || yaml_load((const char *)end + 1, left, &image, &n, &err) != 0 ||
	    tree_from_memory(&t, image, n, &err) != 0 || t.root->type != CFG_MAP) {
		free(image);
		if (yaml_load(fixed, strlen(fixed), &image, &n, &err) != 0 || tree_from_memory(&t, image, n, &err) != 0)
			abort();
	}
	arena_init(&a);
	text = arena_strndup(&a, (const char *)data, len);
	memset(&err, 0, sizeof(err));
	x = expr_parse(&a, text, &err);
	if (x == NULL && err.text[0] == '\0')
		abort();
	if (x != NULL) {
		struct tree_builder *to = tree_build();

		(void)tree_add(to, -1, CFG_LIST, 0, NULL, NULL, 0, 1, 1);
		if (expr_apply(&x, 1, t.root, to, 0, &err) == 0) {
			made = tree_finish(to, &n);
			if (made == NULL || tree_from_memory(&out, made, n, &err) != 0 || cfg_first(out.root)->type != CFG_MAP)
				abort();
			free(made);
		} else {
			tree_abandon(to);
		}
		expr_free(x);
	}
	free(image);
	arena_free(&a);
	return 0;
}
