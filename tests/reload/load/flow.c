/* SPDX-License-Identifier: MIT */
/* The TCP clients of the proxy. Each flow is opened through one of its ports (SOCKS5, SOCKS5 on the mixed port, HTTP CONNECT)
 * and then is one of
 *
 *   churn   one message there and back, closed, opened again: as many as there are slots, or `rate` a second
 *   ping    stays open; now and then a numbered message with the time in it, whose echo must be the next number
 *   busy    transfers of random length, SHA-256 of what was sent compared with that of the echo; one in four ends each transfer with a half close
 *           and must see the end after the last byte
 *   assoc   the control connection of a UDP association (udp.c)
 *
 *   CLOSED -> CONNECT -> METHOD (SOCKS) -> REPLY -> OPEN -> CLOSED, opened again by flow_scan or the pacing */
#include "tests/reload/load/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
enum state { CLOSED, CONNECT, METHOD, REPLY, OPEN };
enum { VIA_SOCKS, VIA_MIXED, VIA_HTTP, VIA_COUNT };
enum { POOL = 1 << 20, CHUNK = 16384, WINDOW = 4 * CHUNK, TRANSFER_MIN = 32768, TRANSFER_SPAN = 262144, AGAIN_MS = 100, SOURCES = 64 };
static const char *const via_name[VIA_COUNT] = { "socks", "mixed", "http" };
static const char *const state_name[] = { "closed", "connect", "method", "reply", "open" };

struct flow {
	struct src src;
	enum kind kind;
	enum state state;
	int via;
	bool own;			/* a killed process held it */
	bool parked;			/* opened only when it is asked for */
	struct sockaddr_in local;
	uint64_t began, progress;	/* us */
	unsigned char in[512];
	size_t in_len;
	uint64_t sent, got, want;	/* bytes of a transfer; messages of a ping */
	bool half, ended;
	uint32_t offset;		/* in the pool */
	EVP_MD_CTX *out, *back;
	uint32_t udp;
};

static struct flow flows[FLOWS_MAX];
static unsigned first[K_COUNT], count[K_COUNT], n_flows, turn[K_COUNT];
static struct sockaddr_in proxy[VIA_COUNT];
static unsigned char pool[POOL];
static unsigned char big[65536];
static bool paused;
static uint64_t seed = 88172645463325252u;
static double due[K_COUNT];

static uint32_t
dice(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static void on_flow(struct src *s, uint32_t events);

static void
shut(struct flow *f, bool reset)
{
	struct linger l = { .l_onoff = 1 };

	if (f->state == CLOSED)
		return;
	if (f->kind == K_ASSOC && f->state == OPEN)
		udp_relay(f->udp, NULL);
	if (reset)
		setsockopt(f->src.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
	unwatch(&f->src);
	f->state = CLOSED;
	f->began = now_us();
}

static void
fail(struct flow *f, enum why w, const char *what)
{
	tally_fail(f->kind, w, f->own, "%s, %s, port %u, %llu us after it began, %llu of %llu: %s", state_name[f->state],
	    via_name[f->via], ntohs(f->local.sin_port), (unsigned long long)(clock_us() - f->began), (unsigned long long)f->got,
	    (unsigned long long)f->sent, what);
	shut(f, true);
}

static void
begin(struct flow *f)
{
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + dice() % SOURCES) };
	socklen_t len = sizeof f->local;
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd == -1)
		die("socket");
	f->in_len = 0;
	f->sent = f->got = f->want = 0;
	f->own = f->ended = false;
	f->state = CONNECT;
	f->began = clock_us();
	f->src = (struct src){ fd, on_flow };
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&from, sizeof from) == -1)
		die("bind");
	watch(&f->src, EPOLLOUT);
	if (connect(fd, (struct sockaddr *)&proxy[f->via], sizeof proxy[0]) == -1 && errno != EINPROGRESS) {
		fail(f, tally_errno(errno), strerror(errno));
		return;
	}
	getsockname(fd, (struct sockaddr *)&f->local, &len);
}

/* Small messages into an empty socket: what does not fit at once is a failure of the path. */
static bool
put(struct flow *f, const void *p, size_t n)
{
	ssize_t w = send(f->src.fd, p, n, MSG_NOSIGNAL);

	if (w == (ssize_t)n)
		return true;
	fail(f, w == -1 ? tally_errno(errno) : BAD_SHORT, w == -1 ? strerror(errno) : "a message did not fit");
	return false;
}

static bool
message(struct flow *f)
{
	uint64_t m[2] = { f->sent, clock_us() };

	if (f->sent == f->got)
		f->progress = m[1];
	if (!put(f, m, sizeof m))
		return false;
	f->sent++;
	return true;
}

/* ---- transfers */

static void
transfer_begin(struct flow *f)
{
	f->want = TRANSFER_MIN + dice() % TRANSFER_SPAN;
	f->offset = dice() % POOL;
	f->sent = f->got = 0;
	f->progress = now_us();
	EVP_DigestInit_ex(f->out, EVP_sha256(), NULL);
	EVP_DigestInit_ex(f->back, EVP_sha256(), NULL);
}

/* Up to a chunk; nothing when the window is full. The turn comes again. */
static void
transfer_send(struct flow *f)
{
	size_t at = (f->offset + f->sent) % POOL, n = POOL - at < CHUNK ? POOL - at : CHUNK;
	ssize_t w;

	if (n > f->want - f->sent)
		n = f->want - f->sent;
	if (n == 0 || f->sent - f->got > WINDOW)
		return;
	w = send(f->src.fd, pool + at, n, MSG_NOSIGNAL);
	if (w == -1) {
		if (errno != EAGAIN)
			fail(f, tally_errno(errno), strerror(errno));
		return;
	}
	EVP_DigestUpdate(f->out, pool + at, (size_t)w);
	f->sent += (size_t)w;
	counts.bytes += (size_t)w;
	if (f->half && f->sent == f->want)
		shutdown(f->src.fd, SHUT_WR);
}

static void
transfer_end(struct flow *f)
{
	unsigned char a[32], b[32];

	EVP_DigestFinal_ex(f->out, a, NULL);
	EVP_DigestFinal_ex(f->back, b, NULL);
	if (memcmp(a, b, sizeof a) != 0) {
		fail(f, BAD_CORRUPT, "another SHA-256");
		return;
	}
	tally[K_BUSY].ok++;
	counts.transfers++;
	if (!f->half) {
		transfer_begin(f);
		return;
	}
	shut(f, false);
	begin(f);
}

static void
on_busy(struct flow *f)
{
	for (int i = 0; i < 4; i++) {
		ssize_t n = recv(f->src.fd, big, sizeof big, 0);

		if (n == -1 && errno == EAGAIN)
			return;
		if (n == -1) {
			fail(f, tally_errno(errno), strerror(errno));
			return;
		}
		if (n == 0) {
			if (f->half && f->got == f->want)
				transfer_end(f);
			else
				fail(f, f->half && f->sent == f->want ? BAD_SHORT : BAD_CLOSED, "the end before the last byte");
			return;
		}
		f->got += (size_t)n;
		f->progress = now_us();
		if (f->got > f->sent) {
			fail(f, BAD_CORRUPT, "more than was sent");
			return;
		}
		EVP_DigestUpdate(f->back, big, (size_t)n);
		if (f->got == f->want && !f->half) {
			transfer_end(f);
			return;
		}
	}
}

/* ---- messages */

static void
on_message(struct flow *f)
{
	ssize_t n = recv(f->src.fd, f->in + f->in_len, sizeof f->in - f->in_len, 0);
	size_t off = 0;

	if (n == -1 && errno == EAGAIN)
		return;
	if (n <= 0) {
		fail(f, n == 0 ? BAD_CLOSED : tally_errno(errno), n == 0 ? "the end" : strerror(errno));
		return;
	}
	for (f->in_len += (size_t)n; f->in_len - off >= MESSAGE; off += MESSAGE) {
		uint64_t m[2];

		memcpy(m, f->in + off, sizeof m);
		if (m[0] != f->got || f->got >= f->sent) {
			fail(f, BAD_CORRUPT, "another message");
			return;
		}
		f->got++;
		f->progress = clock_us();
		if (f->kind == K_PING) {
			tally_time(H_PING, f->progress - m[1]);
			tally[K_PING].ok++;
			continue;
		}
		tally_time(H_CONNECT, f->progress - f->began);
		tally[K_CHURN].ok++;
		shut(f, false);
		if (option("rate", 0) == 0 && !paused)
			begin(f);
		return;
	}
	f->in_len -= off;
	memmove(f->in, f->in + off, f->in_len);
}

/* ---- opening */

static void
opened(struct flow *f)
{
	struct sockaddr_in relay = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	f->state = OPEN;
	f->progress = now_us();
	switch (f->kind) {
	case K_CHURN:
	case K_PING:
		message(f);
		break;
	case K_BUSY:
		transfer_begin(f);
		transfer_send(f);
		break;
	default:
		memcpy(&relay.sin_port, f->in + 8, 2);
		tally[K_ASSOC].ok++;
		udp_relay(f->udp, &relay);
	}
	f->in_len = 0;
}

static void
on_connect(struct flow *f)
{
	int e = 0;
	socklen_t len = sizeof e;
	char head[128];

	if (getsockopt(f->src.fd, SOL_SOCKET, SO_ERROR, &e, &len) == -1 || e != 0) {
		fail(f, tally_errno(e), strerror(e));
		return;
	}
	len = sizeof f->local;
	getsockname(f->src.fd, (struct sockaddr *)&f->local, &len);
	watch(&f->src, EPOLLIN | EPOLLRDHUP);
	if (f->via == VIA_HTTP) {
		int n = snprintf(head, sizeof head, "CONNECT 127.0.0.1:%u HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n",
		    ntohs(target.sin_port), ntohs(target.sin_port));

		f->state = REPLY;
		put(f, head, (size_t)n);
	} else {
		f->state = METHOD;
		put(f, "\x05\x01\x00", 3);
	}
}

static void
on_reply(struct flow *f)
{
	static const unsigned char connect_head[] = { 5, 1, 0, 1, 127, 0, 0, 1 };
	size_t want = f->state == METHOD ? 2 : 10;
	unsigned char ask[10];
	ssize_t n;

	if (f->via == VIA_HTTP)
		want = sizeof f->in - 1;
	n = recv(f->src.fd, f->in + f->in_len, want - f->in_len, 0);
	if (n == -1 && errno == EAGAIN)
		return;
	if (n <= 0) {
		fail(f, n == 0 ? BAD_CLOSED : tally_errno(errno), n == 0 ? "the end before the reply" : strerror(errno));
		return;
	}
	f->in_len += (size_t)n;
	if (f->via == VIA_HTTP) {
		if (f->in_len < 4 || memcmp(f->in + f->in_len - 4, "\r\n\r\n", 4) != 0)
			return;
		if (f->in_len < 12 || memcmp(f->in + 8, " 200", 4) != 0)
			fail(f, BAD_REPLY, "no 200");
		else
			opened(f);
		return;
	}
	if (f->in_len < want)
		return;
	f->in_len = 0;
	if (f->state == REPLY) {
		if (f->in[1] != 0)
			fail(f, BAD_REPLY, "SOCKS5 says no");
		else
			opened(f);
		return;
	}
	if (f->in[1] != 0) {
		fail(f, BAD_REPLY, "SOCKS5 wants another method");
		return;
	}
	f->state = REPLY;
	memcpy(ask, connect_head, sizeof connect_head);
	memcpy(ask + 8, &target.sin_port, 2);
	if (f->kind == K_ASSOC) {
		ask[1] = 3;
		memset(ask + 4, 0, 6);
	}
	put(f, ask, sizeof ask);
}

static void
on_flow(struct src *s, uint32_t events)
{
	struct flow *f = (struct flow *)s;

	(void)events;
	switch (f->state) {
	case CONNECT:
		on_connect(f);
		break;
	case METHOD:
	case REPLY:
		on_reply(f);
		break;
	case OPEN:
		if (f->kind == K_BUSY)
			on_busy(f);
		else
			on_message(f);
		break;
	default:
		break;
	}
}

/* ---- pacing */

static void
add(enum kind k, unsigned n, unsigned vias)
{
	first[k] = n_flows;
	count[k] = n;
	for (unsigned i = 0; i < n; i++) {
		struct flow *f = &flows[n_flows++];

		f->kind = k;
		f->via = (int)(i % vias);
		f->udp = i;
		f->half = k == K_BUSY && i % 4 == 3;
		f->parked = true;
		if (k == K_BUSY) {
			f->out = EVP_MD_CTX_new();
			f->back = EVP_MD_CTX_new();
			if (f->out == NULL || f->back == NULL)
				die("EVP_MD_CTX_new");
		}
	}
}

void
flow_open_all(void)
{
	for (size_t i = 0; i < sizeof pool; i += 4) {
		uint32_t r = dice();

		memcpy(pool + i, &r, 4);
	}
	for (int v = 0; v < VIA_COUNT; v++)
		proxy[v] = (struct sockaddr_in){ .sin_family = AF_INET,
			.sin_port = htons((uint16_t)option(via_name[v], 0)),
			.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	add(K_PING, (unsigned)option("ping", 0), VIA_COUNT);
	add(K_BUSY, (unsigned)option("busy", 0), VIA_COUNT);
	add(K_ASSOC, (unsigned)option("assoc", 0), VIA_HTTP);
	add(K_CHURN, (unsigned)option("churn", 0), VIA_COUNT);
}

/* How many of this kind are due at `rate` a second after ms more. */
static unsigned
portion(enum kind k, int rate, uint64_t ms)
{
	unsigned n;

	due[k] += (double)rate * (double)ms / 1000;
	if (due[k] > (double)rate / 4 + 1)	/* after a pause of the machine: no storm */
		due[k] = (double)rate / 4 + 1;
	n = (unsigned)due[k];
	due[k] -= n;
	return n;
}

static struct flow *
take_turn(enum kind k)
{
	return &flows[first[k] + turn[k]++ % count[k]];
}

void
flow_tick(uint64_t ms)
{
	unsigned n = count[K_PING] > 0 ? portion(K_PING, option("ping-rate", 200), ms) : 0;
	struct flow *f;

	for (; n > 0; n--)
		if ((f = take_turn(K_PING))->state == OPEN)
			message(f);
	n = count[K_BUSY] > 0 ? portion(K_BUSY, option("busy-rate", 1000), ms) : 0;
	for (; n > 0; n--)
		if ((f = take_turn(K_BUSY))->state == OPEN)
			transfer_send(f);
	n = count[K_CHURN] > 0 && option("rate", 0) > 0 && !paused ? portion(K_CHURN, option("rate", 0), ms) : 0;
	for (; n > 0; n--) {
		for (unsigned i = 0; i < count[K_CHURN]; i++)
			if ((f = take_turn(K_CHURN))->state == CLOSED) {
				begin(f);
				break;
			}
	}
}

static void
scan(struct flow *f)
{
	uint64_t now = clock_us(), limit = TIMEOUT_MS * 1000u;
	bool waits = f->kind == K_BUSY ? f->got < f->sent || (f->half && f->sent == f->want) : f->got < f->sent;

	if (f->state == CLOSED) {
		if (f->kind == K_CHURN ? !paused && option("rate", 0) == 0 : now - f->began > AGAIN_MS * 1000)
			begin(f);
	} else if (f->state != OPEN) {
		if (now - f->began > limit)
			fail(f, BAD_TIMEOUT, "no answer");
	} else if (waits && now > f->progress + limit)
		fail(f, BAD_TIMEOUT, "nothing comes back");
}

/* Opens at most a few at a time, so that the accept queues of a proxy that is pointed at for comparison bear it. */
void
flow_scan(void)
{
	unsigned starts = 0;

	for (unsigned i = 0; i < n_flows; i++) {
		if (flows[i].parked && starts++ >= 400)
			continue;
		flows[i].parked = false;
		scan(&flows[i]);
	}
}

void
flow_pause(bool churn)
{
	paused = churn;
}

bool
flow_quiet(void)
{
	for (unsigned i = 0; i < n_flows; i++) {
		const struct flow *f = &flows[i];

		if (f->kind == K_CHURN ? f->state != CLOSED : f->state != OPEN)
			return false;
	}
	return true;
}

unsigned
flow_living(enum kind k)
{
	unsigned n = 0;

	for (unsigned i = first[k]; i < first[k] + count[k]; i++)
		n += flows[i].state == OPEN;
	return n;
}

void
flow_each_open(void (*fn)(const struct sockaddr_in *local, bool *own, void *arg), void *arg)
{
	for (unsigned i = 0; i < n_flows; i++)
		if (flows[i].state != CLOSED)
			fn(&flows[i].local, &flows[i].own, arg);
}
