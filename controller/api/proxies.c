/* SPDX-License-Identifier: MIT */
/* /proxies: the list, one proxy, its selection and its delay (spec/api.md 2.8). The lead knows the proxies; a selection is a
 * change that every worker acknowledges. Objects are rendered as the lead wrote them, keys sorted there. */
#include <string.h>

#include "common/snapshot.h"
#include "controller/api/ask.h"
#include "controller/api/delay.h"
#include "controller/api/handlers.h"

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
static int
refuse_selection(struct api_req *req, bool body_valid)
{
	struct bridge_reply r;
	char type[64];
	int err, status;

	err = ask_proxies(req, PROXIES_ONE, req->param[0], &r);
	if (answer_status(err, &r) != 200)
		status = answer_error(req, err, &r);
	else if (!body_valid)
		status = reply_error(req, 400, "Body invalid");
	else if (answer_member(&r, "type", type, sizeof(type)) && is_selectable(type))
		status = reply_error(req, 400, "Selector update error: proxy not exist");
	else
		status = reply_error(req, 400, "Must be a Selector");
	bridge_free(&r);
	return status;
}

int
proxies_put(struct api_req *req)
{
	cJSON *body = api_json(req);
	const cJSON *name = api_member(body, "name");
	bool valid = (cJSON_IsObject(body) || cJSON_IsNull(body)) && (name == NULL || cJSON_IsString(name));
	int status;

	if (strlen(req->param[0]) >= ASK_NAME_MAX)
		status = reply_error(req, 404, "Resource not found");
	else if (!valid || name == NULL || name->valuestring[0] == '\0' || strlen(name->valuestring) >= ASK_NAME_MAX)
		status = refuse_selection(req, valid);
	else
		status = select_member(req, req->param[0], name->valuestring);
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
