/* SPDX-License-Identifier: MIT */
/* Sending and receiving of single messages on SOCK_SEQPACKET channels. The other end is never trusted: size, header and
 * control data are checked here, and whatever is refused leaves no fd behind. Queues and meaning are peer.c's. Owns nothing. */
#include "common/imsg.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/err.h"

union control {
	char buf[CMSG_SPACE(sizeof(int) * IMSG_FDS)];
	struct cmsghdr align;
};

_Static_assert(sizeof(struct imsg_hdr) == 16, "the header goes over the wire as it lies in memory");

int
imsg_pair(int fd[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == -1 ? -E_SYS : 0;
}

void
imsg_close_fds(const int *fds, int n)
{
	for (int i = 0; i < n; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
}

int
imsg_send_as(int fd, uint16_t version, uint16_t type, uint32_t id, const void *body, size_t len, const int *fds, int nfds)
{
	struct imsg_hdr hdr = { .type = type, .version = version, .len = (uint32_t)len, .id = id };
	struct iovec iov[2] = { { &hdr, sizeof(hdr) }, { (void *)(uintptr_t)body, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = len > 0 ? 2 : 1 };
	union control ctl;
	ssize_t r;

	if (len > IMSG_BODY_MAX || nfds < 0 || nfds > IMSG_FDS) {
		errno = EMSGSIZE;
		return -E_SYS;
	}
	if (nfds > 0) {
		size_t bytes = sizeof(int) * (size_t)nfds;
		struct cmsghdr *c;

		msg.msg_control = ctl.buf;
		msg.msg_controllen = CMSG_SPACE(bytes);
		memset(ctl.buf, 0, msg.msg_controllen);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(c), fds, bytes);
	}
	do
		r = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (r == -1 && errno == EINTR);
	if (r >= 0)
		return 0;
	/* ETOOMANYREFS: fds of this user in flight, as in a hand-over of other processes; it passes (unix(7)) */
	if (errno == EAGAIN || errno == ETOOMANYREFS)
		return -E_AGAIN;
	return errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? -E_CLOSED : -E_SYS;
}

int
imsg_send(int fd, uint16_t type, uint32_t id, const void *body, size_t len, const int *fds, int nfds)
{
	return imsg_send_as(fd, IMSG_VERSION, type, id, body, len, fds, nfds);
}

/* Moves every fd of the control data to m; false when more came than a message may carry (the rest is closed). */
static bool
take_fds(struct imsg *m, struct msghdr *msg)
{
	bool fits = true;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (m->nfds < IMSG_FDS) {
				m->fds[m->nfds++] = fd;
			} else {
				close(fd);
				fits = false;
			}
		}
	}
	return fits;
}

static ssize_t
receive(int fd, struct msghdr *msg)
{
	size_t space = msg->msg_controllen;
	int resets = 0;

	for (;;) {
		ssize_t r = recvmsg(fd, msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (r >= 0)
			return r;
		/* A peer that closed without reading all we sent leaves one ECONNRESET in front of what it had sent itself. */
		if (errno != EINTR && (errno != ECONNRESET || resets++ > 0))
			return r;
		msg->msg_controllen = space;
	}
}

int
imsg_recv(int fd, struct imsg *m)
{
	union control ctl;
	struct iovec iov[2] = { { &m->hdr, sizeof(m->hdr) }, { m->body, IMSG_BODY_MAX } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = ctl.buf, .msg_controllen = sizeof(ctl.buf) };
	ssize_t r = receive(fd, &msg);
	bool fits;

	m->nfds = 0;
	if (r == -1) {
		if (errno == EAGAIN)
			return -E_AGAIN;
		return errno == ECONNRESET || errno == ENOTCONN ? -E_CLOSED : -E_SYS;
	}
	fits = take_fds(m, &msg);
	if (r == 0 && m->nfds == 0 && fits)
		return -E_CLOSED;
	if (!fits || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || (size_t)r < sizeof(m->hdr) ||
	    ((m->hdr.version > IMSG_VERSION || m->hdr.version < IMSG_VERSION_OLDEST) && m->hdr.version != IMSG_VERSION_CONTROL) ||
	    m->hdr.reserved != 0 || m->hdr.len != (size_t)r - sizeof(m->hdr)) {
		imsg_close_fds(m->fds, m->nfds);
		m->nfds = 0;
		return -E_PROTO;
	}
	return 0;
}
