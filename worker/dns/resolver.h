/* SPDX-License-Identifier: MIT */
/* Name resolution for rules, dials and servers: asynchronous, cached, a question in flight once however many ask it; hosts
 * first, then the configured name servers, without dns: those of resolv.conf. */
#ifndef SLUICE_WORKER_DNS_RESOLVER_H
#define SLUICE_WORKER_DNS_RESOLVER_H

#include "common/config_tree.h"
#include "common/imsg_types.h"
#include "common/list.h"
#include "worker/gen.h"
#include "worker/loop/loop.h"

enum { RESOLVE_V4 = 1, RESOLVE_V6 = 2, RESOLVE_BOTH = 3 };
enum { RESOLVE_IPS_MAX = 16, RESOLVER_CACHE_MAX = 4096, RESOLVER_INFLIGHT_MAX = 4096, RESOLVER_TIMEOUT_MS = 5000 };
enum resolve_use { USE_RULES, USE_SERVER, USE_DIRECT, USE_BOOT /* names of name servers */, USES_ };	/* which nameservers (spec/config.md 14.2 "which resolver") */

typedef void resolve_cb(void *arg, int err, const struct ip *ips, int n);	/* err: 0, E_DNS, E_TIMEOUT, E_LIMIT; IPv4 first, lent */

struct resolve_req {		/* embedded by who asks; zero it first */
	struct list node;
	resolve_cb *cb;
	void *arg;
	void *question;		/* resolver's */
	int want;
	struct loop_task task;	/* answers known at once are told at the end of the turn */
	struct ip ips[RESOLVE_IPS_MAX];
	int n, err;
};

/* dns: and hosts: sections validated whole (spec/config.md 3, 4), also where the full DNS will work later; keys not yet
 * working are warned about. */
int hosts_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
int dns_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* resolv.conf and /etc/hosts texts come from the supervisor by priv_open() while CONFIGURING; then no more files. 0 or -E_*. */
int resolver_start(struct gen *g, struct cfg_err *err);
/* cb is called once, never from inside this call. host is copied. want: RESOLVE_*; `ipv6: false` takes V6 away. */
void resolver_ask(struct gen *g, struct resolve_req *req, const char *host, int want, enum resolve_use use, resolve_cb *cb, void *arg);
void resolver_cancel(struct resolve_req *req);		/* no cb after; idempotent */
void resolver_flush(struct gen *g);
/* The system's hosts file or resolv.conf (enum open_kind) has changed; takes fd. */
void resolver_sysfile(struct gen *g, enum open_kind kind, int fd);
/* This worker asks the name servers itself from now on. */
void resolver_lead(struct gen *g);
unsigned resolver_pending(const struct gen *g);		/* questions of other workers that have no answer yet: a drain waits for 0 */
/* One end of a channel between two workers of the generation (link.c); takes fd. lead: the other one asks us from now on, and we
 * ask the name servers; else we ask the other one, instead of any before. */
void resolver_link(struct gen *g, int fd, bool lead);
/* Raw questions to the main nameservers, of GET /dns/query and the DNS server; done gets the answer message, lent, or err. */
typedef void dns_raw_cb(void *arg, int err, const uint8_t *msg, size_t n);
struct dns_wait {		/* embedded by who asks; zero it first */
	struct list node;
	dns_raw_cb *cb;
	void *arg;
	void *question;		/* resolver's */
};
/* An answer that is known already: true, lent until anything else is asked. */
bool resolver_known(struct gen *g, const char *name, uint16_t qtype, const uint8_t **msg, size_t *n);
/* 0: done is called once, later. -E_UNSUP: dns is off; -E_INVAL: no such name; -E_LIMIT; -E_NOMEM. */
int resolver_query(struct gen *g, struct dns_wait *w, const char *name, uint16_t qtype, dns_raw_cb *done, void *arg);
void resolver_query_cancel(struct dns_wait *w);		/* no done after; idempotent */
/* Ends every question without calling anybody back and frees what is not the arena's. For tests and the end of a process. */
void resolver_stop(struct gen *g);

/* hosts.c: addresses of a hosts entry, aliases followed: number, 0 = none; *alias the final name when it is one without
 * addresses here. */
int hosts_find(const struct gen *g, const char *host, struct ip *out, int max, const char **alias);

#endif
