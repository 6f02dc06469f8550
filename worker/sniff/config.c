/* SPDX-License-Identifier: MIT */
/* Checks of sniffer: (spec/config.md 5). Called by sections.c; owns nothing. Sniffing does not work yet: said once when
 * enabled. */
#include "worker/sniff/config.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/strutil.h"
#include "worker/match/check.h"
#include "worker/match/cidr.h"
#include "worker/match/range.h"

enum { PORT_MAX = 65535 };

static const struct check keys[] = {
	{ "enable", CHECK_BOOL, true }, { "force-dns-mapping", CHECK_BOOL, false }, { "parse-pure-ip", CHECK_BOOL, false },
	{ "override-destination", CHECK_BOOL, false }, { "sniff", CHECK_MAP, false }, { "sniffing", CHECK_STRS, false },
	{ "port-whitelist", CHECK_STRS, false }, { "force-domain", CHECK_STRS, false }, { "skip-domain", CHECK_STRS, false },
	{ "skip-src-address", CHECK_STRS, false }, { "skip-dst-address", CHECK_STRS, false }, { "mitm", CHECK_ANY, false },
	{ NULL, CHECK_ANY, false }
};
static const struct check protocol_keys[] = {
	{ "ports", CHECK_STRS, false }, { "override-destination", CHECK_BOOL, false }, { NULL, CHECK_ANY, false }
};

static int
check_protocol(const struct cfg_node *n, const char *name, const char *key, struct cfg_err *err)
{
	if (str_case_equal(name, "TLS") || str_case_equal(name, "HTTP") || str_case_equal(name, "QUIC"))
		return 0;
	return cfg_fail(err, n, key, "not find the sniffer[%.64s]", name);
}

/* The limit of ranges is of the whole list. */
static int
check_ports(const struct cfg_node *list, const char *key, struct cfg_err *err)
{
	struct ranges ranges;
	int total = 0;

	cfg_each(c, list) {
		const char *why = range_parse(&ranges, cfg_text(c), PORT_MAX);

		total += ranges.n;
		if (why == NULL && total > RANGES_MAX)
			why = "intRanges error, too many ranges to use, maximum support 28 ranges";
		if (why != NULL)
			return cfg_fail(err, c, key, "%s", why);
	}
	return 0;
}

/* spec/config.md 12: no empty label but the first, no blanks at the ends, no dot at the end. */
static bool
pattern_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || s[n - 1] == '.' || strchr(" \t", s[0]) != NULL || strchr(" \t", s[n - 1]) != NULL)
		return false;
	return strstr(s + 1, "..") == NULL && strncmp(s, "..", 2) != 0;
}

/* "name,name" behind "rule-set:": each must be a rule-provider, none of the behavior that cannot serve. */
static int
check_sets(const struct cfg_node *root, const char *names, const char *cannot, const char *wanted, char *why, size_t cap)
{
	char name[128];

	for (size_t len; *names != '\0'; names += len + (names[len] == ',')) {
		const struct cfg_node *set;
		const char *behavior;

		len = strcspn(names, ",");
		(void)snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), names);
		set = cfg_get(cfg_get(root, "rule-providers"), name);
		if (set == NULL) {
			(void)snprintf(why, cap, "not found rule-set: %s", name);
			return -E_INVAL;
		}
		behavior = cfg_text(cfg_get(set, "behavior"));
		if (behavior != NULL && strcmp(behavior, cannot) == 0) {
			(void)snprintf(why, cap, "rule provider type error, except %s,actual %s", wanted,
			    strcmp(cannot, "domain") == 0 ? "Domain" : "IPCIDR");
			return -E_INVAL;
		}
	}
	return 0;
}

static int
check_domains(const struct cfg_node *root, const struct cfg_node *section, const char *key, struct cfg_err *err)
{
	cfg_each(c, cfg_get(section, key)) {
		const char *s = cfg_text(c);
		char why[256] = "invalid domain";

		if (str_starts(s, "geosite:"))
			continue;
		if (str_starts(s, "rule-set:") ? check_sets(root, s + 9, "ipcidr", "domain", why,
		    sizeof why) == 0 : pattern_valid(s))
			continue;
		return cfg_fail(err, c, key, "error in %s, error:%s", key, why);
	}
	return 0;
}

static int
check_addresses(const struct cfg_node *root, const struct cfg_node *section, const char *key, struct cfg_err *err)
{
	cfg_each(c, cfg_get(section, key)) {
		const char *s = cfg_text(c);
		char why[CIDR_WHY_MAX];
		struct prefix p;

		if (str_starts(s, "geoip:"))
			continue;
		if (str_starts(s, "rule-set:") ? check_sets(root, s + 9, "domain", "ipcidr", why,
		    sizeof why) == 0 : cidr_parse(&p, s, why) == 0)
			continue;
		return cfg_fail(err, c, key, "error in %s, error:%s", key, why);
	}
	return 0;
}

static int
check_protocols(const struct cfg_node *section, struct cfg_err *err)
{
	const struct cfg_node *sniff = cfg_get(section, "sniff"), *old = cfg_get(section, "sniffing");
	int rc;

	cfg_each(c, sniff) {
		rc = check_section(c, "sniffer.sniff", protocol_keys, err);
		if (rc == 0)
			rc = check_ports(cfg_get(c, "ports"), "sniffer.sniff.ports", err);
		if (rc == 0)
			rc = check_protocol(c, cfg_key(c), "sniffer.sniff", err);
		if (rc != 0)
			return rc;
	}
	if (cfg_count(sniff) != 0)
		return 0;
	if (cfg_count(old) != 0)
		log_warn("sniffer.sniffing is deprecated: use sniffer.sniff instead");
	rc = check_ports(cfg_get(section, "port-whitelist"), "sniffer.port-whitelist", err);
	cfg_each(c, old)
		if (rc == 0)
			rc = check_protocol(c, cfg_text(c), "sniffer.sniffing", err);
	return rc;
}

int
sniffer_check(const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(root, "sniffer");
	int rc = check_section(n, "sniffer", keys, err);

	if (rc == 0)
		rc = check_protocols(n, err);
	if (rc == 0)
		rc = check_domains(root, n, "force-domain", err);
	if (rc == 0)
		rc = check_addresses(root, n, "skip-src-address", err);
	if (rc == 0)
		rc = check_addresses(root, n, "skip-dst-address", err);
	if (rc == 0)
		rc = check_domains(root, n, "skip-domain", err);
	return rc;
}
