/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/dns/fake_pool.c, mapping.c and fake_filter.c: order and recycling of addresses, and what is left of a
 * table that another generation, a crash or another pool wrote. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "tests/unit/gen_kit.h"
#include "worker/dns/config.h"
#include "worker/dns/fakeip.h"
#include "worker/dns/internal.h"
#include "worker/worker.h"

static struct fake_table *table;

static int
setup(void **state)
{
	(void)state;
	table = calloc(1, sizeof(*table));
	assert_non_null(table);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	free(table);
	return 0;
}

static void
pool(struct fake_pool *p, const char *range, uint32_t generation)
{
	struct prefix prefix;

	assert_int_equal(prefix_parse(&prefix, range), 0);
	fake_pool_init(p, &prefix, table, true);
	fake_pool_start(p, generation);
}

static const char *
give(struct fake_pool *p, const char *host)
{
	static char text[ADDR_TEXT_MAX];
	struct ip ip;
	int rc = fake_pool_give(p, host, &ip);

	if (rc != 0)
		return err_text(rc);
	return ip_text(&ip, text);
}

static const char *
find(const struct fake_pool *p, const char *address)
{
	static char host[HOST_MAX + 1];
	struct ip ip;

	assert_int_equal(ip_parse(&ip, address), 0);
	switch (fake_pool_find(p, &ip, host)) {
	case FAKE_FOREIGN:
		return "foreign";
	case FAKE_MISSING:
		return "missing";
	case FAKE_FOUND:
		break;
	}
	return host;
}

static void
test_give_order(void **state)
{
	struct fake_pool p;

	(void)state;
	pool(&p, "198.18.0.1/16", 1);
	assert_string_equal(give(&p, "a.test"), "198.18.0.4");
	assert_string_equal(give(&p, "b.test"), "198.18.0.5");
	assert_string_equal(give(&p, "a.test"), "198.18.0.4");
	assert_string_equal(find(&p, "198.18.0.4"), "a.test");
	assert_string_equal(find(&p, "198.18.0.6"), "missing");
	assert_string_equal(find(&p, "198.18.0.1"), "foreign");
	assert_string_equal(find(&p, "198.18.0.2"), "missing");
	assert_string_equal(find(&p, "198.18.255.254"), "missing");
	assert_string_equal(find(&p, "198.18.255.255"), "foreign");
	assert_string_equal(find(&p, "198.19.0.4"), "foreign");
	assert_string_equal(find(&p, "::c612:4"), "foreign");
	assert_int_equal(p.count, 65536 - 5);
	assert_string_equal(give(&p, ""), err_text(E_INVAL));
}

static void
test_give_v6(void **state)
{
	struct fake_pool p;
	char name[32], first[ADDR_TEXT_MAX];

	(void)state;
	pool(&p, "fdfe:dcba:9876::1/64", 1);
	assert_string_equal(give(&p, "a.test"), "fdfe:dcba:9876::4");
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "n%d.test", i);
		str_copy(first, sizeof(first), give(&p, name));
		assert_string_equal(find(&p, first), name);
	}
	assert_string_equal(first, "fdfe:dcba:9876::130");
	assert_string_equal(find(&p, "fdfe:dcba:9876:1::4"), "foreign");
	assert_string_equal(find(&p, "fdfe:dcba:9876:0:1::4"), "missing");
}

static void
test_give_wraps(void **state)
{
	static const char *const want[] = { "198.18.0.4", "198.18.0.5", "198.18.0.6", "198.18.0.4", "198.18.0.5" };
	struct fake_pool p;
	char name[16];

	(void)state;
	pool(&p, "198.18.0.0/29", 1);
	for (size_t i = 0; i < countof(want); i++) {
		snprintf(name, sizeof(name), "n%zu", i);
		assert_string_equal(give(&p, name), want[i]);
	}
	assert_string_equal(find(&p, "198.18.0.5"), "n4");
	assert_string_equal(give(&p, "n2"), "198.18.0.6");	/* asked again: passed over once */
	assert_string_equal(give(&p, "x"), "198.18.0.4");
	assert_string_equal(give(&p, "y"), "198.18.0.5");
	assert_string_equal(give(&p, "n0"), "198.18.0.6");
	assert_string_equal(find(&p, "198.18.0.6"), "n0");
	for (int i = 0; i < 3; i++) {		/* all asked again: one round takes the marks away */
		assert_string_equal(give(&p, "x"), "198.18.0.4");
		assert_string_equal(give(&p, "y"), "198.18.0.5");
		assert_string_equal(give(&p, "n0"), "198.18.0.6");
	}
	assert_string_equal(give(&p, "z"), "198.18.0.4");
}

/* Long names share few tails; each name keeps its own end. */
static void
test_give_long_names(void **state)
{
	struct fake_pool p;
	char name[HOST_MAX + 1];
	int known = 0;

	(void)state;
	pool(&p, "198.18.0.0/15", 1);
	memset(name, 'x', sizeof(name) - 1);
	name[HOST_MAX] = '\0';
	for (int i = 0; i < FAKE_TAILS + 100; i++) {
		char digits[16], address[ADDR_TEXT_MAX];

		snprintf(digits, sizeof(digits), "%08d", i);
		memcpy(name + HOST_MAX - 8, digits, 8);
		str_copy(address, sizeof(address), give(&p, name));
		assert_string_equal(find(&p, address), name);
		assert_string_equal(give(&p, name), address);
	}
	for (uint32_t i = 0; i < p.n_slots; i++)
		known += table->slot[i].len > 0;
	assert_int_equal(known, FAKE_TAILS);
	assert_string_equal(find(&p, "198.18.0.4"), "missing");
	name[FAKE_NAME] = '\0';
	assert_string_equal(find(&p, give(&p, name)), name);
	name[FAKE_NAME] = 'x', name[FAKE_NAME + 1] = '\0';
	assert_string_equal(find(&p, give(&p, name)), name);
}

/* More names than slots, and a pool of more addresses than that. */
static void
test_give_full(void **state)
{
	struct fake_pool p;
	char name[32];

	(void)state;
	pool(&p, "10.0.0.0/8", 1);
	for (int i = 0; i < FAKE_SLOTS + 1000; i++) {
		snprintf(name, sizeof(name), "h%d.test", i);
		(void)give(&p, name);
	}
	assert_string_equal(find(&p, "10.0.0.4"), "missing");
	assert_string_equal(find(&p, "10.1.0.4"), "h65536.test");
	assert_string_equal(give(&p, "h65536.test"), "10.1.0.4");
	assert_string_equal(find(&p, "10.0.4.0"), "h1020.test");
	assert_string_equal(give(&p, "h0.test"), "10.1.3.236");	/* forgotten: a new one */
	assert_string_equal(find(&p, "10.1.3.236"), "h0.test");
	for (int i = 1001; i < FAKE_SLOTS; i += 97) {
		struct ip ip;
		char host[HOST_MAX + 1];

		snprintf(name, sizeof(name), "h%d.test", i);
		assert_int_equal(fake_pool_give(&p, name, &ip), 0);
		assert_int_equal(fake_pool_find(&p, &ip, host), FAKE_FOUND);
		assert_string_equal(host, name);
		assert_int_equal(ip.b[1] << 16 | ip.b[2] << 8 | ip.b[3], i + 4);
	}
}

static void
test_start_again(void **state)
{
	struct fake_pool p, q;
	char name[32];

	(void)state;
	pool(&p, "198.18.0.0/16", 1);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		(void)give(&p, name);
	}
	pool(&q, "198.18.0.0/16", 2);
	assert_string_equal(give(&q, "n50"), "198.18.0.54");
	assert_string_equal(give(&q, "new"), "198.18.0.104");
	assert_string_equal(give(&p, "new"), "198.18.0.104");	/* the old one has not ended yet */
	assert_string_equal(give(&p, "newer"), "198.18.0.105");
	assert_string_equal(give(&q, "newer"), "198.18.0.105");
	assert_string_equal(give(&q, "newest"), "198.18.0.106");
}

static void
test_start_other_range(void **state)
{
	struct fake_pool p, q;

	(void)state;
	pool(&p, "198.18.0.0/16", 1);
	(void)give(&p, "a");
	(void)give(&p, "b");
	pool(&q, "198.18.0.0/17", 2);
	assert_string_equal(find(&q, "198.18.0.4"), "missing");
	assert_string_equal(find(&p, "198.18.0.4"), "missing");
	assert_string_equal(give(&q, "b"), "198.18.0.6");
	assert_string_equal(find(&p, "198.18.0.6"), "missing");	/* not the old pool's */
	assert_string_equal(find(&q, "198.18.0.6"), "b");
	table->cursor = 0xffffffff;
	pool(&q, "198.18.0.0/29", 3);
	assert_string_equal(give(&q, "c"), "198.18.0.4");
}

/* What a crash or a torn page may leave is empty, and the rest stays. */
static void
test_start_damaged(void **state)
{
	struct fake_pool p;
	char name[32];

	(void)state;
	pool(&p, "198.18.0.0/16", 1);
	for (int i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		(void)give(&p, name);
	}
	table->slot[1].name[0] ^= 1;
	table->slot[2].offset = 5;
	table->slot[3].seq |= 1;
	table->slot[4].tail = 7;
	table->slot[5] = table->slot[6];
	memset(table->index, 0xff, sizeof(table->index));
	atomic_store(&table->lock, 77);		/* died inside */
	assert_string_equal(find(&p, "198.18.0.5"), "missing");
	assert_string_equal(find(&p, "198.18.0.6"), "missing");
	assert_string_equal(find(&p, "198.18.0.7"), "missing");
	assert_string_equal(find(&p, "198.18.0.8"), "missing");
	assert_string_equal(find(&p, "198.18.0.9"), "missing");
	assert_string_equal(give(&p, "n0"), err_text(E_BUSY));
	pool(&p, "198.18.0.0/16", 2);
	assert_string_equal(give(&p, "n0"), "198.18.0.4");
	assert_string_equal(give(&p, "n6"), "198.18.0.10");
	assert_string_equal(give(&p, "n1"), "198.18.0.14");	/* the old address is not given to another one now */
	assert_string_equal(find(&p, "198.18.0.7"), "missing");
	for (uint32_t i = 0; i < sizeof(table->slot[0]); i++) {	/* any byte */
		uint8_t *b = (uint8_t *)&table->slot[20];

		snprintf(name, sizeof(name), "%u", i);
		memset(b, 0x5a, i);
		pool(&p, "198.18.0.0/16", 3 + i);
		assert_string_equal(find(&p, "198.18.0.24"), "missing");
	}
}

static void
test_flush(void **state)
{
	struct fake_pool p;

	(void)state;
	pool(&p, "198.18.0.0/16", 1);
	(void)give(&p, "a");
	(void)give(&p, "b");
	fake_pool_flush(&p);
	assert_string_equal(find(&p, "198.18.0.4"), "missing");
	assert_string_equal(give(&p, "b"), "198.18.0.4");
	assert_int_equal(table->slot[1].len, 0);
}

static void
test_readers_do_not_give(void **state)
{
	struct prefix range;
	struct fake_pool p;

	(void)state;
	assert_int_equal(prefix_parse(&range, "198.18.0.0/16"), 0);
	fake_pool_init(&p, &range, table, false);
	fake_pool_start(&p, 1);
	assert_string_equal(give(&p, "a"), err_text(E_BUSY));
	assert_int_equal(table->magic[0], 0);
	fake_pool_init(&p, &range, NULL, true);
	fake_pool_start(&p, 1);
	assert_string_equal(give(&p, "a"), err_text(E_BUSY));
	assert_string_equal(find(&p, "198.18.0.4"), "missing");	/* never a connection to a fake address */
}

/* ---- mapping */

static void
test_mapping(void **state)
{
	static struct worker w;
	static struct gen g;
	static struct resolver r;
	struct ip a, b;
	char host[HOST_MAX + 1];

	(void)state;
	loop_init(&w.loop);
	loop_fake_clock(&w.loop, 5000);
	w.lead = true;
	g.w = &w;
	g.resolver = &r;
	r.loop = &w.loop;
	assert_int_equal(ip_parse(&a, "192.0.2.1"), 0);
	assert_int_equal(ip_parse(&b, "2001:db8::1"), 0);
	assert_false(mapping_name(&g, &a, host));
	mapping_put(&g, &a, "a.test", 10);	/* no memory: nothing happens */
	r.mapping = calloc(1, sizeof(*r.mapping));
	mapping_put(&g, &a, "a.test", 10);
	mapping_put(&g, &b, "b.test", 0);
	assert_true(mapping_name(&g, &a, host));
	assert_string_equal(host, "a.test");
	assert_true(mapping_name(&g, &b, host));
	w.loop.now_ms += 1000;
	assert_false(mapping_name(&g, &b, host));
	mapping_put(&g, &a, "other.test", 100);
	assert_true(mapping_name(&g, &a, host));
	assert_string_equal(host, "other.test");
	for (int i = 0; i < 100000; i++) {	/* far more than it holds */
		struct ip ip = { .family = 4, .b = { 10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i } };

		mapping_put(&g, &ip, "x.test", 300);
		assert_true(mapping_name(&g, &ip, host));
	}
	for (int i = 0; i < MAPPING_SETS; i++)
		for (int k = 0; k < MAPPING_WAYS; k++)
			r.mapping->slot[i][k].name[0] ^= 1;
	assert_false(mapping_name(&g, &a, host));
	free(r.mapping);
	loop_fini(&w.loop);
}

/* ---- the filter */

static void
filter(const char *yaml, int mode, struct fake_filter *out, struct kit *k)
{
	assert_int_equal(kit_open(k, yaml), 0);
	if (fake_filter_parse(&k->gen, k->gen.root, cfg_get(k->gen.root, "dns"), mode, out, &k->err) != 0)
		fail_msg("%s", k->err.text);
}

static void
test_filter_lists(void **state)
{
	struct fake_filter f;
	struct kit k;

	(void)state;
	filter("dns: {fake-ip-filter: ['+.real.test', '*.one.test', exact.test, 'geosite:x']}\n", FAKE_BLACKLIST, &f, &k);
	assert_true(fake_filter_is_real(&f, "real.test"));
	assert_true(fake_filter_is_real(&f, "a.b.real.test"));
	assert_true(fake_filter_is_real(&f, "a.one.test"));
	assert_false(fake_filter_is_real(&f, "b.a.one.test"));
	assert_false(fake_filter_is_real(&f, "x.exact.test"));
	f.mode = FAKE_WHITELIST;
	assert_false(fake_filter_is_real(&f, "real.test"));
	assert_true(fake_filter_is_real(&f, "x.exact.test"));
	kit_close(&k);
	filter("dns: {}\n", FAKE_BLACKLIST, &f, &k);
	assert_true(fake_filter_is_real(&f, "dns.msftnsci.com"));
	kit_close(&k);
	filter("dns: {fake-ip-filter: []}\n", FAKE_BLACKLIST, &f, &k);
	assert_false(fake_filter_is_real(&f, "dns.msftnsci.com"));
	kit_close(&k);
}

static void
test_filter_rules(void **state)
{
	struct fake_filter f;
	struct kit k;

	(void)state;
	filter("dns: {fake-ip-filter: ['DOMAIN,A.test,real-ip', 'DOMAIN-SUFFIX,b.test,Fake-IP', 'DOMAIN-KEYWORD,key,real-ip',\n"
	    "  'DOMAIN-WILDCARD,w?.*,real-ip', 'DOMAIN-REGEX,^r{1,2}\\.test$,real-ip', 'MATCH,fake-ip']}\n", FAKE_RULE, &f, &k);
	assert_true(fake_filter_is_real(&f, "a.test"));
	assert_false(fake_filter_is_real(&f, "key.b.test"));
	assert_true(fake_filter_is_real(&f, "akeyb.test"));
	assert_true(fake_filter_is_real(&f, "wx.test"));
	assert_true(fake_filter_is_real(&f, "rr.test"));
	assert_false(fake_filter_is_real(&f, "rrr.test"));
	kit_close(&k);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_give_order),
		T(test_give_v6),
		T(test_give_wraps),
		T(test_give_long_names),
		T(test_give_full),
		T(test_start_again),
		T(test_start_other_range),
		T(test_start_damaged),
		T(test_flush),
		T(test_readers_do_not_give),
		T(test_mapping),
		T(test_filter_lists),
		T(test_filter_rules),
	};

	return cmocka_run_group_tests_name("fakeip", tests, NULL, NULL);
}
