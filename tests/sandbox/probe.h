/* SPDX-License-Identifier: MIT */
/* Between the files of the probe: the acts, and the things outside that they need. */
#ifndef SLUICE_TESTS_SANDBOX_PROBE_H
#define SLUICE_TESTS_SANDBOX_PROBE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* Descriptors of the child, the first two as in every child of the supervisor. FD_FILE: a program; FD_SPARE: a fresh TCP
 * socket. */
enum { FD_CHANNEL = 3, FD_LOG = 4, FD_LISTENER = 5, FD_FILE = 6, FD_SPARE = 7, FD_KEPT = 8 };
enum { SKIP = -2, DONE = 0, FAILED = -1 };		/* of an act; FAILED leaves errno */
enum { R_LOADER = 1, R_WORKER = 2, R_CONTROLLER = 4, R_NETHELPER = 8, R_ALL = 15, R_NO_DIAL = R_ALL & ~R_WORKER, R_NO_PATH = R_ALL & ~R_NETHELPER };

struct act {
	const char *name;
	int (*fn)(void);
	unsigned roles;			/* for which it is forbidden, or required */
	int (*between)(void);		/* called between the stages */
	const char *expect;		/* of work: what the result starts with, when it is not "done" */
};

extern const struct act forbidden_acts[], work_acts[];
extern const size_t nforbidden_acts, nwork_acts;

void forbidden_prepare(void);			/* outside, before the fork: what acts must have at hand */

extern struct sockaddr_in probe_target;		/* the parent's listener */
extern struct sockaddr_un probe_abstract;	/* the parent's unix listener; with sun_path[1] = 'd' a datagram socket */
extern socklen_t probe_abstract_len;
extern pid_t probe_outside;			/* the parent */

#endif
