/* SPDX-License-Identifier: MIT */
/* The connection to a name server; see carrier.h. Called by transport.c; owns the stream, its buffers and copies of the
 * questions.
 *
 *   CLOSED -> RESOLVING (a server with a name) -> DIALING -> OPEN -> CLOSED
 *
 * A connection that breaks takes nobody with it that it can help: questions are asked once more on a new one if the old one
 * had worked before, for then the server only closed what was idle. */
#include "worker/dns/carrier.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/codec/dns.h"
#include "worker/dns/internal.h"
#include "worker/stream/dgram.h"
#include "worker/worker.h"

enum { IN_SIZE = 2 + DNS_MSG_MAX };

static void carrier_open(struct carrier *c);

static bool
is_doh(const struct carrier *c)
{
	return c->conf->net == DNS_NET_HTTPS;
}

static bool
is_encrypted(const struct carrier *c)
{
	return c->conf->net == DNS_NET_HTTPS || c->conf->net == DNS_NET_TLS;
}

/* ---- messages */

static void
set16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* ---- questions */

void
carrier_tell(struct carrier_ask *a, int err, uint8_t *msg, size_t n)
{
	uint8_t *answer = a->answer;
	struct carrier *c = a->c;

	list_remove(&a->node);
	free(a->query);
	a->query = a->answer = NULL;
	a->c = NULL;
	if (--c->n_asks == 0 && c->state == CARRIER_OPEN) {
		ev_timer_set(&c->idle, CARRIER_IDLE_MS / 1000.0, 0.);
		ev_timer_start(c->r->loop->ev, &c->idle);
	}
	a->cb(a->arg, err, msg, n > 0 ? edns_strip(msg, n) : 0);
	free(answer);
}

static void
carrier_close(struct carrier *c)
{
	ev_timer_stop(c->r->loop->ev, &c->idle);
	resolver_cancel(&c->req);
	loop_cancel(&c->later);
	if (c->doh != NULL)
		doh_close(c);
	stream_close(c->s, CLOSE_FLUSH);
	c->s = NULL;
	free(c->out);
	free(c->in);
	c->out = c->in = NULL;
	c->n_out = c->off_out = c->n_in = 0;
	c->state = CARRIER_CLOSED;
}

/* The connection is of no use. A question that it had already, or any if the connection never worked, has failed. */
static void
carrier_break(struct carrier *c, int err, const char *why)
{
	bool proven = c->proven;
	struct list lost;

	if (!proven && (c->warned_ms == 0 || c->r->loop->now_ms - c->warned_ms >= CARRIER_WARN_MS)) {
		c->warned_ms = c->r->loop->now_ms;
		log_warn("name server %s: %s", c->conf->text, why);
	} else {
		log_debug("name server %s: %s", c->conf->text, why);
	}
	carrier_close(c);
	list_init(&lost);
	for (int i = 0; i < 2; i++) {
		struct list *from = i == 0 ? &c->sent : &c->waiting;

		list_each_safe(n, tmp, from) {
			list_remove(n);
			list_append(&lost, n);
		}
	}
	while (!list_empty(&lost)) {
		struct carrier_ask *a = container_of(lost.next, struct carrier_ask, node);
		bool was_sent = a->sent_ms != 0;

		if (!proven || a->again) {
			carrier_tell(a, err, NULL, 0);
			continue;
		}
		list_remove(&a->node);
		free(a->answer);
		a->answer = NULL;
		a->n_answer = a->n_sent = 0;
		a->again = was_sent;
		a->sent_ms = 0;
		list_append(&c->waiting, &a->node);
	}
	if (!list_empty(&c->waiting) && c->state == CARRIER_CLOSED)
		carrier_open(c);
}

/* ---- an open connection */

static bool
id_used(const struct carrier *c, uint16_t id)
{
	list_each(n, &c->sent)
		if (container_of(n, struct carrier_ask, node)->id == id)
			return true;
	return false;
}

static bool
frame(struct carrier *c, struct carrier_ask *a)
{
	if (c->n_out + 2 + a->n > CARRIER_OUT_MAX)
		return false;
	do {
		a->id = c->next_id++;
	} while (id_used(c, a->id));
	set16(a->query, a->id);
	set16(c->out + c->n_out, (unsigned)a->n);
	memcpy(c->out + c->n_out + 2, a->query, a->n);
	c->n_out += 2 + a->n;
	return true;
}

/* Questions into the buffer, the buffer into the stream. -E_*: broken. */
static int
pump(struct carrier *c)
{
	int rc;

	list_each_safe(n, tmp, &c->waiting) {
		struct carrier_ask *a = container_of(n, struct carrier_ask, node);

		if (is_doh(c) ? doh_submit(c, a) != 0 : !frame(c, a))
			break;
		a->sent_ms = c->r->loop->now_ms;
		list_remove(n);
		list_append(&c->sent, n);
	}
	if (is_doh(c) && !list_empty(&c->waiting) && list_empty(&c->sent))
		return -E_CLOSED;		/* it takes no more */
	rc = is_doh(c) ? doh_fill(c) : 0;
	while (rc == 0 && c->off_out < c->n_out) {
		ssize_t n = stream_write(c->s, c->out + c->off_out, c->n_out - c->off_out);

		if (n == -E_AGAIN)
			break;
		if (n < 0)
			return (int)n;
		c->off_out += (size_t)n;
		if (c->off_out == c->n_out) {
			c->off_out = c->n_out = 0;
			rc = is_doh(c) ? doh_fill(c) : 0;
		}
	}
	if (rc != 0)
		return rc;
	rc = stream_flush(c->s);
	stream_want(c->s, ST_READ | (c->off_out < c->n_out || rc == -E_AGAIN ? ST_WRITE : 0));
	return rc == -E_AGAIN ? 0 : rc;
}

/* A whole message at p. */
static void
deliver(struct carrier *c, uint8_t *p, size_t n)
{
	uint16_t id = (uint16_t)(p[0] << 8 | p[1]);

	list_each(node, &c->sent) {
		struct carrier_ask *a = container_of(node, struct carrier_ask, node);

		if (a->id == id) {
			c->proven = true;
			carrier_tell(a, 0, p, n);
			return;
		}
	}
}

/* Bytes of DNS over TCP or TLS came into c->in. False: what came cannot be. */
static bool
take_messages(struct carrier *c, const struct stream *s)
{
	size_t at = 0;

	while (c->s == s && c->n_in - at >= 2) {
		size_t n = (size_t)(c->in[at] << 8 | c->in[at + 1]);

		if (n < DNS_HEADER)
			return false;
		if (c->n_in - at - 2 < n)
			break;
		deliver(c, c->in + at + 2, n);
		at += 2 + n;
	}
	if (c->s != s)
		return true;		/* a callback ended it */
	memmove(c->in, c->in + at, c->n_in - at);
	c->n_in -= at;
	return true;
}

static bool
take_http(struct carrier *c, const struct stream *s)
{
	struct carrier_ask *a;
	size_t n = c->n_in;

	c->n_in = 0;
	if (doh_feed(c, c->in, n) != 0)
		return false;
	while (c->s == s && (a = doh_ready(c)) != NULL) {
		c->proven |= a->status == 200;
		if (a->status == 200 && a->n_answer >= DNS_HEADER)
			carrier_tell(a, 0, a->answer, a->n_answer);
		else
			carrier_tell(a, E_DNS, NULL, 0);
	}
	return true;
}

static void
on_read(struct carrier *c)
{
	struct stream *s = c->s;

	while (c->s == s) {
		ssize_t n = stream_read(s, c->in + c->n_in, IN_SIZE - c->n_in);

		if (n == -E_AGAIN)
			break;
		if (n <= 0) {
			carrier_break(c, E_DNS, n == 0 ? "closed by the server" : stream_why(s));
			return;
		}
		c->heard_ms = c->r->loop->now_ms;
		c->n_in += (size_t)n;
		if (!(is_doh(c) ? take_http(c, s) : take_messages(c, s))) {
			carrier_break(c, E_DNS, "broken framing");
			return;
		}
	}
	if (c->s == s && pump(c) != 0)
		carrier_break(c, E_DNS, stream_why(s));
}

static void
opened(struct carrier *c)
{
	c->out = malloc(CARRIER_OUT_MAX);
	c->in = malloc(IN_SIZE);
	if (c->out == NULL || c->in == NULL) {
		carrier_break(c, E_NOMEM, "out of memory");
		return;
	}
	c->state = CARRIER_OPEN;
	c->next_id = (uint16_t)rand_u64();
	if (is_doh(c) && !str_equal(tls_alpn(c->s), "h2"))
		carrier_break(c, E_DNS, "the server does not speak HTTP/2");
	else if ((is_doh(c) && doh_open(c) != 0) || pump(c) != 0)
		carrier_break(c, E_DNS, stream_why(c->s));
	else if (c->n_asks == 0)
		ev_timer_start(c->r->loop->ev, &c->idle);
}

static void
on_stream(struct stream *s, int events, void *arg)
{
	struct carrier *c = arg;

	if ((events & ST_FAIL) != 0)
		carrier_break(c, s->err == E_TIMEOUT ? E_TIMEOUT : E_DNS, stream_why(s));
	else if ((events & ST_OPEN) != 0 && c->state == CARRIER_DIALING)
		opened(c);
	else if (c->state != CARRIER_OPEN)
		stream_want(s, 0);
	else if ((events & (ST_READ | ST_EOF)) != 0)
		on_read(c);
	else if (pump(c) != 0)
		carrier_break(c, E_DNS, stream_why(s));
}

/* ---- opening */

static void
on_later(struct loop_task *t)
{
	struct carrier *c = container_of(t, struct carrier, later);

	if (c->s == NULL)
		carrier_break(c, E_DNS, "cannot be dialled");
	else if (c->state == CARRIER_DIALING && (c->s->state & (ST_OPEN | ST_FAIL)) == ST_OPEN)
		opened(c);
	else
		carrier_break(c, E_TIMEOUT, "no answer for too long");
}

/* Is its server asked through a proxy, which then resolves its name? */
static bool
is_proxied(const struct carrier *c)
{
	struct gen *g = c->r->gen;

	return !c->rules && c->conf->via != NULL && g->dns_hooks.via != NULL &&
	    g->dns_hooks.via(g, c->conf->via) == DNS_VIA_PROXY;
}

static struct stream *
dial(struct carrier *c, const struct ip *ips, int n)
{
	struct gen *g = c->r->gen;
	struct target to = { .host = c->conf->ip.family == 0 ? c->conf->host : "", .port = c->conf->port };
	struct tcp_opts opts = { .iface = g->general.interface_name };
	struct stream *s;

	if (n > 0)
		to.ip = ips[0];
	if (g->dns_hooks.dial != NULL && (c->rules || is_proxied(c)))
		return g->dns_hooks.dial(g, c->rules ? NULL : c->conf->via, &to);
	if (c->conf->via != NULL && g->dns_hooks.via != NULL && g->dns_hooks.via(g, c->conf->via) == DNS_VIA_UNKNOWN)
		opts.iface = c->conf->via;	/* no proxy of this name: an interface */
	s = tcp_dialing(c->r->loop);
	if (s != NULL)
		tcp_connect(s, ips, n, c->conf->port, &opts, false);
	return s;
}

static void
dial_and_wrap(struct carrier *c, const struct ip *ips, int n)
{
	struct stream *s = dial(c, ips, n);

	if (s != NULL && is_encrypted(c))
		s = tls_client(s, &c->tls);
	c->state = CARRIER_DIALING;
	c->s = s;
	if (s != NULL)
		stream_set_cb(s, on_stream, c);
	if (s == NULL || (s->state & ST_OPEN) != 0)
		loop_defer(c->r->loop, &c->later);
}

static void
on_address(void *arg, int err, const struct ip *ips, int n)
{
	struct carrier *c = arg;

	if (err != 0 || n == 0)
		carrier_break(c, err == E_TIMEOUT ? E_TIMEOUT : E_DNS, "its name has no address at default-nameserver");
	else
		dial_and_wrap(c, ips, n);
}

static void
carrier_open(struct carrier *c)
{
	c->proven = false;
	c->heard_ms = c->r->loop->now_ms;
	if (c->conf->ip.family != 0) {
		dial_and_wrap(c, &c->conf->ip, 1);
		return;
	}
	if (is_proxied(c)) {
		dial_and_wrap(c, NULL, 0);
		return;
	}
	c->state = CARRIER_RESOLVING;
	c->req = (struct resolve_req){ .n = 0 };
	resolver_ask(c->r->gen, &c->req, c->conf->host, RESOLVE_BOTH, USE_BOOT, on_address, c);
}

static void
on_idle(struct ev_loop *ev, ev_timer *t, int revents)
{
	struct carrier *c = container_of(t, struct carrier, idle);

	(void)ev;
	(void)revents;
	if (c->n_asks == 0)
		carrier_close(c);
}

struct carrier *
carrier_new(struct resolver *r, const struct dns_server *conf, bool rules)
{
	static const char *const h2[] = { "h2", NULL };		/* RFC 9113 3.1 */
	struct carrier *c = arena_alloc(&r->gen->arena, sizeof(*c));

	c->r = r;
	c->conf = conf;
	c->rules = rules;
	c->tls = (struct tls_client_opts){ .server_name = conf->host, .verify_name = conf->verify_name,
		.alpn = conf->net == DNS_NET_HTTPS ? h2 : NULL, .skip_verify = conf->skip_verify };
	list_init(&c->waiting);
	list_init(&c->sent);
	ev_timer_init(&c->idle, on_idle, CARRIER_IDLE_MS / 1000.0, 0.);
	loop_task_init(&c->later, on_later);
	c->next = r->carriers;
	r->carriers = c;
	return c;
}

int
carrier_ask(struct carrier *c, struct carrier_ask *a, const uint8_t *query, size_t n, carrier_cb *cb, void *arg)
{
	uint8_t full[EDNS_QUERY_MAX];

	if (c->n_asks >= CARRIER_ASKS_MAX)
		return -E_LIMIT;
	*a = (struct carrier_ask){ .c = c, .cb = cb, .arg = arg };
	a->n = edns_add(full, query, n, &c->conf->ecs, is_encrypted(c));
	set16(full, 0);			/* RFC 8484 4.1; others get a number of the connection's */
	a->query = malloc(a->n);
	if (a->query == NULL) {
		a->c = NULL;
		return -E_NOMEM;
	}
	memcpy(a->query, full, a->n);
	list_init(&a->node);
	list_append(&c->waiting, &a->node);
	c->n_asks++;
	ev_timer_stop(c->r->loop->ev, &c->idle);
	if (c->state == CARRIER_CLOSED)
		carrier_open(c);
	else if (c->state == CARRIER_OPEN)
		stream_want(c->s, ST_READ | ST_WRITE);	/* nobody is told of a broken connection from inside */
	return 0;
}

void
carrier_cancel(struct carrier_ask *a)
{
	struct carrier *c = a->c;
	uint64_t now;
	bool stuck;

	if (c == NULL)
		return;
	now = c->r->loop->now_ms;
	list_remove(&a->node);
	if (c->doh != NULL && a->sent_ms != 0)
		doh_forget(c, a);
	free(a->query);
	free(a->answer);
	a->query = a->answer = NULL;
	a->c = NULL;
	c->n_asks--;
	/* a path that lets nothing through any more: questions that are left, or come, try a new one */
	stuck = a->sent_ms != 0 ? now - a->sent_ms >= CARRIER_STUCK_MS && c->heard_ms <= a->sent_ms :
	    c->state != CARRIER_OPEN && now - c->heard_ms >= CARRIER_STUCK_MS;
	if (c->state == CARRIER_CLOSED)
		return;
	if (c->n_asks > 0 && stuck)
		loop_defer(c->r->loop, &c->later);
	else if (stuck)
		carrier_close(c);
	else if (c->n_asks == 0)
		ev_timer_start(c->r->loop->ev, &c->idle);
}

void
carrier_stop(struct carrier *c)
{
	carrier_close(c);
	for (int i = 0; i < 2; i++)
		list_each_safe(n, tmp, i == 0 ? &c->sent : &c->waiting)
			carrier_cancel(container_of(n, struct carrier_ask, node));
}
