/* SPDX-License-Identifier: MIT */
/* Accepts clients on the listeners that the supervisor bound, decides about each request by router.c, and sends the answers.
 * Short calls go to civetweb (feed.c), streams to stream.c, API_ASYNC ones are parked here. Owns the listeners, the clients and
 * the parked calls.
 *
 * The answer's head is always made here: Date, framing, Connection and CORS are the connection's matter, not the endpoint's. */
#include "controller/front.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/addr.h"
#include "common/err.h"
#include "common/ev.h"
#include "common/list.h"
#include "common/log.h"
#include "common/map.h"
#include "common/strutil.h"
#include "controller/bridge.h"
#include "controller/call.h"
#include "controller/client.h"
#include "controller/ctl.h"
#include "controller/feed.h"
#include "controller/stream.h"
#include "controller/tls.h"

enum { ACCEPT_BATCH = 32, HEAD_MAX = 8192, ACCEPT_PAUSE_MS = 100 };

struct listener {
	int fd;				/* -1: free */
	enum front_kind kind;
	struct msg_listen key;
	struct front *front;
	ev_io io;
};

struct denied {				/* 401s of one source in this window */
	struct ip ip;
	unsigned count;
	ev_tstamp since;
};

struct front {
	struct ctl *ctl;
	const struct api_route *routes;
	struct listener listeners[FRONT_LISTENERS_MAX];
	struct list clients, dead;
	unsigned nclients;
	bool serving, draining;
	struct tls_server *tls;
	ev_prepare reaper;
	ev_timer pause;			/* out of descriptors: accepting goes on when it fires */
	struct call *parked[API_PARKED_MAX];
	uint64_t parked_seq;
	unsigned nparked;
	struct denied denied[FRONT_DENIED_SLOTS];
	time_t date_at;
	char date[40];
};

/* ---- the answer's bytes */

static const char *
date_now(struct front *f)
{
	time_t now = (time_t)ev_now(f->ctl->loop);
	struct tm tm;

	/* RFC 9110 5.6.7 */
	if (now != f->date_at && gmtime_r(&now, &tm) != NULL &&
	    strftime(f->date, sizeof(f->date), "%a, %d %b %Y %H:%M:%S GMT", &tm) > 0)
		f->date_at = now;
	return f->date;
}

/* 204 and 304 have neither body nor its fields (RFC 9110 15.3.5, 15.4.5). */
static struct blob *
make_head(struct call *call, int status, const char *type, const char *headers, size_t len, bool close)
{
	struct client *c = call->client;
	bool bare = status == 204 || status == 304 || status < 200;
	bool preflight = status == 200 && call->refused;
	char cors[ROUTER_CORS_MAX] = "", length[48] = "", head[HEAD_MAX];
	int n;

	if (call->conf != NULL)
		router_cors(call->conf, &call->http, &c->peer, preflight, cors);
	if (!bare)
		snprintf(length, sizeof(length), "Content-Length: %zu\r\n", len);
	n = snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\n%s%s%s%s%sDate: %s\r\n%s%s\r\n", status, http_reason(status),
	    type[0] != '\0' && !bare ? "Content-Type: " : "", !bare ? type : "", type[0] != '\0' && !bare ? "\r\n" : "", headers, cors,
	    date_now(c->front), length,
	    close ? "Connection: close\r\n" : call->http.minor == 0 ? "Connection: keep-alive\r\n" : "");
	return n > 0 && (size_t)n < sizeof(head) ? blob_copy(head, (size_t)n) : NULL;
}

void
front_answer(struct call *call, int status, const char *type, const char *headers, char *body, size_t len)
{
	struct client *c = call->client;
	bool close;

	if (c == NULL) {		/* went away; what was to be done is done */
		free(body);
		call_free(call);
		return;
	}
	close = call->http.close || call->http.method[0] == '\0' || c->front->draining || c->close_after;
	client_send(c, make_head(call, status, type, headers, len, close));
	if (len > 0 && status != 204 && status != 304 && !call->head_only)
		client_send(c, blob_take(body, len));
	else
		free(body);
	if (c->state != CL_DEAD) {	/* else it took the call along */
		c->call = NULL;
		call_free(call);
		client_answered(c, close);
	}
}

void
front_answer_reply(struct call *call, int status)
{
	struct reply *r = &call->reply;
	char *body = r->body;

	r->body = NULL;
	if (r->oom || status < 200 || status > 599) {
		free(body);
		front_answer(call, 500, "", "", NULL, 0);
		return;
	}
	front_answer(call, status, r->type, r->headers, body, r->len);
}

/* ---- refusals */

/* Fills call->reply with what the router's decision looks like. */
static void
refusal(struct call *call, int status)
{
	struct api_req *req = &call->req;

	req->reply = &call->reply;
	call->refused = true;
	switch (status) {
	case 200:			/* preflight: no body, no type */
		reply_empty(req, 200);
		break;
	case 404:
		reply_text(req, 404, "text/plain; charset=utf-8", "404 page not found\n");
		reply_header(req, "X-Content-Type-Options", "nosniff");
		break;
	case 405:
		reply_empty(req, 405);
		str_copy(call->reply.headers, sizeof(call->reply.headers), call->hit.allow);
		break;
	case 413:
		reply_error(
		    req, 413, str_starts(call->http.path, "/storage/") ? "payload exceeds 1MB limit" : "Request body too large");
		break;
	case 401:
		reply_error(req, 401, "Unauthorized");
		break;
	case 403:
		reply_error(req, 403, "Forbidden");
		break;
	default:
		reply_text(req, status, "text/plain; charset=utf-8", http_reason(status));
		break;
	}
}

void
front_refuse(struct call *call, int status)
{
	reply_clear(&call->reply);
	refusal(call, status);
	call->http.close = true;
	front_answer_reply(call, status);
}

void
front_late(struct client *c)
{
	struct call *call = c->call;

	if (call == NULL) {
		call = c->call = call_new(c);
		if (call == NULL) {
			client_close(c);
			return;
		}
	}
	front_refuse(call, 408);
}

/* True when a source had its share of 401s: the answer is held back, which slows guessing and locks nobody out. */
static bool
guesses_too_often(struct front *f, const struct client *c)
{
	struct denied *d = &f->denied[hash_bytes(&c->ip, sizeof(c->ip)) % FRONT_DENIED_SLOTS];
	ev_tstamp now = ev_steady();

	if (!ip_equal(&d->ip, &c->ip) || now - d->since > FRONT_DENIED_S) {
		d->ip = c->ip;
		d->since = now;
		d->count = 0;
	}
	return ++d->count > FRONT_DENIED_FREE;
}

void
front_delayed(struct call *call)
{
	if (call != NULL && call->refused)
		front_answer_reply(call, call->reply.status);
}

/* ---- requests */

static size_t
body_limit(const struct api_route *r)
{
	if (r == &api_doh)
		return API_DOH_BODY_MAX;
	if (str_equal(r->path, "/configs") && str_equal(r->method, "PUT"))
		return API_CONFIG_BODY_MAX;
	return str_starts(r->path, "/storage/") ? API_STORE_BODY_MAX : API_BODY_MAX;
}

void
front_head(struct call *call, int status)
{
	struct client *c = call->client;
	struct front *f = c->front;

	call->conf = ctl_conf(f->ctl);
	if (status != 0) {
		call->http.method = "";		/* half a request: its fields mean nothing */
		call->http.n = 0;
		front_refuse(call, status);
		return;
	}
	http_body_init(&call->framing, &call->http);
	status = router_decide(f->routes, call->conf, &call->http, &c->peer, &call->hit);
	call->body_max = CLIENT_DISCARD_MAX;
	if (status == 0)
		call->body_max = body_limit(call->hit.route);
	else
		refusal(call, status);
	if (call->http.length > (int64_t)call->body_max || (status != 0 && call->http.expect && call->http.length != 0)) {
		front_refuse(call, status != 0 ? status : 413);
		return;
	}
	if (call->http.expect && (call->http.chunked || call->http.length > 0)) {
		static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
		client_send(c, blob_copy(text, sizeof(text) - 1));
		client_flush(c);
	}
}

static void
park(struct front *f, struct call *call)
{
	int status, slot = -1;

	for (unsigned i = 0; i < API_PARKED_MAX && slot == -1; i++)
		if (f->parked[(f->parked_seq + i) % API_PARKED_MAX] == NULL)
			slot = (int)((f->parked_seq + i) % API_PARKED_MAX);
	if (slot == -1) {
		front_answer_reply(call, reply_error(&call->req, 503, "too many requests are waiting"));
		return;
	}
	/* slot in the low bits, never 0, never the same twice */
	call->req.parked = (++f->parked_seq << 16 | (uint64_t)slot) + 1;
	call->slot = slot;
	f->parked[slot] = call;
	f->nparked++;
	status = call->hit.route->handle(&call->req);
	if (status != API_PARKED)
		api_done(f->ctl, &call->req);
}

void
front_call(struct call *call)
{
	struct client *c = call->client;
	struct front *f = c->front;
	bool socket;
	int status;

	if (call->refused) {
		if (call->reply.status == 401 && guesses_too_often(f, c)) {
			call->http.close = true;
			client_timeout(c, 1.);
			return;
		}
		front_answer_reply(call, call->reply.status);
		return;
	}
	call_prepare(call, f->ctl);
	call->head_only = strcmp(call->http.method, "HEAD") == 0;
	socket = router_is_websocket(&call->http);
	call->req.upgrade = socket && (call->hit.route->flags & API_STREAM) != 0;
	if ((call->hit.route->flags & API_STREAM) != 0 && (socket || !stream_is_once(call->hit.route))) {
		status = call->hit.route->handle(&call->req);
		if (status != 0)
			front_answer_reply(call, status);
		else
			stream_start(f->ctl->streams, call);
	} else if ((call->hit.route->flags & API_ASYNC) != 0) {
		park(f, call);
	} else if (feed_submit(f->ctl->feed, call) != 0) {
		front_answer_reply(call, reply_error(&call->req, 503, "too many requests are waiting"));
	}
}

/* ---- parked calls */

static void
unpark(struct front *f, struct call *call)
{
	if (call->slot < 0 || f->parked[call->slot] != call)
		return;
	f->parked[call->slot] = NULL;
	f->nparked--;
	call->slot = -1;
}

struct api_req *
api_parked(struct ctl *ctl, uint64_t parked)
{
	uint64_t slot = (parked - 1) & 0xffff;
	struct call *call;

	if (parked == 0 || ctl->front == NULL || slot >= API_PARKED_MAX)
		return NULL;
	call = ctl->front->parked[slot];
	return call != NULL && call->req.parked == parked ? &call->req : NULL;
}

void
api_done(struct ctl *ctl, struct api_req *req)
{
	struct call *call = container_of(req, struct call, req);

	unpark(ctl->front, call);
	front_answer_reply(call, call->reply.status);
}

void
front_abandon(struct call *call)
{
	struct front *f = call->client->front;

	call->client = NULL;
	if (feed_has(f->ctl->feed, call))
		return;			/* front_answer() ends it */
	unpark(f, call);
	call_free(call);
}

/* ---- clients */

void
front_dead(struct client *c)
{
	list_remove(&c->link);
	list_append(&c->front->dead, &c->link);
	c->front->nclients--;
}

static void
reap(struct front *f)
{
	list_each_safe(n, tmp, &f->dead) {
		struct client *c = container_of(n, struct client, link);
		list_remove(n);
		client_free(c);
	}
}

static void
on_reap(struct ev_loop *loop, ev_prepare *w, int events)
{
	(void)loop;
	(void)events;
	reap(w->data);
}

/* Room for one more: the client that is idle and came first goes. */
static bool
make_room(struct front *f)
{
	if (f->nclients < FRONT_CLIENTS_MAX)
		return true;
	list_each(n, &f->clients) {
		struct client *c = container_of(n, struct client, link);
		if (c->state == CL_HEAD && c->in_len == 0) {
			client_close(c);
			return true;
		}
	}
	return false;
}

static void
take_client(struct listener *l, int fd, const union sockaddr_any *from)
{
	struct front *f = l->front;
	struct client *c;
	struct ip ip = { 0 };
	uint16_t port;
	int on = 1;

	if (!make_room(f)) {
		close(fd);
		return;
	}
	if (l->kind != FRONT_UNIX) {
		ip_from_sockaddr(&ip, &port, &from->sa);
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));	/* small answers must not wait for ACKs */
		(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
	c = client_new(f, f->ctl->loop, fd, l->kind == FRONT_TLS ? f->tls : NULL, &ip, l->kind == FRONT_UNIX);
	if (c == NULL)
		return;
	f->nclients++;
	list_append(&f->clients, &c->link);
}

static void
arm(struct front *f, bool on)
{
	for (int i = 0; i < FRONT_LISTENERS_MAX; i++) {
		struct listener *l = &f->listeners[i];
		if (l->fd == -1)
			continue;
		if (on && f->serving)
			ev_io_start(f->ctl->loop, &l->io);
		else
			ev_io_stop(f->ctl->loop, &l->io);
	}
}

static void
on_pause(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	arm(t->data, true);
}

static void
on_accept(struct ev_loop *loop, ev_io *w, int events)
{
	struct listener *l = w->data;
	struct front *f = l->front;

	(void)events;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		union sockaddr_any from;
		socklen_t len = sizeof(from);
		int fd = accept4(l->fd, &from.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd != -1) {
			take_client(l, fd, &from);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			log_warn("controller: cannot accept: %s", strerrordesc_np(errno));
			arm(f, false);
			ev_timer_stop(loop, &f->pause);
			ev_timer_set(&f->pause, ACCEPT_PAUSE_MS / 1000., 0.);
			ev_timer_start(loop, &f->pause);
		}
		if (errno != EINTR && errno != ECONNABORTED)
			break;
	}
}

/* ---- listeners */

static bool
same_key(const struct msg_listen *a, const struct msg_listen *b)
{
	return a->kind == b->kind && a->port == b->port && ip_equal(&a->ip, &b->ip) && strcmp(a->path, b->path) == 0;
}

bool
front_listens(struct front *f, enum front_kind kind, const struct msg_listen *key)
{
	for (int i = 0; i < FRONT_LISTENERS_MAX; i++)
		if (f->listeners[i].fd != -1 && f->listeners[i].kind == kind && same_key(&f->listeners[i].key, key))
			return true;
	return false;
}

int
front_listen(struct front *f, int fd, enum front_kind kind, const struct msg_listen *key)
{
	for (int i = 0; i < FRONT_LISTENERS_MAX; i++) {
		struct listener *l = &f->listeners[i];
		if (l->fd != -1)
			continue;
		l->fd = fd;
		l->kind = kind;
		l->key = *key;
		ev_io_init(&l->io, on_accept, fd, EV_READ);
		l->io.data = l;
		if (f->serving)
			ev_io_start(f->ctl->loop, &l->io);
		return 0;
	}
	close(fd);
	return -E_LIMIT;
}

static void
unlisten(struct front *f, struct listener *l)
{
	ev_io_stop(f->ctl->loop, &l->io);
	close(l->fd);
	l->fd = -1;
}

void
front_unlisten(struct front *f, const struct msg_listen *keep, const enum front_kind *kinds, int n,
    void (*gone)(struct ctl *ctl, const struct msg_listen *key))
{
	for (int i = 0; i < FRONT_LISTENERS_MAX; i++) {
		struct listener *l = &f->listeners[i];
		bool wanted = false;
		for (int k = 0; k < n; k++)
			wanted |= kinds[k] == l->kind && same_key(&keep[k], &l->key);
		if (l->fd == -1 || wanted)
			continue;
		unlisten(f, l);
		if (gone != NULL)
			gone(f->ctl, &l->key);
	}
}

void
front_tls(struct front *f, struct tls_server *tls)
{
	tls_server_free(f->tls);
	f->tls = tls;
}

void
front_serve(struct front *f)
{
	f->serving = true;
	arm(f, true);
}

/* ---- life */

struct front *
front_new(struct ctl *ctl, const struct api_route *routes)
{
	struct front *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->ctl = ctl;
	f->routes = routes;
	list_init(&f->clients);
	list_init(&f->dead);
	for (int i = 0; i < FRONT_LISTENERS_MAX; i++) {
		f->listeners[i].fd = -1;
		f->listeners[i].front = f;
	}
	ev_prepare_init(&f->reaper, on_reap);
	f->reaper.data = f;
	ev_prepare_start(ctl->loop, &f->reaper);
	ev_timer_init(&f->pause, on_pause, 0., 0.);
	f->pause.data = f;
	return f;
}

void
front_drain(struct front *f)
{
	f->draining = true;
	front_unlisten(f, NULL, NULL, 0, NULL);
	list_each_safe(n, tmp, &f->clients) {
		struct client *c = container_of(n, struct client, link);
		if (c->state < CL_BUSY)
			client_close(c);
		else
			c->close_after = true;
	}
}

void
front_relieved(struct front *f)
{
	f->draining = true;
	front_unlisten(f, NULL, NULL, 0, NULL);
}

void
front_close_idle(struct front *f)
{
	list_each_safe(n, tmp, &f->clients) {
		struct client *c = container_of(n, struct client, link);
		char byte;

		/* what the kernel holds was sent before our end could be seen: it gets its answer */
		if (c->state == CL_HEAD && c->in_len == 0 && recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == -1)
			client_close(c);
	}
}

bool
front_has_clients(const struct front *f)
{
	return f->nclients > 0;
}

bool
front_busy(const struct front *f)
{
	list_each(n, &f->clients) {
		const struct client *c = container_of(n, struct client, link);
		if (c->state == CL_SEND || c->head != NULL || (c->state == CL_BUSY && f->nparked == 0))
			return true;
	}
	return false;
}

void
front_free(struct front *f)
{
	if (f == NULL)
		return;
	front_unlisten(f, NULL, NULL, 0, NULL);
	list_each_safe(n, tmp, &f->clients)
		client_close(container_of(n, struct client, link));
	reap(f);
	ev_prepare_stop(f->ctl->loop, &f->reaper);
	ev_timer_stop(f->ctl->loop, &f->pause);
	tls_server_free(f->tls);
	free(f);
}
