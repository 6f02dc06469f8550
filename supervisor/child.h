/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_CHILD_H
#define SLUICE_SUPERVISOR_CHILD_H

#include "supervisor/sup.h"

/* Forks and executes the held program of a role with its channel at fd 3 and its log at fd 4. gen is NULL for the controller. NULL with the reason
 * logged. The child is CONFIGURING. */
struct child *child_spawn(struct sup *s, enum sandbox_role role, struct generation *gen, uint32_t index);
/* Sends; a failure ends the child through its peer's on_gone. */
int child_send(struct child *c, uint16_t type, uint32_t id, const void *body, size_t len, int fd);
/* SIGKILL; its end is reported through the usual way unless quiet. */
void child_kill(struct child *c);
/* Opens the programs that sit beside this executable and keeps them open. 0 or -E_NOTFOUND with the reason logged. */
int child_find_programs(struct sup *s);

#endif
