/* SPDX-License-Identifier: MIT */
/* A group: an outbound that chooses among members. One file per type; common keys in parse.c. */
#ifndef SLUICE_WORKER_GROUP_GROUP_H
#define SLUICE_WORKER_GROUP_GROUP_H

#include "worker/outbound/outbound.h"

struct group;
struct group_type {
	struct outbound_type ob;	/* dial and packet are group_dial / group_packet of group.c */
	int (*setup)(struct group *, const struct cfg_node *, struct cfg_err *);	/* own keys; may be NULL */
	struct outbound *(*pick)(struct group *, const struct meta *, bool touch);	/* borrows; never NULL: falls to COMPATIBLE */
	int (*select)(struct group *, const char *name);	/* "" = clear fixed; -E_UNSUP load-balance, -E_NOTFOUND no member, -E_INVAL cannot be cleared */
	const char *(*now)(struct group *);			/* GET /proxies "now"; NULL = type has none */
	const char *(*fixed)(struct group *);			/* "fixed"; NULL = type has none */
	void (*on_dial)(struct group *, struct outbound *, int err);	/* for max-failed-times; may be NULL */
	bool (*udp)(struct group *);				/* NULL: as the present choice; never asked with disable-udp */
	void (*tested)(struct group *);				/* see group_tested(); may be NULL */
	void (*died)(struct group *, struct outbound *);	/* see groups_died(); may be NULL */
};

struct group_choice {		/* a saved choice of a group that this configuration does not have */
	struct group_choice *next;
	char *group, *name;
};
enum { GROUP_KEPT_MAX = 1024,	/* more are forgotten */
       GROUP_NESTING_MAX = 32 };	/* a configuration error beyond */

struct filter;
struct group {			/* first member of every group type's struct */
	struct outbound ob;
	const struct group_type *gtype;
	const struct cfg_node *item;	/* as configured; NULL for a GLOBAL that is not */
	struct outbound **members;	/* owned; never empty once built */
	int n_members;
	uint32_t version;		/* moves with every change of the members or of the stored choice */
	struct outbound **own;		/* `proxies`, and all with include-all-proxies: n_own of them, before what is excluded */
	int n_own, n_listed;		/* the first n_listed are `proxies` */
	const struct node_set **use;	/* in order, n_use */
	int n_use;
	bool all_proxies, all_providers;
	struct filter *filter, *exclude;	/* owned; NULL = none */
	const char *exclude_type;	/* "" */
	const char *url;		/* test URL, never "" */
	const char *expected;		/* trimmed, "*" if empty */
	const char *icon;
	bool hidden, lazy, disable_udp;
	bool url_written;
	int64_t interval_s, timeout_ms, max_failed;
	char *selected;			/* owned: stored choice by name (select) or fixed node (url-test, fallback); "" */
	const char *default_selected;	/* "" */
	struct outbound *empty;		/* stands in for an empty member list: COMPATIBLE unless empty-fallback says otherwise */
	struct group_choice *kept;	/* of gen->global only */
	uint64_t touched_s;		/* use.c's: the second it was last used in */
	int64_t failures;		/* dials that failed since failing_ms */
	uint64_t failing_ms;
};

extern const struct group_type *const group_types[];	/* registry.c, ended by NULL */
extern const struct group_type group_select_type, group_urltest_type, group_fallback_type, group_loadbalance_type, group_relay_type;

/* After outbounds_parse(): every group without its members, so that nodes of providers can name them. */
int groups_declare(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* After the nodes of providers are there (gen->sets): members; makes GLOBAL; detects loops. */
int groups_parse(struct gen *g, const struct cfg_node *root, struct cfg_err *err);
/* The nodes of a set are others now: members of the groups that use it are made anew. */
void groups_changed(struct gen *g, const struct node_set *set);
struct group *group_of(struct outbound *ob);	/* NULL when ob is no group */
struct stream *group_dial(struct outbound *ob, const struct dial *dial);
struct dgram *group_packet(struct outbound *ob, const struct dial *dial);
struct outbound *group_pick(struct group *g, const struct meta *m, bool touch);
/* The functions of every group type's struct outbound_type. */
struct outbound *group_pick_ob(struct outbound *ob, const struct meta *m, bool touch);
bool group_udp(struct outbound *ob);
void group_fini(struct outbound *ob);
/* For types: the member of that name or NULL; the first member that is alive for the group's URL, else the first. */
struct outbound *group_find_member(const struct group *g, const char *name);
struct outbound *group_first_alive(const struct group *g);
bool group_alive(const struct group *g, const struct outbound *ob);
void group_set_selected(struct group *g, const char *name);	/* copies */
/* A test found it dead: what groups do then, they do in every worker alike, whether a connection asks meanwhile or not. */
void groups_died(struct outbound *ob);
/* Whether a node's name passes the group's filters: which nodes of a provider it wants tested. */
bool group_wants(const struct group *g, const struct outbound *ob);
/* parse.c: members by what own, use and the filters say now. */
void group_build(struct group *g);
/* All members were tested: the next choice is made anew from what was measured. */
void group_tested(struct group *g);
/* use.c: real use; how long ago it was by any worker, UINT64_MAX never; and the wish for a check now, which the lead takes. */
void group_touch(struct group *g);
uint64_t group_unused_ms(const struct group *g, uint64_t now_ms);
void group_want_check(struct group *g);
bool group_take_wanted(const struct group *g);
/* on_dial of the types that count failures (max-failed-times). */
void group_count_dial(struct group *g, struct outbound *ob, int err);
/* A TCP dial through this chain ended: err 0 or E_*. */
void groups_dialled(const struct chain *chain, int err);
/* PUT/DELETE of a choice: HTTP status 204, 404, 400 and the reference's text (spec/api.md 1.7, 2.8). name "" clears. */
int group_select(struct gen *g, const char *group, const char *name, const char **text);
/* All choices as one blob (STATE_SELECT), and back; unknown groups are kept in the blob. */
void groups_save(struct gen *g, struct wire *w);
int groups_load(struct gen *g, struct wire *w);

#endif
