/* SPDX-License-Identifier: MIT */
/* controller/feed.c: the installed civetweb can still be fed. feed_start() refuses to come back with a library that is not (a
 * newer one that takes its connections by another call, for one); the rest shows that calls reach their handlers and answers
 * come back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/ev.h"
#include "controller/call.h"
#include "controller/ctl.h"
#include "controller/feed.h"

static struct ctl ctl;
static unsigned answered;
static int last_status;
static size_t last_len;
static char last_headers[4096], last_first;

static void
on_done(struct call *call, int status, const char *type, const char *headers, char *body, size_t len)
{
	(void)type;
	answered++;
	last_status = status;
	last_len = len;
	last_first = body != NULL && len > 0 ? body[0] : '\0';
	snprintf(last_headers, sizeof(last_headers), "%s", headers);
	assert_false(feed_has(ctl.feed, call));
	free(body);
	call_free(call);
}

static int
handle_echo(struct api_req *req)
{
	reply_header(req, "X-Body", req->body);
	return reply_text(req, 201, "text/plain", "made");
}

static int
handle_large(struct api_req *req)
{
	char *big = malloc(3 << 20);

	if (big == NULL)
		return reply_empty(req, 500);
	memset(big, 'b', (3 << 20) - 1);
	big[(3 << 20) - 1] = '\0';
	reply_text(req, 200, "application/json", big);
	free(big);
	return 200;
}

static int
handle_empty(struct api_req *req)
{
	return reply_empty(req, 204);
}

static int
handle_wrong(struct api_req *req)
{
	(void)req;
	return API_PARKED;
}

static struct call *
make(const struct api_route *route)
{
	struct call *call = call_new(NULL);

	assert_non_null(call);
	call->hit.route = route;
	call->http.method = route->method;
	call->body_max = 100;
	assert_int_equal(call_body_add(call, "hello", 5), 0);
	call_prepare(call, &ctl);
	return call;
}

static void
run_until(unsigned n)
{
	for (int i = 0; answered < n && i < 100000; i++)
		ev_run(ctl.loop, EVRUN_ONCE);
	assert_int_equal(answered, n);
}

static int
setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	ctl.loop = ev_loop_new(EV_SLUICE);
	ctl.feed = feed_start(&ctl, on_done);
	return ctl.feed != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	feed_stop(ctl.feed);
	ev_loop_destroy(ctl.loop);
	return 0;
}

static void
test_submit_answer(void **state)
{
	static const struct api_route route = { "PUT", "/x", 0, handle_echo };

	(void)state;
	answered = 0;
	assert_int_equal(feed_submit(ctl.feed, make(&route)), 0);
	run_until(1);
	assert_int_equal(last_status, 201);
	assert_int_equal(last_len, 4);
	assert_int_equal(last_first, 'm');
	assert_string_equal(last_headers, "Content-Type: text/plain\r\nX-Body: hello\r\n");
}

static void
test_submit_large_is_lent(void **state)
{
	static const struct api_route route = { "GET", "/x", 0, handle_large };

	(void)state;
	answered = 0;
	assert_int_equal(feed_submit(ctl.feed, make(&route)), 0);
	run_until(1);
	assert_int_equal(last_status, 200);
	assert_int_equal(last_len, (3 << 20) - 1);
	assert_int_equal(last_first, 'b');
	assert_string_equal(last_headers, "Content-Type: application/json\r\n");
}

static void
test_submit_every_method(void **state)
{
	static const char *const methods[] = { "GET", "PUT", "POST", "PATCH", "DELETE" };

	(void)state;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		struct api_route route = { methods[i], "/x", 0, handle_empty };
		answered = 0;
		assert_int_equal(feed_submit(ctl.feed, make(&route)), 0);
		run_until(1);
		assert_int_equal(last_status, 204);
	}
}

static void
test_submit_more_than_threads(void **state)
{
	static const struct api_route route = { "GET", "/x", 0, handle_empty };
	unsigned n = 0;

	(void)state;
	answered = 0;
	while (n < FEED_THREADS + FEED_WAITING_MAX) {
		assert_int_equal(feed_submit(ctl.feed, make(&route)), 0);
		n++;
	}
	{
		struct call *one_more = make(&route);
		assert_int_not_equal(feed_submit(ctl.feed, one_more), 0);
		call_free(one_more);
	}
	run_until(n);
}

static void
test_submit_handler_that_does_not_answer(void **state)
{
	static const struct api_route route = { "GET", "/x", 0, handle_wrong };

	(void)state;
	answered = 0;
	assert_int_equal(feed_submit(ctl.feed, make(&route)), 0);
	run_until(1);
	assert_int_equal(last_status, 500);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_submit_answer), cmocka_unit_test(test_submit_large_is_lent),
		cmocka_unit_test(test_submit_every_method), cmocka_unit_test(test_submit_more_than_threads),
		cmocka_unit_test(test_submit_handler_that_does_not_answer),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
