/* SPDX-License-Identifier: MIT */
/* The UDP clients: flows through SOCKS5 associations (the first `assoc`) and through the tunnel (the rest), each sending
 * numbered datagrams by the clock; and DNS questions to the proxy's listener. A datagram that is not answered within LOST_MS
 * is lost. */
#include "tests/reload/load/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SIZE = 64, HEAD = 10 /* of SOCKS5 */, DNS_SOCKETS = 16 };
struct sent {
	uint64_t at;			/* us; 0: answered */
	uint32_t seq;
	bool own;			/* a killed process may have had it in its hands */
};
struct udp {
	struct src src;
	struct sockaddr_in to;
	uint32_t seq;
	bool ready;
	struct sent ring[RING];
};

static struct udp udps[UDP_MAX];
static unsigned n_udps, n_assoc, turn, dns_turn;
static double due, dns_due;
static bool paused;
static struct src dns[DNS_SOCKETS];
static struct sent questions[65536];
static uint32_t dns_seq;
static struct sockaddr_in dns_at;

static void
lose(const struct udp *u, struct sent *s)
{
	if (s->own)
		counts.udp_own++;
	else {
		counts.udp_lost++;
		tally_note("{\"event\":\"lost\",\"kind\":\"udp\",\"at\":%.6f,\"text\":\"datagram %u of flow %u, seen last from port %u\"}", (double)s->at / 1e6, s->seq,
		    (unsigned)(u - udps), ntohs(serve_udp_port((uint32_t)(u - udps))));
	}
	s->at = 0;
}

/* Answers to what a killed process had sent may meet the next socket with the same port: of 500 new ones in 28,000 ports a few
 * are given an old one. */
static bool
astray(const unsigned char *data, size_t n)
{
	uint32_t tag[2];
	const struct sent *s;

	if (n < SIZE && n > 12 &&
	    (!memcmp(data + 2, "\x81\x80", 2) || (n > HEAD + 12 && !memcmp(data + HEAD + 2, "\x81\x80", 2))))
		return true;		/* of our name server to the killed one */
	if (n != SIZE && n != HEAD + SIZE)
		return false;
	memcpy(tag, data + n - SIZE, sizeof tag);
	if (tag[0] >= n_udps)
		return false;
	s = &udps[tag[0]].ring[tag[1] % RING];
	return s->own && s->seq == tag[1];
}

static void
corrupt(uint32_t i, size_t n, const unsigned char *data)
{
	uint32_t tag[2] = { UDP_MAX, 0 };

	if (n == SIZE || n == HEAD + SIZE)
		memcpy(tag, data + n - SIZE, sizeof tag);
	if (astray(data, n)) {
		counts.udp_astray++;
		return;
	}
	counts.udp_corrupt++;
	tally_note("{\"event\":\"lost\",\"kind\":\"udp\",\"at\":%.6f,\"text\":\"flow %u (remote port %u) got %zu bytes, datagram %u of flow %u (remote port %u)\"}",
	    (double)clock_us() / 1e6, i, ntohs(serve_udp_port(i)), n, tag[1], tag[0], ntohs(serve_udp_port(tag[0])));
}

static void
on_udp(struct src *src, uint32_t events)
{
	struct udp *u = (struct udp *)src;
	unsigned char data[2048];
	uint32_t i = (uint32_t)(u - udps), head = i < n_assoc ? HEAD : 0;

	(void)events;
	for (int k = 0; k < RING; k++) {
		ssize_t n = recv(src->fd, data, sizeof data, MSG_DONTWAIT);
		uint32_t tag[2];
		struct sent *s;

		if (n == -1)
			return;
		if ((size_t)n != head + SIZE) {
			corrupt(i, (size_t)n, data);
			continue;
		}
		memcpy(tag, data + head, sizeof tag);
		s = &u->ring[tag[1] % RING];
		if (tag[0] != i || data[head + SIZE - 1] != (unsigned char)tag[1])
			corrupt(i, (size_t)n, data);
		else if (s->seq != tag[1] || s->at == 0)
			counts.udp_twice++;
		else {
			counts.udp_answered++;
			tally_time(H_UDP, clock_us() - s->at);
			s->at = 0;
		}
	}
}

static void
open_udp(struct udp *u)
{
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd == -1 || bind(fd, (struct sockaddr *)&from, sizeof from) == -1)
		die("udp");
	u->src = (struct src){ fd, on_udp };
	watch(&u->src, EPOLLIN);
}

static void
send_one(struct udp *u)
{
	static const unsigned char head[4] = { 0, 0, 0, 1 };
	unsigned char data[HEAD + SIZE] = { 0 }, *p = data;
	uint32_t i = (uint32_t)(u - udps), tag[2] = { i, u->seq };
	struct sent *s = &u->ring[u->seq % RING];

	if (!u->ready)
		return;
	if (s->at != 0)
		lose(u, s);
	if (i < n_assoc) {
		memcpy(p, head, sizeof head);
		memcpy(p + 4, &target.sin_addr, 4);
		memcpy(p + 8, &target.sin_port, 2);
		p += HEAD;
	}
	memcpy(p, tag, sizeof tag);
	p[SIZE - 1] = (unsigned char)u->seq;
	*s = (struct sent){ clock_us(), u->seq++, false };
	counts.udp_sent++;
	if (sendto(u->src.fd, data, (size_t)(p + SIZE - data), 0, (struct sockaddr *)&u->to, sizeof u->to) == -1)
		tally_note("{\"event\":\"lost\",\"kind\":\"udp\",\"at\":%.6f,\"text\":\"sendto: %s\"}", (double)s->at / 1e6,
		    strerror(errno));
}

void
udp_relay(uint32_t i, const struct sockaddr_in *relay)
{
	struct udp *u = &udps[i];

	if (i >= n_assoc)
		return;
	u->ready = relay != NULL;
	if (relay != NULL)
		u->to = *relay;
	else	/* what is under way went with it, rightly or not: the control connection is counted */
		for (int k = 0; k < RING; k++)
			u->ring[k].own = true;
}

/* ---- DNS */

static void
on_dns(struct src *src, uint32_t events)
{
	unsigned char a[1024];

	(void)events;
	for (int k = 0; k < RING; k++) {
		ssize_t n = recv(src->fd, a, sizeof a, MSG_DONTWAIT);
		struct sent *s;

		if (n < 12)
			return;
		s = &questions[a[0] << 8 | a[1]];
		if (s->at == 0) {
			counts.dns_twice++;
			continue;
		}
		if ((a[3] & 15) != 0 || a[7] == 0 || memcmp(a + n - 4, "\x7f\0\0\1", 4) != 0)
			counts.dns_wrong++;
		else
			counts.dns_answered++;
		tally_time(H_DNS, clock_us() - s->at);
		s->at = 0;
	}
}

/* Half of the names were asked before. */
static void
ask(void)
{
	unsigned char q[128] = { 0, 0, 1, 0, 0, 1 };
	struct sent *s;
	uint32_t id = dns_seq++ & 0xffff;
	char name[32];
	int n;
	size_t len = 12;

	q[0] = (unsigned char)(id >> 8);
	q[1] = (unsigned char)id;
	n = snprintf(name, sizeof name, "n%u", dns_seq % 2 != 0 ? dns_seq : dns_seq % 64);
	q[len++] = (unsigned char)n;
	memcpy(q + len, name, (size_t)n);
	len += (size_t)n;
	memcpy(q + len, "\x06reload\x04test\0\0\1\0\1", 17);
	len += 17;
	s = &questions[id];
	*s = (struct sent){ clock_us(), dns_seq, false };
	counts.dns_sent++;
	sendto(dns[dns_turn++ % DNS_SOCKETS].fd, q, len, 0, (struct sockaddr *)&dns_at, sizeof dns_at);
}

/* ---- pacing */

void
udp_open_all(void)
{
	struct sockaddr_in tunnel = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)option("tunnel", 0)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};

	n_assoc = (unsigned)option("assoc", 0);
	n_udps = n_assoc + (unsigned)option("tunnels", 0);
	for (unsigned i = 0; i < n_udps; i++) {
		open_udp(&udps[i]);
		udps[i].to = tunnel;
		udps[i].ready = i >= n_assoc;
	}
	dns_at = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)option("dns", 0)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	for (int i = 0; i < DNS_SOCKETS; i++) {
		struct udp one = { 0 };

		open_udp(&one);
		dns[i].fn = on_dns;
		dns[i].fd = one.src.fd;
		watch(&dns[i], EPOLLIN);
	}
}

static unsigned
portion(double *d, int rate, uint64_t ms)
{
	unsigned n;

	*d += (double)rate * (double)ms / 1000;
	if (*d > (double)rate / 4 + 1)
		*d = (double)rate / 4 + 1;
	n = (unsigned)*d;
	*d -= n;
	return n;
}

void
udp_tick(uint64_t ms)
{
	unsigned n = n_udps > 0 ? portion(&due, option("udp-rate", 2000), ms) : 0;

	if (paused)
		return;
	for (; n > 0; n--)
		send_one(&udps[turn++ % n_udps]);
	n = option("dns", 0) != 0 ? portion(&dns_due, option("dns-rate", 200), ms) : 0;
	for (; n > 0; n--)
		ask();
}

void
udp_scan(void)
{
	uint64_t now = clock_us();

	for (unsigned i = 0; i < n_udps; i++)
		for (int k = 0; k < RING; k++)
			if (udps[i].ring[k].at != 0 && now > udps[i].ring[k].at + LOST_MS * 1000)
				lose(&udps[i], &udps[i].ring[k]);
	for (size_t i = 0; i < 65536; i++)
		if (questions[i].at != 0 && now > questions[i].at + LOST_MS * 1000) {
			if (questions[i].own)
				counts.dns_own++;
			else {
				counts.dns_lost++;
				tally_note("{\"event\":\"lost\",\"kind\":\"dns\",\"at\":%.6f,\"text\":\"question %u\"}",
				    (double)questions[i].at / 1e6, questions[i].seq);
			}
			questions[i].at = 0;
		}
}

void
udp_pause(bool on)
{
	paused = on;
}

bool
udp_quiet(void)
{
	for (unsigned i = 0; i < n_udps; i++)
		for (int k = 0; k < RING; k++)
			if (udps[i].ring[k].at != 0)
				return false;
	for (size_t i = 0; i < 65536; i++)
		if (questions[i].at != 0)
			return false;
	return true;
}

unsigned
udp_living(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_udps; i++)
		n += udps[i].ready;
	return n;
}

void
udp_own(bool (*held)(uint16_t port, void *arg), void *arg)
{
	for (unsigned i = 0; i < n_udps; i++)
		if (held(serve_udp_port(i), arg))
			for (int k = 0; k < RING; k++)
				udps[i].ring[k].own = true;
	for (size_t i = 0; i < 65536; i++)
		questions[i].own = true;
}
