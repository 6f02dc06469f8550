/* SPDX-License-Identifier: MIT */
/* supervisor/helper/sockdiag.c and local.c: the question's bytes, answers recorded from a kernel, and answers that no kernel
 * sends. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/addr.h"
#include "common/err.h"
#include "common/strutil.h"
#include "supervisor/helper/local.h"
#include "supervisor/helper/sockdiag.h"

enum { SEQ = 1, TCP_PORT = 31389, TCP_FAR = 6528, UDP_PORT = 55179, UDP6_PORT = 38965, MAPPED_PORT = 44556 };

/* recorded: ESTABLISHED 127.0.0.1:31389 -> 127.0.0.1:6528, inode 29655896, uid 0 */
static const char tcp_hex[] = "7c00000014000000010000002e44000002010000"
    "7a9d19807f0000010000000000000000000000007f00000100000000000000000000000000000000" "5b00000000000000"
    "00000000" "00000000" "00000000" "00000000" "5883c401" "050008000000000008000f00000000000c00150001000000000000000600160052000000";
/* a UDP socket bound to 0.0.0.0:55179, inode 29655900 */
static const char udp_hex[] = "7c00000014000000010000002e44000002070000"
    "d78b000000000000000000000000000000000000000000000000000000000000000000000000" "0000" "5c00000000000000"
    "00000000" "00000000" "00000000" "00000000" "5c83c401" "050008000000000008000f00000000000c00150001000000000000000600160050000000";
/* an IPv6 socket connected to an IPv4 address: [::ffff:127.0.0.1]:44556, inode 29655904 */
static const char mapped_hex[] = "7c00000014000000010000002e4400000a010000"
    "ae0cd26f00000000000000000000ffff7f00000100000000000000000000ffff7f000001" "00000000" "5e00000000000000"
    "00000000" "00000000" "00000000" "00000000" "6083c401" "050008000000000008000f00000000000c00150001000000000000000600160012000000";

static size_t
unhex(uint8_t *out, const char *hex)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++) {
		const char d[3] = { hex[2 * i], hex[2 * i + 1], '\0' };
		unsigned v = 0;

		for (int k = 0; k < 2; k++)
			v = v * 16 + (unsigned)(d[k] <= '9' ? d[k] - '0' : d[k] - 'a' + 10);
		out[i] = (uint8_t)v;
	}
	return n;
}

static struct msg_find
question(bool udp, const char *src, uint16_t port, const char *dst, uint16_t far)
{
	struct msg_find q = { .udp = udp, .src_port = port, .dst_port = far };

	assert_int_equal(ip_parse(&q.src, src), 0);
	if (dst != NULL)
		assert_int_equal(ip_parse(&q.dst, dst), 0);
	return q;
}

static int
read_hex(const char *hex, const struct msg_find *q, struct sock_owner *out)
{
	uint8_t b[256];

	return sockdiag_read(b, unhex(b, hex), q, SEQ, out);
}

static void
test_read_recorded(void **state)
{
	struct msg_find tcp = question(false, "127.0.0.1", TCP_PORT, "127.0.0.1", TCP_FAR);
	struct msg_find udp = question(true, "127.0.0.1", UDP_PORT, "127.0.0.1", 7890);
	struct msg_find mapped = question(false, "127.0.0.1", MAPPED_PORT, "127.0.0.1", 53871);
	struct sock_owner o = { 0 };

	(void)state;
	assert_int_equal(read_hex(tcp_hex, &tcp, &o), 0);
	assert_int_equal(o.inode, 29655896);
	assert_int_equal(o.uid, 0);
	assert_int_equal(read_hex(udp_hex, &udp, &o), 0);
	assert_int_equal(o.inode, 29655900);
	assert_int_equal(read_hex(mapped_hex, &mapped, &o), 0);
	assert_int_equal(o.inode, 29655904);
}

/* What the kernel found need not be what was asked for: a listener on that port, another address, a socket that nobody has any
 * more. */
static void
test_read_what_does_not_fit(void **state)
{
	struct msg_find q = question(false, "127.0.0.1", TCP_PORT, "127.0.0.1", TCP_FAR);
	struct msg_find port = question(false, "127.0.0.1", TCP_PORT + 1, "127.0.0.1", TCP_FAR);
	struct msg_find address = question(false, "192.0.2.1", TCP_PORT, "127.0.0.1", TCP_FAR);
	struct msg_find any = question(false, "127.0.0.1", UDP_PORT, "127.0.0.1", 1);
	struct sock_owner o = { 7, 7 };
	uint8_t b[256];
	size_t n = unhex(b, tcp_hex);

	(void)state;
	assert_int_equal(sockdiag_read(b, n, &port, SEQ, &o), -E_NOTFOUND);
	assert_int_equal(sockdiag_read(b, n, &address, SEQ, &o), -E_NOTFOUND);
	assert_int_equal(read_hex(udp_hex, &any, &o), -E_NOTFOUND);	/* TCP has no socket of every address but a listener */
	assert_int_equal(sockdiag_read(b, n, &q, SEQ + 1, &o), -E_AGAIN);	/* of an earlier question */
	b[sizeof(struct nlmsghdr) + 1] = 10;				/* TCP_LISTEN */
	assert_int_equal(sockdiag_read(b, n, &q, SEQ, &o), -E_NOTFOUND);
	n = unhex(b, tcp_hex);
	memset(b + sizeof(struct nlmsghdr) + offsetof(struct inet_diag_msg, idiag_inode), 0, 4);
	assert_int_equal(sockdiag_read(b, n, &q, SEQ, &o), -E_NOTFOUND);
	assert_int_equal(o.inode, 7);
}

/* Every cut of a good answer, and lengths that lie. */
static void
test_read_damaged(void **state)
{
	struct msg_find q = question(false, "127.0.0.1", TCP_PORT, "127.0.0.1", TCP_FAR);
	struct sock_owner o;
	uint8_t b[256];
	size_t n = unhex(b, tcp_hex);

	(void)state;
	for (size_t i = 0; i < n; i++)
		assert_int_not_equal(sockdiag_read(b, i, &q, SEQ, &o), 0);
	b[0] = 15;
	assert_int_equal(sockdiag_read(b, n, &q, SEQ, &o), -E_PROTO);
	b[0] = 20;
	assert_int_equal(sockdiag_read(b, n, &q, SEQ, &o), -E_PROTO);
	b[0] = 0xff;
	assert_int_equal(sockdiag_read(b, n, &q, SEQ, &o), -E_PROTO);
}

static size_t
put_message(uint8_t *at, uint16_t type, uint16_t flags, const void *body, size_t n)
{
	struct nlmsghdr h = { .nlmsg_len = (uint32_t)(sizeof h + n), .nlmsg_type = type, .nlmsg_flags = flags, .nlmsg_seq = SEQ };

	memcpy(at, &h, sizeof h);
	memcpy(at + sizeof h, body, n);
	return NLMSG_ALIGN(sizeof h + n);
}

static void
test_read_walk(void **state)
{
	struct msg_find q = question(false, "127.0.0.1", TCP_PORT, NULL, 0);
	struct inet_diag_msg other = { .idiag_family = AF_INET,
		.idiag_state = 1,
		.idiag_inode = 5,
		.id.idiag_sport = htons(TCP_PORT) },
			     hit = other;
	struct nlmsgerr none = { .error = -ENOENT }, busy = { .error = -EBUSY };
	struct sock_owner o = { 0 };
	uint8_t b[512];
	size_t n;
	int zero = 0;

	(void)state;
	hit.id.idiag_src[0] = htonl(INADDR_LOOPBACK);
	hit.idiag_inode = 9;
	hit.idiag_uid = 1000;
	n = put_message(b, 20, NLM_F_MULTI, &other, sizeof other);
	assert_int_equal(sockdiag_read(b, n, &q, SEQ, &o), -E_AGAIN);
	n += put_message(b + n, 20, NLM_F_MULTI, &hit, sizeof hit);
	assert_int_equal(sockdiag_read(b, n, &q, SEQ, &o), 0);
	assert_int_equal(o.inode, 9);
	assert_int_equal(o.uid, 1000);
	n = put_message(b, NLMSG_DONE, NLM_F_MULTI, &zero, sizeof zero);
	assert_int_equal(sockdiag_read(b, n, &q, SEQ, &o), -E_NOTFOUND);
	n = put_message(b, NLMSG_ERROR, 0, &none, sizeof none);
	assert_int_equal(sockdiag_read(b, n, &q, SEQ, &o), -E_NOTFOUND);
	n = put_message(b, NLMSG_ERROR, 0, &busy, sizeof busy);
	assert_int_equal(sockdiag_read(b, n, &q, SEQ, &o), -E_PROTO);
}

static void
test_write_ends(void **state)
{
	struct msg_find q = question(false, "2001:db8::1", 1000, "2001:db8::2", 2000), none = { .src_port = 1 };
	struct inet_diag_req_v2 r;
	struct nlmsghdr h;
	uint8_t b[SOCKDIAG_ASK_MAX];
	int n = sockdiag_write(b, &q, AF_INET6, 5);

	(void)state;
	assert_int_equal(n, (int)(sizeof h + sizeof r));
	memcpy(&h, b, sizeof h);
	memcpy(&r, b + sizeof h, sizeof r);
	assert_int_equal(h.nlmsg_len, n);
	assert_int_equal(h.nlmsg_seq, 5);
	assert_int_equal(h.nlmsg_flags & NLM_F_DUMP, 0);
	assert_int_equal(r.sdiag_family, AF_INET6);
	assert_int_equal(ntohs(r.id.idiag_sport), 1000);
	assert_memory_equal(r.id.idiag_src, q.src.b, 16);
	q.udp = 1;							/* the other way round */
	sockdiag_write(b, &q, AF_INET6, 5);
	memcpy(&r, b + sizeof h, sizeof r);
	assert_int_equal(ntohs(r.id.idiag_dport), 1000);
	assert_memory_equal(r.id.idiag_src, q.dst.b, 16);
	q.dst.family = 0;						/* a walk */
	sockdiag_write(b, &q, AF_INET6, 5);
	memcpy(&h, b, sizeof h);
	assert_int_equal(h.nlmsg_flags & NLM_F_DUMP, NLM_F_DUMP);
	assert_int_equal(sockdiag_write(b, &none, AF_INET, 5), -E_INVAL);
	q.src_port = 0;
	assert_int_equal(sockdiag_write(b, &q, AF_INET6, 5), -E_INVAL);
	q.src_port = 1;
	q.src.family = 99;
	assert_int_equal(sockdiag_write(b, &q, AF_INET6, 5), -E_INVAL);
}

/* ---- this machine's kernel */

static int
bound(int family, int type, const char *host, union sockaddr_any *sa)
{
	struct ip ip;
	socklen_t len;
	int fd = socket(family, type, 0);

	assert_int_equal(ip_parse(&ip, host), 0);
	len = family == AF_INET6 ? ip_to_sockaddr6(sa, &ip, 0) : ip_to_sockaddr(sa, &ip, 0);
	if (fd == -1 || bind(fd, &sa->sa, len) == -1)
		return -1;
	len = sizeof *sa;
	assert_int_equal(getsockname(fd, &sa->sa, &len), 0);
	return fd;
}

static void
expect_own(int diag, bool udp, const union sockaddr_any *own, const union sockaddr_any *far, int fd)
{
	struct msg_find q = { .udp = udp };
	struct sock_owner o = { 0 };
	char link[64], want[64], path[64];
	ssize_t n;

	ip_from_sockaddr(&q.src, &q.src_port, &own->sa);
	if (ip_is_unspecified(&q.src))
		assert_int_equal(ip_parse(&q.src, q.src.family == 4 ? "127.0.0.1" : "::1"), 0);
	for (int walk = 0; walk < 2; walk++) {
		q.dst = (struct ip){ .family = 0 };
		if (!walk)
			ip_from_sockaddr(&q.dst, &q.dst_port, &far->sa);
		assert_int_equal(sockdiag_find(diag, &q, &o), 0);
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		n = readlink(path, link, sizeof link - 1);
		assert_true(n > 0);
		link[n] = '\0';
		snprintf(want, sizeof want, "socket:[%u]", o.inode);
		assert_string_equal(link, want);
		assert_int_equal(o.uid, geteuid());
	}
}

static void
test_find_own_sockets(void **state)
{
	static const struct { int family; int type; const char *own, *far; } cases[] = {
		{ AF_INET, SOCK_STREAM, "127.0.0.1", "127.0.0.1" }, { AF_INET6, SOCK_STREAM, "::1", "::1" },
		{ AF_INET6, SOCK_STREAM, "127.0.0.1", "127.0.0.1" }, { AF_INET, SOCK_DGRAM, "127.0.0.1", "127.0.0.1" },
		{ AF_INET, SOCK_DGRAM, "0.0.0.0", "127.0.0.1" }, { AF_INET6, SOCK_DGRAM, "::1", "::1" }, { AF_INET6, SOCK_DGRAM, "::", "127.0.0.1" },
	};
	struct msg_find nobody = question(false, "127.0.0.1", 1, "127.0.0.1", 1);
	struct sock_owner o;
	int diag = sockdiag_open();

	(void)state;
	if (diag < 0)
		skip();
	assert_int_equal(sockdiag_find(diag, &nobody, &o), -E_NOTFOUND);
	for (size_t i = 0; i < countof(cases); i++) {
		union sockaddr_any own, far;
		int a = bound(cases[i].family, cases[i].type, cases[i].own, &own),
		    b = bound(cases[i].family, cases[i].type, cases[i].far, &far);

		if (a == -1 || b == -1)		/* no IPv6 here */
			continue;
		if (cases[i].type == SOCK_STREAM) {
			assert_int_equal(listen(b, 1), 0);
			assert_int_equal(connect(a, &far.sa, sizeof far), 0);
		}
		expect_own(diag, cases[i].type == SOCK_DGRAM, &own, &far, a);
		close(a);
		close(b);
	}
	close(diag);
}

/* ---- addresses */

static void
test_local_addresses(void **state)
{
	static const struct { const char *ip; bool local; } cases[] = {
		{ "127.0.0.1", true }, { "127.9.9.9", true }, { "::1", true }, { "192.0.2.1", false }, { "2001:db8::1", false }, { "0.0.0.0", false },
	};
	struct ip none = { .family = 0 }, bad = { .family = 9 }, own, any;
	union sockaddr_any sa;
	socklen_t len = sizeof sa;
	int fd = local_open(), s = socket(AF_INET, SOCK_DGRAM, 0);
	uint16_t port;

	(void)state;
	if (fd < 0)
		skip();
	for (size_t i = 0; i < countof(cases); i++) {
		assert_int_equal(ip_parse(&any, cases[i].ip), 0);
		assert_int_equal(local_has(fd, &any), cases[i].local);
	}
	assert_false(local_has(fd, &none));
	assert_false(local_has(fd, &bad));
	/* the address that this machine would send from, if it has one beside loopback */
	assert_int_equal(ip_parse(&any, "192.0.2.1"), 0);
	if (connect(s, &sa.sa, ip_to_sockaddr(&sa, &any, 9)) == 0) {
		assert_int_equal(getsockname(s, &sa.sa, &len), 0);
		ip_from_sockaddr(&own, &port, &sa.sa);
		assert_true(local_has(fd, &own));
		assert_int_equal(local_has(-1, &own), ip_is_loopback(&own));
	}
	close(s);
	close(fd);
}

static void
test_local_answers_damaged(void **state)
{
	struct rtmsg r = { .rtm_family = AF_INET, .rtm_type = RTN_LOCAL },
		     other = { .rtm_family = AF_INET, .rtm_type = RTN_UNICAST };
	struct nlmsgerr e = { .error = -ENETUNREACH };
	uint8_t b[128];
	size_t n = put_message(b, RTM_NEWROUTE, 0, &r, sizeof r);

	(void)state;
	assert_int_equal(local_read(b, n, SEQ), 1);
	assert_int_equal(local_read(b, n, SEQ + 1), -E_AGAIN);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(local_read(b, i, SEQ), -E_PROTO);
	b[0] = sizeof(struct nlmsghdr);
	assert_int_equal(local_read(b, n, SEQ), -E_PROTO);
	n = put_message(b, RTM_NEWROUTE, 0, &other, sizeof other);
	assert_int_equal(local_read(b, n, SEQ), 0);
	n = put_message(b, NLMSG_ERROR, 0, &e, sizeof e);
	assert_int_equal(local_read(b, n, SEQ), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_recorded), cmocka_unit_test(test_read_what_does_not_fit), cmocka_unit_test(test_read_damaged),
		cmocka_unit_test(test_read_walk), cmocka_unit_test(test_write_ends), cmocka_unit_test(test_find_own_sockets),
		cmocka_unit_test(test_local_addresses), cmocka_unit_test(test_local_answers_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
