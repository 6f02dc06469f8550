/* SPDX-License-Identifier: MIT */
/* override-expr: every operator and function, what is refused, and that evaluation ends. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/loader/yaml.h"
#include "worker/provider/expr.h"

static char shown[4096];

static void
show(const struct cfg_node *n)
{
	size_t at = strlen(shown);

	if (cfg_key(n) != NULL)
		(void)snprintf(shown + at, sizeof(shown) - at, "%s=", cfg_key(n));
	at = strlen(shown);
	if (n->type == CFG_SCALAR) {
		(void)snprintf(shown + at, sizeof(shown) - at, (n->flags & CFG_QUOTED) != 0 ? "'%s'" : "%s", cfg_text(n));
		return;
	}
	(void)str_copy(shown + at, sizeof(shown) - at, n->type == CFG_MAP ? "{" : "[");
	cfg_each(c, n) {
		show(c);
		if (cfg_next(c) != NULL)
			(void)str_copy(shown + strlen(shown), sizeof(shown) - strlen(shown), ",");
	}
	(void)str_copy(shown + strlen(shown), sizeof(shown) - strlen(shown), n->type == CFG_MAP ? "}" : "]");
}

static struct cfg_err err;

/* What the expression makes of the node, or "" with err. */
static const char *
made(const char *text, const char *node)
{
	struct arena a;
	struct tree t, u;
	struct expr *x;
	void *image = NULL, *out = NULL;
	size_t n;
	struct tree_builder *to;

	shown[0] = '\0';
	memset(&err, 0, sizeof(err));
	arena_init(&a);
	assert_int_equal(yaml_load(node, strlen(node), &image, &n, &err), 0);
	assert_int_equal(tree_from_memory(&t, image, n, &err), 0);
	x = expr_parse(&a, text, &err);
	if (x != NULL) {
		to = tree_build();
		(void)tree_add(to, -1, CFG_LIST, 0, NULL, NULL, 0, 1, 1);
		if (expr_apply(&x, 1, t.root, to, 0, &err) == 0) {
			out = tree_finish(to, &n);
			assert_int_equal(tree_from_memory(&u, out, n, &err), 0);
			show(cfg_first(u.root));
			free(out);
		} else {
			tree_abandon(to);
			assert_true(err.text[0] != '\0');
		}
		expr_free(x);
	}
	free(image);
	arena_free(&a);
	return shown;
}

#define IS(text, node, want) assert_string_equal(made(text, node), want)
/* What an expression over {} gives, as the one key r. */
static void
gives(const char *text, const char *want)
{
	char all[512], result[512];

	(void)snprintf(all, sizeof(all), "{\"r\": %s}", text);
	(void)snprintf(result, sizeof(result), "{r=%s}", want);
	assert_string_equal(made(all, "{a: 1, s: text, l: [3, 1, 2], m: {y: 1, x: 2}}"), result);
}

static void
fails(const char *text, const char *node, const char *why)
{
	assert_string_equal(made(text, node), "");
	if (strstr(err.text, why) == NULL)
		fail_msg("%s: %s", text, err.text);
}

static void
test_assignments(void **state)
{
	(void)state;
	IS(".udp = true", "{name: a}", "{name='a',udp=true}");
	IS(".udp = true", "{name: a, udp: false}", "{name='a',udp=true}");
	IS(".a.b.c = 1", "{}", "{a={b={c=1}}}");
	IS(".l[2] = \"x\"", "{l: [0]}", "{l=[0,null,'x']}");
	IS(".l[-1] = 5", "{l: [1, 2]}", "{l=[1,5]}");
	IS(".\"a.b\" = 1", "{}", "{a.b=1}");
	IS(".[\"a.b\"] = 1", "{}", "{a.b=1}");
	IS(".ws-opts.headers.Host = \"h\"", "{ws-opts: {path: /}}", "{ws-opts={path='/',headers={Host='h'}}}");
	IS(".port |= . ", "{port: 5}", "{port=5}");
	IS(".a |= (.b = 2)", "{a: {c: 1}}", "{a={c=1,b=2}}");
	IS(".a |= select(. == 2)", "{a: 1}", "{a=1}"); /* no result: as it was */
	IS(".n += 2", "{n: 3}", "{n=5}");
	IS(".n -= 0.5", "{n: 3}", "{n=2.5}");
	IS(".n *= 3", "{n: 3}", "{n=9}");
	IS(".n += 2", "{}", "{n=2}");
	IS(".name += \"!\"", "{name: a}", "{name='a!'}");
	IS(".alpn += [\"h3\"]", "{alpn: [h2]}", "{alpn=['h2','h3']}");
	IS(".alpn -= [\"h2\"]", "{alpn: [h2, h3]}", "{alpn=['h3']}");
	IS(".m += {\"b\": {\"y\": 1}}", "{m: {b: {x: 1}}}", "{m={b={y=1}}}");
	IS(".m *= {\"b\": {\"y\": 1}}", "{m: {b: {x: 1}}}", "{m={b={x=1,y=1}}}");
	IS(".[] |= (. // 7)", "{a: ~, b: 1}", "{a=7,b=1}");
	IS("(.a, .b) = 1", "{c: 2}", "{c=2,a=1,b=1}");
	IS("(select(.type == \"ss\") | .udp) = true", "{type: ss}", "{type='ss',udp=true}");
	IS("(select(.type == \"ss\") | .udp) = true", "{type: http}", "{type='http'}");
	IS("(.l[] | select(.x == 1) | .y) = 2", "{l: [{x: 1}, {x: 2}]}", "{l=[{x=1,y=2},{x=2}]}");
	IS(".a = .b | .b = 0", "{b: 3}", "{b=0,a=3}");
	IS("del(.a)", "{a: 1, b: 2}", "{b=2}");
	IS("del(.a.b, .l[0])", "{a: {b: 1, c: 2}, l: [1, 2]}", "{a={c=2},l=[2]}");
	IS("del(.nothing)", "{a: 1}", "{a=1}");
	IS("del(.l[] | select(. > 1))", "{l: [1, 2, 3]}", "{l=[1]}");
	IS(".name = \"\\(.type)-\\(.name | upcase)\"", "{name: a, type: ss}", "{name='ss-A',type='ss'}");
}

static void
test_values_and_questions(void **state)
{
	(void)state;
	gives(".a", "1");
	gives("[.l[]]", "[3,1,2]");
	gives(".l[-1]", "2");
	gives(".l[7]", "null");
	gives(".nope.deep", "null");
	gives("[~, null, true, 0x1f, -5, 1.5, \"a\\\"\\n\\\\\"]", "[null,null,true,0x1f,-5,1.5,'a\"\n\\']");
	gives("[.m[]]", "[2,1]");
	gives("[.a == 1, .a == \"1\", .a != 1, .s == \"text\", .l == .l]", "[true,true,false,true,false]");
	gives("[.a < 2, .a >= 2, \"a\" < \"b\", null <= null]", "[true,false,true,true]");
	gives("(.a == 1 and .s == \"x\" or .a == 1)", "true");
	gives("(false or (null // 3) == 3)", "true");
	gives(".nope // \"d\"", "'d'");
	gives("false // .a", "1");
}

static void
test_functions(void **state)
{
	(void)state;
	gives("[(.l, .s, .m, .nope, \"\xe9\xa6\x99\") | length]", "[3,4,2,0,1]");
	gives("[.s, .s | length]", "['text',4]"); /* a comma is the loosest */
	gives("(.m | keys)", "['x','y']");
	gives("[(.m | has(\"x\")), (.l | has(3)), (.l | has(0))]", "[true,false,true]");
	gives("[(.s | contains(\"ex\")), (.l | contains([1, 2])), (.m | contains({\"x\": 2}))]", "[true,true,true]");
	gives("(.l | reverse)", "[2,1,3]");
	gives("([\"b\", 2, null, \"a\", true, 1] | sort)", "[null,true,1,2,'a','b']");
	gives("([1, 2, 1, \"1\"] | unique)", "[1,2]");
	gives("([1, [2, [3]]] | flatten)", "[1,2,3]");
	gives("([1, [2, [3]]] | flatten(1))", "[1,2,[3]]");
	gives("[([false, 1] | any), ([false, 1] | all), ([] | all)]", "[true,false,true]");
	gives("[(.l | any_c(. > 2)), (.l | all_c(. > 2))]", "[true,false]");
	gives("(.l | map(. == 1))", "[false,true,false]");
	gives("(.m | map_values(select(. == 1)))", "{y=1}");
	gives("(.l | filter(. > 1))", "[3,2]");
	gives("(.m | to_entries)", "[{key='x',value=2},{key='y',value=1}]");
	gives("(.m | with_entries(.key |= upcase))", "{X=2,Y=1}");
	gives("(.m | with_entries(select(.value > 1)))", "{x=2}");
	gives("([{\"key\": \"k\", \"value\": 1}] | from_entries)", "{k=1}");
	gives("[(.s | test(\"^t.x\")), (.s | test(\"^x\"))]", "[true,false]");
	gives("(\"HK 01\" | sub(\"(\\\\d+)\", \"<$1>\"))", "'HK <01>'");
	gives("(\"a,b,\" | split(\",\"))", "['a','b','']");
	gives("(\"\xe9\xa6\x99x\" | split(\"\"))", "['\xe9\xa6\x99','x']");
	gives("([1, \"b\", null] | join(\"-\"))", "'1-b-null'");
	gives("[(\"aB\" | upcase), (\"aB\" | downcase), (\" x \" | trim)]", "['AB','ab','x']");
	gives("[(1 | tostring), (\"0x10\" | tonumber), (\"1.5\" | tonumber)]", "['1',0x10,1.5]");
	gives("[(.l | type), (.m | type), (.s | type), (.a | type), (1.5 | type), (true | type), (null | type)]",
	    "['!!seq','!!map','!!str','!!int','!!float','!!bool','!!null']");
	gives("(.a == 2 | not)", "true");
}

static void
test_refused(void **state)
{
	static const char *const bad[] = { "", ".a =", "(.a", ".a[", ".a[x]", "nosuch", "..", ".a | | .b", "\"x", "\"\\q\"",
		"{a: 1}", "[1", ".a = 1 1", ".s | test(.x)", ".s | test(\"(\")", ".x | sub(\"a\")", "has()", "$x", ".a ?" };

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		assert_string_equal(made(bad[i], "{}"), "");
		assert_true(err.text[0] != '\0');
	}
	fails(".a, .b", "{}", "2 values where one is wanted");
	fails(".a", "{a: 1}", "it makes a !!int of the node");
	fails("select(.a)", "{}", "0 values");
	fails("del(.)", "{}", "no place");
	fails(".a.b = 1", "{a: text}", "a !!str has no .b");
	fails("1 = 2", "{}", "no place");
	fails(".a = (.b, .c)", "{}", "2 values are assigned");
	fails(".l[-3] = 1", "{l: [1]}", "no such place");
	fails(".r = (.l | join([1]))", "{l: [1]}", "join by of a !!seq");
	fails(".r = (.a < .l)", "{a: 1, l: []}", "cannot be compared");
}

static void
test_it_ends(void **state)
{
	char text[EXPR_TEXT_MAX] = "", node[2048] = "{l: [";

	(void)state;
	for (int i = 0; i < 300; i++)
		(void)str_copy(node + strlen(node), sizeof(node) - strlen(node), "1,");
	(void)str_copy(node + strlen(node), sizeof(node) - strlen(node), "1]}");
	fails(".r = [.l[] == .l[]]", node, "it takes too long");
	fails(".r = (.l | map([.l, .l]))", node, "");
	fails(".r = ([.l[]] | map([1, 2, 3] | map(. as)))", node, "");
	fails(".l[20000] = 1", node, "no such place");
	for (int i = 0; i < 100; i++)
		(void)str_copy(text + strlen(text), sizeof(text) - strlen(text), "(");
	fails(text, "{}", "nested too deeply");
	IS(".r = ([.l[], .l[]] | length)", "{l: [1]}", "{l=[1],r=2}");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_assignments),
		cmocka_unit_test(test_values_and_questions),
		cmocka_unit_test(test_functions),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_it_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
