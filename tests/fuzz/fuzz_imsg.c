/* SPDX-License-Identifier: MIT */
/* Fuzzes common/imsg.c and the dispatch of common/peer.c: the input is cut to datagrams (u8 number of fds, u16 length,
 * bytes) that go through a real socket to a peer whose handlers read, answer, close and fail. Nothing may crash, be told
 * twice, or leave an fd open. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/imsg.h"
#include "common/log.h"
#include "common/peer.h"
#include "common/strutil.h"

enum { DATAGRAMS_MAX = 64, FDS_MAX = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ev_loop *loop;
static int cargo;			/* what is passed; a socket would keep its own queue alive */
static int lowest;			/* the first free fd before a run: the same after it, or one leaked */
static int gone;

static int
on_take(struct peer *p, struct wire *body, const int *fds)
{
	char text[32];

	if (wire_get_u32(body, NULL) != 0 || wire_get_str(body, text, sizeof(text)) != 0 || wire_done(body) != 0)
		return -1;
	imsg_close_fds(fds, p->cur_nfds);
	return 0;
}

static int
on_answer(struct peer *p, struct wire *body, const int *fds)
{
	(void)peer_send(p, 2, p->cur_id, body->p, body->len, fds, p->cur_nfds);
	return 0;
}

static int
on_close(struct peer *p, struct wire *body, const int *fds)
{
	(void)body;
	imsg_close_fds(fds, p->cur_nfds);
	peer_close(p);
	return 0;
}

static int
on_fail(struct peer *p, struct wire *body, const int *fds)
{
	(void)body;
	(void)fds;
	peer_fail(p, "says the handler");
	return -1;
}

static int
on_wait(struct peer *p, struct wire *body, const int *fds)
{
	struct imsg m;

	(void)body;
	(void)fds;
	if (peer_wait(p, 9, p->cur_id, 0, &m) == 0)
		imsg_close_fds(m.fds, m.nfds);
	return 0;
}

static const struct imsg_handler handlers[] = {
	{ 1, "TAKE", 1, 8, 40, 2, IMSG_FDS_UPTO, on_take },
	{ 2, "ANSWER", 1, 0, 4096, 4, IMSG_FDS_UPTO, on_answer },
	{ 3, "CLOSE", 1, 0, 0, 1, 0, on_close },
	{ 4, "FAIL", 1, 0, 16, 3, IMSG_FDS_UPTO, on_fail },
	{ 5, "WAIT", 1, 0, 0, 0, 0, on_wait },
	{ 6, "NOT NOW", 2, 0, 4096, 4, IMSG_FDS_UPTO, on_take },
};

static void
on_gone(struct peer *p, const char *why)
{
	if (p->fd != -1 || why[0] == '\0' || gone++ != 0)
		abort();
	*(struct peer **)p->arg = NULL;
	free(p);
}

static int
first_free_fd(void)
{
	int fd = dup(cargo);

	close(fd);
	return fd;
}

static void
send_datagram(int fd, const uint8_t *p, size_t n, int nfds)
{
	union {
		char b[CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { (void *)(uintptr_t)p, n };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds > 0) {
		struct cmsghdr *c;

		memset(&ctl, 0, sizeof(ctl));
		msg.msg_control = ctl.b;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)nfds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)nfds);
		for (int i = 0; i < nfds; i++)
			memcpy(CMSG_DATA(c) + sizeof(int) * (size_t)i, &cargo, sizeof(int));
	}
	(void)!sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void
set_up(void)
{
	log_set_level(LL_SILENT);
	loop = ev_loop_new(EV_SLUICE);
	cargo = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (loop == NULL || cargo == -1)
		abort();
	lowest = first_free_fd();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct peer *p = malloc(sizeof(*p));
	size_t off = 0;
	int fd[2];

	if (loop == NULL)
		set_up();
	gone = 0;
	if (p == NULL || imsg_pair(fd) != 0)
		abort();
	peer_open(p, loop, fd[0], "fuzz", handlers, countof(handlers), &p, on_gone);
	p->state = 1;
	for (int i = 0; i < DATAGRAMS_MAX && size - off >= 3; i++) {
		size_t n = (size_t)data[off + 1] | (size_t)data[off + 2] << 8;
		int nfds = data[off] % (FDS_MAX + 1);
		bool turn = (data[off] & 0x80) != 0;

		off += 3;
		n = n < size - off ? n : size - off;
		send_datagram(fd[1], data + off, n, nfds);
		off += n;
		if (turn)
			ev_run(loop, EVRUN_NOWAIT);
	}
	ev_run(loop, EVRUN_NOWAIT);
	close(fd[1]);
	for (int i = 0; i < 4; i++)
		ev_run(loop, EVRUN_NOWAIT);
	if (p != NULL) {
		if (p->fd != -1)
			abort();		/* the other end is closed and all was read: it must have ended */
		free(p);			/* closed by a handler */
	}
	if (first_free_fd() != lowest)
		abort();
	return 0;
}
