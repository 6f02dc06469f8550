/* SPDX-License-Identifier: MIT */
/* proxies: what is accepted, what is refused and with which words, and what the API will show of a node. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "common/log.h"
#include "common/strutil.h"
#include "tests/unit/outbound_kit.h"

static void
takes(const char *yaml)
{
	struct kit k;

	if (kit_load(&k, yaml) != 0)
		fail_msg("refused: %s: %s", yaml, k.err.text);
	kit_free(&k);
}

static void
refuse(const char *yaml, const char *why)
{
	struct kit k;

	if (kit_load(&k, yaml) == 0)
		fail_msg("accepted: %s", yaml);
	if (strcmp(k.err.text, why) != 0)
		fail_msg("%s: \"%s\" instead of \"%s\"", yaml, k.err.text, why);
	kit_free(&k);
}

static void
test_parse_reference_texts(void **state)
{
	(void)state;
	takes("proxies: [{name: a, type: socks5, server: h, port: 1}, {name: b, type: http, server: h, port: 2}]");
	refuse("proxies: [{type: socks5, server: h, port: 1}]", "proxy 0: key 'name' missing");
	refuse("proxies: [{name: a, server: h, port: 1}]", "proxy 0: missing type");
	refuse("proxies: [{name: a, type: nope, server: h, port: 1}]", "proxy 0: unsupport proxy type: nope");
	refuse("proxies: [{name: a, type: PASS}]", "proxy 0: unsupport proxy type: PASS");
	refuse("proxies: [{name: a, type: socks5, port: 1}]", "proxy 0: key 'server' missing");
	refuse("proxies: [{name: a, type: socks5, server: h}]", "proxy 0: key 'port' missing");
	refuse("proxies: [{name: a, type: socks5, server: h, port: 1}, {name: a, type: http, server: h, port: 1}]",
	    "proxy a is the duplicate name");
	refuse("proxies: [{name: DIRECT, type: socks5, server: h, port: 1}]", "proxy DIRECT is the duplicate name");
	refuse("proxies: [{name: b, type: direct}, {name: a, type: socks5, server: h, port: x}]",
	    "proxy 1: cannot parse 'port' as int: strconv.ParseInt: parsing \"x\": invalid syntax");
	takes("proxies: [{name: a, type: socks5, server: 1.2.3.4, port: '1', udp: 1}]");
	takes("proxies:\n");
}

static void
test_parse_ss(void **state)
{
	(void)state;
	takes("proxies: [{name: a, type: ss, server: h, port: 1, cipher: aes-128-gcm, password: p}]");
	takes("proxies: [{name: a, type: ss, server: h, port: 1, cipher: none, password: ''}]");
	takes("proxies: [{name: a, type: ss, server: h, port: 1, cipher: 2022-blake3-aes-128-gcm, password: MDEyMzQ1Njc4OWFiY2RlZg==}]");
	takes("proxies: [{name: a, type: ss, server: h, port: 1, cipher: 2022-blake3-aes-128-gcm, "
	    "password: 'MDEyMzQ1Njc4OWFiY2RlZg==:MDEyMzQ1Njc4OWFiY2RlZg=='}]");
	refuse("proxies: [{name: a, type: ss, server: h, port: 1, cipher: rot13, password: p}]",
	    "proxy 0: ss h:1 initialize error: unknown method: rot13");
	refuse("proxies: [{name: a, type: ss, server: h, port: 1, cipher: aes-128-gcm}]", "proxy 0: key 'password' missing");
	refuse("proxies: [{name: a, type: ss, server: h, port: 1, cipher: aes-128-gcm, password: ''}]",
	    "proxy 0: ss h:1 initialize error: missing password");
	refuse("proxies: [{name: a, type: ss, server: h, port: 1, cipher: 2022-blake3-aes-128-gcm, password: p}]",
	    "proxy 0: ss h:1 initialize error: decode psk: illegal base64 data");
	refuse("proxies: [{name: a, type: ss, server: h, port: 1, cipher: 2022-blake3-aes-256-gcm, password: MDEyMzQ1Njc4OWFiY2RlZg==}]",
	    "proxy 0: ss h:1 initialize error: bad key length for 2022-blake3-aes-256-gcm");
}

static void
test_parse_unspoken(void **state)
{
	const char *id = "b831381d-6324-4d53-ad4f-8cda48b30811";
	char text[512];

	(void)state;
	takes("proxies: [{name: a, type: vmess, server: h, port: 1, uuid: hello, alterId: 0, cipher: auto}]");
	takes("proxies: [{name: a, type: trojan, server: h, port: 1, password: p}]");
	takes("proxies: [{name: a, type: dns}, {name: b, type: tailscale}, {name: c, type: rematch}]");
	takes("proxies: [{name: a, type: hysteria2, server: h, ports: 1-3, password: p}]");
	refuse("proxies: [{name: a, type: trojan, server: h, port: 1}]", "proxy 0: key 'password' missing");
	refuse("proxies: [{name: a, type: hysteria2, server: h, password: p}]", "proxy 0: key 'port' missing");
	refuse("proxies: [{name: a, type: tuic, server: h, port: 1, uuid: x, password: p}]",
	    "proxy 0: uuid: incorrect UUID format");
	(void)snprintf(text, sizeof(text),
	    "proxies: [{name: a, type: vmess, server: h, port: 1, uuid: %s, alterId: 0, cipher: nope}]", id);
	refuse(text, "proxy 0: vmess: unknown security type: nope");
	(void)snprintf(text, sizeof(text), "proxies: [{name: a, type: vless, server: h, port: 1, uuid: %s, flow: nope}]", id);
	takes(text);
	(void)snprintf(text, sizeof(text),
	    "proxies: [{name: a, type: vless, server: h, port: 1, uuid: %s, flow: xtls-rprx-origins}]", id);
	refuse(text, "proxy 0: unsupported xtls flow type: xtls-rprx-origins");
}

static unsigned
flags_of(struct kit *k, const char *name)
{
	return kit_find(k, name)->flags & (OB_UDP | OB_UOT | OB_XUDP);
}

/* The capabilities that golden-api shows for the same nodes. */
static void
test_parse_flags(void **state)
{
	struct kit k;

	(void)state;
	assert_int_equal(kit_load(&k,
	    "proxies:\n"
	    "  - {name: up, type: socks5, server: 127.0.0.1, port: 28084}\n"
	    "  - {name: jp, type: socks5, server: 127.0.0.1, port: 28084, udp: true}\n"
	    "  - {name: up2, type: http, server: 127.0.0.1, port: 28085, udp: true}\n"
	    "  - {name: ss, type: ss, server: 127.0.0.1, port: 28388, cipher: aes-128-gcm, password: pw, udp: true}\n"
	    "  - {name: tj, type: trojan, server: 127.0.0.1, port: 28443, password: pw}\n"
	    "  - {name: vm, type: vmess, server: 127.0.0.1, port: 28444, uuid: x, alterId: 0, cipher: auto}\n"
	    "  - {name: vx, type: vmess, server: 127.0.0.1, port: 28444, uuid: x, alterId: 0, cipher: auto, udp: true, xudp: true}\n"
	    "  - {name: vl, type: vless, server: 127.0.0.1, port: 28445, uuid: x, udp: true}\n"
	    "  - {name: hy, type: hysteria2, server: 127.0.0.1, port: 28445}\n"), 0);
	assert_int_equal(flags_of(&k, "up"), 0);
	assert_int_equal(flags_of(&k, "jp"), OB_UDP);
	assert_int_equal(flags_of(&k, "up2"), 0);
	assert_int_equal(flags_of(&k, "ss"), OB_UDP);
	assert_int_equal(flags_of(&k, "tj"), OB_UOT);
	assert_int_equal(flags_of(&k, "vm"), OB_UOT);
	assert_int_equal(flags_of(&k, "vx"), OB_UDP | OB_UOT | OB_XUDP);
	assert_int_equal(flags_of(&k, "vl"), OB_UDP | OB_UOT | OB_XUDP);
	assert_int_equal(flags_of(&k, "hy"), OB_UDP);
	assert_int_equal(flags_of(&k, "REJECT"), OB_UDP);
	assert_string_equal(kit_find(&k, "tj")->type->api_name, "Trojan");
	assert_true(kit_find(&k, "up")->history.alive);
	assert_false(kit_find(&k, "vl")->history.alive);
	assert_int_equal(kit_find(&k, "vl")->index, 7);
	assert_int_equal(kit_find(&k, "DIRECT")->index, -1);
	assert_memory_not_equal(kit_find(&k, "vl")->id, kit_find(&k, "vm")->id, 16);
	kit_free(&k);
}

static void
test_parse_common_keys(void **state)
{
	struct kit k;
	struct outbound *ob;

	(void)state;
	assert_int_equal(kit_load(&k,
	    "proxies: [{name: a, type: socks5, server: '::1', port: 65535, ip_version: ipv6-prefer, interface-name: lo, "
	    "tfo: true, mptcp: true, routing-mark: 7, dialer-proxy: DIRECT}]"), 0);
	ob = kit_find(&k, "a");
	assert_int_equal(ob->port, 65535);
	assert_int_equal(ob->ip_version, IPV_6_PREFER);
	assert_string_equal(ob->tcp.iface, "lo");
	assert_int_equal(ob->tcp.mark, 7);
	assert_true(ob->tcp.tfo && ob->tcp.mptcp);
	assert_ptr_equal(ob->dialer, k.g.direct);
	kit_free(&k);
	refuse("proxies: [{name: a, type: socks5, server: h, port: 65536}]", "proxy 0: line 1: port: 65536 is not in 0..65535");
	refuse("proxies: [{name: a, type: socks5, server: h, port: 1, interface-name: abcdefghijklmnop}]",
	    "proxy 0: interface-name abcdefghijklmnop is longer than 15 bytes");
}

static void
test_parse_dialer_proxy(void **state)
{
	(void)state;
	refuse("proxies: [{name: a, type: socks5, server: h, port: 1, dialer-proxy: zz}]",
	    "proxy a: dialer-proxy 'zz' not found");
	refuse("proxies: [{name: a, type: socks5, server: h, port: 1, dialer-proxy: b}, {name: b, type: socks5, server: h, port: 1, dialer-proxy: a}]",
	    "proxy a: dialer-proxy leads back to itself or through more than 8 nodes");
	/* through a group it depends on the choice */
	takes("proxies: [{name: a, type: socks5, server: h, port: 1, dialer-proxy: g}, {name: b, type: socks5, server: h, port: 1}]\n"
	    "proxy-groups: [{name: g, type: select, proxies: [b, a]}]\n");
}

static void
test_parse_tls_and_headers(void **state)
{
	(void)state;
	takes("proxies: [{name: a, type: http, server: h, port: 1, tls: true, sni: x, headers: {X-A: b, Host: c}}]");
	refuse("proxies: [{name: a, type: http, server: h, port: 1, headers: {X-A: \"b\\r\\nEvil: 1\"}}]",
	    "proxy 0: 'headers' has a field that HTTP cannot carry: X-A");
	refuse("proxies: [{name: a, type: http, server: h, port: 1, headers: {\"X A\": b}}]",
	    "proxy 0: 'headers' has a field that HTTP cannot carry: X A");
	refuse("proxies: [{name: a, type: socks5, server: h, port: 1, fingerprint: 'AB:CD'}]",
	    "proxy 0: fingerprint string length error,need sha256 fingerprint");
}

static void
test_record_history_and_extra(void **state)
{
	struct kit k;
	struct outbound *ob;
	char url[64];
	int n = 0;

	(void)state;
	assert_int_equal(kit_load(&k, "proxies: [{name: a, type: direct}]"), 0);
	ob = kit_find(&k, "a");
	assert_int_equal(outbound_last_delay(ob, "http://u/"), 65535);
	for (int i = 1; i <= HISTORY_MAX + 2; i++)
		outbound_record(ob, "http://u/", (uint16_t)i, true, i);
	assert_int_equal(ob->history.n, HISTORY_MAX);
	assert_int_equal(ob->history.e[ob->history.first].ms, 3);
	assert_int_equal(outbound_last_delay(ob, "http://u/"), HISTORY_MAX + 2);
	/* an unexpected status counts against its URL only */
	outbound_record(ob, "http://v/", 50, false, 99);
	assert_false(outbound_alive(ob, "http://v/"));
	assert_int_equal(outbound_last_delay(ob, "http://v/"), 65535);
	assert_true(outbound_alive(ob, "http://never-tested/"));
	outbound_record(ob, "http://u/", 0, false, 100);
	assert_false(outbound_alive(ob, "http://u/"));
	assert_false(outbound_alive(ob, "http://never-tested/"));
	/* the table of URLs is bounded, the least recently tested goes */
	for (int i = 0; i < EXTRA_MAX - 1; i++) {
		(void)snprintf(url, sizeof(url), "http://%d/", i);
		outbound_record(ob, url, 1, true, 1);
	}
	outbound_record(ob, "nonsense", 0, false, 1);
	for (const struct delay_extra *x = ob->extra; x != NULL; x = x->next) {
		assert_string_not_equal(x->url, "http://v/");
		assert_string_not_equal(x->url, "nonsense");
		n++;
	}
	assert_int_equal(n, EXTRA_MAX);
	kit_free(&k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_reference_texts), cmocka_unit_test(test_parse_ss),
		    cmocka_unit_test(test_parse_unspoken),
		cmocka_unit_test(test_parse_flags), cmocka_unit_test(test_parse_common_keys),
		    cmocka_unit_test(test_parse_dialer_proxy),
		cmocka_unit_test(test_parse_tls_and_headers), cmocka_unit_test(test_record_history_and_extra),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
