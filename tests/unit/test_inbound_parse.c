/* SPDX-License-Identifier: MIT */
/* inbound/parse.c and tunnel.c: from YAML to inbounds, and the reference's error texts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "worker/inbound/inbound.h"
#include "worker/loader/yaml.h"

static struct worker w;
static struct gen gen;
static struct tree tree;
static struct cfg_err err;
static void *image;

static void
drop(void)
{
	if (gen.w == NULL)
		return;
	map_free(&gen.proxies);
	arena_free(&gen.arena);
	free(image);
	image = NULL;
	memset(&gen, 0, sizeof(gen));
}

static int
teardown(void **state)
{
	(void)state;
	drop();
	return 0;
}

static int
load(const char *yaml, void (*set)(struct general *))
{
	static char known;
	size_t n = 0;

	drop();
	memset(&err, 0, sizeof(err));
	arena_init(&gen.arena);
	map_init(&gen.proxies);
	gen.w = &w;
	w.gen = &gen;
	map_put(&gen.proxies, "a", &known);	/* only its presence is asked for */
	gen.general.bind_address = "*";
	if (set != NULL)
		set(&gen.general);
	assert_int_equal(yaml_load(yaml, strlen(yaml), &image, &n, &err), 0);
	assert_int_equal(tree_from_memory(&tree, image, n, &err), 0);
	return inbounds_parse(&gen, tree.root, &err);
}

static void
ports(struct general *g)
{
	g->port = 27892;
	g->socks_port = 27891;
	g->mixed_port = 27890;
	g->redir_port = 1;
}

static void
ports_lan(struct general *g)
{
	ports(g);
	g->port = 0;
	g->allow_lan = true;
}

static void
ports_lan_v6(struct general *g)
{
	ports_lan(g);
	g->bind_address = "[::1]";
}

static void
test_ports(void **state)
{
	char ip[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(load("{}", ports), 0);
	assert_int_equal(gen.n_inbounds, 3);
	assert_string_equal(gen.inbounds[0]->name, "DEFAULT-HTTP");
	assert_string_equal(gen.inbounds[1]->name, "DEFAULT-SOCKS");
	assert_string_equal(gen.inbounds[2]->name, "DEFAULT-MIXED");
	assert_string_equal(ip_text(&gen.inbounds[2]->key.ip, ip), "127.0.0.1");
	assert_int_equal(gen.inbounds[2]->key.port, 27890);
	assert_false(gen.inbounds[0]->udp);
	assert_true(gen.inbounds[1]->udp && gen.inbounds[2]->udp && gen.inbounds[2]->acl && gen.inbounds[2]->top_level);
	assert_int_equal(load("{}", ports_lan), 0);
	assert_int_equal(gen.n_inbounds, 2);
	assert_int_equal(gen.inbounds[0]->key.ip.family, 0);
	assert_int_equal(load("{}", ports_lan_v6), 0);
	assert_string_equal(ip_text(&gen.inbounds[0]->key.ip, ip), "::1");
}

static void
test_ports_anew_keeps_what_is_equal(void **state)
{
	struct inbound *now[8], *mixed, *extra;

	(void)state;
	assert_int_equal(load("listeners: [{name: l, type: mixed, port: 1}]", ports), 0);
	mixed = gen.inbounds[2];
	extra = gen.inbounds[3];
	gen.general.port = 0;
	gen.general.socks_port = 5;
	assert_int_equal(inbounds_ports(&gen, now, 8), 3);
	assert_string_equal(now[0]->name, "DEFAULT-SOCKS");
	assert_int_equal(now[0]->key.port, 5);
	assert_ptr_equal(now[1], mixed);
	assert_ptr_equal(now[2], extra);
	gen.general.allow_lan = true;
	assert_int_equal(inbounds_ports(&gen, now, 8), 3);
	assert_ptr_not_equal(now[1], mixed);
	assert_int_equal(now[1]->key.ip.family, 0);
}

static void
test_listener_keys(void **state)
{
	const struct inbound *inb;
	char ip[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(load("listeners:\n"
	    "- {name: one, type: mixed, port: '7', listen: 127.0.0.1, users: [], udp: false, rule: sub, proxy: a}\n"
	    "- {name: two, type: socks, port: '200,302,401-403', users: [{username: u, password: 1}]}\n"
	    "- {name: no, type: vless, port: 9}\n"
	    "- {name: none, type: http}\n", NULL), 0);
	assert_int_equal(gen.n_inbounds, 6);
	inb = gen.inbounds[0];
	assert_string_equal(inb->name, "one");
	assert_string_equal(ip_text(&inb->key.ip, ip), "127.0.0.1");
	assert_true(inb->users != NULL && inb->users->n == 0 && !inb->udp && !inb->acl && !inb->top_level);
	assert_string_equal(inb->special_rules, "sub");
	assert_string_equal(inb->special_proxy, "a");
	inb = gen.inbounds[5];
	assert_string_equal(inb->name, "two");
	assert_int_equal(inb->key.port, 403);
	assert_string_equal(ip_text(&inb->key.ip, ip), "0.0.0.0");
	assert_string_equal(inb->users->u[0].password, "1");
}

static void
test_listener_duplicate_last_wins(void **state)
{
	(void)state;
	assert_int_equal(load("listeners: [{name: l, type: mixed, port: 1-2}, {name: l, type: socks, port: 3}]", NULL), 0);
	assert_int_equal(gen.n_inbounds, 1);
	assert_string_equal(gen.inbounds[0]->type->name, "socks");
}

static void
refused(const char *yaml, const char *text)
{
	assert_int_equal(load(yaml, NULL), -E_INVAL);
	assert_string_equal(err.text, text);
	assert_true(err.line > 0);
}

static void
test_listener_errors(void **state)
{
	(void)state;
	refused("listeners: [{name: l, type: nope, port: 1}]", "proxy 0: unsupport proxy type: nope");
	refused("listeners: [{name: l, type: http, port: 1}, {name: l, port: 1}]", "proxy 1: missing type");
	refused("listeners: [{type: http, port: 1}]", "proxy 0: key 'name' missing");
	refused("listeners: [{name: l, type: http, port: x}]", "proxy 0: intRanges error");
	refused("listeners: [{name: l, type: http, port: 70000}]", "proxy 0: intRanges error");
	refused("listeners: [{name: l, type: tunnel, port: 1}]", "proxy 0: key 'target' missing");
	refused("listeners: [{name: l, type: tunnel, port: 1, target: x}]", "proxy 0: invalid tunnel target or address x");
	assert_int_equal(load("listeners: [{name: l, type: http, port: 1-60000}]", NULL), -E_INVAL);
}

/* A listener that asks for TLS must not come up without it. */
static void
test_listener_tls_is_not_opened_plain(void **state)
{
	(void)state;
	assert_int_equal(load("listeners: [{name: l, type: http, port: 1, certificate: c, private-key: k}]", NULL), 0);
	assert_int_equal(gen.n_inbounds, 0);
}

static void
test_tunnels(void **state)
{
	(void)state;
	assert_int_equal(load("tunnels:\n- 'tcp/udp, 127.0.0.1:6553, 1.1.1.1:53, a'\n- 'udp,:6554,one.test:53'\n"
	    "- {network: [tcp], address: '127.0.0.1:7', target: 'h:1', proxy: a}\n- {network: [tcp], address: bad, target: 'h:1'}\n", NULL), 0);
	assert_int_equal(gen.n_inbounds, 3);
	assert_true(gen.inbounds[0]->udp && !gen.inbounds[0]->no_stream);
	assert_string_equal(gen.inbounds[0]->special_proxy, "a");
	assert_true(gen.inbounds[1]->udp && gen.inbounds[1]->no_stream);
	assert_int_equal(gen.inbounds[1]->key.ip.family, 0);
	assert_int_equal(gen.inbounds[1]->key.port, 6554);
	assert_true(!gen.inbounds[2]->udp && !gen.inbounds[2]->no_stream);
}

static void
test_tunnel_errors(void **state)
{
	(void)state;
	refused("tunnels: ['tcp,127.0.0.1']", "invalid tunnel config tcp,127.0.0.1");
	refused("tunnels: ['tcp,127.0.0.1:1,h:1,a,b']", "invalid tunnel config tcp,127.0.0.1:1,h:1,a,b");
	refused("tunnels: ['icmp,127.0.0.1:1,h:1']", "invalid tunnel network icmp");
	refused("tunnels: ['tcp,127.0.0.1:1,h']", "invalid tunnel target or address h");
	refused("tunnels: ['tcp,127.0.0.1,h:1']", "invalid tunnel target or address 127.0.0.1");
	refused("tunnels: ['tcp,127.0.0.1:1,h:1,zz']", "tunnel proxy zz not found");
}

static void
test_authentication(void **state)
{
	(void)state;
	assert_int_equal(load("authentication: ['nocolon', 'u:p', 'u2:p:2']", NULL), 0);
	assert_int_equal(gen.general.n_auth, 2);
	assert_string_equal(gen.general.auth_users[1], "u2:p:2");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_ports, teardown),
		cmocka_unit_test_teardown(test_ports_anew_keeps_what_is_equal, teardown),
		cmocka_unit_test_teardown(test_listener_keys, teardown),
		cmocka_unit_test_teardown(test_listener_duplicate_last_wins, teardown),
		cmocka_unit_test_teardown(test_listener_errors, teardown),
		cmocka_unit_test_teardown(test_listener_tls_is_not_opened_plain, teardown),
		cmocka_unit_test_teardown(test_tunnels, teardown),
		cmocka_unit_test_teardown(test_tunnel_errors, teardown),
		cmocka_unit_test_teardown(test_authentication, teardown),
	};

	log_set_level(LL_SILENT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
