/* SPDX-License-Identifier: MIT */
/* The seccomp profiles of loader, worker, controller and nethelper, side by side; sandbox.c turns a column and a stage into a
 * filter.
 *
 * Stage 1 holds while the configuration is read, stage 2 from READY on. Filters stack and the stricter answer wins, so stage 2
 * can only take away: whatever it admits stage 1 must admit too (test_sandbox.c checks that). Hence the one weakness of stage
 * 1: a worker may already create TCP and UDP sockets and connect() in it, although it has no use for them before READY. The
 * others can never do either. Exec and fork are impossible for everyone in both stages, and nobody may listen(): only the
 * supervisor does. Opening by path is impossible for all but the nethelper, which may open directories and read links (its
 * work is /proc/PID/fd): of no file can it read a byte, whatever capability it holds.
 *
 * Conditions look at the low 32 bits of int arguments, as the kernel does: what a caller leaves in the upper half neither kills
 * nor helps. A pointer is not followed: newfstatat() with AT_EMPTY_PATH could still name a path and learn its metadata, never
 * its content. */
#include "common/sandbox_profiles.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "common/strutil.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

#define INT_MASK 0xffffffffULL
#define TYPE_MASK (INT_MASK & ~(uint64_t)(SOCK_NONBLOCK | SOCK_CLOEXEC))
#define THREAD_BITS ((uint64_t)(CLONE_VM | CLONE_THREAD | CLONE_NEWNS | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | \
    CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_PTRACE | CLONE_UNTRACED))
#define WITH(n, m, v) { .op = COND_BITS, .arg = (n), .mask = (m), .value = (v) }
#define IS(n, v) WITH(n, INT_MASK, (uint64_t)(v))
#define CLEAR(n, bits) WITH(n, (uint64_t)(bits), 0)
#define SET(n, bits) WITH(n, (uint64_t)(bits), (uint64_t)(bits))
/* size: a power of two that divides first */
#define RANGE(n, first, size) WITH(n, INT_MASK & ~((uint64_t)(size) - 1), (uint64_t)(first))
#define NULL_AT(n) WITH(n, UINT64_MAX, 0)
#define NOT(n, v) { .op = COND_NOT, .arg = (n), .value = (v) }
#define OWN_PID(n) { .op = COND_SELF, .arg = (n) }

#define ALLOW(name, l, w, c, n, ...) { .call = SCMP_SYS(name), .stages = { l, w, c, n }, .conds = { __VA_ARGS__ } }
#define REFUSE(name, err, l, w, c, n, ...) \
	{ .call = SCMP_SYS(name), .deny = (err), .stages = { l, w, c, n }, .conds = { __VA_ARGS__ } }
#define NO 0
#define S1 STAGE_1
#define S2 STAGE_2
#define ON (STAGE_1 | STAGE_2)

const struct sandbox_rule sandbox_rules[] = {
	/*    call		loader	worker	ctl	helper	when */
	/* Memory: nothing is ever executable. */
	ALLOW(brk,		ON,	ON,	ON,	ON),
	ALLOW(mmap,		ON,	ON,	ON,	ON,	CLEAR(2, PROT_EXEC)),
	ALLOW(mprotect,		ON,	ON,	ON,	ON,	CLEAR(2, PROT_EXEC)),
	ALLOW(munmap,		ON,	ON,	ON,	ON),
	ALLOW(mremap,		ON,	ON,	ON,	ON),
	ALLOW(madvise,		ON,	ON,	ON,	ON),
	ALLOW(memfd_create,	ON,	ON,	ON,	NO),
	ALLOW(ftruncate,	ON,	ON,	ON,	NO),

	/* Descriptors that are open already. */
	ALLOW(read,		ON,	ON,	ON,	ON),
	ALLOW(write,		ON,	ON,	ON,	ON),
	ALLOW(readv,		NO,	ON,	ON,	NO),
	ALLOW(writev,		NO,	ON,	ON,	NO),
	ALLOW(pread64,		ON,	ON,	ON,	NO),
	ALLOW(pwrite64,		ON,	NO,	NO,	NO),
	ALLOW(lseek,		ON,	ON,	ON,	ON),
	ALLOW(close,		ON,	ON,	ON,	ON),
	ALLOW(fstat,		ON,	ON,	ON,	ON),
	ALLOW(newfstatat,	ON,	ON,	ON,	ON,	SET(3, AT_EMPTY_PATH)),	/* fstat() of glibc */
	ALLOW(pipe2,		NO,	ON,	NO,	NO),
	ALLOW(splice,		NO,	ON,	NO,	NO),
	ALLOW(tee,		NO,	ON,	NO,	NO),
	ALLOW(fcntl,		ON,	ON,	ON,	ON,	IS(1, F_GETFD)),
	ALLOW(fcntl,		ON,	ON,	ON,	ON,	IS(1, F_SETFD)),
	ALLOW(fcntl,		ON,	ON,	ON,	ON,	IS(1, F_GETFL)),
	ALLOW(fcntl,		ON,	ON,	ON,	ON,	IS(1, F_SETFL)),
	ALLOW(fcntl,		ON,	ON,	ON,	NO,	IS(1, F_DUPFD_CLOEXEC)),
	ALLOW(fcntl,		ON,	ON,	ON,	NO,	IS(1, F_ADD_SEALS)),
	ALLOW(fcntl,		ON,	ON,	ON,	NO,	IS(1, F_GET_SEALS)),
	ALLOW(fcntl,		NO,	ON,	NO,	NO,	IS(1, F_SETPIPE_SZ)),
	ALLOW(fcntl,		NO,	ON,	NO,	NO,	IS(1, F_GETPIPE_SZ)),
	ALLOW(ioctl,		NO,	ON,	ON,	NO,	IS(1, FIONREAD)),
	REFUSE(ioctl, ENOTTY,	NO,	ON,	ON,	NO,	NOT(1, FIONREAD)),
	REFUSE(ioctl, ENOTTY,	ON,	NO,	NO,	ON),		/* isatty() of stdio */

	/* The nethelper's walk over /proc: directories, never a file; O_TMPFILE has O_DIRECTORY's bit in it. */
	ALLOW(openat,		NO,	NO,	NO,	ON,	WITH(2, O_DIRECTORY | O_ACCMODE | O_CREAT | O_TRUNC | O_TMPFILE, O_DIRECTORY)),
	REFUSE(openat, EACCES,	NO,	NO,	NO,	ON,	CLEAR(2, O_DIRECTORY)),
	REFUSE(openat, EACCES,	NO,	NO,	NO,	ON,	SET(2, O_TMPFILE)),
	ALLOW(readlinkat,	NO,	NO,	NO,	ON),
	ALLOW(getdents64,	NO,	NO,	NO,	ON),

	/* Messages. TCP Fast Open connects by sending, past Landlock and past the absence of connect(): refused everywhere. */
	ALLOW(recvmsg,		ON,	ON,	ON,	ON),
	ALLOW(recvfrom,		NO,	ON,	ON,	NO),
	ALLOW(recvmmsg,		NO,	ON,	NO,	NO),
	ALLOW(sendmsg,		ON,	ON,	ON,	ON,	CLEAR(2, MSG_FASTOPEN)),
	REFUSE(sendmsg, EPERM,	ON,	ON,	ON,	ON,	SET(2, MSG_FASTOPEN)),
	ALLOW(sendto,		NO,	ON,	NO,	NO,	CLEAR(3, MSG_FASTOPEN)),
	ALLOW(sendto,		NO,	NO,	ON,	NO,	CLEAR(3, MSG_FASTOPEN), NULL_AT(4)),
	REFUSE(sendto, EPERM,	ON,	ON,	ON,	ON,	SET(3, MSG_FASTOPEN)),
	ALLOW(sendmmsg,		NO,	ON,	NO,	NO,	CLEAR(3, MSG_FASTOPEN)),
	REFUSE(sendmmsg, EPERM,	ON,	ON,	ON,	ON,	SET(3, MSG_FASTOPEN)),

	/* Sockets. No raw, packet, netlink or unix ones; MPTCP (which Landlock's port rules do not see) only where connect() is
	 * the job. */
	ALLOW(socket,		NO,	ON,	NO,	NO,	IS(0, AF_INET), WITH(1, TYPE_MASK, SOCK_STREAM), IS(2, 0)),
	ALLOW(socket,		NO,	ON,	NO,	NO,	IS(0, AF_INET), WITH(1, TYPE_MASK, SOCK_STREAM), IS(2, IPPROTO_TCP)),
	ALLOW(socket,		NO,	ON,	NO,	NO,	IS(0, AF_INET), WITH(1, TYPE_MASK, SOCK_STREAM), IS(2, IPPROTO_MPTCP)),
	ALLOW(socket,		NO,	ON,	NO,	NO,	IS(0, AF_INET), WITH(1, TYPE_MASK, SOCK_DGRAM), IS(2, 0)),
	ALLOW(socket,		NO,	ON,	NO,	NO,	IS(0, AF_INET), WITH(1, TYPE_MASK, SOCK_DGRAM), IS(2, IPPROTO_UDP)),
	ALLOW(socket,		NO,	ON,	NO,	NO,	IS(0, AF_INET6), WITH(1, TYPE_MASK, SOCK_STREAM), IS(2, 0)),
	ALLOW(socket,		NO,	ON,	NO,	NO,	IS(0, AF_INET6), WITH(1, TYPE_MASK, SOCK_STREAM), IS(2, IPPROTO_TCP)),
	ALLOW(socket,		NO,	ON,	NO,	NO,	IS(0, AF_INET6), WITH(1, TYPE_MASK, SOCK_STREAM), IS(2, IPPROTO_MPTCP)),
	ALLOW(socket,		NO,	ON,	NO,	NO,	IS(0, AF_INET6), WITH(1, TYPE_MASK, SOCK_DGRAM), IS(2, 0)),
	ALLOW(socket,		NO,	ON,	NO,	NO,	IS(0, AF_INET6), WITH(1, TYPE_MASK, SOCK_DGRAM), IS(2, IPPROTO_UDP)),
	ALLOW(connect,		NO,	ON,	NO,	NO),
	ALLOW(bind,		NO,	ON,	NO,	NO),
	/* Not SOCK_DGRAM: such a socket may send to any unix address. */
	ALLOW(socketpair,	NO,	NO,	ON,	NO,	IS(0, AF_UNIX), WITH(1, TYPE_MASK, SOCK_STREAM)),
	ALLOW(socketpair,	NO,	NO,	ON,	NO,	IS(0, AF_UNIX), WITH(1, TYPE_MASK, SOCK_SEQPACKET)),
	ALLOW(accept4,		NO,	ON,	ON,	NO),
	ALLOW(shutdown,		NO,	ON,	ON,	NO),
	ALLOW(getsockname,	NO,	ON,	ON,	NO),
	ALLOW(getpeername,	NO,	ON,	ON,	NO),
	ALLOW(getsockopt,	NO,	ON,	ON,	NO),
	/* SO_DEBUG .. SO_BINDTODEVICE but for what is refused below; then the few later ones that sluice sets. */
	ALLOW(setsockopt,	NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), RANGE(2, 0, 16)),
	ALLOW(setsockopt,	NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), RANGE(2, 16, 8)),
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, SOL_SOCKET), IS(2, SO_BINDTODEVICE)),
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, SOL_SOCKET), IS(2, SO_SNDBUFFORCE)),
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, SOL_SOCKET), IS(2, SO_RCVBUFFORCE)),
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, SOL_SOCKET), IS(2, SO_RXQ_OVFL)),
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, SOL_SOCKET), IS(2, SO_MAX_PACING_RATE)),
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, SOL_SOCKET), IS(2, SO_BINDTOIFINDEX)),
	ALLOW(setsockopt,	NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), IS(2, SO_PASSPIDFD)),
	ALLOW(setsockopt,	NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), IS(2, SO_PASSRIGHTS)),
	REFUSE(setsockopt, EPERM, NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), IS(2, SO_ATTACH_FILTER)),
	REFUSE(setsockopt, EPERM, NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), IS(2, SO_DETACH_FILTER)),
	REFUSE(setsockopt, EPERM, NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), IS(2, SO_MARK)),
	REFUSE(setsockopt, EPERM, NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), IS(2, SO_LOCK_FILTER)),
	REFUSE(setsockopt, EPERM, NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), IS(2, SO_ATTACH_BPF)),
	REFUSE(setsockopt, EPERM, NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), IS(2, SO_ATTACH_REUSEPORT_CBPF)),
	REFUSE(setsockopt, EPERM, NO,	ON,	ON,	NO,	IS(1, SOL_SOCKET), IS(2, SO_ATTACH_REUSEPORT_EBPF)),
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, IPPROTO_IP)),
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, IPPROTO_IPV6)),
	ALLOW(setsockopt,	NO,	ON,	ON,	NO,	IS(1, IPPROTO_TCP), RANGE(2, 0, 16)),
	ALLOW(setsockopt,	NO,	ON,	ON,	NO,	IS(1, IPPROTO_TCP), RANGE(2, 16, 8)),
	ALLOW(setsockopt,	NO,	ON,	ON,	NO,	IS(1, IPPROTO_TCP), RANGE(2, 24, 4)),
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, IPPROTO_TCP), IS(2, TCP_FASTOPEN_CONNECT)),
	REFUSE(setsockopt, EPERM, NO,	ON,	ON,	NO,	IS(1, IPPROTO_TCP), IS(2, TCP_ULP)),	/* kernel TLS */
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, IPPROTO_UDP), IS(2, UDP_SEGMENT)),
	ALLOW(setsockopt,	NO,	ON,	NO,	NO,	IS(1, IPPROTO_UDP), IS(2, UDP_GRO)),

	/* Event loop and time. */
	ALLOW(poll,		ON,	ON,	ON,	ON),
	ALLOW(ppoll,		ON,	ON,	ON,	ON),
	ALLOW(epoll_create1,	NO,	ON,	ON,	ON),		/* libev makes its set anew at times */
	ALLOW(epoll_ctl,	NO,	ON,	ON,	ON),
	ALLOW(epoll_wait,	NO,	ON,	ON,	ON),
	ALLOW(epoll_pwait,	NO,	ON,	ON,	ON),
	ALLOW(eventfd2,		NO,	ON,	ON,	ON),
	ALLOW(signalfd4,	NO,	S1,	S1,	S1),
	ALLOW(clock_gettime,	ON,	ON,	ON,	ON),		/* both: where the vDSO cannot read the clock */
	ALLOW(gettimeofday,	ON,	ON,	ON,	ON),
	ALLOW(clock_nanosleep,	NO,	NO,	ON,	NO),
	ALLOW(getrandom,	ON,	ON,	ON,	ON),
	ALLOW(sysinfo,		ON,	ON,	ON,	ON),		/* qsort() of glibc, for arrays over 1 KiB */

	/* The process itself. */
	ALLOW(getpid,		ON,	ON,	ON,	ON),
	ALLOW(gettid,		ON,	ON,	ON,	ON),
	ALLOW(getuid,		S1,	S1,	S1,	S1),		/* mg_start() */
	ALLOW(uname,		NO,	NO,	S1,	NO),		/* mg_init_library() */
	ALLOW(prlimit64,	S1,	S1,	S1,	S1,	NULL_AT(2)),
	ALLOW(exit,		ON,	ON,	ON,	ON),
	ALLOW(exit_group,	ON,	ON,	ON,	ON),
	ALLOW(futex,		ON,	ON,	ON,	ON),
	ALLOW(restart_syscall,	ON,	ON,	ON,	ON),
	ALLOW(rt_sigreturn,	ON,	ON,	ON,	ON),
	ALLOW(rt_sigprocmask,	ON,	ON,	ON,	ON),
	ALLOW(rt_sigaction,	ON,	ON,	ON,	ON),		/* abort() and the crash handler, with tgkill() */
	ALLOW(tgkill,		ON,	ON,	ON,	ON,	OWN_PID(0)),
	ALLOW(sigaltstack,	S1,	S1,	S1,	S1),
	ALLOW(seccomp,		S1,	S1,	S1,	S1),		/* the way into stage 2 */

	/* Threads: civetweb's. They are created before stage 2 but may still be starting when it comes. clone3() hides its
	 * flags behind a pointer, so glibc is made to fall back to clone(). */
	ALLOW(clone,		NO,	NO,	S1,	NO,	WITH(0, THREAD_BITS, CLONE_VM | CLONE_THREAD)),
	REFUSE(clone, EPERM,	NO,	NO,	S1,	NO,	CLEAR(0, CLONE_THREAD)),
	REFUSE(clone, EPERM,	NO,	NO,	S2,	NO),
	REFUSE(clone3, ENOSYS,	NO,	NO,	ON,	NO),
	ALLOW(set_robust_list,	NO,	NO,	ON,	NO),
	ALLOW(rseq,		NO,	NO,	ON,	NO),
	ALLOW(sched_yield,	NO,	NO,	ON,	NO),
	ALLOW(sched_getaffinity, NO,	NO,	ON,	NO),		/* malloc, when it makes an arena */
	REFUSE(sched_getaffinity, ENOSYS, ON,	ON,	NO,	ON),
	ALLOW(prctl,		NO,	NO,	ON,	NO,	IS(0, PR_SET_NAME)),

	/* What libraries merely probe. */
	REFUSE(open, EACCES,	ON,	ON,	ON,	ON),
	REFUSE(openat, EACCES,	ON,	ON,	ON,	NO),
	REFUSE(access, EACCES,	ON,	ON,	ON,	ON),
	REFUSE(faccessat, EACCES, ON,	ON,	ON,	ON),
	REFUSE(faccessat2, EACCES, ON,	ON,	ON,	ON),
	REFUSE(readlink, EACCES, ON,	ON,	ON,	ON),
	REFUSE(readlinkat, EACCES, ON,	ON,	ON,	NO),
	REFUSE(stat, EACCES,	ON,	ON,	ON,	ON),
	REFUSE(lstat, EACCES,	ON,	ON,	ON,	ON),
	REFUSE(statx, EACCES,	ON,	ON,	ON,	ON),
	REFUSE(newfstatat, EACCES, ON,	ON,	ON,	ON,	CLEAR(3, AT_EMPTY_PATH)),
	REFUSE(getcwd, EACCES,	ON,	ON,	ON,	ON),
	REFUSE(timerfd_create, ENOSYS, NO,	ON,	ON,	ON),	/* libev does without */
};

const size_t sandbox_nrules = countof(sandbox_rules);

int
sandbox_profile_of(enum sandbox_role role)
{
	switch (role) {
	case ROLE_LOADER:
		return 0;
	case ROLE_WORKER:
		return 1;
	case ROLE_CONTROLLER:
		return 2;
	case ROLE_NETHELPER:
		return 3;
	default:
		return -1;
	}
}

int
sandbox_calls(enum sandbox_role role)
{
	int p = sandbox_profile_of(role), n = 0;

	if (p == -1)
		return 0;
	for (size_t i = 0; i < sandbox_nrules; i++) {
		const struct sandbox_rule *r = &sandbox_rules[i];
		bool seen = false;

		if (r->call < 0 || r->deny != 0 || !(r->stages[p] & STAGE_2))
			continue;
		for (size_t k = 0; k < i && !seen; k++) {
			const struct sandbox_rule *o = &sandbox_rules[k];

			seen = o->call == r->call && o->deny == 0 && (o->stages[p] & STAGE_2);
		}
		n += !seen;
	}
	return n;
}
