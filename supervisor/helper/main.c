/* SPDX-License-Identifier: MIT */
/* sluice-nethelper [--uid N] [--gid N]: says which program a local connection comes from. Started by the supervisor, only where
 * a rule or setting asks for it, with its channel at fd 3 and the log channel at fd 4; workers ask over channels of their own.
 * It keeps what it takes to look at other users' processes and nothing else: no network, no file can be opened, no memory of
 * another process read (sandbox_profiles.c).
 *
 * A question is answered at once from the kernel's table of sockets and from the cache, or waits in `questions` until no message
 * is left to be read: then one walk over /proc answers for all of them. So a load that is too much for a walk each is answered
 * by larger walks, not by a longer queue. */
#include <errno.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/ev.h"
#include "common/err.h"
#include "common/imsg_types.h"
#include "common/list.h"
#include "common/log.h"
#include "common/peer.h"
#include "common/sandbox.h"
#include "common/strutil.h"
#include "supervisor/helper/cache.h"
#include "supervisor/helper/local.h"
#include "supervisor/helper/procfs.h"
#include "supervisor/helper/sockdiag.h"

enum { CHANNEL = 3, LOG = 4, KEEP_FDS = 5 };
enum { CLIENTS_MAX = 512 };	/* the workers of all generations; one more is not served: its clients are unknown */

struct client {
	struct list link;
	struct peer peer;
	struct helper *h;
};

struct helper {
	struct ev_loop *loop;
	struct peer sup;
	struct list clients;
	unsigned n_clients;
	int proc, diag, route;
	uint32_t uid;			/* ours */
	bool privileged;		/* other users' processes can be looked at */
	bool stopping;
	ev_timer stop;
	ev_idle search;			/* runs when nothing is left to be read */
	struct sought questions[SEARCH_MAX];	/* cap: then they are searched for before more is read */
	struct question {
		struct client *client;	/* NULL: gone meanwhile */
		uint32_t id;
	} asked[SEARCH_MAX];		/* of the same place in questions */
	unsigned n;
};

static uint64_t
now_ms(void)
{
	return (uint64_t)(ev_steady() * 1000);
}

/* ---- answers */

static void
answer(struct client *c, uint32_t id, uint32_t uid, const char *path)
{
	struct msg_found m = { .uid = uid };
	struct wire w;

	if (c == NULL)
		return;
	wire_init(&w);
	wire_put(&w, &m, sizeof m);
	wire_put_str(&w, path);
	(void)peer_send_wire(&c->peer, MSG_FOUND, id, &w, NULL, 0);
}

static void
on_found(struct sought *s, const char *path)
{
	struct helper *h = s->arg;
	const struct question *q = &h->asked[s - h->questions];

	cache_put(s->inode, path, now_ms());
	answer(q->client, q->id, s->uid, path);
}

static void
search(struct helper *h)
{
	bool whole;

	ev_idle_stop(h->loop, &h->search);
	if (h->n == 0)
		return;
	whole = procfs_search(h->proc, h->questions, h->n, on_found);
	ev_now_update(h->loop);
	for (unsigned i = 0; i < h->n; i++) {
		const struct sought *s = &h->questions[i];

		if (s->found)
			continue;
		if (whole)
			cache_put(s->inode, "", now_ms());
		answer(h->asked[i].client, h->asked[i].id, s->uid, "");
	}
	if (!whole)
		log_debug("the processes of %u connections were not all found in %d ms of CPU", h->n, SEARCH_MS);
	h->n = 0;
}

static void
on_search(struct ev_loop *loop, ev_idle *i, int events)
{
	(void)loop;
	(void)events;
	search(i->data);
}

/* ---- workers */

static int
on_find(struct peer *p, struct wire *w, const int *fds)
{
	struct client *c = p->arg;
	struct helper *h = c->h;
	struct sock_owner owner;
	struct msg_find q;
	const char *path;

	(void)fds;
	if (wire_get(w, &q, sizeof q) != 0)
		return -E_PROTO;
	if (h->diag < 0 || (q.udp && !local_has(h->route, &q.src)) || sockdiag_find(h->diag, &q, &owner) != 0) {
		answer(c, p->cur_id, 0, "");
		return 0;
	}
	path = cache_get(owner.inode, now_ms());
	if (path == NULL && !h->privileged && owner.uid != h->uid)
		path = "";
	if (path != NULL) {
		answer(c, p->cur_id, owner.uid, path);
		return 0;
	}
	if (h->n == SEARCH_MAX)
		search(h);
	h->questions[h->n] = (struct sought){ .inode = owner.inode, .uid = owner.uid, .arg = h };
	h->asked[h->n++] = (struct question){ c, p->cur_id };
	ev_idle_start(h->loop, &h->search);
	return 0;
}

static const struct imsg_handler client_table[] = {
	{ MSG_FIND, "FIND", CH_ANY, sizeof(struct msg_find), sizeof(struct msg_find), 0, 0, on_find },
};

static void
end_if_idle(struct helper *h)
{
	if (h->stopping && h->n_clients == 0)
		ev_break(h->loop, EVBREAK_ALL);
}

static void
on_client_gone(struct peer *p, const char *why)
{
	struct client *c = p->arg;
	struct helper *h = c->h;

	(void)why;
	for (unsigned i = 0; i < h->n; i++)
		if (h->asked[i].client == c)
			h->asked[i].client = NULL;
	list_remove(&c->link);
	h->n_clients--;
	free(c);
	end_if_idle(h);
}

/* ---- the supervisor */

static int
on_hello(struct peer *p, struct wire *w, const int *fds)
{
	struct msg_hello m;

	(void)p;
	(void)fds;
	if (wire_get(w, &m, sizeof m) != 0)
		return -E_PROTO;
	log_set_level((int)m.log_level);
	return 0;
}

static int
on_helper(struct peer *p, struct wire *w, const int *fds)
{
	struct helper *h = p->arg;
	struct client *c = h->n_clients < CLIENTS_MAX ? calloc(1, sizeof *c) : NULL;

	(void)w;
	if (c == NULL) {
		close(fds[0]);
		return 0;
	}
	c->h = h;
	list_append(&h->clients, &c->link);
	h->n_clients++;
	peer_open(&c->peer, h->loop, fds[0], "worker", client_table, countof(client_table), c, on_client_gone);
	c->peer.state = CH_SERVING;
	return 0;
}

static int
on_log_level(struct peer *p, struct wire *w, const int *fds)
{
	struct msg_log_level m;

	(void)p;
	(void)fds;
	if (wire_get(w, &m, sizeof m) != 0)
		return -E_PROTO;
	log_set_level(m.level);
	return 0;
}

static void
on_stop_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)t;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

static int
on_stop(struct peer *p, struct wire *w, const int *fds)
{
	struct helper *h = p->arg;
	struct msg_stop m;

	(void)fds;
	if (wire_get(w, &m, sizeof m) != 0)
		return -E_PROTO;
	if (h->stopping)
		return 0;
	h->stopping = true;
	ev_timer_init(&h->stop, on_stop_timer, m.grace_ms / 1000.0, 0);
	ev_timer_start(h->loop, &h->stop);
	end_if_idle(h);
	return 0;
}

static int
on_ping(struct peer *p, struct wire *w, const int *fds)
{
	(void)w;
	(void)fds;
	peer_send(p, MSG_PONG, p->cur_id, NULL, 0, NULL, 0);
	return 0;
}

#define FIXED(t) sizeof(t), sizeof(t)
static const struct imsg_handler supervisor_table[] = {
	{ MSG_HELLO,     "HELLO",     CH_ANY, FIXED(struct msg_hello),     0, 0, on_hello },
	{ MSG_HELPER,    "HELPER",    CH_ANY, 0, 0,                        1, 0, on_helper },
	{ MSG_LOG_LEVEL, "LOG_LEVEL", CH_ANY, FIXED(struct msg_log_level), 0, 0, on_log_level },
	{ MSG_STOP,      "STOP",      CH_ANY, FIXED(struct msg_stop),      0, 0, on_stop },
	{ MSG_PING,      "PING",      CH_ANY, 0, 0,                        0, 0, on_ping },
};

static void
on_supervisor_gone(struct peer *p, const char *why)
{
	struct helper *h = p->arg;

	(void)why;
	ev_break(h->loop, EVBREAK_ALL);
}

/* ---- start */

static uid_t
id_option(int argc, char **argv, const char *name)
{
	int64_t v;

	for (int i = 1; i + 1 < argc; i++)
		if (!strcmp(argv[i], name) && str_to_i64(argv[i + 1], 0, UINT32_MAX - 1, &v) == 0)
			return (uid_t)v;
	return (uid_t)-1;
}

static bool
holds_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3] = { { 0 } };
	const uint32_t need = 1u << CAP_SYS_PTRACE | 1u << CAP_DAC_READ_SEARCH;

	return syscall(SYS_capget, &head, have) == 0 && (have[0].effective & need) == need;
}

/* What needs a path or a socket is opened here, before the first byte of anybody is read: afterwards no file and no socket can
 * be. */
static void
open_all(struct helper *h)
{
	h->proc = procfs_open();
	h->diag = h->proc >= 0 ? sockdiag_open() : -1;
	h->route = local_open();
	if (h->diag < 0)
		log_warn("nethelper: %s: %s: the programs of all connections are unknown (under systemd: process-rules.conf)",
		    h->proc < 0 ? "/proc" : "sock_diag (AF_NETLINK)", strerror(errno));
	h->privileged = holds_capabilities();
	h->uid = geteuid();
	if (h->diag >= 0 && !h->privileged)
		log_warn(
		    "nethelper: without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH only programs of uid %u are known by name: "
		    "rules for those of other users match nothing; UID rules work for all (under systemd: process-rules.conf)",
		    h->uid);
}

int
main(int argc, char **argv)
{
	static struct helper h;

	log_init(LOG);
	log_install_crash_handler(sandbox_role_name(ROLE_NETHELPER));
	sandbox_enter(ROLE_NETHELPER, id_option(argc, argv, "--uid"), (gid_t)id_option(argc, argv, "--gid"), KEEP_FDS);
	open_all(&h);
	sandbox_filter(ROLE_NETHELPER, 1);
	h.loop = ev_loop_new(EV_SLUICE);
	if (h.loop == NULL)
		fatal("nethelper: no event loop");
	list_init(&h.clients);
	ev_idle_init(&h.search, on_search);
	h.search.data = &h;
	peer_open(&h.sup, h.loop, CHANNEL, "supervisor", supervisor_table, countof(supervisor_table), &h, on_supervisor_gone);
	h.sup.state = CH_SERVING;
	sandbox_filter(ROLE_NETHELPER, 2);
	peer_send(&h.sup, MSG_READY, 0, NULL, 0, NULL, 0);
	ev_run(h.loop, 0);
	return 0;
}
