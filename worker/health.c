/* SPDX-License-Identifier: MIT */
/* See health.h. One instance per process; the lead's, from SERVE to DRAIN. A tick a second looks for owners that are due and
 * for groups that some worker wants checked (group/use.c); pump() starts tests while the budget lasts and is called again by
 * every result. */
#include "worker/health.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/addr.h"
#include "common/list.h"
#include "common/log.h"
#include "common/map.h"
#include "common/strutil.h"
#include "worker/delays.h"
#include "worker/group/group.h"
#include "worker/provider/provider.h"

enum {
	TIMEOUT_MAX_MS = 60000,
	MERGE_MS = 1000, /* calls within this time share a run */
	STEPS_MAX = 2048, /* nodes looked at in one turn of the loop */
	WANTS_MAX = 32, /* groups of one check; beyond, every node is wanted */
	BACKOFF_FROM = 3,
	BACKOFF_MAX = 3, /* failures in a row before the pause doubles; 2^3 intervals at most */
	OFFLINE_AFTER = 8,
	OFFLINE_MS = 10000 /* see no_network() */
};

struct check { /* one URL of an owner */
	const char *url, *expected;
	unsigned timeout_ms;
	const struct group *wants[WANTS_MAX]; /* nodes that one of them wants; n_wants 0: all */
	int n_wants;
};
struct owner {
	struct provider *p; /* or */
	struct group *g;
	struct check *checks;
	int n_checks;
	uint64_t interval_ms, next_ms; /* 0: only when asked */
	bool lazy;
	/* its run */
	struct list link; /* health.running */
	bool running, forced;
	uint64_t since_ms, forced_ms; /* when this run began; when the last one began that was asked for, 0 = never */
	uint32_t version;
	int check, node; /* where the walk is */
	int in_flight;
};
struct test {
	struct list link;
	struct owner *owner;
	struct outbound *ob;
	struct delay_test *t;
	const char *url;
	bool status_ok;
};
struct waiter {
	struct list link;
	struct owner *owner;
	health_done_fn *done;
	void *arg;
};
static bool routed(void);
static struct health {
	struct worker *w; /* NULL: not running */
	int64_t max, per_second;
	struct owner *owners;
	int n_owners;
	struct list running, tests, waiters;
	int in_flight, n_waiters;
	uint64_t tokens_ms, tokens; /* thousandths of a test, filled up to tokens_ms */
	unsigned unreachable; /* tests in a row that no_network() explains; from OFFLINE_AFTER on they do not count */
	uint64_t offline_until; /* then one test is made, and only if that finds a network the others */
	ev_timer tick, refill;
	struct loop_task again;
	struct health_world world;
} h = { .max = HEALTH_CONCURRENT, .per_second = HEALTH_PER_SECOND, .world = { delay_start, routed } };

static void pump(void);

/* ---- what there is to check */

int
health_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *own, *map;

	(void)g;
	h.max = HEALTH_CONCURRENT;
	h.per_second = HEALTH_PER_SECOND;
	if (cfg_map(cfg_get(root, "sluice"), "sluice", &own, err) != 0 ||
	    cfg_map(cfg_get(own, "health-check"), "sluice.health-check", &map, err) != 0)
		return -E_INVAL;
	if (cfg_int(
		cfg_get(map, "max-concurrent"), "sluice.health-check.max-concurrent", 1, HEALTH_CONCURRENT_MAX, &h.max, err) != 0)
		return -E_INVAL;
	return cfg_int(cfg_get(map, "per-second"), "sluice.health-check.per-second", 0, 100000, &h.per_second, err);
}

static unsigned
limit_timeout(int64_t ms)
{
	return ms <= 0 ? 5000 : ms > TIMEOUT_MAX_MS ? TIMEOUT_MAX_MS : (unsigned)ms;
}

static bool
uses(const struct group *g, const struct provider *p)
{
	for (int i = 0; i < g->n_use; i++)
		if (g->use[i] == &p->set)
			return true;
	return false;
}

/* A group's URL; one that is the provider's own is left to the provider, as the reference does (spec/config.md 18). */
static void
register_group(struct owner *o, const struct group *g)
{
	struct check *c = NULL;

	if (!g->url_written || !uses(g, o->p) || strcmp(g->url, o->p->set.url) == 0)
		return;
	if (o->interval_ms == 0 && g->interval_s > 0)
		o->interval_ms = (uint64_t)g->interval_s * 1000;
	for (int i = 0; i < o->n_checks; i++)
		if (strcmp(o->checks[i].url, g->url) == 0)
			c = &o->checks[i];
	if (c == NULL) {
		c = &o->checks[o->n_checks++];
		*c =
		    (struct check){ .url = g->url, .expected = g->expected, .timeout_ms = limit_timeout(o->p->check_timeout_ms) };
	} else if (c->n_wants == 0) {
		return; /* all nodes are wanted already */
	}
	if (c->n_wants == WANTS_MAX || g->filter == NULL)
		c->n_wants = 0;
	else
		c->wants[c->n_wants++] = g;
}

static void
add_provider(struct gen *gen, struct provider *p)
{
	struct owner *o = &h.owners[h.n_owners++];

	*o = (struct owner){ .p = p,
		.lazy = p->lazy,
		.interval_ms = p->check && p->check_interval_s > 0 ? (uint64_t)p->check_interval_s * 1000 : 0 };
	list_init(&o->link);
	o->checks = arena_array(&gen->arena, (size_t)gen->n_groups + 1, sizeof(*o->checks));
	if (p->set.url[0] != '\0')
		o->checks[o->n_checks++] = (struct check){
			.url = p->set.url, .expected = p->expected, .timeout_ms = limit_timeout(p->check_timeout_ms)
		};
	for (int i = 0; i < gen->n_groups; i++)
		register_group(o, group_of(gen->groups[i]));
}

static void
add_group(struct gen *gen, struct group *g)
{
	struct owner *o = &h.owners[h.n_owners++];

	*o = (struct owner){
		.g = g, .lazy = g->lazy, .interval_ms = g->interval_s > 0 ? (uint64_t)g->interval_s * 1000 : 0, .n_checks = 1
	};
	list_init(&o->link);
	o->checks = arena_alloc(&gen->arena, sizeof(*o->checks));
	o->checks[0] = (struct check){ .url = g->url, .expected = g->expected, .timeout_ms = limit_timeout(g->timeout_ms) };
}

static void
make_owners(struct gen *gen)
{
	int providers = gen->providers != NULL ? gen->providers->n : 0;

	h.owners = arena_array(&gen->arena, (size_t)providers + (size_t)gen->n_groups + 1, sizeof(*h.owners));
	for (int i = 0; i < providers; i++)
		add_provider(gen, gen->providers->p[i]);
	for (int i = 0; i < gen->n_groups; i++)
		if (group_of(gen->groups[i])->item != NULL && group_of(gen->groups[i])->n_own > 0)
			add_group(gen, group_of(gen->groups[i]));
}

static struct outbound *const *
nodes_of(const struct owner *o, int *n)
{
	*n = o->p != NULL ? o->p->set.n : o->g->n_own;
	return o->p != NULL ? o->p->set.nodes : o->g->own;
}

static const char *
owner_name(const struct owner *o)
{
	return o->p != NULL ? o->p->set.name : o->g->ob.name;
}

/* ---- which tests a run makes */

static bool
wanted(const struct check *c, const struct outbound *ob)
{
	for (int i = 0; i < c->n_wants; i++)
		if (group_wants(c->wants[i], ob))
			return true;
	return c->n_wants == 0;
}

/* Loop times and wall times meet only here: how long ago the node was last tested for this URL; UINT64_MAX: never. */
static uint64_t
tested_ago_ms(const struct outbound *ob, const char *url, unsigned *failures)
{
	const struct delay_history *d = outbound_history(ob, url);
	int64_t ago;

	*failures = 0;
	if (d == NULL || d->n == 0)
		return UINT64_MAX;
	while (*failures < d->n && d->e[((unsigned)d->first + d->n - 1 - *failures) % HISTORY_MAX].ms == 0)
		(*failures)++;
	ago = loop_wall_ns() - d->e[(d->first + d->n - 1) % HISTORY_MAX].at_ns;
	return ago < 0 ? 0 : (uint64_t)ago / 1000000;
}

static bool
in_flight(const struct outbound *ob, const char *url)
{
	list_each(n, &h.tests) {
		const struct test *t = container_of(n, struct test, link);

		if (t->ob == ob && strcmp(t->url, url) == 0)
			return true;
	}
	return false;
}

static bool
due(const struct owner *o, const struct check *c, const struct outbound *ob)
{
	uint64_t ago, pause = o->interval_ms / 2, running = h.w->loop.now_ms - o->since_ms;
	unsigned failures;

	if ((ob->flags & OB_UNSPOKEN) != 0 || !wanted(c, ob) || in_flight(ob, c->url))
		return false;
	ago = tested_ago_ms(ob, c->url, &failures);
	if (o->forced || ago == UINT64_MAX)
		return ago > running || ago == UINT64_MAX; /* not tested since this run began */
	if (failures >= BACKOFF_FROM) {
		unsigned steps = failures - BACKOFF_FROM + 1;

		/* a little less than a whole number of intervals: ticks come with jitter */
		pause = (o->interval_ms << (steps < BACKOFF_MAX ? steps : BACKOFF_MAX)) - o->interval_ms / 2;
	}
	return ago >= pause && ago > running;
}

/* The next test of a run; false at its end. *steps are spent on the way: at 0 it answers false with o still running. */
static bool
next_test(struct owner *o, int *steps, struct check **check, struct outbound **ob)
{
	struct outbound *const *nodes;
	int n;

	if (o->p != NULL && o->version != o->p->version) { /* other nodes: walk again, what was tested is passed over */
		o->version = o->p->version;
		o->check = o->node = 0;
	}
	nodes = nodes_of(o, &n);
	for (; o->check < o->n_checks; o->check++, o->node = 0) {
		for (; o->node < n; o->node++) {
			if ((*steps)-- <= 0)
				return false;
			if (!due(o, &o->checks[o->check], nodes[o->node]))
				continue;
			*check = &o->checks[o->check];
			*ob = nodes[o->node++];
			return true;
		}
	}
	return false;
}

/* ---- runs */

static void
tell_waiters(struct owner *o)
{
	list_each_safe(n, tmp, &h.waiters) {
		struct waiter *k = container_of(n, struct waiter, link);

		if (k->owner != o)
			continue;
		list_remove(&k->link);
		h.n_waiters--;
		k->done(k->arg);
		free(k);
	}
}

static void
end_run(struct owner *o)
{
	if (!o->running || o->check < o->n_checks || o->in_flight > 0)
		return;
	o->running = o->forced = false;
	list_remove(&o->link);
	log_debug("health check of %s is done", owner_name(o));
	tell_waiters(o);
}

static void
start_run(struct owner *o, bool forced)
{
	uint64_t now = h.w->loop.now_ms;

	if ((o->running && !forced) || (forced && o->forced_ms != 0 && now - o->forced_ms < MERGE_MS))
		return;
	if (forced)
		o->forced_ms = now;
	if (list_empty(&o->link))
		list_append(&h.running, &o->link);
	o->running = true;
	o->forced = forced;
	o->since_ms = now;
	o->check = o->node = 0;
	o->version = o->p != NULL ? o->p->version : 0;
}

/* ---- tests */

/* The route to an address of the documentation ranges is the default route: RFC 5737, RFC 3849. Nothing is sent. */
static bool
routed(void)
{
	static const char *const somewhere[] = { "192.0.2.1", "2001:db8::1" };
	bool found = false;

	for (size_t i = 0; i < countof(somewhere) && !found; i++) {
		union sockaddr_any to;
		struct ip ip;
		socklen_t n;
		int fd;

		if (ip_parse(&ip, somewhere[i]) != 0)
			continue;
		n = ip_to_sockaddr(&to, &ip, 9);
		fd = socket(to.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd == -1)
			continue;
		found = connect(fd, &to.sa, n) == 0;
		(void)close(fd);
	}
	return found;
}

/* A failure that says nothing of the node: without a default route names are not resolved, and what is not on the next link is
 * not reached. Someone who refused or answered wrongly was reached. */
static bool
no_network(int err)
{
	return (err == E_UNREACH || err == E_DNS || err == E_TIMEOUT) && !h.world.routed();
}

static void
on_result(void *arg, int ms, int err)
{
	struct test *t = arg;
	struct worker *w = h.w;
	struct owner *o = t->owner;
	int64_t now = loop_wall_ns();
	bool alive = err == 0 && t->status_ok;
	uint16_t recorded = err == 0 ? (uint16_t)(ms > 65534 ? 65534 : ms) : 0;
	unsigned was;

	list_remove(&t->link);
	h.in_flight--;
	o->in_flight--;
	was = h.unreachable;
	h.unreachable = no_network(err) ? was + 1 : 0;
	if (was >= OFFLINE_AFTER && h.unreachable == 0)
		log_info("health checks go on: there is a network again");
	if (h.unreachable >= OFFLINE_AFTER) {
		if (h.unreachable == OFFLINE_AFTER)
			log_warn("health checks pause: there is no network");
		h.offline_until = w->loop.now_ms + OFFLINE_MS;
	} else {
		delays_record(w, t->ob, t->url, recorded, alive, now);
	}
	free(t);
	end_run(o);
	pump();
}

static void
start_test(struct owner *o, const struct check *c, struct outbound *ob)
{
	struct test *t = calloc(1, sizeof(*t));
	int err = 0;

	if (t == NULL)
		return;
	t->owner = o;
	t->ob = ob;
	t->url = c->url;
	list_append(&h.tests, &t->link);
	h.in_flight++;
	o->in_flight++;
	t->t = h.world.test(ob, c->url, c->timeout_ms, c->expected, on_result, t, &err, &t->status_ok);
	if (t->t != NULL)
		return;
	list_remove(&t->link); /* a URL that cannot be tested: the history stays empty */
	h.in_flight--;
	o->in_flight--;
	free(t);
}

/* Whether the rate allows one more test now. */
static bool
take_token(void)
{
	uint64_t now = h.w->loop.now_ms, rate = (uint64_t)h.per_second, full = (uint64_t)h.max * 1000;

	if (rate == 0)
		return true;
	h.tokens += (now - h.tokens_ms) * rate;
	h.tokens_ms = now;
	if (h.tokens > full)
		h.tokens = full;
	if (h.tokens < 1000)
		return false;
	h.tokens -= 1000;
	return true;
}

static void
on_again(struct loop_task *task)
{
	(void)task;
	if (h.w != NULL)
		pump();
}

static void
on_refill(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)t;
	(void)events;
	pump();
}

/* Runs take turns, a test each. */
static void
pump(void)
{
	int steps = STEPS_MAX;

	while (!list_empty(&h.running) && h.in_flight < (h.unreachable >= OFFLINE_AFTER ? 1 : h.max) &&
	    h.w->loop.now_ms >= h.offline_until) {
		struct owner *o = container_of(h.running.next, struct owner, link);
		struct check *c;
		struct outbound *ob;

		if (!next_test(o, &steps, &c, &ob)) {
			if (o->check < o->n_checks) { /* enough for this turn */
				loop_defer(&h.w->loop, &h.again);
				return;
			}
			if (o->in_flight > 0) { /* waits for its last results */
				list_remove(&o->link);
				list_init(&o->link);
			} else {
				end_run(o);
			}
			continue;
		}
		if (!take_token()) {
			o->node--; /* this one comes next */
			ev_timer_again(h.w->loop.ev, &h.refill);
			return;
		}
		list_remove(&o->link);
		list_append(&h.running, &o->link);
		start_test(o, c, ob);
	}
	ev_timer_stop(h.w->loop.ev, &h.refill);
}

/* ---- time */

/* An interval, give or take a twentieth. */
static uint64_t
jitter(const struct owner *o)
{
	static const uint8_t seed[16];
	uint64_t v[2] = { h.w->loop.now_ms, (uint64_t)(o - h.owners) };

	return o->interval_ms - o->interval_ms / 20 + siphash13(seed, v, sizeof(v)) % (o->interval_ms / 10 + 1);
}

/* When a real connection last went through what this owner checks. */
static uint64_t
unused_ms(const struct owner *o)
{
	uint64_t best, now = h.w->loop.now_ms;

	if (o->g != NULL)
		return group_unused_ms(o->g, now);
	best = UINT64_MAX;
	for (int i = 0; i < h.w->gen->n_groups; i++) {
		const struct group *g = group_of(h.w->gen->groups[i]);

		if (uses(g, o->p) && group_unused_ms(g, now) < best)
			best = group_unused_ms(g, now);
	}
	return best;
}

static void
check_wanted(void)
{
	for (int i = 0; i < h.w->gen->n_groups; i++) {
		const struct group *g = group_of(h.w->gen->groups[i]);

		if (!group_take_wanted(g))
			continue;
		for (int k = 0; k < h.n_owners; k++)
			if (h.owners[k].g == g || (h.owners[k].p != NULL && uses(g, h.owners[k].p)))
				start_run(&h.owners[k], true);
	}
}

void
health_tick(struct worker *w)
{
	uint64_t now = w->loop.now_ms;

	if (h.w != w || now < h.offline_until)
		return;
	for (int i = 0; i < h.n_owners; i++) {
		struct owner *o = &h.owners[i];

		if (o->interval_ms == 0 || now < o->next_ms)
			continue;
		o->next_ms = now + jitter(o);
		if (!o->lazy || unused_ms(o) < o->interval_ms)
			start_run(o, false);
	}
	check_wanted();
	pump();
	delays_tick(w);
}

static void
on_tick(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	health_tick(t->data);
}

void
health_start(struct worker *w)
{
	h.w = w;
	list_init(&h.running);
	list_init(&h.tests);
	list_init(&h.waiters);
	loop_task_init(&h.again, on_again);
	h.n_owners = h.in_flight = h.n_waiters = 0;
	h.offline_until = 0;
	h.unreachable = 0;
	h.tokens_ms = w->loop.now_ms;
	h.tokens = (uint64_t)h.max * 1000;
	make_owners(w->gen);
	for (int i = 0; i < h.n_owners; i++)
		if (h.owners[i].interval_ms > 0) {
			h.owners[i].next_ms = w->loop.now_ms + jitter(&h.owners[i]);
			start_run(&h.owners[i], false);
		}
	ev_timer_init(&h.tick, on_tick, 1., 1.);
	h.tick.data = w;
	ev_timer_start(w->loop.ev, &h.tick);
	ev_timer_init(&h.refill, on_refill, 0., 0.05);
	pump();
}

void
health_stop(struct worker *w)
{
	if (h.w != w)
		return;
	ev_timer_stop(w->loop.ev, &h.tick);
	ev_timer_stop(w->loop.ev, &h.refill);
	loop_cancel(&h.again);
	list_each_safe(n, tmp, &h.tests) {
		struct test *t = container_of(n, struct test, link);

		if (h.world.test == delay_start)
			delay_cancel(t->t);
		list_remove(&t->link);
		free(t);
	}
	for (int i = 0; i < h.n_owners; i++)
		tell_waiters(&h.owners[i]);
	h.w = NULL;
}

void
health_nodes_changed(struct worker *w, const struct node_set *set)
{
	for (int i = 0; h.w == w && i < h.n_owners; i++)
		if (h.owners[i].p != NULL && &h.owners[i].p->set == set && h.owners[i].interval_ms > 0)
			start_run(&h.owners[i], false);
	if (h.w == w)
		pump();
}

int
health_check_now(struct worker *w, const char *name, health_done_fn *done, void *arg)
{
	struct owner *o = NULL;
	struct waiter *k;

	for (int i = 0; h.w == w && i < h.n_owners && o == NULL; i++)
		if (strcmp(owner_name(&h.owners[i]), name) == 0)
			o = &h.owners[i];
	if (o == NULL)
		return -E_NOTFOUND;
	k = h.n_waiters < HEALTH_WAITERS_MAX ? calloc(1, sizeof(*k)) : NULL;
	if (k == NULL)
		return -E_LIMIT;
	k->owner = o;
	k->done = done;
	k->arg = arg;
	list_append(&h.waiters, &k->link);
	h.n_waiters++;
	start_run(o, true);
	pump();
	if (!o->running) /* nothing to test, or it was just done */
		tell_waiters(o);
	return 0;
}

void
health_forget(void *arg)
{
	if (h.w == NULL)
		return;
	list_each_safe(n, tmp, &h.waiters) {
		struct waiter *k = container_of(n, struct waiter, link);

		if (k->arg == arg) {
			list_remove(&k->link);
			h.n_waiters--;
			free(k);
		}
	}
}

void
health_set_world(const struct health_world *world)
{
	h.world = *world;
}
