/* SPDX-License-Identifier: MIT */
/* Groups and health checks by script, on the clock and the network of sim.h. What may happen at any time is
 * test_sim_weather.c's. */
#include "tests/sim/sim.h"

static const char url[] = "http://t/204";

static void
start(const char *groups, const char *own, const char *check)
{
	static char text[8400];

	(void)snprintf(text, sizeof(text), "proxy-groups:\n%s", groups);
	start_as(false, text, own, check);
}

static struct group *
group(const char *name)
{
	return group_in(&s.k, name);
}

static const char *
picked(const char *name)
{
	return group_pick(group(name), NULL, true)->name;
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
	s.offline = true;
	run(90000);
	before = s.tests;
	run(120000);
	assert_true(s.tests - before <= 12); /* one now and then, of which nothing leaves the machine */
	assert_true(outbound_alive(node("n20"), url)); /* and it is not their fault */
	s.offline = false;
	run(120000);
	for (int i = 0; i < NODES; i++)
		assert_true(outbound_alive(s.k.g.providers->p[0]->set.nodes[i], url));
	stop();
}

/* Nodes that cannot be reached from here are no sign that nothing can. */
static void
test_unreachable_nodes_are_dead(void **state)
{
	(void)state;
	start(FALL, "", CHECKED);
	for (int i = 0; i < 12; i++)
		s.node[i].dead = s.node[i].unreachable = true;
	run(20000);
	assert_string_equal(picked("fall"), "n12");
	stop();
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
		cmocka_unit_test(test_unreachable_nodes_are_dead),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
