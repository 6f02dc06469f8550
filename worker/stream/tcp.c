/* SPDX-License-Identifier: MIT */
/* The lowest layer: a TCP socket. Made by the listeners (accepted), by the dialer (dialing, then tcp_connect()) and by a
 * hand-over (thawed). Owns its fd and, while it dials, one socket per candidate. While nothing is in the way it keeps one event
 * watcher whose interest seldom changes: each change of interest is a system call. */
#include "worker/stream/stream.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/strutil.h"
#include "worker/loop/pool.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
enum { STAGGER_MS = 300, KEEPALIVE_S = 15, DISCARD = 1 << 20 };

struct dialing;
struct tcp {
	struct stream s;
	ev_io io;
	struct dialing *d;		/* NULL when open, or before tcp_connect() */
	int fd;
	uint16_t peer_port;
	bool shut;			/* our direction was ended */
	struct ip peer;
};

struct attempt {
	ev_io io;
	struct dialing *d;
	struct ip ip;
	int fd;
};
struct dialing {
	struct tcp *t;
	ev_timer stagger;
	struct tcp_opts opts;
	char iface[IF_NAMESIZE];
	uint16_t port;
	int n, started, live;
	struct attempt a[];		/* n of them, at most TCP_CANDIDATES_MAX */
};

static struct tcp *
tcp_of(struct stream *s)
{
	return container_of(s, struct tcp, s);
}

static const struct tcp *
tcp_peek(const struct stream *s)
{
	return (const struct tcp *)(const void *)s;	/* the stream is its first member */
}

static void
on_io(struct ev_loop *ev, ev_io *w, int revents)
{
	struct tcp *t = container_of(w, struct tcp, io);
	unsigned events = ((revents & EV_READ) != 0 ? ST_READ : 0) | ((revents & EV_WRITE) != 0 ? ST_WRITE : 0);

	(void)ev;
	events &= t->s.wanted;
	if (events != 0)
		stream_tell(&t->s, (int)events);
}

/* libev passes an interest of nothing on only when an unwanted event comes. Where nothing is wanted because of back-pressure
 * or the end of file that is at once, and a wake-up for nothing: so it is told now. */
static void
interest(struct tcp *t)
{
	struct ev_loop *ev = t->s.loop->ev;
	int old = ev_is_active(&t->io) ? t->io.events & (EV_READ | EV_WRITE) : 0;
	int now = ((t->s.wanted & ST_READ) != 0 ? EV_READ : 0) | ((t->s.wanted & ST_WRITE) != 0 ? EV_WRITE : 0);

	if (old == now)
		return;
	if (old != 0)
		ev_io_stop(ev, &t->io);
	if (now != 0) {
		if (old != 0)
			ev_io_modify(&t->io, now);
		else
			ev_io_set(&t->io, t->fd, now);	/* makes libev add it again even if nothing seems to have changed in this turn */
		ev_io_start(ev, &t->io);
	} else {
		loop_forget(t->s.loop, t->fd);
	}
}

static void
tcp_want(struct stream *s, int events)
{
	struct tcp *t = tcp_of(s);

	s->wanted = (unsigned)events & (ST_READ | ST_WRITE);
	if (t->fd != -1)
		interest(t);
}

static ssize_t
io_error(struct stream *s)
{
	int code = err_from_errno(errno);

	if (code == E_AGAIN)
		return -E_AGAIN;
	s->err = code;
	return -code;
}

static ssize_t
tcp_readv(struct stream *s, const struct iovec *v, int n)
{
	struct tcp *t = tcp_of(s);
	ssize_t r;

	if (t->fd == -1)
		return -E_AGAIN;
	if ((s->state & ST_EOF) != 0)
		return 0;
	r = n == 1 ? recv(t->fd, v->iov_base, v->iov_len, 0) : readv(t->fd, v, n);
	if (r == -1)
		return io_error(s);
	if (r == 0)
		s->state |= ST_EOF;
	return r;
}

static ssize_t
tcp_writev(struct stream *s, const struct iovec *v, int n)
{
	struct tcp *t = tcp_of(s);
	struct iovec *io;
	struct msghdr m = { .msg_iovlen = (size_t)n };
	ssize_t r;

	if (t->fd == -1)
		return -E_AGAIN;
	if (n == 1) {
		r = send(t->fd, v->iov_base, v->iov_len, MSG_NOSIGNAL);
	} else {
		memcpy(&io, &v, sizeof(io));	/* struct msghdr has no const */
		m.msg_iov = io;
		r = sendmsg(t->fd, &m, MSG_NOSIGNAL);
	}
	return r == -1 ? io_error(s) : r;
}

static int
tcp_shut_wr(struct stream *s)
{
	struct tcp *t = tcp_of(s);

	if (t->fd == -1)
		return -E_AGAIN;
	if (t->shut)
		return 0;
	t->shut = true;
	if (shutdown(t->fd, SHUT_WR) == -1 && errno != ENOTCONN)
		return (int)io_error(s);
	return 0;
}

static int
tcp_raw_fd(const struct stream *s, int dir)
{
	const struct tcp *t = tcp_peek(s);

	(void)dir;
	return t->fd != -1 && (s->state & ST_FAIL) == 0 ? t->fd : -1;
}

static void dialing_end(struct dialing *d, const struct attempt *winner);

static void
give_up_fd(struct tcp *t)
{
	if (ev_is_active(&t->io))
		ev_io_stop(t->s.loop->ev, &t->io);
	t->fd = -1;
}

static int
tcp_freeze(struct stream *s, struct wire *w, int *fds)
{
	struct tcp *t = tcp_of(s);

	if (t->fd == -1 || s->err != 0 || (s->state & ST_OPEN) == 0)
		return -E_UNSUP;
	wire_put_bool(w, (s->state & ST_EOF) != 0);
	wire_put_bool(w, t->shut);
	wire_put(w, &t->peer, sizeof(t->peer));
	wire_put_u16(w, t->peer_port);
	fds[0] = t->fd;
	if (ev_is_active(&t->io))
		ev_io_stop(s->loop->ev, &t->io);
	loop_forget(s->loop, t->fd);
	give_up_fd(t);
	return 1;
}

static void
tcp_destroy(struct stream *s)
{
	struct tcp *t = tcp_of(s);
	int fd = t->fd;

	if (t->d != NULL)
		dialing_end(t->d, NULL);
	/* close() with unread bytes resets, and takes from the peer what we said last (a refusal, close_notify): they are
	 * thrown away first, uncopied (tcp(7) MSG_TRUNC) */
	if (fd != -1 && s->how == CLOSE_FLUSH && s->err == 0 && (s->state & ST_EOF) == 0)
		(void)recv(fd, NULL, DISCARD, MSG_DONTWAIT | MSG_TRUNC);
	if (fd != -1) {
		struct linger none = { .l_onoff = 1, .l_linger = 0 };

		give_up_fd(t);
		if (s->how == CLOSE_RESET)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
		close(fd);
	}
	mem_free(t);
}

static const struct stream_ops tcp_ops = {
	.name = "tcp",
	.readv = tcp_readv,
	.writev = tcp_writev,
	.shut_wr = tcp_shut_wr,
	.want = tcp_want,
	.raw_fd = tcp_raw_fd,
	.freeze = tcp_freeze,
	.destroy = tcp_destroy,
};

static struct tcp *
tcp_new(struct loop *loop, int fd)
{
	struct tcp *t = mem_got(malloc(sizeof(*t)));

	if (t == NULL)
		return NULL;
	*t = (struct tcp){ .fd = fd };
	stream_init(&t->s, &tcp_ops, loop, NULL);
	ev_io_init(&t->io, on_io, fd, EV_READ);
	if (fd != -1)
		t->s.state = ST_OPEN;
	return t;
}

static void
set_int(int fd, int level, int name, int value)
{
	/* all options set by this are refinements: a socket without them still works */
	(void)setsockopt(fd, level, name, &value, sizeof(value));
}

struct stream *
tcp_accepted(struct loop *loop, int fd)
{
	struct tcp *t = tcp_new(loop, fd);

	if (t == NULL) {
		close(fd);
		return NULL;
	}
	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	return &t->s;
}

static void
keep_alive(int fd, const struct tcp_opts *o)
{
	if (o->no_keepalive)
		return;
	set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, o->keep_idle > 0 ? o->keep_idle : KEEPALIVE_S);
	set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, o->keep_interval > 0 ? o->keep_interval : KEEPALIVE_S);
}

void
tcp_listener_opts(int fd, const struct tcp_opts *opts)
{
	static const struct tcp_opts defaults;

	set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	keep_alive(fd, opts != NULL ? opts : &defaults);
}

struct stream *
tcp_dialing(struct loop *loop)
{
	struct tcp *t = tcp_new(loop, -1);

	return t == NULL ? NULL : &t->s;
}

/* ---- dialing */

/* Closes every attempt but the winner and frees d. */
static void
dialing_end(struct dialing *d, const struct attempt *winner)
{
	struct ev_loop *ev = d->t->s.loop->ev;

	ev_timer_stop(ev, &d->stagger);
	for (int i = 0; i < d->started; i++) {
		struct attempt *a = &d->a[i];

		if (a->fd == -1)
			continue;
		ev_io_stop(ev, &a->io);
		if (a != winner)
			close(a->fd);
	}
	d->t->d = NULL;
	free(d);
}

static void
won(struct attempt *a, bool tell)
{
	struct dialing *d = a->d;
	struct tcp *t = d->t;

	t->fd = a->fd;
	t->peer = a->ip;
	t->peer_port = d->port;
	dialing_end(d, a);
	ev_io_init(&t->io, on_io, t->fd, EV_READ);
	interest(t);
	if (!tell) {
		stream_ready(&t->s, ST_OPEN);
		return;
	}
	t->s.state |= ST_OPEN;
	stream_tell(&t->s, ST_OPEN);
}

static void
lost(struct attempt *a, const char *what, int sys_errno)
{
	struct dialing *d = a->d;
	char ip[ADDR_TEXT_MAX], addr[ADDR_TEXT_MAX + 8];

	if (a->fd != -1) {
		ev_io_stop(d->t->s.loop->ev, &a->io);
		close(a->fd);
		a->fd = -1;
		d->live--;
	}
	if (d->started < d->n || d->live > 0)
		return;
	hostport_text(addr, sizeof(addr), ip_text(&a->ip, ip), d->port);
	stream_fail(&d->t->s, err_from_errno(sys_errno), sys_errno, "%s %s", what, addr);
	dialing_end(d, NULL);
}

static void on_attempt(struct ev_loop *ev, ev_io *w, int revents);

static int
open_socket(const struct tcp_opts *o, int family)
{
	int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, fd = -1;

	if (o->mptcp)
		fd = socket(family, type, IPPROTO_MPTCP);	/* refused by the sandbox or the kernel: plain TCP then */
	return fd != -1 ? fd : socket(family, type, IPPROTO_TCP);
}

/* True when the attempt is under way; false when it is lost (and d may be gone) or won. */
static bool
attempt_start(struct dialing *d, struct attempt *a)
{
	union sockaddr_any sa;
	socklen_t len = ip_to_sockaddr(&sa, &a->ip, d->port);

	a->d = d;
	a->fd = open_socket(&d->opts, sa.sa.sa_family);
	if (a->fd == -1) {
		lost(a, "open a socket for", errno);
		return false;
	}
	d->live++;
	ev_io_init(&a->io, on_attempt, a->fd, EV_WRITE);
	if (d->iface[0] != '\0' && setsockopt(a->fd, SOL_SOCKET, SO_BINDTODEVICE, d->iface, (socklen_t)strlen(d->iface)) == -1) {
		lost(a, "bind to the interface for", errno);
		return false;
	}
	set_int(a->fd, IPPROTO_TCP, TCP_NODELAY, 1);
	keep_alive(a->fd, &d->opts);
	if (d->opts.tfo)
		set_int(a->fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1);
	if (connect(a->fd, &sa.sa, len) == 0) {
		won(a, false);
		return false;
	}
	if (errno != EINPROGRESS) {
		lost(a, "connect", errno);
		return false;
	}
	ev_io_start(d->t->s.loop->ev, &a->io);
	return true;
}

/* Starts candidates until one is under way (all of them when concurrent). d may be gone afterwards. */
static void
advance(struct dialing *d, bool all)
{
	struct tcp *t = d->t;

	while (t->d != NULL && d->started < d->n) {
		bool going = attempt_start(d, &d->a[d->started++]);

		if (going && !all)
			break;
	}
	if (t->d == NULL)
		return;
	ev_timer_stop(t->s.loop->ev, &d->stagger);
	if (d->started < d->n) {
		ev_timer_set(&d->stagger, STAGGER_MS / 1000.0, 0.0);
		ev_timer_start(t->s.loop->ev, &d->stagger);
	}
}

static void
on_stagger(struct ev_loop *ev, ev_timer *w, int revents)
{
	(void)ev;
	(void)revents;
	advance(container_of(w, struct dialing, stagger), false);
}

static void
on_attempt(struct ev_loop *ev, ev_io *w, int revents)
{
	struct attempt *a = container_of(w, struct attempt, io);
	struct dialing *d = a->d;
	struct tcp *t = d->t;
	int err = 0;
	socklen_t len = sizeof(err);

	(void)ev;
	(void)revents;
	if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &err, &len) == -1)
		err = errno;
	if (err == 0) {
		won(a, true);
		return;
	}
	lost(a, "connect", err);
	if (t->d != NULL)
		advance(d, false);
}

void
tcp_connect(struct stream *s, const struct ip *ips, int n, uint16_t port, const struct tcp_opts *opts, bool concurrent)
{
	struct tcp *t = tcp_of(s);
	struct dialing *d;

	if ((s->state & ST_CLOSED) != 0 || t->d != NULL || t->fd != -1)
		return;
	if (n > TCP_CANDIDATES_MAX)
		n = TCP_CANDIDATES_MAX;
	if (n <= 0) {
		stream_fail(s, E_UNREACH, 0, "no address to connect to");
		return;
	}
	d = malloc(sizeof(*d) + (size_t)n * sizeof(d->a[0]));
	if (d == NULL) {
		stream_fail(s, E_NOMEM, 0, "connect: %s", err_text(E_NOMEM));
		return;
	}
	*d = (struct dialing){ .t = t, .port = port, .n = n };
	if (opts != NULL) {
		d->opts = *opts;
		if (opts->iface != NULL)
			str_copy(d->iface, sizeof(d->iface), opts->iface);
		d->opts.iface = NULL;
	}
	for (int i = 0; i < n; i++)
		d->a[i] = (struct attempt){ .ip = ips[i], .fd = -1 };
	ev_timer_init(&d->stagger, on_stagger, 0.0, 0.0);
	t->d = d;
	advance(d, concurrent);
}

bool
tcp_peer(const struct stream *s, struct ip *ip, uint16_t *port)
{
	const struct tcp *t = tcp_peek(s);

	if (s->ops != &tcp_ops || t->peer.family == 0)
		return false;
	*ip = t->peer;
	*port = t->peer_port;
	return true;
}

int
tcp_fd(const struct stream *s)
{
	return s->ops == &tcp_ops ? tcp_peek(s)->fd : -1;
}

struct stream *
tcp_thaw(struct loop *loop, struct wire *state, const int *fds, int nfds)
{
	struct tcp *t;
	bool eof, shut;
	struct ip peer;
	uint16_t port;

	if (nfds != 1 || wire_get_bool(state, &eof) != 0 || wire_get_bool(state, &shut) != 0 ||
	    wire_get(state, &peer, sizeof(peer)) != 0 || wire_get_u16(state, &port) != 0 ||
	    (peer.family != 0 && peer.family != 4 && peer.family != 6) || (t = tcp_new(loop, fds[0])) == NULL) {
		for (int i = 0; i < nfds; i++)
			close(fds[i]);
		return NULL;
	}
	t->s.state |= eof ? ST_EOF : 0;
	t->shut = shut;
	t->peer = peer;
	t->peer_port = port;
	return &t->s;
}
