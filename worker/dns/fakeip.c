/* SPDX-License-Identifier: MIT */
/* The pools of the generation and the mapping of real addresses: where their memory comes from, and the look that every new
 * connection to an address takes at them. See fakeip.h; pools are fake_pool.c's, the mapping is mapping.c's. */
#include "worker/dns/fakeip.h"

#include <sys/mman.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "worker/dns/internal.h"
#include "worker/worker.h"

void *
shared_map(struct worker *w, const char *name, size_t size)
{
	int prot = w->lead ? PROT_READ | PROT_WRITE : PROT_READ, fd;
	struct cfg_err err = { .text = "" };
	void *p;

	if (w->test)
		return NULL;
	fd = priv_open(w, OPEN_SHARED, name, &err);
	if (fd < 0) {
		log_error("%s cannot be opened: %s", name, err.text);
		return NULL;
	}
	p = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		log_error("%s cannot be mapped", name);
	return p != MAP_FAILED ? p : NULL;
}

static void
pool_open(struct gen *g, struct fake_pool *p, const struct prefix *range, const char *file, const char *memory)
{
	struct worker *w = g->w;

	if (range->ip.family != 0)
		fake_pool_init(p, range, shared_map(w, g->general.store_fake_ip ? file : memory, sizeof(struct fake_table)), w->lead);
}

void
fakeip_open(struct gen *g)
{
	struct resolver *r = g->resolver;

	if (!r->conf.enable || r->conf.mode != ENHANCED_FAKE_IP)
		return;
	pool_open(g, &r->fake4, &r->conf.fake4, "sluice.fakeip", "fakeip");
	pool_open(g, &r->fake6, &r->conf.fake6, "sluice.fakeip6", "fakeip6");
}

void
fakeip_start(struct gen *g)
{
	if (g->resolver == NULL)
		return;
	fake_pool_start(&g->resolver->fake4, g->w->generation);
	fake_pool_start(&g->resolver->fake6, g->w->generation);
}

void
fakeip_flush(struct gen *g)
{
	if (g->resolver == NULL)
		return;
	fake_pool_flush(&g->resolver->fake4);
	fake_pool_flush(&g->resolver->fake6);
}

int
fakeip_address(struct gen *g, int family, const char *host, struct ip *out)
{
	struct fake_pool *p = family == 4 ? &g->resolver->fake4 : &g->resolver->fake6;

	return p->range.ip.family == 0 ? -E_UNSUP : fake_pool_give(p, host, out);
}

enum fake_found
fakeip_name(const struct gen *g, const struct ip *ip, char host[static HOST_MAX + 1])
{
	const struct resolver *r = g->resolver;

	if (r == NULL || r->conf.mode != ENHANCED_FAKE_IP)
		return FAKE_FOREIGN;
	return fake_pool_find(ip->family == 4 ? &r->fake4 : &r->fake6, ip, host);
}

enum fake_found
fakeip_behind(const struct gen *g, const struct ip *ip, char host[static HOST_MAX + 1], bool *mapped)
{
	enum fake_found found = ip->family != 0 ? fakeip_name(g, ip, host) : FAKE_FOREIGN;

	*mapped = found == FAKE_FOREIGN && ip->family != 0 && mapping_name(g, ip, host);
	return *mapped ? FAKE_FOUND : found;
}
