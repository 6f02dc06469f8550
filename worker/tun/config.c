/* SPDX-License-Identifier: MIT */
/* Checks of tun: (spec/config.md 6) and tuic-server: (2). Called by sections.c; owns nothing. Neither works yet: said once
 * when enabled. */
#include "worker/tun/config.h"

#include "worker/match/check.h"

static const struct check tun_keys[] = {
	{ "enable", CHECK_BOOL, true }, { "device", CHECK_STR, false }, { "stack", CHECK_STR, false },
	{ "dns-hijack", CHECK_STRS, false },
	{ "auto-route", CHECK_BOOL, false }, { "auto-detect-interface", CHECK_BOOL, false }, { "mtu", CHECK_UINT, false },
	{ "gso", CHECK_BOOL, false }, { "gso-max-size", CHECK_UINT, false }, { "inet4-address", CHECK_PREFIX_OR_LIST, false },
	{ "inet6-address", CHECK_PREFIX_OR_LIST, false }, { "iproute2-table-index", CHECK_INT, false },
	{ "iproute2-rule-index", CHECK_INT, false },
	{ "auto-redirect", CHECK_BOOL, false }, { "auto-redirect-input-mark", CHECK_UINT, false },
	{ "auto-redirect-output-mark", CHECK_UINT, false },
	{ "auto-redirect-iproute2-fallback-rule-index", CHECK_INT, false }, { "strict-route", CHECK_BOOL, false },
	{ "route-address", CHECK_PREFIXES, false }, { "route-address-set", CHECK_STRS, false },
	{ "route-exclude-address", CHECK_PREFIXES, false },
	{ "route-exclude-address-set", CHECK_STRS, false }, { "include-interface", CHECK_STRS, false },
	{ "exclude-interface", CHECK_STRS, false },
	{ "include-uid", CHECK_UINTS, false }, { "include-uid-range", CHECK_STRS, false }, { "exclude-uid", CHECK_UINTS, false },
	{ "exclude-uid-range", CHECK_STRS, false }, { "exclude-src-port", CHECK_UINTS, false },
	{ "exclude-src-port-range", CHECK_STRS, false },
	{ "exclude-dst-port", CHECK_UINTS, false }, { "exclude-dst-port-range", CHECK_STRS, false },
	{ "include-mac-address", CHECK_STRS, false },
	{ "exclude-mac-address", CHECK_STRS, false }, { "include-android-user", CHECK_UINTS, false },
	{ "include-package", CHECK_STRS, false },
	{ "exclude-package", CHECK_STRS, false }, { "endpoint-independent-nat", CHECK_BOOL, false },
	{ "udp-timeout", CHECK_INT, false },
	{ "icmp-timeout", CHECK_INT, false }, { "disable-icmp-forwarding", CHECK_BOOL, false },
	{ "loopback-address", CHECK_ANY, false },
	{ "recvmsgx", CHECK_BOOL, false }, { "sendmsgx", CHECK_BOOL, false }, { "file-descriptor", CHECK_INT, false },
	{ "inet4-route-address", CHECK_PREFIXES, false }, { "inet6-route-address", CHECK_PREFIXES, false },
	{ "inet4-route-exclude-address", CHECK_PREFIXES, false }, { "inet6-route-exclude-address", CHECK_PREFIXES, false },
	{ NULL, CHECK_ANY, false }
};
static const struct check tuic_keys[] = {
	{ "enable", CHECK_BOOL, true }, { "listen", CHECK_STR, false }, { "token", CHECK_STRS, false },
	{ "users", CHECK_MAP, false },
	{ "certificate", CHECK_STR, false }, { "private-key", CHECK_STR, false }, { "congestion-controller", CHECK_STR, false },
	{ "max-idle-time", CHECK_INT, false }, { "authentication-timeout", CHECK_INT, false }, { "alpn", CHECK_STRS, false },
	{ "max-udp-relay-packet-size", CHECK_INT, false }, { "max-datagram-frame-size", CHECK_INT, false },
	{ "cwnd", CHECK_INT, false },
	{ "mux-option", CHECK_MAP, false }, { NULL, CHECK_ANY, false }
};

int
tun_check(const struct cfg_node *root, struct cfg_err *err)
{
	static const char *const stacks[] = { "gvisor", "system", "mixed", NULL };
	const struct cfg_node *n = cfg_get(root, "tun");
	int stack = 0;

	if (cfg_enum(cfg_get(n, "stack"), "tun.stack", stacks, "invalid tun stack", &stack, err) != 0)
		return -E_INVAL;
	return check_section(n, "tun", tun_keys, err);
}

int
tuic_server_check(const struct cfg_node *root, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(root, "tuic-server"), *users = cfg_get(n, "users");
	int rc = check_section(n, "tuic-server", tuic_keys, err);

	cfg_each(c, users)
		if (rc == 0)
			rc = check_value(c, "tuic-server.users", CHECK_STR, err);
	return rc;
}
