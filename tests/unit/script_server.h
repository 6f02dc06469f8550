/* SPDX-License-Identifier: MIT */
/* A fake TCP server on loopback that follows a script in a thread of its own: for each step it reads exactly the bytes
 * expected, then sends. */
#ifndef SLUICE_TESTS_SCRIPT_SERVER_H
#define SLUICE_TESTS_SCRIPT_SERVER_H

#include <poll.h>
#include <pthread.h>
#include <stdio.h>

#include "tests/unit/outbound_kit.h"

struct script_step {
	const char *want;	/* NULL: nothing is read, the connection stays as it is */
	size_t n_want;
	const char *send;
	size_t n_send;
	unsigned wait_ms;	/* before sending */
};
#define STEP(w, s) { w, sizeof(w) - 1, s, sizeof(s) - 1, 0 }

struct script {
	const struct script_step *step;
	int n, fd;
	uint16_t port;
	bool ok;		/* every byte was as expected */
	bool hold;		/* after the last step: wait for the client's end instead of closing */
	pthread_t thread;
};

static inline void *
script_run(void *arg)
{
	struct script *s = arg;
	struct pollfd first = { .fd = s->fd, .events = POLLIN };
	struct timeval limit = { .tv_sec = 5 };
	char got[4096];
	bool ok;
	int fd;

	/* accept() takes its descriptor's number before it waits: loop_init() in the other thread counts on the lowest being
	 * free */
	(void)poll(&first, 1, -1);
	fd = accept(s->fd, NULL, NULL);
	ok = fd != -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	for (int i = 0; ok && i < s->n; i++) {
		const struct script_step *t = &s->step[i];

		if (t->n_want > 0)
			ok = recv(fd, got, t->n_want, MSG_WAITALL) == (ssize_t)t->n_want && memcmp(got, t->want, t->n_want) == 0;
		if (!ok)
			(void)fprintf(stderr, "script: step %d did not get what it expected\n", i);
		usleep(t->wait_ms * 1000);
		if (ok && t->n_send > 0)
			ok = send(fd, t->send, t->n_send, MSG_NOSIGNAL) == (ssize_t)t->n_send;
	}
	while (ok && s->hold && recv(fd, got, sizeof(got), 0) > 0)
		;
	(void)close(fd);
	s->ok = ok;
	return NULL;
}

/* Listens; the port is known from here on. */
static inline void
script_listen(struct script *s)
{
	memset(s, 0, sizeof(*s));
	s->fd = kit_socket(SOCK_STREAM, &s->port);
	if (s->fd == -1)
		abort();
}

static inline void
script_go(struct script *s, const struct script_step *step, int n, bool hold)
{
	s->step = step;
	s->n = n;
	s->hold = hold;
	if (pthread_create(&s->thread, NULL, script_run, s) != 0)
		abort();
}

static inline bool
script_end(struct script *s)
{
	(void)pthread_join(s->thread, NULL);
	(void)close(s->fd);
	return s->ok;
}

#endif
