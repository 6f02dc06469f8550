/* SPDX-License-Identifier: MIT */
/* The channels to the supervisor and to the workers: the tables of what may come over them, in the same columns as
 * imsg_types.h, and what is done about it. Questions and their answers are question.c's matter, what the supervisor orders is
 * life.c's. Loop only, but for bridge_totals().
 *
 * Owns the channels and the mapped counter pages. */
#include "controller/bridge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/err.h"
#include "common/ev.h"
#include "common/list.h"
#include "common/log.h"
#include "common/memfd.h"
#include "common/peer.h"
#include "common/shm_stat.h"
#include "common/strutil.h"
#include "controller/ctl.h"
#include "controller/life.h"
#include "controller/question.h"
#include "controller/stream.h"

/* ---- workers */

static int
on_answer(struct peer *p, struct wire *body, const int *fds)
{
	struct worker *w = p->arg;
	struct bridge *b = w->bridge;
	struct question *q = question_find(b, p->cur_id, true);
	struct msg_answer head;
	int place = -1, r;

	if (wire_get(body, &head, sizeof(head)) != 0)
		return -E_PROTO;
	for (int i = 0; q != NULL && i < q->out->n && place == -1; i++)
		place = q->asked[i] == w ? i : -1;
	if (place == -1) {		/* came too late */
		imsg_close_fds(fds, p->cur_nfds);
		return 0;
	}
	r = p->cur_nfds > 0 ? answer_memfd(&q->out->answer[place], fds[0]) :
	    answer_inline(&q->out->answer[place], body->p + body->off, wire_left(body));
	if (r == -E_PROTO)
		return r;		/* on_worker_gone() ends its part */
	imsg_close_fds(fds, p->cur_nfds);
	q->asked[place] = NULL;
	q->out->answer[place].status = r == 0 ? head.status : 0;
	if (--q->missing == 0)
		question_end(b, q, 0);
	return 0;
}

static const struct imsg_handler worker_table[] = {
	{ MSG_ANSWER, "ANSWER", CH_ANY, sizeof(struct msg_answer), IMSG_BODY_MAX, 1, IMSG_FDS_UPTO, on_answer },
};

static void
worker_free(struct worker *w)
{
	struct bridge *b = w->bridge;

	question_forget(b, w);
	list_remove(&w->link);
	b->nworkers--;
	free(w);
}

static void
on_worker_gone(struct peer *p, const char *why)
{
	struct worker *w = p->arg;

	log_debug("controller: %s: %s", w->name, why);
	worker_free(w);
}

/* ---- the supervisor's messages */

static struct ctl *
ctl_of(const struct peer *p)
{
	struct bridge *b = p->arg;

	return b->ctl;
}

/* Maps a counter page once; a slot's page stays the same file for all its workers. */
static void
take_page(struct bridge *b, uint32_t slot, int fd)
{
	const void *page;

	if (atomic_load(&b->pages[slot]) == NULL) {
		page = memfd_map_shared(fd, STAT_PAGE, 0);
		if (page != NULL)
			atomic_store_explicit(&b->pages[slot], page, memory_order_release);
		else
			log_warn("controller: the counter page of slot %u cannot be mapped", slot);
	}
	close(fd);
}

static struct worker *
find_worker(struct bridge *b, const struct msg_peer *m)
{
	list_each(l, &b->workers) {
		struct worker *w = container_of(l, struct worker, link);
		if (w->id.generation == m->generation && w->id.index == m->index && w->id.pid == m->pid)
			return w;
	}
	return NULL;
}

static int
on_peer(struct peer *p, struct wire *body, const int *fds)
{
	struct bridge *b = p->arg;
	struct msg_peer m;
	struct worker *w;

	if (wire_get(body, &m, sizeof(m)) != 0 || m.slot >= STAT_SLOTS)
		return -E_PROTO;
	w = find_worker(b, &m);
	if (w != NULL) {		/* told again; one that died or was replaced has another pid and ends by its end of file */
		peer_close(&w->peer);
		worker_free(w);
	}
	take_page(b, m.slot, fds[1]);
	w = b->nworkers < WORKERS_MAX ? calloc(1, sizeof(*w)) : NULL;
	if (w == NULL) {
		log_error("controller: no room for worker %u of generation %u", m.index, m.generation);
		close(fds[0]);
		return 0;
	}
	w->bridge = b;
	w->id = m;
	snprintf(w->name, sizeof(w->name), "worker %u.%u", m.generation, m.index);
	peer_open(&w->peer, b->ctl->loop, fds[0], w->name, worker_table, countof(worker_table), w, on_worker_gone);
	w->peer.state = CH_SERVING;
	list_append(&b->workers, &w->link);
	b->nworkers++;
	question_go_on(b);
	return 0;
}

static int
on_peer_state(struct peer *p, struct wire *body, const int *fds)
{
	struct msg_peer m;
	struct worker *w;

	(void)fds;
	if (wire_get(body, &m, sizeof(m)) != 0)
		return -E_PROTO;
	w = find_worker(p->arg, &m);
	if (w != NULL)
		w->id.state = m.state;
	return 0;
}

static int
on_page(struct peer *p, struct wire *body, const int *fds)
{
	struct msg_peer m;

	if (wire_get(body, &m, sizeof(m)) != 0 || m.slot >= STAT_SLOTS)
		return -E_PROTO;
	take_page(p->arg, m.slot, fds[0]);
	return 0;
}

static int
on_log_level(struct peer *p, struct wire *body, const int *fds)
{
	struct msg_log_level m;

	(void)p;
	(void)fds;
	if (wire_get(body, &m, sizeof(m)) != 0)
		return -E_PROTO;
	log_set_level(m.level);
	return 0;
}

static int
on_log_rec(struct peer *p, struct wire *body, const int *fds)
{
	struct msg_log_rec m;

	(void)fds;
	if (wire_get(body, &m, sizeof(m)) != 0)
		return -E_PROTO;
	if (ctl_of(p)->streams != NULL)
		stream_log(ctl_of(p)->streams, (int)m.level, (const char *)body->p + body->off, wire_left(body));
	return 0;
}

static int
on_ping(struct peer *p, struct wire *body, const int *fds)
{
	(void)body;
	(void)fds;
	(void)peer_send(p, MSG_PONG, p->cur_id, NULL, 0, NULL, 0);
	return 0;
}

/* An answer of the supervisor to a question: the body as it is, and the file of a MSG_FILE. */
static int
supervisor_answer(struct peer *p, uint16_t type, const struct wire *body, const int *fds)
{
	struct bridge *b = p->arg;
	struct question *q = question_find(b, p->cur_id, false);
	struct bridge_answer *a;

	if (q == NULL) {
		imsg_close_fds(fds, p->cur_nfds);	/* too late, or of life.c, which gave up waiting */
		return 0;
	}
	a = &q->out->answer[0];
	q->out->type = type;
	if (answer_inline(a, body->p + body->off, wire_left(body)) != 0) {
		imsg_close_fds(fds, p->cur_nfds);
		question_end(b, q, -E_NOMEM);
		return 0;
	}
	if (p->cur_nfds > 0)
		a->fd = fds[0];
	a->status = 200;
	q->out->n = 1;
	question_end(b, q, 0);
	return 0;
}

static int
on_file(struct peer *p, struct wire *body, const int *fds)
{
	return supervisor_answer(p, MSG_FILE, body, fds);
}

static int
on_listener(struct peer *p, struct wire *body, const int *fds)
{
	return supervisor_answer(p, MSG_LISTENER, body, fds);
}

static int
on_result(struct peer *p, struct wire *body, const int *fds)
{
	return supervisor_answer(p, MSG_RESULT, body, fds);
}

static int
on_memory(struct peer *p, struct wire *body, const int *fds)
{
	return supervisor_answer(p, MSG_MEMORY, body, fds);
}

static int
on_generations(struct peer *p, struct wire *body, const int *fds)
{
	return supervisor_answer(p, MSG_GENERATIONS, body, fds);
}

static int
on_hello(struct peer *p, struct wire *body, const int *fds)
{
	struct msg_hello m;

	(void)fds;
	if (wire_get(body, &m, sizeof(m)) != 0)
		return -E_PROTO;
	life_hello(ctl_of(p), &m);
	return 0;
}

static int
on_config(struct peer *p, struct wire *body, const int *fds)
{
	struct msg_ctl_config m;

	if (wire_get(body, &m, sizeof(m)) != 0)
		return -E_PROTO;
	life_config(ctl_of(p), &m, fds[0]);
	return 0;
}

static int
on_serve(struct peer *p, struct wire *body, const int *fds)
{
	(void)body;
	(void)fds;
	life_serve(ctl_of(p));
	return 0;
}

static int
on_stop(struct peer *p, struct wire *body, const int *fds)
{
	struct msg_stop m;

	(void)fds;
	if (wire_get(body, &m, sizeof(m)) != 0)
		return -E_PROTO;
	if ((m.flags & STOP_RELIEVED) != 0)
		life_relieved(ctl_of(p), m.grace_ms);
	else
		life_stop(ctl_of(p), m.grace_ms);
	return 0;
}

static int
on_note(struct peer *p, struct wire *body, const int *fds)
{
	struct msg_note m;

	(void)fds;
	if (wire_get(body, &m, sizeof(m)) != 0)
		return -E_PROTO;
	m.upgrade[sizeof(m.upgrade) - 1] = m.rollback[sizeof(m.rollback) - 1] = '\0';
	ctl_note(ctl_of(p), &m);
	return 0;
}

#define FIXED(s) sizeof(struct s), sizeof(struct s)
static const struct imsg_handler supervisor_table[] = {
	{ MSG_HELLO, "HELLO", CH_CONFIGURING, FIXED(msg_hello), 0, 0, on_hello },
	{ MSG_CONFIG, "CONFIG", CH_ANY, FIXED(msg_ctl_config), 1, 0, on_config },
	{ MSG_SERVE, "SERVE", CH_READY, 0, 0, 0, 0, on_serve },
	{ MSG_STOP, "STOP", CH_ANY, FIXED(msg_stop), 0, 0, on_stop },
	{ MSG_NOTE, "NOTE", CH_ANY, FIXED(msg_note), 0, 0, on_note },
	{ MSG_PING, "PING", CH_ANY, 0, 0, 0, 0, on_ping },
	{ MSG_FILE, "FILE", CH_ANY, FIXED(msg_file), 1, IMSG_FDS_UPTO, on_file },
	{ MSG_LISTENER, "LISTENER", CH_ANY, FIXED(msg_listener), LISTEN_SLOTS_MAX, IMSG_FDS_UPTO, on_listener },
	{ MSG_RESULT, "RESULT", CH_ANY, FIXED(msg_result), 0, 0, on_result },
	{ MSG_MEMORY, "MEMORY", CH_ANY, FIXED(msg_memory), 0, 0, on_memory },
	{ MSG_GENERATIONS, "GENERATIONS", CH_ANY, 1, IMSG_BODY_MAX, 0, 0, on_generations },
	{ MSG_LOG_LEVEL, "LOG_LEVEL", CH_ANY, FIXED(msg_log_level), 0, 0, on_log_level },
	{ MSG_LOG_REC, "LOG_REC", CH_ANY, sizeof(struct msg_log_rec), IMSG_BODY_MAX, 0, 0, on_log_rec },
	{ MSG_PEER, "PEER", CH_ANY, FIXED(msg_peer), 2, 0, on_peer },
	{ MSG_PEER_STATE, "PEER_STATE", CH_ANY, FIXED(msg_peer), 0, 0, on_peer_state },
	{ MSG_PAGE, "PAGE", CH_ANY, FIXED(msg_peer), 1, 0, on_page },
};

static void
on_supervisor_gone(struct peer *p, const char *why)
{
	(void)why;
	life_stop(ctl_of(p), 0);
}

/* ---- totals */

void
bridge_totals(struct ctl *ctl, struct bridge_totals *out)
{
	struct bridge *b = ctl->bridge;

	memset(out, 0, sizeof(*out));
	for (int i = 0; b != NULL && i < STAT_SLOTS; i++) {
		const struct shm_stat *s = atomic_load_explicit(&b->pages[i], memory_order_acquire);
		if (s == NULL)
			continue;
		out->up += atomic_load_explicit(&s->up, memory_order_relaxed);
		out->down += atomic_load_explicit(&s->down, memory_order_relaxed);
		out->accepted += atomic_load_explicit(&s->accepted, memory_order_relaxed);
		out->shed += atomic_load_explicit(&s->shed, memory_order_relaxed);
		out->failed += atomic_load_explicit(&s->failed, memory_order_relaxed);
		out->open_tcp += atomic_load_explicit(&s->open_tcp, memory_order_relaxed);
		out->open_udp += atomic_load_explicit(&s->open_udp, memory_order_relaxed);
		out->state_seq += atomic_load_explicit(&s->state_seq, memory_order_relaxed);
	}
}

/* ---- life */

struct peer *
bridge_supervisor(struct ctl *ctl)
{
	return &ctl->bridge->supervisor;
}

void
bridge_log_tap(struct ctl *ctl, int level)
{
	struct bridge *b = ctl->bridge;
	const struct msg_log_level m = { .level = level };

	if (b == NULL || b->tap == level)
		return;
	b->tap = level;
	(void)peer_send(&b->supervisor, MSG_LOG_TAP, 0, &m, sizeof(m), NULL, 0);
}

static void
on_ring(struct ev_loop *loop, ev_io *w, int events)
{
	struct bridge *b = w->data;
	uint64_t n;

	(void)loop;
	(void)events;
	(void)!read(b->bell, &n, sizeof(n));
	question_ring(b);
}

struct bridge *
bridge_open(struct ctl *ctl, int fd)
{
	struct bridge *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	b->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (b->bell == -1 || pthread_mutex_init(&b->lock, NULL) != 0) {
		free(b);
		return NULL;
	}
	b->ctl = ctl;
	b->tap = LL_SILENT;
	list_init(&b->workers);
	list_init(&b->queue);
	ev_io_init(&b->ring, on_ring, b->bell, EV_READ);
	b->ring.data = b;
	ev_io_start(ctl->loop, &b->ring);
	peer_open(
	    &b->supervisor, ctl->loop, fd, "supervisor", supervisor_table, countof(supervisor_table), b, on_supervisor_gone);
	b->supervisor.state = CH_CONFIGURING;
	return b;
}

void
bridge_free_all(struct ctl *ctl)
{
	struct bridge *b = ctl->bridge;

	if (b == NULL)
		return;
	list_each_safe(n, tmp, &b->workers) {
		struct worker *w = container_of(n, struct worker, link);
		peer_close(&w->peer);
		worker_free(w);
	}
	peer_close(&b->supervisor);
	ev_io_stop(ctl->loop, &b->ring);
	close(b->bell);
	pthread_mutex_destroy(&b->lock);
	for (int i = 0; i < STAT_SLOTS; i++) {
		const struct shm_stat *s = atomic_load(&b->pages[i]);
		void *page;
		memcpy(&page, &s, sizeof(page));
		if (page != NULL)
			munmap(page, STAT_PAGE);
	}
	ctl->bridge = NULL;
	free(b);
}
