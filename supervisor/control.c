/* SPDX-License-Identifier: MIT */
/* The control socket. Its other end is client.c. The file's mode and the kernel's word on the peer's uid decide who may speak;
 * at most CLIENTS_MAX at once. A reload is answered when it is over, with what really happened, so `sluice reload` can be
 * trusted as ExecReload. */
#include "supervisor/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "common/version.h"
#include "supervisor/adopt.h"
#include "supervisor/child.h"
#include "supervisor/listeners.h"
#include "supervisor/messages.h"
#include "supervisor/reload.h"
#include "supervisor/upgrade.h"

enum { CLIENTS_MAX = 16 };

struct client {
	struct list link;
	struct sup *sup;
	struct peer peer;
};
struct control {
	int fd;
	ev_io io;
	struct list clients;
	int n_clients;
};

static void
on_client_gone(struct peer *p, const char *why)
{
	struct client *c = p->arg;

	(void)why;
	reload_forget_peer(c->sup, p);
	upgrade_forget_peer(c->sup, p);
	list_remove(&c->link);
	c->sup->control->n_clients--;
	free(c);
}

static int
on_reload(struct peer *p, struct wire *w, const int *fds)
{
	struct client *c = p->arg;
	struct msg_reload m;

	(void)fds;
	if (wire_get(w, &m, sizeof m) != 0)
		return -E_PROTO;
	m.path[sizeof m.path - 1] = '\0';
	m.flags &= RELOAD_FORCE | RELOAD_SAME | RELOAD_CONTROLLER;
	reload_request(c->sup, &m, -1, (struct reload_waiter){ p, p->cur_id });
	return 0;
}

static int
on_upgrade(struct peer *p, struct wire *w, const int *fds)
{
	struct client *c = p->arg;
	struct msg_upgrade m;

	(void)fds;
	if (wire_get(w, &m, sizeof m) != 0)
		return -E_PROTO;
	upgrade_request(c->sup, (m.flags & UPGRADE_FORCE) != 0, (struct reload_waiter){ p, p->cur_id });
	return 0;
}

static int
on_shutdown(struct peer *p, struct wire *w, const int *fds)
{
	struct client *c = p->arg;

	(void)w;
	(void)fds;
	messages_result(p, p->cur_id, 204, NULL, "");
	sup_stop(c->sup, 0);
	return 0;
}

const char *
control_state_name(const struct child *c)
{
	return c->stopping ? "stopping" : c->state == CH_SERVING ? "serving" : c->state == CH_DRAINING ? "draining" :
	    c->state == CH_READY ? "ready" : "starting";
}

static unsigned long
resident_kb(int statm_fd, unsigned long *shared)
{
	char text[128];
	unsigned long size = 0, rss = 0, sh = 0;
	ssize_t n = pread(statm_fd, text, sizeof text - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	if (sscanf(text, "%lu %lu %lu", &size, &rss, &sh) != 3)
		rss = sh = 0;
	if (shared != NULL)
		*shared = sh * 4;
	return rss * 4;
}

uint64_t
control_resident(const struct child *c)
{
	return resident_kb(c->statm_fd, NULL) * 1024;
}

void
control_memory(struct sup *s, struct msg_memory *m)
{
	int self = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	unsigned long shared, most = 0, rss = resident_kb(self, &shared);

	*m = (struct msg_memory){ .supervisor = (rss - shared) * 1024 };
	if (self != -1)
		close(self);
	most = shared;
	list_each(n, &s->children) {
		const struct child *c = container_of(n, struct child, link);

		rss = resident_kb(c->statm_fd, &shared);
		rss = rss > shared ? rss - shared : 0;
		most = shared > most ? shared : most;
		if (c->role == ROLE_CONTROLLER)
			m->controller += rss * 1024;
		else
			m->workers += rss * 1024;
	}
	m->rss = m->supervisor + m->controller + m->workers + most * 1024;
}

static int
on_status(struct peer *p, struct wire *w, const int *fds)
{
	struct client *c = p->arg;
	struct sup *s = c->sup;
	struct wire out;
	char text[8192];
	size_t n = 0;

	(void)w;
	(void)fds;
	n += (size_t)snprintf(text + n, sizeof text - n, "sluice %s, pid %d, directory %s\ngeneration %u, %zu listeners%s\n",
	    version_text(), (int)getpid(), s->home, s->serving != NULL ? s->serving->number : 0, listeners_count(s),
	    reload_busy(s) ? ", a reload is running" : "");
	list_each(k, &s->children) {
		const struct child *ch = container_of(k, struct child, link);

		if (n < sizeof text - 128)
			n += (size_t)snprintf(text + n, sizeof text - n, "%-14s pid %-8d %-10s %6.0f s %8lu KB\n", ch->name,
			    (int)ch->pid, control_state_name(ch), ev_steady() - ch->started, resident_kb(ch->statm_fd, NULL));
	}
	wire_init(&out);
	wire_put_str(&out, text);
	peer_send_wire(p, MSG_TEXT, p->cur_id, &out, NULL, 0);
	return 0;
}

static struct child *
lead_worker(struct sup *s)
{
	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		if (c->role == ROLE_WORKER && c->gen == s->serving && c->index == 0 && c->state == CH_SERVING &&
		    c->ipc == IMSG_VERSION)
			return c;
	}
	return NULL;
}

/* The client asks the lead itself: nothing of it passes through here. */
static int
on_introduce(struct peer *p, struct wire *w, const int *fds)
{
	struct client *c = p->arg;
	struct child *lead = lead_worker(c->sup);
	struct msg_peer m = { .flags = PEER_CLIENT };
	int pair[2];

	(void)w;
	(void)fds;
	if (lead == NULL || imsg_pair(pair) != 0) {
		messages_result(p, p->cur_id, 503, NULL, "no worker serves at the moment");
		return 0;
	}
	child_send(lead, MSG_PEER, 0, &m, sizeof m, pair[1]);
	peer_send(p, MSG_PEER, p->cur_id, &m, sizeof m, &pair[0], 1);
	return 0;
}

static const struct imsg_handler control_table[] = {
	{ MSG_INTRODUCE, "INTRODUCE", 1, 0, 0, 0, 0, on_introduce },
	{ MSG_RELOAD, "RELOAD", 1, sizeof(struct msg_reload), sizeof(struct msg_reload), 0, 0, on_reload },
	{ MSG_STATUS, "STATUS", 1, 0, 0, 0, 0, on_status },
	{ MSG_SHUTDOWN, "SHUTDOWN", 1, 0, 0, 0, 0, on_shutdown },
	{ MSG_UPGRADE, "UPGRADE", 1, sizeof(struct msg_upgrade), sizeof(struct msg_upgrade), 0, 0, on_upgrade },
};

static bool
take_client(struct sup *s, int fd)
{
	struct client *c = calloc(1, sizeof *c);

	if (c == NULL)
		return false;
	c->sup = s;
	list_append(&s->control->clients, &c->link);
	s->control->n_clients++;
	peer_open(&c->peer, s->loop, fd, "control client", control_table, countof(control_table), c, on_client_gone);
	c->peer.version = IMSG_VERSION_CONTROL;
	c->peer.state = 1;
	return true;
}

static void
on_accept(struct ev_loop *loop, ev_io *io, int events)
{
	struct sup *s = io->data;
	struct ucred cred;
	socklen_t len = sizeof cred;
	int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)loop;
	(void)events;
	if (fd == -1)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1 || (cred.uid != 0 && cred.uid != geteuid()) ||
	    s->control->n_clients >= CLIENTS_MAX || !take_client(s, fd))
		close(fd);
}

/* A path that is too long for an address goes through /proc/self/fd. */
void
control_address(int home_fd, const char *home, struct sockaddr_un *out)
{
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (snprintf(out->sun_path, sizeof out->sun_path, "%s/%s", home, CONTROL_SOCKET) >= (int)sizeof out->sun_path)
		snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/%s", home_fd, CONTROL_SOCKET);
}

static void
listen_at(struct sup *s, int fd)
{
	s->control->fd = fd;
	if (fd == -1)
		return;
	ev_io_init(&s->control->io, on_accept, fd, EV_READ);
	s->control->io.data = s;
	ev_io_start(s->loop, &s->control->io);
}

void
control_init(struct sup *s)
{
	s->control = calloc(1, sizeof *s->control);
	if (s->control == NULL)
		fatal("out of memory");
	list_init(&s->control->clients);
	s->control->fd = -1;
}

void
control_open(struct sup *s)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;
	mode_t old;

	control_address(s->home_fd, s->home, &a);
	unlinkat(s->home_fd, CONTROL_SOCKET, 0);	/* the directory's lock is ours */
	old = umask(0177);
	if (fd == -1 || bind(fd, (struct sockaddr *)&a, sizeof a) == -1 || listen(fd, 8) == -1)
		log_warn("control socket %s/%s: %s: sluice reload, status and stop will not work", s->home, CONTROL_SOCKET,
		    strerror(errno));
	umask(old);
	listen_at(s, fd);
}

void
control_end(struct sup *s)
{
	unlinkat(s->home_fd, CONTROL_SOCKET, 0);
}

/* ---- over an execve: the socket and those who wait for an answer */

void
control_save(struct sup *s, struct adopt *a)
{
	adopt_put_fd(a, s->control->fd);
	wire_put_u32(&a->w, (uint32_t)s->control->n_clients);
	list_each(n, &s->control->clients)
		adopt_put_fd(a, container_of(n, struct client, link)->peer.fd);
}

int
control_load(struct sup *s, struct adopt *a)
{
	uint32_t n;
	int fd;

	if (adopt_get_fd(a, ADOPT_CHANNEL | ADOPT_MAYBE, &fd) != 0)
		return -E_PROTO;
	listen_at(s, fd);
	if (adopt_get_u32(a, CLIENTS_MAX, "the number of control clients", &n) != 0)
		return -E_PROTO;
	for (uint32_t i = 0; i < n; i++)
		if (adopt_get_fd(a, ADOPT_CHANNEL, &fd) != 0 || !take_client(s, fd))
			return adopt_bad(a, "a control client");
	return 0;
}

void
control_forget(struct sup *s)
{
	list_each_safe(n, tmp, &s->control->clients) {
		struct client *c = container_of(n, struct client, link);

		ev_io_stop(s->loop, &c->peer.rd);
		ev_io_stop(s->loop, &c->peer.wr);
		list_remove(n);
		free(c);
	}
	s->control->n_clients = 0;
	ev_io_stop(s->loop, &s->control->io);
}

uint32_t
control_client_number(const struct sup *s, const struct peer *p)
{
	uint32_t i = 0;

	list_each(n, &s->control->clients) {
		i++;
		if (&container_of(n, struct client, link)->peer == p)
			return i;
	}
	return 0;
}

struct peer *
control_client_peer(struct sup *s, uint32_t number)
{
	uint32_t i = 0;

	list_each(n, &s->control->clients)
		if (++i == number)
			return &container_of(n, struct client, link)->peer;
	return NULL;
}

bool
control_quiet(const struct sup *s)
{
	list_each(n, &s->control->clients) {
		const struct peer *p = &container_of(n, struct client, link)->peer;

		if (p->queued > 0 || p->deaf || p->fd == -1)
			return false;
	}
	return true;
}
