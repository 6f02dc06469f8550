/* SPDX-License-Identifier: MIT */
/* The pools of the generation and the mapping of real addresses: where their memory comes from, and the look that every new
 * connection to an address takes at them. See fakeip.h; pools are fake_pool.c's, the mapping is mapping.c's. */
#include "worker/dns/fakeip.h"

#include <sys/mman.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
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

static const char *
memory_of(const struct gen *g, bool v6)
{
	return g->general.store_fake_ip ? (v6 ? "sluice.fakeip6" : "sluice.fakeip") : v6 ? "fakeip6" : "fakeip";
}

static void
pool_open(struct gen *g, struct fake_pool *p, const struct prefix *range, bool v6)
{
	if (range->ip.family != 0)
		fake_pool_init(p, range, shared_map(g->w, memory_of(g, v6), sizeof(struct fake_table)), g->w->lead);
}

void
fakeip_open(struct gen *g)
{
	struct resolver *r = g->resolver;

	if (!r->conf.enable || r->conf.mode != ENHANCED_FAKE_IP)
		return;
	pool_open(g, &r->fake4, &r->conf.fake4, false);
	pool_open(g, &r->fake6, &r->conf.fake6, true);
}

/* ---- a stand-in: the memory once more, writable; what it had stays mapped for the time after */

static void *
map_writable(int fd, size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p != MAP_FAILED ? p : NULL;
}

static void
pool_lead(struct gen *g, struct fake_pool *p, bool v6, const char *memory, int fd)
{
	struct fake_table *t;

	if (p->t == NULL || p->writes || !str_equal(memory, memory_of(g, v6)))
		return;
	t = map_writable(fd, sizeof(*t));
	if (t == NULL)
		return;
	p->reads = p->t;
	p->t = t;
	p->writes = true;
	fake_pool_start(p, g->w->generation);
}

static void
pool_unlead(struct fake_pool *p)
{
	if (p->reads == NULL)
		return;
	munmap(p->t, sizeof(*p->t));
	p->t = (struct fake_table *)(uintptr_t)p->reads;
	p->reads = NULL;
	p->writes = false;
	p->writer = 0;
}

static void
mapping_lead(struct resolver *r, int fd)
{
	struct mapping_table *t;

	if (r->mapping == NULL || r->mapping_reads != NULL || (t = map_writable(fd, sizeof(*t))) == NULL)
		return;
	r->mapping_reads = r->mapping;
	r->mapping = t;
}

void
fakeip_lead(struct gen *g, const char *memory, int fd)
{
	struct resolver *r = g->resolver;

	if (r != NULL && str_equal(memory, "mapping"))
		mapping_lead(r, fd);
	else if (r != NULL) {
		pool_lead(g, &r->fake4, false, memory, fd);
		pool_lead(g, &r->fake6, true, memory, fd);
	}
	close(fd);
}

void
fakeip_unlead(struct gen *g)
{
	struct resolver *r = g->resolver;

	if (r == NULL)
		return;
	pool_unlead(&r->fake4);
	pool_unlead(&r->fake6);
	if (r->mapping_reads == NULL)
		return;
	munmap(r->mapping, sizeof(*r->mapping));
	r->mapping = (struct mapping_table *)(uintptr_t)r->mapping_reads;
	r->mapping_reads = NULL;
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
