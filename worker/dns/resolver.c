/* SPDX-License-Identifier: MIT */
/* Name resolution of the worker: see resolver.h. Called by rules, outbounds and the API; asks by transport.c, remembers in
 * cache.c. Owns the lookups.
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
#include "worker/dns/hosts.h"
#include "worker/dns/internal.h"
#include "worker/worker.h"

enum { TTL_MIN_S = 1, TTL_MAX_S = 86400, NEGATIVE_MAX_S = 30 };
enum half_state { HALF_NONE, HALF_ASKING, HALF_DONE };

struct half {
	struct lookup *l;
	enum half_state state;
	struct exchange *x;		/* while asking */
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
			exchange_cancel(l->half[i].x);
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

/* The addresses of an answer, and how long they hold: the least TTL of its answer section, CNAMEs too; without addresses
 * what the SOA record says (RFC 2308 5), and 0 = not at all without one. */
static uint32_t
read_answer(struct half *h, uint16_t type, const uint8_t *msg, size_t n)
{
	uint32_t least = TTL_MAX_S, negative = 0;
	struct dns_msg m;
	struct dns_rr rr;

	if (dns_open(&m, msg, n) != 0)
		return 0;
	while (dns_next(&m, &rr) > 0 && rr.section != DNS_ADDITIONAL) {
		/* RFC 2181 8: a TTL with its top bit set is 0 */
		uint32_t ttl = rr.ttl > INT32_MAX ? 0 : rr.ttl;

		if (rr.section == DNS_AUTHORITY) {
			uint32_t soa = dns_soa_ttl(&m, &rr);

			negative = soa > negative ? soa : negative;
			continue;
		}
		least = ttl < least ? ttl : least;
		if (rr.type == type && h->n < RESOLVE_IPS_MAX && dns_rr_ip(&m, &rr, &h->ips[h->n]) == 0)
			h->n++;
	}
	if (h->n == 0)
		return negative < NEGATIVE_MAX_S ? negative : NEGATIVE_MAX_S;
	return least < TTL_MIN_S ? TTL_MIN_S : least;
}

static void
on_exchange(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct half *h = arg;
	struct lookup *l = h->l;
	bool v6 = h == &l->half[1];

	h->x = NULL;
	h->state = HALF_DONE;
	h->err = err;
	if (err == 0) {
		uint32_t ttl = read_answer(h, v6 ? DNS_T_AAAA : DNS_T_A, msg, n);

		if (h->n == 0)
			h->err = E_DNS;
		cache_store(l->r, l->use, v6 ? 6 : 4, l->name, h->ips, h->n, ttl);
	}
	start_patience(l);
	settle(l);
}

static void
half_begin(struct lookup *l, int i)
{
	struct half *h = &l->half[i];
	const struct upstreams *set = &l->r->sets[l->use];
	struct cache_hit hit;
	int rc;

	if (h->state != HALF_NONE)
		return;
	if (cache_find(l->r, l->use, i == 0 ? 4 : 6, l->name, &hit)) {
		h->state = HALF_DONE;
		h->n = hit.n;
		h->err = hit.n > 0 ? 0 : E_DNS;
		memcpy(h->ips, hit.ips, (size_t)hit.n * sizeof(*hit.ips));
		return;
	}
	h->state = HALF_ASKING;
	rc = exchange_start(l->r, set, l->name, i == 0 ? DNS_T_A : DNS_T_AAAA, on_exchange, h, &h->x);
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
	struct cache_hit v4 = { .n = 0 }, v6 = { .n = 0 };

	if ((q->want & RESOLVE_V4) != 0 && !cache_find(r, use, 4, name, &v4))
		return false;
	if ((q->want & RESOLVE_V6) != 0 && !cache_find(r, use, 6, name, &v6))
		return false;
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
	if (r->sets[use].n == 0 && r->sets[use].rcode < 0)
		use = USE_RULES;
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

int
resolver_query(struct gen *g, const char *name, uint16_t qtype, dns_raw_cb *done, void *arg)
{
	struct resolver *r = g->resolver;
	struct exchange *x;

	if (r == NULL || r->loop == NULL || !r->conf.enable)
		return -E_UNSUP;
	return exchange_start(r, &r->sets[USE_RULES], name, qtype, done, arg, &x);
}

void
resolver_flush(struct gen *g)
{
	if (g->resolver != NULL && g->resolver->loop != NULL)
		cache_flush(g->resolver);
}

/* ---- start and end */

static void
set_add(struct upstreams *set, const struct ip *ip, uint16_t port, bool tcp, const struct dns_server *conf)
{
	if (set->n == UPSTREAMS_MAX) {
		log_warn("more than %d name servers in one list: %s is not asked", UPSTREAMS_MAX,
		    conf != NULL ? conf->text : "one of the system's");
		return;
	}
	set->u[set->n++] = (struct upstream){ .ip = *ip, .port = port, .tcp = tcp, .conf = conf };
}

struct system_list {
	bool read;
	int n;
	struct ip ips[SYSTEM_SERVERS_MAX];
};

static void
set_add_system(struct resolver *r, struct upstreams *set, struct system_list *sys)
{
	if (!sys->read)
		sys->n = system_servers(r->gen->w, sys->ips);
	sys->read = true;
	for (int i = 0; i < sys->n; i++)
		set_add(set, &sys->ips[i], 53, false, NULL);
}

static void
set_make(struct resolver *r, struct upstreams *set, const struct dns_servers *list, struct system_list *sys)
{
	for (int i = 0; i < list->n; i++) {
		const struct dns_server *s = &list->s[i];

		if (!dns_server_plain(s))
			continue;
		if (s->net == DNS_NET_SYSTEM)
			set_add_system(r, set, sys);
		else if (s->net == DNS_NET_RCODE)
			set->rcode = set->rcode < 0 ? s->rcode : set->rcode;
		else
			set_add(set, &s->ip, s->port, s->net == DNS_NET_TCP, s);
	}
}

int
resolver_start(struct gen *g, struct cfg_err *err)
{
	static const struct ip builtin[] = { { .family = 4, .b = { 114, 114, 114, 114 } }, { .family = 4, .b = { 8, 8, 8, 8 } } };
	static const unsigned times[RETRY_TIMES] = { 1000, 3000, RESOLVER_TIMEOUT_MS };
	struct resolver *r = g->resolver;
	struct system_list sys = { .read = false };
	const char *no_hosts = getenv("DISABLE_SYSTEM_HOSTS");
	struct upstreams *set;
	bool none;

	(void)err;		/* what the system lacks is no error of the configuration */
	r->gen = g;
	r->loop = &g->w->loop;
	memcpy(r->times_ms, times, sizeof(times));
	r->negative_ms = times[0];
	list_init(&r->exchanges);
	list_init(&r->lru);
	for (size_t i = 0; i < countof(r->sets); i++)
		r->sets[i].rcode = -1;
	set = &r->sets[USE_RULES];
	if (r->conf.enable) {
		set_make(r, set, &r->conf.main, &sys);
		set_make(r, &r->sets[USE_SERVER], &r->conf.server, &sys);
		set_make(r, &r->sets[USE_DIRECT], &r->conf.direct, &sys);
		if (r->conf.use_system_hosts && (no_hosts == NULL || str_equal(no_hosts, "") || str_equal(no_hosts, "0") ||
		    str_case_equal(no_hosts, "false")))
			system_hosts(g);
	}
	if (set->n == 0 && set->rcode < 0)
		set_add_system(r, set, &sys);
	none = set->n == 0 && set->rcode < 0;
	for (size_t i = 0; none && i < countof(builtin); i++)
		set_add(set, &builtin[i], 53, false, NULL);
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
	exchange_cancel_all(r);
	cache_flush(r);
	r->loop = NULL;
}
