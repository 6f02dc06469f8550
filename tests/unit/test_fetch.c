/* SPDX-License-Identifier: MIT */
/* Downloads against a fake web server: the request, framings of bodies, redirects, limits, failures, cancelling; and URLs. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/log.h"
#include "common/memfd.h"
#include "tests/unit/worker_net.h"
#include "worker/codec/url.h"
#include "worker/outbound/outbound.h"
#include "worker/provider/fetch.h"

enum { REQUESTS = 12 };

struct server {			/* answers the i-th connection with answer[i], then closes it */
	int fd, n;
	uint16_t port;
	char answer[REQUESTS][512];
	char request[REQUESTS][2048];
	bool hold;		/* the last one stays open until the client leaves */
	pthread_t thread;
};

static void *
serve(void *arg)
{
	struct server *s = arg;
	char sink[256];

	for (int i = 0; i < s->n; i++) {
		struct pollfd first = { .fd = s->fd, .events = POLLIN };
		size_t n = 0;
		ssize_t r;
		int fd;

		(void)poll(&first, 1, -1);	/* as in script_server.h */
		fd = accept(s->fd, NULL, NULL);
		while (n < sizeof s->request[i] - 1 && strstr(s->request[i], "\r\n\r\n") == NULL &&
		    (r = recv(fd, s->request[i] + n, sizeof s->request[i] - 1 - n, 0)) > 0)
			n += (size_t)r;
		(void)send(fd, s->answer[i], strlen(s->answer[i]), MSG_NOSIGNAL);
		while (s->hold && i == s->n - 1 && recv(fd, sink, sizeof sink, 0) > 0)
			;
		close(fd);
	}
	return NULL;
}

static void
server_start(struct server *s, int n)
{
	s->n = n;
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void
server_end(struct server *s)
{
	assert_int_equal(pthread_join(s->thread, NULL), 0);
	close(s->fd);
}

static void
server_listen(struct server *s)
{
	memset(s, 0, sizeof *s);
	s->fd = listen_on("127.0.0.1", &s->port);
	assert_int_not_equal(s->fd, -1);
}

struct got {
	bool done;
	int calls, err;
	unsigned status;
	size_t size;
	char body[512], etag[64], userinfo[64], text[256];
};

static void
on_done(void *arg, const struct fetch_result *r)
{
	struct got *g = arg;
	const void *p;
	size_t n;

	g->done = true;
	g->calls++;
	g->err = r->err;
	g->status = r->status;
	g->size = r->size;
	(void)snprintf(g->etag, sizeof g->etag, "%s", r->etag);
	(void)snprintf(g->userinfo, sizeof g->userinfo, "%s", r->userinfo);
	(void)snprintf(g->text, sizeof g->text, "%s", r->text);
	if (r->fd == -1)
		return;
	assert_int_equal(memfd_map(r->fd, &p, &n, 1 << 20), 0);	/* sealed */
	assert_int_equal(n, r->size);
	(void)snprintf(g->body, sizeof g->body, "%.*s", (int)n, n > 0 ? (const char *)p : "");
	if (n > 0)
		munmap((void *)(uintptr_t)p, n);
	close(r->fd);
}

static void
setup(struct rig *r)
{
	struct cfg_err err = { 0 };

	rig_start(r);
	arena_init(&r->gen.arena);
	map_init(&r->gen.proxies);
	general_defaults(&r->gen);
	assert_int_equal(outbounds_parse(&r->gen, NULL, &err), 0);
}

static void
teardown(struct rig *r)
{
	rig_turns(r, 3);
	outbounds_fini(&r->gen);
	loop_fini(&r->w.loop);
	map_free(&r->gen.proxies);
	arena_free(&r->gen.arena);
}

static struct got
get(struct server *s, const char *path, const struct fetch_opts *o)
{
	struct got g = { .done = false };
	struct rig r;
	char url[256];

	setup(&r);
	(void)snprintf(url, sizeof url, "http://u%%40x:p@127.0.0.1:%u%s", s->port, path);
	assert_non_null(fetch_start(&r.gen, url, o, on_done, &g));
	assert_false(g.done);
	assert_true(rig_wait(&r, &g.done));
	teardown(&r);
	assert_int_equal(g.calls, 1);
	return g;
}

static void
test_fetch_body(void **state)
{
	static const struct { const char *answer, *body; int err; unsigned status;
	} cases[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"a\"\r\nsubscription-userinfo: upload=1\r\n\r\nhello", "hello",
		    0, 200 },
		{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n",
		    "abcde", 0, 200 },
		{ "HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end", 0, 200 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 0, 200 },
		{ "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", "", 0, 304 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut", "", E_CLOSED, 200 },
		{ "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", "", E_NOTFOUND, 404 },
		{ "HTTP/1.1 301 Moved\r\n\r\n", "", E_PROTO, 301 },
		{ "SSH-2.0-x\r\n\r\n", "", E_PROTO, 0 },
		{ "", "", E_CLOSED, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct fetch_opts o = { 0 };
		struct server s;
		struct got g;

		server_listen(&s);
		(void)snprintf(s.answer[0], sizeof s.answer[0], "%s", cases[i].answer);
		server_start(&s, 1);
		g = get(&s, "/a?b=c#d", &o);
		server_end(&s);
		assert_int_equal(g.err, cases[i].err);
		assert_int_equal(g.status, cases[i].status);
		assert_string_equal(g.body, cases[i].body);
		assert_int_equal(g.text[0] == '\0', cases[i].err == 0);
		if (i == 0) {
			assert_string_equal(g.etag, "\"a\"");
			assert_string_equal(g.userinfo, "upload=1");
		}
		if (cases[i].status == 404)
			assert_string_equal(g.text, "404 Not Found");
	}
}

static void
test_fetch_request(void **state)
{
	static const char *const headers[] = { "X-Own", "1", "Host", "evil", "X-Split", "a\r\nb", "User-Agent", "mine", NULL };
	struct fetch_opts o = { .headers = headers, .etag = "\"e\"", .modified = "Sun, 06 Nov 1994 08:49:37 GMT" };
	struct server s;
	struct got g;
	char want[512];

	(void)state;
	server_listen(&s);
	(void)snprintf(s.answer[0], sizeof s.answer[0], "HTTP/1.1 302 Found\r\nLocation: ../b\r\nContent-Length: 0\r\n\r\n");
	(void)snprintf(
	    s.answer[1], sizeof s.answer[1], "HTTP/1.1 307 x\r\nLocation: http://localhost.invalid:%u/\r\n\r\n", s.port);
	server_start(&s, 2);
	g = get(&s, "/dir/a?b", &o);
	server_end(&s);
	assert_int_not_equal(g.err, 0);		/* the last place has no address */
	(void)snprintf(want, sizeof want,
	    "GET /dir/a?b HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nX-Own: 1\r\nUser-Agent: mine\r\nIf-None-Match: \"e\"\r\n"
	    "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	    "Authorization: Basic dUB4OnA=\r\nConnection: close\r\n\r\n",
	    s.port);
	assert_string_equal(s.request[0], want);
	assert_non_null(strstr(s.request[1], "GET /dir/../b HTTP/1.1\r\n"));
}

/* Own fields and credentials stay with the host they were written for. */
static void
test_fetch_secrets(void **state)
{
	static const char *const headers[] = { "X-Token", "s", NULL };
	struct fetch_opts o = { .headers = headers };
	struct server s;
	struct got g;

	(void)state;
	server_listen(&s);
	(void)snprintf(s.answer[1], sizeof s.answer[1], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	(void)snprintf(
	    s.answer[0], sizeof s.answer[0], "HTTP/1.1 302 Found\r\nLocation: http://[::ffff:127.0.0.1]:%u/x\r\n\r\n", s.port);
	server_start(&s, 2);
	g = get(&s, "/", &o);
	server_end(&s);
	assert_int_equal(g.err, 0);
	assert_non_null(strstr(s.request[0], "X-Token"));
	assert_non_null(strstr(s.request[0], "Authorization"));
	assert_null(strstr(s.request[1], "X-Token"));
	assert_null(strstr(s.request[1], "Authorization"));
	assert_non_null(strstr(s.request[1], "User-Agent: clash.meta/"));
}

static void
test_fetch_limits(void **state)
{
	struct fetch_opts small = { .size_limit = 4 }, enough = { .size_limit = 5 }, slow = { .timeout_ms = 100 };
	struct server s;
	struct got g;

	(void)state;
	server_listen(&s);
	(void)snprintf(s.answer[0], sizeof s.answer[0], "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	server_start(&s, 1);
	g = get(&s, "/", &small);
	server_end(&s);
	assert_int_equal(g.err, E_LIMIT);
	assert_string_equal(g.text, "the answer is larger than 4 bytes");

	server_listen(&s);
	(void)snprintf(s.answer[0], sizeof s.answer[0], "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
	server_start(&s, 1);
	g = get(&s, "/", &enough);
	server_end(&s);
	assert_int_equal(g.err, 0);
	assert_string_equal(g.body, "hello");

	server_listen(&s);
	(void)snprintf(s.answer[0], sizeof s.answer[0], "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
	s.hold = true;
	server_start(&s, 1);
	g = get(&s, "/", &slow);
	server_end(&s);
	assert_int_equal(g.err, E_TIMEOUT);

	server_listen(&s);
	for (int i = 0; i <= FETCH_REDIRECTS_MAX; i++)
		(void)snprintf(s.answer[i], sizeof s.answer[i], "HTTP/1.1 303 See Other\r\nLocation: /%d\r\n\r\n", i);
	server_start(&s, FETCH_REDIRECTS_MAX + 1);
	g = get(&s, "/", &small);
	server_end(&s);
	assert_int_equal(g.err, E_LIMIT);
}

static void
test_fetch_cancel(void **state)
{
	struct fetch_opts o = { 0 };
	struct got g = { .done = false };
	struct rig r;
	struct fetch *f;

	(void)state;
	setup(&r);
	assert_null(fetch_start(&r.gen, "ftp://h/", &o, on_done, &g));
	f = fetch_start(&r.gen, "http://127.0.0.1:1/", &o, on_done, &g);
	assert_non_null(f);
	fetch_cancel(f);
	f = fetch_start(&r.gen, "http://127.0.0.1:1/", &o, on_done, &g);
	loop_turn(&r.w.loop);
	fetch_cancel(f);
	teardown(&r);
	assert_int_equal(g.calls, 0);
}

static void
test_url(void **state)
{
	static const struct { const char *text, *host, *path, *user; uint16_t port;
	} good[] = {
		{ "http://h", "h", "", "", 80 },
		{ "HTTPS://h:8/p?q#f", "h", "/p?q", "", 8 },
		{ "https://[::1]/", "::1", "/", "", 443 },
		{ "http://a:b@h:/", "h", "/", "a:b", 80 },
		{ "http://h?q", "h", "?q", "", 80 },
	};
	static const char *const bad[] = { "", "h", "http://", "http:///p", "http://h:x/", "http://a b/", "http://h:99999",
		"http://:80/", "http://u@/" };
	static const struct { const char *base, *ref, *is;
	} refs[] = {
		{ "http://h/a/b?c", "d", "http://h/a/d" },
		{ "http://h", "d", "http://h/d" },
		{ "http://h/a", "/x", "http://h/x" },
		{ "https://h/a", "//o/x", "https://o/x" },
		{ "http://h/a", "https://o/x", "https://o/x" },
		{ "http://h/a?b", "?c", "http://h/a?c" },
	};
	char out[64];

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		struct url u;

		assert_int_equal(url_parse(&u, good[i].text), 0);
		assert_string_equal(u.host, good[i].host);
		assert_int_equal(u.port, good[i].port);
		assert_string_equal(u.user, good[i].user);
		assert_int_equal(u.path_len, strlen(good[i].path));
		assert_memory_equal(u.path, good[i].path, u.path_len);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(fetch_url_valid(bad[i]));
	for (size_t i = 0; i < sizeof refs / sizeof refs[0]; i++) {
		assert_int_equal(url_resolve(out, sizeof out, refs[i].base, refs[i].ref), 0);
		assert_string_equal(out, refs[i].is);
	}
	assert_int_not_equal(url_resolve(out, 8, "http://h/a", "/x"), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fetch_body), cmocka_unit_test(test_fetch_request), cmocka_unit_test(test_fetch_secrets),
		cmocka_unit_test(test_fetch_limits), cmocka_unit_test(test_fetch_cancel), cmocka_unit_test(test_url),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
