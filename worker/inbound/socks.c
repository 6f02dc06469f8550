/* SPDX-License-Identifier: MIT */
/* Inbound SOCKS4, 4a and 5 (RFC 1928, 1929): method and credentials, CONNECT, UDP ASSOCIATE; BIND is refused. Called by
 * listen.c and mixed.c. Owns the handshake record of a conn: a stage, and bytes only while a message is incomplete.
 *
 *   FIRST -> GREETING -> AUTH -> REQUEST -> conn_dispatch(), or -> the control connection of an association
 *        \-> SOCKS4 --------------------> conn_dispatch() */
#include "worker/inbound/socks.h"

#include <stdlib.h>
#include <string.h>

#include "worker/codec/socks.h"

enum stage { FIRST, GREETING, AUTH, REQUEST, SOCKS4 };

struct handshake {
	uint8_t stage;
	bool any;		/* credentials are asked for because the client wants to give some; none are needed */
	uint16_t len;
	uint8_t bytes[];	/* len of an incomplete message, at most SOCKS_MESSAGE_MAX */
};

enum { DONE = 0 };		/* a step's answer when the conn is no longer in its handshake */

static void
hs_free(struct conn *c)
{
	free(c->hs);
	c->hs = NULL;
}

/* Ends a conn whose refusal was written: what the kernel has still goes out. */
static int
refuse(struct conn *c, const void *p, size_t n)
{
	if (n > 0)
		stream_write(c->in, p, n);
	stream_close(c->in, CLOSE_FLUSH);
	c->in = NULL;
	conn_close(c, BY_ERROR);
	return DONE;
}

static int
refuse5(struct conn *c, uint8_t rep)
{
	uint8_t out[22];

	return refuse(c, out, (size_t)socks5_reply_write(out, rep, NULL, 0));
}

static int
refuse4(struct conn *c, uint8_t rep)
{
	uint8_t out[SOCKS4_REPLY_SIZE];

	return refuse(c, out, (size_t)socks4_reply_write(out, rep, NULL, 0));
}

/* A few bytes into the empty send buffer of a new socket: not taking them all is the peer's fault. */
static bool
say(struct conn *c, const void *p, size_t n)
{
	return stream_write(c->in, p, n) == (ssize_t)n;
}

static void
on_reply(struct conn *c, int err)
{
	uint8_t out[22];
	int n;

	if (c->in == NULL)
		return;
	if (c->meta.kind == IN_SOCKS4)
		n = socks4_reply_write(out, err == 0 ? SOCKS4_GRANTED : SOCKS4_REJECTED, NULL, 0);
	else
		n = socks5_reply_write(out, socks5_rep_from_err(err), NULL, 0);
	if (!say(c, out, (size_t)n) && err == 0)
		conn_close(c, BY_CLIENT);
}

/* Fills the target; 0 or -E_*. */
static int
set_target(struct conn *c, const struct socks_addr *to)
{
	c->meta.dst_port = to->port;
	if (to->host != NULL)
		return conn_set_host(c, to->host, to->host_len);
	c->meta.dst_ip = to->ip;
	return 0;
}

/* What the client sent behind its request goes first. */
static int
dispatch(struct conn *c, const uint8_t *rest, size_t n)
{
	if (n > 0 && conn_early(c, rest, n) != 0) {
		conn_close(c, BY_LIMIT);
		return DONE;
	}
	hs_free(c);
	c->reply = on_reply;
	conn_dispatch(c);
	return DONE;
}

/* The control connection: nothing is expected on it but its end (RFC 1928 6, 7). */
static void
on_control(struct stream *s, int events, void *arg)
{
	uint8_t junk[512];
	ssize_t n = stream_read(s, junk, sizeof(junk));

	(void)events;
	if (n == 0 || (n < 0 && n != -E_AGAIN))
		conn_close(arg, BY_CLIENT);
}

void
socks_control(struct conn *c)
{
	c->control = true;
	c->deadline_ms = 0;
	stream_set_cb(c->in, on_control, c);
	stream_want(c->in, ST_READ);
}

/* The UDP listener has the number of the TCP one, on whatever address the client reached it by. The conn stays in
 * CONN_HANDSHAKE, unlisted and without a deadline; a worker that drains hands it over. */
static int
associate(struct conn *c)
{
	struct inbound *inb = c->inbound;
	uint8_t out[22];
	int n;

	if (!inb->udp)
		return refuse5(c, SOCKS5_BAD_COMMAND);
	n = socks5_reply_write(out, SOCKS5_OK, &c->meta.in_ip, inb->key.port);
	if (!say(c, out, (size_t)n)) {
		conn_close(c, BY_CLIENT);
		return DONE;
	}
	hs_free(c);
	socks_control(c);
	return DONE;
}

static int
take_greeting(struct conn *c, struct handshake *hs, const uint8_t *p, size_t n)
{
	struct socks5_greeting g;
	int len = socks5_greeting_parse(p, n, &g);
	bool needed = inbound_needs_auth(c->inbound, &c->meta.src_ip);
	uint8_t out[2];

	if (len < 0)
		return len;
	if (needed ? !g.userpass : !g.no_auth && !g.userpass) {
		socks5_choice_write(out, SOCKS5_NO_METHOD);
		return refuse(c, out, sizeof(out));
	}
	hs->any = !needed;
	hs->stage = needed || !g.no_auth ? AUTH : REQUEST;
	socks5_choice_write(out, hs->stage == AUTH ? SOCKS5_USERPASS : SOCKS5_NO_AUTH);
	return say(c, out, sizeof(out)) ? len : -E_CLOSED;
}

static int
set_user(struct conn *c, const char *user, size_t n)
{
	char name[256];

	memcpy(name, user, n);
	name[n] = '\0';
	return conn_set_user(c, name);
}

static int
take_auth(struct conn *c, struct handshake *hs, const uint8_t *p, size_t n)
{
	struct socks_auth a;
	int len = socks5_auth_parse(p, n, &a);
	bool good;
	uint8_t out[2];

	if (len < 0)
		return len;
	good = hs->any || inbound_check(c->inbound, a.user, a.nu, a.password, a.np);
	socks5_auth_reply_write(out, good);
	if (!good)
		return refuse(c, out, sizeof(out));
	if (!hs->any && set_user(c, a.user, a.nu) != 0)
		return -E_NOMEM;
	hs->stage = REQUEST;
	return say(c, out, sizeof(out)) ? len : -E_CLOSED;
}

static int
take_request(struct conn *c, const uint8_t *p, size_t n)
{
	struct socks_request r;
	int len = socks5_request_parse(p, n, &r);

	/* The command comes before the address: refuse it whatever follows. */
	if (n >= 2 && p[0] == 5 && p[1] != SOCKS_CONNECT && p[1] != SOCKS_UDP_ASSOCIATE)
		return refuse5(c, SOCKS5_BAD_COMMAND);
	if (len == -E_UNSUP)
		return refuse5(c, SOCKS5_BAD_ADDRESS);
	if (len < 0)
		return len;
	c->meta.kind = IN_SOCKS5;
	if (r.command == SOCKS_UDP_ASSOCIATE)
		return associate(c);
	if (set_target(c, &r.to) != 0)
		return refuse5(c, SOCKS5_FAILURE);
	return dispatch(c, p + len, n - (size_t)len);
}

static int
take_socks4(struct conn *c, const uint8_t *p, size_t n)
{
	struct socks_request r;
	int len = socks4_request_parse(p, n, &r);

	if (len < 0)
		return len;
	if (r.command != SOCKS_CONNECT)
		return refuse4(c, SOCKS4_REJECTED);
	c->meta.kind = IN_SOCKS4;
	if (inbound_needs_auth(c->inbound, &c->meta.src_ip)) {
		if (!inbound_check(c->inbound, r.user, r.nu, "", 0))
			return refuse4(c, SOCKS4_BAD_USER);
		if (set_user(c, r.user, r.nu) != 0)
			return -E_NOMEM;
	}
	if (set_target(c, &r.to) != 0)
		return refuse4(c, SOCKS4_REJECTED);
	return dispatch(c, p + len, n - (size_t)len);
}

/* One message: its length, DONE, or -E_*. */
static int
step(struct conn *c, struct handshake *hs, const uint8_t *p, size_t n)
{
	if (n == 0)
		return -E_AGAIN;
	if (hs->stage == FIRST)
		hs->stage = p[0] == 4 ? SOCKS4 : GREETING;
	switch (hs->stage) {
	case SOCKS4:
		return take_socks4(c, p, n);
	case GREETING:
		return take_greeting(c, hs, p, n);
	case AUTH:
		return take_auth(c, hs, p, n);
	default:
		return take_request(c, p, n);
	}
}

/* Keeps the stage, and n bytes when a message is incomplete. */
static int
keep(struct conn *c, const struct handshake *now, const uint8_t *p, size_t n)
{
	struct handshake *hs;

	if (n > SOCKS_MESSAGE_MAX)
		return -E_LIMIT;
	hs = realloc(c->hs, sizeof(*hs) + n);
	if (hs == NULL)
		return -E_NOMEM;
	*hs = *now;
	hs->len = (uint16_t)n;
	if (n > 0)
		memcpy(hs->bytes, p, n);
	c->hs = hs;
	return 0;
}

static void on_bytes(struct stream *s, int events, void *arg);

/* p, n: all bytes of messages that are not handled yet; not in c->hs. */
static void
feed(struct conn *c, const struct handshake *was, const uint8_t *p, size_t n)
{
	struct handshake hs = { .stage = was->stage, .any = was->any };
	int len;

	while ((len = step(c, &hs, p, n)) > 0) {
		p += len;
		n -= (size_t)len;
	}
	if (len == DONE)
		return;
	if (len != -E_AGAIN || keep(c, &hs, p, n) != 0) {
		conn_close(c, BY_ERROR);
		return;
	}
	stream_set_cb(c->in, on_bytes, c);
	stream_want(c->in, ST_READ);
}

static void
on_bytes(struct stream *s, int events, void *arg)
{
	struct conn *c = arg;
	struct handshake first = { .stage = FIRST }, *hs = c->hs;
	uint8_t bytes[SOCKS_MESSAGE_MAX + FIRST_READ_MAX];
	size_t have = 0;
	ssize_t n;

	(void)events;
	if (hs != NULL) {
		memcpy(bytes, hs->bytes, hs->len);
		have = hs->len;
		first = (struct handshake){ .stage = hs->stage, .any = hs->any };
	}
	n = stream_read(s, bytes + have, FIRST_READ_MAX);
	if (n == -E_AGAIN)
		return;
	if (n <= 0) {
		conn_close(c, BY_CLIENT);
		return;
	}
	feed(c, &first, bytes, have + (size_t)n);
}

void
socks_begin(struct conn *c, const uint8_t *p, size_t n)
{
	struct handshake first = { .stage = FIRST };

	c->hs_free = hs_free;
	feed(c, &first, p, n);
}

static void
socks_accept(struct inbound *inb, struct conn *c)
{
	(void)inb;
	socks_begin(c, NULL, 0);
}

void
socks_packet(struct inbound *inb, struct udp_port *port, const union sockaddr_any *client, const struct ip *local, const uint8_t *p, size_t n)
{
	struct target to = { .host = NULL };
	char host[HOST_MAX + 1];
	struct socks_addr a;
	int len = socks5_udp_parse(p, n, &a);

	(void)inb;
	if (len < 0)
		return;
	if (a.host != NULL) {
		memcpy(host, a.host, a.host_len);
		host[a.host_len] = '\0';
		to.host = host;
	}
	to.ip = a.ip;
	to.port = a.port;
	udp_input(port, client, local, &to, IN_SOCKS5, NULL, p + len, n - (size_t)len);
}

int
socks_wrap(struct inbound *inb, const struct target *from, uint8_t *header)
{
	struct socks_addr a = { .ip = from->ip, .port = from->port };

	(void)inb;
	if (from->ip.family == 0 && from->host != NULL) {
		a.host = from->host;
		a.host_len = strlen(from->host);
	}
	return socks5_udp_write(header, &a);
}

static int
socks_init(struct inbound *inb, const struct cfg_node *node, struct cfg_err *err)
{
	(void)inb;
	(void)node;
	(void)err;
	return 0;
}

const struct inbound_type inbound_socks = {
	.name = "socks", .api_name = "Socks", .needs = IN_STREAM | IN_DGRAM, .size = sizeof(struct inbound), .init = socks_init,
	.accept = socks_accept, .packet = socks_packet, .wrap = socks_wrap
};
