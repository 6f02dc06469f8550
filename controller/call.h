/* SPDX-License-Identifier: MIT */
/* One request from its head to its answer: made by client.c, answered by front.c, run by feed.c on a civetweb thread or parked
 * on the loop. Owned by its client while it is read, by the feed while it is there, by the parked table while it is parked; one
 * owner at a time. */
#ifndef SLUICE_CONTROLLER_CALL_H
#define SLUICE_CONTROLLER_CALL_H

#include <stdbool.h>
#include <stddef.h>

#include "common/list.h"
#include "controller/api.h"
#include "controller/http.h"
#include "controller/router.h"

struct client;
struct ctl_conf;

struct call {
	struct api_req req;		/* what handle() sees; points into the rest */
	struct reply reply;
	struct http_req http;
	struct http_body framing;
	struct router_hit hit;
	struct ctl_conf *conf;		/* holds a reference: the one it was routed by */
	struct client *client;		/* NULL: it went away; the operation goes on */
	struct list link;		/* feed.c: waiting for a place */
	char *head, *body;
	size_t body_len, body_cap, body_max;
	bool refused;			/* the answer is known already; the body is read and thrown away */
	bool head_only;			/* HEAD: the answer's body is not sent */
	int slot;			/* feed.c, front.c: its place */
};

struct call *call_new(struct client *client);
void call_free(struct call *call);
int call_body_add(struct call *call, const void *p, size_t n);	/* 0, -E_LIMIT over body_max, -E_NOMEM */
void call_prepare(struct call *call, struct ctl *ctl);		/* fills req once the body is whole */
void reply_clear(struct reply *r);				/* drops what was made so far */

#endif
