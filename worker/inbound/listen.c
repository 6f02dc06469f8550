/* SPDX-License-Identifier: MIT */
/* The sockets of an inbound: asked for from the supervisor, read in bounded batches, paused when file descriptors run out. Called by apply.c, patch.c and
 * drain.c; hands streams to inbound_type.accept and datagrams to inbound_type.packet. Owns the listener fds and the one set of receive buffers. */
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

static void
set_reading(struct inbound *inb, bool on, bool streams_only)
{
	int i;

	for (i = 0; i < inb->n_listeners; i++) {
		struct listener *l = &inb->listeners[i];

		if (streams_only && l->dgram)
			continue;
		if (on)
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
	struct conn_from from = { .inbound = inb, .in_name = inb->name, .special_proxy = inb->special_proxy, .special_rules = inb->special_rules,
		.in_ip = l->local, .in_port = l->port };
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
		/* EINVAL: it does not listen yet, or was shut down at the service's end. The others concern one connection (accept(2)). */
		if (errno == EINVAL) {
			rest(l->inbound);
			return;
		}
	}
}

/* Where a datagram was sent to, IP_PKTINFO or IPV6_PKTINFO; none when the kernel did not say. */
static struct ip
local_of(struct msghdr *m)
{
	union sockaddr_any sa = { 0 };
	struct ip ip = { 0 };
	struct cmsghdr *c;
	uint16_t port;

	for (c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo i;

			memcpy(&i, CMSG_DATA(c), sizeof(i));
			sa.in.sin_family = AF_INET;
			sa.in.sin_addr = i.ipi_addr;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo i;

			memcpy(&i, CMSG_DATA(c), sizeof(i));
			sa.in6.sin6_family = AF_INET6;
			sa.in6.sin6_addr = i.ipi6_addr;
		} else {
			continue;
		}
		ip_from_sockaddr(&ip, &port, &sa.sa);
		break;
	}
	return ip;
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
		batch.msg[i].msg_hdr = (struct msghdr){ .msg_name = &batch.peer[i], .msg_namelen = sizeof(batch.peer[i]), .msg_iov = &batch.iov[i],
			.msg_iovlen = 1, .msg_control = batch.control[i], .msg_controllen = sizeof(batch.control[i]) };
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
			struct ip src, local = l->local.family != 0 ? l->local : local_of(m);
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
listener_start(struct inbound *inb, struct listener *l, int fd, bool dgram)
{
	static const int on = 1;

	*l = (struct listener){ .inbound = inb, .fd = fd, .dgram = dgram, .port = inb->key.port };
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
		.special_rules = inb->special_rules, .fd = fd, .in_ip = l->local, .in_port = l->port, .wrap = inb->type->wrap };
}

/* The io watchers and udp ports hold addresses of listeners[], so it is made once, at its final size. */
static int
adopt(struct inbound *inb, const int *tcp, int n_tcp, const int *udp, int n_udp)
{
	int i;

	if (n_tcp + n_udp == 0)
		return 0;
	inb->listeners = calloc((size_t)(n_tcp + n_udp), sizeof(*inb->listeners));
	if (inb->listeners == NULL)
		return -E_NOMEM;
	for (i = 0; i < n_tcp; i++)
		listener_start(inb, &inb->listeners[inb->n_listeners++], tcp[i], false);
	for (i = 0; i < n_udp; i++) {
		struct listener *l = &inb->listeners[inb->n_listeners++];

		listener_start(inb, l, udp[i], true);
		udp_port_init(&l->udp);
	}
	return 0;
}

static int
ask(struct inbound *inb, uint16_t kind, int *fds, char *why, size_t cap)
{
	struct msg_listen key = inb->key;

	key.kind = kind;
	return priv_listen(inb->w, &key, fds, why, cap);
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
	bool stream = (inb->type->needs & IN_STREAM) != 0 && !inb->no_stream, dgram = (inb->type->needs & IN_DGRAM) != 0 && inb->udp;

	ev_timer_init(&inb->resume, on_resume, 0.0, 0.0);
	if (stream) {
		n_tcp = ask(inb, LISTEN_TCP, tcp, why, cap);
		if (n_tcp < 0)
			return n_tcp;
	}
	if (dgram) {
		n_udp = ask(inb, LISTEN_UDP, udp, why, cap);
		if (n_udp < 0) {
			rc = n_udp;
			n_udp = 0;
			goto out;
		}
	}
	rc = adopt(inb, tcp, n_tcp, udp, n_udp);
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

/* Conns that carry nothing now and would hold the worker: HTTP clients between two requests (they have a deadline), and, but for a drain, control
 * connections of UDP associations (no handshake record). */
static void
hurry(struct inbound *inb)
{
	struct worker *w = inb->w;
	uint64_t until = w->loop.now_ms + (w->draining ? IDLE_DRAIN_MS : IDLE_STOP_MS);

	list_each(n, &w->conns) {
		struct conn *c = container_of(n, struct conn, link);
		bool control = c->hs == NULL && c->deadline_ms == 0;

		if (c->inbound != inb || c->state != CONN_HANDSHAKE || (control && w->draining) || (!control && c->deadline_ms == 0))
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
	bool stream = (inb->type->needs & IN_STREAM) != 0 && !inb->no_stream, dgram = (inb->type->needs & IN_DGRAM) != 0 && inb->udp;
	int i;

	inbound_pause(inb);
	for (i = 0; i < inb->n_listeners; i++) {
		struct listener *l = &inb->listeners[i];

		if (l->dgram)
			udp_port_close(&l->udp);
		loop_forget(&inb->w->loop, l->fd);
		close(l->fd);
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
