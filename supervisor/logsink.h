/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_LOGSINK_H
#define SLUICE_SUPERVISOR_LOGSINK_H

#include "supervisor/sup.h"

/* Chooses standard error or, when it is connected to the journal, journald's protocol. Takes over log_write() of this process
 * too. */
void logsink_init(struct sup *s);
/* Reads what a child logged, at most a batch. 0, -E_AGAIN, or -E_CLOSED at end of file. */
int logsink_drain(struct child *c);
/* The level below which nobody wants records: told to every child when it changes. */
void logsink_level_changed(struct sup *s);
int logsink_level(const struct sup *s);

#endif
