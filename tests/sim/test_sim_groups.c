/* SPDX-License-Identifier: MIT */
/* Groups and health checks with a clock and a network of their own: nodes live, die, recover and flap by a script or by a
 * seed, tests take the time the script says, and after every step the promises of worker/health.h are looked at. The same
 * seed gives the same run. SIM_SEEDS=N: how many. */
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

enum { STEP_MS = 100, NODES = 24, PENDING_MAX = 2048, START_MS = 1000000, SEEDS = 40 };
static const char url[] = "http://t/204";

struct node_script {
	bool dead;
	unsigned ms;
};
struct pending {
	struct outbound *ob;
	const char *url;
	uint64_t due_ms;
	bool ok;
	unsigned ms;
	delay_cb *done;
	void *arg;
	bool *status_ok;
};
static struct sim {
	struct kit k;
	uint64_t now_ms, rng;
	struct node_script node[NODES];
	struct pending pending[PENDING_MAX];
	int n_pending, max_pending, tests;
	uint64_t second;
	int in_second, most_in_second;
	int budget, rate;
	bool offline;
	uint64_t trace;
} s;

static int64_t
wall(void)
{
	return 1700000000000000000LL + (int64_t)s.now_ms * 1000000;
}

static struct node_script *
script_of(const struct outbound *ob)
{
	int i = 0;

	if (sscanf(ob->name, "n%d", &i) != 1 || i < 0 || i >= NODES)
		fail_msg("%s is tested", ob->name);
	return &s.node[i];
}

static struct delay_test *
test(struct outbound *ob, const char *u, unsigned timeout_ms, const char *expected, delay_cb *done, void *arg, int *err,
    bool *status_ok)
{
	struct node_script *n = script_of(ob);
	struct pending *p;

	(void)expected;
	for (int i = 0; i < s.n_pending; i++)
		if (s.pending[i].ob == ob && strcmp(s.pending[i].url, u) == 0)
			fail_msg("%s is tested twice at once", ob->name);
	assert_true(s.n_pending < PENDING_MAX);
	p = &s.pending[s.n_pending++];
	*p = (struct pending){ ob, u,
		s.now_ms +
		    (s.offline      ? 1 :
			    n->dead ? timeout_ms :
				      n->ms),
		!n->dead, n->ms, done, arg, status_ok };
	s.max_pending = s.n_pending > s.max_pending ? s.n_pending : s.max_pending;
	s.in_second = s.now_ms / 1000 == s.second ? s.in_second + 1 : 1;
	s.second = s.now_ms / 1000;
	s.most_in_second = s.in_second > s.most_in_second ? s.in_second : s.most_in_second;
	s.tests++;
	s.trace = s.trace * 31 + s.now_ms + (uint64_t)ob->name[1];
	*err = 0;
	return (struct delay_test *)(void *)&s; /* never looked into */
}

static void
complete(void)
{
	for (int i = 0; i < s.n_pending;) {
		struct pending p = s.pending[i];

		if (p.due_ms > s.now_ms) {
			i++;
			continue;
		}
		s.pending[i] = s.pending[--s.n_pending];
		*p.status_ok = p.ok;
		if (s.offline)
			p.done(p.arg, 0, E_UNREACH);
		else
			p.done(p.arg, p.ok ? (int)p.ms : 0, p.ok ? 0 : E_TIMEOUT);
		i = 0;
	}
}

static void
run(unsigned ms)
{
	for (uint64_t end = s.now_ms + ms; s.now_ms < end;) {
		s.now_ms += STEP_MS;
		loop_fake_clock(&s.k.w.loop, s.now_ms);
		complete();
		health_tick(&s.k.w);
		loop_turn(&s.k.w.loop);
		assert_true(s.n_pending <= s.budget);
	}
}

static uint64_t
dice(uint64_t n)
{
	static const uint8_t key[16];

	s.rng = siphash13(key, &s.rng, sizeof(s.rng));
	return s.rng % n;
}

/* Nodes n0 ... n23 in provider p (checked every 60 s) and a configuration's groups and own keys behind them. */
static void
start(const char *groups, const char *own, const char *check)
{
	static char yaml[16384];
	size_t at = (size_t)snprintf(yaml, sizeof(yaml), "proxy-providers:\n  p:\n    type: inline\n%s    payload:\n", check);

	for (int i = 0; i < NODES; i++)
		at += (size_t)snprintf(
		    yaml + at, sizeof(yaml) - at, "      - {name: n%d, type: socks5, server: h, port: %d}\n", i, i + 1);
	(void)snprintf(yaml + at, sizeof(yaml) - at, "proxy-groups:\n%s%s", groups, own);
	memset(&s, 0, sizeof(s));
	if (kit_load(&s.k, yaml) != 0)
		fail_msg("%s", s.k.err.text);

	s.k.w.lead = true; /* not serving: nobody to tell */
	s.k.w.workers = 1;
	list_init(&s.k.w.conns);
	s.budget = HEALTH_CONCURRENT;
	s.rate = HEALTH_PER_SECOND;
	s.now_ms = START_MS;
	s.rng = 1;
	for (int i = 0; i < NODES; i++)
		s.node[i].ms = (unsigned)(50 + 10 * i);
	loop_fake_clock(&s.k.w.loop, s.now_ms);
	assert_int_equal(health_parse(&s.k.g, s.k.tree.root, &s.k.err), 0);
	health_set_world(&(struct health_world){ test, wall });
	health_start(&s.k.w);
}

static void
stop(void)
{
	health_stop(&s.k.w);
	kit_free(&s.k);
}

static struct group *
group(const char *name)
{
	return group_of(kit_find(&s.k, name));
}

static const char *
picked(const char *name)
{
	return group_pick(group(name), NULL, true)->name;
}

static struct outbound *
node(const char *name)
{
	return node_find(&s.k.g, "p", name);
}

#define CHECKED "    health-check: {enable: true, url: 'http://t/204', interval: 60, lazy: false, timeout: 3000}\n"
#define AUTO "  - {name: auto, type: url-test, use: [p], url: 'http://t/204', interval: 60, tolerance: 30}\n"
#define FALL "  - {name: fall, type: fallback, use: [p], url: 'http://t/204', interval: 60}\n"

static void
test_a_node_dies_and_recovers(void **state)
{
	(void)state;
	start(AUTO FALL, "", CHECKED);
	run(5000);
	assert_int_equal(s.tests, NODES);
	assert_string_equal(picked("auto"), "n0");
	assert_string_equal(picked("fall"), "n0");
	s.node[0].dead = true;
	run(75000);
	assert_string_equal(picked("auto"), "n1");
	assert_string_equal(picked("fall"), "n1");
	s.node[0].dead = false;
	run(75000);
	assert_string_equal(picked("fall"), "n0");
	assert_string_equal(picked("auto"), "n1"); /* 10 ms better is within the tolerance */
	s.node[1].ms = 200;
	run(75000);
	assert_string_equal(picked("auto"), "n0");
	stop();
}

static void
test_dead_nodes_are_asked_less_often(void **state)
{
	int before;

	(void)state;
	start(FALL, "", CHECKED);
	for (int i = 0; i < NODES; i++)
		s.node[i].dead = true;
	run(3600000);
	/* an hour of 60 rounds: three at full pace, then every 2nd, 4th, 8th */
	assert_true(s.tests > 6 * NODES && s.tests < 16 * NODES);
	assert_string_equal(picked("fall"), "n0"); /* none alive: the first */
	before = s.tests;
	s.node[7].dead = false;
	run(600000);
	assert_string_equal(picked("fall"), "n7"); /* noticed within 8 intervals and the jitter */
	assert_true(s.tests > before);
	stop();
}

static void
test_lazy_groups_wait_for_use(void **state)
{
	int first;

	(void)state;
	start("  - {name: lazy, type: fallback, use: [p], url: 'http://t/204', interval: 60}\n", "",
	    "    health-check: {enable: true, url: 'http://t/204', interval: 60}\n");
	run(600000);
	first = s.tests;
	assert_int_equal(first, NODES); /* once after the start, though lazy */
	group_touch(group("lazy"));
	run(70000);
	assert_true(s.tests > first);
	first = s.tests;
	run(60000); /* the use has aged */
	run(600000);
	assert_true(s.tests <= first + NODES);
	stop();
}

static void
test_failing_dials_cause_a_check(void **state)
{
	struct outbound *n0;
	int before;

	(void)state;
	start(FALL, "", "    health-check: {enable: true, url: 'http://t/204', interval: 3600, lazy: false, timeout: 2000}\n");
	run(10000);
	n0 = node("n0");
	s.node[0].dead = true;
	before = s.tests;
	for (int i = 0; i < 4; i++)
		group_count_dial(group("fall"), n0, E_TIMEOUT);
	group_count_dial(group("fall"), n0, 0); /* a success resets */
	for (int i = 0; i < 4; i++)
		group_count_dial(group("fall"), n0, E_TIMEOUT);
	run(10000);
	assert_int_equal(s.tests, before);
	group_count_dial(group("fall"), n0, E_RESET); /* the fifth came too late: the window is 5 s */
	run(1000);
	assert_int_equal(s.tests, before);
	for (int i = 0; i < 4; i++)
		group_count_dial(group("fall"), n0, E_RESET);
	run(8000);
	assert_int_equal(s.tests, before + NODES);
	assert_string_equal(picked("fall"), "n1");
	s.node[1].dead = true;
	group_count_dial(group("fall"), node("n1"), E_REFUSED); /* at once */
	run(8000);
	assert_string_equal(picked("fall"), "n2");
	group_count_dial(group("fall"), s.k.g.direct, E_REFUSED); /* not a node */
	before = s.tests;
	run(8000);
	assert_int_equal(s.tests, before);
	stop();
}

static void
test_one_test_for_many_groups(void **state)
{
	static char groups[8192];
	size_t at = 0;

	(void)state;
	for (int i = 0; i < 20; i++)
		at += (size_t)snprintf(groups + at, sizeof(groups) - at,
		    "  - {name: g%d, type: url-test, use: [p], url: 'http://t/204', interval: 60}\n", i);
	start(groups, "", CHECKED);
	run(50000);
	assert_int_equal(s.tests, NODES);
	run(60000);
	assert_int_equal(s.tests, 2 * NODES);
	stop();
}

static void
test_other_urls_and_filters(void **state)
{
	(void)state;
	start("  - {name: some, type: url-test, use: [p], url: 'http://other/', interval: 60, filter: '^n1'}\n"
	      "  - {name: more, type: url-test, use: [p], url: 'http://other/', interval: 60, filter: '^n2'}\n",
	    "", CHECKED);
	run(20000);
	assert_int_equal(s.tests, NODES + 11 + 5); /* n1, n10..n19; n2, n20..n23 */
	assert_non_null(outbound_history(node("n19"), "http://other/"));
	assert_null(outbound_history(node("n3"), "http://other/"));
	stop();
}

static void
test_the_budget(void **state)
{
	(void)state;
	start(FALL, "sluice: {health-check: {max-concurrent: 3, per-second: 5}}\n", CHECKED);
	s.budget = 3;
	run(30000);
	assert_int_equal(s.max_pending, 3);
	assert_int_equal(s.tests, NODES);
	assert_true(s.most_in_second <= 5 + 3); /* and what was saved up */
	stop();
}

static void
test_bad_settings(void **state)
{
	struct kit k;

	(void)state;
	assert_int_equal(kit_load(&k, "sluice: {health-check: {max-concurrent: 0}}\n"), 0);
	assert_int_equal(health_parse(&k.g, k.tree.root, &k.err), -E_INVAL);
	kit_free(&k);
	assert_int_equal(kit_load(&k, "sluice: {health-check: 5}\n"), 0);
	assert_int_equal(health_parse(&k.g, k.tree.root, &k.err), -E_INVAL);
	kit_free(&k);
	assert_int_equal(kit_load(&k, "sluice: {health-check: {max-concurrent: 16, per-second: 100}}\n"), 0);
	assert_int_equal(health_parse(&k.g, k.tree.root, &k.err), 0);
	kit_free(&k);
}

static bool told;
static void
on_checked(void *arg)
{
	(void)arg;
	told = true;
}

static void
test_asked_for(void **state)
{
	int before;

	(void)state;
	start(FALL "  - {name: own, type: select, proxies: [fall]}\n", "",
	    "    health-check: {enable: false, url: 'http://t/204'}\n");
	run(5000);
	before = s.tests;
	assert_int_equal(before, 0); /* fall's URL is the provider's, which has no interval */
	told = false;
	assert_int_equal(health_check_now(&s.k.w, "nobody", on_checked, NULL), -E_NOTFOUND);
	assert_int_equal(health_check_now(&s.k.w, "p", on_checked, NULL), 0);
	assert_int_equal(health_check_now(&s.k.w, "p", on_checked, NULL), 0);
	run(500);
	assert_int_equal(health_check_now(&s.k.w, "p", on_checked, NULL), 0); /* shares the run */
	run(10000);
	assert_true(told);
	assert_int_equal(s.tests, before + NODES);
	stop();
}

static void
test_offline(void **state)
{
	int before;

	(void)state;
	start(FALL, "", CHECKED);
	run(10000);
	before = s.tests;
	s.offline = true;
	run(120000);
	assert_true(s.tests < before + 60); /* a handful now and then, not all of them again and again */
	assert_true(outbound_alive(node("n20"), url)); /* and it is not their fault */
	s.offline = false;
	run(120000);
	assert_true(outbound_alive(node("n0"), url));
	stop();
}

/* Anything may happen; what must hold, holds. */
static uint64_t
weather(uint64_t seed)
{
	start(AUTO FALL
	    "  - {name: bal, type: load-balance, strategy: round-robin, use: [p], url: 'http://t/204', interval: 30}\n"
	    "  - {name: sel, type: select, proxies: [auto, fall]}\n"
	    "  - {name: far, type: fallback, use: [p], url: 'http://far/', interval: 120, filter: '5|7'}\n",
	    "", CHECKED);
	s.rng = seed;
	for (int round = 0; round < 60; round++) {
		for (uint64_t changes = dice(6); changes > 0; changes--) {
			struct node_script *n = &s.node[dice(NODES)];

			n->dead = dice(3) == 0;
			n->ms = (unsigned)(20 + dice(900));
		}
		if (dice(5) == 0)
			group_touch(group("far"));
		if (dice(4) == 0)
			group_count_dial(group("fall"), node("n3"), dice(2) ? E_REFUSED : E_TIMEOUT);
		run((unsigned)(dice(200) * STEP_MS));
		/* the choice is alive when anything is */
		for (int i = 0; i < 3; i++) {
			static const char *const names[] = { "auto", "fall", "bal" };
			struct group *g = group(names[i]);
			bool any = false;

			for (int m = 0; m < g->n_members; m++)
				any |= group_alive(g, g->members[m]);
			if (any && !group_alive(g, group_pick(g, NULL, true)))
				fail_msg("seed %llu: %s uses a dead node", (unsigned long long)seed, names[i]);
		}
	}
	/* quiet: what is known becomes what is */
	run(900000);
	for (int i = 0; i < NODES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "n%d", i);
		if (outbound_alive(node(name), url) == s.node[i].dead)
			fail_msg("seed %llu: n%d is %s", (unsigned long long)seed, i, s.node[i].dead ? "dead" : "alive");
	}
	stop();
	return s.trace;
}

static void
test_weather(void **state)
{
	const char *text = getenv("SIM_SEEDS");
	int64_t seeds = SEEDS;

	(void)state;
	if (text != NULL && str_to_i64(text, 1, 1000000, &seeds) != 0)
		fail_msg("SIM_SEEDS is no number");
	for (int64_t i = 1; i <= seeds; i++)
		(void)weather((uint64_t)i);
	assert_true(weather(1) == weather(1));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_node_dies_and_recovers),
		cmocka_unit_test(test_dead_nodes_are_asked_less_often),
		cmocka_unit_test(test_lazy_groups_wait_for_use),
		cmocka_unit_test(test_failing_dials_cause_a_check),
		cmocka_unit_test(test_one_test_for_many_groups),
		cmocka_unit_test(test_other_urls_and_filters),
		cmocka_unit_test(test_the_budget),
		cmocka_unit_test(test_bad_settings),
		cmocka_unit_test(test_asked_for),
		cmocka_unit_test(test_offline),
		cmocka_unit_test(test_weather),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
