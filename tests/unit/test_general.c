/* SPDX-License-Identifier: MIT */
/* Unit tests of worker/general.c, general_show.c, patch.c and of the checks behind sections.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "common/strutil.h"
#include "common/value.h"
#include "tests/unit/gen_kit.h"
#include "worker/general_show.h"
#include "worker/patch.h"
#include "worker/sections.h"

static int
parse(struct kit *k, const char *yaml)
{
	int rc;

	assert_int_equal(kit_open(k, yaml), 0);
	rc = general_parse(&k->gen, k->gen.root, &k->err);
	if (rc == 0)
		rc = sections_proxy_providers(&k->gen, k->gen.root, &k->err);
	if (rc == 0)
		rc = sections_rule_providers(&k->gen, k->gen.root, &k->err);
	if (rc == 0)
		rc = sections_parse(&k->gen, k->gen.root, &k->err);
	return rc;
}

static void
refuses(const char *yaml, const char *why)
{
	struct kit k;

	if (parse(&k, yaml) == 0)
		fail_msg("%s is taken", yaml);
	assert_string_equal(k.err.text, why);
	kit_close(&k);
}

static void
takes(const char *yaml)
{
	struct kit k;

	if (parse(&k, yaml) != 0)
		fail_msg("%s: %s", yaml, k.err.text);
	kit_close(&k);
}

/* Takes it, with this in the log; NULL: with nothing in it. */
static void
warns(const char *yaml, const char *text)
{
	kit_log[0] = '\0';
	log_set_sink(kit_sink);
	takes(yaml);
	log_set_sink(NULL);
	if (text == NULL ? kit_log[0] != '\0' : strstr(kit_log, text) == NULL)
		fail_msg("%s logs: %s", yaml, kit_log);
}

static void
test_general_parse_values(void **state)
{
	struct kit k;
	const struct general *o = &k.gen.general;

	(void)state;
	assert_int_equal(parse(&k, "mixed-port: 7890\nmode: Global\nlog-level: DEBUG\nallow-lan: yes\nbind-address: 1.2.3.4\n"
	    "ipv6: false\n"
	    "lan-allowed-ips: [10.0.0.0/8]\nskip-auth-prefixes: ['127.0.0.1/8', '::1/128']\nauthentication: ['u:p:q', nocolon]\n"
	    "interface-name: lo\n"
	    "find-process-mode: 'off'\nprofile: {store-selected: false}\ngeox-url: {geoip: 'http://x'}\nkeep-alive-interval: 30\n"
	    "sniffer: {enable: true}\n"), 0);
	assert_int_equal(o->mixed_port, 7890);
	assert_int_equal(o->mode, MODE_GLOBAL);
	assert_int_equal(o->log_level, LL_DEBUG);
	assert_true(o->allow_lan);
	assert_string_equal(o->bind_address, "1.2.3.4");
	assert_false(o->ipv6);
	assert_int_equal(o->lan_allowed.n, 1);
	assert_false(o->lan_disallowed.set);
	assert_int_equal(o->skip_auth.n, 2);
	assert_int_equal(o->n_auth, 1);
	assert_string_equal(o->auth_users[0], "u:p:q");
	assert_string_equal(o->interface_name, "lo");
	assert_int_equal(o->find_process, FIND_OFF);
	assert_false(o->store_selected);
	assert_string_equal(o->geox_geoip, "http://x");
	assert_int_equal(o->keep_alive_interval, 30);
	assert_true(o->sniffing);
	kit_close(&k);
}

static void
test_general_parse_defaults(void **state)
{
	struct kit k;
	const struct general *o = &k.gen.general;

	(void)state;
	assert_int_equal(parse(&k, "x: 1\nauthentication:\nmode:\nport:\nlan-disallowed-ips:\n"), 0);
	assert_int_equal(o->mode, MODE_RULE);
	assert_int_equal(o->log_level, LL_INFO);
	assert_string_equal(o->bind_address, "*");
	assert_int_equal(o->lan_allowed.n, 2);
	assert_true(o->lan_allowed.set && !o->lan_disallowed.set && o->ipv6 && o->etag_support && o->store_selected);
	assert_int_equal(o->find_process, FIND_STRICT);
	assert_int_equal(o->geo_update_interval, 24);
	kit_close(&k);
	/* an emptied list allows nobody, as in the reference */
	assert_int_equal(parse(&k, "lan-allowed-ips:\n"), 0);
	assert_true(o->lan_allowed.set && o->lan_allowed.n == 0);
	kit_close(&k);
}

static void
test_general_parse_errors(void **state)
{
	(void)state;
	refuses("mode: sideways\n", "invalid mode");
	refuses("log-level: warn\n", "invalid mode");
	refuses("find-process-mode: never\n", "invalid find process mode");
	refuses("mixed-port: abc\n", "line 1: cannot unmarshal !!str `abc` into int");
	refuses("mixed-port: '7890'\n", "line 1: cannot unmarshal !!str `7890` into int");
	refuses("allow-lan: maybe\n", "line 1: cannot unmarshal !!str `maybe` into bool");
	refuses("allow-lan: maybe\nmode: x\n", "invalid mode");	/* enums win */
	refuses("skip-auth-prefixes: ['x']\n", "netip.ParsePrefix(\"x\"): no '/'");
	refuses("lan-allowed-ips: ['300.0.0.0/8']\n",
	    "netip.ParsePrefix(\"300.0.0.0/8\"): ParseAddr(\"300.0.0.0\"): unable to parse IP");
	refuses("lan-allowed-ips: 10.0.0.0/8\n", "line 1: cannot unmarshal !!str `10.0.0.0/8` into []netip.Prefix");
	refuses("authentication: a:b\n", "line 1: cannot unmarshal !!str `a:b` into []string");
	refuses("external-controller: [1]\n", "line 1: cannot unmarshal !!seq into string");
	refuses("tls: {certificate: {a: 1}}\n", "line 1: cannot unmarshal !!map into string");
	refuses("ntp: 5\n", "line 1: cannot unmarshal !!int `5` into map[string]interface {}");
	refuses("iptables: {enable: x}\n", "line 1: cannot unmarshal !!str `x` into bool");
	refuses("profile: [a]\n", "line 1: cannot unmarshal !!seq into map[string]interface {}");
	takes("secret: 123456\n");
	takes("port: 70000\n");			/* the reference only logs it */
}

static void
test_general_parse_warnings(void **state)
{
	(void)state;
	warns("mixed-prt: 1\n", "unknown key mixed-prt is ignored, did you mean mixed-port?");
	warns("port: 70000\n", "port: 70000 is no port");
	warns("authentication: [nocolon]\n", "authentication: 1 entries without ':' are ignored");
	warns("redir-port: 1\n", "redir-port does not work yet");
	warns("routing-mark: 1\n", "routing-mark does not work yet");
	warns("tun: {enable: true}\n", "tun.enable does not work yet");
	warns("sniffer: {enable: true}\n", "sniffer.enable does not work yet");
	warns("ntp: {enable: true}\n", "ntp.enable does not work yet");
	warns("iptables: {enable: true}\n", "iptables.enable does not work yet");
	warns("tuic-server: {enable: true}\n", "tuic-server.enable does not work yet");
	warns("ss-config: x\n", "ss-config does not work yet");
	warns("tun: {enabel: true}\n", "tun: unknown key enabel is ignored, did you mean enable?");
	warns("mixed-port: 1\nredir-port: 0\nrouting-mark: 0\ntun: {enable: false}\nsniffer: {enable: false}\n"
	    "ntp: {enable: false}\n"
	    "geo-auto-update: false\nss-config: ''\nfind-process-mode: always\ngeox-url: {geoip: x}\nrules: []\nsluice: {}\n"
	    "external-controller-cors: {allow-origins: ['*']}\nexperimental: {quic-go-disable-ecn: true}\n", NULL);
}

/* Which are accepted is the reference's recording. */
static void
test_sections_parse_cases(void **state)
{
	(void)state;
	refuses("tun: {enable: false, stack: nope}\n", "invalid tun stack");
	takes("tun: {enable: true, stack: gVisor, inet6-address: 'fdfe::1/126', route-address: [0.0.0.0/1], include-uid: [0]}\n");
	refuses("tun: {route-address: [x]}\n", "netip.ParsePrefix(\"x\"): no '/'");
	takes("sniffer: {enable: true, sniff: {HTTP: {ports: [80, 8080-8880]}, tls: {ports: [443]}, QUIC: {}}, skip-domain: ['+.x.test']}\n");
	refuses("sniffer: {enable: true, sniff: {NOPE: {}}}\n", "not find the sniffer[NOPE]");
	refuses("sniffer: {enable: true, sniff: {HTTP: {ports: [abc]}}}\n", "intRanges error");
	refuses("sniffer: {sniffing: [nope]}\n", "not find the sniffer[nope]");
	refuses("sniffer: {skip-domain: ['a..b']}\n", "error in skip-domain, error:invalid domain");
	refuses("sniffer: {force-domain: ['rule-set:zz']}\n", "error in force-domain, error:not found rule-set: zz");
	refuses("sniffer: {skip-src-address: [1.1.1.1]}\n",
	    "error in skip-src-address, error:netip.ParsePrefix(\"1.1.1.1\"): no '/'");
	refuses("rule-providers: {d: {type: inline, behavior: domain}}\nsniffer: {skip-dst-address: ['rule-set:d']}\n",
	    "error in skip-dst-address, error:rule provider type error, except ipcidr,actual Domain");
	refuses("tuic-server: {max-idle-time: x}\n", "line 1: cannot unmarshal !!str `x` into int");
}

static void
test_sections_providers_cases(void **state)
{
	(void)state;
	refuses("proxy-providers: {p: {type: nope, path: ./x.yaml}}\n",
	    "parse proxy provider p error: unsupport vehicle type: nope");
	refuses("proxy-providers: {p: {path: ./x.yaml}}\n", "parse proxy provider p error: key 'type' missing");
	refuses("proxy-providers: {p: ~}\n", "parse proxy provider p error: key 'type' missing");
	refuses("proxy-providers: {p: {type: file, path: /etc/passwd}}\n",
	    "parse proxy provider p error: path is not subpath of home directory or SAFE_PATHS: /etc/passwd");
	refuses("proxy-providers: {p: {type: file, path: a/../../x}}\n",
	    "parse proxy provider p error: path is not subpath of home directory or SAFE_PATHS: a/../../x");
	refuses("proxy-providers: {p: {type: inline, payload: []}}\n",
	    "parse proxy provider p error: file doesn't have any proxy");
	refuses("proxy-providers: {p: {type: inline, payload: [{name: q}]}}\n",
	    "parse proxy provider p error: proxy 0 error: key 'type' missing");
	refuses("proxy-providers: {default: {type: inline}}\n", "can not defined a provider called `default`");
	refuses("proxy-providers: {p: {type: http, url: x, filter: 'a`('}}\n",
	    "parse proxy provider p error: invalid filter regex: missing closing parenthesis at 1");
	refuses("proxy-providers: {p: {type: http, health-check: {expected-status: x}}}\n",
	    "parse proxy provider p error: intRanges error");
	takes("proxy-providers: {p: {type: inline, payload: [{name: q, type: socks5, server: h, port: 1}]}}\n");
	takes("proxy-providers: {p: {type: http, url: 'http://x', interval: '3600', path: ./a/../b.yaml, health-check: {enable: true, url: u, interval: 300}}}\n");
	refuses("rule-providers: {r: {type: inline, behavior: nope, payload: []}}\n", "unsupported behavior type: nope");
	refuses("rule-providers: {r: {type: file, behavior: domain, format: nope, path: ./x}}\n",
	    "unsupported format type: nope");
	refuses("rule-providers: {r: {type: nope, behavior: domain}}\n", "unsupported vehicle type: nope");
	refuses("rule-providers: {r: {type: file}}\n", "key 'behavior' missing");
	refuses("rule-providers: {r: {type: file, behavior: domain, path: ../x.yaml}}\n",
	    "path is not subpath of home directory or SAFE_PATHS: ../x.yaml");
	takes("rule-providers: {r: {type: file, behavior: domain, path: ./x.yaml}}\n");
	takes("rule-providers: {r: {type: http, url: 'http://x', behavior: domain, interval: -1, size-limit: '-1', proxy: p, header: {A: [b]}}}\n");
}

/* ---- GET /configs */

/* All values as text: {key:value,...}, to compare whole objects. */
static void
render(struct wire *w, char *out, size_t cap)
{
	struct value_reader r;
	struct value v;
	struct wire in;
	size_t n = 0;

	wire_read(&in, w->p, w->len);
	value_reader_init(&r, &in);
	out[0] = '\0';
	while (value_next(&r, &v) == 0) {
		if (v.tag == V_END) {
			n += (size_t)snprintf(out + n, cap - n, "%s", r.depth >= 0 ? ";" : "");
			continue;
		}
		if (v.key != NULL)
			n += (size_t)snprintf(out + n, cap - n, "%.*s=", (int)v.key_len, v.key);
		if (v.tag == V_STR)
			n += (size_t)snprintf(out + n, cap - n, "'%.*s' ", (int)v.len, v.str);
		else if (v.tag == V_INT)
			n += (size_t)snprintf(out + n, cap - n, "%lld ", (long long)v.i);
		else
			n += (size_t)snprintf(out + n, cap - n, "%s ", v.tag == V_NULL ? "null" : v.tag == V_TRUE ?
			    "true" : v.tag == V_FALSE ? "false" :
			    v.tag == V_LIST ? "[" : "{");
	}
	assert_int_equal(wire_done(&in), 0);
}

static void
show(const char *yaml, char *out, size_t cap)
{
	struct kit k;
	struct wire w;

	assert_int_equal(parse(&k, yaml), 0);
	wire_init(&w);
	general_show(&k.gen, &w);
	render(&w, out, cap);
	wire_free(&w);
	kit_close(&k);
}

static void
test_general_show_defaults(void **state)
{
	static const char want[] =
	    "{ port=0 socks-port=0 redir-port=0 tproxy-port=0 mixed-port=1 tun={ enable=false device='' stack='gVisor' "
	    "dns-hijack=[ '0.0.0.0:53' ;auto-route=true auto-detect-interface=true inet4-address=[ '198.18.0.1/30' ;inet6-address=[ "
	    "'fdfe:dcba:9876::1/126' ;file-descriptor=0 ;tuic-server={ enable=false listen='' certificate='' private-key='' max-idle-time=15000 "
	    "authentication-timeout=1000 alpn=[ 'h3' ;max-udp-relay-packet-size=1500 mux-option={ brutal={ enabled=false ;;;ss-config='' "
	    "vmess-config='' authentication=null skip-auth-prefixes=null lan-allowed-ips=[ '0.0.0.0/0' '::/0' ;lan-disallowed-ips=null "
	    "allow-lan=false bind-address='*' inbound-tfo=false inbound-mptcp=false mode='rule' unified-delay=false log-level='info' ipv6=true "
	    "interface-name='' routing-mark=0 geox-url={ geo-ip=";
	static const char rest[] =
	    ";geo-auto-update=false geo-update-interval=24 geodata-mode=false geodata-loader='memconservative' "
	    "geosite-matcher='succinct' tcp-concurrent=false find-process-mode='strict' sniffing=false global-client-fingerprint='' "
	    "global-ua='clash.meta/v1.19.2' etag-support=true keep-alive-idle=0 keep-alive-interval=0 disable-keep-alive=false ;";
	char text[8192];

	(void)state;
	show("mixed-port: 1\n", text, sizeof text);
	if (!str_starts(text, want))
		assert_string_equal(text, want);
	if (!str_ends(text, rest))
		assert_string_equal(strstr(text, ";geo-auto"), rest);
}

static void
test_general_show_masks_and_values(void **state)
{
	char text[8192];

	(void)state;
	show("authentication: ['u1:secret1', 'u2:secret2']\nss-config: 'ss://secret3'\nvmess-config: secret4\n"
	    "skip-auth-prefixes: [127.0.0.0/8]\n"
	    "tuic-server: {enable: true, token: [secret5], users: {u: secret6}, private-key: secret7, listen: ':1'}\n"
	    "lan-allowed-ips: []\n"
	    "tun: {enable: true, stack: MIXED, mtu: 9000, dns-hijack: [any:53], include-uid: [0, 5], auto-route: false, device: t0, gso: false}\n"
	    "dns: {enhanced-mode: fake-ip, fake-ip-range: 28.0.0.1/8}\nipv6: false\n", text, sizeof text);
	assert_null(strstr(text, "secret"));
	assert_non_null(strstr(text, "authentication=[ 'u1' 'u2' ;skip-auth-prefixes=[ '127.0.0.0/8' ;lan-allowed-ips=[ ;"));
	assert_non_null(strstr(text, "ss-config='***' vmess-config='***'"));
	assert_non_null(strstr(text,
	    "tun={ enable=false device='t0' stack='Mixed' dns-hijack=[ 'any:53' ;auto-route=false auto-detect-interface=true "
	    "mtu=9000 inet4-address=[ '28.0.0.1/30' ;include-uid=[ 0 5 ;file-descriptor=0 ;"));
	assert_non_null(strstr(text, "listen=':1' token=[ '***' ;users={ u='***' ;certificate='' private-key='***'"));
}

/* ---- PATCH /configs */

struct body {
	struct kit k;
	struct wire w;
	struct patch_effect effect;
};

static void
body_open(struct body *b, const char *yaml)
{
	assert_int_equal(parse(&b->k, yaml), 0);
	wire_init(&b->w);
	value_map(&b->w);
}

static int
body_apply(struct body *b)
{
	const char *text = NULL;
	int status;

	value_map_end(&b->w);
	status = patch_apply(&b->k.gen, &b->w, &b->effect, &text);
	if (status != 204)
		assert_string_equal(text, "Body invalid");
	return status;
}

static void
body_close(struct body *b)
{
	wire_free(&b->w);
	kit_close(&b->k);
}

static void
test_patch_apply_values(void **state)
{
	struct body b;
	const struct general *o = &b.k.gen.general;

	(void)state;
	body_open(&b, "mixed-port: 1\n");
	value_key(&b.w, "mode"), value_str(&b.w, "Global");
	value_key(&b.w, "log-level"), value_str(&b.w, "warning");
	value_key(&b.w, "allow-lan"), value_bool(&b.w, true);
	value_key(&b.w, "bind-address"), value_str(&b.w, "127.0.0.1");
	value_key(&b.w, "mixed-port"), value_int(&b.w, 27895);
	value_key(&b.w, "port"), value_int(&b.w, 70000);
	value_key(&b.w, "ipv6"), value_bool(&b.w, false);
	value_key(&b.w, "sniffing"), value_bool(&b.w, true);	/* nothing: the sniffer is off */
	value_key(&b.w, "interface-name"), value_null(&b.w);
	value_key(&b.w, "no-such-key"), value_map(&b.w), value_key(&b.w, "mode"), value_list(&b.w), value_list_end(&b.w),
	    value_map_end(&b.w);
	value_key(&b.w, "tun"), value_map(&b.w), value_key(&b.w, "enable"), value_bool(&b.w, true), value_map_end(&b.w);
	value_key(&b.w, "lan-disallowed-ips"), value_list(&b.w), value_str(&b.w, "10.0.0.0/8"), value_str(&b.w, "::1/128"),
	    value_list_end(&b.w);
	value_key(&b.w, "tcp-concurrent"), value_bool(&b.w, true);
	assert_int_equal(body_apply(&b), 204);
	assert_true(b.effect.ports && b.effect.log_level && b.effect.anything);
	assert_int_equal(o->mode, MODE_GLOBAL);
	assert_int_equal(o->log_level, LL_WARNING);
	assert_true(o->allow_lan && !o->ipv6 && !o->sniffing && o->tcp_concurrent);
	assert_string_equal(o->bind_address, "127.0.0.1");
	assert_int_equal(o->mixed_port, 27895);
	assert_int_equal(o->port, 0);
	assert_int_equal(o->lan_disallowed.n, 2);
	assert_int_equal(o->lan_disallowed.p[1].bits, 128);
	body_close(&b);
}

static void
test_patch_apply_no_change(void **state)
{
	struct body b;
	size_t used;

	(void)state;
	body_open(&b, "mixed-port: 1\nbind-address: 127.0.0.1\nsniffer: {enable: true}\n");
	used = b.k.gen.arena.used;
	value_key(&b.w, "mixed-port"), value_int(&b.w, 1);
	value_key(&b.w, "bind-address"), value_str(&b.w, "127.0.0.1");
	assert_int_equal(body_apply(&b), 204);
	assert_false(b.effect.ports || b.effect.anything || b.effect.log_level);
	assert_int_equal(b.k.gen.arena.used, used);
	body_close(&b);
	body_open(&b, "sniffer: {enable: true}\n");
	value_key(&b.w, "sniffing"), value_bool(&b.w, false);
	assert_int_equal(body_apply(&b), 204);
	assert_true(b.effect.anything && !b.effect.ports && !b.k.gen.general.sniffing);
	body_close(&b);
}

static void
bad_mode(struct wire *w)
{
	value_key(w, "mode"), value_str(w, "sideways");
}
static void
bad_port(struct wire *w)
{
	value_key(w, "mixed-port"), value_str(w, "1");
}
static void
bad_number(struct wire *w)
{
	value_key(w, "mixed-port"), value_uint(w, UINT64_MAX);
}
static void
bad_bool(struct wire *w)
{
	value_key(w, "ipv6"), value_int(w, 1);
}
static void
bad_prefix(struct wire *w)
{
	value_key(w, "lan-allowed-ips"), value_list(w), value_str(w, "10.0.0.0/8"), value_str(w, "x"), value_list_end(w);
}
static void
bad_prefix_type(struct wire *w)
{
	value_key(w, "skip-auth-prefixes"), value_str(w, "10.0.0.0/8");
}
static void
bad_tun(struct wire *w)
{
	value_key(w, "tun"), value_bool(w, true);
}
static void
bad_text(struct wire *w)
{
	value_key(w, "bind-address"), value_strn(w, "a\0b", 3);
}
static void
bad_tail(struct wire *w)
{
	wire_put_u8(w, 9);
	wire_put(w, "abc", 3);		/* cut off inside a key */
}

static void
test_patch_apply_refuses_whole(void **state)
{
	static void (*const bad[])(struct wire *) = { bad_mode, bad_port, bad_number, bad_bool, bad_prefix, bad_prefix_type,
	    bad_tun, bad_text, bad_tail };
	struct body b;
	const char *text;

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		struct general before;
		size_t used;

		body_open(&b, "mixed-port: 1\n");
		before = b.k.gen.general;
		used = b.k.gen.arena.used;
		value_key(&b.w, "allow-lan"), value_bool(&b.w, true);
		value_key(&b.w, "bind-address"), value_str(&b.w, "1.2.3.4");
		bad[i](&b.w);
		assert_int_equal(body_apply(&b), 400);
		assert_memory_equal(&before, &b.k.gen.general, sizeof before);
		assert_int_equal(b.k.gen.arena.used, used);
		assert_false(b.effect.anything);
		body_close(&b);
	}
	body_open(&b, "mixed-port: 1\n");
	wire_free(&b.w);
	wire_init(&b.w);
	value_null(&b.w);			/* null crashes the original */
	assert_int_equal(patch_apply(&b.k.gen, &b.w, &b.effect, &text), 400);
	body_close(&b);
}

/* ---- blobs */

static void
test_patch_save_ports_round_trip(void **state)
{
	struct kit a, b;
	struct wire w, in;
	struct general *o = &b.gen.general;

	(void)state;
	assert_int_equal(parse(&a, "port: 1\nsocks-port: 2\nmixed-port: 3\nredir-port: 4\ntproxy-port: 65535\nallow-lan: true\n"
	    "bind-address: '[::1]'\n"
	    "lan-allowed-ips: [10.0.0.0/8, '2001:db8::/32']\nlan-disallowed-ips: []\nmode: direct\n"), 0);
	assert_int_equal(parse(&b, "skip-auth-prefixes: [1.1.1.1/32]\n"), 0);
	wire_init(&w);
	patch_save_ports(&a.gen, &w);
	for (size_t cut = 0; cut < w.len; cut++) {	/* any part of it is refused and changes nothing */
		struct general before = *o;

		wire_read(&in, w.p, cut);
		assert_int_not_equal(patch_load_ports(&b.gen, &in), 0);
		assert_memory_equal(&before, o, sizeof before);
	}
	wire_read(&in, w.p, w.len);
	assert_int_equal(patch_load_ports(&b.gen, &in), 0);
	assert_true(o->port == 1 && o->socks_port == 2 && o->mixed_port == 3 && o->redir_port == 4 && o->tproxy_port == 65535 &&
	    o->allow_lan);
	assert_string_equal(o->bind_address, "[::1]");
	assert_int_equal(o->lan_allowed.n, 2);
	assert_int_equal(o->lan_allowed.p[1].ip.family, 6);
	assert_true(o->lan_disallowed.set && o->lan_disallowed.n == 0 && !o->skip_auth.set && o->skip_auth.n == 0);
	assert_int_equal(o->mode, MODE_RULE);		/* not of this group */
	wire_free(&w);
	kit_close(&a);
	kit_close(&b);
}

static void
test_patch_save_live_round_trip(void **state)
{
	struct kit a, b;
	struct wire w, in;
	struct general *o = &b.gen.general;

	(void)state;
	assert_int_equal(parse(&a,
			     "mode: direct\nlog-level: silent\nfind-process-mode: 'off'\nipv6: false\ntcp-concurrent: true\n"
			     "unified-delay: true\n"
			     "interface-name: eth7\nmixed-port: 9\n"),
	    0);
	assert_int_equal(parse(&b, "mixed-port: 1\n"), 0);
	wire_init(&w);
	patch_save_live(&a.gen, &w);
	for (size_t at = 0; at < w.len; at++) {		/* hostile bytes: no crash, and all or nothing */
		for (unsigned v = 0; v < 256; v += 5) {
			uint8_t keep = w.p[at];
			struct general before = *o;

			w.p[at] = (uint8_t)v;
			wire_read(&in, w.p, w.len);
			if (patch_load_live(&b.gen, &in) != 0)
				assert_memory_equal(&before, o, sizeof before);
			assert_true(o->mode <= MODE_DIRECT && o->log_level <= LL_SILENT && o->find_process <= FIND_OFF);
			w.p[at] = keep;
		}
	}
	wire_read(&in, w.p, w.len);
	assert_int_equal(patch_load_live(&b.gen, &in), 0);
	assert_true(o->mode == MODE_DIRECT && o->log_level == LL_SILENT && o->find_process == FIND_OFF);
	assert_true(!o->ipv6 && o->tcp_concurrent && o->unified_delay && !o->sniffing);
	assert_string_equal(o->interface_name, "eth7");
	assert_int_equal(o->mixed_port, 1);
	wire_free(&w);
	kit_close(&a);
	kit_close(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_general_parse_values),
		cmocka_unit_test(test_general_parse_defaults),
		cmocka_unit_test(test_general_parse_errors),
		cmocka_unit_test(test_general_parse_warnings),
		cmocka_unit_test(test_sections_parse_cases),
		cmocka_unit_test(test_sections_providers_cases),
		cmocka_unit_test(test_general_show_defaults),
		cmocka_unit_test(test_general_show_masks_and_values),
		cmocka_unit_test(test_patch_apply_values),
		cmocka_unit_test(test_patch_apply_no_change),
		cmocka_unit_test(test_patch_apply_refuses_whole),
		cmocka_unit_test(test_patch_save_ports_round_trip),
		cmocka_unit_test(test_patch_save_live_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
