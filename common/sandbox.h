/* SPDX-License-Identifier: MIT */
/* What each role may do after start. One table per role stands in sandbox_profiles.c, side by side. Order in every child's
 * main():
 *
 *   sandbox_enter(role, uid, gid, 5)   user, groups, capabilities, no_new_privs, dumpable 0, tzset, stray fds, Landlock, rlimits
 *   sandbox_filter(role, 1)            seccomp: no exec, no open, no connect; before anything is decoded (the worker
 *                                      may connect already: a second filter can only take away)
 *   ... CONFIGURING: reads fd 3, maps memfds, builds objects, opens nothing by path ...
 *   sandbox_filter(role, 2)            the final list, at most SANDBOX_CALLS_MAX calls in the worker; before READY
 *
 * The nethelper alone keeps two capabilities, opens /proc before its first filter, and may open directories (no file) and read
 * links after it.
 *
 * A refused call that libraries merely probe returns an errno; every other one ends the process with a report (SIGSYS handler:
 * role, call number, name, on the log channel). Kernel 6.1 must do with seccomp alone; Landlock and what is newer are a second
 * layer, probed and reported once. Built with SLUICE_NO_SANDBOX (sanitizers only) both calls do nothing and say so. Source:
 * libraries.md 3, design 1. */
#ifndef SLUICE_COMMON_SANDBOX_H
#define SLUICE_COMMON_SANDBOX_H

#include <sys/types.h>

enum sandbox_role { ROLE_SUPERVISOR, ROLE_LOADER, ROLE_WORKER, ROLE_CONTROLLER, ROLE_NETHELPER, ROLE_MAX_ };
enum { SANDBOX_CALLS_MAX = 60 };

const char *sandbox_role_name(enum sandbox_role role);	/* "worker" */

/* uid or gid (uid_t)-1: keep. Fatal on failure of anything that must hold; what is missing of the second layer is logged once
 * at debug level in one line. keep_fds: fds 0..keep_fds-1 stay open, all above are closed. */
void sandbox_enter(enum sandbox_role role, uid_t uid, gid_t gid, int keep_fds);
void sandbox_filter(enum sandbox_role role, int stage);
/* Number of system calls that the final filter of a role admits (for a test and for the log). */
int sandbox_calls(enum sandbox_role role);

#endif
