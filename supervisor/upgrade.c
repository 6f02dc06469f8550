/* SPDX-License-Identifier: MIT */
/* The live upgrade: from one set of programs to another with every process's connections, listeners and answers kept, and back
 * when the new ones cannot. In the order of risk, each step proven before anything depends on it:
 *
 *   TESTING   the new `sluice -t` tries the configuration with the new programs, in their sandboxes
 *   WAITING   until nothing is under way that the state does not hold (2 s, else 503)
 *   CHECKING  the new `sluice --adopt-check` reads a copy of our state; then WAITING again
 *   execve    of the new supervisor: same pid; the children notice nothing                      [upgrade_adopt() in the new program]
 *   CONTROLLER  a new one gets the listeners, then the old one leaves           WORKERS  the generation machine, same tree, new programs
 *   BACK      the new ones did not come up: execve of the held supervisor, which puts back what was already replaced by the same two steps
 *
 * The programs before stay held for HOLD_S: new ones that crash CRASHES_MAX times in that time are replaced by them. */
#include "supervisor/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "common/version.h"
#include "supervisor/adopt.h"
#include "supervisor/change.h"
#include "supervisor/child.h"
#include "supervisor/control.h"
#include "supervisor/controller.h"
#include "supervisor/logsink.h"
#include "supervisor/messages.h"
#include "supervisor/nethelper.h"
#include "supervisor/proof.h"
#include "supervisor/systemd.h"

enum { TEST_TIMEOUT_S = 45, CHECK_TIMEOUT_S = 10, QUIET_S = 2, BACK_S = 5, HOLD_S = 60, CRASHES_MAX = 3 };
#define POLL_S 0.005
#define ADOPT_ENV "SLUICE_ADOPT"

enum phase { UP_IDLE, UP_TESTING, UP_CHECKING, UP_WAITING, UP_CONTROLLER, UP_WORKERS, UP_BACK };
static const char *const phase_name[] = { "IDLE", "TESTING", "CHECKING", "WAITING", "CONTROLLER", "WORKERS", "BACK" };

struct upgrade {
	enum phase phase;
	struct reload_waiter waiter;
	struct program_set next;	/* until the execve */
	uint32_t version;		/* of the state: what the next, or the one before, reads */
	bool back;			/* we are the programs before, put back */
	char reason[400];		/* why */
	char from[64];			/* the build before */
	int crashes;
	bool checked;			/* CHECKING is behind us */
	struct proof proof;		/* of TESTING and CHECKING */
	ev_io proof_io;
	ev_timer timer, hold, relieved;
	ev_tstamp began, deadline;
};

static void converge(struct sup *s);

static void
enter(struct sup *s, enum phase p)
{
	log_debug("upgrade: %s -> %s", phase_name[s->upgrade->phase], phase_name[p]);
	s->upgrade->phase = p;
}

static void
arm(struct sup *s, double seconds, double repeat)
{
	ev_timer *t = &s->upgrade->timer;

	ev_timer_stop(s->loop, t);
	ev_timer_set(t, seconds, repeat);
	ev_timer_start(s->loop, t);
}

/* ---- answers */

static void
end(struct sup *s, int status, const char *text)
{
	struct upgrade *u = s->upgrade;
	struct peer *p = u->waiter.peer;

	ev_timer_stop(s->loop, &u->timer);
	programs_close(&u->next);
	u->waiter.peer = NULL;
	enter(s, UP_IDLE);
	if (p != NULL)
		messages_result(p, u->waiter.id, status, NULL, text);
	reload_go_on(s);
}

/* Before the execve: nothing was touched. */
static void __attribute__((format(printf, 3, 4)))
refuse(struct sup *s, int status, const char *fmt, ...)
{
	char text[700] = "update error: ";
	size_t n = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text + n, sizeof text - n, fmt, ap);
	va_end(ap);
	log_warn("upgrade refused: %s", text + n);
	end(s, status, text);
}

static void on_proof_ended(struct ev_loop *loop, ev_io *io, int events);

static bool
start_proof(struct sup *s, const char *extra, const char *value, const int *fds, int n_fds, double limit)
{
	struct upgrade *u = s->upgrade;

	if (!proof_start(&u->proof, s, u->next.fd[ROLE_SUPERVISOR], extra, value, fds, n_fds))
		return false;
	ev_io_init(&u->proof_io, on_proof_ended, u->proof.pidfd, EV_READ);
	u->proof_io.data = s;
	ev_io_start(s->loop, &u->proof_io);
	arm(s, limit, 0);
	return true;
}

/* ---- the state, as the next supervisor shall find it */

static int
save(struct sup *s, const struct program_set *programs, const struct program_set *held, int **fds, int *n_fds)
{
	struct program_set was = s->programs, was_held = s->held, next = *programs, next_held = *held;
	int fd;

	s->programs = next;
	s->held = next_held;
	fd = adopt_save(s, s->upgrade->version, fds, n_fds);
	s->programs = was;
	s->held = was_held;
	return fd;
}

static void
check(struct sup *s)
{
	struct upgrade *u = s->upgrade;
	char number[16];
	int *fds, n_fds, fd = save(s, &u->next, &s->programs, &fds, &n_fds);
	bool started;

	enter(s, UP_CHECKING);
	if (fd < 0) {
		refuse(s, 500, "the state cannot be written: %s", err_text(fd));
		return;
	}
	snprintf(number, sizeof number, "%d", fd);
	fds[n_fds < ADOPT_FDS_MAX ? n_fds++ : n_fds - 1] = fd;
	started = start_proof(s, "--adopt-check", number, fds, n_fds, CHECK_TIMEOUT_S);
	close(fd);
	free(fds);
	if (!started)
		refuse(s, 500, "the new supervisor cannot be started: %s", strerror(errno));
}

static void
wait_quiet(struct sup *s)
{
	enter(s, UP_WAITING);
	s->upgrade->deadline = ev_steady() + QUIET_S;
	arm(s, 0, POLL_S);
}

/* Is it a build that speaks the version before ours? */
static bool
older_words(struct program_set *next, const char *said)
{
	unsigned ipc;

	if (sscanf(said, "sluice %63s %u", next->build, &ipc) != 2 || ipc >= IMSG_VERSION || ipc < IMSG_VERSION_OLDEST)
		return false;
	next->ipc = (uint16_t)ipc;
	return true;
}

static void
on_proof_ended(struct ev_loop *loop, ev_io *io, int events)
{
	struct sup *s = io->data;
	struct upgrade *u = s->upgrade;
	char said[400];
	int code;

	(void)events;
	ev_io_stop(loop, io);		/* before its descriptor is closed */
	if (!proof_ended(&u->proof, &code, said, sizeof said)) {
		ev_io_start(loop, io);
		return;
	}
	if (u->phase == UP_TESTING && code == 0) {
		wait_quiet(s);
	} else if (u->phase == UP_CHECKING && code == ADOPT_EXIT_VERSION && u->version > ADOPT_OLDEST) {
		u->version--;
		check(s);
	} else if (u->phase == UP_CHECKING && code == ADOPT_EXIT_WORDS && older_words(&u->next, said)) {
		u->checked = true;
		if (programs_same(&u->next, &s->programs))
			refuse(s, 503,
			    "controller and workers run these programs; the supervisor stays until the ones before have ended");
		else
			wait_quiet(s);
	} else if (u->phase == UP_CHECKING && code == 0) {
		str_copy(u->next.build, sizeof u->next.build, str_starts(said, "sluice ") ? said + 7 : said);
		log_info("upgrade: %s is proven", u->next.build);
		u->checked = true;
		wait_quiet(s);
	} else if (u->phase == UP_TESTING || u->phase == UP_CHECKING) {
		refuse(s, 500, "%s (status %d): %s; the running programs were not touched",
		    u->phase == UP_TESTING ? "the new programs do not pass their test of the configuration" :
					     "the new supervisor does not take over",
		    code, said);
	}
}

/* ---- the switch */

static bool
quiet(const struct sup *s)
{
	if (s->stopping || reload_busy(s) || changes_busy(s) || !control_quiet(s) || !systemd_quiet(s) ||
	    s->controller_next != NULL)
		return false;
	list_each(n, &s->children) {
		const struct child *c = container_of(n, struct child, link);

		if (!c->stopping &&
		    (c->state == CH_CONFIGURING || c->role == ROLE_LOADER || c->peer.queued > 0 || c->peer.deaf ||
			c->peer.gone_due))
			return false;
	}
	return true;
}

static void
block_signals(bool block)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* Becomes the supervisor of programs. Returns only when that was not possible; then nothing has changed. Signals wait
 * meanwhile. */
static void
execute(struct sup *s, const struct program_set *programs, const struct program_set *held)
{
	char value[40];
	int *fds, n_fds, saved, fd = save(s, programs, held, &fds, &n_fds);

	if (fd < 0) {
		errno = ENOMEM;
		return;
	}
	block_signals(true);
	adopt_cloexec(fds, n_fds, false);
	fcntl(fd, F_SETFD, 0);
	snprintf(value, sizeof value, "%d,%d", fd, held->fd[ROLE_SUPERVISOR]);
	setenv(ADOPT_ENV, value, 1);
	systemd_export(s);
	syscall(SYS_execveat, programs->fd[ROLE_SUPERVISOR], "", s->argv, environ, AT_EMPTY_PATH);
	saved = errno;
	unsetenv(ADOPT_ENV);
	systemd_unexport();
	adopt_cloexec(fds, n_fds, true);
	block_signals(false);
	close(fd);
	free(fds);
	errno = saved;
}

/* Back to a build that does not speak with what runs: we do, and to its programs, too. So controller and workers are replaced
 * and we stay; an upgrade to the same programs, when the last of the others has ended, replaces us. */
static void
switch_children(struct sup *s)
{
	struct upgrade *u = s->upgrade;

	log_warn("upgrade: %s speaks an older version: the supervisor stays %s", u->next.build, version_text());
	programs_close(&s->held);
	s->held = s->programs;
	s->programs = u->next;
	programs_clear(&u->next);
	converge(s);
}

static void
switch_over(struct sup *s)
{
	struct upgrade *u = s->upgrade;
	struct program_set now;
	char why[300];

	/* what was proven must still be what is there: a package manager may be in the middle of its work */
	if (programs_candidate(s, &now, why, sizeof why) != 0) {
		refuse(s, 503, "%s", why);
		return;
	}
	if (!programs_same(&now, &u->next)) {
		programs_close(&now);
		refuse(s, 503, "the programs on disk were replaced meanwhile; call /upgrade again");
		return;
	}
	programs_close(&now);
	str_copy(u->from, sizeof u->from, s->programs.build);
	if (u->next.ipc != 0) {
		switch_children(s);
		return;
	}
	programs_close(&s->held);
	log_info("upgrade: the supervisor is replaced");
	execute(s, &u->next, &s->programs);
	refuse(s, 500, "the new supervisor cannot be executed: %s", strerror(errno));
}

/* ---- going back */

/* Would a supervisor of that version of the protocol understand every child? It speaks its own and the one before. One that is
 * being ended counts. */
static bool
understood(const struct sup *s, uint16_t ipc)
{
	list_each(n, &s->children) {
		const struct child *c = container_of(n, struct child, link);

		if (c->ipc > ipc || c->ipc + 1 < ipc)
			return false;
	}
	return true;
}

static void
fail(struct sup *s, const char *what, const char *why)
{
	struct upgrade *u = s->upgrade;
	char text[sizeof u->reason + 100];

	if (s->stopping)
		return;
	log_error("upgrade: %s: %s", what, why);
	if (u->back) {
		snprintf(text, sizeof text, "update error: %s; the programs before did not come up either: %s", u->reason, why);
		end(s, 500, text);
		return;
	}
	snprintf(u->reason, sizeof u->reason, "%s: %s", what, why);
	ev_timer_stop(s->loop, &u->hold);
	enter(s, UP_BACK);
	u->deadline = ev_steady() + BACK_S;
	arm(s, 0, POLL_S);
}

static void
go_back(struct sup *s)
{
	struct upgrade *u = s->upgrade;
	struct program_set none;

	reload_refuse_waiting(s, "an upgrade is being rolled back; try again");
	if (!quiet(s) && ev_steady() < u->deadline)
		return;
	u->back = true;
	programs_clear(&none);
	log_warn("upgrade: going back to %s", s->held.build);
	if (quiet(s) && understood(s, s->held.ipc))
		execute(s, &s->held, &none);
	/* the supervisor stays, everything else goes back */
	log_warn("upgrade: only controller and workers are put back: the supervisor before %s",
	    understood(s, s->held.ipc) ? "cannot be executed" : "does not speak with what runs");
	programs_close(&s->programs);
	s->programs = s->held;
	programs_clear(&s->held);
	converge(s);
}

static void
on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	struct sup *s = t->data;
	struct upgrade *u = s->upgrade;

	(void)events;
	if (s->stopping) {
		ev_timer_stop(loop, t);
		return;
	}
	switch (u->phase) {
	case UP_TESTING:
	case UP_CHECKING:
		kill(u->proof.pid, SIGKILL);	/* its end is judged in on_proof_ended() */
		break;
	case UP_WAITING:
		if (quiet(s) && !u->checked)
			check(s);
		else if (quiet(s) && (!controller_crowd(s) || ev_steady() >= u->deadline))
			switch_over(s);
		else if (ev_steady() >= u->deadline)
			refuse(s, 503, "a reload or a change is under way; call /upgrade again");
		break;
	case UP_CONTROLLER:
		upgrade_controller_failed(s, "it was not ready in time");
		break;
	case UP_BACK:
		go_back(s);
		break;
	default:
		break;
	}
}

/* ---- after the execve */

static void
on_hold(struct ev_loop *loop, ev_timer *t, int events)
{
	struct sup *s = t->data;

	(void)loop;
	(void)events;
	log_debug("upgrade: %s has proven itself, %s is let go", s->programs.build, s->held.build);
	programs_close(&s->held);
}

/* A relieved controller that does not end is of no use to anybody. */
static void
on_relieved(struct ev_loop *loop, ev_timer *t, int events)
{
	struct sup *s = t->data;

	(void)loop;
	(void)events;
	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		if (c->role == ROLE_CONTROLLER && c != s->controller && c != s->controller_next)
			child_kill(c);
	}
}

static void
done(struct sup *s)
{
	struct upgrade *u = s->upgrade;
	char text[sizeof u->reason + 100];

	ev_timer_stop(s->loop, &u->relieved);
	ev_timer_set(&u->relieved, RELIEVED_GRACE_S + 5, 0);
	ev_timer_start(s->loop, &u->relieved);
	u->crashes = 0;
	if (u->back) {
		snprintf(text, sizeof text, "update error: rolled back to %s: %s", s->programs.build, u->reason);
		str_copy(s->upgrade_note, sizeof s->upgrade_note, text + strlen("update error: "));
		log_warn("upgrade: %s", s->upgrade_note);
	} else {
		s->upgrade_note[0] = '\0';
		log_info("upgraded from %s to %s after %.0f ms", u->from, s->programs.build, (ev_steady() - u->began) * 1000);
		ev_timer_stop(s->loop, &u->hold);
		ev_timer_set(&u->hold, HOLD_S, 0);
		ev_timer_start(s->loop, &u->hold);
	}
	controller_note(s);
	end(s, u->back ? 500 : 204, u->back ? text : "");
}

/* Replaces what does not run the programs that shall: the controller, then the workers. */
static void
converge(struct sup *s)
{
	struct msg_reload same = { .flags = RELOAD_SAME | RELOAD_UPGRADE };

	ev_timer_stop(s->loop, &s->upgrade->timer);
	if (s->stopping)
		return;
	if (s->controller == NULL || s->controller->set != s->programs.serial) {
		enter(s, UP_CONTROLLER);
		s->controller_next = controller_spawn(s, s->ctl_tree_fd);
		if (s->controller_next == NULL)
			fail(s, "the new controller", "it cannot be started");
		else
			arm(s, START_TIMEOUT_S, 0);
	} else if (s->serving->set != s->programs.serial) {
		enter(s, UP_WORKERS);
		reload_request(s, &same, -1, (struct reload_waiter){ NULL, 0 });
	} else
		done(s);
}

void
upgrade_controller_ready(struct sup *s)
{
	if (s->upgrade->phase == UP_CONTROLLER)
		converge(s);
}

void
upgrade_controller_failed(struct sup *s, const char *why)
{
	struct child *c = s->controller_next;

	s->controller_next = NULL;
	if (c != NULL)
		child_kill(c);
	if (s->upgrade->phase == UP_CONTROLLER)
		fail(s, "the new controller", why);
}

void
upgrade_workers_done(struct sup *s, int status, const char *why)
{
	if (s->upgrade->phase != UP_WORKERS)
		return;
	if (status >= 300)
		fail(s, "the new workers", why);
	else
		converge(s);
}

bool
upgrade_crashed(struct sup *s, const struct generation *g)
{
	struct upgrade *u = s->upgrade;

	if (u->phase != UP_IDLE || s->held.serial == 0 || g != s->serving || s->stopping || ++u->crashes < CRASHES_MAX)
		return false;
	u->back = false;
	fail(s, "the new programs", "they failed three times in their first minute");
	return true;
}

/* ---- requests */

void
upgrade_request(struct sup *s, bool force, struct reload_waiter w)
{
	struct upgrade *u = s->upgrade;
	char why[600];

	if (u->phase != UP_IDLE || s->serving == NULL || s->stopping) {
		messages_result(w.peer, w.id, 503, NULL, u->phase != UP_IDLE ? "update error: an upgrade is under way" : s->stopping ?
		    "update error: the service is stopping" : "update error: the service is starting");
		return;
	}
	u->waiter = w;
	u->back = false;
	u->reason[0] = '\0';
	u->version = ADOPT_VERSION;
	u->checked = false;
	u->began = ev_steady();
	if (programs_candidate(s, &u->next, why, sizeof why) != 0) {
		refuse(s, 503, "%s", why);
		return;
	}
	if (!force && programs_same(&u->next, &s->programs) && str_equal(s->programs.build, version_text())) {
		refuse(s, 503, "no other build is installed: %.200s is what runs (%s); install a newer package, then call /upgrade, or add force=true",
		    s->program_path, s->programs.build);
		return;
	}
	log_info("upgrade: testing the programs beside %s", s->program_path);
	enter(s, UP_TESTING);
	if (!start_proof(s, "-t", NULL, NULL, 0, TEST_TIMEOUT_S))
		refuse(s, 500, "the new programs cannot be tested: %s", strerror(errno));
}

void
upgrade_forget_peer(struct sup *s, struct peer *p)
{
	if (s->upgrade->waiter.peer == p)
		s->upgrade->waiter.peer = NULL;
}

bool
upgrade_holds(const struct sup *s)
{
	return s->upgrade->phase == UP_CONTROLLER || s->upgrade->phase == UP_BACK;
}

/* ---- over the execve */

void
upgrade_save(struct sup *s, struct adopt *a)
{
	struct upgrade *u = s->upgrade;

	adopt_put_peer(s, a, u->waiter.peer);
	wire_put_u32(&a->w, u->waiter.id);
	wire_put_bool(&a->w, u->back);
	wire_put_str(&a->w, u->reason);
	wire_put_str(&a->w, u->from);
	adopt_put_moment(a, u->began);
}

int
upgrade_load(struct sup *s, struct adopt *a)
{
	struct upgrade *u = s->upgrade;

	if (adopt_get_peer(s, a, &u->waiter.peer) != 0)
		return -E_PROTO;
	if (wire_get_u32(&a->w, &u->waiter.id) != 0 || wire_get_bool(&a->w, &u->back) != 0 ||
	    wire_get_str(&a->w, u->reason, sizeof u->reason) != 0 || wire_get_str(&a->w, u->from, sizeof u->from) != 0)
		return adopt_bad(a, "the upgrade under way");
	u->version = a->version;	/* what the supervisor before, should we go back to it, reads */
	return adopt_get_moment(a, &u->began);
}

void
upgrade_forget(struct sup *s)
{
	s->upgrade->waiter.peer = NULL;
}

/* The state was refused in earnest, which the check had excluded: the program before gets it back, unread by us. */
static void
hand_back(struct sup *s, int state, int before, const char *why)
{
	char value[40];

	log_error("upgrade: the state cannot be taken over: %s", why);
	if (before <= 2)
		return;
	snprintf(value, sizeof value, "%d,back", state);
	setenv(ADOPT_ENV, value, 1);
	systemd_export(s);
	syscall(SYS_execveat, before, "", s->argv, environ, AT_EMPTY_PATH);
}

void
upgrade_adopt(struct sup *s)
{
	struct upgrade *u = s->upgrade;
	int state = -1, before = -1, n = sscanf(s->opt.adopt, "%d,%d", &state, &before);
	bool back = str_ends(s->opt.adopt, ",back");
	char why[200] = "the variable is malformed";

	unsetenv(ADOPT_ENV);
	prctl(PR_SET_NAME, "sluice", 0, 0, 0);	/* an execve by descriptor leaves a number there */
	if (n < 1 || state <= 2 || adopt_load(s, state, why, sizeof why) != 0) {
		hand_back(s, state, n == 2 ? before : -1, why);
		fatal("upgrade: %s", why);
	}
	close(state);
	if (back && s->held.serial != 0) {
		programs_close(&s->programs);
		s->programs = s->held;
		programs_clear(&s->held);
		u->back = true;
		str_copy(u->reason, sizeof u->reason, "the new supervisor could not take over");
	}
	s->programs.ipc = IMSG_VERSION;
	str_copy(s->programs.build, sizeof s->programs.build, version_text());
	programs_complete(s);
	log_set_level(logsink_level(s));
	log_info("upgrade: the supervisor of %s has taken over", s->programs.build);
}

void
upgrade_resume(struct sup *s)
{
	block_signals(false);
	s->upgrade->phase = UP_CONTROLLER;	/* holds reloads until converge() has looked */
	reload_resume(s);
	nethelper_resume(s);
	systemd_serving(s);
	converge(s);
}

int
upgrade_check(struct sup *s)
{
	char why[200] = "";
	int64_t fd;
	int rc;

	if (str_to_i64(s->opt.adopt_check, 3, INT32_MAX, &fd) != 0)
		return 2;
	rc = adopt_load(s, (int)fd, why, sizeof why);
	if (rc == -E_BUSY)
		printf("sluice %s %d: %s\n", version_text(), IMSG_VERSION, why);
	else
		printf("%s%s\n", rc == 0 ? "sluice " : "", rc == 0 ? version_text() : why);
	return rc == 0 ? 0 : rc == -E_UNSUP ? ADOPT_EXIT_VERSION : rc == -E_BUSY ? ADOPT_EXIT_WORDS : 1;
}

void
upgrade_init(struct sup *s)
{
	struct upgrade *u = calloc(1, sizeof *u);

	if (u == NULL)
		fatal("out of memory");
	programs_clear(&u->next);
	ev_timer_init(&u->timer, on_timer, 0, 0);
	ev_timer_init(&u->hold, on_hold, 0, 0);
	ev_timer_init(&u->relieved, on_relieved, 0, 0);
	u->timer.data = u->hold.data = u->relieved.data = s;
	s->upgrade = u;
}
