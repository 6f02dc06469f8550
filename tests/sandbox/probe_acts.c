/* SPDX-License-Identifier: MIT */
/* What no sandboxed role may do, one act each; probe.c runs one of them. Outside a sandbox, as root, each succeeds. */
#include "tests/sandbox/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/keyctl.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <net/ethernet.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/strutil.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
enum { PRIVILEGED_PORT = 81, HANDLE_ROOM = 128 };

static char proc_word[] = "outside";		/* at the same address in the parent */
static struct {
	struct file_handle head;
	unsigned char room[HANDLE_ROOM];
} handle = { .head = { .handle_bytes = HANDLE_ROOM } };

void
forbidden_prepare(void)
{
	int mount_id;

	(void)name_to_handle_at(AT_FDCWD, "/etc/passwd", &handle.head, &mount_id, 0);
}

static int
outcome(long r)
{
	return r == -1 ? FAILED : DONE;
}

static int
act_open(void)
{
	return outcome(open("/etc/hostname", O_RDONLY | O_CLOEXEC));
}

static int
act_openat_write(void)
{
	return outcome(openat(AT_FDCWD, "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

static int
act_openat2(void)
{
	uint64_t how[3] = { O_RDONLY | O_CLOEXEC, 0, 0 };

	return outcome(syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", how, sizeof(how)));
}

static int
act_environ(void)
{
	return outcome(open("/proc/self/environ", O_RDONLY | O_CLOEXEC));
}

static int
act_proc_mem(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)probe_outside);
	return outcome(open(path, O_RDONLY | O_CLOEXEC));
}

static int
act_stat(void)
{
	struct stat st;

	return outcome(stat("/etc/passwd", &st));
}

static int
act_readlink(void)
{
	char b[64];

	return outcome(readlink("/proc/self/exe", b, sizeof(b)));
}

static int
act_unlink(void)
{
	return outcome(unlink("/tmp/sluice-probe-no-such-file")) == FAILED && errno == ENOENT ? DONE : FAILED;
}

static int
act_exec(void)
{
	char *argv[] = { proc_word, NULL }, *envp[] = { NULL };

	return outcome(execve("/bin/true", argv, envp));	/* a success ends the child with 0: judged as done */
}

static int
act_exec_fd(void)
{
	char *argv[] = { proc_word, NULL }, *envp[] = { NULL };

	return outcome(syscall(SYS_execveat, FD_FILE, "", argv, envp, AT_EMPTY_PATH));
}

static int
child_of_act(long pid)
{
	if (pid == 0)
		_exit(0);
	if (pid == -1)
		return FAILED;
	(void)waitpid((pid_t)pid, NULL, 0);
	return DONE;
}

static int
act_fork(void)
{
	return child_of_act(fork());
}

static int
act_fork_call(void)
{
	return child_of_act(syscall(SYS_fork));
}

static int
act_clone3(void)
{
	struct clone_args a = { .exit_signal = SIGCHLD };

	return child_of_act(syscall(SYS_clone3, &a, sizeof(a)));
}

static int
act_ptrace(void)
{
	return outcome(ptrace(PTRACE_SEIZE, probe_outside, 0, 0));
}

static int
act_kill(void)
{
	return outcome(kill(probe_outside, 0));
}

static int
act_tgkill(void)
{
	return outcome(syscall(SYS_tgkill, probe_outside, probe_outside, 0));
}

static int
act_pidfd(void)
{
	return outcome(syscall(SYS_pidfd_open, probe_outside, 0));
}

static int
act_vm_readv(void)
{
	char got[sizeof(proc_word)];
	struct iovec to = { got, sizeof(got) }, from = { proc_word, sizeof(proc_word) };

	return outcome(process_vm_readv(probe_outside, &to, 1, &from, 1, 0));
}

static int
act_connect(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd == -1 ? FAILED : outcome(connect(fd, (struct sockaddr *)&probe_target, sizeof(probe_target)));
}

static int
act_connect_inherited(void)
{
	return outcome(connect(FD_SPARE, (struct sockaddr *)&probe_target, sizeof(probe_target)));
}

static int
act_mptcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	if (fd == -1 && (errno == EPROTONOSUPPORT || errno == ENOPROTOOPT))
		return SKIP;
	return fd == -1 ? FAILED : outcome(connect(fd, (struct sockaddr *)&probe_target, sizeof(probe_target)));
}

/* FD_SPARE is an unconnected TCP socket made outside: whoever gets hold of one still cannot dial by sending. */
static int
act_fastopen_sendto(void)
{
	return outcome(sendto(FD_SPARE, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&probe_target, sizeof(probe_target)));
}

static int
act_fastopen_sendmsg(void)
{
	struct iovec iov = { proc_word, 1 };
	struct msghdr m = { .msg_name = &probe_target, .msg_namelen = sizeof(probe_target), .msg_iov = &iov, .msg_iovlen = 1 };

	return outcome(sendmsg(FD_SPARE, &m, MSG_FASTOPEN));
}

static int
act_fastopen_sendmmsg(void)
{
	struct iovec iov = { proc_word, 1 };
	struct msghdr h = { .msg_name = &probe_target, .msg_namelen = sizeof(probe_target), .msg_iov = &iov, .msg_iovlen = 1 };
	struct mmsghdr m = { .msg_hdr = h };

	return outcome(sendmmsg(FD_SPARE, &m, 1, MSG_FASTOPEN));
}

static int
act_raw(void)
{
	return outcome(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

static int
act_ping(void)
{
	return outcome(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));	/* elsewhere a matter of ping_group_range */
}

static int
act_netlink(void)
{
	return outcome(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
}

static int
act_packet(void)
{
	return outcome(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
}

static int
act_unix_connect(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return fd == -1 ? FAILED : outcome(connect(fd, (struct sockaddr *)&probe_abstract, probe_abstract_len));
}

/* One end of a datagram pair may send to any address. */
static int
act_unix_datagram(void)
{
	struct sockaddr_un to = probe_abstract;
	int fd[2];

	to.sun_path[1] = 'd';
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, fd) == -1)
		return FAILED;
	return outcome(sendto(fd[0], "x", 1, 0, (struct sockaddr *)&to, probe_abstract_len));
}

static int
act_listen(void)
{
	return outcome(listen(FD_SPARE, 1));
}

static int
act_bind_privileged(void)
{
	struct sockaddr_in a = probe_target;

	a.sin_port = htons(PRIVILEGED_PORT);
	return outcome(bind(FD_SPARE, (struct sockaddr *)&a, sizeof(a)));
}

static int
act_attach_filter(void)
{
	struct sock_filter f = { BPF_RET | BPF_K, 0, 0, 0xffff };
	struct sock_fprog prog = { 1, &f };

	return outcome(setsockopt(FD_SPARE, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)));
}

static int
act_mark(void)
{
	int v = 7;

	return outcome(setsockopt(FD_SPARE, SOL_SOCKET, SO_MARK, &v, sizeof(v)));
}

/* The option's number with a bit above 32, which the kernel does not look at. */
static int
act_mark_wide(void)
{
	int v = 7;

	return outcome(syscall(SYS_setsockopt, FD_SPARE, SOL_SOCKET, SO_MARK | 1ULL << 32, &v, sizeof(v)));
}

static int
act_setuid(void)
{
	return outcome(setresuid(0, 0, 0));
}

static int
act_mmap_exec(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? FAILED : DONE;
}

static int
act_mprotect_exec(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? FAILED : outcome(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int
act_pkey_mprotect_exec(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? FAILED : outcome(syscall(SYS_pkey_mprotect, p, 4096, PROT_READ | PROT_EXEC, -1));
}

static int
act_personality(void)
{
	return outcome(syscall(SYS_personality, READ_IMPLIES_EXEC));
}

static int
act_io_uring(void)
{
	struct io_uring_params p;

	memset(&p, 0, sizeof(p));
	return outcome(syscall(SYS_io_uring_setup, 4, &p));
}

static int
act_bpf(void)
{
	union bpf_attr a;

	memset(&a, 0, sizeof(a));
	a.map_type = BPF_MAP_TYPE_ARRAY;
	a.key_size = a.value_size = 4;
	a.max_entries = 1;
	return outcome(syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof(a)));
}

static int
act_perf(void)
{
	struct perf_event_attr a;

	memset(&a, 0, sizeof(a));
	a.size = sizeof(a);
	a.type = PERF_TYPE_SOFTWARE;
	a.config = PERF_COUNT_SW_DUMMY;
	return outcome(syscall(SYS_perf_event_open, &a, 0, -1, -1, 0));
}

static int
act_userfaultfd(void)
{
	return outcome(syscall(SYS_userfaultfd, O_CLOEXEC));
}

static int
act_unshare(void)
{
	return outcome(unshare(CLONE_NEWUSER));
}

static int
act_mount(void)
{
	return outcome(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

static int
act_chroot(void)
{
	return outcome(chroot("/tmp"));
}

static int
act_by_handle(void)
{
	return outcome(syscall(SYS_open_by_handle_at, FD_FILE, &handle.head, O_RDONLY));
}

static int
act_keyctl(void)
{
	return outcome(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 1));
}

static int
act_sigio(void)
{
	return outcome(fcntl(FD_LISTENER, F_SETOWN, probe_outside));
}

static int
act_ioctl(void)
{
	return outcome(ioctl(FD_FILE, FIOCLEX));	/* any one but FIONREAD that works outside */
}

static int
act_rlimit(void)
{
	struct rlimit r = { 1, 1 };

	return outcome(setrlimit(RLIMIT_CORE, &r));
}

static int
act_dumpable(void)
{
	return outcome(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

/* Calls of the other two tables of this kernel: the numbers mean other calls there. */
static int
act_x32(void)
{
	return outcome(syscall(0x40000000L | SYS_getpid)) == FAILED && errno == ENOSYS ? SKIP : DONE;
}

static int
act_i386(void)
{
#ifdef __x86_64__
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L /* getpid */) : "memory", "r8", "r9", "r10", "r11");
	return r < 0 ? SKIP : DONE;
#else
	return SKIP;
#endif
}

const struct act forbidden_acts[] = {
	{ "open", act_open, R_ALL, NULL, NULL },
	{ "openat-write", act_openat_write, R_ALL, NULL, NULL },
	{ "openat2", act_openat2, R_ALL, NULL, NULL },
	{ "environ", act_environ, R_ALL, NULL, NULL },
	{ "proc-mem", act_proc_mem, R_ALL, NULL, NULL },
	{ "stat", act_stat, R_ALL, NULL, NULL },
	{ "readlink", act_readlink, R_NO_PATH, NULL, NULL },
	{ "unlink", act_unlink, R_ALL, NULL, NULL },
	{ "exec", act_exec, R_ALL, NULL, NULL },
	{ "exec-fd", act_exec_fd, R_ALL, NULL, NULL },
	{ "fork", act_fork, R_ALL, NULL, NULL },
	{ "fork-call", act_fork_call, R_ALL, NULL, NULL },
	{ "clone3", act_clone3, R_ALL, NULL, NULL },
	{ "ptrace", act_ptrace, R_ALL, NULL, NULL },
	{ "kill", act_kill, R_ALL, NULL, NULL },
	{ "tgkill", act_tgkill, R_ALL, NULL, NULL },
	{ "pidfd", act_pidfd, R_ALL, NULL, NULL },
	{ "vm-readv", act_vm_readv, R_ALL, NULL, NULL },
	{ "connect", act_connect, R_NO_DIAL, NULL, NULL },
	{ "connect-inherited", act_connect_inherited, R_NO_DIAL, NULL, NULL },
	{ "mptcp", act_mptcp, R_NO_DIAL, NULL, NULL },
	{ "fastopen-sendto", act_fastopen_sendto, R_ALL, NULL, NULL },
	{ "fastopen-sendmsg", act_fastopen_sendmsg, R_ALL, NULL, NULL },
	{ "fastopen-sendmmsg", act_fastopen_sendmmsg, R_ALL, NULL, NULL },
	{ "raw-socket", act_raw, R_ALL, NULL, NULL },
	{ "ping-socket", act_ping, R_ALL, NULL, NULL },
	{ "netlink", act_netlink, R_ALL, NULL, NULL },
	{ "packet", act_packet, R_ALL, NULL, NULL },
	{ "unix-connect", act_unix_connect, R_ALL, NULL, NULL },
	{ "unix-datagram", act_unix_datagram, R_ALL, NULL, NULL },
	{ "listen", act_listen, R_ALL, NULL, NULL },
	{ "bind-privileged", act_bind_privileged, R_ALL, NULL, NULL },
	{ "attach-filter", act_attach_filter, R_ALL, NULL, NULL },
	{ "mark", act_mark, R_ALL, NULL, NULL },
	{ "mark-wide", act_mark_wide, R_ALL, NULL, NULL },
	{ "setuid", act_setuid, R_ALL, NULL, NULL },
	{ "mmap-exec", act_mmap_exec, R_ALL, NULL, NULL },
	{ "mprotect-exec", act_mprotect_exec, R_ALL, NULL, NULL },
	{ "pkey-mprotect-exec", act_pkey_mprotect_exec, R_ALL, NULL, NULL },
	{ "personality", act_personality, R_ALL, NULL, NULL },
	{ "io-uring", act_io_uring, R_ALL, NULL, NULL },
	{ "bpf", act_bpf, R_ALL, NULL, NULL },
	{ "perf", act_perf, R_ALL, NULL, NULL },
	{ "userfaultfd", act_userfaultfd, R_ALL, NULL, NULL },
	{ "unshare", act_unshare, R_ALL, NULL, NULL },
	{ "mount", act_mount, R_ALL, NULL, NULL },
	{ "chroot", act_chroot, R_ALL, NULL, NULL },
	{ "open-by-handle", act_by_handle, R_ALL, NULL, NULL },
	{ "keyctl", act_keyctl, R_ALL, NULL, NULL },
	{ "sigio-owner", act_sigio, R_ALL, NULL, NULL },
	{ "ioctl", act_ioctl, R_ALL, NULL, NULL },
	{ "rlimit", act_rlimit, R_ALL, NULL, NULL },
	{ "dumpable", act_dumpable, R_ALL, NULL, NULL },
	{ "x32-call", act_x32, R_ALL, NULL, NULL },
	{ "i386-call", act_i386, R_ALL, NULL, NULL },
};
const size_t nforbidden_acts = countof(forbidden_acts);
