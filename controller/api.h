/* SPDX-License-Identifier: MIT */
/* What an endpoint sees. One file per resource in controller/api/, one line per method and path in routes.c.
 *
 * A short call's handle() runs on a civetweb thread and may block only in bridge_call(), which has a deadline. An API_ASYNC
 * call's handle() runs on the loop: it checks its input, either answers at once (returns a status, as the others) or starts a
 * bridge_ask() and returns API_PARKED; the answer comes later by api_done(). At most API_PARKED_MAX are parked; more are
 * answered 503. API_STREAM paths are served by the loop (stream.c); their handle() only checks the query and returns 0 to go
 * on or a status. */
#ifndef SLUICE_CONTROLLER_API_H
#define SLUICE_CONTROLLER_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "common/addr.h"

struct ctl;			/* the controller: controller/ctl.h */

enum {
	API_OPEN = 1,		/* no secret needed */
	API_STREAM = 2,
	API_ASYNC = 4,
	API_DEBUG = 8,		/* only when log-level was debug at start */
	API_EXACT = 16		/* no trailing slash (spec/api.md 1.4) */
};
enum { API_PARKED = -1 };	/* beside HTTP statuses */
enum { API_PARKED_MAX = 1024, API_PARAMS_MAX = 3, API_BODY_MAX = 1 << 20, API_CONFIG_BODY_MAX = 8 << 20, API_STORE_BODY_MAX = (1 << 20) + 4096, API_DOH_BODY_MAX = 65535 };

/* The answer being made; owned by the transport, which sends it. Body memory is malloc'ed and grows. */
struct reply {
	int status;
	char type[64];		/* Content-Type, "" = none */
	char headers[2048];	/* further complete lines, each ended by CRLF */
	char *body;
	size_t len, cap;
	bool oom;		/* memory ran out: sent as 500 */
};

struct api_req {
	struct ctl *ctl;
	const struct api_route *route;
	const char *method;
	const char *path;		/* raw, without the query */
	const char *query;		/* raw, "" if none */
	const char *range, *if_modified_since;	/* these headers' values, NULL when absent; for /ui only */
	const char *content_type;		/* the same, for external-doh-server */
	bool upgrade;			/* a WebSocket upgrade */
	const char *param[API_PARAMS_MAX];	/* the {segments}, percent-decoded once, NUL-terminated */
	const char *body;		/* lent; body_len bytes, NUL after them */
	size_t body_len;
	struct reply *reply;
	uint64_t parked;		/* set for API_ASYNC: names the request for api_done() */
};

struct api_route {
	const char *method, *path;	/* "PUT", "/proxies/{name}" */
	unsigned flags;
	int (*handle)(struct api_req *);	/* returns the status it put into the reply (by reply_*()) or API_PARKED */
};

extern const struct api_route api_routes[];	/* routes.c, ended by a NULL method */
extern const struct api_route api_doh;		/* of external-doh-server, at the path that the configuration says; every method */

/* A query value, percent-decoded ('+' is a blank), into out; false when absent. Cut values are treated as absent. */
bool api_query(const struct api_req *req, const char *key, char *out, size_t cap);
/* A query value that is a whole decimal number, maybe signed; 0, -E_NOTFOUND when absent, -E_INVAL when it is no number or
 * outside. */
int api_query_int(const struct api_req *req, const char *key, int64_t min, int64_t max, int64_t *out);
/* Length of the strictly valid JSON value (RFC 8259) that starts p, white space before it included; 0 when there is none or it
 * nests deeper than depth (at most JSON_DEPTH_MAX). *nul (may be NULL) tells whether a string holds \u0000. */
enum { JSON_DEPTH_MAX = 512, API_JSON_DEPTH_MAX = 32 };
size_t json_scan(const char *p, size_t n, unsigned depth, bool *nul);
/* The first JSON value of the body as spec/api.md 1.6 says; NULL (caller answers "Body invalid") when it is none. Nesting is
 * capped. */
cJSON *api_json(const struct api_req *req);
/* Case-insensitive member, the last duplicate wins; NULL when absent or JSON null. */
const cJSON *api_member(const cJSON *object, const char *key);

/* ---- answers; each returns the status given, so `return reply_error(req, 404, "...")` ends a handler */
int reply_json(struct api_req *req, int status, cJSON *value);		/* takes value; prints it as the reference encodes it + line feed */
int reply_text(struct api_req *req, int status, const char *type, const char *text);
int reply_error(struct api_req *req, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));	/* {"message":...} */
int reply_empty(struct api_req *req, int status);
int reply_header(struct api_req *req, const char *name, const char *value);

/* ---- direct JSON writing, for large answers without a tree: appended to reply.body (controller/reply.c) */
void json_raw(struct reply *r, const char *text);
void json_raw_n(struct reply *r, const char *text, size_t n);
void json_str(struct reply *r, const char *s, size_t n);	/* quoted and escaped as the reference does (spec/api.md 1.6) */
void json_int(struct reply *r, int64_t v);
void json_uint(struct reply *r, uint64_t v);
void json_time(struct reply *r, int64_t unix_ns);		/* quoted RFC 3339, trailing zeros cut; 0 = "0001-01-01T00:00:00Z" */
/* Renders one typed value (common/value.h) as it stands and moves w behind it; 0, -E_PROTO with nothing written, or -E_NOMEM. */
struct wire;
int json_value(struct reply *r, struct wire *w);
int reply_built(struct api_req *req, int status);		/* the body was written by json_*(): adds type and line feed */

#endif
