/* SPDX-License-Identifier: MIT */
/* `relay` (deprecated in favour of dialer-proxy): the members form a chain in list order, each reached through the one
 * before. DIRECT and COMPATIBLE are left out; with none left it is a direct connection (spec/config.md 8). Called through
 * group_type. For every member it keeps a hop, an outbound that dials that member through the hop before it. */
#include "worker/group/group.h"

struct hop {
	struct outbound ob;
	struct outbound *node;
	struct outbound *before;	/* hop; NULL for the first */
};
struct relay {
	struct group g;
	struct hop *hops;		/* one per member, made at the first dial for members of this version */
	uint32_t of;
};

static bool
is_direct(struct outbound *ob, const struct meta *m)
{
	struct outbound *leaf = outbound_leaf(ob, m);

	return leaf == leaf->gen->direct || leaf == leaf->gen->compatible;
}

/* A hop that is left out passes its dial on to the one before it. */
static struct stream *
hop_dial(struct outbound *ob, const struct dial *dial)
{
	struct hop *h = (struct hop *)ob;
	struct dial d = *dial;

	d.chain = NULL;
	d.via = NULL;
	if (h->before != NULL && is_direct(h->node, dial->meta))
		return h->before->type->dial(h->before, &d);
	d.via = h->before;
	return outbound_dial(h->node, &d);
}

static struct dgram *
hop_packet(struct outbound *ob, const struct dial *dial)
{
	struct hop *h = (struct hop *)ob;
	struct dial d = *dial;

	d.chain = NULL;
	d.via = NULL;
	if (h->before != NULL && is_direct(h->node, dial->meta))
		return h->before->type->packet(h->before, &d);
	d.via = h->before;
	return outbound_packet(h->node, &d);
}

static const struct outbound_type hop_type = {
	.name = "relay-hop", .api_name = "Relay", .flags = OB_TCP | OB_UDP | OB_BUILTIN, .size = sizeof(struct hop),
	    .dial = hop_dial, .packet = hop_packet,
};

static void
make_hops(struct relay *r)
{
	struct group *g = &r->g;

	if (r->hops != NULL && r->of == g->version)
		return;
	/* hops of former members may be in dials that go on, so they stay: a relay over a provider grows with its updates */
	r->of = g->version;
	r->hops = arena_array(&g->ob.gen->arena, (size_t)g->n_members, sizeof(*r->hops));
	for (int i = 0; i < g->n_members; i++) {
		r->hops[i].ob = (struct outbound){ .type = &hop_type, .gen = g->ob.gen, .name = g->members[i]->name,
		    .flags = hop_type.flags,
			.dialer_proxy = "", .provider = "", .index = -1 };
		r->hops[i].node = g->members[i];
		r->hops[i].before = i > 0 ? &r->hops[i - 1].ob : NULL;
	}
}

/* The last member that is no DIRECT; -1: none. */
static int
last_hop(const struct group *g, int from, const struct meta *m)
{
	while (from >= 0 && is_direct(g->members[from], m))
		from--;
	return from;
}

/* What the target sees. */
static struct outbound *
pick(struct group *g, const struct meta *m, bool touch)
{
	int last = last_hop(g, g->n_members - 1, m);

	(void)touch;
	return last >= 0 ? g->members[last] : g->members[0];
}

static struct dial
through_hops(struct relay *r, const struct dial *dial, int last)
{
	struct dial d = *dial;

	if (dial->via == NULL && last_hop(&r->g, last - 1, dial->meta) >= 0)
		d.via = &r->hops[last - 1].ob;
	return d;
}

/* The API lists the chain from the last hop to the first. */
static void
add_hops(struct relay *r, const struct dial *dial, int last)
{
	while ((last = last_hop(&r->g, last - 1, dial->meta)) >= 0)
		chain_add(dial->chain, outbound_leaf(r->g.members[last], dial->meta));
}

static struct stream *
relay_dial(struct outbound *ob, const struct dial *dial)
{
	struct relay *r = (struct relay *)ob;
	struct dial d = *dial;
	int last = last_hop(&r->g, r->g.n_members - 1, dial->meta);
	struct stream *s;

	if (dial->meta != NULL)
		group_touch(&r->g);
	make_hops(r);
	if (last < 0)
		return outbound_dial(pick(&r->g, dial->meta, true), &d);
	d = through_hops(r, dial, last);
	s = outbound_dial(r->g.members[last], &d);
	add_hops(r, dial, last);
	return s;
}

static struct dgram *
relay_packet(struct outbound *ob, const struct dial *dial)
{
	struct relay *r = (struct relay *)ob;
	struct dial d = *dial;
	int last = last_hop(&r->g, r->g.n_members - 1, dial->meta);
	struct dgram *s;

	if (dial->meta != NULL)
		group_touch(&r->g);
	make_hops(r);
	if (last < 0)
		return outbound_packet(pick(&r->g, dial->meta, true), &d);
	d = through_hops(r, dial, last);
	s = outbound_packet(r->g.members[last], &d);
	add_hops(r, dial, last);
	return s;
}

static const char *const keys[] = { NULL };

const struct group_type group_relay_type = {
	.ob = { .name = "relay", .api_name = "Relay", .flags = OB_TCP | OB_UDP | OB_GROUP, .size = sizeof(struct relay),
	    .keys = keys,
		.dial = relay_dial, .packet = relay_packet, .fini = group_fini, .pick = group_pick_ob, .udp = group_udp },
	.pick = pick,
};
