/* SPDX-License-Identifier: MIT */
/* Proxy-provider bodies to trees: YAML, share links of every scheme plain and in base64, duplicate names, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"
#include "common/strutil.h"
#include "worker/loader/provider_proxy.h"

static char out[65536];

static void
show(const struct cfg_node *n)
{
	size_t at = strlen(out);

	if (cfg_key(n) != NULL)
		at += (size_t)snprintf(out + at, sizeof(out) - at, "%s=", cfg_key(n));
	if (n->type == CFG_SCALAR) {
		(void)snprintf(out + at, sizeof(out) - at, n->flags & CFG_QUOTED ? "%s" : "<%s>", cfg_text(n));
		return;
	}
	(void)snprintf(out + at, sizeof(out) - at, n->type == CFG_LIST ? "[" : "{");
	cfg_each(c, n) {
		if (c != cfg_first(n))
			strncat(out, ",", sizeof(out) - strlen(out) - 1);
		show(c);
	}
	strncat(out, n->type == CFG_LIST ? "]" : "}", sizeof(out) - strlen(out) - 1);
}

/* The proxies of a body, or "!" and the error. */
static const char *
load(const char *text)
{
	struct cfg_err err = { 0 };
	struct tree t;
	void *image = NULL;
	size_t n = 0;
	uint32_t count = 0;

	out[0] = '\0';
	if (proxies_load(text, strlen(text), &image, &n, &count, &err) != 0) {
		(void)snprintf(out, sizeof(out), "!%s", err.text);
		return out;
	}
	assert_int_equal(tree_from_memory(&t, image, n, &err), 0);
	assert_int_equal(cfg_count(cfg_get(t.root, "proxies")), count);
	cfg_each(c, cfg_get(t.root, "proxies"))
		show(c);
	if (cfg_count(cfg_get(t.root, "warnings")) > 0)
		show(cfg_get(t.root, "warnings"));
	free(image);
	return out;
}

/* A link whose rest is base64 of text. */
static const char *
coded(const char *scheme, const char *text, const char *tail)
{
	static char link[8192];
	char b64[6000];

	assert_true(base64_encode(b64, sizeof(b64), (const uint8_t *)text, strlen(text)) > 0);
	(void)snprintf(link, sizeof(link), "%s://%s%s", scheme, b64, tail);
	return link;
}

#define IS(text, want) assert_string_equal(load(text), want)
#define UUID "b831381d-6324-4d53-ad4f-8cda48b30811"

static void
test_yaml(void **state)
{
	(void)state;
	IS("proxies:\n  - {name: a, type: ss, x: {y: [1, '2']}}\n  - {name: 5, type: http}\nrules: [MATCH,a]\n",
	    "{name=<a>,type=<ss>,x={y=[<1>,2]}}{name=<5>,type=<http>}");
	IS("proxies: [{type: ss}, 7, {name: a, type: ss}, {name: a, type: http}, {name: '', type: ss}]\n",
	    "{name=<a>,type=<ss>}warnings=[proxy 0 (line 1) has no name,proxy 1 (line 1) has no name,proxy 3 (line 1): the name a is taken,"
	    "proxy 4 (line 1) has no name]");
	IS("proxies: []\n", "!file doesn't have any proxy");
	IS("", "!file doesn't have any proxy");
	IS("rules: []\n", "!file must have a `proxies` field");
	IS("proxies: 5\n", "!'proxies' is not a slice");
	assert_non_null(strstr(load("<html>no</html>"), "convert v2ray subscribe error: format invalid"));
	assert_non_null(strstr(load("proxies: [\n"), "convert v2ray subscribe error: format invalid"));
}

static void
test_ss(void **state)
{
	(void)state;
	IS("ss://aes-256-gcm:p%40w@h.test:8388#a%20b",
	    "{name=a b,type=ss,server=h.test,port=<8388>,cipher=aes-256-gcm,password=p@w,udp=<true>}");
	IS("ss://YWVzLTI1Ni1nY206cHc@[2001:db8::1]:1/?uot=1#n",
	    "{name=n,type=ss,server=2001:db8::1,port=<1>,cipher=aes-256-gcm,password=pw,udp=<true>,udp-over-tcp=<true>}");
	IS(coded("ss", "chacha20-ietf-poly1305:pw:x@h.test:8388", "#whole"),
	    "{name=whole,type=ss,server=h.test,port=<8388>,cipher=chacha20-ietf-poly1305,password=pw:x,udp=<true>}");
	IS("ss://m:p@h:1/?plugin=obfs-local%3Bobfs%3Dhttp%3Bobfs-host%3Dwww.test#o",
	    "{name=o,type=ss,server=h,port=<1>,cipher=m,password=p,udp=<true>,plugin=obfs,plugin-opts={mode=http,host=www.test}}");
	IS("ss://m:p@h:1?plugin=v2ray-plugin%3Btls%3Bhost%3Dw%3Bpath%3D%2Fx#o",
	    "{name=o,type=ss,server=h,port=<1>,cipher=m,password=p,udp=<true>,plugin=v2ray-plugin,plugin-opts={mode=websocket,host=w,path=/x,tls=<true>}}");
	IS("ss://m:p@h:1?plugin=shadow-tls%3Bhost%3Dw.test%3Bpassword%3Da%3Db%3Bversion%3D3%3B%2Fx%3Dy#o",
	    "{name=o,type=ss,server=h,port=<1>,cipher=m,password=p,udp=<true>,plugin=shadow-tls,plugin-opts={host=w.test,password=a=b,version=3}}");
	IS("ss://m:p@h:1", "{name=h:1,type=ss,server=h,port=<1>,cipher=m,password=p,udp=<true>}");
	IS(coded("ssr",
	       "r.test:443:auth_aes128_md5:aes-256-cfb:tls1.2_ticket_auth:cHc/?obfsparam=by50ZXN0&protoparam=MTp4&remarks=c3NyIG5vZGU&group=Zw",
	       ""),
	    "{name=ssr node,type=ssr,server=r.test,port=<443>,cipher=aes-256-cfb,password=pw,obfs=tls1.2_ticket_auth,protocol=auth_aes128_md5,"
	    "obfs-param=o.test,protocol-param=1:x,udp=<true>}");
}

static void
test_v2ray(void **state)
{
	(void)state;
	IS(coded("vmess",
	       "{\"ps\":\"vm \\ud83d\\ude00\",\"add\":\"v.test\",\"port\":\"443\",\"id\":\"" UUID
	       "\",\"aid\":0,\"net\":\"ws\",\"host\":\"h\","
	       "\"path\":\"/ws?ed=2048\",\"tls\":\"tls\",\"sni\":\"s.test\",\"alpn\":\"h2,http/1.1\"}",
	       ""),
	    "{name=vm \xf0\x9f\x98\x80,type=vmess,server=v.test,port=<443>,uuid=" UUID
	    ",alterId=<0>,cipher=auto,udp=<true>,xudp=<true>,tls=<true>,"
	    "skip-cert-verify=<false>,servername=s.test,alpn=[h2,http/1.1],network=ws,ws-opts={path=/ws,headers={User-Agent=Mozilla/5.0 (Windows NT 10.0; "
	    "Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36,Host=h},max-early-data=<2048>,"
	    "early-data-header-name=Sec-WebSocket-Protocol}}");
	IS(coded("vmess", "{\"ps\":\"g\",\"add\":\"v\",\"port\":1,\"id\":\"x\",\"net\":\"grpc\",\"path\":\"svc\"}", ""),
	    "{name=g,type=vmess,server=v,port=<1>,uuid=x,alterId=<0>,cipher=auto,udp=<true>,xudp=<true>,tls=<false>,skip-cert-verify=<false>,network=grpc,"
	    "grpc-opts={grpc-service-name=svc}}");
	IS("vless://" UUID "@h:443?security=reality&pbk=K&sid=01&fp=firefox&sni=s&flow=XTLS-rprx-vision&type=tcp#r",
	    "{name=r,type=vless,server=h,port=<443>,flow=xtls-rprx-vision,uuid=" UUID
	    ",udp=<true>,tls=<true>,client-fingerprint=firefox,servername=s,"
	    "reality-opts={public-key=K,short-id=01},xudp=<true>,network=tcp}");
	IS("vmess://u@h:1?encryption=none&type=tcp&headerType=http&path=%2Fa,%2Fb&host=x#m",
	    "{name=m,type=vmess,server=h,port=<1>,alterId=<0>,cipher=none,uuid=u,udp=<true>,tls=<false>,xudp=<true>,network=http,"
	    "http-opts={path=[/a,/b],headers={Host=[x]}}}");
	IS(coded("vmess", "auto:u@h:1", "?remarks=a%20b&obfs=websocket&obfsParam=w&path=/p&tls=1&peer=s"),
	    "{name=a b,type=vmess,server=h,port=<1>,alterId=<0>,cipher=auto,uuid=u,udp=<true>,tls=<true>,client-fingerprint=chrome,servername=s,xudp=<true>,"
	    "network=ws,ws-opts={path=/p,headers={User-Agent=Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
	    "Chrome/120.0.0.0 Safari/537.36,Host=w}}}");
	IS("trojan://p@t?peer=s#t",
	    "{name=t,type=trojan,server=t,port=<443>,password=p,udp=<true>,skip-cert-verify=<false>,sni=s,client-fingerprint=chrome}");
	IS("trojan://pass%20word@t:443?sni=s&allowInsecure=1&type=grpc&serviceName=g#t",
	    "{name=t,type=trojan,server=t,port=<443>,password=pass word,udp=<true>,skip-cert-verify=<true>,sni=s,client-fingerprint=chrome,network=grpc,"
	    "grpc-opts={grpc-service-name=g}}");
}

static void
test_quic_and_others(void **state)
{
	(void)state;
	IS("hysteria://h:443?protocol=udp&auth=a&peer=s&insecure=1&upmbps=10&downmbps=50&alpn=h3#1",
	    "{name=1,type=hysteria,server=h,port=<443>,sni=s,alpn=[h3],auth_str=a,protocol=udp,up=10,down=50,skip-cert-verify=<true>}");
	IS("hy2://a:b@h?obfs=salamander&obfs-password=op#2",
	    "{name=2,type=hysteria2,server=h,port=<443>,password=a:b,obfs=salamander,obfs-password=op,skip-cert-verify=<false>}");
	IS("hysteria2://a@h:443,5000-6000#2",
	    "{name=2,type=hysteria2,server=h,port=<443>,ports=443,5000-6000,password=a,skip-cert-verify=<false>}");
	IS("tuic://u:p@h:1?congestion_control=bbr&disable_sni=1&udp_relay_mode=native#t",
	    "{name=t,type=tuic,server=h,port=<1>,uuid=u,password=p,congestion-controller=bbr,disable-sni=<true>,udp-relay-mode=native,udp=<true>}");
	IS("tuic://tok@h:1#t", "{name=t,type=tuic,server=h,port=<1>,token=tok,udp=<true>}");
	IS("socks://dTpw@h:1080#s", "{name=s,type=socks5,server=h,port=<1080>,username=u,password=p,skip-cert-verify=<true>}");
	IS("HTTPS://u:p@h:8443#s",
	    "{name=s,type=http,server=h,port=<8443>,username=u,password=p,skip-cert-verify=<true>,tls=<true>}");
	IS("http://h:80#s", "{name=s,type=http,server=h,port=<80>,skip-cert-verify=<true>}");
	IS("anytls://pw@h:443?insecure=1&sni=s#a",
	    "{name=a,type=anytls,server=h,port=<443>,password=pw,sni=s,skip-cert-verify=<true>,udp=<true>}");
	IS("mierus://u:p@h?port=1&protocol=TCP&port=5-9&protocol=UDP&profile=x",
	    "{name=x:1/TCP,type=mieru,server=h,port=<1>,transport=TCP,username=u,password=p,udp=<true>}"
	    "{name=x:5-9/UDP,type=mieru,server=h,port-range=5-9,transport=UDP,username=u,password=p,udp=<true>}");
	IS("wireguard://K%3D@h:1?publickey=P&address=10.0.0.2%2F32,fd00::2%2F128&reserved=1,2,3&mtu=1280#w",
	    "{name=w,type=wireguard,server=h,port=<1>,private-key=K=,public-key=P,ip=10.0.0.2/32,ipv6=fd00::2/128,reserved=[1,2,3],mtu=<1280>,udp=<true>}");
}

static void
test_lists(void **state)
{
	static const char plain[] =
	    "socks5://h:1#home\r\n  socks5://h:2#home \nnotascheme://x\n\nsocks5://h#none\nsocks5://h:99999#none\nsocks5://h:3#home-01\n"
	    "socks5://h:4#home\nsocks5://h:5#%00\nsocks5://h:6#%ff\n";
	static const char want[] =
	    "{name=home,type=socks5,server=h,port=<1>,skip-cert-verify=<true>}{name=home-01,type=socks5,server=h,port=<2>,"
	    "skip-cert-verify=<true>}{name=home-01-01,type=socks5,server=h,port=<3>,skip-cert-verify=<true>}{name=home-02,type=socks5,server=h,port=<4>,"
	    "skip-cert-verify=<true>}warnings=[5 links are of an unknown kind or broken]";
	char b64[2048];
	size_t n;

	(void)state;
	IS(plain, want);
	n = base64_encode(b64, sizeof(b64), (const uint8_t *)plain, strlen(plain));
	IS(b64, want);
	while (n > 0 && b64[n - 1] == '=')
		b64[--n] = '\0';
	IS(b64, want);
	memmove(b64 + 41, b64 + 40, n - 40 + 1); /* folded lines */
	b64[40] = '\n';
	IS(b64, want);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_yaml),
		cmocka_unit_test(test_ss),
		cmocka_unit_test(test_v2ray),
		cmocka_unit_test(test_quic_and_others),
		cmocka_unit_test(test_lists),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
