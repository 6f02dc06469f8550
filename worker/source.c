/* SPDX-License-Identifier: MIT */
/* See source.h. An update is
 *
 *   IDLE -> WAITING (for a place among FETCHES_MAX) -> FETCHING
 *        -> CHECKING (where the type has a check: a loader parses it, and the lead looks at what it made)
 *        -> COMPILING (the supervisor has it compiled, and stores it) -> TELLING (the other workers) -> IDLE
 *
 * and ends in IDLE from each of them with an error; a file begins with COMPILING. Called by the providers, the API's questions
 * and a timer of the lead; owns the sources' state, not the sources. */
#include "worker/source.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/image.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/change.h"
#include "worker/outbound/outbound.h"
#include "worker/provider/fetch.h"
#include "worker/provider/userinfo.h"

enum {
	FETCHES_MAX = 8, /* downloads at once; the others wait */
	WAITERS_MAX = 64, /* API calls that wait for one source; more are answered 503 */
	POLL_MS = 10000, /* how often a file is looked at, unless `interval` is shorter */
	RETRY_MS = 30000, /* after a failed download; doubled up to 2^RETRY_MAX times, at most `interval` */
	RETRY_MAX = 7,
	HEADERS_MAX = 32, /* of `header`; more are left out */
	NAME_TEXT_MAX = 1024
};
enum step { IDLE, WAITING, FETCHING, CHECKING, COMPILING, TELLING };

struct waiter {
	struct list link;
	bool late; /* asked when the update under way had begun: it waits for one that begins now */
	source_done_fn *done;
	void *arg;
};

static struct list all = { &all, &all };
static ev_timer due;	/* of the lead: the next update */
static int fetches;

static int
ask(struct source *s, int content, compile_cb *cb, void *arg)
{
	struct msg_compile q = { .kind = s->kind, .format = s->format };

	(void)str_copy(q.name, sizeof q.name, s->name);
	(void)str_copy(q.path, sizeof q.path, s->path);
	return priv_compile_content(s->w, &q, content, cb, arg);
}

static int
refused(const struct msg_image *m, struct cfg_err *err)
{
	(void)cfg_fail(err, NULL, NULL, "%s", m->text[0] != '\0' ? m->text : err_text((int)m->err));
	return m->err < E_MAX_ ? -(int)m->err : -E_SYS;
}

/* Takes fd. 0, or -E_* with err filled. The image of a file that is as it was is the same memory file. */
static int
take(struct source *s, const struct msg_image *m, int fd, bool *changed, struct cfg_err *err)
{
	struct stat st = { 0 };
	int rc = 0;

	*changed = false;
	if (m->err != 0)
		return refused(m, err);
	if (fstat(fd, &st) == -1 || st.st_ino != s->image || m->mtime_ns != s->file_ns)
		rc = s->type->take(s, m, fd, changed, err);
	close(fd);
	if (rc == 0) {
		s->image = st.st_ino;
		s->file_ns = m->mtime_ns;
		*s->updated_ns = m->mtime_ns;
	}
	return rc;
}

/* ---- while CONFIGURING */

static void
on_first(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct source *s = arg;

	(void)w;
	s->answer = *m;
	s->fd = fd;
}

void
source_ask(struct source *s)
{
	struct msg_compile q;

	s->fd = -1;
	list_init(&s->waiters);
	list_append(&all, &s->link);
	if (s->format != FORMAT_INLINE && strlen(s->path) >= sizeof q.path)
		s->answer = (struct msg_image){ .err = E_LIMIT, .text = "its path is too long" };
	else if (ask(s, -1, on_first, s) != 0)
		s->answer = (struct msg_image){ .err = E_LIMIT, .text = "it cannot be asked for" };
}

int
source_take_first(struct source *s)
{
	struct cfg_err err = { 0 };
	bool changed;
	int rc;

	priv_compile_wait(s->w);
	rc = take(s, &s->answer, s->fd, &changed, &err);
	if (rc == 0)
		return 0;
	/* a download that was never made is nothing to complain about */
	if (s->vehicle == VEHICLE_HTTP && s->answer.err == E_NOTFOUND)
		return rc;
	(void)str_copy(s->why, sizeof s->why, err.text);
	if (s->w->lead)
		log_error("initial %s %.128s error: %s", s->type->what, s->name, err.text);
	return rc;
}

struct list *
sources_all(void)
{
	return &all;
}

struct source *
source_find(uint32_t change, const char *name)
{
	list_each(at, &all) {
		struct source *s = container_of(at, struct source, link);

		if (s->type->change == change && strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

/* ---- the other workers */

struct late_ack {
	struct source *s;
	uint32_t seq;
};

static void
on_renewed(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct late_ack *a = arg;
	struct msg_result r = { .status = 204 };
	struct cfg_err err = { 0 };
	bool changed;

	if (take(a->s, m, fd, &changed, &err) != 0) {
		r.status = 503;
		(void)str_copy(r.text, sizeof r.text, err.text);
	}
	worker_touch(w);
	peer_send(&w->sup, MSG_CHANGE_ACK, a->seq, &r, sizeof r, NULL, 0);
	free(a);
}

bool
sources_renew(struct worker *w, const struct msg_change *m, struct wire *in, int *status, const char **text)
{
	char name[NAME_TEXT_MAX];
	struct source *s = wire_get_str(in, name, sizeof name) == 0 ? source_find(m->kind, name) : NULL;
	struct late_ack *a;

	(void)w;
	if (s == NULL || s->vehicle == VEHICLE_INLINE) /* of a generation that has it otherwise */
		return false;
	a = calloc(1, sizeof *a);
	if (a != NULL) {
		*a = (struct late_ack){ s, m->seq };
		if (ask(s, -1, on_renewed, a) == 0)
			return true;
		free(a);
	}
	*status = 503;
	*text = "too many updates are waiting";
	return false;
}

/* ---- updates, by the lead */

static void start(struct source *s);
static void arm(struct worker *w);

/* Answers those that waited for the update that is over; the others wait for the next. */
static void
answer(struct source *s, int status, const char *text)
{
	bool again = false;

	list_each_safe(n, tmp, &s->waiters) {
		struct waiter *k = container_of(n, struct waiter, link);

		if (k->late && s->w->serving) {
			k->late = false;
			again = true;
			continue;
		}
		list_remove(&k->link);
		s->n_waiters--;
		k->done(k->arg, status, text);
		free(k);
	}
	if (again)
		start(s);
}

static void
on_due(struct ev_loop *loop, ev_timer *t, int events)
{
	const struct worker *w = t->data;

	(void)loop;
	(void)events;
	list_each(n, &all) {
		struct source *s = container_of(n, struct source, link);

		if (s->next_ms != 0 && w->loop.now_ms >= s->next_ms)
			start(s);
	}
	arm(t->data);
}

static void
arm(struct worker *w)
{
	uint64_t soonest = UINT64_MAX, now = w->loop.now_ms;

	ev_timer_stop(w->loop.ev, &due);
	list_each(n, &all) {
		const struct source *s = container_of(n, struct source, link);

		if (s->step == IDLE && s->next_ms != 0 && s->next_ms < soonest)
			soonest = s->next_ms;
	}
	if (soonest == UINT64_MAX || !w->serving)
		return;
	ev_timer_init(&due, on_due, soonest > now ? (double)(soonest - now) / 1000. : 0., 0.);
	due.data = w;
	ev_timer_start(w->loop.ev, &due);
}

/* An eighth more or less, so that many that failed together do not come again together. */
static uint64_t
jitter(uint64_t ms)
{
	return ms - ms / 8 + rand_u64() % (ms / 4 + 1);
}

static void
schedule(struct source *s, bool ok)
{
	uint64_t now = s->w->loop.now_ms, interval = s->interval_s > 0 ? (uint64_t)s->interval_s * 1000 : 0;
	uint64_t wait = interval;

	s->failures = ok ? 0 : s->failures + 1;
	if (s->vehicle == VEHICLE_FILE) {
		wait = interval > 0 && interval < POLL_MS ? interval : POLL_MS;
	} else if (!ok && (interval > 0 || s->type->empty(s))) {
		wait = jitter((uint64_t)RETRY_MS << (s->failures <= RETRY_MAX ? s->failures - 1 : RETRY_MAX));
		wait = interval > 0 && interval < wait ? interval : wait;
	}
	s->next_ms = wait > 0 ? now + wait : 0;
	arm(s->w);
}

static void
finish(struct source *s, int status, const char *text)
{
	bool ok = status == 204, changed = s->changed;

	s->step = IDLE;
	s->changed = false;
	/* a file that stays broken is told once, not with every look at it */
	if (!ok && (s->vehicle == VEHICLE_HTTP || s->why[0] == '\0'))
		log_error("[Provider] %.128s pull error: %s", s->name, text);
	(void)str_copy(s->why, sizeof s->why, text);
	schedule(s, ok);
	worker_touch(s->w);
	if (changed)
		s->type->changed(s);
	answer(s, status, text);
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
	struct cfg_err err = { 0 };

	if (take(s, m, fd, &s->changed, &err) != 0) {
		finish(s, 503, err.text);
		return;
	}
	memcpy(s->etag, s->new_etag, sizeof s->etag);
	memcpy(s->modified, s->new_modified, sizeof s->modified);
	if (s->vehicle == VEHICLE_HTTP) {
		*s->updated_ns = loop_wall_ns();
		sources_store(w);
	}
	if (!s->changed || w->workers < 2) {
		finish(s, 204, "");
		return;
	}
	s->step = TELLING;
	change_tell_provider(w, s->type->change, s->name, on_told, s);
}

/* content: a sealed memfd, taken, or -1. */
static void
compile(struct source *s, int content)
{
	s->step = COMPILING;
	if (ask(s, content, on_compiled, s) != 0)
		finish(s, 503, "too many updates are waiting");
}

static void
on_checked(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct source *s = arg;
	struct cfg_err err = { 0 };
	int rc = m->err != 0 ? refused(m, &err) : s->type->check(s, fd, &err), content = s->content;

	(void)w;
	s->content = -1;
	if (fd != -1)
		close(fd);
	if (rc == 0) {
		compile(s, content);
		return;
	}
	close(content);
	finish(s, 503, err.text);
}

/* What the server sent, taken, becomes the file only when it can be used. */
static void
check(struct source *s, int content)
{
	struct msg_compile q = { .kind = s->kind, .format = s->format };

	(void)str_copy(q.name, sizeof q.name, s->name);
	s->step = CHECKING;
	s->content = fcntl(content, F_DUPFD_CLOEXEC, 3);
	if (s->content == -1) {
		close(content);
		finish(s, 503, "no descriptor is free");
	} else if (priv_compile_content(s->w, &q, content, on_checked, s) != 0) {
		close(s->content);
		finish(s, 503, "too many updates are waiting");
	}
}

static void
copy_short(char *out, size_t cap, const char *text)
{
	(void)str_copy(out, cap, strlen(text) < cap ? text : "");
}

static void start_waiting(void);

static void
on_fetched(void *arg, const struct fetch_result *r)
{
	struct source *s = arg;

	s->fetch = NULL;
	fetches--;
	if (r->err != 0) {
		finish(s, 503, r->text[0] != '\0' ? r->text : err_text(r->err));
	} else {
		if (s->info != NULL)
			userinfo_parse(s->info, r->userinfo);
		if (r->fd == -1) { /* not modified */
			*s->updated_ns = loop_wall_ns();
			sources_store(s->w);
			finish(s, 204, "");
		} else {
			copy_short(s->new_etag, sizeof s->new_etag, r->etag);
			copy_short(s->new_modified, sizeof s->new_modified, r->modified);
			if (s->type->check != NULL)
				check(s, r->fd);
			else
				compile(s, r->fd);
		}
	}
	start_waiting();
}

/* `header`: a map of names to a text or a list of them. */
static void
read_headers(const struct source *s, const char **out)
{
	int n = 0;

	cfg_each(c, cfg_get(s->item, "header")) {
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
	struct gen *g = s->w->gen;
	bool conditional = g->general.etag_support && !s->type->empty(s);
	const char *headers[2 * HEADERS_MAX + 1];
	struct fetch_opts o = {
		.headers = headers, .etag = conditional ? s->etag : "", .modified = conditional ? s->modified : "",
		.size_limit = s->size_limit > 0 ? (size_t)s->size_limit : 0
	};

	read_headers(s, headers);
	if (s->proxy[0] != '\0') {
		o.via = outbound_find(g, s->proxy);
		if (o.via == NULL) {
			finish(s, 503, "the proxy to download through is not there");
			return;
		}
	}
	s->fetch = fetch_start(g, s->url, &o, on_fetched, s);
	if (s->fetch == NULL) {
		finish(s, 503, fetch_url_valid(s->url) ? "out of memory" : "the url is not valid");
		return;
	}
	s->step = FETCHING;
	fetches++;
}

static void
start_waiting(void)
{
	list_each(n, &all) {
		struct source *s = container_of(n, struct source, link);

		if (s->step == WAITING && fetches < FETCHES_MAX)
			fetch(s);
	}
}

static void
start(struct source *s)
{
	if (s->step != IDLE)
		return;
	if (s->vehicle == VEHICLE_FILE)
		compile(s, -1);
	else if (fetches < FETCHES_MAX)
		fetch(s);
	else
		s->step = WAITING;
}

void
source_update(struct source *s, source_done_fn *done, void *arg)
{
	struct waiter *k;

	if (s->vehicle == VEHICLE_INLINE) {
		*s->updated_ns = loop_wall_ns();
		done(arg, 204, "");
		return;
	}
	k = s->n_waiters < WAITERS_MAX ? calloc(1, sizeof *k) : NULL;
	if (k == NULL) {
		done(arg, 503, "too many updates are waiting");
		return;
	}
	k->late = s->step > WAITING;
	k->done = done;
	k->arg = arg;
	list_append(&s->waiters, &k->link);
	s->n_waiters++;
	start(s);
}

/* ---- time */

/* The first look: at once where there is nothing, or nothing recent. */
static void
plan(struct source *s)
{
	uint64_t now = s->w->loop.now_ms;
	int64_t age_s = (loop_wall_ns() - *s->updated_ns) / 1000000000;

	if (s->vehicle == VEHICLE_FILE) {
		schedule(s, true);
	} else if (s->answer.err != 0 || s->type->empty(s)) {
		start(s);
	} else if (s->interval_s > 0 && age_s >= s->interval_s) {
		log_info("[Provider] %.128s not updated for a long time, force refresh", s->name);
		start(s);
	} else if (s->interval_s > 0) {
		s->next_ms = now + (uint64_t)(s->interval_s - (age_s > 0 ? age_s : 0)) * 1000;
	}
}

void
sources_start(struct worker *w)
{
	if (!w->lead)
		return;
	list_each(n, &all) {
		struct source *s = container_of(n, struct source, link);

		if (s->vehicle != VEHICLE_INLINE)
			plan(s);
	}
	arm(w);
}

void
sources_stop(struct worker *w)
{
	static const char why[] = "the configuration was replaced meanwhile";

	ev_timer_stop(w->loop.ev, &due);
	list_each(n, &all) {
		struct source *s = container_of(n, struct source, link);

		if (s->step == FETCHING) {
			fetch_cancel(s->fetch);
			s->fetch = NULL;
			fetches--;
			finish(s, 503, why);
		} else if (s->step == WAITING) {
			finish(s, 503, why);
		}
	}
}
