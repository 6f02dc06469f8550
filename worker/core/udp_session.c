/* SPDX-License-Identifier: MIT */
/* UDP sessions: one per (listening socket, client address). The first packet is routed, all of them then go through one packet
 * side of an outbound, and answers go back through the listening socket. Called by the inbounds' UDP listeners; owns the
 * sessions, their table and the batch on its way out. At most UDP_SESSIONS_MAX; the longest idle one makes room. */
#include "worker/core/udp_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/map.h"
#include "common/strutil.h"
#include "worker/dns/fakeip.h"

enum { BUCKETS_MIN = 256 };
static struct {			/* one per process */
	struct udp_session **bucket;
	size_t buckets, count;
	struct list lru;		/* longest idle first */
} table;

static struct {			/* packets of one session from one batch of its listener; payloads are lent until udp_flush() */
	struct udp_session *s;
	int n;
	struct packet p[DGRAM_BATCH];
	char host[DGRAM_BATCH][HOST_MAX + 1];
} batch;

/* ---- the table */

static void
client_make(struct udp_client *k, struct udp_port *port, const union sockaddr_any *sa)
{
	*k = (struct udp_client){ .port = port, .family = sa->sa.sa_family };
	if (sa->sa.sa_family == AF_INET) {
		k->number = sa->in.sin_port;
		memcpy(k->addr, &sa->in.sin_addr, 4);
	} else if (sa->sa.sa_family == AF_INET6) {
		k->number = sa->in6.sin6_port;
		k->scope = sa->in6.sin6_scope_id;
		memcpy(k->addr, &sa->in6.sin6_addr, 16);
	}
}

socklen_t
udp_client_sockaddr(const struct udp_client *k, union sockaddr_any *sa)
{
	if (k->family == AF_INET) {
		sa->in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = k->number };
		memcpy(&sa->in.sin_addr, k->addr, 4);
		return sizeof(sa->in);
	}
	sa->in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = k->number, .sin6_scope_id = k->scope };
	memcpy(&sa->in6.sin6_addr, k->addr, 16);
	return sizeof(sa->in6);
}

static bool
table_grow(void)
{
	size_t n = table.buckets == 0 ? BUCKETS_MIN : table.buckets * 2;
	struct udp_session **b;

	if (table.count < table.buckets)
		return true;
	b = mem_got(calloc(n, sizeof(struct udp_session *)));
	if (b == NULL)
		return table.buckets != 0;
	for (size_t i = 0; i < table.buckets; i++) {
		struct udp_session *s, *next;

		for (s = table.bucket[i]; s != NULL; s = next) {
			next = s->next;
			s->next = b[s->hash & (n - 1)];
			b[s->hash & (n - 1)] = s;
		}
	}
	if (table.buckets == 0)
		list_init(&table.lru);
	mem_free(table.bucket);
	table.bucket = b;
	table.buckets = n;
	return true;
}

struct udp_session *
udp_session_find(const struct udp_client *k)
{
	uint64_t hash = hash_bytes(k, sizeof(*k));
	struct udp_session *s;

	if (table.buckets == 0)
		return NULL;
	for (s = table.bucket[hash & (table.buckets - 1)]; s != NULL; s = s->next)
		if (s->hash == hash && memcmp(&s->client, k, sizeof(*k)) == 0)
			return s;
	return NULL;
}

struct udp_session *
udp_session_insert(const struct udp_client *k, struct conn *c)
{
	struct udp_session *s, **bucket;

	if (!table_grow())
		return NULL;
	if (table.count >= UDP_SESSIONS_MAX)
		conn_close(container_of(table.lru.next, struct udp_session, lru)->c, BY_LIMIT);
	s = mem_got(malloc(sizeof(*s)));
	if (s == NULL)
		return NULL;
	*s = (struct udp_session){ .c = c, .client = *k, .hash = hash_bytes(k, sizeof(*k)) };
	bucket = &table.bucket[s->hash & (table.buckets - 1)];
	s->next = *bucket;
	*bucket = s;
	table.count++;
	list_append(&table.lru, &s->lru);
	list_append(&k->port->sessions, &s->of_port);
	c->udp = s;
	return s;
}

static void
table_remove(struct udp_session *s)
{
	struct udp_session **at = &table.bucket[s->hash & (table.buckets - 1)];

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	table.count--;
}

void
udp_session_close(struct conn *c)
{
	struct udp_session *s = c->udp;

	c->udp = NULL;
	if (batch.s == s) {
		batch.s = NULL;
		batch.n = 0;
	}
	table_remove(s);
	list_remove(&s->lru);
	list_remove(&s->of_port);
	dgram_close(s->out);
	dgram_queue_clear(&s->early);
	free(s->asked);
	mem_free(s);
}

/* ---- answers */

/* One for all sessions: filled and sent in one call. */
static struct {
	struct mmsghdr m[DGRAM_BATCH];
	struct iovec v[DGRAM_BATCH][2];
	uint8_t header[DGRAM_BATCH][UDP_WRAP_MAX];
	union {
		struct cmsghdr align;
		uint8_t b[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control;
} reply;

/* The source address of answers, where the socket is bound to none: ip(7) IP_PKTINFO, ipv6(7) IPV6_PKTINFO. */
static size_t
source_control(const struct udp_session *s)
{
	struct msghdr m = { .msg_control = &reply.control, .msg_controllen = sizeof(reply.control) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	union sockaddr_any sa;

	if (s->local.family == 0 || s->client.port->in_ip.family != 0)
		return 0;
	if (s->client.family == AF_INET) {
		struct in_pktinfo info = { .ipi_ifindex = 0 };

		if (s->local.family != 4)
			return 0;
		memcpy(&info.ipi_spec_dst, s->local.b, 4);
		*h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(info)), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO };
		memcpy(CMSG_DATA(h), &info, sizeof(info));
		return CMSG_SPACE(sizeof(info));
	} else {
		struct in6_pktinfo info = { .ipi6_ifindex = s->client.scope };

		ip_to_sockaddr6(&sa, &s->local, 0);
		info.ipi6_addr = sa.in6.sin6_addr;
		*h = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(info)), .cmsg_level = IPPROTO_IPV6,
			.cmsg_type = IPV6_PKTINFO };
		memcpy(CMSG_DATA(h), &info, sizeof(info));
		return CMSG_SPACE(sizeof(info));
	}
}

/* What the socket does not take now is lost, as UDP is. A message it refuses is passed over. */
static void
send_replies(int fd, int n)
{
	for (int at = 0; at < n;) {
		int k = sendmmsg(fd, reply.m + at, (unsigned)(n - at), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (k == -1 && (errno == EAGAIN || errno == ENOBUFS))
			return;
		at += k > 0 ? k : 1;
	}
}

static void
answer(struct udp_session *s, const struct packet *p, int n)
{
	struct udp_port *port = s->client.port;
	union sockaddr_any sa;
	socklen_t len = udp_client_sockaddr(&s->client, &sa);
	size_t control = source_control(s), bytes = 0;
	int k = 0;

	for (int i = 0; i < n && k < DGRAM_BATCH; i++) {
		struct target from = p[i].addr;
		int head;
		const uint8_t *data = p[i].data;

		if (s->fake.family != 0 && from.port == s->fake_port)
			from = (struct target){ .ip = s->fake, .port = from.port };
		head = port->wrap != NULL ? port->wrap(port->inbound, &from, reply.header[k]) : 0;
		if (head < 0 || head > UDP_WRAP_MAX)
			continue;
		reply.v[k][0] = (struct iovec){ reply.header[k], (size_t)head };
		reply.v[k][1] = (struct iovec){ NULL, p[i].len };
		memcpy(&reply.v[k][1].iov_base, &data, sizeof(data));
		reply.m[k].msg_hdr = (struct msghdr){ .msg_name = &sa, .msg_namelen = len, .msg_iov = reply.v[k] + (head == 0),

			.msg_iovlen = head == 0 ? 1 : 2,
			.msg_control = control != 0 ? &reply.control : NULL, .msg_controllen = control };
		bytes += p[i].len;
		k++;
	}
	send_replies(port->fd, k);
	s->c->down += bytes;
	if (s->c->w->stat != NULL)
		stat_add(&s->c->w->stat->down, bytes);
	conn_touch(s->c);
}

/* ---- the way out */

static void
send_out(struct udp_session *s, const struct packet *p, int n)
{
	int taken = s->out->ops->sendv(s->out, p, n);
	size_t bytes = 0;

	for (int i = 0; i < n && i < taken; i++)
		bytes += p[i].len;
	s->c->up += bytes;
	if (s->c->w->stat != NULL)
		stat_add(&s->c->w->stat->up, bytes);
}

/* The routed target as routing left it: renamed or replaced by an address of the hosts section, or with the address that was
 * looked up. */
static void
as_routed(const struct udp_session *s, struct target *to)
{
	const struct meta *m = &s->c->meta;

	if (s->asked == NULL || to->ip.family != 0 || strcmp(to->host, s->asked) != 0)
		return;
	to->ip = m->dst_ip;
	to->host = m->dns_mode == DNS_HOSTS && m->dst_ip.family != 0 ? "" : m->host;
}

static void
give_early(void *arg, const struct packet *p)
{
	struct udp_session *s = arg;
	struct packet q = *p;

	as_routed(s, &q.addr);
	send_out(s, &q, 1);
}

static void
opened(struct udp_session *s)
{
	struct conn *c = s->c;

	c->state = CONN_RELAY;
	c->deadline_ms = 0;
	conn_log(c, 0, NULL);
}

static void
on_dgram(struct dgram *d, int events, const struct packet *p, int n, void *arg)
{
	struct udp_session *s = arg;
	struct conn *c = s->c;

	if ((events & ST_FAIL) != 0) {
		if (c->state == CONN_DIALING) {
			if (c->w->stat != NULL)
				stat_add(&c->w->stat->failed, 1);
			conn_log(c, d->err, dgram_why(d));
		}
		conn_close(c, BY_ERROR);
		return;
	}
	if ((events & ST_OPEN) != 0 && c->state == CONN_DIALING)
		opened(s);
	if (n > 0)
		answer(s, p, n);
}

static void
on_routed(struct conn *c, struct outbound *ob, int err)
{
	struct udp_session *s = c->udp;
	struct target to = { .host = c->meta.host, .ip = c->meta.dst_ip, .port = c->meta.dst_port };
	struct dial dial = { .to = &to, .meta = &c->meta, .chain = &c->chain };

	if (ob == NULL) {
		conn_log(c, err != 0 ? err : E_REJECTED, NULL);
		conn_close(c, BY_RULE);
		return;
	}
	if (c->meta.dns_mode == DNS_HOSTS && to.ip.family != 0)
		to.host = "";
	c->state = CONN_DIALING;
	c->listed = true;
	c->deadline_ms = dial.deadline_ms = c->w->loop.now_ms + DIAL_TIMEOUT_MS;
	s->out = outbound_packet(ob, &dial);
	if (s->out == NULL) {
		conn_log(c, outbound_udp(ob) ? E_NOMEM : E_UNSUP, NULL);
		conn_close(c, BY_ERROR);
		return;
	}
	s->out->cb = on_dgram;
	s->out->arg = s;
	c->remote_ip = c->meta.dst_ip;
	if (c->chain.n > 0 && c->chain.ob[0]->server != NULL) {
		c->remote_ip = (struct ip){ .family = 0 };
		c->remote_host = c->chain.ob[0]->server;
	}
	if ((s->out->state & ST_OPEN) != 0)
		opened(s);
	s->out->ops->want(s->out, true);
	dgram_queue_drain(&s->early, give_early, s);
}

void
udp_session_attach(struct udp_session *s, struct dgram *d)
{
	s->out = d;
	d->cb = on_dgram;
	d->arg = s;
	s->c->state = CONN_RELAY;
	s->c->deadline_ms = 0;
	s->c->listed = true;
	d->ops->want(d, true);
}

/* ---- the way in */

static struct udp_session *
session_new(const struct udp_client *k, const struct target *to, enum in_kind kind, const char *user)
{
	struct udp_port *port = k->port;
	struct conn_from from = { .inbound = port->inbound, .in_name = port->in_name, .special_proxy = port->special_proxy,
		.special_rules = port->special_rules, .in_ip = port->in_ip, .in_port = port->in_port };
	struct udp_session *s;
	union sockaddr_any sa;
	struct conn *c;

	udp_client_sockaddr(k, &sa);
	ip_from_sockaddr(&from.src_ip, &from.src_port, &sa.sa);
	c = conn_record(port->w, &from, NET_UDP);
	if (c == NULL)
		return NULL;
	s = udp_session_insert(k, c);
	if (s == NULL) {
		conn_close(c, BY_LIMIT);
		return NULL;
	}
	if (port->w->stat != NULL)
		stat_add(&port->w->stat->accepted, 1);
	c->deadline_ms = c->w->loop.now_ms + RESOLVER_TIMEOUT_MS + DIAL_TIMEOUT_MS;
	c->meta.kind = (uint8_t)kind;
	c->meta.dst_ip = to->ip;
	c->meta.dst_port = to->port;
	if ((to->host != NULL && to->host[0] != '\0' && conn_set_host(c, to->host, strlen(to->host)) != 0) ||
	    (user != NULL && user[0] != '\0' && conn_set_user(c, user) != 0)) {
		conn_close(c, BY_CLIENT);
		return NULL;
	}
	s->asked = c->host != NULL ? strdup(c->host) : NULL;	/* without it the name is looked up once more */
	return s;
}

/* The name of a target as rules and outbounds know it: lower case, no trailing dot. */
static void
fill(struct packet *out, char host[static HOST_MAX + 1], const struct target *to, const uint8_t *p, size_t n)
{
	host[0] = '\0';
	if (to->host != NULL && to->host[0] != '\0') {
		size_t len = str_copy(host, HOST_MAX + 1, to->host);

		if (len > 0 && len <= HOST_MAX && host[len - 1] == '.')
			host[len - 1] = '\0';
		str_lower(host);
	}
	*out = (struct packet){ .data = p, .len = n, .addr = { .host = host, .ip = to->ip, .port = to->port } };
}

void
udp_flush(void)
{
	struct udp_session *s = batch.s;
	int n = batch.n;

	batch.s = NULL;
	batch.n = 0;
	if (n > 0)
		send_out(s, batch.p, n);
}

void
udp_input(struct udp_port *port, const union sockaddr_any *client, const struct ip *local, const struct target *to,
    enum in_kind kind, const char *user, const uint8_t *p, size_t n)
{
	struct udp_session *s = batch.s;
	char host[HOST_MAX + 1];
	struct ip fake = { .family = 0 };
	struct target behind;
	struct udp_client k;
	bool fresh = false;

	/* a fake address stands for its name in every packet, not only in that which is routed */
	if (to->host == NULL || to->host[0] == '\0') {
		switch (fakeip_name(port->w->gen, &to->ip, host)) {
		case FAKE_FOREIGN:
			break;
		case FAKE_MISSING:
			return;
		case FAKE_FOUND:
			behind = (struct target){ .host = host, .port = to->port };
			fake = to->ip;
			to = &behind;
		}
	}
	client_make(&k, port, client);
	if (s == NULL || memcmp(&s->client, &k, sizeof(k)) != 0) {
		udp_flush();
		s = udp_session_find(&k);
		if (s == NULL) {
			s = session_new(&k, to, kind, user);
			if (s == NULL)
				return;
			fresh = true;
			if (fake.family != 0)
				s->c->meta.dns_mode = DNS_FAKE_IP;
			s->fake = fake;
			s->fake_port = to->port;
		}
		list_remove(&s->lru);
		list_append(&table.lru, &s->lru);
	}
	if (local != NULL)
		s->local = *local;
	conn_touch(s->c);
	if (batch.n == DGRAM_BATCH)
		udp_flush();
	fill(&batch.p[batch.n], batch.host[batch.n], to, p, n);
	if (s->out == NULL) {
		(void)dgram_queue_put(&s->early, &batch.p[batch.n]);	/* over its caps packets are lost, as UDP is */
	} else {
		as_routed(s, &batch.p[batch.n].addr);
		batch.s = s;
		batch.n++;
	}
	if (fresh)
		conn_route(s->c, on_routed);
}

/* ---- ports */

static struct list *
all_ports(void)
{
	static struct list ports;	/* one per process; at most as many as there are listeners */

	if (ports.next == NULL)
		list_init(&ports);
	return &ports;
}

struct udp_port *
udp_port_find(const struct ip *in_ip, uint16_t in_port, unsigned slot)
{
	list_each(n, all_ports()) {
		struct udp_port *p = container_of(n, struct udp_port, link);

		if (p->in_port == in_port && p->slot == slot && ip_equal(&p->in_ip, in_ip))
			return p;
	}
	return NULL;
}

void
udp_port_init(struct udp_port *p)
{
	list_init(&p->sessions);
	list_append(all_ports(), &p->link);
}

void
udp_port_close(struct udp_port *p)
{
	while (!list_empty(&p->sessions))
		conn_close(container_of(p->sessions.next, struct udp_session, of_port)->c, BY_STOP);
	list_remove(&p->link);
}

const struct ip *
udp_local(const struct conn *c)
{
	return c->udp->local.family != 0 ? &c->udp->local : &c->meta.in_ip;
}

unsigned
udp_slot(const struct conn *c)
{
	return c->udp->client.port->slot;
}
