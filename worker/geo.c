/* SPDX-License-Identifier: MIT */
/* See geo.h. An update of a database is
 *
 *   IDLE -> FETCHING -> STORING (loaders compile every list that is in use, the supervisor writes the file)
 *	-> TAKING (this worker) -> TELLING (the others) -> IDLE
 *
 * and ends in IDLE from each of them with an error; until the file is written a failure leaves everything as it was. What is
 * downloaded is not looked at here. At most one update of each database runs. */
#include "worker/geo.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/apply.h"
#include "worker/change.h"
#include "worker/codec/url.h"
#include "worker/provider/fetch.h"
#include "worker/rule/geo_set.h"

enum {
	FETCH_MS = 90000,	/* spec/config.md 13.2 */
	RETRY_MS = 30000,
	RETRY_MAX = 7,		/* after a failure: 30 s, doubled up to 2^7 times, and up to 30 s more by chance */
	HOUR_MS = 3600000,
	ETAG_MAX = 256,
	TEXT_MAX = 640
};
enum step { IDLE, FETCHING, STORING, TAKING, TELLING };

static struct db {
	struct worker *w;
	uint32_t kind;
	enum step step;
	struct fetch *fetch;
	char etag[ETAG_MAX], new_etag[ETAG_MAX];	/* of what this process has had stored; of what is being stored */
	unsigned failures;				/* in a row */
	uint64_t next_ms;				/* loop time; 0 = never */
} dbs[] = { { .kind = IMAGE_GEOSITE }, { .kind = IMAGE_GEOIP }, { .kind = IMAGE_ASN } };
enum { DBS = sizeof dbs / sizeof dbs[0] };

static struct call {		/* of the API; done NULL: none */
	geo_update_fn *done;
	void *arg;
	int status;
	char text[TEXT_MAX];
} call;
static ev_timer timer;		/* for the first next_ms */

static void start(struct db *db);

static bool
busy(void)
{
	for (int i = 0; i < DBS; i++)
		if (dbs[i].step != IDLE)
			return true;
	return false;
}

static void
answer_call(void)
{
	struct call c = call;

	if (c.done == NULL || busy())
		return;
	call.done = NULL;
	c.done(c.arg, c.status, c.text);
}

/* ---- time */

static void
arm(struct worker *w)
{
	uint64_t first = 0, now = w->loop.now_ms;

	for (int i = 0; i < DBS; i++)
		if (dbs[i].next_ms != 0 && dbs[i].step == IDLE && (first == 0 || dbs[i].next_ms < first))
			first = dbs[i].next_ms;
	ev_timer_stop(w->loop.ev, &timer);
	if (first == 0 || w->draining)
		return;
	ev_timer_set(&timer, first > now ? (double)(first - now) / 1000. : 0., 0.);
	ev_timer_start(w->loop.ev, &timer);
}

static void
on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	struct worker *w = t->data;

	(void)loop;
	(void)events;
	for (int i = 0; i < DBS; i++)
		if (dbs[i].next_ms != 0 && dbs[i].step == IDLE && dbs[i].next_ms <= w->loop.now_ms)
			start(&dbs[i]);
	arm(w);
}

static uint64_t
interval_ms(const struct gen *g)
{
	const struct general *o = &g->general;

	if (!o->geo_auto_update || o->geo_update_interval <= 0)
		return 0;
	return (uint64_t)(o->geo_update_interval < INT32_MAX ? o->geo_update_interval : INT32_MAX) * HOUR_MS;
}

static void
schedule(struct db *db, bool ok)
{
	const struct gen *g = db->w->gen;
	uint64_t wait = interval_ms(g);

	db->failures = ok ? 0 : db->failures + 1;
	if (!ok && (wait != 0 || geo_db(g, db->kind)->state == GEO_NO_FILE))
		wait = ((uint64_t)RETRY_MS << (db->failures <= RETRY_MAX ? db->failures - 1 : RETRY_MAX)) + rand_u64() % RETRY_MS;
	db->next_ms = wait != 0 ? db->w->loop.now_ms + wait : 0;
}

/* ---- an update */

static void
finish(struct db *db, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "": it worked. */
static void
finish(struct db *db, const char *fmt, ...)
{
	const char *file = geo_db(db->w->gen, db->kind)->path;
	bool missing = geo_db(db->w->gen, db->kind)->state == GEO_NO_FILE;
	char text[TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	db->step = IDLE;
	schedule(db, text[0] == '\0');
	if (text[0] == '\0') {
		log_info("[GEO] %s is up to date", file);
	} else {
		log_error("[GEO] %s: %s", text, missing ? "what needs it goes on matching nothing" : "the old file stays in use");
		if (call.status == 204) {
			call.status = 500;
			(void)str_copy(call.text, sizeof call.text, text);
		}
	}
	answer_call();
	arm(db->w);
}

static void
on_told(void *arg, const struct msg_result *r)
{
	struct db *db = arg;

	if (r->status == 204)
		finish(db, "%s", "");
	else
		finish(db, "%s database file is stored, but not every worker has it: %.400s", geo_db_name(db->w->gen, db->kind),
		    r->text);
}

static void
on_taken(void *arg, int err, const char *text)
{
	struct db *db = arg;
	const char *name = geo_db_name(db->w->gen, db->kind);

	if (err != 0) {
		finish(db, "%s database file is stored, but cannot be used: %.400s", name, text);
		return;
	}
	db->step = TELLING;
	change_tell_provider(db->w, CHANGE_GEO, name, on_told, db);
}

static void
on_stored(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct db *db = arg;
	int rc;

	if (fd != -1)
		close(fd);
	if (m->err != 0) {
		bool invalid = m->err == E_INVAL || m->err == E_PROTO || m->err == E_LIMIT;

		finish(db, "%s %s database file: %.400s", invalid ? "invalid" : "can't save", geo_db_name(w->gen, db->kind),
		    m->text);
		return;
	}
	(void)str_copy(db->etag, sizeof db->etag, db->new_etag);
	db->step = TAKING;
	rc = geo_db_renew(w->gen, db->kind, on_taken, db);
	if (rc != 0)
		on_taken(db, -rc, err_text(rc));
}

static void
on_fetched(void *arg, const struct fetch_result *r)
{
	struct db *db = arg;
	struct gen *g = db->w->gen;
	const struct geo_set *gs = geo_db(g, db->kind);
	struct msg_compile q = { .kind = db->kind, .format = gs->format };

	db->fetch = NULL;
	if (r->err != 0) {
		finish(db, "can't download %s database file: %.400s", geo_db_name(g, db->kind),
		    r->text[0] != '\0' ? r->text : err_text(r->err));
		return;
	}
	if (r->fd == -1) {	/* not modified */
		finish(db, "%s", "");
		return;
	}
	(void)str_copy(db->new_etag, sizeof db->new_etag, strlen(r->etag) < ETAG_MAX ? r->etag : "");
	(void)str_copy(q.name, sizeof q.name, gs->set.name);
	(void)str_copy(q.path, sizeof q.path, gs->path);
	db->step = STORING;
	if (priv_compile_content(db->w, &q, r->fd, on_stored, db) != 0)
		finish(db, "can't save %s database file: too many updates are waiting", geo_db_name(g, db->kind));
}

static const char *
url_of(const struct gen *g, uint32_t kind)
{
	const struct general *o = &g->general;

	if (kind == IMAGE_GEOSITE)
		return o->geox_geosite;
	if (kind == IMAGE_ASN)
		return o->geox_asn;
	return o->geodata_mode ? o->geox_geoip : o->geox_mmdb;
}

static void
start(struct db *db)
{
	struct gen *g = db->w->gen;
	const char *url = url_of(g, db->kind);
	struct url to;
	struct fetch_opts o = { .etag = g->general.etag_support ? db->etag : "", .timeout_ms = FETCH_MS };

	if (url_parse(&to, url) == 0)
		o.via = apply_route(g, to.host, to.port);
	db->next_ms = 0;
	db->fetch = fetch_start(g, url, &o, on_fetched, db);
	db->step = FETCHING;
	if (db->fetch == NULL)
		finish(db, "can't download %s database file: %s", geo_db_name(g, db->kind),
		    fetch_url_valid(url) ? "out of memory" : "the url is not valid");
}

void
geo_update(struct worker *w, geo_update_fn *done, void *arg)
{
	if (call.done != NULL || busy()) {
		done(arg, 500, "GEO database is updating, skip");
		return;
	}
	call = (struct call){ done, arg, 204, "" };
	/* all are under way before one may end at once */
	for (int i = 0; i < DBS; i++)
		if (geo_db(w->gen, dbs[i].kind) != NULL)
			dbs[i].step = FETCHING;
	for (int i = 0; i < DBS; i++)
		if (dbs[i].step == FETCHING && dbs[i].fetch == NULL)
			start(&dbs[i]);
	answer_call();
}

/* ---- the other workers */

struct late_ack {
	struct worker *w;
	uint32_t seq;
};

static void
on_renewed(void *arg, int err, const char *text)
{
	struct late_ack *a = arg;
	struct msg_result r = { .status = err == 0 ? 204 : 503 };

	(void)str_copy(r.text, sizeof r.text, text);
	peer_send(&a->w->sup, MSG_CHANGE_ACK, a->seq, &r, sizeof r, NULL, 0);
	free(a);
}

bool
geo_renew(struct worker *w, uint32_t seq, struct wire *in, int *status, const char **text)
{
	struct late_ack *a;
	const struct db *db = NULL;
	char name[16];

	if (wire_get_str(in, name, sizeof name) != 0)
		name[0] = '\0';
	for (int i = 0; i < DBS; i++)
		if (geo_db(w->gen, dbs[i].kind) != NULL && str_equal(geo_db_name(w->gen, dbs[i].kind), name))
			db = &dbs[i];
	if (db == NULL)		/* of a generation that does not use it */
		return false;
	a = calloc(1, sizeof *a);
	if (a != NULL) {
		*a = (struct late_ack){ w, seq };
		if (geo_db_renew(w->gen, db->kind, on_renewed, a) == 0)
			return true;
		free(a);
	}
	*status = 503;
	*text = "too many updates are waiting";
	return false;
}

/* ---- life */

/* The first look: at once where there is no file. */
static void
plan(struct db *db)
{
	const struct geo_set *gs = geo_db(db->w->gen, db->kind);
	uint64_t interval = interval_ms(db->w->gen);
	int64_t age_ms = gs != NULL ? (loop_wall_ns() - gs->set.updated_ns) / 1000000 : 0;

	if (gs == NULL)
		return;
	if (gs->state == GEO_NO_FILE)
		start(db);
	else if (interval != 0)
		db->next_ms = db->w->loop.now_ms + (age_ms < 0 ? interval : (uint64_t)age_ms < interval ? interval - (uint64_t)age_ms : 1);
}

void
geo_start(struct worker *w)
{
	const struct general *o = &w->gen->general;

	if (!w->lead)
		return;
	if (o->geo_auto_update && o->geo_update_interval <= 0)
		log_error("[GEO] Invalid update interval: %lld", (long long)o->geo_update_interval);
	ev_timer_init(&timer, on_timer, 0., 0.);
	timer.data = w;
	for (int i = 0; i < DBS; i++) {
		dbs[i].w = w;
		plan(&dbs[i]);
	}
	arm(w);
}

void
geo_stop(struct worker *w)
{
	if (!w->lead || timer.data == NULL)
		return;
	ev_timer_stop(w->loop.ev, &timer);
	for (int i = 0; i < DBS; i++)
		if (dbs[i].step == FETCHING) {
			fetch_cancel(dbs[i].fetch);
			dbs[i].fetch = NULL;
			dbs[i].step = IDLE;
			call.status = 500;
			(void)str_copy(call.text, sizeof call.text, "the configuration was replaced meanwhile");
		}
	answer_call();
}
