/* SPDX-License-Identifier: MIT */
/* Subscription formats (spec/config.md 9): YAML first; what is no YAML map is tried as share links, in base64 as a whole or
 * plain. Nodes without a name and second nodes of a name are left out and named in the warnings. Called by the loader's
 * main. */
#include "worker/loader/provider_proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/config_tree.h"
#include "common/map.h"
#include "worker/loader/uri.h"
#include "worker/loader/yaml.h"

enum { WARNINGS_MAX = 16 }; /* of one provider; more are counted in the last one */

struct job {
	struct tree_builder *to;
	int64_t list;
	uint32_t n;
	struct arena mem;
	char *warning[WARNINGS_MAX];
	unsigned warnings;
	struct cfg_err *err;
};

static void
warn(struct job *j, char *text)
{
	if (j->warnings < WARNINGS_MAX)
		j->warning[j->warnings] = text;
	j->warnings++;
}

/* Copies a node and all below it. */
static int64_t
copy(struct job *j, int64_t parent, const char *key, const struct cfg_node *n)
{
	const char *text = n->type == CFG_SCALAR ? cfg_text(n) : NULL;
	int64_t at = tree_add(
	    j->to, parent, (enum cfg_type)n->type, n->flags, key, text, text != NULL ? n->text_len : 0, n->line, n->column);

	cfg_each(c, n) {
		int64_t rc = at >= 0 ? copy(j, at, cfg_key(c), c) : at;

		if (rc < 0)
			return rc;
	}
	return at;
}

/* ---- YAML */

static int
take_yaml_node(struct job *j, struct map *seen, const struct cfg_node *item, int i)
{
	const struct cfg_node *name = item->type == CFG_MAP ? cfg_get(item, "name") : NULL;
	int64_t rc;

	if (name == NULL || name->type != CFG_SCALAR || cfg_text(name)[0] == '\0') {
		warn(j, arena_printf(&j->mem, "proxy %d (line %u) has no name", i, item->line));
		return 0;
	}
	if (map_put(seen, cfg_text(name), j) != 0) {
		warn(j, arena_printf(&j->mem, "proxy %d (line %u): the name %.100s is taken", i, item->line, cfg_text(name)));
		return 0;
	}
	rc = copy(j, j->list, NULL, item);
	j->n += rc >= 0;
	return rc < 0 ? (int)rc : 0;
}

static int
take_yaml(struct job *j, const struct cfg_node *root)
{
	const struct cfg_node *list = cfg_get(root, "proxies");
	struct map seen;
	int i = 0, rc = 0;

	if (cfg_is_null(list))
		return cfg_fail(j->err, root, "proxies", "file must have a `proxies` field");
	if (list->type != CFG_LIST)
		return cfg_fail(j->err, list, "proxies", "'proxies' is not a slice");
	map_init(&seen);
	cfg_each(c, list) {
		if (j->n == PROXIES_MAX) {
			warn(j, arena_printf(&j->mem, "only the first %d proxies are taken", PROXIES_MAX));
			break;
		}
		rc = take_yaml_node(j, &seen, c, i++);
		if (rc != 0)
			break;
	}
	map_free(&seen);
	return rc;
}

/* ---- links */

static int
take_links(struct job *j, const char *text, size_t n, const struct cfg_err *why)
{
	const char *plain = text_base64(&j->mem, text, n);
	unsigned skipped = 0;
	int64_t got;

	got = plain != NULL ? links_parse(&j->mem, plain, strlen(plain), j->to, j->list, PROXIES_MAX, &skipped) :
			      links_parse(&j->mem, text, n, j->to, j->list, PROXIES_MAX, &skipped);
	if (got < 0)
		return (int)got;
	if (got == 0)
		return cfg_fail(j->err, NULL, NULL, "%.380s, convert v2ray subscribe error: format invalid", why->text);
	j->n = (uint32_t)got;
	if (skipped > 0)
		warn(j, arena_printf(&j->mem, "%u links are of an unknown kind or broken", skipped));
	return 0;
}

/* ---- the result */

static int
put_warnings(struct job *j)
{
	int64_t list = tree_add(j->to, 0, CFG_LIST, 0, "warnings", NULL, 0, 1, 1), rc = list;
	unsigned shown = j->warnings < WARNINGS_MAX ? j->warnings : WARNINGS_MAX;

	if (j->warnings > WARNINGS_MAX)
		j->warning[WARNINGS_MAX - 1] = arena_printf(&j->mem, "and %u more", j->warnings - WARNINGS_MAX + 1);
	for (unsigned i = 0; i < shown && rc >= 0; i++)
		rc = tree_add(j->to, list, CFG_SCALAR, CFG_QUOTED, NULL, j->warning[i], strlen(j->warning[i]), 1, 1);
	return rc < 0 ? (int)rc : 0;
}

static int
finish(struct job *j, void **image, size_t *size)
{
	int rc = put_warnings(j);

	if (rc != 0) {
		tree_abandon(j->to);
		return rc;
	}
	*image = tree_finish(j->to, size);
	return *image != NULL ? 0 : -E_NOMEM;
}

int
proxies_load(const void *text, size_t n, void **image, size_t *size, uint32_t *count, struct cfg_err *err)
{
	struct job j = { .err = err, .to = tree_build() };
	struct cfg_err why = { 0 };
	struct tree t;
	void *yaml = NULL;
	size_t yaml_size;
	int rc;

	if (j.to == NULL)
		return -E_NOMEM;
	arena_init(&j.mem);
	(void)tree_add(j.to, -1, CFG_MAP, 0, NULL, NULL, 0, 1, 1);
	j.list = tree_add(j.to, 0, CFG_LIST, 0, "proxies", NULL, 0, 1, 1);
	rc = yaml_load(text, n, &yaml, &yaml_size, &why);
	if (rc == 0)
		rc = tree_from_memory(&t, yaml, yaml_size, &why);
	if (rc == 0)
		rc = take_yaml(&j, t.root);
	else if (rc == -E_NOTFOUND)
		rc = cfg_fail(err, NULL, NULL, "file doesn't have any proxy");
	else if (rc != -E_NOMEM)
		rc = take_links(&j, text, n, &why);
	if (rc == 0 && j.n == 0)
		rc = cfg_fail(err, NULL, NULL, "file doesn't have any proxy");
	if (rc == 0)
		rc = finish(&j, image, size);
	else
		tree_abandon(j.to);
	if (rc == 0)
		*count = j.n;
	free(yaml);
	arena_free(&j.mem);
	return rc;
}
