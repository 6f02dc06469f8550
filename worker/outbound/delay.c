/* SPDX-License-Identifier: MIT */
/* Delay tests: one HEAD request through a node, timed from before the dial to the head of the answer; with unified-delay a
 * second one on the same connection is what counts (spec/config.md 14.6, spec/api.md 2.8). Called by the API and the health
 * checks. A test owns its stream and its timer until it has told its result or is cancelled. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/codec/http1.h"
#include "worker/codec/url.h"
#include "worker/match/range.h"
#include "worker/outbound/outbound.h"
#include "worker/worker.h"

enum { ANSWER_MAX = 16384, TARGET_MAX = 2048, HEADS_MAX = 8 /* 1xx answers before the real one */ };

struct delay_test {
	struct outbound *ob;
	struct stream *s;
	delay_cb *done;
	void *arg;
	bool *status_ok;
	struct ranges expected;
	ev_timer timer;
	struct loop_task task;		/* the reaper's */
	struct tls_client_opts tls;
	char host[HOST_MAX + 1];	/* as the certificate shall have it */
	char request[TARGET_MAX + HOST_MAX + 128];
	size_t request_len, sent;
	uint64_t start_ms;
	int first_ms;			/* of the first request; 0: still waiting for it */
	bool unified;
	int heads;
	size_t seen, len;
	uint8_t in[ANSWER_MAX];
};

static int
write_request(struct delay_test *t, const struct url *u)
{
	char host[HOST_MAX + 16];
	int n;

	url_host_field(u, host, sizeof(host));
	n = snprintf(t->request, sizeof(t->request), "HEAD %s%.*s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Go-http-client/1.1\r\n\r\n",
	    u->path_len > 0 && *u->path == '/' ? "" : "/", (int)u->path_len, u->path, host);
	if (n < 0 || (size_t)n >= sizeof(t->request))
		return -E_INVAL;
	t->request_len = (size_t)n;
	return 0;
}

/* ---- the life of a test */

static void
test_free(struct loop_task *task)
{
	struct delay_test *t = container_of(task, struct delay_test, task);

	free(t);
}

/* The stream may still look at our TLS options until it is reaped, so it is buried first. */
void
delay_cancel(struct delay_test *t)
{
	struct loop *l;

	if (t == NULL)
		return;
	l = &t->ob->gen->w->loop;
	ev_timer_stop(l->ev, &t->timer);
	stream_close(t->s, CLOSE_RESET);
	t->s = NULL;
	loop_bury(l, &t->task);
}

static void
finish(struct delay_test *t, int ms, int err)
{
	delay_cb *done = t->done;
	void *arg = t->arg;

	if (t->first_ms != 0 && err != 0) {	/* the second request failed: the first one counts */
		ms = t->first_ms;
		err = 0;
	}
	delay_cancel(t);
	done(arg, ms, err);
}

static int
elapsed(const struct delay_test *t)
{
	uint64_t ms = loop_clock_ms() - t->start_ms;

	return ms < 1 ? 1 : ms > 65534 ? 65534 : (int)ms;	/* 65535 means unknown */
}

/* 0, or a positive code: the test is over then. */
static int
send_request(struct delay_test *t)
{
	while (t->sent < t->request_len) {
		ssize_t n = stream_write(t->s, t->request + t->sent, t->request_len - t->sent);

		if (n == -E_AGAIN)
			break;
		if (n <= 0)
			return n == 0 ? E_CLOSED : (int)-n;
		t->sent += (size_t)n;
	}
	stream_want(t->s, t->sent < t->request_len ? ST_READ | ST_WRITE : ST_READ);
	return 0;
}

static int
answered(struct delay_test *t, const struct http1_head *h)
{
	int ms = elapsed(t);

	if (t->first_ms == 0) {
		if (t->status_ok != NULL)
			*t->status_ok = range_match(&t->expected, h->status);
		if (t->unified && h->keep_alive) {
			t->first_ms = ms;
			t->start_ms = loop_clock_ms();
			t->sent = 0;
			return send_request(t);
		}
	}
	t->first_ms = 0;
	finish(t, ms, 0);
	return -E_EOF;		/* t is gone */
}

/* Takes every whole head off the buffer. 0 go on, > 0 failed, < 0 finished. */
static int
take_heads(struct delay_test *t)
{
	struct http1_head h;
	int n;

	for (;;) {
		n = http1_head_length(t->in, t->len, &t->seen);
		if (n == -E_AGAIN)
			return t->len == sizeof(t->in) ? E_PROTO : 0;
		if (n < 0 || http1_parse_response(t->in, (size_t)n, HTTP1_TO_HEAD, &h) != 0)
			return E_PROTO;
		t->len -= (size_t)n;
		memmove(t->in, t->in + n, t->len);
		t->seen = 0;
		if (h.status < 200) {
			if (++t->heads > HEADS_MAX)
				return E_PROTO;
			continue;
		}
		return answered(t, &h);
	}
}

static int
receive(struct delay_test *t)
{
	ssize_t n = stream_read(t->s, t->in + t->len, sizeof(t->in) - t->len);

	if (n == -E_AGAIN)
		return 0;
	if (n <= 0)
		return n == 0 ? E_CLOSED : (int)-n;
	t->len += (size_t)n;
	return take_heads(t);
}

static void
on_stream(struct stream *s, int events, void *arg)
{
	struct delay_test *t = arg;
	int rc = 0;

	if ((events & ST_FAIL) != 0)
		rc = s->err != 0 ? s->err : E_CLOSED;
	if (rc == 0 && (events & (ST_OPEN | ST_WRITE)) != 0 && t->sent < t->request_len)
		rc = send_request(t);
	if (rc == 0 && (events & ST_READ) != 0)
		rc = receive(t);
	if (rc > 0)
		finish(t, 0, rc);
}

static void
on_timeout(struct ev_loop *ev, ev_timer *timer, int revents)
{
	(void)ev;
	(void)revents;
	finish(timer->data, 0, E_TIMEOUT);
}

static struct stream *
dial(struct delay_test *t, const struct url *u)
{
	struct target to = { .port = u->port };
	struct dial d = { .to = &to };
	struct stream *s;

	(void)str_copy(t->host, sizeof(t->host), u->host);
	if (ip_parse(&to.ip, t->host) != 0)
		to = (struct target){ .host = t->host, .port = u->port };
	t->tls.server_name = t->host;
	s = outbound_dial(t->ob, &d);
	return s != NULL && u->https ? tls_client(s, &t->tls) : s;
}

struct delay_test *
delay_start(struct outbound *ob, const char *url, unsigned timeout_ms, const char *expected, delay_cb *done, void *arg,
    int *err, bool *status_ok)
{
	struct loop *l = &ob->gen->w->loop;
	struct delay_test *t = calloc(1, sizeof(*t));
	struct url u;

	*err = -E_NOMEM;
	if (t == NULL)
		return NULL;
	loop_task_init(&t->task, test_free);
	t->ob = ob;
	t->done = done;
	t->arg = arg;
	t->status_ok = status_ok;
	t->unified = ob->gen->general.unified_delay;
	if (url_parse(&u, url) != 0 || write_request(t, &u) != 0 ||
	    range_parse(&t->expected, expected != NULL ? expected : "", STATUS_MAX) != NULL) {
		*err = -E_INVAL;
		test_free(&t->task);
		return NULL;
	}
	t->start_ms = loop_clock_ms();
	t->s = dial(t, &u);
	if (t->s == NULL) {
		test_free(&t->task);
		return NULL;
	}
	stream_set_cb(t->s, on_stream, t);
	if ((t->s->state & (ST_OPEN | ST_FAIL)) == ST_OPEN)
		stream_ready(t->s, ST_OPEN);
	ev_now_update(l->ev);
	ev_timer_init(&t->timer, on_timeout, timeout_ms / 1000., 0.);
	t->timer.data = t;
	ev_timer_start(l->ev, &t->timer);
	*err = 0;
	return t;
}
