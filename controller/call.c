/* SPDX-License-Identifier: MIT */
/* The memory of one request and its answer. Called by client.c, front.c, feed.c. */
#include "controller/call.h"

#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "controller/ctl.h"

struct call *
call_new(struct client *client)
{
	struct call *call = calloc(1, sizeof(*call));

	if (call == NULL)
		return NULL;
	list_init(&call->link);
	call->client = client;
	call->slot = -1;
	call->http.length = -1;
	call->http.method = call->http.path = call->http.query = call->http.host = "";
	return call;
}

void
call_free(struct call *call)
{
	if (call == NULL)
		return;
	list_remove(&call->link);
	router_hit_free(&call->hit);
	ctl_conf_put(call->conf);
	free(call->reply.body);
	free(call->head);
	free(call->body);
	free(call);
}

int
call_body_add(struct call *call, const void *p, size_t n)
{
	if (n > call->body_max || call->body_len > call->body_max - n)
		return -E_LIMIT;
	if (call->refused) {
		call->body_len += n;
		return 0;
	}
	if (call->body_len + n + 1 > call->body_cap) {
		size_t cap = call->body_cap == 0 ? 1024 : call->body_cap;
		char *body;
		while (cap < call->body_len + n + 1)
			cap *= 2;
		body = realloc(call->body, cap);
		if (body == NULL)
			return -E_NOMEM;
		call->body = body;
		call->body_cap = cap;
	}
	memcpy(call->body + call->body_len, p, n);
	call->body_len += n;
	call->body[call->body_len] = '\0';
	return 0;
}

void
call_prepare(struct call *call, struct ctl *ctl)
{
	call->req.ctl = ctl;
	call->req.route = call->hit.route;
	call->req.method = call->http.method;
	call->req.path = call->http.path;
	call->req.query = call->http.query;
	call->req.range = http_get(&call->http, "Range");
	call->req.if_modified_since = http_get(&call->http, "If-Modified-Since");
	call->req.content_type = http_get(&call->http, "Content-Type");
	for (int i = 0; i < API_PARAMS_MAX; i++)
		call->req.param[i] = call->hit.param[i];
	call->req.body = call->body != NULL ? call->body : "";
	call->req.body_len = call->body_len;
	call->req.reply = &call->reply;
}

void
reply_clear(struct reply *r)
{
	free(r->body);
	memset(r, 0, sizeof(*r));
}
