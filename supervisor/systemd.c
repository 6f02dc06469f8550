/* SPDX-License-Identifier: MIT */
/* What the service manager is told (sd_notify(3)): that we serve, how it goes, that we still live, and which descriptors it
 * shall keep for the case that this process crashes. The protocol is one datagram of VARIABLE=VALUE lines, with a descriptor
 * beside it for FDSTORE=1: no library is needed. The other direction, what it gives back, is inherit.c.
 *
 * Nothing here waits (but systemd_settle): a manager with a full socket gets its datagrams later, in order. Cap: NOTES_MAX of
 * them, then the newest is dropped and that is said once. Owns the socket and its queue. */
#include "supervisor/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "supervisor/child.h"
#include "supervisor/listeners.h"
#include "supervisor/state.h"

enum { NOTES_MAX = 16384, NOTE_TEXT_MAX = 512, BARRIER_MS = 500, END_MS = 300, EXTEND_S = 30 };
#define TICK_MAX_S 5.0

struct note {
	struct list link;
	int fd;				/* -1 = none; owned */
	size_t len;
	char text[];
};
struct systemd {
	struct sup *sup;
	struct sockaddr_un addr;
	socklen_t addr_len;
	char name[sizeof((struct sockaddr_un *)0)->sun_path + 1];	/* as given */
	int fd;
	ev_io io;			/* started while notes wait */
	struct list notes;
	int n_notes;
	bool lost, ready, reloading, refused;
	bool removed;			/* FDSTOREREMOVE since the last barrier */
	double watchdog;		/* seconds, 0 = not asked for */
	double period;			/* of the timer */
	ev_tstamp fed, ticked;
	ev_timer tick;
	char status[160];		/* the last one sent */
};

/* ---- datagrams */

static int
connect_notify(struct systemd *d)
{
	if (d->fd != -1)
		close(d->fd);
	d->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return d->fd != -1 && connect(d->fd, (struct sockaddr *)&d->addr, d->addr_len) == 0 ? 0 : -E_SYS;
}

static int
send_note(const struct systemd *d, const char *text, size_t len, int fd)
{
	union { char buf[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } c = { 0 };
	struct iovec v = { (void *)(uintptr_t)text, len };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	if (fd != -1) {
		struct cmsghdr *h = &c.align;

		m.msg_control = c.buf;
		m.msg_controllen = sizeof c.buf;
		*h = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(h), &fd, sizeof fd);
	}
	if (sendmsg(d->fd, &m, MSG_NOSIGNAL) >= 0)
		return 0;
	return errno == EAGAIN || errno == ENOBUFS || errno == EINTR ? -E_AGAIN : -E_SYS;
}

static void
free_note(struct systemd *d, struct note *n)
{
	list_remove(&n->link);
	d->n_notes--;
	if (n->fd != -1)
		close(n->fd);
	free(n);
}

/* Sends what waits until the socket is full. A manager that was executed again has a new socket at the same path: once per
 * note. */
static void
flush(struct systemd *d)
{
	while (!list_empty(&d->notes)) {
		struct note *n = container_of(d->notes.next, struct note, link);
		int rc = send_note(d, n->text, n->len, n->fd);

		if (rc == -E_SYS && connect_notify(d) == 0)
			rc = send_note(d, n->text, n->len, n->fd);
		if (rc == -E_AGAIN)
			break;
		if (rc != 0)
			log_debug("the service manager does not hear: %s", strerror(errno));
		free_note(d, n);
	}
	ev_io_stop(d->sup->loop, &d->io);
	if (!list_empty(&d->notes) && d->fd != -1) {
		ev_io_set(&d->io, d->fd, EV_WRITE);
		ev_io_start(d->sup->loop, &d->io);
	}
}

static void
on_writable(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	(void)events;
	flush(io->data);
}

static void __attribute__((format(printf, 3, 4)))
notify(struct systemd *d, int fd, const char *fmt, ...)
{
	char text[NOTE_TEXT_MAX];
	struct note *n;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (len < 0 || len >= (int)sizeof text)
		return;
	n = d->n_notes < NOTES_MAX ? malloc(sizeof *n + (size_t)len) : NULL;
	if (n == NULL) {
		if (!d->lost)
			log_warn("the service manager does not read its socket: notifications are lost");
		d->lost = true;
		return;
	}
	n->fd = fd != -1 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
	n->len = (size_t)len;
	memcpy(n->text, text, n->len);
	list_append(&d->notes, &n->link);
	d->n_notes++;
	flush(d);
}

/* Sends what waits, for at most ms. */
static void
drain_notes(struct systemd *d, int ms)
{
	struct pollfd p = { .fd = d->fd, .events = POLLOUT };

	flush(d);
	while (!list_empty(&d->notes) && poll(&p, 1, ms) == 1) {
		flush(d);
		p.fd = d->fd;
	}
}

/* ---- state of the service */

/* One line; every part is a number of ours, so nothing needs escaping. */
static void
tell_status(struct systemd *d)
{
	struct sup *s = d->sup;
	struct generation *g = s->serving;
	char text[sizeof d->status];
	int workers = 0;

	if (g == NULL || s->stopping)
		return;
	for (int i = 0; i < g->n_workers; i++)
		workers += g->worker[i] != NULL && g->worker[i]->state == CH_SERVING;
	snprintf(text, sizeof text, "generation %u: %d of %d workers, %zu listeners, %llu connections%s", g->number, workers,
	    g->n_workers, listeners_count(s), (unsigned long long)state_open_connections(s),
	    d->refused ? "; the last reload was refused, see the log" : "");
	if (str_equal(text, d->status))
		return;
	str_copy(d->status, sizeof d->status, text);
	notify(d, -1, "STATUS=%s", text);
}

void
systemd_serving(struct sup *s)
{
	struct systemd *d = s->systemd;

	if (d == NULL)
		return;
	if (!d->ready)
		notify(d, -1, "READY=1\nMAINPID=%d", (int)getpid());
	d->ready = true;
	tell_status(d);
}

void
systemd_reloading(struct sup *s)
{
	struct systemd *d = s->systemd;
	struct timespec now;

	if (d == NULL || !d->ready || s->stopping)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	notify(d, -1, "RELOADING=1\nMONOTONIC_USEC=%lld", now.tv_sec * 1000000LL + now.tv_nsec / 1000);
	d->reloading = true;
}

void
systemd_idle(struct sup *s, bool refused)
{
	struct systemd *d = s->systemd;

	if (d == NULL || s->stopping)
		return;
	d->refused = refused;
	if (d->reloading)
		notify(d, -1, "READY=1");
	d->reloading = false;
	tell_status(d);
}

void
systemd_stopping(struct sup *s, uint32_t grace_ms)
{
	struct systemd *d = s->systemd;

	/* the grace may be longer than the unit's TimeoutStopSec */
	if (d != NULL)
		notify(d, -1, "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=%llu",
		    (grace_ms + STOP_SLACK_MS) * 1000ULL + EXTEND_S * 1000000ULL);
}

/* ---- the timer: watchdog, slow starts, status */

static bool
is_watched(const struct sup *s, const struct child *c)
{
	if (c->state != CH_SERVING || c->stopping)
		return false;
	return c->role == ROLE_NETHELPER || (c->role == ROLE_WORKER && c->gen == s->serving && c->gen->worker[c->index] == c);
}

/* Asks every serving worker, and the nethelper, that owes no answer. One that owes it for a quarter of the watchdog's time is
 * replaced, so the service as a whole need not be. False while one is late. */
static bool
children_answer(struct systemd *d, bool on_time)
{
	struct sup *s = d->sup;
	ev_tstamp now = ev_steady();
	bool all = true;

	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		if (!is_watched(s, c))
			continue;
		if (!on_time)		/* we were not running ourselves: that is no fault of theirs */
			c->asked = 0;
		if (c->asked > 0 && now - c->asked + d->period / 2 >= d->watchdog / 4) {
			log_error("%s has not answered for %.1f s: it is replaced", c->name, now - c->asked);
			kill(c->pid, SIGKILL);
		} else if (c->asked > 0)
			all = false;
		else if (child_send(c, MSG_PING, 0, NULL, 0, -1) == 0)
			c->asked = now;
	}
	return all;
}

static void
on_tick(struct ev_loop *loop, ev_timer *t, int events)
{
	struct systemd *d = t->data;
	struct sup *s = d->sup;
	ev_tstamp now = ev_steady();
	bool on_time = now - d->ticked < 2 * d->period;

	(void)loop;
	(void)events;
	d->ticked = now;
	if (!d->ready && !s->stopping)
		notify(d, -1, "EXTEND_TIMEOUT_USEC=%llu", EXTEND_S * 1000000ULL);
	if (d->watchdog > 0 && children_answer(d, on_time) && now - d->fed + d->period / 2 >= d->watchdog / 2) {
		notify(d, -1, "WATCHDOG=1");
		d->fed = now;
	}
	tell_status(d);
}

void
systemd_pong(struct child *c)
{
	c->asked = 0;
}

/* ---- descriptor store */

bool
systemd_stores(const struct sup *s)
{
	return s->systemd != NULL;
}

/* FDPOLL=0: the manager would take a bound socket that does not listen yet, or a UDP one with an error queued, for a dead one. */
void
systemd_store(struct sup *s, const char *name, int fd)
{
	if (s->systemd == NULL || s->stopping)	/* last words of workers are not for the next run */
		return;
	notify(s->systemd, fd, "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);
}

void
systemd_unstore(struct sup *s, const char *name)
{
	if (s->systemd == NULL)
		return;
	notify(s->systemd, -1, "FDSTOREREMOVE=1\nFDNAME=%s", name);
	s->systemd->removed = true;
}

/* BARRIER=1 carries a pipe whose other end is closed once everything before it has been handled (sd_notify_barrier(3)). */
bool
systemd_settle(struct sup *s)
{
	struct systemd *d = s->systemd;
	struct pollfd p = { .events = POLLIN };
	int ends[2];
	bool done;

	if (d == NULL || !d->removed || pipe2(ends, O_CLOEXEC) == -1)
		return false;
	d->removed = false;
	notify(d, ends[1], "BARRIER=1");
	close(ends[1]);
	drain_notes(d, BARRIER_MS);
	p.fd = ends[0];
	done = poll(&p, 1, BARRIER_MS) == 1;
	close(ends[0]);
	return done;
}

/* ---- begin and end */

/* An absolute path, or "@name" for an abstract socket; other families are for virtual machines. */
static int
parse_address(struct systemd *d, const char *v)
{
	size_t n = strlen(v);

	if ((v[0] != '/' && v[0] != '@') || n < 2 || n >= sizeof d->addr.sun_path)
		return -E_UNSUP;
	str_copy(d->name, sizeof d->name, v);
	d->addr.sun_family = AF_UNIX;
	memcpy(d->addr.sun_path, v, n);
	if (v[0] == '@')
		d->addr.sun_path[0] = '\0';
	d->addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (v[0] == '/'));
	return 0;
}

static double
watchdog_seconds(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	int64_t n, p = getpid();

	if (usec == NULL || str_to_i64(usec, 1, INT64_MAX, &n) != 0 ||
	    (pid != NULL && (str_to_i64(pid, 1, INT32_MAX, &p) != 0 || p != getpid())))
		return 0;
	return (double)n / 1e6;
}

void
systemd_init(struct sup *s)
{
	const char *v = getenv("NOTIFY_SOCKET");
	struct systemd *d = v != NULL && *v != '\0' && s->opt.command == CMD_RUN ? calloc(1, sizeof *d) : NULL;

	if (d != NULL) {
		d->sup = s;
		d->fd = -1;
		list_init(&d->notes);
		ev_io_init(&d->io, on_writable, -1, EV_WRITE);
		d->io.data = d;
		if (parse_address(d, v) != 0 || connect_notify(d) != 0) {
			log_warn("NOTIFY_SOCKET %s cannot be used: %s", v,
			    d->name[0] != '\0' ? strerror(errno) : "unknown kind of address");
			if (d->fd != -1)
				close(d->fd);
			free(d);
			d = NULL;
		}
	}
	if (d != NULL) {
		d->watchdog = watchdog_seconds();
		d->period = d->watchdog > 0 && d->watchdog / 4 < TICK_MAX_S ? d->watchdog / 4 : TICK_MAX_S;
		d->ticked = d->fed = ev_steady();
		ev_timer_init(&d->tick, on_tick, d->period, d->period);
		d->tick.data = d;
		ev_timer_start(s->loop, &d->tick);
	}
	s->systemd = d;
	systemd_unexport();
}

void
systemd_unexport(void)
{
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

bool
systemd_quiet(const struct sup *s)
{
	return s->systemd == NULL || s->systemd->n_notes == 0;
}

void
systemd_export(const struct sup *s)
{
	char text[32];

	if (s->systemd == NULL)
		return;
	setenv("NOTIFY_SOCKET", s->systemd->name, 1);
	if (s->systemd->watchdog <= 0)
		return;
	snprintf(text, sizeof text, "%lld", (long long)(s->systemd->watchdog * 1e6));
	setenv("WATCHDOG_USEC", text, 1);	/* the pid stays */
}

void
systemd_end(struct sup *s)
{
	struct systemd *d = s->systemd;

	if (d == NULL)
		return;
	drain_notes(d, END_MS);
	list_each_safe(n, tmp, &d->notes)
		free_note(d, container_of(n, struct note, link));
	ev_io_stop(s->loop, &d->io);
	ev_timer_stop(s->loop, &d->tick);
	close(d->fd);
	free(d);
	s->systemd = NULL;
}
