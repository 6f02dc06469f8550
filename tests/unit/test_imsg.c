/* SPDX-License-Identifier: MIT */
/* common/imsg.c and peer.c: a hostile other end. Each case sends what must not be sent and checks that the receiver ends
 * that peer with a reason, tells its owner once, leaks no fd, and goes on serving another peer. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/err.h"
#include "common/imsg.h"
#include "common/log.h"
#include "common/peer.h"
#include "common/strutil.h"

enum { T_PLAIN = 1, T_FD, T_UPTO, T_BAD, T_CLOSE, T_FAIL, T_FLOOD, T_ANSWER, T_ASK, T_LOOP, T_DROP };
enum { STATE_A = 1, STATE_B = 2 };

struct owner {
	struct ev_loop *loop;
	struct peer *p;			/* malloc'ed, freed inside on_gone: the sanitizer sees who touches it later */
	int other;			/* the raw other end */
	int calls, gone, fds;
	int wait_result;
	uint32_t last_id;
	char why[128];
};

static int
count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

/* ---- handlers */

static int
on_any(struct peer *p, struct wire *body, const int *fds)
{
	struct owner *o = p->arg;

	(void)body;
	o->calls++;
	o->last_id = p->cur_id;
	o->fds += p->cur_nfds;
	imsg_close_fds(fds, p->cur_nfds);
	return 0;
}

static int
on_bad(struct peer *p, struct wire *body, const int *fds)
{
	struct owner *o = p->arg;

	(void)fds;
	o->calls++;
	return wire_get_u32(body, NULL);
}

static int
on_close(struct peer *p, struct wire *body, const int *fds)
{
	struct owner *o = p->arg;

	(void)body;
	(void)fds;
	o->calls++;
	peer_close(p);
	peer_close(p);
	assert_int_equal(peer_send(p, T_PLAIN, 0, NULL, 0, NULL, 0), -E_CLOSED);
	return 0;
}

static int
on_fail(struct peer *p, struct wire *body, const int *fds)
{
	struct owner *o = p->arg;

	(void)body;
	o->calls++;
	imsg_close_fds(fds, p->cur_nfds);
	peer_fail(p, "handler says no");
	peer_fail(p, "twice");
	assert_int_equal(o->gone, 0);		/* not inside the handler */
	assert_int_equal(p->fd, -1);
	return 0;
}

/* Fills the queue past its cap from inside a handler. */
static int
on_flood(struct peer *p, struct wire *body, const int *fds)
{
	static const uint8_t big[4096];
	struct owner *o = p->arg;
	int r = 0;

	(void)body;
	(void)fds;
	o->calls++;
	for (int i = 0; i < PEER_QUEUE_MAX * 2 && r == 0; i++)
		r = peer_send(p, T_PLAIN, 0, big, sizeof(big), NULL, 0);
	assert_int_equal(r, -E_LIMIT);
	assert_int_equal(o->gone, 0);
	assert_int_equal(peer_send(p, T_PLAIN, 0, NULL, 0, NULL, 0), -E_CLOSED);
	return 0;
}

static int
on_ask(struct peer *p, struct wire *body, const int *fds)
{
	static struct imsg m;
	struct owner *o = p->arg;
	uint32_t id = p->cur_id;

	(void)body;
	(void)fds;
	o->calls++;
	o->wait_result = peer_wait(p, T_ANSWER, 5, 100, &m);
	assert_int_equal(p->cur_id, id);	/* what was dispatched meanwhile did not change it */
	assert_int_equal(o->gone, 0);
	return 0;
}

/* Runs the loop inside itself: what ends the peer there is told only after this handler. */
static int
on_loop(struct peer *p, struct wire *body, const int *fds)
{
	struct owner *o = p->arg;

	(void)body;
	(void)fds;
	o->calls++;
	ev_run(o->loop, EVRUN_NOWAIT);
	assert_int_equal(o->gone, 0);
	assert_int_equal(p->fd, -1);
	return 0;
}

static int
on_drop(struct peer *p, struct wire *body, const int *fds)
{
	struct owner *o = p->arg;

	(void)body;
	(void)fds;
	o->calls++;
	peer_fail(p, "the owner is not to hear of it");
	peer_close(p);
	return 0;
}

static const struct imsg_handler handlers[] = {
	{ T_PLAIN, "PLAIN", STATE_A | STATE_B, 0, 8, 0, 0, on_any },
	{ T_FD, "FD", STATE_A, 4, 4, 1, 0, on_any },
	{ T_UPTO, "UPTO", STATE_A, 0, 0, 3, IMSG_FDS_UPTO, on_any },
	{ T_BAD, "BAD", STATE_A, 0, 100, 2, IMSG_FDS_UPTO, on_bad },
	{ T_CLOSE, "CLOSE", STATE_A, 0, 0, 0, 0, on_close },
	{ T_FAIL, "FAIL", STATE_A, 0, 0, 1, 0, on_fail },
	{ T_FLOOD, "FLOOD", STATE_A, 0, 0, 0, 0, on_flood },
	{ T_ASK, "ASK", STATE_A, 0, 0, 0, 0, on_ask },
	{ T_LOOP, "LOOP", STATE_A, 0, 0, 0, 0, on_loop },
	{ T_DROP, "DROP", STATE_A, 0, 0, 0, 0, on_drop },
};

static void
on_gone(struct peer *p, const char *why)
{
	struct owner *o = p->arg;

	o->gone++;
	(void)str_copy(o->why, sizeof(o->why), why);
	assert_int_equal(p->fd, -1);
	peer_fail(p, "again");
	peer_close(p);
	free(p);
	o->p = NULL;
}

/* ---- the other end */

static void
owner_open(struct owner *o, struct ev_loop *loop)
{
	int fd[2];

	memset(o, 0, sizeof(*o));
	assert_int_equal(imsg_pair(fd), 0);
	o->loop = loop;
	o->other = fd[1];
	o->p = malloc(sizeof(*o->p));
	assert_non_null(o->p);
	peer_open(o->p, loop, fd[0], "tester", handlers, countof(handlers), o, on_gone);
	o->p->state = STATE_A;
}

static void
owner_close(struct owner *o)
{
	if (o->p != NULL) {
		peer_close(o->p);
		free(o->p);
	}
	if (o->other != -1)
		close(o->other);
}

/* One raw datagram with n copies of an fd. */
static void
send_raw(int fd, const void *p, size_t len, int n)
{
	union {
		char b[CMSG_SPACE(sizeof(int) * 253)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { (void *)(uintptr_t)p, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n > 0) {
		size_t bytes = sizeof(int) * (size_t)n;
		struct cmsghdr *c;

		memset(&ctl, 0, sizeof(ctl));
		msg.msg_control = ctl.b;
		msg.msg_controllen = CMSG_SPACE(bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(bytes);
		for (int i = 0; i < n; i++)
			memcpy(CMSG_DATA(c) + sizeof(int) * (size_t)i, &fd, sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), len);
}

static void
send_msg(int fd, uint16_t type, uint16_t version, uint32_t claimed, size_t len, int nfds)
{
	static uint8_t b[IMSG_MAX * 2];
	struct imsg_hdr h = { .type = type, .version = version, .len = claimed, .id = 77 };

	memcpy(b, &h, sizeof(h));
	send_raw(fd, b, sizeof(h) + len, nfds);
}

static void
run(struct ev_loop *loop)
{
	for (int i = 0; i < 5; i++)
		ev_run(loop, EVRUN_NOWAIT);
}

/* ---- one hostile message each */

struct attack {
	const char *name;
	uint16_t type, version;
	uint32_t claimed;
	size_t len;
	int nfds, calls;
	uint32_t state;
	const char *why;		/* part of the reason; NULL = legal */
};

static const struct attack attacks[] = {
	{ "legal", T_PLAIN, 1, 8, 8, 0, 1, STATE_A, NULL },
	{ "legal with fd", T_FD, 1, 4, 4, 1, 1, STATE_A, NULL },
	{ "legal up to", T_UPTO, 1, 0, 0, 3, 1, STATE_A, NULL },
	{ "legal up to, none", T_UPTO, 1, 0, 0, 0, 1, STATE_A, NULL },
	{ "claims more", T_PLAIN, 1, 9, 8, 0, 0, STATE_A, "no message" },
	{ "claims less", T_PLAIN, 1, 7, 8, 0, 0, STATE_A, "no message" },
	{ "claims everything", T_PLAIN, 1, UINT32_MAX, 8, 2, 0, STATE_A, "no message" },
	{ "wrong version", T_PLAIN, 2, 8, 8, 1, 0, STATE_A, "no message" },
	{ "version 0", T_PLAIN, 0, 8, 8, 0, 0, STATE_A, "no message" },
	{ "unknown type", 999, 1, 8, 8, 5, 0, STATE_A, "message 999" },
	{ "wrong state", T_FD, 1, 4, 4, 1, 0, STATE_B, "FD in state 0x2" },
	{ "no state", T_PLAIN, 1, 0, 0, 0, 0, 0, "PLAIN in state 0x0" },
	{ "body too long", T_PLAIN, 1, 9, 9, 0, 0, STATE_A, "PLAIN with a body of 9 bytes, 0 to 8" },
	{ "body too short", T_FD, 1, 3, 3, 1, 0, STATE_A, "FD with a body of 3 bytes" },
	{ "too few fds", T_FD, 1, 4, 4, 0, 0, STATE_A, "FD with 0 fds, 1 are legal" },
	{ "surplus fds", T_FD, 1, 4, 4, 9, 0, STATE_A, "FD with 9 fds" },
	{ "surplus fds, none legal", T_PLAIN, 1, 0, 0, 1, 0, STATE_A, "PLAIN with 1 fds" },
	{ "surplus fds, up to", T_UPTO, 1, 0, 0, 4, 0, STATE_A, "UPTO with 4 fds, 0 to 3" },
	{ "as many fds as a message may have", T_FD, 1, 4, 4, 250, 0, STATE_A, "FD with 250 fds" },
	{ "truncated control data", T_UPTO, 1, 0, 0, 253, 0, STATE_A, "no message" },
	{ "largest", T_PLAIN, 1, IMSG_BODY_MAX, IMSG_BODY_MAX, 0, 0, STATE_A, "PLAIN with a body of 16368" },
	{ "oversize", T_PLAIN, 1, IMSG_BODY_MAX + 1, IMSG_BODY_MAX + 1, 3, 0, STATE_A, "no message" },
	{ "oversize that claims less", T_PLAIN, 1, IMSG_BODY_MAX, IMSG_MAX, 3, 0, STATE_A, "no message" },
	{ "malformed body", T_BAD, 1, 3, 3, 2, 1, STATE_A, "malformed BAD" },
	{ "handler fails it", T_FAIL, 1, 0, 0, 1, 1, STATE_A, "handler says no" },
	{ "handler floods it", T_FLOOD, 1, 0, 0, 0, 1, STATE_A, "does not read" },
};

static void
test_peer_hostile_messages(void **state)
{
	struct ev_loop *loop = *state;
	struct owner good, bad;
	int fds = count_fds();

	owner_open(&good, loop);
	for (size_t i = 0; i < countof(attacks); i++) {
		const struct attack *a = &attacks[i];

		owner_open(&bad, loop);
		bad.p->state = a->state;
		send_msg(bad.other, a->type, a->version, a->claimed, a->len, a->nfds);
		run(loop);
		if (bad.calls != a->calls || bad.gone != (a->why != NULL))
			fail_msg("%s: %d calls, gone %d", a->name, bad.calls, bad.gone);
		if (a->why != NULL && strstr(bad.why, a->why) == NULL)
			fail_msg("%s: reason is \"%s\"", a->name, bad.why);
		/* the receiver goes on */
		assert_int_equal(imsg_send(good.other, T_PLAIN, (uint32_t)i + 1, NULL, 0, NULL, 0), 0);
		run(loop);
		assert_int_equal(good.last_id, i + 1);
		owner_close(&bad);
	}
	owner_close(&good);
	assert_int_equal(count_fds(), fds);
}

static void
test_peer_short_datagrams(void **state)
{
	static const uint8_t zero[sizeof(struct imsg_hdr)];
	int fds = count_fds();

	for (size_t n = 1; n < sizeof(zero); n++) {
		struct owner o;

		owner_open(&o, *state);
		send_raw(o.other, zero, n, (int)n);
		run(*state);
		assert_int_equal(o.gone, 1);
		assert_int_equal(o.calls, 0);
		owner_close(&o);
	}
	assert_int_equal(count_fds(), fds);
}

static void
test_imsg_recv_reserved_and_empty(void **state)
{
	static struct imsg m;
	struct imsg_hdr h = { .type = 1, .version = IMSG_VERSION, .reserved = 1 };
	int fd[2], fds = count_fds();

	(void)state;
	assert_int_equal(imsg_pair(fd), 0);
	assert_int_equal(imsg_recv(fd[0], &m), -E_AGAIN);
	send_raw(fd[1], &h, sizeof(h), 1);
	assert_int_equal(imsg_recv(fd[0], &m), -E_PROTO);
	assert_int_equal(m.nfds, 0);
	send_raw(fd[1], &h, 0, 2);			/* no bytes, but fds: not the end */
	assert_int_equal(imsg_recv(fd[0], &m), -E_PROTO);
	assert_int_equal(count_fds(), fds + 2);
	close(fd[1]);
	assert_int_equal(imsg_recv(fd[0], &m), -E_CLOSED);
	assert_int_equal(imsg_send(fd[0], 1, 0, NULL, 0, NULL, 0), -E_CLOSED);
	assert_int_equal(imsg_send(fd[0], 1, 0, &m, IMSG_BODY_MAX + 1, NULL, 0), -E_SYS);
	assert_int_equal(imsg_send(fd[0], 1, 0, NULL, 0, fds == 0 ? NULL : fd, IMSG_FDS + 1), -E_SYS);
	close(fd[0]);
}

static void
test_imsg_recv_fds(void **state)
{
	static struct imsg m;
	static int many[IMSG_FDS];
	int fd[2];

	(void)state;
	assert_int_equal(imsg_pair(fd), 0);
	assert_true((fcntl(fd[0], F_GETFD) & FD_CLOEXEC) != 0 && (fcntl(fd[1], F_GETFL) & O_NONBLOCK) != 0);
	for (int i = 0; i < IMSG_FDS; i++)
		many[i] = fd[0];
	assert_int_equal(imsg_send(fd[1], 7, 8, "body", 4, many, IMSG_FDS), 0);
	assert_int_equal(imsg_recv(fd[0], &m), 0);
	assert_int_equal(m.hdr.type, 7);
	assert_int_equal(m.hdr.id, 8);
	assert_int_equal(m.hdr.len, 4);
	assert_memory_equal(m.body, "body", 4);
	assert_int_equal(m.nfds, IMSG_FDS);
	for (int i = 0; i < m.nfds; i++)
		assert_true((fcntl(m.fds[i], F_GETFD) & FD_CLOEXEC) != 0);
	imsg_close_fds(m.fds, m.nfds);
	close(fd[0]);
	close(fd[1]);
}

/* What was sent before the end counts, also when the other end left unread data (the kernel then reports a reset first). */
static void
test_peer_eof_after_messages(void **state)
{
	struct ev_loop *loop = *state;
	struct owner o;

	for (int kind = 0; kind < 3; kind++) {
		owner_open(&o, loop);
		if (kind > 0)
			assert_int_equal(peer_send(o.p, T_PLAIN, 0, NULL, 0, NULL, 0), 0);
		for (int i = 0; i < PEER_BATCH + 5; i++)
			assert_int_equal(imsg_send(o.other, T_PLAIN, 1, NULL, 0, NULL, 0), 0);
		close(o.other);
		o.other = -1;
		for (int i = 0; i < 2 && kind < 2; i++) {
			assert_int_equal(peer_send(o.p, T_PLAIN, 0, NULL, 0, NULL, 0), -E_CLOSED);
			assert_int_equal(o.gone, 0);	/* never inside the owner's call */
		}
		run(loop);
		assert_int_equal(o.calls, PEER_BATCH + 5);
		assert_int_equal(o.gone, 1);
		assert_string_equal(o.why, "closed the channel");
		owner_close(&o);
	}
}

/* Shuts its reading side only: there is no end of file, and yet it must go. */
static void
test_peer_half_closed(void **state)
{
	struct owner o;

	owner_open(&o, *state);
	assert_int_equal(shutdown(o.other, SHUT_RD), 0);
	assert_int_equal(peer_send(o.p, T_PLAIN, 0, NULL, 0, NULL, 0), -E_CLOSED);
	run(*state);
	assert_int_equal(o.gone, 1);
	owner_close(&o);
}

static void
test_peer_queue_cap(void **state)
{
	static const uint8_t big[8192];
	struct ev_loop *loop = *state;
	int fds = count_fds(), r = 0, sent = 0;
	struct owner o;

	owner_open(&o, loop);
	while (r == 0 && sent < PEER_QUEUE_MAX * 2) {
		int fd = dup(o.other);

		assert_true(fd >= 0);
		r = peer_send(o.p, T_PLAIN, 0, big, sizeof(big), &fd, 1);	/* takes fd */
		sent += r == 0;
	}
	assert_int_equal(r, -E_LIMIT);
	assert_true(sent >= PEER_QUEUE_MAX);
	assert_int_equal(o.gone, 0);
	run(loop);
	assert_int_equal(o.gone, 1);
	assert_non_null(strstr(o.why, "does not read"));
	owner_close(&o);
	assert_int_equal(count_fds(), fds);
}

/* Queued messages arrive in order, with their fds, once the other end reads. */
static void
test_peer_queue_flushes(void **state)
{
	static uint8_t big[8192];
	static struct imsg m;
	struct ev_loop *loop = *state;
	int fds = count_fds();
	uint32_t next = 0;
	struct owner o;

	owner_open(&o, loop);
	for (uint32_t i = 0; i < 200; i++) {
		int fd = dup(o.other);

		memcpy(big, &i, sizeof(i));
		assert_int_equal(peer_send(o.p, T_PLAIN, i, big, sizeof(big), &fd, 1), 0);
	}
	assert_true(o.p->queued > 50);
	for (int turn = 0; turn < 1000 && next < 200; turn++) {
		while (imsg_recv(o.other, &m) == 0) {
			uint32_t v;

			memcpy(&v, m.body, sizeof(v));
			assert_int_equal(m.hdr.id, next);
			assert_int_equal(v, next++);
			assert_int_equal(m.hdr.len, sizeof(big));
			assert_int_equal(m.nfds, 1);
			imsg_close_fds(m.fds, m.nfds);
		}
		ev_run(loop, EVRUN_NOWAIT);
	}
	assert_int_equal(next, 200);
	assert_int_equal(o.p->queued, 0);
	assert_false(ev_is_active(&o.p->wr));
	owner_close(&o);
	assert_int_equal(count_fds(), fds);
}

static void
test_peer_send_over_caps(void **state)
{
	static const uint8_t big[IMSG_BODY_MAX + 1];
	int fds = count_fds(), fd;
	struct owner o;
	struct wire w;

	owner_open(&o, *state);
	fd = dup(o.other);
	assert_int_equal(peer_send(o.p, T_PLAIN, 0, big, sizeof(big), &fd, 1), -E_LIMIT);
	wire_init(&w);
	wire_put(&w, big, sizeof(big));
	assert_int_equal(peer_send_wire(o.p, T_PLAIN, 0, &w, NULL, 0), -E_LIMIT);
	assert_null(w.p);
	wire_init(&w);
	wire_put_u8(&w, 1);
	w.failed = true;
	fd = dup(o.other);
	assert_int_equal(peer_send_wire(o.p, T_PLAIN, 0, &w, &fd, 1), -E_LIMIT);
	run(*state);
	assert_int_equal(o.gone, 0);		/* our own mistake is not the peer's */
	assert_int_equal(peer_send(o.p, T_PLAIN, 0, big, IMSG_BODY_MAX, NULL, 0), 0);
	owner_close(&o);
	assert_int_equal(count_fds(), fds);
}

static void
test_peer_close_in_handler(void **state)
{
	static const uint16_t types[] = { T_CLOSE, T_DROP };
	struct owner o;

	for (size_t i = 0; i < countof(types); i++) {
		owner_open(&o, *state);
		assert_int_equal(imsg_send(o.other, types[i], 0, NULL, 0, NULL, 0), 0);
		assert_int_equal(imsg_send(o.other, T_PLAIN, 0, NULL, 0, NULL, 0), 0);
		run(*state);
		assert_int_equal(o.calls, 1);		/* nothing after the close */
		assert_int_equal(o.gone, 0);
		owner_close(&o);
	}
}

static void
test_peer_end_in_nested_loop(void **state)
{
	struct owner o;

	owner_open(&o, *state);
	assert_int_equal(imsg_send(o.other, T_LOOP, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(imsg_send(o.other, 999, 0, NULL, 0, NULL, 0), 0);
	run(*state);
	assert_int_equal(o.calls, 1);
	assert_int_equal(o.gone, 1);
	owner_close(&o);
}

/* The owner may close between the end and its report, and hears nothing then. */
static void
test_peer_close_before_report(void **state)
{
	struct owner o;

	owner_open(&o, *state);
	peer_fail(o.p, "no");
	peer_close(o.p);
	free(o.p);
	o.p = NULL;
	run(*state);
	assert_int_equal(o.gone, 0);
	owner_close(&o);
}

static void
test_peer_close_flushes(void **state)
{
	static uint8_t big[8192];
	static struct imsg m;
	struct owner o;
	int n = 0;

	owner_open(&o, *state);
	while (o.p->queued == 0)
		assert_int_equal(peer_send(o.p, T_PLAIN, 0, big, sizeof(big), NULL, 0), 0);
	while (imsg_recv(o.other, &m) == 0)
		;
	assert_int_equal(peer_send(o.p, T_PLAIN, 3, NULL, 0, NULL, 0), 0);
	peer_close(o.p);			/* the loop did not run in between */
	while (imsg_recv(o.other, &m) == 0)
		n = (int)m.hdr.id;
	assert_int_equal(n, 3);
	owner_close(&o);
}

/* ---- peer_wait */

static void
test_peer_wait_answer(void **state)
{
	static struct imsg m;
	struct owner o;

	owner_open(&o, *state);
	assert_int_equal(imsg_send(o.other, T_PLAIN, 1, NULL, 0, NULL, 0), 0);
	assert_int_equal(imsg_send(o.other, T_ANSWER, 5, "yes", 3, &o.other, 1), 0);
	assert_int_equal(imsg_send(o.other, T_PLAIN, 2, NULL, 0, NULL, 0), 0);
	assert_int_equal(peer_wait(o.p, T_ANSWER, 5, 1000, &m), 0);
	assert_int_equal(o.calls, 1);		/* the one before was handed on, the one after waits */
	assert_int_equal(m.hdr.len, 3);
	assert_int_equal(m.nfds, 1);
	imsg_close_fds(m.fds, m.nfds);
	run(*state);
	assert_int_equal(o.last_id, 2);
	owner_close(&o);
}

static void
test_peer_wait_failures(void **state)
{
	static struct imsg m;
	struct owner o;

	owner_open(&o, *state);
	assert_int_equal(peer_wait(o.p, T_ANSWER, 5, 20, &m), -E_TIMEOUT);
	assert_int_equal(imsg_send(o.other, T_ANSWER, 6, NULL, 0, NULL, 0), 0);	/* the wrong question */
	assert_int_equal(peer_wait(o.p, T_ANSWER, 5, 1000, &m), -E_CLOSED);
	assert_int_equal(o.gone, 0);
	run(*state);
	assert_int_equal(o.gone, 1);
	owner_close(&o);

	owner_open(&o, *state);
	send_raw(o.other, "x", 1, 1);
	assert_int_equal(peer_wait(o.p, T_ANSWER, 5, 1000, &m), -E_PROTO);
	run(*state);
	assert_int_equal(o.gone, 1);
	owner_close(&o);

	owner_open(&o, *state);
	close(o.other);
	o.other = -1;
	assert_int_equal(peer_wait(o.p, T_ANSWER, 5, 1000, &m), -E_CLOSED);
	run(*state);
	assert_int_equal(o.gone, 1);
	owner_close(&o);
}

/* A full queue is sent while waiting, else two ends that ask each other would stand still. */
static void
test_peer_wait_flushes(void **state)
{
	static uint8_t big[8192];
	static struct imsg m;
	struct owner o;
	unsigned before;

	owner_open(&o, *state);
	for (int i = 0; i < 100; i++)
		assert_int_equal(peer_send(o.p, T_PLAIN, 0, big, sizeof(big), NULL, 0), 0);
	before = o.p->queued;
	assert_true(before > 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(imsg_recv(o.other, &m), 0);
	while (imsg_recv(o.other, &m) == 0)
		;
	assert_int_equal(peer_wait(o.p, T_ANSWER, 5, 20, &m), -E_TIMEOUT);
	assert_true(o.p->queued < before);
	owner_close(&o);
}

static void
test_peer_wait_in_handler(void **state)
{
	struct owner o;

	owner_open(&o, *state);
	assert_int_equal(imsg_send(o.other, T_ASK, 9, NULL, 0, NULL, 0), 0);
	assert_int_equal(imsg_send(o.other, T_PLAIN, 1, NULL, 0, NULL, 0), 0);
	assert_int_equal(imsg_send(o.other, 999, 0, NULL, 0, NULL, 0), 0);
	run(*state);
	assert_int_equal(o.calls, 2);
	assert_int_equal(o.wait_result, -E_CLOSED);
	assert_int_equal(o.gone, 1);
	owner_close(&o);
}

static int
setup(void **state)
{
	log_set_level(LL_SILENT);
	*state = ev_loop_new(EV_SLUICE);
	return *state == NULL;
}

static int
teardown(void **state)
{
	ev_loop_destroy(*state);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peer_hostile_messages),
		cmocka_unit_test(test_peer_short_datagrams),
		cmocka_unit_test(test_imsg_recv_reserved_and_empty),
		cmocka_unit_test(test_imsg_recv_fds),
		cmocka_unit_test(test_peer_eof_after_messages),
		cmocka_unit_test(test_peer_half_closed),
		cmocka_unit_test(test_peer_queue_cap),
		cmocka_unit_test(test_peer_queue_flushes),
		cmocka_unit_test(test_peer_send_over_caps),
		cmocka_unit_test(test_peer_close_in_handler),
		cmocka_unit_test(test_peer_end_in_nested_loop),
		cmocka_unit_test(test_peer_close_before_report),
		cmocka_unit_test(test_peer_close_flushes),
		cmocka_unit_test(test_peer_wait_answer),
		cmocka_unit_test(test_peer_wait_failures),
		cmocka_unit_test(test_peer_wait_flushes),
		cmocka_unit_test(test_peer_wait_in_handler),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
