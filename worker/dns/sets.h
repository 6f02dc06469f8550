/* SPDX-License-Identifier: MIT */
/* Lists that keys of dns: refer to, "geosite:a,b" and "rule-set:a,b" (spec/config.md 4): the compiled images that the rules use,
 * shared, and replaced in place when they are updated. Read by filter.c and fake_filter.c. */
#ifndef SLUICE_WORKER_DNS_SETS_H
#define SLUICE_WORKER_DNS_SETS_H

#include <stdbool.h>

#include "common/addr.h"
#include "common/config_tree.h"
#include "worker/gen.h"

struct dns_set {			/* zeroed: matches nothing */
	const struct dns_hooks *hooks;
	const struct ruleset *list;
	bool negate;			/* "!name"; a list that is not there matches nothing all the same */
};
struct dns_sets {			/* zeroed: none */
	struct dns_set *s;
	int n;
};
struct sets_reader {			/* of one key */
	struct gen *g;
	const struct cfg_node *root, *node;	/* the configuration, for its rule-providers; for the line of an error */
	const char *key;
	struct cfg_err *err;
};

/* Geosite lists are compiled side by side when all of a section are asked for before the first is read. */
void dns_sets_ask(struct gen *g, const char *text);
/* 1: text is "geosite:..." or "rule-set:...", and *out has its lists; 0: it is neither; -E_INVAL with err filled. */
int dns_sets_read(const struct sets_reader *r, const char *text, struct dns_sets *out);
/* One list; 0 or -E_INVAL with the bare reason. A database that is not there is told in the log. */
int dns_set_geosite(const struct sets_reader *r, const char *name, struct dns_set *out);
int dns_set_geoip(const struct sets_reader *r, const char *code, struct dns_set *out);
/* A rule provider that exists, which the caller has seen to. */
void dns_set_rules(const struct sets_reader *r, const char *name, struct dns_set *out);
const struct cfg_node *dns_rule_provider(const struct sets_reader *r, const char *name);	/* NULL: none */
bool dns_provider_behaves(const struct cfg_node *provider, const char *behavior);

/* name: lower case */
bool dns_set_has_name(const struct dns_set *s, const char *name);
bool dns_set_has_ip(const struct dns_set *s, const struct ip *ip);
bool dns_sets_have(const struct dns_sets *s, const char *name);		/* one of them has it */

/* What follows prefix, in any case; NULL when the text does not begin so. */
const char *dns_text_after(const char *text, const char *prefix);

#endif
