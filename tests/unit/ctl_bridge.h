/* SPDX-License-Identifier: MIT */
/* What the tests of controller/api/ share: a bridge made of canned answers, which records what is asked, and a way to run one
 * handler of routes.c. Defining every bridge function here keeps the real bridge.o out of the link. Included once by each test
 * program. */
#ifndef SLUICE_TESTS_UNIT_CTL_BRIDGE_H
#define SLUICE_TESTS_UNIT_CTL_BRIDGE_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/memfd.h"
#include "common/snapshot.h"
#include "common/strutil.h"
#include "common/value.h"
#include "common/version.h"
#include "controller/api.h"
#include "controller/bridge.h"
#include "controller/ctl.h"

#define SHARED __attribute__((unused)) static	/* not every program uses all of it */

/* ---- the bridge */

enum { QUEUE = 8 };

struct canned {			/* the next answers, first in first out */
	int err, status;
	uint16_t type;
	_Alignas(8) uint8_t data[4096];
	size_t len;
	int fd, copies;
};
struct asked {
	enum bridge_to to;
	uint16_t type;
	uint32_t kind;
	uint8_t body[16384];
	size_t len;
	char file[256];		/* the start of what the descriptor held */
};

static struct canned canned[QUEUE];
static struct asked asked[QUEUE];
static int ncanned, nasked, nused, lowest_fd;
static bridge_cb *waiting;
static void *waiting_arg;
static struct reply out;
static struct api_req current;
static struct ctl_conf conf;
static bool client_gone, done;
static struct msg_note note;		/* the supervisor's word on what was rolled back */

SHARED void
record(enum bridge_to to, uint16_t type, uint32_t kind, const void *body, size_t len, int fd)
{
	struct asked *a = &asked[nasked++];

	assert_true(nasked <= QUEUE && len <= sizeof(a->body));
	memset(a, 0, sizeof(*a));
	a->to = to;
	a->type = type;
	a->kind = kind;
	a->len = len;
	if (len > 0)
		memcpy(a->body, body, len);
	if (fd != -1) {
		assert_true(pread(fd, a->file, sizeof(a->file) - 1, 0) >= 0);
		close(fd);
	}
}

SHARED int
take_canned(struct bridge_reply *r)
{
	const struct canned *c = &canned[nused++];

	memset(r, 0, sizeof(*r));
	assert_true(nused <= ncanned);
	if (c->err != 0 && c->status == 0)
		return c->err;
	r->type = c->type;
	r->n = c->copies;
	for (int i = 0; i < r->n; i++)
		r->answer[i] = (struct bridge_answer){ .status = c->status, .data = c->data, .len = c->len, .fd = c->fd };
	return c->err;
}

int
bridge_call(struct ctl *ctl, enum bridge_to to, uint16_t type, uint32_t kind, const void *body, size_t len, int fd, unsigned ms,
    struct bridge_reply *r)
{
	(void)ctl;
	assert_true(ms > 0);
	assert_true((current.route->flags & API_ASYNC) == 0);	/* it would block the loop */
	record(to, type, kind, body, len, fd);
	return take_canned(r);
}

void
bridge_free(struct bridge_reply *r)
{
	for (int i = 0; i < r->n; i++)
		if (r->answer[i].fd != -1)
			close(r->answer[i].fd);
	r->n = 0;
}

int
bridge_ask(struct ctl *ctl, enum bridge_to to, uint16_t type, uint32_t kind, const void *body, size_t len, int fd, unsigned ms,
    bridge_cb *cb, void *arg)
{
	(void)ctl;
	assert_true(ms > 0);
	assert_null(waiting);
	record(to, type, kind, body, len, fd);
	if (nused < ncanned && canned[nused].err == -E_LIMIT) {
		nused++;
		return -E_LIMIT;
	}
	waiting = cb;
	waiting_arg = arg;
	return 0;
}

struct api_req *
api_parked(struct ctl *ctl, uint64_t parked)
{
	(void)ctl;
	assert_int_equal(parked, 77);
	return client_gone ? NULL : &current;
}

void
api_done(struct ctl *ctl, struct api_req *req)
{
	(void)ctl;
	assert_ptr_equal(req, &current);
	assert_false(done);
	done = true;
}

void
bridge_totals(struct ctl *ctl, struct bridge_totals *t)
{
	(void)ctl;
	*t = (struct bridge_totals){ .up = 11, .down = 22 };
}

struct ctl_conf *
ctl_conf(struct ctl *ctl)
{
	(void)ctl;
	return &conf;
}

void
ctl_note_get(struct ctl *ctl, struct msg_note *to)
{
	(void)ctl;
	*to = note;
}

void
ctl_conf_put(struct ctl_conf *c)
{
	assert_ptr_equal(c, &conf);
}

/* ---- running a request */

/* The number that the next descriptor would get: it grows when one is leaked. */
SHARED int
next_fd(void)
{
	int fd = memfd_from("next", "", 0);

	assert_true(fd >= 0);
	close(fd);
	return fd;
}

SHARED int
setup(void **state)
{
	(void)state;
	lowest_fd = next_fd();
	ncanned = nasked = nused = 0;
	client_gone = false;
	conf.ui = true;
	memset(&current, 0, sizeof(current));
	return 0;
}

SHARED int
teardown(void **state)
{
	(void)state;
	free(out.body);
	memset(&out, 0, sizeof(out));
	assert_int_equal(next_fd(), lowest_fd);
	return 0;
}

SHARED struct canned *
answer(int status, uint16_t type)
{
	struct canned *c = &canned[ncanned++];

	*c = (struct canned){ .status = status, .type = type, .fd = -1, .copies = 1 };
	return c;
}

SHARED void
answer_wire(int status, struct wire *w)
{
	struct canned *c = answer(status, MSG_ANSWER);

	assert_true(w->len <= sizeof(c->data));
	if (w->len > 0)
		memcpy(c->data, w->p, w->len);
	c->len = w->len;
	wire_free(w);
}

SHARED void
answer_text(int status, const char *text)
{
	struct wire w;

	wire_init(&w);
	wire_put_str(&w, text);
	answer_wire(status, &w);
}

/* A map {"type":type} (or vehicleType) as a found object. */
SHARED void
answer_map(const char *key, const char *text)
{
	struct wire w;

	wire_init(&w);
	value_map(&w);
	value_key(&w, key);
	value_str(&w, text);
	value_map_end(&w);
	answer_wire(200, &w);
}

SHARED struct msg_result *
answer_result(int status, const char *text)
{
	struct canned *c = answer(200, MSG_RESULT);
	struct msg_result *m = (struct msg_result *)(void *)c->data;

	*m = (struct msg_result){ .status = status };
	str_copy(m->text, sizeof(m->text), text);
	c->len = sizeof(*m);
	return m;
}

SHARED const struct api_route *
route(const char *method, const char *path)
{
	const struct api_route *r = api_routes;

	while (r->method != NULL && (strcmp(r->method, method) != 0 || strcmp(r->path, path) != 0))
		r++;
	assert_non_null(r->method);
	return r;
}

SHARED int
run_in(const char *method, const char *path, const char *p0, const char *p1, const char *query, const char *body)
{
	struct bridge_reply r;
	bridge_cb *cb;
	int status;

	free(out.body);
	memset(&out, 0, sizeof(out));
	current.route = route(method, path);
	current.method = method;
	if (current.path == NULL)
		current.path = path;
	current.query = query;
	current.param[0] = p0;
	current.param[1] = p1;
	current.body = body;
	current.body_len = strlen(body);
	current.reply = &out;
	current.parked = (current.route->flags & API_ASYNC) != 0 ? 77 : 0;
	done = false;
	status = current.route->handle(&current);
	if (status != API_PARKED) {
		assert_null(waiting);
		return status;
	}
	assert_true((current.route->flags & API_ASYNC) != 0);
	while (waiting != NULL) {
		int err = take_canned(&r);
		cb = waiting;
		waiting = NULL;
		cb(NULL, err, &r, waiting_arg);
		bridge_free(&r);
	}
	assert_true(done != client_gone);
	return client_gone ? 0 : out.status;
}

SHARED int
run(const char *method, const char *path, const char *p0, const char *query, const char *body)
{
	return run_in(method, path, p0, NULL, query, body);
}

SHARED void
expect(const char *text)
{
	assert_int_equal(out.len, strlen(text));
	assert_memory_equal(out.body, text, out.len);
	if (strchr(text, '\n') != NULL)
		assert_string_equal(out.type, "application/json");
}

SHARED void
expect_message(const char *text)
{
	char line[512];

	snprintf(line, sizeof(line), "{\"message\":\"%s\"}\n", text);
	expect(line);
}

/* The two texts of a CHANGE_SELECT. */
SHARED void
expect_select(const struct asked *a, const char *group, const char *name)
{
	struct msg_change m;
	char text[64];
	struct wire w;

	assert_int_equal(a->to, BRIDGE_SUPERVISOR);
	assert_int_equal(a->type, MSG_CHANGE);
	memcpy(&m, a->body, sizeof(m));
	assert_int_equal(m.kind, CHANGE_SELECT);
	wire_read(&w, a->body + sizeof(m), a->len - sizeof(m));
	assert_int_equal(wire_get_str(&w, text, sizeof(text)), 0);
	assert_string_equal(text, group);
	assert_int_equal(wire_get_str(&w, text, sizeof(text)), 0);
	assert_string_equal(text, name);
	assert_int_equal(wire_done(&w), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
