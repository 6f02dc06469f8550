/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_NETHELPER_H
#define SLUICE_SUPERVISOR_NETHELPER_H

#include "supervisor/sup.h"

void nethelper_init(struct sup *s);
/* A worker wants processes looked up, and has no channel: it gets one, now and whenever the nethelper is started anew. */
void nethelper_want(struct child *worker);
/* A worker or the nethelper has ended. */
void nethelper_child_gone(struct sup *s, struct child *c);
/* Over an execve: who wants it is known by whether there is one. */
void nethelper_resume(struct sup *s);

#endif
