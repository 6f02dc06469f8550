/* SPDX-License-Identifier: MIT */
/* The nethelper's life: there is one as long as a worker of its build wants it, and none before. A configuration without a rule
 * or setting that needs it therefore never has that process. Called by messages.c, child.c and upgrade.c; owns sup.helper_timer
 * and helper_failures.
 *
 * It serves workers of its own build only: during an upgrade those of the build before keep theirs until the last of them has
 * ended. One that dies is started again with a back-off; the workers hold their questions meanwhile, each until its own
 * deadline. */
#include "supervisor/nethelper.h"

#include "common/imsg.h"
#include "common/log.h"
#include "supervisor/child.h"
#include "supervisor/logsink.h"
#include "supervisor/programs.h"
#include "supervisor/upgrade.h"
#include "supervisor/workers.h"

#define WANT_S 0.5	/* a worker that lost its channel asks once a second; one that asks more often gets no more */

/* Of the programs of that set; NULL: none, or it ends. */
static struct child *
find(const struct sup *s, uint32_t set)
{
	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		if (c->role == ROLE_NETHELPER && c->set == set && !c->stopping)
			return c;
	}
	return NULL;
}

static bool
wanted(const struct sup *s, uint32_t set)
{
	list_each(n, &s->children) {
		const struct child *c = container_of(n, struct child, link);

		if (c->wants_helper && c->set == set)
			return true;
	}
	return false;
}

static void
introduce(struct child *helper, struct child *worker)
{
	int pair[2];

	if (imsg_pair(pair) != 0)
		return;
	child_send(helper, MSG_HELPER, 0, NULL, 0, pair[0]);
	child_send(worker, MSG_HELPER, 0, NULL, 0, pair[1]);
}

static void
start(struct sup *s)
{
	struct msg_hello hello = { .log_level = (uint32_t)logsink_level(s) };
	struct child *c;

	ev_timer_stop(s->loop, &s->helper_timer);
	if (s->programs.fd[ROLE_NETHELPER] == -1) {
		log_error("there is no program %s: processes are not looked up", programs_name(ROLE_NETHELPER));
		return;
	}
	c = child_spawn(s, ROLE_NETHELPER, NULL, 0);
	if (c == NULL) {
		ev_timer_set(&s->helper_timer, 1, 0);
		ev_timer_start(s->loop, &s->helper_timer);
		return;
	}
	child_send(c, MSG_HELLO, 0, &hello, sizeof hello, -1);
	list_each(n, &s->children) {
		struct child *w = container_of(n, struct child, link);

		if (w->wants_helper && w->set == c->set)
			introduce(c, w);
	}
}

static void
on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	struct sup *s = t->data;

	(void)loop;
	(void)events;
	if (!s->stopping && find(s, s->programs.serial) == NULL && wanted(s, s->programs.serial))
		start(s);
}

void
nethelper_want(struct child *w)
{
	struct sup *s = w->sup;
	struct child *helper = find(s, w->set);

	if (s->stopping || (w->wants_helper && ev_steady() - w->helper_asked < WANT_S))
		return;
	w->wants_helper = true;
	w->helper_asked = ev_steady();
	if (helper != NULL)
		introduce(helper, w);
	else if (w->set == s->programs.serial && !ev_is_active(&s->helper_timer))
		start(s);
}

static void
stop_unwanted(struct sup *s)
{
	struct msg_stop m = { 0 };

	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		if (c->role != ROLE_NETHELPER || c->stopping || wanted(s, c->set))
			continue;
		c->stopping = true;
		child_send(c, MSG_STOP, 0, &m, sizeof m, -1);
	}
}

void
nethelper_child_gone(struct sup *s, struct child *c)
{
	if (c->role == ROLE_WORKER && c->wants_helper) {
		c->wants_helper = false;
		if (!s->stopping)
			stop_unwanted(s);
	} else if (c->role == ROLE_NETHELPER && !c->stopping && !s->stopping && c->set == s->programs.serial) {
		c->stopping = true;		/* is no more: find() passes over it */
		ev_timer_set(&s->helper_timer, workers_backoff(&s->helper_failures, ev_steady() - c->started), 0);
		ev_timer_start(s->loop, &s->helper_timer);
		upgrade_crashed(s, s->serving);
	}
}

void
nethelper_resume(struct sup *s)
{
	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		c->wants_helper = c->role == ROLE_WORKER && find(s, c->set) != NULL;
	}
}

void
nethelper_init(struct sup *s)
{
	ev_timer_init(&s->helper_timer, on_timer, 0, 0);
	s->helper_timer.data = s;
}
