/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_LISTENERS_H
#define SLUICE_SUPERVISOR_LISTENERS_H

#include "supervisor/sup.h"

void listeners_init(struct sup *s);
/* Gives child c its slots of the key: the same sockets that others have, bound now when the key is new. Writes up to
 * LISTEN_SLOTS_MAX duplicates to fds (the caller sends and thereby gives them away) and their numbers to slots. Number of fds,
 * or -E_BUSY / -E_PERM / -E_SYS with why filled. */
int listeners_take(struct sup *s, struct child *c, const struct msg_listen *key, int fds[static LISTEN_SLOTS_MAX], uint8_t slots[static LISTEN_SLOTS_MAX],
    char *why, size_t cap);
/* Sends worker c the slots of worker index of its generation, for every key that both have, or for one; those that a living
 * one reads are left out. */
void listeners_adopt(struct sup *s, struct child *c, uint32_t index, const struct msg_listen *only);
void listeners_drop(struct sup *s, struct child *c, const struct msg_listen *key);
void listeners_child_gone(struct sup *s, struct child *c);
/* listen() on everything that a generation or the controller holds: from now on the kernel queues connections. 0 or -E_BUSY
 * with why filled. */
int listeners_serve(struct sup *s, char *why, size_t cap);
void listeners_shutdown(struct sup *s);		/* at the end: nothing is accepted any more */
/* The old generation has stopped accepting, or a worker is back: a port that only workers which drain still hold refuses
 * connections from now on. Its sockets stay for their UDP sessions, and for a later generation that wants the port again. */
void listeners_settle(struct sup *s);
size_t listeners_count(const struct sup *s);
struct adopt;
void listeners_save(struct sup *s, struct adopt *a);
int listeners_load(struct sup *s, struct adopt *a);
void listeners_forget(struct sup *s);

#endif
