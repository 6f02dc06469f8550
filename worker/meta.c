/* SPDX-License-Identifier: MIT */
/* Names and defaults of the metadata of a connection; used by rules, logs and GET /connections (spec/api.md 3.6 lists the
 * names). */
#include "worker/meta.h"

static const char *const names[IN_KINDS_] = {
	[IN_HTTP] = "HTTP",
	[IN_HTTPS] = "HTTPS",
	[IN_SOCKS4] = "Socks4",
	[IN_SOCKS5] = "Socks5",
	[IN_SHADOWSOCKS] = "ShadowSocks",
	[IN_VMESS] = "Vmess",
	[IN_VLESS] = "Vless",
	[IN_REDIR] = "Redir",
	[IN_TPROXY] = "TProxy",
	[IN_TUNNEL] = "Tunnel",
	[IN_TUN] = "Tun",
	[IN_TUIC] = "Tuic",
	[IN_HYSTERIA2] = "Hysteria2",
	[IN_TROJAN] = "Trojan",
	[IN_ANYTLS] = "AnyTLS",
	[IN_MIERU] = "Mieru",
	[IN_INNER] = "Inner",
};

const char *
meta_type_name(enum in_kind kind)
{
	return (unsigned)kind < IN_KINDS_ ? names[kind] : "Unknown";
}

void
meta_init(struct meta *m)
{
	*m = (struct meta){ .host = "", .sniff_host = "", .in_name = "", .in_user = "", .process = "", .process_path = "",
		.special_proxy = "", .special_rules = "" };
}
