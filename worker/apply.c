/* SPDX-License-Identifier: MIT */
/* Builds the generation: one ordered list of steps, each a section's parser, in the reference's order (the first error wins,
 * spec/config.md 1), then files, listeners and what earlier generations left. Called once by ipc.c; apply_ports() again by
 * change.c. */
#include "worker/apply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/sandbox.h"
#include "common/strutil.h"
#include "worker/change.h"
#include "worker/core/process.h"
#include "worker/delays.h"
#include "worker/dns/fakeip.h"
#include "worker/dns/resolver.h"
#include "worker/dns/serve.h"
#include "worker/gen.h"
#include "worker/geo.h"
#include "worker/group/group.h"
#include "worker/health.h"
#include "worker/inbound/inbound.h"
#include "worker/ipc.h"
#include "worker/memory.h"
#include "worker/nodes.h"
#include "worker/outbound/outbound.h"
#include "worker/patch.h"
#include "worker/registry.h"
#include "worker/rule/geo_set.h"
#include "worker/rule/rule.h"
#include "worker/rule_sets.h"
#include "worker/sections.h"
#include "worker/source.h"
#include "worker/stream/stream.h"

enum { INBOUNDS_MAX = 256, CA_MAX = 16 << 20 };

/* What the rule engine asks about targets, which lie to its right. */
static struct outbound *
target_find(struct gen *g, const char *name)
{
	return outbound_find(g, name);
}

static bool
target_usable(struct outbound *ob, const struct meta *m)
{
	const struct outbound *leaf = outbound_leaf(ob, m);

	return leaf != leaf->gen->pass && (m->network != NET_UDP || outbound_udp(ob));
}

/* How name servers are reached through outbounds, which lie to the right of dns/. */
static enum dns_via
dns_via(struct gen *g, const char *name)
{
	struct outbound *ob = outbound_find(g, name);
	const struct outbound *leaf = ob != NULL ? outbound_leaf(ob, NULL) : NULL;

	return ob == NULL ? DNS_VIA_UNKNOWN : leaf == g->direct || leaf == g->compatible ? DNS_VIA_DIRECT : DNS_VIA_PROXY;
}

/* What the rules say of our own connection, without waiting: no address is looked up, and no process asks. */
static struct outbound *
by_rules(struct gen *g, struct meta *meta)
{
	struct match m = { .list = g->rules, .resolved = true, .process_known = true };

	if (g->general.mode != MODE_RULE)
		return g->general.mode == MODE_GLOBAL ? g->global : g->direct;
	return rules_walk(&m, meta, loop_wall_ns()) == MATCH_HIT ? m.verdict.outbound : g->direct;
}

static struct stream *
dns_dial(struct gen *g, const char *name, const struct target *to)
{
	struct target target = *to;
	struct meta meta;
	struct dial dial = { .to = &target, .meta = &meta, .deadline_ms = g->w->loop.now_ms + RESOLVER_TIMEOUT_MS };
	struct outbound *ob;

	meta_init(&meta);
	meta.kind = IN_INNER;
	meta.host = to->host;
	meta.dst_ip = to->ip;
	meta.dst_port = to->port;
	ob = name != NULL ? outbound_find(g, name) : by_rules(g, &meta);
	if (target.ip.family != 0)
		target.host = "";	/* nobody looks it up again, least of all at the server that is dialled */
	return ob != NULL ? outbound_dial(ob, &dial) : NULL;
}

struct outbound *
apply_route(struct gen *g, const char *host, uint16_t port)
{
	struct meta meta;

	meta_init(&meta);
	meta.kind = IN_INNER;
	meta.dst_port = port;
	if (ip_parse(&meta.dst_ip, host) != 0)
		meta.host = host;
	return by_rules(g, &meta);
}

static int
link_dialers(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	(void)root;
	return outbounds_link(g, err);
}

/* Patches of an earlier worker of this service come before anything is built on the values. */
static int
load_patches(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	struct wire w;

	(void)root;
	(void)err;
	if (ipc_state(STATE_PORTS, &w) && patch_load_ports(g, &w) != 0)
		log_warn("stored ports cannot be read: the configuration's are used");
	if (ipc_state(STATE_PATCH, &w) && patch_load_live(g, &w) != 0)
		log_warn("stored settings cannot be read: the configuration's are used");
	return 0;
}

/* tls.custom-certifactes and the system's certificate authorities, mapped from the page cache and parsed when the first TLS
 * node is dialled. */
static int
load_authorities(struct gen *g, const struct cfg_node *root, struct cfg_err *err)
{
	struct cfg_err ignored = { 0 };
	struct stat st;
	void *p;
	int fd;

	(void)err;
	if (g->w->test)
		return 0;
	fd = priv_open(g->w, OPEN_CA, "", &ignored);
	if (fd < 0)
		log_debug("no certificate authorities: %s", ignored.text);
	else if (fstat(fd, &st) == 0 && st.st_size > 0 && st.st_size < CA_MAX &&
	    (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)) != MAP_FAILED)
		tls_setup(p, (size_t)st.st_size);
	if (fd >= 0)
		close(fd);
	cfg_each(c, cfg_get(cfg_get(root, "tls"), "custom-certifactes"))
		if (tls_add_authority(cfg_text(c) != NULL ? cfg_text(c) : "") != 0)
			log_warn("line %u: tls.custom-certifactes: add error: it is no certificate", c->line);
	return 0;
}

static const struct {
	const char *name;
	int (*parse)(struct gen *, const struct cfg_node *root, struct cfg_err *);
} steps[] = {
	{ "general", general_parse },
	{ "worker-memory-limit", memory_parse },
	{ "patches", load_patches },
	{ "proxy-providers", sections_proxy_providers },
	{ "proxies", outbounds_parse },
	{ "proxy-groups", groups_declare },
	{ "nodes of proxy-providers", nodes_load },
	{ "proxy-groups", groups_parse },
	{ "dialer-proxy", link_dialers },
	{ "rule-providers", sections_rule_providers },
	{ "content of rule-providers", rule_sets_load },
	{ "listeners", inbounds_parse },
	{ "rules", rules_parse },
	{ "hosts", hosts_parse },
	{ "dns", dns_parse },
	{ "sections", sections_parse },
	{ "sluice.health-check", health_parse },
	{ "authorities", load_authorities },
};

static void
load_state(struct gen *g)
{
	struct wire w;

	if (g->general.store_selected && ipc_state(STATE_SELECT, &w) && groups_load(g, &w) != 0 && g->w->lead)
		log_warn("sluice.state: the stored selections cannot be read, they start anew");
	if (ipc_state(STATE_NODES, &w))
		sources_restore(g->w, &w);
	if (ipc_state(STATE_DELAYS, &w) && delays_load(g, &w) != 0)
		log_warn("stored delays cannot be read: they start anew");
	if (ipc_state(STATE_RULES, &w))
		change_load_rules(g, &w);
}

static int
open_inbounds(struct gen *g, struct cfg_err *err)
{
	for (int i = 0; i < g->n_inbounds; i++) {
		char why[256] = "";
		int rc = inbound_open(g->inbounds[i], why, sizeof why);

		if (rc < 0) {
			cfg_fail(err, NULL, g->inbounds[i]->name, "%s: %s", g->inbounds[i]->name, why);
			return rc;
		}
	}
	return 0;
}

static int
open_dns(struct gen *g, struct cfg_err *err)
{
	char why[256] = "";
	int rc = dns_serve_open(g, why, sizeof why);

	if (rc < 0)
		cfg_fail(err, NULL, "dns.listen", "dns.listen: %s", why);
	return rc;
}

/* Does a rule look at the client's program? A provider's update may bring one later: dispatch then asks for the helper itself. */
static bool
asks_for_process(const struct gen *g)
{
	unsigned needs = g->rules->needs;

	for (size_t i = 0; i < g->sub_rules.cap; i++)
		if (g->sub_rules.slots[i].key != NULL)
			needs |= ((const struct rules *)g->sub_rules.slots[i].value)->needs;
	return g->general.find_process == FIND_ALWAYS || (g->general.find_process == FIND_STRICT && (needs & NEED_PROCESS) != 0);
}

int
apply_config(struct worker *w, int tree_fd, struct cfg_err *err)
{
	static struct tree tree;	/* mapped for the life of the process */
	struct gen *g = calloc(1, sizeof *g);
	int rc = g != NULL ? tree_open(&tree, tree_fd, err) : -E_NOMEM;

	if (rc != 0)
		return rc;
	g->w = w;
	g->root = tree.root;
	g->rule_hooks.find = target_find;
	g->rule_hooks.usable = target_usable;
	g->dns_hooks = (struct dns_hooks){ .via = dns_via, .dial = dns_dial, .list = geo_dns_list, .list_has = ruleset_has };
	arena_init(&g->arena);
	map_init(&g->proxies);
	map_init(&g->nodes);
	map_init(&g->sub_rules);
	map_init(&g->rule_sets);
	map_init(&g->geo_sets);
	w->gen = g;
	general_defaults(g);
	for (size_t i = 0; i < countof(steps); i++) {
		rc = steps[i].parse(g, tree.root, err);
		if (rc != 0) {
			if (err->text[0] == '\0')
				cfg_fail(err, NULL, steps[i].name, "%s: %s", steps[i].name, err_text(rc));
			return rc;
		}
	}
	load_state(g);
	rc = resolver_start(g, err);
	if (rc == 0)
		rc = open_dns(g, err);
	if (rc == 0)
		rc = open_inbounds(g, err);
	if (rc != 0)
		return rc;
	if (w->lead) {
		struct msg_log_level level = { .level = g->general.log_level };

		peer_send(&w->sup, MSG_LOG_LEVEL, 0, &level, sizeof level, NULL, 0);
	}
	if (asks_for_process(g))
		process_want(w);
	sandbox_filter(ROLE_WORKER, 2);
	return 0;
}

void
apply_serve(struct worker *w)
{
	struct msg_log_level level = { .level = w->gen->general.log_level };

	if (w->lead)
		fakeip_start(w->gen);
	memory_start(w);
	dns_serve_start(w->gen);
	for (int i = 0; i < w->gen->n_inbounds; i++)
		inbound_serve(w->gen->inbounds[i]);
	if (w->lead) {
		struct wire ports;

		peer_send(&w->sup, MSG_LOG_LEVEL, 0, &level, sizeof level, NULL, 0);
		/* a reload without force keeps what is served now (spec/config.md 15) */
		wire_init(&ports);
		patch_save_ports(w->gen, &ports);
		ipc_save(w, STATE_PORTS, &ports);
		health_start(w);
	}
	nodes_start(w);
	sources_start(w);
	geo_start(w);
	worker_touch(w);
}

static bool
among(struct inbound *const *list, int n, const struct inbound *inb)
{
	for (int i = 0; i < n; i++)
		if (list[i] == inb)
			return true;
	return false;
}

int
apply_ports(struct worker *w, char *why, size_t cap)
{
	struct gen *g = w->gen;
	struct inbound **want = calloc(INBOUNDS_MAX, sizeof *want);
	int n = want != NULL ? inbounds_ports(g, want, INBOUNDS_MAX) : -E_NOMEM, rc;

	if (n < 0) {
		free(want);
		str_copy(why, cap, err_text(n));
		return n;
	}
	for (int i = 0; i < n; i++) {
		if (among(g->inbounds, g->n_inbounds, want[i]))
			continue;
		rc = inbound_open(want[i], why, cap);
		if (rc < 0) {	/* all or nothing */
			while (--i >= 0)
				if (!among(g->inbounds, g->n_inbounds, want[i]))
					inbound_close(want[i]);
			free(want);
			return rc;
		}
	}
	for (int i = 0; i < n; i++)
		if (w->serving && !among(g->inbounds, g->n_inbounds, want[i]))
			inbound_serve(want[i]);
	for (int i = 0; i < g->n_inbounds; i++)
		if (!among(want, n, g->inbounds[i]))
			inbound_close(g->inbounds[i]);
	g->inbounds = arena_array(&g->arena, (size_t)n + 1, sizeof *g->inbounds);
	memcpy(g->inbounds, want, (size_t)n * sizeof *want);
	g->n_inbounds = n;
	free(want);
	return 0;
}
