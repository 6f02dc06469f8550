/* SPDX-License-Identifier: MIT */
/* kill -9 of one process of the proxy, and what it held: the process is stopped, the kernel is asked for all sockets, and it
 * is killed. What was accepted by then and is held by it or by no surviving process was its own (or just travels between two
 * others, which loses nothing); what waits in an accept queue has no inode and belongs to nobody. Nothing of the load runs
 * meanwhile. Only root can read the fds of the others. */
#include "tests/reload/load/load.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { INODES_MAX = 65536, SOCKS_MAX = 65536, STOP_MS = 200 };
struct sock {
	uint32_t peer_addr, inode;
	uint16_t port, peer_port;
};
static uint32_t living[INODES_MAX], dying[INODES_MAX];
static size_t n_living, n_dying;
static struct sock tcps[SOCKS_MAX], udps[SOCKS_MAX];	/* accepted ones by the client's port */
static size_t n_tcps, n_udps;

static int
by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int
by_peer(const void *a, const void *b)
{
	const struct sock *x = a, *y = b;

	return (x->peer_port > y->peer_port) - (x->peer_port < y->peer_port);
}

static void
add_inodes(pid_t pid, uint32_t *inodes, size_t *count)
{
	char path[64], name[64];
	const struct dirent *e;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	d = opendir(path);
	while (d != NULL && (e = readdir(d)) != NULL && *count < INODES_MAX) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, name, sizeof name - 1);

		if (n <= 8)
			continue;
		name[n] = '\0';
		if (!strncmp(name, "socket:[", 8))
			inodes[(*count)++] = (uint32_t)strtoul(name + 8, NULL, 10);
	}
	if (d != NULL)
		closedir(d);
}

static bool
lives(uint32_t inode)
{
	return bsearch(&inode, living, n_living, sizeof *living, by_number) != NULL &&
	    bsearch(&inode, dying, n_dying, sizeof *dying, by_number) == NULL;
}

/* Established TCP sockets, or UDP ones, of IPv4 and IPv6. */
static void
dump(int family, int protocol, struct sock *socks, size_t *n_socks)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} ask = { .h = { .nlmsg_len = sizeof ask, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.r = { .sdiag_family = (uint8_t)family,
		    .sdiag_protocol = (uint8_t)protocol,
		    .idiag_states = protocol == IPPROTO_TCP ? ~(1u << 6 | 1u << 10) : ~0u } };
	static char buf[1 << 16];
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	bool more = fd != -1 && send(fd, &ask, sizeof ask, 0) != -1;

	while (more) {
		ssize_t n = recv(fd, buf, sizeof buf, 0);

		more = n > 0;
		for (struct nlmsghdr *h = (void *)buf; more && NLMSG_OK(h, (size_t)n); h = NLMSG_NEXT(h, n)) {
			const struct inet_diag_msg *m = NLMSG_DATA(h);

			if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR) {
				more = false;
				break;
			}
			if (*n_socks < SOCKS_MAX)
				socks[(*n_socks)++] = (struct sock){ m->id.idiag_dst[family == AF_INET ? 0 : 3], m->idiag_inode,
					m->id.idiag_sport, m->id.idiag_dport };
		}
	}
	if (fd != -1)
		close(fd);
}

static size_t n_tcp, n_udp;

static void
mark(const struct sockaddr_in *local, bool *own, void *arg)
{
	struct sock key = { .peer_port = local->sin_port };
	const struct sock *s = bsearch(&key, tcps, n_tcps, sizeof *tcps, by_peer);

	(void)arg;
	if (s == NULL)
		return;
	while (s > tcps && s[-1].peer_port == local->sin_port)
		s--;
	for (; s < tcps + n_tcps && s->peer_port == local->sin_port; s++)
		if (s->peer_addr == local->sin_addr.s_addr && s->inode != 0 && !lives(s->inode)) {
			*own = true;
			n_tcp++;
		}
}

/* The port belongs to no living process: to the killed one, or none. */
static bool
udp_dead(uint16_t port, void *arg)
{
	(void)arg;
	for (size_t i = 0; i < n_udps; i++)
		if (udps[i].port == port && lives(udps[i].inode))
			return false;
	n_udp++;
	return true;
}

static void
wait_stopped(pid_t pid)
{
	char path[64], text[512], *p;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	for (uint64_t end = clock_us() + STOP_MS * 1000; clock_us() < end;) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd != -1 ? read(fd, text, sizeof text - 1) : -1;

		if (fd != -1)
			close(fd);
		if (n <= 0)
			return;
		text[n] = '\0';
		p = strrchr(text, ')');
		if (p != NULL && strchr("TZX", p[2]) != NULL)
			return;
		usleep(200);
	}
}

void
kill_noted(pid_t victim, const pid_t *others, int n)
{
	uint64_t began = clock_us();

	n_living = n_dying = n_tcps = n_udps = n_tcp = n_udp = 0;
	if (kill(victim, SIGSTOP) == 0)
		wait_stopped(victim);
	add_inodes(victim, dying, &n_dying);
	dump(AF_INET, IPPROTO_TCP, tcps, &n_tcps);
	dump(AF_INET6, IPPROTO_TCP, tcps, &n_tcps);
	dump(AF_INET, IPPROTO_UDP, udps, &n_udps);
	dump(AF_INET6, IPPROTO_UDP, udps, &n_udps);
	kill(victim, SIGKILL);
	for (int i = 0; i < n; i++)
		add_inodes(others[i], living, &n_living);
	add_inodes(getpid(), living, &n_living);
	qsort(dying, n_dying, sizeof *dying, by_number);
	qsort(living, n_living, sizeof *living, by_number);
	qsort(tcps, n_tcps, sizeof *tcps, by_peer);
	flow_each_open(mark, NULL);
	udp_own(udp_dead, NULL);
	tally_note("{\"event\":\"killed\",\"pid\":%d,\"tcp\":%zu,\"udp\":%zu,\"at\":%.6f,\"took\":%.6f}", (int)victim, n_tcp,
	    n_udp, (double)clock_us() / 1e6, (double)(clock_us() - began) / 1e6);
}
