/* SPDX-License-Identifier: MIT */
/* What is known of a connection before and while it is routed: what rules match on and what GET /connections shows
 * (spec/api.md 3.6). */
#ifndef SLUICE_WORKER_META_H
#define SLUICE_WORKER_META_H

#include <stdint.h>

#include "common/addr.h"

enum network { NET_TCP, NET_UDP };

/* Kinds of inbound as IN-TYPE and metadata.type name them; names in meta.c (meta_type_name). */
enum in_kind { IN_HTTP, IN_HTTPS, IN_SOCKS4, IN_SOCKS5, IN_SHADOWSOCKS, IN_VMESS, IN_VLESS, IN_REDIR, IN_TPROXY, IN_TUNNEL, IN_TUN, IN_TUIC,
	IN_HYSTERIA2, IN_TROJAN, IN_ANYTLS, IN_MIERU, IN_INNER, IN_KINDS_ };

enum dns_mode { DNS_NORMAL, DNS_FAKE_IP, DNS_REDIR_HOST, DNS_HOSTS };

struct meta {			/* strings are owned by the conn (host, user, sniff_host, process, ...) or live as long as the generation */
	uint8_t network, kind, dns_mode, dscp;
	uint16_t src_port, dst_port, in_port;
	struct ip src_ip, dst_ip, in_ip;
	const char *host;		/* asked for, lower case, no trailing dot; "" for address targets; never NULL */
	const char *sniff_host;		/* "" */
	const char *in_name;		/* DEFAULT-MIXED or the listener's name */
	const char *in_user;		/* "" */
	const char *process, *process_path;	/* "" */
	const char *special_proxy;	/* listeners[].proxy, tunnels' proxy: skips the rules; "" */
	const char *special_rules;	/* listeners[].rule: a sub-rules name; "" */
	uint32_t uid;
};

const char *meta_type_name(enum in_kind kind);		/* "HTTP", "HTTPS", "Socks5", ... */
void meta_init(struct meta *m);				/* zero, with "" for every string */

#endif
