/* SPDX-License-Identifier: MIT */
/* The generation machine. A reload, a restart and the start are one mechanism: generation g+1 is complete and READY before g
 * is touched, so whatever fails before that (file, syntax, reference, port, permission, crash, time) ends g+1 alone and is
 * answered with the true reason.
 *
 *   request -> LOADING (a loader makes the tree) -> STARTING (N workers build it, READY each) -> CONTROLLER (SIGHUP only: it adopts its keys)
 *           -> PROVING (every worker answers a ping through its loop, every listener accepts) -> switch: g DRAIN, g+1 SERVE
 *           -> SETTLING (every worker of g has stopped accepting, its UDP sessions are in g+1) -> answer: no connection that comes after it meets the
 *           old configuration, and the next switch does not meet sessions on their way.
 * RELOAD_SAME begins at STARTING with the serving tree.
 *
 * DRAIN goes out before SERVE: a listener's queue waits the moment between, and a datagram is not read by two. One at a time;
 * RELOADS_MAX wait, also for a generation that still hands over when there are sluice.max-generations of them. */
#include "supervisor/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "supervisor/change.h"
#include "supervisor/child.h"
#include "supervisor/controller.h"
#include "supervisor/files.h"
#include "supervisor/generations.h"
#include "supervisor/images.h"
#include "supervisor/inherit.h"
#include "supervisor/lastgood.h"
#include "supervisor/listeners.h"
#include "supervisor/logsink.h"
#include "supervisor/messages.h"
#include "supervisor/recover.h"
#include "supervisor/state.h"
#include "supervisor/systemd.h"
#include "supervisor/upgrade.h"
#include "supervisor/workers.h"

enum { WAITERS_MAX = 64 };
static const double room_again_s = 0.02;
enum phase { RL_IDLE, RL_LOADING, RL_STARTING, RL_CONTROLLER, RL_PROVING, RL_SETTLING };
static const char *const phase_name[] = { "IDLE", "LOADING", "STARTING", "CONTROLLER", "PROVING", "SETTLING" };

struct ask {
	struct list link;
	struct msg_reload m;
	int payload;
	struct reload_waiter waiter[WAITERS_MAX];
	int n_waiters;
};
struct reload {
	enum phase phase;
	struct list queue;
	int n_queued;
	struct ask *now;
	bool fell_back;			/* the start already uses the stored last good configuration */
	struct child *loader;
	struct generation *gen;		/* g+1 while it starts */
	int pongs;			/* of its workers, while PROVING */
	uint32_t old;			/* number of the generation that was replaced, */
	uint32_t unsettled[2];		/* and the bits of its workers and of those that serve now that have not answered */
	ev_timer timer;
	ev_timer room;			/* looks again whether there is room for a generation */
	ev_tstamp began;
};

static void next(struct sup *s);
static void settled(struct sup *s);
static void load(struct sup *s);
static void start_generation(struct sup *s, int tree_fd, const struct msg_job_done *opts);

static void
enter(struct sup *s, enum phase p)
{
	log_debug("reload: %s -> %s", phase_name[s->reload->phase], phase_name[p]);
	s->reload->phase = p;
}

bool
reload_busy(const struct sup *s)
{
	return s->reload->phase != RL_IDLE || s->reload->n_queued > 0;
}

static unsigned
kept_states(const struct msg_reload *m)
{
	unsigned keep = 1u << STATE_SELECT | 1u << STATE_DELAYS | 1u << STATE_NODES;

	if (m->flags & RELOAD_SAME)
		return ~0u;
	if (!(m->flags & (RELOAD_FORCE | RELOAD_ROLLBACK)))
		keep |= 1u << STATE_PORTS;
	return keep;
}

/* ---- answers */

static void
answer(struct sup *s, int status, const struct msg_conf_err *e, const char *text)
{
	struct ask *a = s->reload->now;

	for (int i = 0; i < a->n_waiters; i++)
		if (a->waiter[i].peer != NULL)
			messages_result(a->waiter[i].peer, a->waiter[i].id, status, e, text);
	if (a->payload != -1)
		close(a->payload);
	s->reload->now = NULL;
	ev_timer_stop(s->loop, &s->reload->timer);
	enter(s, RL_IDLE);
	if (a->m.flags & RELOAD_UPGRADE)
		upgrade_workers_done(s, status, text);
	free(a);
	if (list_empty(&s->reload->queue))
		systemd_idle(s, status >= 400);
}

/* Ends g+1; g never noticed. */
static void
refuse(struct sup *s, int status, const struct msg_conf_err *e, const char *text)
{
	struct reload *r = s->reload;
	bool first = s->serving == NULL, file = !(r->now->m.flags & (RELOAD_SAME | RELOAD_ROLLBACK));
	char where[128 + PATH_MAX] = "";

	/* the API sends the same parts beside the reference's text */
	if (e != NULL && e->line > 0)
		snprintf(where, sizeof where, " (%s%sline %u, column %u%s%s)", e->key, e->key[0] != '\0' ? ", " : "", e->line,
		    e->column, file ? " of " : "", file ? files_config_name(s, &r->now->m) : "");
	log_error("configuration refused: %s%s", text, where);
	if (r->loader != NULL) {
		child_kill(r->loader);
		r->loader = NULL;
	}
	if (r->gen != NULL) {
		generations_kill(r->gen);
		if (generations_living(r->gen) == 0)
			generations_free(r->gen);
		else
			r->gen->state = GEN_DRAINING;	/* freed with its last worker */
		r->gen = NULL;
	}
	/* what served before a crash does not start any more: the file decides, as in any start */
	if (first && r->now->m.flags & RELOAD_SAME) {
		r->now->m.flags = RELOAD_FORCE;
		close(s->ctl_tree_fd);
		s->ctl_tree_fd = -1;
		load(s);
		return;
	}
	/* a start with a bad file goes on with the last good one, if that one says so */
	if (first && s->opt.command == CMD_RUN && !r->fell_back) {
		struct msg_job_done opts;
		int tree = lastgood_stored(s, &opts);

		r->fell_back = true;
		if (tree != -1) {
			log_error("starting with the last good configuration instead (sluice.start-with-last-good)");
			start_generation(s, tree, &opts);
			return;
		}
	}
	answer(s, status, e, text);
	if (first)
		sup_stop(s, 1);
	else
		next(s);
}

static void
on_timeout(struct ev_loop *loop, ev_timer *t, int events)
{
	struct sup *s = t->data;

	(void)loop;
	(void)events;
	if (s->reload->phase == RL_SETTLING) {
		settled(s);
		return;
	}
	refuse(s, 500, NULL, s->reload->phase == RL_LOADING ? "the loader did not finish in time" :
	    s->reload->phase == RL_CONTROLLER ? "the controller did not answer in time" : "the new workers were not ready in time");
}

static void
arm(struct sup *s, double seconds)
{
	ev_timer_stop(s->loop, &s->reload->timer);
	ev_timer_set(&s->reload->timer, seconds, 0);
	ev_timer_start(s->loop, &s->reload->timer);
}

/* ---- the phases */

static void
start_generation(struct sup *s, int tree_fd, const struct msg_job_done *opts)
{
	struct reload *r = s->reload;
	struct generation *g = calloc(1, sizeof *g);

	if (g == NULL) {
		close(tree_fd);
		refuse(s, 500, NULL, "out of memory");
		return;
	}
	g->sup = s;
	g->number = ++s->last_generation;
	g->set = s->programs.serial;
	str_copy(g->build, sizeof g->build, s->programs.build);
	g->state = GEN_STARTING;
	g->tree_fd = tree_fd;
	g->opts = *opts;
	g->born = ev_steady();
	g->hash = generations_hash(tree_fd);
	g->n_workers = s->opt.command == CMD_TEST ? 1 : workers_count(opts);
	for (int i = 0; i < WORKERS_MAX; i++)
		g->reader[i] = (uint8_t)i;
	list_append(&s->generations, &g->link);
	r->gen = g;
	enter(s, RL_STARTING);
	arm(s, START_TIMEOUT_S);
	for (int i = 0; i < g->n_workers; i++)
		if (workers_start(g, (uint32_t)i, kept_states(&r->now->m), &g->worker[i]) == NULL) {
			refuse(s, 500, NULL, "a worker cannot be started");
			return;
		}
}

static void
load(struct sup *s)
{
	struct reload *r = s->reload;
	struct msg_job job = { .kind = JOB_CONFIG };
	char why[1024] = "";
	int fd;

	if (r->now->m.flags & RELOAD_PAYLOAD) {
		fd = r->now->payload;
		r->now->payload = -1;
	} else if (r->now->m.flags & RELOAD_PATH)
		fd = files_open(s, r->now->m.path, why, sizeof why);
	else
		fd = files_config(s, s->serving == NULL && s->opt.command == CMD_RUN, why, sizeof why);
	if (fd < 0) {
		refuse(s, 400, NULL, why);
		return;
	}
	r->loader = child_spawn(s, ROLE_LOADER, NULL, 0);
	if (r->loader == NULL) {
		close(fd);
		refuse(s, 500, NULL, "the loader cannot be started");
		return;
	}
	enter(s, RL_LOADING);
	arm(s, LOADER_TIMEOUT_S);
	child_send(r->loader, MSG_JOB, 0, &job, sizeof job, fd);
}

static void
begin(struct sup *s, struct ask *a)
{
	struct reload *r = s->reload;
	struct msg_job_done opts;
	int tree;

	r->now = a;
	r->began = ev_steady();
	if (s->serving == NULL && (tree = recover_tree(s, &opts)) != -1) {
		a->m.flags = RELOAD_SAME;
		start_generation(s, tree, &opts);
	} else if (a->m.flags & RELOAD_SAME)
		start_generation(s, fcntl(s->serving->tree_fd, F_DUPFD_CLOEXEC, 3), &s->serving->opts);
	else if (a->m.flags & RELOAD_ROLLBACK) {
		tree = lastgood_tree(s, &opts);
		if (tree == -1)
			refuse(s, 500, NULL, "there is no last good configuration");
		else
			start_generation(s, tree, &opts);
	} else
		load(s);
}

static void
on_room(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	next(t->data);
}

static void
next(struct sup *s)
{
	struct reload *r = s->reload;

	if (r->phase != RL_IDLE || r->now != NULL || list_empty(&r->queue) || s->stopping || upgrade_holds(s))
		return;
	if (generations_crowded(s)) {
		ev_timer_stop(s->loop, &r->room);
		ev_timer_set(&r->room, room_again_s, 0);
		ev_timer_start(s->loop, &r->room);
		return;
	}
	struct ask *a = container_of(r->queue.next, struct ask, link);

	list_remove(&a->link);
	r->n_queued--;
	begin(s, a);
}

void
reload_request(struct sup *s, const struct msg_reload *m, int payload, struct reload_waiter w)
{
	struct reload *r = s->reload;
	struct ask *a;

	/* equal asks that wait are one: nothing of theirs has been read yet */
	list_each(n, &r->queue) {
		a = container_of(n, struct ask, link);
		if (payload == -1 && a->payload == -1 && a->m.flags == m->flags && !strcmp(a->m.path, m->path) &&
		    a->n_waiters < WAITERS_MAX) {
			a->waiter[a->n_waiters++] = w;
			return;
		}
	}
	a = r->n_queued < RELOADS_MAX && !s->stopping ? calloc(1, sizeof *a) : NULL;
	if (a == NULL) {
		if (payload != -1)
			close(payload);
		if (w.peer != NULL)
			messages_result(
			    w.peer, w.id, 503, NULL, s->stopping ? "the service is stopping" : "too many reloads are waiting");
		return;
	}
	a->m = *m;
	a->payload = payload;
	a->waiter[a->n_waiters++] = w;
	if (m->flags & RELOAD_UPGRADE)	/* what waits comes after it, with the programs that then run */
		list_prepend(&r->queue, &a->link);
	else
		list_append(&r->queue, &a->link);
	r->n_queued++;
	next(s);
}

void
reload_go_on(struct sup *s)
{
	next(s);
}

void
reload_refuse_waiting(struct sup *s, const char *text)
{
	struct reload *r = s->reload;

	list_each_safe(n, tmp, &r->queue) {
		struct ask *a = container_of(n, struct ask, link);

		for (int i = 0; i < a->n_waiters; i++)
			if (a->waiter[i].peer != NULL)
				messages_result(a->waiter[i].peer, a->waiter[i].id, 503, NULL, text);
		if (a->payload != -1)
			close(a->payload);
		list_remove(&a->link);
		free(a);
	}
	r->n_queued = 0;
}

void
reload_forget_peer(struct sup *s, struct peer *p)
{
	list_each(n, &s->reload->queue) {
		struct ask *a = container_of(n, struct ask, link);

		for (int i = 0; i < a->n_waiters; i++)
			if (a->waiter[i].peer == p)
				a->waiter[i].peer = NULL;
	}
	for (int i = 0; s->reload->now != NULL && i < s->reload->now->n_waiters; i++)
		if (s->reload->now->waiter[i].peer == p)
			s->reload->now->waiter[i].peer = NULL;
}

void
reload_job_done(struct sup *s, struct child *loader, const struct msg_job_done *m, int tree_fd)
{
	struct msg_job_done opts = *m;

	if (loader != s->reload->loader || s->reload->phase != RL_LOADING) {
		close(tree_fd);
		return;
	}
	s->reload->loader = NULL;
	loader->stopping = true;
	opts.external_ui[sizeof opts.external_ui - 1] = '\0';
	if (opts.max_generations < 1 || opts.max_generations > GENERATIONS_MAX)
		opts.max_generations = 4;
	start_generation(s, tree_fd, &opts);
}

void
reload_conf_err(struct sup *s, struct child *c, const struct msg_conf_err *e)
{
	struct msg_conf_err err = *e;
	struct reload *r = s->reload;

	err.key[sizeof err.key - 1] = err.text[sizeof err.text - 1] = '\0';
	if (c == s->controller_next) {
		upgrade_controller_failed(s, err.text);
		return;
	}
	if ((c->role == ROLE_WORKER && c->gen != r->gen) || (c->role == ROLE_LOADER && c != r->loader) || r->phase == RL_IDLE) {
		/* a replacement or a new controller that cannot be built; or a sibling of one that was refused, when the next
		 * attempt already runs */
		if (!c->stopping)
			log_error("%s: %s", c->name, err.text);
		c->stopping = c->role != ROLE_CONTROLLER;
		return;
	}
	c->stopping = c->role != ROLE_CONTROLLER;
	if (c == r->loader) {
		r->loader = NULL;
		if (err.code == E_NOTFOUND || err.code == E_SYS)	/* the loader knows no paths */
			snprintf(err.text, sizeof err.text, "configuration file %.400s%s%.80s", files_config_name(s, &r->now->m),
			    err.code == E_SYS ? ": " : " is empty", err.code == E_SYS ? e->text : "");
	}
	refuse(s, err.code == E_BUSY ? 409 : err.code == E_PERM || err.code == E_INVAL || err.code == E_LIMIT || err.code == E_NOTFOUND ? 400 : 500, &err,
	    err.text);
}

/* ---- the switch */

/* After g+1 was introduced: the controller must never be without a lead to ask. */
static void
tell_draining(struct sup *s, const struct generation *g)
{
	list_each(n, &s->children) {
		struct child *w = container_of(n, struct child, link);

		if (w->gen == g && w->state == CH_DRAINING)
			controller_draining(s, w);
	}
}

/* The last proof: READY says that a worker was built, a pong that its loop turns. */
static void
prove(struct sup *s)
{
	struct reload *r = s->reload;

	enter(s, RL_PROVING);
	arm(s, PROVE_TIMEOUT_S);
	r->pongs = 0;
	for (int i = 0; i < r->gen->n_workers; i++)
		child_send(r->gen->worker[i], MSG_PING, r->gen->number, NULL, 0, -1);
}

static void
settled(struct sup *s)
{
	listeners_settle(s);
	answer(s, 204, NULL, "");
	next(s);
}

static uint32_t
ping_all(const struct generation *g, enum child_state state)
{
	uint32_t asked = 0;

	for (int i = 0; g != NULL && i < g->n_workers; i++)
		if (g->worker[i] != NULL && g->worker[i]->state == state &&
		    child_send(g->worker[i], MSG_PING, g->number, NULL, 0, -1) == 0)
			asked |= 1u << i;
	return asked;
}

/* The ping is behind the DRAIN in the same channel. A worker that does not answer has SETTLE_TIMEOUT_S: its silence delays the
 * answer, no more. */
static void
settle(struct sup *s, struct generation *old)
{
	struct reload *r = s->reload;

	enter(s, RL_SETTLING);
	r->unsettled[0] = ping_all(old, CH_DRAINING);
	r->unsettled[1] = old != NULL ? ping_all(s->serving, CH_SERVING) : 0;
	if (r->unsettled[0] == 0 && r->unsettled[1] == 0) {
		settled(s);
		return;
	}
	r->old = old->number;
	arm(s, SETTLE_TIMEOUT_S);
}

static void
settle_one(struct sup *s, const struct generation *g, uint32_t index)
{
	struct reload *r = s->reload;
	uint32_t *bits = g == s->serving ? &r->unsettled[1] : &r->unsettled[0];

	if (r->phase != RL_SETTLING || (g != s->serving && g->number != r->old) || !(*bits & 1u << index))
		return;
	*bits &= ~(1u << index);
	if (r->unsettled[0] == 0 && r->unsettled[1] == 0)
		settled(s);
}

static void
switch_to(struct sup *s)
{
	struct reload *r = s->reload;
	struct generation *g = r->gen, *old = s->serving;

	if (old != NULL) {
		old->state = GEN_DRAINING;
		old->drain_since = ev_steady();
		for (int i = 0; i < old->n_workers; i++) {
			ev_timer_stop(s->loop, &old->respawn[i]);
			if (old->worker[i] != NULL && old->worker[i]->state == CH_SERVING)
				workers_drain(old->worker[i], g);
			else if (old->worker[i] != NULL)
				child_kill(old->worker[i]);	/* a replacement that was still starting */
			if (old->successor[i] != NULL)
				child_kill(old->successor[i]);
		}
		generations_drain_timer(old, old->opts.drain_timeout_s);
	}
	g->state = GEN_SERVING;
	s->serving = g;
	r->gen = NULL;
	workers_link(g, NULL);
	for (int i = 0; i < g->n_workers; i++) {
		child_send(g->worker[i], MSG_SERVE, 0, NULL, 0, -1);
		messages_set_state(g->worker[i], CH_SERVING);
		controller_introduce(s, g->worker[i]);
	}
	workers_rehome(s);	/* of the generations before old */
	if (s->controller != NULL && s->controller->state == CH_READY)
		controller_serve(s);
	if (old != NULL && generations_living(old) > 0)
		tell_draining(s, old);
	else if (old != NULL) {
		generations_free(old);
		old = NULL;
	}
	state_forget(s, kept_states(&r->now->m));
	images_settle(s, g->number);
	generations_limit(s, g->opts.max_generations);
	lastgood_serving(s, g);
	if (s->rollback_note[0] != '\0' && !(r->now->m.flags & (RELOAD_ROLLBACK | RELOAD_SAME | RELOAD_UPGRADE))) {
		s->rollback_note[0] = '\0';
		controller_note(s);
	}
	if (r->now->m.flags & RELOAD_CONTROLLER || s->ctl_tree_fd == -1) {
		if (s->ctl_tree_fd != -1)
			close(s->ctl_tree_fd);
		s->ctl_tree_fd = fcntl(g->tree_fd, F_DUPFD_CLOEXEC, 3);
		s->ctl_opts = g->opts;
	}
	log_info("generation %u serves with %d worker%s after %.0f ms", g->number, g->n_workers, g->n_workers == 1 ? "" : "s",
	    (ev_steady() - r->began) * 1000);
	inherit_end(s);
	recover_keep(s);
	systemd_serving(s);
	settle(s, old);
}

void
reload_pong(struct sup *s, struct child *c)
{
	struct reload *r = s->reload;
	char why[512];

	if (c->gen != NULL)
		settle_one(s, c->gen, c->index);
	if (r->phase != RL_PROVING || c->gen != r->gen || ++r->pongs < r->gen->n_workers)
		return;
	if (listeners_serve(s, why, sizeof why) != 0)
		refuse(s, 409, NULL, why);
	else
		switch_to(s);
}

static void
all_workers_ready(struct sup *s)
{
	struct reload *r = s->reload;

	/* the first start, SIGHUP and -t also configure the controller; a failure there refuses the whole */
	if (s->serving == NULL || (r->now->m.flags & RELOAD_CONTROLLER)) {
		enter(s, RL_CONTROLLER);
		arm(s, START_TIMEOUT_S);
		if (s->controller == NULL)
			s->controller = controller_spawn(s, s->ctl_tree_fd != -1 ? s->ctl_tree_fd : r->gen->tree_fd);
		else
			controller_configure(s, s->controller, r->gen->tree_fd);
		if (s->controller == NULL)
			refuse(s, 500, NULL, "the controller cannot be started");
		return;
	}
	prove(s);
}

void
reload_ready(struct sup *s, struct child *c)
{
	struct generation *g = c->gen;
	struct reload *r = s->reload;

	if (c->role == ROLE_CONTROLLER) {
		if (s->opt.command == CMD_TEST)
			sup_stop(s, 0);
		else if (controller_ready(s, c, r->phase == RL_CONTROLLER) && r->phase == RL_CONTROLLER)
			prove(s);
		return;
	}
	messages_set_state(c, CH_READY);
	if (g == r->gen) {
		for (int i = 0; i < g->n_workers; i++)
			if (g->worker[i] == NULL || g->worker[i]->state != CH_READY)
				return;
		all_workers_ready(s);
	} else if (g == s->serving)
		workers_ready(c);
}

/* ---- ends */

static void
worker_gone(struct sup *s, struct child *c, const char *why)
{
	struct generation *g = c->gen;

	c->gen = NULL;		/* no more among the living */
	if (g->worker[c->index] == c)
		g->worker[c->index] = NULL;
	if (s->stopping)
		return;
	settle_one(s, g, c->index);
	if (g == s->reload->gen) {
		char text[256];

		snprintf(text, sizeof text, "a new worker failed: %s", why);
		refuse(s, 500, NULL, text);
	} else if (g->state == GEN_SERVING) {
		workers_gone(g, c);
	} else if (g->state == GEN_DRAINING && generations_living(g) == 0) {
		log_info("generation %u has ended", g->number);
		generations_free(g);
	}
}

void
reload_child_gone(struct sup *s, struct child *c, const char *why)
{
	struct reload *r = s->reload;

	switch (c->role) {
	case ROLE_WORKER:
		worker_gone(s, c, why);
		break;
	case ROLE_LOADER:
		if (c == r->loader && r->phase == RL_LOADING) {
			char text[256];

			r->loader = NULL;
			snprintf(text, sizeof text, "the loader failed: %s", why);
			refuse(s, 500, NULL, text);
		}
		break;
	case ROLE_CONTROLLER:
		reload_forget_peer(s, &c->peer);
		if (controller_gone(s, c, why) && r->phase == RL_CONTROLLER) {
			char text[256];

			snprintf(text, sizeof text, "the controller failed: %s", why);
			refuse(s, 500, NULL, text);
		}
		break;
	default:
		break;
	}
}

void
reload_resume(struct sup *s)
{
	list_each_safe(n, tmp, &s->generations) {
		struct generation *g = container_of(n, struct generation, link);

		if (g->state != GEN_SERVING && generations_living(g) == 0)
			generations_free(g);
	}
	for (int i = 0; i < s->serving->n_workers; i++)
		if (s->serving->worker[i] == NULL)
			workers_start(s->serving, (uint32_t)i, ~0u, &s->serving->worker[i]);
	controller_resume(s);
}

void
reload_init(struct sup *s)
{
	s->reload = calloc(1, sizeof *s->reload);
	if (s->reload == NULL)
		fatal("out of memory");
	list_init(&s->reload->queue);
	ev_timer_init(&s->reload->timer, on_timeout, 0, 0);
	s->reload->timer.data = s;
	ev_timer_init(&s->reload->room, on_room, room_again_s, 0);
	s->reload->room.data = s;
	s->ctl_tree_fd = -1;
	controller_init(s);
}
