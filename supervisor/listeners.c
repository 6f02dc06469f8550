/* SPDX-License-Identifier: MIT */
/* The listener store. A listener is keyed (kind, address, port, path) and has a slot count fixed when the key is first bound:
 * the CPUs, at most 16. Workers share the slots, so their number can change without disturbing a flow: resizing a SO_REUSEPORT
 * group moves flows and closing a slot resets its queue (measured). The supervisor keeps every socket open, so an accept queue
 * outlives any worker.
 *
 * Slot 0 is bound without SO_REUSEPORT (but beside a key of ours with the same port), which is set afterwards, so another
 * program is noticed; listen() comes only when a generation serves, so one that failed never took a connection. A key goes
 * when no child holds it; a port that only draining workers hold stops listening before that. Cap: LISTENERS_MAX keys. */
#include "supervisor/listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "supervisor/adopt.h"
#include "supervisor/inherit.h"
#include "supervisor/systemd.h"

enum { LISTENERS_MAX = 512, USERS_MAX = 2 * WORKERS_MAX + 2, BACKLOG = 4096, UDP_RCVBUF = 4 << 20 };
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

struct listener {
	struct list link;
	struct msg_listen key;
	int n_slots;
	int fd[LISTEN_SLOTS_MAX];
	bool listening;
	bool borrowed;			/* of a .socket unit, which goes on listening when we end */
	bool stored;			/* in the manager's descriptor store, by inherit_slot_name() */
	struct child *user[USERS_MAX];
	int n_users;
};
struct listeners {
	struct list all;
	size_t count;
};

void
listeners_init(struct sup *s)
{
	s->listeners = calloc(1, sizeof *s->listeners);
	if (s->listeners == NULL)
		fatal("out of memory");
	list_init(&s->listeners->all);
}

static bool
same_key(const struct msg_listen *a, const struct msg_listen *b)
{
	return a->kind == b->kind && a->flags == b->flags && a->port == b->port && ip_equal(&a->ip, &b->ip) &&
	    !strncmp(a->path, b->path, sizeof a->path);
}

static struct listener *
find(struct sup *s, const struct msg_listen *key)
{
	list_each(n, &s->listeners->all) {
		struct listener *l = container_of(n, struct listener, link);

		if (same_key(&l->key, key))
			return l;
	}
	return NULL;
}

static const char *
key_text(const struct msg_listen *k, char *out, size_t cap)
{
	char ip[ADDR_TEXT_MAX], hp[ADDR_TEXT_MAX + 8];

	if (k->kind == LISTEN_UNIX)
		snprintf(out, cap, "unix %s", k->path);
	else
		snprintf(out, cap, "%s %s", k->kind == LISTEN_TCP ? "tcp" : "udp",
		    hostport_text(hp, sizeof hp, ip_text(&k->ip, ip), k->port));
	return out;
}

static void
set(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof value);
}

/* Dual stack where the address is open; IPv4 alone on a kernel without IPv6. */
static int
make_socket(const struct msg_listen *k, int *family)
{
	int type = (k->kind == LISTEN_TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, fd;

	*family = k->ip.family == 4 ? AF_INET : AF_INET6;
	fd = socket(*family, type, k->kind == LISTEN_TCP && (k->flags & LISTEN_MPTCP) ? IPPROTO_MPTCP : 0);
	if (fd == -1 && (k->flags & LISTEN_MPTCP))
		fd = socket(*family, type, 0);
	if (fd == -1 && k->ip.family == 0) {
		*family = AF_INET;
		fd = socket(AF_INET, type, 0);
	}
	return fd;
}

static int
bind_slot(const struct msg_listen *k, bool beside)
{
	union sockaddr_any a;
	int family, fd = make_socket(k, &family);
	socklen_t len;

	if (fd == -1)
		return -1;
	if (family == AF_INET6)
		set(fd, IPPROTO_IPV6, IPV6_V6ONLY, k->ip.family != 0);
	if (k->kind == LISTEN_TCP)
		set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	else {
		if (family == AF_INET6)
			set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
		if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){ UDP_RCVBUF }, sizeof(int)) == -1)
			set(fd, SOL_SOCKET, SO_RCVBUF, UDP_RCVBUF);
	}
	if (beside)
		set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	len = family == AF_INET6 ? ip_to_sockaddr6(&a, &k->ip, k->port) : ip_to_sockaddr(&a, &k->ip, k->port);
	if (k->ip.family == 0 && family == AF_INET) {
		memset(&a, 0, sizeof a);
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons(k->port);
		len = sizeof a.in;
	}
	if (bind(fd, &a.sa, len) == -1) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	if (k->flags & LISTEN_TFO)
		set(fd, IPPROTO_TCP, TCP_FASTOPEN, 256);
	return fd;
}

/* A path longer than sun_path is bound through its open directory. A socket nobody answers at is replaced, as the reference
 * unlinks it. */
static int
bind_unix(struct sup *s, const struct msg_listen *k)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char dir[256], *base;
	int fd = -1, dirfd = -1, saved;

	str_copy(dir, sizeof dir, k->path);
	base = strrchr(dir, '/');
	if (base == NULL) {
		str_copy(dir, sizeof dir, k->path);
		base = dir;
		dirfd = fcntl(s->home_fd, F_DUPFD_CLOEXEC, 3);
	} else {
		*base++ = '\0';
		if (*dir != '\0')
			mkdirat(s->home_fd, dir, 0755);	/* as the reference; one level */
		dirfd = openat(s->home_fd, *dir != '\0' ? dir : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	if (dirfd == -1)
		return -1;
	if (snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%s", dirfd, base) >= (int)sizeof a.sun_path) {
		errno = ENAMETOOLONG;
		goto out;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		goto out;
	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
		close(fd);
		fd = -1;
		errno = EADDRINUSE;
		goto out;
	}
	unlinkat(dirfd, base, 0);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) == -1 || fchmodat(dirfd, base, k->mode, 0) == -1) {
		saved = errno;
		close(fd);
		fd = -1;
		errno = saved;
	}
out:
	saved = errno;
	close(dirfd);
	errno = saved;
	return fd;
}

static int
slot_count(const struct msg_listen *k)
{
	cpu_set_t set_;
	int n;

	if (k->kind == LISTEN_UNIX || (k->flags & (LISTEN_ONE | LISTEN_LEAD)))
		return 1;
	n = sched_getaffinity(0, sizeof set_, &set_) == 0 ? CPU_COUNT(&set_) : 1;
	return n > LISTEN_SLOTS_MAX ? LISTEN_SLOTS_MAX : n;
}

/* In the store, the sockets outlive a crash of ours together with their queues. */
static void
store(struct sup *s, struct listener *l)
{
	char name[FDNAME_MAX];

	for (int i = 0; i < l->n_slots && !l->borrowed && !l->stored; i++)
		systemd_store(s, inherit_slot_name(&l->key, i, name), l->fd[i]);
	l->stored = !l->borrowed && systemd_stores(s);
}

/* The store's copy would go on taking connections until it is removed. */
static void
unstore(struct sup *s, struct listener *l)
{
	char name[FDNAME_MAX];

	for (int i = 0; i < l->n_slots && l->stored; i++) {
		systemd_unstore(s, inherit_slot_name(&l->key, i, name));
		if (l->key.kind != LISTEN_UDP)
			shutdown(l->fd[i], SHUT_RDWR);
	}
	l->stored = false;
}

static void
destroy(struct sup *s, struct listener *l)
{
	unstore(s, l);
	for (int i = 0; i < l->n_slots; i++)
		if (l->fd[i] != -1)
			close(l->fd[i]);
	list_remove(&l->link);
	s->listeners->count--;
	free(l);
}

/* One of ours has this port at another address (a change between 127.0.0.1 and every address): the two live side by side until
 * the old one goes. */
static bool
own_port(const struct sup *s, const struct listener *self)
{
	list_each(n, &s->listeners->all) {
		const struct listener *l = container_of(n, struct listener, link);

		if (l != self && l->key.kind == self->key.kind && l->key.port == self->key.port && l->key.port != 0)
			return true;
	}
	return false;
}

static int
make_slot(struct sup *s, const struct listener *l, int slot)
{
	const struct msg_listen *k = &l->key;
	int fd;

	if (k->kind == LISTEN_UNIX)
		return bind_unix(s, k);
	fd = bind_slot(k, slot > 0 || own_port(s, l) || inherit_has_port(s, k));
	/* a key that went a moment ago may still be held by the descriptor store */
	if (fd == -1 && errno == EADDRINUSE) {
		if (systemd_settle(s))
			return bind_slot(k, slot > 0 || own_port(s, l));
		errno = EADDRINUSE;
	}
	return fd;
}

static struct listener *
make(struct sup *s, const struct msg_listen *k, char *why, size_t cap)
{
	struct listener *l;
	char text[320];
	int n;

	if (s->listeners->count >= LISTENERS_MAX || (l = calloc(1, sizeof *l)) == NULL) {
		snprintf(why, cap, "too many listeners (at most %d)", LISTENERS_MAX);
		errno = ENFILE;
		return NULL;
	}
	l->key = *k;
	l->n_slots = slot_count(k);
	list_append(&s->listeners->all, &l->link);
	s->listeners->count++;
	if ((n = inherit_sockets(s, k, l->fd, &l->borrowed)) > 0) {
		l->n_slots = n;
		log_debug("%s: %d socket%s %s", key_text(k, text, sizeof text), n, n == 1 ? "" : "s",
		    l->borrowed ? "of the service manager" : "kept from before a crash");
		return l;
	}
	for (int i = 0; i < l->n_slots; i++)
		l->fd[i] = -1;
	for (int i = 0; i < l->n_slots; i++) {
		l->fd[i] = make_slot(s, l, i);
		if (l->fd[i] == -1) {
			int saved = errno;

			snprintf(why, cap, "listen %s: bind: %s", key_text(k, text, sizeof text),
			    saved == EADDRINUSE ? "address already in use" : strerror(saved));
			destroy(s, l);
			errno = saved;
			return NULL;
		}
	}
	return l;
}

static bool
uses(const struct listener *l, const struct child *c)
{
	for (int i = 0; i < l->n_users; i++)
		if (l->user[i] == c)
			return true;
	return false;
}

/* Slot s belongs to worker s mod N. Where there are more workers than slots the surplus ones share those of a stream listener;
 * a datagram slot has one reader, or the datagrams of one client would go to two. */
static int
slots_of(const struct listener *l, uint32_t index, int workers, uint8_t out[static LISTEN_SLOTS_MAX])
{
	int n = 0;

	for (int i = (int)index; i < l->n_slots; i += workers)
		out[n++] = (uint8_t)i;
	if (n == 0 && l->key.kind != LISTEN_UDP && !(l->key.flags & LISTEN_LEAD))
		out[n++] = (uint8_t)((int)index % l->n_slots);
	return n;
}

/* Duplicates of n slots, or -1. */
static int
dup_slots(const struct listener *l, const uint8_t *slots, int n, int *fds)
{
	for (int i = 0; i < n; i++) {
		fds[i] = fcntl(l->fd[slots[i]], F_DUPFD_CLOEXEC, 3);
		if (fds[i] == -1) {
			imsg_close_fds(fds, i);
			return -1;
		}
	}
	return n;
}

int
listeners_take(struct sup *s, struct child *c, const struct msg_listen *key, int fds[static LISTEN_SLOTS_MAX], uint8_t slots[static LISTEN_SLOTS_MAX],
    char *why, size_t cap)
{
	struct listener *l = find(s, key);
	int n;

	if (l == NULL)
		l = make(s, key, why, cap);
	if (l == NULL)
		return errno == EADDRINUSE ? -E_BUSY : errno == EACCES || errno == EPERM ? -E_PERM : -E_SYS;
	if (!uses(l, c)) {
		if (l->n_users == USERS_MAX) {
			snprintf(why, cap, "too many processes at one listener");
			return -E_LIMIT;
		}
		l->user[l->n_users++] = c;
	}
	n = slots_of(l, c->index, c->gen != NULL ? c->gen->n_workers : 1, slots);
	if (dup_slots(l, slots, n, fds) == -1) {
		snprintf(why, cap, "out of file descriptors");
		return -E_SYS;
	}
	/* a key bound while its holder already serves (PATCH of ports) is opened at once */
	if (c->state == CH_SERVING && listeners_serve(s, why, cap) != 0) {
		imsg_close_fds(fds, n);
		listeners_drop(s, c, key);
		return -E_BUSY;
	}
	return n;
}

/* Some worker reads that slot without being told: a surplus one that shares it. */
static bool
has_reader(const struct listener *l, const struct generation *g, uint32_t except, uint8_t slot)
{
	uint8_t slots[LISTEN_SLOTS_MAX];

	for (uint32_t i = 0; i < (uint32_t)g->n_workers; i++) {
		int n = i == except || g->reader[i] == NOBODY || g->worker[i] == NULL ? 0 : slots_of(l, i, g->n_workers, slots);

		if (n > 0 && memchr(slots, slot, (size_t)n) != NULL)
			return true;
	}
	return false;
}

void
listeners_adopt(struct sup *s, struct child *c, uint32_t index, const struct msg_listen *only)
{
	list_each(n, &s->listeners->all) {
		struct listener *l = container_of(n, struct listener, link);
		struct msg_adopt m = { .key = l->key, .index = index };
		int fds[LISTEN_SLOTS_MAX], have, k = 0;

		if (!uses(l, c) || (only != NULL && !same_key(&l->key, only)))
			continue;
		have = slots_of(l, index, c->gen->n_workers, m.slot);
		for (int i = 0; i < have; i++)
			if (!has_reader(l, c->gen, index, m.slot[i]))
				m.slot[k++] = m.slot[i];
		if (k == 0 || dup_slots(l, m.slot, k, fds) == -1)
			continue;
		m.n = (uint32_t)k;
		peer_send(&c->peer, MSG_ADOPT, 0, &m, sizeof m, fds, k);
	}
}

/* All its workers have asked for what they want: none has crashed and comes back. */
static bool
complete(const struct generation *g)
{
	for (int i = 0; i < g->n_workers; i++)
		if (g->worker[i] == NULL || g->worker[i]->state != CH_SERVING)
			return false;
	return true;
}

static void
unuse(struct sup *s, struct listener *l, const struct child *c)
{
	for (int i = 0; i < l->n_users; i++)
		if (l->user[i] == c) {
			l->user[i] = l->user[--l->n_users];
			break;
		}
	/* while a worker that serves is away, it may be its own: listeners_settle() looks when all are back */
	if (l->n_users == 0 && !s->stopping && (s->serving == NULL || complete(s->serving)))
		destroy(s, l);
}

/* A worker that only crashed will be back: its generation's keys must not be lost meanwhile. */
static bool
comes_back(const struct sup *s, const struct child *c)
{
	return !s->stopping && !c->stopping &&
	    (c->role == ROLE_CONTROLLER || (c->gen != NULL && c->gen->state == GEN_SERVING));
}

void
listeners_drop(struct sup *s, struct child *c, const struct msg_listen *key)
{
	struct listener *l = find(s, key);

	if (l != NULL && uses(l, c))
		unuse(s, l, c);
}

/* Keys only a crashed child held are kept without a user until its successor asks for them or another generation serves. */
void
listeners_child_gone(struct sup *s, struct child *c)
{
	bool keep = comes_back(s, c);

	list_each_safe(n, tmp, &s->listeners->all) {
		struct listener *l = container_of(n, struct listener, link);

		if (!uses(l, c))
			continue;
		if (keep && l->n_users == 1)
			l->n_users = 0;
		else
			unuse(s, l, c);
	}
}

/* Proven, not assumed: every TCP and Unix slot is in the state in which the kernel queues connections. */
static int
listener_accepts(const struct listener *l, char *why, size_t cap)
{
	char text[320];

	for (int i = 0; l->key.kind != LISTEN_UDP && i < l->n_slots; i++) {
		int accepts = 0;
		socklen_t len = sizeof accepts;

		if (getsockopt(l->fd[i], SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == -1 || accepts == 0) {
			snprintf(why, cap, "listen %s: the socket does not accept", key_text(&l->key, text, sizeof text));
			return -E_BUSY;
		}
	}
	return 0;
}

static int
listeners_accept(struct sup *s, char *why, size_t cap)
{
	list_each(n, &s->listeners->all) {
		const struct listener *l = container_of(n, struct listener, link);

		if (l->listening && listener_accepts(l, why, cap) != 0)
			return -E_BUSY;
	}
	return 0;
}

/* Somebody accepts there, or will; one that crashed is no user until it comes back. */
static bool
wanted(const struct listener *l)
{
	for (int i = 0; i < l->n_users; i++)
		if (l->user[i]->state != CH_DRAINING)
			return true;
	return l->n_users == 0;
}

int
listeners_serve(struct sup *s, char *why, size_t cap)
{
	list_each(n, &s->listeners->all) {
		struct listener *l = container_of(n, struct listener, link);
		char text[320];

		if (!wanted(l))
			continue;
		for (int i = 0; i < l->n_slots && !l->listening && l->key.kind != LISTEN_UDP; i++)
			if (listen(l->fd[i], BACKLOG) == -1) {
				snprintf(why, cap, "listen %s: %s", key_text(&l->key, text, sizeof text),
				    errno == EADDRINUSE ? "address already in use" : strerror(errno));
				return -E_BUSY;
			}
		l->listening = true;
		store(s, l);
	}
	return listeners_accept(s, why, cap);
}

void
listeners_settle(struct sup *s)
{
	if (s->stopping || !complete(s->serving))
		return;		/* the next time */
	list_each_safe(n, tmp, &s->listeners->all) {
		struct listener *l = container_of(n, struct listener, link);

		if (l->n_users == 0) {
			destroy(s, l);	/* of one that crashed, and whose successors do not ask for it */
			continue;
		}
		if (wanted(l) || !l->listening || l->key.kind != LISTEN_TCP)
			continue;
		unstore(s, l);
		for (int i = 0; i < l->n_slots; i++)
			shutdown(l->fd[i], SHUT_RDWR);
		l->listening = false;
	}
}

void
listeners_shutdown(struct sup *s)
{
	list_each(n, &s->listeners->all) {
		struct listener *l = container_of(n, struct listener, link);

		/* a borrowed one stays open for our next start; so does a stored one, which the manager closes unless this is
		 * a restart */
		if (l->borrowed || (l->stored && l->key.kind != LISTEN_UNIX))
			continue;
		unstore(s, l);
		for (int i = 0; i < l->n_slots; i++)
			if (l->key.kind != LISTEN_UDP)
				shutdown(l->fd[i], SHUT_RDWR);
		if (l->key.kind == LISTEN_UNIX)
			unlinkat(s->home_fd, l->key.path, 0);
	}
}

size_t
listeners_count(const struct sup *s)
{
	return s->listeners->count;
}

/* ---- over an execve */

/* A field added to the key must travel too, and is a new version of the state (adopt.h). */
_Static_assert(sizeof(struct msg_listen) == 4 * 2 + sizeof(struct ip) + 3 + 256, "msg_listen changed: its fields are written one by one here");

void
listeners_save(struct sup *s, struct adopt *a)
{
	wire_put_u32(&a->w, (uint32_t)s->listeners->count);
	list_each(n, &s->listeners->all) {
		const struct listener *l = container_of(n, struct listener, link);

		wire_put_u16(&a->w, l->key.kind);
		wire_put_u16(&a->w, l->key.flags);
		wire_put_u16(&a->w, l->key.port);
		wire_put_u16(&a->w, l->key.mode);
		wire_put_u8(&a->w, l->key.ip.family);
		wire_put(&a->w, l->key.ip.b, sizeof l->key.ip.b);
		wire_put_str(&a->w, l->key.path);
		wire_put_bool(&a->w, l->listening);
		wire_put_bool(&a->w, l->borrowed);
		wire_put_bool(&a->w, l->stored);
		wire_put_u32(&a->w, (uint32_t)l->n_slots);
		for (int i = 0; i < l->n_slots; i++)
			adopt_put_fd(a, l->fd[i]);
		wire_put_u32(&a->w, (uint32_t)l->n_users);
		for (int i = 0; i < l->n_users; i++)
			adopt_put_child(s, a, l->user[i]);
	}
}

static int
load_key(struct adopt *a, struct msg_listen *k)
{
	if (wire_get_u16(&a->w, &k->kind) != 0 || wire_get_u16(&a->w, &k->flags) != 0 || wire_get_u16(&a->w, &k->port) != 0 ||
	    wire_get_u16(&a->w, &k->mode) != 0 || wire_get_u8(&a->w, &k->ip.family) != 0 ||
	    wire_get(&a->w, k->ip.b, sizeof k->ip.b) != 0 || wire_get_str(&a->w, k->path, sizeof k->path) != 0)
		return -E_PROTO;
	return k->kind >= LISTEN_TCP && k->kind <= LISTEN_UNIX && (k->ip.family == 0 || k->ip.family == 4 || k->ip.family == 6) ?
	    0 :
	    -E_PROTO;
}

static int
load_one(struct sup *s, struct adopt *a)
{
	struct listener *l = calloc(1, sizeof *l);
	uint32_t slots = 0, users = 0;

	if (l == NULL)
		return adopt_bad(a, "out of memory");
	list_append(&s->listeners->all, &l->link);
	s->listeners->count++;
	if (load_key(a, &l->key) != 0 || find(s, &l->key) != l || wire_get_bool(&a->w, &l->listening) != 0 ||
	    wire_get_bool(&a->w, &l->borrowed) != 0 || wire_get_bool(&a->w, &l->stored) != 0)
		return adopt_bad(a, "a listener's key");
	if (adopt_get_u32(a, LISTEN_SLOTS_MAX, "a listener's slots", &slots) != 0)
		return -E_PROTO;
	for (uint32_t i = 0; i < slots; i++) {
		if (adopt_get_fd(a, ADOPT_SOCKET, &l->fd[i]) != 0)
			return -E_PROTO;
		l->n_slots++;
	}
	if (slots == 0 || adopt_get_u32(a, USERS_MAX, "a listener's users", &users) != 0)
		return adopt_bad(a, "a listener without a socket");
	for (uint32_t i = 0; i < users; i++) {
		if (adopt_get_child(a, &l->user[i]) != 0 || l->user[i] == NULL || uses(l, l->user[i]))
			return adopt_bad(a, "a listener's user");
		l->n_users++;
	}
	return 0;
}

int
listeners_load(struct sup *s, struct adopt *a)
{
	char why[320];
	uint32_t n;

	if (adopt_get_u32(a, LISTENERS_MAX, "the number of listeners", &n) != 0)
		return -E_PROTO;
	for (uint32_t i = 0; i < n; i++)
		if (load_one(s, a) != 0)
			return -E_PROTO;
	list_each(k, &s->listeners->all) {
		const struct listener *l = container_of(k, struct listener, link);

		if (l->listening && listener_accepts(l, why, sizeof why) != 0)
			return adopt_bad(a, why);
	}
	return 0;
}

void
listeners_forget(struct sup *s)
{
	list_each_safe(n, tmp, &s->listeners->all) {
		list_remove(n);
		free(container_of(n, struct listener, link));
	}
	s->listeners->count = 0;
}
