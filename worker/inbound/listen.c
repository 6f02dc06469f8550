/* SPDX-License-Identifier: MIT */
/* The sockets of an inbound: asked for from the supervisor, read in bounded batches, paused when file descriptors run out.
 * Called by apply.c, patch.c and drain.c; hands streams to inbound_type.accept and datagrams to inbound_type.packet. Owns the
 * listener fds and the one set of receive buffers. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/inbound/inbound.h"

enum {
	ACCEPT_BATCH = 64,		/* connections of one listener in one turn; the rest wait in its queue */
	PACKET_BATCH = 32,		/* datagrams of one recvmmsg(); PACKET_ROUNDS of them in one turn */
	PACKET_ROUNDS = 8,
	STARVED_PAUSE_MS = 100,
	STARVED_LOG_MS = 1000,
	IDLE_DRAIN_MS = 10000,		/* what an HTTP client between two requests is given when this worker drains, */
	IDLE_STOP_MS = 500		/* or when its inbound or the service ends */
};

/* The one behind l, own ones first; l NULL: the first. */
static struct listener *
after(const struct inbound *inb, const struct listener *l)
{
	ptrdiff_t i = 0;

	if (l != NULL && l->adopted)
		return l->next;
	if (l != NULL)
		i = l - inb->listeners + 1;
	return i < inb->n_listeners ? &inb->listeners[i] : inb->adopted;
}

static void
set_reading(struct inbound *inb, bool on, bool streams_only)
{
	struct listener *l;

	for (l = after(inb, NULL); l != NULL; l = after(inb, l)) {
		if (l->dgram && (streams_only || (on && inb->w->udp_held)))
			continue;
		if (on && !l->returned)
			ev_io_start(inb->w->loop.ev, &l->io);
		else
			ev_io_stop(inb->w->loop.ev, &l->io);
	}
}

static void
on_resume(struct ev_loop *ev, ev_timer *t, int revents)
{
	struct inbound *inb = container_of(t, struct inbound, resume);

	(void)ev;
	(void)revents;
	if (inb->serving)
		set_reading(inb, true, true);
}

/* Without the pause a level-triggered listener would spin. */
static void
rest(struct inbound *inb)
{
	set_reading(inb, false, true);
	ev_timer_stop(inb->w->loop.ev, &inb->resume);
	ev_timer_set(&inb->resume, STARVED_PAUSE_MS / 1000.0, 0.0);
	ev_timer_start(inb->w->loop.ev, &inb->resume);
}

static void
starve(struct inbound *inb, int sys_errno)
{
	uint64_t now = inb->w->loop.now_ms;

	inb->starved++;
	if (inb->starved_log_ms == 0 || now - inb->starved_log_ms >= STARVED_LOG_MS) {
		inb->starved_log_ms = now;
		log_warn("inbound %s: cannot accept, paused %d ms (%llu times so far): %s", inb->name, STARVED_PAUSE_MS,
		    (unsigned long long)inb->starved, sys_errno == EMFILE ? "no file descriptors left in this process" :
		    sys_errno == ENFILE ? "no file descriptors left in the system" : "no memory");
	}
	rest(inb);
}

static void
take(struct listener *l, int fd, const struct sockaddr *peer)
{
	struct inbound *inb = l->inbound;
	struct conn_from from = { .inbound = inb,
		.in_name = inb->name,
		.special_proxy = inb->special_proxy,
		.special_rules = inb->special_rules,
		.in_ip = l->local,
		.in_port = l->port };
	union sockaddr_any local;
	socklen_t len = sizeof(local);
	struct stream *s;
	struct conn *c;
	uint16_t port;

	ip_from_sockaddr(&from.src_ip, &from.src_port, peer);
	if (!inbound_admits(inb, &from.src_ip)) {
		close(fd);
		return;
	}
	if (from.in_ip.family == 0 && getsockname(fd, &local.sa, &len) == 0)
		ip_from_sockaddr(&from.in_ip, &port, &local.sa);
	s = tcp_accepted(&inb->w->loop, fd);
	if (s == NULL)
		return;
	c = conn_new(inb->w, &from, s);
	if (c != NULL)
		inb->type->accept(inb, c);
}

static void
on_accept(struct ev_loop *ev, ev_io *io, int revents)
{
	struct listener *l = container_of(io, struct listener, io);
	union sockaddr_any peer;
	socklen_t len;
	int i, fd;

	(void)ev;
	(void)revents;
	for (i = 0; i < ACCEPT_BATCH && ev_is_active(io); i++) {
		len = sizeof(peer);
		fd = accept4(l->fd, &peer.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd != -1) {
			take(l, fd, &peer.sa);
			continue;
		}
		if (errno == EAGAIN)
			return;
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			starve(l->inbound, errno);
			return;
		}
		/* EINVAL: it does not listen yet, or was shut down at the service's end. The others concern one connection
		 * (accept(2)). */
		if (errno == EINVAL) {
			rest(l->inbound);
			return;
		}
	}
}

static struct {			/* one batch; pages of it that no datagram reached stay untouched */
	uint8_t data[PACKET_BATCH][DGRAM_MAX + 1];
	uint8_t control[PACKET_BATCH][64];
	union sockaddr_any peer[PACKET_BATCH];
	struct iovec iov[PACKET_BATCH];
	struct mmsghdr msg[PACKET_BATCH];
} batch;

static int
receive(int fd)
{
	int i;

	for (i = 0; i < PACKET_BATCH; i++) {
		batch.iov[i] = (struct iovec){ batch.data[i], sizeof(batch.data[i]) };
		batch.msg[i].msg_hdr = (struct msghdr){ .msg_name = &batch.peer[i],
			.msg_namelen = sizeof(batch.peer[i]),
			.msg_iov = &batch.iov[i],
			.msg_iovlen = 1,
			.msg_control = batch.control[i],
			.msg_controllen = sizeof(batch.control[i]) };
	}
	return recvmmsg(fd, batch.msg, PACKET_BATCH, MSG_DONTWAIT, NULL);
}

static void
on_packets(struct ev_loop *ev, ev_io *io, int revents)
{
	struct listener *l = container_of(io, struct listener, io);
	struct inbound *inb = l->inbound;
	int round, n, i;

	(void)ev;
	(void)revents;
	for (round = 0; round < PACKET_ROUNDS; round++) {
		n = receive(l->fd);
		if (n == -1 && errno != EAGAIN)
			log_debug("inbound %s: receiving failed: errno %d", inb->name, errno);
		for (i = 0; i < n; i++) {
			struct msghdr *m = &batch.msg[i].msg_hdr;
			struct ip src, local = l->local.family != 0 ? l->local : ip_from_pktinfo(m);
			uint16_t port;

			ip_from_sockaddr(&src, &port, &batch.peer[i].sa);
			if ((m->msg_flags & MSG_TRUNC) == 0 && inbound_admits(inb, &src))
				inb->type->packet(inb, &l->udp, &batch.peer[i], local.family != 0 ? &local : NULL, batch.data[i],
				    batch.msg[i].msg_len);
		}
		if (n > 0)
			udp_flush();
		if (n < PACKET_BATCH)
			return;
	}
}

static void
listener_start(struct inbound *inb, struct listener *l, int fd, bool dgram, uint8_t slot)
{
	static const int on = 1;

	*l = (struct listener){ .inbound = inb, .fd = fd, .dgram = dgram, .slot = slot, .port = inb->key.port };
	if (!ip_is_unspecified(&inb->key.ip))
		l->local = inb->key.ip;
	ev_io_init(&l->io, dgram ? on_packets : on_accept, fd, EV_READ);
	if (!dgram)
		return;
	if (l->local.family == 0) {
		/* One of them is refused by a socket of the other family. */
		setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
	}
	l->udp = (struct udp_port){ .w = inb->w, .inbound = inb, .in_name = inb->name, .special_proxy = inb->special_proxy,
		.special_rules = inb->special_rules, .fd = fd, .in_ip = l->local, .in_port = l->port, .slot = slot, .wrap = inb->type->wrap };
	udp_port_init(&l->udp);
}

/* The io watchers and udp ports hold addresses of listeners[], so it is made once, at its final size. */
static int
make_listeners(struct inbound *inb, const int *tcp, const uint8_t *tcp_slots, int n_tcp, const int *udp, const uint8_t *udp_slots, int n_udp)
{
	int i;

	if (n_tcp + n_udp == 0)
		return 0;
	inb->listeners = calloc((size_t)(n_tcp + n_udp), sizeof(*inb->listeners));
	if (inb->listeners == NULL)
		return -E_NOMEM;
	for (i = 0; i < n_tcp; i++)
		listener_start(inb, &inb->listeners[inb->n_listeners++], tcp[i], false, tcp_slots[i]);
	for (i = 0; i < n_udp; i++)
		listener_start(inb, &inb->listeners[inb->n_listeners++], udp[i], true, udp_slots[i]);
	return 0;
}

static int
ask(struct inbound *inb, uint16_t kind, int *fds, uint8_t *slots, char *why, size_t cap)
{
	struct msg_listen key = inb->key;

	key.kind = kind;
	return priv_listen_slots(inb->w, &key, fds, slots, why, cap);
}

static void
give_back(struct inbound *inb, uint16_t kind, const int *fds, int n)
{
	struct msg_listen key = inb->key;
	int i;

	for (i = 0; i < n; i++)
		close(fds[i]);
	key.kind = kind;
	priv_unlisten(inb->w, &key);
}

int
inbound_open(struct inbound *inb, char *why, size_t cap)
{
	int tcp[LISTEN_SLOTS_MAX], udp[LISTEN_SLOTS_MAX], n_tcp = 0, n_udp = 0, rc;
	uint8_t tcp_slots[LISTEN_SLOTS_MAX], udp_slots[LISTEN_SLOTS_MAX];
	bool stream = (inb->type->needs & IN_STREAM) != 0 && !inb->no_stream,
	     dgram = (inb->type->needs & IN_DGRAM) != 0 && inb->udp;

	ev_timer_init(&inb->resume, on_resume, 0.0, 0.0);
	if (stream) {
		n_tcp = ask(inb, LISTEN_TCP, tcp, tcp_slots, why, cap);
		if (n_tcp < 0)
			return n_tcp;
	}
	if (dgram) {
		n_udp = ask(inb, LISTEN_UDP, udp, udp_slots, why, cap);
		if (n_udp < 0) {
			rc = n_udp;
			n_udp = 0;
			goto out;
		}
	}
	rc = make_listeners(inb, tcp, tcp_slots, n_tcp, udp, udp_slots, n_udp);
	if (rc == 0)
		return 0;
	snprintf(why, cap, "out of memory");
	give_back(inb, LISTEN_UDP, udp, n_udp);
out:
	if (stream)
		give_back(inb, LISTEN_TCP, tcp, n_tcp);
	return rc;
}

void
inbound_serve(struct inbound *inb)
{
	if (inb->serving)
		return;
	inb->serving = true;
	set_reading(inb, true, false);
}

void
inbound_read_udp(struct inbound *inb)
{
	if (inb->serving)
		set_reading(inb, true, false);
}

/* ---- slots of a worker that died */

static bool
same_key(const struct msg_listen *a, const struct msg_listen *b)
{
	return a->port == b->port && a->flags == b->flags && ip_equal(&a->ip, &b->ip);
}

static struct listener *
adopted_find(const struct inbound *inb, bool dgram, uint8_t slot)
{
	struct listener *l;

	for (l = inb->adopted; l != NULL; l = l->next)
		if (l->dgram == dgram && l->slot == slot)
			return l;
	return NULL;
}

static void
adopt_one(struct inbound *inb, bool dgram, uint8_t slot, uint8_t index, int fd)
{
	struct listener *l = adopted_find(inb, dgram, slot);

	if (l != NULL) {		/* UDP, and not for the first time: its flows know this entry */
		close(fd);
		l->returned = false;
	} else {
		l = calloc(1, sizeof(*l));
		if (l == NULL) {
			close(fd);	/* it waits for its own worker */
			return;
		}
		listener_start(inb, l, fd, dgram, slot);
		l->adopted = true;
		l->next = inb->adopted;
		inb->adopted = l;
	}
	l->index = index;
	if (inb->serving)
		ev_io_start(inb->w->loop.ev, &l->io);
}

int
inbound_adopt(struct inbound *inb, const struct msg_adopt *m, const int *fds)
{
	bool dgram = m->key.kind == LISTEN_UDP;
	uint32_t i;

	if (!same_key(&inb->key, &m->key) || (dgram ? (inb->type->needs & IN_DGRAM) == 0 || !inb->udp : inb->no_stream))
		return -E_NOTFOUND;
	for (i = 0; i < m->n; i++)
		adopt_one(inb, dgram, m->slot[i], (uint8_t)m->index, fds[i]);
	return 0;
}

static void
listener_end(struct inbound *inb, struct listener *l)
{
	ev_io_stop(inb->w->loop.ev, &l->io);
	loop_forget(&inb->w->loop, l->fd);
	close(l->fd);
}

void
inbound_return(struct inbound *inb, uint32_t index)
{
	struct listener **at = &inb->adopted, *l;

	while ((l = *at) != NULL) {
		if (l->index != index || l->dgram) {
			if (l->index == index) {
				l->returned = true;
				ev_io_stop(inb->w->loop.ev, &l->io);
			}
			at = &l->next;
			continue;
		}
		*at = l->next;
		listener_end(inb, l);
		free(l);
	}
}

/* ---- the end */

/* Conns that carry nothing now and would hold the worker: HTTP clients between two requests (they have a deadline), and, but
 * for a drain (then they are handed over), control connections of UDP associations. */
static void
hurry(struct inbound *inb)
{
	struct worker *w = inb->w;
	uint64_t until = w->loop.now_ms + (w->draining ? IDLE_DRAIN_MS : IDLE_STOP_MS);

	list_each(n, &w->conns) {
		struct conn *c = container_of(n, struct conn, link);
		bool mine = c->inbound == inb || (c->control && c->inbound == NULL);

		if (!mine || c->state != CONN_HANDSHAKE || (c->control && w->draining) || (!c->control && c->deadline_ms == 0))
			continue;
		if (c->deadline_ms == 0 || c->deadline_ms > until)
			c->deadline_ms = until;
	}
}

void
inbound_pause(struct inbound *inb)
{
	if (!inb->serving)
		return;
	inb->serving = false;
	ev_timer_stop(inb->w->loop.ev, &inb->resume);
	set_reading(inb, false, false);
	hurry(inb);
}

void
inbound_close(struct inbound *inb)
{
	struct msg_listen key = inb->key;
	bool stream = (inb->type->needs & IN_STREAM) != 0 && !inb->no_stream,
	     dgram = (inb->type->needs & IN_DGRAM) != 0 && inb->udp;
	struct listener *l;

	inbound_pause(inb);
	for (l = after(inb, NULL); l != NULL; l = after(inb, l)) {
		if (l->dgram)
			udp_port_close(&l->udp);
		listener_end(inb, l);
	}
	while ((l = inb->adopted) != NULL) {
		inb->adopted = l->next;
		free(l);
	}
	free(inb->listeners);
	inb->listeners = NULL;
	inb->n_listeners = 0;
	if (stream) {
		key.kind = LISTEN_TCP;
		priv_unlisten(inb->w, &key);
	}
	if (dgram) {
		key.kind = LISTEN_UDP;
		priv_unlisten(inb->w, &key);
	}
}
