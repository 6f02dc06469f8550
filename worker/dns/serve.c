/* SPDX-License-Identifier: MIT */
/* The DNS server of dns.listen; see serve.h. A question goes through the stages of stages.c. Messages are read and written
 * by reply.c, TCP clients are serve_tcp.c's; this file owns the listeners and the pool of questions in flight.
 *
 * The lead serves. When it dies another worker is given its sockets and the right to write what the answers are remembered in
 * (the stand-in), and both are asked back when the lead is there again.
 *
 * A question may outlive its client: resolver_query() cannot be cancelled, so the answer to one whose client has gone is
 * dropped when it comes. */
#include "worker/dns/serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/err.h"
#include "common/list.h"
#include "common/log.h"
#include "common/map.h"
#include "common/strutil.h"
#include "worker/dns/fakeip.h"
#include "worker/dns/internal.h"
#include "worker/dns/reply.h"
#include "worker/dns/serve_impl.h"
#include "worker/worker.h"

enum {
	PACKET_BATCH = 32,		/* datagrams of one recvmmsg(); PACKET_ROUNDS of them in one turn */
	PACKET_ROUNDS = 8,
	LOST_LOG_MS = 1000,
	LEAVE_MS = 50			/* how often a stand-in that is relieved looks whether it has answered everybody */
};

static const char too_many[] = "too many questions in flight";
static struct serve *the_server;	/* one per process, like the generation that it serves */

static struct {				/* one batch, and the control of one reply; used within a call */
	uint8_t data[PACKET_BATCH][QUESTION_MAX];
	union {
		struct cmsghdr align;
		uint8_t b[64];
	} control[PACKET_BATCH];
	union sockaddr_any peer[PACKET_BATCH];
	struct iovec iov[PACKET_BATCH];
	struct mmsghdr msg[PACKET_BATCH];
} scratch;

static struct {				/* replies on their way out: sent after each batch that was read */
	uint8_t data[PACKET_BATCH][DNS_REPLY_UDP_MAX];
	union {
		struct cmsghdr align;
		uint8_t b[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} source[PACKET_BATCH];
	union sockaddr_any peer[PACKET_BATCH];
	struct iovec iov[PACKET_BATCH];
	struct mmsghdr msg[PACKET_BATCH];
	int n;
	bool wait;			/* more may follow */
} replies;

/* ---- questions in flight */

struct share *
serve_share(struct serve *s, const struct ip *ip)
{
	return &s->shares[hash_bytes(ip->b, ip->family == 4 ? 4 : 8) % SHARES];
}

struct query *
serve_query_new(struct serve *s, struct share *share)
{
	struct query *q = s->free;

	if (share != NULL && share->questions >= DNS_SERVE_SOURCE_QUESTIONS)
		return NULL;
	if (q != NULL)
		s->free = q->next;
	else if (s->n_used < DNS_SERVE_QUESTIONS_MAX)
		q = &s->pool[s->n_used++];
	else
		return NULL;
	*q = (struct query){ .s = s, .share = share };
	list_init(&q->link);
	s->n_questions++;
	if (share != NULL)
		share->questions++;
	return q;
}

void
serve_query_free(struct query *q)
{
	struct serve *s = q->s;

	list_remove(&q->link);
	if (q->client != NULL)
		q->client->n_questions--;
	if (q->share != NULL)
		q->share->questions--;
	q->next = s->free;
	s->free = q;
	s->n_questions--;
}

void
serve_lose(struct serve *s, const char *why)
{
	uint64_t now = s->loop->now_ms;

	s->dropped++;
	if (s->logged_ms != 0 && now - s->logged_ms < LOST_LOG_MS)
		return;
	s->logged_ms = now;
	log_warn("DNS server: %s (%llu questions without answer so far)", why, s->dropped);
}

/* ---- replies */

/* The source address of the reply, where the socket is bound to none: ip(7) IP_PKTINFO, ipv6(7) IPV6_PKTINFO. */
static void
source_control(const struct query *q, struct msghdr *m)
{
	struct cmsghdr *h = &replies.source[replies.n].align;
	union sockaddr_any sa;

	if (q->local.family == 0 || (!q->mapped && q->local.family != 4))
		return;
	m->msg_control = h;
	if (q->mapped) {
		struct in6_pktinfo info = { .ipi6_ifindex = q->scope };

		ip_to_sockaddr6(&sa, &q->local, 0);
		info.ipi6_addr = sa.in6.sin6_addr;
		*h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(info)), .cmsg_level = IPPROTO_IPV6,
			.cmsg_type = IPV6_PKTINFO };
		memcpy(CMSG_DATA(h), &info, sizeof(info));
		m->msg_controllen = CMSG_SPACE(sizeof(info));
	} else {
		struct in_pktinfo info = { .ipi_ifindex = 0 };

		memcpy(&info.ipi_spec_dst, q->local.b, 4);
		*h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(info)), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO };
		memcpy(CMSG_DATA(h), &info, sizeof(info));
		m->msg_controllen = CMSG_SPACE(sizeof(info));
	}
}

static void
udp_flush(struct serve *s)
{
	int at = 0;

	while (at < replies.n) {
		int k = sendmmsg(s->udp, replies.msg + at, (unsigned)(replies.n - at), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (k <= 0)
			serve_lose(s, "the socket takes no answer");
		else
			s->answered += (unsigned)k;
		at += k > 0 ? k : 1;
	}
	replies.n = 0;
}

static void
udp_send(const struct query *q, size_t n)
{
	union sockaddr_any *sa = &replies.peer[replies.n];
	struct msghdr *m = &replies.msg[replies.n].msg_hdr;

	memcpy(replies.data[replies.n], serve_room(q->s), n);
	replies.iov[replies.n] = (struct iovec){ replies.data[replies.n], n };
	*m = (struct msghdr){ .msg_name = sa, .msg_iov = &replies.iov[replies.n], .msg_iovlen = 1 };
	m->msg_namelen = q->mapped ? ip_to_sockaddr6(sa, &q->peer, q->port) : ip_to_sockaddr(sa, &q->peer, q->port);
	if (q->mapped)
		sa->in6.sin6_scope_id = q->scope;
	source_control(q, m);
	replies.n++;
	if (!replies.wait || replies.n == PACKET_BATCH)
		udp_flush(q->s);
}

size_t
serve_limit(const struct query *q)
{
	return q->tcp ? DNS_MSG_MAX : q->q.udp_size;
}

void
serve_finish(struct query *q, int n)
{
	struct client *c = q->client;

	if (q->cb != NULL) {
		serve_tell(q, n);
		return;
	}
	if (n < 0)
		n = dns_reply_empty(&q->q, serve_room(q->s), serve_limit(q), DNS_R_SERVFAIL);
	if (n > 0 && !q->tcp)
		udp_send(q, (size_t)n);
	serve_query_free(q);
	if (c == NULL)
		return;
	if (n > 0)
		serve_client_send(c, (size_t)n);
	serve_client_settle(c);
}

/* ---- UDP */

/* False when there is no room for it. */
static bool
packet(struct serve *s, int i)
{
	const union sockaddr_any *peer = &scratch.peer[i];
	struct msghdr *m = &scratch.msg[i].msg_hdr;
	struct query *q;
	uint16_t port;
	struct ip ip;

	if ((m->msg_flags & MSG_TRUNC) != 0 || (peer->sa.sa_family != AF_INET && peer->sa.sa_family != AF_INET6))
		return true;
	ip_from_sockaddr(&ip, &port, &peer->sa);
	q = serve_query_new(s, serve_share(s, &ip));
	if (q == NULL)
		return false;
	q->peer = ip;
	q->port = port;
	q->mapped = peer->sa.sa_family == AF_INET6;
	q->scope = q->mapped ? peer->in6.sin6_scope_id : 0;
	if (s->wildcard)
		q->local = ip_from_pktinfo(m);
	if (q->port == 0)
		serve_query_free(q);		/* nowhere to answer to */
	else
		serve_query_run(q, scratch.data[i], scratch.msg[i].msg_len);
	return true;
}

static int
receive(int fd)
{
	for (int i = 0; i < PACKET_BATCH; i++) {
		scratch.iov[i] = (struct iovec){ scratch.data[i], sizeof(scratch.data[i]) };
		scratch.msg[i].msg_hdr = (struct msghdr){ .msg_name = &scratch.peer[i], .msg_namelen = sizeof(scratch.peer[i]),
			.msg_iov = &scratch.iov[i], .msg_iovlen = 1, .msg_control = &scratch.control[i],
			.msg_controllen = sizeof(scratch.control[i]) };
	}
	return recvmmsg(fd, scratch.msg, PACKET_BATCH, MSG_DONTWAIT, NULL);
}

static void
on_packets(struct ev_loop *ev, ev_io *io, int revents)
{
	struct serve *s = container_of(io, struct serve, udp_io);

	(void)ev;
	(void)revents;
	for (int round = 0; round < PACKET_ROUNDS; round++) {
		int n = receive(s->udp);

		replies.wait = true;
		for (int i = 0; i < n; i++)
			if (!packet(s, i))
				serve_lose(s, too_many);
		replies.wait = false;
		udp_flush(s);
		if (n < PACKET_BATCH)
			return;
	}
}

/* ---- listeners */

static struct serve *
server_of(const struct gen *g)
{
	return the_server != NULL && the_server->g == g ? the_server : NULL;
}

/* dns.listen: true when there is something to listen on. What cannot be read is logged as the reference does, and is no error. */
static bool
read_listen(struct gen *g, struct msg_listen *key)
{
	const char *text = g->resolver != NULL && g->resolver->conf.enable ? g->resolver->conf.listen : NULL;
	int level = g->w->lead ? LL_ERROR : LL_DEBUG;
	char host[HOST_MAX + 1];

	*key = (struct msg_listen){ .flags = LISTEN_LEAD };
	if (text == NULL || text[0] == '\0')
		return false;
	if (hostport_parse(text, host, sizeof(host), &key->port) != 0) {
		log_write(level, "Start DNS server error: dns.listen: %s is no address with a port", text);
		return false;
	}
	if (key->port == 0)
		return false;
	if (host[0] == '\0' || ip_parse(&key->ip, host) == 0 || hosts_find(g, host, &key->ip, 1, NULL) == 1)
		return true;
	log_write(level, "Start DNS server error: dns.listen: %s is no address", host);
	return false;
}

/* One listening socket; 0 with -1 in *fd in a test of the configuration, and in a worker that may become a stand-in. */
static int
ask(struct gen *g, struct msg_listen *key, uint16_t kind, int *fd, char *why, size_t cap)
{
	int fds[LISTEN_SLOTS_MAX], n;

	key->kind = kind;
	n = priv_listen(g->w, key, fds, why, cap);
	*fd = n > 0 ? fds[0] : -1;
	for (int i = 1; i < n; i++)
		close(fds[i]);
	return n < 0 ? n : 0;
}

static void
drop(struct gen *g, int fd)
{
	if (fd == -1)
		return;
	loop_forget(&g->w->loop, fd);
	close(fd);
}

/* UNLISTEN is for a worker that is built: the listeners of one that fails end with it. */
static void
give_back(struct gen *g, struct msg_listen *key, uint16_t kind, int fd)
{
	drop(g, fd);
	key->kind = kind;
	if (fd != -1 && g->w->built)
		priv_unlisten(g->w, key);
}

static void
on_leave(struct ev_loop *ev, ev_timer *t, int revents)
{
	struct serve *s = container_of(t, struct serve, leave);
	struct gen *g = s->g;

	(void)revents;
	if (dns_serve_pending(g) > 0 || s->serving)
		return;
	ev_timer_stop(ev, t);
	drop(g, s->tcp);
	drop(g, s->udp);
	s->udp = s->tcp = -1;
	fakeip_unlead(g);
}

struct serve *
serve_get(struct gen *g)
{
	struct serve *s = server_of(g);

	if (s != NULL || the_server != NULL)
		return s;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->g = g;
	s->loop = &g->w->loop;
	s->udp = s->tcp = -1;
	ev_io_init(&s->udp_io, on_packets, -1, EV_READ);
	serve_tcp_init(s);
	ev_timer_init(&s->leave, on_leave, 0., LEAVE_MS / 1000.0);
	the_server = s;
	return s;
}

static void
set_sockets(struct serve *s, const struct msg_listen *key, int udp, int tcp)
{
	static const int on = 1;

	s->key = *key;
	s->wildcard = key->ip.family == 0 || ip_is_unspecified(&key->ip);
	if (tcp != -1) {
		s->tcp = tcp;
		ev_io_set(&s->tcp_io, tcp, EV_READ);
	}
	if (udp == -1)
		return;
	s->udp = udp;
	ev_io_set(&s->udp_io, udp, EV_READ);
	if (s->wildcard) {
		/* one of them is refused by a socket of the other family */
		setsockopt(udp, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
		setsockopt(udp, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
	}
}

int
dns_serve_open(struct gen *g, char *why, size_t cap)
{
	struct msg_listen key;
	int udp, tcp, rc;
	struct serve *s;

	if (g->resolver != NULL)
		g->resolver->serve = serve_ask_here;
	if (!read_listen(g, &key))
		return 0;
	rc = ask(g, &key, LISTEN_UDP, &udp, why, cap);
	if (rc != 0)
		return rc;
	rc = ask(g, &key, LISTEN_TCP, &tcp, why, cap);
	if (rc == 0 && (udp == -1 || tcp == -1))
		return 0;
	s = rc == 0 ? serve_get(g) : NULL;
	if (s != NULL) {
		set_sockets(s, &key, udp, tcp);
		return 0;
	}
	if (rc == 0) {
		rc = -E_NOMEM;
		str_copy(why, cap, "out of memory");
	}
	give_back(g, &key, LISTEN_TCP, tcp);
	give_back(g, &key, LISTEN_UDP, udp);
	return rc;
}

int
dns_serve_adopt(struct gen *g, const struct msg_listen *key, int fd)
{
	bool udp = key->kind == LISTEN_UDP;
	struct msg_listen own;
	struct serve *s;

	if ((key->flags & LISTEN_LEAD) == 0 || !read_listen(g, &own) || own.port != key->port || !ip_equal(&own.ip, &key->ip))
		return -E_NOTFOUND;
	s = serve_get(g);
	if (s == NULL)
		return -E_NOMEM;
	if ((udp ? s->udp : s->tcp) != -1)
		drop(g, fd);		/* it had not left yet */
	else
		set_sockets(s, key, udp ? fd : -1, udp ? -1 : fd);
	ev_timer_stop(s->loop->ev, &s->leave);
	s->serving = false;		/* the other socket may have been started */
	dns_serve_start(g);
	return 0;
}

void
dns_serve_return(struct gen *g)
{
	struct serve *s = server_of(g);

	if (s == NULL) {
		fakeip_unlead(g);
		return;
	}
	dns_serve_pause(g);
	ev_timer_again(s->loop->ev, &s->leave);
}

void
dns_serve_start(struct gen *g)
{
	struct serve *s = server_of(g);

	if (s == NULL || s->serving)
		return;
	s->serving = true;
	if (s->udp != -1)
		ev_io_start(s->loop->ev, &s->udp_io);
	if (s->tcp != -1)
		serve_tcp_start(s);
	if (s->udp != -1 && s->tcp != -1)
		log_info("DNS server listening at: %s", g->resolver->conf.listen);
}

void
dns_serve_pause(struct gen *g)
{
	struct serve *s = server_of(g);

	if (s == NULL || !s->serving)
		return;
	s->serving = false;
	ev_io_stop(s->loop->ev, &s->udp_io);
	serve_tcp_pause(s);
}

unsigned
dns_serve_pending(const struct gen *g)
{
	const struct serve *s = server_of(g);
	unsigned n = s != NULL ? s->n_questions : 0;

	if (s != NULL)
		list_each(at, &s->clients)
			n += !s->serving || container_of(at, struct client, link)->n_out > 0;
	return n;
}

void
dns_serve_count(const struct gen *g, struct dns_serve_stat *out)
{
	const struct serve *s = server_of(g);

	*out = (struct dns_serve_stat){ 0 };
	if (s != NULL)
		*out = (struct dns_serve_stat){ s->n_questions, s->n_clients, s->answered, s->dropped };
}

void
dns_serve_close(struct gen *g)
{
	struct serve *s = server_of(g);

	if (s == NULL)
		return;
	dns_serve_pause(g);
	ev_timer_stop(s->loop->ev, &s->leave);
	serve_tcp_close(s);
	give_back(g, &s->key, LISTEN_TCP, s->tcp);
	give_back(g, &s->key, LISTEN_UDP, s->udp);
	the_server = NULL;
	free(s);
}
