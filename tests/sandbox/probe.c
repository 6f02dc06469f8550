/* SPDX-License-Identifier: MIT */
/* Tries one act inside one role's sandbox and prints what became of it; tests/sandbox/run.sh calls it for every role and act.
 *
 *   probe [-l] [-1] [-n] ROLE ACT	ROLE: none (no sandbox: the control), loader, worker, controller, nethelper
 *      -l  without Landlock: seccomp must hold alone
 *      -1  stop after stage 1
 *      -n  as an ordinary user, also when started as root
 *   probe list ROLE | list-work ROLE	prints what is forbidden to the role, or what it must be able to do
 *
 * The parent stays outside, holds what the act needs (a listener, a file, the log channel) and judges. Prints one line,
 * "refused ERRNO", "trapped: record of the log channel", "killed SIGNAL", "done", "skip WHY" or "broken WHY"; exit 0 refused,
 * trapped, killed by SIGSYS, or a work act done; 1 an act that succeeded or work that failed; 2 skip or broken. */
#include "tests/sandbox/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sandbox.h"
#include "common/sandbox_profiles.h"
#include "common/strutil.h"

enum { NOBODY = 65534 };

struct sockaddr_in probe_target;
struct sockaddr_un probe_abstract;
socklen_t probe_abstract_len;
pid_t probe_outside;

static unsigned
role_bit(enum sandbox_role role)
{
	return role == ROLE_LOADER ? R_LOADER : role == ROLE_WORKER ? R_WORKER : role == ROLE_CONTROLLER ? R_CONTROLLER :
	    role == ROLE_NETHELPER ? R_NETHELPER : 0;
}

struct options {
	bool no_landlock, stage1, ordinary;
	enum sandbox_role role;		/* ROLE_MAX_: none */
	const struct act *act;
	bool work;
};

/* ---- the child */

static void
run_inside(const struct options *o)
{
	bool drop = geteuid() == 0;
	char msg[64];
	int r;

	log_init(FD_LOG);
	log_set_level(LL_WARNING);
	if (o->role != ROLE_MAX_) {
		sandbox_test_no_landlock = o->no_landlock;
		sandbox_enter(o->role, drop ? NOBODY : (uid_t)-1, drop ? NOBODY : (gid_t)-1, FD_KEPT);
		sandbox_filter(o->role, 1);
		if (o->act->between != NULL && o->act->between() != DONE)
			_exit(1);
		if (!o->stage1)
			sandbox_filter(o->role, 2);
	}
	r = o->act->fn();
	snprintf(msg, sizeof(msg), "%c%d", r == DONE ? 'D' : r == SKIP ? 'S' : 'F', errno);
	(void)!write(FD_CHANNEL, msg, strlen(msg));
	_exit(0);
}

/* Puts fd at to. Sources are above all targets. */
static void
place(int fd, int to)
{
	if (dup2(fd, to) == -1)
		_exit(99);
}

/* ---- the parent */

struct scene {
	int channel[2], log[2], listener, spare, file, abstract_stream, abstract_dgram;
};

static int
high(int fd)
{
	int r = fd == -1 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 40);

	if (r == -1) {
		printf("broken scene: %s\n", strerror(errno));
		exit(2);
	}
	close(fd);
	return r;
}

static void
pair(int p[2], int type)
{
	if (socketpair(AF_UNIX, type, 0, p) == -1)
		p[0] = p[1] = -1;
	p[0] = high(p[0]);
	p[1] = high(p[1]);
}

static void
build_scene(struct scene *s)
{
	socklen_t len = sizeof(probe_target);
	int one = 1;

	probe_outside = getpid();
	pair(s->channel, SOCK_SEQPACKET);
	pair(s->log, SOCK_SEQPACKET);
	s->listener = high(socket(AF_INET, SOCK_STREAM, 0));
	s->spare = high(socket(AF_INET, SOCK_STREAM, 0));
	s->file = high(open("/bin/true", O_RDONLY));
	s->abstract_stream = high(socket(AF_UNIX, SOCK_STREAM, 0));
	s->abstract_dgram = high(socket(AF_UNIX, SOCK_DGRAM, 0));
	probe_target = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	probe_abstract.sun_family = AF_UNIX;
	probe_abstract_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
	    (size_t)snprintf(probe_abstract.sun_path + 1, sizeof(probe_abstract.sun_path) - 1, "s-sluice-%d", (int)getpid()));
	if (bind(s->listener, (struct sockaddr *)&probe_target, sizeof(probe_target)) == -1 || listen(s->listener, 16) == -1 ||
	    getsockname(s->listener, (struct sockaddr *)&probe_target, &len) == -1 ||
	    setsockopt(s->listener, IPPROTO_TCP, TCP_FASTOPEN, &one, sizeof(one)) == -1 ||
	    bind(s->abstract_stream, (struct sockaddr *)&probe_abstract, probe_abstract_len) == -1 ||
	    listen(s->abstract_stream, 16) == -1) {
		printf("broken scene: %s\n", strerror(errno));
		exit(2);
	}
	probe_abstract.sun_path[1] = 'd';
	(void)bind(s->abstract_dgram, (struct sockaddr *)&probe_abstract, probe_abstract_len);
	probe_abstract.sun_path[1] = 's';
}

static void
serve_client(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&probe_target, sizeof(probe_target)) == -1 || send(fd, "hello", 5, MSG_NOSIGNAL) != 5)
		printf("broken client: %s\n", strerror(errno));
}

static const char *
errno_name(const char *digits)
{
	int64_t n = 0;
	const char *name = str_to_i64(digits, 0, 4095, &n) == 0 ? strerrorname_np((int)n) : NULL;

	return name != NULL ? name : "?";
}

/* Result text; the child is gone by then. */
static void
judge(const struct scene *s, pid_t pid, char *out, size_t cap)
{
	char msg[64] = "", rec[4096];
	struct log_record head;
	ssize_t n;
	int status = 0;

	while ((n = recv(s->channel[0], msg, sizeof(msg) - 1, 0)) == 1 && msg[0] == 'C')
		serve_client();
	msg[n > 0 ? n : 0] = '\0';
	(void)waitpid(pid, &status, 0);
	n = recv(s->log[0], rec, sizeof(rec) - 1, MSG_DONTWAIT);
	rec[n > 0 ? n : 0] = '\0';
	if (WIFSIGNALED(status))
		snprintf(out, cap, "killed %s", strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == 159 && n > (ssize_t)sizeof(head))
		snprintf(out, cap, "trapped: %s", rec + sizeof(head));
	else if (WEXITSTATUS(status) == 159)
		snprintf(out, cap, "killed without a report");
	else if (msg[0] == 'F')
		snprintf(out, cap, "refused %s%s%s", errno_name(msg + 1), n > 0 ? ": " : "", n > 0 ? rec + sizeof(head) : "");
	else if (msg[0] == 'S')
		snprintf(out, cap, "skip not possible on this machine");
	else if (WEXITSTATUS(status) == 0)
		snprintf(out, cap, "done");
	else
		snprintf(out, cap, "broken exit %d %s", WEXITSTATUS(status), n > 0 ? rec + sizeof(head) : "");
}

static int
run(const struct options *o)
{
	struct scene s;
	char text[4200];
	pid_t pid;
	bool held;

	if (o->ordinary && geteuid() == 0 &&
	    (setresgid(NOBODY, NOBODY, NOBODY) == -1 || setresuid(NOBODY, NOBODY, NOBODY) == -1)) {
		printf("broken: cannot become an ordinary user\n");
		return 2;
	}
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);	/* ptrace and vm-readv must be stopped by the sandbox, not by this */
	build_scene(&s);
	forbidden_prepare();
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		place(s.channel[1], FD_CHANNEL);
		place(s.log[1], FD_LOG);
		place(s.listener, FD_LISTENER);
		place(s.file, FD_FILE);
		place(s.spare, FD_SPARE);
		run_inside(o);
	}
	close(s.channel[1]);
	close(s.log[1]);
	judge(&s, pid, text, sizeof(text));
	puts(text);
	if (str_starts(text, "skip") || str_starts(text, "broken"))
		return 2;
	if (o->work)
		return str_starts(text, o->act->expect != NULL ? o->act->expect : "done") ? 0 : 1;
	held = str_starts(text, "refused") || str_starts(text, "trapped:") || str_equal(text, "killed Bad system call");
	return held ? 0 : 1;
}

static int
list(const struct act *acts, size_t n, unsigned roles)
{
	for (size_t i = 0; i < n; i++) {
		if (acts[i].roles & roles)
			puts(acts[i].name);
	}
	return 0;
}

static const struct act *
find(const struct act *acts, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (str_equal(acts[i].name, name))
			return &acts[i];
	}
	return NULL;
}

static enum sandbox_role
role_by_name(const char *name)
{
	int r = 0;

	while (r < ROLE_MAX_ && !str_equal(name, sandbox_role_name((enum sandbox_role)r)))
		r++;
	return (enum sandbox_role)r;
}

int
main(int argc, char **argv)
{
	struct options o = { .role = ROLE_MAX_ };
	unsigned roles;
	int c;

	while ((c = getopt(argc, argv, "l1n")) != -1) {
		o.no_landlock |= c == 'l';
		o.stage1 |= c == '1';
		o.ordinary |= c == 'n';
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: probe [-l1n] ROLE ACT | probe list ROLE | probe list-work ROLE\n");
		return 2;
	}
	o.role = role_by_name(argv[optind + 1]);
	roles = o.role == ROLE_MAX_ ? R_ALL : role_bit(o.role);
	if (str_equal(argv[optind], "list"))
		return list(forbidden_acts, nforbidden_acts, roles);
	if (str_equal(argv[optind], "list-work"))
		return list(work_acts, nwork_acts, roles);
	o.role = role_by_name(argv[optind]);
	o.act = find(forbidden_acts, nforbidden_acts, argv[optind + 1]);
	o.work = o.act == NULL;
	if (o.work)
		o.act = find(work_acts, nwork_acts, argv[optind + 1]);
	if (o.act == NULL || (o.role == ROLE_MAX_ && !str_equal(argv[optind], "none"))) {
		printf("broken: no such role or act\n");
		return 2;
	}
	return run(&o);
}
