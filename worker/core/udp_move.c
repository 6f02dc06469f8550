/* SPDX-License-Identifier: MIT */
/* UDP sessions as bytes and fds: see move.c, which calls it. Such a session is a NAT entry (port, client, source of the
 * answers) and the packet side that talks to the remotes. It is found by its port's address and slot at the other process,
 * because that is where the client's datagrams arrive. Owns nothing. */
#include "worker/core/udp_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/strutil.h"

bool
udp_routed(const struct conn *c)
{
	return c->udp->out != NULL;
}

static void
put_client(const struct udp_session *s, struct wire *w)
{
	const struct udp_client *k = &s->client;

	wire_put(w, &k->port->in_ip, sizeof(k->port->in_ip));
	wire_put_u16(w, k->port->in_port);
	wire_put_u8(w, k->port->slot);
	wire_put_bool(w, k->port->wrap != NULL);
	wire_put_u16(w, k->family);
	wire_put_u16(w, k->number);
	wire_put_u32(w, k->scope);
	wire_put(w, k->addr, sizeof(k->addr));
	wire_put(w, &s->local, sizeof(s->local));
}

/* 0, -E_PROTO, or -E_NOTFOUND: no such port here, or what it is for has changed. */
static int
get_client(struct wire *in, struct udp_client *k, struct ip *local)
{
	struct ip in_ip;
	uint16_t in_port;
	uint8_t slot;
	bool wrapped;

	memset(k, 0, sizeof(*k));
	if (wire_get(in, &in_ip, sizeof(in_ip)) != 0 || wire_get_u16(in, &in_port) != 0 || wire_get_u8(in, &slot) != 0 ||
	    wire_get_bool(in, &wrapped) != 0 || wire_get_u16(in, &k->family) != 0 || wire_get_u16(in, &k->number) != 0 ||
	    wire_get_u32(in, &k->scope) != 0 || wire_get(in, k->addr, sizeof(k->addr)) != 0 ||
	    wire_get(in, local, sizeof(*local)) != 0 || (k->family != AF_INET && k->family != AF_INET6) ||
	    (local->family != 0 && local->family != 4 && local->family != 6))
		return -E_PROTO;
	k->port = udp_port_find(&in_ip, in_port, slot);
	if (k->port == NULL || (k->port->wrap != NULL) != wrapped) {
		log_debug("a UDP session of port %u, slot %u has no listener any more", in_port, slot);
		return -E_NOTFOUND;
	}
	return 0;
}

int
udp_freeze(struct conn *c, struct wire *w, int *fds)
{
	struct udp_session *s = c->udp;

	if (c->state != CONN_RELAY)
		return -E_UNSUP;
	udp_flush();
	put_client(s, w);
	wire_put_str(w, s->asked);
	return dgram_freeze(s->out, w, fds);
}

int
udp_thaw(struct conn *c, struct wire *in, const int *fds, int nfds)
{
	struct udp_session *s;
	struct udp_client k;
	struct dgram *d;
	struct ip local;
	char *asked = NULL;
	int r = get_client(in, &k, &local);

	if (r == 0 && (asked = wire_get_strdup(in, HOST_MAX)) == NULL)
		r = -E_PROTO;
	if (r != 0) {
		for (int i = 0; i < nfds; i++)
			close(fds[i]);
		return r;
	}
	d = outbound_thaw(c->w->gen, in, fds, nfds);
	if (d == NULL) {
		free(asked);
		return -E_PROTO;
	}
	/* begun here because the hand-over took too long: the remotes know the other one */
	s = udp_session_find(&k);
	if (s != NULL)
		conn_close(s->c, BY_HANDOFF);
	s = udp_session_insert(&k, c);
	if (s == NULL) {
		dgram_close(d);
		free(asked);
		return -E_NOMEM;
	}
	s->local = local;
	if (asked[0] != '\0')
		s->asked = asked;
	else
		free(asked);
	c->inbound = k.port->inbound;
	udp_session_attach(s, d);
	return 0;
}

/* ---- not routed yet */

static void
put_packet(void *arg, const struct packet *p)
{
	struct wire *w = arg;

	wire_put_str(w, p->addr.host);
	wire_put(w, &p->addr.ip, sizeof(p->addr.ip));
	wire_put_u16(w, p->addr.port);
	wire_put_bytes(w, p->data, p->len);
}

int
udp_freeze_early(struct conn *c, struct wire *w)
{
	struct udp_session *s = c->udp;

	if (s->early.bytes > CONN_MOVE_BYTES)
		return -E_AGAIN;
	put_client(s, w);
	wire_put_u8(w, c->meta.kind);
	wire_put_str(w, strlen(c->meta.in_user) <= HOST_MAX ? c->meta.in_user : "");
	wire_put_u8(w, (uint8_t)s->early.n);
	if (w->failed)
		return -E_NOMEM;
	dgram_queue_drain(&s->early, put_packet, w);
	return 0;
}

struct conn *
udp_thaw_early(struct worker *w, struct wire *in)
{
	char user[HOST_MAX + 1], host[HOST_MAX + 1];
	union sockaddr_any sa;
	struct udp_session *s;
	struct udp_client k;
	struct target to;
	struct ip local;
	uint8_t kind, n;
	const void *p;
	size_t len;

	(void)w;
	if (get_client(in, &k, &local) != 0 || wire_get_u8(in, &kind) != 0 || kind >= IN_KINDS_ ||
	    wire_get_str(in, user, sizeof(user)) != 0 || wire_get_u8(in, &n) != 0 || n > DGRAM_EARLY)
		return NULL;
	udp_client_sockaddr(&k, &sa);
	for (; n > 0; n--) {
		to = (struct target){ .host = host };
		if (wire_get_str(in, host, sizeof(host)) != 0 || wire_get(in, &to.ip, sizeof(to.ip)) != 0 ||
		    (to.ip.family != 0 && to.ip.family != 4 && to.ip.family != 6) || wire_get_u16(in, &to.port) != 0 ||
		    wire_get_bytes(in, &p, &len, CONN_MOVE_BYTES) != 0)
			return NULL;
		udp_input(k.port, &sa, local.family != 0 ? &local : NULL, &to, kind, user[0] != '\0' ? user : NULL, p, len);
		udp_flush();
	}
	s = udp_session_find(&k);
	return s != NULL ? s->c : NULL;
}
