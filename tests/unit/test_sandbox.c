/* SPDX-License-Identifier: MIT */
/* sandbox.c and sandbox_profiles.c: what can be told from the tables, and the state of a child after sandbox_enter(), asked
 * from inside. Every act against the filters is in tests/sandbox. Works as root and as an ordinary user. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sandbox.h"
#include "common/sandbox_profiles.h"
#include "common/strutil.h"

enum { NOBODY = 65534, LOG_FD = 4, KEEP = 5, STRAY = 20 };

static const enum sandbox_role roles[] = { ROLE_LOADER, ROLE_WORKER, ROLE_CONTROLLER, ROLE_NETHELPER };

/* ---- tables */

static bool
admitted(enum sandbox_role role, int call, uint8_t stage)
{
	int p = sandbox_profile_of(role);

	for (size_t i = 0; i < sandbox_nrules; i++) {
		if (sandbox_rules[i].call == call && sandbox_rules[i].deny == 0 && (sandbox_rules[i].stages[p] & stage))
			return true;
	}
	return false;
}

static void
test_sandbox_calls_within_cap(void **state)
{
	(void)state;
	assert_in_range(sandbox_calls(ROLE_WORKER), 30, SANDBOX_CALLS_MAX);
	assert_in_range(sandbox_calls(ROLE_CONTROLLER), 30, SANDBOX_CALLS_MAX);
	assert_in_range(sandbox_calls(ROLE_LOADER), 20, 40);
	assert_in_range(sandbox_calls(ROLE_NETHELPER), 20, 40);
	assert_int_equal(sandbox_calls(ROLE_SUPERVISOR), 0);
}

/* Filters stack: what only stage 2 admits, nobody may do. */
static void
test_rules_stage2_is_part_of_stage1(void **state)
{
	(void)state;
	for (size_t i = 0; i < sandbox_nrules; i++) {
		for (size_t p = 0; p < SANDBOX_PROFILES; p++) {
			if (sandbox_rules[i].deny == 0 && (sandbox_rules[i].stages[p] & STAGE_2))
				assert_true(sandbox_rules[i].stages[p] & STAGE_1);
		}
	}
}

static void
test_rules_never_admit(void **state)
{
	static const int never[] = {
		SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(open), SCMP_SYS(open_by_handle_at), SCMP_SYS(openat2), SCMP_SYS(fork),
		SCMP_SYS(vfork), SCMP_SYS(clone3), SCMP_SYS(ptrace), SCMP_SYS(kill), SCMP_SYS(listen), SCMP_SYS(io_uring_setup),
		SCMP_SYS(bpf), SCMP_SYS(keyctl), SCMP_SYS(mount), SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(process_vm_readv),
		SCMP_SYS(userfaultfd), SCMP_SYS(perf_event_open), SCMP_SYS(pidfd_getfd), SCMP_SYS(setuid), SCMP_SYS(setresuid),
		SCMP_SYS(capset), SCMP_SYS(shmget)
	};

	(void)state;
	for (size_t r = 0; r < countof(roles); r++) {
		for (size_t i = 0; i < countof(never); i++)
			assert_false(admitted(roles[r], never[i], STAGE_1 | STAGE_2));
		assert_true(!admitted(roles[r], SCMP_SYS(openat), STAGE_1 | STAGE_2) || roles[r] == ROLE_NETHELPER);
		assert_false(admitted(roles[r], SCMP_SYS(clone), STAGE_2));
		assert_false(admitted(roles[r], SCMP_SYS(seccomp), STAGE_2));
		assert_true(admitted(roles[r], SCMP_SYS(exit_group), STAGE_2));	/* the report of a refused call needs it */
	}
}

static void
test_rules_network_by_role(void **state)
{
	static const int dial[] = { SCMP_SYS(socket), SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(sendmmsg) };

	(void)state;
	for (size_t i = 0; i < countof(dial); i++) {
		assert_true(admitted(ROLE_WORKER, dial[i], STAGE_2));
		assert_false(admitted(ROLE_CONTROLLER, dial[i], STAGE_1 | STAGE_2));
		assert_false(admitted(ROLE_LOADER, dial[i], STAGE_1 | STAGE_2));
		assert_false(admitted(ROLE_NETHELPER, dial[i], STAGE_1 | STAGE_2));
	}
	assert_false(admitted(ROLE_LOADER, SCMP_SYS(accept4), STAGE_1 | STAGE_2));
}

/* The nethelper's one way to open: every row that admits it asks for a directory, to be read. */
static void
test_rules_helper_opens_directories_only(void **state)
{
	int rows = 0;

	(void)state;
	for (size_t i = 0; i < sandbox_nrules; i++) {
		const struct sandbox_cond *c = &sandbox_rules[i].conds[0];

		if (sandbox_rules[i].call != SCMP_SYS(openat) || sandbox_rules[i].deny != 0)
			continue;
		rows++;
		assert_int_equal(c->op, COND_BITS);
		assert_int_equal(c->arg, 2);
		assert_int_equal(c->value, O_DIRECTORY);
		assert_int_equal(c->mask & (O_DIRECTORY | O_ACCMODE | O_CREAT | O_TRUNC | O_TMPFILE),
		    O_DIRECTORY | O_ACCMODE | O_CREAT | O_TRUNC | O_TMPFILE);
	}
	assert_int_equal(rows, 1);
}

static void
test_role_name(void **state)
{
	(void)state;
	assert_string_equal(sandbox_role_name(ROLE_WORKER), "worker");
	assert_string_equal(sandbox_role_name(ROLE_MAX_), "unknown");
}

/* ---- a child that enters and asks itself */

struct result {
	int status;
	char log[1024];			/* text of the last record on the log channel */
};

/* Runs fn in a child; its return value is the exit status: 0 good, else the line that failed. */
static struct result
in_child(int (*fn)(void))
{
	struct result r = { .status = -1 };
	char rec[1024];
	int log[2];
	ssize_t n;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, log), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		static const int reset[] = { SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE };

		for (size_t i = 0; i < countof(reset); i++)
			(void)signal(reset[i], SIG_DFL);	/* the test framework's */
		if (dup2(log[1], LOG_FD) == -1)
			_exit(255);
		log_init(LOG_FD);
		log_set_level(LL_DEBUG);
		_exit(fn());
	}
	close(log[1]);
	assert_int_equal(waitpid(pid, &r.status, 0), pid);
	while ((n = recv(log[0], rec, sizeof(rec) - 1, 0)) > (ssize_t)sizeof(struct log_record)) {
		rec[n] = '\0';
		str_copy(r.log, sizeof(r.log), rec + sizeof(struct log_record));
	}
	close(log[0]);
	return r;
}

static void
assert_child(int (*fn)(void))
{
	struct result r = in_child(fn);

	if (!WIFEXITED(r.status) || WEXITSTATUS(r.status) != 0)
		fail_msg("child: status %#x, log: %s", (unsigned)r.status, r.log);
}

static void
enter(enum sandbox_role role)
{
	bool root = geteuid() == 0;

	sandbox_enter(role, root ? NOBODY : (uid_t)-1, root ? NOBODY : (gid_t)-1, KEEP);
}

#define WANT(x) do { if (!(x)) { log_error("line %d: %s", __LINE__, #x); return 1; } } while (0)

static int
child_identity(void)
{
	bool root = geteuid() == 0;
	uid_t r, e, s;

	enter(ROLE_WORKER);
	WANT(getresuid(&r, &e, &s) == 0 && r == e && e == s);
	WANT(!root || (r == NOBODY && getgid() == NOBODY && getegid() == NOBODY && getgroups(0, NULL) == 0));
	WANT(setuid(0) == -1 && errno == EPERM);
	WANT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	WANT(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0);
	return 0;
}

static void
test_enter_identity(void **state)
{
	(void)state;
	assert_child(child_identity);
}

static int
child_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	bool root = geteuid() == 0;

	enter(ROLE_CONTROLLER);
	WANT(syscall(SYS_capget, &head, data) == 0);
	for (int i = 0; i < 2; i++)
		WANT(data[i].effective == 0 && data[i].permitted == 0 && data[i].inheritable == 0);
	for (unsigned long cap = 0; root && cap <= CAP_LAST_CAP; cap++)
		WANT(prctl(PR_CAPBSET_READ, cap, 0, 0, 0) != 1);
	for (unsigned long cap = 0; cap <= CAP_LAST_CAP; cap++)
		WANT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) != 1);
	return 0;
}

static void
test_enter_capabilities(void **state)
{
	(void)state;
	assert_child(child_capabilities);
}

/* Root that stays root (no user to change to) loses its capabilities too. */
static int
child_root_stays(void)
{
	sandbox_enter(ROLE_WORKER, (uid_t)-1, (gid_t)-1, KEEP);
	WANT(chroot("/") == -1 && errno == EPERM);
	WANT(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) == -1);
	return 0;
}

static void
test_enter_without_user(void **state)
{
	(void)state;
	assert_child(child_root_stays);
}

static int
child_signals(void)
{
	static const int ignored[] = { SIGINT, SIGHUP, SIGPIPE };
	struct sigaction sa;
	int sig = 0;

	enter(ROLE_WORKER);
	for (size_t i = 0; i < countof(ignored); i++)
		WANT(sigaction(ignored[i], NULL, &sa) == 0 && sa.sa_handler == SIG_IGN);
	WANT(prctl(PR_GET_PDEATHSIG, &sig, 0, 0, 0) == 0 && sig == SIGKILL);
	return 0;
}

static void
test_enter_signals(void **state)
{
	(void)state;
	assert_child(child_signals);
}

static int
child_fds(void)
{
	WANT(dup2(LOG_FD, STRAY) == STRAY);
	enter(ROLE_WORKER);
	WANT(fcntl(STRAY, F_GETFD) == -1 && errno == EBADF);
	WANT(fcntl(KEEP, F_GETFD) == -1 && errno == EBADF);
	WANT(fcntl(LOG_FD, F_GETFD) != -1);
	return 0;
}

static void
test_enter_closes_stray_fds(void **state)
{
	(void)state;
	assert_child(child_fds);
}

static bool
limited(__rlimit_resource_t what, rlim_t max)
{
	struct rlimit r;

	return getrlimit(what, &r) == 0 && r.rlim_cur <= max && r.rlim_max <= max;
}

static int
child_loader_limits(void)
{
	static char block[1 << 16];
	int fd;

	enter(ROLE_LOADER);
	WANT(limited(RLIMIT_CORE, 0) && limited(RLIMIT_NPROC, 0) && limited(RLIMIT_NOFILE, 64) && limited(RLIMIT_CPU, 20));
	WANT(limited(RLIMIT_AS, 1536UL << 20));
	fd = memfd_create("out", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	WANT(fd != -1 && write(fd, block, sizeof(block)) == sizeof(block));	/* RLIMIT_FSIZE counts here */
	WANT(ftruncate(fd, (off_t)256 << 20) == 0);
	WANT(ftruncate(fd, (off_t)1 << 40) == -1 && errno == EFBIG);		/* and be an error, not SIGXFSZ */
	return 0;
}

static void
test_enter_loader_limits(void **state)
{
	(void)state;
	assert_child(child_loader_limits);
}

static int
child_worker_limits(void)
{
	struct rlimit before, r;

	WANT(getrlimit(RLIMIT_NOFILE, &before) == 0);
	before.rlim_cur = 256;
	WANT(setrlimit(RLIMIT_NOFILE, &before) == 0);
	enter(ROLE_WORKER);
	WANT(limited(RLIMIT_CORE, 0) && limited(RLIMIT_NPROC, 0));
	WANT(getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur == before.rlim_max);
	return 0;
}

static void
test_enter_worker_limits(void **state)
{
	(void)state;
	assert_child(child_worker_limits);
}

static int
child_debug_cores(void)
{
	struct rlimit before, r;

	WANT(getrlimit(RLIMIT_CORE, &before) == 0 && setenv("SLUICE_DEBUG_CORES", "1", 1) == 0);
	enter(ROLE_WORKER);
	WANT(getrlimit(RLIMIT_CORE, &r) == 0 && r.rlim_cur == before.rlim_max);
	WANT(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1);
	return 0;
}

static void
test_enter_debug_cores(void **state)
{
	(void)state;
	assert_child(child_debug_cores);
}

static long
landlock_abi(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

/* Landlock alone, no filter yet: no path for anyone; TCP for the worker only. */
static int
child_landlock(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd;

	enter(ROLE_CONTROLLER);
	WANT(open("/etc/passwd", O_RDONLY) == -1 && errno == EACCES);
	WANT(open("/", O_RDONLY | O_DIRECTORY) == -1 && errno == EACCES);
	if (landlock_abi() >= 4) {
		fd = socket(AF_INET, SOCK_STREAM, 0);
		WANT(fd != -1 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == -1 && errno == EACCES);
	}
	return 0;
}

static int
child_landlock_worker(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd;

	enter(ROLE_WORKER);
	WANT(open("/etc/passwd", O_RDONLY) == -1 && errno == EACCES);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	WANT(fd != -1 && (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 || errno == ECONNREFUSED));
	return 0;
}

static void
test_enter_landlock(void **state)
{
	(void)state;
	if (landlock_abi() < 1)
		skip();
	assert_child(child_landlock);
	assert_child(child_landlock_worker);
}

/* ---- filters */

static int
child_refused_call(void)
{
	enter(ROLE_WORKER);
	sandbox_filter(ROLE_WORKER, 1);
	sandbox_filter(ROLE_WORKER, 2);
	(void)!syscall(SYS_chroot, "/");
	return 1;
}

static void
test_filter_reports_refused_call(void **state)
{
	struct result r = in_child(child_refused_call);

	(void)state;
	assert_true(WIFEXITED(r.status) && WEXITSTATUS(r.status) == 159);
	assert_string_equal(r.log, "sandbox: worker ended in stage 2: system call 161 chroot is not allowed");
}

/* Without a log channel the report is a line on standard error; standard error is the log socket here, to see it. */
static int
child_refused_stderr(void)
{
	WANT(dup2(LOG_FD, STDERR_FILENO) == STDERR_FILENO);
	log_init(-1);
	log_set_level(LL_WARNING);
	enter(ROLE_LOADER);
	sandbox_filter(ROLE_LOADER, 1);
	(void)!syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
	return 1;
}

static void
test_filter_reports_on_stderr(void **state)
{
	struct result r = in_child(child_refused_stderr);

	(void)state;
	assert_true(WIFEXITED(r.status) && WEXITSTATUS(r.status) == 159);
	assert_string_equal(r.log + strlen(r.log) - strlen(" is not allowed\n"), " is not allowed\n");
}

static int
child_no_profile(void)
{
	sandbox_enter(ROLE_SUPERVISOR, (uid_t)-1, (gid_t)-1, KEEP);
	return 0;
}

static void
test_enter_no_profile_is_fatal(void **state)
{
	struct result r = in_child(child_no_profile);

	(void)state;
	assert_false(WIFEXITED(r.status) && WEXITSTATUS(r.status) == 0);
}

int
main(void)
{
	const struct CMUnitTest tables[] = {
		cmocka_unit_test(test_sandbox_calls_within_cap),
		cmocka_unit_test(test_rules_stage2_is_part_of_stage1),
		cmocka_unit_test(test_rules_never_admit),
		cmocka_unit_test(test_rules_network_by_role),
		cmocka_unit_test(test_rules_helper_opens_directories_only),
		cmocka_unit_test(test_role_name),
	};
	int failed = cmocka_run_group_tests(tables, NULL, NULL);

#ifdef SLUICE_NO_SANDBOX
	const struct CMUnitTest children[] = {
		cmocka_unit_test(test_enter_signals),
	};
	(void)test_enter_identity, (void)test_enter_capabilities, (void)test_enter_without_user;
	(void)test_enter_closes_stray_fds;
	(void)test_enter_loader_limits, (void)test_enter_worker_limits, (void)test_enter_debug_cores, (void)test_enter_landlock;
	(void)test_filter_reports_refused_call, (void)test_filter_reports_on_stderr, (void)test_enter_no_profile_is_fatal;
#else
	const struct CMUnitTest children[] = {
		cmocka_unit_test(test_enter_identity),
		cmocka_unit_test(test_enter_capabilities),
		cmocka_unit_test(test_enter_without_user),
		cmocka_unit_test(test_enter_signals),
		cmocka_unit_test(test_enter_closes_stray_fds),
		cmocka_unit_test(test_enter_loader_limits),
		cmocka_unit_test(test_enter_worker_limits),
		cmocka_unit_test(test_enter_debug_cores),
		cmocka_unit_test(test_enter_landlock),
		cmocka_unit_test(test_filter_reports_refused_call),
		cmocka_unit_test(test_filter_reports_on_stderr),
		cmocka_unit_test(test_enter_no_profile_is_fatal),
	};
#endif
	return failed + cmocka_run_group_tests(children, NULL, NULL);
}
