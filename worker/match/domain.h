/* SPDX-License-Identifier: MIT */
/* Domain wildcard patterns (spec/config.md 12) and the trie that carries a value per pattern: used by hosts: and by name
 * server policies. Patterns: "www.a.com" itself; "*.a.com" one label, "*" may stand for any whole label; ".a.com" any depth
 * below; "+.a.com" both itself and below. At each label from the right an exact child goes before "*", and both before "any
 * depth"; a deeper hit always goes before a shallower one. */
#ifndef SLUICE_WORKER_MATCH_DOMAIN_H
#define SLUICE_WORKER_MATCH_DOMAIN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"

enum { DOMAIN_LABELS_MAX = 128 };	/* of a name that is looked up; RFC 1035 allows 127 */

bool domain_pattern_valid(const char *pattern);

struct domain_node;
struct domain_trie {
	struct arena *arena;		/* holds everything; borrowed */
	struct domain_node *root;
	struct domain_node **slots;	/* every node but the root and "*", by parent and label */
	size_t cap, count;
};

void domain_trie_init(struct domain_trie *t, struct arena *a);
/* value is borrowed and not NULL; the same pattern again replaces it. The pattern is copied. 0, or -E_INVAL: no valid pattern. */
int domain_trie_insert(struct domain_trie *t, const char *pattern, void *value);
/* The value for a name (any case), or NULL. A name with an empty label, a trailing dot or more than HOST_MAX bytes has none. */
void *domain_trie_search(const struct domain_trie *t, const char *name);

#endif
