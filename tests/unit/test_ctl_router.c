/* SPDX-License-Identifier: MIT */
/* controller/router.c: paths, methods and parameters; the matrix of authentication; CORS as spec/api.md 1.3 tells; Host and
 * Origin without a secret. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "controller/api.h"
#include "controller/ctl.h"
#include "controller/http.h"
#include "controller/router.h"

static int
handle(struct api_req *req)
{
	(void)req;
	return 200;
}

static const struct api_route routes[] = {
	{ "GET", "/", API_EXACT, handle },
	{ "GET", "/version", API_EXACT, handle },
	{ "GET", "/traffic", API_EXACT | API_STREAM, handle },
	{ "GET", "/configs", 0, handle },
	{ "PUT", "/configs", 0, handle },
	{ "GET", "/p/{name}", 0, handle },
	{ "PUT", "/p/{name}", 0, handle },
	{ "GET", "/p/{name}/{member}", 0, handle },
	{ "GET", "/p/{name}/check", 0, handle },
	{ "GET", "/p/{name}/{member}/check", 0, handle },
	{ "GET", "/debug/pprof/", API_DEBUG, handle },
	{ "PUT", "/debug/gc", API_DEBUG, handle },
	{ "GET", "/ui", API_OPEN | API_EXACT, handle },
	{ "GET", "/ui/*", API_OPEN | API_EXACT, handle },
	{ NULL, NULL, 0, NULL }
};

static struct router_hit hit;

static int
match(const char *method, const char *path)
{
	router_hit_free(&hit);
	return router_match(routes, method, path, false, &hit);
}

static void
test_match_exact_and_mounted(void **state)
{
	(void)state;
	assert_int_equal(match("GET", "/"), 0);
	assert_int_equal(match("GET", "/version"), 0);
	assert_int_equal(match("GET", "/version/"), 404);
	assert_int_equal(match("GET", "/configs"), 0);
	assert_int_equal(match("GET", "/configs/"), 0);
	assert_int_equal(match("GET", "/configs//"), 404);
	assert_int_equal(match("GET", "//configs"), 404);
	assert_int_equal(match("GET", "/x/../configs"), 404);
	assert_int_equal(match("GET", "/CONFIGS"), 404);
	assert_int_equal(match("GET", "*"), 404);
	assert_int_equal(match("GET", ""), 404);
}

static void
test_match_parameters(void **state)
{
	(void)state;
	assert_int_equal(match("GET", "/p/a%2Fb/"), 0);
	assert_string_equal(hit.param[0], "a/b");
	assert_int_equal(match("GET", "/p/%E6%97%A5%20%F0%9F%87%AF/1+%2541"), 0);
	assert_string_equal(hit.param[0], "日 \xf0\x9f\x87\xaf");
	assert_string_equal(hit.param[1], "1+%41");		/* once, and no '+' */
	assert_int_equal(match("GET", "/p/a%zz"), 0);
	assert_string_equal(hit.param[0], "a%zz");
	assert_int_equal(match("GET", "/p/a%00b"), 0);
	assert_string_equal(hit.param[0], "a%00b");
	assert_int_equal(match("GET", "/p/"), 404);
	assert_int_equal(match("GET", "/p//check"), 404);
}

static void
test_match_text_beats_parameter(void **state)
{
	(void)state;
	assert_int_equal(match("GET", "/p/a/check"), 0);
	assert_string_equal(hit.route->path, "/p/{name}/check");
	assert_int_equal(match("GET", "/p/a/other"), 0);
	assert_string_equal(hit.route->path, "/p/{name}/{member}");
	assert_int_equal(match("GET", "/p/check/check/check"), 0);
	assert_string_equal(hit.route->path, "/p/{name}/{member}/check");
}

static void
test_match_method(void **state)
{
	(void)state;
	assert_int_equal(match("PATCH", "/configs"), 405);
	assert_string_equal(hit.allow, "Allow: GET\r\nAllow: PUT\r\n");
	assert_int_equal(match("HEAD", "/version"), 405);
	assert_int_equal(match("PUT", "/p/a/b"), 405);
	assert_string_equal(hit.allow, "Allow: GET\r\n");
	assert_int_equal(match("HEAD", "/ui/x.js"), 0);
}

static void
test_match_rest_of_path(void **state)
{
	(void)state;
	assert_int_equal(match("GET", "/ui"), 0);
	assert_string_equal(hit.route->path, "/ui");
	assert_int_equal(match("GET", "/ui/"), 0);
	assert_string_equal(hit.param[0], "");
	assert_int_equal(match("GET", "/ui/a/b%20c.js"), 0);
	assert_string_equal(hit.param[0], "a/b c.js");
	assert_int_equal(match("GET", "/uix"), 404);
}

static void
test_match_debug_is_mounted(void **state)
{
	(void)state;
	router_hit_free(&hit);
	assert_int_equal(router_match(routes, "PUT", "/debug/gc", false, &hit), 404);
	assert_false(hit.guarded);
	assert_int_equal(router_match(routes, "PUT", "/debug/gc", true, &hit), 0);
	router_hit_free(&hit);
	assert_int_equal(router_match(routes, "GET", "/debug/pprof/", true, &hit), 0);
	router_hit_free(&hit);
	assert_int_equal(router_match(routes, "GET", "/debug/pprof", true, &hit), 404);
	router_hit_free(&hit);
}

/* ---- decisions */

static struct ctl_conf conf;
static struct router_peer peer;
static struct http_req req;
static char head[4096];

static void
configure(const char *secret, const char *origin)
{
	memset(&conf, 0, sizeof(conf));
	memset(&peer, 0, sizeof(peer));
	snprintf(conf.secret, sizeof(conf.secret), "%s", secret);
	conf.private_network = true;
	conf.any_origin = origin == NULL || strcmp(origin, "*") == 0;
	conf.origins_written = origin != NULL;
	if (origin != NULL) {
		static char text[128];
		snprintf(text, sizeof(text), "%s", origin);
		conf.origins[0] = text;
		conf.norigins = 1;
	}
}

static void
parse(const char *line, const char *fields)
{
	snprintf(head, sizeof(head), "%s HTTP/1.1\r\n%s\r\n", line, fields);
	assert_int_equal(http_parse(&req, head, strlen(head)), 0);
}

static int
decide(const char *line, const char *fields)
{
	char text[2048];
	int status;

	snprintf(text, sizeof(text), "Host: 127.0.0.1:9090\r\n%s", fields);
	parse(line, text);
	router_hit_free(&hit);
	status = router_decide(routes, &conf, &req, &peer, &hit);
	router_hit_free(&hit);
	return status;
}

#define OK "Authorization: Bearer s3\r\n"
#define WS "Upgrade: websocket\r\n"

static void
test_decide_authentication(void **state)
{
	(void)state;
	configure("s3", NULL);
	assert_int_equal(decide("GET /version", OK), 0);
	assert_int_equal(decide("GET /version", ""), 401);
	assert_int_equal(decide("GET /version", "Authorization: bearer s3\r\n"), 401);
	assert_int_equal(decide("GET /version", "Authorization: Bearer  s3\r\n"), 401);
	assert_int_equal(decide("GET /version", "Authorization: Bearer s33\r\n"), 401);
	assert_int_equal(decide("GET /version", "Authorization: Bearer \r\n"), 401);
	assert_int_equal(decide("GET /version", "Authorization: Basic s3\r\n"), 401);
	assert_int_equal(decide("GET /version?token=s3", ""), 401);
	assert_int_equal(decide("GET /version?token=s3", WS), 0);
	assert_int_equal(decide("GET /version?token=no", WS OK), 401);	/* the token decides */
	assert_int_equal(decide("GET /version?token=", WS OK), 0);
	assert_int_equal(decide("GET /ui/x", ""), 0);
	configure("", NULL);
	assert_int_equal(decide("GET /version?token=anything", WS), 0);
}

static void
test_decide_order_of_refusals(void **state)
{
	(void)state;
	configure("s3", NULL);
	assert_int_equal(decide("GET /nope", ""), 404);
	assert_int_equal(decide("GET /version/", ""), 404);
	assert_int_equal(decide("POST /version", ""), 405);
	assert_int_equal(decide("GET /configs/x", ""), 401);
	assert_int_equal(decide("GET /configs/x", OK), 404);
	assert_int_equal(decide("PATCH /configs", ""), 401);
	assert_int_equal(decide("PATCH /configs", OK), 405);
	assert_int_equal(decide("OPTIONS /version", ""), 405);
	assert_int_equal(decide("OPTIONS /configs", ""), 401);
	assert_int_equal(decide("OPTIONS /nope", "Access-Control-Request-Method: GET\r\n"), 200);
}

static void
test_decide_unix_socket(void **state)
{
	(void)state;
	configure("s3", NULL);
	peer.local = true;
	assert_int_equal(decide("GET /version", ""), 0);
	configure("", NULL);
	peer.local = true;
	parse("GET /version", "Host: anything\r\n");
	router_hit_free(&hit);
	assert_int_equal(router_decide(routes, &conf, &req, &peer, &hit), 0);
}

static void
test_decide_debug(void **state)
{
	(void)state;
	configure("s3", NULL);
	conf.debug = true;
	assert_int_equal(decide("PUT /debug/gc", ""), 401);
	assert_int_equal(decide("PUT /debug/gc?token=s3", ""), 0);	/* profilers can send nothing else */
	configure("", NULL);
	conf.debug = true;
	assert_int_equal(decide("PUT /debug/gc", ""), 403);
	peer.loopback = true;
	assert_int_equal(decide("PUT /debug/gc", ""), 0);
}

static int
host(const char *name)
{
	char text[256];

	snprintf(text, sizeof(text), "Host: %s\r\n", name);
	parse("GET /version", text);
	router_hit_free(&hit);
	return router_decide(routes, &conf, &req, &peer, &hit);
}

static void
test_decide_host_without_secret(void **state)
{
	(void)state;
	configure("", NULL);
	assert_int_equal(host("127.0.0.1:9090"), 0);
	assert_int_equal(host("[::1]:9090"), 0);
	assert_int_equal(host("192.168.1.1"), 0);
	assert_int_equal(host("LocalHost:9090"), 0);
	assert_int_equal(host("rebound.example:9090"), 403);
	assert_int_equal(host("localhost.example"), 403);
	snprintf(conf.tcp, sizeof(conf.tcp), "box.lan:9090");
	assert_int_equal(host("box.lan:9090"), 0);
	configure("s3", NULL);
	assert_int_equal(host("rebound.example"), 401);		/* the secret protects */
}

static void
test_decide_origin_without_secret(void **state)
{
	(void)state;
	configure("", NULL);
	assert_int_equal(decide("PUT /configs", ""), 0);
	assert_int_equal(decide("PUT /configs", "Origin: https://evil.test\r\n"), 403);
	assert_int_equal(decide("GET /configs", "Origin: https://evil.test\r\n"), 0);	/* unreadable without CORS lines */
	assert_int_equal(decide("GET /traffic", WS "Origin: https://evil.test\r\n"), 403);
	assert_int_equal(decide("PUT /configs", "Origin: http://127.0.0.1:9090\r\n"), 0);
	assert_int_equal(decide("PUT /configs", "Origin: https://metacubex.github.io\r\n"), 0);
	assert_int_equal(decide("PUT /configs", "Origin: null\r\n"), 403);
	configure("", "*");
	assert_int_equal(decide("PUT /configs", "Origin: https://evil.test\r\n"), 0);
	configure("", "https://my.test");
	assert_int_equal(decide("PUT /configs", "Origin: https://MY.test\r\n"), 0);
	assert_int_equal(decide("PUT /configs", "Origin: https://metacubex.github.io\r\n"), 403);
	configure("s3", "https://my.test");
	assert_int_equal(decide("PUT /configs", OK "Origin: https://evil.test\r\n"), 0);
}

/* ---- CORS */

static char cors[ROUTER_CORS_MAX];
#define VARY3 "Vary: Origin\r\nVary: Access-Control-Request-Method\r\nVary: Access-Control-Request-Headers\r\n"

static const char *
preflight(const char *fields)
{
	char text[1024];

	snprintf(text, sizeof(text), "Host: x\r\n%s", fields);
	parse("OPTIONS /configs", text);
	router_cors(&conf, &req, &peer, true, cors);
	return cors;
}

static const char *
real(const char *origin)
{
	char text[1024];

	snprintf(text, sizeof(text), "Host: x\r\n%s%s%s", origin[0] != '\0' ? "Origin: " : "", origin,
	    origin[0] != '\0' ? "\r\n" : "");
	parse("GET /configs", text);
	router_cors(&conf, &req, &peer, false, cors);
	return cors;
}

static void
test_cors_preflight(void **state)
{
	(void)state;
	configure("s3", "https://dash.test");
	assert_string_equal(preflight("Origin: https://dash.test\r\nAccess-Control-Request-Method: patch\r\n"
	    "Access-Control-Request-Headers: authorization,content-type\r\nAccess-Control-Request-Private-Network: true\r\n"),
	    VARY3 "Access-Control-Allow-Origin: https://dash.test\r\nAccess-Control-Allow-Methods: PATCH\r\n"
	    "Access-Control-Allow-Headers: Authorization, Content-Type\r\nAccess-Control-Max-Age: 300\r\n"
	    "Access-Control-Allow-Private-Network: true\r\n");
	conf.private_network = false;
	assert_string_equal(preflight("Origin: https://dash.test\r\nAccess-Control-Request-Method: GET\r\n"
	    "Access-Control-Request-Private-Network: true\r\n"),
	    VARY3 "Access-Control-Allow-Origin: https://dash.test\r\nAccess-Control-Allow-Methods: GET\r\nAccess-Control-Max-Age: 300\r\n");
	configure("s3", NULL);
	assert_string_equal(preflight("Origin: https://any.test\r\nAccess-Control-Request-Method: GET\r\n"),
	    VARY3 "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET\r\nAccess-Control-Max-Age: 300\r\n");
}

static void
test_cors_preflight_refused(void **state)
{
	(void)state;
	configure("s3", "https://dash.test");
	assert_string_equal(preflight("Origin: https://evil.test\r\nAccess-Control-Request-Method: GET\r\n"), VARY3);
	assert_string_equal(preflight("Access-Control-Request-Method: GET\r\n"), VARY3);
	assert_string_equal(preflight("Origin: https://dash.test\r\nAccess-Control-Request-Method: TRACE\r\n"), VARY3);
	assert_string_equal(preflight("Origin: https://dash.test\r\nAccess-Control-Request-Method: GET\r\n"
	    "Access-Control-Request-Headers: authorization, x-other\r\n"), VARY3);
}

static void
test_cors_real(void **state)
{
	(void)state;
	configure("s3", NULL);
	assert_string_equal(real(""), "Vary: Origin\r\n");
	assert_string_equal(real("https://a.test"), "Vary: Origin\r\nAccess-Control-Allow-Origin: *\r\n");
	configure("s3", "https://*.example.com");
	assert_string_equal(
	    real("https://A.example.com"), "Vary: Origin\r\nAccess-Control-Allow-Origin: https://A.example.com\r\n");
	assert_string_equal(real("https://example.com"), "Vary: Origin\r\n");
	assert_string_equal(real("http://a.example.com"), "Vary: Origin\r\n");
	configure("", NULL);		/* no secret and no list: not everybody */
	assert_string_equal(real("https://evil.test"), "Vary: Origin\r\n");
	assert_string_equal(real("http://x"), "Vary: Origin\r\nAccess-Control-Allow-Origin: http://x\r\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_match_exact_and_mounted), cmocka_unit_test(test_match_parameters),
		cmocka_unit_test(test_match_text_beats_parameter), cmocka_unit_test(test_match_method),
		cmocka_unit_test(test_match_rest_of_path), cmocka_unit_test(test_match_debug_is_mounted),
		cmocka_unit_test(test_decide_authentication), cmocka_unit_test(test_decide_order_of_refusals),
		cmocka_unit_test(test_decide_unix_socket), cmocka_unit_test(test_decide_debug),
		cmocka_unit_test(test_decide_host_without_secret), cmocka_unit_test(test_decide_origin_without_secret),
		cmocka_unit_test(test_cors_preflight), cmocka_unit_test(test_cors_preflight_refused), cmocka_unit_test(test_cors_real),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	router_hit_free(&hit);
	return r;
}
