/* SPDX-License-Identifier: MIT */
/* The dns: section as a file may hold it: keys of policies, filters and name servers in any wording. What is accepted is asked
 * for a name. Input: the section in YAML. Every list is there that does not begin with "no"; it has the names of its length. */
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "tests/unit/gen_kit.h"
#include "worker/dns/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const struct ruleset *
list(struct gen *g, enum dns_list kind, const char *name, const char *who, struct cfg_err *err)
{
	(void)kind;
	(void)who;
	if (strncmp(name, "no", 2) != 0)
		return (const struct ruleset *)(const void *)arena_strdup(&g->arena, name);
	(void)cfg_fail(err, NULL, NULL, "no such list");
	return NULL;
}

static int
list_has(const struct ruleset *s, const char *host, const struct ip *ip)
{
	size_t n = strlen((const char *)(const void *)s);

	return host != NULL ? strlen(host) == n : ip->family == n;
}

static void
ask(const struct dns_config *c)
{
	static const char *const names[] = { "a.b.test", "x", "www.example.com" };
	const struct ip ip = { .family = 4, .b = { 1, 2, 3, 4 } };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)dns_policy_search(&c->policy, names[i]);
		(void)dns_policy_search(&c->server_policy, names[i]);
		(void)dns_fallback_only(&c->fallback_filter, names[i]);
		if (c->mode == ENHANCED_FAKE_IP)
			(void)fake_filter_is_real(&c->fake_filter, names[i]);
	}
	(void)dns_fallback_distrusts(&c->fallback_filter, &ip);
}

static void
parse(const char *text)
{
	struct kit k;

	if (kit_open(&k, text) == 0) {
		k.gen.dns_hooks.list = list;
		k.gen.dns_hooks.list_has = list_has;
		if (dns_parse(&k.gen, k.gen.root, &k.err) == 0)
			ask(&k.gen.resolver->conf);
		else if (k.err.text[0] == '\0')
			abort();	/* refused without a word */
	}
	kit_close(&k);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	char *text = malloc(n + 1);

	if (text == NULL)
		abort();
	memcpy(text, p, n);
	text[n] = '\0';
	log_set_level(LL_SILENT);
	if (memchr(text, '\0', n) == NULL)
		parse(text);
	free(text);
	return 0;
}
