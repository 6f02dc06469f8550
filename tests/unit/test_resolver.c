/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/dns/resolver.c, transport.c, cache.c and system.c against name servers of this process, on loopback. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/config_tree.h"
#include "common/memfd.h"
#include "common/strutil.h"
#include "worker/codec/dns.h"
#include "worker/dns/hosts.h"
#include "worker/dns/internal.h"
#include "worker/loader/yaml.h"
#include "worker/worker.h"

enum { SERVERS = 2, PATIENCE_MS = 3000, NEVER_MS = 60000 };

/* ---- a name server */

struct server;
/* Answers a query, or does not. */
typedef void server_fn(struct server *s, const uint8_t *q, size_t n, bool tcp);
struct server {
	int udp, listener, conn;
	uint16_t port;
	server_fn *fn;
	struct sockaddr_storage from;
	socklen_t from_len;
	int seen_a, seen_aaaa, seen_other, seen_tcp, accepted;
	const char *v4, *v6;		/* NULL: no such record */
	uint32_t ttl;
	unsigned rcode;			/* of empty answers */
	int soa_minimum;		/* -1: no SOA */
	uint8_t in[1024];		/* of conn */
	size_t got;
};

static uint16_t
qtype_of(const uint8_t *q, size_t n)
{
	return (uint16_t)(q[n - 4] << 8 | q[n - 3]);
}

static void
send_to(struct server *s, const uint8_t *p, size_t n, bool tcp)
{
	if (tcp) {
		uint8_t head[2] = { (uint8_t)(n >> 8), (uint8_t)n };

		/* in pieces, as a network may */
		assert_int_equal(send(s->conn, head, 1, 0), 1);
		assert_int_equal(send(s->conn, head + 1, 1, 0), 1);
		assert_int_equal(send(s->conn, p, n / 2, 0), n / 2);
		assert_int_equal(send(s->conn, p + n / 2, n - n / 2, 0), n - n / 2);
	} else {
		assert_int_equal(sendto(s->udp, p, n, 0, (struct sockaddr *)&s->from, s->from_len), n);
	}
}

/* The answer that the server's fields say; its length. */
static size_t
make(const struct server *s, uint8_t out[static 1024], const uint8_t *q, size_t n)
{
	uint16_t type = qtype_of(q, n);
	const char *text = type == DNS_T_A ? s->v4 : type == DNS_T_AAAA ? s->v6 : NULL;
	struct ip ip;
	size_t at = n, len;

	memcpy(out, q, n);
	out[2] |= 0x80;
	out[3] = 0x80;
	if (type == DNS_T_TXT) {
		static const uint8_t rr[] = { 0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 9, 0, 3, 2, 'h', 'i' };

		out[7] = 1;
		memcpy(out + at, rr, sizeof(rr));
		return at + sizeof(rr);
	}
	if (text == NULL) {
		out[3] = (uint8_t)(0x80 | s->rcode);
		if (s->soa_minimum >= 0) {
			const uint8_t rr[] = { 0xc0, 12, 0, 6, 0, 1, 0, 0, 0x10, 0, 0, 22, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0,
				0, 0, 1, 0, 0, 0, 1, 0, 0, (uint8_t)(s->soa_minimum >> 8), (uint8_t)s->soa_minimum };

			out[9] = 1;
			memcpy(out + at, rr, sizeof(rr));
			at += sizeof(rr);
		}
		return at;
	}
	assert_int_equal(ip_parse(&ip, text), 0);
	len = ip.family == 4 ? 4 : 16;
	out[7] = 1;
	const uint8_t rr[] = { 0xc0, 12, 0, (uint8_t)type, 0, 1, (uint8_t)(s->ttl >> 24), (uint8_t)(s->ttl >> 16),
		(uint8_t)(s->ttl >> 8), (uint8_t)s->ttl, 0, (uint8_t)len };

	memcpy(out + at, rr, sizeof(rr));
	memcpy(out + at + sizeof(rr), ip.b, len);
	return at + sizeof(rr) + len;
}

static void
serve_plain(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	uint8_t out[1024];

	send_to(s, out, make(s, out, q, n), tcp);
}

static void
serve_silent(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	(void)s;
	(void)q;
	(void)n;
	(void)tcp;
}

static void
serve_no_aaaa(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	if (qtype_of(q, n) != DNS_T_AAAA)
		serve_plain(s, q, n, tcp);
}

/* AAAA is answered by serve_held(), later. */
static struct { uint8_t q[DNS_QUERY_MAX]; size_t n; struct sockaddr_storage from; } held;

static void
serve_hold_aaaa(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	if (qtype_of(q, n) != DNS_T_AAAA) {
		serve_plain(s, q, n, tcp);
		return;
	}
	assert_true(n <= sizeof(held.q));
	memcpy(held.q, q, n);
	held.n = n;
	held.from = s->from;
}

static void
serve_held(struct server *s)
{
	assert_int_not_equal(held.n, 0);
	s->from = held.from;
	s->from_len = sizeof(struct sockaddr_in);
	serve_plain(s, held.q, held.n, false);
}

/* Over UDP only the hint that there is more. */
static void
serve_cut(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	uint8_t out[1024];

	if (tcp) {
		serve_plain(s, q, n, tcp);
		return;
	}
	memcpy(out, q, n);
	out[2] |= 0x82;
	send_to(s, out, n, false);
}

static void
serve_big(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	uint8_t out[5000] = { 0 };

	if (tcp) {
		serve_plain(s, q, n, tcp);
		return;
	}
	(void)make(s, out, q, n);
	send_to(s, out, sizeof(out), false);
}

/* What an attacker who cannot see the question may try, then the truth. */
static void
serve_forged(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	const char *truth = s->v4;
	uint8_t out[1024];
	size_t len;
	int other;

	s->v4 = "6.6.6.6";
	len = make(s, out, q, n);
	out[0] ^= 1;			/* identifier */
	send_to(s, out, len, tcp);
	out[0] ^= 1;
	out[13] ^= 1;			/* question */
	send_to(s, out, len, tcp);
	out[13] ^= 1;
	out[n - 3] ^= 28 ^ 1;		/* its type */
	send_to(s, out, len, tcp);
	out[n - 3] ^= 28 ^ 1;
	out[2] &= 0x7f;			/* a query */
	send_to(s, out, len, tcp);
	out[2] |= 0x80;
	send_to(s, out, 7, tcp);
	other = socket(AF_INET, SOCK_DGRAM, 0);	/* source */
	(void)sendto(other, out, len, 0, (struct sockaddr *)&s->from, s->from_len);
	close(other);
	s->v4 = truth;
	serve_plain(s, q, n, tcp);
}

/* Must be told 192.0.2.0/24 (RFC 7871 6); cuts over UDP, and answers with an OPT record of its own. */
static void
serve_subnet(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	static const uint8_t opt[] = { 0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2 };
	uint8_t out[1024], plain[1024];
	size_t len;

	assert_true(n > sizeof(opt));
	assert_memory_equal(q + n - sizeof(opt), opt, sizeof(opt));
	assert_int_equal(q[11], 1);
	memcpy(plain, q, n);
	plain[11] = 0;
	len = make(s, out, plain, n - sizeof(opt));
	memcpy(out + len, opt, sizeof(opt));
	out[11] = 1;
	if (!tcp)
		out[2] |= 2;
	send_to(s, out, len + sizeof(opt), tcp);
}

static void
server_open(struct server *s)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof(a);

	*s = (struct server){ .conn = -1, .fn = serve_plain, .v4 = "192.0.2.1", .v6 = "2001:db8::1", .ttl = 60,
		.soa_minimum = -1 };
	for (int i = 0; i < 20; i++) {		/* the same number for UDP and TCP */
		s->udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
		s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		a.sin_port = 0;
		assert_int_equal(bind(s->listener, (struct sockaddr *)&a, sizeof(a)), 0);
		assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &n), 0);
		if (bind(s->udp, (struct sockaddr *)&a, sizeof(a)) == 0)
			break;
		close(s->udp);
		close(s->listener);
		assert_true(i < 19);
	}
	assert_int_equal(listen(s->listener, 8), 0);
	s->port = ntohs(a.sin_port);
}

static void
server_close(struct server *s)
{
	close(s->udp);
	close(s->listener);
	if (s->conn != -1)
		close(s->conn);
}

static void
server_take(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	uint16_t type = qtype_of(q, n);

	*(type == DNS_T_A ? &s->seen_a : type == DNS_T_AAAA ? &s->seen_aaaa : &s->seen_other) += 1;
	s->seen_tcp += tcp;
	s->fn(s, q, n, tcp);
}

static void
server_poll(struct server *s)
{
	uint8_t q[1024];
	ssize_t n;
	int fd;

	s->from_len = sizeof(s->from);
	while ((n = recvfrom(s->udp, q, sizeof(q), 0, (struct sockaddr *)&s->from, &s->from_len)) > 0)
		server_take(s, q, (size_t)n, false);
	while ((fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK)) != -1) {
		if (s->conn != -1)
			close(s->conn);
		s->conn = fd;
		s->got = 0;
		s->accepted++;
	}
	if (s->conn == -1)
		return;
	n = recv(s->conn, s->in + s->got, sizeof(s->in) - s->got, 0);
	if (n > 0)
		s->got += (size_t)n;
	if (s->got >= 2 && s->got == 2 + (size_t)(s->in[0] << 8 | s->in[1])) {
		n = (ssize_t)s->got - 2;
		s->got = 0;
		server_take(s, s->in + 2, (size_t)n, true);
	}
}

/* ---- the resolver under test */

struct fix {
	struct worker w;
	struct gen g;
	struct server s[SERVERS];
	struct tree tree;
	void *image;
};
static struct fix fix;
static const char *resolv_text, *hosts_text;

int
priv_open(struct worker *w, enum open_kind kind, const char *path, struct cfg_err *err)
{
	const char *text = kind == OPEN_RESOLV ? resolv_text : kind == OPEN_HOSTS ? hosts_text : NULL;

	(void)w;
	(void)path;
	if (text == NULL)
		return cfg_fail(err, NULL, "", "no such file");
	return memfd_from("text", text, strlen(text));
}

static int
setup(void **state)
{
	struct fix *f = &fix;

	memset(f, 0, sizeof(*f));
	resolv_text = hosts_text = NULL;
	for (int i = 0; i < SERVERS; i++)
		server_open(&f->s[i]);
	loop_init(&f->w.loop);
	loop_fake_clock(&f->w.loop, 1000000);
	arena_init(&f->g.arena);
	f->g.w = &f->w;
	f->w.gen = &f->g;
	f->g.general.ipv6 = true;
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fix *f = *state;

	resolver_stop(&f->g);
	if (f->g.resolver != NULL) {
		assert_int_equal(f->g.resolver->n_sockets, 0);
		assert_int_equal(f->g.resolver->n_lookups, 0);
		assert_int_equal(f->g.resolver->n_questions, 0);
		assert_int_equal(cache_count(&f->g.resolver->cache), 0);
	}
	loop_fini(&f->w.loop);
	arena_free(&f->g.arena);
	free(f->image);
	for (int i = 0; i < SERVERS; i++)
		server_close(&f->s[i]);
	return 0;
}

/* Timers are of the real clock, and a busy machine may let this process wait: only where a test is about what happens when
 * nothing comes, nothing is waited for long. */
static void
hurry(struct fix *f, bool on)
{
	struct resolver *r = f->g.resolver;

	for (unsigned i = 0; i < RETRY_TIMES; i++)
		r->times_ms[i] = (i + 1) * (on ? 60 : NEVER_MS);
	r->negative_ms = on ? 80 : NEVER_MS;
}

/* Every %d is the next server's port. */
static void
start(struct fix *f, const char *yaml)
{
	struct cfg_err err = { .text = "" };
	char text[1024];
	size_t n;

	snprintf(text, sizeof(text), "%s", yaml);
	for (int i = 0; i < SERVERS; i++) {
		char *at = strchr(text, '$'), tail[1024];

		if (at == NULL)
			break;
		snprintf(tail, sizeof(tail), "127.0.0.1:%d%s", f->s[i].port, at + 1);
		snprintf(at, sizeof(text) - (size_t)(at - text), "%s", tail);
	}
	if (yaml_load(text, strlen(text), &f->image, &n, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	assert_int_equal(tree_from_memory(&f->tree, f->image, n, &err), 0);
	if (hosts_parse(&f->g, f->tree.root, &err) != 0 || dns_parse(&f->g, f->tree.root, &err) != 0 ||
	    resolver_start(&f->g, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	hurry(f, false);
	if (f->g.resolver->conf.ipv6_timeout_ms == DNS_IPV6_TIMEOUT_MS)
		f->g.resolver->conf.ipv6_timeout_ms = NEVER_MS;
}

struct result {
	int calls, err, n;
	struct ip ips[RESOLVE_IPS_MAX];
	struct resolve_req *cancel;	/* by the callback */
	struct fix *again;		/* asked by the callback */
	struct resolve_req req;
};

static void
on_result(void *arg, int err, const struct ip *ips, int n)
{
	struct result *r = arg;
	struct fix *f = r->again;

	r->calls++;
	r->err = err;
	r->n = n;
	memcpy(r->ips, ips, (size_t)n * sizeof(*ips));
	if (r->cancel != NULL)
		resolver_cancel(r->cancel);
	r->again = NULL;
	if (f != NULL)
		resolver_ask(&f->g, &r->req, "again.test", RESOLVE_BOTH, USE_RULES, on_result, r);
}

static void
turn(struct fix *f)
{
	struct pollfd none;

	loop_turn(&f->w.loop);
	for (int i = 0; i < SERVERS; i++)
		server_poll(&f->s[i]);
	(void)poll(&none, 0, 1);
}

static void
ask(struct fix *f, struct result *r, const char *host, int want)
{
	*r = (struct result){ .calls = 0 };
	resolver_ask(&f->g, &r->req, host, want, USE_RULES, on_result, r);
	assert_int_equal(r->calls, 0);
}

static void
wait_for(struct fix *f, const struct result *r, int calls)
{
	for (int i = 0; i < PATIENCE_MS && r->calls < calls; i++)
		turn(f);
	assert_int_equal(r->calls, calls);
}

/* Until the last question ended. */
static void
quiet(struct fix *f)
{
	for (int i = 0; i < PATIENCE_MS && f->g.resolver->n_sockets > 0; i++)
		turn(f);
	assert_int_equal(f->g.resolver->n_sockets, 0);
	assert_int_equal(f->g.resolver->n_lookups, 0);
}

static const char *
show(const struct result *r)
{
	static char out[256];

	snprintf(out, sizeof(out), "%d", r->err);
	for (int i = 0; i < r->n; i++) {
		char text[ADDR_TEXT_MAX];

		snprintf(out + strlen(out), sizeof(out) - strlen(out), " %s", ip_text(&r->ips[i], text));
	}
	return out;
}

static const char one[] = "dns: {enable: true, nameserver: ['$'], use-system-hosts: false}\n";
static const char two[] = "dns: {enable: true, nameserver: ['$', '$'], use-system-hosts: false}\n";

/* ---- */

static void
test_ask_families(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, one);
	ask(f, &r, "Both.test.", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1 2001:db8::1");
	ask(f, &r, "four.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_aaaa, 1);
	ask(f, &r, "six.test", RESOLVE_V6);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 2001:db8::1");
	assert_int_equal(f->s[0].seen_a, 2);
	quiet(f);
}

static void
test_ask_ipv6_off(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f,
	    "dns: {enable: true, nameserver: ['$'], use-system-hosts: false}\nhosts: {h.test: [192.0.2.5, "
	    "'2001:db8::5']}\n");
	f->g.general.ipv6 = false;
	ask(f, &r, "both.test", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	ask(f, &r, "both.test", RESOLVE_V6);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	ask(f, &r, "h.test", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.5");
	assert_int_equal(f->s[0].seen_aaaa, 0);
}

static void
test_ask_known_at_once(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, "dns: {enable: true, nameserver: ['$'], use-system-hosts: false}\n"
	    "hosts: {h.test: ['2001:db8::5', 192.0.2.5], to.test: real.test, v4.test: 192.0.2.6}\n");
	ask(f, &r, "192.0.2.7", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.7");
	ask(f, &r, "2001:db8::7", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	ask(f, &r, "h.test", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.5 2001:db8::5");
	ask(f, &r, "v4.test", RESOLVE_V6);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	ask(f, &r, "a..b", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	ask(f, &r, "", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	assert_int_equal(f->s[0].seen_a + f->s[0].seen_aaaa, 0);
	ask(f, &r, "to.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_a, 1);
}

static void
test_cache_ttl(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, one);
	ask(f, &r, "c.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	f->w.loop.now_ms += 59999;
	ask(f, &r, "C.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_a, 1);
	f->w.loop.now_ms += 1;
	f->s[0].v4 = "192.0.2.2";
	ask(f, &r, "c.test", RESOLVE_V4);	/* stale, and asked anew meanwhile */
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	quiet(f);
	assert_int_equal(f->s[0].seen_a, 2);
	ask(f, &r, "c.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.2");
	f->w.loop.now_ms += 60000 + CACHE_STALE_MS;	/* too old even for that */
	f->s[0].v4 = "192.0.2.3";
	ask(f, &r, "c.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.3");
	assert_int_equal(f->s[0].seen_a, 3);
	resolver_flush(&f->g);
	assert_int_equal(cache_count(&f->g.resolver->cache), 0);
	ask(f, &r, "c.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(f->s[0].seen_a, 4);
}

static void
test_cache_ttl_bounds(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, one);
	f->s[0].ttl = 0;
	for (int i = 0; i < 2; i++) {		/* not kept */
		ask(f, &r, "zero.test", RESOLVE_V4);
		wait_for(f, &r, 1);
	}
	assert_int_equal(f->s[0].seen_a, 2);
	f->s[0].ttl = 0x7fffffff;
	ask(f, &r, "long.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	f->w.loop.now_ms += 86400000;		/* a day at most */
	ask(f, &r, "long.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	quiet(f);
	assert_int_equal(f->s[0].seen_a, 4);
}

/* ---- the cache itself */

static size_t
message(uint8_t out[static 512], const char *name, uint32_t ttl)
{
	static const struct server s = { .v4 = "1.2.3.4", .soa_minimum = -1 };
	struct server with_ttl = s;
	uint8_t q[DNS_QUERY_MAX], full[1024];
	int n = dns_query_write(q, 0, name, DNS_T_A, 0);
	size_t len;

	with_ttl.ttl = ttl;
	len = make(&with_ttl, full, q, (size_t)n);
	memcpy(out, full, len);
	return len;
}

static void
store(struct resolver *r, const char *name, uint32_t ttl)
{
	uint8_t msg[512];
	size_t n = message(msg, name, ttl);

	cache_store(r, cache_hash(USE_RULES, DNS_T_A, name), USE_RULES, DNS_T_A, name, msg, n);
}

static bool
has(struct resolver *r, enum resolve_use use, uint16_t type, const char *name, struct cache_hit *hit)
{
	return cache_find(r, cache_hash(use, type, name), use, type, name, hit);
}

static uint32_t
ttl_of(const struct cache_hit *hit)
{
	struct dns_msg m;
	struct dns_rr rr;

	assert_int_equal(dns_open(&m, hit->msg, hit->n), 0);
	assert_int_equal(dns_next(&m, &rr), 1);
	return rr.ttl;
}

static void
test_cache_cap(void **state)
{
	struct fix *f = *state;
	struct resolver *r;
	struct cache_hit hit;
	char name[16];

	start(f, one);
	r = f->g.resolver;
	r->cache.max = 10;
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		store(r, name, 60);
	}
	assert_true(has(r, USE_RULES, DNS_T_A, "n0", &hit));	/* now the youngest */
	assert_false(has(r, USE_RULES, DNS_T_AAAA, "n0", &hit));
	assert_false(has(r, USE_DIRECT, DNS_T_A, "n0", &hit));
	store(r, "n10", 60);
	assert_int_equal(cache_count(&r->cache), 10);
	assert_true(has(r, USE_RULES, DNS_T_A, "n0", &hit));
	assert_false(has(r, USE_RULES, DNS_T_A, "n1", &hit));
	store(r, "n0", 60);
	assert_int_equal(cache_count(&r->cache), 10);
}

static void
test_cache_counts_down(void **state)
{
	struct fix *f = *state;
	struct cache_hit hit;
	struct resolver *r;

	start(f, one);
	r = f->g.resolver;
	store(r, "n", 60);
	assert_true(has(r, USE_RULES, DNS_T_A, "n", &hit));
	assert_int_equal(ttl_of(&hit), 60);
	for (int i = 0; i < 25; i++) {		/* 2.5 s, in steps shorter than a second */
		f->w.loop.now_ms += 100;
		assert_true(has(r, USE_RULES, DNS_T_A, "n", &hit));
	}
	assert_int_equal(ttl_of(&hit), 58);
	f->w.loop.now_ms += 57499;
	assert_true(has(r, USE_RULES, DNS_T_A, "n", &hit));
	assert_false(hit.stale);
	assert_int_equal(ttl_of(&hit), 1);
	f->w.loop.now_ms += 100000;
	assert_true(has(r, USE_RULES, DNS_T_A, "n", &hit));
	assert_true(hit.stale);
	assert_int_equal(ttl_of(&hit), 1);
}

/* What is asked for again and again outlives a sweep of names that are asked for once. */
static void
test_cache_arc(void **state)
{
	struct fix *f = *state;
	struct resolver *r;
	struct cache_hit hit;
	char name[16];

	start(f, "dns: {enable: true, nameserver: ['$'], use-system-hosts: false, cache-algorithm: arc, cache-max-size: 10}\n");
	r = f->g.resolver;
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "hot%d", i);
		store(r, name, 60);
		assert_true(has(r, USE_RULES, DNS_T_A, name, &hit));
	}
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "cold%d", i);
		store(r, name, 60);
		assert_true(cache_count(&r->cache) <= 10);
		assert_true(r->cache.n[CACHE_ONCE_GHOST] + r->cache.n[CACHE_RECENT_GHOST] <= 20);
	}
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "hot%d", i);
		assert_true(has(r, USE_RULES, DNS_T_A, name, &hit));
	}
	/* a name that was lost lately, asked again: the share of such names grows */
	for (size_t i = 0; i < 1000 && r->cache.target == 0; i++) {
		snprintf(name, sizeof(name), "cold%d", (int)(990 + i % 10));
		if (!has(r, USE_RULES, DNS_T_A, name, &hit))
			store(r, name, 60);
	}
	assert_true(r->cache.target > 0);
	assert_true(cache_count(&r->cache) <= 10);
}

static void
test_cache_bytes(void **state)
{
	static uint8_t big[60000];
	struct fix *f = *state;
	struct resolver *r;
	char name[16];
	size_t n;

	start(f, one);
	r = f->g.resolver;
	n = message(big, "x", 60);
	assert_true(n < 512);
	for (int i = 0; i < 1000; i++) {	/* 60 MB of messages with a tail that nobody reads */
		snprintf(name, sizeof(name), "n%d", i);
		cache_store(r, cache_hash(USE_RULES, DNS_T_A, name), USE_RULES, DNS_T_A, name, big, sizeof(big));
	}
	assert_true(r->cache.bytes <= CACHE_BYTES_MAX);
	assert_true(cache_count(&r->cache) > 200);
}

static void
test_negative(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, one);
	f->s[0].v4 = NULL;
	f->s[0].rcode = DNS_R_NXDOMAIN;
	f->s[0].soa_minimum = 600;
	ask(f, &r, "nx.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	assert_int_equal(r.n, 0);
	f->w.loop.now_ms += 299999;	/* 300 s although SOA says more */
	ask(f, &r, "nx.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	assert_int_equal(f->s[0].seen_a, 1);
	f->w.loop.now_ms += 1;
	f->s[0].soa_minimum = -1;
	f->s[0].rcode = DNS_R_OK;
	ask(f, &r, "nx.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(f->s[0].seen_a, 2);
	ask(f, &r, "nx.test", RESOLVE_V4);	/* no SOA: not kept */
	wait_for(f, &r, 1);
	assert_int_equal(f->s[0].seen_a, 3);
	assert_int_equal(r.err, E_DNS);
}

static void
test_merge(void **state)
{
	struct fix *f = *state;
	struct result r[4];

	start(f, one);
	ask(f, &r[0], "m.test", RESOLVE_BOTH);
	ask(f, &r[1], "M.TEST", RESOLVE_BOTH);
	ask(f, &r[2], "m.test", RESOLVE_V4);
	assert_int_equal(f->g.resolver->n_lookups, 1);
	ask(f, &r[3], "other.test", RESOLVE_V4);
	for (int i = 0; i < 4; i++)
		wait_for(f, &r[i], 1);
	assert_int_equal(f->s[0].seen_a, 2);
	assert_int_equal(f->s[0].seen_aaaa, 1);
	assert_string_equal(show(&r[1]), "0 192.0.2.1 2001:db8::1");
	assert_string_equal(show(&r[2]), "0 192.0.2.1");
	quiet(f);
}

static void
test_cancel(void **state)
{
	struct fix *f = *state;
	struct result r[3];

	start(f, one);
	ask(f, &r[0], "c.test", RESOLVE_BOTH);
	ask(f, &r[1], "c.test", RESOLVE_BOTH);
	resolver_cancel(&r[0].req);
	resolver_cancel(&r[0].req);
	assert_int_equal(f->g.resolver->n_lookups, 1);
	wait_for(f, &r[1], 1);
	assert_int_equal(r[0].calls, 0);
	f->s[0].fn = serve_silent;
	ask(f, &r[0], "gone.test", RESOLVE_BOTH);
	turn(f);
	resolver_cancel(&r[0].req);
	assert_int_equal(f->g.resolver->n_lookups, 0);
	assert_int_equal(f->g.resolver->n_sockets, 0);
	ask(f, &r[2], "c.test", RESOLVE_BOTH);	/* from the cache, at the end of the turn */
	resolver_cancel(&r[2].req);
	for (int i = 0; i < 20; i++)
		turn(f);
	assert_int_equal(r[0].calls + r[2].calls, 0);
	memset(&r[2], 0, sizeof(r[2]));
	resolver_cancel(&r[2].req);	/* never asked */
}

static void
test_callback_may_cancel_and_ask(void **state)
{
	struct fix *f = *state;
	struct result r[3];

	start(f, one);
	ask(f, &r[0], "x.test", RESOLVE_BOTH);
	ask(f, &r[1], "x.test", RESOLVE_BOTH);
	ask(f, &r[2], "slow.test", RESOLVE_BOTH);
	r[0].cancel = &r[1].req;
	r[0].again = f;
	wait_for(f, &r[0], 2);
	assert_int_equal(r[1].calls, 0);
	wait_for(f, &r[2], 1);
	quiet(f);
}

static void
test_truncated(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, one);
	f->s[0].fn = serve_cut;
	ask(f, &r, "big.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_tcp, 1);
	f->s[0].fn = serve_big;
	ask(f, &r, "bigger.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_tcp, 2);
	quiet(f);
}

static void
test_tcp_only(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, "dns: {enable: true, nameserver: ['tcp://$'], use-system-hosts: false}\n");
	ask(f, &r, "t.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_tcp, 1);
	assert_int_equal(f->s[0].seen_a, 1);
}

/* Closed without an answer: an error, at once. */
static void
serve_hang_up(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	(void)q;
	(void)n;
	(void)tcp;
	(void)send(s->conn, "\0\40abc", 5, 0);
	close(s->conn);
	s->conn = -1;
}

static void
test_tcp_hang_up(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, "dns: {enable: true, nameserver: ['tcp://$'], use-system-hosts: false}\n");
	f->s[0].fn = serve_hang_up;
	ask(f, &r, "t.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	close(f->s[0].listener);	/* refused */
	f->s[0].listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ask(f, &r, "u.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	quiet(f);
}

/* Questions share a connection; an idle one that the server closed is opened again, and nobody notices. */
static void
test_tcp_kept(void **state)
{
	struct fix *f = *state;
	struct result r[3];

	start(f, "dns: {enable: true, nameserver: ['tcp://$'], use-system-hosts: false}\n");
	for (int i = 0; i < 3; i++) {
		char name[32];

		snprintf(name, sizeof(name), "k%d.test", i);
		ask(f, &r[i], name, RESOLVE_V4);
		wait_for(f, &r[i], 1);
		assert_int_equal(r[i].err, 0);
	}
	assert_int_equal(f->s[0].seen_tcp, 3);
	assert_int_equal(f->s[0].accepted, 1);
}

static void
test_tcp_closed_idle(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, "dns: {enable: true, nameserver: ['tcp://$'], use-system-hosts: false}\n");
	ask(f, &r, "a.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	close(f->s[0].conn);
	f->s[0].conn = -1;
	ask(f, &r, "b.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].accepted, 2);
	f->s[0].fn = serve_hang_up;		/* each time: the second one is the end of it */
	ask(f, &r, "c.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	assert_true(f->s[0].accepted <= 4);
	quiet(f);
}

/* Numbers that nobody asked with, lengths that cannot be, the largest message. */
static void
serve_tcp_hostile(struct server *s, const uint8_t *q, size_t n, bool tcp)
{
	static uint8_t out[2 + DNS_MSG_MAX];
	uint8_t full[1024];
	size_t len = make(s, full, q, n);

	assert_true(tcp);
	full[0] ^= 0x55;
	send_to(s, full, len, true);		/* nobody's */
	full[0] ^= 0x55;
	memset(out, 0, sizeof(out));
	out[0] = out[1] = 0xff;
	memcpy(out + 2, full, len);
	out[2] ^= 0x55;
	for (size_t at = 0; at < sizeof(out);) {
		struct pollfd p = { .fd = s->conn, .events = POLLOUT };
		ssize_t k = send(s->conn, out + at, sizeof(out) - at, MSG_DONTWAIT);

		if (k > 0)
			at += (size_t)k;
		loop_turn(&fix.w.loop);
		(void)poll(&p, 1, 1);
	}
	send_to(s, full, len, true);
}

static void
test_tcp_hostile(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, "dns: {enable: true, nameserver: ['tcp://$'], use-system-hosts: false}\n");
	f->s[0].fn = serve_tcp_hostile;
	ask(f, &r, "h.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	quiet(f);
}

/* A server with a name is looked up at default-nameserver, and nowhere else. */
static void
test_server_name(void **state)
{
	struct fix *f = *state;
	struct result r;
	char yaml[256];

	snprintf(yaml, sizeof(yaml), "dns: {enable: true, default-nameserver: ['$'], nameserver: ['tcp://ns.test:%d'],\n"
	    "  use-system-hosts: false}\n", f->s[1].port);
	f->s[0].v4 = "127.0.0.1";
	f->s[0].v6 = NULL;
	f->s[1].v4 = "192.0.2.9";
	start(f, yaml);
	ask(f, &r, "x.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.9");
	assert_int_equal(f->s[0].seen_a, 1);
	assert_int_equal(f->s[1].seen_tcp, 1);
	f->s[0].v4 = NULL;
	quiet(f);
}

static void
test_forged(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, one);
	f->s[0].fn = serve_forged;
	ask(f, &r, "f.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
}

static void
test_timeout(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, one);
	hurry(f, true);
	f->s[0].fn = serve_silent;
	ask(f, &r, "t.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_TIMEOUT);
	assert_int_equal(f->s[0].seen_a, 3);
	quiet(f);
	hurry(f, false);
	f->s[0].fn = serve_plain;	/* a failure is not kept */
	ask(f, &r, "t.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, 0);
}

static void
test_nobody_there(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, one);
	close(f->s[0].udp);		/* the port answers by ICMP */
	f->s[0].udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	ask(f, &r, "t.test", RESOLVE_BOTH);
	for (int i = 0; i < 30 && r.calls == 0; i++)
		turn(f);
	assert_int_equal(r.calls, 1);
	assert_int_equal(r.err, E_DNS);
}

static void
test_two_servers(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, two);
	f->s[0].fn = serve_silent;
	ask(f, &r, "a.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_a, 1);
	f->s[0].fn = serve_plain;
	f->s[0].v4 = NULL;		/* empty first, addresses from the other */
	ask(f, &r, "b.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	f->s[0].rcode = DNS_R_REFUSED;
	ask(f, &r, "c.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	f->s[1].v4 = NULL;
	f->s[1].rcode = DNS_R_SERVFAIL;
	ask(f, &r, "d.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	f->s[1].fn = serve_silent;	/* an empty answer, and silence: not the whole time is waited */
	f->s[0].rcode = DNS_R_NXDOMAIN;
	f->s[0].soa_minimum = 30;
	f->g.resolver->negative_ms = 80;
	ask(f, &r, "e.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	quiet(f);
	ask(f, &r, "e.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(f->s[0].seen_a, 5);
}

static void
test_patience(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, "dns: {enable: true, nameserver: ['$'], use-system-hosts: false, ipv6-timeout: 20}\n");
	f->s[0].fn = serve_no_aaaa;
	ask(f, &r, "p.test", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->g.resolver->n_lookups, 1);
	ask(f, &r, "p.test", RESOLVE_BOTH);	/* joins what is known already */
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_aaaa, 1);
	ask(f, &r, "p.test", RESOLVE_V6);
	resolver_cancel(&r.req);
	assert_int_equal(f->g.resolver->n_lookups, 0);
	/* IPv4 from the cache, IPv6 asked anew */
	ask(f, &r, "p.test", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_a, 1);
	assert_int_equal(f->s[0].seen_aaaa, 2);
}

/* Without IPv4 addresses IPv6 gets all its time. */
static void
test_patience_only_with_ipv4(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, "dns: {enable: true, nameserver: ['$'], use-system-hosts: false, ipv6-timeout: 1}\n");
	f->s[0].fn = serve_hold_aaaa;
	f->s[0].v4 = NULL;
	ask(f, &r, "p.test", RESOLVE_BOTH);
	for (int i = 0; i < 30; i++)
		turn(f);
	assert_int_equal(r.calls, 0);
	serve_held(&f->s[0]);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 2001:db8::1");
}

static void
test_sets(void **state)
{
	struct fix *f = *state;
	struct result r = { .calls = 0 };

	start(f, "dns: {enable: true, nameserver: ['$'], proxy-server-nameserver: ['$', 'quic://h'], use-system-hosts: false}\n");
	f->s[1].v4 = "192.0.2.99";
	resolver_ask(&f->g, &r.req, "s.test", RESOLVE_V4, USE_SERVER, on_result, &r);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.99");
	assert_int_equal(f->s[0].seen_a, 0);
	resolver_ask(&f->g, &r.req, "s.test", RESOLVE_V4, USE_DIRECT, on_result, &r);	/* none of its own: main */
	wait_for(f, &r, 2);
	assert_string_equal(show(&r), "0 192.0.2.1");
	resolver_ask(&f->g, &r.req, "s.test", RESOLVE_V4, USE_RULES, on_result, &r);
	wait_for(f, &r, 3);
	assert_int_equal(f->s[0].seen_a, 1);
}

static void
test_limits(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, one);
	f->g.resolver->n_lookups = RESOLVER_INFLIGHT_MAX;
	ask(f, &r, "l.test", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_LIMIT);
	f->g.resolver->n_lookups = 0;
	f->g.resolver->n_sockets = RESOLVER_SOCKETS_MAX;
	ask(f, &r, "l.test", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_LIMIT);
	f->g.resolver->n_sockets = 0;
	quiet(f);
}

static void
test_rcode_and_disable(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f,
	    "dns: {enable: true, nameserver: ['$#disable-ipv6=true'], direct-nameserver: ['rcode://success'], "
	    "use-system-hosts: false}\n");
	ask(f, &r, "d.test", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_aaaa, 0);
	r = (struct result){ .calls = 0 };
	resolver_ask(&f->g, &r.req, "d.test", RESOLVE_BOTH, USE_DIRECT, on_result, &r);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	assert_int_equal(f->s[0].seen_a, 1);
	quiet(f);
}

struct raw {
	struct dns_wait wait;
	int calls, err;
	size_t n;
	uint8_t msg[512];
};

static void
on_raw(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct raw *r = arg;

	r->calls++;
	r->err = err;
	r->n = n;
	if (n > 0)
		memcpy(r->msg, msg, n);
}

static void
test_query_raw(void **state)
{
	struct fix *f = *state;
	struct raw r = { .calls = 0 };
	struct dns_msg m;
	struct dns_rr rr;
	char text[64];

	start(f, "dns: {enable: true, nameserver: ['$'], use-system-hosts: false}\nhosts: {q.test: 192.0.2.77}\n");
	assert_int_equal(resolver_query(&f->g, &r.wait, "q.test.", DNS_T_TXT, on_raw, &r), 0);
	assert_int_equal(r.calls, 0);
	for (int i = 0; i < PATIENCE_MS && r.calls == 0; i++)
		turn(f);
	assert_int_equal(r.err, 0);
	assert_int_equal(dns_open(&m, r.msg, r.n), 0);
	assert_int_equal(dns_next(&m, &rr), 1);
	assert_int_equal(dns_rdata_text(&m, &rr, text, sizeof(text)), 4);
	assert_string_equal(text, "\"hi\"");
	f->s[0].v4 = NULL;		/* an upstream's NXDOMAIN is an answer here */
	f->s[0].rcode = DNS_R_NXDOMAIN;
	r.calls = 0;
	assert_int_equal(resolver_query(&f->g, &r.wait, "q.test", DNS_T_A, on_raw, &r), 0);
	for (int i = 0; i < PATIENCE_MS && r.calls == 0; i++)
		turn(f);
	assert_int_equal(r.err, 0);
	assert_int_equal(r.msg[3] & 15, DNS_R_NXDOMAIN);
	assert_int_equal(resolver_query(&f->g, &r.wait, "a..b", DNS_T_A, on_raw, &r), -E_INVAL);
	assert_int_equal(resolver_query(&f->g, &r.wait, "", DNS_T_NS, on_raw, &r), 0);	/* the root; ended by resolver_stop() */
	f->g.resolver->conf.enable = false;
	assert_int_equal(resolver_query(&f->g, &r.wait, "q.test", DNS_T_A, on_raw, &r), -E_UNSUP);
}

static void
test_policy(void **state)
{
	struct fix *f = *state;
	struct result r = { .calls = 0 };

	start(f, "dns: {enable: true, nameserver: ['$'], direct-nameserver: ['tcp://127.0.0.1:1'], use-system-hosts: false,\n"
	    "  nameserver-policy: {'+.p.test,q.test': '$', 'geosite:x': 'rcode://refused', '+.p.test': 'rcode://refused',\n"
	    "  none.test: 'rcode://success', far.test: 'quic://h'}}\n");
	f->s[1].v4 = "192.0.2.2";
	ask(f, &r, "a.P.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.2");
	ask(f, &r, "q.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.2");
	ask(f, &r, "a.q.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[0].seen_a, 1);
	ask(f, &r, "none.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	ask(f, &r, "far.test", RESOLVE_V4);	/* nobody can be asked: no other server is */
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	assert_int_equal(f->s[0].seen_a, 1);
	r = (struct result){ .calls = 0 };
	resolver_ask(&f->g, &r.req, "b.p.test", RESOLVE_V4, USE_DIRECT, on_result, &r);	/* does not follow the policy */
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
	f->g.resolver->conf.direct_follow_policy = true;
	resolver_ask(&f->g, &r.req, "b.p.test", RESOLVE_V4, USE_DIRECT, on_result, &r);
	wait_for(f, &r, 2);
	assert_string_equal(show(&r), "0 192.0.2.2");
}

static void
test_fallback(void **state)
{
	struct fix *f = *state;
	struct result r;

	start(f, "dns: {enable: true, nameserver: ['$'], fallback: ['$'], fallback-lazy-query: true, use-system-hosts: false,\n"
	    "  fallback-filter: {geoip: false, ipcidr: [10.0.0.0/8], domain: ['+.only.test']}}\n");
	f->s[1].v4 = "192.0.2.2";
	ask(f, &r, "a.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	assert_int_equal(f->s[1].seen_a, 0);
	f->s[0].v4 = "10.1.1.1";
	ask(f, &r, "b.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.2");
	f->s[0].v4 = NULL;
	ask(f, &r, "c.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.2");
	ask(f, &r, "x.only.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.2");
	assert_int_equal(f->s[0].seen_a, 3);
	f->g.resolver->conf.fallback_lazy = false;	/* both at once, and the main answer first or last */
	f->s[0].v4 = "192.0.2.1";
	f->s[1].fn = serve_silent;
	ask(f, &r, "d.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.1");
	f->s[1].fn = serve_plain;
	hurry(f, true);
	f->s[0].fn = serve_silent;
	ask(f, &r, "e.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.2");
	f->s[0].fn = serve_plain;
	quiet(f);
}

static void
test_fallback_filter(void **state)
{
	struct fallback_filter filter = { .geoip = true };
	struct ip lan, public;

	(void)state;
	assert_int_equal(ip_parse(&lan, "192.168.1.1"), 0);
	assert_int_equal(ip_parse(&public, "1.1.1.1"), 0);
	assert_false(dns_fallback_distrusts(&filter, &lan));
	assert_true(dns_fallback_distrusts(&filter, &public));	/* no data says where it is */
	filter.geoip = false;
	assert_false(dns_fallback_distrusts(&filter, &public));
}

static void
expect_set(const struct upstreams *s, int n, const char *first)
{
	char text[ADDR_TEXT_MAX];

	assert_int_equal(s->n, n);
	assert_string_equal(ip_text(&s->u[0].ip, text), first);
	assert_int_equal(s->u[0].port, 53);
}

static void
test_start_system(void **state)
{
	struct fix *f = *state;

	resolv_text = "# x\nsearch lan\nnameserver 127.0.0.53\n nameserver\t::1\nnameserver fe80::1%eth0\nnameserver "
		      "junk\nnameserver 9.9.9.9\n"
		      "nameserver 8.8.4.4\n";
	start(f, "a: 1\n");
	expect_set(&f->g.resolver->sets[USE_RULES], 3, "127.0.0.53");
	assert_int_equal(f->g.resolver->sets[USE_RULES].u[1].ip.family, 6);
}

static void
test_start_system_in_list(void **state)
{
	struct fix *f = *state;
	struct result r;

	resolv_text = "nameserver 127.0.0.53\n";
	hosts_text = "192.0.2.44 box.test\n";
	start(f, "dns: {enable: true, nameserver: [system, 'tcp://$']}\n");
	expect_set(&f->g.resolver->sets[USE_RULES], 2, "127.0.0.53");
	ask(f, &r, "box.test", RESOLVE_BOTH);
	wait_for(f, &r, 1);
	assert_string_equal(show(&r), "0 192.0.2.44");
}

static void
got_message(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct dns_msg m;

	assert_int_equal(err, 0);
	assert_int_equal(dns_open(&m, msg, n), 0);
	assert_int_equal(m.left[DNS_ANSWER], 1);
	assert_int_equal(m.left[DNS_ADDITIONAL], 0);
	*(bool *)arg = true;
}

static void
test_subnet_over_udp(void **state)
{
	struct fix *f = *state;
	struct dns_wait w = { .cb = NULL };
	bool done = false;

	start(f, "dns: {enable: true, nameserver: ['$#ecs=192.0.2.77/24'], use-system-hosts: false}\n");
	f->s[0].fn = serve_subnet;
	assert_null(f->g.resolver->sets[USE_RULES].u[0].carrier);
	assert_int_equal(resolver_query(&f->g, &w, "a.test", DNS_T_A, got_message, &done), 0);
	for (int i = 0; i < PATIENCE_MS && !done; i++)
		turn(f);
	assert_true(done);
	assert_int_equal(f->s[0].seen_tcp, 1);
}

static enum dns_via
via_unknown(struct gen *g, const char *name)
{
	(void)g;
	return str_equal(name, "px") ? DNS_VIA_PROXY : DNS_VIA_UNKNOWN;
}

/* "#name" that is no proxy is an interface: UDP stays UDP and leaves by it, or not at all. */
static void
test_interface(void **state)
{
	struct fix *f = *state;
	const struct upstreams *set;

	f->g.dns_hooks.via = via_unknown;
	start(f, "dns: {enable: true, nameserver: ['1.1.1.1#eth7', '1.1.1.2#px', 'tls://1.1.1.3#eth7', 1.1.1.4], use-system-hosts: false}\n");
	set = &f->g.resolver->sets[USE_RULES];
	assert_int_equal(set->n, 4);
	assert_null(set->u[0].carrier);
	assert_string_equal(set->u[0].iface, "eth7");
	assert_non_null(set->u[1].carrier);
	assert_null(set->u[1].iface);
	assert_non_null(set->u[2].carrier);
	assert_null(set->u[3].iface);
}

static int
file_with(const char *text)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

/* The system's files change while we run: what is in flight goes on, connections stay. */
static void
test_system_changes(void **state)
{
	struct fix *f = *state;
	struct carrier *tcp;
	static struct result r;

	resolv_text = "nameserver 127.0.0.53\n";
	hosts_text = "192.0.2.44 box.test\n";
	start(f, "dns: {enable: true, nameserver: [system, 'tcp://$'], nameserver-policy: {a.test: system}}\n");
	tcp = f->g.resolver->sets[USE_RULES].u[1].carrier;
	ask(f, &r, "slow.test", RESOLVE_V4);
	resolver_sysfile(&f->g, OPEN_RESOLV, file_with("nameserver 127.0.0.54\nnameserver 127.0.0.55\n"));
	expect_set(&f->g.resolver->sets[USE_RULES], 3, "127.0.0.54");
	expect_set(dns_policy_find(f->g.resolver, USE_RULES, "a.test"), 2, "127.0.0.54");
	assert_ptr_equal(f->g.resolver->sets[USE_RULES].u[2].carrier, tcp);
	resolver_sysfile(&f->g, OPEN_RESOLV, file_with("# nothing\n"));	/* half written */
	expect_set(&f->g.resolver->sets[USE_RULES], 3, "127.0.0.54");
	resolver_sysfile(&f->g, OPEN_HOSTS, file_with("192.0.2.45 box.test\n"));
	assert_int_equal(hosts_find(&f->g, "box.test", r.ips, 1, NULL), 1);
	assert_int_equal(r.ips[0].b[3], 45);
}

static void
test_start_nothing(void **state)
{
	struct fix *f = *state;
	struct result r;

	hosts_text = "192.0.2.44 box.test\n";
	start(f, "dns: {enable: false, nameserver: ['$']}\n");
	expect_set(&f->g.resolver->sets[USE_RULES], 2, "114.114.114.114");
	assert_int_equal(hosts_find(&f->g, "box.test", r.ips, 1, NULL), 0);	/* only while dns is on */
}

/* What was written cannot be asked: nobody else is, least of all in clear. */
static void
test_start_unusable(void **state)
{
	struct fix *f = *state;
	struct result r;

	resolv_text = "nameserver 127.0.0.53";
	start(f, "dns: {enable: true, nameserver: ['quic://h'], proxy-server-nameserver: ['https://h/q#h3=true']}\n");
	assert_int_equal(f->g.resolver->sets[USE_RULES].n, 0);
	assert_int_equal(resolver_use(f->g.resolver, USE_SERVER), USE_SERVER);
	assert_int_equal(resolver_use(f->g.resolver, USE_DIRECT), USE_RULES);
	ask(f, &r, "x.test", RESOLVE_V4);
	wait_for(f, &r, 1);
	assert_int_equal(r.err, E_DNS);
}

static void
test_start_defaults(void **state)
{
	struct fix *f = *state;
	const struct upstreams *set;

	start(f, "dns: {enable: true}\n");
	set = &f->g.resolver->sets[USE_RULES];
	assert_int_equal(set->n, 2);
	assert_non_null(set->u[0].carrier);
	assert_non_null(set->u[1].carrier);
	assert_int_equal(f->g.resolver->sets[USE_BOOT].n, 4);
	assert_null(f->g.resolver->sets[USE_BOOT].u[0].carrier);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_ask_families),
		T(test_ask_ipv6_off),
		T(test_ask_known_at_once),
		T(test_cache_ttl),
		T(test_cache_ttl_bounds),
		T(test_cache_cap),
		T(test_cache_counts_down),
		T(test_cache_arc),
		T(test_cache_bytes),
		T(test_policy),
		T(test_fallback),
		T(test_fallback_filter),
		T(test_negative),
		T(test_merge),
		T(test_cancel),
		T(test_callback_may_cancel_and_ask),
		T(test_truncated),
		T(test_tcp_only),
		T(test_tcp_hang_up),
		T(test_forged),
		T(test_timeout),
		T(test_nobody_there),
		T(test_two_servers),
		T(test_patience),
		T(test_patience_only_with_ipv4),
		T(test_sets),
		T(test_limits),
		T(test_rcode_and_disable),
		T(test_query_raw),
		T(test_start_system),
		T(test_start_system_in_list),
		T(test_system_changes),
		T(test_subnet_over_udp),
		T(test_interface),
		T(test_start_nothing),
		T(test_start_unusable),
		T(test_start_defaults),
		T(test_tcp_kept),
		T(test_tcp_closed_idle),
		T(test_tcp_hostile),
		T(test_server_name),
	};

	return cmocka_run_group_tests_name("resolver", tests, NULL, NULL);
}
