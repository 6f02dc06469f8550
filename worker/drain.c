/* SPDX-License-Identifier: MIT */
/* The end of a worker: of a generation that was replaced (DRAIN), or of the service (STOP). Neither cuts a connection before
 * its time. A slow timer looks whether anything is left; nothing else in the process needs to know. */
#include "worker/drain.h"

#include "common/log.h"
#include "worker/core/conn.h"
#include "worker/dns/resolver.h"
#include "worker/dns/serve.h"
#include "worker/geo.h"
#include "worker/handoff.h"
#include "worker/health.h"
#include "worker/inbound/inbound.h"
#include "worker/ipc.h"
#include "worker/source.h"

/* A worker that has handed everything over within a millisecond still answers what the controller had asked it. */
enum { LINGER_MS = 50 };

static ev_timer check_timer, grace_timer;
static bool stopping;
static uint64_t began_ms;	/* of the drain */

void
drain_check(struct worker *w)
{
	if (w->draining && !stopping && w->loop.now_ms - began_ms < LINGER_MS)
		return;
	if ((w->draining || stopping) && w->n_conns == 0 && (!handoff_busy() || stopping) && dns_serve_pending(w->gen) == 0 &&
	    resolver_pending(w->gen) == 0)
		ipc_end(w);
}

static void
on_check(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	drain_check(t->data);
}

static void
watch(struct worker *w)
{
	dns_serve_pause(w->gen);
	for (int i = 0; i < w->gen->n_inbounds; i++)
		inbound_pause(w->gen->inbounds[i]);
	if (ev_is_active(&check_timer))
		return;
	ev_timer_init(&check_timer, on_check, 0.02, 0.05);
	check_timer.data = w;
	ev_timer_start(w->loop.ev, &check_timer);
}

void
drain_start(struct worker *w)
{
	w->draining = true;
	w->serving = false;
	began_ms = w->loop.now_ms;
	health_stop(w);
	sources_stop(w);
	geo_stop(w);
	watch(w);
	handoff_give(w);
	log_debug("draining, %u connections", w->n_conns);
}

static void
on_grace(struct ev_loop *loop, ev_timer *t, int events)
{
	struct worker *w = t->data;

	(void)loop;
	(void)events;
	conns_close_all(w, BY_STOP);
	ipc_end(w);
}

void
drain_stop(struct worker *w, uint32_t grace_ms)
{
	stopping = true;
	health_stop(w);
	sources_stop(w);
	geo_stop(w);
	watch(w);
	ev_timer_stop(w->loop.ev, &grace_timer);
	ev_timer_init(&grace_timer, on_grace, grace_ms / 1000.0, 0);
	grace_timer.data = w;
	ev_timer_start(w->loop.ev, &grace_timer);
}
