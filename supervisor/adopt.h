/* SPDX-License-Identifier: MIT */
/* The supervisor's whole state over an execve: written into a sealed memfd by one build, read by the next (or the same, or the
 * one before). Fds stay open under their numbers and are named in it. Written and read by the functions x_save(s, a),
 * x_load(s, a) of each module; a field that a later version adds stands behind `if (a->version >= N)` on both sides. */
#ifndef SLUICE_SUPERVISOR_ADOPT_H
#define SLUICE_SUPERVISOR_ADOPT_H

#include <stdint.h>

#include "common/wire.h"
#include "supervisor/sup.h"

enum {
	ADOPT_VERSION = 2,		/* what this build writes; since 2 with the note on a roll-back */
	ADOPT_OLDEST = 1,		/* what it also reads, and writes for a build before it: ADOPT_VERSION - 1 once there is one */
	ADOPT_MAX = 8 << 20,		/* bytes of a state */
	ADOPT_FDS_MAX = 20000,		/* 512 listeners of 16 slots are 8192; children, pages and the rest are a few hundred */
	ADOPT_EXIT_VERSION = 3,		/* of --adopt-check: the state's version is not read by this build */
	ADOPT_EXIT_WORDS = 4		/* a child speaks a version of the protocol (imsg.h) that this build does not */
};

enum adopt_kind { ADOPT_CHANNEL, ADOPT_SOCKET, ADOPT_MEMFD, ADOPT_PIDFD, ADOPT_DIR, ADOPT_FILE, ADOPT_MAYBE = 64 /* -1 is right too */ };

struct adopt {
	struct wire w;
	uint32_t version;
	int *fd;			/* every one that was named; at most ADOPT_FDS_MAX */
	int n_fds;
	struct child **child;		/* by their number in the state */
	uint32_t n_children;
	bool foreign;			/* namely a child whose version of the protocol this build does not speak */
	char why[160];			/* the first thing that is wrong */
};

/* Writes the state in that version. The memfd (close-on-exec, to be closed by the caller) with *fds (malloc'ed) filled, or
 * -E_NOMEM / -E_SYS. */
int adopt_save(struct sup *s, uint32_t version, int **fds, int *n_fds);
/* Reads it into s, whose loop and modules are made and empty. Everything is checked: 0, -E_UNSUP (version), -E_BUSY
 * (ADOPT_EXIT_WORDS) or -E_PROTO with why filled; then adopt_forget() has been done. Nothing is started or sent, so a failure
 * leaves the children and sockets as they are. */
int adopt_load(struct sup *s, int fd, char *why, size_t cap);
void adopt_forget(struct sup *s);		/* frees what was read, closes nothing */
void adopt_cloexec(const int *fds, int n, bool on);

/* ---- for the modules. Readers: 0 or -E_PROTO, with a->why filled. */
void adopt_put_fd(struct adopt *a, int fd);
int adopt_get_fd(struct adopt *a, unsigned kind, int *fd);
/* A peer that waits for an answer: a child's or a control client's channel, or nobody (NULL). */
void adopt_put_peer(struct sup *s, struct adopt *a, const struct peer *p);
int adopt_get_peer(struct sup *s, struct adopt *a, struct peer **p);
void adopt_put_child(struct sup *s, struct adopt *a, const struct child *c);	/* NULL is nobody */
int adopt_get_child(struct adopt *a, struct child **c);
int adopt_get_u32(struct adopt *a, uint32_t max, const char *what, uint32_t *out);
void adopt_put_opts(struct adopt *a, const struct msg_job_done *o);
int adopt_get_opts(struct adopt *a, struct msg_job_done *o);
void adopt_put_time(struct adopt *a, ev_tstamp t);
int adopt_get_time(struct adopt *a, ev_tstamp *t);
void adopt_put_moment(struct adopt *a, ev_tstamp t);	/* of ev_steady() */
int adopt_get_moment(struct adopt *a, ev_tstamp *t);
int adopt_bad(struct adopt *a, const char *what);	/* fills why; -E_PROTO */

#endif
