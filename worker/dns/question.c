/* SPDX-License-Identifier: MIT */
/* Questions in flight: equal ones meet here, so a name server hears each once; the answer is kept in the cache and told to
 * all. Called by resolver.c for addresses and for raw questions, and by link.c for those of other workers. Decides who is
 * asked: the lead, where another worker leads for DNS; else (spec/config.md 14.2) the policy's servers, or the main ones and
 * beside or after them those of fallback. Owns the questions.
 *
 * A question ends when nobody waits for it any more, unless it was asked to freshen the cache. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/map.h"
#include "common/strutil.h"
#include "worker/codec/dns.h"
#include "worker/dns/internal.h"
#include "worker/dns/link.h"

struct part {				/* one list of servers being asked */
	struct question *q;
	struct exchange *x;		/* NULL: not asked, or answered */
	bool done;
	int err;
	uint8_t *msg;			/* kept until the other part tells whether it counts */
	size_t n;
};
struct question {
	struct question *next;		/* of its bucket */
	struct resolver *r;
	uint64_t hash;
	enum resolve_use use;
	uint16_t type;
	bool refresh;			/* goes on without anybody waiting */
	bool judged;			/* the main answer is held against fallback-filter */
	bool no_keep;			/* the lead's answer is from before a flush */
	struct list waiters;		/* struct dns_wait */
	struct part main, fallback;
	struct link_ask lead;
	struct loop_task grave;
	char name[];
};

enum resolve_use
resolver_use(const struct resolver *r, enum resolve_use use)
{
	const int written[] = { [USE_SERVER] = r->conf.server.n, [USE_DIRECT] = r->conf.direct.n };

	if (!r->conf.enable)
		return USE_RULES;
	/* a list that was written but of which nobody can be asked fails: it does not mean others */
	return (use == USE_SERVER || use == USE_DIRECT) && written[use] == 0 ? USE_RULES : use;
}

static struct question **
link_of(struct resolver *r, uint64_t hash, enum resolve_use use, uint16_t type, const char *name)
{
	struct question **at = &r->questions[hash % QUESTION_BUCKETS];

	while (*at != NULL &&
	    !((*at)->hash == hash && (*at)->use == use && (*at)->type == type && strcmp((*at)->name, name) == 0))
		at = &(*at)->next;
	return at;
}

static void
bury(struct loop_task *t)
{
	struct question *q = container_of(t, struct question, grave);

	free(q->main.msg);
	free(q->fallback.msg);
	free(q);
}

static void
end(struct question *q)
{
	struct resolver *r = q->r;

	*link_of(r, q->hash, q->use, q->type, q->name) = q->next;
	r->n_questions--;
	link_cancel(r, &q->lead);
	if (q->main.x != NULL)
		exchange_cancel(q->main.x);
	if (q->fallback.x != NULL)
		exchange_cancel(q->fallback.x);
	loop_bury(r->loop, &q->grave);
}

/* Keys for certificates change between two looks: spec/config.md 14.2. */
static bool
may_keep(const struct question *q)
{
	return !q->no_keep && !(q->type == DNS_T_TXT && str_starts(q->name, "_acme-challenge."));
}

/* Whoever is called may ask and cancel as it likes: a waiter is off the list before its call. */
static void
finish(struct question *q, int err, const uint8_t *msg, size_t n)
{
	struct list waiters;

	list_init(&waiters);
	while (!list_empty(&q->waiters)) {
		struct list *first = q->waiters.next;

		list_remove(first);
		list_append(&waiters, first);
		container_of(first, struct dns_wait, node)->question = NULL;
	}
	if (err == 0 && may_keep(q))
		cache_store(q->r, q->hash, q->use, q->type, q->name, msg, n);
	end(q);
	while (!list_empty(&waiters)) {
		struct dns_wait *w = container_of(waiters.next, struct dns_wait, node);

		list_remove(&w->node);
		w->cb(w->arg, err, msg, n);
	}
}

/* ---- the parts */

static void on_part(void *arg, int err, const uint8_t *msg, size_t n);

static int
part_ask(struct question *q, struct part *p, const struct upstreams *set)
{
	int rc;

	p->q = q;
	rc = exchange_start(q->r, set, q->name, q->type, on_part, p, &p->x);
	if (rc != 0) {
		p->done = true;
		p->err = rc == -E_LIMIT ? E_LIMIT : E_DNS;
	}
	return rc;
}

/* Has addresses, and none that the filter distrusts. */
static bool
is_trusted(const struct question *q, const uint8_t *msg, size_t n)
{
	bool any = false;
	struct dns_msg m;
	struct dns_rr rr;
	struct ip ip;

	if (dns_open(&m, msg, n) != 0)
		return false;
	while (dns_next(&m, &rr) > 0 && rr.section == DNS_ANSWER) {
		if (dns_rr_ip(&m, &rr, &ip) != 0)
			continue;
		any = true;
		if (dns_fallback_distrusts(&q->r->conf.fallback_filter, &ip))
			return false;
	}
	return any;
}

/* The main answer is not believed: the fallback's counts, whatever it is. */
static void
use_fallback(struct question *q)
{
	struct part *f = &q->fallback;

	q->judged = true;
	if (f->x == NULL && !f->done && part_ask(q, f, &q->r->fallback) == 0)
		return;
	if (f->done)
		finish(q, f->err, f->msg, f->n);
}

static void
on_part(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct part *p = arg;
	struct question *q = p->q;

	p->x = NULL;
	p->done = true;
	p->err = err;
	if (q->fallback.q == NULL || (p == &q->fallback && q->judged)) {
		finish(q, err, msg, n);
	} else if (p == &q->main) {
		if (err == 0 && is_trusted(q, msg, n))
			finish(q, 0, msg, n);
		else
			use_fallback(q);
	} else if (err == 0) {
		p->msg = malloc(n);
		p->err = p->msg != NULL ? 0 : E_NOMEM;
		p->n = n;
		if (p->msg != NULL)
			memcpy(p->msg, msg, n);
	}
}

static int
ask_servers(struct question *q)
{
	struct resolver *r = q->r;
	const struct upstreams *set = dns_policy_find(r, q->use, q->name);
	bool address = q->type == DNS_T_A || q->type == DNS_T_AAAA || q->type == DNS_T_CNAME;
	int rc;

	if (set != NULL)
		return part_ask(q, &q->main, set);
	if (q->use != USE_RULES || !address || r->conf.fallback.n == 0)
		return part_ask(q, &q->main, &r->sets[q->use]);
	if (dns_fallback_only(&r->conf.fallback_filter, q->name))
		return part_ask(q, &q->main, &r->fallback);
	q->fallback.q = q;
	rc = part_ask(q, &q->main, &r->sets[q->use]);
	if (rc == 0 && !r->conf.fallback_lazy)
		(void)part_ask(q, &q->fallback, &r->fallback);
	return rc;
}

static void
on_lead(void *arg, int err, const uint8_t *msg, size_t n, bool keep)
{
	struct question *q = arg;
	int rc = err == -E_AGAIN ? ask_servers(q) : 0;

	q->no_keep = !keep && err != -E_AGAIN;
	if (rc != 0)
		finish(q, rc == -E_LIMIT ? E_LIMIT : E_DNS, NULL, 0);
	else if (err != -E_AGAIN)
		finish(q, err, msg, n);
}

/* ---- */

/* A new question, asked; NULL with *rc told. */
static struct question *
ask(struct resolver *r, uint64_t hash, enum resolve_use use, uint16_t type, const char *name, int *rc)
{
	size_t len = strlen(name) + 1;
	struct question *q;

	*rc = -E_LIMIT;
	if (r->n_questions >= RESOLVER_INFLIGHT_MAX)
		return NULL;
	*rc = -E_NOMEM;
	q = calloc(1, sizeof(*q) + len);
	if (q == NULL)
		return NULL;
	memcpy(q->name, name, len);
	q->r = r;
	q->hash = hash;
	q->use = use;
	q->type = type;
	list_init(&q->waiters);
	loop_task_init(&q->grave, bury);
	*rc = 0;
	if (link_asks(r))
		link_ask(r, &q->lead, use, type, q->name, on_lead, q);
	else
		*rc = ask_servers(q);
	if (*rc != 0) {
		free(q);
		return NULL;
	}
	q->next = r->questions[hash % QUESTION_BUCKETS];
	r->questions[hash % QUESTION_BUCKETS] = q;
	r->n_questions++;
	return q;
}

bool
question_cached(struct resolver *r, enum resolve_use use, uint16_t type, const char *name, struct cache_hit *hit)
{
	uint64_t hash = cache_hash(use, type, name);
	struct question *q;
	int rc;

	if (!cache_find(r, hash, use, type, name, hit))
		return false;
	if (!hit->stale || *link_of(r, hash, use, type, name) != NULL)
		return true;
	q = ask(r, hash, use, type, name, &rc);
	if (q != NULL)
		q->refresh = true;
	return true;
}

int
question_ask(struct resolver *r, enum resolve_use use, uint16_t type, const char *name, struct dns_wait *w, dns_raw_cb *cb,
    void *arg)
{
	uint64_t hash = cache_hash(use, type, name);
	struct question *q = *link_of(r, hash, use, type, name);
	int rc = 0;

	if (q == NULL)
		q = ask(r, hash, use, type, name, &rc);
	if (q == NULL)
		return rc;
	w->cb = cb;
	w->arg = arg;
	w->question = q;
	list_init(&w->node);
	list_append(&q->waiters, &w->node);
	return 0;
}

void
resolver_query_cancel(struct dns_wait *w)
{
	struct question *q = w->question;

	if (w->node.next == NULL)
		return;		/* never asked */
	list_remove(&w->node);
	w->question = NULL;
	if (q != NULL && list_empty(&q->waiters) && !q->refresh)
		end(q);
}

void
question_end_all(struct resolver *r)
{
	for (size_t i = 0; i < QUESTION_BUCKETS; i++) {
		while (r->questions[i] != NULL) {
			struct question *q = r->questions[i];

			list_each_safe(n, tmp, &q->waiters) {
				list_remove(n);
				container_of(n, struct dns_wait, node)->question = NULL;
			}
			end(q);
		}
	}
}
