/* SPDX-License-Identifier: MIT */
/* Anything may happen to nodes, groups and the network, by a seed; after every step it is looked at that
 *   - no group uses a dead member while it knows an alive one, and a fixed one is used while it is alive;
 *   - url-test keeps its choice within the tolerance and leaves it for the fastest alone, and does not stay with a slower one;
 *   - two workers choose alike as soon as both have heard the same;
 *   - a lazy group that nobody uses is not tested, nor is anything while there is no network;
 *   - the budget and the back-off hold (sim.h).
 * Then it is quiet, and what is known becomes what is. SIM_SEEDS=N: how many seeds, SIM_FIRST=N: from which on. */
#include "tests/sim/sim.h"
#include "worker/nodes.h"

enum { SEEDS = 250, TOLERANCE = 30, RECOMPUTE_MS = 10000, LAZY_MS = 60000, LISTS = 3 };
#define SAY "seed %llu, %llu s: "
#define WHERE (unsigned long long)s.seed, (unsigned long long)(s.now_ms - START_MS) / 1000

static const char config[] =
    "proxy-groups:\n"
    "  - {name: auto, type: url-test, use: [p], url: 'http://t/204', interval: 60, tolerance: 30}\n"
    "  - {name: fall, type: fallback, use: [p], url: 'http://t/204', interval: 60}\n"
    "  - {name: turn, type: load-balance, strategy: round-robin, use: [p], url: 'http://t/204', interval: 30}\n"
    "  - {name: hash, type: load-balance, use: [p], url: 'http://t/204', interval: 30}\n"
    "  - {name: stick, type: load-balance, strategy: sticky-sessions, use: [p], url: 'http://t/204', interval: 30}\n"
    "  - {name: pick, type: select, proxies: [auto, fall]}\n"
    "  - {name: far, type: fallback, use: [p], url: 'http://far/', interval: 120, filter: '5|7'}\n"
    "  - {name: lazy, type: fallback, use: [z], url: 'http://t/204', interval: 60}\n";
static const char lazy_provider[] =
    "  z:\n    type: inline\n    health-check: {enable: true, url: 'http://t/204', interval: 60, timeout: 3000}\n    payload:\n"
    "      - {name: z0, type: socks5, server: z, port: 1}\n      - {name: z1, type: socks5, server: z, port: 2}\n"
    "      - {name: z2, type: socks5, server: z, port: 3}\n      - {name: z3, type: socks5, server: z, port: 4}\n"
    "      - {name: z4, type: socks5, server: z, port: 5}\n      - {name: z5, type: socks5, server: z, port: 6}\n";
#define CHECKED "    health-check: {enable: true, url: 'http://t/204', interval: 60, lazy: false, timeout: 3000}\n"

#define TIGHT "sluice: {health-check: {max-concurrent: 3, per-second: 5}}\n"

static struct weather {
	unsigned patience_ms; /* how long a run may take */
	const char *choice; /* auto's */
	uint64_t chosen_ms, slow_ms; /* since when it is slower than allowed; 0 = it is not */
	uint64_t told_ms, lazy_ms; /* when the other worker last heard; when `lazy` was last used, 0 = never */
	uint64_t offline_ms, online_ms; /* when the network went, 0 = it is there; when it last came back */
	int lazy_tests, tests;
	struct tree lists; /* other versions of p's nodes */
} v;

/* ---- what must hold */

static void
look_at_life(struct kit *k, const char *name)
{
	struct group *g = group_in(k, name);
	struct outbound *ob = group_pick(g, NULL, true), *fixed = NULL;
	bool any = false;

	for (int m = 0; m < g->n_members && !any; m++)
		any = group_alive(g, g->members[m]);
	if (any && !group_alive(g, ob))
		fail_msg(SAY "%s uses %s, which is dead", WHERE, name, ob->name);
	if (g->selected != NULL && g->selected[0] != '\0')
		fixed = group_find_member(g, g->selected);
	if (fixed != NULL && group_alive(g, fixed) && ob != fixed)
		fail_msg(SAY "%s uses %s, though %s is fixed", WHERE, name, ob->name, fixed->name);
}

static void
look_at_choice(void)
{
	struct group *g = group_in(&s.k, "auto");
	struct outbound *ob = group_pick(g, NULL, true), *was = v.choice != NULL ? group_find_member(g, v.choice) : NULL;
	uint16_t now = outbound_last_delay(ob, g->url), best = now;

	if (g->selected[0] != '\0') {
		v.choice = NULL;
		v.slow_ms = 0;
		return;
	}
	for (int m = 0; m < g->n_members; m++)
		if (group_alive(g, g->members[m]) && outbound_last_delay(g->members[m], g->url) < best)
			best = outbound_last_delay(g->members[m], g->url);
	/* what the other worker chose before it heard is its right */
	if (ob != was && was != NULL && group_alive(g, was) && s.n_told == 0) {
		if (outbound_last_delay(was, g->url) <= now + TOLERANCE)
			fail_msg(SAY "%s (%u ms) left for %s (%u ms) within the tolerance", WHERE, was->name,
			    outbound_last_delay(was, g->url), ob->name, now);
		if (now != best)
			fail_msg(SAY "%s left for %s (%u ms) when the best has %u ms", WHERE, was->name, ob->name, now, best);
	}
	if (v.choice == NULL || ob != was)
		v.slow_ms = 0; /* as known when it was chosen, it was not */
	v.choice = ob->name;
	if (now <= best + TOLERANCE)
		v.slow_ms = 0;
	else if (v.slow_ms == 0)
		v.slow_ms = s.now_ms;
	else if (s.now_ms - v.slow_ms > RECOMPUTE_MS + 1000 + LOOK_MS) /* seconds are shared, and looked at now and then */
		fail_msg(SAY "%s (%u ms) is kept though the best has %u ms", WHERE, ob->name, now, best);
}

/* Both have heard everything, and each has looked at the other's choice. */
static void
look_at_agreement(void)
{
	static const char *const names[] = { "auto", "fall", "hash", "stick", "pick", "far" };
	struct meta m = { .src_ip = { .family = 4 }, .dst_ip = { .family = 4 }, .host = "" };

	if (s.n_told > 0) {
		v.told_ms = s.now_ms;
		return;
	}
	if (s.now_ms - v.told_ms < 2 * STEP_MS)
		return;
	m.src_ip.b[15] = (uint8_t)(s.now_ms / STEP_MS);
	m.dst_ip.b[15] = (uint8_t)(s.now_ms / STEP_MS / 7);
	for (size_t i = 0; i < countof(names); i++) {
		const char *b =
		    (group_pick(group_in(&s.other, names[i]), &m, true), group_pick(group_in(&s.k, names[i]), &m, true)->name);
		const char *a = group_pick(group_in(&s.other, names[i]), &m, true)->name;

		if (strcmp(a, b) != 0)
			fail_msg(SAY "%s is %s here and %s there (fixed: \"%s\" and \"%s\")", WHERE, names[i], b, a,
			    group_in(&s.k, names[i])->selected, group_in(&s.other, names[i])->selected);
	}
}

static void
look_at_idleness(void)
{
	bool idle = v.lazy_ms == 0 || s.now_ms - v.lazy_ms > LAZY_MS + v.patience_ms;
	bool held;

	if (!s.offline && v.offline_ms != 0)
		v.online_ms = s.now_ms;
	held = v.online_ms != 0 && s.now_ms - v.online_ms < v.patience_ms; /* what had begun before goes on */

	if (s.lazy_tests != v.lazy_tests && idle && !s.offline && !held && s.now_ms - START_MS > v.patience_ms)
		fail_msg(SAY "lazy is tested, last used at %lld s, online since %lld s", WHERE,
		    (long long)(v.lazy_ms - START_MS) / 1000, (long long)(v.online_ms - START_MS) / 1000);
	v.lazy_tests = s.lazy_tests;
	if (!s.offline)
		v.offline_ms = 0;
	else if (v.offline_ms == 0)
		v.offline_ms = s.now_ms;
	/* until it is noticed: tests of a minute's round; then one in 10 s */
	if (v.offline_ms != 0 && s.now_ms - v.offline_ms > 90000 && s.tests - v.tests > 1)
		fail_msg(SAY "tests go on without a network", WHERE);
	v.tests = s.tests;
}

static void
look(void)
{
	static const char *const names[] = { "auto", "fall", "turn", "hash", "stick" };

	for (size_t i = 0; i < countof(names); i++) {
		look_at_life(&s.k, names[i]);
		look_at_life(&s.other, names[i]);
	}
	look_at_choice();
	look_at_agreement();
	look_at_idleness();
}

/* ---- what may happen */

static void
change_nodes(void)
{
	struct node_script *n = &s.node[dice(NODES)];

	n->dead = dice(3) == 0;
	n->unreachable = n->dead && dice(4) == 0;
	n->ms = (unsigned)(20 + dice(900));
	if (dice(8) == 0)
		s.lazy_node[dice(LAZY_NODES)].dead = dice(2) == 0;
}

/* In both workers, as a change that they acknowledge. */
static void
fix(void)
{
	char name[16];
	const char *text, *group = dice(2) == 0 ? "auto" : "fall";

	(void)snprintf(name, sizeof(name), "n%d", (int)dice(NODES));
	if (dice(2) == 0)
		name[0] = '\0';
	(void)group_select(&s.k.g, group, name, &text);
	(void)group_select(&s.other.g, group, name, &text);
}

static void
renew(struct kit *k, const struct cfg_node *list)
{
	struct provider *p = provider_find(&k->g, "p");
	struct cfg_err err = { 0 };
	bool changed;

	if (provider_load(p, list, &changed, &err) != 0)
		fail_msg("%s", err.text);
	if (changed && k == &s.k)
		health_nodes_changed(&k->w, &p->set);
}

static void
happen(void)
{
	uint64_t list = dice(LISTS * 12);
	const struct cfg_node *c = cfg_first(cfg_get(v.lists.root, "lists"));

	for (uint64_t changes = dice(6); changes > 0; changes--)
		change_nodes();
	if (dice(6) == 0) {
		group_touch(group_in(dice(2) == 0 ? &s.k : &s.other, "lazy"));
		v.lazy_ms = s.now_ms;
	}
	if (dice(5) == 0)
		group_touch(group_in(&s.k, "far"));
	if (dice(6) == 0) {
		struct group *g = group_in(&s.other, "fall");

		group_count_dial(g, g->members[0], dice(2) ? E_REFUSED : E_TIMEOUT);
		s.forced_ms = s.now_ms;
	}
	if (dice(10) == 0 && s.n_told == 0)
		fix();
	if (dice(20) == 0) {
		s.offline = !s.offline;
		s.forced_ms = s.now_ms; /* a check that was asked for may have waited for this */
	}
	if (list >= LISTS)
		return;
	while (list-- > 0)
		c = cfg_next(c);
	renew(&s.k, c);
	renew(&s.other, c);
	v.choice = NULL; /* it may have gone */
}

static void
settle(void)
{
	const char *text;

	s.offline = false;
	s.forced_ms = s.now_ms;
	renew(&s.k, cfg_first(cfg_get(v.lists.root, "lists")));
	renew(&s.other, cfg_first(cfg_get(v.lists.root, "lists")));
	v.choice = NULL;
	(void)group_select(&s.k.g, "auto", "", &text);
	(void)group_select(&s.other.g, "auto", "", &text);
	s.node[0].dead = s.node[0].unreachable = false;
	run_looking(700000, look);
	for (int i = 0; i < NODES; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "n%d", i);
		if (outbound_alive(node(name), sim_url) == s.node[i].dead)
			fail_msg(SAY "n%d is %s", WHERE, i, s.node[i].dead ? "dead" : "alive");
	}
}

static uint64_t
weather(uint64_t seed)
{
	static char with_tight[sizeof(config) + sizeof(TIGHT)];
	bool tight = seed % 4 == 0;

	(void)snprintf(with_tight, sizeof(with_tight), "%s%s", config, TIGHT);
	start_as(true, lazy_provider, tight ? with_tight : config, CHECKED);
	memset(&v, 0, offsetof(struct weather, lists));
	v.patience_ms = tight ? 60000 : 20000;
	if (tight) {
		s.budget = 3;
		s.rate = 5;
	}
	s.seed = s.rng = seed;
	s.interval_ms = 57000; /* less the jitter */
	for (int round = 0; round < 30; round++) {
		happen();
		run_looking((unsigned)(dice(200) * STEP_MS), look);
	}
	settle();
	stop();
	return s.trace;
}

/* All nodes, in this order; every other one; all but one, backwards. */
static void
make_lists(void **image)
{
	static char yaml[8192];
	struct cfg_err err;
	size_t at = (size_t)snprintf(yaml, sizeof(yaml), "lists:\n"), n;

	for (int l = 0; l < LISTS; l++) {
		at += (size_t)snprintf(yaml + at, sizeof(yaml) - at, "  -\n");
		for (int i = 0; i < NODES; i++) {
			int k = l == 2 ? NODES - 1 - i : i;

			if ((l == 1 && k % 2 == 1) || (l == 2 && k == 5))
				continue;
			at += (size_t)snprintf(
			    yaml + at, sizeof(yaml) - at, "    - {name: n%d, type: socks5, server: h, port: %d}\n", k, k + 1);
		}
	}
	assert_int_equal(yaml_load(yaml, at, image, &n, &err), 0);
	assert_int_equal(tree_from_memory(&v.lists, *image, n, &err), 0);
}

static int64_t
setting(const char *name, int64_t otherwise)
{
	const char *text = getenv(name);

	if (text != NULL && str_to_i64(text, 1, INT32_MAX, &otherwise) != 0)
		fail_msg("%s is no number", name);
	return otherwise;
}

static void
test_weather(void **state)
{
	int64_t first, seeds;
	void *image;

	(void)state;
	make_lists(&image);
	first = setting("SIM_FIRST", 1);
	seeds = setting("SIM_SEEDS", SEEDS);
	for (int64_t i = first; i < first + seeds; i++)
		(void)weather((uint64_t)i);
	assert_true(weather(1) == weather(1));
	free(image);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_weather) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
