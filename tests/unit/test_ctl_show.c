/* SPDX-License-Identifier: MIT */
/* Handlers of controller/api/ that show what is there: rules, connections, providers, storage and the dashboard's files. */
#include "tests/unit/ctl_bridge.h"

/* ---- rules */

static void
put_rule(struct wire *w, const char *type, const char *payload, uint32_t size, bool disabled)
{
	wire_put_str(w, type);
	wire_put_str(w, payload);
	wire_put_str(w, "up");
	wire_put_u32(w, size);
	wire_put_bool(w, disabled);
}

static void
test_rules_list_sums_the_counters(void **state)
{
	struct wire w;

	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	wire_init(&w);
	wire_put_u32(&w, 2);
	put_rule(&w, "Domain", "a.test", UINT32_MAX, true);
	put_rule(&w, "Match", "", 5, false);
	answer_wire(200, &w);
	wire_init(&w);
	wire_put_u32(&w, 9);		/* more rows are claimed than there are */
	wire_put_u64(&w, 3);
	wire_put_u64(&w, UINT64_C(1000000000));
	wire_put_u64(&w, 4);
	wire_put_u64(&w, 0);
	answer_wire(200, &w);
	canned[1].copies = 2;
	assert_int_equal(run("GET", "/rules", NULL, "", ""), 200);
	expect("{\"rules\":[{\"index\":0,\"type\":\"Domain\",\"payload\":\"a.test\",\"proxy\":\"up\",\"size\":-1,\"extra\":{"
	       "\"disabled\":true,"
	       "\"hitCount\":6,\"hitAt\":\"1970-01-01T00:00:01Z\",\"missCount\":8,\"missAt\":\"0001-01-01T00:00:00Z\"}},"
	       "{\"index\":1,\"type\":\"Match\",\"payload\":\"\",\"proxy\":\"up\",\"size\":5,\"extra\":{\"disabled\":false,"
	       "\"hitCount\":0,"
	       "\"hitAt\":\"0001-01-01T00:00:00Z\",\"missCount\":0,\"missAt\":\"0001-01-01T00:00:00Z\"}}]}\n");
	assert_int_equal(asked[1].to, BRIDGE_SERVING);
}

static void
test_rules_list_hostile_count(void **state)
{
	struct wire w;

	(void)state;
	wire_init(&w);
	wire_put_u32(&w, UINT32_MAX);
	put_rule(&w, "Domain", "a.test", 0, false);
	answer_wire(200, &w);
	assert_int_equal(run("GET", "/rules", NULL, "", ""), 500);
}

static void
test_rules_disable_strict(void **state)
{
	static const char *const bad[] = { "{", "null", "[]", "{\"x\":true}", "{\"0\":\"yes\"}", "{\"0\":1}", "{\"\":true}",
		"{\"1.0\":true}", "{\"0\":null}" };
	struct wire w;
	uint32_t n, index;
	bool off;

	(void)state;
	for (size_t i = 0; i < countof(bad); i++)
		assert_int_equal(run("PATCH", "/rules/disable", NULL, "", bad[i]), 400);
	assert_int_equal(nasked, 0);
	answer_result(204, "");
	assert_int_equal(run("PATCH", "/rules/disable", NULL, "", "{\"-4\":true,\"7\":true,\"99999999999\":true}"), 204);
	wire_read(&w, asked[0].body + sizeof(struct msg_change), asked[0].len - sizeof(struct msg_change));
	assert_int_equal(wire_get_u32(&w, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(wire_get_u32(&w, &index), 0);
	assert_int_equal(index, 7);
	assert_int_equal(wire_get_bool(&w, &off), 0);
	assert_true(off);
	assert_int_equal(wire_done(&w), 0);
}

/* ---- connections */

static void
answer_memory(uint64_t rss)
{
	struct canned *c = answer(200, MSG_MEMORY);
	struct msg_memory m = { .rss = rss };

	memcpy(c->data, &m, sizeof(m));
	c->len = sizeof(m);
}

static void
test_connections_get_merges_workers(void **state)
{
	struct wire w;

	(void)state;
	answer_memory(5);
	wire_init(&w);
	value_list(&w);
	value_map(&w);
	value_key(&w, "id");
	value_str(&w, "x");
	value_map_end(&w);
	value_map(&w);
	value_map_end(&w);
	value_list_end(&w);
	answer_wire(200, &w);
	canned[1].copies = 2;
	canned[1].err = -E_TIMEOUT;	/* one more did not answer: what came is shown */
	assert_int_equal(run("GET", "/connections", NULL, "interval=zzz", ""), 200);
	expect("{\"downloadTotal\":22,\"uploadTotal\":11,\"connections\":[{\"id\":\"x\"},{},{\"id\":\"x\"},{}],\"memory\":5}\n");
	assert_int_equal(asked[1].to, BRIDGE_WORKERS);
}

static void
test_connections_get_none_is_null(void **state)
{
	struct wire w;

	(void)state;
	answer_memory(0);
	wire_init(&w);
	value_list(&w);
	value_list_end(&w);
	answer_wire(200, &w);
	assert_int_equal(run("GET", "/connections", NULL, "", ""), 200);
	expect("{\"downloadTotal\":22,\"uploadTotal\":11,\"connections\":null,\"memory\":0}\n");
}

static void
test_connections_get_keeps_what_can_be_read(void **state)
{
	struct canned *c;

	(void)state;
	answer_memory(0);
	c = answer(200, MSG_ANSWER);
	memcpy(c->data, "\x09\x03\x0a\x01kX", 6);	/* [true, {"k": bad */
	c->len = 6;
	assert_int_equal(run("GET", "/connections", NULL, "", ""), 200);
	expect("{\"downloadTotal\":22,\"uploadTotal\":11,\"connections\":[true],\"memory\":0}\n");
}

static void
test_connections_check_of_an_upgrade(void **state)
{
	(void)state;
	current.upgrade = true;
	assert_int_equal(run("GET", "/connections", NULL, "interval=200", ""), 0);
	assert_int_equal(run("GET", "/connections", NULL, "interval=0", ""), 0);
	assert_int_equal(run("GET", "/connections", NULL, "interval=", ""), 0);
	assert_int_equal(run("GET", "/connections", NULL, "interval=1s", ""), 400);
	assert_int_equal(nasked, 0);
}

static void
test_connections_close_forms(void **state)
{
	(void)state;
	answer(0, 0)->err = -E_TIMEOUT;
	assert_int_equal(run("DELETE", "/connections", NULL, "", ""), 204);
	assert_int_equal(asked[0].kind, QUERY_CLOSE);
	assert_int_equal(asked[0].len, 0);
	answer(200, MSG_ANSWER);
	assert_int_equal(run("DELETE", "/connections/{id}", "00000000-0000-4000-8000-000000000009", "", ""), 204);
	assert_int_equal(asked[1].len, 16);
	assert_int_equal(asked[1].body[15], 9);
	assert_int_equal(run("DELETE", "/connections/{id}", "x", "", ""), 204);
	assert_int_equal(nasked, 2);		/* never "all" by accident */
}

/* ---- providers, dns */

static void
put_node(struct wire *w, const char *name)
{
	value_map(w);
	value_key(w, "extra");
	value_map(w);
	value_key(w, "name");		/* deeper: does not count */
	value_str(w, "n2");
	value_map_end(w);
	value_key(w, "name");
	value_str(w, name);
	value_map_end(w);
}

static void
answer_provider(void)
{
	struct wire w;

	wire_init(&w);
	value_map(&w);
	value_key(&w, "name");
	value_str(&w, "pv");
	value_key(&w, "vehicleType");
	value_str(&w, "HTTP");
	value_key(&w, "proxies");
	value_list(&w);
	put_node(&w, "n1");
	put_node(&w, "n2");
	value_list_end(&w);
	value_map_end(&w);
	answer_wire(200, &w);
}

static void
test_proxy_providers_member(void **state)
{
	struct wire w;

	(void)state;
	answer_provider();
	assert_int_equal(run_in("GET", "/providers/proxies/{provider}/{name}", "pv", "n2", "", ""), 200);
	expect("{\"extra\":{\"name\":\"n2\"},\"name\":\"n2\"}\n");
	answer_provider();
	assert_int_equal(run_in("GET", "/providers/proxies/{provider}/{name}", "pv", "pv", "", ""), 404);
	answer_provider();
	wire_init(&w);
	wire_put_u16(&w, 8);
	answer_wire(200, &w);
	assert_int_equal(run_in("GET", "/providers/proxies/{provider}/{name}/healthcheck", "pv", "n1", "timeout=5", ""), 200);
	expect("{\"delay\":8}\n");
	answer_provider();
	assert_int_equal(run_in("GET", "/providers/proxies/{provider}/{name}/healthcheck", "pv", "n1", "timeout=x", ""), 400);
	answer_text(404, "Resource not found");
	assert_int_equal(run_in("GET", "/providers/proxies/{provider}/{name}/healthcheck", "no", "n1", "timeout=x", ""), 404);
}

static void
test_proxy_providers_update(void **state)
{
	(void)state;
	answer_text(404, "Resource not found");
	assert_int_equal(run("PUT", "/providers/proxies/{provider}", "no", "", ""), 404);
	assert_int_equal(asked[0].kind, QUERY_UPDATE_NODES);
	answer_text(200, "");
	assert_int_equal(run("PUT", "/providers/proxies/{provider}", "pv", "", ""), 204);
	answer_text(503, "404 Not Found");
	assert_int_equal(run("PUT", "/providers/proxies/{provider}", "pv", "", ""), 503);
	answer_text(200, "");
	assert_int_equal(run("GET", "/providers/proxies/{provider}/healthcheck", "G", "", ""), 204);
	assert_int_equal(asked[3].kind, QUERY_CHECK_NODES);
	answer_text(404, "Resource not found");
	assert_int_equal(run("GET", "/providers/proxies/{provider}/healthcheck", "no", "", ""), 404);
	answer_text(404, "Resource not found");
	assert_int_equal(run("PUT", "/providers/rules/{provider}", "no", "", ""), 404);
}

static void
test_dns_query_types(void **state)
{
	(void)state;
	assert_int_equal(run("GET", "/dns/query", NULL, "name=a.test&type=NOPE", ""), 400);
	expect_message("invalid query type");
	assert_int_equal(run("GET", "/dns/query", NULL, "type=aaaa", ""), 400);
	answer_map("Status", "0");
	assert_int_equal(run("GET", "/dns/query", NULL, "name=a.test", ""), 200);
	assert_int_equal(asked[0].body[asked[0].len - 2], 1);
	answer_text(500, "DNS section is disabled");
	assert_int_equal(run("GET", "/dns/query", NULL, "name=a.test&type=HTTPS", ""), 500);
	expect_message("DNS section is disabled");
	assert_int_equal(asked[1].body[asked[1].len - 2], 65);
}

/* ---- storage and files */

static struct canned *
answer_file(uint32_t err, const char *text)
{
	struct canned *c = answer(200, MSG_FILE);
	struct msg_file m = { .err = err };

	memcpy(c->data, &m, sizeof(m));
	c->len = sizeof(m);
	if (text != NULL)
		c->fd = memfd_from("test", text, strlen(text));
	return c;
}

static void
test_storage_round(void **state)
{
	struct msg_store m;

	(void)state;
	answer_file(E_NOTFOUND, NULL);
	assert_int_equal(run("GET", "/storage/{key}", "k", "", ""), 200);
	expect("null");
	assert_string_equal(out.type, "application/json");
	answer_file(0, "{\"a\": [1]}");
	assert_int_equal(run("GET", "/storage/{key}", "k", "", ""), 200);
	expect("{\"a\": [1]}");
	answer_result(204, "");
	assert_int_equal(run("PUT", "/storage/{key}", "k/1", "", "{\"b\":1}\n"), 204);
	memcpy(&m, asked[2].body, sizeof(m));
	assert_int_equal(m.op, STORE_PUT);
	assert_string_equal(m.key, "k/1");
	assert_string_equal(asked[2].file, "{\"b\":1}\n");
	answer_result(404, "x");
	assert_int_equal(run("DELETE", "/storage/{key}", "k", "", ""), 204);
}

static void
test_storage_refuses(void **state)
{
	size_t n = STORE_VALUE_MAX + 2;
	char *big = malloc(n + 1), key[STORE_KEY_MAX + 2];

	(void)state;
	assert_non_null(big);
	memset(big, 'x', n);
	big[n] = '\0';
	assert_int_equal(run("PUT", "/storage/{key}", "k", "", big), 400);	/* validity comes first */
	expect_message("Body invalid");
	big[0] = big[n - 1] = '"';
	assert_int_equal(run("PUT", "/storage/{key}", "k", "", big), 413);
	expect_message("payload exceeds 1MB limit");
	assert_int_equal(run("PUT", "/storage/{key}", "k", "", "{} {}"), 400);
	memset(key, 'k', sizeof(key));
	key[sizeof(key) - 1] = '\0';
	assert_int_equal(run("PUT", "/storage/{key}", key, "", "{}"), 400);
	assert_int_equal(nasked, 0);
	free(big);
}

static int
ui(const char *path)
{
	current.path = path;
	return run("GET", "/ui/*", "", "", "");
}

static void
test_ui_serves_and_redirects(void **state)
{
	(void)state;
	assert_int_equal(run("GET", "/ui", NULL, "", ""), 307);
	assert_non_null(strstr(out.headers, "Location: /ui/\r\n"));
	answer_file(0, "<h1>");
	assert_int_equal(ui("/ui/"), 200);
	expect("<h1>");
	assert_string_equal(out.type, "text/html; charset=utf-8");
	assert_non_null(strstr(out.headers, "Cache-Control: no-cache\r\n"));
	assert_memory_equal(asked[0].body + 4, "index.html", 10);
	answer_file(0, "1;");
	assert_int_equal(ui("/ui/a%20b/c.JS"), 200);
	assert_string_equal(out.type, "text/javascript; charset=utf-8");
	assert_non_null(strstr(out.headers, "X-Content-Type-Options: nosniff\r\n"));
	assert_non_null(strstr(out.headers, "Last-Modified: "));
	assert_memory_equal(asked[1].body + 4, "a b/c.JS", 8);
	assert_int_equal(ui("/ui/x/index.html"), 301);
	assert_non_null(strstr(out.headers, "Location: ./\r\n"));
	answer_file(E_NOTFOUND, NULL);
	answer_file(0, "index of the directory");
	assert_int_equal(ui("/ui/zash"), 301);
	assert_non_null(strstr(out.headers, "Location: ./zash/\r\n"));
}

static void
test_ui_traversal_is_never_asked(void **state)
{
	static const char *const bad[] = { "/ui/../x", "/ui/%2e%2e/x", "/ui/a/..", "/ui/..%2fx", "/ui/a%2Fb", "/ui/a%5cb",
		"/ui/a\\b", "/ui/a%00b", "/ui//x", "/ui/./x", "/ui/.", "/ui/a%0ab", "/ui/a//b" };

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		assert_int_equal(ui(bad[i]), 404);
		assert_string_equal(out.type, "text/plain; charset=utf-8");
	}
	conf.ui = false;
	assert_int_equal(ui("/ui/index.html"), 404);
	assert_int_equal(run("GET", "/ui", NULL, "", ""), 404);
	assert_int_equal(nasked, 0);
}

static void
test_ui_ranges(void **state)
{
	static const struct { const char *range; int status; const char *body, *content;
	} cases[] = {
		{ "bytes=0-3", 206, "0123", "bytes 0-3/10" },
		{ "bytes=7-", 206, "789", "bytes 7-9/10" },
		{ "bytes=-2", 206, "89", "bytes 8-9/10" },
		{ "bytes=-99", 206, "0123456789", "bytes 0-9/10" },
		{ "bytes=5-99", 206, "56789", "bytes 5-9/10" },
		{ "bytes=0-1,4-5", 200, "0123456789", NULL },
		{ "bytes=x", 200, "0123456789", NULL },
		{ "bytes=5-2", 200, "0123456789", NULL },
		{ "lines=1-2", 200, "0123456789", NULL },
		{ "bytes=10-", 416, NULL, "bytes */10" },
		{ "bytes=-0", 416, NULL, "bytes */10" },
	};

	(void)state;
	for (size_t i = 0; i < countof(cases); i++) {
		setup(NULL);
		answer_file(0, "0123456789");
		current.range = cases[i].range;
		assert_int_equal(ui("/ui/f.bin"), cases[i].status);
		if (cases[i].body != NULL)
			expect(cases[i].body);
		if (cases[i].content != NULL)
			assert_non_null(strstr(out.headers, cases[i].content));
		else
			assert_null(strstr(out.headers, "Content-Range"));
	}
}

static void
test_ui_not_modified(void **state)
{
	(void)state;
	answer_file(0, "x");
	current.if_modified_since = "Fri, 01 Jan 2100 00:00:00 GMT";
	assert_int_equal(ui("/ui/f.js"), 304);
	assert_int_equal(out.len, 0);
	answer_file(0, "x");
	current.if_modified_since = "Thu, 01 Jan 1970 00:00:01 GMT";
	assert_int_equal(ui("/ui/f.js"), 200);
	answer_file(0, "x");
	current.if_modified_since = "yesterday";
	assert_int_equal(ui("/ui/f.js"), 200);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_rules_list_sums_the_counters), T(test_rules_list_hostile_count), T(test_rules_disable_strict),
		T(test_connections_get_merges_workers), T(test_connections_get_none_is_null),
		T(test_connections_get_keeps_what_can_be_read), T(test_connections_check_of_an_upgrade),
		T(test_connections_close_forms), T(test_proxy_providers_member), T(test_proxy_providers_update),
		T(test_dns_query_types), T(test_storage_round), T(test_storage_refuses), T(test_ui_serves_and_redirects),
		T(test_ui_traversal_is_never_asked), T(test_ui_ranges), T(test_ui_not_modified),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
