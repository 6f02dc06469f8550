/* SPDX-License-Identifier: MIT */
/* DIRECT (also COMPATIBLE and `type: direct`): TCP to the target itself, and the plain UDP side that other protocols build
 * on: one unconnected socket per association, any source may answer (full cone), names are resolved per target. Called
 * through outbound_type and dialer_packet(). An association owns its socket, its small table of names and the packets that
 * wait for one. */
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/strutil.h"
#include "worker/dns/resolver.h"
#include "worker/loop/pool.h"
#include "worker/outbound/types.h"
#include "worker/worker.h"

enum { NAMES_MAX = 8,		/* targets known by name; at the cap the oldest answered one goes, else the packet is dropped */
       WAITING_MAX = 4,		/* packets that wait for one name; later ones are dropped */
       WAITING_BYTES = 16384,	/* of all names of an association */
       NAME_MS = 60000,		/* then a name is asked for again */
       MOVE_BYTES = 4096,	/* of packets that wait, in a hand-over; with more it drains */
       ROUNDS_MAX = 4 };	/* batches read in one event */

struct waiting {
	struct waiting *next;
	size_t len;
	uint8_t data[];
};
struct name {
	struct udp *u;
	struct name *next;	/* most recently used first */
	bool asking;
	struct ip ip;		/* none: not found */
	uint16_t port;		/* of the packets that wait: the name is kept per port */
	uint64_t at_ms;
	struct resolve_req req;
	struct waiting *first;
	int n_waiting;
	char host[];
};
struct udp {
	struct dgram d;
	struct outbound *ob;
	int fd;
	bool v6;		/* the socket is AF_INET6 and takes mapped addresses */
	bool server;		/* names are of proxy servers */
	bool reading;
	ev_io io;
	struct name *names;
	int n_names;
	size_t waiting_bytes;
};

/* One batch, of whichever association is being read or written: the process has one thread and a batch is done before the
 * next begins. */
static uint8_t in_data[DGRAM_BATCH][DGRAM_MAX];
static union sockaddr_any in_addr[DGRAM_BATCH], out_addr[DGRAM_BATCH];

/* ---- sending */

static socklen_t
address(const struct udp *u, union sockaddr_any *sa, const struct ip *ip, uint16_t port)
{
	return u->v6 ? ip_to_sockaddr6(sa, ip, port) : ip_to_sockaddr(sa, ip, port);
}

static void
name_free(struct udp *u, struct name *n)
{
	resolver_cancel(&n->req);
	while (n->first != NULL) {
		struct waiting *w = n->first;

		n->first = w->next;
		u->waiting_bytes -= w->len;
		mem_free(w);
	}
	mem_free(n);
	u->n_names--;
}

/* The packets of a name that is known now, or known to lead nowhere. */
static void
send_waiting(struct name *nm)
{
	struct udp *u = nm->u;
	union sockaddr_any sa;

	while (nm->first != NULL) {
		struct waiting *w = nm->first;

		if (nm->ip.family != 0 && (u->d.state & ST_CLOSED) == 0)
			(void)sendto(u->fd, w->data, w->len, MSG_DONTWAIT | MSG_NOSIGNAL, &sa.sa,
			    address(u, &sa, &nm->ip, nm->port));
		nm->first = w->next;
		u->waiting_bytes -= w->len;
		mem_free(w);
	}
	nm->n_waiting = 0;
}

static void
on_name(void *arg, int err, const struct ip *ips, int n)
{
	struct name *nm = arg;
	struct udp *u = nm->u;

	nm->asking = false;
	nm->at_ms = u->d.loop->now_ms;
	nm->ip.family = 0;
	if (err == 0 && n > 0)
		/* IPv4 comes first: spec/protocols.md 1.1 "first of that family" */
		nm->ip = ips[u->ob->ip_version == IPV_6_PREFER ? n - 1 : 0];
	send_waiting(nm);
}

static int
families(const struct udp *u)
{
	enum ip_version v = u->ob->ip_version;

	return v == IPV_4 || !u->v6 ? RESOLVE_V4 : v == IPV_6 ? RESOLVE_V6 : RESOLVE_BOTH;
}

static void
name_ask(struct udp *u, struct name *n)
{
	const char *alias = NULL;
	struct ip ips[RESOLVE_IPS_MAX];

	if (hosts_find(u->ob->gen, n->host, ips, RESOLVE_IPS_MAX, &alias) > 0) {
		n->ip = ips[0];
		n->at_ms = u->d.loop->now_ms;
		return;
	}
	n->asking = true;
	resolver_ask(u->ob->gen, &n->req, alias != NULL ? alias : n->host, families(u), u->server ? USE_SERVER : USE_DIRECT,
	    on_name, n);
}

/* Drops the least recently used name that nobody waits for. */
static bool
make_room(struct udp *u)
{
	struct name **at, **last = NULL;

	if (u->n_names < NAMES_MAX)
		return true;
	for (at = &u->names; *at != NULL; at = &(*at)->next)
		if (!(*at)->asking)
			last = at;
	if (last == NULL)
		return false;
	struct name *n = *last;

	*last = n->next;
	name_free(u, n);
	return true;
}

static struct name *
name_new(struct udp *u, const char *host, uint16_t port)
{
	size_t len = strlen(host) + 1;
	struct name *n = mem_got(calloc(1, sizeof(*n) + len));

	if (n == NULL)
		return NULL;
	n->u = u;
	n->port = port;
	memcpy(n->host, host, len);
	u->n_names++;
	return n;
}

static struct name *
name_get(struct udp *u, const char *host, uint16_t port)
{
	struct name **at = &u->names, *n;

	while (*at != NULL && ((*at)->port != port || strcmp((*at)->host, host) != 0))
		at = &(*at)->next;
	n = *at;
	if (n != NULL) {
		*at = n->next;
	} else {
		if (!make_room(u) || (n = name_new(u, host, port)) == NULL)
			return NULL;
		name_ask(u, n);
	}
	n->next = u->names;
	u->names = n;
	if (!n->asking && u->d.loop->now_ms - n->at_ms > NAME_MS)
		name_ask(u, n);
	return n;
}

static bool
name_wait(struct name *n, const void *data, size_t len)
{
	struct udp *u = n->u;
	struct waiting *w, **end;

	if (n->n_waiting == WAITING_MAX || len > WAITING_BYTES - u->waiting_bytes ||
	    (w = mem_got(malloc(sizeof(*w) + len))) == NULL)
		return false;
	w->next = NULL;
	w->len = len;
	memcpy(w->data, data, len);
	for (end = &n->first; *end != NULL; end = &(*end)->next)
		;
	*end = w;
	n->n_waiting++;
	u->waiting_bytes += len;
	return true;
}

/* The address to send to now, or NULL: the packet waits for it, or is dropped. */
static const struct ip *
name_address(struct udp *u, const struct packet *p)
{
	struct name *n;

	n = name_get(u, p->addr.host, p->addr.port);
	if (n == NULL)
		return NULL;
	if (!n->asking)
		return n->ip.family != 0 ? &n->ip : NULL;
	(void)name_wait(n, p->data, p->len);
	return NULL;
}

/* A message that fails alone (no route, too long) is dropped and the rest goes on; a full socket buffer drops the rest, as
 * UDP does. */
static int
send_batch(struct udp *u, struct mmsghdr *m, int n)
{
	int at = 0, sent = 0;

	while (at < n) {
		int rc = sendmmsg(u->fd, m + at, (unsigned)(n - at), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (rc == -1 && errno == EINTR)
			continue;
		if (rc == -1 && (errno == EAGAIN || errno == ENOBUFS))
			break;
		at += rc == -1 ? 1 : rc;
		sent += rc == -1 ? 0 : rc;
	}
	return sent;
}

static int
udp_sendv(struct dgram *d, const struct packet *p, int n)
{
	struct udp *u = (struct udp *)d;
	struct mmsghdr m[DGRAM_BATCH];
	struct iovec v[DGRAM_BATCH];
	int count = 0, taken = 0;

	if ((d->state & (ST_FAIL | ST_CLOSED)) != 0)
		return d->err != 0 ? -d->err : -E_CLOSED;
	memset(m, 0, sizeof(m));
	for (int i = 0; i < n; i++) {
		const struct ip *ip = p[i].addr.ip.family != 0 ? &p[i].addr.ip : NULL;

		if (ip == NULL && p[i].addr.host != NULL && p[i].addr.host[0] != '\0')
			ip = name_address(u, &p[i]);
		if (ip == NULL || (ip->family == 6 && !u->v6)) {
			taken++;	/* waits, or leads nowhere */
			continue;
		}
		v[count] = (struct iovec){ (void *)(uintptr_t)p[i].data, p[i].len };
		m[count].msg_hdr.msg_iov = &v[count];
		m[count].msg_hdr.msg_iovlen = 1;
		m[count].msg_hdr.msg_name = &out_addr[count];
		m[count].msg_hdr.msg_namelen = address(u, &out_addr[count], ip, p[i].addr.port);
		if (++count == DGRAM_BATCH) {
			taken += send_batch(u, m, count);
			count = 0;
		}
	}
	return taken + send_batch(u, m, count);
}

/* ---- receiving */

/* Number handed up; -1 when the socket is empty or failed. */
static int
read_batch(struct udp *u)
{
	struct mmsghdr m[DGRAM_BATCH];
	struct iovec v[DGRAM_BATCH];
	struct packet p[DGRAM_BATCH];
	int n;

	memset(m, 0, sizeof(m));
	memset(p, 0, sizeof(p));
	for (int i = 0; i < DGRAM_BATCH; i++) {
		v[i] = (struct iovec){ in_data[i], sizeof(in_data[i]) };
		m[i].msg_hdr.msg_iov = &v[i];
		m[i].msg_hdr.msg_iovlen = 1;
		m[i].msg_hdr.msg_name = &in_addr[i];
		m[i].msg_hdr.msg_namelen = sizeof(in_addr[i]);
	}
	n = recvmmsg(u->fd, m, DGRAM_BATCH, MSG_DONTWAIT, NULL);
	if (n <= 0)
		return -1;	/* an ICMP error is a time-out to the application, as through any NAT */
	for (int i = 0; i < n; i++) {
		p[i].data = in_data[i];
		p[i].len = m[i].msg_len;
		ip_from_sockaddr(&p[i].addr.ip, &p[i].addr.port, &in_addr[i].sa);
	}
	u->d.cb(&u->d, ST_READ, p, n, u->d.arg);
	return n;
}

static void
on_readable(struct ev_loop *ev, ev_io *io, int revents)
{
	struct udp *u = io->data;

	(void)ev;
	(void)revents;
	for (int i = 0; i < ROUNDS_MAX && u->reading && u->d.cb != NULL && (u->d.state & ST_CLOSED) == 0; i++)
		if (read_batch(u) < DGRAM_BATCH)
			break;
}

static void
udp_want(struct dgram *d, bool read)
{
	struct udp *u = (struct udp *)d;

	if (read == u->reading || u->fd == -1)
		return;
	u->reading = read;
	if (read)
		ev_io_start(d->loop->ev, &u->io);
	else
		ev_io_stop(d->loop->ev, &u->io);
}

static void
udp_destroy(struct dgram *d)
{
	struct udp *u = (struct udp *)d;

	while (u->names != NULL) {
		struct name *n = u->names;

		u->names = n->next;
		name_free(u, n);
	}
	if (u->fd != -1) {
		ev_io_stop(d->loop->ev, &u->io);
		(void)close(u->fd);
	}
	mem_free(u);
}

/* Names go along with their addresses, so that a target keeps its address; those being asked for are asked for again. */
static int
udp_freeze(struct dgram *d, struct wire *w, int *fds)
{
	struct udp *u = (struct udp *)d;

	if (u->fd == -1 || u->waiting_bytes > MOVE_BYTES)
		return -E_UNSUP;
	wire_put_str(w, strlen(u->ob->name) <= HOST_MAX ? u->ob->name : "");
	wire_put_bool(w, u->v6);
	wire_put_bool(w, u->server);
	wire_put_u8(w, (uint8_t)u->n_names);
	for (const struct name *n = u->names; n != NULL; n = n->next) {
		wire_put_str(w, n->host);
		wire_put_u16(w, n->port);
		wire_put_bool(w, n->asking);
		wire_put(w, &n->ip, sizeof(n->ip));
		wire_put_u64(w, d->loop->now_ms - n->at_ms);
		wire_put_u8(w, (uint8_t)n->n_waiting);
		for (const struct waiting *p = n->first; p != NULL; p = p->next)
			wire_put_bytes(w, p->data, p->len);
	}
	udp_want(d, false);
	loop_forget(d->loop, u->fd);
	fds[0] = u->fd;
	u->fd = -1;
	return 1;
}

static const struct dgram_ops udp_ops = {
	.name = "udp", .sendv = udp_sendv, .want = udp_want, .freeze = udp_freeze, .destroy = udp_destroy
};

/* 0, or an errno value. */
static int
udp_open(struct udp *u)
{
	const struct tcp_opts *o = &u->ob->tcp;
	const char *general = u->ob->gen->general.interface_name, *iface = o->iface != NULL && o->iface[0] != '\0' ? o->iface :
	    general;
	int off = 0;

	if (u->ob->ip_version != IPV_4)
		u->fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	u->v6 = u->fd != -1;
	if (u->v6 && setsockopt(u->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) == -1)
		return errno;
	if (!u->v6)
		u->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (u->fd == -1)
		return errno;
	if (iface != NULL && iface[0] != '\0' &&
	    setsockopt(u->fd, SOL_SOCKET, SO_BINDTODEVICE, iface, (socklen_t)strnlen(iface, IFNAMSIZ - 1) + 1) == -1)
		return errno;
	return 0;
}

struct dgram *
dialer_packet(struct outbound *ob, const struct dial *dial)
{
	struct outbound *via = dial->via != NULL ? dial->via : ob->dialer;
	struct udp *u;
	int err;

	if (via != NULL) {
		struct dial d = { .to = dial->to, .meta = dial->meta, .deadline_ms = dial->deadline_ms,
		    .depth = dial->depth + 1 };

		return outbound_packet(via, &d);
	}
	u = mem_got(calloc(1, sizeof(*u)));
	if (u == NULL)
		return NULL;
	dgram_init(&u->d, &udp_ops, &ob->gen->w->loop);
	u->ob = ob;
	u->fd = -1;
	u->server = ob->server != NULL;
	err = udp_open(u);
	if (err != 0) {
		dgram_fail(&u->d, err_from_errno(err), err, "UDP socket");
		return &u->d;
	}
	ev_io_init(&u->io, on_readable, u->fd, EV_READ);
	u->io.data = u;
	u->d.state |= ST_OPEN;
	return &u->d;
}

/* Appends one name of udp_freeze(). */
static int
name_thaw(struct udp *u, struct wire *in)
{
	char host[HOST_MAX + 1];
	struct name *n, **end;
	uint16_t port;
	uint8_t waiting;
	uint64_t age;
	const void *p;
	size_t len;
	bool asking;

	if (wire_get_str(in, host, sizeof(host)) != 0 || wire_get_u16(in, &port) != 0 || wire_get_bool(in, &asking) != 0 ||
	    (n = name_new(u, host, port)) == NULL)
		return -E_PROTO;
	for (end = &u->names; *end != NULL; end = &(*end)->next)
		;
	*end = n;
	if (wire_get(in, &n->ip, sizeof(n->ip)) != 0 || (n->ip.family != 0 && n->ip.family != 4 && n->ip.family != 6) ||
	    wire_get_u64(in, &age) != 0 || wire_get_u8(in, &waiting) != 0)
		return -E_PROTO;
	n->at_ms = u->d.loop->now_ms > age ? u->d.loop->now_ms - age : 0;
	for (; waiting > 0; waiting--)
		if (wire_get_bytes(in, &p, &len, MOVE_BYTES) != 0 || !name_wait(n, p, len))
			return -E_PROTO;
	n->asking = asking;
	return 0;
}

struct dgram *
dialer_packet_thaw(struct gen *g, struct wire *in, const int *fds, int nfds)
{
	struct udp *u = nfds == 1 ? mem_got(calloc(1, sizeof(*u))) : NULL;
	char name[HOST_MAX + 1];
	uint8_t n_names;

	if (u == NULL) {
		for (int i = 0; i < nfds; i++)
			close(fds[i]);
		return NULL;
	}
	dgram_init(&u->d, &udp_ops, &g->w->loop);
	u->fd = fds[0];
	ev_io_init(&u->io, on_readable, u->fd, EV_READ);
	u->io.data = u;
	if (wire_get_str(in, name, sizeof(name)) != 0 || wire_get_bool(in, &u->v6) != 0 || wire_get_bool(in, &u->server) != 0 ||
	    wire_get_u8(in, &n_names) != 0 || n_names > NAMES_MAX)
		goto bad;
	u->ob = outbound_find(g, name);
	if (u->ob == NULL)
		u->ob = g->direct;	/* it is asked for options of names only */
	while (n_names-- > 0)
		if (name_thaw(u, in) != 0)
			goto bad;
	u->d.state |= ST_OPEN;
	for (struct name *n = u->names; n != NULL; n = n->next) {
		bool ask = n->asking;

		n->asking = false;
		if (ask)
			name_ask(u, n);
		if (!n->asking)
			send_waiting(n);
	}
	return &u->d;
bad:
	udp_destroy(&u->d);
	return NULL;
}

/* ---- the types */

static int
direct_init(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	(void)item;
	(void)err;
	ob->flags |= OB_UDP;
	return 0;
}

static const char *const no_keys[] = { NULL };

const struct outbound_type outbound_direct = {
	.name = "direct", .api_name = "Direct", .flags = OB_TCP | OB_UDP, .size = sizeof(struct outbound), .keys = no_keys,
	.init = direct_init, .dial = dialer_target, .packet = dialer_packet,
};
const struct outbound_type outbound_compatible = {
	.name = "COMPATIBLE", .api_name = "Compatible", .flags = OB_TCP | OB_UDP | OB_BUILTIN, .size = sizeof(struct outbound),
	.dial = dialer_target, .packet = dialer_packet,
};
