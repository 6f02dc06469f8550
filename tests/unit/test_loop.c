/* SPDX-License-Identifier: MIT */
/* worker/loop: end-of-turn work in order and once, frees after it, forgetting a fd, the pools' caps and reuse. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "worker/loop/loop.h"
#include "worker/loop/pool.h"

static char trace[64];
static int traced;
static struct loop loop;

struct step {
	struct loop_task task;
	char name;
	struct step *then;
};

static void
on_step(struct loop_task *t)
{
	struct step *s = container_of(t, struct step, task);

	trace[traced++] = s->name;
	trace[traced] = '\0';
	if (s->then != NULL)
		loop_defer(&loop, &s->then->task);
}

static int
setup(void **state)
{
	(void)state;
	loop_init(&loop);
	traced = 0;
	trace[0] = '\0';
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	loop_fini(&loop);
	return 0;
}

static void
test_loop_defer_order(void **state)
{
	struct step a = { .name = 'a' }, b = { .name = 'b' }, c = { .name = 'c' };

	(void)state;
	loop_task_init(&a.task, on_step);
	loop_task_init(&b.task, on_step);
	loop_task_init(&c.task, on_step);
	loop_bury(&loop, &c.task);
	loop_defer(&loop, &a.task);
	loop_defer(&loop, &b.task);
	loop_defer(&loop, &a.task);
	loop_turn(&loop);
	assert_string_equal(trace, "abc");
}

static void
test_loop_defer_from_task(void **state)
{
	struct step a = { .name = 'a' }, b = { .name = 'b' };
	uint64_t begin;

	(void)state;
	a.then = &b;
	loop_task_init(&a.task, on_step);
	loop_task_init(&b.task, on_step);
	loop_defer(&loop, &a.task);
	begin = loop_clock_ms();
	ev_run(loop.ev, EVRUN_ONCE);		/* must not block: work waits */
	assert_true(loop_clock_ms() - begin < 5000);
	assert_string_equal(trace, "a");
	loop_turn(&loop);
	assert_string_equal(trace, "ab");
}

static void
test_loop_cancel(void **state)
{
	struct step a = { .name = 'a' };

	(void)state;
	loop_task_init(&a.task, on_step);
	loop_defer(&loop, &a.task);
	loop_cancel(&a.task);
	loop_cancel(&a.task);
	loop_turn(&loop);
	assert_string_equal(trace, "");
}

static int seen;

static void
on_readable(struct ev_loop *ev, ev_io *w, int revents)
{
	(void)ev;
	(void)w;
	(void)revents;
	seen++;
}

/* The pipe stays open by a copy: without EPOLL_CTL_DEL its events would go on and libev would rebuild its set. */
static void
test_loop_forget(void **state)
{
	int p[2], copy;
	ev_io io;

	(void)state;
	seen = 0;
	assert_int_equal(pipe2(p, O_NONBLOCK | O_CLOEXEC), 0);
	copy = dup(p[0]);
	ev_io_init(&io, on_readable, p[0], EV_READ);
	ev_io_start(loop.ev, &io);
	assert_int_equal(write(p[1], "x", 1), 1);
	loop_turn(&loop);
	assert_int_equal(seen, 1);
	ev_io_stop(loop.ev, &io);
	loop_forget(&loop, p[0]);
	loop_forget(&loop, p[0]);
	close(p[0]);
	loop_turn(&loop);
	loop_turn(&loop);
	assert_int_equal(seen, 1);
	/* the number is used again */
	assert_int_equal(dup2(copy, p[0]), p[0]);
	ev_io_init(&io, on_readable, p[0], EV_READ);
	ev_io_start(loop.ev, &io);
	loop_turn(&loop);
	assert_int_equal(seen, 2);
	ev_io_stop(loop.ev, &io);
	close(copy);
	close(p[0]);
	close(p[1]);
}

static void
test_loop_fake_clock(void **state)
{
	(void)state;
	loop_turn(&loop);
	assert_true(loop.now_ms > 0);
	loop_fake_clock(&loop, 12345);
	loop_turn(&loop);
	assert_int_equal(loop.now_ms, 12345);
}

static void
test_buf_reuse_and_cap(void **state)
{
	struct buf *all = NULL, *b;
	size_t n = 0;

	(void)state;
	b = buf_get();
	assert_non_null(b);
	b->len = 7;
	buf_put(b);
	assert_ptr_equal(buf_get(), b);
	assert_int_equal(b->len, 0);
	buf_put(b);
	buf_put(NULL);
	while ((b = buf_get()) != NULL) {
		b->next = all;
		all = b;
		n++;
	}
	assert_int_equal(n, BUF_MAX);
	assert_int_equal(buf_in_use(), BUF_MAX);
	while (all != NULL) {
		b = all;
		all = b->next;
		buf_put(b);
	}
	assert_int_equal(buf_in_use(), 0);
	pool_trim();
}

static void
test_pipe_full_is_closed(void **state)
{
	struct pipe *p = pipe_get(), *q;
	int r;

	(void)state;
	assert_non_null(p);
	assert_true(p->size >= 65536);
	r = p->r;
	assert_int_equal(write(p->w, "x", 1), 1);
	p->fill = 1;
	pipe_put(p);
	assert_int_equal(fcntl(r, F_GETFD), -1);
	p = pipe_get();
	r = p->r;
	pipe_put(p);
	q = pipe_get();
	assert_int_equal(q->r, r);
	pipe_put(q);
	pipe_put(NULL);
	pool_trim();
	assert_int_equal(fcntl(r, F_GETFD), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_loop_defer_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loop_defer_from_task, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loop_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loop_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loop_fake_clock, setup, teardown),
		cmocka_unit_test(test_buf_reuse_and_cap),
		cmocka_unit_test(test_pipe_full_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
