/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/codec/dns.c, dns_text.c and dns_show.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "common/value.h"
#include "worker/codec/dns.h"

/* A message under construction. */
struct made {
	uint8_t p[2048];
	size_t n;
};

static void
put(struct made *m, const void *p, size_t n)
{
	assert_true(m->n + n <= sizeof(m->p));
	memcpy(m->p + m->n, p, n);
	m->n += n;
}

static void
put16(struct made *m, unsigned v)
{
	uint8_t b[2] = { (uint8_t)(v >> 8), (uint8_t)v };

	put(m, b, 2);
}

/* The answer to a query for name: header, question, no records yet. */
static void
begin(struct made *m, const char *name, uint16_t type, unsigned flags)
{
	int n = dns_query_write(m->p, 0x1234, name, type, 0);

	assert_true(n > 0);
	m->n = (size_t)n;
	m->p[2] = (uint8_t)(flags >> 8);
	m->p[3] = (uint8_t)flags;
}

/* A record whose owner is the question's name. */
static void
record(struct made *m, int section, uint16_t type, uint32_t ttl, const void *data, size_t n)
{
	size_t at = 6 + 2 * (size_t)section;

	m->p[at + 1]++;
	put16(m, 0xc00c);
	put16(m, type);
	put16(m, DNS_CLASS_IN);
	put16(m, ttl >> 16);
	put16(m, ttl & 0xffff);
	put16(m, (unsigned)n);
	put(m, data, n);
}

static void
open_ok(struct dns_msg *d, const struct made *m)
{
	assert_int_equal(dns_open(d, m->p, m->n), 0);
}

static void
test_name_wire_bounds(void **state)
{
	uint8_t out[DNS_NAME_MAX];
	char longest[256], label[65];

	(void)state;
	assert_int_equal(dns_name_wire(out, "a.bc"), 6);
	assert_memory_equal(out, "\1a\2bc\0", 6);
	assert_int_equal(dns_name_wire(out, "a.bc."), 6);
	assert_int_equal(dns_name_wire(out, ""), 1);
	assert_int_equal(dns_name_wire(out, "."), 1);
	assert_int_equal(dns_name_wire(out, ".."), -E_INVAL);
	assert_int_equal(dns_name_wire(out, ".a"), -E_INVAL);
	assert_int_equal(dns_name_wire(out, "a..b"), -E_INVAL);
	assert_int_equal(dns_name_wire(out, "a.."), -E_INVAL);
	memset(label, 'x', 64);
	label[64] = '\0';
	assert_int_equal(dns_name_wire(out, label), -E_INVAL);
	label[63] = '\0';
	assert_int_equal(dns_name_wire(out, label), 65);
	for (int i = 0; i < 255; i++)
		longest[i] = i % 2 == 0 ? 'a' : '.';
	longest[253] = '\0';
	assert_int_equal(dns_name_wire(out, longest), 255);
	longest[253] = '.';
	longest[254] = '\0';
	assert_int_equal(dns_name_wire(out, longest), 255);
	longest[254] = 'a';
	longest[255] = '\0';
	assert_int_equal(dns_name_wire(out, longest), -E_INVAL);
}

static void
test_query_write_edns(void **state)
{
	static const uint8_t want[] = { 0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 'a', 0, 0, 28, 0, 1, 0, 0, 41, 4, 0xd0,
		0, 0, 0, 0, 0, 0 };
	uint8_t out[DNS_QUERY_MAX];

	(void)state;
	assert_int_equal(dns_query_write(out, 0xabcd, "a", DNS_T_AAAA, 1232), sizeof(want));
	assert_memory_equal(out, want, sizeof(want));
	assert_int_equal(dns_query_write(out, 0xabcd, "a", DNS_T_AAAA, 0), sizeof(want) - 11);
	assert_int_equal(out[11], 0);
}

static void
test_next_walks_sections(void **state)
{
	struct made m;
	struct dns_msg d;
	struct dns_rr rr;
	struct ip ip;
	char text[DNS_NAME_TEXT];

	(void)state;
	begin(&m, "www.Example.com", DNS_T_A, DNS_F_QR);
	record(&m, DNS_ANSWER, DNS_T_A, 70000, "\1\2\3\4", 4);
	record(&m, DNS_ADDITIONAL, DNS_T_TXT, 1, "\2hi", 3);
	open_ok(&d, &m);
	assert_int_equal(d.qtype, DNS_T_A);
	assert_int_equal(dns_next(&d, &rr), 1);
	assert_int_equal(rr.ttl, 70000);
	assert_int_equal(rr.section, DNS_ANSWER);
	assert_int_equal(dns_rr_ip(&d, &rr, &ip), 0);
	assert_memory_equal(ip.b, "\1\2\3\4", 4);
	assert_true(dns_name_text(&d, rr.name, text, sizeof(text)) > 0);
	assert_string_equal(text, "www.Example.com.");
	assert_int_equal(dns_next(&d, &rr), 1);
	assert_int_equal(rr.section, DNS_ADDITIONAL);
	assert_int_equal(dns_next(&d, &rr), 0);
	assert_int_equal(dns_next(&d, &rr), 0);
}

static void
test_next_refuses_every_cut(void **state)
{
	struct made m;

	(void)state;
	begin(&m, "a.b", DNS_T_A, DNS_F_QR);
	record(&m, DNS_ANSWER, DNS_T_A, 1, "\1\2\3\4", 4);
	record(&m, DNS_AUTHORITY, DNS_T_NS, 1, "\1n\300\14", 4);
	for (size_t n = 0; n < m.n; n++) {
		struct dns_msg d;
		struct dns_rr rr;
		int rc = dns_open(&d, m.p, n);

		while (rc == 0 || rc == 1) {
			rc = dns_next(&d, &rr);
			assert_int_not_equal(rc, 0);
		}
		assert_int_equal(rc, -E_PROTO);
	}
}

static void
test_rr_ip_refuses(void **state)
{
	struct made m;
	struct dns_msg d;
	struct dns_rr rr;
	struct ip ip;

	(void)state;
	begin(&m, "a", DNS_T_A, DNS_F_QR);
	record(&m, DNS_ANSWER, DNS_T_A, 1, "\1\2\3", 3);
	record(&m, DNS_ANSWER, DNS_T_AAAA, 1, "\0\0\0\0\0\0\0\0\0\0\377\377\1\2\3\4", 16);
	record(&m, DNS_ANSWER, DNS_T_TXT, 1, "\3abc", 4);
	open_ok(&d, &m);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(dns_next(&d, &rr), 1);
		assert_int_equal(dns_rr_ip(&d, &rr, &ip), -E_PROTO);
	}
}

static void
test_name_text_compression(void **state)
{
	struct made m = { .n = 0 };
	struct dns_msg d = { .p = m.p };
	char text[DNS_NAME_TEXT];

	(void)state;
	/* 12: a -> 12 is a loop; 16: forward; 20: good, 24: special bytes, 30: reserved label type */
	m.n = 12;
	put(&m, "\1a\300\14", 4);
	put(&m, "\1b\300\30", 4);
	put(&m, "\1c\300\30", 4);
	put(&m, "\3.\\\1\0", 5);
	put(&m, "\100x\0", 3);
	d.n = m.n;
	assert_int_equal(dns_name_text(&d, 12, text, sizeof(text)), -E_PROTO);
	assert_int_equal(dns_name_text(&d, 16, text, sizeof(text)), -E_PROTO);
	assert_int_equal(dns_name_text(&d, 24, text, sizeof(text)), 9);
	assert_string_equal(text, "\\.\\\\\\001.");
	assert_int_equal(dns_name_text(&d, 24, text, 5), -E_LIMIT);
	assert_int_equal(dns_name_text(&d, 29, text, sizeof(text)), -E_PROTO);
}

/* A chain of pointers, each to the one before: 16 jumps are followed, 17 are not. */
static void
test_name_text_jumps(void **state)
{
	struct made m = { .n = 0 };
	struct dns_msg d = { .p = m.p };
	char text[DNS_NAME_TEXT];
	size_t at = 12, before;

	(void)state;
	m.n = 12;
	put(&m, "\0", 1);
	for (int i = 1; i <= DNS_JUMPS_MAX + 1; i++) {
		before = at;
		at = m.n;
		put16(&m, 0xc000 | (unsigned)before);
		d.n = m.n;
		if (i <= DNS_JUMPS_MAX) {
			assert_int_equal(dns_name_text(&d, at, text, sizeof(text)), 1);
			assert_string_equal(text, ".");
		} else {
			assert_int_equal(dns_name_text(&d, at, text, sizeof(text)), -E_PROTO);
		}
	}
}

/* Names over 255 bytes by way of pointers. */
static void
test_name_text_long(void **state)
{
	struct made m = { .n = 0 };
	struct dns_msg d = { .p = m.p };
	char text[DNS_NAME_TEXT];
	uint8_t label[64] = { 63 };
	size_t at;

	(void)state;
	m.n = 12;
	for (int i = 0; i < 3; i++)
		put(&m, label, 64);
	put(&m, "\0", 1);
	at = m.n;
	label[0] = 61;		/* 3 * 64 + 62 + 1 = 255 */
	put(&m, label, 62);
	put16(&m, 0xc00c);
	label[0] = 62;
	put(&m, label, 63);
	put16(&m, 0xc00c);
	d.n = m.n;
	assert_true(dns_name_text(&d, at, text, sizeof(text)) > 0);
	assert_int_equal(dns_name_text(&d, at + 64, text, sizeof(text)), -E_PROTO);
}

static void
test_echoes(void **state)
{
	uint8_t q[DNS_QUERY_MAX], other[DNS_QUERY_MAX];
	int n = dns_query_write(q, 1, "a.test", DNS_T_A, 0), no;
	struct made m;
	struct dns_msg d;

	(void)state;
	begin(&m, "A.Test", DNS_T_A, DNS_F_QR);
	open_ok(&d, &m);
	assert_true(dns_echoes(&d, q, (size_t)n));
	no = dns_query_write(other, 1, "b.test", DNS_T_A, 0);
	assert_false(dns_echoes(&d, other, (size_t)no));
	no = dns_query_write(other, 1, "a.test", DNS_T_AAAA, 0);
	assert_false(dns_echoes(&d, other, (size_t)no));
	no = dns_query_write(other, 1, "a.test.x", DNS_T_A, 0);
	assert_false(dns_echoes(&d, other, (size_t)no));
	begin(&m, "a.test", DNS_T_A, 0);
	open_ok(&d, &m);
	assert_false(dns_echoes(&d, q, (size_t)n));	/* a query is no answer */
}

static void
test_soa_ttl(void **state)
{
	static const uint8_t soa[] = "\1m\0\1r\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\1\54";	/* MINIMUM 300 */
	struct made m;
	struct dns_msg d;
	struct dns_rr rr;

	(void)state;
	begin(&m, "a", DNS_T_A, DNS_F_QR);
	record(&m, DNS_AUTHORITY, DNS_T_SOA, 900, soa, sizeof(soa) - 1);
	record(&m, DNS_AUTHORITY, DNS_T_SOA, 20, soa, sizeof(soa) - 1);
	record(&m, DNS_AUTHORITY, DNS_T_SOA, 20, soa, sizeof(soa) - 2);
	open_ok(&d, &m);
	assert_int_equal(dns_next(&d, &rr), 1);
	assert_int_equal(dns_soa_ttl(&d, &rr), 300);
	assert_int_equal(dns_next(&d, &rr), 1);
	assert_int_equal(dns_soa_ttl(&d, &rr), 20);
	assert_int_equal(dns_next(&d, &rr), 1);
	assert_int_equal(dns_soa_ttl(&d, &rr), 0);
}

static void
test_rdata_text_forms(void **state)
{
	static const struct {
		uint16_t type;
		const char *data;
		size_t n;
		const char *want;	/* NULL: refused */
	} forms[] = {
		{ DNS_T_A, "\1\2\3\4", 4, "1.2.3.4" },
		{ DNS_T_A, "\1\2\3\4\5", 5, NULL },
		{ DNS_T_AAAA, "\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1", 16, "2001:db8::1" },
		{ DNS_T_CNAME, "\1x\300\14", 4, "x.q.test." },
		{ DNS_T_CNAME, "\1x\300\14!", 5, NULL },
		{ DNS_T_PTR, "\0", 1, "." },
		{ DNS_T_NS, "\3ns1\1a\0", 7, "ns1.a." },
		{ DNS_T_MX, "\0\12\2mx\0", 6, "10 mx." },
		{ DNS_T_MX, "\0\12", 2, NULL },
		{ DNS_T_TXT, "\5a\"b\\\377\1c", 8, "\"a\\\"b\\\\\\255\" \"c\"" },
		{ DNS_T_TXT, "\5abc", 4, NULL },
		{ DNS_T_SOA, "\1m\0\1r\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0\4\377\377\377\377", 26, "m. r. 1 2 3 4 4294967295" },
		{ DNS_T_SOA, "\1m\0\1r\0\0\0\0\1", 10, NULL },
		{ DNS_T_SRV, "\0\1\0\2\1\273\1s\0", 9, "1 2 443 s." },
		{ DNS_T_CAA, "\200\5issueca.test", 14, "128 issue \"ca.test\"" },
		{ DNS_T_CAA, "\0\11issue", 7, NULL },
		{ DNS_T_HTTPS, "\0\1\0\0\1\0\6\2h2\2h3\0\2\0\0\0\3\0\2\1\273\0\4\0\4\1\2\3\4", 31,
		    "1 . alpn=\"h2,h3\" no-default-alpn port=\"443\" ipv4hint=\"1.2.3.4\"" },
		{ DNS_T_HTTPS, "\0\0\1a\0", 5, "0 a." },
		{ DNS_T_SVCB, "\0\1\0\0\0\0\4\0\1\0\4\0\5\0\3abc\2\232\0\1x", 23,
		    "1 . mandatory=\"alpn,ipv4hint\" ech=\"YWJj\" key666=\"x\"" },
		{ DNS_T_SVCB, "\0\1\0\0\3\0\2\0\1\0\1\0\3\2h2", 15, NULL }, /* keys fall */
		{ DNS_T_SVCB, "\0\1\0\0\3\0\3\0\1\0", 10, NULL }, /* a port of three bytes */
		{ DNS_T_SVCB, "\0\1\300\14", 4, NULL }, /* compressed */
		{ 4711, "\1\253", 2, "\\# 2 01ab" },
		{ 4711, "", 0, "\\# 0" },
	};

	(void)state;
	for (size_t i = 0; i < countof(forms); i++) {
		char text[256];
		struct made m;
		struct dns_msg d;
		struct dns_rr rr;
		int n;

		begin(&m, "q.test", DNS_T_A, DNS_F_QR);
		record(&m, DNS_ANSWER, forms[i].type, 1, forms[i].data, forms[i].n);
		open_ok(&d, &m);
		assert_int_equal(dns_next(&d, &rr), 1);
		n = dns_rdata_text(&d, &rr, text, sizeof(text));
		if (forms[i].want == NULL) {
			if (n != -E_PROTO)
				fail_msg("form %zu: %d %s", i, n, text);
			continue;
		}
		if (n != (int)strlen(forms[i].want) || strcmp(text, forms[i].want) != 0)
			fail_msg("form %zu: %d %s", i, n, text);
		assert_int_equal(dns_rdata_text(&d, &rr, text, (size_t)n), -E_LIMIT);
		assert_int_equal(dns_rdata_text(&d, &rr, text, (size_t)n + 1), n);
	}
}

static void
test_answer_empty(void **state)
{
	uint8_t q[DNS_QUERY_MAX], a[DNS_QUERY_MAX];
	int n = dns_query_write(q, 7, "a.b", DNS_T_A, 1232), len;
	struct dns_msg d;
	struct dns_rr rr;

	(void)state;
	len = dns_answer_empty(a, sizeof(a), q, (size_t)n, DNS_R_NXDOMAIN);
	assert_int_equal(dns_open(&d, a, (size_t)len), 0);
	assert_int_equal(d.flags, DNS_F_QR | DNS_F_RD | DNS_F_RA | DNS_R_NXDOMAIN);
	assert_int_equal(dns_next(&d, &rr), 0);
	assert_true(dns_echoes(&d, q, (size_t)n));
}

static void
test_show(void **state)
{
	static const char *const keys[] = { "AD", "Answer", "TTL", "data", "name", "type", "CD", "Question", "Name", "Qtype",
		"Qclass", "RA", "RD", "Status", "TC" };
	struct wire out, in;
	struct value_reader r;
	struct value v;
	struct made m;
	size_t k = 0;

	(void)state;
	begin(&m, "q.test", DNS_T_A, DNS_F_QR | DNS_F_RD | DNS_F_RA);
	record(&m, DNS_ANSWER, DNS_T_A, 60, "\1\2\3\4", 4);
	record(&m, DNS_ADDITIONAL, DNS_T_OPT, 0, "", 0);
	wire_init(&out);
	assert_int_equal(dns_show(m.p, m.n, &out), 0);
	wire_read(&in, out.p, out.len);
	value_reader_init(&r, &in);
	while (value_next(&r, &v) == 0) {
		if (v.key == NULL)
			continue;
		assert_true(k < countof(keys));
		assert_int_equal(v.key_len, strlen(keys[k]));
		assert_memory_equal(v.key, keys[k], v.key_len);
		if (k == 3)
			assert_memory_equal(v.str, "1.2.3.4", 7);
		if (k == 8)
			assert_memory_equal(v.str, "q.test.", 7);
		k++;
	}
	assert_int_equal(k, countof(keys));
	wire_free(&out);
	m.n--;
	wire_init(&out);
	assert_int_equal(dns_show(m.p, m.n, &out), -E_PROTO);
	wire_free(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name_wire_bounds),
		cmocka_unit_test(test_query_write_edns),
		cmocka_unit_test(test_next_walks_sections),
		cmocka_unit_test(test_next_refuses_every_cut),
		cmocka_unit_test(test_rr_ip_refuses),
		cmocka_unit_test(test_name_text_compression),
		cmocka_unit_test(test_name_text_jumps),
		cmocka_unit_test(test_name_text_long),
		cmocka_unit_test(test_echoes),
		cmocka_unit_test(test_soa_ttl),
		cmocka_unit_test(test_rdata_text_forms),
		cmocka_unit_test(test_answer_empty),
		cmocka_unit_test(test_show),
	};

	return cmocka_run_group_tests_name("dns_codec", tests, NULL, NULL);
}
