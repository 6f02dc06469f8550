/* SPDX-License-Identifier: MIT */
/* What the sandboxed roles must be able to do once both filters are on; probe.c runs one of them. */
#include "tests/sandbox/probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/ev.h"
#include "common/log.h"
#include "common/strutil.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int
check(bool ok, const char *what)
{
	if (ok)
		return DONE;
	log_error("work failed: %s: %s", what, strerror(errno));
	return FAILED;
}

static bool
dial(int fd)
{
	return connect(fd, (struct sockaddr *)&probe_target, sizeof(probe_target)) == 0;
}

static int
work_dial(void)
{
	static const int protocols[] = { 0, IPPROTO_TCP };
	struct sockaddr_in any = { .sin_family = AF_INET };
	int udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, mark = 7, mptcp;

	for (size_t i = 0; i < countof(protocols); i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, protocols[i]);

		if (check(fd != -1 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0 &&
		    setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)) == 0, "TCP options") != DONE)
			return FAILED;
		if (check(dial(fd) && send(fd, "x", 1, MSG_NOSIGNAL) == 1, "TCP dial") != DONE)
			return FAILED;
		if (check(setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) == -1 && errno == EPERM, "SO_MARK") != DONE)
			return FAILED;
		close(fd);
	}
	mptcp = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	if (mptcp != -1 && check(dial(mptcp), "MPTCP dial") != DONE)
		return FAILED;
	return check(udp != -1 && bind(udp, (struct sockaddr *)&any, sizeof(any)) == 0 &&
	    setsockopt(udp, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one)) == 0 &&
	    sendto(udp, "x", 1, 0, (struct sockaddr *)&probe_target, sizeof(probe_target)) == 1, "UDP");
}

static int
work_splice(void)
{
	int p[2], fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), n = 0;

	if (check(pipe2(p, O_NONBLOCK | O_CLOEXEC) == 0 && fcntl(p[0], F_SETPIPE_SZ, 4096) > 0, "pipe") != DONE)
		return FAILED;
	if (check(write(p[1], "abc", 3) == 3 && ioctl(p[0], FIONREAD, &n) == 0 && n == 3, "FIONREAD") != DONE)
		return FAILED;
	return check(fd != -1 && dial(fd) && splice(p[0], NULL, fd, NULL, 3, SPLICE_F_MOVE | SPLICE_F_NONBLOCK) == 3 &&
	    shutdown(fd, SHUT_WR) == 0, "splice to a socket");
}

static int
work_memfd(void)
{
	int fd = memfd_create("probe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat st;
	void *p;

	if (check(fd != -1 && write(fd, "abc", 3) == 3 && ftruncate(fd, 8192) == 0, "memfd") != DONE)
		return FAILED;
	if (check(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) == 0, "seals") != DONE)
		return FAILED;
	if (check(fstat(fd, &st) == 0 && st.st_size == 8192, "fstat") != DONE)
		return FAILED;
	p = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
	return check(p != MAP_FAILED && memcmp(p, "abc", 4) == 0 && munmap(p, 8192) == 0, "map");
}

static int
work_pread(void)
{
	char b[4];

	return check(pread(FD_FILE, b, sizeof(b), 0) == sizeof(b) && lseek(FD_FILE, 0, SEEK_SET) == 0 &&
	    read(FD_FILE, b, sizeof(b)) == sizeof(b), "reading a passed file");
}

static int
by_int(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(int));
}

/* libc in places where it calls the kernel unexpectedly. */
static int
work_libc(void)
{
	enum { N = 100000 };
	int *v = calloc(N, sizeof(*v));
	time_t now = 1767323045;
	struct tm tm;
	char *big;

	if (check(v != NULL && localtime_r(&now, &tm) != NULL, "calloc, localtime_r") != DONE)
		return FAILED;
	qsort(v, N, sizeof(*v), by_int);
	free(v);
	big = malloc(64 << 20);
	if (check(big != NULL, "malloc") != DONE)
		return FAILED;
	memset(big, 1, 64 << 20);
	big = realloc(big, 96 << 20);
	free(big);
	return check(open("/etc/ssl/openssl.cnf", O_RDONLY) == -1 && errno == EACCES, "a probe gets EACCES");
}

static void
on_tick(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)w, (void)events;
	ev_break(loop, EVBREAK_ALL);
}

static void
on_async(struct ev_loop *loop, ev_async *w, int events)
{
	(void)events;
	ev_async_stop(loop, w);
	*(bool *)w->data = true;
}

/* A loop made inside, with a timer and an eventfd. */
static int
work_loop(void)
{
	struct ev_loop *loop = ev_loop_new(EV_SLUICE);
	bool woken = false;
	ev_timer timer;
	ev_async async;

	if (check(loop != NULL, "ev_loop_new") != DONE)
		return FAILED;
	ev_timer_init(&timer, on_tick, 0.02, 0.);
	ev_async_init(&async, on_async);
	async.data = &woken;
	ev_timer_start(loop, &timer);
	ev_async_start(loop, &async);
	ev_async_send(loop, &async);
	ev_run(loop, 0);
	ev_loop_destroy(loop);
	return check(woken, "ev_async");
}

/* abort() must die of SIGABRT, or no crash report is ever right. */
/* What the nethelper is for: another process's descriptors and program. */
static int
work_processes(void)
{
	char path[64], list[4096], link[256];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)probe_outside);
	fd = openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (check(fd != -1 && getdents64(fd, list, sizeof(list)) > 0 && readlinkat(fd, "0", link, sizeof(link)) > 0,
		"/proc/PID/fd") != DONE)
		return FAILED;
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)probe_outside);
	return check(readlinkat(AT_FDCWD, path, link, sizeof(link)) > 0, "/proc/PID/exe");
}

static int
work_abort(void)
{
	abort();
}

static int
work_accept(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	int ep = epoll_create1(EPOLL_CLOEXEC), fd, one = 1;
	char b[8];

	if (check(write(FD_CHANNEL, "C", 1) == 1, "asking for a client") != DONE)
		return FAILED;
	if (check(ep != -1 && epoll_ctl(ep, EPOLL_CTL_ADD, FD_LISTENER, &ev) == 0, "epoll") != DONE)
		return FAILED;
	if (check(epoll_wait(ep, &ev, 1, 5000) == 1, "epoll_wait") != DONE)
		return FAILED;
	fd = accept4(FD_LISTENER, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (check(fd != -1 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0, "accept4") != DONE)
		return FAILED;
	return check(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000) == 1 && recv(fd, b, sizeof(b), 0) == 5 &&
	    send(fd, b, 5, MSG_NOSIGNAL) == 5 && getpeername(fd, (struct sockaddr *)&from, &len) == 0 &&
	    shutdown(fd, SHUT_RDWR) == 0, "serving");
}

static int
work_feed(void)
{
	int p[2];
	char b[2];

	return check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) == 0 && send(p[0], "ab", 2, MSG_NOSIGNAL) == 2 &&
	    recv(p[1], b, 2, 0) == 2, "socketpair");
}

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	int todo, done;
	const char *act;
};
static struct pool pool = { .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER };

/* Started between the stages as civetweb's threads are, so that only TSYNC brings stage 2 to it. */
static void *
pool_thread(void *arg)
{
	(void)arg;
	(void)prctl(PR_SET_NAME, "probe-worker", 0, 0, 0);
	pthread_mutex_lock(&pool.lock);
	while (pool.todo == 0)
		pthread_cond_wait(&pool.wake, &pool.lock);
	free(malloc(300 << 10));
	pool.done = check(open("/etc/passwd", O_RDONLY) == -1 && errno == EACCES, "open in a thread") == DONE ? 1 : -1;
	if (pool.todo == 2)
		(void)syscall(SYS_getuid);	/* of stage 1 only: ends the process here if stage 2 is on this thread */
	pthread_cond_broadcast(&pool.wake);
	pthread_mutex_unlock(&pool.lock);
	return NULL;
}

static pthread_t pool_id;

static int
threads_start(void)
{
	return check((errno = pthread_create(&pool_id, NULL, pool_thread, NULL)) == 0, "pthread_create between the stages");
}

static int
pool_run(int todo)
{
	struct timespec nap = { 0, 1000000 };

	clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL);
	pthread_mutex_lock(&pool.lock);
	pool.todo = todo;
	pthread_cond_broadcast(&pool.wake);
	while (pool.done == 0)
		pthread_cond_wait(&pool.wake, &pool.lock);
	pthread_mutex_unlock(&pool.lock);
	return pthread_join(pool_id, NULL) == 0 && pool.done == 1 ? DONE : FAILED;
}

static int
work_threads(void)
{
	pthread_t late;

	if (check(pthread_create(&late, NULL, pool_thread, NULL) == EPERM, "no thread after stage 2") != DONE)
		return FAILED;
	return pool_run(1);
}

static int
work_tsync(void)
{
	return pool_run(2);
}

const struct act work_acts[] = {
	{ "dial", work_dial, R_WORKER, NULL, NULL },
	{ "splice", work_splice, R_WORKER, NULL, NULL },
	{ "memfd", work_memfd, R_NO_PATH, NULL, NULL },
	{ "pread", work_pread, R_NO_PATH, NULL, NULL },
	{ "libc", work_libc, R_ALL, NULL, NULL },
	{ "loop", work_loop, R_WORKER | R_CONTROLLER | R_NETHELPER, NULL, NULL },
	{ "processes", work_processes, R_NETHELPER, NULL, NULL },
	{ "abort", work_abort, R_ALL, NULL, "killed Aborted" },
	{ "accept", work_accept, R_WORKER | R_CONTROLLER, NULL, NULL },
	{ "feed", work_feed, R_CONTROLLER, NULL, NULL },
	{ "threads", work_threads, R_CONTROLLER, threads_start, NULL },
	{ "tsync", work_tsync, R_CONTROLLER, threads_start, "trapped:" },
};
const size_t nwork_acts = countof(work_acts);
