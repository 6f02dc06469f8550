/* SPDX-License-Identifier: MIT */
/* One question to a set of name servers, all at once: UDP, sent again when nothing comes, TCP where an answer was cut, and
 * the connections of carrier.c. Called by resolver.c. An exchange owns one connected socket per server, each with its own
 * random identifier and, being new, its own random port (RFC 5452 9); only what comes from the asked server with that
 * identifier and the same question is an answer.
 *
 * The first useful answer ends the exchange. One without addresses is kept as the result of last resort, and the others get
 * a little longer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/codec/dns.h"
#include "worker/dns/carrier.h"
#include "worker/dns/internal.h"

enum { UDP_READ = 4096,			/* a longer datagram is asked for again over TCP */
       READS_MAX = 8,			/* datagrams of one socket in one event */
       IGNORED_MS = 60000 };		/* between two lines about ignored answers of one server */

struct attempt {			/* at one server */
	ev_io io;
	struct exchange *x;
	struct upstream up;		/* a copy: the list may change meanwhile */
	int fd;				/* -1: over, or asked by a carrier */
	bool tcp;			/* an answer cannot be cut */
	struct carrier_ask ask;		/* at a carrier */
	uint8_t id[2];
	uint8_t head[2];		/* TCP: the answer's length (RFC 1035 4.2.2) */
	size_t done;			/* TCP: bytes sent, then bytes received, the length's two among them */
	uint8_t *in;			/* TCP: the answer */
	uint8_t *own;			/* this server's question, when it is not that of the others: as x->query */
	size_t n_own;
};
struct exchange {
	struct list link;
	struct resolver *r;
	exchange_cb *cb;
	void *arg;
	struct loop_task task;		/* the end of an exchange that ended in its start, then its grave */
	ev_timer timer;
	int step;			/* next of times_ms */
	int live;			/* attempts that may still bring an answer */
	int err;			/* when nobody answers */
	uint16_t type;
	uint8_t query[2 + DNS_QUERY_MAX];	/* behind the length that TCP wants */
	size_t n;			/* without that length */
	uint8_t *kept;			/* the first answer without addresses */
	size_t n_kept;
	int count;
	struct attempt a[];
};

enum verdict { IGNORED, CUT, FAILED, EMPTY, USEFUL };

/* ---- ends */

/* What this server is sent, behind two bytes for the length that TCP wants; *n without them. */
static uint8_t *
question_of(struct attempt *a, size_t *n)
{
	*n = a->own != NULL ? a->n_own : a->x->n;
	return a->own != NULL ? a->own : a->x->query;
}

static void
attempt_close(struct attempt *a)
{
	carrier_cancel(&a->ask);
	if (a->fd == -1)
		return;
	ev_io_stop(a->x->r->loop->ev, &a->io);
	close(a->fd);
	a->fd = -1;
	a->x->r->n_sockets--;
	free(a->in);
	a->in = NULL;
}

static void
bury(struct loop_task *t)
{
	struct exchange *x = container_of(t, struct exchange, task);

	free(x->kept);
	free(x);
}

/* Someone may be guessing, or a device on the way answers in the server's place. */
static void
tell_ignored(const struct attempt *a)
{
	struct dns_ignored *ig = a->up.ignored;
	uint64_t now = a->x->r->loop->now_ms;
	char ip[ADDR_TEXT_MAX];

	if (ig->n == 0 || (ig->told_ms != 0 && now - ig->told_ms < IGNORED_MS))
		return;
	log_warn("dns: %llu answers of %.128s were ignored: they answer no question of ours", (unsigned long long)ig->n,
	    a->up.conf != NULL ? a->up.conf->text : ip_text(&a->up.ip, ip));
	*ig = (struct dns_ignored){ .told_ms = now };
}

/* Closes everything; x is freed at the end of the turn. */
static void
end(struct exchange *x)
{
	for (int i = 0; i < x->count; i++) {
		attempt_close(&x->a[i]);
		free(x->a[i].own);
		x->a[i].own = NULL;
		tell_ignored(&x->a[i]);
	}
	ev_timer_stop(x->r->loop->ev, &x->timer);
	list_remove(&x->link);
	x->cb = NULL;
	x->task.fn = bury;
	loop_bury(x->r->loop, &x->task);
}

static void
finish(struct exchange *x, int err, const uint8_t *msg, size_t n)
{
	exchange_cb *cb = x->cb;
	void *arg = x->arg;

	end(x);
	cb(arg, err, msg, n);
}

static void
give_up(struct exchange *x)
{
	if (x->kept != NULL)
		finish(x, 0, x->kept, x->n_kept);
	else
		finish(x, x->err, NULL, 0);
}

/* This server will not help. True when that was the last one and x has ended. */
static bool
attempt_fail(struct attempt *a)
{
	struct exchange *x = a->x;

	attempt_close(a);
	if (--x->live > 0)
		return false;
	x->err = E_DNS;
	give_up(x);
	return true;
}

void
exchange_cancel(struct exchange *x)
{
	end(x);
}

void
exchange_cancel_all(struct resolver *r)
{
	while (!list_empty(&r->exchanges))
		end(container_of(r->exchanges.next, struct exchange, link));
}

/* ---- answers */

/* Of A and AAAA: is there an address? */
static enum verdict
judge_records(struct dns_msg *m, uint16_t type)
{
	enum verdict v = EMPTY;
	struct dns_rr rr;
	struct ip ip;
	int rc;

	while ((rc = dns_next(m, &rr)) > 0 && rr.section == DNS_ANSWER)
		if (rr.type == type && dns_rr_ip(m, &rr, &ip) == 0)
			v = USEFUL;
	return rc < 0 ? FAILED : v;
}

static enum verdict
judge(const struct attempt *a, const uint8_t *p, size_t n)
{
	const struct exchange *x = a->x;
	bool address = x->type == DNS_T_A || x->type == DNS_T_AAAA;
	struct dns_msg m;
	int rcode;

	if (dns_open(&m, p, n) != 0 || memcmp(p, a->id, 2) != 0 || (m.flags & DNS_F_QR) == 0)
		return IGNORED;
	rcode = m.flags & DNS_F_RCODE;
	/* a server that did not understand may leave the question out */
	if (m.questions == 0 && rcode != DNS_R_OK && rcode != DNS_R_NXDOMAIN)
		return FAILED;
	if (!dns_echoes(&m, x->query + 2, x->n))
		return IGNORED;
	if ((m.flags & DNS_F_TC) != 0 && !a->tcp)
		return CUT;
	if (rcode == DNS_R_SERVFAIL || rcode == DNS_R_REFUSED || (address && rcode != DNS_R_OK && rcode != DNS_R_NXDOMAIN))
		return FAILED;
	if (!address)
		return USEFUL;
	return judge_records(&m, x->type);
}

/* True when x has ended. */
static bool
keep(struct attempt *a, const uint8_t *p, size_t n)
{
	struct exchange *x = a->x;

	if (x->kept == NULL) {
		x->kept = malloc(n);
		if (x->kept != NULL) {
			memcpy(x->kept, p, n);
			x->n_kept = n;
			x->step = RETRY_TIMES;
			ev_timer_stop(x->r->loop->ev, &x->timer);
			ev_timer_set(&x->timer, x->r->negative_ms / 1000.0, 0.);
			ev_timer_start(x->r->loop->ev, &x->timer);
		}
	}
	return attempt_fail(a);
}

static bool attempt_tcp(struct attempt *a);

/* True when a is over, and maybe x with it. */
static bool
take(struct attempt *a, const uint8_t *p, size_t n)
{
	switch (judge(a, p, n)) {
	case IGNORED:
		a->up.ignored->n++;
		return false;
	case CUT:
		attempt_close(a);
		if (!attempt_tcp(a))
			(void)attempt_fail(a);
		return true;
	case FAILED:
		(void)attempt_fail(a);
		return true;
	case EMPTY:
		(void)keep(a, p, n);
		return true;
	case USEFUL:
		finish(a->x, 0, p, n);
		return true;
	}
	return false;
}

/* ---- sockets */

static void
udp_send(struct attempt *a)
{
	size_t n;
	uint8_t *q = question_of(a, &n) + 2;

	memcpy(q, a->id, 2);
	/* a full buffer is as good as a lost datagram: it is sent again */
	(void)send(a->fd, q, n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void
on_udp(struct ev_loop *ev, ev_io *w, int revents)
{
	struct attempt *a = container_of(w, struct attempt, io);
	uint8_t buf[UDP_READ];

	(void)ev;
	(void)revents;
	for (int i = 0; i < READS_MAX; i++) {
		ssize_t n = recv(a->fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_TRUNC);

		if (n == -1) {
			if (errno != EAGAIN && errno != EINTR)
				(void)attempt_fail(a);		/* ICMP says that nobody is there */
			return;
		}
		if ((size_t)n > sizeof(buf)) {
			if (memcmp(buf, a->id, 2) != 0) {
				a->up.ignored->n++;
				continue;
			}
			attempt_close(a);
			if (!attempt_tcp(a))
				(void)attempt_fail(a);
			return;
		}
		if (take(a, buf, a->own != NULL ? edns_strip(buf, (size_t)n) : (size_t)n))
			return;
	}
}

static void
tcp_send(struct attempt *a)
{
	struct exchange *x = a->x;
	size_t all;
	uint8_t *q = question_of(a, &all);
	ssize_t n;

	all += 2;
	memcpy(q + 2, a->id, 2);
	n = send(a->fd, q + a->done, all - a->done, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n == -1) {
		if (errno != EAGAIN && errno != EINTR)
			(void)attempt_fail(a);
		return;
	}
	a->done += (size_t)n;
	if (a->done < all)
		return;
	a->done = 0;
	ev_io_stop(x->r->loop->ev, &a->io);
	ev_io_set(&a->io, a->fd, EV_READ);
	ev_io_start(x->r->loop->ev, &a->io);
}

/* Where the next bytes of the answer go; 0 when it is whole, the length among it. */
static size_t
tcp_room(struct attempt *a, uint8_t **at)
{
	size_t n = (size_t)(a->head[0] << 8 | a->head[1]);

	if (a->done < 2) {
		*at = a->head + a->done;
		return 2 - a->done;
	}
	*at = a->in + (a->done - 2);
	return n + 2 - a->done;
}

static void
tcp_read(struct attempt *a)
{
	for (;;) {
		uint8_t *at;
		size_t room = tcp_room(a, &at), whole = (size_t)(a->head[0] << 8 | a->head[1]);
		ssize_t n = recv(a->fd, at, room, MSG_DONTWAIT);

		if (n == -1 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			break;
		a->done += (size_t)n;
		if (a->done < 2)
			continue;
		if (a->in == NULL) {
			whole = (size_t)(a->head[0] << 8 | a->head[1]);
			if (whole < DNS_HEADER)
				break;
			a->in = malloc(whole);
			if (a->in == NULL)
				break;
		}
		if (a->done == whole + 2) {
			uint8_t *in = a->in;

			a->in = NULL;		/* outlives the attempt for the callback */
			if (!take(a, in, a->own != NULL ? edns_strip(in, whole) : whole))
				(void)attempt_fail(a);
			free(in);
			return;
		}
	}
	(void)attempt_fail(a);
}

static void
on_tcp(struct ev_loop *ev, ev_io *w, int revents)
{
	struct attempt *a = container_of(w, struct attempt, io);

	(void)ev;
	if ((revents & EV_WRITE) != 0)
		tcp_send(a);
	else
		tcp_read(a);
}

static bool
bind_device(const struct resolver *r, const struct upstream *up, int fd)
{
	const char *name = up->iface != NULL ? up->iface : r->gen->general.interface_name;

	if (name == NULL || name[0] == '\0' || ip_is_loopback(&up->ip))
		return true;
	return setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name)) == 0;
}

/* A connected or connecting socket for a; a failure leaves it closed. */
static bool
attempt_open(struct attempt *a, int type)
{
	struct resolver *r = a->x->r;
	union sockaddr_any sa;
	socklen_t n = ip_to_sockaddr(&sa, &a->up.ip, a->up.port);
	int fd;

	if (r->n_sockets >= RESOLVER_SOCKETS_MAX) {
		errno = EMFILE;
		return false;
	}
	fd = socket(sa.sa.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return false;
	if (!bind_device(r, &a->up, fd) || (connect(fd, &sa.sa, n) == -1 && errno != EINPROGRESS)) {
		int e = errno;

		close(fd);
		errno = e;
		return false;
	}
	a->fd = fd;
	r->n_sockets++;
	return true;
}

static bool
attempt_tcp(struct attempt *a)
{
	a->tcp = true;
	a->done = 0;
	if (!attempt_open(a, SOCK_STREAM))
		return false;
	ev_io_init(&a->io, on_tcp, a->fd, EV_WRITE);
	ev_io_start(a->x->r->loop->ev, &a->io);
	return true;
}

/* The question with the client subnet that this server is to be told. */
static bool
add_subnet(struct attempt *a)
{
	uint8_t full[EDNS_QUERY_MAX];
	struct exchange *x = a->x;

	a->n_own = edns_add(full, x->query + 2, x->n, &a->up.conf->ecs, false);
	a->own = malloc(2 + a->n_own);
	if (a->own == NULL)
		return false;
	a->own[0] = (uint8_t)(a->n_own >> 8);
	a->own[1] = (uint8_t)a->n_own;
	memcpy(a->own + 2, full, a->n_own);
	return true;
}

static bool
attempt_udp(struct attempt *a)
{
	if (a->up.conf != NULL && a->up.conf->ecs.ip.family != 0 && !add_subnet(a)) {
		errno = ENOMEM;
		return false;
	}
	if (!attempt_open(a, SOCK_DGRAM))
		return false;
	ev_io_init(&a->io, on_udp, a->fd, EV_READ);
	ev_io_start(a->x->r->loop->ev, &a->io);
	udp_send(a);
	return true;
}

static void
on_carrier(void *arg, int err, uint8_t *msg, size_t n)
{
	struct attempt *a = arg;

	if (err == 0) {
		memcpy(msg, a->id, 2);	/* its number was the connection's */
		if (take(a, msg, n))
			return;
	}
	(void)attempt_fail(a);
}

static bool
attempt_carrier(struct attempt *a)
{
	int rc = carrier_ask(a->up.carrier, &a->ask, a->x->query + 2, a->x->n, on_carrier, a);

	a->tcp = true;
	errno = rc == -E_LIMIT ? EMFILE : ENOMEM;
	return rc == 0;
}

/* ---- the exchange */

static void
timer_next(struct exchange *x)
{
	const unsigned *t = x->r->times_ms;
	unsigned before = x->step > 0 ? t[x->step - 1] : 0;

	ev_timer_set(&x->timer, (t[x->step] - before) / 1000.0, 0.);
	ev_timer_start(x->r->loop->ev, &x->timer);
}

static void
on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct exchange *x = container_of(w, struct exchange, timer);

	(void)ev;
	(void)revents;
	if (x->step >= RETRY_TIMES - 1) {
		x->err = E_TIMEOUT;
		give_up(x);
		return;
	}
	x->step++;
	timer_next(x);
	for (int i = 0; i < x->count; i++)
		if (x->a[i].fd != -1 && !x->a[i].tcp)
			udp_send(&x->a[i]);
}

/* The end of an exchange that nobody could be asked in. */
static void
on_none(struct loop_task *t)
{
	struct exchange *x = container_of(t, struct exchange, task);

	give_up(x);
}

static bool
takes(const struct upstream *u, uint16_t type)
{
	const struct dns_server *c = u->conf;

	if (c == NULL)
		return true;
	for (int i = 0; i < c->n_no_qtypes; i++)
		if (c->no_qtypes[i] == type)
			return false;
	return !(type == DNS_T_A && c->no_ipv4) && !(type == DNS_T_AAAA && c->no_ipv6);
}

/* An answer without asking: of an rcode:// entry, or when every server is told not to answer this type. */
static void
keep_made_up(struct exchange *x, int rcode)
{
	x->kept = malloc(x->n);
	if (x->kept != NULL) {
		int n = dns_answer_empty(x->kept, x->n, x->query + 2, x->n, rcode);

		x->n_kept = n > 0 ? (size_t)n : 0;
	}
}

static void
ask_all(struct exchange *x, const struct upstreams *set)
{
	bool crowded = false, any = false;
	uint8_t ids[UPSTREAMS_MAX * 2];

	rand_secret(ids, sizeof(ids));
	for (int i = 0; i < set->n; i++) {
		struct attempt *a = &x->a[x->count];

		if (!takes(&set->u[i], x->type))
			continue;
		any = true;
		x->count++;
		*a = (struct attempt){ .x = x, .up = set->u[i], .fd = -1, .id = { ids[i * 2], ids[i * 2 + 1] } };
		if (a->up.carrier != NULL ? attempt_carrier(a) : attempt_udp(a))
			x->live++;
		else if (errno == EMFILE || errno == ENFILE)
			crowded = true;
	}
	if (!any && set->n > 0)
		keep_made_up(x, DNS_R_OK);
	x->err = crowded ? E_LIMIT : E_DNS;
}

int
exchange_start(struct resolver *r, const struct upstreams *set, const char *name, uint16_t type, exchange_cb *cb, void *arg,
    struct exchange **out)
{
	struct exchange *x = calloc(1, sizeof(*x) + (size_t)set->n * sizeof(x->a[0]));
	int n;

	if (x == NULL)
		return -E_NOMEM;
	n = dns_query_write(x->query + 2, 0, name, type, 0);
	if (n < 0) {
		free(x);
		return n;
	}
	x->n = (size_t)n;
	x->query[0] = (uint8_t)(n >> 8);
	x->query[1] = (uint8_t)n;
	x->r = r;
	x->type = type;
	x->cb = cb;
	x->arg = arg;
	loop_task_init(&x->task, on_none);
	ev_timer_init(&x->timer, on_timer, 0., 0.);
	list_append(&r->exchanges, &x->link);
	if (set->rcode >= 0)
		keep_made_up(x, set->rcode);
	else
		ask_all(x, set);
	if (x->live == 0)
		loop_defer(r->loop, &x->task);
	else
		timer_next(x);
	*out = x;
	return 0;
}
