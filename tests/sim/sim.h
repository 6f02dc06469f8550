/* SPDX-License-Identifier: MIT */
/* A world for groups and health checks: a clock of its own, nodes that answer as a script or a seed says, and a second worker
 * that hears of results a little later. The promises of worker/health.h are looked at here with every test: the budget, no
 * node tested twice at once, dead ones left alone for longer and longer. The same seed gives the same run. */
#ifndef SLUICE_TESTS_SIM_H
#define SLUICE_TESTS_SIM_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "common/map.h"
#include "common/strutil.h"
#include "tests/unit/outbound_kit.h"
#include "worker/health.h"

enum { STEP_MS = 100, LOOK_MS = 800, START_MS = 1000000 };
enum { NODES = 24, LAZY_NODES = 6, PENDING_MAX = 2048, TOLD_MAX = 4096, STARTS_MAX = 256 };
static const char sim_url[] = "http://t/204";

struct node_script {
	bool dead, unreachable; /* unreachable: as an IPv6 node on a machine that has none */
	unsigned ms;
};
struct pending {
	struct outbound *ob;
	const char *url;
	uint64_t due_ms;
	delay_cb *done;
	void *arg;
	bool *status_ok;
	bool offline; /* as it was when the test began */
};
struct told { /* on its way to the other worker */
	char provider[8], node[8], url[32];
	uint64_t due_ms;
	int64_t at_ns;
	uint16_t ms;
	bool alive;
};
static struct sim {
	struct kit k, other; /* the lead, and a worker that only hears */
	bool two;
	struct shm_shared shared;
	uint64_t now_ms, rng, seed;
	struct node_script node[NODES], lazy_node[LAZY_NODES];
	struct pending pending[PENDING_MAX];
	int n_pending, max_pending, tests, lazy_tests;
	struct told told[TOLD_MAX];
	int n_told;
	uint64_t starts[STARTS_MAX]; /* a ring of the last tests' times, for the rate */
	unsigned n_starts;
	int most_in_second, budget, rate;
	uint64_t forced_ms; /* when a check was last asked for: back-off does not count */
	uint64_t interval_ms; /* of what is tested; 0: back-off is not looked at */
	bool offline, news; /* news: something was recorded since the last look */
	uint64_t trace;
} s;

static inline int64_t
sim_wall(void)
{
	return 1700000000000000000LL + (int64_t)s.now_ms * 1000000;
}

static inline bool
sim_routed(void)
{
	return !s.offline;
}

static inline uint64_t
dice(uint64_t n)
{
	static const uint8_t key[16];

	s.rng = siphash13(key, &s.rng, sizeof(s.rng));
	return s.rng % n;
}

static inline struct node_script *
script_of(const struct outbound *ob)
{
	int i = 0;

	if (sscanf(ob->name, "n%d", &i) == 1 && i >= 0 && i < NODES)
		return &s.node[i];
	if (sscanf(ob->name, "z%d", &i) == 1 && i >= 0 && i < LAZY_NODES)
		return &s.lazy_node[i];
	fail_msg("%s is tested", ob->name);
	return NULL;
}

/* A node that failed three times in a row and more is tested again after 2, 4, then 8 intervals, less the half of one. */
static inline void
look_at_backoff(const struct outbound *ob, const char *url)
{
	const struct delay_history *h = outbound_history(ob, url);
	unsigned failures = 0, steps;
	uint64_t ago;

	while (h != NULL && failures < h->n && h->e[((unsigned)h->first + h->n - 1 - failures) % HISTORY_MAX].ms == 0)
		failures++;
	if (failures < 3 || s.interval_ms == 0 || s.offline || (s.forced_ms != 0 && s.now_ms - s.forced_ms < 90000))
		return;
	steps = failures - 2 < 3 ? failures - 2 : 3;
	ago = (uint64_t)(sim_wall() - h->e[(h->first + h->n - 1) % HISTORY_MAX].at_ns) / 1000000;
	if (ago < (s.interval_ms << steps) - s.interval_ms / 2)
		fail_msg("seed %llu, %llu s: %s is tested %llu ms after its failure number %u", (unsigned long long)s.seed,
		    (unsigned long long)(s.now_ms - START_MS) / 1000, ob->name, (unsigned long long)ago, failures);
}

static inline void
look_at_rate(void)
{
	int n = 0;

	s.starts[s.n_starts++ % STARTS_MAX] = s.now_ms;
	for (unsigned i = 0; i < s.n_starts && i < STARTS_MAX; i++)
		n += s.now_ms - s.starts[i] < 1000;
	s.most_in_second = n > s.most_in_second ? n : s.most_in_second;
	if (n > s.rate + s.budget)
		fail_msg("seed %llu: %d tests in a second", (unsigned long long)s.seed, n);
}

static struct delay_test *
sim_test(struct outbound *ob, const char *u, unsigned timeout_ms, const char *expected, delay_cb *done, void *arg, int *err,
    bool *status_ok)
{
	struct node_script *n = script_of(ob);
	unsigned takes = s.offline ? 1 : n->dead || n->ms > timeout_ms ? timeout_ms : n->ms;

	(void)expected;
	for (int i = 0; i < s.n_pending; i++)
		if (s.pending[i].ob == ob && strcmp(s.pending[i].url, u) == 0)
			fail_msg("seed %llu: %s is tested twice at once", (unsigned long long)s.seed, ob->name);
	look_at_backoff(ob, u);
	look_at_rate();
	assert_true(s.n_pending < PENDING_MAX);
	s.pending[s.n_pending++] = (struct pending){ ob, u, s.now_ms + takes, done, arg, status_ok, s.offline };
	s.max_pending = s.n_pending > s.max_pending ? s.n_pending : s.max_pending;
	s.tests++;
	s.lazy_tests += ob->name[0] == 'z';
	s.trace = s.trace * 31 + s.now_ms + (uint64_t)ob->name[1];
	*err = 0;
	return (struct delay_test *)(void *)&s; /* never looked into */
}

/* What the lead has recorded goes to the other worker, which is told in order. */
static inline void
tell(const struct outbound *ob, const char *url)
{
	const struct delay_history *h = outbound_history(ob, url);
	const struct delay_entry *e = h != NULL && h->n > 0 ? &h->e[(h->first + h->n - 1) % HISTORY_MAX] : NULL;
	struct told *t;

	if (!s.two || e == NULL || e->at_ns != sim_wall())
		return;
	assert_true(s.n_told < TOLD_MAX);
	t = &s.told[s.n_told++];
	*t = (struct told){ .due_ms = s.now_ms + STEP_MS, .at_ns = e->at_ns, .ms = e->ms, .alive = h->alive };
	(void)str_copy(t->provider, sizeof(t->provider), ob->provider);
	(void)str_copy(t->node, sizeof(t->node), ob->name);
	(void)str_copy(t->url, sizeof(t->url), url);
}

static inline void
hear(void)
{
	int n = 0;

	while (n < s.n_told && s.told[n].due_ms <= s.now_ms) {
		const struct told *t = &s.told[n++];
		struct outbound *ob = node_find(&s.other.g, t->provider, t->node);

		if (ob != NULL) {
			outbound_record(ob, t->url, t->ms, t->alive, t->at_ns);
			if (!t->alive)
				groups_died(ob);
		}
		s.news = true;
	}
	s.n_told -= n;
	memmove(s.told, s.told + n, (size_t)s.n_told * sizeof(s.told[0]));
}

static inline void
complete(void)
{
	for (int i = 0; i < s.n_pending;) {
		struct pending p = s.pending[i];
		struct node_script *n = script_of(p.ob);
		char url[32];

		if (p.due_ms > s.now_ms) {
			i++;
			continue;
		}
		s.pending[i] = s.pending[--s.n_pending];
		*p.status_ok = !n->dead;
		(void)str_copy(url, sizeof(url), p.url);
		if (p.offline || s.offline)
			p.done(p.arg, 0, p.offline && s.offline ? E_UNREACH : E_TIMEOUT);
		else
			p.done(p.arg, n->dead ? 0 : (int)n->ms, n->unreachable ? E_UNREACH : n->dead ? E_TIMEOUT : 0);
		tell(p.ob, url);
		s.news = true;
		i = 0;
	}
}

typedef void sim_look(void);

static inline void
run_looking(unsigned ms, sim_look *look)
{
	for (uint64_t end = s.now_ms + ms; s.now_ms < end;) {
		s.now_ms += STEP_MS;
		loop_fake_wall(sim_wall());
		loop_fake_clock(&s.k.w.loop, s.now_ms);
		if (s.two) {
			loop_fake_clock(&s.other.w.loop, s.now_ms);
			hear();
		}
		complete();
		health_tick(&s.k.w);
		loop_turn(&s.k.w.loop);
		if (s.n_pending > s.budget)
			fail_msg("seed %llu: %d tests at once", (unsigned long long)s.seed, s.n_pending);
		if (look != NULL && (s.news || s.now_ms % LOOK_MS == 0)) {
			look();
			s.news = false;
		}
	}
}

static inline void
run(unsigned ms)
{
	run_looking(ms, NULL);
}

static inline void
load(struct kit *k, const char *yaml)
{
	kit_shared = s.two ? &s.shared : NULL;
	if (kit_load(k, yaml) != 0)
		fail_msg("%s", k->err.text);
	kit_shared = NULL;
	k->w.workers = 1; /* not serving: nobody to tell but by tell() */
	list_init(&k->w.conns);
	loop_fake_clock(&k->w.loop, s.now_ms);
}

/* Nodes n0 ... n23 in provider p, checked as it says, and a configuration's groups and own keys behind them. */
static inline void
start_as(bool two, const char *groups, const char *own, const char *check)
{
	static char yaml[16384];
	size_t at = (size_t)snprintf(yaml, sizeof(yaml), "proxy-providers:\n  p:\n    type: inline\n%s    payload:\n", check);

	for (int i = 0; i < NODES; i++)
		at += (size_t)snprintf(
		    yaml + at, sizeof(yaml) - at, "      - {name: n%d, type: socks5, server: h, port: %d}\n", i, i + 1);
	(void)snprintf(yaml + at, sizeof(yaml) - at, "%s%s", groups, own);
	memset(&s, 0, sizeof(s));
	s.two = two;
	s.budget = HEALTH_CONCURRENT;
	s.rate = HEALTH_PER_SECOND;
	s.now_ms = START_MS;
	s.rng = 1;
	load(&s.k, yaml);
	s.k.w.lead = true;
	if (two)
		load(&s.other, yaml);
	for (int i = 0; i < NODES; i++)
		s.node[i].ms = (unsigned)(50 + 10 * i);
	for (int i = 0; i < LAZY_NODES; i++)
		s.lazy_node[i].ms = (unsigned)(50 + 10 * i);
	assert_int_equal(health_parse(&s.k.g, s.k.tree.root, &s.k.err), 0);
	health_set_world(&(struct health_world){ sim_test, sim_routed });
	loop_fake_wall(sim_wall());
	health_start(&s.k.w);
}

static inline void
stop(void)
{
	health_stop(&s.k.w);
	kit_free(&s.k);
	if (s.two)
		kit_free(&s.other);
	loop_fake_wall(0);
}

static inline struct group *
group_in(struct kit *k, const char *name)
{
	return group_of(kit_find(k, name));
}

static inline struct outbound *
node(const char *name)
{
	return node_find(&s.k.g, "p", name);
}

#endif
