/* SPDX-License-Identifier: MIT */
/* Rule sets from one format to another: the bytes of .mrs (those that the reference writes of the same lists), lists that come
 * back as they were, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "common/log.h"
#include "common/memfd.h"
#include "worker/loader/convert.h"

enum { BYTES_MAX = 4096 };

static struct cfg_err err;
static uint32_t count;

/* The result in out, its length, or -E_*. */
static int
convert(uint32_t kind, uint32_t from, uint32_t to, const void *p, size_t n, char out[static BYTES_MAX])
{
	struct ruleset_job job = { .kind = kind, .format = from, .name = "list", .is_file = true, .p = p, .n = n };
	const void *got;
	size_t len;
	int fd, rc;

	memset(&err, 0, sizeof err);
	rc = ruleset_convert(&job, to, &fd, &count, &err);
	if (rc != 0)
		return rc;
	assert_int_equal(memfd_map(fd, &got, &len, BYTES_MAX - 1), 0);
	close(fd);
	memcpy(out, got, len);
	out[len] = '\0';
	munmap((void *)(uintptr_t)got, len);
	return (int)len;
}

static void
becomes(uint32_t kind, uint32_t from, uint32_t to, const char *in, const char *want)
{
	char out[BYTES_MAX];

	assert_true(convert(kind, from, to, in, strlen(in), out) > 0);
	assert_string_equal(out, want);
}

/* As .mrs, unpacked, in hexadecimal; and back again as text. */
static void
packs(uint32_t kind, const char *in, const char *hex, uint32_t n, const char *text)
{
	char packed[BYTES_MAX], again[BYTES_MAX], got[2 * BYTES_MAX + 1] = "";
	uint8_t plain[BYTES_MAX];
	int len = convert(kind, FORMAT_TEXT, FORMAT_MRS, in, strlen(in), packed);
	size_t k;

	assert_true(len > 0);
	assert_int_equal(count, n);
	k = ZSTD_decompress(plain, sizeof plain, packed, (size_t)len);
	assert_false(ZSTD_isError(k));
	for (size_t i = 0; i < k; i++)
		(void)snprintf(got + 2 * i, 3, "%02x", plain[i]);
	assert_string_equal(got, hex);
	assert_true(convert(kind, FORMAT_MRS, FORMAT_TEXT, packed, (size_t)len, again) > 0);
	assert_string_equal(again, text);
	/* and from there the same bytes */
	assert_int_equal(convert(kind, FORMAT_MRS, FORMAT_MRS, packed, (size_t)len, again), len);
	assert_memory_equal(again, packed, (size_t)len);
}

static void
test_mrs_domains(void **state)
{
	(void)state;
	packs(IMAGE_DOMAIN, "example.com\n+.google.com\n*.foo.org\n.bar.net\na.*.b.com\n+.cn\n",
	    "4d525301000000000000000006000000000000000001000000000000000100001998000080800000000000000002aaa955565555555000000000"
	    "01d5aeaa000000000000002c676d6e74726f63656f632e6e2e2e2b2e6f6265726f2e6c61662a6770622e2e6f6d2e2a616f612b67782e652b",
	    6, "*.foo.org\na.*.b.com\n+.google.com\nexample.com\n+.cn\n.bar.net\n");
}

static void
test_mrs_ranges(void **state)
{
	(void)state;
	packs(IMAGE_IPCIDR, "10.0.0.0/8\n10.1.0.0/16\n2001:db8::/32\n1.1.1.1/32\n",
	    "4d525301010000000000000004000000000000000001000000000000000300000000000000000000ffff01010101"
	    "00000000000000000000ffff0101010100000000000000000000ffff0a00000000000000000000000000ffff0affffff"
	    "20010db800000000000000000000000020010db8ffffffffffffffffffffffff",
	    4, "1.1.1.1/32\n10.0.0.0/8\n2001:db8::/32\n");
}

static void
test_lists(void **state)
{
	(void)state;
	/* names of several bytes a character; quoting; "+.b" and ".b" together are "+.b" */
	becomes(IMAGE_DOMAIN, FORMAT_TEXT, FORMAT_YAML, "+.\xe4\xbe\x8b.\xe6\xb5\x8b\nA.b\nit's\n# no\n\n// no\n+.b\n.b\n+\n",
	    "payload:\n  - '+.b'\n  - 'a.b'\n  - 'it''s'\n  - '+.\xe4\xbe\x8b.\xe6\xb5\x8b'\n");
	becomes(IMAGE_DOMAIN, FORMAT_YAML, FORMAT_TEXT, "payload:\n- 'x.y'\n- \"+.y\"\n", "+.y\nx.y\n");
	/* ranges as the fewest prefixes, to the very ends */
	becomes(IMAGE_IPCIDR, FORMAT_TEXT, FORMAT_TEXT, "0.0.0.0/0\n::/0\n", "0.0.0.0/0\n::/0\n");
	becomes(IMAGE_IPCIDR, FORMAT_TEXT, FORMAT_TEXT, "10.0.0.1/32\n10.0.0.2/31\n10.0.0.4/32\n::1\n",
	    "10.0.0.1/32\n10.0.0.2/31\n10.0.0.4/32\n::1/128\n");
	becomes(IMAGE_IPCIDR, FORMAT_TEXT, FORMAT_TEXT, "255.255.255.255/32\n255.255.255.254/32\n", "255.255.255.254/31\n");
	becomes(IMAGE_CLASSICAL, FORMAT_TEXT, FORMAT_YAML, "DOMAIN,a.b\nnothing\nIP-CIDR,1.0.0.0/8,no-resolve\n",
	    "payload:\n  - 'DOMAIN,a.b'\n  - 'IP-CIDR,1.0.0.0/8,no-resolve'\n");
	assert_int_equal(count, 2);
}

static void
test_refused(void **state)
{
	static const struct {
		uint32_t kind, from, to;
		const char *in, *why;
	} cases[] = {
		{ IMAGE_CLASSICAL, FORMAT_TEXT, FORMAT_MRS, "DOMAIN,a", "classical rules have no form in .mrs" },
		{ IMAGE_CLASSICAL, FORMAT_MRS, FORMAT_TEXT, "x", "classical rules have no form in .mrs" },
		{ IMAGE_DOMAIN, FORMAT_MRS, FORMAT_TEXT, "no packed file", "length is invalid" },
		{ IMAGE_IPCIDR, FORMAT_MRS, FORMAT_TEXT, "no packed file", "length is invalid" },
		{ IMAGE_DOMAIN, FORMAT_YAML, FORMAT_TEXT, "- a\n", "file must have a `payload` field" },
		{ IMAGE_DOMAIN, FORMAT_TEXT, FORMAT_MRS, "a/b\n", "none of its 1 entries is valid" },
		{ IMAGE_IPCIDR, FORMAT_TEXT, FORMAT_MRS, "a/b\nc\n", "none of its 2 entries is valid" },
		{ IMAGE_DOMAIN, FORMAT_TEXT, FORMAT_MRS, "\n# only this\n", "there is no entry in it" },
		{ IMAGE_IPCIDR, FORMAT_TEXT, FORMAT_TEXT, "", "there is no entry in it" },
		{ IMAGE_DOMAIN, FORMAT_INLINE, FORMAT_TEXT, "a", "invalid format" },
		{ IMAGE_DOMAIN, FORMAT_TEXT, FORMAT_DAT, "a", "invalid format" },
	};
	char out[BYTES_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_true(convert(cases[i].kind, cases[i].from, cases[i].to, cases[i].in, strlen(cases[i].in), out) < 0);
		assert_string_equal(err.text, cases[i].why);
	}
	/* what would be another entry, or a comment, in the new list */
	becomes(IMAGE_DOMAIN, FORMAT_YAML, FORMAT_TEXT, "payload:\n- \"a\\nb\"\n- '#c'\n- d\n", "d\n");
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
		cmocka_unit_test(test_mrs_domains),
		cmocka_unit_test(test_mrs_ranges),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_refused),
	};

	log_set_sink(quiet);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
