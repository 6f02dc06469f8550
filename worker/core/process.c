/* SPDX-License-Identifier: MIT */
/* Questions to the nethelper (process.h): called by dispatch.c for connections whose rules ask for a program, by ipc.c when the
 * supervisor sends a channel. A nethelper that dies costs its workers nothing: its successor gets what still waits. What it says
 * is checked like a stranger's. */
#include "worker/core/process.h"

#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"

static struct {				/* one per process */
	struct worker *w;
	struct peer helper;
	bool open, timer_made;
	bool answered;			/* there was an answer: the first helper has started */
	uint64_t first_ms, wanted_ms;	/* when the supervisor was asked first and last; 0 = never */
	struct list waiting;		/* struct process_req, the oldest first */
	unsigned n;
	uint32_t last_id;
	ev_timer timer;			/* runs while any wait: the oldest's deadline */
} finder;

static void
send_ask(const struct process_req *r)
{
	if (finder.open)
		(void)peer_send(&finder.helper, MSG_FIND, r->id, &r->find, sizeof r->find, NULL, 0);
}

static void
forget(struct process_req *r)
{
	list_remove(&r->link);
	r->id = 0;
	finder.n--;
}

/* ---- deadlines */

static void
arm(void)
{
	const struct process_req *r = container_of(finder.waiting.next, struct process_req, link);
	uint64_t now = finder.w->loop.now_ms;

	ev_timer_stop(finder.w->loop.ev, &finder.timer);
	if (list_empty(&finder.waiting))
		return;
	ev_timer_set(&finder.timer, r->deadline_ms > now ? (double)(r->deadline_ms - now) / 1000 : 0, 0);
	ev_timer_start(finder.w->loop.ev, &finder.timer);
}

static void
on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	unsigned late = 0;

	(void)loop;
	(void)t;
	(void)events;
	while (!list_empty(&finder.waiting)) {
		struct process_req *r = container_of(finder.waiting.next, struct process_req, link);

		if (r->deadline_ms > finder.w->loop.now_ms)
			break;
		forget(r);
		late++;
		r->cb(r->arg, 0, "");	/* may ask again, behind the others */
	}
	if (late > 0)
		log_debug("[Process] %u connections: no answer in %d ms", late, PROCESS_TIMEOUT_MS);
	arm();
}

static void
begin(struct worker *w)
{
	if (finder.timer_made)
		return;
	finder.timer_made = true;
	finder.w = w;
	list_init(&finder.waiting);
	ev_timer_init(&finder.timer, on_timer, 0, 0);
}

/* ---- the helper */

/* The helper has started: what waits has no more time than any question from now on. Deadlines thus never decrease along the
 * list. */
static void
started(void)
{
	uint64_t latest = finder.w->loop.now_ms + PROCESS_TIMEOUT_MS;

	finder.answered = true;
	list_each(n, &finder.waiting) {
		struct process_req *r = container_of(n, struct process_req, link);

		if (r->deadline_ms > latest)
			r->deadline_ms = latest;
	}
	arm();
}

static int
on_found(struct peer *peer, struct wire *b, const int *fds)
{
	static char path[FIND_PATH_MAX];
	struct msg_found m;

	(void)fds;
	if (wire_get(b, &m, sizeof m) != 0 || wire_get_str(b, path, sizeof path) != 0 || wire_done(b) != 0)
		return -E_PROTO;
	if (!finder.answered)
		started();
	list_each(n, &finder.waiting) {
		struct process_req *r = container_of(n, struct process_req, link);

		if (r->id != peer->cur_id)
			continue;
		forget(r);
		r->cb(r->arg, m.uid, path);
		break;
	}
	return 0;
}

static const struct imsg_handler helper_table[] = {
	{ MSG_FOUND, "FOUND", CH_ANY, sizeof(struct msg_found) + 4, sizeof(struct msg_found) + 4 + FIND_PATH_MAX, 0, 0,
	    on_found },
};

static void
on_helper_gone(struct peer *peer, const char *why)
{
	(void)peer;
	log_debug("nethelper: %s", why);
	finder.open = false;
}

void
process_channel(struct worker *w, int fd)
{
	begin(w);
	if (finder.open)
		peer_close(&finder.helper);
	peer_open(&finder.helper, w->loop.ev, fd, "nethelper", helper_table, countof(helper_table), w, on_helper_gone);
	finder.helper.state = CH_SERVING;
	finder.open = true;
	list_each(n, &finder.waiting)
		send_ask(container_of(n, struct process_req, link));
}

void
process_want(struct worker *w)
{
	uint64_t now = w->loop.now_ms;

	if (finder.open || w->test || w->sup.loop == NULL || (finder.wanted_ms != 0 && now - finder.wanted_ms < PROCESS_WANT_MS))
		return;
	finder.wanted_ms = now;
	if (finder.first_ms == 0)
		finder.first_ms = now;
	(void)peer_send(&w->sup, MSG_WANT_HELPER, 0, NULL, 0, NULL, 0);
}

int
process_ask(struct worker *w, struct process_req *r, const struct msg_find *find, process_cb *cb, void *arg)
{
	if (w->sup.loop == NULL && !finder.open)
		return -E_UNSUP;
	if (finder.n >= PROCESS_ASKS_MAX)
		return -E_LIMIT;
	begin(w);
	process_want(w);
	if (++finder.last_id == 0)
		finder.last_id = 1;
	*r = (struct process_req){ .find = *find, .id = finder.last_id, .cb = cb, .arg = arg };
	r->deadline_ms = w->loop.now_ms + PROCESS_TIMEOUT_MS;
	if (!finder.answered && finder.first_ms != 0 && finder.first_ms + PROCESS_START_MS > r->deadline_ms)
		r->deadline_ms = finder.first_ms + PROCESS_START_MS;
	list_append(&finder.waiting, &r->link);
	finder.n++;
	if (!ev_is_active(&finder.timer))
		arm();
	send_ask(r);
	return 0;
}

void
process_cancel(struct process_req *r)
{
	if (r->id != 0)
		forget(r);
}
