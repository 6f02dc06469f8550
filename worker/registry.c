/* SPDX-License-Identifier: MIT */
/* THE list of every type a configuration can name: a new protocol, group, rule or inbound is its file and its line here. Read
 * by the parsers. */
#include "worker/registry.h"

#include "worker/outbound/types.h"
#include "worker/rule/types.h"

const struct outbound_type *const outbound_types[] = {
	&outbound_direct, &outbound_reject, &outbound_dns, &outbound_socks5, &outbound_http,
	NULL	/* protocols that are only listed so far: outbound/unspoken.c */
};

const struct group_type *const group_types[] = {
	&group_select_type, &group_urltest_type, &group_fallback_type, &group_loadbalance_type, &group_relay_type,
	NULL
};

const struct rule_type *const rule_types[] = { RULE_TYPES, NULL };	/* rule/types.h */

extern const struct inbound_type inbound_http, inbound_socks, inbound_mixed, inbound_tunnel;

const struct inbound_type *const inbound_types[] = {
	&inbound_http, &inbound_socks, &inbound_mixed, &inbound_tunnel,
	NULL
};
