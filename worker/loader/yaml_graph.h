/* SPDX-License-Identifier: MIT */
/* What stands between YAML text and the tree: the graph that yaml.c composes from libyaml's events and yaml_expand.c walks. An
 * alias is a link in it, so its size is the input's; a link only goes to a node that had ended before, so it has no cycle. All
 * of it lies in one arena that yaml_load() owns. */
#ifndef SLUICE_LOADER_YAML_GRAPH_H
#define SLUICE_LOADER_YAML_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "common/config_tree.h"

enum { YAML_ALIAS = CFG_MAP + 1 };		/* a type beside enum cfg_type */
enum yaml_flags {				/* beside enum cfg_flags */
	YAML_OPEN = 16,				/* has not ended yet */
	YAML_MERGE = 32,			/* the value of a << */
	YAML_MERGES = 64			/* a map with a << */
};

struct ynode {
	uint8_t type, flags;
	uint32_t line, column, key_line;
	uint32_t len;				/* of text; children */
	const char *key;
	struct ynode *next;
	union {
		const char *text;
		struct { struct ynode *first, *last; } in;
		const struct ynode *target;	/* never an alias itself, never open */
	} u;
};

/* Fills err with "yaml: line N: ..."; returns -code. line and column are 1-based. */
int yaml_fail(struct cfg_err *err, int code, uint32_t line, uint32_t column, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Expands aliases and merges; as yaml_load(). */
int yaml_expand(const struct ynode *root, void **image, size_t *size, struct cfg_err *err);

#endif
