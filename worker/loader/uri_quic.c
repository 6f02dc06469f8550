/* SPDX-License-Identifier: MIT */
/* hysteria://, hysteria2:// (hy2://) and tuic://. Facts: spec/config.md 9.1; ports may be a list in hysteria's authority
 * ("443,5000-6000"). */
#include <string.h>

#include "common/strutil.h"
#include "worker/loader/uri.h"

/* "443,5000-6000" in place of the port: the first number dials, the whole hops. */
static const char *
take_ports(struct url *u)
{
	const char *ports = u->port;

	if (strpbrk(ports, ",-") == NULL)
		return url_get(u, "mport");
	u->port = arena_strndup(u->a, ports, strcspn(ports, ",-"));
	return ports;
}

static bool
hysteria(struct links *out, const char *rest)
{
	struct url u;
	struct link *l;
	const char *ports, *up, *down;

	if (!url_split(&u, out->a, rest))
		return false;
	ports = take_ports(&u);
	if (!url_has_server(&u))
		return false;
	l = links_new(out, "hysteria", &u);
	up = url_get(&u, "up");
	down = url_get(&u, "down");
	link_some(l, "ports", ports);
	link_some(l, "sni", url_get(&u, "peer"));
	link_some(l, "obfs", url_get(&u, "obfs"));
	link_list(l, "alpn", url_get(&u, "alpn"));
	link_some(l, "auth_str", url_get(&u, "auth"));
	link_some(l, "protocol", url_get(&u, "protocol"));
	link_text(l, "up", up[0] != '\0' ? up : url_get(&u, "upmbps"));
	link_text(l, "down", down[0] != '\0' ? down : url_get(&u, "downmbps"));
	link_bool(l, "skip-cert-verify", text_true(url_get(&u, "insecure")));
	return true;
}

static bool
hysteria2(struct links *out, const char *rest)
{
	struct url u;
	struct link *l;
	const char *ports;

	if (!url_split(&u, out->a, rest))
		return false;
	ports = take_ports(&u);
	if (u.port[0] == '\0')
		u.port = "443";
	if (!url_has_server(&u))
		return false;
	l = links_new(out, "hysteria2", &u);
	link_some(l, "ports", ports);
	link_some(l, "password", u.userinfo);
	link_some(l, "obfs", url_get(&u, "obfs"));
	link_some(l, "obfs-password", url_get(&u, "obfs-password"));
	link_some(l, "sni", url_get(&u, "sni"));
	link_list(l, "alpn", url_get(&u, "alpn"));
	link_some(l, "fingerprint", url_get(&u, "pinSHA256"));
	link_some(l, "up", url_get(&u, "up"));
	link_some(l, "down", url_get(&u, "down"));
	link_bool(l, "skip-cert-verify", text_true(url_get(&u, "insecure")));
	return true;
}

/* uuid:password is version 5, a token alone version 4. */
static bool
tuic(struct links *out, const char *rest)
{
	struct url u;
	struct link *l;

	if (!url_split(&u, out->a, rest) || !url_has_server(&u) || !u.has_user)
		return false;
	l = links_new(out, "tuic", &u);
	if (u.has_pass) {
		link_text(l, "uuid", u.user);
		link_text(l, "password", u.pass);
	} else {
		link_text(l, "token", u.user);
	}
	link_some(l, "congestion-controller", url_get(&u, "congestion_control"));
	link_list(l, "alpn", url_get(&u, "alpn"));
	link_some(l, "sni", url_get(&u, "sni"));
	if (strcmp(url_get(&u, "disable_sni"), "1") == 0)
		link_bool(l, "disable-sni", true);
	link_some(l, "udp-relay-mode", url_get(&u, "udp_relay_mode"));
	if (text_true(url_get(&u, "allow_insecure")) || text_true(url_get(&u, "insecure")))
		link_bool(l, "skip-cert-verify", true);
	link_bool(l, "udp", true);
	return true;
}

const struct link_family uri_quic[] = { { "hysteria", hysteria }, { "hysteria2", hysteria2 }, { "hy2", hysteria2 },
	{ "tuic", tuic }, { NULL, NULL } };
