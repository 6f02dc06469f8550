/* SPDX-License-Identifier: MIT */
/* See nodes.h. An update of a provider is
 *
 *   IDLE -> FETCHING (http) -> COMPILING (supervisor and loader) -> TELLING (the other workers) -> IDLE
 *
 * and ends in IDLE from each of them with an error. At most FETCHES_MAX downloads run at once; the others start as places
 * come free. */
#include "worker/nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/image.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/change.h"
#include "worker/core/conn.h"
#include "worker/health.h"
#include "worker/ipc.h"
#include "worker/outbound/outbound.h"
#include "worker/provider/fetch.h"
#include "worker/provider/provider.h"

enum {
	FETCHES_MAX = 8,
	WAITERS_MAX = 64, /* API calls that wait for one provider; more are answered 503 */
	POLL_MS = 10000, /* how often a file is looked at */
	RETRY_MS = 30000,
	RETRY_MAX = 7, /* a provider that never had nodes: 30 s, doubled up to 2^7 times */
	RECLAIM_TICKS = 60,
	ETAG_MAX = 256,
	HEADERS_MAX = 32,
	NAME_TEXT_MAX = 1024,
	STORED_MAX = 4096 /* providers in STATE_NODES */
};
enum step { IDLE, FETCHING, COMPILING, TELLING };

struct waiter {
	struct list link;
	nodes_done_fn *done;
	void *arg;
};
struct source { /* provider.job */
	struct provider *p;
	/* while CONFIGURING */
	struct msg_image answer;
	int fd;
	/* the lead */
	enum step step;
	struct fetch *fetch;
	char etag[ETAG_MAX], new_etag[ETAG_MAX]; /* of the nodes; of what is being compiled */
	bool changed, failing;
	unsigned failures; /* in a row */
	uint64_t next_ms; /* loop time; 0 = never */
	struct list waiters;
	int n_waiters;
};

static ev_timer tick;
static unsigned ticks;
static int fetches;

static struct msg_compile
question(const struct provider *p)
{
	struct msg_compile q = { .kind = IMAGE_PROXIES, .format = FORMAT_YAML };

	(void)str_copy(q.name, sizeof q.name, p->set.name);
	(void)str_copy(q.path, sizeof q.path, p->path);
	return q;
}

/* ---- taking nodes */

static void
log_warnings(const struct provider *p, const struct cfg_node *root)
{
	cfg_each(c, cfg_get(root, "warnings"))
		log_warn("proxy-provider %.128s: %s", p->set.name, cfg_text(c));
}

/* Takes fd. 0, or -E_* with err filled. */
static int
take(struct provider *p, const struct msg_image *m, int fd, bool *changed, struct cfg_err *err)
{
	struct tree t;
	int rc;

	*changed = false;
	if (m->err != 0) {
		(void)cfg_fail(err, NULL, NULL, "%s", m->text[0] != '\0' ? m->text : err_text((int)m->err));
		return m->err < E_MAX_ ? -(int)m->err : -E_SYS;
	}
	rc = tree_open(&t, fd, err);
	close(fd);
	if (rc != 0)
		return rc;
	rc = provider_load(p, cfg_get(t.root, "proxies"), changed, err);
	if (rc == 0) {
		p->updated_ns = m->mtime_ns;
		if (*changed && p->gen->w->lead)
			log_warnings(p, t.root);
	}
	tree_close(&t);
	return rc;
}

static int
take_payload(struct provider *p)
{
	struct cfg_err err = { 0 };
	bool changed;
	int rc = provider_load(p, cfg_get(p->item, "payload"), &changed, &err);

	if (rc == 0)
		p->updated_ns = loop_wall_ns();
	else if (p->gen->w->lead)
		log_error("initial proxy provider %.128s error: %s", p->set.name, err.text);
	return rc;
}

static void
on_first(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct source *s = arg;

	(void)w;
	s->answer = *m;
	s->fd = fd;
}

/* What the file has; if that is nothing, the payload, which stands in for it. */
static void
take_first(struct source *s)
{
	struct provider *p = s->p;
	struct cfg_err err = { 0 };
	bool changed;

	if (take(p, &s->answer, s->fd, &changed, &err) == 0)
		return;
	/* a download that was never made is nothing to complain about */
	if (p->gen->w->lead && !(p->vehicle == VEHICLE_HTTP && s->answer.err == E_NOTFOUND))
		log_error("initial proxy provider %.128s error: %s", p->set.name, err.text);
	if (cfg_count(cfg_get(p->item, "payload")) > 0)
		(void)take_payload(p);
}

int
nodes_load(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	(void)root;
	(void)err;
	for (int i = 0; i < g->providers->n; i++) {
		struct provider *p = g->providers->p[i];
		struct source *s = arena_alloc(&g->arena, sizeof *s);
		struct msg_compile q = question(p);

		s->p = p;
		s->fd = -1;
		list_init(&s->waiters);
		p->job = s;
		if (p->vehicle == VEHICLE_INLINE)
			(void)take_payload(p);
		else if (g->w->test) /* -t only checks what the file says */
			continue;
		else if (strlen(p->path) >= sizeof q.path || priv_compile(g->w, &q, on_first, s) != 0)
			s->answer = (struct msg_image){ .err = E_LIMIT, .text = "it cannot be asked for" };
	}
	if (g->w->test)
		return 0;
	priv_compile_wait(g->w);
	for (int i = 0; i < g->providers->n; i++)
		if (g->providers->p[i]->vehicle != VEHICLE_INLINE)
			take_first(g->providers->p[i]->job);
	return 0;
}

/* ---- what is known of subscriptions: u32 n, n * (str name, str url, str etag, bool seen, 4 * u64) */

static void
store(struct worker *w)
{
	struct providers *ps = w->gen->providers;
	struct wire out;
	uint32_t n = 0;

	wire_init(&out);
	wire_put_u32(&out, 0);
	for (int i = 0; i < ps->n; i++) {
		const struct provider *p = ps->p[i];
		const struct source *s = p->job;

		if (p->vehicle != VEHICLE_HTTP || (!p->info.seen && s->etag[0] == '\0') || n == STORED_MAX)
			continue;
		wire_put_str(&out, p->set.name);
		wire_put_str(&out, p->url);
		wire_put_str(&out, s->etag);
		wire_put_bool(&out, p->info.seen);
		wire_put_u64(&out, (uint64_t)p->info.upload);
		wire_put_u64(&out, (uint64_t)p->info.download);
		wire_put_u64(&out, (uint64_t)p->info.total);
		wire_put_u64(&out, (uint64_t)p->info.expire);
		n++;
	}
	wire_set_u32(&out, 0, n);
	ipc_save(w, STATE_NODES, &out);
}

void
nodes_restore(struct gen *g, struct wire *in)
{
	char name[NAME_TEXT_MAX], url[FETCH_URL_MAX], etag[ETAG_MAX];
	uint32_t n;

	if (wire_get_u32(in, &n) != 0)
		return;
	while (n-- > 0) {
		uint64_t v[4];
		bool seen;
		struct provider *p;

		if (wire_get_str(in, name, sizeof name) != 0 || wire_get_str(in, url, sizeof url) != 0 ||
		    wire_get_str(in, etag, sizeof etag) != 0 || wire_get_bool(in, &seen) != 0 || wire_get_u64(in, &v[0]) != 0 ||
		    wire_get_u64(in, &v[1]) != 0 || wire_get_u64(in, &v[2]) != 0 || wire_get_u64(in, &v[3]) != 0)
			return;
		p = provider_find(g, name);
		if (p == NULL || p->vehicle != VEHICLE_HTTP || strcmp(p->url, url) != 0)
			continue;
		p->info = (struct userinfo){ seen, (int64_t)v[0], (int64_t)v[1], (int64_t)v[2], (int64_t)v[3] };
		if (p->set.n > 0 && p->job != NULL) /* without the nodes the server must not answer "not modified" */
			(void)str_copy(((struct source *)p->job)->etag, ETAG_MAX, etag);
	}
}

/* ---- the other workers */

struct late_ack {
	struct worker *w;
	struct provider *p;
	uint32_t seq;
};

static void
on_renewed(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct late_ack *a = arg;
	struct msg_result r = { .status = 204 };
	struct cfg_err err = { 0 };
	bool changed;

	if (take(a->p, m, fd, &changed, &err) != 0) {
		r.status = 503;
		(void)str_copy(r.text, sizeof r.text, err.text);
	}
	worker_touch(w);
	peer_send(&w->sup, MSG_CHANGE_ACK, a->seq, &r, sizeof r, NULL, 0);
	free(a);
}

bool
nodes_renew(struct worker *w, uint32_t seq, struct wire *in, int *status, const char **text)
{
	char name[NAME_TEXT_MAX];
	struct provider *p = wire_get_str(in, name, sizeof name) == 0 ? provider_find(w->gen, name) : NULL;
	struct late_ack *a = p != NULL && p->vehicle != VEHICLE_INLINE ? calloc(1, sizeof *a) : NULL;
	struct msg_compile q;

	if (p == NULL || p->vehicle == VEHICLE_INLINE) /* of a generation that has it otherwise */
		return false;
	if (a != NULL) {
		*a = (struct late_ack){ w, p, seq };
		q = question(p);
		if (priv_compile(w, &q, on_renewed, a) == 0)
			return true;
		free(a);
	}
	*status = 503;
	*text = "too many updates are waiting";
	return false;
}

/* ---- updates, by the lead */

static void start(struct source *s);

static void
schedule(struct source *s, bool ok)
{
	struct provider *p = s->p;
	uint64_t now = p->gen->w->loop.now_ms;

	s->failures = ok ? 0 : s->failures + 1;
	s->next_ms = 0;
	if (p->vehicle == VEHICLE_FILE)
		s->next_ms = now + POLL_MS;
	else if (!ok && p->set.n == 0)
		s->next_ms = now + ((uint64_t)RETRY_MS << (s->failures < RETRY_MAX ? s->failures - 1 : RETRY_MAX));
	else if (p->interval_s > 0)
		s->next_ms = now + (uint64_t)p->interval_s * 1000;
}

static void
finish(struct source *s, int status, const char *text)
{
	struct provider *p = s->p;
	bool ok = status == 204;

	s->step = IDLE;
	/* a file that stays broken is told once, not with every look at it */
	if (!ok && (p->vehicle == VEHICLE_HTTP || !s->failing))
		log_error("[Provider] %.128s pull error: %s", p->set.name, text);
	s->failing = !ok;
	if (s->changed)
		log_info("[Provider] %.128s's proxies have been updated: %d", p->set.name, p->set.n);
	schedule(s, ok);
	list_each_safe(n, tmp, &s->waiters) {
		struct waiter *k = container_of(n, struct waiter, link);

		list_remove(&k->link);
		s->n_waiters--;
		k->done(k->arg, status, text);
		free(k);
	}
	worker_touch(p->gen->w);
	if (s->changed)
		health_nodes_changed(p->gen->w, &p->set);
	s->changed = false;
}

static void
on_told(void *arg, const struct msg_result *r)
{
	finish(arg, r->status == 204 ? 204 : 503, r->text);
}

static void
on_compiled(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct source *s = arg;
	struct provider *p = s->p;
	struct cfg_err err = { 0 };

	if (p->vehicle == VEHICLE_FILE && m->err == 0 && m->mtime_ns == p->updated_ns && s->n_waiters == 0) {
		close(fd); /* as it was */
		finish(s, 204, "");
		return;
	}
	if (take(p, m, fd, &s->changed, &err) != 0) {
		finish(s, 503, err.text);
		return;
	}
	(void)str_copy(s->etag, sizeof s->etag, s->new_etag);
	if (p->vehicle == VEHICLE_HTTP)
		store(w);
	if (!s->changed || w->workers < 2) {
		finish(s, 204, "");
		return;
	}
	s->step = TELLING;
	change_tell_provider(w, CHANGE_NODES, p->set.name, on_told, s);
}

/* content: a sealed memfd, taken, or -1. */
static void
compile(struct source *s, int content)
{
	struct msg_compile q = question(s->p);

	s->step = COMPILING;
	if (priv_compile_content(s->p->gen->w, &q, content, on_compiled, s) != 0)
		finish(s, 503, "too many updates are waiting");
}

static void
on_fetched(void *arg, const struct fetch_result *r)
{
	struct source *s = arg;
	struct provider *p = s->p;

	s->fetch = NULL;
	fetches--;
	if (r->err != 0) {
		finish(s, 503, r->text[0] != '\0' ? r->text : err_text(r->err));
		return;
	}
	userinfo_parse(&p->info, r->userinfo);
	if (r->fd == -1) { /* not modified */
		p->updated_ns = loop_wall_ns();
		store(p->gen->w);
		finish(s, 204, "");
		return;
	}
	(void)str_copy(s->new_etag, sizeof s->new_etag, strlen(r->etag) < ETAG_MAX ? r->etag : "");
	compile(s, r->fd);
}

/* `header`: a map of names to a text or a list of them. */
static void
read_headers(const struct provider *p, const char **out)
{
	int n = 0;

	cfg_each(c, cfg_get(p->item, "header")) {
		if (c->type == CFG_SCALAR && n < 2 * HEADERS_MAX) {
			out[n++] = cfg_key(c);
			out[n++] = cfg_text(c);
		}
		cfg_each(v, c)
			if (v->type == CFG_SCALAR && n < 2 * HEADERS_MAX) {
				out[n++] = cfg_key(c);
				out[n++] = cfg_text(v);
			}
	}
	out[n] = NULL;
}

static void
fetch(struct source *s)
{
	struct provider *p = s->p;
	const char *headers[2 * HEADERS_MAX + 1];
	struct fetch_opts o = {
		.headers = headers, .etag = p->gen->general.etag_support ? s->etag : "", .size_limit = (size_t)p->size_limit
	};

	read_headers(p, headers);
	if (p->proxy[0] != '\0') {
		o.via = outbound_find(p->gen, p->proxy);
		if (o.via == NULL) {
			finish(s, 503, "the proxy to download through is not there");
			return;
		}
	}
	s->fetch = fetch_start(p->gen, p->url, &o, on_fetched, s);
	if (s->fetch == NULL) {
		finish(s, 503, fetch_url_valid(p->url) ? "out of memory" : "the url is not valid");
		return;
	}
	s->step = FETCHING;
	fetches++;
}

static void
start(struct source *s)
{
	if (s->step != IDLE)
		return;
	if (s->p->vehicle == VEHICLE_FILE)
		compile(s, -1);
	else if (fetches < FETCHES_MAX)
		fetch(s);
	else
		s->next_ms = s->p->gen->w->loop.now_ms + 500;
}

void
nodes_update(struct worker *w, const char *provider, nodes_done_fn *done, void *arg)
{
	struct provider *p = provider_find(w->gen, provider);
	struct source *s = p != NULL ? p->job : NULL;
	struct waiter *k;

	if (p == NULL) {
		done(arg, 404, "Resource not found");
		return;
	}
	if (p->vehicle == VEHICLE_INLINE) {
		p->updated_ns = loop_wall_ns();
		done(arg, 204, "");
		return;
	}
	k = s->n_waiters < WAITERS_MAX ? calloc(1, sizeof *k) : NULL;
	if (k == NULL) {
		done(arg, 503, "too many updates are waiting");
		return;
	}
	k->done = done;
	k->arg = arg;
	list_append(&s->waiters, &k->link);
	s->n_waiters++;
	start(s);
}

/* ---- time */

/* Marks what connections use; what is not marked and old enough goes. Of connections whose chain does not tell everything
 * only the age is known. */
static void
reclaim(struct worker *w)
{
	static unsigned mark = 1u << 24; /* beyond what the parser's marks were */
	uint64_t since = UINT64_MAX;
	int64_t now_ns = loop_wall_ns();

	if (w->gen->providers == NULL || w->gen->providers->n_retired == 0)
		return;
	mark++;
	list_each(n, &w->conns) {
		const struct conn *c = container_of(n, struct conn, link);
		bool known = c->chain.n < CHAIN_MAX;

		for (int i = 0; i < c->chain.n; i++) {
			c->chain.ob[i]->visiting = mark;
			known &= c->chain.ob[i]->dialer == NULL;
		}
		if (!known) {
			uint64_t age = now_ns > c->start_ns ? (uint64_t)(now_ns - c->start_ns) / 1000000 + 1 : 1;
			uint64_t began = w->loop.now_ms > age ? w->loop.now_ms - age : 0;

			since = began < since ? began : since;
		}
	}
	providers_reclaim(w->gen, mark, since);
}

static void
on_tick(struct ev_loop *loop, ev_timer *t, int events)
{
	struct worker *w = t->data;
	struct providers *ps = w->gen->providers;

	(void)loop;
	(void)events;
	for (int i = 0; w->lead && !w->draining && i < ps->n; i++) {
		struct source *s = ps->p[i]->job;

		if (s->next_ms != 0 && w->loop.now_ms >= s->next_ms)
			start(s);
	}
	if (++ticks % RECLAIM_TICKS == 0)
		reclaim(w);
}

/* The first look: at once where there is nothing, or nothing recent. */
static void
plan(struct source *s)
{
	struct provider *p = s->p;
	uint64_t now = p->gen->w->loop.now_ms;
	int64_t age_s = (loop_wall_ns() - p->updated_ns) / 1000000000;

	if (p->vehicle == VEHICLE_INLINE)
		return;
	if (p->vehicle == VEHICLE_FILE) {
		s->next_ms = now + POLL_MS;
	} else if (s->answer.err != 0 || p->set.n == 0) {
		start(s);
	} else if (p->interval_s > 0 && age_s >= p->interval_s) {
		log_info("[Provider] %.128s not updated for a long time, force refresh", p->set.name);
		start(s);
	} else if (p->interval_s > 0) {
		s->next_ms = now + (uint64_t)(p->interval_s - (age_s > 0 ? age_s : 0)) * 1000;
	}
}

void
nodes_start(struct worker *w)
{
	if (w->gen->providers->n == 0)
		return;
	for (int i = 0; w->lead && i < w->gen->providers->n; i++)
		plan(w->gen->providers->p[i]->job);
	ev_timer_init(&tick, on_tick, 1., 1.);
	tick.data = w;
	ev_timer_start(w->loop.ev, &tick);
}

/* Nodes stay as they are; the timer goes on for what can be freed. */
void
nodes_stop(struct worker *w)
{
	for (int i = 0; w->gen->providers != NULL && i < w->gen->providers->n; i++) {
		struct source *s = w->gen->providers->p[i]->job;

		if (s == NULL || s->step != FETCHING)
			continue;
		fetch_cancel(s->fetch);
		s->fetch = NULL;
		fetches--;
		finish(s, 503, "the configuration was replaced meanwhile");
	}
}
