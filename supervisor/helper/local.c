/* SPDX-License-Identifier: MIT */
/* Is an address one of this machine's: called by main.c for UDP questions. The kernel is asked how it would route there
 * (rtnetlink(7)); it is told nothing, which this process could not. */
#include "supervisor/helper/local.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/err.h"

enum { READS_MAX = 8, ANSWER_MAX = 4096 };

int
local_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);

	return fd != -1 ? fd : -E_SYS;
}

static size_t
write_ask(uint8_t out[static ANSWER_MAX], const struct ip *ip, uint32_t seq)
{
	uint16_t len = ip->family == 4 ? 4 : 16;
	struct rtattr a = { .rta_type = RTA_DST, .rta_len = (uint16_t)RTA_LENGTH(len) };
	struct {
		struct nlmsghdr head;
		struct rtmsg route;
	} m = {
		.head = { .nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = seq },
		.route = { .rtm_family = ip->family == 4 ? AF_INET : AF_INET6, .rtm_dst_len = (uint8_t)(len * 8) },
	};

	m.head.nlmsg_len = (uint32_t)(sizeof m + a.rta_len);
	memcpy(out, &m, sizeof m);
	memcpy(out + sizeof m, &a, sizeof a);
	memcpy(out + sizeof m + sizeof a, ip->b, len);
	return m.head.nlmsg_len;
}

int
local_read(const void *p, size_t n, uint32_t seq)
{
	struct nlmsghdr h;
	struct rtmsg r;

	if (n < sizeof h)
		return -E_PROTO;
	memcpy(&h, p, sizeof h);
	if (h.nlmsg_len < sizeof h || h.nlmsg_len > n)
		return -E_PROTO;
	if (h.nlmsg_seq != seq)
		return -E_AGAIN;
	if (h.nlmsg_type != RTM_NEWROUTE)
		return 0;		/* no route there at all */
	if (h.nlmsg_len < sizeof h + sizeof r)
		return -E_PROTO;
	memcpy(&r, (const uint8_t *)p + sizeof h, sizeof r);
	return r.rtm_type == RTN_LOCAL;
}

bool
local_has(int fd, const struct ip *ip)
{
	static uint8_t b[ANSWER_MAX];
	static uint32_t seq;
	ssize_t n;
	int rc = -E_AGAIN;

	if ((ip->family != 4 && ip->family != 6) || ip_is_unspecified(ip))
		return false;
	if (ip_is_loopback(ip))
		return true;
	n = (ssize_t)write_ask(b, ip, ++seq);
	if (fd < 0 || write(fd, b, (size_t)n) != n)
		return false;
	for (int i = 0; i < READS_MAX && rc == -E_AGAIN; i++) {
		n = read(fd, b, sizeof b);
		if (n > 0)
			rc = local_read(b, (size_t)n, seq);
		else if (n == 0 || errno != EINTR)
			break;
	}
	return rc == 1;
}
