/* SPDX-License-Identifier: MIT */
/* /configs: what runs, a live patch, and a reload (spec/api.md 2.6, 4.1, 4.2). The JSON ends here: a patch travels as a typed
 * value map, a payload as a sealed file. PATCH and PUT are parked until every worker, or the next generation, has taken them. */
#include <string.h>

#include "common/err.h"
#include "common/memfd.h"
#include "common/strutil.h"
#include "common/value.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

int
configs_get(struct api_req *req)
{
	struct bridge_reply r;
	int err = ask_workers(req, BRIDGE_LEAD, QUERY_CONFIG, NULL, &r), status = answer_value(req, err, &r, "", "");

	bridge_free(&r);
	return status;
}

/* ---- PATCH */

/* cJSON keeps a number's value only, and 1.0 is no port: the tree is walked beside its text, whose numbers come in the same
 * order. */
struct numbers {
	const char *p, *end;
};

/* The next number's text, outside of strings. */
static const char *
next_number(struct numbers *s, size_t *len)
{
	const char *from;
	bool quoted = false;

	for (; s->p < s->end; s->p++) {
		if (quoted && *s->p == '\\' && s->p + 1 < s->end)
			s->p++;
		else if (*s->p == '"')
			quoted = !quoted;
		else if (!quoted && (*s->p == '-' || (*s->p >= '0' && *s->p <= '9')))
			break;
	}
	from = s->p;
	while (s->p < s->end && *s->p != '\0' && strchr("+-.0123456789eE", *s->p) != NULL)
		s->p++;
	*len = (size_t)(s->p - from);
	return from;
}

static void
put_number(struct wire *w, struct numbers *s)
{
	char text[24];
	int64_t v;
	size_t n;
	const char *p = next_number(s, &n);
	bool minus = n > 0 && *p == '-';

	if (n < sizeof(text)) {
		memcpy(text, p, n);
		text[n] = '\0';
		if (str_to_i64(text + minus, 0, INT64_MAX, &v) == 0) {
			value_int(w, minus ? -v : v);
			return;
		}
	}
	value_uint(w, UINT64_MAX);	/* not whole: refused where a number is expected */
}

/* Recursive within VALUE_DEPTH_MAX; false when it nests deeper. */
static bool
put_json(struct wire *w, const cJSON *node, struct numbers *s, unsigned depth)
{
	const cJSON *c;
	bool map = cJSON_IsObject(node);

	if (cJSON_IsBool(node)) {
		value_bool(w, cJSON_IsTrue(node));
	} else if (cJSON_IsNumber(node)) {
		put_number(w, s);
	} else if (cJSON_IsString(node)) {
		value_str(w, node->valuestring);
	} else if (!map && !cJSON_IsArray(node)) {
		value_null(w);
	} else {
		if (depth == VALUE_DEPTH_MAX)
			return false;
		map ? value_map(w) : value_list(w);
		cJSON_ArrayForEach(c, node) {
			if (map)
				value_key(w, c->string);
			if (!put_json(w, c, s, depth + 1))
				return false;
		}
		map ? value_map_end(w) : value_list_end(w);
	}
	return true;
}

int
configs_patch(struct api_req *req)
{
	cJSON *body = api_json(req);
	struct numbers text = { req->body, req->body + req->body_len };
	struct ask *a;
	bool ok = cJSON_IsObject(body);	/* null, too, is refused: it crashes the reference */

	a = ok ? ask_new(req) : NULL;
	if (a != NULL) {
		change_begin(&a->args, CHANGE_PATCH);
		ok = put_json(&a->args, body, &text, 0);
	}
	cJSON_Delete(body);
	if (ok)
		return ask_order(req, a, MSG_CHANGE, -1, ASK_CHANGE_MS, ask_end_result);
	if (a != NULL)
		ask_free(a);
	return reply_error(req, 400, "Body invalid");
}

/* ---- PUT */

/* A member that is a text or unset ("" then); NULL when it is something else. */
static const char *
text_member(const cJSON *object, const char *key)
{
	const cJSON *m = api_member(object, key);

	if (m == NULL)
		return "";
	return cJSON_IsString(m) ? m->valuestring : NULL;
}

static int
start_reload(struct api_req *req, const char *path, const char *payload)
{
	struct msg_reload order = { 0 };
	char force[8];
	struct ask *a;
	int fd = -1;

	if (api_query(req, "force", force, sizeof(force)) && strcmp(force, "true") == 0)
		order.flags |= RELOAD_FORCE;
	if (payload[0] != '\0') {	/* the path is ignored then */
		order.flags |= RELOAD_PAYLOAD;
		fd = memfd_from("payload", payload, strlen(payload));
		if (fd < 0)
			return reply_error(req, 500, "%s", err_text(fd));
	} else if (path[0] != '\0') {
		order.flags |= RELOAD_PATH;
		if (path[0] != '/')
			return reply_error(req, 400, "path is not a absolute path");
		if (str_copy(order.path, sizeof(order.path), path) >= sizeof(order.path))
			return reply_error(req, 400, "path is too long");
	}
	a = ask_new(req);
	if (a != NULL)
		wire_put(&a->args, &order, sizeof(order));
	return ask_order(req, a, MSG_RELOAD, fd, ASK_RELOAD_MS, ask_end_result);
}

int
configs_put(struct api_req *req)
{
	cJSON *body = api_json(req);
	const char *path = text_member(body, "path"), *payload = text_member(body, "payload");
	int status;

	if ((!cJSON_IsObject(body) && !cJSON_IsNull(body)) || path == NULL || payload == NULL)
		status = reply_error(req, 400, "Body invalid");
	else
		status = start_reload(req, path, payload);
	cJSON_Delete(body);
	return status;
}
