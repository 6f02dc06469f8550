/* SPDX-License-Identifier: MIT */
/* Descriptors that the service manager gave us at the start (sd_listen_fds(3)): sockets of a .socket unit, and what an earlier
 * life of this service had put into the descriptor store before it crashed (systemd.c). listeners.c asks here before it binds,
 * state.c before it starts anew.
 *
 * Sockets are matched by what they are bound to, not by their names: a .socket unit may call them anything. Only names that
 * begin with "sluice/" are from the store. A Unix socket of the store is the exception: it was bound through /proc/self/fd, so
 * only its name tells which one it is. Cap: INHERIT_MAX; what is above is closed. Owns the descriptors that nobody has taken
 * yet. */
#include "supervisor/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "supervisor/systemd.h"

enum { INHERIT_MAX = 4096, FIRST_FD = 3 /* SD_LISTEN_FDS_START */, CLEAR_OF = 10 };
static const char stored_prefix[] = "sluice/";

struct gift {
	int fd;				/* -1 = taken */
	bool stored;
	char name[FDNAME_MAX];		/* cut: only our own names are compared */
};
struct inherited {
	int n, surplus;
	struct gift gift[];
};

/* The variables are for one process: LISTEN_PID says which. */
static int
announced(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	int64_t p, n;

	if (pid == NULL || fds == NULL || str_to_i64(pid, 1, INT32_MAX, &p) != 0 || p != getpid() ||
	    str_to_i64(fds, 1, INT32_MAX - FIRST_FD, &n) != 0)
		return 0;
	return (int)n;
}

/* Clear of the numbers that children use, and not passed on by accident. The name is moved on in *names. */
static bool
receive(struct gift *g, int fd, const char **names)
{
	size_t len = *names != NULL ? strcspn(*names, ":") : 0;

	snprintf(g->name, sizeof g->name, "%.*s", len < sizeof g->name ? (int)len : (int)sizeof g->name - 1,
	    *names != NULL ? *names : "");
	if (*names != NULL)
		*names = (*names)[len] == ':' ? *names + len + 1 : NULL;
	g->stored = str_starts(g->name, stored_prefix);
	g->fd = fd;
	if (fd >= CLEAR_OF)
		return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
	g->fd = fcntl(fd, F_DUPFD_CLOEXEC, CLEAR_OF);
	return g->fd != -1 && close(fd) == 0;
}

void
inherit_init(struct sup *s)
{
	int n = announced(), keep = n < INHERIT_MAX ? n : INHERIT_MAX;
	const char *names = getenv("LISTEN_FDNAMES");
	struct inherited *in = n > 0 ? calloc(1, sizeof *in + (size_t)keep * sizeof in->gift[0]) : NULL;

	for (int i = 0; i < keep && in != NULL; i++)
		if (receive(&in->gift[in->n], FIRST_FD + i, &names))
			in->n++;
	if (n > keep) {
		close_range((unsigned)(FIRST_FD + keep), (unsigned)(FIRST_FD + n - 1), 0);
		in->surplus = n - keep;
	}
	s->inherited = in;
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

static int
option(int fd, int level, int name)
{
	int v = 0;
	socklen_t len = sizeof v;

	return getsockopt(fd, level, name, &v, &len) == 0 ? v : -1;
}

static void
set(int fd, int level, int name, int value)
{
	setsockopt(fd, level, name, &value, sizeof value);
}

/* FNV-1a of what makes a key, so that a name is short and has no character that FDNAME forbids. */
static uint64_t
key_hash(const struct msg_listen *k)
{
	const struct {
		const void *p;
		size_t n;
	} part[] = { { &k->kind, sizeof k->kind }, { &k->flags, sizeof k->flags }, { &k->port, sizeof k->port },
		{ &k->ip.family, 1 }, { k->ip.b, sizeof k->ip.b }, { k->path, strnlen(k->path, sizeof k->path) } };
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < countof(part); i++)
		for (size_t j = 0; j < part[i].n; j++)
			h = (h ^ ((const uint8_t *)part[i].p)[j]) * 0x100000001b3u;
	return h;
}

const char *
inherit_slot_name(const struct msg_listen *k, int slot, char out[static FDNAME_MAX])
{
	snprintf(out, FDNAME_MAX, "%slisten/%016llx/%02d", stored_prefix, (unsigned long long)key_hash(k), slot);
	return out;
}

/* Every address of the key is every address of the socket: dual stack, or all of IPv4 where that is what there is. */
static bool
same_address(int fd, const struct sockaddr *sa, const struct msg_listen *k)
{
	struct ip ip;
	uint16_t port;

	ip_from_sockaddr(&ip, &port, sa);
	if (port != k->port || port == 0)
		return false;
	if (k->ip.family == 0)
		return ip_is_unspecified(&ip) && (sa->sa_family == AF_INET || option(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0);
	if (sa->sa_family == AF_INET6 && ip_is_unspecified(&ip) && option(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 1)
		return false;
	return ip_equal(&ip, &k->ip);
}

static bool
same_path(const struct sup *s, const struct gift *g, const struct sockaddr_un *a, const struct msg_listen *k)
{
	char full[PATH_MAX + sizeof k->path + 1], name[FDNAME_MAX];

	if (g->stored)
		return str_equal(g->name, inherit_slot_name(k, 0, name));
	snprintf(full, sizeof full, "%s%s%s", k->path[0] != '/' ? s->home : "", k->path[0] != '/' ? "/" : "", k->path);
	return !strncmp(a->sun_path, full, sizeof a->sun_path);
}

static bool
matches(const struct sup *s, const struct gift *g, const struct msg_listen *k)
{
	union { struct sockaddr sa; struct sockaddr_un un; struct sockaddr_storage ss; } a = { 0 };
	socklen_t len = sizeof a;

	if (g->fd == -1 || option(g->fd, SOL_SOCKET, SO_TYPE) != (k->kind == LISTEN_UDP ? SOCK_DGRAM : SOCK_STREAM) ||
	    getsockname(g->fd, &a.sa, &len) == -1)
		return false;
	if (a.sa.sa_family == AF_UNIX)
		return k->kind == LISTEN_UNIX && option(g->fd, SOL_SOCKET, SO_ACCEPTCONN) == 1 && same_path(s, g, &a.un, k);
	return (a.sa.sa_family == AF_INET || a.sa.sa_family == AF_INET6) && k->kind != LISTEN_UNIX &&
	    same_address(g->fd, &a.sa, k);
}

/* What listeners.c sets before it binds, as far as it can be set afterwards. */
static void
prepare(int fd, const struct msg_listen *k)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	if (k->kind == LISTEN_UDP) {
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
		if (option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6)
			set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	} else if (k->kind == LISTEN_TCP && k->flags & LISTEN_TFO)
		set(fd, IPPROTO_TCP, TCP_FASTOPEN, 256);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp((*(const struct gift *const *)a)->name, (*(const struct gift *const *)b)->name);
}

int
inherit_sockets(struct sup *s, const struct msg_listen *k, int fds[static LISTEN_SLOTS_MAX], bool *borrowed)
{
	struct gift *got[LISTEN_SLOTS_MAX];
	char name[FDNAME_MAX];
	int n = 0;

	for (int i = 0; s->inherited != NULL && i < s->inherited->n && n < LISTEN_SLOTS_MAX; i++) {
		struct gift *g = &s->inherited->gift[i];

		if (matches(s, g, k) && (n == 0 || g->stored == got[0]->stored))
			got[n++] = g;
	}
	if (n == 0)
		return 0;
	*borrowed = !got[0]->stored;
	if (got[0]->stored)	/* slots come back in their order */
		qsort(got, (size_t)n, sizeof got[0], by_name);
	for (int i = 0; i < n; i++) {
		/* stored under another key's name (its flags changed): listeners.c stores it again under its own */
		if (got[i]->stored && !str_equal(got[i]->name, inherit_slot_name(k, i, name)))
			systemd_unstore(s, got[i]->name);
		fds[i] = got[i]->fd;
		got[i]->fd = -1;
		prepare(fds[i], k);
	}
	return n;
}

bool
inherit_has_port(const struct sup *s, const struct msg_listen *k)
{
	for (int i = 0; s->inherited != NULL && i < s->inherited->n; i++) {
		const struct gift *g = &s->inherited->gift[i];
		union sockaddr_any a = { 0 };
		socklen_t len = sizeof a;
		struct ip ip;
		uint16_t port = 0;

		if (g->fd == -1 || !g->stored ||
		    option(g->fd, SOL_SOCKET, SO_TYPE) != (k->kind == LISTEN_UDP ? SOCK_DGRAM : SOCK_STREAM) ||
		    getsockname(g->fd, &a.sa, &len) == -1)
			continue;
		ip_from_sockaddr(&ip, &port, &a.sa);
		if (port == k->port && port != 0)
			return true;
	}
	return false;
}

int
inherit_take(struct sup *s, const char *name)
{
	for (int i = 0; s->inherited != NULL && i < s->inherited->n; i++) {
		struct gift *g = &s->inherited->gift[i];

		if (g->fd != -1 && g->stored && str_equal(g->name, name)) {
			int fd = g->fd;

			g->fd = -1;
			return fd;
		}
	}
	return -1;
}

static const char *
describe(int fd, char *out, size_t cap)
{
	union { struct sockaddr sa; struct sockaddr_un un; struct sockaddr_storage ss; } a = { 0 };
	socklen_t len = sizeof a;
	char text[ADDR_TEXT_MAX], hp[ADDR_TEXT_MAX + 8];
	struct ip ip;
	uint16_t port;

	if (getsockname(fd, &a.sa, &len) == -1)
		snprintf(out, cap, "no socket");
	else if (a.sa.sa_family == AF_UNIX)
		snprintf(out, cap, "unix %.*s", (int)sizeof a.un.sun_path, a.un.sun_path);
	else {
		ip_from_sockaddr(&ip, &port, &a.sa);
		snprintf(out, cap, "%s %s", option(fd, SOL_SOCKET, SO_TYPE) == SOCK_DGRAM ? "udp" : "tcp",
		    hostport_text(hp, sizeof hp, ip_text(&ip, text), port));
	}
	return out;
}

void
inherit_end(struct sup *s)
{
	struct inherited *in = s->inherited;
	char text[160];

	if (in == NULL)
		return;
	s->inherited = NULL;
	if (in->surplus > 0)
		log_warn("%d descriptors given at the start were closed: more than %d", in->surplus, INHERIT_MAX);
	for (int i = 0; i < in->n; i++) {
		struct gift *g = &in->gift[i];

		if (g->fd == -1)
			continue;
		if (g->stored) {
			log_debug("stored descriptor %s is not wanted any more", g->name);
			systemd_unstore(s, g->name);
		} else
			log_warn("the service manager gave a socket that the configuration does not use: %s (%s)",
			    g->name[0] != '\0' ? g->name : "no name", describe(g->fd, text, sizeof text));
		close(g->fd);
	}
	free(in);
}
