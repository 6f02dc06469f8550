/* SPDX-License-Identifier: MIT */
/* What every outbound shares: finding one by name, dialling through it, which node a group stands for, and the record of its
 * delays that groups decide from and the API shows. Called by core/dispatch, groups, delay tests and the snapshot writers.
 * Owns the per-URL delay tables. */
#include "worker/outbound/outbound.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/strutil.h"
#include "worker/outbound/types.h"
#include "worker/worker.h"

enum { UNKNOWN_DELAY = 65535,
       NESTING_MAX = 64 };	/* groups in groups; the parser refuses more than 32 */

struct outbound *
outbound_find(struct gen *g, const char *name)
{
	return map_get(&g->proxies, name);
}

struct outbound *
outbound_leaf(struct outbound *ob, const struct meta *meta)
{
	for (int i = 0; i < NESTING_MAX && ob->type->pick != NULL; i++)
		ob = ob->type->pick(ob, meta, false);
	return ob;
}

bool
outbound_udp(struct outbound *ob)
{
	return ob->type->udp != NULL ? ob->type->udp(ob) : (ob->flags & OB_UDP) != 0;
}

void
chain_add(struct chain *c, struct outbound *ob)
{
	if (c != NULL && c->n < CHAIN_MAX)
		c->ob[c->n++] = ob;
}

struct stream *
outbound_dial(struct outbound *ob, const struct dial *dial)
{
	struct stream *s;

	if (dial->depth >= DIAL_DEPTH_MAX)
		return outbound_failed(ob, E_LIMIT, "loop detected: too many dialer-proxy steps");
	if (ob->type->pick == NULL)
		chain_add(dial->chain, ob);
	s = ob->type->dial(ob, dial);
	if (ob->type->pick != NULL)
		chain_add(dial->chain, ob);
	return s;
}

struct dgram *
outbound_packet(struct outbound *ob, const struct dial *dial)
{
	struct dgram *d;

	if (dial->depth >= DIAL_DEPTH_MAX)
		return outbound_failed_packet(ob, E_LIMIT, "loop detected: too many dialer-proxy steps");
	if (ob->type->pick == NULL)
		chain_add(dial->chain, ob);
	d = ob->type->packet != NULL ? ob->type->packet(ob, dial) : outbound_failed_packet(ob, E_UNSUP, "UDP is not supported");
	if (ob->type->pick != NULL)
		chain_add(dial->chain, ob);
	return d;
}

/* ---- hand-over: the packet sides that can move, by their dgram_ops.name */

static const struct {
	const char *name;
	struct dgram *(*thaw)(struct gen *g, struct wire *state, const int *fds, int nfds);
} thawers[] = { { "udp", dialer_packet_thaw }, { "socks5", socks5_packet_thaw } };

struct dgram *
outbound_thaw(struct gen *g, struct wire *state, const int *fds, int nfds)
{
	char name[16];

	if (wire_get_str(state, name, sizeof(name)) == 0)
		for (size_t i = 0; i < countof(thawers); i++)
			if (strcmp(thawers[i].name, name) == 0)
				return thawers[i].thaw(g, state, fds, nfds);
	for (int i = 0; i < nfds; i++)
		close(fds[i]);
	return NULL;
}

/* ---- delays */

static void
push(struct delay_history *h, int64_t at_ns, uint16_t ms, bool alive)
{
	struct delay_entry *e;

	if (h->n < HISTORY_MAX) {
		e = &h->e[(h->first + h->n++) % HISTORY_MAX];
	} else {
		e = &h->e[h->first];
		h->first = (uint8_t)((h->first + 1) % HISTORY_MAX);
	}
	e->at_ns = at_ns;
	e->ms = ms;
	h->alive = alive;
}

static struct delay_extra *
extra_find(const struct outbound *ob, const char *url)
{
	struct delay_extra *x;

	for (x = ob->extra; x != NULL; x = x->next)
		if (strcmp(x->url, url) == 0)
			return x;
	return NULL;
}

/* Unlinks and returns the entry of this URL, or the last one when the table is full; NULL: make one. */
static struct delay_extra *
extra_take(struct outbound *ob, const char *url)
{
	struct delay_extra **at = &ob->extra, *x;
	int n = 1;

	if (*at == NULL)
		return NULL;
	while (strcmp((*at)->url, url) != 0 && (*at)->next != NULL) {
		at = &(*at)->next;
		n++;
	}
	x = *at;
	if (strcmp(x->url, url) != 0 && n < EXTRA_MAX)
		return NULL;
	*at = x->next;
	return x;
}

/* The list is kept in order of use, so the last one is the least recently tested. */
static struct delay_extra *
extra_get(struct outbound *ob, const char *url)
{
	struct delay_extra *x = extra_take(ob, url);
	size_t n = strlen(url) + 1;

	if (x != NULL && strcmp(x->url, url) != 0) {
		free(x);
		x = NULL;
	}
	if (x == NULL) {
		x = calloc(1, sizeof(*x) + n);
		if (x == NULL)
			return NULL;
		memcpy(x->url, url, n);
	}
	x->next = ob->extra;
	ob->extra = x;
	return x;
}

void
outbound_record(struct outbound *ob, const char *url, uint16_t ms, bool alive, int64_t at_ns)
{
	struct delay_extra *x;

	push(&ob->history, at_ns, ms, ms != 0);
	if (!str_starts(url, "http://") && !str_starts(url, "https://"))
		return;		/* nothing that could be tested: spec/api.md 6.2, 17 */
	x = extra_get(ob, url);
	if (x != NULL)
		push(&x->h, at_ns, alive ? ms : 0, alive && ms != 0);
	if (ob->gen->w != NULL)
		worker_touch(ob->gen->w);
}

void
outbound_set_history(struct outbound *ob, const char *url, const struct delay_history *h)
{
	struct delay_extra *x = extra_get(ob, url);

	if (x != NULL)
		x->h = *h;
}

const struct delay_history *
outbound_history(const struct outbound *ob, const char *url)
{
	const struct delay_extra *x = extra_find(ob, url);

	return x != NULL ? &x->h : NULL;
}

bool
outbound_alive(const struct outbound *ob, const char *url)
{
	const struct delay_extra *x = extra_find(ob, url);

	return x != NULL ? x->h.alive : ob->history.alive;
}

uint16_t
outbound_last_delay(const struct outbound *ob, const char *url)
{
	const struct delay_extra *x = extra_find(ob, url);
	const struct delay_history *h = x != NULL ? &x->h : &ob->history;
	uint16_t ms;

	if (!h->alive || h->n == 0)
		return UNKNOWN_DELAY;
	ms = h->e[(h->first + h->n - 1) % HISTORY_MAX].ms;
	return ms != 0 ? ms : UNKNOWN_DELAY;
}

void
outbound_fini(struct outbound *ob)
{
	if (ob->type->fini != NULL)
		ob->type->fini(ob);
	while (ob->extra != NULL) {
		struct delay_extra *x = ob->extra;

		ob->extra = x->next;
		free(x);
	}
}

void
outbounds_fini(struct gen *g)
{
	for (size_t i = 0; i < g->proxies.cap; i++)
		if (g->proxies.slots[i].key != NULL)
			outbound_fini(g->proxies.slots[i].value);
}
