/* SPDX-License-Identifier: MIT */
/* Deadlines and idle time-outs of all connections: one timer a second walks the list while there are any, so that a connection
 * costs no timer and an active one no system call. Called by main (start, stop), conn_new() and the API. Owns the timer: one
 * per process, as there is one list. */
#include "worker/core/conn.h"

#include <string.h>

static ev_timer tick;

static uint64_t
idle_limit(const struct conn *c)
{
	if (c->udp != NULL)	/* while draining only the remote's answers come here: the client's next datagram begins another one elsewhere */
		return c->w->draining ? UDP_DRAIN_IDLE_MS : UDP_IDLE_MS;
	if (c->dir[0].one_way || c->dir[1].one_way)
		return ONE_WAY_IDLE_MS;
	return c->dir[0].eof || c->dir[1].eof ? HALF_CLOSED_IDLE_MS : TCP_IDLE_MS;
}

static void
look_at(struct conn *c, uint64_t now)
{
	if (c->deadline_ms != 0 && now >= c->deadline_ms) {
		conn_deadline(c);
		return;
	}
	if (c->state != CONN_RELAY)
		return;
	if (now - c->active_ms >= idle_limit(c))
		conn_close(c, BY_IDLE);
	else if (c->dir[0].starved || c->dir[1].starved)
		relay_kick(c);
}

/* Closing one conn never unlinks another: a conn owns nobody else's. */
void
conns_sweep(struct worker *w)
{
	list_each_safe(n, next, &w->conns)
		look_at(container_of(n, struct conn, link), w->loop.now_ms);
}

static void
on_tick(struct ev_loop *ev, ev_timer *t, int revents)
{
	struct worker *w = t->data;

	(void)revents;
	conns_sweep(w);
	if (list_empty(&w->conns))
		ev_timer_stop(ev, t);
}

void
conns_start(struct worker *w)
{
	list_init(&w->conns);
	w->n_conns = 0;
	ev_timer_init(&tick, on_tick, 1.0, 1.0);
	tick.data = w;
}

void
conns_wake(struct worker *w)
{
	if (ev_is_active(&tick) || tick.data != w)
		return;
	ev_timer_set(&tick, 1.0, 1.0);
	ev_timer_start(w->loop.ev, &tick);
}

void
conns_close_all(struct worker *w, enum close_reason why)
{
	while (!list_empty(&w->conns))
		conn_close(container_of(w->conns.next, struct conn, link), why);
	if (ev_is_active(&tick))
		ev_timer_stop(w->loop.ev, &tick);
}

struct conn *
conn_find(struct worker *w, const uint8_t id[static 16])
{
	list_each(n, &w->conns) {
		struct conn *c = container_of(n, struct conn, link);

		if (c->listed && memcmp(c->id, id, 16) == 0)
			return c;
	}
	return NULL;
}
