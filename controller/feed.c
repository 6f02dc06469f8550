/* SPDX-License-Identifier: MIT */
/* The feed of civetweb, and the pool of pairs. The distribution's unmodified library knows TCP listeners only, so this program
 * defines socket, bind, listen, getsockname and accept: while mg_start() runs on this thread (a thread-local guard) they make
 * civetweb believe that one end of a SEQPACKET pair is its listener, and accept() on it hands out the descriptors that we send
 * there. Everybody else gets the system calls. A library that moves to accept4 would break this: feed_start() proves each time
 * that it works, and a test does.
 *
 * Owned by main.c's ctl. The loop owns the pairs' near ends, civetweb's threads the far ends. A call belongs to the thread from
 * the moment its request is sent until the answer is read; the pointer in the pair is how it gets there, atomically. */
#include "controller/feed.h"

#include <civetweb.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/err.h"
#include "common/ev.h"
#include "common/list.h"
#include "common/log.h"
#include "common/strutil.h"
#include "controller/call.h"
#include "controller/ctl.h"

enum { ANSWER_HEAD_MAX = 4096, ANSWER_MAX = FEED_INLINE_MAX + ANSWER_HEAD_MAX, CHECK_MS = 5000 };

static const char JOB[] = "X-Sluice-Call";	/* which place of the pool a request stands for */
static const char LENT[] = "X-Sluice-Lent: 1\r\n";

struct pair {
	struct feed *feed;
	int fd;				/* -1: none yet, or civetweb closed it */
	int place;
	_Atomic(struct call *) call;	/* NULL: idle */
	atomic_int ran;			/* handle() 0 was not called, 1 was called for it, 2 it came back and call is the loop's */
	bool fresh;			/* no request was answered on this descriptor yet */
	ev_io rd;
	char *in;			/* the answer so far; FEED ANSWER_MAX bytes */
	size_t len;
};

struct feed {
	struct ctl *ctl;
	feed_done_cb *done;
	struct mg_context *mg;
	int door;			/* our end of civetweb's "listener" */
	struct pair pairs[FEED_THREADS];
	struct list waiting;
	unsigned nwaiting;
};

/* ---- the interposers */

static _Thread_local int arming = -1;		/* while mg_start() runs: the far end of the door, else -1 */
static atomic_int listener_fd = -1;		/* civetweb's copy of it */

int
socket(int domain, int type, int protocol)
{
	int fd;

	if (arming == -1)
		return (int)syscall(SYS_socket, domain, type, protocol);
	fd = fcntl(arming, F_DUPFD_CLOEXEC, 3);
	atomic_store(&listener_fd, fd);
	return fd;
}

int
bind(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
	return arming != -1 ? 0 : (int)syscall(SYS_bind, fd, addr.__sockaddr__, len);
}

int
listen(int fd, int backlog)
{
	return arming != -1 ? 0 : (int)syscall(SYS_listen, fd, backlog);
}

/* What civetweb takes for the address of its clients and of its own end. */
static void
give_address(struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	if (addr == NULL || len == NULL)
		return;
	memcpy(addr, &in, *len < sizeof(in) ? *len : sizeof(in));
	*len = sizeof(in);
}

int
getsockname(int fd, __SOCKADDR_ARG addr, socklen_t *restrict len)
{
	if (arming == -1)
		return (int)syscall(SYS_getsockname, fd, addr.__sockaddr__, len);
	give_address(addr.__sockaddr__, len);
	return 0;
}

int
accept(int fd, __SOCKADDR_ARG addr, socklen_t *restrict len)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	const struct cmsghdr *cm;
	int got = -1;

	if (fd != atomic_load(&listener_fd))
		return (int)syscall(SYS_accept, fd, addr.__sockaddr__, len);
	if (recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) == 1 && (cm = CMSG_FIRSTHDR(&m)) != NULL &&
	    cm->cmsg_type == SCM_RIGHTS && cm->cmsg_len == CMSG_LEN(sizeof(int))) {
		memcpy(&got, CMSG_DATA(cm), sizeof(got));
		give_address(addr.__sockaddr__, len);
		return got;
	}
	errno = EAGAIN;
	return -1;
}

/* ---- on civetweb's threads */

/* Sends call's answer as HTTP. The last header line is the length; deliver() cuts it off again. From the last byte on the call
 * belongs to the loop, so a body that is written is taken out of it before. */
static void
write_answer(struct mg_connection *mc, struct pair *p, struct call *call, int status)
{
	struct reply *r = &call->reply;
	size_t len = r->len;
	bool lent = len > FEED_INLINE_MAX;
	char head[ANSWER_HEAD_MAX], *body = NULL;
	int n;

	n = snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\n%s%s%s%s%sContent-Length: %zu\r\n\r\n", status, http_reason(status),
	    r->type[0] != '\0' ? "Content-Type: " : "", r->type, r->type[0] != '\0' ? "\r\n" : "", r->headers, lent ? LENT : "",
	    lent ? 0 : len);
	if (n <= 0 || (size_t)n >= sizeof(head))
		return;			/* cannot be: headers[] is smaller than that */
	if (!lent) {
		body = r->body;
		r->body = NULL;
	}
	atomic_store_explicit(&p->ran, 2, memory_order_release);
	(void)mg_write(mc, head, (size_t)n);
	if (body != NULL && len > 0)
		(void)mg_write(mc, body, len);
	free(body);
}

static int
on_request(struct mg_connection *mc, void *arg)
{
	static const char yes[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
	struct feed *f = arg;
	const char *job = mg_get_header(mc, JOB);
	struct call *call = NULL;
	int64_t place;
	int status;

	if (job != NULL && str_to_i64(job, 0, FEED_THREADS - 1, &place) == 0)
		call = atomic_load_explicit(&f->pairs[place].call, memory_order_acquire);
	if (call == NULL) {		/* the check of feed_start() */
		(void)mg_write(mc, yes, sizeof(yes) - 1);
		return 200;
	}
	atomic_store(&f->pairs[place].ran, 1);
	status = call->hit.route->handle(&call->req);
	if (status < 200 || status > 599 || call->reply.oom) {
		reply_clear(&call->reply);
		status = 500;
	}
	write_answer(mc, &f->pairs[place], call, status);
	return status;
}

static int
on_log(const struct mg_connection *mc, const char *text)
{
	(void)mc;
	log_debug("civetweb: %s", text);
	return 1;
}

/* ---- pairs, on the loop */

/* Hands one end of a new pair to civetweb; the other, or -1. */
static int
feed_pair(int door)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&m);
	int sv[2], flags;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == -1)
		return -1;
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &sv[1], sizeof(int));
	flags = fcntl(sv[0], F_GETFL);
	if (flags == -1 || fcntl(sv[0], F_SETFL, flags | O_NONBLOCK) == -1 ||
	    sendmsg(door, &m, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) {
		close(sv[0]);
		sv[0] = -1;
	}
	close(sv[1]);
	return sv[0];
}

static int
send_request(const struct pair *p)
{
	const struct call *call = atomic_load(&p->call);
	char text[160];
	int n = snprintf(text, sizeof(text), "%s / HTTP/1.1\r\nHost: controller\r\n%s: %d\r\nContent-Length: 0\r\n\r\n",
	    call->hit.route->method, JOB, p->place);

	if (n <= 0 || (size_t)n >= sizeof(text))
		return -E_INVAL;
	return send(p->fd, text, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -E_CLOSED;
}

static void
drop_pair(struct pair *p)
{
	if (p->fd == -1)
		return;
	ev_io_stop(p->feed->ctl->loop, &p->rd);
	close(p->fd);
	p->fd = -1;
	p->len = 0;
}

static void on_answer(struct ev_loop *loop, ev_io *w, int events);

static int
open_pair(struct pair *p)
{
	if (p->fd != -1)
		return 0;
	if (p->in == NULL && (p->in = malloc(ANSWER_MAX)) == NULL)
		return -E_NOMEM;
	p->fd = feed_pair(p->feed->door);
	if (p->fd == -1)
		return -E_SYS;
	p->fresh = true;
	ev_io_init(&p->rd, on_answer, p->fd, EV_READ);
	p->rd.data = p;
	ev_io_start(p->feed->ctl->loop, &p->rd);
	return 0;
}

/* Ends the call in p with an error of our own; its reply holds nothing that can be used. */
static void
fail(struct pair *p)
{
	struct call *call = atomic_exchange(&p->call, NULL);

	if (call != NULL) {
		call->slot = -1;
		p->feed->done(call, 500, "", "", NULL, 0);
	}
}

/* Starts call in p. civetweb may close an idle pair at any time: then another one is tried, as long as the handler did not
 * run. */
static void
run(struct pair *p, struct call *call)
{
	call->slot = p->place;
	atomic_store(&p->ran, 0);
	atomic_store_explicit(&p->call, call, memory_order_release);
	for (int tries = 0; tries < 2; tries++) {
		if (open_pair(p) != 0)
			break;
		if (send_request(p) == 0)
			return;
		drop_pair(p);
	}
	fail(p);
}

static void
next(struct feed *f)
{
	for (int i = 0; i < FEED_THREADS && !list_empty(&f->waiting); i++) {
		struct call *call = container_of(f->waiting.next, struct call, link);
		if (atomic_load(&f->pairs[i].call) != NULL)
			continue;
		list_remove(&call->link);
		f->nwaiting--;
		run(&f->pairs[i], call);
	}
}

/* The answer in p->in: its head's end, and whether it is whole. 1, 0 = not yet, -E_PROTO. */
static int
whole(const struct pair *p, size_t *head, int *status, size_t *length, size_t *line)
{
	static const char field[] = "Content-Length: ";
	const char *end = memmem(p->in, p->len, "\r\n\r\n", 4), *at;
	char digits[24];
	int64_t n;

	if (end == NULL)
		return p->len < ANSWER_HEAD_MAX ? 0 : -E_PROTO;
	for (at = end; at > p->in && at[-1] != '\n'; at--)
		;
	*line = (size_t)(at - p->in);
	*head = (size_t)(end - p->in) + 4;
	n = end - at;
	if (n <= (int64_t)sizeof(field) - 1 || n - (int64_t)sizeof(field) >= (int64_t)sizeof(digits) ||
	    memcmp(at, field, sizeof(field) - 1) != 0)
		return -E_PROTO;
	memcpy(digits, at + sizeof(field) - 1, (size_t)n - sizeof(field) + 1);
	digits[(size_t)n - sizeof(field) + 1] = '\0';
	if (str_to_i64(digits, 0, FEED_INLINE_MAX, &n) != 0)
		return -E_PROTO;
	*length = (size_t)n;
	*status = (p->in[9] - '0') * 100 + (p->in[10] - '0') * 10 + (p->in[11] - '0');
	return p->len >= *head + *length;
}

/* Hands a whole answer on: the status line and the length line are cut off, the connection's owner makes its own. */
static void
deliver(struct pair *p, int status, size_t head, size_t line, size_t length)
{
	struct call *call = atomic_exchange_explicit(&p->call, NULL, memory_order_acq_rel);
	char *first = memmem(p->in, head, "\r\n", 2), *body = NULL;
	char headers[ANSWER_HEAD_MAX];
	size_t start = (size_t)(first - p->in) + 2, n = line - start, mark = sizeof(LENT) - 1;

	p->len = 0;
	p->fresh = false;
	if (call == NULL || atomic_load_explicit(&p->ran, memory_order_acquire) != 2)
		return;
	if (n >= mark && memcmp(p->in + line - mark, LENT, mark) == 0) {
		n -= mark;
		body = call->reply.body;
		length = call->reply.len;
		call->reply.body = NULL;
	} else if (length > 0) {
		body = malloc(length);
		if (body != NULL)
			memcpy(body, p->in + head, length);
		else
			status = 500, length = 0;
	}
	memcpy(headers, p->in + start, n);
	headers[n] = '\0';
	call->slot = -1;
	p->feed->done(call, status, "", headers, body, length);
}

static void
on_answer(struct ev_loop *loop, ev_io *w, int events)
{
	struct pair *p = w->data;
	struct feed *f = p->feed;
	size_t head, line, length;
	int status, r;
	ssize_t n = recv(p->fd, p->in + p->len, ANSWER_MAX - p->len, 0);

	(void)loop;
	(void)events;
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		struct call *call = atomic_load(&p->call);
		bool again = call != NULL && !p->fresh && atomic_load(&p->ran) == 0;
		drop_pair(p);
		if (again)
			run(p, call);
		else
			fail(p);
		next(f);
		return;
	}
	p->len += (size_t)n;
	r = whole(p, &head, &status, &length, &line);
	if (r == 1)
		deliver(p, status, head, line, length);
	else if (r < 0 || p->len == ANSWER_MAX) {
		drop_pair(p);
		fail(p);
	}
	if (r != 0)
		next(f);
}

int
feed_submit(struct feed *f, struct call *call)
{
	if (f->nwaiting >= FEED_WAITING_MAX)
		return -E_LIMIT;
	call->slot = FEED_THREADS;	/* waiting */
	list_append(&f->waiting, &call->link);
	f->nwaiting++;
	next(f);
	return 0;
}

bool
feed_has(const struct feed *f, const struct call *call)
{
	if (f == NULL || call->slot < 0 || call->req.parked != 0)
		return false;
	return call->slot == FEED_THREADS || atomic_load(&f->pairs[call->slot].call) == call;
}

/* ---- start and end */

/* The proof: a fed connection is answered. Blocking; before anything is served. */
static int
check(const struct feed *f)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: controller\r\nConnection: close\r\n\r\n";
	char answer[256];
	int fd = feed_pair(f->door);
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	ssize_t n = 0;

	if (fd == -1)
		return -E_SYS;
	if (send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(text) - 1 && poll(&pfd, 1, CHECK_MS) == 1)
		n = recv(fd, answer, sizeof(answer), 0);
	close(fd);
	return n >= 12 && memcmp(answer, "HTTP/1.1 200", 12) == 0 ? 0 : -E_PROTO;
}

static struct mg_context *
start_civetweb(struct feed *f, int far)
{
	static const struct mg_callbacks callbacks = { .log_message = on_log };
	char threads[8];
	const char *options[] = {
		"listening_ports", "127.0.0.1:1",	/* only its form matters */
		"num_threads", threads, "enable_keep_alive", "yes",
		"keep_alive_timeout_ms", "3600000",	/* the pairs are ours: closed by us, or by an idle hour */
		"request_timeout_ms", "30000", "decode_url", "no",
		"access_control_allow_origin", "", "access_control_allow_methods", "", "access_control_allow_headers", "",
		NULL
	};

	/* tcp_nodelay is left off: the pairs are no TCP sockets; the front sets it on the clients' */
	snprintf(threads, sizeof(threads), "%d", FEED_THREADS);
	(void)mg_init_library(0);
	arming = far;
	f->mg = mg_start(&callbacks, f, options);
	arming = -1;
	if (f->mg != NULL)
		mg_set_request_handler(f->mg, "/", on_request, f);
	return f->mg;
}

struct feed *
feed_start(struct ctl *ctl, feed_done_cb *done)
{
	struct feed *f = calloc(1, sizeof(*f));
	int door[2];

	if (f == NULL)
		return NULL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, door) == -1) {
		free(f);
		return NULL;
	}
	f->ctl = ctl;
	f->done = done;
	f->door = door[0];
	list_init(&f->waiting);
	for (int i = 0; i < FEED_THREADS; i++) {
		f->pairs[i].feed = f;
		f->pairs[i].fd = -1;
		f->pairs[i].place = i;
	}
	(void)start_civetweb(f, door[1]);
	close(door[1]);
	if (f->mg == NULL || check(f) != 0) {
		log_error("controller: civetweb %s", f->mg == NULL ? "does not start" : "does not answer a fed connection");
		feed_stop(f);
		return NULL;
	}
	return f;
}

void
feed_stop(struct feed *f)
{
	if (f == NULL)
		return;
	for (int i = 0; i < FEED_THREADS; i++)
		drop_pair(&f->pairs[i]);
	close(f->door);			/* wakes civetweb's accepting thread */
	if (f->mg != NULL) {
		mg_stop(f->mg);
		(void)mg_exit_library();
	}
	atomic_store(&listener_fd, -1);
	for (int i = 0; i < FEED_THREADS; i++) {
		fail(&f->pairs[i]);
		free(f->pairs[i].in);
	}
	while (!list_empty(&f->waiting)) {
		struct call *call = container_of(f->waiting.next, struct call, link);
		list_remove(&call->link);
		f->done(call, 503, "", "", NULL, 0);
	}
	free(f);
}
