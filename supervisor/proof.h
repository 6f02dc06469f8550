/* SPDX-License-Identifier: MIT */
/* A child that tries something with the programs of an upgrade, and says by its exit status and its last words how it went. */
#ifndef SLUICE_SUPERVISOR_PROOF_H
#define SLUICE_SUPERVISOR_PROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct sup;

struct proof {
	pid_t pid;		/* 0 = none */
	int pidfd, out;		/* out: a memfd with all it says */
};

/* Executes program with our own command line, extra and value (NULL = none) behind it, the configuration's standard input
 * again, and these fds open in it. false: errno tells. */
bool proof_start(struct proof *p, const struct sup *s, int program, const char *extra, const char *value, const int *fds, int n_fds);
/* When pidfd is readable: *code is its exit status, or 128 and the signal; said its last error, else its last line. false: it
 * has not ended. */
bool proof_ended(struct proof *p, int *code, char *said, size_t cap);

#endif
