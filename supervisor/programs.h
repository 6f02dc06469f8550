/* SPDX-License-Identifier: MIT */
/* Sets of programs: the executables of one build, held open, so that what runs can be started again whatever happens to its
 * files. */
#ifndef SLUICE_SUPERVISOR_PROGRAMS_H
#define SLUICE_SUPERVISOR_PROGRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/sandbox.h"

struct sup;

struct program_set {
	int fd[ROLE_MAX_];		/* O_PATH, -1 = none; ROLE_SUPERVISOR is sluice itself */
	uint32_t serial;		/* children remember which set they run; 0 = an empty set */
	uint16_t ipc;			/* the IMSG_VERSION that its programs speak */
	char build[64];			/* its version_text() */
};

/* Name of a role's program; NULL for a role without one. */
const char *programs_name(enum sandbox_role role);
/* Remembers where this executable was started from. At start only: later /proc/self/exe may say "(deleted)". 0 or -E_NOTFOUND,
 * logged. */
int programs_remember(struct sup *s);
/* Opens what runs now and the programs beside it; fills s->programs. 0 or -E_NOTFOUND, logged. */
int programs_init(struct sup *s);
/* After an upgrade: opens the programs that the supervisor before did not know of. */
void programs_complete(struct sup *s);
/* Opens what an upgrade would switch to. 0, or -E_NOTFOUND / -E_PERM with why filled and *set empty. */
int programs_candidate(struct sup *s, struct program_set *set, char *why, size_t cap);
/* Are these the same files: device, inode, size and time of change of the content? */
bool programs_same(const struct program_set *a, const struct program_set *b);
void programs_clear(struct program_set *set);	/* makes it empty without closing */
void programs_close(struct program_set *set);

#endif
