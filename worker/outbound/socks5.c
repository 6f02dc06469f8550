/* SPDX-License-Identifier: MIT */
/* SOCKS5 client (RFC 1928, RFC 1929): CONNECT with the name as it was asked for, UDP ASSOCIATE with the TCP connection kept,
 * both over TLS if asked. Called through outbound_type. After the handshake the stream layer is transparent (handshake.c).
 * An association owns its control stream and its lower packet side. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/codec/socks.h"
#include "worker/loop/pool.h"
#include "worker/outbound/handshake.h"
#include "worker/outbound/types.h"
#include "worker/worker.h"

struct socks5 {
	struct outbound ob;
	const char *user, *password;	/* NULL, NULL: none */
	struct node_tls tls;
};

enum step { GREET, CHOICE, AUTH, REPLY };
struct hello {
	struct handshake h;
	const struct socks5 *node;
	enum step at;
	uint8_t command;
	uint8_t request[SOCKS5_REQUEST_MAX];	/* ready to go when the server is done with us */
	size_t request_len;
	struct ip bound;			/* BND.ADDR; none if it was a name */
	uint16_t bound_port;
	char bound_host[HOST_MAX + 1];
};

static int
refuse(struct hello *s, int code, const char *text)
{
	stream_fail(&s->h.s, code, 0, "%s", text);
	return -code;
}

static int
greet(struct hello *s)
{
	uint8_t out[SOCKS5_GREETING_MAX];
	int n = socks5_greeting_write(out, s->node->user == NULL, s->node->user != NULL);

	s->at = CHOICE;
	return handshake_put(&s->h, out, (size_t)n);
}

static int
choice(struct hello *s, const uint8_t *p, size_t left)
{
	uint8_t method = SOCKS5_NO_METHOD, out[SOCKS5_AUTH_MAX];
	int n = socks5_choice_parse(p, left, &method);

	if (n == -E_AGAIN)
		return 0;
	if (n < 0)
		return refuse(s, E_PROTO, "the server speaks no SOCKS5");
	handshake_take(&s->h, (size_t)n);
	if (method == SOCKS5_NO_AUTH) {
		s->at = REPLY;
		return handshake_put(&s->h, s->request, s->request_len);
	}
	if (method != SOCKS5_USERPASS || s->node->user == NULL)
		return refuse(s, E_AUTH, "the server offers no way of authentication that we have");
	n = socks5_auth_write(out, s->node->user, s->node->password);	/* lengths were checked by init */
	s->at = AUTH;
	return n < 0 ? refuse(s, E_INVAL, "user name or password too long") : handshake_put(&s->h, out, (size_t)n);
}

static int
authenticated(struct hello *s, const uint8_t *p, size_t left)
{
	int n = socks5_auth_reply_parse(p, left);

	if (n == -E_AGAIN)
		return 0;
	if (n < 0)
		return refuse(s, n == -E_AUTH ? E_AUTH : E_PROTO, "user name or password refused");
	handshake_take(&s->h, (size_t)n);
	s->at = REPLY;
	return handshake_put(&s->h, s->request, s->request_len);
}

static int
reply(struct hello *s, const uint8_t *p, size_t left)
{
	struct socks_addr bound = { 0 };
	uint8_t rep = SOCKS5_FAILURE;
	int n = socks5_reply_parse(p, left, &rep, &bound);

	if (n == -E_AGAIN)
		return 0;
	if (n < 0)
		return refuse(s, E_PROTO, "malformed SOCKS5 reply");
	if (rep != SOCKS5_OK)
		return refuse(s, socks5_err_from_rep(rep), socks5_rep_text(rep));
	s->bound = bound.ip;
	s->bound_port = bound.port;
	if (bound.host != NULL && bound.host_len < sizeof(s->bound_host))
		memcpy(s->bound_host, bound.host, bound.host_len);	/* the rest is zero */
	handshake_take(&s->h, (size_t)n);
	handshake_done(&s->h);
	return 0;
}

static int
step(struct handshake *h)
{
	struct hello *s = (struct hello *)h;
	const uint8_t *p = h->in + h->in_off;
	size_t left = h->in_len - h->in_off;

	switch (s->at) {
	case GREET:
		return greet(s);
	case CHOICE:
		return choice(s, p, left);
	case AUTH:
		return authenticated(s, p, left);
	case REPLY:
		return reply(s, p, left);
	}
	return 0;
}

static struct hello *
hello_new(const struct socks5 *n, struct stream *lower, uint8_t command, const struct target *to)
{
	struct socks_addr a = { .ip = to->ip, .port = to->port };
	struct hello *s = (struct hello *)handshake_new(lower, sizeof(*s), SOCKS_MESSAGE_MAX, step);
	int len;

	if (s == NULL)
		return NULL;
	if (to->host != NULL && to->host[0] != '\0')
		a = (struct socks_addr){ .host = to->host, .host_len = strlen(to->host), .port = to->port };
	s->node = n;
	s->command = command;
	len = socks5_request_write(s->request, command, &a);
	if (len < 0) {
		(void)refuse(s, E_INVAL, "the target has no name or too long a one");
		return s;
	}
	s->request_len = (size_t)len;
	handshake_start(&s->h);
	return s;
}

static struct stream *
socks5_dial(struct outbound *ob, const struct dial *dial)
{
	struct socks5 *n = (struct socks5 *)ob;
	struct hello *s = hello_new(n, node_dial(ob, dial, &n->tls), SOCKS_CONNECT, dial->to);

	return s != NULL ? &s->h.s : NULL;
}

/* ---- UDP ASSOCIATE */

struct assoc {
	struct dgram d;
	struct outbound *ob;
	struct stream *control;		/* its life is the association's: RFC 1928 7; a struct hello until it is open */
	struct dgram *lower;		/* NULL until the relay's address is known */
	struct target relay;
	char relay_host[HOST_MAX + 1];
	struct outbound *via;
	unsigned depth;
	bool reading;
	struct dgram_queue early;
};

enum { PACK_SIZE = 256 << 10 };		/* headers and payloads of one batch, one thread: see direct.c */
static uint8_t pack[PACK_SIZE];
static char hosts[DGRAM_BATCH][HOST_MAX + 1];

static void
assoc_fail(struct assoc *a, int code, const char *why)
{
	if ((a->d.state & (ST_FAIL | ST_CLOSED)) == 0)
		dgram_fail(&a->d, code, 0, "%s", why);
}

/* Header and payload at out; total length, 0 when it does not fit in what is left, -E_* when it cannot be sent at all. */
static int
seal(uint8_t *out, size_t room, const struct packet *p)
{
	struct socks_addr to = { .ip = p->addr.ip, .port = p->addr.port };
	int n;

	if (room < SOCKS5_UDP_HEADER_MAX + p->len)
		return 0;
	if (p->addr.host != NULL && p->addr.host[0] != '\0')
		to = (struct socks_addr){ .host = p->addr.host, .host_len = strlen(p->addr.host), .port = p->addr.port };
	n = socks5_udp_write(out, &to);
	if (n < 0 || (size_t)n + p->len > DGRAM_MAX)
		return -E_INVAL;
	memcpy(out + n, p->data, p->len);
	return n + (int)p->len;
}

static int
send_packed(struct assoc *a, const struct packet *p, int n)
{
	struct packet out[DGRAM_BATCH];
	size_t used = 0;
	int count = 0, taken = 0;

	for (int i = 0; i < n; i++) {
		int len = seal(pack + used, sizeof(pack) - used, &p[i]);

		if (len == 0 || count == DGRAM_BATCH) {
			taken += a->lower->ops->sendv(a->lower, out, count);
			used = 0;
			count = 0;
			len = seal(pack, sizeof(pack), &p[i]);
		}
		if (len < 0) {
			taken++;	/* dropped */
			continue;
		}
		out[count++] = (struct packet){ .data = pack + used, .len = (size_t)len, .addr = a->relay };
		used += (size_t)len;
	}
	if (count > 0)
		taken += a->lower->ops->sendv(a->lower, out, count);
	return taken;
}

static int
assoc_sendv(struct dgram *d, const struct packet *p, int n)
{
	struct assoc *a = (struct assoc *)d;
	int taken = 0;

	if ((d->state & (ST_FAIL | ST_CLOSED)) != 0)
		return d->err != 0 ? -d->err : -E_CLOSED;
	if ((d->state & ST_OPEN) != 0)
		return send_packed(a, p, n);
	while (taken < n && dgram_queue_put(&a->early, &p[taken]) == 0)
		taken++;
	return taken > 0 || n == 0 ? taken : -E_AGAIN;
}

static void
give_early(void *arg, const struct packet *p)
{
	(void)send_packed(arg, p, 1);
}

/* One datagram of the relay; false: dropped. */
static bool
unseal(const struct assoc *a, const struct packet *in, struct packet *out, char host[static HOST_MAX + 1])
{
	struct socks_addr from;
	int n;

	if (a->relay.ip.family != 0 && in->addr.ip.family != 0 && !ip_equal(&a->relay.ip, &in->addr.ip))
		return false;		/* the socket is open to everybody, the association is not */
	n = socks5_udp_parse(in->data, in->len, &from);
	if (n < 0)
		return false;
	*out = (struct packet){ .data = in->data + n, .len = in->len - (size_t)n, .addr = { .ip = from.ip, .port = from.port } };
	if (from.host != NULL && from.host_len <= HOST_MAX) {
		memcpy(host, from.host, from.host_len);
		host[from.host_len] = '\0';
		out->addr.host = host;
	}
	return true;
}

static void
assoc_open(struct assoc *a)
{
	a->d.state |= ST_OPEN;
	dgram_queue_drain(&a->early, give_early, a);
	a->lower->ops->want(a->lower, a->reading);
	if (a->d.cb != NULL)
		a->d.cb(&a->d, ST_OPEN, NULL, 0, a->d.arg);
}

static void
on_packets(struct dgram *lower, int events, const struct packet *p, int n, void *arg)
{
	struct assoc *a = arg;
	struct packet out[DGRAM_BATCH];
	int count = 0;

	if ((a->d.state & (ST_FAIL | ST_CLOSED)) != 0)
		return;
	if ((events & ST_FAIL) != 0) {
		assoc_fail(a, lower->err, dgram_why(lower));
		return;
	}
	if ((events & ST_OPEN) != 0)
		assoc_open(a);
	for (int i = 0; i < n && count < DGRAM_BATCH; i++)
		if (unseal(a, &p[i], &out[count], hosts[count]))
			count++;
	if (count > 0 && a->d.cb != NULL)
		a->d.cb(&a->d, ST_READ, out, count, a->d.arg);
}

/* Where the relay is: what the server said; its own address when it said 0.0.0.0; the name we know it by when even that is
 * unknown. */
static void
find_relay(struct assoc *a)
{
	const struct hello *c = (const struct hello *)a->control;
	const struct stream *bottom = a->control;
	uint16_t port;

	a->relay = (struct target){ .ip = c->bound, .port = c->bound_port };
	if (c->bound_host[0] != '\0') {
		memcpy(a->relay_host, c->bound_host, sizeof(a->relay_host));
		a->relay.host = a->relay_host;
	} else if (c->bound.family == 0 || ip_is_unspecified(&c->bound)) {
		while (bottom->lower != NULL)
			bottom = bottom->lower;
		a->relay.ip.family = 0;
		if (a->via != NULL || a->ob->dialer != NULL || !tcp_peer(bottom, &a->relay.ip, &port))
			a->relay.ip.family = 0;
		if (a->relay.ip.family == 0 && ip_parse(&a->relay.ip, a->ob->server) != 0)
			a->relay = (struct target){ .host = a->ob->server, .port = c->bound_port };
	}
}

static void
associated(struct assoc *a)
{
	struct dial d = { .to = &a->relay, .via = a->via, .depth = a->depth };

	find_relay(a);
	a->lower = dialer_packet(a->ob, &d);
	if (a->lower == NULL) {
		assoc_fail(a, E_NOMEM, "out of memory");
		return;
	}
	a->lower->cb = on_packets;
	a->lower->arg = a;
	stream_want(a->control, ST_READ);
	if ((a->lower->state & ST_OPEN) != 0)
		assoc_open(a);
}

static void
on_control(struct stream *s, int events, void *arg)
{
	struct assoc *a = arg;
	uint8_t skip[256];
	ssize_t n;

	if ((a->d.state & (ST_FAIL | ST_CLOSED)) != 0)
		return;
	if ((events & ST_FAIL) != 0) {
		assoc_fail(a, s->err, stream_why(s));
	} else if ((events & ST_OPEN) != 0) {
		associated(a);
	} else if ((events & ST_READ) != 0) {
		n = stream_read(s, skip, sizeof(skip));
		if (n <= 0 && n != -E_AGAIN)
			assoc_fail(a, n == 0 ? E_CLOSED : (int)-n, "the server ended the UDP association");
	}
}

static void
assoc_want(struct dgram *d, bool read)
{
	struct assoc *a = (struct assoc *)d;

	a->reading = read;
	if (a->lower != NULL && (d->state & ST_OPEN) != 0)
		a->lower->ops->want(a->lower, read);
}

static void
assoc_destroy(struct dgram *d)
{
	struct assoc *a = (struct assoc *)d;

	dgram_queue_clear(&a->early);
	if (a->control != NULL)
		stream_close(a->control, CLOSE_FLUSH);
	if (a->lower != NULL)
		dgram_close(a->lower);
	mem_free(a);
}

static bool
control_movable(const struct stream *s)
{
	if (s->ops->freeze == NULL || stream_raw_fd(s, ST_READ) == -1)
		return false;
	for (; s != NULL; s = s->lower)
		if (s->err != 0)
			return false;
	return true;
}

/* The relay's address, the lower packet side, the control connection: its fd comes last. */
static int
assoc_freeze(struct dgram *d, struct wire *w, int *fds)
{
	struct assoc *a = (struct assoc *)d;
	int n;

	if (a->lower == NULL || !control_movable(a->control))
		return -E_UNSUP;
	wire_put(w, &a->relay.ip, sizeof(a->relay.ip));
	wire_put_u16(w, a->relay.port);
	wire_put_str(w, a->relay.host);
	n = dgram_freeze(a->lower, w, fds);
	if (n < 0)
		return n;
	n += a->control->ops->freeze(a->control, w, fds + n);
	stream_close(a->control, CLOSE_RESET);	/* without a socket: nothing is reset, and nothing waited for */
	a->control = NULL;
	return n;
}

static const struct dgram_ops assoc_ops = {
	.name = "socks5", .sendv = assoc_sendv, .want = assoc_want, .freeze = assoc_freeze, .destroy = assoc_destroy
};

struct dgram *
socks5_packet_thaw(struct gen *g, struct wire *in, const int *fds, int nfds)
{
	struct assoc *a = nfds >= 2 ? mem_got(calloc(1, sizeof(*a))) : NULL;
	struct ip *ip;

	if (a == NULL)
		goto bad;
	ip = &a->relay.ip;
	if (wire_get(in, ip, sizeof(*ip)) != 0 || (ip->family != 0 && ip->family != 4 && ip->family != 6) ||
	    wire_get_u16(in, &a->relay.port) != 0 || wire_get_str(in, a->relay_host, sizeof(a->relay_host)) != 0)
		goto bad;
	dgram_init(&a->d, &assoc_ops, &g->w->loop);
	a->relay.host = a->relay_host;
	a->ob = g->direct;		/* what was asked of the node is known by now */
	a->lower = outbound_thaw(g, in, fds, nfds - 1);
	a->control = tcp_thaw(&g->w->loop, in, fds + nfds - 1, 1);
	if (a->lower == NULL || a->control == NULL) {
		assoc_destroy(&a->d);
		return NULL;
	}
	a->lower->cb = on_packets;
	a->lower->arg = a;
	stream_set_cb(a->control, on_control, a);
	stream_want(a->control, ST_READ);
	a->d.state |= ST_OPEN;
	return &a->d;
bad:
	mem_free(a);
	for (int i = 0; i < nfds; i++)
		close(fds[i]);
	return NULL;
}

static struct dgram *
socks5_packet(struct outbound *ob, const struct dial *dial)
{
	/* 0.0.0.0:0: we do not know our address out there */
	static const struct target anywhere = { .ip = { .family = 4 } };
	struct socks5 *n = (struct socks5 *)ob;
	struct assoc *a = mem_got(calloc(1, sizeof(*a)));
	struct hello *control;

	if (a == NULL)
		return NULL;
	control = hello_new(n, node_dial(ob, dial, &n->tls), SOCKS_UDP_ASSOCIATE, &anywhere);
	if (control == NULL) {
		mem_free(a);
		return NULL;
	}
	a->control = &control->h.s;
	dgram_init(&a->d, &assoc_ops, &ob->gen->w->loop);
	a->ob = ob;
	a->via = dial->via;
	a->depth = dial->depth;
	stream_set_cb(a->control, on_control, a);
	return &a->d;
}

static int
socks5_init(struct outbound *ob, const struct cfg_node *item, struct cfg_err *err)
{
	struct socks5 *n = (struct socks5 *)ob;
	const char *user = "", *password = "";

	if (cfgw_str(item, "username", &user, err) != 0 || cfgw_str(item, "password", &password, err) != 0 ||
	    node_tls_parse(ob, item, NULL, &n->tls, err) != 0)
		return -E_INVAL;
	if (strlen(user) > 255 || strlen(password) > 255)
		return cfg_fail(err, item, "username", "username and password have at most 255 bytes");
	if (user[0] != '\0' || password[0] != '\0') {
		n->user = arena_strdup(&ob->gen->arena, user);
		n->password = arena_strdup(&ob->gen->arena, password);
	}
	return 0;
}

static const char *const keys[] = { "username", "password", "tls", "skip-cert-verify", "fingerprint", NULL };

const struct outbound_type outbound_socks5 = {
	.name = "socks5", .api_name = "Socks5", .flags = OB_TCP, .size = sizeof(struct socks5), .keys = keys,
	.init = socks5_init, .dial = socks5_dial, .packet = socks5_packet,
};
