/* SPDX-License-Identifier: MIT */
/* The steps of apply.c for sections whose features come later. Owns nothing; the checks are beside the features' folders. */
#include "worker/sections.h"

#include "worker/provider/config.h"
#include "worker/provider/provider.h"
#include "worker/provider/ruleset.h"
#include "worker/sniff/config.h"
#include "worker/tun/config.h"

int
sections_proxy_providers(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	return providers_parse(g, root, err);
}

int
sections_rule_providers(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	int rc = provider_check_rules(g, root, err);

	return rc != 0 ? rc : rule_providers_parse(g, root, err);
}

int
sections_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	int rc = tun_check(root, err);

	(void)g;
	if (rc == 0)
		rc = tuic_server_check(root, err);
	if (rc == 0)
		rc = sniffer_check(root, err);
	return rc;
}
