/* SPDX-License-Identifier: MIT */
/* Questions to the other processes and what endpoints answer of them (ask.h). Called by the handlers in this folder; a struct ask
 * belongs to its parked request and is freed by ask_take() or ask_end(), or by the start that failed. */
#include "controller/api/ask.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/strutil.h"
#include "common/value.h"

/* ---- short calls */

int
ask_workers(struct api_req *req, enum bridge_to to, uint32_t kind, struct wire *args, struct bridge_reply *out)
{
	int rc = -E_NOMEM;

	memset(out, 0, sizeof(*out));
	if (args == NULL)
		return bridge_call(req->ctl, to, MSG_QUERY, kind, NULL, 0, -1, ASK_MS, out);
	if (!args->failed)
		rc = bridge_call(req->ctl, to, MSG_QUERY, kind, args->p, args->len, -1, ASK_MS, out);
	wire_free(args);
	return rc;
}

int
ask_supervisor(struct api_req *req, uint16_t type, const void *body, size_t len, int fd, struct bridge_reply *out)
{
	memset(out, 0, sizeof(*out));
	return bridge_call(req->ctl, BRIDGE_SUPERVISOR, type, 0, body, len, fd, ASK_MS, out);
}

void
change_begin(struct wire *w, uint32_t kind)
{
	struct msg_change change = { .kind = kind };

	wire_put(w, &change, sizeof(change));
}

int
ask_change(struct api_req *req, uint32_t kind, struct wire *payload, struct bridge_reply *out)
{
	struct wire body;
	int rc = -E_NOMEM;

	memset(out, 0, sizeof(*out));
	wire_init(&body);
	change_begin(&body, kind);
	if (payload != NULL) {
		wire_put(&body, payload->p, payload->len);
		body.failed |= payload->failed;
		wire_free(payload);
	}
	if (!body.failed)
		rc = ask_supervisor(req, MSG_CHANGE, body.p, body.len, -1, out);
	wire_free(&body);
	return rc;
}

/* ---- parked calls */

struct ask *
ask_new(struct api_req *req)
{
	struct ask *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->parked = req->parked;
	a->ctl = req->ctl;
	wire_init(&a->args);
	return a;
}

void
ask_free(struct ask *a)
{
	wire_free(&a->args);
	free(a);
}

static int
start_error(struct api_req *req, int rc)
{
	if (rc == -E_NOMEM)
		return reply_error(req, 500, "out of memory");
	return answer_error(req, rc, NULL);
}

static int
start(struct ask *a, enum bridge_to to, uint16_t type, uint32_t kind, int fd, unsigned ms, bridge_cb *done)
{
	struct wire args = a->args;	/* a belongs to done() from here on */
	int rc;

	wire_init(&a->args);
	if (args.failed) {
		if (fd != -1)
			close(fd);
		wire_free(&args);
		return -E_NOMEM;
	}
	rc = bridge_ask(a->ctl, to, type, kind, args.p, args.len, fd, ms, done, a);
	wire_free(&args);
	return rc;
}

int
ask_query(struct api_req *req, struct ask *a, uint32_t kind, unsigned ms, bridge_cb *done)
{
	int rc = a == NULL ? -E_NOMEM : start(a, BRIDGE_LEAD, MSG_QUERY, kind, -1, ms, done);

	if (rc == 0)
		return API_PARKED;
	if (a != NULL)
		ask_free(a);
	return start_error(req, rc);
}

int
ask_order(struct api_req *req, struct ask *a, uint16_t type, int fd, unsigned ms, bridge_cb *done)
{
	int rc;

	if (a == NULL && fd != -1)
		close(fd);
	rc = a == NULL ? -E_NOMEM : start(a, BRIDGE_SUPERVISOR, type, 0, fd, ms, done);
	if (rc == 0)
		return API_PARKED;
	if (a != NULL)
		ask_free(a);
	return start_error(req, rc);
}

struct api_req *
ask_take(struct ctl *ctl, void *ask)
{
	struct ask *a = ask;
	struct api_req *req = api_parked(ctl, a->parked);

	ask_free(a);
	return req;
}

void
ask_end(struct ask *a, int status, const char *text)
{
	struct ctl *ctl = a->ctl;
	struct api_req *req = ask_take(ctl, a);

	if (req == NULL)
		return;
	reply_error(req, status, "%s", text);
	api_done(ctl, req);
}

void
ask_end_value(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct api_req *req = ask_take(ctl, arg);

	if (req == NULL)
		return;
	answer_value(req, err, r, "", "");
	api_done(ctl, req);
}

void
ask_end_empty(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct api_req *req = ask_take(ctl, arg);

	if (req == NULL)
		return;
	if (answer_status(err, r) != 200)
		answer_error(req, err, r);
	else
		reply_empty(req, 204);
	api_done(ctl, req);
}

void
ask_end_result(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct api_req *req = ask_take(ctl, arg);

	if (req == NULL)
		return;
	answer_result(req, err, r, 204);
	api_done(ctl, req);
}

void
ask_end_ok(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct api_req *req = ask_take(ctl, arg);

	if (req == NULL)
		return;
	if (result_status(err, r) >= 300) {
		answer_result(req, err, r, 200);
	} else {
		json_raw(req->reply, "{\"status\":\"ok\"}");
		reply_built(req, 200);
	}
	api_done(ctl, req);
}

void
ask_again(struct ask *a, uint32_t kind, unsigned ms, bridge_cb *done)
{
	if (start(a, BRIDGE_LEAD, MSG_QUERY, kind, -1, ms, done) != 0)
		ask_end(a, 503, DATA_PLANE_LATE);
}

void
ask_order_again(struct ask *a, uint16_t type, unsigned ms, bridge_cb *done)
{
	if (start(a, BRIDGE_SUPERVISOR, type, 0, -1, ms, done) != 0)
		ask_end(a, 503, "the supervisor did not answer in time");
}

/* ---- answers */

/* The first answer that came, or NULL. */
static const struct bridge_answer *
first(const struct bridge_reply *r)
{
	return r != NULL && r->n > 0 && r->answer[0].status != 0 ? &r->answer[0] : NULL;
}

int
answer_status(int err, const struct bridge_reply *r)
{
	const struct bridge_answer *a = first(r);

	if (a == NULL || (err != 0 && err != -E_TIMEOUT))
		return 503;
	return a->status >= 200 && a->status <= 599 ? a->status : 500;
}

int
answer_error(struct api_req *req, int err, const struct bridge_reply *r)
{
	const struct bridge_answer *a = first(r);
	char text[1024];
	struct wire w;

	if (a == NULL || (err != 0 && err != -E_TIMEOUT)) {
		if (err == -E_LIMIT)
			return reply_error(req, 503, "too many requests are waiting");
		return reply_error(req, 503, err == -E_CLOSED ? "the data plane is not ready" : DATA_PLANE_LATE);
	}
	wire_read(&w, a->data, a->len);
	if (answer_status(err, r) < 400 || wire_get_str(&w, text, sizeof(text)) != 0)
		return reply_error(req, 500, "the data plane's answer cannot be read");
	return reply_error(req, answer_status(err, r), "%s", text);
}

int
answer_value(struct api_req *req, int err, const struct bridge_reply *r, const char *before, const char *after)
{
	struct wire w;

	if (answer_status(err, r) != 200)
		return answer_error(req, err, r);
	wire_read(&w, r->answer[0].data, r->answer[0].len);
	json_raw(req->reply, before);
	if (json_value(req->reply, &w) != 0)
		return reply_error(req, 500, "the data plane's answer cannot be read");
	json_raw(req->reply, after);
	return reply_built(req, 200);
}

static bool
read_result(int err, const struct bridge_reply *r, struct msg_result *out)
{
	if (err != 0 || r == NULL || r->n < 1 || r->type != MSG_RESULT || r->answer[0].len < sizeof(*out))
		return false;
	memcpy(out, r->answer[0].data, sizeof(*out));
	out->key[sizeof(out->key) - 1] = '\0';
	out->text[sizeof(out->text) - 1] = '\0';
	if (out->status < 200 || out->status > 599)
		out->status = 500;
	return true;
}

int
result_status(int err, const struct bridge_reply *r)
{
	struct msg_result res;

	return read_result(err, r, &res) ? res.status : 503;
}

int
answer_result(struct api_req *req, int err, const struct bridge_reply *r, int good)
{
	struct reply *out = req->reply;
	struct msg_result res;

	if (!read_result(err, r, &res))
		return reply_error(req, 503, err == -E_LIMIT ? "too many requests are waiting" : DATA_PLANE_LATE);
	if (res.status < 300)
		return reply_empty(req, good);
	out->len = 0;
	json_raw(out, "{\"message\":");
	json_str(out, res.text, strlen(res.text));
	if (res.line != 0) {
		json_raw(out, ",\"line\":");
		json_uint(out, res.line);
	}
	if (res.column != 0) {
		json_raw(out, ",\"column\":");
		json_uint(out, res.column);
	}
	if (res.key[0] != '\0') {
		json_raw(out, ",\"key\":");
		json_str(out, res.key, strlen(res.key));
	}
	json_raw(out, "}");
	return reply_built(req, res.status);
}

bool
answer_member(const struct bridge_reply *r, const char *key, char *out, size_t cap)
{
	struct value_reader vr;
	struct value v;
	struct wire w;

	wire_read(&w, r->answer[0].data, r->answer[0].len);
	value_reader_init(&vr, &w);
	while (value_next(&vr, &v) == 0) {
		if (vr.depth != 1 || v.tag != V_STR || v.key == NULL || v.key_len != strlen(key) ||
		    memcmp(v.key, key, v.key_len) != 0)
			continue;
		if (v.len >= cap || memchr(v.str, '\0', v.len) != NULL)
			return false;
		memcpy(out, v.str, v.len);
		out[v.len] = '\0';
		return true;
	}
	return false;
}
