/* SPDX-License-Identifier: MIT */
/* GET /debug/pprof: what `go tool pprof URL` reads, of what a service in C knows of itself: the resident memory of its processes
 * (MSG_MEMORY), a sample for each kind. heap and allocs are this one profile, uncompressed, or text with ?debug=N; there are no
 * goroutines here, and no other profile: those are 404. Only when log-level was debug at start, and behind the secret.
 *
 * A profile.proto (github.com/google/pprof, proto/profile.proto): sample_type 1, sample 2, location 4, function 5,
 * string_table 6, period_type 11. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/imsg_types.h"
#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

enum { KINDS = 4, STRINGS = 3 }; /* "", "inuse_space", "bytes" come before the names */
enum { LEN = 2 }; /* wire type of protobuf: length-delimited; 0 is a varint */
static const char *const names[KINDS] = { "sluice (supervisor)", "sluice-worker (all)", "sluice-controller", "shared pages" };

struct use {
	uint64_t bytes[KINDS], total;
};

static int
ask_use(struct api_req *req, struct use *u)
{
	struct bridge_reply r;
	struct msg_memory m = { 0 };
	int rc = -E_TIMEOUT;

	if (ask_supervisor(req, MSG_MEMORY, NULL, 0, -1, &r) == 0 && r.n > 0 && r.answer[0].len >= sizeof(m)) {
		memcpy(&m, r.answer[0].data, sizeof(m));
		rc = 0;
	}
	bridge_free(&r);
	*u = (struct use){ .bytes = { m.supervisor, m.workers, m.controller }, .total = m.rss };
	u->bytes[KINDS - 1] = m.rss - m.supervisor - m.workers - m.controller;
	if (u->bytes[KINDS - 1] > m.rss)
		u->bytes[KINDS - 1] = 0;
	return rc;
}

/* ---- protobuf */

struct bytes {
	char b[128];
	size_t n;
};

static void
varint(struct bytes *o, uint64_t v)
{
	for (; v > 127 && o->n < sizeof(o->b) - 1; v >>= 7)
		o->b[o->n++] = (char)(v | 128);
	if (o->n < sizeof(o->b))
		o->b[o->n++] = (char)v;
}

static void
number(struct bytes *o, unsigned field, uint64_t v)
{
	varint(o, field << 3);
	varint(o, v);
}

/* One length-delimited field of the profile. */
static void
put(struct reply *r, unsigned field, const char *p, size_t n)
{
	struct bytes head = { .n = 0 };

	varint(&head, field << 3 | LEN);
	varint(&head, n);
	json_raw_n(r, head.b, head.n);
	json_raw_n(r, p, n);
}

static void
put_value_type(struct reply *r, unsigned field)
{
	struct bytes m = { .n = 0 };

	number(&m, 1, 1); /* "inuse_space" */
	number(&m, 2, 2); /* "bytes" */
	put(r, field, m.b, m.n);
}

/* Sample, location and function of one kind; location.line is a message with the function's id. */
static void
put_kind(struct reply *r, unsigned id, uint64_t bytes)
{
	struct bytes sample = { .n = 0 }, line = { .n = 0 }, location = { .n = 0 }, function = { .n = 0 };

	number(&sample, 1, id);
	number(&sample, 2, bytes);
	put(r, 2, sample.b, sample.n);
	number(&line, 1, id);
	number(&location, 1, id);
	varint(&location, 4 << 3 | LEN);
	varint(&location, line.n);
	memcpy(location.b + location.n, line.b, line.n);
	location.n += line.n;
	put(r, 4, location.b, location.n);
	number(&function, 1, id);
	number(&function, 2, STRINGS + id - 1);
	put(r, 5, function.b, function.n);
}

static void
put_profile(struct reply *r, const struct use *u)
{
	put_value_type(r, 1);
	put_value_type(r, 11);
	for (unsigned i = 0; i < KINDS; i++)
		put_kind(r, i + 1, u->bytes[i]);
	put(r, 6, "", 0);
	put(r, 6, "inuse_space", 11);
	put(r, 6, "bytes", 5);
	for (unsigned i = 0; i < KINDS; i++)
		put(r, 6, names[i], strlen(names[i]));
}

/* ---- the pages */

static void
no_store(struct api_req *req)
{
	reply_header(req, "Cache-Control", "no-cache, no-store, no-transform, must-revalidate, private, max-age=0");
	reply_header(req, "Expires", "Thu, 01 Jan 1970 00:00:00 GMT");
	reply_header(req, "Pragma", "no-cache");
	reply_header(req, "X-Accel-Expires", "0");
	reply_header(req, "X-Content-Type-Options", "nosniff");
}

static int
page(struct api_req *req)
{
	return reply_text(req, 200, "text/html; charset=utf-8",
	    "<html><head><title>/debug/pprof/</title></head><body><h1>/debug/pprof/</h1><table>"
	    "<tr><td>1</td><td><a href=\"allocs?debug=1\">allocs</a></td></tr>"
	    "<tr><td>1</td><td><a href=\"heap?debug=1\">heap</a></td></tr></table>"
	    "<p>allocs and heap: the resident memory of the service's processes.</p></body></html>\n");
}

/* Lines that begin with # are comments to who reads the format. */
static int
as_text(struct api_req *req, const struct use *u)
{
	char text[1024];
	size_t n = (size_t)snprintf(text, sizeof(text), "heap profile: %d: %llu [%d: %llu] @ heapprofile\n", KINDS,
	    (unsigned long long)u->total, KINDS, (unsigned long long)u->total);

	for (size_t i = 0; i < KINDS && n < sizeof(text); i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "# %llu\t%s\n", (unsigned long long)u->bytes[i], names[i]);
	return reply_text(req, 200, "text/plain; charset=utf-8", text);
}

static int
profile(struct api_req *req, const char *name)
{
	char disposition[64];
	int64_t debug = 0;
	struct use u;

	if (ask_use(req, &u) != 0)
		return reply_error(req, 503, "the supervisor did not answer in time");
	if (api_query_int(req, "debug", 0, INT32_MAX, &debug) == 0 && debug > 0)
		return as_text(req, &u);
	(void)snprintf(disposition, sizeof(disposition), "attachment; filename=\"%s\"", name);
	reply_header(req, "Content-Disposition", disposition);
	req->reply->len = 0;
	put_profile(req->reply, &u);
	req->reply->status = 200;
	(void)str_copy(req->reply->type, sizeof(req->reply->type), "application/octet-stream");
	return 200;
}

int
pprof_redirect(struct api_req *req)
{
	reply_header(req, "Location", "/debug/pprof/");
	return reply_empty(req, 301);
}

int
pprof_get(struct api_req *req)
{
	const char *name = req->param[0];

	no_store(req);
	if (name[0] == '\0')
		return page(req);
	if (strcmp(name, "heap") == 0 || strcmp(name, "allocs") == 0)
		return profile(req, name);
	reply_header(req, "X-Go-Pprof", "1");
	return reply_text(req, 404, "text/plain; charset=utf-8", "Unknown profile\n");
}
