/* SPDX-License-Identifier: MIT */
/* GET /connections: every listed connection as a value map, keys in the reference's order (spec/api.md 3.6). */
#include "common/value.h"
#include "worker/core/conn.h"
#include "worker/query.h"

static const char *const dns_modes[] = { "normal", "fake-ip", "redir-host", "hosts" };

static void
key_ip(struct wire *w, const char *key, const struct ip *ip)
{
	char text[ADDR_TEXT_MAX];

	value_key_str(w, key, ip_text(ip, text));
}

static void
key_port(struct wire *w, const char *key, uint16_t port)
{
	char text[6], *p = text + sizeof text - 1;

	*p = '\0';
	do
		*--p = (char)('0' + port % 10);
	while ((port = (uint16_t)(port / 10)) != 0);
	value_key_str(w, key, p);
}

static void
show_meta(const struct conn *c, struct wire *w)
{
	const struct meta *m = &c->meta;
	char ip[ADDR_TEXT_MAX];

	value_map(w);
	value_key_str(w, "network", m->network == NET_UDP ? "udp" : "tcp");
	value_key_str(w, "type", meta_type_name(m->kind));
	key_ip(w, "sourceIP", &m->src_ip);
	key_ip(w, "destinationIP", &m->dst_ip);
	value_key_null(w, "sourceGeoIP");
	value_key_null(w, "destinationGeoIP");
	value_key_str(w, "sourceIPASN", "");
	value_key_str(w, "destinationIPASN", "");
	key_port(w, "sourcePort", m->src_port);
	key_port(w, "destinationPort", m->dst_port);
	key_ip(w, "inboundIP", &m->in_ip);
	key_port(w, "inboundPort", m->in_port);
	value_key_str(w, "inboundName", m->in_name);
	value_key_str(w, "inboundUser", m->in_user);
	value_key_str(w, "host", m->host);
	value_key_str(w, "dnsMode", dns_modes[m->dns_mode & 3]);
	value_key(w, "uid");
	value_uint(w, m->uid);
	value_key_str(w, "process", m->process);
	value_key_str(w, "processPath", m->process_path);
	value_key_str(w, "specialProxy", m->special_proxy);
	value_key_str(w, "specialRules", m->special_rules);
	value_key_str(w, "remoteDestination", c->remote_ip.family != 0 ? ip_text(&c->remote_ip, ip) : c->remote_host);
	value_key(w, "dscp");
	value_uint(w, m->dscp);
	value_key_str(w, "sniffHost", m->sniff_host);
	value_map_end(w);
}

static void
show(const struct conn *c, struct wire *w)
{
	const char *name;

	value_map(w);
	value_key(w, "id");
	value_uuid(w, c->id);
	value_key(w, "metadata");
	show_meta(c, w);
	value_key(w, "upload");
	value_uint(w, c->up);
	value_key(w, "download");
	value_uint(w, c->down);
	value_key(w, "start");
	value_time(w, c->start_ns);
	value_key(w, "chains");
	value_list(w);
	for (int i = 0; (name = conn_chain_name(c, i)) != NULL; i++)
		value_str(w, name);
	value_list_end(w);
	value_key(w, "providerChains");
	value_list(w);
	for (int i = 0; (name = conn_chain_name(c, i)) != NULL; i++)
		value_str(w, c->labels == NULL && i < c->chain.n ? c->chain.ob[i]->provider : "");
	value_list_end(w);
	value_key_str(w, "rule", conn_rule_type(c));
	value_key_str(w, "rulePayload", conn_rule_payload(c));
	value_map_end(w);
}

void
show_connections(struct worker *w, struct wire *out)
{
	value_list(out);
	list_each(n, &w->conns) {
		const struct conn *c = container_of(n, struct conn, link);

		if (c->listed && c->state != CONN_CLOSED)
			show(c, out);
	}
	value_list_end(out);
}
