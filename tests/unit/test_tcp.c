/* SPDX-License-Identifier: MIT */
/* worker/stream/tcp.c on loopback: dials that succeed, fail, race and are cancelled; resets; moving a socket. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/unit/worker_net.h"
#include "worker/stream/stream.h"

static struct rig rig;

struct seen {
	int open, fail, read, write;
	bool done;
};

static void
on_event(struct stream *s, int events, void *arg)
{
	struct seen *e = arg;

	(void)s;
	e->open += (events & ST_OPEN) != 0;
	e->fail += (events & ST_FAIL) != 0;
	e->read += (events & ST_READ) != 0;
	e->write += (events & ST_WRITE) != 0;
	e->done = true;
}

static int
setup(void **state)
{
	(void)state;
	rig_start(&rig);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	loop_fini(&rig.w.loop);
	return 0;
}

static struct ip
ip4(const char *s)
{
	struct ip ip;

	assert_int_equal(ip_parse(&ip, s), 0);
	return ip;
}

static uint16_t
closed_port(void)
{
	uint16_t port = 0;
	int fd = listen_on("127.0.0.1", &port);

	assert_int_not_equal(fd, -1);
	close(fd);
	return port;
}

static void
test_tcp_connect_open(void **state)
{
	uint16_t port = 0, peer_port;
	int l = listen_on("127.0.0.1", &port), fd;
	struct ip ip = ip4("127.0.0.1"), peer;
	struct seen e = { 0 };
	struct stream *s = tcp_dialing(&rig.w.loop);
	char text[8] = "";

	(void)state;
	stream_set_cb(s, on_event, &e);
	assert_int_equal(stream_write(s, "x", 1), -E_AGAIN);
	assert_false(tcp_peer(s, &peer, &peer_port));
	tcp_connect(s, &ip, 1, port, NULL, false);
	assert_int_equal(e.open, 0);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(e.open, 1);
	assert_true(tcp_peer(s, &peer, &peer_port));
	assert_true(ip_equal(&peer, &ip));
	assert_int_equal(peer_port, port);
	fd = accept(l, NULL, NULL);
	assert_int_equal(stream_write(s, "hello", 5), 5);
	assert_int_equal(read(fd, text, sizeof(text)), 5);
	assert_int_equal(stream_read(s, text, sizeof(text)), -E_AGAIN);
	e.done = false;
	stream_want(s, ST_READ);
	assert_int_equal(write(fd, "abc", 3), 3);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(e.open, 1);
	assert_int_equal(stream_read(s, text, sizeof(text)), 3);
	close(fd);
	e.done = false;
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(stream_read(s, text, sizeof(text)), 0);
	stream_close(s, CLOSE_FLUSH);
	close(l);
}

static void
test_tcp_connect_refused(void **state)
{
	struct ip ip = ip4("127.0.0.1");
	struct seen e = { 0 };
	struct stream *s = tcp_dialing(&rig.w.loop);

	(void)state;
	stream_set_cb(s, on_event, &e);
	tcp_connect(s, &ip, 1, closed_port(), NULL, false);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(e.fail, 1);
	assert_int_equal(s->err, E_REFUSED);
	assert_non_null(strstr(stream_why(s), "onnection refused"));
	assert_non_null(strstr(stream_why(s), "127.0.0.1:"));
	stream_close(s, CLOSE_FLUSH);
}

static void
test_tcp_connect_nowhere(void **state)
{
	struct seen e = { 0 };
	struct stream *s = tcp_dialing(&rig.w.loop);

	(void)state;
	stream_set_cb(s, on_event, &e);
	tcp_connect(s, NULL, 0, 80, NULL, false);
	assert_int_equal(e.fail, 0);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(e.fail, 1);
	stream_close(s, CLOSE_FLUSH);
}

/* The first candidate refuses, so the second is tried at once, not after the stagger. */
static void
test_tcp_connect_second_candidate(void **state)
{
	uint16_t port = 0, peer_port;
	int l = listen_on("127.0.0.2", &port);
	struct ip ips[2] = { ip4("127.0.0.1"), ip4("127.0.0.2") }, peer;
	struct seen e = { 0 };
	struct stream *s = tcp_dialing(&rig.w.loop);
	uint64_t begin = loop_clock_ms();

	(void)state;
	stream_set_cb(s, on_event, &e);
	tcp_connect(s, ips, 2, port, NULL, false);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(e.open, 1);
	assert_true(tcp_peer(s, &peer, &peer_port));
	assert_true(ip_equal(&peer, &ips[1]));
	assert_true(loop_clock_ms() - begin < 250);
	stream_close(s, CLOSE_FLUSH);
	close(l);
}

/* A listener whose queue is full does not answer: the second candidate wins after the stagger. */
static void
test_tcp_connect_stagger(void **state)
{
	uint16_t port = 0, peer_port;
	int l1 = listen_on("127.0.0.1", &port), l2, fill[4];
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct ip ips[2] = { ip4("127.0.0.1"), ip4("127.0.0.2") }, peer;
	struct seen e = { 0 };
	struct stream *s = tcp_dialing(&rig.w.loop);
	uint64_t begin;

	(void)state;
	l2 = listen_on("127.0.0.2", &port);
	assert_int_not_equal(l2, -1);
	assert_int_equal(listen(l1, 0), 0);
	a.sin_port = htons(port);
	for (int i = 0; i < 4; i++) {
		fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)!connect(fill[i], (struct sockaddr *)&a, sizeof(a));
	}
	stream_set_cb(s, on_event, &e);
	begin = loop_clock_ms();
	tcp_connect(s, ips, 2, port, NULL, false);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(e.open, 1);
	assert_true(tcp_peer(s, &peer, &peer_port));
	assert_true(ip_equal(&peer, &ips[1]));
	assert_true(loop_clock_ms() - begin >= 250);
	stream_close(s, CLOSE_FLUSH);
	for (int i = 0; i < 4; i++)
		close(fill[i]);
	close(l1);
	close(l2);
}

static void
test_tcp_connect_concurrent(void **state)
{
	uint16_t port = 0;
	int l = listen_on("127.0.0.2", &port), fd;
	struct ip ips[3] = { ip4("127.0.0.1"), ip4("127.0.0.2"), ip4("127.0.0.3") };
	struct seen e = { 0 };
	struct stream *s = tcp_dialing(&rig.w.loop);

	(void)state;
	stream_set_cb(s, on_event, &e);
	tcp_connect(s, ips, 3, port, NULL, true);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(e.open, 1);
	fd = tcp_fd(s);
	assert_int_not_equal(fd, -1);
	stream_close(s, CLOSE_FLUSH);
	assert_int_equal(tcp_fd(s), fd);	/* freed at the end of the turn only */
	rig_turns(&rig, 1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	close(l);
}

static void
test_tcp_close_while_dialing(void **state)
{
	uint16_t port = 0;
	int l = listen_on("127.0.0.1", &port), next = dup(0);
	struct ip ip = ip4("127.0.0.1");
	struct seen e = { 0 };
	struct stream *s = tcp_dialing(&rig.w.loop);

	(void)state;
	close(next);
	stream_set_cb(s, on_event, &e);
	tcp_connect(s, &ip, 1, port, NULL, false);
	assert_int_not_equal(fcntl(next, F_GETFD), -1);
	stream_close(s, CLOSE_FLUSH);
	stream_close(s, CLOSE_RESET);
	rig_turns(&rig, 5);
	assert_int_equal(e.open + e.fail, 0);
	assert_int_equal(fcntl(next, F_GETFD), -1);
	close(l);
}

static void
test_tcp_reset_both_ways(void **state)
{
	int p[2];
	struct linger none = { .l_onoff = 1, .l_linger = 0 };
	struct stream *s;
	struct seen e = { 0 };
	char c;

	(void)state;
	assert_int_equal(tcp_pair(p), 0);
	s = tcp_accepted(&rig.w.loop, p[0]);
	stream_set_cb(s, on_event, &e);
	stream_want(s, ST_READ);
	setsockopt(p[1], SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(p[1]);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(stream_read(s, &c, 1), -E_RESET);
	assert_int_equal(s->err, E_RESET);
	stream_close(s, CLOSE_RESET);
	assert_int_equal(tcp_pair(p), 0);
	s = tcp_accepted(&rig.w.loop, p[0]);
	stream_close(s, CLOSE_RESET);
	rig_turns(&rig, 1);
	assert_int_equal(read(p[1], &c, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	close(p[1]);
}

static void
test_tcp_half_close(void **state)
{
	int p[2];
	struct stream *s;
	struct seen e = { 0 };
	char c = 0;

	(void)state;
	assert_int_equal(tcp_pair(p), 0);
	s = tcp_accepted(&rig.w.loop, p[0]);
	stream_set_cb(s, on_event, &e);
	assert_int_equal(stream_shut_wr(s), 0);
	assert_int_equal(stream_shut_wr(s), 0);
	assert_int_equal(read(p[1], &c, 1), 0);
	assert_int_equal(write(p[1], "z", 1), 1);
	stream_want(s, ST_READ);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(stream_read(s, &c, 1), 1);
	assert_int_equal(c, 'z');
	stream_close(s, CLOSE_FLUSH);
	close(p[1]);
}

/* After the end of file nothing is wanted: the loop must not be woken by it again. */
static void
test_tcp_eof_is_quiet(void **state)
{
	int p[2];
	struct stream *s;
	struct seen e = { 0 };
	char c;

	(void)state;
	assert_int_equal(tcp_pair(p), 0);
	s = tcp_accepted(&rig.w.loop, p[0]);
	stream_set_cb(s, on_event, &e);
	stream_want(s, ST_READ);
	shutdown(p[1], SHUT_WR);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(stream_read(s, &c, 1), 0);
	stream_want(s, 0);
	e.read = 0;
	rig_turns(&rig, 5);
	assert_int_equal(e.read, 0);
	stream_want(s, ST_WRITE);	/* back in the set */
	e.done = false;
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(e.write > 0, 1);
	stream_close(s, CLOSE_FLUSH);
	close(p[1]);
}

/* Interest that goes and comes back within one turn must not be lost. */
static void
test_tcp_want_toggled(void **state)
{
	int p[2];
	struct stream *s;
	struct seen e = { 0 };

	(void)state;
	assert_int_equal(tcp_pair(p), 0);
	s = tcp_accepted(&rig.w.loop, p[0]);
	stream_set_cb(s, on_event, &e);
	stream_want(s, ST_READ);
	rig_turns(&rig, 2);
	stream_want(s, 0);
	stream_want(s, ST_READ);
	assert_int_equal(write(p[1], "x", 1), 1);
	assert_true(rig_wait(&rig, &e.done));
	stream_want(s, 0);
	stream_want(s, ST_WRITE);
	stream_want(s, 0);
	e = (struct seen){ 0 };
	rig_turns(&rig, 2);
	assert_int_equal(e.read + e.write, 0);
	stream_want(s, ST_READ | ST_WRITE);
	assert_true(rig_wait(&rig, &e.done));
	stream_close(s, CLOSE_FLUSH);
	close(p[1]);
}

static void
test_tcp_close_keeps_last_words(void **state)
{
	int p[2];
	struct stream *s;
	char text[8] = "";

	(void)state;
	assert_int_equal(tcp_pair(p), 0);
	s = tcp_accepted(&rig.w.loop, p[0]);
	assert_int_equal(write(p[1], "unread request", 14), 14);
	assert_int_equal(stream_write(s, "no", 2), 2);
	stream_close(s, CLOSE_FLUSH);
	rig_turns(&rig, 1);
	assert_int_equal(read(p[1], text, sizeof(text)), 2);
	assert_int_equal(read(p[1], text, sizeof(text)), 0);
	close(p[1]);
}

static void
test_tcp_freeze_thaw(void **state)
{
	int p[2], fd;
	struct wire w, r;
	struct stream *s, *t;
	struct seen e = { 0 };
	char c = 0;

	(void)state;
	assert_int_equal(tcp_pair(p), 0);
	s = tcp_accepted(&rig.w.loop, p[0]);
	stream_set_cb(s, on_event, &e);
	stream_want(s, ST_READ);
	rig_turns(&rig, 1);
	assert_int_equal(stream_shut_wr(s), 0);
	wire_init(&w);
	assert_int_equal(s->ops->freeze(s, &w, &fd), 1);
	assert_int_equal(fd, p[0]);
	stream_close(s, CLOSE_RESET);	/* must not touch the fd */
	rig_turns(&rig, 1);
	wire_read(&r, w.p, w.len);
	t = tcp_thaw(&rig.w.loop, &r, &fd, 1);
	assert_non_null(t);
	assert_int_equal(wire_done(&r), 0);
	e = (struct seen){ 0 };
	stream_set_cb(t, on_event, &e);
	stream_want(t, ST_READ);
	assert_int_equal(write(p[1], "q", 1), 1);
	assert_true(rig_wait(&rig, &e.done));
	assert_int_equal(stream_read(t, &c, 1), 1);
	assert_int_equal(c, 'q');
	stream_close(t, CLOSE_FLUSH);
	wire_read(&r, w.p, w.len - 1);
	fd = dup(p[1]);
	assert_null(tcp_thaw(&rig.w.loop, &r, &fd, 1));
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	wire_free(&w);
	close(p[1]);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_tcp_connect_open), T(test_tcp_connect_refused), T(test_tcp_connect_nowhere),
		T(test_tcp_connect_second_candidate),
		T(test_tcp_connect_stagger), T(test_tcp_connect_concurrent), T(test_tcp_close_while_dialing),
		T(test_tcp_reset_both_ways),
		T(test_tcp_half_close), T(test_tcp_eof_is_quiet),
		T(test_tcp_want_toggled), T(test_tcp_close_keeps_last_words), T(test_tcp_freeze_thaw),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
