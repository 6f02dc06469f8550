/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_SUPERVISOR_RECOVER_H
#define SLUICE_SUPERVISOR_RECOVER_H

#include "supervisor/sup.h"

/* A generation serves: from now on it is the one to come back after a crash of the supervisor. */
void recover_keep(struct sup *s);
/* At the start: was a generation of this very build serving when its supervisor crashed? Then its tree (owned by the caller)
 * with its options and the controller's in place, else -1. Answers once. */
int recover_tree(struct sup *s, struct msg_job_done *opts);
void recover_forget(struct sup *s);		/* an orderly end: the next start is a cold one */

#endif
