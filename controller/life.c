/* SPDX-License-Identifier: MIT */
/* The controller's life, as the supervisor orders it:
 *
 *   CONFIGURING -CONFIG-> (parse, listen, certificates, threads, final filter) -READY-> READY -SERVE-> SERVING -STOP or end of file-> end
 *
 * A STOP with STOP_RELIEVED (an upgrade) ends the streams, then waits for the answers that are still owed, that of /upgrade
 * among them.
 *
 * A CONFIG while SERVING (SIGHUP) does the same without threads and filter: new addresses first, then the swap, then old ones
 * go; when it is refused nothing has changed. Messages only note what is to be done; a timer of the loop does it, because
 * asking for files and listeners waits inside peer_wait(), which must not happen in a handler. Owns the parsed configuration
 * until it is swapped in. */
#include "controller/life.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "common/addr.h"
#include "common/config_tree.h"
#include "common/err.h"
#include "common/ev.h"
#include "common/log.h"
#include "common/peer.h"
#include "common/sandbox.h"
#include "common/strutil.h"
#include "controller/bridge.h"
#include "controller/ctl.h"
#include "controller/feed.h"
#include "controller/front.h"
#include "controller/stream.h"
#include "controller/tls.h"
#include "controller/ws.h"

enum { DOORS = 3, PEM_MAX = 1 << 20, STOP_POLL_MS = 10, STOP_LEAST_MS = 50, SHOWN_MAX = 320 };

struct life {
	struct ctl *ctl;
	const struct api_route *routes;
	struct msg_ctl_config pending;
	int pending_fd;			/* the newest tree that waits to be applied, -1 = none */
	ev_timer apply, stop;
	uint32_t asked;			/* number of questions waited for; ids have the top bit set */
	ev_tstamp deadline, idle_until;
	bool stopping, relieved;
};

static const char *const door_name[DOORS] = { [FRONT_TCP] = "", [FRONT_TLS] = "tls ", [FRONT_UNIX] = "unix " };

/* ---- asking the supervisor and waiting */

static int
ask(struct life *l, uint16_t type, const void *body, size_t len, uint16_t answer, struct imsg *m)
{
	struct peer *p = bridge_supervisor(l->ctl);
	uint32_t id = ++l->asked | 0x80000000u;
	int r = peer_send(p, type, id, body, len, NULL, 0);

	return r != 0 ? r : peer_wait(p, answer, id, LIFE_ASK_MS, m);
}

/* What a configured address asks for; -E_INVAL when it is none. */
static int
door_key(const struct ctl_conf *c, enum front_kind kind, struct msg_listen *key, char *shown, size_t cap)
{
	const char *text = kind == FRONT_TCP ? c->tcp : c->tls;
	char host[HOST_MAX + 1], ip[ADDR_TEXT_MAX];

	memset(key, 0, sizeof(*key));
	key->flags = LISTEN_ONE;
	if (kind == FRONT_UNIX) {
		key->kind = LISTEN_UNIX;
		key->mode = (uint16_t)c->unix_mode;
		str_copy(key->path, sizeof(key->path), c->unix_path);
		str_copy(shown, cap, c->unix_path);
		return 0;
	}
	key->kind = LISTEN_TCP;
	if (hostport_parse(text, host, sizeof(host), &key->port) != 0)
		return -E_INVAL;
	if (str_case_equal(host, "localhost"))
		str_copy(host, sizeof(host), "127.0.0.1");
	if (host[0] != '\0' && strcmp(host, "*") != 0 && ip_parse(&key->ip, host) != 0)
		return -E_INVAL;
	hostport_text(shown, cap, key->ip.family != 0 ? ip_text(&key->ip, ip) : "::", key->port);
	return 0;
}

static int
open_door(struct life *l, enum front_kind kind, const struct msg_listen *key, char *why, size_t cap)
{
	struct imsg *m = malloc(sizeof(*m));
	struct msg_listener a = { 0 };
	int r = m != NULL ? ask(l, MSG_LISTEN, key, sizeof(*key), MSG_LISTENER, m) : -E_NOMEM;

	if (r != 0) {
		str_copy(why, cap, err_text(r));
		goto out;
	}
	if (m->hdr.len == sizeof(a))
		memcpy(&a, m->body, sizeof(a));
	a.text[sizeof(a.text) - 1] = '\0';
	if (m->hdr.len != sizeof(a) || a.err != 0 || m->nfds < 1) {
		imsg_close_fds(m->fds, m->nfds);
		str_copy(why, cap, a.text[0] != '\0' ? a.text : err_text((int)a.err));
		r = -E_SYS;
		goto out;
	}
	imsg_close_fds(m->fds + 1, m->nfds - 1);
	r = front_listen(l->ctl->front, m->fds[0], kind, key);
	if (r != 0)
		str_copy(why, cap, "too many listeners");
out:
	free(m);
	return r;
}

/* ---- certificates */

static char *
read_file(int fd, size_t *n)
{
	char *p = malloc(PEM_MAX);
	ssize_t r;

	*n = 0;
	while (p != NULL && *n < PEM_MAX) {
		r = read(fd, p + *n, PEM_MAX - *n);
		if (r == -1 && errno == EINTR)
			continue;
		if (r <= 0)
			return p;
		*n += (size_t)r;
	}
	free(p);
	return NULL;
}

/* The text of a certificate or key: inline, or of a file that the supervisor opens. NULL with the reason in why. */
static char *
pem_text(struct life *l, const char *value, enum open_kind kind, size_t *n, char *why, size_t cap)
{
	struct msg_open q = { .kind = kind };
	struct msg_file a = { 0 };
	struct imsg *m;
	char *p = NULL;
	int r;

	if (strstr(value, "-----BEGIN") != NULL) {
		*n = strlen(value);
		return strdup(value);
	}
	m = malloc(sizeof(*m));
	str_copy(q.path, sizeof(q.path), value);
	r = m != NULL ? ask(l, MSG_OPEN, &q, sizeof(q), MSG_FILE, m) : -E_NOMEM;
	if (r != 0) {
		snprintf(why, cap, "%s", err_text(r));
		goto out;
	}
	if (m->hdr.len == sizeof(a))
		memcpy(&a, m->body, sizeof(a));
	a.text[sizeof(a.text) - 1] = '\0';
	if (a.err == 0 && m->nfds == 1)
		p = read_file(m->fds[0], n);
	imsg_close_fds(m->fds, m->nfds);
	if (p == NULL)
		snprintf(why, cap, "%s", a.text[0] != '\0' ? a.text : "cannot be read");
out:
	free(m);
	return p;
}

static struct tls_server *
make_tls(struct life *l, const struct ctl_conf *c, char *why, size_t cap)
{
	struct tls_server *s = NULL;
	char *cert = NULL, *key = NULL;
	size_t ncert = 0, nkey = 0;

	if (c->cert == NULL || c->key == NULL) {
		snprintf(why, cap, "tls.certificate and tls.private-key are needed");
		return NULL;
	}
	cert = pem_text(l, c->cert, OPEN_CERT, &ncert, why, cap);
	if (cert != NULL)
		key = pem_text(l, c->key, OPEN_KEY, &nkey, why, cap);
	if (key != NULL)
		s = tls_server_new(cert, ncert, key, nkey, why, cap);
	if (key != NULL)
		explicit_bzero(key, nkey);
	free(cert);
	free(key);
	return s;
}

/* ---- applying */

static void
on_unlisten(struct ctl *ctl, const struct msg_listen *key)
{
	for (int k = 0; k < DOORS; k++)		/* the same address may go on under another kind */
		if (front_listens(ctl->front, (enum front_kind)k, key))
			return;
	(void)peer_send(bridge_supervisor(ctl), MSG_UNLISTEN, 0, key, sizeof(*key), NULL, 0);
}

struct doors {
	struct msg_listen key[DOORS];
	enum front_kind kind[DOORS];
	int n;
};

static const char *
address(const struct ctl_conf *c, enum front_kind kind)
{
	return kind == FRONT_TCP ? c->tcp : kind == FRONT_TLS ? c->tls : c->unix_path;
}

/* Those that a configuration names. */
static void
name_doors(struct doors *d, const struct ctl_conf *c)
{
	char shown[SHOWN_MAX];

	d->n = 0;
	for (int k = 0; k < DOORS; k++)
		if (address(c, (enum front_kind)k)[0] != '\0' &&
		    door_key(c, (enum front_kind)k, &d->key[d->n], shown, sizeof(shown)) == 0)
			d->kind[d->n++] = (enum front_kind)k;
}

static bool
has_door(const struct doors *d, enum front_kind kind, const struct msg_listen *key)
{
	for (int i = 0; i < d->n; i++)
		if (d->kind[i] == kind && memcmp(&d->key[i], key, sizeof(*key)) == 0)
			return true;
	return false;
}

/* Opens the door of that kind unless it is open; with TLS, its certificate is read in any case. *tls: the caller owns it. */
static int
make_door(struct life *l, const struct ctl_conf *c, enum front_kind kind, struct msg_listen *key, struct tls_server **tls, char *why,
    size_t cap)
{
	char shown[SHOWN_MAX], text[256] = "";

	str_copy(shown, sizeof(shown), address(c, kind));
	if (door_key(c, kind, key, shown, sizeof(shown)) != 0)
		str_copy(text, sizeof(text), "not an address");
	else if (kind != FRONT_TLS || (*tls = make_tls(l, c, text, sizeof(text))) != NULL) {
		if (front_listens(l->ctl->front, kind, key))
			return 0;
		if (open_door(l, kind, key, text, sizeof(text)) == 0) {
			log_info("RESTful API %slistening at: %s", door_name[kind], shown);
			return 0;
		}
	}
	snprintf(why, cap, "External controller %slisten error: %s: %s", door_name[kind], shown, text);
	return -E_INVAL;
}

/* New addresses first, so that there is always one that answers; then those that are no longer named. At a start a door that
 * cannot be opened is an error in the log (spec/api.md 1). Later it refuses the configuration, and the API stays where it
 * is - unless the one in force names that door too and has it not open either. old: NULL at a start. */
static int
apply_doors(struct life *l, const struct ctl_conf *c, const struct ctl_conf *old, const struct cfg_node *root, struct cfg_err *err)
{
	static const char *const names[DOORS] = { [FRONT_TCP] = "external-controller",
		[FRONT_TLS] = "external-controller-tls",
		[FRONT_UNIX] = "external-controller-unix" };
	struct doors keep = { .n = 0 }, before = { .n = 0 };
	struct tls_server *tls = NULL;
	char why[SHOWN_MAX + 320];
	int rc = 0;

	if (old != NULL)
		name_doors(&before, old);
	for (int k = 0; k < DOORS && rc == 0; k++) {
		enum front_kind kind = (enum front_kind)k;
		struct msg_listen *key = &keep.key[keep.n];

		if (address(c, kind)[0] == '\0')
			continue;
		if (make_door(l, c, kind, key, &tls, why, sizeof(why)) == 0)
			keep.kind[keep.n++] = kind;
		else if (old == NULL || (has_door(&before, kind, key) && !front_listens(l->ctl->front, kind, key)))
			log_error("%s", why);
		else
			rc = cfg_fail(err, cfg_get(root, names[k]), names[k], "%s", why);
	}
	if (rc != 0) {
		keep = before;
		tls_server_free(tls);
	} else if (tls != NULL)
		front_tls(l->ctl->front, tls);
	front_unlisten(l->ctl->front, keep.key, keep.kind, keep.n, on_unlisten);
	return rc;
}

static void
refuse(struct life *l, const struct cfg_err *err)
{
	struct msg_conf_err m = { .code = E_INVAL, .line = err->line, .column = err->column };

	str_copy(m.key, sizeof(m.key), err->key);
	str_copy(m.text, sizeof(m.text), err->text);
	(void)peer_send(bridge_supervisor(l->ctl), MSG_CONF_ERR, 0, &m, sizeof(m), NULL, 0);
}

static void
say_ready(struct life *l)
{
	(void)peer_send(bridge_supervisor(l->ctl), MSG_READY, 0, NULL, 0, NULL, 0);
}

/* Threads, then the last filter, which reaches them too; user, capabilities and Landlock came before them (they are per
 * thread). */
static void
first_time(struct life *l)
{
	struct peer *p = bridge_supervisor(l->ctl);

	l->ctl->feed = feed_start(l->ctl, front_answer);
	if (l->ctl->feed == NULL)
		fatal("controller: the request threads cannot be started");
	sandbox_filter(ROLE_CONTROLLER, 2);
	say_ready(l);
	p->state = CH_READY;
}

static void
apply(struct life *l, const struct tree *tree)
{
	struct ctl *ctl = l->ctl;
	struct ctl_conf *next = NULL, *old;
	struct cfg_err err = { 0 };
	bool same;

	if (ctl_conf_parse(&next, tree, &l->pending, &err) != 0) {
		refuse(l, &err);
		return;
	}
	if ((l->pending.flags & CTL_TEST) != 0) {
		ctl->test = true;
		ctl_conf_put(next);
		say_ready(l);
		return;
	}
	old = ctl_conf(ctl);
	if (apply_doors(l, next, old, tree->root, &err) != 0) {
		refuse(l, &err);
		ctl_conf_put(next);
		ctl_conf_put(old);
		return;
	}
	same = old == NULL || strcmp(old->secret, next->secret) == 0;
	ctl_conf_swap(ctl, next);
	ctl_conf_put(old);
	if (!same)
		streams_end(ctl->streams, WS_POLICY);
	if (ctl->feed == NULL)
		first_time(l);
	else
		say_ready(l);
}

static void
on_apply(struct ev_loop *loop, ev_timer *t, int events)
{
	struct life *l = t->data;
	struct cfg_err err = { 0 };
	struct tree tree;
	int fd = l->pending_fd;

	(void)loop;
	(void)events;
	l->pending_fd = -1;
	if (fd == -1 || l->stopping)
		return;
	if (tree_open(&tree, fd, &err) != 0) {
		refuse(l, &err);
	} else {
		apply(l, &tree);
		tree_close(&tree);
	}
	close(fd);
}

/* ---- orders */

void
life_hello(struct ctl *ctl, const struct msg_hello *m)
{
	(void)ctl;
	log_set_level((int)m->log_level);
}

void
life_config(struct ctl *ctl, const struct msg_ctl_config *m, int fd)
{
	struct life *l = ctl->life;

	if (l->pending_fd != -1)
		close(l->pending_fd);	/* overtaken; the newest counts */
	l->pending = *m;
	l->pending_fd = fd;
	ev_timer_stop(ctl->loop, &l->apply);
	ev_timer_set(&l->apply, 0., 0.);
	ev_timer_start(ctl->loop, &l->apply);
}

void
life_serve(struct ctl *ctl)
{
	bridge_supervisor(ctl)->state = CH_SERVING;
	front_serve(ctl->front);
}

static void
on_stop(struct ev_loop *loop, ev_timer *t, int events)
{
	struct life *l = t->data;

	(void)events;
	if (l->relieved) {
		streams_end(l->ctl->streams, WS_GOING_AWAY);	/* one may have been asked for on a connection that was there */
		if (ev_steady() >= l->idle_until)
			front_close_idle(l->ctl->front);
	}
	if (!(l->relieved ? front_has_clients(l->ctl->front) : front_busy(l->ctl->front)) || ev_steady() >= l->deadline)
		ev_break(loop, EVBREAK_ALL);
}

void
life_relieved(struct ctl *ctl, uint32_t grace_ms)
{
	struct life *l = ctl->life;

	if (l->stopping)
		return;
	l->stopping = l->relieved = true;
	l->idle_until = ev_steady() + LIFE_IDLE_MS / 1000.;
	l->deadline = ev_steady() + grace_ms / 1000.;
	streams_end(ctl->streams, WS_GOING_AWAY);
	front_relieved(ctl->front);
	ev_timer_start(ctl->loop, &l->stop);
}

void
life_stop(struct ctl *ctl, uint32_t grace_ms)
{
	struct life *l = ctl->life;

	if (l->stopping && !l->relieved)
		return;
	l->stopping = true;
	l->relieved = false;
	if (grace_ms > LIFE_STOP_MS)
		grace_ms = LIFE_STOP_MS;
	if (grace_ms < STOP_LEAST_MS)
		grace_ms = STOP_LEAST_MS;
	l->deadline = ev_steady() + grace_ms / 1000.;
	streams_end(ctl->streams, WS_GOING_AWAY);
	front_drain(ctl->front);
	ev_timer_start(ctl->loop, &l->stop);
}

/* ---- life */

int
life_new(struct ctl *ctl, const struct api_route *routes)
{
	struct life *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return -E_NOMEM;
	l->ctl = ctl;
	l->routes = routes;
	l->pending_fd = -1;
	ev_timer_init(&l->apply, on_apply, 0., 0.);
	ev_timer_init(&l->stop, on_stop, 0., STOP_POLL_MS / 1000.);
	l->apply.data = l->stop.data = l;
	ctl->life = l;
	ctl->streams = streams_new(ctl);
	ctl->front = front_new(ctl, routes);
	return ctl->streams != NULL && ctl->front != NULL ? 0 : -E_NOMEM;
}

int
life_run(struct ctl *ctl)
{
	struct life *l = ctl->life;

	ev_run(ctl->loop, 0);
	bridge_shut(ctl);		/* wakes the threads that wait for answers, ends what is parked */
	feed_stop(ctl->feed);
	ctl->feed = NULL;
	front_free(ctl->front);
	ctl->front = NULL;
	streams_free(ctl->streams);
	ctl->streams = NULL;
	ev_timer_stop(ctl->loop, &l->apply);
	ev_timer_stop(ctl->loop, &l->stop);
	bridge_free_all(ctl);
	if (l->pending_fd != -1)
		close(l->pending_fd);
	free(l);
	ctl->life = NULL;
	ctl_conf_swap(ctl, NULL);
	return 0;
}
