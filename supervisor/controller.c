/* SPDX-License-Identifier: MIT */
/* The controller's life as the supervisor sees it: start, configuration, start again after a crash, its channels to the
 * workers, and its replacement by another one that has the listeners before the first lets go of them. Owned by sup:
 * controller serves or will, controller_next starts beside it. */
#include "supervisor/controller.h"

#include <fcntl.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "supervisor/child.h"
#include "supervisor/listeners.h"
#include "supervisor/logsink.h"
#include "supervisor/messages.h"
#include "supervisor/state.h"
#include "supervisor/upgrade.h"
#include "supervisor/workers.h"

/* The one in service, or one that was relieved and still answers: it must find the workers too. */
static bool
answers(const struct child *c)
{
	return c->role == ROLE_CONTROLLER && c->state == CH_SERVING && c->peer.fd != -1;
}

static void
introduce(struct sup *s, struct child *c, struct child *w)
{
	struct msg_peer m = {
		.generation = w->gen->number, .index = w->index, .slot = w->slot, .state = w->state, .pid = (uint32_t)w->pid
	};
	int pair[2], fds[2];

	if (w->ipc != c->ipc || imsg_pair(pair) != 0)
		return;
	child_send(w, MSG_PEER, 0, &m, sizeof m, pair[1]);
	fds[0] = pair[0];
	fds[1] = state_page_dup(s, w->slot);
	peer_send(&c->peer, MSG_PEER, 0, &m, sizeof m, fds, 2);
}

void
controller_introduce(struct sup *s, struct child *w)
{
	if (s->controller != NULL && answers(s->controller))	/* first: a worker has room for few */
		introduce(s, s->controller, w);
	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		if (c != s->controller && answers(c))
			introduce(s, c, w);
	}
}

static void
introduce_all(struct sup *s)
{
	for (uint32_t i = 0; i < STAT_SLOTS; i++)
		if (s->page[i].fd != -1) {
			struct msg_peer m = { .slot = i };

			child_send(s->controller, MSG_PAGE, 0, &m, sizeof m, state_page_dup(s, i));
		}
	list_each(n, &s->children) {
		struct child *w = container_of(n, struct child, link);

		if (w->role == ROLE_WORKER && (w->state == CH_SERVING || w->state == CH_DRAINING) && !w->stopping)
			introduce(s, s->controller, w);
	}
}

void
controller_draining(struct sup *s, const struct child *w)
{
	struct msg_peer m = {
		.generation = w->gen->number, .index = w->index, .slot = w->slot, .state = CH_DRAINING, .pid = (uint32_t)w->pid
	};

	list_each(n, &s->children)
		if (answers(container_of(n, struct child, link)))
			child_send(container_of(n, struct child, link), MSG_PEER_STATE, 0, &m, sizeof m, -1);
}

void
controller_configure(struct sup *s, struct child *c, int tree_fd)
{
	struct msg_ctl_config m = { .workers = s->serving != NULL ? (uint32_t)s->serving->n_workers : 0 };
	const struct { const char *value; unsigned flag; char *to; size_t cap; } over[] = {
		{ s->opt.ext_ctl, CTL_EXT_CTL, m.ext_ctl, sizeof m.ext_ctl },
		{ s->opt.ext_ctl_unix, CTL_EXT_CTL_UNIX, m.ext_ctl_unix, sizeof m.ext_ctl_unix },
		{ s->opt.ext_ui, CTL_EXT_UI, m.ext_ui, sizeof m.ext_ui },
		{ s->opt.secret, CTL_SECRET, m.secret, sizeof m.secret },
	};

	str_copy(m.home, sizeof m.home, s->home);
	for (size_t i = 0; i < countof(over); i++)
		if (over[i].value != NULL) {
			m.flags |= over[i].flag;
			str_copy(over[i].to, over[i].cap, over[i].value);
		}
	if (s->opt.command == CMD_TEST)
		m.flags |= CTL_TEST;
	child_send(c, MSG_CONFIG, 0, &m, sizeof m, fcntl(tree_fd, F_DUPFD_CLOEXEC, 3));
}

struct child *
controller_spawn(struct sup *s, int tree_fd)
{
	struct msg_hello hello = { .log_level = (uint32_t)logsink_level(s) };
	struct child *c = child_spawn(s, ROLE_CONTROLLER, NULL, 0);

	if (c == NULL)
		return NULL;
	child_send(c, MSG_HELLO, 0, &hello, sizeof hello, -1);
	controller_configure(s, c, tree_fd);
	return c;
}

void
controller_note(struct sup *s)
{
	struct msg_note m = { 0 };

	str_copy(m.upgrade, sizeof m.upgrade, s->upgrade_note);
	str_copy(m.rollback, sizeof m.rollback, s->rollback_note);
	if (s->controller != NULL && s->controller->state == CH_SERVING)
		child_send(s->controller, MSG_NOTE, 0, &m, sizeof m, -1);
}

void
controller_serve(struct sup *s)
{
	s->controller_failures = 0;
	messages_set_state(s->controller, CH_SERVING);
	introduce_all(s);
	controller_note(s);
	child_send(s->controller, MSG_SERVE, 0, NULL, 0, -1);	/* last: its first client finds the workers */
}

static void
listen_and_serve(struct sup *s)
{
	char why[512];

	if (listeners_serve(s, why, sizeof why) != 0)
		log_error("External controller listen error: %s", why);
	controller_serve(s);
}

bool
controller_crowd(const struct sup *s)
{
	int n_relieved = 0;

	list_each(n, &s->children) {
		const struct child *c = container_of(n, struct child, link);

		n_relieved += c != s->controller && answers(c);
	}
	return n_relieved >= RELIEVED_MAX;
}

/* Of those relieved before, the RELIEVED_MAX newest may go on; older ones are held by clients that do not read. */
static void
limit_relieved(struct sup *s)
{
	int n_relieved = 0;

	for (struct list *n = s->children.prev; n != &s->children; n = n->prev) {
		struct child *c = container_of(n, struct child, link);

		if (c != s->controller && answers(c) && ++n_relieved > RELIEVED_MAX)
			child_kill(c);
	}
}

/* Both live for a moment: the new one accepts, the old one gives the answers it owes and ends. */
static void
relieve(struct sup *s, struct child *c)
{
	struct msg_stop m = { .grace_ms = RELIEVED_GRACE_S * 1000, .flags = STOP_RELIEVED };
	struct child *old = s->controller;

	s->controller = c;
	s->controller_next = NULL;
	s->log_tap = LL_SILENT;		/* its own clients will say */
	logsink_level_changed(s);
	listen_and_serve(s);
	if (old != NULL) {
		old->stopping = true;
		child_send(old, MSG_STOP, 0, &m, sizeof m, -1);
	}
	limit_relieved(s);
	log_info(
	    "controller: pid %d takes over%s", (int)c->pid, old != NULL ? ", the one before ends with its last answers" : "");
}

bool
controller_ready(struct sup *s, struct child *c, bool wait)
{
	if (c == s->controller_next) {
		relieve(s, c);
		upgrade_controller_ready(s);
		return false;
	}
	if (c != s->controller)
		return false;
	if (c->state == CH_CONFIGURING)
		messages_set_state(c, CH_READY);
	if (c->state == CH_READY && !wait)
		listen_and_serve(s);
	return true;
}

/* ---- ends */

static void
arm(struct sup *s, double seconds)
{
	ev_timer_stop(s->loop, &s->controller_timer);
	ev_timer_set(&s->controller_timer, seconds, 0);
	ev_timer_start(s->loop, &s->controller_timer);
}

static void
on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	struct sup *s = t->data;

	(void)loop;
	(void)events;
	if (!s->stopping && s->controller == NULL && s->controller_next == NULL && s->ctl_tree_fd != -1)
		s->controller = controller_spawn(s, s->ctl_tree_fd);
}

bool
controller_gone(struct sup *s, struct child *c, const char *why)
{
	upgrade_forget_peer(s, &c->peer);
	if (c == s->controller_next) {
		s->controller_next = NULL;
		upgrade_controller_failed(s, why);
		return false;
	}
	if (c != s->controller)		/* it was relieved */
		return false;
	s->controller = NULL;
	s->log_tap = LL_SILENT;
	if (s->stopping)
		return false;
	arm(s, workers_backoff(&s->controller_failures, ev_steady() - c->started));
	upgrade_crashed(s, s->serving);
	return true;
}

void
controller_resume(struct sup *s)
{
	if (s->controller == NULL)
		arm(s, 0);
}

void
controller_init(struct sup *s)
{
	ev_timer_init(&s->controller_timer, on_timer, 0, 0);
	s->controller_timer.data = s;
}
