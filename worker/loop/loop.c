/* SPDX-License-Identifier: MIT */
/* The event loop of a worker: see loop.h. Called by everything that waits; owns the libev loop and the two lists of end-of-turn
 * work. A turn is: epoll_wait, clock, callbacks, tasks, frees. */
#include "worker/loop/loop.h"

#include <errno.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"

static int64_t fake_wall_ns;	/* tests; 0 = the real one */

uint64_t
loop_clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int64_t
loop_wall_ns(void)
{
	struct timespec t;

	if (fake_wall_ns != 0)
		return fake_wall_ns;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void
run_tasks(struct loop *l)
{
	struct list now;

	if (!list_empty(&l->tasks)) {
		/* what these tasks schedule goes to the emptied list: the next turn */
		now = l->tasks;
		now.next->prev = now.prev->next = &now;
		list_init(&l->tasks);
		while (!list_empty(&now)) {
			struct loop_task *t = container_of(now.next, struct loop_task, node);

			list_remove(&t->node);
			t->fn(t);
		}
	}
	while (!list_empty(&l->dead)) {
		struct loop_task *t = container_of(l->dead.next, struct loop_task, node);

		list_remove(&t->node);
		t->fn(t);
	}
}

static void
on_prepare(struct ev_loop *ev, ev_prepare *w, int revents)
{
	struct loop *l = container_of(w, struct loop, prepare);

	(void)revents;
	run_tasks(l);
	if (list_empty(&l->tasks)) {
		if (ev_is_active(&l->idle))
			ev_idle_stop(ev, &l->idle);
	} else if (!ev_is_active(&l->idle)) {
		ev_idle_start(ev, &l->idle);
	}
}

static void
on_check(struct ev_loop *ev, ev_check *w, int revents)
{
	struct loop *l = container_of(w, struct loop, check);

	(void)ev;
	(void)revents;
	if (!l->fake)
		l->now_ms = loop_clock_ms();
}

static void
on_idle(struct ev_loop *ev, ev_idle *w, int revents)
{
	(void)ev;
	(void)w;
	(void)revents;
}

/* libev hides its epoll fd, but takes the lowest free number for it: found by taking that number first. A wrong guess is told
 * by what EPOLL_CTL_DEL of an unknown fd answers. */
static void
make_ev(struct loop *l)
{
	int probe = epoll_create1(EPOLL_CLOEXEC), other;

	if (probe == -1)
		fatal("no file descriptor for the event loop: errno %d", errno);
	close(probe);
	l->ev = ev_loop_new(EV_SLUICE);
	if (l->ev == NULL)
		fatal("cannot make an event loop: errno %d", errno);
	other = epoll_create1(EPOLL_CLOEXEC);		/* any file that is not in the set */
	if (other == -1)
		fatal("no file descriptor for the event loop: errno %d", errno);
	l->epfd = epoll_ctl(probe, EPOLL_CTL_DEL, other, NULL) == -1 && errno == ENOENT ? probe : -1;
	close(other);
	if (l->epfd == -1)
		fatal("the event loop's file descriptor is not where it should be");
}

void
loop_init(struct loop *l)
{
	*l = (struct loop){ .epfd = -1 };
	list_init(&l->tasks);
	list_init(&l->dead);
	make_ev(l);
	l->now_ms = loop_clock_ms();
	ev_prepare_init(&l->prepare, on_prepare);
	ev_set_priority(&l->prepare, EV_MINPRI);
	ev_prepare_start(l->ev, &l->prepare);
	ev_check_init(&l->check, on_check);
	ev_set_priority(&l->check, EV_MAXPRI);
	ev_check_start(l->ev, &l->check);
	ev_idle_init(&l->idle, on_idle);
}

void
loop_run(struct loop *l)
{
	ev_run(l->ev, 0);
}

void
loop_turn(struct loop *l)
{
	ev_run(l->ev, EVRUN_NOWAIT);
}

void
loop_stop(struct loop *l)
{
	ev_break(l->ev, EVBREAK_ALL);
}

void
loop_fini(struct loop *l)
{
	if (l->ev == NULL)
		return;
	/* a task may schedule another; one that always does must not keep the process */
	for (int i = 0; i < 16 && !(list_empty(&l->tasks) && list_empty(&l->dead)); i++)
		run_tasks(l);
	ev_prepare_stop(l->ev, &l->prepare);
	ev_check_stop(l->ev, &l->check);
	ev_idle_stop(l->ev, &l->idle);
	ev_loop_destroy(l->ev);
	l->ev = NULL;
}

void
loop_defer(struct loop *l, struct loop_task *t)
{
	if (list_empty(&t->node))
		list_append(&l->tasks, &t->node);
}

void
loop_cancel(struct loop_task *t)
{
	list_remove(&t->node);
}

void
loop_bury(struct loop *l, struct loop_task *t)
{
	list_remove(&t->node);
	list_append(&l->dead, &t->node);
}

void
loop_forget(struct loop *l, int fd)
{
	/* ENOENT: it never was in the set, which is as good */
	if (epoll_ctl(l->epfd, EPOLL_CTL_DEL, fd, NULL) == -1 && errno != ENOENT)
		log_error("cannot take fd %d out of the event loop: errno %d", fd, errno);
}

void
loop_fake_clock(struct loop *l, uint64_t ms)
{
	l->fake = true;
	l->now_ms = ms;
}

void
loop_fake_wall(int64_t ns)
{
	fake_wall_ns = ns;
}
