/* SPDX-License-Identifier: MIT */
/* Delay tests against fake web servers: the request, what counts as an answer, unified-delay, time-outs, cancelling. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/unit/script_server.h"

struct result {
	bool done;
	int ms, err, calls;
};

static void
on_done(void *arg, int ms, int err)
{
	struct result *r = arg;

	r->done = true;
	r->ms = ms;
	r->err = err;
	r->calls++;
}

static void
load(struct kit *k)
{
	assert_int_equal(kit_load(k, "proxies: [{name: v, type: trojan, server: h, port: 1, password: p}]\n"
	    "proxy-groups: [{name: g, type: select, proxies: [DIRECT]}]\n"), 0);
}

static struct result
measure(struct kit *k, const char *name, const char *path, uint16_t port, unsigned timeout, const char *expected, bool *status_ok)
{
	struct result r = { .done = false };
	char url[128];
	int err = 1;

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", port, path);
	assert_non_null(delay_start(kit_find(k, name), url, timeout, expected, on_done, &r, &err, status_ok));
	assert_int_equal(err, 0);
	assert_false(r.done);		/* never from inside */
	assert_true(kit_until(k, &r.done));
	assert_int_equal(r.calls, 1);
	return r;
}

static int
request(char *out, size_t cap, const char *path, uint16_t port)
{
	return snprintf(out, cap, "HEAD %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUser-Agent: Go-http-client/1.1\r\n\r\n", path, port);
}

/* Every step wants the same request. */
static void
serve(struct script *s, struct script_step *step, int n, bool hold, char *want, size_t cap, const char *path)
{
	script_listen(s);
	for (int i = 0; i < n; i++) {
		step[i].want = want;
		step[i].n_want = (size_t)request(want, cap, path, s->port);
	}
	script_go(s, step, n, hold);
}

static void
test_delay_status(void **state)
{
	static const struct { const char *answer, *expected; bool ok; } cases[] = {
		{ "HTTP/1.1 204 No Content\r\n\r\n", "", true },
		{ "HTTP/1.1 204 No Content\r\n\r\n", "200-299/302", true },
		{ "HTTP/1.1 204 No Content\r\n\r\n", "200", false },
		{ "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\n\r\n", "302", true },	/* not followed */
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200", true },
		{ "HTTP/1.0 500 Oops\r\n\r\n", "*", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct script_step step[1] = { { NULL, 0, cases[i].answer, strlen(cases[i].answer), 0 } };
		struct script server;
		struct kit k;
		struct result r;
		char want[256];
		bool ok = !cases[i].ok;

		serve(&server, step, 1, true, want, sizeof(want), "/x?y=1");
		load(&k);
		r = measure(&k, i % 2 == 0 ? "DIRECT" : "g", "/x?y=1#z", server.port, 3000, cases[i].expected, &ok);
		assert_int_equal(r.err, 0);
		assert_true(r.ms >= 1 && r.ms < 3000);
		assert_int_equal(ok, cases[i].ok);
		kit_free(&k);
		assert_true(script_end(&server));
	}
}

static void
test_delay_unified(void **state)
{
	static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";

	(void)state;
	/* with one step the second request is answered by the end of the connection: the first counts */
	for (int n = 1; n <= 2; n++) {
		struct script_step step[2] = { { NULL, 0, answer, sizeof(answer) - 1, 200 }, { NULL, 0, answer,
		    sizeof(answer) - 1, 0 } };
		struct script server;
		struct kit k;
		struct result r;
		char want[256];

		serve(&server, step, n, false, want, sizeof(want), "/");
		load(&k);
		k.g.general.unified_delay = true;
		r = measure(&k, "DIRECT", "", server.port, 3000, NULL, NULL);
		assert_int_equal(r.err, 0);
		if (n == 1)
			assert_true(r.ms >= 190);
		else
			assert_true(r.ms < 150);
		kit_free(&k);
		assert_true(script_end(&server));
	}
}

static void
test_delay_failures(void **state)
{
	static const char junk[] = "no http at all\r\n\r\n", slow[] = "HTTP/1.1 200 OK\r\n\r\n";
	struct script_step step[1] = { { NULL, 0, junk, sizeof(junk) - 1, 0 } };
	struct script server;
	struct kit k;
	struct result r;
	char want[256];
	uint16_t port;
	int fd;

	(void)state;
	load(&k);
	serve(&server, step, 1, true, want, sizeof(want), "/");
	r = measure(&k, "DIRECT", "/", server.port, 3000, "", NULL);
	assert_int_equal(r.err, E_PROTO);
	assert_true(script_end(&server));
	step[0] = (struct script_step){ NULL, 0, slow, sizeof(slow) - 1, 400 };
	serve(&server, step, 1, true, want, sizeof(want), "/");
	r = measure(&k, "DIRECT", "/", server.port, 100, "", NULL);
	assert_int_equal(r.err, E_TIMEOUT);
	(void)script_end(&server);
	fd = kit_socket(SOCK_STREAM, &port);
	(void)close(fd);
	r = measure(&k, "DIRECT", "/", port, 3000, "", NULL);
	assert_int_equal(r.err, E_REFUSED);
	r = measure(&k, "REJECT", "/", port, 3000, "", NULL);
	assert_int_equal(r.err, E_REJECTED);
	r = measure(&k, "v", "/", port, 3000, "", NULL);
	assert_int_equal(r.err, E_UNSUP);
	r = measure(&k, "REJECT-DROP", "/", port, 0, "", NULL);
	assert_int_equal(r.err, E_TIMEOUT);
	kit_free(&k);
}

static void
test_delay_bad_urls(void **state)
{
	static const char *const bad[] = { "", "x", "ftp://h/", "http://", "http:///x", "http://h:99999/", "http://a b/",
	    "http://h/\r\nX: y", "http://:80/" };
	struct kit k;
	struct result r = { .done = false };
	int err;

	(void)state;
	load(&k);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err = 0;
		assert_null(delay_start(k.g.direct, bad[i], 1000, "", on_done, &r, &err, NULL));
		assert_int_equal(err, -E_INVAL);
	}
	assert_null(delay_start(k.g.direct, "http://127.0.0.1/", 1000, "x", on_done, &r, &err, NULL));
	assert_int_equal(r.calls, 0);
	kit_free(&k);
}

static void
test_delay_cancel(void **state)
{
	struct kit k;
	struct result r = { .done = false };
	struct delay_test *t;
	int err;

	(void)state;
	load(&k);
	t = delay_start(kit_find(&k, "REJECT-DROP"), "http://user@[::1]:81/", 0, "", on_done, &r, &err, NULL);
	assert_non_null(t);
	delay_cancel(t);
	for (int i = 0; i < 10; i++)
		loop_turn(&k.w.loop);
	assert_int_equal(r.calls, 0);
	kit_free(&k);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_delay_status), cmocka_unit_test(test_delay_unified), cmocka_unit_test(test_delay_failures),
		cmocka_unit_test(test_delay_bad_urls), cmocka_unit_test(test_delay_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
