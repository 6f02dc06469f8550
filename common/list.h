/* SPDX-License-Identifier: MIT */
/* Intrusive doubly linked list. An unlinked node points at itself, so list_remove() twice is harmless. */
#ifndef SLUICE_COMMON_LIST_H
#define SLUICE_COMMON_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

static inline void
list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool
list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void
list_append(struct list *head, struct list *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}

static inline void
list_prepend(struct list *head, struct list *n)
{
	list_append(head->next, n);
}

static inline void
list_remove(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

#define list_each(n, head) for (struct list *n = (head)->next; (n) != (head); (n) = (n)->next)
/* n may be removed and freed inside the loop */
#define list_each_safe(n, tmp, head) \
	for (struct list *n = (head)->next, *tmp = (n)->next; (n) != (head); (n) = (tmp), (tmp) = (n)->next)

#endif
