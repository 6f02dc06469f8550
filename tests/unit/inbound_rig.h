/* SPDX-License-Identifier: MIT */
/* For tests of inbounds: real conns, relays and loopback sockets; dispatch.c is replaced, so that a test decides how every
 * dial ends. Included once by each test program. */
#ifndef SLUICE_TESTS_UNIT_INBOUND_RIG_H
#define SLUICE_TESTS_UNIT_INBOUND_RIG_H

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/log.h"
#include "tests/unit/worker_net.h"
#include "worker/inbound/inbound.h"

enum { DIALS_MAX = 16 };

static struct rig rig;
static struct inbound inb;
static struct conn *dialled;		/* the last conn that was dispatched */
static int n_dials, client, server;	/* the test's ends */
static char host_seen[300];

/* ---- in place of dispatch.c */
void
conn_dispatch(struct conn *c)
{
	char ip[ADDR_TEXT_MAX];

	dialled = c;
	n_dials++;
	c->state = CONN_DIALING;
	c->listed = true;
	c->deadline_ms = 0;
	snprintf(host_seen, sizeof(host_seen), "%s:%u", c->meta.host[0] != '\0' ? c->meta.host : ip_text(&c->meta.dst_ip, ip), c->meta.dst_port);
	stream_set_cb(c->in, NULL, NULL);
}

void
conn_route(struct conn *c, route_cb *done)
{
	done(c, NULL, E_UNSUP);
}

void
route_cancel(struct conn *c)
{
	(void)c;
}

void
conn_log(const struct conn *c, int err, const char *why)
{
	(void)c;
	(void)err;
	(void)why;
}

void
conn_deadline(struct conn *c)
{
	conn_close(c, BY_TIMEOUT);
}

/* ---- steps of a test */

__attribute__((unused)) static void
turns(void)
{
	rig_turns(&rig, 30);
}

/* How the dial of the last conn ends. */
__attribute__((unused)) static void
dial_ends(int err)
{
	struct conn *c = dialled;
	int fd[2];

	assert_non_null(c);
	dialled = NULL;
	if (err != 0) {
		c->reply(c, err);
		conn_close(c, BY_ERROR);
		turns();
		return;
	}
	assert_int_equal(tcp_pair(fd), 0);
	if (server != -1)
		close(server);
	server = fd[1];
	c->out = tcp_accepted(&rig.w.loop, fd[0]);
	c->reply(c, 0);
	relay_start(c);
	turns();
}

__attribute__((unused)) static void
say_n(int fd, const void *p, size_t n)
{
	assert_int_equal(send(fd, p, n, MSG_NOSIGNAL), (ssize_t)n);
	turns();
}

__attribute__((unused)) static void
say(int fd, const char *s)
{
	say_n(fd, s, strlen(s));
}

/* What is there now: exactly these bytes. */
__attribute__((unused)) static void
expect_n(int fd, const void *want, size_t n)
{
	static char got[65536];
	ssize_t k = recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT);

	got[k > 0 ? k : 0] = '\0';
	if (k != (ssize_t)n || memcmp(got, want, n) != 0)
		fail_msg("got %zd bytes: %s\nnot %zu: %s", k, got, n, (const char *)want);
}

__attribute__((unused)) static void
expect(int fd, const char *s)
{
	expect_n(fd, s, strlen(s));
}

__attribute__((unused)) static void
expect_nothing(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

__attribute__((unused)) static void
expect_end(int fd)
{
	char c;

	turns();
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
}

__attribute__((unused)) static void
expect_reset(int fd)
{
	char c;

	turns();
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNRESET);
}

static void
connect_client(void)
{
	struct conn_from from = { .inbound = &inb, .in_name = "test", .in_port = 7 };
	struct conn *c;
	int fd[2];

	assert_int_equal(ip_parse(&from.src_ip, "127.0.0.1"), 0);
	assert_int_equal(ip_parse(&from.in_ip, "127.0.0.1"), 0);
	assert_int_equal(tcp_pair(fd), 0);
	client = fd[1];
	c = conn_new(&rig.w, &from, tcp_accepted(&rig.w.loop, fd[0]));
	assert_non_null(c);
	inb.type->accept(&inb, c);
	turns();
}

static void
rig_open(const struct inbound_type *type)
{
	log_set_level(LL_SILENT);
	rig_start(&rig);
	conns_start(&rig.w);
	inb = (struct inbound){ .type = type, .w = &rig.w, .name = "test", .udp = true, .serving = true };
	inb.key.port = 7;
	dialled = NULL;
	n_dials = 0;
	server = -1;
	connect_client();
}

/* Nothing may be left when both ends are gone. */
static void
rig_close(void)
{
	close(client);
	if (server != -1)
		close(server);
	turns();
	turns();
	assert_int_equal(rig.w.n_conns, 0);
	loop_fini(&rig.w.loop);
}

#endif
