/* SPDX-License-Identifier: MIT */
/* The value-carrying domain trie, see domain.h. Filled while a configuration is read, searched on the loop. All nodes share
 * one hash table keyed by (parent, label), so a top-level domain with many children costs no more than one with few. Its
 * memory is the arena's: nothing is freed singly, and a table that grew leaves its smaller predecessors there (less than its
 * own size in all). */
#include "worker/match/domain.h"

#include <string.h>

#include "common/addr.h"
#include "common/err.h"
#include "common/map.h"
#include "common/strutil.h"

enum { SLOTS_FIRST = 64 };

struct domain_node {
	const struct domain_node *parent;
	const char *label;
	size_t len, hash;
	void *here;			/* the name that ends at this node */
	void *below;			/* names any depth below it */
	struct domain_node *star;	/* its "*" child */
};
struct labels {				/* of a name, the rightmost first; lent by its text */
	const char *p[DOMAIN_LABELS_MAX];
	size_t len[DOMAIN_LABELS_MAX];
	int n;
};

bool
domain_pattern_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || s[n - 1] == '.' || strchr(" \t\n\v\f\r", s[0]) != NULL || strchr(" \t\n\v\f\r", s[n - 1]) != NULL)
		return false;
	return strstr(s, "..") == NULL;
}

void
domain_trie_init(struct domain_trie *t, struct arena *a)
{
	*t = (struct domain_trie){ .arena = a, .cap = SLOTS_FIRST };
	t->root = arena_alloc(a, sizeof(*t->root));
	t->slots = arena_array(a, t->cap, sizeof(*t->slots));
}

static size_t
hash_of(const struct domain_node *parent, const char *label, size_t len)
{
	uintptr_t at = (uintptr_t)parent;

	return (size_t)hash_bytes(label, len) + (at >> 4) * (size_t)0x9e3779b97f4a7c15;
}

/* The slot that holds the child, or the empty one where it belongs. */
static struct domain_node **
slot_of(const struct domain_trie *t, const struct domain_node *parent, const char *label, size_t len, size_t hash)
{
	for (size_t i = hash & (t->cap - 1);; i = (i + 1) & (t->cap - 1)) {
		struct domain_node *c = t->slots[i];

		if (c == NULL || (c->hash == hash && c->parent == parent && c->len == len && memcmp(c->label, label, len) == 0))
			return &t->slots[i];
	}
}

static void
grow(struct domain_trie *t)
{
	struct domain_node **old = t->slots;
	size_t n = t->cap;

	t->cap *= 2;
	t->slots = arena_array(t->arena, t->cap, sizeof(*t->slots));
	for (size_t i = 0; i < n; i++)
		if (old[i] != NULL)
			*slot_of(t, old[i]->parent, old[i]->label, old[i]->len, old[i]->hash) = old[i];
}

static struct domain_node *
child_make(struct domain_trie *t, struct domain_node *parent, const char *label, size_t len)
{
	struct domain_node **slot, *c;
	size_t hash;

	if (len == 1 && label[0] == '*') {
		if (parent->star == NULL)
			parent->star = arena_alloc(t->arena, sizeof(*c));
		return parent->star;
	}
	if (t->count * 2 >= t->cap)
		grow(t);
	hash = hash_of(parent, label, len);
	slot = slot_of(t, parent, label, len, hash);
	if (*slot != NULL)
		return *slot;
	c = arena_alloc(t->arena, sizeof(*c));
	*c = (struct domain_node){ .parent = parent, .label = label, .len = len, .hash = hash };
	t->count++;
	*slot = c;
	return c;
}

int
domain_trie_insert(struct domain_trie *t, const char *pattern, void *value)
{
	struct domain_node *n = t->root;
	const char *end;
	char *copy;
	bool plus, dot;

	if (!domain_pattern_valid(pattern))
		return -E_INVAL;
	copy = arena_strdup(t->arena, pattern);
	str_lower(copy);
	plus = copy[0] == '+' && (copy[1] == '.' || copy[1] == '\0');
	dot = copy[0] == '.';
	if (plus)
		copy++;
	end = copy + strlen(copy);
	if (plus || dot)
		copy += *copy == '.' ? 1 : 0;
	while (end > copy) {
		const char *start = end;

		while (start > copy && start[-1] != '.')
			start--;
		n = child_make(t, n, start, (size_t)(end - start));
		end = start > copy ? start - 1 : copy;
	}
	if (plus || dot)
		n->below = value;
	if (!dot)
		n->here = value;
	return 0;
}

static int
split(struct labels *l, const char *name, size_t n)
{
	size_t end = n;

	l->n = 0;
	for (;;) {
		size_t start = end;

		while (start > 0 && name[start - 1] != '.')
			start--;
		if (start == end || l->n == DOMAIN_LABELS_MAX)
			return -E_INVAL;
		l->p[l->n] = name + start;
		l->len[l->n++] = end - start;
		if (start == 0)
			return 0;
		end = start - 1;
	}
}

/* Each call visits another node, and goes as deep as the name has labels. */
static void *
search(const struct domain_trie *t, const struct domain_node *n, const struct labels *l, int i)
{
	const struct domain_node *c;
	void *v = NULL;

	if (i == l->n)
		return n->here;
	c = *slot_of(t, n, l->p[i], l->len[i], hash_of(n, l->p[i], l->len[i]));
	if (c != NULL)
		v = search(t, c, l, i + 1);
	if (v == NULL && n->star != NULL)
		v = search(t, n->star, l, i + 1);
	return v != NULL ? v : n->below;
}

void *
domain_trie_search(const struct domain_trie *t, const char *name)
{
	char lower[HOST_MAX + 1];
	struct labels l;
	size_t n = str_copy(lower, sizeof(lower), name);

	if (n >= sizeof(lower))
		return NULL;
	str_lower(lower);
	return split(&l, lower, n) == 0 ? search(t, t->root, &l, 0) : NULL;
}
