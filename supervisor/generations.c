/* SPDX-License-Identifier: MIT */
/* GET /generations: every generation that still lives, as a value list (common/value.h), newest last. Built on request from what the supervisor knows;
 * connection counts are read from the workers' counter pages and believed only for display. */
#include "supervisor/generations.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>

#include "common/imsg_types.h"
#include "common/memfd.h"
#include "common/shm_stat.h"
#include "common/value.h"
#include "supervisor/control.h"

enum { TREE_MAX = 256 << 20 };
static const char *const state_name[] = { [GEN_STARTING] = "starting", [GEN_SERVING] = "serving", [GEN_DRAINING] = "draining" };

uint64_t
generations_hash(int tree_fd)
{
	const void *p;
	size_t n;
	uint64_t h = 0xcbf29ce484222325u;	/* FNV-1a: names a configuration, protects nothing */

	if (memfd_map(tree_fd, &p, &n, TREE_MAX) != 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
	if (p != NULL)
		munmap((void *)(uintptr_t)p, n);
	return h;
}

static uint32_t
open_connections(const struct sup *s, const struct child *c)
{
	struct shm_stat *page = c->slot < STAT_SLOTS ? memfd_map_shared(s->page[c->slot].fd, STAT_PAGE, 0) : NULL;
	uint32_t n = 0;

	if (page != NULL) {
		n = atomic_load(&page->open_tcp) + atomic_load(&page->open_udp);
		munmap(page, STAT_PAGE);
	}
	return n;
}

static void
key_uint(struct wire *w, const char *key, uint64_t v)
{
	value_key(w, key);
	value_uint(w, v);
}

static void
key_str(struct wire *w, const char *key, const char *v)
{
	value_key(w, key);
	value_str(w, v);
}

static void
show_worker(const struct sup *s, const struct child *c, struct wire *w)
{
	value_map(w);
	key_uint(w, "index", c->index);
	key_uint(w, "pid", (uint64_t)c->pid);
	key_str(w, "state", control_state_name(c));
	key_uint(w, "connections", open_connections(s, c));
	key_uint(w, "memory", control_resident(c));
	value_map_end(w);
}

static void
show(const struct sup *s, const struct generation *g, struct wire *w)
{
	uint64_t connections = 0, memory = 0;
	char hash[20];

	snprintf(hash, sizeof hash, "%016llx", (unsigned long long)g->hash);
	value_map(w);
	key_uint(w, "generation", g->number);
	key_str(w, "state", state_name[g->state]);
	key_str(w, "program", g->build);
	key_str(w, "config", hash);
	key_uint(w, "age", (uint64_t)(ev_now(s->loop) - g->born));
	value_key(w, "workers");
	value_list(w);
	list_each(n, &s->children) {
		const struct child *c = container_of(n, struct child, link);

		if (c->gen != g)
			continue;
		show_worker(s, c, w);
		connections += open_connections(s, c);
		memory += control_resident(c);
	}
	value_list_end(w);
	key_uint(w, "connections", connections);
	key_uint(w, "memory", memory);
	value_map_end(w);
}

void
generations_show(const struct sup *s, struct wire *w)
{
	value_list(w);
	list_each(n, &s->generations)
		if (w->len < IMSG_BODY_MAX - 4096)	/* at most GENERATIONS_MAX of WORKERS_MAX: it fits, but a message's cap is a cap */
			show(s, container_of(n, struct generation, link), w);
	value_list_end(w);
}
