/* SPDX-License-Identifier: MIT */
/* The dns: section as a file may hold it: keys of policies, filters and name servers in any wording. What is accepted is
 * asked for a name. Input: the section in YAML. */
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "tests/unit/gen_kit.h"
#include "worker/dns/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static const char *const names[] = { "a.b.test", "x", "www.example.com" };
	char *text = malloc(n + 1);
	struct kit k;

	if (text == NULL)
		abort();
	memcpy(text, p, n);
	text[n] = '\0';
	log_set_level(LL_SILENT);
	if (memchr(text, '\0', n) == NULL) {
		if (kit_open(&k, text) != 0) {
			;
		} else if (dns_parse(&k.gen, k.gen.root, &k.err) == 0) {
			const struct dns_config *c = &k.gen.resolver->conf;

			for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
				(void)dns_policy_search(&c->policy, names[i]);
				(void)dns_policy_search(&c->server_policy, names[i]);
				(void)dns_fallback_only(&c->fallback_filter, names[i]);
				if (c->mode == ENHANCED_FAKE_IP)
					(void)fake_filter_is_real(&c->fake_filter, names[i]);
			}
		} else if (k.err.text[0] == '\0') {
			abort();	/* refused without a word */
		}
		kit_close(&k);
	}
	free(text);
	return 0;
}
