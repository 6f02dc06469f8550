/* SPDX-License-Identifier: MIT */
/* worker/memory.c and the accounting behind it: sizes as users write them, what is shed when, that nothing stays counted. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/err.h"
#include "common/imsg.h"
#include "tests/unit/worker_net.h"
#include "worker/core/conn.h"
#include "worker/loader/yaml.h"
#include "worker/loop/pool.h"
#include "worker/memory.h"

static struct rig rig;
static int sup_end;

static int
setup(void **state)
{
	int pair[2];

	(void)state;
	rig_start(&rig);
	map_init(&rig.gen.proxies);
	conns_start(&rig.w);
	assert_int_equal(imsg_pair(pair), 0);
	sup_end = pair[1];
	peer_open(&rig.w.sup, rig.w.loop.ev, pair[0], "supervisor", NULL, 0, &rig.w, NULL);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	conns_close_all(&rig.w, BY_STOP);
	peer_close(&rig.w.sup);
	close(sup_end);
	loop_fini(&rig.w.loop);
	return 0;
}

/* The limit that a value makes; UINT64_MAX: refused. */
static uint64_t
limit_of(const char *value)
{
	struct cfg_err err = { 0 };
	char yaml[128];
	struct tree t;
	void *image;
	size_t n;
	int rc;

	snprintf(yaml, sizeof yaml, "sluice: {worker-memory-limit: %s}", value);
	assert_int_equal(yaml_load(yaml, strlen(yaml), &image, &n, &err), 0);
	assert_int_equal(tree_from_memory(&t, image, n, &err), 0);
	rig.w.memory_limit = 0;
	rc = memory_parse(&rig.gen, t.root, &err);
	if (rc != 0)
		assert_string_equal(err.key, "worker-memory-limit");
	free(image);
	return rc == 0 ? rig.w.memory_limit : UINT64_MAX;
}

static void
test_memory_parse(void **state)
{
	static const char *const bad[] = { "5", "1M", "4095K", "12Q", "''", "-1", "-5M", "1.5G", "M", "99999999999999999999",
		"20000000G", "9M9", "[1]" };

	(void)state;
	assert_int_equal(limit_of("0"), 0);
	assert_int_equal(limit_of("~"), 0);
	assert_int_equal(limit_of("268435456"), 256 << 20);
	assert_int_equal(limit_of("256MiB"), 256 << 20);
	assert_int_equal(limit_of("'256 mb'"), 256 << 20);
	assert_int_equal(limit_of("4096k"), 4 << 20);
	assert_int_equal(limit_of("1g"), 1 << 30);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (limit_of(bad[i]) != UINT64_MAX)
			fail_msg("%s is taken", bad[i]);
}

static const struct conn_from from;

static void
test_memory_sheds_new_ones_only(void **state)
{
	struct conn *c, *moved;

	(void)state;
	rig.w.memory_limit = 8 << 20;
	assert_non_null(conn_record(&rig.w, &from, NET_TCP));
	mem_charge(8 << 20);
	assert_null(conn_record(&rig.w, &from, NET_UDP));
	assert_int_equal(rig.stat.shed, 1);
	assert_int_equal(rig.stat.shed_memory, 1);
	moved = conn_record_moved(&rig.w, NET_TCP);	/* what is open goes on, also over a hand-over */
	assert_non_null(moved);
	mem_charge(-(8 << 20));
	c = conn_record(&rig.w, &from, NET_TCP);
	assert_non_null(c);
	assert_int_equal(rig.stat.shed, 1);
	rig.w.conn_limit = 1;				/* another reason is not counted as this one */
	assert_null(conn_record(&rig.w, &from, NET_TCP));
	assert_int_equal(rig.stat.shed, 2);
	assert_int_equal(rig.stat.shed_memory, 1);
}

static int
asked(struct msg_replace_me *m)
{
	static struct imsg in;

	if (imsg_recv(sup_end, &in) != 0)
		return 0;
	assert_int_equal(in.hdr.type, MSG_REPLACE_ME);
	assert_int_equal(in.hdr.len, sizeof *m);
	memcpy(m, in.body, sizeof *m);
	return 1;
}

/* Over the limit a successor is asked for, and again every ten seconds; not before. */
static void
test_memory_asks_for_a_successor(void **state)
{
	struct msg_replace_me m;

	(void)state;
	rig.w.memory_limit = 100 << 20;
	loop_fake_clock(&rig.w.loop, 50000);
	mem_charge(95 << 20);
	memory_check(&rig.w);
	assert_int_equal(asked(&m), 0);
	mem_charge(10 << 20);
	memory_check(&rig.w);
	assert_int_equal(asked(&m), 1);
	assert_int_equal(m.limit, 100 << 20);
	assert_true(m.used >= 105 << 20 && m.used < 110 << 20);
	loop_fake_clock(&rig.w.loop, 59999);
	memory_check(&rig.w);
	assert_int_equal(asked(&m), 0);
	loop_fake_clock(&rig.w.loop, 60000);
	memory_check(&rig.w);
	assert_int_equal(asked(&m), 1);
	mem_charge(-(105 << 20));
	loop_fake_clock(&rig.w.loop, 90000);
	memory_check(&rig.w);
	assert_int_equal(asked(&m), 0);
}

/* What connections and buffers count is taken back with them. */
static void
test_memory_counts_back(void **state)
{
	enum { N = 2 * CONN_FREE_MAX };
	struct conn *c[N];
	struct buf *b[100];
	size_t before, full;

	(void)state;
	rig.w.conn_limit = N;
	pool_trim();
	for (int round = 0; round < 2; round++) {
		before = mem_in_use();
		for (int i = 0; i < N; i++)
			c[i] = conn_new(&rig.w, &from, tcp_accepted(&rig.w.loop, dup(sup_end)));
		for (int i = 0; i < 100; i++)
			b[i] = buf_get();
		full = mem_in_use();
		assert_true(full > before + 100 * BUF_SIZE + (N - CONN_FREE_MAX) * sizeof(struct conn));
		for (int i = 0; i < N; i++)
			conn_close(c[i], BY_STOP);
		for (int i = 0; i < 100; i++)
			buf_put(b[i]);
		rig_turns(&rig, 2);
		pool_trim();
		if (round == 1)			/* the first one filled the free list of records */
			assert_int_equal(mem_in_use(), before);
	}
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_memory_parse),
		T(test_memory_sheds_new_ones_only),
		T(test_memory_asks_for_a_successor),
		T(test_memory_counts_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
