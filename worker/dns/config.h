/* SPDX-License-Identifier: MIT */
/* What dns_parse() makes of the dns: section (spec/config.md 4), for the resolver now and for the DNS service later.
 * Everything lives in the generation's arena. */
#ifndef SLUICE_WORKER_DNS_CONFIG_H
#define SLUICE_WORKER_DNS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/arena.h"
#include "common/config_tree.h"
#include "worker/dns/sets.h"
#include "worker/gen.h"
#include "worker/match/domain.h"

enum dns_net {
	DNS_NET_UDP, DNS_NET_TCP, DNS_NET_TLS, DNS_NET_HTTP, DNS_NET_HTTPS, DNS_NET_QUIC, DNS_NET_SYSTEM, DNS_NET_DHCP,
	DNS_NET_RCODE
};
enum { DNS_NO_QTYPES_MAX = 8 };		/* disable-qtype-N parameters of one server; more are ignored with a warning */

struct dns_ignored {			/* answers of a server that answer no question of ours, since the last line about them */
	uint64_t n, told_ms;		/* loop time; 0: there was none */
};
struct dns_server {
	enum dns_net net;
	const char *text;		/* as written */
	const char *host;		/* name or address without brackets; the interface of dhcp:// */
	struct ip ip;			/* of host, none when it is a name */
	uint16_t port;
	int rcode;			/* of rcode:// */
	const char *path, *user;	/* http, https: path with query, userinfo; "" = none */
	const char *via;		/* "#name": proxy, group or interface; NULL = none */
	bool rules;			/* "#RULES" */
	bool h3, skip_verify, ecs_override, no_ipv4, no_ipv6;
	const char *verify_name;	/* name-cert-verify; NULL = the host */
	struct prefix ecs;		/* family 0 = none */
	uint16_t no_qtypes[DNS_NO_QTYPES_MAX];
	int n_no_qtypes;
	struct dns_ignored *ignored;
};
struct dns_servers {
	struct dns_server *s;
	int n;
};

struct upstreams;
struct dns_policy_rule {		/* the value of one key of nameserver-policy */
	struct dns_servers servers;
	struct upstreams *set;		/* made of them by upstream.c */
};
struct dns_policy_step {		/* plain keys in a row, or one of lists */
	struct domain_trie names;
	struct dns_sets sets;
	const struct dns_policy_rule *rule;	/* of sets; NULL: names lead to it */
};
struct dns_policy {			/* steps in the order of the file: the first that knows a name decides */
	struct dns_policy_step *steps;
	int n_steps;
	struct dns_policy_rule **rules;
	int n_rules;
};
struct fallback_filter {
	bool geoip;			/* addresses that are not of geoip_code nor private are distrusted */
	const char *geoip_code;
	struct dns_set country;		/* its addresses */
	struct dns_sets sites;		/* geosite lists */
	struct prefix *ips;
	int n_ips;
	struct domain_trie domains;
};

enum enhanced_mode { ENHANCED_NORMAL, ENHANCED_FAKE_IP, ENHANCED_REDIR_HOST };
enum fake_filter_mode { FAKE_BLACKLIST, FAKE_WHITELIST, FAKE_RULE };

struct fake_rule;
struct fake_filter {			/* which names get a fake address */
	int mode;			/* enum fake_filter_mode */
	struct domain_trie names;	/* of blacklist and whitelist */
	struct dns_sets *sets;		/* the same, n_sets of them */
	int n_sets;
	struct fake_rule *rules;	/* of mode rule, in order */
	int n_rules;
};

struct dns_config {
	bool enable, ipv6, prefer_h3, use_hosts, use_system_hosts, respect_rules, direct_follow_policy, fallback_lazy, arc;
	const char *listen;
	int mode, fake_filter_mode;
	int64_t ipv6_timeout_ms, cache_max, fake_ttl, listen_mark;
	struct prefix fake4, fake6;	/* ip.family 0 = none; read in fake-ip mode only */
	struct dns_servers main, fallback, server, direct, bootstrap;
	struct dns_policy policy, server_policy;
	struct fallback_filter fallback_filter;
	struct fake_filter fake_filter;
};

/* server.c: one list; where is the key for errors, e.g. "dns.nameserver". 0 or -E_INVAL. */
int dns_server_parse(struct arena *a, const char *text, int index, struct dns_server *out, const struct cfg_node *n,
    const char *key, struct cfg_err *err);
/* A whole list; a text that is in it already is dropped. */
int dns_servers_parse(struct arena *a, const struct cfg_node *list, const char *key, struct dns_servers *out,
    struct cfg_err *err);
/* One of a kind that can be asked; the others are warned about. */
bool dns_server_usable(const struct dns_server *s);

/* filter.c: the keys that select names and addresses. */
int dns_policy_parse(struct gen *g, const struct cfg_node *root, const struct cfg_node *dns, const char *key,
    struct dns_policy *out, struct cfg_err *err);
int dns_fallback_filter_parse(struct gen *g, const struct cfg_node *dns, bool used, struct fallback_filter *out,
    struct cfg_err *err);
/* The servers that a policy has for a name (lower case), or NULL. */
const struct upstreams *dns_policy_search(const struct dns_policy *p, const char *name);
bool dns_fallback_only(const struct fallback_filter *f, const char *name);
bool dns_fallback_distrusts(const struct fallback_filter *f, const struct ip *ip);

/* fake_filter.c */
int fake_filter_parse(struct gen *g, const struct cfg_node *root, const struct cfg_node *dns, int mode, struct fake_filter *out,
    struct cfg_err *err);
bool fake_filter_is_real(const struct fake_filter *f, const char *name);	/* lower case: no fake address */

#endif
