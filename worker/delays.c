/* SPDX-License-Identifier: MIT */
/* Delay histories on the wire. Nodes are named with their provider, "" for configured ones. Called by health.c,
 * query_delay.c, change.c, apply.c. Formats: a result is str provider, str node, str url, u16 ms, u64 unix ns, bool alive;
 * CHANGE_DELAY is results to the message's end. The blob is u32 n, n * (str provider, str node, history, u8 urls, urls *
 * (str url, history)); a history is u8 n, bool alive, n * (u64 unix ns, u16 ms). */
#include "worker/delays.h"

#include <string.h>

#include "common/err.h"
#include "common/imsg_types.h"
#include "common/log.h"
#include "worker/group/group.h"
#include "worker/ipc.h"
#include "worker/outbound/outbound.h"
#include "worker/provider/provider.h"

enum {
	NAME_TEXT_MAX = 1024,
	URL_TEXT_MAX = 2048,
	BATCH_BYTES = 8192, /* of results that wait to be told; beyond it they go at once */
	TELL_MS = 100,
	KEEP_MS = 3000,
	BLOB_MAX = STATE_MAX - (64 << 10) /* nodes that do not fit start anew */
};

static struct wire batch;
static ev_timer tell_timer;
static uint64_t kept_ms;
static bool dirty;

/* ---- to the other workers */

void
delays_flush(struct worker *w)
{
	ev_timer_stop(w->loop.ev, &tell_timer);
	if (batch.len > sizeof(struct msg_change) && !batch.failed)
		peer_send_wire(&w->sup, MSG_CHANGE, 0, &batch, NULL, 0);
	else
		wire_free(&batch);
	batch = (struct wire){ .p = NULL };
}

static void
on_tell(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	delays_flush(t->data);
}

static void
tell(struct worker *w, const struct outbound *ob, const char *url, uint16_t ms, bool alive, int64_t at_ns)
{
	struct msg_change m = { .kind = CHANGE_DELAY };

	if (w->workers < 2 || !w->serving)
		return;
	if (batch.p == NULL) {
		wire_init(&batch);
		wire_put(&batch, &m, sizeof m);
		ev_timer_init(&tell_timer, on_tell, TELL_MS / 1000., 0.);
		tell_timer.data = w;
		ev_timer_start(w->loop.ev, &tell_timer);
	}
	wire_put_str(&batch, ob->provider);
	wire_put_str(&batch, ob->name);
	wire_put_str(&batch, url);
	wire_put_u16(&batch, ms);
	wire_put_u64(&batch, (uint64_t)at_ns);
	wire_put_bool(&batch, alive);
	if (batch.len >= BATCH_BYTES)
		delays_flush(w);
}

static void
take(struct outbound *ob, const char *url, uint16_t ms, bool alive, int64_t at_ns)
{
	outbound_record(ob, url, ms, alive, at_ns);
	if (!alive)
		groups_died(ob);
}

void
delays_record(struct worker *w, struct outbound *ob, const char *url, uint16_t ms, bool alive, int64_t at_ns)
{
	dirty = true;
	take(ob, url, ms, alive, at_ns);
	if (node_find(w->gen, ob->provider, ob->name) == ob) /* not one that has vanished meanwhile, whose name another may have */
		tell(w, ob, url, ms, alive, at_ns);
}

int
delays_take(struct gen *g, struct wire *in)
{
	char provider[NAME_TEXT_MAX], name[NAME_TEXT_MAX], url[URL_TEXT_MAX];
	uint16_t ms;
	uint64_t at;
	bool alive;
	struct outbound *ob;

	while (wire_left(in) > 0) {
		if (wire_get_str(in, provider, sizeof provider) != 0 || wire_get_str(in, name, sizeof name) != 0 ||
		    wire_get_str(in, url, sizeof url) != 0 || wire_get_u16(in, &ms) != 0 || wire_get_u64(in, &at) != 0 ||
		    wire_get_bool(in, &alive) != 0)
			return 400;
		ob = node_find(g, provider, name);
		if (ob != NULL)
			take(ob, url, ms, alive, (int64_t)at);
	}
	return 204;
}

/* ---- for the workers to come */

static void
put_history(struct wire *w, const struct delay_history *d)
{
	wire_put_u8(w, d->n);
	wire_put_bool(w, d->alive);
	for (unsigned i = 0; i < d->n; i++) {
		const struct delay_entry *e = &d->e[(d->first + i) % HISTORY_MAX];

		wire_put_u64(w, (uint64_t)e->at_ns);
		wire_put_u16(w, e->ms);
	}
}

/* false when there is no more room. */
static bool
put_node(struct wire *w, uint32_t *n, const struct outbound *ob)
{
	uint8_t urls = 0;

	if (ob->history.n == 0)
		return true;
	if (w->len > BLOB_MAX)
		return false;
	wire_put_str(w, ob->provider);
	wire_put_str(w, ob->name);
	put_history(w, &ob->history);
	for (const struct delay_extra *x = ob->extra; x != NULL; x = x->next)
		urls++;
	wire_put_u8(w, urls);
	for (const struct delay_extra *x = ob->extra; x != NULL; x = x->next) {
		wire_put_str(w, x->url);
		put_history(w, &x->h);
	}
	(*n)++;
	return true;
}

void
delays_save(struct gen *g, struct wire *out)
{
	size_t at = out->len;
	uint32_t n = 0;
	bool room = true;

	wire_put_u32(out, 0);
	for (size_t i = 0; i < g->proxies.cap && room; i++)
		if (g->proxies.slots[i].key != NULL)
			room = put_node(out, &n, g->proxies.slots[i].value);
	for (int p = 0; p < g->n_sets && room; p++)
		for (int i = 0; i < g->sets[p]->n && room; i++)
			room = put_node(out, &n, g->sets[p]->nodes[i]);
	wire_set_u32(out, at, n);
}

static int
get_history(struct wire *w, struct delay_history *d)
{
	*d = (struct delay_history){ .alive = true };
	if (wire_get_u8(w, &d->n) != 0 || d->n > HISTORY_MAX || wire_get_bool(w, &d->alive) != 0)
		return -E_PROTO;
	for (unsigned i = 0; i < d->n; i++) {
		uint64_t at;

		if (wire_get_u64(w, &at) != 0 || wire_get_u16(w, &d->e[i].ms) != 0)
			return -E_PROTO;
		d->e[i].at_ns = (int64_t)at;
	}
	return 0;
}

static int
get_node(struct gen *g, struct wire *w)
{
	char provider[NAME_TEXT_MAX], name[NAME_TEXT_MAX], url[URL_TEXT_MAX];
	struct delay_history d;
	struct outbound *ob;
	uint8_t urls;

	if (wire_get_str(w, provider, sizeof provider) != 0 || wire_get_str(w, name, sizeof name) != 0 ||
	    get_history(w, &d) != 0 || wire_get_u8(w, &urls) != 0)
		return -E_PROTO;
	ob = node_find(g, provider, name);
	if (ob != NULL && (ob->flags & OB_UNSPOKEN) != 0)
		ob = NULL;
	if (ob != NULL)
		ob->history = d;
	while (urls-- > 0) {
		if (wire_get_str(w, url, sizeof url) != 0 || get_history(w, &d) != 0)
			return -E_PROTO;
		if (ob != NULL)
			outbound_set_history(ob, url, &d);
	}
	return 0;
}

int
delays_load(struct gen *g, struct wire *in)
{
	uint32_t n;

	if (wire_get_u32(in, &n) != 0)
		return -E_PROTO;
	while (n-- > 0)
		if (get_node(g, in) != 0)
			return -E_PROTO;
	return wire_done(in);
}

void
delays_tick(struct worker *w)
{
	struct wire out;

	if (!dirty || w->loop.now_ms - kept_ms < KEEP_MS)
		return;
	dirty = false;
	kept_ms = w->loop.now_ms;
	wire_init(&out);
	delays_save(w->gen, &out);
	ipc_save(w, STATE_DELAYS, &out);
}
