/* SPDX-License-Identifier: MIT */
/* worker/core/udp_session.c: a packet side that records what it is given, real sockets for the answers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "common/strutil.h"
#include "tests/unit/worker_net.h"
#include "worker/core/conn.h"
#include "worker/outbound/types.h"

static struct rig rig;
static struct udp_port port;
static int client_fd[2];
static union sockaddr_any client_addr[2];

struct fake {
	struct dgram d;
	bool closed;
};
static struct fake *last;
static int n_fakes, n_calls, n_packets, n_destroyed;
static bool born_open;
static char sent[64], hosts[64];

static int
fake_sendv(struct dgram *d, const struct packet *p, int n)
{
	(void)d;
	n_calls++;
	for (int i = 0; i < n; i++) {
		strncat(sent, (const char *)p[i].data, p[i].len);
		if (p[i].addr.host != NULL)
			strncat(hosts, p[i].addr.host, sizeof(hosts) - strlen(hosts) - 1);
		n_packets++;
	}
	return n;
}

static void
fake_want(struct dgram *d, bool on)
{
	(void)d;
	(void)on;
}

static void
fake_destroy(struct dgram *d)
{
	n_destroyed++;
	free(d);
}

static const struct dgram_ops fake_ops = { .name = "fake", .sendv = fake_sendv, .want = fake_want, .destroy = fake_destroy };

static struct dgram *
fake_packet(struct outbound *ob, const struct dial *dial)
{
	last = calloc(1, sizeof(*last));
	dgram_init(&last->d, &fake_ops, &rig.w.loop);
	last->d.state = born_open ? ST_OPEN : 0;
	dial->chain->ob[0] = ob;
	dial->chain->n = 1;
	n_fakes++;
	return &last->d;
}

static const struct outbound_type fake_type = { .name = "fake", .api_name = "Fake", .flags = OB_UDP, .packet = fake_packet };
static struct outbound fake_ob = { .type = &fake_type, .name = "DIRECT", .flags = OB_UDP, .server = NULL };

static int
fake_wrap(struct inbound *inb, const struct target *from, uint8_t *header)
{
	(void)inb;
	memcpy(header, "<>", 2);
	header[2] = (uint8_t)from->port;
	return from->port == 99 ? -E_INVAL : 3;
}

static int
udp_socket(union sockaddr_any *a)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t n = sizeof(*a);

	memset(a, 0, sizeof(*a));
	a->in.sin_family = AF_INET;
	a->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, &a->sa, sizeof(a->in)), 0);
	assert_int_equal(getsockname(fd, &a->sa, &n), 0);
	return fd;
}

static int
setup(void **state)
{
	union sockaddr_any a;

	(void)state;
	rig_start(&rig);
	map_init(&rig.gen.proxies);
	conns_start(&rig.w);
	rig.gen.general.mode = MODE_DIRECT;
	rig.gen.direct = &fake_ob;
	fake_ob.gen = &rig.gen;
	memset(&port, 0, sizeof(port));
	port.w = &rig.w;
	port.fd = udp_socket(&a);
	port.wrap = fake_wrap;
	udp_port_init(&port);
	for (int i = 0; i < 2; i++)
		client_fd[i] = udp_socket(&client_addr[i]);
	n_fakes = n_calls = n_packets = n_destroyed = 0;
	sent[0] = hosts[0] = '\0';
	born_open = true;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	udp_port_close(&port);
	assert_int_equal(rig.w.n_conns, 0);
	assert_int_equal(rig.stat.open_udp, 0);
	loop_fini(&rig.w.loop);
	assert_int_equal(n_destroyed, n_fakes);
	close(port.fd);
	close(client_fd[0]);
	close(client_fd[1]);
	return 0;
}

static const struct target to = { .ip = { .family = 4, .b = { 10, 0, 0, 1 } }, .port = 53 };

static void
input(int client, const char *text)
{
	udp_input(&port, &client_addr[client], NULL, &to, IN_SOCKS5, NULL, (const uint8_t *)text, strlen(text));
}

/* The first packet makes the session; those of the next batch leave in one call per client. */
static void
test_udp_input_batches(void **state)
{
	(void)state;
	input(0, "a");
	udp_flush();
	assert_int_equal(n_fakes, 1);
	assert_string_equal(sent, "a");
	n_calls = 0;
	input(0, "b");
	input(0, "c");
	assert_int_equal(n_calls, 0);
	udp_flush();
	udp_flush();
	assert_int_equal(n_calls, 1);
	assert_string_equal(sent, "abc");
	input(1, "d");
	input(0, "e");
	input(1, "f");
	udp_flush();
	assert_int_equal(n_fakes, 2);
	assert_string_equal(sent, "abcdef");
	assert_int_equal(rig.w.n_conns, 2);
	assert_int_equal(rig.stat.open_udp, 2);
	assert_int_equal(rig.stat.up, 6);
}

static void
test_udp_answer(void **state)
{
	struct packet p[3] = {
		{ .data = (const uint8_t *)"one", .len = 3, .addr = { .port = 1 } },
		{ .data = (const uint8_t *)"bad", .len = 3, .addr = { .port = 99 } },
		{ .data = (const uint8_t *)"", .len = 0, .addr = { .port = 2 } },
	};
	char text[16];
	struct conn *c;

	(void)state;
	input(1, "x");
	udp_flush();
	last->d.cb(&last->d, 0, p, 3, last->d.arg);
	assert_int_equal(recv(client_fd[1], text, sizeof(text), 0), 6);
	assert_memory_equal(text, "<>\1one", 6);
	assert_int_equal(recv(client_fd[1], text, sizeof(text), 0), 3);
	assert_memory_equal(text, "<>\2", 3);
	assert_int_equal(recv(client_fd[1], text, sizeof(text), 0), -1);
	assert_int_equal(recv(client_fd[0], text, sizeof(text), 0), -1);
	c = container_of(rig.w.conns.next, struct conn, link);
	assert_int_equal(c->up, 1);
	assert_int_equal(c->down, 3);
	assert_int_equal(c->meta.network, NET_UDP);
	assert_true(c->listed);
	assert_string_equal(conn_chain_name(c, 0), "DIRECT");
}

static void
test_udp_fail_closes(void **state)
{
	(void)state;
	born_open = false;
	input(0, "x");
	assert_int_equal(n_packets, 1);		/* the packet side queues until it is open */
	dgram_fail(&last->d, E_REFUSED, 0, "no");
	rig_turns(&rig, 2);
	assert_int_equal(rig.w.n_conns, 0);
	assert_int_equal(rig.stat.failed, 1);
	input(0, "y");				/* tried anew */
	assert_int_equal(n_fakes, 2);
}

static void
test_udp_idle(void **state)
{
	(void)state;
	loop_fake_clock(&rig.w.loop, 1000);
	input(0, "x");
	udp_flush();
	loop_fake_clock(&rig.w.loop, 1000 + UDP_IDLE_MS - 1);
	conns_sweep(&rig.w);
	assert_int_equal(rig.w.n_conns, 1);
	input(0, "y");
	udp_flush();
	loop_fake_clock(&rig.w.loop, 1000 + UDP_IDLE_MS);
	conns_sweep(&rig.w);
	assert_int_equal(rig.w.n_conns, 1);
	loop_fake_clock(&rig.w.loop, 1000 + 2 * UDP_IDLE_MS);
	conns_sweep(&rig.w);
	assert_int_equal(rig.w.n_conns, 0);
}

/* A session that ends with packets in the batch takes them along. */
static void
test_udp_close_with_batch(void **state)
{
	(void)state;
	input(0, "x");
	udp_flush();
	input(0, "y");
	udp_port_close(&port);
	udp_flush();
	assert_string_equal(sent, "x");
	assert_int_equal(rig.w.n_conns, 0);
}

static void
test_udp_many_clients(void **state)
{
	enum { N = 1000 };
	union sockaddr_any a = client_addr[0];

	(void)state;
	rig.w.conn_limit = N - 10;
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < N; i++) {
			a.in.sin_port = htons((uint16_t)(2000 + i));
			udp_input(&port, &a, NULL, &to, IN_SOCKS5, NULL, (const uint8_t *)"", 0);
		}
	udp_flush();
	assert_int_equal(n_fakes, N - 10);
	assert_int_equal(rig.w.n_conns, N - 10);
	assert_int_equal(rig.stat.shed, 20);
}

static int n_given;

static void
give(void *arg, const struct packet *p)
{
	(void)arg;
	assert_int_equal(p->data[0], '0' + n_given);
	assert_string_equal(p->addr.host, "h.test");
	n_given++;
}

static void
test_dgram_queue_caps(void **state)
{
	struct dgram_queue q = { .head = NULL };
	static uint8_t big[DGRAM_EARLY_BYTES];
	struct packet p = { .data = big, .len = 1, .addr = { .host = "h.test" } };

	(void)state;
	n_given = 0;
	for (int i = 0; i < DGRAM_EARLY; i++) {
		big[0] = (uint8_t)('0' + i);
		assert_int_equal(dgram_queue_put(&q, &p), 0);
	}
	assert_int_equal(dgram_queue_put(&q, &p), -E_AGAIN);
	dgram_queue_drain(&q, give, NULL);
	assert_int_equal(n_given, DGRAM_EARLY);
	p.len = sizeof(big);
	assert_int_equal(dgram_queue_put(&q, &p), 0);
	p.len = 1;
	assert_int_equal(dgram_queue_put(&q, &p), -E_AGAIN);
	dgram_queue_clear(&q);
	assert_int_equal(q.n, 0);
}

/* ---- hand-over, over a real packet side: one process plays both */

static struct outbound direct = { .type = &outbound_direct, .name = "DIRECT", .flags = OB_UDP };

/* Cut at every place and with every byte damaged: refused or taken, but nothing leaks. */
static void
thaw_torn(const struct wire *w, const int *fds, int n)
{
	uint8_t *copy = malloc(w->len);
	uint32_t before = rig.w.n_conns;

	for (size_t i = 0; i < 2 * w->len; i++) {
		int dups[CONN_FDS_MAX];
		struct wire r;
		struct conn *c;

		memcpy(copy, w->p, w->len);
		if (i >= w->len)
			copy[i - w->len] ^= (uint8_t)(1u << i % 8);
		for (int k = 0; k < n; k++)
			dups[k] = dup(fds[k]);
		wire_read(&r, copy, i < w->len ? i : w->len);
		c = conn_thaw(&rig.w, &r, dups, n);
		if (i < w->len)
			assert_null(c);
		if (c != NULL)
			conn_close(c, BY_STOP);
		loop_turn(&rig.w.loop);
		assert_int_equal(rig.w.n_conns, before);
		for (int k = 0; k < n; k++)
			assert_int_equal(fcntl(dups[k], F_GETFD), -1);
	}
	free(copy);
}

static void
test_udp_moves(void **state)
{
	union sockaddr_any at, from[2];
	int remote = udp_socket(&at), fds[CONN_FDS_MAX], n;
	struct target real = { .ip = { .family = 4, .b = { 127, 0, 0, 1 } }, .port = ntohs(at.in.sin_port) };
	socklen_t len = sizeof(from[0]);
	struct wire w, r;
	struct conn *c;
	uint8_t id[16];
	char text[16];

	(void)state;
	direct.gen = &rig.gen;
	rig.gen.direct = &direct;
	loop_fake_clock(&rig.w.loop, 100000);
	udp_input(&port, &client_addr[0], NULL, &real, IN_SOCKS5, "me", (const uint8_t *)"a", 1);
	udp_flush();
	assert_int_equal(recvfrom(remote, text, sizeof(text), 0, &from[0].sa, &len), 1);
	c = container_of(rig.w.conns.next, struct conn, link);
	memcpy(id, c->id, 16);
	loop_fake_clock(&rig.w.loop, 130000);
	wire_init(&w);
	n = conn_freeze(c, &w, fds);
	assert_int_equal(n, 1);
	assert_true(w.len <= CONN_MOVE_MAX);
	conn_close(c, BY_HANDOFF);
	rig_turns(&rig, 1);
	assert_int_equal(rig.w.n_conns, 0);
	thaw_torn(&w, fds, n);
	/* what waits in the socket meanwhile is answered later; the client began another here, which makes room */
	assert_int_equal(sendto(remote, "back", 4, 0, &from[0].sa, len), 4);
	udp_input(&port, &client_addr[0], NULL, &real, IN_SOCKS5, NULL, (const uint8_t *)"x", 1);
	udp_flush();
	assert_int_equal(recv(remote, text, sizeof(text), 0), 1);
	wire_read(&r, w.p, w.len);
	c = conn_thaw(&rig.w, &r, fds, n);
	assert_non_null(c);
	assert_int_equal(wire_done(&r), 0);
	assert_int_equal(rig.w.n_conns, 1);
	assert_int_equal(rig.stat.open_udp, 1);
	assert_ptr_equal(conn_find(&rig.w, id), c);
	assert_int_equal(c->up, 1);
	assert_int_equal(c->active_ms, 100000);
	assert_string_equal(c->meta.in_user, "me");
	assert_string_equal(conn_chain_name(c, 0), "DIRECT");
	rig_turns(&rig, 3);
	assert_int_equal(recv(client_fd[0], text, sizeof(text), 0), 7);
	assert_memory_equal(text + 3, "back", 4);
	udp_input(&port, &client_addr[0], NULL, &real, IN_SOCKS5, NULL, (const uint8_t *)"b", 1);
	udp_flush();
	assert_int_equal(recvfrom(remote, text, sizeof(text), 0, &from[1].sa, &len), 1);
	assert_int_equal(from[1].in.sin_port, from[0].in.sin_port);
	wire_free(&w);
	close(remote);
}

/* Another slot, or another way of wrapping: no listener of ours has this client. */
static void
test_udp_moves_nowhere(void **state)
{
	int fds[CONN_FDS_MAX], n;
	struct wire w, r;

	(void)state;
	direct.gen = &rig.gen;
	rig.gen.direct = &direct;
	input(0, "a");
	udp_flush();
	wire_init(&w);
	n = conn_freeze(container_of(rig.w.conns.next, struct conn, link), &w, fds);
	assert_int_equal(n, 1);
	udp_port_close(&port);
	udp_port_init(&port);
	port.slot = 1;
	wire_read(&r, w.p, w.len);
	fds[1] = dup(fds[0]);
	assert_null(conn_thaw(&rig.w, &r, &fds[1], n));
	assert_int_equal(fcntl(fds[1], F_GETFD), -1);
	port.slot = 0;
	port.wrap = NULL;
	wire_read(&r, w.p, w.len);
	assert_null(conn_thaw(&rig.w, &r, fds, n));
	assert_int_equal(rig.w.n_conns, 0);
	wire_free(&w);
}

/* One whose packet side cannot move stays. */
static void
test_udp_stays(void **state)
{
	int fds[CONN_FDS_MAX];
	struct wire w;

	(void)state;
	input(0, "a");
	udp_flush();
	wire_init(&w);
	assert_int_equal(conn_freeze(container_of(rig.w.conns.next, struct conn, link), &w, fds), -E_UNSUP);
	wire_free(&w);
	assert_int_equal(rig.w.n_conns, 1);
}

/* A session that waits for a name moves as its packets, which are routed anew. */
static void
test_udp_moves_unrouted(void **state)
{
	struct target name = { .host = "later.test", .port = 53 };
	int fds[CONN_FDS_MAX];
	struct wire w, r;
	struct conn *c;

	(void)state;
	udp_input(&port, &client_addr[1], NULL, &name, IN_SOCKS5, "me", (const uint8_t *)"one", 3);
	udp_input(&port, &client_addr[1], NULL, &name, IN_SOCKS5, "me", (const uint8_t *)"two", 3);
	udp_flush();
	assert_int_equal(n_fakes, 0);
	c = container_of(rig.w.conns.next, struct conn, link);
	wire_init(&w);
	assert_int_equal(conn_freeze(c, &w, fds), 0);
	conn_close(c, BY_HANDOFF);
	rig_turns(&rig, 2);
	assert_int_equal(rig.w.n_conns, 0);
	for (size_t cut = 0; cut < w.len; cut++) {
		wire_read(&r, w.p, cut);
		(void)conn_thaw(&rig.w, &r, NULL, 0);	/* whole packets before the cut may begin a session */
		conns_close_all(&rig.w, BY_STOP);
	}
	wire_read(&r, w.p, w.len);
	c = conn_thaw(&rig.w, &r, NULL, 0);
	assert_non_null(c);
	assert_int_equal(wire_done(&r), 0);
	assert_int_equal(c->state, CONN_ROUTING);
	assert_string_equal(c->meta.host, "later.test");
	assert_string_equal(c->meta.in_user, "me");
	wire_free(&w);
	wire_init(&w);
	assert_int_equal(conn_freeze(c, &w, fds), 0);	/* both packets wait there */
	assert_non_null(memmem(w.p, w.len, "one", 3));
	assert_non_null(memmem(w.p, w.len, "two", 3));
	wire_free(&w);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_udp_input_batches), T(test_udp_answer), T(test_udp_fail_closes), T(test_udp_idle),
		T(test_udp_close_with_batch),
		T(test_udp_moves), T(test_udp_moves_nowhere), T(test_udp_stays), T(test_udp_moves_unrouted),
		T(test_udp_many_clients), cmocka_unit_test(test_dgram_queue_caps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
