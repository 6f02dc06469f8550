/* SPDX-License-Identifier: MIT */
/* What is behind the proxy: a TCP echo that answers an end with an end, a UDP echo that remembers from which port each flow
 * came, a DNS server that knows one address. */
#include "tests/reload/load/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 65536, BATCH = 32 };
struct echo {
	struct src src;
	size_t len, off;		/* what could not be written yet */
	bool ended;
	unsigned char *buf;
};
static struct src tcp, udp, dns;
static uint16_t came_from[UDP_MAX];
static unsigned char chunk[CHUNK];

uint16_t
serve_udp_port(uint32_t flow)
{
	return flow < UDP_MAX ? came_from[flow] : 0;
}

static void
echo_close(struct echo *e, bool reset)
{
	struct linger l = { .l_onoff = 1 };

	if (reset)
		setsockopt(e->src.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	unwatch(&e->src);
	free(e->buf);
	free(e);
}

/* Writes what is there; what does not fit is kept, and nothing is read until it is gone. */
static bool
echo_write(struct echo *e, const unsigned char *p, size_t n)
{
	ssize_t w = n > 0 ? send(e->src.fd, p, n, MSG_NOSIGNAL) : 0;

	if (w == -1 && errno != EAGAIN)
		return false;
	if (w == -1)
		w = 0;
	if ((size_t)w == n)
		return true;
	if (e->buf == NULL && (e->buf = malloc(CHUNK)) == NULL)
		die("malloc");
	memmove(e->buf, p + w, n - (size_t)w);
	e->off = 0;
	e->len = n - (size_t)w;
	watch(&e->src, EPOLLOUT);
	return true;
}

static void
on_echo(struct src *s, uint32_t events)
{
	struct echo *e = (struct echo *)s;
	ssize_t n;

	(void)events;
	if (e->len > e->off) {
		size_t left = e->len - e->off, off = e->off;

		e->len = e->off = 0;
		if (!echo_write(e, e->buf + off, left)) {
			echo_close(e, true);
			return;
		}
		if (e->len > 0)
			return;
		watch(&e->src, EPOLLIN);
	}
	for (int i = 0; i < 4; i++) {
		n = recv(s->fd, chunk, sizeof chunk, 0);
		if (n == -1 && errno == EAGAIN)
			return;
		if (n <= 0) {
			echo_close(e, n == -1);
			return;
		}
		if (!echo_write(e, chunk, (size_t)n)) {
			echo_close(e, true);
			return;
		}
		if (e->len > 0 || (size_t)n < sizeof chunk)
			return;
	}
}

static void
on_accept(struct src *s, uint32_t events)
{
	int one = 1;

	(void)events;
	for (int i = 0; i < BATCH; i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct echo *e;

		if (fd == -1)
			return;
		e = calloc(1, sizeof *e);
		if (e == NULL)
			die("calloc");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		e->src = (struct src){ fd, on_echo };
		counts.accepted++;
		watch(&e->src, EPOLLIN);
	}
}

static void
on_udp(struct src *s, uint32_t events)
{
	static unsigned char data[BATCH][2048];
	struct sockaddr_in from[BATCH];
	struct iovec iov[BATCH];
	struct mmsghdr m[BATCH];
	int n;

	(void)events;
	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ data[i], sizeof data[i] };
		m[i] = (struct mmsghdr){
			.msg_hdr = { .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &iov[i], .msg_iovlen = 1 }
		};
	}
	n = recvmmsg(s->fd, m, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++) {
		uint32_t flow;

		iov[i].iov_len = m[i].msg_len;
		if (m[i].msg_len < 8)
			continue;
		memcpy(&flow, data[i], sizeof flow);
		if (flow >= UDP_MAX || came_from[flow] == from[i].sin_port)
			continue;
		if (came_from[flow] != 0)
			counts.udp_ports++;
		came_from[flow] = from[i].sin_port;
	}
	if (n > 0)
		sendmmsg(s->fd, m, (unsigned)n, MSG_DONTWAIT);
}

/* Any question of type A: 127.0.0.1; of another: nothing. */
static void
on_dns(struct src *s, uint32_t events)
{
	static const unsigned char a[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1 };
	unsigned char q[1024];
	struct sockaddr_in from;
	socklen_t len = sizeof from;

	(void)events;
	for (int i = 0; i < BATCH; i++, len = sizeof from) {
		ssize_t n = recvfrom(s->fd, q, sizeof q - sizeof a, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
		size_t end = 12;
		bool is_a;

		if (n < 17)
			return;
		while (end < (size_t)n && q[end] != 0)
			end += 1u + q[end];
		end += 5;
		if (end > (size_t)n)
			continue;
		is_a = q[end - 3] == 1;
		memcpy(q + 2, (unsigned char[]){ 0x81, 0x80, 0, 1, 0, is_a, 0, 0, 0, 0 }, 10);
		memcpy(q + end, a, sizeof a);
		sendto(s->fd, q, end + (is_a ? sizeof a : 0), MSG_DONTWAIT, (struct sockaddr *)&from, len);
	}
}

static int
bound(int type, int port, bool any)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(any ? INADDR_ANY : INADDR_LOOPBACK) };
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, size = 8 << 20;

	if (type == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	else if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) == -1)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (fd == -1 || bind(fd, (struct sockaddr *)&at, sizeof at) == -1 || (type == SOCK_STREAM && listen(fd, 4096) == -1))
		die("bind");
	return fd;
}

void
serve_open(void)
{
	tcp = (struct src){ bound(SOCK_STREAM, ntohs(target.sin_port), true), on_accept };
	udp = (struct src){ bound(SOCK_DGRAM, ntohs(target.sin_port), true), on_udp };
	dns = (struct src){ bound(SOCK_DGRAM, option("nameserver", 0), false), on_dns };
	watch(&tcp, EPOLLIN);
	watch(&udp, EPOLLIN);
	watch(&dns, EPOLLIN);
}
