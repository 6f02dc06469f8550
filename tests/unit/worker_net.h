/* SPDX-License-Identifier: MIT */
/* For tests of the data path: a worker without configuration, its loop turned until a condition holds, loopback sockets. */
#ifndef SLUICE_TESTS_UNIT_WORKER_NET_H
#define SLUICE_TESTS_UNIT_WORKER_NET_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/worker.h"

struct rig {
	struct worker w;
	struct gen gen;
	struct shm_stat stat;
};

static inline void
rig_start(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	signal(SIGPIPE, SIG_IGN);
	loop_init(&r->w.loop);
	r->w.gen = &r->gen;
	r->gen.w = &r->w;
	r->w.stat = &r->stat;
	r->w.conn_limit = 100;
	list_init(&r->w.conns);
	log_set_level(LL_SILENT);
}

/* Turns until *flag or ten seconds have passed: far beyond what a busy machine makes anything here wait. */
static inline bool
rig_wait(struct rig *r, const bool *flag)
{
	uint64_t end = loop_clock_ms() + 10000;

	while (!*flag && loop_clock_ms() < end) {
		loop_turn(&r->w.loop);
		if (!*flag)
			usleep(200);
	}
	return *flag;
}

static inline void
rig_turns(struct rig *r, int n)
{
	while (n-- > 0) {
		loop_turn(&r->w.loop);
		usleep(200);
	}
}

static inline int
listen_on(const char *ip, uint16_t *port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(*port) };
	socklen_t n = sizeof(a);

	inet_pton(AF_INET, ip, &a.sin_addr);
	if (fd == -1 || bind(fd, (struct sockaddr *)&a, sizeof(a)) == -1 || listen(fd, 16) == -1 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) == -1)
		return -1;
	*port = ntohs(a.sin_port);
	return fd;
}

/* A connected TCP pair: fd[0] is non-blocking, for a stream; fd[1] blocks, for the test. */
static inline int
tcp_pair(int fd[2])
{
	uint16_t port = 0;
	int l = listen_on("127.0.0.1", &port);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	fd[0] = -1;
	fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l == -1 || fd[1] == -1 || connect(fd[1], (struct sockaddr *)&a, sizeof(a)) == -1)
		return -1;
	fd[0] = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	close(l);
	return fd[0] == -1 ? -1 : 0;
}

#endif
