/* SPDX-License-Identifier: MIT */
/* Handlers of controller/api/ that change or select: what they ask, in which order, and what they answer. */
#include "tests/unit/ctl_bridge.h"

/* ---- simple ones */

static void
test_version_sorted(void **state)
{
	char text[256];

	(void)state;
	assert_int_equal(run("GET", "/version", NULL, "", ""), 200);
	snprintf(text, sizeof(text), "{\"meta\":true,\"sluice\":\"%s\",\"version\":\"v1.19.2\"}\n", version_text());
	expect(text);
	note = (struct msg_note){ .upgrade = "rolled back to <1>" };
	assert_int_equal(run("GET", "/version", NULL, "", ""), 200);
	snprintf(text, sizeof(text),
	    "{\"meta\":true,\"sluice\":\"%s\",\"upgrade\":\"rolled back to \\u003c1\\u003e\",\"version\":\"v1.19.2\"}\n",
	    version_text());
	expect(text);
	note = (struct msg_note){ .rollback = "generation 2" };
	assert_int_equal(run("GET", "/version", NULL, "", ""), 200);
	snprintf(text, sizeof(text), "{\"meta\":true,\"sluice\":\"%s\",\"rollback\":\"generation 2\",\"version\":\"v1.19.2\"}\n",
	    version_text());
	expect(text);
	note = (struct msg_note){ 0 };
	run("GET", "/", NULL, "", "");
	expect("{\"hello\":\"mihomo\"}\n");
}

static void
test_logs_check_levels(void **state)
{
	(void)state;
	assert_int_equal(run("GET", "/logs", NULL, "", ""), 0);
	assert_int_equal(run("GET", "/logs", NULL, "level=warning&format=structured", ""), 0);
	assert_int_equal(run("GET", "/logs", NULL, "level=warn", ""), 400);
	assert_int_equal(run("GET", "/logs", NULL, "level=INFO", ""), 400);
	expect_message("Body invalid");
}

static void
test_upgrade_says_what_to_do(void **state)
{
	struct msg_upgrade m;

	(void)state;
	answer_result(204, "");
	assert_int_equal(run("POST", "/upgrade", NULL, "channel=alpha", ""), 200);
	expect("{\"status\":\"ok\"}\n");
	memcpy(&m, asked[0].body, sizeof(m));
	assert_int_equal(m.flags, 0);
	answer_result(503, "update error: install a newer package");
	assert_int_equal(run("POST", "/upgrade", NULL, "force=true", "{}"), 503);
	expect_message("update error: install a newer package");
	memcpy(&m, asked[1].body, sizeof(m));
	assert_int_equal(m.flags, UPGRADE_FORCE);
	assert_int_equal(run("POST", "/upgrade/ui", NULL, "", ""), 500);
	answer_text(200, "");
	assert_int_equal(run("POST", "/upgrade/geo", NULL, "", ""), 204);
	assert_int_equal(out.len, 0);
	answer_text(500, "GEO database is updating, skip");
	assert_int_equal(run("POST", "/configs/geo", NULL, "", "{bad"), 500);
	expect_message("GEO database is updating, skip");
	answer_text(200, "");
	assert_int_equal(run("POST", "/configs/geo", NULL, "", ""), 204);
	assert_string_equal(out.type, "");
}

static void
test_restart_answers_ok(void **state)
{
	struct msg_reload m;

	(void)state;
	answer_result(204, "");
	assert_int_equal(run("POST", "/restart", NULL, "", "{}"), 200);
	expect("{\"status\":\"ok\"}\n");
	memcpy(&m, asked[0].body, sizeof(m));
	assert_int_equal(m.flags, RELOAD_SAME);
	answer_result(500, "no");
	assert_int_equal(run("POST", "/restart", NULL, "", ""), 500);
	expect_message("no");
}

static void
test_cache_flush_is_a_change(void **state)
{
	struct msg_change m;

	(void)state;
	answer_result(204, "");
	assert_int_equal(run("POST", "/cache/dns/flush", NULL, "", ""), 204);
	memcpy(&m, asked[0].body, sizeof(m));
	assert_int_equal(m.kind, CHANGE_FLUSH_DNS);
	answer_result(204, "");
	assert_int_equal(run("PUT", "/debug/gc", NULL, "", ""), 200);
	assert_int_equal(out.len, 0);
}

static void
test_lead_silent_is_503(void **state)
{
	(void)state;
	answer(0, 0)->err = -E_TIMEOUT;
	assert_int_equal(run("GET", "/configs", NULL, "", ""), 503);
	expect_message("the data plane did not answer in time");
	answer(0, MSG_ANSWER);		/* there, but without an answer */
	assert_int_equal(run("GET", "/configs", NULL, "", ""), 503);
}

static void
test_lead_hostile_answers(void **state)
{
	struct canned *c;

	(void)state;
	c = answer(200, MSG_ANSWER);
	memcpy(c->data, "\x0a\x05xx", 4);
	c->len = 4;
	assert_int_equal(run("GET", "/proxies", NULL, "", ""), 500);
	c = answer(70000, MSG_ANSWER);
	assert_int_equal(run("GET", "/proxies", NULL, "", ""), 500);
	c = answer(404, MSG_ANSWER);	/* no text in it */
	assert_int_equal(run("GET", "/proxies", NULL, "", ""), 500);
	assert_non_null(c);
}

/* ---- proxies and groups */

static void
test_proxies_list_wraps_the_value(void **state)
{
	(void)state;
	answer_map("a", "b");
	assert_int_equal(run("GET", "/proxies", NULL, "", ""), 200);
	expect("{\"proxies\":{\"a\":\"b\"}}\n");
	assert_int_equal(asked[0].to, BRIDGE_LEAD);
	assert_int_equal(asked[0].kind, QUERY_PROXIES);
	assert_int_equal(asked[0].body[0], PROXIES_ALL);
}

static void
test_proxies_put_sends_the_selection(void **state)
{
	(void)state;
	answer_text(200, "");			/* the lead has tested what had to be tested */
	answer_result(204, "");
	assert_int_equal(run("PUT", "/proxies/{name}", "G", "", "{\"NAME\":\"x\"} trailing"), 204);
	assert_int_equal(asked[0].kind, QUERY_BEFORE_SELECT);
	expect_select(&asked[1], "G", "x");
	answer_text(503, "too many delay tests are running");	/* that is no reason not to choose */
	answer_result(400, "Selector update error: proxy not exist");
	assert_int_equal(run("PUT", "/proxies/{name}", "G", "", "{\"name\":\"y\"}"), 400);
	expect_message("Selector update error: proxy not exist");
}

static void
test_proxies_put_bad_body_comes_after_the_name(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "\"x\"", "1", "{\"name\":1}", "{\"name\":[\"x\"]}" };

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		setup(NULL);
		answer_map("type", "Selector");
		assert_int_equal(run("PUT", "/proxies/{name}", "G", "", bad[i]), 400);
		expect_message("Body invalid");
		answer_text(404, "Resource not found");
		assert_int_equal(run("PUT", "/proxies/{name}", "nobody", "", bad[i]), 404);
		expect_message("Resource not found");
	}
}

static void
test_proxies_put_empty_name_clears_nothing(void **state)
{
	static const char *const empty[] = { "{}", "null", "{\"name\":null}", "{\"name\":\"\"}" };

	(void)state;
	for (size_t i = 0; i < countof(empty); i++) {
		setup(NULL);
		answer_map("type", "URLTest");
		assert_int_equal(run("PUT", "/proxies/{name}", "G", "", empty[i]), 400);
		expect_message("Selector update error: proxy not exist");
		assert_int_equal(asked[0].kind, QUERY_PROXIES);
		answer_map("type", "LoadBalance");
		assert_int_equal(run("PUT", "/proxies/{name}", "G", "", empty[i]), 400);
		expect_message("Must be a Selector");
	}
}

static void
test_proxies_delete_and_group_delete(void **state)
{
	(void)state;
	answer_result(204, "");
	assert_int_equal(run("DELETE", "/proxies/{name}", "A", "", ""), 204);
	expect_select(&asked[0], "A", "");
	answer_text(404, "Resource not found");
	assert_int_equal(run("DELETE", "/group/{name}", "p1", "", ""), 404);
	assert_int_equal(nasked, 2);		/* a plain proxy is not touched */
	answer_map("type", "Selector");
	answer_result(400, "Body invalid");
	assert_int_equal(run("DELETE", "/group/{name}", "S", "", ""), 400);
}

static void
test_proxies_delay_good(void **state)
{
	struct wire w;
	char text[64];
	uint32_t ms;

	(void)state;
	wire_init(&w);
	wire_put_u16(&w, 42);
	answer_wire(200, &w);
	assert_int_equal(
	    run("GET", "/proxies/{name}/delay", "up", "url=http%3A%2F%2Fx%2F204&timeout=600000&expected=200-299/302", ""), 200);
	expect("{\"delay\":42}\n");
	assert_int_equal(asked[0].kind, QUERY_DELAY);
	wire_read(&w, asked[0].body, asked[0].len);
	assert_int_equal(wire_get_str(&w, text, sizeof(text)), 0);
	assert_string_equal(text, "up");
	assert_int_equal(wire_get_str(&w, text, sizeof(text)), 0);
	assert_string_equal(text, "http://x/204");
	assert_int_equal(wire_get_u32(&w, &ms), 0);
	assert_int_equal(ms, 600000);
	assert_int_equal(wire_get_str(&w, text, sizeof(text)), 0);
	assert_string_equal(text, "200-299/302");
	assert_int_equal(wire_done(&w), 0);
}

static void
test_proxies_delay_bad_parameters(void **state)
{
	static const struct { const char *query; int status; const char *text;
	} cases[] = {
		{ "url=x", 400, "Body invalid" },
		{ "timeout=", 400, "Body invalid" },
		{ "timeout=abc", 400, "Body invalid" },
		{ "timeout=600001", 400, "Body invalid" },
		{ "timeout=1.5", 400, "Body invalid" },
		{ "timeout=0", 504, "Timeout" },
		{ "timeout=-5", 504, "Timeout" },
		{ "timeout=5&expected=x", 400, "Body invalid" },
		{ "timeout=0&expected=x", 400, "Body invalid" },
	};

	(void)state;
	for (size_t i = 0; i < countof(cases); i++) {
		setup(NULL);
		answer_map("type", "Socks5");
		assert_int_equal(run("GET", "/proxies/{name}/delay", "up", cases[i].query, ""), cases[i].status);
		expect_message(cases[i].text);
		answer_text(404, "Resource not found");
		assert_int_equal(run("GET", "/proxies/{name}/delay", "none", cases[i].query, ""), 404);
	}
}

static void
test_proxies_delay_failures(void **state)
{
	struct wire w;

	(void)state;
	answer(0, 0)->err = -E_TIMEOUT;
	assert_int_equal(run("GET", "/proxies/{name}/delay", "up", "timeout=5", ""), 504);
	expect_message("Timeout");
	wire_init(&w);
	wire_put_u16(&w, 0);
	answer_wire(200, &w);
	assert_int_equal(run("GET", "/proxies/{name}/delay", "up", "timeout=5", ""), 503);
	answer(0, 0)->err = -E_LIMIT;
	assert_int_equal(run("GET", "/proxies/{name}/delay", "up", "timeout=5", ""), 503);
	expect_message("too many requests are waiting");
	client_gone = true;
	answer_text(503, "An error occurred in the delay test");
	run("GET", "/proxies/{name}/delay", "up", "timeout=5", "");
}

static void
test_delay_expected_grammar(void **state)
{
	static const char *const good[] = { "", "*", " * ", "204", "200/302", "200,302-400", "299-200", "[200 - 299]/ 301",
		"65535", "200//201" };
	static const char *const bad[] = { "x", "200-", "-200", "1-2-3", "65536", "2x", "**", "200;201",
		"1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20/21/22/23/24/25/26/27/28/29" };
	char query[256];

	(void)state;
	for (size_t i = 0; i < countof(good) + countof(bad); i++) {
		const char *s = i < countof(good) ? good[i] : bad[i - countof(good)];
		setup(NULL);
		answer_text(503, "x");
		snprintf(query, sizeof(query), "timeout=9&expected=%s", s);
		run("GET", "/proxies/{name}/delay", "up", query, "");
		assert_int_equal(asked[0].kind, i < countof(good) ? QUERY_DELAY : QUERY_PROXIES);
	}
}

static void
test_group_delay_clears_first(void **state)
{
	struct wire w;

	(void)state;
	answer_result(204, "");
	wire_init(&w);
	value_map(&w);
	value_key(&w, "a");
	value_int(&w, 7);
	value_map_end(&w);
	answer_wire(200, &w);
	assert_int_equal(run("GET", "/group/{name}/delay", "Auto", "timeout=3000&url=u", ""), 200);
	expect("{\"a\":7}\n");
	expect_select(&asked[0], "Auto", "");
	assert_int_equal(asked[1].kind, QUERY_GROUP_DELAY);
}

static void
test_group_delay_errors(void **state)
{
	(void)state;
	answer_result(404, "Resource not found");
	assert_int_equal(run("GET", "/group/{name}/delay", "none", "timeout=abc", ""), 404);
	answer_result(400, "Body invalid");	/* a plain proxy: nothing to clear, and no group */
	answer_text(404, "Resource not found");
	assert_int_equal(run("GET", "/group/{name}/delay", "up", "timeout=abc", ""), 404);
	answer_result(204, "");
	answer_map("type", "URLTest");
	assert_int_equal(run("GET", "/group/{name}/delay", "Auto", "timeout=abc", ""), 400);
	expect_message("Body invalid");
	answer_result(204, "");
	answer_map("type", "URLTest");
	assert_int_equal(run("GET", "/group/{name}/delay", "Auto", "timeout=0", ""), 504);
	expect_message("get delay: all proxies timeout");
}

/* ---- configs */

static void
test_configs_patch_passes_the_members(void **state)
{
	static const enum value_tag tags[] = { V_MAP, V_INT, V_UINT, V_STR, V_TRUE, V_NULL, V_LIST, V_INT, V_UINT, V_END, V_MAP,
		V_FALSE, V_END, V_END };
	struct value_reader r;
	struct msg_change m;
	struct value v;
	struct wire w;

	(void)state;
	answer_result(204, "");
	assert_int_equal(run("PATCH", "/configs", NULL, "",
			     "{\"port\":-7,\"f\":1.0,\"s1\\\"2\":\"x "
			     "3\",\"b\":true,\"n\":null,\"l\":[9007199254740993,1e3],\"t\":{\"enable\":false}}"),
	    204);
	memcpy(&m, asked[0].body, sizeof(m));
	assert_int_equal(m.kind, CHANGE_PATCH);
	wire_read(&w, asked[0].body + sizeof(m), asked[0].len - sizeof(m));
	value_reader_init(&r, &w);
	for (size_t i = 0; i < countof(tags); i++) {
		assert_int_equal(value_next(&r, &v), 0);
		assert_int_equal(v.tag, tags[i]);
		if (i == 1)
			assert_int_equal(v.i, -7);
		if (i == 2)
			assert_true(v.u == UINT64_MAX);
		if (i == 7)
			assert_true(v.i == INT64_C(9007199254740993));
	}
	assert_int_equal(wire_done(&w), 0);
}

static void
test_configs_patch_refuses(void **state)
{
	static const char *const bad[] = { "", "{", "null", "[]", "1", "{\"a\":[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}" };

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		assert_int_equal(run("PATCH", "/configs", NULL, "", bad[i]), 400);
		expect_message("Body invalid");
	}
	assert_int_equal(nasked, 0);
	answer_result(409, "port 80 is taken");
	assert_int_equal(run("PATCH", "/configs", NULL, "", "{}"), 409);
}

static void
test_configs_put_forms(void **state)
{
	struct msg_reload m;

	(void)state;
	answer_result(204, "");
	assert_int_equal(run("PUT", "/configs", NULL, "force=true", "{\"path\":\"\",\"payload\":\"\"}"), 204);
	memcpy(&m, asked[0].body, sizeof(m));
	assert_int_equal(m.flags, RELOAD_FORCE);
	answer_result(204, "");
	assert_int_equal(run("PUT", "/configs", NULL, "force=1", "{\"path\":\"/a.yaml\"}"), 204);
	memcpy(&m, asked[1].body, sizeof(m));
	assert_int_equal(m.flags, RELOAD_PATH);
	assert_string_equal(m.path, "/a.yaml");
	answer_result(204, "");
	assert_int_equal(run("PUT", "/configs", NULL, "", "{\"path\":\"rel\",\"payload\":\"mode: rule\\n\"}"), 204);
	memcpy(&m, asked[2].body, sizeof(m));
	assert_int_equal(m.flags, RELOAD_PAYLOAD);
	assert_string_equal(asked[2].file, "mode: rule\n");
}

static void
test_configs_put_refuses(void **state)
{
	static const char *const bad[] = { "", "nope", "[]", "{\"path\":1}", "{\"payload\":{}}", "{\"payload\":\"a\\u0000b\"}" };

	(void)state;
	for (size_t i = 0; i < countof(bad); i++) {
		assert_int_equal(run("PUT", "/configs", NULL, "", bad[i]), 400);
		expect_message("Body invalid");
	}
	assert_int_equal(run("PUT", "/configs", NULL, "", "{\"path\":\"other.yaml\"}"), 400);
	expect_message("path is not a absolute path");
	assert_int_equal(nasked, 0);
}

static void
test_configs_put_error_place(void **state)
{
	struct msg_result *m = answer_result(400, "bad <port>");

	(void)state;
	m->line = 3;
	m->column = 7;
	str_copy(m->key, sizeof(m->key), "port");
	assert_int_equal(run("PUT", "/configs", NULL, "", "{}"), 400);
	expect("{\"message\":\"bad \\u003cport\\u003e\",\"line\":3,\"column\":7,\"key\":\"port\"}\n");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_version_sorted), T(test_logs_check_levels), T(test_upgrade_says_what_to_do), T(test_restart_answers_ok),
		T(test_cache_flush_is_a_change), T(test_lead_silent_is_503), T(test_lead_hostile_answers),
		T(test_proxies_list_wraps_the_value), T(test_proxies_put_sends_the_selection),
		T(test_proxies_put_bad_body_comes_after_the_name), T(test_proxies_put_empty_name_clears_nothing),
		T(test_proxies_delete_and_group_delete), T(test_proxies_delay_good), T(test_proxies_delay_bad_parameters),
		T(test_proxies_delay_failures), T(test_delay_expected_grammar), T(test_group_delay_clears_first),
		T(test_group_delay_errors), T(test_configs_patch_passes_the_members), T(test_configs_patch_refuses),
		T(test_configs_put_forms), T(test_configs_put_refuses), T(test_configs_put_error_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
