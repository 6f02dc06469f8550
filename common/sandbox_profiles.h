/* SPDX-License-Identifier: MIT */
/* Private to sandbox.c, sandbox_profiles.c and their tests: the shape of the seccomp profiles. One row is one system call under
 * one condition; the columns say in which stages each role's filter has the row. What no row admits ends the process (SIGSYS).
 * */
#ifndef SLUICE_COMMON_SANDBOX_PROFILES_H
#define SLUICE_COMMON_SANDBOX_PROFILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/sandbox.h"

enum { SANDBOX_CONDS_MAX = 3, SANDBOX_PROFILES = 4 };	/* profiles: loader, worker, controller, nethelper */
enum sandbox_stage_bit { STAGE_1 = 1, STAGE_2 = 2 };

enum sandbox_cond_op {
	COND_NONE,	/* ends the list */
	COND_BITS,	/* (argument & mask) == value */
	COND_NOT,	/* the whole 64 bits differ from value: only ever for a row that refuses */
	COND_SELF	/* the low 32 bits are this process's id */
};

struct sandbox_cond {
	enum sandbox_cond_op op;
	unsigned arg;			/* 0..5 */
	uint64_t mask, value;
};

struct sandbox_rule {
	int call;			/* negative: this architecture has no such call; the row is skipped */
	int deny;			/* 0 = admitted, else the errno it gets */
	uint8_t stages[SANDBOX_PROFILES];	/* bits of enum sandbox_stage_bit, by sandbox_profile_of() */
	struct sandbox_cond conds[SANDBOX_CONDS_MAX];
};

extern const struct sandbox_rule sandbox_rules[];
extern const size_t sandbox_nrules;

/* Column of a role, or -1 when it has no profile. */
int sandbox_profile_of(enum sandbox_role role);

/* For tests/sandbox only: set before sandbox_enter(), leaves Landlock out, to show what seccomp holds alone. */
extern bool sandbox_test_no_landlock;

#endif
