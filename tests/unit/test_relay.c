/* SPDX-License-Identifier: MIT */
/* worker/core relay, timers and hand-over: in-memory streams that take and give what the test says, and real sockets for
 * splice. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/unit/worker_net.h"
#include "worker/core/conn.h"

static struct rig rig;

struct fake {
	struct stream s;
	const char *data;		/* to be read */
	size_t len, off;
	bool eof;
	int read_err, write_err;
	char *got;			/* written */
	size_t n_got, room;		/* room: bytes it takes before it would block */
	int sealed;			/* flush() answers -E_AGAIN so often */
	bool no_half, shut;
	int reads;
	enum stream_close_how *how;	/* told on destroy */
};

enum { GOT_MAX = 400000 };

static ssize_t
fake_readv(struct stream *s, const struct iovec *v, int n)
{
	struct fake *f = (struct fake *)s;
	size_t k = f->len - f->off < v->iov_len ? f->len - f->off : v->iov_len;

	assert_int_equal(n, 1);
	f->reads++;
	if (k == 0) {
		s->err = f->read_err;
		return f->read_err != 0 ? -f->read_err : f->eof ? 0 : -E_AGAIN;
	}
	memcpy(v->iov_base, f->data + f->off, k);
	f->off += k;
	return (ssize_t)k;
}

static ssize_t
fake_writev(struct stream *s, const struct iovec *v, int n)
{
	struct fake *f = (struct fake *)s;
	size_t k = v->iov_len < f->room ? v->iov_len : f->room;

	assert_int_equal(n, 1);
	assert_false(f->shut);
	if (f->write_err != 0)
		return -f->write_err;
	if (k == 0)
		return -E_AGAIN;
	assert_true(f->n_got + k <= GOT_MAX);
	memcpy(f->got + f->n_got, v->iov_base, k);
	f->n_got += k;
	f->room -= k;
	return (ssize_t)k;
}

static int
fake_flush(struct stream *s)
{
	struct fake *f = (struct fake *)s;

	if (f->sealed == 0)
		return 0;
	f->sealed--;
	return -E_AGAIN;
}

static int
fake_shut_wr(struct stream *s)
{
	struct fake *f = (struct fake *)s;

	if (f->no_half)
		return -E_UNSUP;
	f->shut = true;
	return 0;
}

static void
fake_want(struct stream *s, int events)
{
	s->wanted = (unsigned)events;
}

static void
fake_destroy(struct stream *s)
{
	struct fake *f = (struct fake *)s;

	*f->how = s->how;
	free(f->got);
	free(f);
}

static const struct stream_ops fake_ops = {
	.name = "fake", .readv = fake_readv, .writev = fake_writev, .flush = fake_flush, .shut_wr = fake_shut_wr,
	.want = fake_want, .destroy = fake_destroy,
};

static enum stream_close_how how_in, how_out;
enum { NOT_CLOSED = 99 };

static struct fake *
fake_new(enum stream_close_how *how)
{
	struct fake *f = calloc(1, sizeof(*f));

	stream_init(&f->s, &fake_ops, &rig.w.loop, NULL);
	f->s.state = ST_OPEN;
	f->got = malloc(GOT_MAX);
	f->room = GOT_MAX;
	f->how = how;
	*how = (enum stream_close_how)NOT_CLOSED;
	return f;
}

static struct fake *in, *out;
static struct conn *conn;

/* What a loop would do for one stream in one turn. */
static void
poke(struct fake *f)
{
	unsigned events = 0;

	if (f->off < f->len || f->eof || f->read_err != 0)
		events |= ST_READ;
	if (f->room > 0)
		events |= ST_WRITE;
	events &= f->s.wanted;
	if (events != 0)
		stream_tell(&f->s, (int)events);
}

static void
turns(int n)
{
	while (n-- > 0) {
		if (how_in == (enum stream_close_how)NOT_CLOSED && conn->state == CONN_RELAY)
			poke(in);
		if (how_out == (enum stream_close_how)NOT_CLOSED && conn->state == CONN_RELAY)
			poke(out);
		if (rig.w.n_conns == 0)
			break;
		loop_turn(&rig.w.loop);
	}
	loop_turn(&rig.w.loop);
}

static const struct conn_from from = { .in_name = "test", .in_port = 7890, .src_port = 1 };

static int
setup(void **state)
{
	(void)state;
	rig_start(&rig);
	map_init(&rig.gen.proxies);
	conns_start(&rig.w);
	in = fake_new(&how_in);
	out = fake_new(&how_out);
	conn = conn_new(&rig.w, &from, &in->s);
	assert_non_null(conn);
	conn->out = &out->s;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	conns_close_all(&rig.w, BY_STOP);
	loop_fini(&rig.w.loop);
	assert_int_equal(buf_in_use(), 0);
	assert_int_equal(rig.stat.open_tcp, 0);
	return 0;
}

static char *
pattern(size_t n)
{
	char *p = malloc(n);

	for (size_t i = 0; i < n; i++)
		p[i] = (char)(i * 7 + i / 251);
	return p;
}

static void
test_relay_both_ways(void **state)
{
	(void)state;
	in->data = "question";
	in->len = 8;
	out->data = "the answer";
	out->len = 10;
	relay_start(conn);
	turns(3);
	assert_int_equal(out->n_got, 8);
	assert_memory_equal(out->got, "question", 8);
	assert_memory_equal(in->got, "the answer", 10);
	assert_int_equal(conn->up, 8);
	assert_int_equal(conn->down, 10);
	assert_int_equal(rig.stat.up, 8);
	assert_int_equal(rig.stat.down, 10);
	assert_int_equal(buf_in_use(), 0);
	assert_int_equal(in->s.wanted, ST_READ);
	assert_int_equal(out->s.wanted, ST_READ);
}

static void
test_relay_early_bytes_first(void **state)
{
	(void)state;
	assert_int_equal(conn_early(conn, "first ", 6), 0);
	assert_int_equal(conn_early(conn, "then ", 5), 0);
	in->data = "rest";
	in->len = 4;
	relay_start(conn);
	turns(2);
	assert_int_equal(out->n_got, 15);
	assert_memory_equal(out->got, "first then rest", 15);
	assert_int_equal(conn->up, 15);
}

/* The sink takes a little at a time: nothing is read meanwhile, nothing is lost or reordered, and at most one read is held. */
static void
test_relay_back_pressure(void **state)
{
	enum { N = 300000 };
	char *p = pattern(N);
	int reads;

	(void)state;
	in->data = p;
	in->len = N;
	out->room = 10;
	relay_start(conn);
	turns(1);
	assert_int_equal(out->n_got, 10);
	assert_true(buf_in_use() > 0 && buf_in_use() <= 4);
	assert_int_equal(in->s.wanted & ST_READ, 0);
	assert_int_equal(out->s.wanted, ST_READ | ST_WRITE);
	reads = in->reads;
	turns(5);
	assert_int_equal(in->reads, reads);
	while (out->n_got < N) {
		size_t before = out->n_got;

		out->room = 9973;
		turns(1);
		assert_true(out->n_got > before);
		assert_true(buf_in_use() <= 4);
	}
	assert_memory_equal(out->got, p, N);
	out->room = 1;
	turns(2);
	assert_int_equal(in->s.wanted, ST_READ);
	assert_int_equal(out->s.wanted, ST_READ);
	assert_int_equal(buf_in_use(), 0);
	assert_int_equal(conn->up, N);
	free(p);
}

static void
test_relay_half_close_client_first(void **state)
{
	(void)state;
	in->eof = true;
	in->data = "q";
	in->len = 1;
	relay_start(conn);
	turns(3);
	assert_true(out->shut);
	assert_int_equal(conn->state, CONN_RELAY);
	assert_int_equal(in->s.wanted, 0);
	out->data = "late answer";
	out->len = 11;
	out->eof = true;
	turns(3);
	assert_int_equal(how_in, CLOSE_FLUSH);
	assert_int_equal(how_out, CLOSE_FLUSH);
	assert_int_equal(rig.w.n_conns, 0);
}

static void
test_relay_half_close_remote_first(void **state)
{
	(void)state;
	out->eof = true;
	relay_start(conn);
	turns(2);
	assert_true(in->shut);
	in->data = "more";
	in->len = 4;
	turns(2);
	assert_int_equal(out->n_got, 4);
	assert_int_equal(conn->state, CONN_RELAY);
	in->eof = true;
	turns(2);
	assert_int_equal(how_in, CLOSE_FLUSH);
}

/* The end waits for the bytes before it. */
static void
test_relay_end_after_bytes(void **state)
{
	(void)state;
	in->data = "abcdef";
	in->len = 6;
	in->eof = true;
	out->room = 2;
	relay_start(conn);
	turns(3);
	assert_false(out->shut);
	out->room = 100;
	turns(3);
	assert_true(out->shut);
	assert_int_equal(out->n_got, 6);
}

static void
test_relay_no_half_close(void **state)
{
	(void)state;
	loop_fake_clock(&rig.w.loop, 1000000);
	out->no_half = true;
	in->eof = true;
	relay_start(conn);
	turns(2);
	assert_int_equal(conn->state, CONN_RELAY);
	out->data = "x";
	out->len = 1;
	turns(2);
	assert_int_equal(in->n_got, 1);
	loop_fake_clock(&rig.w.loop, 1000000 + ONE_WAY_IDLE_MS - 1);
	conns_sweep(&rig.w);
	assert_int_equal(conn->state, CONN_RELAY);
	loop_fake_clock(&rig.w.loop, 1000000 + ONE_WAY_IDLE_MS);
	conns_sweep(&rig.w);
	assert_int_equal(conn->state, CONN_CLOSED);
}

static void
test_relay_remote_reset(void **state)
{
	(void)state;
	relay_start(conn);
	out->read_err = E_RESET;
	turns(2);
	assert_int_equal(how_in, CLOSE_RESET);
	assert_int_equal(how_out, CLOSE_RESET);
}

static void
test_relay_client_gone_while_writing(void **state)
{
	(void)state;
	relay_start(conn);
	out->data = "x";
	out->len = 1;
	in->write_err = E_CLOSED;
	turns(2);
	assert_int_equal(how_out, CLOSE_RESET);
}

static void
test_relay_stream_failed(void **state)
{
	(void)state;
	relay_start(conn);
	stream_fail(&out->s, E_PROTO, 0, "broken");
	turns(2);
	assert_int_equal(how_in, CLOSE_RESET);
}

/* A layer with a sealed record is flushed before more is read. */
static void
test_relay_sealed_sink(void **state)
{
	int reads;

	(void)state;
	in->data = "abc";
	in->len = 3;
	out->sealed = 8;
	relay_start(conn);
	turns(1);
	assert_int_equal(in->s.wanted & ST_READ, 0);
	reads = in->reads;
	turns(1);
	assert_int_equal(in->reads, reads);
	turns(8);
	assert_int_equal(in->s.wanted & ST_READ, ST_READ);
}

static void
test_relay_idle(void **state)
{
	(void)state;
	loop_fake_clock(&rig.w.loop, 50);
	relay_start(conn);
	loop_fake_clock(&rig.w.loop, 50 + (uint64_t)TCP_IDLE_MS - 1);
	conns_sweep(&rig.w);
	assert_int_equal(conn->state, CONN_RELAY);
	in->data = "x";
	in->len = 1;
	turns(1);
	loop_fake_clock(&rig.w.loop, 51 + (uint64_t)TCP_IDLE_MS);
	conns_sweep(&rig.w);
	assert_int_equal(conn->state, CONN_RELAY);
	in->eof = true;
	turns(1);
	loop_fake_clock(&rig.w.loop, rig.w.loop.now_ms + HALF_CLOSED_IDLE_MS);
	conns_sweep(&rig.w);
	assert_int_equal(conn->state, CONN_CLOSED);
}

static void
test_conn_handshake_deadline(void **state)
{
	(void)state;
	loop_fake_clock(&rig.w.loop, conn->deadline_ms - 1);
	conns_sweep(&rig.w);
	assert_int_equal(conn->state, CONN_HANDSHAKE);
	loop_fake_clock(&rig.w.loop, conn->deadline_ms);
	conns_sweep(&rig.w);
	assert_int_equal(conn->state, CONN_CLOSED);
}

static void
test_conn_limit(void **state)
{
	struct fake *f;
	enum stream_close_how how;

	(void)state;
	rig.w.conn_limit = 1;
	f = fake_new(&how);
	assert_null(conn_new(&rig.w, &from, &f->s));
	loop_turn(&rig.w.loop);
	assert_int_equal(how, CLOSE_RESET);
	assert_int_equal(rig.stat.shed, 1);
	assert_int_equal(rig.stat.accepted, 1);
}

static void
test_conn_set_host(void **state)
{
	char longest[300];

	(void)state;
	assert_int_equal(conn_set_host(conn, "WWW.Example.COM.", 16), 0);
	assert_string_equal(conn->meta.host, "www.example.com");
	assert_int_equal(conn_set_host(conn, "[::1]", 5), 0);
	assert_string_equal(conn->meta.host, "");
	assert_int_equal(conn->meta.dst_ip.family, 6);
	assert_int_equal(conn_set_host(conn, "", 0), -E_INVAL);
	assert_int_equal(conn_set_host(conn, ".", 1), -E_INVAL);
	assert_int_equal(conn_set_host(conn, "a\0b", 3), -E_INVAL);
	memset(longest, 'a', sizeof(longest));
	assert_int_equal(conn_set_host(conn, longest, 255), 0);
	assert_int_equal(conn_set_host(conn, longest, 256), -E_INVAL);
	assert_int_equal(conn_set_host(conn, longest, 300), -E_INVAL);
}

static void
test_conn_early_cap(void **state)
{
	char *p = pattern(BUF_SIZE);

	(void)state;
	assert_int_equal(conn_early(conn, p, BUF_SIZE), 0);
	assert_int_equal(conn_early(conn, p, 1), -E_LIMIT);
	assert_int_equal(conn_early(conn, p, 0), 0);
	free(p);
}

/* ---- real sockets */

struct end {
	int fd;
	size_t sent, got, want;
	bool ok;
};

/* Sends and checks a pattern without blocking. */
static void
end_step(struct end *e, const char *p)
{
	static char text[65536];
	ssize_t n;

	if (e->sent < e->want) {
		n = send(e->fd, p + e->sent, e->want - e->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		e->sent += n > 0 ? (size_t)n : 0;
		if (e->sent == e->want)
			shutdown(e->fd, SHUT_WR);
	}
	n = recv(e->fd, text, sizeof(text), MSG_DONTWAIT);
	if (n > 0) {
		e->ok = e->ok && e->got + (size_t)n <= e->want && memcmp(text, p + e->got, (size_t)n) == 0;
		e->got += (size_t)n;
	}
}

static struct conn *
real_conn(int a[2], int b[2])
{
	struct conn *c;

	assert_int_equal(tcp_pair(a), 0);
	assert_int_equal(tcp_pair(b), 0);
	c = conn_new(&rig.w, &from, tcp_accepted(&rig.w.loop, a[0]));
	c->out = tcp_accepted(&rig.w.loop, b[0]);
	relay_start(c);
	return c;
}

static void
test_relay_splice(void **state)
{
	enum { N = 6 << 20 };
	char *p = pattern(N);
	int a[2], b[2];
	struct end x, y;
	struct conn *c = real_conn(a, b);
	uint64_t end = loop_clock_ms() + 20000;
	bool piped = false;

	(void)state;
	x = (struct end){ .fd = a[1], .want = N, .ok = true };
	y = (struct end){ .fd = b[1], .want = N, .ok = true };
	while ((x.got < N || y.got < N) && loop_clock_ms() < end) {
		end_step(&x, p);
		if (x.sent > N / 2 || y.sent > 0)	/* the other end sleeps first: back-pressure through the pipe */
			end_step(&y, p);
		loop_turn(&rig.w.loop);
		piped = piped || c->dir[0].pipe != NULL;
	}
	assert_true(x.ok && y.ok);
	assert_int_equal(x.got, N);
	assert_int_equal(y.got, N);
	assert_true(piped);
	rig_turns(&rig, 5);
	assert_int_equal(rig.stat.up, N);
	assert_int_equal(rig.stat.down, N);
	assert_int_equal(rig.w.n_conns, 1);	/* that of setup() */
	close(a[1]);
	close(b[1]);
	pool_trim();
	free(p);
}

static void
test_relay_reset_reaches_client(void **state)
{
	int a[2], b[2];
	struct linger none = { .l_onoff = 1, .l_linger = 0 };
	char ch;

	(void)state;
	real_conn(a, b);
	rig_turns(&rig, 2);
	setsockopt(b[1], SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(b[1]);
	rig_turns(&rig, 5);
	assert_int_equal(recv(a[1], &ch, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, ECONNRESET);
	close(a[1]);
}

/* Bytes wait in the relay, it moves, and the stream goes on unbroken. */
static void
test_conn_move(void **state)
{
	enum { N = 6 << 20 };
	char *p = pattern(N);
	int a[2], b[2], fds[CONN_FDS_MAX], n = -E_AGAIN;
	struct end x, y;
	struct conn *c = real_conn(a, b);
	struct wire w, r;
	struct linger calm = { .l_onoff = 0 };
	uint8_t id[16];
	uint64_t end = loop_clock_ms() + 20000;

	(void)state;
	assert_int_equal(conn_set_host(c, "one.test", 8), 0);
	assert_int_equal(conn_set_user(c, "me"), 0);
	memcpy(id, c->id, 16);
	c->listed = true;
	x = (struct end){ .fd = a[1], .want = N, .ok = true };
	y = (struct end){ .fd = b[1], .want = N, .ok = true };
	for (int i = 0; i < 300; i++) {
		end_step(&x, p);
		loop_turn(&rig.w.loop);
	}
	for (int i = 0; i < 50 && n < 0; i++) {
		wire_init(&w);
		n = conn_freeze(c, &w, fds);
		if (n >= 0)
			break;
		assert_int_equal(n, -E_AGAIN);
		wire_free(&w);
		end_step(&y, p);
		loop_turn(&rig.w.loop);
	}
	assert_true(n >= 2);
	assert_true(w.len <= CONN_MOVE_MAX);
	conn_close(c, BY_HANDOFF);
	rig_turns(&rig, 2);
	for (size_t cut = 0; cut < w.len; cut += 13) {	/* a torn record takes its fds and nothing else */
		int copy[CONN_FDS_MAX];

		for (int i = 0; i < n; i++)
			copy[i] = dup(fds[i]);
		wire_read(&r, w.p, cut);
		assert_null(conn_thaw(&rig.w, &r, copy, n));
		for (int i = 0; i < n; i++)
			loop_forget(&rig.w.loop, fds[i]);
		loop_turn(&rig.w.loop);
		for (int i = 0; i < n; i++)
			assert_int_equal(fcntl(copy[i], F_GETFD), -1);
	}
	for (int i = 0; i < 2; i++)		/* the torn ones were reset, by copies of the same sockets */
		setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &calm, sizeof(calm));
	wire_read(&r, w.p, w.len);
	c = conn_thaw(&rig.w, &r, fds, n);
	assert_non_null(c);
	assert_int_equal(wire_done(&r), 0);
	wire_free(&w);
	assert_ptr_equal(conn_find(&rig.w, id), c);
	assert_string_equal(c->meta.host, "one.test");
	assert_string_equal(c->meta.in_user, "me");
	assert_string_equal(c->meta.in_name, "test");
	while ((x.got < N || y.got < N) && loop_clock_ms() < end) {
		end_step(&x, p);
		end_step(&y, p);
		loop_turn(&rig.w.loop);
	}
	assert_true(x.ok && y.ok);
	assert_int_equal(x.got, N);
	assert_int_equal(y.got, N);
	close(a[1]);
	close(b[1]);
	rig_turns(&rig, 5);
	pool_trim();
	free(p);
}

/* The control connection of a UDP association: unlisted, in its handshake for ever. */
static void
test_conn_move_control(void **state)
{
	int a[2], fds[CONN_FDS_MAX];
	struct conn *c;
	struct wire w, r;
	char ch = 'x';

	(void)state;
	assert_int_equal(tcp_pair(a), 0);
	c = conn_new(&rig.w, &from, tcp_accepted(&rig.w.loop, a[0]));
	wire_init(&w);
	assert_int_equal(conn_freeze(c, &w, fds), -E_UNSUP);
	assert_int_equal(w.len, 0);
	c->control = true;
	c->deadline_ms = 0;
	assert_int_equal(conn_freeze(c, &w, fds), 1);
	conn_close(c, BY_HANDOFF);
	rig_turns(&rig, 2);
	for (size_t cut = 0; cut < w.len; cut++) {
		int copy = dup(fds[0]);

		wire_read(&r, w.p, cut);
		assert_null(conn_thaw(&rig.w, &r, &copy, 1));
		loop_turn(&rig.w.loop);
		assert_int_equal(fcntl(copy, F_GETFD), -1);
	}
	wire_read(&r, w.p, w.len);
	c = conn_thaw(&rig.w, &r, fds, 1);
	assert_non_null(c);
	assert_true(c->control);
	assert_false(c->listed);
	assert_int_equal(c->state, CONN_HANDSHAKE);
	assert_int_equal(c->deadline_ms, 0);
	assert_int_equal(stream_write(c->in, &ch, 1), 1);
	assert_int_equal(recv(a[1], &ch, 1, 0), 1);
	conn_close(c, BY_STOP);
	rig_turns(&rig, 2);
	assert_int_equal(rig.w.n_conns, 1);	/* that of setup() */
	wire_free(&w);
	close(a[1]);
}

static void
test_conn_freeze_refused(void **state)
{
	int fds[CONN_FDS_MAX];
	struct wire w;

	(void)state;
	wire_init(&w);
	assert_int_equal(conn_freeze(conn, &w, fds), -E_UNSUP);
	relay_start(conn);
	assert_int_equal(conn_freeze(conn, &w, fds), -E_UNSUP);
	assert_int_equal(w.len, 0);
	wire_free(&w);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_relay_both_ways), T(test_relay_early_bytes_first), T(test_relay_back_pressure),
		T(test_relay_half_close_client_first),
		T(test_relay_half_close_remote_first), T(test_relay_end_after_bytes), T(test_relay_no_half_close),
		T(test_relay_remote_reset),
		T(test_relay_client_gone_while_writing), T(test_relay_stream_failed), T(test_relay_sealed_sink),
		T(test_relay_idle),
		T(test_conn_handshake_deadline), T(test_conn_limit), T(test_conn_set_host), T(test_conn_early_cap),
		T(test_relay_splice),
		T(test_relay_reset_reaches_client), T(test_conn_move), T(test_conn_move_control),
		T(test_conn_freeze_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
