/* SPDX-License-Identifier: MIT */
/* See nodes.h. */
#include "worker/nodes.h"

#include <string.h>

#include "common/image.h"
#include "common/log.h"
#include "worker/core/conn.h"
#include "worker/health.h"
#include "worker/outbound/outbound.h"
#include "worker/provider/provider.h"

enum { RECLAIM_S = 60 };

static ev_timer tick;

/* ---- taking nodes */

static void
log_warnings(const struct provider *p, const struct cfg_node *root)
{
	cfg_each(c, cfg_get(root, "warnings"))
		log_warn("proxy-provider %.128s: %s", p->set.name, cfg_text(c));
}

static int
take(struct source *s, const struct msg_image *m, int fd, bool *changed, struct cfg_err *err)
{
	struct provider *p = s->owner;
	struct tree t;
	int rc = tree_open(&t, fd, err);

	(void)m;
	if (rc != 0)
		return rc;
	rc = provider_load(p, cfg_get(t.root, "proxies"), changed, err);
	if (rc == 0 && *changed && s->w->lead)
		log_warnings(p, t.root);
	tree_close(&t);
	return rc;
}

static int
check(struct source *s, int fd, struct cfg_err *err)
{
	struct provider *p = s->owner;
	const struct cfg_node *list;
	struct tree t;
	bool changed;
	int rc = tree_open(&t, fd, err);

	if (rc != 0)
		return rc;
	list = cfg_get(t.root, "proxies");
	rc = provider_check(p, list, err);
	if (rc != 0)		/* this fails likewise, and names the bad nodes */
		rc = provider_load(p, list, &changed, err);
	tree_close(&t);
	return rc;
}

static bool
empty(const struct source *s)
{
	return ((const struct provider *)s->owner)->set.n == 0;
}

static void
changed(struct source *s)
{
	struct provider *p = s->owner;

	log_info("[Provider] %.128s's proxies have been updated: %d", s->name, p->set.n);
	health_nodes_changed(s->w, &p->set);
}

static const struct source_type nodes_type = {
	.change = CHANGE_NODES, .what = "proxy provider", .check = check, .take = take, .empty = empty, .changed = changed
};

static int
take_payload(struct provider *p)
{
	struct cfg_err err = { 0 };
	bool changed;
	int rc = provider_load(p, cfg_get(p->item, "payload"), &changed, &err);

	if (rc == 0)
		p->updated_ns = loop_wall_ns();
	else if (p->gen->w->lead)
		log_error("initial proxy provider %.128s error: %s", p->set.name, err.text);
	return rc;
}

static struct source *
new_source(struct gen *g, struct provider *p)
{
	struct source *s = arena_alloc(&g->arena, sizeof *s);

	*s = (struct source){ .w = g->w, .type = &nodes_type, .owner = p, .name = p->set.name, .item = p->item, .url = p->url,
		.path = p->path, .proxy = p->proxy, .vehicle = p->vehicle, .kind = IMAGE_PROXIES, .format = FORMAT_YAML,
		.interval_s = p->interval_s, .size_limit = p->size_limit, .updated_ns = &p->updated_ns, .info = &p->info };
	return s;
}

int
nodes_load(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	struct providers *ps = g->providers;

	(void)root;
	(void)err;
	for (int i = 0; i < ps->n; i++) {
		struct provider *p = ps->p[i];

		p->source = new_source(g, p);
		if (p->vehicle == VEHICLE_INLINE)
			(void)take_payload(p);
		else if (!g->w->test) /* -t only checks what the file says */
			source_ask(p->source);
	}
	/* a payload stands in for a file that has nothing */
	for (int i = 0; i < ps->n && !g->w->test; i++)
		if (ps->p[i]->vehicle != VEHICLE_INLINE && source_take_first(ps->p[i]->source) != 0 &&
		    cfg_count(cfg_get(ps->p[i]->item, "payload")) > 0)
			(void)take_payload(ps->p[i]);
	return 0;
}

void
nodes_update(struct worker *w, const char *provider, source_done_fn *done, void *arg)
{
	struct provider *p = provider_find(w->gen, provider);

	if (p == NULL)
		done(arg, 404, "Resource not found");
	else
		source_update(p->source, done, arg);
}

/* ---- time */

/* Marks what connections use; what is not marked and old enough goes. Of connections whose chain does not tell everything
 * only the age is known. */
static void
reclaim(struct worker *w)
{
	static unsigned mark = 1u << 24; /* beyond what the parser's marks were */
	uint64_t since = UINT64_MAX;
	int64_t now_ns = loop_wall_ns();

	if (w->gen->providers == NULL || w->gen->providers->n_retired == 0)
		return;
	mark++;
	list_each(n, &w->conns) {
		const struct conn *c = container_of(n, struct conn, link);
		bool known = c->chain.n < CHAIN_MAX;

		for (int i = 0; i < c->chain.n; i++) {
			c->chain.ob[i]->visiting = mark;
			known &= c->chain.ob[i]->dialer == NULL;
		}
		if (!known) {
			uint64_t age = now_ns > c->start_ns ? (uint64_t)(now_ns - c->start_ns) / 1000000 + 1 : 1;
			uint64_t began = w->loop.now_ms > age ? w->loop.now_ms - age : 0;

			since = began < since ? began : since;
		}
	}
	providers_reclaim(w->gen, mark, since);
}

static void
on_tick(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	reclaim(t->data);
}

void
nodes_start(struct worker *w)
{
	if (w->gen->providers->n == 0)
		return;
	ev_timer_init(&tick, on_tick, RECLAIM_S, RECLAIM_S);
	tick.data = w;
	ev_timer_start(w->loop.ev, &tick);
}
