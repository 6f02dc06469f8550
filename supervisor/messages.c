/* SPDX-License-Identifier: MIT */
/* Who may ask the supervisor what, and when: the table is the policy. A state here is (role, child state) in one bit, so a
 * worker's message from the controller is as illegal as one at the wrong time. Handlers only move fds and fixed structs. */
#include "supervisor/messages.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "supervisor/change.h"
#include "supervisor/child.h"
#include "supervisor/control.h"
#include "supervisor/convert.h"
#include "supervisor/files.h"
#include "supervisor/generations.h"
#include "supervisor/images.h"
#include "supervisor/listeners.h"
#include "supervisor/logsink.h"
#include "supervisor/nethelper.h"
#include "supervisor/reload.h"
#include "supervisor/state.h"
#include "supervisor/sysfiles.h"
#include "supervisor/systemd.h"
#include "supervisor/upgrade.h"
#include "supervisor/workers.h"

/* peer.state bits: worker states as they are, the controller's shifted, one for loaders, one for the nethelper. */
enum { SHIFT_C = 4, L = 1 << 8, N = 1 << 9,
       W_CONF = CH_CONFIGURING, W_LIVE = CH_LIVE, W_SERVING = CH_SERVING, W_ANY = CH_ANY,
       C_CONF = CH_CONFIGURING << SHIFT_C, C_SERVING = CH_SERVING << SHIFT_C, C_ANY = CH_ANY << SHIFT_C };

void
messages_set_state(struct child *c, enum child_state state)
{
	c->state = state;
	c->peer.state = c->role == ROLE_LOADER ? (uint32_t)L : c->role == ROLE_NETHELPER ? (uint32_t)N :
	    c->role == ROLE_CONTROLLER ? (uint32_t)state << SHIFT_C : (uint32_t)state;
}

void
messages_drain(struct child *c)
{
	for (int i = 0; i < PEER_QUEUE_MAX && c->peer.fd != -1; i++) {
		struct imsg m;

		/* nothing is waited for with this type: every message is handed to the table until the channel is empty */
		if (peer_wait(&c->peer, 0xffff, ~0u, 0, &m) != 0)
			return;
	}
}

void
messages_result(struct peer *p, uint32_t id, int status, const struct msg_conf_err *err, const char *text)
{
	struct msg_result r = { .status = status };

	if (err != NULL) {
		r.line = err->line;
		r.column = err->column;
		str_copy(r.key, sizeof r.key, err->key);
	}
	str_copy(r.text, sizeof r.text, text);
	peer_send(p, MSG_RESULT, id, &r, sizeof r, NULL, 0);
}

static void
reply_file(struct child *c, int fd, const char *why)
{
	struct msg_file m = { 0 };
	struct stat st;

	if (fd < 0) {
		m.err = (uint32_t)-fd;
		str_copy(m.text, sizeof m.text, why);
	} else if (fstat(fd, &st) == 0)
		m.mtime_ns = st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec;
	child_send(c, MSG_FILE, c->peer.cur_id, &m, sizeof m, fd);
}

#define BODY(type, m, w) \
	type m; \
	if (wire_get(w, &(m), sizeof (m)) != 0) \
		return -E_PROTO

static int
on_ready(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;

	(void)w;
	(void)fds;
	if (c->role == ROLE_NETHELPER)
		messages_set_state(c, CH_SERVING);
	else
		reload_ready(c->sup, c);
	return 0;
}

static int
on_want_helper(struct peer *p, struct wire *w, const int *fds)
{
	(void)w;
	(void)fds;
	nethelper_want(p->arg);
	return 0;
}

static int
on_conf_err(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_conf_err, m, w);

	(void)fds;
	m.key[sizeof m.key - 1] = m.text[sizeof m.text - 1] = '\0';
	if (c->sup->convert != NULL)
		convert_failed(c->sup, &m);
	else if (c->compiles)
		images_failed(c->sup, c, &m);
	else
		reload_conf_err(c->sup, c, &m);
	return 0;
}

static int
on_state(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_state, m, w);

	/* only the lead of the generation that serves may speak for the service */
	if (c->index != 0 || c->gen != c->sup->serving) {
		close(fds[0]);
		return 0;
	}
	if (state_save(c->sup, m.kind, fds[0]) != 0)
		log_warn("%s: a state blob was refused", c->name);
	return 0;
}

static int
on_pong(struct peer *p, struct wire *w, const int *fds)
{
	(void)w;
	(void)fds;
	systemd_pong(p->arg);
	reload_pong(((struct child *)p->arg)->sup, p->arg);
	return 0;
}

static int
on_open(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	char why[512] = "";
	int fd;
	BODY(struct msg_open, m, w);

	(void)fds;
	m.path[sizeof m.path - 1] = '\0';
	if (m.kind == OPEN_RESOLV || m.kind == OPEN_HOSTS)
		fd = sysfiles_open(c, m.kind);
	else if (m.kind == OPEN_CA && m.path[0] == '\0')
		fd = files_open_authorities();
	else if (m.kind == OPEN_SHARED)
		fd = c->role == ROLE_WORKER ? state_open_shared(c->sup, m.path, c->index == 0, why, sizeof why) : -E_PERM;
	else
		fd = files_open(c->sup, m.path, why, sizeof why);
	reply_file(c, fd, why);
	return 0;
}

static int
on_compile(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_compile, m, w);

	images_ask(c->sup, c, p->cur_id, &m, p->cur_nfds > 0 ? fds[0] : -1);
	return 0;
}

static int
on_open_ui(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	char path[1024], why[256] = "";

	(void)fds;
	if (wire_get_str(w, path, sizeof path) != 0)
		return -E_PROTO;
	reply_file(c, files_open_ui(c->sup, path, why, sizeof why), why);
	return 0;
}

static int
on_listen(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	struct msg_listener out = { 0 };
	int got[LISTEN_SLOTS_MAX], n;
	BODY(struct msg_listen, m, w);

	(void)fds;
	m.path[sizeof m.path - 1] = '\0';
	if (m.kind < LISTEN_TCP || m.kind > LISTEN_UNIX ||
	    (m.kind == LISTEN_UNIX) != (c->role == ROLE_CONTROLLER && m.path[0] != '\0') || m.mode > 0777)
		return -E_PROTO;
	n = listeners_take(c->sup, c, &m, got, out.slot, out.text, sizeof out.text);
	if (n < 0)
		out.err = (uint32_t)-n;
	else
		out.nslots = (uint32_t)n;
	peer_send(p, MSG_LISTENER, p->cur_id, &out, sizeof out, got, n > 0 ? n : 0);
	if (c->role == ROLE_WORKER && c->state == CH_SERVING && n >= 0)
		workers_listen(c, &m);
	return 0;
}

static int
on_replace_me(struct peer *p, struct wire *w, const int *fds)
{
	BODY(struct msg_replace_me, m, w);

	(void)fds;
	workers_replace(p->arg, &m);
	return 0;
}

static int
on_unlisten(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_listen, m, w);

	(void)fds;
	m.path[sizeof m.path - 1] = '\0';
	listeners_drop(c->sup, c, &m);
	return 0;
}

static int
on_change(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_change, m, w);

	(void)fds;
	if (m.kind == 0 || m.kind >= CHANGE_KINDS_)
		return -E_PROTO;
	if (c->role == ROLE_WORKER && (c->index != 0 || c->gen != c->sup->serving)) {
		if (p->cur_id != 0)
			messages_result(p, p->cur_id, 503, NULL, "the configuration was replaced meanwhile");
		return 0;
	}
	changes_start(c->sup, c->role == ROLE_CONTROLLER || p->cur_id != 0 ? c : NULL, p->cur_id,
	    c->role == ROLE_WORKER ? c : NULL, &m, w->p + w->off, wire_left(w));
	return 0;
}

static int
on_change_ack(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_result, m, w);

	(void)fds;
	changes_ack(c->sup, c, p->cur_id, &m);
	return 0;
}

static int
on_reload(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	int payload = p->cur_nfds > 0 ? fds[0] : -1;
	BODY(struct msg_reload, m, w);

	m.path[sizeof m.path - 1] = '\0';
	m.flags &= RELOAD_FORCE | RELOAD_PATH | RELOAD_PAYLOAD | RELOAD_SAME;	/* CONTROLLER is the operator's */
	if ((payload != -1) != !!(m.flags & RELOAD_PAYLOAD))
		return -E_PROTO;
	reload_request(c->sup, &m, payload, (struct reload_waiter){ p, p->cur_id });
	return 0;
}

static int
on_store(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	int value = p->cur_nfds > 0 ? fds[0] : -1, out, status;
	char why[512] = "";
	BODY(struct msg_store, m, w);

	m.key[sizeof m.key - 1] = '\0';
	if (m.op < STORE_GET || m.op > STORE_DELETE || (value != -1) != (m.op == STORE_PUT))
		return -E_PROTO;
	status = files_store(c->sup, &m, value, &out, why, sizeof why);
	if (m.op == STORE_GET)
		reply_file(c, status == 200 ? out : -E_NOTFOUND, "");
	else
		messages_result(p, p->cur_id, status, NULL, why);
	return 0;
}

static int
on_memory(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	struct msg_memory m;

	(void)w;
	(void)fds;
	control_memory(c->sup, &m);
	child_send(c, MSG_MEMORY, p->cur_id, &m, sizeof m, -1);
	return 0;
}

static int
on_generations(struct peer *p, struct wire *w, const int *fds)
{
	struct wire out;

	(void)w;
	(void)fds;
	wire_init(&out);
	generations_show(((struct child *)p->arg)->sup, &out);
	peer_send_wire(p, MSG_GENERATIONS, p->cur_id, &out, NULL, 0);
	return 0;
}

static int
on_log_level(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_log_level, m, w);

	(void)fds;
	if (m.level < LL_DEBUG || m.level > LL_SILENT)
		return -E_PROTO;
	/* a starting lead speaks for what it will serve; should it fail, the next one says it again */
	if (c->index == 0 && (c->gen == c->sup->serving || c->sup->serving == NULL || c->state == CH_SERVING)) {
		c->sup->log_level = m.level;
		logsink_level_changed(c->sup);
	}
	return 0;
}

static int
on_log_tap(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_log_level, m, w);

	(void)fds;
	if (m.level < LL_DEBUG || m.level > LL_SILENT)
		return -E_PROTO;
	if (c == c->sup->controller) {	/* one that was relieved has no say */
		c->sup->log_tap = m.level;
		logsink_level_changed(c->sup);
	}
	return 0;
}

static int
on_upgrade(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_upgrade, m, w);

	(void)fds;
	upgrade_request(c->sup, (m.flags & UPGRADE_FORCE) != 0, (struct reload_waiter){ p, p->cur_id });
	return 0;
}

static int
on_job_done(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_job_done, m, w);

	reload_job_done(c->sup, c, &m, fds[0]);
	return 0;
}

static int
on_image_done(struct peer *p, struct wire *w, const int *fds)
{
	struct child *c = p->arg;
	BODY(struct msg_image_done, m, w);

	if (c->sup->convert != NULL)
		convert_done(c->sup, &m, fds[0]);
	else
		images_done(c->sup, c, &m, fds[0]);
	return 0;
}

#define FIXED(t) sizeof(t), sizeof(t)
const struct imsg_handler messages_table[] = {
	/* type             name           legal in               body, least and most          fds */
	{ MSG_READY,       "READY",       W_CONF | C_CONF | C_SERVING | N, 0, 0,                  0, 0, on_ready },
	{ MSG_CONF_ERR,    "CONF_ERR",    W_CONF | C_CONF | C_SERVING | L, FIXED(struct msg_conf_err), 0, 0, on_conf_err },
	{ MSG_STATE,       "STATE",       W_LIVE,                FIXED(struct msg_state),       1, 0, on_state },
	{ MSG_WANT_HELPER, "WANT_HELPER", W_ANY,                 0, 0,                          0, 0, on_want_helper },
	{ MSG_PONG,        "PONG",        W_ANY | C_ANY | N,     0, 0,                          0, 0, on_pong },
	{ MSG_OPEN,        "OPEN",        W_CONF | C_CONF | C_SERVING, FIXED(struct msg_open),  0, 0, on_open },
	{ MSG_COMPILE,     "COMPILE",     W_ANY,                 FIXED(struct msg_compile),     1, IMSG_FDS_UPTO, on_compile },
	{ MSG_OPEN_UI,     "OPEN_UI",     C_SERVING,             4, 1024,                       0, 0, on_open_ui },
	{ MSG_LISTEN,      "LISTEN",      W_CONF | W_SERVING | C_CONF | C_SERVING, FIXED(struct msg_listen), 0, 0, on_listen },
	{ MSG_UNLISTEN,    "UNLISTEN",    W_ANY | C_SERVING,     FIXED(struct msg_listen),      0, 0, on_unlisten },
	{ MSG_REPLACE_ME,  "REPLACE_ME",  W_SERVING,             FIXED(struct msg_replace_me),  0, 0, on_replace_me },
	{ MSG_CHANGE,      "CHANGE",      C_SERVING | W_SERVING, sizeof(struct msg_change), IMSG_BODY_MAX, 0, 0, on_change },
	{ MSG_CHANGE_ACK,  "CHANGE_ACK",  W_ANY,                 FIXED(struct msg_result),      0, 0, on_change_ack },
	{ MSG_RELOAD,      "RELOAD",      C_SERVING,             FIXED(struct msg_reload),      1, IMSG_FDS_UPTO, on_reload },
	{ MSG_UPGRADE,     "UPGRADE",     C_SERVING,             FIXED(struct msg_upgrade),     0, 0, on_upgrade },
	{ MSG_STORE,       "STORE",       C_SERVING,             FIXED(struct msg_store),       1, IMSG_FDS_UPTO, on_store },
	{ MSG_MEMORY,      "MEMORY",      C_SERVING,             0, 0,                          0, 0, on_memory },
	{ MSG_GENERATIONS, "GENERATIONS", C_SERVING,           0, 0,                          0, 0, on_generations },
	{ MSG_LOG_LEVEL,   "LOG_LEVEL",   W_ANY,                 FIXED(struct msg_log_level),   0, 0, on_log_level },
	{ MSG_LOG_TAP,     "LOG_TAP",     C_SERVING,             FIXED(struct msg_log_level),   0, 0, on_log_tap },
	{ MSG_JOB_DONE,    "JOB_DONE",    L,                     FIXED(struct msg_job_done),    1, 0, on_job_done },
	{ MSG_IMAGE_DONE,  "IMAGE_DONE",  L,                     FIXED(struct msg_image_done),  1, 0, on_image_done },
};
const unsigned messages_count = countof(messages_table);
