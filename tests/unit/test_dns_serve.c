/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/dns/serve.c, serve_tcp.c and reply.c: real sockets on loopback, and in place of the resolver one that
 * keeps its questions until the test answers them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>

#include "common/err.h"
#include "tests/unit/gen_kit.h"
#include "tests/unit/worker_net.h"
#include "worker/codec/dns.h"
#include "worker/dns/hosts.h"
#include "worker/dns/internal.h"
#include "worker/dns/link.h"
#include "worker/dns/reply.h"
#include "worker/dns/serve.h"

enum { ASKED_MAX = DNS_SERVE_QUESTIONS_MAX + 1 };

/* ---- in place of the resolver and of the supervisor */

static struct asked {
	char name[HOST_MAX + 1];
	uint16_t type;
	dns_raw_cb *done;
	void *arg;
} asked[ASKED_MAX];
static int n_asked, refuse, unlistened;

static const uint8_t *known;		/* the answer to everything; NULL: none */
static size_t n_known;

bool
resolver_known(struct gen *g, const char *name, uint16_t qtype, const uint8_t **msg, size_t *n)
{
	(void)g;
	(void)name;
	(void)qtype;
	*msg = known;
	*n = n_known;
	return known != NULL;
}

int
resolver_query(struct gen *g, struct dns_wait *w, const char *name, uint16_t qtype, dns_raw_cb *done, void *arg)
{
	(void)g;
	assert_null(w->question);
	if (refuse != 0)
		return refuse;
	assert_true(n_asked < ASKED_MAX);
	asked[n_asked] = (struct asked){ .type = qtype, .done = done, .arg = arg };
	snprintf(asked[n_asked++].name, sizeof(asked[0].name), "%s", name);
	return 0;
}

int
priv_open(struct worker *w, enum open_kind kind, const char *path, struct cfg_err *err)
{
	(void)w;
	(void)kind;
	return cfg_fail(err, NULL, "", "%s: not in this test", path);
}

bool
link_asks(const struct resolver *r)
{
	(void)r;
	return false;
}

void
link_serve(struct resolver *r, struct link_ask *a, const uint8_t *p, size_t n, bool datagram, link_cb *cb, void *arg)
{
	(void)r;
	(void)a;
	(void)p;
	(void)n;
	(void)datagram;
	(void)cb;
	(void)arg;
}

static struct {
	int flags, family;
	struct ip ip;
	uint16_t port;
	int fail;		/* this kind is refused */
} want;

int
priv_listen(struct worker *w, const struct msg_listen *key, int fds[static LISTEN_SLOTS_MAX], char *why, size_t cap)
{
	int tcp = key->kind == LISTEN_TCP;
	union sockaddr_any a;
	socklen_t n;

	assert_int_equal(key->flags, LISTEN_LEAD);
	if (!w->lead)
		return 0;
	if (want.fail == key->kind) {
		snprintf(why, cap, "taken");
		return -E_BUSY;
	}
	want.ip = key->ip;
	n = ip_to_sockaddr(&a, &key->ip, want.port);
	fds[0] = socket(a.sa.sa_family, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (tcp)
		(void)setsockopt(fds[0], SOL_SOCKET, SO_REUSEADDR, &tcp, sizeof(tcp));
	if (bind(fds[0], &a.sa, n) == -1 || (tcp && listen(fds[0], 300) == -1)) {
		close(fds[0]);
		return -E_BUSY;
	}
	n = sizeof(a);
	getsockname(fds[0], &a.sa, &n);
	ip_from_sockaddr(&(struct ip){ 0 }, &want.port, &a.sa);
	return 1;
}

void
priv_unlisten(struct worker *w, const struct msg_listen *key)
{
	(void)w;
	(void)key;
	unlistened++;
}

/* ---- the server under test */

static struct rig rig;
static struct kit kit;
static char why[256];
static int udp;

static void
turns(int n)
{
	while (n-- > 0)
		loop_turn(&rig.w.loop);
}

static int
udp_to(const char *ip)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(want.port) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, ip, &a.sin_addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void
build(const char *listen)
{
	struct resolver *r;

	n_asked = refuse = unlistened = 0;
	memset(&want, 0, sizeof(want));
	rig_start(&rig);
	assert_int_equal(kit_open(&kit, "hosts: { four.test: 192.0.2.4, both.test: [192.0.2.5, '2001:db8::5'],\n"
	    "  alias.test: target.example, '*.deep.test': alias.test }\n"), 0);
	kit.gen.w = &rig.w;
	rig.w.gen = &kit.gen;
	rig.w.lead = rig.w.built = true;
	kit.gen.general.ipv6 = true;
	assert_int_equal(hosts_parse(&kit.gen, kit.gen.root, &kit.err), 0);
	r = arena_alloc(&kit.gen.arena, sizeof(*r));
	kit.gen.resolver = r;
	r->conf = (struct dns_config){ .enable = true, .ipv6 = true, .use_hosts = true, .listen = listen };
}

static void
open_server(void)
{
	int rc, tries = 20;

	do {
		want.port = 0;		/* a number may be free for UDP only */
		rc = dns_serve_open(&kit.gen, why, sizeof(why));
	} while (rc == -E_BUSY && --tries > 0);
	assert_int_equal(rc, 0);
}

static void
heard(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct dns_msg m;

	*(int *)arg = err != 0 ? err : dns_open(&m, msg, n) == 0 ? 1000 + (m.flags & DNS_F_RCODE) : -1;
}

static void
serve_at(const char *listen)
{
	build(listen);
	open_server();
	dns_serve_start(&kit.gen);
	udp = udp_to("127.0.0.1");
}

static int
setup(void **state)
{
	(void)state;
	serve_at("127.0.0.1:53");
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	dns_serve_close(&kit.gen);
	loop_fini(&rig.w.loop);
	hosts_free(&kit.gen);
	kit_close(&kit);
	if (udp > 0)
		close(udp);
	udp = -1;
	return 0;
}

/* ---- messages */

static uint8_t in[DNS_MSG_MAX];
static struct dns_msg msg;

static size_t
question(uint8_t out[static DNS_QUERY_MAX], uint16_t id, const char *name, uint16_t type, uint16_t size)
{
	int n = dns_query_write(out, id, name, type, size);

	assert_true(n > 0);
	return (size_t)n;
}

static void
send_question(uint16_t id, const char *name, uint16_t type, uint16_t size)
{
	uint8_t q[DNS_QUERY_MAX];
	size_t n = question(q, id, name, type, size);

	assert_int_equal(send(udp, q, n, 0), n);
	turns(3);
}

/* The next reply, opened in msg. */
static void
reply(void)
{
	struct pollfd p = { .fd = udp, .events = POLLIN };
	ssize_t n;

	turns(3);
	assert_int_equal(poll(&p, 1, 1000), 1);
	n = recv(udp, in, sizeof(in), 0);
	assert_true(n > 0);
	assert_int_equal(dns_open(&msg, in, (size_t)n), 0);
	assert_true(msg.flags & DNS_F_QR);
}

static void
no_reply(void)
{
	turns(5);
	assert_int_equal(recv(udp, in, sizeof(in), MSG_DONTWAIT), -1);
}

static void
expect(uint16_t id, int rcode, int answers)
{
	reply();
	assert_int_equal(msg.id, id);
	assert_int_equal(msg.flags & DNS_F_RCODE, rcode);
	assert_int_equal(msg.left[DNS_ANSWER], answers);
}

static void
expect_ip(const char *text, uint32_t ttl)
{
	char t[ADDR_TEXT_MAX];
	struct dns_rr rr;
	struct ip ip;

	assert_int_equal(dns_next(&msg, &rr), 1);
	assert_int_equal(dns_rr_ip(&msg, &rr, &ip), 0);
	assert_string_equal(ip_text(&ip, t), text);
	assert_int_equal(rr.ttl, ttl);
}

static void
expect_name(size_t off, const char *text)
{
	char t[DNS_NAME_TEXT];

	assert_true(dns_name_text(&msg, off, t, sizeof(t)) > 0);
	assert_string_equal(t, text);
}

/* An upstream's answer with n address records, behind them an OPT record. */
static size_t
upstream(uint8_t *out, const char *name, int n)
{
	static const uint8_t a[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 77, 0, 4, 198, 51, 100, 7 }, opt[11] = { 0, 0, 41, 4, 0xd0 };
	uint8_t q[DNS_QUERY_MAX];
	size_t len = question(q, 4711, name, DNS_T_A, 0);

	memcpy(out, q, len);
	out[2] = 0x81;
	out[3] = 0x80;
	out[6] = (uint8_t)(n >> 8);
	out[7] = (uint8_t)n;
	out[11] = 1;
	for (int i = 0; i < n; i++, len += sizeof(a))
		memcpy(out + len, a, sizeof(a));
	memcpy(out + len, opt, sizeof(opt));
	return len + sizeof(opt);
}

static void
answer(int i, int n)
{
	static uint8_t m[DNS_MSG_MAX];
	size_t len = upstream(m, asked[i].name, n);

	asked[i].done(asked[i].arg, 0, m, len);
}

/* ---- UDP */

/* ---- fake-ip and mapping */

static int
setup_fake(void **state)
{
	struct resolver *r;
	struct prefix v4;

	if (setup(state) != 0)
		return -1;
	r = kit.gen.resolver;
	r->loop = &rig.w.loop;
	r->conf.mode = ENHANCED_FAKE_IP;
	r->conf.fake_ttl = 3;
	r->conf.fake_filter.mode = FAKE_BLACKLIST;
	domain_trie_init(&r->conf.fake_filter.names, &kit.gen.arena);
	assert_int_equal(domain_trie_insert(&r->conf.fake_filter.names, "+.real.test", r), 0);
	assert_int_equal(prefix_parse(&v4, "198.18.0.1/16"), 0);
	fake_pool_init(&r->fake4, &v4, calloc(1, sizeof(struct fake_table)), true);
	fake_pool_start(&r->fake4, 1);
	r->mapping = calloc(1, sizeof(*r->mapping));
	return 0;
}

static int
teardown_fake(void **state)
{
	free(kit.gen.resolver->fake4.t);
	free(kit.gen.resolver->mapping);
	return teardown(state);
}

static void
test_fake(void **state)
{
	struct dns_rr rr;

	(void)state;
	send_question(1, "One.test", DNS_T_A, 0);
	expect(1, DNS_R_OK, 1);
	expect_ip("198.18.0.4", 3);
	assert_true(msg.flags & DNS_F_AA);
	send_question(2, "two.test", DNS_T_A, 0);
	expect(2, DNS_R_OK, 1);
	expect_ip("198.18.0.5", 3);
	send_question(3, "one.TEST", DNS_T_A, 0);
	expect(3, DNS_R_OK, 1);
	expect_ip("198.18.0.4", 3);
	send_question(4, "one.test", DNS_T_AAAA, 0);	/* no pool of the family */
	expect(4, DNS_R_OK, 0);
	send_question(5, "one.test", DNS_T_HTTPS, 0);
	expect(5, DNS_R_OK, 0);
	send_question(6, "alias.test", DNS_T_A, 0);	/* of hosts: the address is the target's */
	expect(6, DNS_R_OK, 2);
	assert_int_equal(dns_next(&msg, &rr), 1);
	assert_int_equal(rr.type, DNS_T_CNAME);
	expect_ip("198.18.0.6", 3);
	send_question(7, "target.example", DNS_T_A, 0);
	expect(7, DNS_R_OK, 1);
	expect_ip("198.18.0.6", 3);
	assert_int_equal(n_asked, 0);
	send_question(8, "one.test", DNS_T_TXT, 0);
	send_question(9, "x.real.test", DNS_T_A, 0);
	assert_int_equal(n_asked, 2);
	asked[0].done(asked[0].arg, E_DNS, NULL, 0);
	expect(8, DNS_R_SERVFAIL, 0);
	answer(1, 1);
	expect(9, DNS_R_OK, 1);
}

/* Names of fake addresses are told here alone: no such question goes to a name server. */
static void
test_fake_reverse(void **state)
{
	struct dns_rr rr;

	(void)state;
	send_question(1, "one.test", DNS_T_A, 0);
	expect(1, DNS_R_OK, 1);
	send_question(2, "4.0.18.198.In-Addr.arpa", DNS_T_PTR, 0);
	expect(2, DNS_R_OK, 1);
	assert_int_equal(dns_next(&msg, &rr), 1);
	assert_int_equal(rr.type, DNS_T_PTR);
	expect_name(rr.rdata, "one.test.");
	send_question(3, "5.0.18.198.in-addr.arpa", DNS_T_PTR, 0);
	expect(3, DNS_R_NXDOMAIN, 0);
	assert_int_equal(n_asked, 0);
	send_question(4, "1.1.1.1.in-addr.arpa", DNS_T_PTR, 0);
	send_question(5, "x.1.1.1.in-addr.arpa", DNS_T_PTR, 0);
	send_question(6, "1.2.ip6.arpa", DNS_T_PTR, 0);
	send_question(7, "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", DNS_T_PTR, 0);
	assert_int_equal(n_asked, 4);
	for (int i = 0; i < 4; i++)
		asked[i].done(asked[i].arg, E_DNS, NULL, 0);
}

static void
test_mapping_stage(void **state)
{
	struct ip ip = { .family = 4, .b = { 198, 51, 100, 7 } };
	char host[HOST_MAX + 1];
	static uint8_t m[DNS_MSG_MAX];

	(void)state;
	send_question(1, "X.real.test", DNS_T_A, 0);
	answer(0, 1);
	expect(1, DNS_R_OK, 1);
	assert_true(mapping_name(&kit.gen, &ip, host));
	assert_string_equal(host, "x.real.test");
	n_known = upstream(m, "y.real.test", 1);
	known = m;
	send_question(2, "y.real.test", DNS_T_A, 0);	/* from the cache, too */
	known = NULL;
	expect(2, DNS_R_OK, 1);
	assert_int_equal(n_asked, 1);
	assert_true(mapping_name(&kit.gen, &ip, host));
	assert_string_equal(host, "y.real.test");
}

/* Answers known at once leave in one call; none is lost or mixed up where the batch is full. */
static void
test_fake_batch(void **state)
{
	uint8_t q[DNS_QUERY_MAX];
	char name[32], text[ADDR_TEXT_MAX];

	(void)state;
	for (int i = 0; i < 100; i++) {
		size_t n;

		snprintf(name, sizeof(name), "n%d.test", i);
		n = question(q, (uint16_t)(100 + i), name, DNS_T_A, 0);
		assert_int_equal(send(udp, q, n, 0), n);
	}
	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "198.18.0.%d", 4 + i);
		expect((uint16_t)(100 + i), DNS_R_OK, 1);
		expect_ip(text, 3);
	}
}

static void
test_pass(void **state)
{
	(void)state;
	send_question(0x1234, "WwW.Example.com", DNS_T_A, 0);
	assert_int_equal(n_asked, 1);
	assert_int_equal(asked[0].type, DNS_T_A);
	assert_int_equal(dns_serve_pending(&kit.gen), 1);
	snprintf(asked[0].name, sizeof(asked[0].name), "www.EXAMPLE.com");
	answer(0, 2);
	expect(0x1234, DNS_R_OK, 2);
	assert_int_equal(msg.flags, DNS_F_QR | DNS_F_AA | DNS_F_RD | DNS_F_RA);
	assert_int_equal(msg.left[DNS_ADDITIONAL], 0);	/* the upstream's OPT is its own matter */
	assert_memory_equal(in + 12, "\3WwW\7Example\3com", 17);
	expect_ip("198.51.100.7", 77);
	assert_int_equal(dns_serve_pending(&kit.gen), 0);
}

static void
test_pass_other_question(void **state)
{
	(void)state;
	send_question(1, "a.example", DNS_T_A, 0);
	snprintf(asked[0].name, sizeof(asked[0].name), "b.example");
	answer(0, 1);
	expect(1, DNS_R_SERVFAIL, 0);
	assert_false(msg.flags & DNS_F_AA);
}

static void
test_resolver_errors(void **state)
{
	(void)state;
	send_question(2, "a.example", DNS_T_TXT, 0);
	asked[0].done(asked[0].arg, E_TIMEOUT, NULL, 0);
	expect(2, DNS_R_SERVFAIL, 0);
	refuse = -E_LIMIT;
	send_question(3, "a.example", DNS_T_A, 0);
	expect(3, DNS_R_SERVFAIL, 0);
}

static void
test_hosts(void **state)
{
	(void)state;
	send_question(1, "Four.Test", DNS_T_A, 0);
	expect(1, DNS_R_OK, 1);
	expect_ip("192.0.2.4", DNS_REPLY_TTL);
	send_question(2, "four.test", DNS_T_AAAA, 0);
	expect(2, DNS_R_OK, 0);
	send_question(3, "both.test", DNS_T_AAAA, 0);
	expect(3, DNS_R_OK, 1);
	expect_ip("2001:db8::5", DNS_REPLY_TTL);
	assert_int_equal(n_asked, 0);
	send_question(4, "four.test", DNS_T_TXT, 0);
	assert_int_equal(n_asked, 1);
	answer(0, 0);
	expect(4, DNS_R_SERVFAIL, 0);		/* it answered A */
	kit.gen.resolver->conf.use_hosts = false;
	send_question(5, "four.test", DNS_T_A, 0);
	assert_int_equal(n_asked, 2);
}

static void
test_alias(void **state)
{
	struct dns_rr rr;

	(void)state;
	send_question(9, "x.deep.test", DNS_T_A, 0);
	assert_string_equal(asked[0].name, "target.example");
	answer(0, 2);
	expect(9, DNS_R_OK, 3);
	assert_int_equal(dns_next(&msg, &rr), 1);
	assert_int_equal(rr.type, DNS_T_CNAME);
	assert_int_equal(rr.ttl, 10);
	expect_name(rr.name, "x.deep.test.");
	expect_name(rr.rdata, "target.example.");
	assert_int_equal(dns_next(&msg, &rr), 1);
	expect_name(rr.name, "target.example.");
	expect_ip("198.51.100.7", 77);
	send_question(10, "alias.test", DNS_T_CNAME, 0);
	expect(10, DNS_R_OK, 0);
	kit.gen.general.ipv6 = false;
	send_question(11, "alias.test", DNS_T_AAAA, 0);
	expect(11, DNS_R_OK, 1);
	assert_int_equal(n_asked, 1);
}

/* A chain of aliases and the SOA record of an upstream, compressed among themselves, behind one of hosts. */
static void
test_alias_upstream_names(void **state)
{
	static const uint8_t records[] = {
		0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 50, 0, 4, 1, 'w', 0xc0, 19,	/* target.example CNAME w.example */
		0xc0, 19, 0, 6, 0, 1, 0, 0, 0, 60, 0, 24, 0xc0, 44, 0xc0, 12,
		0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5 };
	uint8_t m[512];
	size_t n = question(m, 1, "target.example", DNS_T_AAAA, 0);
	struct dns_rr rr;

	(void)state;
	assert_int_equal(n, 32);
	memcpy(m + n, records, sizeof(records));
	m[2] = 0x81;
	m[7] = m[9] = 1;
	send_question(5, "alias.test", DNS_T_AAAA, 0);
	asked[0].done(asked[0].arg, 0, m, n + sizeof(records));
	expect(5, DNS_R_OK, 2);
	assert_int_equal(msg.left[DNS_AUTHORITY], 1);
	assert_int_equal(dns_next(&msg, &rr), 1);
	assert_int_equal(dns_next(&msg, &rr), 1);
	assert_int_equal(rr.type, DNS_T_CNAME);
	expect_name(rr.rdata, "w.example.");
	assert_int_equal(dns_next(&msg, &rr), 1);
	expect_name(rr.name, "example.");
	expect_name(rr.rdata, "w.example.");
	assert_int_equal(dns_soa_ttl(&msg, &rr), 5);
	/* a pointer that leads forward is no name */
	m[n + 15] = 60;
	send_question(6, "alias.test", DNS_T_AAAA, 0);
	asked[1].done(asked[1].arg, 0, m, n + sizeof(records));
	expect(6, DNS_R_SERVFAIL, 0);
}

static void
test_ipv6_off(void **state)
{
	(void)state;
	kit.gen.resolver->conf.ipv6 = false;
	send_question(1, "a.example", DNS_T_AAAA, 0);
	expect(1, DNS_R_OK, 0);
	kit.gen.resolver->conf.ipv6 = true;
	kit.gen.general.ipv6 = false;
	send_question(2, "a.example", DNS_T_AAAA, 0);
	expect(2, DNS_R_OK, 0);
	assert_int_equal(n_asked, 0);
}

/* 12 + 15 bytes, 16 for each record, and 11 for the OPT record where the client sent one. */
static void
test_truncation(void **state)
{
	static const struct {
		uint16_t size;
		int records, kept;
	} t[] = { { 0, 30, 30 }, { 0, 31, 30 }, { 100, 30, 29 },
		{ 1232, 74, 74 }, { 1232, 75, 74 }, { 65535, 253, 253 }, { 65535, 254, 253 } };
	struct dns_rr rr;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		int rc, opt = 0;

		send_question((uint16_t)i, "a.example", DNS_T_A, t[i].size);
		answer((int)i, t[i].records);
		expect((uint16_t)i, DNS_R_OK, t[i].kept);
		assert_int_equal((msg.flags & DNS_F_TC) != 0, t[i].kept < t[i].records);
		while ((rc = dns_next(&msg, &rr)) > 0)
			opt += rr.type == DNS_T_OPT;
		assert_int_equal(rc, 0);
		assert_int_equal(opt, t[i].size != 0);
	}
}

static void
test_bad_questions(void **state)
{
	uint8_t q[DNS_QUERY_MAX * 2], b[DNS_QUERY_MAX * 2];
	size_t n = question(q, 7, "a.example", DNS_T_A, 1232);

	(void)state;
#define SEND(size) do { assert_int_equal(send(udp, b, (size), 0), (size)); turns(3); } while (0)
#define AGAIN() memcpy(b, q, sizeof(q))
	AGAIN();
	b[2] |= 0x80;		/* an answer is not answered: two servers would talk for ever */
	SEND(n);
	AGAIN();
	SEND(11);
	SEND(0);
	no_reply();
	AGAIN();
	b[2] |= 0x20;		/* opcode UPDATE */
	SEND(n);
	expect(7, DNS_R_NOTIMP, 0);
	assert_int_equal(msg.flags & 0x7800, 0x2000);
	AGAIN();
	b[5] = 2;
	SEND(n);
	expect(7, DNS_R_FORMAT, 0);
	b[5] = 0;
	SEND(n);
	expect(7, DNS_R_FORMAT, 0);
	AGAIN();
	b[12] = 0xc0;
	SEND(n);
	expect(7, DNS_R_FORMAT, 0);
	AGAIN();
	SEND(n - 3);		/* a cut OPT */
	expect(7, DNS_R_FORMAT, 0);
	assert_int_equal(msg.questions, 1);
	AGAIN();
	memcpy(b + n, b + n - 11, 11);
	b[11] = 2;		/* two OPT */
	SEND(n + 11);
	expect(7, DNS_R_FORMAT, 0);
	AGAIN();
	b[n - 5] = 1;		/* EDNS version 1 */
	SEND(n);
	expect(7, 0, 0);
	assert_int_equal(in[msg.n - 6], 1);	/* extended RCODE 16 */
	AGAIN();
	b[n - 12] = 3;		/* class CH */
	SEND(n);
	expect(7, DNS_R_REFUSED, 0);
	AGAIN();
	b[n - 14] = 252;	/* AXFR */
	SEND(n);
	expect(7, DNS_R_REFUSED, 0);
	AGAIN();
	b[15] = '.';		/* no text for this name */
	b[12] = 3;
	b[16] = 5;
	memcpy(b + 13, "x.y\5", 4);
	SEND(n);
	reply();
	assert_int_not_equal(msg.flags & DNS_F_RCODE, DNS_R_OK);
	assert_int_equal(n_asked, 0);
	assert_int_equal(dns_serve_pending(&kit.gen), 0);
}

static void
test_wildcard_source(void **state)
{
	(void)state;
	close(udp);
	udp = udp_to("127.0.0.9");	/* connected: takes answers of this address only */
	send_question(1, "four.test", DNS_T_A, 0);
	expect(1, DNS_R_OK, 1);
	send_question(2, "a.example", DNS_T_A, 0);
	answer(0, 1);
	expect(2, DNS_R_OK, 1);
}

static int
setup_wildcard(void **state)
{
	(void)state;
	serve_at("0.0.0.0:53");
	return 0;
}

static int
setup_dual(void **state)
{
	(void)state;
	serve_at("[::]:53");
	return 0;
}

/* udp is now one that sends from 127.0.0.n. */
static void
udp_from(int n)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(want.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000 + (uint32_t)n) };

	close(udp);
	udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(udp, (struct sockaddr *)&own, sizeof(own)), 0);
	assert_int_equal(connect(udp, (struct sockaddr *)&a, sizeof(a)), 0);
}

static void
test_questions_cap(void **state)
{
	struct dns_serve_stat st;

	(void)state;
	log_set_sink(kit_sink);
	for (int i = 0; i < 8 * 1000; i++) {
		if (i % 1000 == 0)
			udp_from(1 + i / 1000);
		send_question((uint16_t)i, "a.example", DNS_T_A, 0);
	}
	log_set_sink(NULL);
	assert_int_equal(n_asked, DNS_SERVE_QUESTIONS_MAX);
	dns_serve_count(&kit.gen, &st);
	assert_int_equal(st.questions, DNS_SERVE_QUESTIONS_MAX);
	assert_int_equal(st.dropped, 8000 - DNS_SERVE_QUESTIONS_MAX);
	answer(5, 1);
	send_question(42, "four.test", DNS_T_A, 0);	/* there is room again */
	expect(42, DNS_R_OK, 1);
}

/* One address does not take all. */
static void
test_source_cap(void **state)
{
	(void)state;
	log_set_sink(kit_sink);
	for (int i = 0; i < DNS_SERVE_SOURCE_QUESTIONS + 3; i++)
		send_question((uint16_t)i, "a.example", DNS_T_A, 0);
	assert_int_equal(n_asked, DNS_SERVE_SOURCE_QUESTIONS);
	for (int i = 2; i < 6; i++) {
		udp_from(i);
		send_question((uint16_t)i, "a.example", DNS_T_A, 0);
	}
	log_set_sink(NULL);
	assert_true(n_asked >= DNS_SERVE_SOURCE_QUESTIONS + 2);	/* hashes may meet */
	answer(0, 1);
	udp_from(1);
	send_question(42, "a.example", DNS_T_A, 0);
	assert_true(n_asked >= DNS_SERVE_SOURCE_QUESTIONS + 3);
}

static void
test_pause(void **state)
{
	(void)state;
	send_question(1, "a.example", DNS_T_A, 0);
	dns_serve_pause(&kit.gen);
	send_question(2, "b.example", DNS_T_A, 0);
	assert_int_equal(n_asked, 1);
	answer(0, 1);
	expect(1, DNS_R_OK, 1);
	assert_int_equal(dns_serve_pending(&kit.gen), 0);
}

/* ---- TCP */

static int
dial_from(int source, int rcvbuf)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(want.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000000 + (uint32_t)source) };
	struct timeval limit = { .tv_sec = 2 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (rcvbuf != 0)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof(rcvbuf)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&own, sizeof(own)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	turns(3);
	return fd;
}

static int
dial(int rcvbuf)
{
	return dial_from(1, rcvbuf);
}

static size_t
frame(uint8_t *out, uint16_t id, const char *name, uint16_t type)
{
	uint8_t q[DNS_QUERY_MAX];
	size_t n = question(q, id, name, type, 0);

	out[0] = 0;
	out[1] = (uint8_t)n;
	memcpy(out + 2, q, n);
	return n + 2;
}

static void
tcp_read(int fd, uint8_t *p, size_t n)
{
	uint64_t end = loop_clock_ms() + 3000;

	for (size_t at = 0; at < n;) {
		ssize_t k = recv(fd, p + at, n - at, MSG_DONTWAIT);

		assert_true(k > 0 || (k == -1 && errno == EAGAIN && loop_clock_ms() < end));
		at += k > 0 ? (size_t)k : 0;
		turns(1);
	}
}

static void
tcp_expect(int fd, uint16_t id, int rcode, int answers)
{
	uint8_t head[2];

	tcp_read(fd, head, 2);
	tcp_read(fd, in, (size_t)(head[0] << 8 | head[1]));
	assert_int_equal(dns_open(&msg, in, (size_t)(head[0] << 8 | head[1])), 0);
	assert_int_equal(msg.id, id);
	assert_int_equal(msg.flags & DNS_F_RCODE, rcode);
	assert_int_equal(msg.left[DNS_ANSWER], answers);
}

static void
tcp_expect_end(int fd)
{
	uint8_t b;

	turns(5);
	assert_int_equal(recv(fd, &b, 1, 0), 0);
}

static void
test_tcp_pipeline(void **state)
{
	uint8_t b[512];
	size_t n = 0;
	int fd = dial(0);

	(void)state;
	n += frame(b + n, 1, "a.example", DNS_T_A);
	n += frame(b + n, 2, "four.test", DNS_T_A);
	n += frame(b + n, 3, "b.example", DNS_T_A);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(send(fd, b + i, 1, 0), 1);
		turns(1);
	}
	turns(3);
	assert_int_equal(n_asked, 2);
	tcp_expect(fd, 2, DNS_R_OK, 1);
	answer(1, 2);
	answer(0, 1);
	tcp_expect(fd, 3, DNS_R_OK, 2);
	tcp_expect(fd, 1, DNS_R_OK, 1);
	/* the end of what it asks is not the end of what it is told */
	assert_int_equal(send(fd, b, frame(b, 4, "c.example", DNS_T_A), 0), 29);
	shutdown(fd, SHUT_WR);
	turns(5);
	answer(2, 1);
	tcp_expect(fd, 4, DNS_R_OK, 1);
	tcp_expect_end(fd);
	close(fd);
}

static void
test_tcp_large_answers(void **state)
{
	uint8_t b[512];
	size_t n = 0;
	int fd = dial(4096);

	(void)state;
	for (uint16_t i = 0; i < 4; i++)
		n += frame(b + n, i, "a.example", DNS_T_A);
	assert_int_equal(send(fd, b, n, 0), n);
	turns(3);
	assert_int_equal(n_asked, 4);
	answer(0, 4000);
	answer(1, 4000);
	tcp_expect(fd, 0, DNS_R_OK, 4000);
	tcp_expect(fd, 1, DNS_R_OK, 4000);
	assert_int_equal(dns_next(&msg, &(struct dns_rr){ 0 }), 1);
	answer(3, 4000);
	answer(2, 1);
	tcp_expect(fd, 3, DNS_R_OK, 4000);
	tcp_expect(fd, 2, DNS_R_OK, 1);
	close(fd);
}

/* One that asks and does not listen is closed; its questions in flight are answered to nobody. */
static void
test_tcp_slow_client(void **state)
{
	static uint8_t b[DNS_SERVE_PER_CLIENT * 32];
	struct dns_serve_stat st;
	size_t n = 0;
	int fd = dial(4096);

	(void)state;
	for (uint16_t i = 0; i < DNS_SERVE_PER_CLIENT; i++)
		n += frame(b + n, i, "a.example", DNS_T_A);
	assert_int_equal(send(fd, b, n, 0), n);
	turns(5);
	assert_int_equal(n_asked, DNS_SERVE_PER_CLIENT);
	log_set_sink(kit_sink);
	for (int i = 0; i < DNS_SERVE_PER_CLIENT; i++)
		answer(i, 4000);
	log_set_sink(NULL);
	turns(3);
	dns_serve_count(&kit.gen, &st);
	assert_int_equal(st.clients, 0);
	assert_int_equal(st.questions, 0);
	close(fd);
}

static void
test_tcp_per_client_cap(void **state)
{
	static uint8_t b[(DNS_SERVE_PER_CLIENT + 10) * 32];
	size_t n = 0;
	int fd = dial(0);

	(void)state;
	for (uint16_t i = 0; i < DNS_SERVE_PER_CLIENT + 10; i++)
		n += frame(b + n, i, "a.example", DNS_T_A);
	assert_int_equal(send(fd, b, n, 0), n);
	shutdown(fd, SHUT_WR);
	turns(5);
	assert_int_equal(n_asked, DNS_SERVE_PER_CLIENT);
	for (int i = 0; i < DNS_SERVE_PER_CLIENT + 10; i++) {
		assert_true(i < n_asked);	/* each answer lets in one of those that were read but not asked */
		answer(i, 1);
		tcp_expect(fd, (uint16_t)i, DNS_R_OK, 1);
	}
	tcp_expect_end(fd);
	close(fd);
}

static void
test_tcp_bad_frames(void **state)
{
	static const uint8_t shorter[] = { 0, 11 }, longer[] = { 0x10, 0x01 };
	uint8_t b[64];
	int fd = dial(0);

	(void)state;
	send(fd, shorter, 2, 0);
	tcp_expect_end(fd);
	close(fd);
	fd = dial(0);
	send(fd, longer, 2, 0);
	tcp_expect_end(fd);
	close(fd);
	fd = dial(0);			/* gone with a question in flight */
	send(fd, b, frame(b, 1, "a.example", DNS_T_A), 0);
	turns(5);
	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
	close(fd);
	turns(5);
	assert_int_equal(dns_serve_pending(&kit.gen), 1);
	answer(0, 1);
	assert_int_equal(dns_serve_pending(&kit.gen), 0);
}

static void
test_tcp_clients_cap(void **state)
{
	int fd[DNS_SERVE_CLIENTS_MAX + 2];
	struct dns_serve_stat st;
	uint8_t b[64];

	(void)state;
	for (int i = 0; i < DNS_SERVE_CLIENTS_MAX + 2; i++)
		fd[i] = dial_from(1 + i % 8, 0);
	turns(10);
	dns_serve_count(&kit.gen, &st);
	assert_int_equal(st.clients, DNS_SERVE_CLIENTS_MAX);
	close(fd[0]);
	turns(10);
	send(fd[DNS_SERVE_CLIENTS_MAX], b, frame(b, 8, "four.test", DNS_T_A), 0);
	tcp_expect(fd[DNS_SERVE_CLIENTS_MAX], 8, DNS_R_OK, 1);
	for (int i = 1; i < DNS_SERVE_CLIENTS_MAX + 2; i++)
		close(fd[i]);
}

static void
test_tcp_source_cap(void **state)
{
	int fd[DNS_SERVE_SOURCE_CLIENTS + 1], other[4];
	struct dns_serve_stat st;

	(void)state;
	for (int i = 0; i < DNS_SERVE_SOURCE_CLIENTS + 1; i++)
		fd[i] = dial(0);
	turns(5);
	tcp_expect_end(fd[DNS_SERVE_SOURCE_CLIENTS]);
	for (int i = 0; i < 4; i++)
		other[i] = dial_from(2 + i, 0);
	turns(5);
	dns_serve_count(&kit.gen, &st);
	assert_true(st.clients >= DNS_SERVE_SOURCE_CLIENTS + 2);	/* hashes may meet */
	for (int i = 0; i < DNS_SERVE_SOURCE_CLIENTS + 1; i++)
		close(fd[i]);
	for (int i = 0; i < 4; i++)
		close(other[i]);
}

static void
test_tcp_pause(void **state)
{
	uint8_t b[64];
	int fd = dial(0), idle = dial(0);

	(void)state;
	send(fd, b, frame(b, 1, "a.example", DNS_T_A), 0);	/* sent, not read yet */
	dns_serve_pause(&kit.gen);
	assert_int_equal(n_asked, 1);
	assert_int_equal(dns_serve_pending(&kit.gen), 3);
	answer(0, 1);
	tcp_expect(fd, 1, DNS_R_OK, 1);
	send(idle, b, frame(b, 2, "four.test", DNS_T_A), 0);	/* was on its way */
	tcp_expect(idle, 2, DNS_R_OK, 1);
	for (int i = 0; i < 200 && dns_serve_pending(&kit.gen) > 0; i++) {
		poll(NULL, 0, 10);
		turns(1);
	}
	tcp_expect_end(idle);
	tcp_expect_end(fd);
	close(fd);
	close(idle);
}

/* ---- listeners */

static void
test_open(void **state)
{
	static const char *const none[] = { "", ":0", "127.0.0.1:0", "127.0.0.1", "no.such.name:53" };

	(void)state;
	kit_log[0] = '\0';
	log_set_sink(kit_sink);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		build(none[i]);
		log_set_level(LL_INFO);
		assert_int_equal(dns_serve_open(&kit.gen, why, sizeof(why)), 0);
		assert_int_equal(want.port, 0);
		teardown(NULL);
	}
	log_set_sink(NULL);
	assert_non_null(strstr(kit_log, "Start DNS server error: dns.listen: 127.0.0.1 is"));
	assert_non_null(strstr(kit_log, "no.such.name is no address"));
	build("127.0.0.1:53");
	rig.w.lead = false;
	assert_int_equal(dns_serve_open(&kit.gen, why, sizeof(why)), 0);
	rig.w.lead = true;
	kit.gen.resolver->conf.enable = false;
	assert_int_equal(dns_serve_open(&kit.gen, why, sizeof(why)), 0);
	assert_int_equal(want.port, 0);
	kit.gen.resolver->conf.enable = true;
	kit.gen.resolver->conf.listen = "localhost:53";
	want.fail = LISTEN_TCP;
	assert_int_equal(dns_serve_open(&kit.gen, why, sizeof(why)), -E_BUSY);
	assert_string_equal(why, "taken");
	assert_int_equal(unlistened, 1);	/* UDP */
	want.fail = unlistened = 0;
	open_server();
	assert_true(ip_is_loopback(&want.ip));
	unlistened = 0;
	teardown(NULL);
	assert_int_equal(unlistened, 2);
}

/* A question that came on another way: every stage applies, errors are told as such. */
static void
test_ask_within(void **state)
{
	uint8_t q[DNS_QUERY_MAX];
	int got = 0;
	size_t n;

	(void)state;
	n = question(q, 7, "four.test", DNS_T_A, 0);
	assert_int_equal(dns_serve_ask(&kit.gen, q, n, false, heard, &got), 0);
	assert_int_equal(got, 1000 + DNS_R_OK);		/* hosts, from inside */
	n = question(q, 7, "far.test", DNS_T_A, 0);
	got = 0;
	assert_int_equal(dns_serve_ask(&kit.gen, q, n, false, heard, &got), 0);
	assert_int_equal(got, 0);
	assert_int_equal(dns_serve_pending(&kit.gen), 1);
	answer(0, 1);
	assert_int_equal(got, 1000 + DNS_R_OK);
	got = 0;
	assert_int_equal(dns_serve_ask(&kit.gen, q, n, false, heard, &got), 0);
	asked[1].done(asked[1].arg, E_TIMEOUT, NULL, 0);
	assert_int_equal(got, E_DNS);
	got = 0;
	assert_int_equal(dns_serve_ask(&kit.gen, q, 3, false, heard, &got), 0);
	assert_int_equal(got, E_PROTO);
	assert_int_equal(dns_serve_ask(&kit.gen, q, 65535, false, heard, &got), -E_LIMIT);
	assert_int_equal(dns_serve_pending(&kit.gen), 0);
	kit.gen.resolver->conf.enable = false;
	assert_int_equal(dns_serve_ask(&kit.gen, q, n, false, heard, &got), -E_UNSUP);
}

/* A stand-in serves the sockets that it is given, and leaves when it has answered everybody. */
static void
test_stand_in(void **state)
{
	struct msg_listen key = {
		.kind = LISTEN_UDP, .flags = LISTEN_LEAD, .ip = { .family = 4, .b = { 127, 0, 0, 1 } }, .port = 53
	};
	int fds[LISTEN_SLOTS_MAX], fd, tcp;

	(void)state;
	teardown(NULL);
	build("127.0.0.1:53");
	assert_int_equal(priv_listen(&rig.w, &key, fds, why, sizeof(why)), 1);
	fd = fds[0];
	rig.w.lead = false;
	assert_int_equal(dns_serve_open(&kit.gen, why, sizeof(why)), 0);
	dns_serve_start(&kit.gen);
	key.port = 54;
	assert_int_equal(dns_serve_adopt(&kit.gen, &key, fd), -E_NOTFOUND);
	key.port = 53;
	assert_int_equal(dns_serve_adopt(&kit.gen, &key, fd), 0);
	udp = udp_to("127.0.0.1");
	send_question(1, "far.test", DNS_T_A, 0);
	assert_int_equal(n_asked, 1);
	dns_serve_return(&kit.gen);
	send_question(2, "four.test", DNS_T_A, 0);
	no_reply();			/* the lead's, whose socket it is again */
	answer(0, 1);
	expect(1, DNS_R_OK, 1);
	for (int i = 0; i < 100 && recv(fd, in, sizeof(in), MSG_DONTWAIT | MSG_PEEK) != -1; i++) {
		poll(NULL, 0, 10);
		turns(1);
	}
	assert_int_equal(errno, EBADF);	/* it has let go */
	tcp = dup(udp);			/* the same number again */
	assert_int_equal(dns_serve_adopt(&kit.gen, &key, tcp), 0);
	unlistened = 0;
	dns_serve_return(&kit.gen);
	assert_int_equal(unlistened, 0);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_pass),
		T(test_pass_other_question),
		T(test_ask_within),
		T(test_stand_in),
		cmocka_unit_test_setup_teardown(test_fake, setup_fake, teardown_fake),
		cmocka_unit_test_setup_teardown(test_fake_reverse, setup_fake, teardown_fake),
		cmocka_unit_test_setup_teardown(test_mapping_stage, setup_fake, teardown_fake),
		cmocka_unit_test_setup_teardown(test_fake_batch, setup_fake, teardown_fake),
		T(test_resolver_errors),
		T(test_hosts),
		T(test_alias),
		T(test_alias_upstream_names),
		T(test_ipv6_off),
		T(test_truncation),
		T(test_bad_questions),
		cmocka_unit_test_setup_teardown(test_wildcard_source, setup_wildcard, teardown),
		cmocka_unit_test_setup_teardown(test_wildcard_source, setup_dual, teardown),
		T(test_questions_cap),
		T(test_source_cap),
		T(test_pause),
		T(test_tcp_pipeline),
		T(test_tcp_large_answers),
		T(test_tcp_slow_client),
		T(test_tcp_per_client_cap),
		T(test_tcp_bad_frames),
		T(test_tcp_clients_cap),
		T(test_tcp_source_cap),
		T(test_tcp_pause),
		cmocka_unit_test(test_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
