/* SPDX-License-Identifier: MIT */
/* The walk of a connection through the rules allocates nothing: neither from the heap, which is counted here for the whole
 * program with its libraries, nor from an arena. Not under a sanitizer, which has an allocator of its own. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "common/strutil.h"
#include "tests/unit/gen_kit.h"
#include "worker/loader/ruleset.h"
#include "worker/rule/rule.h"
#include "worker/rule/ruleset.h"

#ifdef SLUICE_NO_SANDBOX	/* every sanitizer build */
enum { COUNTS = 0 };
static unsigned long allocations;
#else
enum { COUNTS = 1 };
static unsigned long allocations;

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);

void *
malloc(size_t n)
{
	allocations++;
	return __libc_malloc(n);
}

void *
calloc(size_t n, size_t size)
{
	allocations++;
	return __libc_calloc(n, size);
}

void *
realloc(void *p, size_t n)
{
	allocations++;
	return __libc_realloc(p, n);
}
#endif

static const char config[] =
    "rule-providers:\n"
    "  d: {type: inline, behavior: domain, payload: []}\n"
    "  i: {type: inline, behavior: ipcidr, payload: []}\n"
    "  c: {type: inline, behavior: classical, payload: []}\n"
    "sub-rules:\n  s:\n    - DOMAIN-SUFFIX,sub.test,a\n    - MATCH,PASS\n"
    "rules:\n"
    "  - DOMAIN,exact.test,a\n  - DOMAIN-SUFFIX,suffix.test,b\n  - DOMAIN-KEYWORD,keyw,a\n  - 'DOMAIN-REGEX,^(rx)+[0-9]{2}\\.test$,b'\n"
    "  - DOMAIN-WILDCARD,w?.*.test,a\n  - RULE-SET,d,a\n  - RULE-SET,i,b,no-resolve\n  - RULE-SET,i,b,src\n  - RULE-SET,c,a,no-resolve\n"
    "  - IP-CIDR,10.0.0.0/8,a,no-resolve\n  - IP-CIDR6,2001:db8::/32,a,no-resolve\n  - IP-SUFFIX,8.8.8.8/24,b,no-resolve\n"
    "  - SRC-IP-CIDR,192.168.1.0/24,a\n  - DST-PORT,81/90-99,b\n  - SRC-PORT,7777,a\n  - IN-PORT,1234,a\n  - IN-TYPE,SOCKS/HTTP,PASS\n"
    "  - IN-USER,me,a\n  - IN-NAME,in,b\n  - NETWORK,udp,b\n  - DSCP,4,a\n  - UID,1001,a\n  - GEOIP,lan,b,no-resolve\n"
    "  - 'PROCESS-NAME-REGEX,^cu.l$,b'\n  - PROCESS-PATH-WILDCARD,/usr/*/wget,a\n"
    "  - 'AND,((DOMAIN-REGEX,and[0-9]),(NOT,((DST-PORT,80)))),b'\n  - 'OR,((IP-CIDR,172.16.0.0/12,no-resolve),(DOMAIN,or.test)),a'\n"
    "  - 'SUB-RULE,(NETWORK,tcp),s'\n  - MATCH,DIRECT\n";

static void
load(struct kit *k, const char *name, uint32_t kind, const char *text)
{
	struct ruleset_job job = { .kind = kind, .format = FORMAT_TEXT, .name = name, .p = text, .n = strlen(text) };
	struct cfg_err err = { 0 };
	uint32_t count;
	int fd;

	assert_int_equal(ruleset_compile(&job, &fd, &count, &err), 0);
	assert_int_equal(ruleset_load(&k->gen, ruleset_get(&k->gen, name), &(struct msg_image){ 0 }, fd), 0);
	close(fd);
}

static void
test_rules_walk_allocates_nothing(void **state)
{
	static const char *const hosts[] = { "", "exact.test", "a.suffix.test", "xkeywx", "rxrx12.test", "w1.x.test",
		"a.plus.test", "x.star.test", "one.two.three.four.five.six.seven.eight.nine.ten.a.b.c.d.e.f.g.h.test", "kw.set",
		"re77", "and7.test", "or.test", "x.sub.test", "nothing.example",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b" };
	static const char *const ips[] = { "1.2.3.4", "10.1.1.1", "100.64.1.1", "172.20.0.1", "192.168.7.7", "2001:db8::1",
		"2400:1::1", "::1" };
	unsigned long before;
	int walks = 0, hits = 0;
	struct kit k;

	(void)state;
	if (!COUNTS)
		skip();
	assert_int_equal(kit_open(&k, config), 0);
	if (rules_parse(&k.gen, k.gen.root, &k.err) != 0)
		fail_msg("%s", k.err.text);
	load(&k, "d", IMAGE_DOMAIN, "+.plus.test\n*.star.test\nx.*.*.mid.test\n");
	load(&k, "i", IMAGE_IPCIDR, "100.64.0.0/10\n2400:1::/32\n2400:2::1/128\n");
	load(&k, "c", IMAGE_CLASSICAL,
	    "DOMAIN-KEYWORD,kw.\nDOMAIN-REGEX,^(re)+[0-9]{1,3}$\nDST-PORT,99\nIP-CIDR,3.0.0.0/8,no-resolve\n");
	before = allocations;
	free(malloc(1));
	assert_int_not_equal(allocations, before);	/* it does count */
	before = allocations;
	for (size_t h = 0; h < countof(hosts); h++)
		for (size_t i = 0; i < countof(ips); i++)
			for (int port = 80; port < 100; port += 19) {
				struct match w = { .list = k.gen.rules, .resolved = true, .process_known = true };
				struct arena was = k.gen.arena;
				struct meta m;

				meta_init(&m);
				m.host = hosts[h];
				m.process = "curl";
				m.process_path = "/usr/bin/curl";
				m.dst_port = (uint16_t)port;
				if (ip_parse(&m.dst_ip, ips[i]) != 0 || ip_parse(&m.src_ip, "127.0.0.1") != 0)
					fail();
				hits += rules_walk(&w, &m, 1) == MATCH_HIT;
				walks++;
				if (was.used != k.gen.arena.used || was.head != k.gen.arena.head)
					fail_msg("%s %s %d takes memory from the arena", hosts[h], ips[i], port);
			}
	before = allocations - before;
	assert_int_equal(before, 0);
	assert_int_equal(hits, walks);
	ruleset_free(ruleset_get(&k.gen, "d"));
	ruleset_free(ruleset_get(&k.gen, "i"));
	ruleset_free(ruleset_get(&k.gen, "c"));
	kit_close(&k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rules_walk_allocates_nothing) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
