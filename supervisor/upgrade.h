/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_UPGRADE_H
#define SLUICE_SUPERVISOR_UPGRADE_H

#include "supervisor/reload.h"

struct adopt;

void upgrade_init(struct sup *s);
/* Switches to the programs on disk when they are another build (force: or the same). The waiter gets a MSG_RESULT when they
 * serve, or why they do not: 503 nothing was tried, 500 it was and everything is as before. */
void upgrade_request(struct sup *s, bool force, struct reload_waiter w);
void upgrade_forget_peer(struct sup *s, struct peer *p);
/* While it replaces the controller, or goes back, reloads wait. */
bool upgrade_holds(const struct sup *s);

/* What became of the parts. */
void upgrade_controller_ready(struct sup *s);
void upgrade_controller_failed(struct sup *s, const char *why);
void upgrade_workers_done(struct sup *s, int status, const char *why);
/* A worker of g or the controller crashed. True when that is once too often in the first minute of new programs: the ones
 * before are put back. */
bool upgrade_crashed(struct sup *s, const struct generation *g);

/* The other side of the execve: takes the state over from the build before (s->opt.adopt); returns only when that was
 * possible. */
void upgrade_adopt(struct sup *s);
void upgrade_resume(struct sup *s);		/* from the started loop's owner: goes on where the build before stopped */
int upgrade_check(struct sup *s);		/* --adopt-check: the exit code */

void upgrade_save(struct sup *s, struct adopt *a);
int upgrade_load(struct sup *s, struct adopt *a);
void upgrade_forget(struct sup *s);

#endif
