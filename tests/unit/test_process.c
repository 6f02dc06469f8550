/* SPDX-License-Identifier: MIT */
/* worker/core/process.c: questions to a nethelper that this test plays, over one that dies, hangs or lies; and
 * conn_set_process(). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/imsg.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/core/conn.h"
#include "worker/core/process.h"

static struct worker w;			/* one for all tests, as process.c's state is one a process */
static int helper = -1;			/* our end of the channel */
static struct said {
	int times;
	uint32_t uid;
	char path[64];
} said;
static const struct msg_find nobody = { .udp = 1, .src_port = 7 };

static void
on_said(void *arg, uint32_t uid, const char *path)
{
	struct said *s = arg;

	s->times++;
	s->uid = uid;
	str_copy(s->path, sizeof s->path, path);
}

static void
open_channel(void)
{
	int fd[2];

	if (helper != -1)
		close(helper);
	assert_int_equal(imsg_pair(fd), 0);
	helper = fd[0];
	process_channel(&w, fd[1]);
}

static int
begin(void **state)
{
	(void)state;
	log_set_level(LL_SILENT);
	if (w.loop.ev == NULL)
		loop_init(&w.loop);
	memset(&said, 0, sizeof said);
	open_channel();
	return 0;
}

static void
run(int ms)
{
	uint64_t end = loop_clock_ms() + (uint64_t)ms;

	do {
		loop_turn(&w.loop);
		poll(NULL, 0, 1);
	} while (loop_clock_ms() < end && said.times == 0);
}

/* The next question, within a second. */
static uint32_t
question(struct msg_find *q)
{
	struct pollfd p = { .fd = helper, .events = POLLIN };
	static struct imsg m;

	assert_int_equal(poll(&p, 1, 1000), 1);
	assert_int_equal(imsg_recv(helper, &m), 0);
	assert_int_equal(m.hdr.type, MSG_FIND);
	assert_int_equal(m.hdr.len, sizeof *q);
	memcpy(q, m.body, sizeof *q);
	return m.hdr.id;
}

static void
answer(uint32_t id, uint32_t uid, const char *path)
{
	struct msg_found m = { .uid = uid };
	struct wire b;

	wire_init(&b);
	wire_put(&b, &m, sizeof m);
	wire_put_str(&b, path);
	assert_int_equal(imsg_send(helper, MSG_FOUND, id, b.p, b.len, NULL, 0), 0);
	wire_free(&b);
}

static void
test_ask_and_answer(void **state)
{
	struct process_req r = { .id = 0 }, other = { .id = 0 };
	struct said second = { 0 };
	struct msg_find q;
	uint32_t id;

	(void)state;
	assert_int_equal(process_ask(&w, &r, &nobody, on_said, &said), 0);
	assert_int_equal(process_ask(&w, &other, &nobody, on_said, &second), 0);
	id = question(&q);
	assert_memory_equal(&q, &nobody, sizeof q);
	answer(question(&q), 5, "/second");	/* in any order, an unknown one between */
	answer(99999, 6, "/nobody");
	answer(id, 1000, "/usr/bin/curl");
	run(1000);
	assert_int_equal(said.times, 1);
	assert_int_equal(said.uid, 1000);
	assert_string_equal(said.path, "/usr/bin/curl");
	assert_string_equal(second.path, "/second");
	answer(id, 7, "/again");
	run(5);
	assert_int_equal(said.times, 1);
	assert_int_equal(r.id, 0);
}

static void
test_ask_nobody_answers(void **state)
{
	struct process_req r = { .id = 0 }, gone = { .id = 0 };
	uint64_t began = loop_clock_ms();
	struct msg_find q;

	(void)state;
	assert_int_equal(process_ask(&w, &gone, &nobody, on_said, &said), 0);
	process_cancel(&gone);
	process_cancel(&gone);
	loop_turn(&w.loop);
	assert_int_equal(process_ask(&w, &r, &nobody, on_said, &said), 0);
	run(5000);
	assert_int_equal(said.times, 1);
	assert_int_equal(said.uid, 0);
	assert_string_equal(said.path, "");
	assert_true(loop_clock_ms() - began >= PROCESS_TIMEOUT_MS - 10);
	question(&q);
	answer(question(&q), 1, "/late");
	run(5);
	assert_int_equal(said.times, 1);
}

/* What waits is asked of the next one. */
static void
test_ask_over_a_death(void **state)
{
	struct process_req r = { .id = 0 };
	struct msg_find q;
	uint32_t id;

	(void)state;
	assert_int_equal(process_ask(&w, &r, &nobody, on_said, &said), 0);
	id = question(&q);
	close(helper);
	helper = -1;
	loop_turn(&w.loop);
	assert_int_equal(said.times, 0);
	open_channel();
	assert_int_equal(question(&q), id);
	answer(id, 3, "/x");
	run(1000);
	assert_string_equal(said.path, "/x");
}

static void
test_answers_that_lie(void **state)
{
	static const struct { uint8_t bytes[24]; size_t n; } bad[] = {
		{ { 0 }, 11 }, { { 0 }, 13 },					/* short; something behind the path */
		{ { 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 'x' }, 13 },		/* a path longer than what is there */
		{ { 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 'a', 0, 'b' }, 15 },
		{ { 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff }, 12 },
	};
	struct msg_find q;

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		struct process_req r = { .id = 0 };
		struct pollfd p = { .fd = helper, .events = POLLIN };
		static struct imsg m;

		assert_int_equal(process_ask(&w, &r, &nobody, on_said, &said), 0);
		assert_int_equal(imsg_send(helper, MSG_FOUND, question(&q), bad[i].bytes, bad[i].n, NULL, 0), 0);
		loop_turn(&w.loop);
		assert_int_equal(poll(&p, 1, 1000), 1);
		assert_int_equal(imsg_recv(helper, &m), -E_CLOSED);
		assert_int_equal(said.times, 0);
		process_cancel(&r);
		open_channel();
	}
}

static void
test_ask_at_the_cap(void **state)
{
	struct process_req *r = calloc(PROCESS_ASKS_MAX + 1, sizeof *r);

	(void)state;
	assert_non_null(r);
	for (int i = 0; i < PROCESS_ASKS_MAX; i++)
		assert_int_equal(process_ask(&w, &r[i], &nobody, on_said, &said), 0);
	assert_int_equal(process_ask(&w, &r[PROCESS_ASKS_MAX], &nobody, on_said, &said), -E_LIMIT);
	process_cancel(&r[5]);
	assert_int_equal(process_ask(&w, &r[5], &nobody, on_said, &said), 0);
	for (int i = 0; i < PROCESS_ASKS_MAX; i++)
		process_cancel(&r[i]);
	assert_int_equal(said.times, 0);
	free(r);
}

static void
test_set_process(void **state)
{
	struct conn c = { .state = CONN_ROUTING };

	(void)state;
	meta_init(&c.meta);
	conn_set_process(&c, 5, "");
	assert_int_equal(c.meta.uid, 5);
	assert_string_equal(c.meta.process, "");
	conn_set_process(&c, 6, "/opt/a b/\xff\xc3/\xc3\xa9");
	assert_string_equal(c.meta.process_path, "/opt/a b/?\077/\xc3\xa9");
	assert_string_equal(c.meta.process, "\xc3\xa9");
	conn_set_process(&c, 7, "name");
	assert_string_equal(c.meta.process, "name");
	free(c.process);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_ask_and_answer, begin), cmocka_unit_test_setup(test_ask_nobody_answers, begin),
		cmocka_unit_test_setup(test_ask_over_a_death, begin), cmocka_unit_test_setup(test_answers_that_lie, begin),
		cmocka_unit_test_setup(test_ask_at_the_cap, begin), cmocka_unit_test(test_set_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
