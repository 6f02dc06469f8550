/* SPDX-License-Identifier: MIT */
/* Every SOCKS parser on the same bytes: none reads past them or claims more than there is, and what was parsed can be written
 * again. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "worker/codec/socks.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void
check(int len, size_t n)
{
	if (len == 0 || (len > 0 && (size_t)len > n) || len <= -E_MAX_)
		abort();
}

static void
rewrite(const struct socks_addr *a)
{
	uint8_t out[SOCKS_ADDR_MAX];
	struct socks_addr b;
	int len = socks_addr_write(out, a);

	if (len < 0 || socks_addr_parse(out, (size_t)len, &b) != len || b.port != a->port)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct socks5_greeting g;
	struct socks_request r;
	struct socks_auth a;
	struct socks_addr to;
	uint8_t b, *copy = malloc(n + (n == 0));
	int len;

	if (copy == NULL)
		return 0;
	memcpy(copy, p, n);	/* exactly n bytes: a read past them is seen */
	check(socks5_greeting_parse(copy, n, &g), n);
	len = socks5_auth_parse(copy, n, &a);
	check(len, n);
	if (len > 0 && (a.nu > 255 || a.np > 255))
		abort();
	len = socks5_request_parse(copy, n, &r);
	check(len, n);
	if (len > 0)
		rewrite(&r.to);
	len = socks4_request_parse(copy, n, &r);
	check(len, n);
	if (len > 0 && r.nu > SOCKS4_USER_MAX)
		abort();
	if (len > 0)
		rewrite(&r.to);
	len = socks5_udp_parse(copy, n, &to);
	check(len, n);
	if (len > 0)
		rewrite(&to);
	check(socks5_choice_parse(copy, n, &b), n);
	check(socks5_auth_reply_parse(copy, n), n);
	check(socks5_reply_parse(copy, n, &b, &to), n);
	free(copy);
	return 0;
}
