/* SPDX-License-Identifier: MIT */
/* Every rule type of this folder, for registry.c. */
#ifndef SLUICE_WORKER_RULE_TYPES_H
#define SLUICE_WORKER_RULE_TYPES_H

#include "worker/rule/rule.h"

extern const struct rule_type rule_domain, rule_domain_suffix, rule_domain_keyword, rule_domain_wildcard;	/* domain.c */
extern const struct rule_type rule_domain_regex;								/* regex.c */
/* ipcidr.c */
extern const struct rule_type rule_ip_cidr, rule_ip_cidr6, rule_src_ip_cidr, rule_ip_suffix, rule_src_ip_suffix;
extern const struct rule_type rule_src_port, rule_dst_port, rule_in_port, rule_dscp, rule_uid;			/* port.c */
extern const struct rule_type rule_in_type, rule_in_user, rule_in_name;					/* in.c */
extern const struct rule_type rule_network;									/* network.c */
extern const struct rule_type rule_process_name, rule_process_path;						/* process.c */
extern const struct rule_type rule_process_name_regex, rule_process_path_regex, rule_process_name_wildcard,
    rule_process_path_wildcard;
extern const struct rule_type rule_and, rule_or, rule_not, rule_sub_rule;					/* logic.c */
extern const struct rule_type rule_geosite, rule_geoip, rule_src_geoip, rule_ip_asn, rule_src_ip_asn;		/* geo.c */
extern const struct rule_type rule_rule_set;									/* ruleset.c */
extern const struct rule_type rule_match;									/* final.c */

/* Every one of the above: { RULE_TYPES, NULL }. */
#define RULE_TYPES \
	&rule_domain, &rule_domain_suffix, &rule_domain_keyword, &rule_domain_wildcard, &rule_domain_regex, \
	&rule_ip_cidr, &rule_ip_cidr6, &rule_src_ip_cidr, &rule_ip_suffix, &rule_src_ip_suffix, &rule_src_port, \
	&rule_dst_port, &rule_in_port, &rule_dscp, &rule_uid, &rule_in_type, &rule_in_user, &rule_in_name, \
	&rule_network, &rule_process_name, &rule_process_path, &rule_process_name_regex, \
	&rule_process_path_regex, &rule_process_name_wildcard, &rule_process_path_wildcard, &rule_and, \
	&rule_or, &rule_not, &rule_sub_rule, &rule_geosite, &rule_geoip, &rule_src_geoip, &rule_ip_asn, \
	&rule_src_ip_asn, &rule_rule_set, &rule_match

#endif
