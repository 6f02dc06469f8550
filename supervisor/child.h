/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_CHILD_H
#define SLUICE_SUPERVISOR_CHILD_H

#include "supervisor/sup.h"

/* Forks and executes the held program of a role with its channel at fd 3 and its log at fd 4. gen is NULL but for workers.
 * NULL with the reason logged. The child is CONFIGURING. */
struct child *child_spawn(struct sup *s, enum sandbox_role role, struct generation *gen, uint32_t index);
/* Sends; a failure ends the child through its peer's on_gone. */
int child_send(struct child *c, uint16_t type, uint32_t id, const void *body, size_t len, int fd);
/* SIGKILL; its end is reported through the usual way unless quiet. */
void child_kill(struct child *c);
/* A child that an earlier build of this supervisor started: from's fields (role to started, name, pidfd, log_fd) and its
 * channel (-1: lost already), as the state says. NULL when memory ran out. */
struct child *child_adopt(struct sup *s, const struct child *from, int channel);
/* Stops watching it and frees it; its fds stay open. */
void child_forget(struct child *c);

#endif
