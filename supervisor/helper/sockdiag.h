/* SPDX-License-Identifier: MIT */
/* Whose socket is it, by the kernel's table of sockets: one question of a worker to NETLINK_SOCK_DIAG, and the answer's bytes. */
#ifndef SLUICE_SUPERVISOR_HELPER_SOCKDIAG_H
#define SLUICE_SUPERVISOR_HELPER_SOCKDIAG_H

#include <stddef.h>
#include <stdint.h>

#include "common/imsg_types.h"

struct sock_owner {
	uint32_t inode;			/* names the socket in /proc/PID/fd; not 0 */
	uint32_t uid;			/* who made it */
};

/* The netlink socket, or -E_SYS. */
int sockdiag_open(void);
/* Asks the kernel, which answers at once. 0, -E_NOTFOUND (no such socket here, or none that a process has any more), -E_SYS. */
int sockdiag_find(int fd, const struct msg_find *q, struct sock_owner *out);

/* For sockdiag_find() and its tests. Writes the question, about sockets of AF_INET or AF_INET6; its length, at most
 * SOCKDIAG_ASK_MAX, or -E_INVAL for an address that is none. */
enum { SOCKDIAG_ASK_MAX = 128 };
int sockdiag_write(uint8_t out[static SOCKDIAG_ASK_MAX], const struct msg_find *q, int family, uint32_t seq);
/* Reads what one read() of the socket gave. 0 with *out filled, -E_NOTFOUND, -E_AGAIN (nothing of it in here: more comes),
 * -E_PROTO. */
int sockdiag_read(const void *p, size_t n, const struct msg_find *q, uint32_t seq, struct sock_owner *out);

#endif
