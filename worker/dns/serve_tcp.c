/* SPDX-License-Identifier: MIT */
/* The TCP clients of the DNS server (RFC 1035 4.2.2, RFC 7766): framing, several questions in flight, answers in the order in
 * which they come. Used by serve.c. Owns the clients and what they have not taken yet.
 *
 * An answer that is known at once is sent from inside the reading of its question, so a client is freed at the end of the turn.
 * At the caps of serve.h and with an answer not yet taken, nothing more is read from the client. */
#include "worker/dns/serve.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/err.h"
#include "worker/dns/serve_impl.h"

enum { ACCEPT_BATCH = 64,
       READS_MAX = 4,			/* of one client in one turn */
       STARVED_PAUSE_MS = 100 };

static void
client_bury(struct loop_task *t)
{
	struct client *c = container_of(t, struct client, grave);

	while (c->out != NULL) {
		struct buf *b = c->out;

		c->out = b->next;
		buf_put(b);
	}
	free(c);
}

/* Its questions go on without it. */
static void
client_close(struct client *c)
{
	struct serve *s = c->s;

	if (c->fd == -1)
		return;
	list_each_safe(n, tmp, &c->questions) {
		list_remove(n);
		container_of(n, struct query, link)->client = NULL;
	}
	c->n_questions = 0;
	ev_io_stop(s->loop->ev, &c->io);
	ev_timer_stop(s->loop->ev, &c->idle);
	close(c->fd);
	c->fd = -1;
	list_remove(&c->link);
	s->n_clients--;
	c->share->clients--;
	loop_bury(s->loop, &c->grave);
	if (s->serving && !ev_is_active(&s->resume))
		ev_io_start(s->loop->ev, &s->tcp_io);
}

static bool
client_reads(const struct client *c)
{
	return !c->ended && c->n_questions < DNS_SERVE_PER_CLIENT && c->n_out == 0;
}

static void
client_touch(struct client *c)
{
	ev_timer_again(c->s->loop->ev, &c->idle);
}

static bool
queue(struct client *c, const uint8_t *p, size_t n)
{
	if (c->n_out + n > DNS_SERVE_OUT_MAX)
		return false;
	while (n > 0) {
		struct buf *b = c->last;
		size_t k;

		if (b == NULL || b->len == BUF_SIZE) {
			b = buf_get();
			if (b == NULL)
				return false;
			b->next = NULL;
			*(c->last != NULL ? &c->last->next : &c->out) = b;
			c->last = b;
		}
		k = BUF_SIZE - b->len < n ? BUF_SIZE - b->len : n;
		memcpy(b->data + b->len, p, k);
		b->len += (uint32_t)k;
		c->n_out += k;
		p += k;
		n -= k;
	}
	return true;
}

/* Bytes taken, 0 when there is no room, -1 when the connection is broken. */
static ssize_t
try_send(struct client *c, const uint8_t *p, size_t n)
{
	ssize_t k = send(c->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (k > 0)
		client_touch(c);
	return k == -1 && (errno == EAGAIN || errno == EINTR) ? 0 : k;
}

/* The n bytes in serve_room(c->s), their length in front. */
void
serve_client_send(struct client *c, size_t n)
{
	uint8_t *p = c->s->reply;
	ssize_t k = 0;

	if (c->fd == -1)
		return;
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
	if (c->n_out == 0)
		k = try_send(c, p, n + 2);
	if (k >= 0 && queue(c, p + k, n + 2 - (size_t)k)) {
		c->s->answered++;
		return;
	}
	if (k < 0)
		c->s->dropped++;	/* it has gone */
	else
		serve_lose(c->s, "a client does not take its answers");
	client_close(c);
}

static void
client_flush(struct client *c)
{
	while (c->out != NULL) {
		struct buf *b = c->out;
		ssize_t k = try_send(c, b->data + b->off, b->len - b->off);

		if (k < 0) {
			client_close(c);
			return;
		}
		b->off += (uint32_t)k;
		c->n_out -= (size_t)k;
		if (b->off < b->len)
			return;
		c->out = b->next;
		c->last = c->out != NULL ? c->last : NULL;
		buf_put(b);
	}
}

static void
client_ask(struct client *c, const uint8_t *p, size_t n)
{
	struct query *q = serve_query_new(c->s, c->share);
	struct dns_question refused;
	int k;

	client_touch(c);
	if (q == NULL) {
		/* said rather than dropped: the client would wait on a good connection */
		serve_lose(c->s, "too many questions in flight");
		if (dns_question_read(&refused, p, n) < 0)
			return;
		k = dns_reply_empty(&refused, serve_room(c->s), DNS_MSG_MAX, DNS_R_SERVFAIL);
		if (k > 0)
			serve_client_send(c, (size_t)k);
		return;
	}
	q->tcp = true;
	q->client = c;
	list_append(&c->questions, &q->link);
	c->n_questions++;
	serve_query_run(q, p, n);
}

/* The whole questions among what was read, as far as they may be asked now. False: the client is closed. */
static bool
client_parse(struct client *c)
{
	size_t at = 0;

	c->parsing = true;
	while (c->fd != -1 && c->n_in - at >= 2 && c->n_questions < DNS_SERVE_PER_CLIENT && c->n_out == 0) {
		size_t n = (size_t)(c->in[at] << 8 | c->in[at + 1]);

		if (n < DNS_HEADER || n > QUESTION_MAX) {
			client_close(c);
			break;
		}
		if (c->n_in - at - 2 < n)
			break;
		client_ask(c, c->in + at + 2, n);
		at += n + 2;
	}
	c->parsing = false;
	memmove(c->in, c->in + at, c->n_in - at);
	c->n_in -= at;
	return c->fd != -1;
}

/* What the client may do now, after anything has changed; it is closed when nothing is left to do. */
void
serve_client_settle(struct client *c)
{
	int events;

	if (c->fd == -1 || c->parsing || !client_parse(c))
		return;
	if (c->n_questions == 0 && c->n_out == 0 &&
	    (c->ended || (c->leaving && c->s->loop->now_ms - c->s->paused_ms >= DNS_SERVE_STAY_MS))) {
		client_close(c);
		return;
	}
	events = (client_reads(c) ? EV_READ : 0) | (c->n_out > 0 ? EV_WRITE : 0);
	if (events == (c->io.events & (EV_READ | EV_WRITE)) && (events == 0 || ev_is_active(&c->io)))
		return;
	ev_io_stop(c->s->loop->ev, &c->io);
	ev_io_set(&c->io, c->fd, events);
	if (events != 0)
		ev_io_start(c->s->loop->ev, &c->io);
}

static void
client_read(struct client *c)
{
	for (int i = 0; i < READS_MAX && client_reads(c) && c->n_in < sizeof(c->in); i++) {
		ssize_t n = recv(c->fd, c->in + c->n_in, sizeof(c->in) - c->n_in, MSG_DONTWAIT);

		if (n == -1 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n == -1) {
			client_close(c);
			return;
		}
		c->ended = n == 0;
		c->n_in += (size_t)n;
		if (!client_parse(c))
			return;
	}
}

static void
on_client(struct ev_loop *ev, ev_io *io, int revents)
{
	struct client *c = container_of(io, struct client, io);

	(void)ev;
	if ((revents & EV_WRITE) != 0)
		client_flush(c);
	if ((revents & EV_READ) != 0 && c->fd != -1)
		client_read(c);
	serve_client_settle(c);
}

static void
on_idle(struct ev_loop *ev, ev_timer *t, int revents)
{
	struct client *c = container_of(t, struct client, idle);

	(void)ev;
	(void)revents;
	if (c->leaving && c->n_questions > 0)
		client_touch(c);	/* they end before long */
	else
		client_close(c);
}

static void
client_new(struct serve *s, int fd, const struct sockaddr *from)
{
	static const int on = 1;
	struct share *share;
	struct client *c;
	struct ip ip;

	ip_from_sockaddr(&ip, NULL, from);
	share = serve_share(s, &ip);
	c = share->clients < DNS_SERVE_SOURCE_CLIENTS ? malloc(sizeof(*c)) : NULL;
	if (c == NULL) {
		close(fd);
		return;
	}
	/* an answer must not wait for the acknowledgement of the one before */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	memset(c, 0, offsetof(struct client, in));
	c->s = s;
	c->fd = fd;
	c->share = share;
	share->clients++;
	list_init(&c->questions);
	loop_task_init(&c->grave, client_bury);
	ev_io_init(&c->io, on_client, fd, EV_READ);
	ev_io_start(s->loop->ev, &c->io);
	ev_timer_init(&c->idle, on_idle, 0., DNS_SERVE_IDLE_MS / 1000.0);
	client_touch(c);
	list_append(&s->clients, &c->link);
	s->n_clients++;
}

static void
on_accept(struct ev_loop *ev, ev_io *io, int revents)
{
	struct serve *s = container_of(io, struct serve, tcp_io);

	(void)revents;
	for (int i = 0; i < ACCEPT_BATCH && s->n_clients < DNS_SERVE_CLIENTS_MAX; i++) {
		union sockaddr_any from = { 0 };
		socklen_t len = sizeof(from);
		int fd = accept4(s->tcp, &from.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd != -1) {
			client_new(s, fd, &from.sa);
			continue;
		}
		if (errno == EAGAIN)
			return;
		/* EINVAL: it does not listen yet; the last four: no room. A level-triggered listener would spin. */
		if (errno == EINVAL || errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			ev_io_stop(ev, io);
			ev_timer_set(&s->resume, STARVED_PAUSE_MS / 1000.0, 0.);
			ev_timer_start(ev, &s->resume);
			return;
		}
	}
	if (s->n_clients >= DNS_SERVE_CLIENTS_MAX)
		ev_io_stop(ev, io);		/* until one leaves */
}

static void
on_resume(struct ev_loop *ev, ev_timer *t, int revents)
{
	struct serve *s = container_of(t, struct serve, resume);

	(void)revents;
	if (s->serving && s->n_clients < DNS_SERVE_CLIENTS_MAX)
		ev_io_start(ev, &s->tcp_io);
}

void
serve_tcp_init(struct serve *s)
{
	list_init(&s->clients);
	ev_io_init(&s->tcp_io, on_accept, s->tcp, EV_READ);
	ev_timer_init(&s->resume, on_resume, 0., 0.);
}

void
serve_tcp_start(struct serve *s)
{
	ev_io_start(s->loop->ev, &s->tcp_io);
}

void
serve_tcp_pause(struct serve *s)
{
	ev_io_stop(s->loop->ev, &s->tcp_io);
	ev_timer_stop(s->loop->ev, &s->resume);
	s->paused_ms = s->loop->now_ms;
	list_each_safe(n, tmp, &s->clients) {
		struct client *c = container_of(n, struct client, link);

		client_read(c);		/* what has come is asked: closing over it would reset the connection */
		if (c->fd == -1)
			continue;
		c->leaving = true;
		c->idle.repeat = DNS_SERVE_LEAVE_MS / 1000.0;
		client_touch(c);
		serve_client_settle(c);
	}
}

void
serve_tcp_close(struct serve *s)
{
	list_each_safe(n, tmp, &s->clients)
		client_close(container_of(n, struct client, link));
}
