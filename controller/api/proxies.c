/* SPDX-License-Identifier: MIT */
/* /proxies: the list, one proxy, its selection and its delay (spec/api.md 2.8). The lead knows the proxies; a selection is a
 * change that every worker acknowledges. Objects are rendered as the lead wrote them, keys sorted there. */
#include <string.h>

#include "common/snapshot.h"
#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/delay.h"
#include "controller/api/handlers.h"

enum { SELECT_MS = 7000 };	/* the lead tests for at most 5 s */

static int
ask_proxies(struct api_req *req, uint8_t what, const char *name, struct bridge_reply *r)
{
	struct wire args;

	wire_init(&args);
	wire_put_u8(&args, what);
	wire_put_str(&args, name);
	return ask_workers(req, BRIDGE_LEAD, QUERY_PROXIES, &args, r);
}

static int
select_member(struct api_req *req, const char *group, const char *name)
{
	struct bridge_reply r;
	struct wire args;
	int err, status;

	wire_init(&args);
	wire_put_str(&args, group);
	wire_put_str(&args, name);
	err = ask_change(req, CHANGE_SELECT, &args, &r);
	status = answer_result(req, err, &r, 204);
	bridge_free(&r);
	return status;
}

int
proxies_list(struct api_req *req)
{
	struct bridge_reply r;
	int err = ask_proxies(req, PROXIES_ALL, "", &r), status = answer_value(req, err, &r, "{\"proxies\":", "}");

	bridge_free(&r);
	return status;
}

int
proxies_get(struct api_req *req)
{
	struct bridge_reply r;
	int err, status;

	if (strlen(req->param[0]) >= ASK_NAME_MAX)
		return reply_error(req, 404, "Resource not found");
	err = ask_proxies(req, PROXIES_ONE, req->param[0], &r);
	status = answer_value(req, err, &r, "", "");
	bridge_free(&r);
	return status;
}

static bool
is_selectable(const char *type)
{
	return strcmp(type, "Selector") == 0 || strcmp(type, "URLTest") == 0 || strcmp(type, "Fallback") == 0;
}

/* Why a selection without a member cannot be: the name is looked up first, as the reference does. The change itself is not sent,
 * because an empty name would clear the selection. */
static void
on_refused(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	bool body_valid = ((struct ask *)arg)->status == 0;
	struct api_req *req = ask_take(ctl, arg);
	char type[64];

	if (req == NULL)
		return;
	if (answer_status(err, r) != 200)
		answer_error(req, err, r);
	else if (!body_valid)
		reply_error(req, 400, "Body invalid");
	else if (answer_member(r, "type", type, sizeof(type)) && is_selectable(type))
		reply_error(req, 400, "Selector update error: proxy not exist");
	else
		reply_error(req, 400, "Must be a Selector");
	api_done(ctl, req);
}

/* A dead member of a fallback has been tested; whatever came of it, now it is chosen. */
static void
on_tested(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct ask *a = arg;

	(void)ctl;
	(void)err;
	(void)r;
	change_begin(&a->args, CHANGE_SELECT);
	wire_put_str(&a->args, a->name);
	wire_put_str(&a->args, a->member);
	ask_order_again(a, MSG_CHANGE, ASK_CHANGE_MS, ask_end_result);
}

static int
refuse_selection(struct api_req *req, struct ask *a, bool body_valid)
{
	if (a != NULL) {
		a->status = body_valid ? 0 : 400;
		wire_put_u8(&a->args, PROXIES_ONE);
		wire_put_str(&a->args, req->param[0]);
	}
	return ask_query(req, a, QUERY_PROXIES, ASK_MS, on_refused);
}

int
proxies_put(struct api_req *req)
{
	cJSON *body = api_json(req);
	const cJSON *name = api_member(body, "name");
	bool valid = (cJSON_IsObject(body) || cJSON_IsNull(body)) && (name == NULL || cJSON_IsString(name));
	struct ask *a;
	int status;

	if (strlen(req->param[0]) >= ASK_NAME_MAX) {
		status = reply_error(req, 404, "Resource not found");
	} else if (!valid || name == NULL || name->valuestring[0] == '\0' || strlen(name->valuestring) >= ASK_NAME_MAX) {
		status = refuse_selection(req, ask_new(req), valid);
	} else {
		a = ask_new(req);
		if (a != NULL) {
			str_copy(a->name, sizeof(a->name), req->param[0]);
			str_copy(a->member, sizeof(a->member), name->valuestring);
			wire_put_str(&a->args, a->name);
			wire_put_str(&a->args, a->member);
		}
		status = ask_query(req, a, QUERY_BEFORE_SELECT, SELECT_MS, on_tested);
	}
	cJSON_Delete(body);
	return status;
}

int
proxies_delete(struct api_req *req)
{
	if (strlen(req->param[0]) >= ASK_NAME_MAX)
		return reply_error(req, 404, "Resource not found");
	return select_member(req, req->param[0], "");
}

int
proxies_delay(struct api_req *req)
{
	struct ask *a;

	if (strlen(req->param[0]) >= ASK_NAME_MAX)
		return reply_error(req, 404, "Resource not found");
	a = ask_new(req);
	if (a == NULL)
		return ask_query(req, NULL, QUERY_DELAY, 0, delay_on_answer);
	delay_read(req, a, DELAY_MAX_MS, 504, "Timeout");
	if (a->status != 0) {		/* an unknown name comes before bad parameters */
		wire_put_u8(&a->args, PROXIES_ONE);
		wire_put_str(&a->args, req->param[0]);
		return ask_query(req, a, QUERY_PROXIES, ASK_MS, delay_on_lookup);
	}
	delay_put(a, req->param[0]);
	return ask_query(req, a, QUERY_DELAY, delay_wait(a), delay_on_answer);
}
