/* SPDX-License-Identifier: MIT */
/* The streams. Subscribers of the same kind, pace and phase form a group with one timer; at each tick one frame is made and
 * sent to all of them. Log subscribers form one list; a record is formatted at most twice. Called by front.c (start), client.c
 * (input, time, end), bridge.c (log records) and life.c (end of all). Owns groups and subscriptions; clients are the front's.
 *
 * /traffic and /memory start in one of ten phases of a second, so that the first frame comes after about one second and not
 * with the next tick of somebody else. A question to the workers is in flight at most once a group. */
#include "controller/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/err.h"
#include "common/ev.h"
#include "common/list.h"
#include "common/log.h"
#include "common/strutil.h"
#include "controller/api/connections.h"
#include "controller/bridge.h"
#include "controller/call.h"
#include "controller/client.h"
#include "controller/ctl.h"
#include "controller/front.h"
#include "controller/ws.h"

enum stream_kind { ST_TRAFFIC, ST_MEMORY, ST_CONNECTIONS, ST_LOGS };
enum { PHASES = 10, ASK_MS = 1000 };

struct group {
	struct list link, subs;
	struct streams *streams;
	enum stream_kind kind;
	unsigned interval, phase;	/* ms; 0 .. PHASES - 1 */
	ev_timer timer;
	uint64_t up, down;		/* totals at the last tick */
	bool asking;			/* an answer is awaited; the group stays until it came */
	uint64_t asked;			/* number of questions so far */
};

struct sub {				/* one client's subscription */
	struct list link;		/* in its group, or in logs */
	struct streams *streams;
	struct client *client;
	struct group *group;		/* NULL: logs */
	struct ws *ws;			/* NULL: plain */
	bool chunked;
	bool first;			/* /memory: the frame of zeros is due */
	uint64_t due;			/* /connections: the question whose answer it waits for, 0 = none */
	int level;
	bool structured;
};

struct streams {
	struct ctl *ctl;
	struct list groups, logs;
	unsigned ngroups;
	uint64_t rss;			/* last heard of the supervisor */
};

/* ---- one frame for many */

struct frame {
	const char *text;
	size_t n;
	struct blob *ws, *chunk, *raw;	/* made when the first subscriber needs them */
};

/* RFC 9112 7.1 */
static struct blob *
make_chunk(const struct frame *f)
{
	char *p = malloc(f->n + 24);
	int head;

	if (p == NULL)
		return NULL;
	head = snprintf(p, 22, "%zx\r\n", f->n);
	memcpy(p + head, f->text, f->n);
	memcpy(p + head + f->n, "\r\n", 2);
	return blob_take(p, (size_t)head + f->n + 2);
}

static struct blob *
frame_for(struct frame *f, const struct sub *s)
{
	size_t len = 0;
	char *p;

	if (s->ws != NULL && f->ws == NULL) {
		p = ws_text(f->text, f->n, &len);
		f->ws = blob_take(p, len);
	} else if (s->ws == NULL && s->chunked && f->chunk == NULL) {
		f->chunk = make_chunk(f);
	} else if (s->ws == NULL && !s->chunked && f->raw == NULL) {
		f->raw = blob_copy(f->text, f->n);
	}
	return blob_hold(s->ws != NULL ? f->ws : s->chunked ? f->chunk : f->raw);
}

static void
frame_done(struct frame *f)
{
	blob_put(f->ws);
	blob_put(f->chunk);
	blob_put(f->raw);
}

/* A client whose queue is full is too slow: log events are dropped, of the rest it would get stale ones for ever, so it is
 * ended. */
static void
send_frame(struct sub *s, struct frame *f)
{
	struct client *c = s->client;
	bool full = c->nqueued >= STREAM_QUEUE_MAX || (c->nqueued > 0 && c->queued + f->n > STREAM_BYTES_MAX);

	if (c->state != CL_STREAM || (full && s->group == NULL))
		return;
	if (full) {
		log_debug("controller: a stream's client is too slow and was closed");
		client_close(c);
		return;
	}
	client_send(c, frame_for(f, s));	/* no memory: closes it */
	client_flush(c);
}

/* ---- groups */

static void
group_free(struct group *g)
{
	if (!list_empty(&g->subs) || g->asking)
		return;
	ev_timer_stop(g->streams->ctl->loop, &g->timer);
	list_remove(&g->link);
	g->streams->ngroups--;
	free(g);
}

static void
tick_traffic(struct group *g)
{
	struct bridge_totals t = { 0 };
	char text[160];
	struct frame f = { .text = text };
	int n;

	bridge_totals(g->streams->ctl, &t);
	n = snprintf(text, sizeof(text), "{\"up\":%llu,\"down\":%llu,\"upTotal\":%llu,\"downTotal\":%llu}\n",
	    (unsigned long long)(t.up > g->up ? t.up - g->up : 0), (unsigned long long)(t.down > g->down ? t.down - g->down : 0),
	    (unsigned long long)t.up, (unsigned long long)t.down);
	f.n = (size_t)n;
	g->up = t.up;
	g->down = t.down;
	list_each_safe(l, tmp, &g->subs)
		send_frame(container_of(l, struct sub, link), &f);
	frame_done(&f);
}

static void
heard_memory(struct streams *s, int err, const struct bridge_reply *r)
{
	struct msg_memory m;

	if (err != 0 || r->n == 0 || r->answer[0].len < sizeof(m))
		return;
	memcpy(&m, r->answer[0].data, sizeof(m));
	s->rss = m.rss;
}

static void
on_memory(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	static const char zero[] = "{\"inuse\":0,\"oslimit\":0}\n";
	struct group *g = arg;
	char text[80];
	struct frame first = { .text = zero, .n = sizeof(zero) - 1 }, f = { .text = text };

	heard_memory(g->streams, err, r);
	(void)ctl;
	f.n = (size_t)snprintf(text, sizeof(text), "{\"inuse\":%llu,\"oslimit\":0}\n", (unsigned long long)g->streams->rss);
	g->asking = false;
	list_each_safe(l, tmp, &g->subs) {
		struct sub *s = container_of(l, struct sub, link);
		bool is_first = s->first;
		s->first = false;
		send_frame(s, is_first ? &first : &f);	/* charts start at 0 (spec/api.md 2.4) */
	}
	frame_done(&first);
	frame_done(&f);
	group_free(g);
}

static void ask_connections(struct group *g);

static void
on_connections(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct group *g = arg;
	struct reply out = { 0 };
	struct frame f = { 0 };
	bool more = false;

	(void)err;			/* what did not come in time is left out */
	connections_render(&out, ctl, r, g->streams->rss);
	json_raw_n(&out, "\n", 1);
	f.text = out.body;
	f.n = out.len;
	g->asking = false;
	list_each_safe(l, tmp, &g->subs) {
		struct sub *s = container_of(l, struct sub, link);
		if (s->due == 0 || s->due > g->asked) {
			more |= s->due != 0;
			continue;
		}
		s->due = 0;
		if (!out.oom && s->client->nqueued == 0)	/* a slow client skips frames instead of piling up snapshots */
			send_frame(s, &f);
	}
	frame_done(&f);
	free(out.body);
	if (more)
		ask_connections(g);
	else
		group_free(g);
}

/* Memory first: both figures of one snapshot are then of the same moment. */
static void
on_connections_memory(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct group *g = arg;

	heard_memory(g->streams, err, r);
	if (bridge_ask(ctl, BRIDGE_WORKERS, MSG_QUERY, QUERY_CONNECTIONS, NULL, 0, -1, ASK_MS, on_connections, g) != 0) {
		g->asking = false;
		group_free(g);
	}
}

static void
ask_connections(struct group *g)
{
	if (g->asking)
		return;
	g->asking = true;
	g->asked++;
	if (bridge_ask(g->streams->ctl, BRIDGE_SUPERVISOR, MSG_MEMORY, 0, NULL, 0, -1, ASK_MS, on_connections_memory, g) != 0)
		g->asking = false;
}

static void
on_tick(struct ev_loop *loop, ev_timer *t, int events)
{
	struct group *g = t->data;

	(void)loop;
	(void)events;
	if (list_empty(&g->subs))
		group_free(g);
	else if (g->kind == ST_TRAFFIC)
		tick_traffic(g);
	else if (g->kind == ST_MEMORY && !g->asking)
		g->asking = bridge_ask(g->streams->ctl, BRIDGE_SUPERVISOR, MSG_MEMORY, 0, NULL, 0, -1, ASK_MS, on_memory, g) == 0;
	else if (g->kind == ST_CONNECTIONS) {
		list_each(l, &g->subs) {
			struct sub *s = container_of(l, struct sub, link);
			if (s->due == 0)
				s->due = g->asking ? g->asked : g->asked + 1;
		}
		ask_connections(g);
	}
}

static struct group *
group_of(struct streams *s, enum stream_kind kind, unsigned interval)
{
	unsigned phase = kind == ST_CONNECTIONS ? 0 : (unsigned)((uint64_t)(ev_now(s->ctl->loop) * PHASES) % PHASES);
	struct bridge_totals t = { 0 };
	struct group *g;

	list_each(l, &s->groups) {
		g = container_of(l, struct group, link);
		if (g->kind == kind && g->interval == interval && g->phase == phase)
			return g;
	}
	g = s->ngroups < STREAM_GROUPS_MAX ? calloc(1, sizeof(*g)) : NULL;
	if (g == NULL)
		return NULL;
	list_init(&g->subs);
	g->streams = s;
	g->kind = kind;
	g->interval = interval;
	g->phase = phase;
	bridge_totals(s->ctl, &t);
	g->up = t.up;
	g->down = t.down;
	ev_timer_init(&g->timer, on_tick, interval / 1000., interval / 1000.);
	g->timer.data = g;
	ev_timer_start(s->ctl->loop, &g->timer);
	list_append(&s->groups, &g->link);
	s->ngroups++;
	return g;
}

/* ---- logs */

static void
tap(struct streams *s)
{
	int lowest = LL_SILENT;

	list_each(l, &s->logs) {
		const struct sub *sub = container_of(l, struct sub, link);
		if (sub->level < lowest)
			lowest = sub->level;
	}
	bridge_log_tap(s->ctl, lowest);
}

static void
plain_record(struct reply *r, int level, const char *text, size_t n)
{
	json_raw(r, "{\"type\":\"");
	json_raw(r, log_level_name(level));
	json_raw(r, "\",\"payload\":");
	json_str(r, text, n);
	json_raw(r, "}\n");
}

static void
structured_record(struct reply *r, time_t now, int level, const char *text, size_t n)
{
	char clock[16] = "";
	struct tm tm;

	if (localtime_r(&now, &tm) != NULL)
		(void)strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
	json_raw(r, "{\"time\":\"");
	json_raw(r, clock);
	json_raw(r, "\",\"level\":\"");
	json_raw(r, level == LL_WARNING ? "warn" : log_level_name(level));	/* the one place that spells it so */
	json_raw(r, "\",\"message\":");
	json_str(r, text, n);
	json_raw(r, ",\"fields\":[]}\n");
}

void
stream_log(struct streams *s, int level, const char *text, size_t n)
{
	struct reply out[2] = { { 0 }, { 0 } };
	struct frame f[2] = { { 0 }, { 0 } };

	if (level < LL_DEBUG || level >= LL_SILENT)
		return;
	list_each_safe(l, tmp, &s->logs) {
		struct sub *sub = container_of(l, struct sub, link);
		int i = sub->structured;
		if (level < sub->level)
			continue;
		if (f[i].text == NULL) {
			if (i == 1)
				structured_record(&out[i], (time_t)ev_now(s->ctl->loop), level, text, n);
			else
				plain_record(&out[i], level, text, n);
			if (out[i].oom || out[i].body == NULL)
				break;
			f[i].text = out[i].body;
			f[i].n = out[i].len;
		}
		send_frame(sub, &f[i]);
	}
	for (int i = 0; i < 2; i++) {
		frame_done(&f[i]);
		free(out[i].body);
	}
}

/* ---- subscribing */

bool
stream_is_once(const struct api_route *route)
{
	return str_equal(route->path, "/connections");
}

static enum stream_kind
kind_of(const struct api_route *route)
{
	if (str_equal(route->path, "/traffic"))
		return ST_TRAFFIC;
	if (str_equal(route->path, "/memory"))
		return ST_MEMORY;
	return str_equal(route->path, "/logs") ? ST_LOGS : ST_CONNECTIONS;
}

static void
on_ws_out(void *arg, const void *p, size_t n)
{
	struct sub *s = arg;

	client_send(s->client, blob_copy(p, n));
}

static void
sub_free(struct sub *s)
{
	if (s == NULL)
		return;
	list_remove(&s->link);
	ws_free(s->ws);
	free(s);
}

static void
refuse(struct call *call, int status, const char *text)
{
	reply_text(&call->req, status, "text/plain; charset=utf-8", text);
	if (status == 426)
		reply_header(&call->req, "Sec-WebSocket-Version", "13");
	front_answer_reply(call, status);
}

/* The head leaves at once, also when the first event is far away. */
static void
send_head(struct call *call, const struct sub *s, const char *accept)
{
	struct client *c = call->client;
	char cors[ROUTER_CORS_MAX] = "", head[ROUTER_CORS_MAX + 512], date[40] = "";
	time_t now = (time_t)ev_now(c->loop);
	struct tm tm;
	int n;

	if (s->ws != NULL) {		/* RFC 6455 4.2.2; without CORS, as the reference */
		n = snprintf(head, sizeof(head),
		    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		    "Sec-WebSocket-Accept: %s\r\n\r\n",
		    accept);
	} else {
		if (call->conf != NULL)
			router_cors(call->conf, &call->http, &c->peer, false, cors);
		if (gmtime_r(&now, &tm) != NULL)
			(void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		n = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sDate: %s\r\n%s\r\n",
		    cors, date, s->chunked ? "Transfer-Encoding: chunked\r\n" : "Connection: close\r\n");
	}
	client_send(c, blob_copy(head, (size_t)n));
}

/* Puts the subscription where its frames come from; false when there are too many paces. */
static bool
join(struct streams *st, struct sub *s, const struct call *call)
{
	enum stream_kind kind = kind_of(call->hit.route);
	char text[16] = "";

	if (kind == ST_LOGS) {
		int level =
		    api_query(&call->req, "level", text, sizeof(text)) && text[0] != '\0' ? log_level_parse(text) : LL_INFO;
		s->level = level < 0 ? LL_INFO : level;
		s->structured = api_query(&call->req, "format", text, sizeof(text)) && str_equal(text, "structured");
		list_append(&st->logs, &s->link);
		return true;
	}
	s->group = group_of(st, kind, kind == ST_CONNECTIONS ? connections_interval(&call->req) : 1000);
	if (s->group == NULL)
		return false;
	list_append(&s->group->subs, &s->link);
	s->first = true;
	if (kind == ST_CONNECTIONS)
		s->due = s->group->asked + 1;
	return true;
}

void
stream_start(struct streams *st, struct call *call)
{
	struct client *c = call->client;
	char accept[WS_ACCEPT_MAX] = "";
	const char *why = "";
	struct sub *s;
	int status = call->req.upgrade ? ws_handshake(&call->http, accept, &why) : 0;

	if (status != 0) {
		refuse(call, status, why);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (s != NULL) {
		list_init(&s->link);
		s->streams = st;
		s->client = c;
		s->chunked = call->http.minor == 1;
		s->ws = call->req.upgrade ? ws_new(on_ws_out, s) : NULL;
	}
	if (s == NULL || (call->req.upgrade && s->ws == NULL) || !join(st, s, call)) {
		sub_free(s);
		front_answer_reply(call, reply_error(&call->req, 503, "too many streams"));
		return;
	}
	send_head(call, s, accept);
	if (c->state == CL_DEAD) {	/* and the call with it */
		struct group *g = s->group;
		sub_free(s);
		if (g != NULL)
			group_free(g);
		return;
	}
	c->call = NULL;
	c->sub = s;
	call_free(call);
	client_stream(c);
	if (c->state == CL_DEAD)
		return;			/* s is gone */
	if (s->group == NULL)
		tap(st);
	else if (s->group->kind == ST_CONNECTIONS)
		ask_connections(s->group);
}

/* ---- for client.c */

void
stream_gone(struct client *c)
{
	struct sub *s = c->sub;
	struct streams *st;
	struct group *g;

	c->sub = NULL;
	if (s == NULL)
		return;
	st = s->streams;
	g = s->group;
	sub_free(s);
	if (g == NULL) {
		tap(st);
	} else if (list_empty(&g->subs)) {	/* freed by its timer: a walk over its list may be under way */
		ev_timer_stop(c->loop, &g->timer);
		ev_timer_set(&g->timer, 0., g->interval / 1000.);
		ev_timer_start(c->loop, &g->timer);
	}
}

void
stream_input(struct client *c, const void *p, size_t n)
{
	struct sub *s = c->sub;
	int r;

	if (s == NULL || s->ws == NULL)
		return;			/* nothing more is said on a chunked stream */
	r = ws_input(s->ws, p, n);
	if (c->state == CL_DEAD)
		return;
	if (r != 0)
		client_linger(c);
	else
		client_flush(c);
}

void
stream_idle(struct client *c)
{
	struct sub *s = c->sub;

	if (s == NULL || s->ws == NULL)
		return;
	if (!ws_heard(s->ws)) {		/* not even a pong since the last ping */
		client_close(c);
		return;
	}
	ws_ping(s->ws);
	client_flush(c);
}

static void
end_one(struct sub *s, unsigned code)
{
	struct client *c = s->client;

	if (s->ws != NULL)
		ws_close(s->ws, (uint16_t)code);
	else if (s->chunked)
		client_send(c, blob_copy("0\r\n\r\n", 5));
	client_linger(c);
}

void
streams_end(struct streams *s, unsigned code)
{
	list_each_safe(n, tmp, &s->groups) {
		struct group *g = container_of(n, struct group, link);
		list_each_safe(l, t2, &g->subs)
			end_one(container_of(l, struct sub, link), code);
	}
	list_each_safe(n, tmp, &s->logs)
		end_one(container_of(n, struct sub, link), code);
}

struct streams *
streams_new(struct ctl *ctl)
{
	struct streams *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->ctl = ctl;
	list_init(&s->groups);
	list_init(&s->logs);
	return s;
}

void
streams_free(struct streams *s)
{
	if (s == NULL)
		return;
	list_each_safe(n, tmp, &s->groups) {
		struct group *g = container_of(n, struct group, link);
		g->asking = false;
		group_free(g);
	}
	free(s);
}
