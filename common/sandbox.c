/* SPDX-License-Identifier: MIT */
/* How a child gives up what it does not need: user, capabilities, paths, limits (sandbox_enter), then system calls
 * (sandbox_filter). Called by the main() of each child only, in the order that sandbox.h states, before a
 * second thread exists (but for stage 2 of the controller, which reaches its threads by TSYNC). What must hold and cannot be
 * had ends the process; Landlock and MDWE are the second layer and may be missing. Owns the SIGSYS handler and the texts it
 * needs. */
#include "common/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/log_sink.h"
#include "common/sandbox_profiles.h"
#include "common/strutil.h"

/* Newer than the headers of the minimum kernel (6.1). */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65			/* 6.3 */
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif
#define LL_FS_ABI1 ((1ULL << 13) - 1)	/* execute .. make_sym */
#define LL_FS_ABI2 (1ULL << 13)		/* refer */
#define LL_FS_ABI3 (1ULL << 14)		/* truncate */
#define LL_FS_ABI5 (1ULL << 15)		/* ioctl on devices */
#define LL_NET_ABI4 ((1ULL << 0) | (1ULL << 1))	/* bind and connect of TCP */
#define LL_SCOPE_ABI6 ((1ULL << 0) | (1ULL << 1))	/* abstract unix sockets, signals */
struct ll_ruleset {			/* struct landlock_ruleset_attr of ABI 6; older kernels take it while the tail is zero */
	uint64_t fs, net, scoped;
};

enum {
	EXIT_SIGSYS = 159,		/* 128 + SIGSYS, as a shell would say it */
	TRAP_NAMES = 461,		/* numbers 0..460 have a name in a report */
	TRAP_NAME_MAX = 32,
	TRAP_TEXT_MAX = 200,
	LOADER_CPU_SECONDS = 20,
	LOADER_FDS = 64
};
#define LOADER_MEMORY (1536ULL << 20)
#define LOADER_FILE (512ULL << 20)	/* writes to a memfd count as file size (measured: 0 would forbid the output) */

bool sandbox_test_no_landlock;

const char *
sandbox_role_name(enum sandbox_role role)
{
	static const char *const names[ROLE_MAX_] = { "supervisor", "loader", "worker", "controller", "nethelper" };

	return (unsigned)role < ROLE_MAX_ ? names[role] : "unknown";
}

/* The parent decides when a child ends (end of file on fd 3), not a key at the terminal. */
static void
ignore_signals(void)
{
	static const int ignored[] = { SIGINT, SIGHUP, SIGPIPE };
	struct sigaction sa = { .sa_handler = SIG_IGN };

	for (size_t i = 0; i < countof(ignored); i++) {
		if (sigaction(ignored[i], &sa, NULL) == -1)
			fatal("sandbox: sigaction: %s", strerror(errno));
	}
}

#ifdef SLUICE_NO_SANDBOX

static void
warn_once(void)
{
	static bool said;

	if (!said)
		log_warn("sandbox is off in this build");
	said = true;
}

void
sandbox_enter(enum sandbox_role role, uid_t uid, gid_t gid, int keep_fds)
{
	(void)role, (void)uid, (void)gid, (void)keep_fds;
	warn_once();
	ignore_signals();
	tzset();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
		fatal("sandbox: PDEATHSIG: %s", strerror(errno));
}

void
sandbox_filter(enum sandbox_role role, int stage)
{
	(void)role, (void)stage;
	warn_once();
}

#else

static void
must_prctl(int op, unsigned long v, const char *what)
{
	if (prctl(op, v, 0UL, 0UL, 0UL) == -1)
		fatal("sandbox: %s: %s", what, strerror(errno));
}

/* While CAP_SETPCAP is still there. An ordinary user lacks it, and then no_new_privs keeps the set from mattering. */
static void
drop_bounding_set(void)
{
	for (unsigned long cap = 0; cap < 64; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0UL, 0UL, 0UL) == 0)
			continue;
		if (errno == EINVAL || errno == EPERM)
			return;
		fatal("sandbox: bounding set: %s", strerror(errno));
	}
}

/* What a role keeps of what there is: the nethelper looks at other users' processes, by their directories in /proc (the first)
 * and the links in them (the second). What else these two would allow its filter does not: it can open no file and trace
 * nobody. */
static uint32_t
kept_capabilities(enum sandbox_role role)
{
	return role == ROLE_NETHELPER ? 1u << CAP_DAC_READ_SEARCH | 1u << CAP_SYS_PTRACE : 0;
}

static void
drop_capabilities(enum sandbox_role role)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3], keep[_LINUX_CAPABILITY_U32S_3];

	memset(have, 0, sizeof(have));
	memset(keep, 0, sizeof(keep));
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0UL, 0UL, 0UL) == -1)
		fatal("sandbox: ambient capabilities: %s", strerror(errno));
	if (kept_capabilities(role) != 0 && syscall(SYS_capget, &head, have) == 0)
		keep[0].permitted = keep[0].effective = have[0].permitted & kept_capabilities(role);
	if (syscall(SYS_capset, &head, keep) == -1)
		fatal("sandbox: capset: %s", strerror(errno));
}

static void
change_user(uid_t uid, gid_t gid)
{
	if ((uid != (uid_t)-1 || gid != (gid_t)-1) && setgroups(0, NULL) == -1)
		fatal("sandbox: setgroups: %s", strerror(errno));
	if (gid != (gid_t)-1 && setresgid(gid, gid, gid) == -1)
		fatal("sandbox: setresgid %u: %s", (unsigned)gid, strerror(errno));
	if (uid != (uid_t)-1 && setresuid(uid, uid, uid) == -1)
		fatal("sandbox: setresuid %u: %s", (unsigned)uid, strerror(errno));
}

/* No rule is added, so every right that is handled is gone: no path at all, and for the roles that never dial no TCP. The
 * worker's TCP stays unhandled, because it connects anywhere. Not for the nethelper: whoever is in a Landlock domain may look at
 * no process outside it, whatever its rules and capabilities say (measured). Returns the ABI, 0 when the kernel has no
 * Landlock. */
static long
enter_landlock(enum sandbox_role role)
{
	struct ll_ruleset rs = { .fs = LL_FS_ABI1 };
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int fd, r;

	if (abi < 1 || role == ROLE_NETHELPER)
		return 0;
	rs.fs |= (abi >= 2 ? LL_FS_ABI2 : 0) | (abi >= 3 ? LL_FS_ABI3 : 0) | (abi >= 5 ? LL_FS_ABI5 : 0);
	rs.net = abi >= 4 && role != ROLE_WORKER ? LL_NET_ABI4 : 0;
	rs.scoped = abi >= 6 ? LL_SCOPE_ABI6 : 0;
	fd = (int)syscall(SYS_landlock_create_ruleset, &rs, sizeof(rs), 0);
	if (fd == -1)
		return 0;
	r = (int)syscall(SYS_landlock_restrict_self, fd, 0);
	close(fd);
	return r == -1 ? 0 : abi;
}

/* Lowers a limit to max for good; a lower one that is there already stays. */
static void
limit(__rlimit_resource_t what, rlim_t max, const char *name)
{
	struct rlimit r;

	if (getrlimit(what, &r) == -1)
		fatal("sandbox: getrlimit %s: %s", name, strerror(errno));
	if (r.rlim_max > max)
		r.rlim_max = max;
	r.rlim_cur = r.rlim_max;
	if (setrlimit(what, &r) == -1)
		fatal("sandbox: setrlimit %s: %s", name, strerror(errno));
}

/* RLIMIT_NPROC does not bind root; seccomp refuses fork in any case. */
static void
set_limits(enum sandbox_role role, bool cores)
{
	limit(RLIMIT_CORE, cores ? RLIM_INFINITY : 0, "core");
	limit(RLIMIT_NOFILE, role == ROLE_LOADER ? LOADER_FDS : RLIM_INFINITY, "nofile");	/* else: up to the hard limit */
	if (role != ROLE_CONTROLLER)
		limit(RLIMIT_NPROC, 0, "nproc");
	if (role == ROLE_LOADER) {
		struct sigaction sa = { .sa_handler = SIG_IGN };

		limit(RLIMIT_CPU, LOADER_CPU_SECONDS, "cpu");
		limit(RLIMIT_AS, LOADER_MEMORY, "as");
		limit(RLIMIT_FSIZE, LOADER_FILE, "fsize");
		if (sigaction(SIGXFSZ, &sa, NULL) == -1)	/* an error of the job (EFBIG), not a death */
			fatal("sandbox: sigaction: %s", strerror(errno));
	}
}

void
sandbox_enter(enum sandbox_role role, uid_t uid, gid_t gid, int keep_fds)
{
	const char *env = secure_getenv("SLUICE_DEBUG_CORES");
	bool cores = env != NULL && str_equal(env, "1");
	long abi = 0;
	bool mdwe;

	if (sandbox_profile_of(role) == -1)
		fatal("sandbox: the %s has no profile", sandbox_role_name(role));
	ignore_signals();
	drop_bounding_set();
	if (kept_capabilities(role) != 0)
		must_prctl(PR_SET_KEEPCAPS, 1, "keepcaps");	/* over the change of user; drop_capabilities() takes the others */
	change_user(uid, gid);
	drop_capabilities(role);
	must_prctl(PR_SET_NO_NEW_PRIVS, 1, "no_new_privs");
	must_prctl(PR_SET_DUMPABLE, cores, "dumpable");		/* a process that is not dumpable leaves no core */
	must_prctl(PR_SET_PDEATHSIG, SIGKILL, "PDEATHSIG");	/* the change of user would have cleared it */
	tzset();						/* reads a file: later localtime_r() would know UTC only */
	if (close_range((unsigned)keep_fds, ~0U, 0) == -1)
		fatal("sandbox: close_range: %s", strerror(errno));
	if (!sandbox_test_no_landlock)
		abi = enter_landlock(role);
	mdwe = prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0UL, 0UL, 0UL) == 0;
	set_limits(role, cores);
	log_debug("sandbox: %s, uid %u, second layer: Landlock %s (ABI %ld: TCP rules %s, scopes %s), MDWE %s",
	    sandbox_role_name(role), (unsigned)getuid(), abi > 0 ? "on" : role == ROLE_NETHELPER ? "not wanted" : "missing", abi,
	    role == ROLE_WORKER ? "not wanted" : abi >= 4 ? "on" : "missing", abi >= 6 ? "on" : "missing",
	    mdwe ? "on" : "missing");
}

/* ---- the report of a call that the filter caught */

static char trap_names[TRAP_NAMES][TRAP_NAME_MAX];	/* resolved ahead: nothing may be allocated in a handler */
static const char *trap_role = "?";
static volatile sig_atomic_t trap_stage;

static size_t
put_text(char *out, size_t at, const char *s)
{
	while (*s != '\0' && at < TRAP_TEXT_MAX)
		out[at++] = *s++;
	return at;
}

static size_t
put_number(char *out, size_t at, unsigned n)
{
	char digits[12];
	size_t i = sizeof(digits) - 1;

	digits[i] = '\0';
	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n != 0);
	return put_text(out, at, digits + i);
}

/* Runs at the call that was refused, on whichever thread made it: async-signal-safe calls only, which every profile admits. */
static void
on_sigsys(int sig, siginfo_t *info, void *context)
{
	char text[TRAP_TEXT_MAX + 1];
	unsigned nr = (unsigned)info->si_syscall;
	bool named = nr < TRAP_NAMES && trap_names[nr][0] != '\0';
	size_t n = 0;

	(void)sig, (void)context;
	n = put_text(text, n, "sandbox: ");
	n = put_text(text, n, trap_role);
	n = put_text(text, n, " ended in stage ");
	n = put_number(text, n, (unsigned)trap_stage);
	n = put_text(text, n, ": system call ");
	n = put_number(text, n, nr);
	n = put_text(text, n, named ? " " : "");
	n = put_text(text, n, named ? trap_names[nr] : "");
	n = put_text(text, n, " is not allowed");
	if (log_sink_fd() == -1 || !log_sink_send(LL_ERROR, text, n)) {
		text[n++] = '\n';
		(void)!write(STDERR_FILENO, text, n);
	}
	_exit(EXIT_SIGSYS);
}

/* Once, before the first filter. */
static void
prepare_trap(enum sandbox_role role)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };

	trap_role = sandbox_role_name(role);
	for (int i = 0; i < TRAP_NAMES; i++) {
		char *name = seccomp_syscall_resolve_num_arch(seccomp_arch_native(), i);

		if (name != NULL)
			str_copy(trap_names[i], TRAP_NAME_MAX, name);
		free(name);
	}
	if (sigaction(SIGSYS, &sa, NULL) == -1)
		fatal("sandbox: sigaction: %s", strerror(errno));
}

/* ---- filters */

static void
add_rule(scmp_filter_ctx ctx, const struct sandbox_rule *r)
{
	struct scmp_arg_cmp cmp[SANDBOX_CONDS_MAX];
	uint32_t action;
	unsigned n = 0;
	int err;

	memset(cmp, 0, sizeof(cmp));
	for (; n < SANDBOX_CONDS_MAX && r->conds[n].op != COND_NONE; n++) {
		const struct sandbox_cond *c = &r->conds[n];
		bool self = c->op == COND_SELF;

		cmp[n].arg = c->arg;
		cmp[n].op = c->op == COND_NOT ? SCMP_CMP_NE : SCMP_CMP_MASKED_EQ;
		cmp[n].datum_a = c->op == COND_NOT ? c->value : self ? UINT32_MAX : c->mask;
		cmp[n].datum_b = self ? (scmp_datum_t)getpid() : c->value;
	}
	action = r->deny != 0 ? SCMP_ACT_ERRNO((uint32_t)r->deny) : SCMP_ACT_ALLOW;
	err = seccomp_rule_add_exact_array(ctx, action, r->call, n, cmp);
	if (err != 0)
		fatal("sandbox: rule for system call %d: %s", r->call, strerror(-err));
}

static void
set_attr(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t v)
{
	int err = seccomp_attr_set(ctx, attr, v);

	if (err != 0)
		fatal("sandbox: filter attribute %d: %s", (int)attr, strerror(-err));
}

void
sandbox_filter(enum sandbox_role role, int stage)
{
	int p = sandbox_profile_of(role), err;
	scmp_filter_ctx ctx;

	if (p == -1 || (stage != 1 && stage != 2))
		fatal("sandbox: the %s has no stage %d", sandbox_role_name(role), stage);
	if (trap_stage == 0)
		prepare_trap(role);
	ctx = seccomp_init(SCMP_ACT_TRAP);
	if (ctx == NULL)
		fatal("sandbox: seccomp_init failed");
	set_attr(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);	/* also x32 and i386 calls of a 64-bit process */
	set_attr(ctx, SCMP_FLTATR_CTL_NNP, 0);				/* set by sandbox_enter() */
	set_attr(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (role == ROLE_CONTROLLER && stage == 2)
		set_attr(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	for (size_t i = 0; i < sandbox_nrules; i++) {
		if (sandbox_rules[i].call >= 0 && (sandbox_rules[i].stages[p] & stage))
			add_rule(ctx, &sandbox_rules[i]);
	}
	trap_stage = stage;
	err = seccomp_load(ctx);
	if (err != 0)
		fatal("sandbox: loading stage %d: %s", stage, strerror(-err));
	seccomp_release(ctx);
}

#endif
