/* SPDX-License-Identifier: MIT */
/* /providers/proxies: the providers, one provider, one of its nodes, and updates and checks of them (spec/api.md 2.10). All of it
 * is asked of the lead. */
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "common/value.h"
#include "controller/api/ask.h"
#include "controller/api/delay.h"
#include "controller/api/handlers.h"

enum { ONE = 1, UPDATE_MS = 90000 /* download, compile, tell */, CHECK_MS = 120000 };

static void
put_provider(struct wire *args, const char *name)
{
	wire_put_u8(args, name == NULL ? 0 : ONE);
	wire_put_str(args, name == NULL ? "" : name);
}

static int
ask_providers(struct api_req *req, const char *name, struct bridge_reply *r)
{
	struct wire args;

	wire_init(&args);
	put_provider(&args, name);
	return ask_workers(req, BRIDGE_LEAD, QUERY_PROVIDERS, &args, r);
}

static bool
names_fit(const struct api_req *req)
{
	return strlen(req->param[0]) < ASK_NAME_MAX && (req->param[1] == NULL || strlen(req->param[1]) < ASK_NAME_MAX);
}

static int
not_found(struct api_req *req)
{
	return reply_error(req, 404, "Resource not found");
}

int
proxy_providers_list(struct api_req *req)
{
	struct bridge_reply r;
	int err = ask_providers(req, NULL, &r), status = answer_value(req, err, &r, "{\"providers\":", "}");

	bridge_free(&r);
	return status;
}

int
proxy_providers_get(struct api_req *req)
{
	struct bridge_reply r;
	int err, status;

	if (!names_fit(req))
		return not_found(req);
	err = ask_providers(req, req->param[0], &r);
	status = answer_value(req, err, &r, "", "");
	bridge_free(&r);
	return status;
}

/* ---- one node */

static bool
is_text(const struct value *v, const char *key)
{
	return v->key != NULL && v->key_len == strlen(key) && memcmp(v->key, key, v->key_len) == 0;
}

/* Sets at on the object called name in the list "proxies" of the answer's provider; false when there is none. */
static bool
find_member(const struct bridge_reply *r, const char *name, struct wire *at)
{
	struct value_reader vr;
	struct value v;
	struct wire w;
	size_t start = 0, before;
	bool inside = false;

	wire_read(&w, r->answer[0].data, r->answer[0].len);
	value_reader_init(&vr, &w);
	for (before = 0; value_next(&vr, &v) == 0; before = w.off) {
		if (vr.depth < 2)
			inside = false;
		else if (vr.depth == 2 && v.tag == V_LIST)
			inside = is_text(&v, "proxies");
		if (!inside || vr.depth != 3)
			continue;
		if (v.tag == V_MAP)
			start = before;
		if (v.tag != V_STR || !is_text(&v, "name") || v.len != strlen(name) || memcmp(v.str, name, v.len) != 0)
			continue;
		wire_read(at, r->answer[0].data, r->answer[0].len);
		at->off = start;
		return true;
	}
	return false;
}

int
proxy_providers_member(struct api_req *req)
{
	struct bridge_reply r;
	struct wire at;
	int err, status;

	if (!names_fit(req))
		return not_found(req);
	err = ask_providers(req, req->param[0], &r);
	if (answer_status(err, &r) != 200)
		status = answer_error(req, err, &r);
	else if (!find_member(&r, req->param[1], &at))
		status = not_found(req);
	else if (json_value(req->reply, &at) != 0)
		status = reply_error(req, 500, "the data plane's answer cannot be read");
	else
		status = reply_built(req, 200);
	bridge_free(&r);
	return status;
}

/* Ends a parked request with the error in r. */
static void
fail(struct ctl *ctl, struct ask *a, int err, struct bridge_reply *r)
{
	struct api_req *req = ask_take(ctl, a);

	if (req == NULL)
		return;
	answer_error(req, err, r);
	api_done(ctl, req);
}

static void
on_member(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct ask *a = arg;
	struct wire at;

	if (answer_status(err, r) != 200) {
		fail(ctl, a, err, r);
	} else if (!find_member(r, a->member, &at)) {
		ask_end(a, 404, "Resource not found");
	} else if (a->status != 0) {
		ask_end(a, a->status, a->message);
	} else {
		delay_put(a, a->member);
		wire_put_str(&a->args, a->name);
		ask_again(a, QUERY_DELAY, delay_wait(a), delay_on_answer);
	}
}

int
proxy_providers_member_delay(struct api_req *req)
{
	struct ask *a;

	if (!names_fit(req))
		return not_found(req);
	a = ask_new(req);
	if (a != NULL) {
		delay_read(req, a, DELAY_MAX_MS, 504, "Timeout");
		str_copy(a->member, sizeof(a->member), req->param[1]);
		str_copy(a->name, sizeof(a->name), req->param[0]);
		put_provider(&a->args, req->param[0]);
	}
	return ask_query(req, a, QUERY_PROVIDERS, ASK_MS, on_member);
}

/* ---- update and check */

/* A check that takes longer than a client waits goes on: what the nodes said is seen in their history. */
static void
on_checked(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct api_req *req;

	if (err != -E_TIMEOUT) {
		ask_end_empty(ctl, err, r, arg);
		return;
	}
	req = ask_take(ctl, arg);
	if (req == NULL)
		return;
	reply_empty(req, 204);
	api_done(ctl, req);
}

static int
ask_lead(struct api_req *req, uint32_t kind, unsigned ms, bridge_cb *done)
{
	struct ask *a;

	if (!names_fit(req))
		return not_found(req);
	a = ask_new(req);
	if (a != NULL)
		wire_put_str(&a->args, req->param[0]);
	return ask_query(req, a, kind, ms, done);
}

int
proxy_providers_update(struct api_req *req)
{
	return ask_lead(req, QUERY_UPDATE_NODES, UPDATE_MS, ask_end_empty);
}

int
proxy_providers_check(struct api_req *req)
{
	return ask_lead(req, QUERY_CHECK_NODES, CHECK_MS, on_checked);
}
