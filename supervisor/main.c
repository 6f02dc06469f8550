/* SPDX-License-Identifier: MIT */
/* sluice: the supervisor's start and end. It keeps the privilege it was started with and never parses what a user or a peer
 * wrote: options, fixed structs and file names are all it sees. Design: README.md "Processes". */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "common/version.h"
#include "supervisor/change.h"
#include "supervisor/child.h"
#include "supervisor/control.h"
#include "supervisor/convert.h"
#include "supervisor/files.h"
#include "supervisor/images.h"
#include "supervisor/inherit.h"
#include "supervisor/lastgood.h"
#include "supervisor/listeners.h"
#include "supervisor/logsink.h"
#include "supervisor/messages.h"
#include "supervisor/nethelper.h"
#include "supervisor/recover.h"
#include "supervisor/reload.h"
#include "supervisor/state.h"
#include "supervisor/sysfiles.h"
#include "supervisor/upgrade.h"
#include "supervisor/sup.h"
#include "supervisor/systemd.h"

/* Used when the package's users are missing: outside every range that adduser or systemd hands out. */
enum { FALLBACK_WORKER_ID = 64610, FALLBACK_API_ID = 64611, FALLBACK_HELPER_ID = 64612 };

/* /etc/passwd only: NSS modules have no place in this process. */
static bool
find_user(const char *name, uid_t *uid, gid_t *gid)
{
	FILE *f = fopen("/etc/passwd", "re");
	struct passwd *p;
	bool found = false;

	while (f != NULL && !found && (p = fgetpwent(f)) != NULL)
		if (!strcmp(p->pw_name, name)) {
			*uid = p->pw_uid;
			*gid = p->pw_gid;
			found = true;
		}
	if (f != NULL)
		fclose(f);
	return found;
}

static void
choose_user(const char *name, uint32_t fallback, uid_t *uid, gid_t *gid)
{
	if (!find_user(name, uid, gid)) {
		*uid = fallback;
		*gid = fallback;
	}
}

/* May we give children another user, and still end them? A service user with these ambient capabilities may; root in a bare
 * container may not. */
static bool
may_change_users(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3] = { { 0 } };
	const uint32_t need = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_KILL;

	return syscall(SYS_capget, &head, have) == 0 && (have[0].effective & need) == need;
}

static void
choose_users(struct sup *s)
{
	s->root = may_change_users();
	s->worker_uid = s->api_uid = s->helper_uid = (uid_t)-1;
	s->worker_gid = s->api_gid = s->helper_gid = (gid_t)-1;
	if (!s->root) {
		if (s->opt.command == CMD_RUN && s->opt.adopt == NULL && s->opt.adopt_check == NULL)
			log_warn("started as an ordinary user: workers and controller run as uid %u too, separated by seccomp and Landlock only; ports "
			    "below 1024 and interface-name may be refused", geteuid());
		return;
	}
	choose_user("sluice-worker", FALLBACK_WORKER_ID, &s->worker_uid, &s->worker_gid);
	choose_user("sluice-api", FALLBACK_API_ID, &s->api_uid, &s->api_gid);
	choose_user("sluice-nethelper", FALLBACK_HELPER_ID, &s->helper_uid, &s->helper_gid);
}

static void
raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		rlim_t want = 1 << 20;

		r.rlim_max = r.rlim_max < want && geteuid() == 0 ? want : r.rlim_max;
		r.rlim_cur = r.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &r) == -1 && getrlimit(RLIMIT_NOFILE, &r) == 0) {
			r.rlim_cur = r.rlim_max;
			setrlimit(RLIMIT_NOFILE, &r);
		}
	}
}

static void
on_stop_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	struct sup *s = t->data;

	(void)events;
	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		log_warn("%s did not end in time and is killed", c->name);
		child_kill(c);
	}
	(void)loop;
}

void
sup_child_gone(struct sup *s)
{
	if (s->stopping && list_empty(&s->children))
		ev_break(s->loop, EVBREAK_ALL);
}

void
sup_stop(struct sup *s, int exit_code)
{
	struct msg_stop m = { .grace_ms = s->serving != NULL ? s->serving->opts.stop_grace_ms : 0 };

	if (s->stopping) {
		on_stop_timer(s->loop, &s->stop_timer, 0);
		return;
	}
	s->stopping = true;
	s->exit_code = exit_code;
	listeners_shutdown(s);
	state_end(s);
	recover_forget(s);
	systemd_stopping(s, m.grace_ms);
	if (s->opt.command == CMD_RUN)
		log_info("stopping%s", m.grace_ms > 0 ? ", open connections may end" : "");
	list_each(n, &s->children) {
		struct child *c = container_of(n, struct child, link);

		c->stopping = true;
		if (c->role == ROLE_LOADER || c->state == CH_CONFIGURING || s->opt.command == CMD_TEST)
			kill(c->pid, SIGKILL);
		else
			child_send(c, MSG_STOP, 0, &m, sizeof m, -1);
	}
	ev_timer_init(&s->stop_timer, on_stop_timer, m.grace_ms / 1000.0 + STOP_SLACK_MS / 1000.0, 0);
	s->stop_timer.data = s;
	ev_timer_start(s->loop, &s->stop_timer);
	sup_child_gone(s);
}

static void
on_signal(struct ev_loop *loop, ev_signal *sig, int events)
{
	struct sup *s = sig->data;
	struct msg_reload m = { .flags = RELOAD_FORCE | RELOAD_CONTROLLER };

	(void)loop;
	(void)events;
	if (sig->signum == SIGHUP) {
		systemd_reloading(s);
		reload_request(s, &m, -1, (struct reload_waiter){ NULL, 0 });
	} else
		sup_stop(s, 0);
}

static void
watch_signals(struct sup *s)
{
	static const int list[] = { SIGTERM, SIGINT, SIGHUP };

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < countof(list); i++) {
		ev_signal_init(&s->sig[i], on_signal, list[i]);
		s->sig[i].data = s;
		ev_signal_start(s->loop, &s->sig[i]);
	}
}

static void
init(struct sup *s)
{
	s->loop = ev_loop_new(EV_SLUICE);
	if (s->loop == NULL)
		fatal("no event loop");
	list_init(&s->children);
	list_init(&s->generations);
	s->log_level = LL_INFO;
	s->log_tap = LL_SILENT;
	logsink_init(s);
	systemd_init(s);
	raise_limits();
	choose_users(s);
	listeners_init(s);
	sysfiles_init(s);
	changes_init(s);
	images_init(s);
	reload_init(s);
	lastgood_init(s);
	control_init(s);
	nethelper_init(s);
	upgrade_init(s);
}

static int
run(struct sup *s)
{
	struct msg_reload first = { .flags = RELOAD_FORCE };
	bool test = s->opt.command == CMD_TEST;

	init(s);
	if (s->opt.adopt_check != NULL)
		return upgrade_check(s);
	if (s->opt.adopt != NULL && !test) {	/* umask and working directory of the process are as they were */
		upgrade_adopt(s);
		watch_signals(s);
		upgrade_resume(s);
	} else {
		if (files_home(s, !test, !test) != 0 || programs_init(s) != 0)
			return 1;
		umask(0077);
		state_init(s);
		watch_signals(s);
		if (!test)
			control_open(s);
		reload_request(s, &first, -1, (struct reload_waiter){ NULL, 0 });
	}
	if (!s->stopping || !list_empty(&s->children))	/* else it was refused before the loop began */
		ev_run(s->loop, 0);
	if (!test)
		control_end(s);
	systemd_end(s);
	return s->exit_code;
}

static int
test_config(struct sup *s)
{
	char path[PATH_MAX + 16];
	int code = run(s);

	snprintf(path, sizeof path, "%s%s", s->opt.config[0] != '\0' ? s->opt.config : s->opt.home,
	    s->opt.config[0] != '\0' ? "" : "/config.yaml");
	printf("configuration file %s test %s\n", path, code == 0 ? "is successful" : "failed");
	return code;
}

/* Descriptors 0 to 4 are never taken by something else; an upgrade finds them held. */
static void
hold_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd != -1 && fd <= 4);
	if (fd != -1)
		close(fd);
}

int
main(int argc, char **argv)
{
	static struct sup s = { .lock_fd = -1, .stdin_fd = -1 };
	int rc = options_parse(&s.opt, argc, argv);

	if (rc != 0)
		return rc;
	s.argv = argv;
	if (s.opt.command == CMD_RUN)
		inherit_init(&s);
	hold_standard_fds();
	switch (s.opt.command) {
	case CMD_HELP:
		options_help();
		return 0;
	case CMD_VERSION:
		printf("sluice %s (mihomo API %s) linux\n", version_text(), SLUICE_COMPAT);
		return 0;
	case CMD_TEST:
		return test_config(&s);
	case CMD_CONVERT:
		init(&s);
		return convert_run(&s);
	case CMD_RUN:
		return run(&s);
	default:
		return control_client(&s.opt);
	}
}
