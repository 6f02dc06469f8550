/* SPDX-License-Identifier: MIT */
/* Writing and reading of the supervisor's state (adopt.h). The writer is the same service a moment ago, by way of a sealed
 * file; it is checked like a stranger's all the same, because a state that is half understood would end every connection,
 * while one that is refused ends nothing: the check (`--adopt-check`) runs this very code in a child before the execve.
 *
 *   "sluiceUP" u32 version, u64 FNV-1a of what follows, then: self, programs, blobs and pages, generations, children, changes, listeners, images,
 *   control, last good configuration, upgrade. Integers and strings are common/wire.h's; an fd is its number. */
#include "supervisor/adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/memfd.h"
#include "common/strutil.h"
#include "supervisor/change.h"
#include "supervisor/child.h"
#include "supervisor/control.h"
#include "supervisor/generations.h"
#include "supervisor/images.h"
#include "supervisor/lastgood.h"
#include "supervisor/listeners.h"
#include "supervisor/reload.h"
#include "supervisor/upgrade.h"

enum { HEAD = 8 + 4 + 8, FD_LIMIT = 1 << 20 };
static const char magic[8] = { 's', 'l', 'u', 'i', 'c', 'e', 'U', 'P' };

/* A field added to these must travel too: add it to adopt_put_opts()/adopt_get_opts(), and a version. */
_Static_assert(sizeof(struct msg_job_done) == 5 * 4 + 1024, "msg_job_done changed: adopt.c writes its fields one by one");

int
adopt_bad(struct adopt *a, const char *what)
{
	if (a->why[0] == '\0')
		snprintf(a->why, sizeof a->why, "%s (at byte %zu of %zu)", what, a->w.off, a->w.len);
	return -E_PROTO;
}

#define TRY(a, expr, what) \
	do { \
		if ((expr) != 0) \
			return adopt_bad((a), (what)); \
	} while (0)

/* ---- fds */

void
adopt_put_fd(struct adopt *a, int fd)
{
	if (fd >= 0 && a->n_fds < ADOPT_FDS_MAX)
		a->fd[a->n_fds++] = fd;
	else if (fd >= 0)
		a->w.failed = true;
	wire_put_u32(&a->w, fd >= 0 ? (uint32_t)fd : UINT32_MAX);
}

static bool
is_pidfd(int fd)
{
	char path[64], text[512];
	ssize_t n;
	int info;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	if (info == -1)
		return false;
	n = read(info, text, sizeof text - 1);
	close(info);
	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "\nPid:") != NULL;
}

static bool
is_kind(int fd, enum adopt_kind kind)
{
	int domain = 0, type = 0;
	socklen_t len = sizeof type;
	struct stat st;

	switch (kind) {
	case ADOPT_CHANNEL:
		return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX &&
		    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
	case ADOPT_SOCKET:
		return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0;
	case ADOPT_MEMFD:
		return fcntl(fd, F_GET_SEALS) != -1;
	case ADOPT_PIDFD:
		return is_pidfd(fd);
	case ADOPT_DIR:
		return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
	case ADOPT_FILE:
		return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	default:
		return false;
	}
}

int
adopt_get_fd(struct adopt *a, unsigned kind, int *fd)
{
	uint32_t v;

	TRY(a, wire_get_u32(&a->w, &v), "a descriptor is missing");
	if (v == UINT32_MAX && (kind & ADOPT_MAYBE) != 0) {
		*fd = -1;
		return 0;
	}
	if (v <= 2 || v >= FD_LIMIT || a->n_fds >= ADOPT_FDS_MAX || fcntl((int)v, F_GETFD) == -1)
		return adopt_bad(a, "a descriptor is not open");
	if (!is_kind((int)v, (enum adopt_kind)(kind & ~(unsigned)ADOPT_MAYBE)))
		return adopt_bad(a, "a descriptor is of another kind");
	a->fd[a->n_fds++] = *fd = (int)v;
	return 0;
}

void
adopt_cloexec(const int *fds, int n, bool on)
{
	for (int i = 0; i < n; i++)
		fcntl(fds[i], F_SETFD, on ? FD_CLOEXEC : 0);
}

static int
by_number(const void *x, const void *y)
{
	int a = *(const int *)x, b = *(const int *)y;

	return (a > b) - (a < b);
}

/* One descriptor with two owners would be closed under one of them. */
static int
check_unique(struct adopt *a)
{
	qsort(a->fd, (size_t)a->n_fds, sizeof *a->fd, by_number);
	for (int i = 1; i < a->n_fds; i++)
		if (a->fd[i] == a->fd[i - 1])
			return adopt_bad(a, "a descriptor is named twice");
	return 0;
}

/* ---- words of the modules */

int
adopt_get_u32(struct adopt *a, uint32_t max, const char *what, uint32_t *out)
{
	uint32_t v;

	if (wire_get_u32(&a->w, &v) != 0 || v > max)
		return adopt_bad(a, what);
	*out = v;
	return 0;
}

void
adopt_put_time(struct adopt *a, ev_tstamp t)
{
	wire_put_u64(&a->w, t > 0 ? (uint64_t)(t * 1e6 + 0.5) : 0);
}

int
adopt_get_time(struct adopt *a, ev_tstamp *t)
{
	uint64_t us;

	TRY(a, wire_get_u64(&a->w, &us), "a time is missing");
	*t = (ev_tstamp)us / 1e6;
	return 0;
}

/* Every version writes moments as wall clock time. */
static ev_tstamp
wall_offset(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_REALTIME, &ts);
	return (ev_tstamp)ts.tv_sec + (ev_tstamp)ts.tv_nsec / 1e9 - ev_steady();
}

void
adopt_put_moment(struct adopt *a, ev_tstamp t)
{
	adopt_put_time(a, t > 0 ? t + wall_offset() : 0);
}

int
adopt_get_moment(struct adopt *a, ev_tstamp *t)
{
	int rc = adopt_get_time(a, t);

	if (rc == 0 && *t > 0)
		*t -= wall_offset();
	return rc;
}

void
adopt_put_opts(struct adopt *a, const struct msg_job_done *o)
{
	wire_put_u32(&a->w, o->workers);
	wire_put_u32(&a->w, o->stop_grace_ms);
	wire_put_u32(&a->w, o->drain_timeout_s);
	wire_put_u32(&a->w, o->max_generations);
	wire_put_u32(&a->w, o->flags);
	wire_put_str(&a->w, o->external_ui);
}

int
adopt_get_opts(struct adopt *a, struct msg_job_done *o)
{
	memset(o, 0, sizeof *o);
	if (wire_get_u32(&a->w, &o->workers) != 0 || wire_get_u32(&a->w, &o->stop_grace_ms) != 0 ||
	    wire_get_u32(&a->w, &o->drain_timeout_s) != 0 || wire_get_u32(&a->w, &o->max_generations) != 0 ||
	    wire_get_u32(&a->w, &o->flags) != 0 || wire_get_str(&a->w, o->external_ui, sizeof o->external_ui) != 0)
		return adopt_bad(a, "options of a configuration");
	return 0;
}

void
adopt_put_child(struct sup *s, struct adopt *a, const struct child *c)
{
	uint32_t i = 0, found = 0;

	list_each(n, &s->children) {
		i++;
		if (container_of(n, struct child, link) == c)
			found = i;
	}
	wire_put_u32(&a->w, found);	/* 0: nobody */
}

int
adopt_get_child(struct adopt *a, struct child **c)
{
	uint32_t i;

	TRY(a, adopt_get_u32(a, a->n_children, "a child that is not there", &i), "");
	*c = i > 0 ? a->child[i - 1] : NULL;
	return 0;
}

void
adopt_put_peer(struct sup *s, struct adopt *a, const struct peer *p)
{
	const struct child *owner = NULL;

	list_each(n, &s->children)
		if (&container_of(n, struct child, link)->peer == p)
			owner = container_of(n, struct child, link);
	adopt_put_child(s, a, owner);
	wire_put_u32(&a->w, control_client_number(s, p));
}

int
adopt_get_peer(struct sup *s, struct adopt *a, struct peer **p)
{
	struct child *owner;
	uint32_t client;

	if (adopt_get_child(a, &owner) != 0 || adopt_get_u32(a, UINT16_MAX, "a client", &client) != 0)
		return -E_PROTO;
	*p = owner != NULL ? &owner->peer : control_client_peer(s, client);
	return 0;
}

/* ---- self, programs, blobs, pages */

static void
save_set(struct adopt *a, const struct program_set *set)
{
	wire_put_u32(&a->w, set->serial);
	wire_put_u16(&a->w, set->ipc);
	wire_put_str(&a->w, set->build);
	wire_put_u32(&a->w, ROLE_MAX_);
	for (int r = 0; r < ROLE_MAX_; r++)
		adopt_put_fd(a, set->fd[r]);
}

static int
load_set(struct adopt *a, struct program_set *set)
{
	uint32_t n;

	programs_clear(set);
	if (wire_get_u32(&a->w, &set->serial) != 0 || wire_get_u16(&a->w, &set->ipc) != 0 ||
	    wire_get_str(&a->w, set->build, sizeof set->build) != 0)
		return adopt_bad(a, "a set of programs");
	TRY(a, adopt_get_u32(a, ROLE_MAX_, "the number of programs", &n), "");
	for (uint32_t r = 0; r < n; r++)
		TRY(a, adopt_get_fd(a, ADOPT_FILE | ADOPT_MAYBE, &set->fd[r]), "a program");
	return 0;
}

static void
save_self(struct sup *s, struct adopt *a)
{
	wire_put_u32(&a->w, (uint32_t)getpid());
	wire_put_str(&a->w, s->program_path);
	wire_put_str(&a->w, s->home);
	adopt_put_fd(a, s->home_fd);
	adopt_put_fd(a, s->lock_fd);
	adopt_put_fd(a, s->stdin_fd);
	wire_put_u32(&a->w, (uint32_t)s->log_level);
	wire_put_u32(&a->w, (uint32_t)s->log_tap);
	wire_put_u32(&a->w, s->rolled_back);
	wire_put_str(&a->w, s->upgrade_note);
	if (a->version >= 2)
		wire_put_str(&a->w, s->rollback_note);
	save_set(a, &s->programs);
	save_set(a, &s->held);
	wire_put_u32(&a->w, STATE_KINDS_);
	for (int k = 0; k < STATE_KINDS_; k++)
		adopt_put_fd(a, s->state_fd[k]);
	wire_put_u32(&a->w, STAT_SLOTS);
	for (int i = 0; i < STAT_SLOTS; i++)
		adopt_put_fd(a, s->page[i].fd);
	adopt_put_fd(a, s->shared_fd);
	wire_put_u32(&a->w, SHARED_KINDS);
	for (int k = 0; k < SHARED_KINDS; k++)
		adopt_put_fd(a, s->dns_fd[k]);
}

static int
load_blobs(struct sup *s, struct adopt *a)
{
	uint32_t n;

	for (int k = 0; k < STATE_KINDS_; k++)
		s->state_fd[k] = -1;
	TRY(a, adopt_get_u32(a, STATE_KINDS_, "the number of state blobs", &n), "");
	for (uint32_t k = 0; k < n; k++)
		TRY(a, adopt_get_fd(a, ADOPT_MEMFD | ADOPT_MAYBE, &s->state_fd[k]), "a state blob");
	for (int i = 0; i < STAT_SLOTS; i++)
		s->page[i] = (struct stat_page){ .fd = -1 };
	TRY(a, adopt_get_u32(a, STAT_SLOTS, "the number of counter pages", &n), "");
	for (uint32_t i = 0; i < n; i++)
		TRY(a, adopt_get_fd(a, ADOPT_MEMFD | ADOPT_MAYBE, &s->page[i].fd), "a counter page");
	TRY(a, adopt_get_fd(a, ADOPT_MEMFD, &s->shared_fd), "the page that all workers share");
	for (int k = 0; k < SHARED_KINDS; k++)
		s->dns_fd[k] = -1;
	TRY(a, adopt_get_u32(a, SHARED_KINDS, "the number of shared tables", &n), "");
	for (uint32_t k = 0; k < n; k++)
		TRY(a, adopt_get_fd(a, ADOPT_FILE | ADOPT_MAYBE, &s->dns_fd[k]), "a shared table");
	return 0;
}

static int
load_self(struct sup *s, struct adopt *a)
{
	uint32_t pid, level = LL_INFO, tap = LL_SILENT;

	TRY(a, wire_get_u32(&a->w, &pid), "the process id");
	/* the check runs in a child of the process that is meant; a variable left over from another service is neither */
	if (pid != (uint32_t)getpid() && pid != (uint32_t)getppid())
		return adopt_bad(a, "the state is another process's");
	TRY(a, wire_get_str(&a->w, s->program_path, sizeof s->program_path), "the path of the program");
	TRY(a, wire_get_str(&a->w, s->home, sizeof s->home), "the working directory");
	if (adopt_get_fd(a, ADOPT_DIR, &s->home_fd) != 0 || adopt_get_fd(a, ADOPT_FILE, &s->lock_fd) != 0 ||
	    adopt_get_fd(a, ADOPT_FILE | ADOPT_MAYBE, &s->stdin_fd) != 0 ||
	    adopt_get_u32(a, LL_SILENT, "the log level", &level) != 0 ||
	    adopt_get_u32(a, LL_SILENT, "the level of log streams", &tap) != 0)
		return -E_PROTO;
	s->log_level = (int)level;
	s->log_tap = (int)tap;
	TRY(a, wire_get_u32(&a->w, &s->rolled_back), "the count of roll-backs");
	TRY(a, wire_get_str(&a->w, s->upgrade_note, sizeof s->upgrade_note), "the note on the last upgrade");
	if (a->version >= 2)
		TRY(a, wire_get_str(&a->w, s->rollback_note, sizeof s->rollback_note), "the note on the last roll-back");
	if (load_set(a, &s->programs) != 0 || load_set(a, &s->held) != 0)
		return -E_PROTO;
	if (s->programs.serial == 0 || s->programs.fd[ROLE_LOADER] == -1 || s->programs.fd[ROLE_WORKER] == -1 ||
	    s->programs.fd[ROLE_CONTROLLER] == -1)
		return adopt_bad(a, "the programs are not complete");
	return load_blobs(s, a);
}

/* ---- generations */

static void
save_generations(struct sup *s, struct adopt *a)
{
	uint32_t count = 0;

	list_each(n, &s->generations)
		count++;
	wire_put_u32(&a->w, count);
	list_each(n, &s->generations) {
		struct generation *g = container_of(n, struct generation, link);

		wire_put_u32(&a->w, g->number);
		wire_put_u32(&a->w, g->set);
		wire_put_str(&a->w, g->build);
		wire_put_u64(&a->w, g->hash);
		wire_put_u32(&a->w, g->state);
		wire_put_u32(&a->w, (uint32_t)g->n_workers);
		for (int i = 0; i < g->n_workers; i++) {
			wire_put_u32(&a->w, g->failures[i]);
			wire_put_u8(&a->w, g->reader[i]);
		}
		adopt_put_moment(a, g->born);
		adopt_put_time(a,
		    g->state == GEN_DRAINING && ev_is_active(&g->drain_timer) ? ev_timer_remaining(s->loop, &g->drain_timer) : 0);
		adopt_put_fd(a, g->tree_fd);
		adopt_put_opts(a, &g->opts);
	}
	wire_put_u32(&a->w, s->last_generation);
	wire_put_u32(&a->w, s->serving != NULL ? s->serving->number : 0);
	adopt_put_fd(a, s->ctl_tree_fd);
	adopt_put_opts(a, &s->ctl_opts);
	wire_put_u32(&a->w, s->controller_failures);
}

static struct generation *
find_generation(struct sup *s, uint32_t number)
{
	list_each(n, &s->generations)
		if (container_of(n, struct generation, link)->number == number)
			return container_of(n, struct generation, link);
	return NULL;
}

static int
load_generation(struct sup *s, struct adopt *a)
{
	uint32_t number, set, state = 0, workers = 0;
	struct generation *g;
	ev_tstamp left;

	if (adopt_get_u32(a, UINT32_MAX, "a generation", &number) != 0 || adopt_get_u32(a, UINT32_MAX, "its programs", &set) != 0)
		return -E_PROTO;
	if (number == 0 || find_generation(s, number) != NULL || (g = calloc(1, sizeof *g)) == NULL)
		return adopt_bad(a, "a generation's number");
	g->sup = s;
	g->number = number;
	g->set = set;
	g->tree_fd = -1;
	list_append(&s->generations, &g->link);
	TRY(a, wire_get_str(&a->w, g->build, sizeof g->build), "a generation's build");
	TRY(a, wire_get_u64(&a->w, &g->hash), "a generation's configuration");
	if (adopt_get_u32(a, GEN_DRAINING, "a generation's state", &state) != 0 ||
	    adopt_get_u32(a, WORKERS_MAX, "its workers", &workers) != 0)
		return -E_PROTO;
	if (state == GEN_STARTING || workers == 0)
		return adopt_bad(a, "a generation that starts cannot be taken over");
	g->state = (enum generation_state)state;
	g->n_workers = (int)workers;
	for (int i = 0; i < WORKERS_MAX; i++)
		g->reader[i] = (uint8_t)i;
	for (int i = 0; i < g->n_workers; i++) {
		TRY(a, wire_get_u32(&a->w, &g->failures[i]), "a generation's crashes");
		if (wire_get_u8(&a->w, &g->reader[i]) != 0 || (g->reader[i] != NOBODY && g->reader[i] >= g->n_workers))
			return adopt_bad(a, "who reads a worker's slots");
	}
	if (adopt_get_moment(a, &g->born) != 0 || adopt_get_time(a, &left) != 0 ||
	    adopt_get_fd(a, ADOPT_MEMFD, &g->tree_fd) != 0 || adopt_get_opts(a, &g->opts) != 0)
		return -E_PROTO;
	g->drain_since = ev_steady();	/* the moment is not in the state: it is given its grace anew */
	if (left > 0)
		generations_drain_timer(g, left);
	return 0;
}

static int
load_generations(struct sup *s, struct adopt *a)
{
	uint32_t n, number;

	TRY(a, adopt_get_u32(a, GENERATIONS_MAX + 8, "the number of generations", &n), "");
	for (uint32_t i = 0; i < n; i++)
		if (load_generation(s, a) != 0)
			return -E_PROTO;
	TRY(a, wire_get_u32(&a->w, &s->last_generation), "the last generation");
	TRY(a, wire_get_u32(&a->w, &number), "the serving generation");
	s->serving = find_generation(s, number);
	if (s->serving == NULL || s->serving->state != GEN_SERVING || s->last_generation < number)
		return adopt_bad(a, "no generation serves");
	if (adopt_get_fd(a, ADOPT_MEMFD, &s->ctl_tree_fd) != 0 || adopt_get_opts(a, &s->ctl_opts) != 0)
		return -E_PROTO;
	return adopt_get_u32(a, UINT32_MAX, "the controller's crashes", &s->controller_failures);
}

/* ---- children */

static void
save_children(struct sup *s, struct adopt *a)
{
	uint32_t count = 0;

	list_each(n, &s->children)
		count++;
	wire_put_u32(&a->w, count);
	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		wire_put_u32(&a->w, c->role);
		wire_put_u32(&a->w, c->gen != NULL ? c->gen->number : 0);
		wire_put_bool(&a->w, c->gen != NULL && c->gen->worker[c->index] == c);
		wire_put_u32(&a->w, c->index);
		wire_put_u32(&a->w, c->slot);
		wire_put_u32(&a->w, c->set);
		wire_put_u16(&a->w, c->ipc);
		wire_put_u32(&a->w, (uint32_t)c->pid);
		wire_put_u32(&a->w, c->state);
		wire_put_bool(&a->w, c->stopping);
		adopt_put_moment(a, c->started);
		wire_put_str(&a->w, c->name);
		adopt_put_fd(a, c->pidfd);
		adopt_put_fd(a, c->log_fd);
		adopt_put_fd(a, c->statm_fd);
		adopt_put_fd(a, c->peer.fd);
	}
	adopt_put_child(s, a, s->controller);
}

/* Where it belongs: a worker to its generation and its counter page, and to its place there unless another has replaced it. */
static int
place_child(struct sup *s, struct adopt *a, struct child *c, uint32_t number, bool current)
{
	c->gen = number != 0 ? find_generation(s, number) : NULL;
	if ((c->gen != NULL) != (c->role == ROLE_WORKER) || (current && c->gen == NULL))
		return adopt_bad(a, "a child's generation");
	if (c->role != ROLE_WORKER)
		return 0;
	if ((int)c->index >= c->gen->n_workers || (current && c->gen->worker[c->index] != NULL))
		return adopt_bad(a, "a worker's place");
	if (c->slot < STAT_SLOTS) {
		if (s->page[c->slot].fd == -1 || s->page[c->slot].used)
			return adopt_bad(a, "a worker's counter page");
		s->page[c->slot].used = true;
	}
	return 0;
}

static int
load_child(struct sup *s, struct adopt *a)
{
	struct child c = { .sup = s, .pidfd = -1, .log_fd = -1, .statm_fd = -1 }, *made;
	uint32_t role = 0, number = 0, pid = 0, state = 0;
	bool current = false;
	int channel = -1;

	if (adopt_get_u32(a, ROLE_MAX_ - 1, "a child's role", &role) != 0 ||
	    adopt_get_u32(a, UINT32_MAX, "a child's generation", &number) != 0)
		return -E_PROTO;
	TRY(a, wire_get_bool(&a->w, &current), "a child's place");
	if (adopt_get_u32(a, WORKERS_MAX, "a child's index", &c.index) != 0 ||
	    adopt_get_u32(a, STAT_SLOTS, "a child's slot", &c.slot) != 0 ||
	    adopt_get_u32(a, UINT32_MAX, "a child's programs", &c.set) != 0)
		return -E_PROTO;
	TRY(a, wire_get_u16(&a->w, &c.ipc), "a child's version");
	if (adopt_get_u32(a, INT32_MAX, "a child's process", &pid) != 0 ||
	    adopt_get_u32(a, CH_DRAINING, "a child's state", &state) != 0)
		return -E_PROTO;
	TRY(a, wire_get_bool(&a->w, &c.stopping), "a child's end");
	if (adopt_get_moment(a, &c.started) != 0)
		return -E_PROTO;
	TRY(a, wire_get_str(&a->w, c.name, sizeof c.name), "a child's name");
	if (adopt_get_fd(a, ADOPT_PIDFD, &c.pidfd) != 0 || adopt_get_fd(a, ADOPT_CHANNEL, &c.log_fd) != 0 ||
	    adopt_get_fd(a, ADOPT_FILE | ADOPT_MAYBE, &c.statm_fd) != 0 ||
	    adopt_get_fd(a, ADOPT_CHANNEL | ADOPT_MAYBE, &channel) != 0)
		return -E_PROTO;
	if (pid <= 1 || state == 0 || (state & (state - 1)) != 0 || role == ROLE_SUPERVISOR || programs_name(role) == NULL)
		return adopt_bad(a, "a child");
	a->foreign = c.ipc > IMSG_VERSION || c.ipc < IMSG_VERSION_OLDEST;
	if (a->foreign)
		return adopt_bad(a, "a child speaks a version that this build does not: go by a build between the two");
	c.role = (enum sandbox_role)role;
	c.pid = (pid_t)pid;
	c.state = (enum child_state)state;
	if (place_child(s, a, &c, number, current) != 0)
		return -E_PROTO;
	made = child_adopt(s, &c, channel);
	if (made == NULL)
		return adopt_bad(a, "out of memory");
	if (current)
		made->gen->worker[made->index] = made;
	a->child[a->n_children++] = made;
	return 0;
}

static int
load_children(struct sup *s, struct adopt *a)
{
	uint32_t n;

	TRY(a, adopt_get_u32(a, CHILDREN_MAX, "the number of children", &n), "");
	a->child = calloc(n + 1, sizeof(struct child *));
	if (a->child == NULL)
		return adopt_bad(a, "out of memory");
	for (uint32_t i = 0; i < n; i++)
		if (load_child(s, a) != 0)
			return -E_PROTO;
	if (adopt_get_child(a, &s->controller) != 0)
		return -E_PROTO;
	if (s->controller != NULL && s->controller->role != ROLE_CONTROLLER)
		return adopt_bad(a, "the controller is none");
	return 0;
}

/* ---- the whole */

static uint64_t
checksum(const uint8_t *p, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u;	/* FNV-1a: tells damage, not malice */

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 0x100000001b3u;
	return h;
}

int
adopt_save(struct sup *s, uint32_t version, int **fds, int *n_fds)
{
	struct adopt a = { .version = version, .fd = calloc(ADOPT_FDS_MAX, sizeof *a.fd) };
	uint64_t sum;
	int fd = -E_NOMEM;

	wire_init(&a.w);
	wire_put(&a.w, magic, sizeof magic);
	wire_put_u32(&a.w, version);
	wire_put_u64(&a.w, 0);
	if (a.fd == NULL)
		goto out;
	save_self(s, &a);
	save_generations(s, &a);
	save_children(s, &a);
	wire_put_u32(&a.w, changes_sequence(s));
	listeners_save(s, &a);
	images_save(s, &a);
	control_save(s, &a);
	lastgood_save(s, &a);
	upgrade_save(s, &a);
	if (a.w.failed || a.w.len > ADOPT_MAX)
		goto out;
	sum = checksum(a.w.p + HEAD, a.w.len - HEAD);
	for (size_t i = 0; i < 8; i++)
		a.w.p[HEAD - 8 + i] = (uint8_t)(sum >> (8 * i));
	fd = memfd_from("sluice-state", a.w.p, a.w.len);
out:
	if (fd >= 0) {
		*fds = a.fd;
		*n_fds = a.n_fds;
	} else
		free(a.fd);
	wire_free(&a.w);
	return fd;
}

static int
load_head(struct adopt *a)
{
	char head[sizeof magic];
	uint64_t sum;

	if (wire_get(&a->w, head, sizeof head) != 0 || memcmp(head, magic, sizeof magic) != 0 ||
	    wire_get_u32(&a->w, &a->version) != 0)
		return adopt_bad(a, "this is no state of a supervisor");
	if (a->version < ADOPT_OLDEST || a->version > ADOPT_VERSION) {
		adopt_bad(a, "the state is of a version that this build does not read");
		return -E_UNSUP;
	}
	if (wire_get_u64(&a->w, &sum) != 0 || sum != checksum(a->w.p + a->w.off, wire_left(&a->w)))
		return adopt_bad(a, "the state is damaged");
	return 0;
}

static int
load_body(struct sup *s, struct adopt *a)
{
	uint32_t seq;

	if (load_self(s, a) != 0 || load_generations(s, a) != 0 || load_children(s, a) != 0)
		return -E_PROTO;
	TRY(a, wire_get_u32(&a->w, &seq), "the number of the last change");
	changes_resume(s, seq);
	if (listeners_load(s, a) != 0 || images_load(s, a) != 0 || control_load(s, a) != 0 || lastgood_load(s, a) != 0 ||
	    upgrade_load(s, a) != 0)
		return -E_PROTO;
	TRY(a, wire_done(&a->w), "something follows the state");
	return check_unique(a);
}

int
adopt_load(struct sup *s, int fd, char *why, size_t cap)
{
	struct adopt a = { .fd = calloc(ADOPT_FDS_MAX, sizeof *a.fd) };
	const void *p = NULL;
	size_t n = 0;
	int rc = -E_NOMEM;

	if (a.fd == NULL || memfd_map(fd, &p, &n, ADOPT_MAX) != 0) {
		str_copy(why, cap, "the state is not a sealed file");
		free(a.fd);
		return -E_PROTO;
	}
	wire_read(&a.w, p, n);
	rc = load_head(&a);
	if (rc == 0)
		rc = load_body(s, &a);
	if (rc == 0)
		adopt_cloexec(a.fd, a.n_fds, true);
	else {
		str_copy(why, cap, a.why);
		adopt_forget(s);
		rc = a.foreign ? -E_BUSY : rc;
	}
	if (p != NULL)
		munmap((void *)(uintptr_t)p, n);
	free(a.child);
	free(a.fd);
	return rc;
}

void
adopt_forget(struct sup *s)
{
	list_each_safe(n, tmp, &s->children)
		child_forget(container_of(n, struct child, link));
	list_each_safe(n, tmp, &s->generations)
		generations_forget(container_of(n, struct generation, link));
	s->serving = NULL;
	s->controller = NULL;
	s->ctl_tree_fd = -1;
	listeners_forget(s);
	images_forget(s);
	control_forget(s);
	lastgood_forget(s);
	upgrade_forget(s);
}
