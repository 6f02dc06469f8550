/* SPDX-License-Identifier: MIT */
/* A generation made from YAML text, with a worker and a loop around it, for tests of outbounds and groups; and loopback
 * listeners for fake servers. */
#ifndef SLUICE_TESTS_OUTBOUND_KIT_H
#define SLUICE_TESTS_OUTBOUND_KIT_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "worker/group/group.h"
#include "worker/loader/yaml.h"
#include "worker/provider/provider.h"
#include "worker/worker.h"

struct kit {
	struct worker w;
	struct gen g;
	struct tree tree;
	void *image;
	struct cfg_err err;
};

/* What the workers of a test share; NULL = nothing. */
static struct shm_shared *kit_shared;

/* The steps of apply.c that concern proxies; 0 or -E_INVAL with k->err. */
static inline int
kit_load(struct kit *k, const char *yaml)
{
	size_t n = 0;
	int rc;

	memset(k, 0, sizeof(*k));
	log_set_level(LL_SILENT);
	loop_init(&k->w.loop);
	k->w.gen = &k->g;
	k->w.shared = kit_shared;
	k->g.w = &k->w;
	arena_init(&k->g.arena);
	map_init(&k->g.proxies);
	k->g.general.ipv6 = true;
	rc = yaml_load(yaml, strlen(yaml), &k->image, &n, &k->err);
	if (rc != 0 || tree_from_memory(&k->tree, k->image, n, &k->err) != 0)
		return -E_INVAL;
	k->g.root = k->tree.root;
	rc = providers_parse(&k->g, k->tree.root, &k->err);
	if (rc == 0)
		rc = outbounds_parse(&k->g, k->tree.root, &k->err);
	if (rc == 0)
		rc = groups_declare(&k->g, k->tree.root, &k->err);
	for (int i = 0; rc == 0 && i < k->g.providers->n; i++) {
		struct provider *p = k->g.providers->p[i];
		bool changed;

		if (p->vehicle == VEHICLE_INLINE)
			rc = provider_load(p, cfg_get(p->item, "payload"), &changed, &k->err);
	}
	if (rc == 0)
		rc = groups_parse(&k->g, k->tree.root, &k->err);
	return rc != 0 ? rc : outbounds_link(&k->g, &k->err);
}

static inline void
kit_free(struct kit *k)
{
	providers_fini(&k->g);
	outbounds_fini(&k->g);
	map_free(&k->g.proxies);
	arena_free(&k->g.arena);
	loop_fini(&k->w.loop);
	free(k->image);
}

static inline struct outbound *
kit_find(struct kit *k, const char *name)
{
	return outbound_find(&k->g, name);
}

/* Turns of the loop until *flag, at most 5 s; false when it ran out. */
static inline bool
kit_until(struct kit *k, const bool *flag)
{
	for (int i = 0; i < 5000 && !*flag; i++) {
		loop_turn(&k->w.loop);
		if (!*flag)
			usleep(1000);
	}
	return *flag;
}

/* A listening or datagram socket on 127.0.0.1; its port goes to *port. */
static inline int
kit_socket(int type, uint16_t *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	if (fd == -1 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == -1 || (type == SOCK_STREAM && listen(fd, 8) == -1) ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) == -1)
		return -1;
	*port = ntohs(sa.sin_port);
	return fd;
}

#endif
