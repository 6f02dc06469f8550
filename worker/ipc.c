/* SPDX-License-Identifier: MIT */
/* Messages of the worker: the handler tables, blobs of state, and the blocking questions of CONFIGURING. A controller's
 * channel may be lost and come again at any time; losing the supervisor's ends the process. */
#include "worker/ipc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/memfd.h"
#include "common/strutil.h"
#include "worker/apply.h"
#include "worker/change.h"
#include "worker/core/conn.h"
#include "worker/core/process.h"
#include "worker/dns/fakeip.h"
#include "worker/dns/resolver.h"
#include "worker/dns/serve.h"
#include "worker/drain.h"
#include "worker/handoff.h"
#include "worker/inbound/inbound.h"
#include "worker/query.h"

enum { CONTROLLERS_MAX = 4, CLIENTS_MAX = 4 /* beside them, of the sluice command */, PENDING_MAX = 256, ASK_MS = 10000, COMPILE_MS = 35000 };

static struct wire blobs[STATE_KINDS_];		/* borrowed mappings, kept for the life of the process */

/* Changes that came while the objects were not built yet, in order. Cap: PENDING_MAX, then the process gives up: the
 * supervisor starts another. */
struct pending {
	struct pending *next;
	struct msg_change head;
	size_t len;
	uint8_t payload[];
};
static struct pending *pending_first, **pending_last = &pending_first;
static unsigned n_pending;

struct ctl_link {
	struct peer peer;
	struct worker *w;
};
static struct ctl_link *controllers[CONTROLLERS_MAX + CLIENTS_MAX];	/* those of the sluice command behind the others */

void
ipc_set_state(struct worker *w, enum child_state state)
{
	w->sup.state = state;
}

void
ipc_end(struct worker *w)
{
	loop_stop(&w->loop);
}

bool
ipc_state(enum state_kind kind, struct wire *out)
{
	if (blobs[kind].p == NULL)
		return false;
	wire_read(out, blobs[kind].p, blobs[kind].len);
	return true;
}

void
ipc_save(struct worker *w, enum state_kind kind, struct wire *blob)
{
	struct msg_state m = { .kind = kind };
	int fd = w->lead && w->serving && !blob->failed ? memfd_from("state", blob->p, blob->len) : -1;

	if (fd >= 0)
		peer_send(&w->sup, MSG_STATE, 0, &m, sizeof m, &fd, 1);
	wire_free(blob);
}

#define BODY(type, m, b) \
	type m; \
	if (wire_get(b, &(m), sizeof (m)) != 0) \
		return -E_PROTO

/* ---- blocking questions */

static int
ask(struct worker *w, uint16_t type, const void *body, size_t len, uint16_t answer, struct imsg *m)
{
	static uint32_t id;
	int rc = peer_send(&w->sup, type, ++id, body, len, NULL, 0);

	return rc != 0 ? rc : peer_wait(&w->sup, answer, id, ASK_MS, m);
}

int
priv_open(struct worker *w, enum open_kind kind, const char *path, struct cfg_err *err)
{
	static struct imsg m;
	struct msg_open q = { .kind = kind };
	struct msg_file f;
	int rc;

	str_copy(q.path, sizeof q.path, path != NULL ? path : "");
	rc = ask(w, MSG_OPEN, &q, sizeof q, MSG_FILE, &m);
	if (rc != 0 || m.hdr.len != sizeof f) {
		if (rc == 0)
			imsg_close_fds(m.fds, m.nfds);
		return cfg_fail(err, NULL, path, "%s: the supervisor did not answer", q.path);
	}
	memcpy(&f, m.body, sizeof f);
	f.text[sizeof f.text - 1] = '\0';
	if (f.err == 0 && m.nfds == 1)
		return m.fds[0];
	imsg_close_fds(m.fds, m.nfds);
	return cfg_fail(err, NULL, path, "%s", f.text);
}

int
priv_listen(struct worker *w, const struct msg_listen *key, int fds[static LISTEN_SLOTS_MAX], char *why, size_t cap)
{
	return priv_listen_slots(w, key, fds, NULL, why, cap);
}

int
priv_listen_slots(struct worker *w, const struct msg_listen *key, int fds[static LISTEN_SLOTS_MAX], uint8_t slots[LISTEN_SLOTS_MAX], char *why, size_t cap)
{
	static struct imsg m;
	struct msg_listener a;
	int rc;

	if (w->test)
		return 0;
	rc = ask(w, MSG_LISTEN, key, sizeof *key, MSG_LISTENER, &m);
	if (rc != 0 || m.hdr.len != sizeof a || m.nfds > LISTEN_SLOTS_MAX) {
		if (rc == 0)
			imsg_close_fds(m.fds, m.nfds);
		str_copy(why, cap, "the supervisor did not answer");
		return -E_SYS;
	}
	memcpy(&a, m.body, sizeof a);
	a.text[sizeof a.text - 1] = '\0';
	if (a.err != 0) {
		imsg_close_fds(m.fds, m.nfds);
		str_copy(why, cap, a.text);
		return a.err < E_MAX_ ? -(int)a.err : -E_SYS;
	}
	memcpy(fds, m.fds, (size_t)m.nfds * sizeof *fds);
	if (slots != NULL)
		memcpy(slots, a.slot, sizeof a.slot);
	return m.nfds;
}

void
priv_unlisten(struct worker *w, const struct msg_listen *key)
{
	if (!w->test)
		peer_send(&w->sup, MSG_UNLISTEN, 0, key, sizeof *key, NULL, 0);
}

/* ---- images */

struct compile {
	struct compile *next;
	uint32_t id;
	compile_cb *cb;
	void *arg;
};
static struct compile *compiles;	/* cap: COMPILES_MAX */
static unsigned n_compiles;

int
priv_compile_content(struct worker *w, const struct msg_compile *q, int content, compile_cb *cb, void *arg)
{
	static uint32_t id;
	struct compile *c = n_compiles < COMPILES_MAX ? calloc(1, sizeof *c) : NULL;
	int rc;

	if (c == NULL) {
		imsg_close_fds(&content, content != -1);
		return -E_LIMIT;
	}
	rc = peer_send(&w->sup, MSG_COMPILE, ++id, q, sizeof *q, &content, content != -1);
	if (rc != 0) {
		free(c);
		return rc;
	}
	*c = (struct compile){ compiles, id, cb, arg };
	compiles = c;
	n_compiles++;
	return 0;
}

int
priv_compile(struct worker *w, const struct msg_compile *q, compile_cb *cb, void *arg)
{
	return priv_compile_content(w, q, -1, cb, arg);
}

/* Hands an answer to who asked. */
static void
compiled(struct worker *w, uint32_t id, struct msg_image *m, int fd)
{
	m->text[sizeof m->text - 1] = '\0';
	for (struct compile **at = &compiles, *c; (c = *at) != NULL; at = &c->next)
		if (c->id == id) {
			*at = c->next;
			n_compiles--;
			c->cb(w, c->arg, m, fd);
			free(c);
			return;
		}
	if (fd != -1)
		close(fd);
}

static int
on_image(struct peer *p, struct wire *b, const int *fds)
{
	BODY(struct msg_image, m, b);

	if ((p->cur_nfds == 1) != (m.err == 0))
		return -E_PROTO;
	compiled(p->arg, p->cur_id, &m, p->cur_nfds == 1 ? fds[0] : -1);
	return 0;
}

void
priv_compile_wait(struct worker *w)
{
	static struct imsg m;

	while (compiles != NULL) {
		struct msg_image late = { .err = E_TIMEOUT, .text = "the supervisor did not answer" }, a;
		uint32_t id = compiles->id;
		int rc = peer_wait(&w->sup, MSG_IMAGE, id, COMPILE_MS, &m);

		if (rc == -E_TIMEOUT && (compiles == NULL || compiles->id != id))
			continue;	/* others have come meanwhile, by the table */
		if (rc == 0 && m.hdr.len == sizeof a) {
			memcpy(&a, m.body, sizeof a);
			if ((m.nfds == 1) == (a.err == 0)) {
				compiled(w, id, &a, m.nfds == 1 ? m.fds[0] : -1);
				continue;
			}
		}
		if (rc == 0)
			imsg_close_fds(m.fds, m.nfds);
		compiled(w, id, &late, -1);
	}
}

/* ---- life */

static int
on_hello(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;
	BODY(struct msg_hello, m, b);

	w->generation = m.generation;
	w->index = m.index;
	w->workers = m.workers > 0 ? m.workers : 1;
	w->lead = m.index == 0;
	w->test = m.flags & HELLO_TEST;
	w->geodata_flag = m.flags & HELLO_GEODATA_MODE;
	log_set_level((int)m.log_level);
	if (p->cur_nfds > 0)
		w->stat = memfd_map_shared(fds[0], STAT_PAGE, 1);
	if (p->cur_nfds > 1)
		w->shared = memfd_map_shared(fds[1], STAT_PAGE, 1);
	imsg_close_fds(fds, p->cur_nfds);
	if (w->stat == NULL)
		w->stat = calloc(1, STAT_PAGE);		/* counts for itself alone; better than not serving */
	if (w->stat == NULL)
		fatal("out of memory");
	atomic_store(&w->stat->open_tcp, 0);
	atomic_store(&w->stat->open_udp, 0);
	return 0;
}

static int
on_state(struct peer *p, struct wire *b, const int *fds)
{
	const void *data;
	size_t n;
	BODY(struct msg_state, m, b);

	(void)p;
	if (m.kind == 0 || m.kind >= STATE_KINDS_ || memfd_map(fds[0], &data, &n, STATE_MAX) != 0)
		return -E_PROTO;
	close(fds[0]);
	wire_read(&blobs[m.kind], data, n);
	return 0;
}

static void
refuse(struct worker *w, const struct cfg_err *err, int code)
{
	struct msg_conf_err e = { .code = (uint32_t)code, .line = err->line, .column = err->column };

	str_copy(e.key, sizeof e.key, err->key);
	str_copy(e.text, sizeof e.text, err->text[0] != '\0' ? err->text : err_text(code));
	peer_send(&w->sup, MSG_CONF_ERR, 0, &e, sizeof e, NULL, 0);
}

static int
on_config(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;
	struct cfg_err err = { 0 };
	struct pending *c;
	int rc;
	BODY(struct msg_config, m, b);

	if (w->gen != NULL || w->stat == NULL)
		return -E_PROTO;
	rc = apply_config(w, fds[0], &err);
	close(fds[0]);
	if (rc != 0) {
		refuse(w, &err, -rc);
		return 0;
	}
	w->built = true;
	while ((c = pending_first) != NULL) {
		struct wire payload;

		pending_first = c->next;
		wire_read(&payload, c->payload, c->len);
		change_apply(w, &c->head, &payload);
		free(c);
	}
	peer_send(&w->sup, MSG_READY, 0, NULL, 0, NULL, 0);
	ipc_set_state(w, CH_READY);
	return 0;
}

static int
on_serve(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;

	(void)b;
	(void)fds;
	ipc_set_state(w, CH_SERVING);
	w->serving = true;
	handoff_hold(w);
	apply_serve(w);
	return 0;
}

static int
on_handoff(struct peer *p, struct wire *b, const int *fds)
{
	BODY(struct msg_handoff, m, b);

	handoff_open(p->arg, fds[0], &m);
	return 0;
}

static int
on_adopt(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;
	BODY(struct msg_adopt, m, b);

	if (m.n > LISTEN_SLOTS_MAX || (int)m.n != p->cur_nfds)
		return -E_PROTO;
	for (int i = 0; i < w->gen->n_inbounds; i++)
		if (inbound_adopt(w->gen->inbounds[i], &m, fds) == 0)
			return 0;
	if (m.n == 1 && dns_serve_adopt(w->gen, &m.key, fds[0]) == 0)
		return 0;
	imsg_close_fds(fds, p->cur_nfds);	/* its inbound went away meanwhile */
	return 0;
}

static int
on_return(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;
	BODY(struct msg_return, m, b);

	(void)fds;
	for (int i = 0; i < w->gen->n_inbounds; i++)
		inbound_return(w->gen->inbounds[i], m.index);
	if (m.index == 0)
		dns_serve_return(w->gen);
	handoff_give(w);
	return 0;
}

static int
on_sysfile(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;
	BODY(struct msg_sysfile, m, b);

	resolver_sysfile(w->gen, (enum open_kind)m.kind, fds[0]);
	return 0;
}

static int
on_dns_lead(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;
	BODY(struct msg_dns_lead, m, b);

	m.name[sizeof m.name - 1] = '\0';
	if ((m.name[0] != '\0') != (p->cur_nfds == 1))
		return -E_PROTO;
	if (p->cur_nfds == 1)
		fakeip_lead(w->gen, m.name, fds[0]);
	else
		resolver_lead(w->gen);
	return 0;
}

static int
on_dns_link(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;
	BODY(struct msg_dns_link, m, b);

	resolver_link(w->gen, fds[0], m.lead != 0);
	return 0;
}

static int
on_drain(struct peer *p, struct wire *b, const int *fds)
{
	(void)b;
	(void)fds;
	ipc_set_state(p->arg, CH_DRAINING);
	drain_start(p->arg);
	return 0;
}

static int
on_stop(struct peer *p, struct wire *b, const int *fds)
{
	BODY(struct msg_stop, m, b);

	(void)fds;
	drain_stop(p->arg, m.grace_ms);
	return 0;
}

static int
on_ping(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;

	(void)b;
	(void)fds;
	if (p->cur_id != 0 && !handoff_settled(w))
		w->pong_owed = p->cur_id;	/* handoff.c sends it */
	else
		peer_send(p, MSG_PONG, p->cur_id, NULL, 0, NULL, 0);
	return 0;
}

static int
on_change(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;
	struct pending *c;
	size_t n;
	BODY(struct msg_change, m, b);

	(void)fds;
	n = wire_left(b);
	if (w->built) {
		change_apply(w, &m, b);
		return 0;
	}
	c = n_pending < PENDING_MAX ? malloc(sizeof *c + n) : NULL;
	if (c == NULL)
		fatal("too many changes while starting");
	c->next = NULL;
	c->head = m;
	c->len = n;
	memcpy(c->payload, b->p + b->off, n);
	*pending_last = c;
	pending_last = &c->next;
	n_pending++;
	return 0;
}

static int
on_result(struct peer *p, struct wire *b, const int *fds)
{
	BODY(struct msg_result, m, b);

	(void)fds;
	change_result(p->cur_id, &m);
	return 0;
}

static int
on_log_level(struct peer *p, struct wire *b, const int *fds)
{
	BODY(struct msg_log_level, m, b);

	(void)p;
	(void)fds;
	log_set_level(m.level);
	return 0;
}

static int
on_helper(struct peer *p, struct wire *b, const int *fds)
{
	(void)b;
	process_channel(p->arg, fds[0]);
	return 0;
}

/* ---- the controller */

static const struct imsg_handler controller_table[] = {
	{ MSG_QUERY, "QUERY", CH_LIVE, sizeof(struct msg_query), IMSG_BODY_MAX, 0, 0, query_handle },
};

static void
on_controller_gone(struct peer *p, const char *why)
{
	(void)why;
	for (size_t i = 0; i < countof(controllers); i++)
		if (controllers[i] != NULL && &controllers[i]->peer == p) {
			query_peer_gone(p);
			free(controllers[i]);
			controllers[i] = NULL;
			return;
		}
}

static int
on_peer(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;
	BODY(struct msg_peer, m, b);
	bool client = (m.flags & PEER_CLIENT) != 0;
	int first = client ? CONTROLLERS_MAX : 0, end = first + (client ? CLIENTS_MAX : CONTROLLERS_MAX);

	for (int i = first; i < end; i++) {
		if (controllers[i] != NULL)
			continue;
		controllers[i] = calloc(1, sizeof *controllers[i]);
		if (controllers[i] == NULL)
			break;
		controllers[i]->w = w;
		peer_open(&controllers[i]->peer, w->loop.ev, fds[0], "controller", controller_table, countof(controller_table), w,
		    on_controller_gone);
		controllers[i]->peer.state = CH_SERVING;
		return 0;
	}
	close(fds[0]);
	return 0;
}

/* ---- start */

static const struct imsg_handler supervisor_table[] = {
	/* type            name         legal in           body                        fds */
	{ MSG_HELLO,      "HELLO",     CH_CONFIGURING,   sizeof(struct msg_hello), sizeof(struct msg_hello), 2, IMSG_FDS_UPTO, on_hello },
	{ MSG_STATE,      "STATE",     CH_CONFIGURING,   sizeof(struct msg_state), sizeof(struct msg_state), 1, 0, on_state },
	{ MSG_CONFIG,     "CONFIG",    CH_CONFIGURING,   sizeof(struct msg_config), sizeof(struct msg_config), 1, 0, on_config },
	{ MSG_RESULT,     "RESULT",    CH_LIVE,          sizeof(struct msg_result), sizeof(struct msg_result), 0, 0, on_result },
	{ MSG_IMAGE,      "IMAGE",     CH_ANY,           sizeof(struct msg_image), sizeof(struct msg_image), 1, IMSG_FDS_UPTO,
	    on_image },
	{ MSG_SERVE,      "SERVE",     CH_READY,         0, 0, 0, 0, on_serve },
	{ MSG_HANDOFF,    "HANDOFF",   CH_READY | CH_SERVING | CH_DRAINING, sizeof(struct msg_handoff), sizeof(struct msg_handoff), 1, 0, on_handoff },
	{ MSG_ADOPT,      "ADOPT",     CH_SERVING,       sizeof(struct msg_adopt), sizeof(struct msg_adopt), LISTEN_SLOTS_MAX, IMSG_FDS_UPTO, on_adopt },
	{ MSG_RETURN,     "RETURN",    CH_SERVING,       sizeof(struct msg_return), sizeof(struct msg_return), 0, 0, on_return },
	{ MSG_SYSFILE,    "SYSFILE",   CH_READY | CH_SERVING, sizeof(struct msg_sysfile), sizeof(struct msg_sysfile), 1, 0, on_sysfile },
	{ MSG_DNS_LEAD,   "DNS_LEAD",  CH_SERVING,       sizeof(struct msg_dns_lead), sizeof(struct msg_dns_lead), 1, IMSG_FDS_UPTO, on_dns_lead },
	{ MSG_DNS_LINK,   "DNS_LINK",  CH_READY | CH_SERVING, sizeof(struct msg_dns_link), sizeof(struct msg_dns_link), 1, 0, on_dns_link },
	{ MSG_DRAIN,      "DRAIN",     CH_SERVING,       0, 0, 0, 0, on_drain },
	{ MSG_STOP,       "STOP",      CH_LIVE,          sizeof(struct msg_stop), sizeof(struct msg_stop), 0, 0, on_stop },
	{ MSG_PING,       "PING",      CH_ANY,           0, 0, 0, 0, on_ping },
	{ MSG_CHANGE,     "CHANGE",    CH_ANY,           sizeof(struct msg_change), IMSG_BODY_MAX, 0, 0, on_change },
	{ MSG_LOG_LEVEL,  "LOG_LEVEL", CH_ANY,           sizeof(struct msg_log_level), sizeof(struct msg_log_level), 0, 0, on_log_level },
	{ MSG_HELPER,     "HELPER",    CH_ANY,           0, 0, 1, 0, on_helper },
	{ MSG_PEER,       "PEER",      CH_SERVING | CH_DRAINING, sizeof(struct msg_peer), sizeof(struct msg_peer), 1, 0, on_peer },
};

static void
on_supervisor_gone(struct peer *p, const char *why)
{
	log_debug("channel to the supervisor: %s", why);
	ipc_end(p->arg);
}

void
ipc_start(struct worker *w)
{
	peer_open(&w->sup, w->loop.ev, 3, "supervisor", supervisor_table, countof(supervisor_table), w, on_supervisor_gone);
	ipc_set_state(w, CH_CONFIGURING);
}
