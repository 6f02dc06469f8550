/* SPDX-License-Identifier: MIT */
/* Name resolution of the worker: see resolver.h. Called by rules, outbounds, the DNS server and the API; asks by question.c,
 * which remembers in cache.c. Owns the lookups.
 *
 * A lookup is one name at one set of name servers, in flight; it has a half for each family, asked for only when somebody
 * wants it, and the requests that wait. Equal questions meet in it. A request is answered when its families are known: of
 * both, IPv6 is waited for ipv6-timeout after IPv4 brought addresses, and to its end when IPv4 brought none. Answers are
 * copied into the requests and told by tasks at the end of the turn, so nobody is called back from inside a call, and a
 * callback may do what it likes. A lookup that nobody waits for any more goes on for the cache's sake if it was answered in
 * part, and ends at once if it was cancelled. */
#include "worker/dns/resolver.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/map.h"
#include "common/strutil.h"
#include "worker/codec/dns.h"
#include "worker/dns/carrier.h"
#include "worker/dns/hosts.h"
#include "worker/dns/internal.h"
#include "worker/dns/link.h"
#include "worker/worker.h"

enum { NEGATIVE_WAIT_MS = 1000 };
enum half_state { HALF_NONE, HALF_ASKING, HALF_DONE };

struct half {
	struct lookup *l;
	enum half_state state;
	struct dns_wait wait;		/* while asking */
	int err;
	int n;
	struct ip ips[RESOLVE_IPS_MAX];
};
struct lookup {
	struct lookup *next;		/* of its bucket */
	struct resolver *r;
	uint64_t hash;
	enum resolve_use use;
	struct half half[2];		/* IPv4, IPv6 */
	struct list waiters;		/* struct resolve_req; as many as there are connections and dials */
	ev_timer patience;		/* for IPv6 */
	bool impatient;			/* it ran out */
	struct loop_task grave;
	char name[];
};

/* ---- requests */

static void
tell(struct loop_task *t)
{
	struct resolve_req *q = container_of(t, struct resolve_req, task);

	q->cb(q->arg, q->err, q->ips, q->n);
}

static void
req_tell(struct resolver *r, struct resolve_req *q)
{
	list_remove(&q->node);
	q->question = NULL;
	loop_defer(r->loop, &q->task);
}

static void
req_refuse(struct gen *g, struct resolve_req *q, int err)
{
	q->err = err;
	loop_defer(&g->w->loop, &q->task);
}

/* IPv4 first; a long list of one family leaves room for the other. */
static void
req_fill(struct resolve_req *q, const struct ip *v4, int n4, const struct ip *v6, int n6)
{
	int half = RESOLVE_IPS_MAX / 2;

	if (n4 + n6 > RESOLVE_IPS_MAX)
		n4 = n6 < half ? RESOLVE_IPS_MAX - n6 : n4 < half ? n4 : half;
	if (n6 > RESOLVE_IPS_MAX - n4)
		n6 = RESOLVE_IPS_MAX - n4;
	if (n4 > 0)
		memcpy(q->ips, v4, (size_t)n4 * sizeof(*v4));
	if (n6 > 0)
		memcpy(q->ips + n4, v6, (size_t)n6 * sizeof(*v6));
	q->n = n4 + n6;
	q->err = q->n > 0 ? 0 : E_DNS;
}

/* ---- lookups */

static struct lookup **
lookup_link(struct resolver *r, uint64_t hash, enum resolve_use use, const char *name)
{
	struct lookup **at = &r->lookups[hash % LOOKUP_BUCKETS];

	while (*at != NULL && !((*at)->hash == hash && (*at)->use == use && strcmp((*at)->name, name) == 0))
		at = &(*at)->next;
	return at;
}

static void
lookup_bury(struct loop_task *t)
{
	free(container_of(t, struct lookup, grave));
}

static void
lookup_end(struct lookup *l)
{
	struct resolver *r = l->r;

	*lookup_link(r, l->hash, l->use, l->name) = l->next;
	r->n_lookups--;
	ev_timer_stop(r->loop->ev, &l->patience);
	for (int i = 0; i < 2; i++)
		if (l->half[i].state == HALF_ASKING)
			resolver_query_cancel(&l->half[i].wait);
	loop_bury(r->loop, &l->grave);
}

static bool
is_ready(const struct lookup *l, int want)
{
	const struct half *v4 = &l->half[0], *v6 = &l->half[1];

	if ((want & RESOLVE_V4) != 0 && v4->state != HALF_DONE)
		return false;
	if ((want & RESOLVE_V6) == 0 || v6->state == HALF_DONE)
		return true;
	return (want & RESOLVE_V4) != 0 && v4->n > 0 && l->impatient;
}

static void
answer(const struct lookup *l, struct resolve_req *q)
{
	const struct half *v4 = &l->half[0], *v6 = &l->half[1];
	bool want4 = (q->want & RESOLVE_V4) != 0, want6 = (q->want & RESOLVE_V6) != 0;

	req_fill(q, v4->ips, want4 ? v4->n : 0, v6->ips, want6 && v6->state == HALF_DONE ? v6->n : 0);
	if (q->n == 0)
		q->err = want4 && v4->err != 0 ? v4->err : want6 && v6->err != 0 ? v6->err : E_DNS;
	req_tell(l->r, q);
}

/* Answers who can be answered; the lookup ends with its last question. */
static void
settle(struct lookup *l)
{
	list_each_safe(n, tmp, &l->waiters) {
		struct resolve_req *q = container_of(n, struct resolve_req, node);

		if (is_ready(l, q->want))
			answer(l, q);
	}
	if (l->half[0].state != HALF_ASKING && l->half[1].state != HALF_ASKING)
		lookup_end(l);
}

static void
on_patience(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct lookup *l = container_of(w, struct lookup, patience);

	(void)ev;
	(void)revents;
	l->impatient = true;
	settle(l);
}

/* IPv6 is being asked and IPv4 is there: the clock starts. */
static void
start_patience(struct lookup *l)
{
	struct ev_loop *ev = l->r->loop->ev;

	if (l->half[0].state != HALF_DONE || l->half[0].n == 0 || l->half[1].state != HALF_ASKING || l->impatient ||
	    ev_is_active(&l->patience))
		return;
	ev_timer_set(&l->patience, (double)l->r->conf.ipv6_timeout_ms / 1000.0, 0.);
	ev_timer_start(ev, &l->patience);
}

/* The addresses of an answer. */
static void
read_answer(struct half *h, uint16_t type, const uint8_t *msg, size_t n)
{
	struct dns_msg m;
	struct dns_rr rr;

	h->state = HALF_DONE;
	if (dns_open(&m, msg, n) == 0)
		while (dns_next(&m, &rr) > 0 && rr.section == DNS_ANSWER)
			if (rr.type == type && h->n < RESOLVE_IPS_MAX && dns_rr_ip(&m, &rr, &h->ips[h->n]) == 0)
				h->n++;
	h->err = h->n > 0 ? 0 : E_DNS;
}

static void
on_half(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct half *h = arg;
	struct lookup *l = h->l;

	h->state = HALF_DONE;
	h->err = err;
	if (err == 0)
		read_answer(h, h == &l->half[1] ? DNS_T_AAAA : DNS_T_A, msg, n);
	start_patience(l);
	settle(l);
}

static void
half_begin(struct lookup *l, int i)
{
	struct half *h = &l->half[i];
	uint16_t type = i == 0 ? DNS_T_A : DNS_T_AAAA;
	struct cache_hit hit;
	int rc;

	if (h->state != HALF_NONE)
		return;
	if (question_cached(l->r, l->use, type, l->name, &hit)) {
		read_answer(h, type, hit.msg, hit.n);
		return;
	}
	h->state = HALF_ASKING;
	rc = question_ask(l->r, l->use, type, l->name, &h->wait, on_half, h);
	if (rc != 0) {
		h->state = HALF_DONE;
		h->err = rc == -E_LIMIT ? E_LIMIT : E_DNS;
	}
}

/* The lookup in flight, or a new one; NULL at a cap. */
static struct lookup *
lookup_get(struct resolver *r, enum resolve_use use, const char *name)
{
	size_t len = strlen(name) + 1;
	uint64_t hash = hash_bytes(name, len - 1);
	struct lookup **at = lookup_link(r, hash, use, name), *l = *at;

	if (l != NULL)
		return l;
	if (r->n_lookups >= RESOLVER_INFLIGHT_MAX)
		return NULL;
	l = calloc(1, sizeof(*l) + len);
	if (l == NULL)
		return NULL;
	memcpy(l->name, name, len);
	l->r = r;
	l->hash = hash;
	l->use = use;
	l->half[0].l = l->half[1].l = l;
	list_init(&l->waiters);
	ev_timer_init(&l->patience, on_patience, 0., 0.);
	loop_task_init(&l->grave, lookup_bury);
	*at = l;
	r->n_lookups++;
	return l;
}

/* ---- asking */

/* What is known without asking anybody: an address is its own answer, then the hosts entries. True when q is answered; else
 * *name is what to ask for. */
static bool
answer_at_once(struct gen *g, struct resolve_req *q, const char *host, int cut, const char **name)
{
	struct ip ips[RESOLVE_IPS_MAX * 2], ip;
	const char *alias = NULL;
	int n, n4 = 0;

	if (ip_parse(&ip, host) == 0) {
		if (ip.family == 4)
			req_fill(q, &ip, (q->want & RESOLVE_V4) != 0, NULL, 0);
		else
			req_fill(q, NULL, 0, &ip, (q->want & RESOLVE_V6) != 0);
		return true;
	}
	n = hosts_find(g, host, ips, (int)countof(ips), &alias);
	*name = alias != NULL ? alias : host;
	if (n == 0)
		return false;
	while (n4 < n && ips[n4].family == 4)
		n4++;
	req_fill(q, ips, (cut & RESOLVE_V4) != 0 ? n4 : 0, ips + n4, (cut & RESOLVE_V6) != 0 ? n - n4 : 0);
	return true;
}

/* Lower case, without the final dot; false when it is too long or empty. */
static bool
normalize(char out[static HOST_MAX + 1], const char *name)
{
	size_t n = str_copy(out, HOST_MAX + 1, name);

	if (n > 0 && n <= HOST_MAX && out[n - 1] == '.')
		out[--n] = '\0';
	str_lower(out);
	return n > 0 && n <= HOST_MAX;
}

/* The usual case: everything is in the cache. */
static bool
answer_cached(struct resolver *r, struct resolve_req *q, enum resolve_use use, const char *name)
{
	struct half v4 = { .n = 0 }, v6 = { .n = 0 };
	struct cache_hit hit;

	if ((q->want & RESOLVE_V4) != 0) {
		if (!question_cached(r, use, DNS_T_A, name, &hit))
			return false;
		read_answer(&v4, DNS_T_A, hit.msg, hit.n);
	}
	if ((q->want & RESOLVE_V6) != 0) {
		if (!question_cached(r, use, DNS_T_AAAA, name, &hit))
			return false;
		read_answer(&v6, DNS_T_AAAA, hit.msg, hit.n);
	}
	req_fill(q, v4.ips, v4.n, v6.ips, v6.n);
	return true;
}

static void
ask(struct resolver *r, struct resolve_req *q, enum resolve_use use, const char *name)
{
	struct lookup *l = lookup_get(r, use, name);

	if (l == NULL) {
		req_refuse(r->gen, q, E_LIMIT);
		return;
	}
	for (int i = 0; i < 2; i++)
		if ((q->want & (i == 0 ? RESOLVE_V4 : RESOLVE_V6)) != 0)
			half_begin(l, i);
	q->question = l;
	list_append(&l->waiters, &q->node);
	start_patience(l);
	settle(l);
}

void
resolver_ask(struct gen *g, struct resolve_req *q, const char *host, int want, enum resolve_use use, resolve_cb *cb, void *arg)
{
	struct resolver *r = g->resolver;
	char name[HOST_MAX + 1];
	const char *ask_for = host;
	int cut = g->general.ipv6 ? want : want & ~RESOLVE_V6;

	q->cb = cb;
	q->arg = arg;
	q->question = NULL;
	q->want = want;
	q->n = q->err = 0;
	list_init(&q->node);
	loop_task_init(&q->task, tell);
	if (answer_at_once(g, q, host, cut, &ask_for)) {
		loop_defer(&g->w->loop, &q->task);
		return;
	}
	q->want = cut;
	if (cut == 0 || r == NULL || r->loop == NULL || !normalize(name, ask_for)) {
		req_refuse(g, q, E_DNS);
		return;
	}
	use = resolver_use(r, use);
	if (answer_cached(r, q, use, name))
		loop_defer(r->loop, &q->task);
	else
		ask(r, q, use, name);
}

void
resolver_cancel(struct resolve_req *q)
{
	struct lookup *l = q->question;

	if (q->task.node.next == NULL)
		return;		/* never asked */
	loop_cancel(&q->task);
	list_remove(&q->node);
	q->question = NULL;
	if (l != NULL && list_empty(&l->waiters))
		lookup_end(l);
}

/* ---- raw questions */

static bool
is_raw(const struct gen *g, char out[static HOST_MAX + 1], const char *name)
{
	const struct resolver *r = g->resolver;

	return r != NULL && r->loop != NULL && r->conf.enable && (normalize(out, name) || str_equal(out, ""));
}

bool
resolver_known(struct gen *g, const char *name, uint16_t qtype, const uint8_t **msg, size_t *n)
{
	char lower[HOST_MAX + 1];
	struct cache_hit hit;

	if (!is_raw(g, lower, name) || !question_cached(g->resolver, USE_RULES, qtype, lower, &hit))
		return false;
	*msg = hit.msg;
	*n = hit.n;
	return true;
}

int
resolver_query(struct gen *g, struct dns_wait *w, const char *name, uint16_t qtype, dns_raw_cb *done, void *arg)
{
	struct resolver *r = g->resolver;
	char lower[HOST_MAX + 1];

	if (r == NULL || r->loop == NULL || !r->conf.enable)
		return -E_UNSUP;
	return is_raw(g, lower, name) ? question_ask(r, USE_RULES, qtype, lower, w, done, arg) : -E_INVAL;
}

void
resolver_flush(struct gen *g)
{
	if (g->resolver == NULL || g->resolver->loop == NULL)
		return;
	cache_flush(&g->resolver->cache);
	link_flushed(g->resolver);
}

/* ---- start and end */

int
resolver_start(struct gen *g, struct cfg_err *err)
{
	static const unsigned times[RETRY_TIMES] = { 1500, 3000, RESOLVER_TIMEOUT_MS };
	const char *no_hosts = getenv("DISABLE_SYSTEM_HOSTS");
	struct resolver *r = g->resolver;

	(void)err;		/* what the system lacks is no error of the configuration */
	r->gen = g;
	r->loop = &g->w->loop;
	memcpy(r->times_ms, times, sizeof(times));
	r->negative_ms = NEGATIVE_WAIT_MS;
	list_init(&r->exchanges);
	cache_init(&r->cache, (size_t)r->conf.cache_max, r->conf.arc);
	upstreams_make(r);
	fakeip_open(g);
	mapping_open(g);
	if (r->conf.enable && r->conf.use_system_hosts && (no_hosts == NULL || str_equal(no_hosts, "") ||
	    str_equal(no_hosts, "0") || str_case_equal(no_hosts, "false")))
		system_hosts(g);
	return 0;
}

void
resolver_stop(struct gen *g)
{
	struct resolver *r = g->resolver;

	hosts_free(g);
	if (r == NULL || r->loop == NULL)
		return;
	for (size_t i = 0; i < LOOKUP_BUCKETS; i++) {
		while (r->lookups[i] != NULL) {
			struct lookup *l = r->lookups[i];

			list_each_safe(n, tmp, &l->waiters) {
				list_remove(n);
				container_of(n, struct resolve_req, node)->question = NULL;
			}
			lookup_end(l);
		}
	}
	question_end_all(r);
	exchange_cancel_all(r);
	link_close(r);
	for (struct carrier *c = r->carriers; c != NULL; c = c->next)
		carrier_stop(c);
	cache_flush(&r->cache);
	r->loop = NULL;
}
