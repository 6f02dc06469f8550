/* SPDX-License-Identifier: MIT */
/* Whose socket is it (sock_diag(7)): called by main.c for every question of a worker. A question with both ends is one look-up
 * in the kernel's hash table, whatever the number of sockets; one without the far end walks them all, which only transparent
 * inbounds should need. The kernel is believed, but its messages are measured like a stranger's, and what it found must be what
 * was asked for: without a connection it names a listener. */
#include "supervisor/helper/sockdiag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/addr.h"
#include "common/err.h"

enum {
	READS_MAX = 1024,		/* of one answer: a walk over every socket of the machine comes in pieces of ANSWER_MAX */
	ANSWER_MAX = 32768
};
#define STATES_WITH_OWNER (~(1u << TCP_LISTEN | 1u << TCP_TIME_WAIT))

struct ask {
	struct nlmsghdr head;
	struct inet_diag_req_v2 req;
};
_Static_assert(sizeof(struct ask) <= SOCKDIAG_ASK_MAX, "SOCKDIAG_ASK_MAX");

/* inet_diag_sockid: ports and addresses in network order, IPv4 in the first word. */
static void
put_end(__be32 addr[4], __be16 *port, const struct ip *ip, uint16_t number)
{
	memcpy(addr, ip->b, sizeof ip->b);
	*port = htons(number);
}

static bool
known(const struct ip *ip)
{
	return ip->family == 4 || ip->family == 6;
}

/* Are both ends known? Then one socket is asked for. */
static bool
exact(const struct msg_find *q)
{
	return known(&q->dst) && q->dst.family == q->src.family;
}

int
sockdiag_write(uint8_t out[static SOCKDIAG_ASK_MAX], const struct msg_find *q, int family, uint32_t seq)
{
	struct ask a = {
		.head = { .nlmsg_len = sizeof a, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_seq = seq,
		    .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | (exact(q) ? 0 : NLM_F_DUMP)) },
		.req = { .sdiag_family = (uint8_t)family, .sdiag_protocol = q->udp ? IPPROTO_UDP : IPPROTO_TCP,
		    .idiag_states = STATES_WITH_OWNER, .id.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } },
	};
	struct inet_diag_sockid *id = &a.req.id;

	if (!known(&q->src) || q->src_port == 0)
		return -E_INVAL;
	if (!exact(q))
		id->idiag_sport = htons(q->src_port);	/* the kernel passes over the others; addresses are compared here */
	else if (q->udp) {
		/* one UDP socket is looked up as for a datagram that comes in: its own end is the destination */
		put_end(id->idiag_dst, &id->idiag_dport, &q->src, q->src_port);
		put_end(id->idiag_src, &id->idiag_sport, &q->dst, q->dst_port);
	} else {
		put_end(id->idiag_src, &id->idiag_sport, &q->src, q->src_port);
		put_end(id->idiag_dst, &id->idiag_dport, &q->dst, q->dst_port);
	}
	memcpy(out, &a, sizeof a);
	return sizeof a;
}

static struct ip
get_ip(uint8_t family, const __be32 addr[4])
{
	union sockaddr_any sa = { .ss.ss_family = family };
	struct ip ip;
	uint16_t port;

	if (family == AF_INET6)
		memcpy(&sa.in6.sin6_addr, addr, 16);
	else
		memcpy(&sa.in.sin_addr, addr, 4);
	ip_from_sockaddr(&ip, &port, &sa.sa);	/* an IPv6 socket that speaks IPv4 gives a mapped address */
	return ip;
}

/* Is it the socket that was asked for? A UDP socket may be bound to every address
 * (main.c has made sure that src is one of ours); a TCP one that waits for connections is
 * somebody else's. */
static bool
fits(const struct inet_diag_msg *m, const struct msg_find *q)
{
	struct ip own = get_ip(m->idiag_family, m->id.idiag_src);

	if (m->id.idiag_sport != htons(q->src_port) || m->idiag_inode == 0)
		return false;
	if (q->udp)
		return ip_equal(&own, &q->src) || ip_is_unspecified(&own);
	return ip_equal(&own, &q->src) && m->idiag_state != TCP_LISTEN && m->idiag_state != TCP_TIME_WAIT;
}

/* One message of n bytes, head included. */
static int
read_one(const uint8_t *p, size_t n, uint16_t type, const struct msg_find *q, struct sock_owner *out)
{
	struct inet_diag_msg m;
	struct nlmsgerr e;

	p += NLMSG_HDRLEN;
	n -= NLMSG_HDRLEN;
	switch (type) {
	case NLMSG_DONE:
		return -E_NOTFOUND;
	case NLMSG_ERROR:
		if (n < sizeof e)
			return -E_PROTO;
		memcpy(&e, p, sizeof e);
		return e.error == -ENOENT ? -E_NOTFOUND : -E_PROTO;
	case SOCK_DIAG_BY_FAMILY:
		if (n < sizeof m)
			return -E_PROTO;
		memcpy(&m, p, sizeof m);
		if (!fits(&m, q))
			return -E_AGAIN;
		*out = (struct sock_owner){ .inode = m.idiag_inode, .uid = m.idiag_uid };
		return 0;
	default:
		return -E_AGAIN;
	}
}

int
sockdiag_read(const void *p, size_t n, const struct msg_find *q, uint32_t seq, struct sock_owner *out)
{
	const uint8_t *at = p;
	struct nlmsghdr h;
	bool single = false;
	int rc;

	while (n >= sizeof h) {
		memcpy(&h, at, sizeof h);
		if (h.nlmsg_len < NLMSG_HDRLEN || h.nlmsg_len > n)
			return -E_PROTO;
		if (h.nlmsg_seq == seq) {	/* else what is left of a walk that was not read to its end */
			rc = read_one(at, h.nlmsg_len, h.nlmsg_type, q, out);
			if (rc != -E_AGAIN)
				return rc;
			single |= (h.nlmsg_flags & NLM_F_MULTI) == 0;
		}
		if (NLMSG_ALIGN(h.nlmsg_len) >= n)
			break;
		at += NLMSG_ALIGN(h.nlmsg_len);
		n -= NLMSG_ALIGN(h.nlmsg_len);
	}
	return single ? -E_NOTFOUND : -E_AGAIN;
}

int
sockdiag_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);

	return fd != -1 ? fd : -E_SYS;
}

/* Reads until the answer is complete: a walk must be read to its end, or the kernel refuses the next one. */
static int
read_answer(int fd, const struct msg_find *q, uint32_t seq, struct sock_owner *out)
{
	static uint8_t answer[ANSWER_MAX];
	struct sock_owner found;
	bool any = false;

	for (int i = 0; i < READS_MAX; i++) {
		ssize_t n = read(fd, answer, sizeof answer);
		int rc = n > 0 ? sockdiag_read(answer, (size_t)n, q, seq, &found) : -E_SYS;

		if (n == -1 && errno == EINTR)
			continue;
		if (rc == 0 && !any) {
			*out = found;
			any = true;
		}
		if (rc == -E_PROTO || rc == -E_SYS)
			return any ? 0 : -E_SYS;
		if (rc == -E_NOTFOUND || (rc == 0 && exact(q)))
			break;
	}
	return any ? 0 : -E_NOTFOUND;
}

static int
find_in(int fd, const struct msg_find *q, int family, struct sock_owner *out)
{
	static uint32_t seq;
	uint8_t ask[SOCKDIAG_ASK_MAX];
	int n = sockdiag_write(ask, q, family, ++seq);

	if (n < 0)
		return -E_NOTFOUND;
	if (write(fd, ask, (size_t)n) != n)
		return -E_SYS;
	return read_answer(fd, q, seq, out);
}

int
sockdiag_find(int fd, const struct msg_find *q, struct sock_owner *out)
{
	int rc = find_in(fd, q, q->src.family == 4 ? AF_INET : AF_INET6, out);

	/* IPv6 sockets that speak IPv4 are found by the hash of either, but a walk meets them among their own */
	return rc == -E_NOTFOUND && q->src.family == 4 && !exact(q) ? find_in(fd, q, AF_INET6, out) : rc;
}
