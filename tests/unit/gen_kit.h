/* SPDX-License-Identifier: MIT */
/* For unit tests of what reads a configuration: YAML text to a generation without processes. Targets of rules are a few
 * names, each its own address; PASS is never usable, "tcponly" not for UDP. */
#ifndef SLUICE_TESTS_UNIT_GEN_KIT_H
#define SLUICE_TESTS_UNIT_GEN_KIT_H

#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"
#include "common/log.h"
#include "worker/gen.h"
#include "worker/loader/yaml.h"
#include "worker/meta.h"

struct kit {
	struct gen gen;
	struct tree tree;
	void *image;
	struct cfg_err err;
};

static const char *const kit_targets[] = { "DIRECT", "REJECT", "PASS", "a", "b", "tcponly" };
enum { KIT_TARGETS = sizeof kit_targets / sizeof kit_targets[0] };
static char kit_target_at[KIT_TARGETS];		/* never looked into: a target is its address */

static inline struct outbound *
kit_find(struct gen *g, const char *name)
{
	(void)g;
	for (int i = 0; i < KIT_TARGETS; i++)
		if (strcmp(kit_targets[i], name) == 0)
			return (struct outbound *)(void *)&kit_target_at[i];
	return NULL;
}

static inline const char *
kit_name(const struct outbound *ob)
{
	return ob == NULL ? "" : kit_targets[(const char *)(const void *)ob - kit_target_at];
}

static inline bool
kit_usable(struct outbound *ob, const struct meta *m)
{
	return strcmp(kit_name(ob), "PASS") != 0 && (m->network != NET_UDP || strcmp(kit_name(ob), "tcponly") != 0);
}

static inline int
kit_open(struct kit *k, const char *yaml)
{
	size_t size;
	int rc;

	memset(k, 0, sizeof *k);
	arena_init(&k->gen.arena);
	map_init(&k->gen.proxies);
	map_init(&k->gen.sub_rules);
	k->gen.rule_hooks.find = kit_find;
	k->gen.rule_hooks.usable = kit_usable;
	general_defaults(&k->gen);
	rc = yaml_load(yaml, strlen(yaml), &k->image, &size, &k->err);
	if (rc == 0)
		rc = tree_from_memory(&k->tree, k->image, size, &k->err);
	k->gen.root = k->tree.root;
	memset(&k->err, 0, rc == 0 ? sizeof k->err : 0);
	return rc;
}

static inline void
kit_close(struct kit *k)
{
	map_free(&k->gen.sub_rules);
	map_free(&k->gen.rule_sets);
	map_free(&k->gen.geo_sets);
	map_free(&k->gen.proxies);
	arena_free(&k->gen.arena);
	free(k->image);
}

/* Log records while a test looks for a warning. */
static char kit_log[8192];
static inline void
kit_sink(int level, const char *text, size_t len)
{
	size_t at = strlen(kit_log);

	(void)level;
	if (at + len + 2 > sizeof kit_log)
		return;
	memcpy(kit_log + at, text, len);
	kit_log[at + len] = '\n';
	kit_log[at + len + 1] = '\0';
}

#endif
