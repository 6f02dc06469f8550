/* SPDX-License-Identifier: MIT */
/* The lower transport of a node: its server name becomes addresses (hosts entries first, then the resolver), those become a
 * TCP connection, or all of it goes through another outbound (dialer-proxy, relay). Called by the protocols' dial(); owns
 * nothing but the name question of a dial in progress. */
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/dns/resolver.h"
#include "worker/outbound/outbound.h"
#include "worker/worker.h"

/* A TCP stream that has no socket yet because its name is being asked for. While that lasts the stream runs with a copy of
 * its own operations whose destroy also cancels the question; afterwards it is a plain TCP stream again, with no layer of
 * ours on the data path. */
struct asking {
	struct stream_ops ops;		/* of s while asking */
	const struct stream_ops *plain;
	struct stream *s;
	struct outbound *ob;
	uint16_t port;
	struct resolve_req req;
};

/* The node's own options win over the general ones, which PATCH /configs may change at any time. */
static struct tcp_opts
options(const struct outbound *ob)
{
	const struct general *gn = &ob->gen->general;
	struct tcp_opts o = ob->tcp;

	if (o.iface == NULL || o.iface[0] == '\0')
		o.iface = gn->interface_name != NULL && gn->interface_name[0] != '\0' ? gn->interface_name : NULL;
	if (o.mark == 0)
		o.mark = (uint32_t)gn->routing_mark;
	o.no_keepalive = gn->disable_keep_alive;
	o.keep_idle = (int)gn->keep_alive_idle;
	o.keep_interval = (int)gn->keep_alive_interval;
	return o;
}

static int
next_of(const struct ip *ips, int n, int i, uint8_t family)
{
	while (i < n && ips[i].family != family)
		i++;
	return i;
}

/* Families take turns, the favoured one first (RFC 8305 4). */
static int
order(enum ip_version v, const struct ip *ips, int n, struct ip out[static TCP_CANDIDATES_MAX])
{
	bool six = v == IPV_6 || v == IPV_6_PREFER;
	int i4 = v != IPV_6 ? next_of(ips, n, 0, 4) : n, i6 = v != IPV_4 ? next_of(ips, n, 0, 6) : n, count = 0;

	while (count < TCP_CANDIDATES_MAX && (i4 < n || i6 < n)) {
		if (i4 == n || (six && i6 < n)) {
			out[count++] = ips[i6];
			i6 = next_of(ips, n, i6 + 1, 6);
		} else {
			out[count++] = ips[i4];
			i4 = next_of(ips, n, i4 + 1, 4);
		}
		six = !six;
	}
	return count;
}

static int
families(enum ip_version v)
{
	return v == IPV_4 ? RESOLVE_V4 : v == IPV_6 ? RESOLVE_V6 : RESOLVE_BOTH;
}

static void
connect_to(struct stream *s, struct outbound *ob, const struct ip *ips, int n, uint16_t port)
{
	struct ip c[TCP_CANDIDATES_MAX];
	int count = order(ob->ip_version, ips, n, c);
	struct tcp_opts opts = options(ob);

	if (count == 0)
		stream_fail(s, E_UNREACH, 0, "ip version error: no address of the family that ip-version asks for");
	else
		tcp_connect(s, c, count, port, &opts, ob->gen->general.tcp_concurrent);
}

static void
asking_end(struct asking *a)
{
	resolver_cancel(&a->req);
	a->s->ops = a->plain;
	free(a);
}

static void
asking_destroy(struct stream *s)
{
	/* ops is its first member, and only ours has this destroy */
	struct asking *a = (struct asking *)(uintptr_t)s->ops;

	asking_end(a);
	s->ops->destroy(s);
}

static void
on_resolved(void *arg, int err, const struct ip *ips, int n)
{
	struct asking *a = arg;
	struct stream *s = a->s;
	struct outbound *ob = a->ob;
	struct ip found[RESOLVE_IPS_MAX];
	uint16_t port = a->port;

	if ((s->state & ST_CLOSED) != 0)
		return;		/* freed at the end of this turn by asking_destroy() */
	n = n > RESOLVE_IPS_MAX ? RESOLVE_IPS_MAX : n;
	if (n > 0)
		memcpy(found, ips, (size_t)n * sizeof(*ips));	/* lent by what is freed next */
	asking_end(a);
	if (err != 0 || n == 0)
		stream_fail(s, err != 0 ? abs(err) : E_DNS, 0, "couldn't find ip");
	else
		connect_to(s, ob, found, n, port);
}

static void
ask(struct stream *s, struct outbound *ob, const char *host, uint16_t port, enum resolve_use use)
{
	struct asking *a = calloc(1, sizeof(*a));

	if (a == NULL) {
		stream_fail(s, E_NOMEM, 0, "out of memory");
		return;
	}
	a->s = s;
	a->ob = ob;
	a->port = port;
	a->plain = s->ops;
	a->ops = *s->ops;
	a->ops.destroy = asking_destroy;
	s->ops = &a->ops;
	resolver_ask(ob->gen, &a->req, host, families(ob->ip_version), use, on_resolved, a);
}

static struct stream *
dial_host(struct outbound *ob, const char *host, uint16_t port, enum resolve_use use)
{
	struct stream *s = tcp_dialing(&ob->gen->w->loop);
	struct ip ips[RESOLVE_IPS_MAX];
	const char *alias = NULL;
	int n = 1;

	if (s == NULL)
		return NULL;
	if (ip_parse(&ips[0], host) != 0)
		n = hosts_find(ob->gen, host, ips, RESOLVE_IPS_MAX, &alias);
	if (n > 0)
		connect_to(s, ob, ips, n, port);
	else
		ask(s, ob, alias != NULL ? alias : host, port, use);
	return s;
}

/* What the dial of this node is made through, or NULL. */
static struct outbound *
through(const struct outbound *ob, const struct dial *dial)
{
	return dial->via != NULL ? dial->via : ob->dialer;
}

static struct dial
nested(const struct dial *dial, const struct target *to)
{
	return (struct dial){ .to = to, .meta = dial->meta, .deadline_ms = dial->deadline_ms, .depth = dial->depth + 1 };
}

struct stream *
dialer_server(struct outbound *ob, const struct dial *dial)
{
	struct outbound *via = through(ob, dial);

	if (via != NULL) {
		struct target to = { .port = ob->port };
		struct dial d = nested(dial, &to);

		if (ip_parse(&to.ip, ob->server) != 0)
			to = (struct target){ .host = ob->server, .port = ob->port };
		return outbound_dial(via, &d);
	}
	return dial_host(ob, ob->server, ob->port, USE_SERVER);
}

/* DIRECT dials by name whenever there is one, except where the address came from a hosts entry or a redir-host mapping
 * (spec/config.md 14.2). */
struct stream *
dialer_target(struct outbound *ob, const struct dial *dial)
{
	const struct target *to = dial->to;
	struct outbound *via = through(ob, dial);
	bool named = to->host != NULL && to->host[0] != '\0';
	struct stream *s;

	if (via != NULL) {
		struct dial d = nested(dial, to);

		return outbound_dial(via, &d);
	}
	if (named && to->ip.family != 0 && dial->meta != NULL &&
	    (dial->meta->dns_mode == DNS_HOSTS || dial->meta->dns_mode == DNS_REDIR_HOST))
		named = false;
	if (named)
		return dial_host(ob, to->host, to->port, USE_DIRECT);
	s = tcp_dialing(&ob->gen->w->loop);
	if (s != NULL && to->ip.family == 0)
		stream_fail(s, E_INVAL, 0, "no address to connect to");
	else if (s != NULL)
		connect_to(s, ob, &to->ip, 1, to->port);
	return s;
}
