/* SPDX-License-Identifier: MIT */
/* Which program has this socket open, by /proc: one walk over the processes answers for many sockets. */
#ifndef SLUICE_SUPERVISOR_HELPER_PROCFS_H
#define SLUICE_SUPERVISOR_HELPER_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SEARCH_MAX = 1024,		/* sockets of one search */
	/* of CPU at most; what is not found by then is unknown: a million descriptors must not hold up all others */
	SEARCH_MS = 150
};

struct sought {
	uint32_t inode, uid;		/* as sock_diag has them */
	bool found;
	void *arg;
	struct sought *next;		/* procfs.c's */
};
/* path is lent; "" when the program's name cannot be read. */
typedef void found_cb(struct sought *s, const char *path);

/* The directory /proc, or -E_SYS. */
int procfs_open(void);
/* Calls cb for each of the n that a process is found for. True when every process was looked at, or all are found: what is left
 * has no owner. */
bool procfs_search(int proc, struct sought *list, unsigned n, found_cb *cb);

/* "socket:[123]" -> 123; 0 for every other link. */
uint32_t procfs_inode(const char *link, size_t n);
/* The path of a program whose file was replaced ends in " (deleted)": it is still that program. n is the length; returns the new
 * one. */
size_t procfs_trim(char *path, size_t n);

#endif
