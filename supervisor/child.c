/* SPDX-License-Identifier: MIT */
/* Children: fork + execveat of a program held open by fd, a channel at fd 3, a log channel at fd 4, and a pidfd for the end. A
 * child that misbehaves on its channel is killed; what its end means is decided by reload.c (workers, loaders), controller.c
 * and nethelper.c. */
#include "supervisor/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "supervisor/change.h"
#include "supervisor/images.h"
#include "supervisor/listeners.h"
#include "supervisor/logsink.h"
#include "supervisor/messages.h"
#include "supervisor/nethelper.h"
#include "supervisor/reload.h"
#include "supervisor/state.h"

/* Between fork and exec: only system calls. */
static void
become_child(int program, int channel, int logfd, char *const argv[])
{
	struct pollfd first = { .fd = channel, .events = POLLIN };
	sigset_t none;

	/* until the first message, by when statm is open; should the supervisor be gone, the channel says so too */
	poll(&first, 1, -1);
	/* clear of 3 and 4 before they are put there; both lose close-on-exec by dup2 */
	if ((channel = fcntl(channel, F_DUPFD_CLOEXEC, 10)) == -1 || (logfd = fcntl(logfd, F_DUPFD_CLOEXEC, 10)) == -1 ||
	    (program = fcntl(program, F_DUPFD_CLOEXEC, 10)) == -1 || dup2(channel, 3) == -1 || dup2(logfd, 4) == -1)
		_exit(126);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	syscall(SYS_execveat, program, "", argv, environ, AT_EMPTY_PATH);
	_exit(127);
}

static void
on_log(struct ev_loop *loop, ev_io *io, int events)
{
	struct child *c = io->data;

	(void)events;
	if (logsink_drain(c) == -E_CLOSED)
		ev_io_stop(loop, io);
}

static void
free_child(struct child *c)
{
	struct sup *s = c->sup;

	logsink_drain(c);
	ev_io_stop(s->loop, &c->ended_io);
	ev_io_stop(s->loop, &c->log_io);
	close(c->pidfd);
	close(c->log_fd);
	if (c->statm_fd != -1)
		close(c->statm_fd);
	list_remove(&c->link);
	free(c);
}

static void
describe_end(const struct child *c, const siginfo_t *si, char *out, size_t cap)
{
	if (si->si_code == CLD_EXITED)
		snprintf(out, cap, "%s (pid %d) exited with status %d", c->name, (int)c->pid, si->si_status);
	else
		snprintf(out, cap, "%s (pid %d) was ended by signal %d (%s)", c->name, (int)c->pid, si->si_status,
		    strsignal(si->si_status));
}

static void
on_ended(struct ev_loop *loop, ev_io *io, int events)
{
	struct child *c = io->data;
	struct sup *s = c->sup;
	siginfo_t si = { 0 };
	char why[160];
	bool expected;

	(void)loop;
	(void)events;
	if (waitid(P_PIDFD, (id_t)c->pidfd, &si, WEXITED | WNOHANG) == -1 || si.si_pid == 0)
		return;
	/* a last word (CONF_ERR, JOB_DONE) may still be in the channel: read it before the end is judged */
	messages_drain(c);
	peer_close(&c->peer);
	describe_end(c, &si, why, sizeof why);
	expected = c->stopping || s->stopping || (si.si_code == CLD_EXITED && si.si_status == 0);
	if (expected)
		log_debug("%s", why);
	else
		log_error("%s", why);
	listeners_child_gone(s, c);
	changes_child_gone(s, c);
	images_child_gone(s, c);
	state_page_release(s, c);
	reload_child_gone(s, c, why);
	nethelper_child_gone(s, c);
	free_child(c);
	sup_child_gone(s);
}

static void
on_peer_gone(struct peer *p, const char *why)
{
	struct child *c = p->arg;

	/* one that drains or stops closes its channel by ending; every other child without a channel is of no use */
	if ((c->stopping || c->sup->stopping || c->state == CH_DRAINING) && str_equal(why, "closed the channel"))
		return;
	log_error("%s: channel: %s", c->name, why);
	kill(c->pid, SIGKILL);
}

static struct child *
new_child(struct sup *s, enum sandbox_role role, struct generation *gen, uint32_t index)
{
	struct child *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	c->sup = s;
	c->role = role;
	c->gen = gen;
	c->index = index;
	c->slot = STAT_SLOTS;
	c->state = CH_CONFIGURING;
	c->set = s->programs.serial;
	c->ipc = s->programs.ipc;
	c->started = ev_steady();
	c->pidfd = c->log_fd = c->statm_fd = -1;
	list_init(&c->link);
	if (role == ROLE_WORKER)
		snprintf(c->name, sizeof c->name, "worker %u.%u", gen->number, index);
	else
		str_copy(c->name, sizeof c->name, programs_name(role) + strlen("sluice-"));
	return c;
}

static void
watch(struct child *c, int channel)
{
	struct sup *s = c->sup;

	ev_io_init(&c->ended_io, on_ended, c->pidfd, EV_READ);
	c->ended_io.data = c;
	ev_io_start(s->loop, &c->ended_io);
	ev_io_init(&c->log_io, on_log, c->log_fd, EV_READ);
	c->log_io.data = c;
	ev_io_start(s->loop, &c->log_io);
	if (channel != -1) {
		peer_open(&c->peer, s->loop, channel, c->name, messages_table, messages_count, c, on_peer_gone);
		c->peer.version = c->ipc;
	} else
		c->peer.fd = -1;
	messages_set_state(c, c->state);
	list_append(&s->children, &c->link);
}

struct child *
child_adopt(struct sup *s, const struct child *from, int channel)
{
	struct child *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	*c = *from;
	c->sup = s;
	list_init(&c->link);
	watch(c, channel);
	return c;
}

void
child_forget(struct child *c)
{
	ev_io_stop(c->sup->loop, &c->ended_io);
	ev_io_stop(c->sup->loop, &c->log_io);
	if (c->peer.fd != -1) {
		ev_io_stop(c->sup->loop, &c->peer.rd);
		ev_io_stop(c->sup->loop, &c->peer.wr);
	}
	list_remove(&c->link);
	free(c);
}

struct child *
child_spawn(struct sup *s, enum sandbox_role role, struct generation *gen, uint32_t index)
{
	struct child *c = new_child(s, role, gen, index);
	uid_t uid = role == ROLE_CONTROLLER ? s->api_uid : role == ROLE_NETHELPER ? s->helper_uid : s->worker_uid;
	gid_t gid = role == ROLE_CONTROLLER ? s->api_gid : role == ROLE_NETHELPER ? s->helper_gid : s->worker_gid;
	int chan[2] = { -1, -1 }, logs[2] = { -1, -1 };
	char name[24], uid_opt[] = "--uid", gid_opt[] = "--gid", uid_text[16], gid_text[16];
	char *argv[] = { name, uid_opt, uid_text, gid_opt, gid_text, NULL };

	if (c == NULL)
		return NULL;
	str_copy(name, sizeof name, programs_name(role));
	snprintf(uid_text, sizeof uid_text, "%u", uid);
	snprintf(gid_text, sizeof gid_text, "%u", gid);
	if (uid == (uid_t)-1)
		argv[1] = NULL;		/* stays what we are */
	if (imsg_pair(chan) != 0 || imsg_pair(logs) != 0)
		goto fail;
	c->pid = fork();
	if (c->pid == -1)
		goto fail;
	if (c->pid == 0)
		become_child(s->programs.fd[role], chan[1], logs[1], argv);
	close(chan[1]);
	close(logs[1]);
	chan[1] = logs[1] = -1;
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd == -1) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
		goto fail;
	}
	c->log_fd = logs[0];
	snprintf(name, sizeof name, "/proc/%d/statm", (int)c->pid);
	c->statm_fd = open(name, O_RDONLY | O_CLOEXEC);
	watch(c, chan[0]);
	log_debug("%s started, pid %d", c->name, (int)c->pid);
	return c;
fail:
	log_error("cannot start %s: %s", c->name, strerror(errno));
	for (int i = 0; i < 2; i++) {
		if (chan[i] != -1)
			close(chan[i]);
		if (logs[i] != -1)
			close(logs[i]);
	}
	free(c);
	return NULL;
}

int
child_send(struct child *c, uint16_t type, uint32_t id, const void *body, size_t len, int fd)
{
	return peer_send(&c->peer, type, id, body, len, &fd, fd >= 0 ? 1 : 0);
}

void
child_kill(struct child *c)
{
	c->stopping = true;
	kill(c->pid, SIGKILL);
}
