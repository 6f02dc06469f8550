/* SPDX-License-Identifier: MIT */
/* One worker of a generation, the lead, asks the name servers for all: a question that it has cached or in flight is asked once,
 * however many workers there are. The others (followers) send it their questions over a channel each, which the supervisor
 * makes; they keep a small cache of the answers.
 *
 *   follower                                       lead
 *   RESOLVE {use, type, name}   id = its place  -> answers from the cache, or joins or begins a question
 *                                               <- RESOLVED {err, flushes} + message, or 1 fd with a long one
 *   RESOLVE {RESOLVE_SERVE} + a client's question -> the DNS server's stages: only the lead gives fake addresses
 *
 * When the lead dies the supervisor appoints another and gives every worker a new channel: what had no answer is asked again
 * there. A worker to which nobody comes within LINK_GAP_MS, and one that drains, asks for itself. A lead that drains ends when
 * nobody waits for its answers any more.
 *
 * A flush reaches the workers at different times. Each end of a channel counts the flushes since the channel was made, and an
 * answer tells its end's: one that was given before the lead was flushed, to a worker that is already, is not kept.
 *
 * Owned by the resolver: one struct link, made with the first channel. */
#include "worker/dns/link.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/err.h"
#include "common/imsg_types.h"
#include "common/log.h"
#include "common/memfd.h"
#include "common/peer.h"
#include "common/strutil.h"
#include "worker/codec/dns.h"
#include "worker/dns/internal.h"
#include "worker/worker.h"

enum { WATCH_MS = 1000 };
enum link_state {
	LINK_ALONE,		/* this worker asks the servers itself */
	LINK_UP,
	LINK_GAP		/* the lead has gone: questions wait */
};

struct flight {
	struct link_ask *a;	/* NULL: cancelled or given up, its answer is still to come */
	uint64_t sent_ms;
	bool used;
};
struct served {			/* a question that the DNS server answers, and that cannot be taken back */
	struct asked *k;	/* NULL: nobody waits any more */
};
struct asked {			/* a follower's question */
	struct follower *f;
	struct dns_wait wait;
	struct served *served;	/* instead of wait */
	uint32_t id;		/* 0: free */
};
struct follower {
	struct link *link;
	struct peer peer;
	uint32_t flushes;
	struct loop_task grave;
	struct asked asked[LINK_FLIGHT_MAX];
};
struct link {
	struct resolver *r;
	enum link_state state;
	struct peer peer;		/* to the lead, while LINK_UP */
	uint32_t flushes;
	struct list waiting;		/* struct link_ask; as many as there are questions */
	struct flight flight[LINK_FLIGHT_MAX];
	uint16_t free[LINK_FLIGHT_MAX];	/* places that are not used */
	unsigned n_free;
	ev_timer gap, watch;
	struct follower *followers[LINK_FOLLOWERS_MAX];
};

/* ---- the follower's end */

static void
pump(struct link *l)
{
	while (l->state == LINK_UP && l->n_free > 0 && !list_empty(&l->waiting)) {
		struct link_ask *a = container_of(l->waiting.next, struct link_ask, node);
		struct msg_resolve m = { .use = a->raw != NULL ? RESOLVE_SERVE : (uint16_t)a->use, .type = a->type };
		uint16_t k = l->free[--l->n_free];
		struct wire w;

		list_remove(&a->node);
		a->slot = (uint16_t)(k + 1);
		l->flight[k] = (struct flight){ a, l->r->loop->now_ms, true };
		wire_init(&w);
		wire_put(&w, &m, sizeof(m));
		if (a->raw != NULL)
			wire_put(&w, a->raw, a->n_raw);
		else
			wire_put_str(&w, a->name);
		(void)peer_send_wire(&l->peer, MSG_RESOLVE, a->slot, &w, NULL, 0);	/* when it fails, the channel ends soon */
	}
	if (l->n_free < LINK_FLIGHT_MAX && !ev_is_active(&l->watch))
		ev_timer_again(l->r->loop->ev, &l->watch);
}

/* Every place is free; those who had one wait in front again. */
static void
recall(struct link *l)
{
	l->n_free = 0;
	for (unsigned k = 0; k < LINK_FLIGHT_MAX; k++) {
		struct link_ask *a = l->flight[k].a;

		if (a != NULL) {
			a->slot = 0;
			list_prepend(&l->waiting, &a->node);
		}
		l->flight[k] = (struct flight){ 0 };
		l->free[l->n_free++] = (uint16_t)(LINK_FLIGHT_MAX - 1 - k);
	}
	ev_timer_stop(l->r->loop->ev, &l->watch);
}

/* From now on this worker asks for itself. */
static void
go_alone(struct link *l)
{
	struct list now;

	if (l->state == LINK_UP)
		peer_close(&l->peer);
	l->state = LINK_ALONE;
	ev_timer_stop(l->r->loop->ev, &l->gap);
	cache_resize(&l->r->cache, (size_t)l->r->conf.cache_max, false);
	recall(l);
	list_init(&now);
	while (!list_empty(&l->waiting)) {
		struct list *first = l->waiting.next;

		list_remove(first);
		list_append(&now, first);
	}
	while (!list_empty(&now)) {
		struct link_ask *a = container_of(now.next, struct link_ask, node);

		list_remove(&a->node);
		a->cb(a->arg, -E_AGAIN, NULL, 0, false);
	}
}

static void
on_gap(struct ev_loop *ev, ev_timer *t, int revents)
{
	(void)ev;
	(void)revents;
	log_debug("DNS: no other worker leads: this one asks for itself");
	go_alone(container_of(t, struct link, gap));
}

static void
on_lead_gone(struct peer *p, const char *why)
{
	struct link *l = p->arg;

	(void)why;
	l->state = LINK_GAP;
	if (l->r->gen->w->draining) {	/* nobody comes after it */
		go_alone(l);
		return;
	}
	recall(l);
	ev_timer_stop(l->r->loop->ev, &l->gap);
	ev_timer_set(&l->gap, LINK_GAP_MS / 1000.0, 0.);
	ev_timer_start(l->r->loop->ev, &l->gap);
}

/* A lead that turns but does not answer: its questions have their own end, so this is long after any. */
static void
on_watch(struct ev_loop *ev, ev_timer *t, int revents)
{
	struct link *l = container_of(t, struct link, watch);

	(void)revents;
	if (l->n_free == LINK_FLIGHT_MAX)
		ev_timer_stop(ev, t);
	for (unsigned k = 0; k < LINK_FLIGHT_MAX; k++) {
		struct flight *f = &l->flight[k];
		struct link_ask *a = f->a;

		if (a == NULL || l->r->loop->now_ms - f->sent_ms < LINK_SILENT_MS)
			continue;
		f->a = NULL;
		a->slot = 0;
		a->cb(a->arg, E_TIMEOUT, NULL, 0, false);
	}
}

static int
on_resolved(struct peer *p, struct wire *b, const int *fds)
{
	struct link *l = p->arg;
	uint32_t k = p->cur_id - 1;
	const void *msg;
	bool mapped = p->cur_nfds > 0;
	struct msg_resolved m;
	struct link_ask *a;
	size_t n;

	if (wire_get(b, &m, sizeof(m)) != 0 || m.err >= E_MAX_ || k >= LINK_FLIGHT_MAX || !l->flight[k].used)
		return -E_PROTO;
	n = wire_left(b);
	msg = b->p + b->off;
	if ((m.err == 0) != (n > 0 || mapped) || (mapped && (memfd_map(fds[0], &msg, &n, DNS_MSG_MAX) != 0 || n == 0)))
		return -E_PROTO;
	a = l->flight[k].a;
	l->flight[k] = (struct flight){ 0 };
	l->free[l->n_free++] = (uint16_t)k;
	if (a != NULL) {
		a->slot = 0;
		a->cb(a->arg, (int)m.err, n > 0 ? msg : NULL, n, (int32_t)(m.flushes - l->flushes) >= 0);
	}
	if (mapped) {
		munmap((void *)(uintptr_t)msg, n);
		close(fds[0]);
	}
	pump(l);
	return 0;
}

static const struct imsg_handler lead_table[] = {
	{ MSG_RESOLVED, "RESOLVED", CH_ANY, sizeof(struct msg_resolved), IMSG_BODY_MAX, 1, IMSG_FDS_UPTO, on_resolved },
};

bool
link_asks(const struct resolver *r)
{
	return r->link != NULL && r->link->state != LINK_ALONE;
}

static void
enqueue(struct resolver *r, struct link_ask *a)
{
	list_init(&a->node);
	list_append(&r->link->waiting, &a->node);
	pump(r->link);
}

void
link_ask(struct resolver *r, struct link_ask *a, enum resolve_use use, uint16_t type, const char *name, link_cb *cb, void *arg)
{
	*a = (struct link_ask){ .use = use, .type = type, .name = name, .cb = cb, .arg = arg };
	enqueue(r, a);
}

void
link_serve(struct resolver *r, struct link_ask *a, const uint8_t *question, size_t n, bool udp, link_cb *cb, void *arg)
{
	*a = (struct link_ask){ .type = udp, .raw = question, .n_raw = n, .cb = cb, .arg = arg };
	enqueue(r, a);
}

void
link_cancel(struct resolver *r, struct link_ask *a)
{
	if (a->node.next != NULL)
		list_remove(&a->node);
	if (a->slot > 0)
		r->link->flight[a->slot - 1].a = NULL;
	a->slot = 0;
}

/* ---- the lead's end */

static void
reply(struct asked *k, int err, const uint8_t *msg, size_t n)
{
	struct msg_resolved m = { .err = err == 0 && n == 0 ? E_DNS : (uint32_t)err, .flushes = k->f->flushes };
	struct peer *p = &k->f->peer;
	uint32_t id = k->id;
	struct wire w;
	int fd = -1;

	k->id = 0;
	if (n + sizeof(m) > IMSG_BODY_MAX) {
		fd = memfd_from("answer", msg, n);
		m.err = fd < 0 ? E_LIMIT : 0;
		n = 0;
	}
	wire_init(&w);
	wire_put(&w, &m, sizeof(m));
	wire_put(&w, msg, n);
	(void)peer_send_wire(p, MSG_RESOLVED, id, &w, &fd, fd >= 0);
}

static void
on_answer(void *arg, int err, const uint8_t *msg, size_t n)
{
	reply(arg, err, msg, n);
}

static void
on_served(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct served *s = arg;

	if (s->k != NULL) {
		s->k->served = NULL;
		reply(s->k, n > 0 ? 0 : err, msg, n);	/* a SERVFAIL is an answer */
	}
	free(s);
}

static void
serve(struct asked *k, const uint8_t *p, size_t n, bool udp)
{
	struct gen *g = k->f->link->r->gen;
	dns_serve_fn *fn = g->resolver->serve;
	struct served *s = fn != NULL ? calloc(1, sizeof(*s)) : NULL;
	int rc = s != NULL ? 0 : -E_UNSUP;

	if (rc == 0) {
		s->k = k;
		k->served = s;
		rc = fn(g, p, n, udp, on_served, s);	/* may answer at once */
	}
	if (rc == 0)
		return;
	free(s);
	k->served = NULL;
	reply(k, -rc, NULL, 0);
}

static struct asked *
asked_new(struct follower *f, uint32_t id)
{
	struct asked *k;

	if (id == 0 || id > LINK_FLIGHT_MAX || f->asked[id - 1].id != 0)	/* the places of its end */
		return NULL;
	k = &f->asked[id - 1];
	*k = (struct asked){ .f = f, .id = id };
	return k;
}

static int
on_resolve(struct peer *p, struct wire *b, const int *fds)
{
	struct follower *f = p->arg;
	struct resolver *r = f->link->r;
	char name[HOST_MAX + 1];
	struct msg_resolve m;
	struct cache_hit hit;
	struct asked *k;
	int rc;

	(void)fds;
	if (wire_get(b, &m, sizeof(m)) != 0 ||
	    (m.use != RESOLVE_SERVE && (m.use >= USES_ || wire_get_str(b, name, sizeof(name)) != 0)))
		return -E_PROTO;
	k = asked_new(f, p->cur_id);
	if (k == NULL)
		return -E_PROTO;
	if (m.use == RESOLVE_SERVE) {
		serve(k, b->p + b->off, wire_left(b), m.type != 0);
		return 0;
	}
	if (question_cached(r, (enum resolve_use)m.use, m.type, name, &hit)) {
		reply(k, 0, hit.msg, hit.n);
		return 0;
	}
	rc = question_ask(r, (enum resolve_use)m.use, m.type, name, &k->wait, on_answer, k);
	if (rc != 0)
		reply(k, rc == -E_LIMIT ? E_LIMIT : E_DNS, NULL, 0);
	return 0;
}

static const struct imsg_handler follower_table[] = {
	{ MSG_RESOLVE, "RESOLVE", CH_ANY, sizeof(struct msg_resolve), IMSG_BODY_MAX, 0, 0, on_resolve },
};

static void
follower_bury(struct loop_task *t)
{
	free(container_of(t, struct follower, grave));
}

static void
follower_end(struct follower *f)
{
	struct link *l = f->link;

	for (int i = 0; i < LINK_FOLLOWERS_MAX; i++)
		if (l->followers[i] == f)
			l->followers[i] = NULL;
	for (int i = 0; i < LINK_FLIGHT_MAX; i++) {
		struct asked *k = &f->asked[i];

		if (k->served != NULL)
			k->served->k = NULL;
		else if (k->id != 0)
			resolver_query_cancel(&k->wait);
	}
	loop_bury(l->r->loop, &f->grave);
}

static void
on_follower_gone(struct peer *p, const char *why)
{
	(void)why;
	follower_end(p->arg);
}

static int
follower_open(struct link *l, int fd)
{
	for (int i = 0; i < LINK_FOLLOWERS_MAX; i++) {
		struct follower *f = l->followers[i] == NULL ? calloc(1, sizeof(*f)) : NULL;

		if (f == NULL)
			continue;
		l->followers[i] = f;
		f->link = l;
		loop_task_init(&f->grave, follower_bury);
		peer_open(
		    &f->peer, l->r->loop->ev, fd, "DNS follower", follower_table, countof(follower_table), f, on_follower_gone);
		f->peer.state = CH_SERVING;
		return 0;
	}
	return -E_LIMIT;
}

/* ---- both */

static struct link *
link_get(struct resolver *r)
{
	struct link *l = r->link != NULL ? r->link : calloc(1, sizeof(*l));

	if (l == NULL || r->link != NULL)
		return l;
	r->link = l;
	l->r = r;
	list_init(&l->waiting);
	ev_timer_init(&l->gap, on_gap, 0., 0.);
	ev_timer_init(&l->watch, on_watch, 0., WATCH_MS / 1000.0);
	recall(l);
	return l;
}

void
resolver_lead(struct gen *g)
{
	if (g->resolver != NULL && g->resolver->link != NULL)
		go_alone(g->resolver->link);
}

void
resolver_link(struct gen *g, int fd, bool lead)
{
	struct resolver *r = g->resolver;
	struct link *l = r != NULL && r->loop != NULL ? link_get(r) : NULL;

	if (l == NULL) {
		close(fd);
		return;
	}
	if (lead) {
		go_alone(l);
		if (follower_open(l, fd) != 0)
			close(fd);
		return;
	}
	if (l->state == LINK_UP)
		peer_close(&l->peer);
	ev_timer_stop(r->loop->ev, &l->gap);
	recall(l);
	cache_resize(&r->cache, (size_t)r->conf.cache_max, true);
	l->flushes = 0;
	l->state = LINK_UP;
	peer_open(&l->peer, r->loop->ev, fd, "DNS lead", lead_table, countof(lead_table), l, on_lead_gone);
	l->peer.state = CH_SERVING;
	pump(l);
}

unsigned
resolver_pending(const struct gen *g)
{
	const struct link *l = g->resolver != NULL ? g->resolver->link : NULL;
	unsigned n = 0;

	for (int i = 0; l != NULL && i < LINK_FOLLOWERS_MAX; i++)
		for (int k = 0; l->followers[i] != NULL && k < LINK_FLIGHT_MAX; k++)
			n += l->followers[i]->asked[k].id != 0;
	return n;
}

void
link_flushed(struct resolver *r)
{
	struct link *l = r->link;

	if (l == NULL)
		return;
	l->flushes++;
	for (int i = 0; i < LINK_FOLLOWERS_MAX; i++)
		if (l->followers[i] != NULL)
			l->followers[i]->flushes++;
}

void
link_close(struct resolver *r)
{
	struct link *l = r->link;

	if (l == NULL)
		return;
	if (l->state == LINK_UP)
		peer_close(&l->peer);
	ev_timer_stop(r->loop->ev, &l->gap);
	ev_timer_stop(r->loop->ev, &l->watch);
	for (int i = 0; i < LINK_FOLLOWERS_MAX; i++)
		if (l->followers[i] != NULL) {
			struct follower *f = l->followers[i];

			peer_close(&f->peer);
			follower_end(f);
		}
	free(l);
	r->link = NULL;
}
