/* SPDX-License-Identifier: MIT */
/* A hosts: section, the system's hosts file, and lookups. The first line of the input is a name to look up; up to a line "-"
 * follow "pattern value" entries, then the text of a hosts file. Whatever is accepted, every lookup must end, and an alias
 * found must have no addresses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"
#include "common/log.h"
#include "worker/dns/hosts.h"
#include "worker/dns/resolver.h"
#include "worker/match/domain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *
next_line(char **text)
{
	char *line = *text, *nl;

	if (line == NULL)
		return NULL;
	nl = strchr(line, '\n');
	if (nl != NULL)
		*nl++ = '\0';
	*text = nl;
	return line;
}

/* One entry: a value with commas is a list. */
static void
add(struct tree_builder *b, int64_t map, char *line, unsigned n)
{
	char *value = strchr(line, ' '), *comma;
	int64_t list;

	if (value == NULL || value == line)
		return;
	*value++ = '\0';
	comma = strchr(value, ',');
	if (comma == NULL) {
		(void)tree_add(b, map, CFG_SCALAR, 0, line, value, strlen(value), n, 1);
		return;
	}
	list = tree_add(b, map, CFG_LIST, 0, line, NULL, 0, n, 1);
	for (; list >= 0 && comma != NULL; value = comma + 1) {
		comma = strchr(value, ',');
		(void)tree_add(
		    b, list, CFG_SCALAR, 0, NULL, value, comma != NULL ? (size_t)(comma - value) : strlen(value), n, 1);
		if (comma == NULL)
			break;
	}
}

static void
look(struct gen *g, const char *name)
{
	const char *alias, *other;
	struct ip ips[4];
	int n = hosts_find(g, name, ips, 4, &alias);

	if (n < 0 || n > 4 || (n > 0 && alias != NULL))
		abort();
	if (alias != NULL && (hosts_find(g, alias, ips, 4, &other) != 0 || other != NULL))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tree_builder *b = tree_build();
	struct gen g = { .n_groups = 0 };
	struct cfg_err err = { .text = "" };
	char *text = malloc(size + 1), *at = text, *name, *line;
	int64_t root, map;
	struct tree t;
	unsigned n = 0;
	size_t len;
	void *image;

	if (text == NULL || b == NULL)
		abort();
	log_set_level(LL_SILENT);
	memcpy(text, data, size);
	text[size] = '\0';
	root = tree_add(b, -1, CFG_MAP, 0, NULL, NULL, 0, 1, 1);
	map = tree_add(b, root, CFG_MAP, 0, "hosts", NULL, 0, 1, 1);
	name = next_line(&at);
	while ((line = next_line(&at)) != NULL && strcmp(line, "-") != 0)
		add(b, map, line, ++n);
	image = tree_finish(b, &len);
	arena_init(&g.arena);
	if (image != NULL && tree_from_memory(&t, image, len, &err) == 0) {
		if (hosts_parse(&g, t.root, &err) == 0) {
			if (at != NULL)
				hosts_set_system(&g, at, strlen(at));
			look(&g, name);
			cfg_each(e, cfg_get(t.root, "hosts")) {
				look(&g, cfg_key(e));
				if (cfg_text(e) != NULL)
					look(&g, cfg_text(e));
			}
		} else if (err.text[0] == '\0') {
			abort();
		}
		hosts_free(&g);
	}
	arena_free(&g.arena);
	free(image);
	free(text);
	return 0;
}
