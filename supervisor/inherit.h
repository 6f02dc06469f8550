/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_INHERIT_H
#define SLUICE_SUPERVISOR_INHERIT_H

#include "supervisor/sup.h"

enum { FDNAME_MAX = 64 };		/* of our own names; systemd allows 255 */

/* Takes what LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES announce and removes the three variables. Called first in main(), while
 * the descriptors from 3 on are still those that were given. */
void inherit_init(struct sup *s);
/* The sockets given for a key, ready for use, written to fds: theirs to own. Number, 0 = none. *borrowed: they are of a
 * .socket unit, which keeps them; else they come from the descriptor store, where they stay under the names of
 * inherit_slot_name(). */
int inherit_sockets(struct sup *s, const struct msg_listen *k, int fds[static LISTEN_SLOTS_MAX], bool *borrowed);
/* The name of a listener's slot in the descriptor store: the same in every run. */
const char *inherit_slot_name(const struct msg_listen *k, int slot, char out[static FDNAME_MAX]);
/* A stored socket of another key that holds this port: it goes when a generation serves, until then the new one lives beside
 * it. */
bool inherit_has_port(const struct sup *s, const struct msg_listen *k);
/* A stored descriptor by its name, the caller's from now on; -1 = none. It stays in the store. */
int inherit_take(struct sup *s, const char *name);
/* The first generation serves: what nobody wanted is logged, removed from the store, and closed. */
void inherit_end(struct sup *s);

#endif
