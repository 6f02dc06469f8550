/* SPDX-License-Identifier: MIT */
/* The configuration a worker process serves: exactly one per process (a reload is a new process), so nothing here is reference
 * counted. Built by apply.c; afterwards only patch.c and the groups change it, on the loop. */
#ifndef SLUICE_WORKER_GEN_H
#define SLUICE_WORKER_GEN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/addr.h"
#include "common/arena.h"
#include "common/config_tree.h"
#include "common/map.h"

struct worker;
struct gen;
struct outbound;
struct inbound;
struct rules;
struct resolver;
struct hosts;
struct meta;
struct regex_env;
struct providers;

enum run_mode { MODE_RULE, MODE_GLOBAL, MODE_DIRECT };
enum find_process { FIND_ALWAYS, FIND_STRICT, FIND_OFF };

struct prefix_list {
	struct prefix *p;
	int n;
	bool set;		/* false: GET /configs shows null */
};

/* spec/config.md 2; defaults are set by general_defaults(), values by general_parse() (worker/general.c). */
struct general {
	/* applied with force only (PORTS state): */
	int port, socks_port, mixed_port, redir_port, tproxy_port;
	bool allow_lan;
	const char *bind_address;
	struct prefix_list lan_allowed, lan_disallowed, skip_auth;
	/* applied by every reload: */
	int mode;			/* enum run_mode */
	int log_level;
	bool ipv6, unified_delay, tcp_concurrent, inbound_tfo, inbound_mptcp, sniffing;
	const char *interface_name;
	int64_t routing_mark;
	int64_t keep_alive_idle, keep_alive_interval;
	bool disable_keep_alive;
	int find_process;
	const char *ss_config, *vmess_config;
	const char **auth_users;	/* "user:pass" entries that are valid, n_auth of them */
	int n_auth;
	bool geodata_mode, geo_auto_update, etag_support;
	int64_t geo_update_interval;
	const char *geodata_loader, *geosite_matcher, *global_ua, *client_fingerprint;
	const char *geox_geoip, *geox_mmdb, *geox_asn, *geox_geosite;
	bool store_selected, store_fake_ip;
	const struct cfg_node *tun, *tuic_server;	/* as written; NULL = absent */
};

struct rule_hooks {		/* what rules must know of outbounds, which lie to their right; apply.c fills them before rules_parse() */
	struct outbound *(*find)(struct gen *, const char *name);		/* a target by name, or NULL */
	bool (*usable)(struct outbound *, const struct meta *);	/* false: its present choice is PASS, or cannot carry UDP */
};

struct node_set {		/* the nodes of one proxy-provider; provider/ owns them and tells groups_changed() */
	const char *name;
	const char *url;	/* of its health check, "" */
	struct outbound **nodes;
	int n;
};

struct stream;
struct target;
struct ruleset;
enum dns_list { DNS_LIST_GEOSITE, DNS_LIST_GEOIP, DNS_LIST_RULE_SET };
enum dns_via { DNS_VIA_UNKNOWN, DNS_VIA_DIRECT, DNS_VIA_PROXY };
struct dns_hooks {		/* what dns/ must know of outbounds and rules, to its right; apply.c fills them before dns_parse() */
	enum dns_via (*via)(struct gen *, const char *name);	/* what goes through this proxy or group would go now */
	/* through it, or as the rules say when it is NULL; a new stream, or NULL: it cannot be dialled. to is lent */
	struct stream *(*dial)(struct gen *, const char *name, const struct target *to);
	/* The list of that name (lower case, but of a rule set), for as long as the generation; NULL: there is none, err has the
	 * bare reason. Without who it is only asked for; who names the key in the log when the list's database is missing. */
	const struct ruleset *(*list)(struct gen *, enum dns_list kind, const char *name, const char *who, struct cfg_err *err);
	/* host, or if that is NULL ip, is in it: 1, 0; -1: the list has not come yet */
	int (*list_has)(const struct ruleset *, const char *host, const struct ip *ip);
};

struct gen {
	struct worker *w;
	struct arena arena;
	struct general general;
	struct map proxies;		/* name -> struct outbound *: built-ins, proxies, groups */
	struct map nodes;		/* name -> struct outbound *: nodes of providers, the first of a name; for the API */
	struct node_set **sets;		/* of providers, in file order */
	int n_sets;
	struct providers *providers;	/* provider/provider.h; NULL: none */
	bool quiet_nodes;		/* nodes that are parsed now are a provider's: what they lack is told once for all of them */
	struct outbound **outbounds;	/* configured proxies in file order */
	int n_outbounds;
	struct outbound **groups;	/* in file order; GLOBAL last unless configured */
	int n_groups;
	struct outbound *direct, *reject, *reject_drop, *pass, *compatible, *global;
	struct rules *rules;		/* rule/engine.h */
	struct map sub_rules;		/* name -> struct rules * */
	struct map rule_sets, geo_sets;	/* name -> struct ruleset *; "KIND NAME" -> geo.c's: rule/ruleset.h */
	struct rule_provider *rule_providers;	/* provider/ruleset.h, in file order */
	int n_rule_providers;
	struct rule_hooks rule_hooks;
	struct dns_hooks dns_hooks;
	struct regex_env *regex;	/* scratch of every pattern, match/regex.h; NULL until the first one */
	struct inbound **inbounds;
	int n_inbounds;
	struct resolver *resolver;	/* dns/resolver.h */
	struct hosts *hosts;		/* dns/hosts.h */
	const struct cfg_node *root;	/* the tree; its memory stays mapped for the life of the process */
};

void general_defaults(struct gen *g);
int general_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);

#endif
