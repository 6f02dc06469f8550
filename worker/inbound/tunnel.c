/* SPDX-License-Identifier: MIT */
/* Inbound tunnel: a TCP and UDP port whose traffic goes to one target (spec/config.md 7, spec/protocols.md 3.2). Made by
 * parse.c from tunnels: and from listeners: items; called by listen.c. */
#include "worker/inbound/tunnel.h"

#include <string.h>

#include "common/strutil.h"

struct tunnel {
	struct inbound inb;
	struct target to;	/* host in the arena, or ip */
};

static struct tunnel *
tunnel_of(struct inbound *inb)
{
	return container_of(inb, struct tunnel, inb);
}

int
tunnel_set_target(struct inbound *inb, const char *target)
{
	struct tunnel *t = tunnel_of(inb);
	char host[HOST_MAX + 1];
	uint16_t port;

	if (hostport_parse(target, host, sizeof(host), &port) != 0 || host[0] == '\0')
		return -E_INVAL;
	t->to = (struct target){ .port = port };
	if (ip_parse(&t->to.ip, host) != 0) {
		t->to.ip.family = 0;
		t->to.host = arena_strdup(&inb->w->gen->arena, host);
	}
	return 0;
}

/* network: one name or a list of them. */
static int
parse_network(struct inbound *inb, const struct cfg_node *node, struct cfg_err *err)
{
	const struct cfg_node *list = cfg_get(node, "network");
	const char *s = cfg_text(list);
	bool tcp = false, udp = false;

	if (cfg_is_null(list))
		return 0;
	if (s != NULL && *s != '\0') {
		tcp = str_case_equal(s, "tcp") || str_case_equal(s, "tcp/udp");
		udp = str_case_equal(s, "udp") || str_case_equal(s, "tcp/udp");
		if (!tcp && !udp)
			return cfg_fail(err, list, "network", "invalid tunnel network %s", s);
	}
	cfg_each(item, list) {
		const char *name = cfg_text(item);

		if (str_case_equal(name, "tcp"))
			tcp = true;
		else if (str_case_equal(name, "udp"))
			udp = true;
		else
			return cfg_fail(err, item, "network", "invalid tunnel network %s", name != NULL ? name : "");
	}
	inb->no_stream = !tcp;
	inb->udp = udp;
	return 0;
}

static int
tunnel_init(struct inbound *inb, const struct cfg_node *node, struct cfg_err *err)
{
	const char *target = "";

	inb->udp = true;
	if (node == NULL)
		return 0;
	if (cfgw_str_required(node, "target", &target, err) != 0 || parse_network(inb, node, err) != 0)
		return -E_INVAL;
	if (tunnel_set_target(inb, target) != 0)
		return cfg_fail(err, cfg_get(node, "target"), "target", "invalid tunnel target or address %s", target);
	return 0;
}

static void
tunnel_accept(struct inbound *inb, struct conn *c)
{
	const struct target *to = &tunnel_of(inb)->to;

	c->meta.kind = IN_TUNNEL;
	c->meta.dst_port = to->port;
	c->meta.dst_ip = to->ip;
	if (to->host != NULL && conn_set_host(c, to->host, strlen(to->host)) != 0) {
		conn_close(c, BY_LIMIT);
		return;
	}
	conn_dispatch(c);
}

static void
tunnel_packet(struct inbound *inb, struct udp_port *port, const union sockaddr_any *client, const struct ip *local, const uint8_t *p, size_t n)
{
	udp_input(port, client, local, &tunnel_of(inb)->to, IN_TUNNEL, NULL, p, n);
}

static const char *const tunnel_keys[] = { "network", "target", NULL };
const struct inbound_type inbound_tunnel = {
	.name = "tunnel", .api_name = "Tunnel", .needs = IN_STREAM | IN_DGRAM, .size = sizeof(struct tunnel), .keys = tunnel_keys,
	.init = tunnel_init, .accept = tunnel_accept, .packet = tunnel_packet
};
