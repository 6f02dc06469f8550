/* SPDX-License-Identifier: MIT */
/* The readers of rule data: what of each format gets into the image, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "common/log.h"
#include "common/strutil.h"
#include "tests/unit/gen_kit.h"
#include "worker/loader/ruleset.h"
#include "worker/match/image.h"
#include "worker/rule/ruleset.h"

static uint32_t count;
static struct cfg_err err;

static int
compile(uint32_t kind, uint32_t format, const char *name, const void *p, size_t n, struct image *im)
{
	struct ruleset_job job = { .kind = kind, .format = format, .name = name, .p = p, .n = n };
	int fd = -1, rc;

	memset(&err, 0, sizeof err);
	rc = ruleset_compile(&job, &fd, &count, &err);
	if (rc != 0)
		return rc;
	assert_int_equal(image_open(im, fd), 0);
	close(fd);
	return 0;
}

static int
text(uint32_t kind, uint32_t format, const char *s, struct image *im)
{
	return compile(kind, format, "p", s, strlen(s), im);
}

static bool
name_in(const struct image *im, const char *host)
{
	return image_has_name(im, host, strlen(host));
}

static bool
ip_in(const struct image *im, const char *s)
{
	struct ip ip;

	assert_int_equal(ip_parse(&ip, s), 0);
	return image_has_ip(im, &ip);
}

static void
test_yaml_item(void **state)
{
	static const struct { const char *line, *want;
	} cases[] = {
		{ "- a.com", "a.com" },
		{ "  - 'a.com'\r\n", "a.com" },
		{ "\t- \"a\\u0041\\n\"", "aA\n" },
		{ "- 'it''s' # c", "it's" },
		{ "- a # c", "a" },
		{ "- a#b", "a#b" },
		{ "- +.a.com", "+.a.com" },
		{ "- .a", ".a" },
		{ "-  x  ", "x" },
		{ "- DOMAIN,a", "DOMAIN,a" },
		{ "- 1.1.1.0/24", "1.1.1.0/24" },
		{ "- 2001:db8::/32", "2001:db8::/32" },
		{ "- '*.a'", "*.a" },
		{ "- ''", "" },
		{ "- *.a", NULL },
		{ "- [a]", NULL },
		{ "- {a: b}", NULL },
		{ "- a: b", NULL },
		{ "- a:", NULL },
		{ "-a", NULL },
		{ "a", NULL },
		{ "", NULL },
		{ "- ", NULL },
		{ "-", NULL },
		{ "- # c", NULL },
		{ "- 'a", NULL },
		{ "- 'a'b", NULL },
		{ "- \"\\q\"", NULL },
		{ "- \"\\ud800\"", NULL },
		{ "- - a", NULL },
		{ "- !x a", NULL },
		{ "- &x a", NULL },
		{ "- | ", NULL },
		{ "- 'a'#c", NULL },
	};
	char out[RULESET_LINE_MAX];

	(void)state;
	for (size_t i = 0; i < countof(cases); i++) {
		int n = yaml_item(cases[i].line, strlen(cases[i].line), out);

		if ((n < 0) != (cases[i].want == NULL))
			fail_msg("%s: %d", cases[i].line, n);
		if (n >= 0)
			assert_string_equal(out, cases[i].want);
	}
	assert_true(yaml_head("payload:", 8, "payload"));
	assert_true(yaml_head("'payload': # c\r", 15, "payload"));
	assert_false(yaml_head("payload: [a]", 12, "payload"));
	assert_false(yaml_head(" payload:", 9, "payload"));
	assert_false(yaml_head("payloads:", 9, "payload"));
}

static void
test_text_and_yaml(void **state)
{
	struct image im;

	(void)state;
	assert_int_equal(text(IMAGE_DOMAIN, FORMAT_TEXT, "# c\n// c\n\n +.a.test \r\nb.test\nbad/\n*.c.test", &im), 0);
	assert_int_equal(count, 3);
	assert_true(name_in(&im, "x.a.test") && name_in(&im, "b.test") && name_in(&im, "x.c.test") && !name_in(&im, "bad"));
	image_close(&im);
	assert_int_equal(
	    text(IMAGE_IPCIDR, FORMAT_YAML,
		"x: 1\npayload:\n# c\n  - 10.0.0.0/8\n  - '1.2.3.4'\n  - 2001:db8::/32\n  - nope\n  - 1.1.1.1/33\n", &im),
	    0);
	assert_int_equal(count, 3);
	assert_true(ip_in(&im, "10.9.9.9") && ip_in(&im, "1.2.3.4") && !ip_in(&im, "1.2.3.5") && ip_in(&im, "2001:db8::9"));
	image_close(&im);
	assert_int_equal(text(IMAGE_DOMAIN, FORMAT_YAML, "rules:\n- a.test", &im), 0);
	assert_int_equal(count, 1);
	image_close(&im);
	assert_int_not_equal(text(IMAGE_DOMAIN, FORMAT_YAML, "<html>junk</html>\n", &im), 0);
	assert_string_equal(err.text, "file must have a `payload` field");
	assert_int_not_equal(text(IMAGE_CLASSICAL, FORMAT_MRS, "x", &im), 0);
	assert_string_equal(err.text, "invalid format");
	assert_int_equal(text(IMAGE_DOMAIN, FORMAT_TEXT, "", &im), 0);
	assert_int_equal(count, 0);
	image_close(&im);
}

static void
test_classical(void **state)
{
	static const char list[] =
	    "DOMAIN,One.test\nDOMAIN-SUFFIX, two.test\ndomain-keyword,KEY\nIP-CIDR,10.0.0.0/8,no-resolve\nSRC-IP-CIDR,11.0.0.0/8\n"
	    "IP-CIDR,12.0.0.0/8,src\nDST-PORT,99\nDOMAIN-REGEX,^re[0-9]{1,3}$\nMATCH\nIP-CIDR,bad\nRULE-SET,x\nDOMAIN,a*.b\nDOMAIN,*.b\n";
	struct image im;
	struct kit k;
	struct ruleset s = { .name = "p", .kind = IMAGE_CLASSICAL };
	struct msg_image m = { 0 };
	struct meta meta;
	struct ruleset_job job = { .kind = IMAGE_CLASSICAL, .format = FORMAT_TEXT, .name = "p", .p = list, .n = sizeof list - 1 };
	struct ip ip;
	int fd;

	(void)state;
	assert_int_equal(text(IMAGE_CLASSICAL, FORMAT_TEXT, list, &im), 0);
	assert_int_equal(count, 7);	/* what needs no rule of its own */
	assert_int_equal(im.h->flags & IMAGE_WANTS_IP, 0);
	assert_true(
	    name_in(&im, "one.test") && name_in(&im, "x.two.test") && !name_in(&im, "x.one.test") && !name_in(&im, "x.b"));
	assert_true(image_has_word(&im, "akeyb", 5) && ip_in(&im, "10.1.1.1") && !ip_in(&im, "12.1.1.1"));
	assert_int_equal(ip_parse(&ip, "12.0.0.1"), 0);
	assert_true(image_has_src(&im, &ip));
	image_close(&im);

	/* the same as a set of rules: the lines work too */
	assert_int_equal(kit_open(&k, "{}"), 0);
	assert_int_equal(ruleset_compile(&job, &fd, &count, &err), 0);
	assert_int_equal(ruleset_load(&k.gen, &s, &m, fd), 0);
	close(fd);
	assert_int_equal(s.count, 7 + 3);	/* DST-PORT, DOMAIN-REGEX, DOMAIN,*.b; not MATCH, RULE-SET, nor a bad prefix */
	assert_int_equal(s.needs, 0);
	meta_init(&meta);
	assert_false(ruleset_match(&s, &meta));
	meta.dst_port = 99;
	assert_true(ruleset_match(&s, &meta));
	meta.dst_port = 1;
	meta.host = "re12";
	assert_true(ruleset_match(&s, &meta));
	meta.host = "re1234";
	assert_false(ruleset_match(&s, &meta));
	meta.host = "*.b";
	assert_true(ruleset_match(&s, &meta));
	ruleset_free(&s);
	kit_close(&k);

	assert_int_equal(text(IMAGE_CLASSICAL, FORMAT_TEXT, "IP-CIDR,10.0.0.0/8", &im), 0);
	assert_int_equal(im.h->flags & IMAGE_WANTS_IP, IMAGE_WANTS_IP);
	image_close(&im);
}

/* ---- .mrs */

static size_t
be64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
	return 8;
}

/* The trie of "a", "ba", "+.a": reversed "a", "ab", "a.+"; nodes 0 root, 1 a, 2 a. , 3 ab, 4 a.+ */
static size_t
make_mrs(uint8_t *p)
{
	size_t n = 0;

	memcpy(p, "MRS\1\0", 5);
	n = 5;
	n += be64(p + n, 3);
	n += be64(p + n, 1);
	p[n++] = 'x';			/* extra */
	p[n++] = 1;
	n += be64(p + n, 1);
	n += be64(p + n, 1u << 1 | 1u << 3 | 1u << 4);	/* leaves */
	n += be64(p + n, 1);
	/* root: one child 0,1; a: two 0,0,1; a.: one 0,1; ab: 1; a.+: 1 -> bits 0 1 0 0 1 0 1 1 1 */
	n += be64(p + n, 1u << 1 | 1u << 4 | 1u << 6 | 1u << 7 | 1u << 8);
	n += be64(p + n, 4);
	memcpy(p + n, "a.b+", 4);
	return n + 4;
}

static void
test_mrs(void **state)
{
	uint8_t raw[256], packed[512];
	size_t n = make_mrs(raw), k;
	struct image im;

	(void)state;
	k = ZSTD_compress(packed, sizeof packed, raw, n, 3);
	assert_false(ZSTD_isError(k));
	assert_int_equal(compile(IMAGE_DOMAIN, FORMAT_MRS, "p", packed, k, &im), 0);
	assert_int_equal(count, 3);
	assert_true(name_in(&im, "a") && name_in(&im, "ba") && name_in(&im, "x.a") && name_in(&im, "x.y.a"));
	assert_false(name_in(&im, "b") || name_in(&im, "x.ba") || name_in(&im, "+"));
	image_close(&im);
	assert_int_not_equal(compile(IMAGE_IPCIDR, FORMAT_MRS, "p", packed, k, &im), 0);
	assert_string_equal(err.text, "invalid behavior");
	for (size_t cut = 0; cut < k; cut++)
		assert_int_not_equal(compile(IMAGE_DOMAIN, FORMAT_MRS, "p", packed, cut, &im), 0);
	raw[0] = 'X';
	k = ZSTD_compress(packed, sizeof packed, raw, n, 3);
	assert_int_not_equal(compile(IMAGE_DOMAIN, FORMAT_MRS, "p", packed, k, &im), 0);
	assert_string_equal(err.text, "invalid MrsMagic bytes");
}

static void
test_mrs_ranges(void **state)
{
	uint8_t raw[256] = { 0 }, packed[512];
	size_t n = 5, k;
	struct image im;
	struct ip ip;

	(void)state;
	memcpy(raw, "MRS\1\1", 5);
	n += be64(raw + n, 2);
	n += be64(raw + n, 0);
	raw[n++] = 1;
	n += be64(raw + n, 2);
	memcpy(raw + n, "\0\0\0\0\0\0\0\0\0\0\xff\xff\1\2\3\0" "\0\0\0\0\0\0\0\0\0\0\xff\xff\1\2\3\7", 32);
	n += 32;
	assert_int_equal(ip_parse(&ip, "2001:db8::"), 0);
	memcpy(raw + n, ip.b, 16);
	assert_int_equal(ip_parse(&ip, "2001:db8::ff"), 0);
	memcpy(raw + n + 16, ip.b, 16);
	n += 32;
	k = ZSTD_compress(packed, sizeof packed, raw, n, 3);
	assert_int_equal(compile(IMAGE_IPCIDR, FORMAT_MRS, "p", packed, k, &im), 0);
	assert_int_equal(count, 2);
	assert_true(ip_in(&im, "1.2.3.0") && ip_in(&im, "1.2.3.7") && !ip_in(&im, "1.2.3.8") && ip_in(&im, "2001:db8::80") &&
	    !ip_in(&im, "2001:db8::100"));
	image_close(&im);
}

/* ---- geosite.dat, geoip.dat */

static void
test_geosite(void **state)
{
	/* { code "AA", domains: plain "key", regex "^r$", root "root.test" @x, full "full.test" @x@y } */
	static const char dat[] = "\x0a\x43" "\x0a\x02" "AA"
	    "\x12\x05" "\x12\x03" "key"
	    "\x12\x07" "\x08\x01" "\x12\x03" "^r$"
	    "\x12\x12" "\x08\x02" "\x12\x09" "root.test" "\x1a\x03" "\x0a\x01" "x"
	    "\x12\x19" "\x08\x03" "\x12\x09" "full.test" "\x1a\x05" "\x0a\x01" "x" "\x10\x01" "\x1a\x03" "\x0a\x01" "y";
	struct image im;

	(void)state;
	assert_int_equal(compile(IMAGE_GEOSITE, FORMAT_DAT, "aa", dat, 2 + 0x43, &im), 0);
	assert_int_equal(count, 4);
	assert_true(name_in(&im, "x.root.test") && name_in(&im, "full.test") && !name_in(&im, "x.full.test") &&
	    image_has_word(&im, "akey", 4));
	assert_string_equal(image_next_line(&im, NULL), "DOMAIN-REGEX,^r$");
	image_close(&im);
	assert_int_equal(compile(IMAGE_GEOSITE, FORMAT_DAT, "AA@x@y", dat, 2 + 0x43, &im), 0);
	assert_int_equal(count, 1);
	assert_true(!name_in(&im, "x.root.test") && name_in(&im, "full.test"));
	image_close(&im);
	assert_int_equal(compile(IMAGE_GEOSITE, FORMAT_DAT, "aa@z", dat, 2 + 0x43, &im), 0);
	assert_int_equal(count, 0);
	image_close(&im);
	assert_int_equal(compile(IMAGE_GEOSITE, FORMAT_DAT, "bb", dat, 2 + 0x43, &im), -E_INVAL);
	assert_string_equal(err.text, "list bb not found in GeoSite.dat");
	assert_int_not_equal(compile(IMAGE_GEOSITE, FORMAT_DAT, "@x", dat, 2 + 0x43, &im), 0);
	for (size_t n = 0; n < 2 + 0x43; n++)
		assert_int_not_equal(compile(IMAGE_GEOSITE, FORMAT_DAT, "aa", dat, n, &im), 0);
}

static void
test_geoip(void **state)
{
	static const char dat[] = "\x0a\x0e" "\x0a\x02" "CN" "\x12\x08" "\x0a\x04" "\x01\x02\x00\x00" "\x10\x10";
	struct image im;

	(void)state;
	assert_int_equal(compile(IMAGE_GEOIP, FORMAT_DAT, "cn", dat, sizeof dat - 1, &im), 0);
	assert_true(ip_in(&im, "1.2.255.1") && !ip_in(&im, "1.3.0.0"));
	image_close(&im);
	assert_int_equal(compile(IMAGE_GEOIP, FORMAT_DAT, "us", dat, sizeof dat - 1, &im), -E_INVAL);
}

/* ---- MaxMind DB */

/* Two nodes of 24 bits over IPv4: 0.0.0.0/1 -> node 1; 64.0.0.0/2 -> the record, 128.0.0.0/1 -> none. */
static size_t
make_mmdb(uint8_t *p, const char *record, size_t record_n, const char *type, size_t type_n)
{
	static const char meta[] = "\xab\xcd\xefMaxMind.com"
				   "\xe4"
				   "\x4anode_count\xa1\x02"
				   "\x4brecord_size\xa1\x18"
				   "\x4aip_version\xa1\x04"
				   "\x4d"
				   "database_type";
	static const uint8_t tree[] = { 0, 0, 1, 0, 0, 2, 0, 0, 2, 0, 0, 2 + 16 };
	size_t n = sizeof tree;

	memcpy(p, tree, sizeof tree);
	memset(p + n, 0, 16);
	n += 16;
	memcpy(p + n, record, record_n);
	n += record_n;
	memcpy(p + n, meta, sizeof meta - 1);
	n += sizeof meta - 1;
	memcpy(p + n, type, type_n);
	return n + type_n;
}

static void
test_mmdb(void **state)
{
	static const char country[] = "\xe1\x47" "country" "\xe2\x44" "name" "\x45" "China" "\x48" "iso_code" "\x42" "CN";
	static const char asn[] = "\xe1\x58" "autonomous_system_number" "\xc2\x34\x17";
	static const char codes[] = "\x02\x04" "\x42" "us" "\x42" "cn";
	static const struct {
		const char *record;
		size_t n;
		const char *type;
		size_t type_n;
		uint32_t kind;
		const char *name;
		bool hit;
	} cases[] = {
		{ country, sizeof country - 1, "\x50GeoLite2-Country", 17, IMAGE_GEOIP, "cn", true },
		{ country, sizeof country - 1, "\x50GeoLite2-Country", 17, IMAGE_GEOIP, "us", false },
		{ codes, sizeof codes - 1, "\x4bMeta-geoip0", 12, IMAGE_GEOIP, "cn", true },
		{ codes, sizeof codes - 1, "\x4bMeta-geoip0", 12, IMAGE_GEOIP, "de", false },
		{ "\x42"
		  "cn",
		    3, "\x4asing-geoip", 11, IMAGE_GEOIP, "CN", true },
		{ asn, sizeof asn - 1, "\x4cGeoLite2-ASN", 13, IMAGE_ASN, "13335", true },
		{ asn, sizeof asn - 1, "\x4cGeoLite2-ASN", 13, IMAGE_ASN, "1333", false },
	};
	uint8_t file[512];

	(void)state;
	for (size_t i = 0; i < countof(cases); i++) {
		size_t n = make_mmdb(file, cases[i].record, cases[i].n, cases[i].type, cases[i].type_n);
		struct image im;

		if (compile(cases[i].kind, FORMAT_MMDB, cases[i].name, file, n, &im) != 0)
			fail_msg("case %zu: %s", i, err.text);
		assert_int_equal(ip_in(&im, "64.0.0.0"), cases[i].hit);
		assert_int_equal(ip_in(&im, "127.255.255.255"), cases[i].hit);
		assert_false(ip_in(&im, "63.255.255.255") || ip_in(&im, "128.0.0.0"));
		image_close(&im);
		for (size_t k = 0; k < n; k++)
			if (compile(cases[i].kind, FORMAT_MMDB, cases[i].name, file, k, &im) == 0)
				image_close(&im);
	}
}

static void
quiet(int level, const char *s, size_t n)
{
	(void)level;
	(void)s;
	(void)n;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_yaml_item),
		cmocka_unit_test(test_text_and_yaml),
		cmocka_unit_test(test_classical),
		cmocka_unit_test(test_mrs),
		cmocka_unit_test(test_mrs_ranges),
		cmocka_unit_test(test_geosite),
		cmocka_unit_test(test_geoip),
		cmocka_unit_test(test_mmdb),
	};

	log_set_sink(quiet);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
