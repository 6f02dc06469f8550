/* SPDX-License-Identifier: MIT */
/* Framing of every channel between sluice's processes: AF_UNIX SOCK_SEQPACKET, one datagram = one header + body + fds, 16 KiB
 * cap. What may be sent, by whom and when, is in imsg_types.h; queues and dispatch are in peer.h. */
#ifndef SLUICE_COMMON_IMSG_H
#define SLUICE_COMMON_IMSG_H

#include <stddef.h>
#include <stdint.h>

#ifndef SLUICE_IPC_VERSION	/* make CPPFLAGS=-DSLUICE_IPC_VERSION=2: a build to try a change of version with (tests/reload/test_versions.py) */
#define SLUICE_IPC_VERSION 1
#endif

enum {
	IMSG_MAX = 16384,	/* header and body */
	IMSG_FDS = 250,		/* the kernel's limit is 253 a message */
	IMSG_VERSION = SLUICE_IPC_VERSION,	/* what this build's programs speak: children this one only */
	IMSG_VERSION_OLDEST = IMSG_VERSION > 1 ? IMSG_VERSION - 1 : 1,	/* what the supervisor also speaks to children of the build before */
	IMSG_VERSION_CONTROL = 1 /* on the control socket, for ever: a new sluice command must be able to upgrade an old service */
};

struct imsg_hdr {
	uint16_t type;		/* enum imsg_type */
	uint16_t version;	/* IMSG_VERSION */
	uint32_t len;		/* of the body; must be the datagram's length less this header */
	uint32_t id;		/* ties an answer to its question; 0 = none */
	uint32_t reserved;	/* 0 */
};

enum { IMSG_BODY_MAX = IMSG_MAX - (int)sizeof(struct imsg_hdr) };

struct imsg {			/* one received message; the receiver owns fds */
	struct imsg_hdr hdr;
	int nfds;
	int fds[IMSG_FDS];
	_Alignas(16) uint8_t body[IMSG_MAX];
};

/* A connected pair, both ends close-on-exec and non-blocking; 0 or -E_SYS. */
int imsg_pair(int fd[2]);
/* Sends one message; lends everything. 0, -E_AGAIN (nothing was sent), -E_CLOSED or -E_SYS (also: over a cap). */
int imsg_send(int fd, uint16_t type, uint32_t id, const void *body, size_t len, const int *fds, int nfds);
/* The same in the words of another version, to a child that an earlier build of the supervisor started. */
int imsg_send_as(int fd, uint16_t version, uint16_t type, uint32_t id, const void *body, size_t len, const int *fds, int nfds);
/* Receives one message without blocking. 0, -E_AGAIN, -E_CLOSED (end of file), -E_PROTO (short, long, unknown version, truncated
 * control data; every fd that came is closed), -E_SYS. Received fds are close-on-exec. */
int imsg_recv(int fd, struct imsg *m);
void imsg_close_fds(const int *fds, int n);

#endif
