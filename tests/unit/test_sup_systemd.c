/* SPDX-License-Identifier: MIT */
/* supervisor/systemd.c against a notify socket of ours, and supervisor/inherit.c with descriptors put where a service manager
 * puts them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/err.h"
#include "common/memfd.h"
#include "common/strutil.h"
#include "supervisor/child.h"
#include "supervisor/inherit.h"
#include "supervisor/listeners.h"
#include "supervisor/state.h"
#include "supervisor/systemd.h"

enum { GIVEN_MAX = 8, FIRST = 3 };
static struct sup sup;
static int manager = -1;		/* the manager's end */

static time_t wall_step;		/* somebody has set the clock, which libev asks here */

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	int r = (int)syscall(SYS_gettimeofday, tv, zone);

	tv->tv_sec += wall_step;
	return r;
}

/* main.c is not linked */
void
sup_stop(struct sup *s, int exit_code)
{
	(void)s;
	(void)exit_code;
}

void
sup_child_gone(struct sup *s)
{
	(void)s;
}

static int
setup(void **state)
{
	(void)state;
	memset(&sup, 0, sizeof sup);
	str_copy(sup.home, sizeof sup.home, "/home/of/sluice");
	sup.opt.command = CMD_RUN;
	sup.loop = ev_loop_new(EV_SLUICE);
	list_init(&sup.children);
	list_init(&sup.generations);
	for (int i = 0; i < STAT_SLOTS; i++)
		sup.page[i].fd = -1;
	listeners_init(&sup);
	return sup.loop == NULL;
}

static int
teardown(void **state)
{
	(void)state;
	systemd_end(&sup);
	if (sup.inherited != NULL)
		inherit_end(&sup);
	ev_loop_destroy(sup.loop);
	free(sup.listeners);
	if (manager != -1)
		close(manager);
	manager = -1;
	return 0;
}

/* ---- the manager */

static void
begin(const char *usec, const char *pid)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	char name[64];
	socklen_t len;

	snprintf(name, sizeof name, "@sluice-unit-%d", (int)getpid());
	memcpy(a.sun_path + 1, name + 1, strlen(name) - 1);
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(manager, (struct sockaddr *)&a, len), 0);
	setenv("NOTIFY_SOCKET", name, 1);
	if (usec != NULL)
		setenv("WATCHDOG_USEC", usec, 1);
	if (pid != NULL)
		setenv("WATCHDOG_PID", pid, 1);
	systemd_init(&sup);
}

/* The next datagram, or "" when there is none; *fd is its descriptor or -1. */
static const char *
heard(int *fd)
{
	static char text[1024];
	union { char buf[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } c = { 0 };
	struct iovec v = { text, sizeof text - 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof c.buf };
	ssize_t n = recvmsg(manager, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int got = -1;

	text[n > 0 ? n : 0] = '\0';
	if (n > 0 && m.msg_controllen >= CMSG_LEN(sizeof(int)) && c.align.cmsg_type == SCM_RIGHTS)
		memcpy(&got, CMSG_DATA(&c.align), sizeof got);
	if (fd != NULL)
		*fd = got;
	else if (got != -1)
		close(got);
	return text;
}

static void
test_notify_ready_once(void **state)
{
	char want[64];

	(void)state;
	begin(NULL, NULL);
	assert_null(getenv("NOTIFY_SOCKET"));
	systemd_reloading(&sup);	/* before READY: not a reload of a running service */
	assert_string_equal(heard(NULL), "");
	systemd_serving(&sup);
	snprintf(want, sizeof want, "READY=1\nMAINPID=%d", (int)getpid());
	assert_string_equal(heard(NULL), want);
	systemd_serving(&sup);
	assert_string_equal(heard(NULL), "");
	systemd_idle(&sup, false);
	assert_string_equal(heard(NULL), "");
	systemd_reloading(&sup);
	assert_non_null(strstr(heard(NULL), "RELOADING=1\nMONOTONIC_USEC="));
	systemd_idle(&sup, true);
	assert_string_equal(heard(NULL), "READY=1");
	systemd_stopping(&sup, 2000);
	assert_non_null(strstr(heard(NULL), "STOPPING=1\n"));
}

static void
test_notify_bad_addresses(void **state)
{
	static const char *const bad[] = { "", "@", "relative", "vsock:2:1", "/nonexistent/socket",
		"/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890" };

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		setenv("NOTIFY_SOCKET", bad[i], 1);
		systemd_init(&sup);
		assert_null(sup.systemd);
		assert_null(getenv("NOTIFY_SOCKET"));
	}
	systemd_serving(&sup);		/* and nothing of it is called on NULL */
	systemd_store(&sup, "x", 0);
	assert_false(systemd_settle(&sup));
	assert_false(systemd_stores(&sup));
}

static void
test_notify_not_when_testing(void **state)
{
	(void)state;
	sup.opt.command = CMD_TEST;
	begin("1000000", NULL);
	assert_null(sup.systemd);
	assert_null(getenv("WATCHDOG_USEC"));
}

static void
test_export_puts_back(void **state)
{
	static const char *const usec[] = { "3000000", "3000000", "0", "3s" };
	static const char *const want[] = { "3000000", NULL, NULL, NULL };

	(void)state;
	for (size_t i = 0; i < countof(usec); i++) {
		begin(usec[i], i == 1 ? "1" : NULL);
		assert_null(getenv("WATCHDOG_PID"));
		systemd_export(&sup);
		assert_non_null(strstr(getenv("NOTIFY_SOCKET"), "@sluice-unit-"));
		assert_true(str_equal(getenv("WATCHDOG_USEC"), want[i]));
		unsetenv("NOTIFY_SOCKET");
		unsetenv("WATCHDOG_USEC");
		systemd_end(&sup);
		close(manager);
		manager = -1;
	}
}

static void
test_store_sends_the_descriptor(void **state)
{
	int fd = memfd_shared("x", 10), got;
	struct stat a, b;

	(void)state;
	begin(NULL, NULL);
	systemd_store(&sup, "sluice/x", fd);
	assert_string_equal(heard(&got), "FDSTORE=1\nFDPOLL=0\nFDNAME=sluice/x");
	assert_int_not_equal(got, -1);
	assert_int_equal(fstat(fd, &a) | fstat(got, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	close(got);
	systemd_unstore(&sup, "sluice/x");
	assert_string_equal(heard(&got), "FDSTOREREMOVE=1\nFDNAME=sluice/x");
	assert_int_equal(got, -1);
	sup.stopping = true;		/* last words of workers must not come back in the next start */
	systemd_store(&sup, "sluice/x", fd);
	assert_string_equal(heard(NULL), "");
	close(fd);
}

static void
on_enough(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)t;
	(void)events;
	ev_break(loop, EVBREAK_ALL);
}

/* More datagrams than a socket holds: they wait, in order, and none is lost. */
static void
test_notify_waits_for_a_slow_manager(void **state)
{
	enum { N = 3000 };
	char want[64], name[32];
	int n = 0, fd = memfd_shared("x", 10);

	(void)state;
	begin(NULL, NULL);
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof name, "n%d", i);
		systemd_store(&sup, name, fd);
	}
	for (int turn = 0; turn < 2 * N && n < N; turn++) {
		int got;

		while (*heard(&got) != '\0') {
			snprintf(want, sizeof want, "FDNAME=n%d", n++);
			assert_int_not_equal(got, -1);
			close(got);
		}
		ev_run(sup.loop, EVRUN_NOWAIT);
	}
	assert_int_equal(n, N);
	close(fd);
}

static void *
close_what_comes(void *arg)
{
	(void)arg;
	for (struct pollfd p = { .fd = manager, .events = POLLIN }; poll(&p, 1, 2000) == 1;)
		if (!strcmp(heard(NULL), "BARRIER=1"))
			return NULL;
	return arg;
}

static void
test_settle(void **state)
{
	pthread_t t;
	void *failed;

	(void)state;
	begin(NULL, NULL);
	assert_false(systemd_settle(&sup));		/* nothing was removed: no wait */
	assert_string_equal(heard(NULL), "");
	systemd_unstore(&sup, "a");
	assert_int_equal(pthread_create(&t, NULL, close_what_comes, &sup), 0);
	assert_true(systemd_settle(&sup));
	pthread_join(t, &failed);
	assert_null(failed);
	assert_false(systemd_settle(&sup));
	systemd_unstore(&sup, "b");
	assert_false(systemd_settle(&sup));		/* nobody reads: the wait ends */
}

/* ---- the watchdog */

static void
test_watchdog_needs_answers(void **state)
{
	struct generation g = { .sup = &sup, .number = 1, .n_workers = 1 };
	struct child w = { .sup = &sup, .role = ROLE_WORKER, .gen = &g, .state = CH_SERVING, .name = "worker 1.0" };
	int pair[2], answers = 0, fed = 0, stage = 0;
	ev_timer enough;

	(void)state;
	begin("400000", NULL);
	systemd_serving(&sup);
	heard(NULL);
	assert_int_equal(imsg_pair(pair), 0);
	w.pid = fork();			/* something that may be killed */
	if (w.pid == 0)
		_exit(pause());
	assert_int_not_equal(w.pid, -1);
	peer_open(&w.peer, sup.loop, pair[0], "worker", NULL, 0, &w, NULL);
	g.worker[0] = &w;
	list_append(&sup.children, &w.link);
	sup.serving = &g;
	ev_timer_init(&enough, on_enough, 0.02, 0.02);
	ev_timer_start(sup.loop, &enough);
	for (int turn = 0; turn < 75; turn++) {		/* 1.5 s; it answers in the first */
		struct imsg m;
		const char *t;

		wall_step = turn < 5 ? 0 : -3600;
		ev_run(sup.loop, 0);
		while (imsg_recv(pair[1], &m) == 0)
			if (m.hdr.type == MSG_PING && turn < 50) {
				systemd_pong(&w);
				answers++;
			}
		while (*(t = heard(NULL)) != '\0')
			fed += !strcmp(t, "WATCHDOG=1");
		if (turn == 49)
			stage = fed;
	}
	ev_timer_stop(sup.loop, &enough);
	assert_in_range(answers, 7, 11);		/* every 0.1 s */
	assert_in_range(stage, 4, 6);			/* every 0.2 s */
	assert_int_equal(waitpid(w.pid, NULL, WNOHANG), w.pid);		/* then it was killed, once late */
	list_remove(&w.link);
	sup.serving = NULL;
	peer_close(&w.peer);
	close(pair[1]);
}

/* ---- what is given */

static int given[GIVEN_MAX], n_given;
static char names[GIVEN_MAX * FDNAME_MAX];

static void
give(const char *name, int fd)
{
	snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", n_given > 0 ? ":" : "", name);
	given[n_given++] = fd;
}

/* Moves them to 3, 4 ... as execve after sd_listen_fds(3) finds them; what the test has there is out of the way for the
 * moment. */
static void
take(int pid_off)
{
	char text[16];
	int high[GIVEN_MAX], kept[GIVEN_MAX];

	for (int i = 0; i < n_given; i++) {
		high[i] = fcntl(given[i], F_DUPFD_CLOEXEC, 100);
		close(given[i]);
	}
	for (int i = 0; i < n_given; i++) {
		kept[i] = fcntl(FIRST + i, F_DUPFD_CLOEXEC, 200);
		assert_int_equal(dup2(high[i], FIRST + i), FIRST + i);
		close(high[i]);
	}
	snprintf(text, sizeof text, "%d", (int)getpid() + pid_off);
	setenv("LISTEN_PID", text, 1);
	snprintf(text, sizeof text, "%d", n_given);
	setenv("LISTEN_FDS", text, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	inherit_init(&sup);
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDS"));
	assert_null(getenv("LISTEN_FDNAMES"));
	for (int i = 0; i < n_given; i++) {
		if (kept[i] == -1)
			continue;
		assert_int_equal(dup2(kept[i], FIRST + i), FIRST + i);
		close(kept[i]);
	}
	n_given = 0;
	names[0] = '\0';
}

static struct msg_listen
key(enum listen_kind kind, const char *ip, uint16_t port)
{
	struct msg_listen k = { .kind = (uint16_t)kind, .port = port };

	if (ip != NULL)
		assert_int_equal(ip_parse(&k.ip, ip), 0);
	return k;
}

/* A bound socket, its port in k. v6only: -1 as the address says. */
static int
bound(struct msg_listen *k, int v6only)
{
	union sockaddr_any a;
	int family = k->ip.family == 4 ? AF_INET : AF_INET6,
	    fd = socket(family, (k->kind == LISTEN_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	socklen_t len = k->ip.family == 4 ? ip_to_sockaddr(&a, &k->ip, k->port) : ip_to_sockaddr6(&a, &k->ip, k->port);
	int only = v6only == -1 ? k->ip.family == 6 : v6only;
	struct ip ip;

	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &(int){ 1 }, sizeof(int));
	assert_int_equal(bind(fd, &a.sa, len), 0);
	if (k->kind == LISTEN_TCP)
		assert_int_equal(listen(fd, 8), 0);
	len = sizeof a;
	assert_int_equal(getsockname(fd, &a.sa, &len), 0);
	ip_from_sockaddr(&ip, &k->port, &a.sa);
	return fd;
}

static ino_t
inode(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static void
test_inherit_for_another_process(void **state)
{
	struct msg_listen k = key(LISTEN_TCP, "127.0.0.1", 0);

	(void)state;
	give("a", bound(&k, -1));
	take(1);
	assert_null(sup.inherited);
}

static void
test_inherit_by_address_and_kind(void **state)
{
	struct msg_listen tcp = key(LISTEN_TCP, "127.0.0.1", 0), udp = key(LISTEN_UDP, "127.0.0.1", 0), other = tcp, wrong;
	int a = bound(&tcp, -1), b = bound(&udp, -1), fds[LISTEN_SLOTS_MAX], on = 0;
	ino_t ia = inode(a), ib = inode(b);
	socklen_t len = sizeof on;
	bool borrowed = false;

	(void)state;
	give("web", a);
	give("dns", b);
	take(0);
	other.port = (uint16_t)(tcp.port ^ 1);
	assert_int_equal(inherit_sockets(&sup, &other, fds, &borrowed), 0);
	wrong = key(LISTEN_TCP, "127.0.0.2", tcp.port);
	assert_int_equal(inherit_sockets(&sup, &wrong, fds, &borrowed), 0);
	wrong = key(LISTEN_TCP, NULL, tcp.port);
	assert_int_equal(inherit_sockets(&sup, &wrong, fds, &borrowed), 0);
	if (udp.port != tcp.port) {
		wrong = key(LISTEN_UDP, "127.0.0.1", tcp.port);
		assert_int_equal(inherit_sockets(&sup, &wrong, fds, &borrowed), 0);
	}
	assert_int_equal(inherit_sockets(&sup, &tcp, fds, &borrowed), 1);
	assert_true(borrowed);
	assert_int_equal(inode(fds[0]), ia);
	assert_true(fds[0] >= 10 && (fcntl(fds[0], F_GETFD) & FD_CLOEXEC) && (fcntl(fds[0], F_GETFL) & O_NONBLOCK));
	close(fds[0]);
	assert_int_equal(inherit_sockets(&sup, &tcp, fds, &borrowed), 0);	/* given once */
	assert_int_equal(inherit_sockets(&sup, &udp, fds, &borrowed), 1);
	assert_int_equal(inode(fds[0]), ib);
	assert_int_equal(getsockopt(fds[0], IPPROTO_IP, IP_PKTINFO, &on, &len), 0);
	assert_int_equal(on, 1);
	close(fds[0]);
}

static void
test_inherit_dual_stack(void **state)
{
	struct msg_listen any = key(LISTEN_TCP, NULL, 0), six = key(LISTEN_TCP, "::", 0), v4 = key(LISTEN_TCP, "0.0.0.0", 0), k;
	int fds[LISTEN_SLOTS_MAX];
	bool borrowed;

	(void)state;
	give("", bound(&any, 0));
	give("", bound(&six, 1));
	give("", bound(&v4, -1));
	take(0);
	k = key(LISTEN_TCP, "::", any.port);		/* the dual-stack one answers IPv4 as well: not what was asked */
	assert_int_equal(inherit_sockets(&sup, &k, fds, &borrowed), 0);
	k = key(LISTEN_TCP, NULL, six.port);
	assert_int_equal(inherit_sockets(&sup, &k, fds, &borrowed), 0);
	assert_int_equal(inherit_sockets(&sup, &any, fds, &borrowed), 1);
	close(fds[0]);
	assert_int_equal(inherit_sockets(&sup, &six, fds, &borrowed), 1);
	close(fds[0]);
	k = key(LISTEN_TCP, NULL, v4.port);		/* a host without IPv6 */
	assert_int_equal(inherit_sockets(&sup, &k, fds, &borrowed), 1);
	close(fds[0]);
}

static void
test_inherit_stored_slots_in_order(void **state)
{
	struct msg_listen k = key(LISTEN_TCP, "127.0.0.1", 0);
	char name[FDNAME_MAX];
	int fds[LISTEN_SLOTS_MAX], slot[3];
	ino_t want[3];
	bool borrowed = true;

	(void)state;
	begin(NULL, NULL);
	for (int i = 0; i < 3; i++) {
		slot[i] = bound(&k, -1);
		want[i] = inode(slot[i]);
	}
	for (int i = 2; i >= 0; i--)
		give(inherit_slot_name(&k, i, name), slot[i]);
	take(0);
	assert_true(inherit_has_port(&sup, &k));
	assert_int_equal(inherit_sockets(&sup, &k, fds, &borrowed), 3);
	assert_false(borrowed);
	assert_false(inherit_has_port(&sup, &k));
	for (int i = 0; i < 3; i++) {
		assert_int_equal(inode(fds[i]), want[i]);
		close(fds[i]);
	}
	inherit_end(&sup);
	assert_string_equal(heard(NULL), "");		/* they keep their names in the store */
}

/* Stored by a key with other flags: the old name leaves the store. A socket of a unit at the same address is not mixed with
 * stored ones. */
static void
test_inherit_stored_under_another_name(void **state)
{
	struct msg_listen k = key(LISTEN_TCP, "127.0.0.1", 0), was;
	char name[FDNAME_MAX], want[128];
	int fds[LISTEN_SLOTS_MAX];
	bool borrowed;

	(void)state;
	begin(NULL, NULL);
	was = k;
	was.flags = LISTEN_TFO;
	inherit_slot_name(&was, 0, name);
	give(name, bound(&k, -1));
	give("unit", bound(&k, -1));
	take(0);
	assert_int_equal(inherit_sockets(&sup, &k, fds, &borrowed), 1);
	assert_false(borrowed);
	snprintf(want, sizeof want, "FDSTOREREMOVE=1\nFDNAME=%s", name);
	assert_string_equal(heard(NULL), want);
	close(fds[0]);
}

static void
test_inherit_end_forgets_the_rest(void **state)
{
	struct msg_listen k = key(LISTEN_TCP, "127.0.0.1", 0);
	union sockaddr_any a;
	socklen_t len = ip_to_sockaddr(&a, &k.ip, 0);
	int page = memfd_shared("x", 10), got, c;

	(void)state;
	begin(NULL, NULL);
	give("unit", bound(&k, -1));
	give("sluice/page/07", page);
	give("sluice/old", memfd_shared("y", 10));
	take(0);
	assert_int_equal(inherit_take(&sup, "unit"), -1);	/* not from the store */
	got = inherit_take(&sup, "sluice/page/07");
	assert_int_not_equal(got, -1);
	assert_int_equal(inherit_take(&sup, "sluice/page/07"), -1);
	close(got);
	inherit_end(&sup);
	assert_null(sup.inherited);
	assert_string_equal(heard(NULL), "FDSTOREREMOVE=1\nFDNAME=sluice/old");
	assert_string_equal(heard(NULL), "");
	len = ip_to_sockaddr(&a, &k.ip, k.port);
	c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(c, &a.sa, len), -1);		/* it is closed */
	assert_int_equal(errno, ECONNREFUSED);
	close(c);
}

static void
test_slot_name(void **state)
{
	struct msg_listen k = key(LISTEN_TCP, "::1", 65535), v[6];
	char a[FDNAME_MAX], b[FDNAME_MAX];

	(void)state;
	memset(k.path, 'x', sizeof k.path);		/* even one without an end */
	for (size_t i = 0; i < countof(v); i++)
		v[i] = k;
	v[0].kind = LISTEN_UDP;
	v[1].flags = LISTEN_ONE;
	v[2].port = 1;
	v[3].ip.b[15] = 2;
	v[4].path[255] = 'y';
	inherit_slot_name(&k, 15, a);
	for (const char *p = a; *p != '\0'; p++)
		assert_true(*p > ' ' && *p < 127 && *p != ':');		/* systemd's fdname_is_valid() */
	for (size_t i = 0; i < countof(v) - 1; i++)
		assert_string_not_equal(inherit_slot_name(&v[i], 15, b), a);
	assert_string_not_equal(inherit_slot_name(&k, 14, b), a);
	v[5].mode = 0600;				/* not of the key */
	assert_string_equal(inherit_slot_name(&v[5], 15, b), a);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_notify_ready_once), T(test_notify_bad_addresses), T(test_notify_not_when_testing), T(test_export_puts_back),
		T(test_store_sends_the_descriptor), T(test_notify_waits_for_a_slow_manager), T(test_settle), T(test_watchdog_needs_answers),
		T(test_inherit_for_another_process), T(test_inherit_by_address_and_kind), T(test_inherit_dual_stack),
		T(test_inherit_stored_slots_in_order), T(test_inherit_stored_under_another_name), T(test_inherit_end_forgets_the_rest), T(test_slot_name),
	};

	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
