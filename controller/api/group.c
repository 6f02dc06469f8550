/* SPDX-License-Identifier: MIT */
/* /group: the groups, one group, DELETE as another name for clearing the fixed member, and the delay of all members (spec/api.md
 * 2.9). */
#include <string.h>

#include "common/err.h"
#include "common/snapshot.h"
#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/delay.h"
#include "controller/api/handlers.h"

#define ALL_LATE "get delay: all proxies timeout"

static int
ask_groups(struct api_req *req, uint8_t what, const char *name, struct bridge_reply *r)
{
	struct wire args;

	wire_init(&args);
	wire_put_u8(&args, what);
	wire_put_str(&args, name);
	return ask_workers(req, BRIDGE_LEAD, QUERY_PROXIES, &args, r);
}

int
group_list(struct api_req *req)
{
	struct bridge_reply r;
	int err = ask_groups(req, PROXIES_GROUPS, "", &r), status = answer_value(req, err, &r, "{\"proxies\":", "}");

	bridge_free(&r);
	return status;
}

int
group_get(struct api_req *req)
{
	struct bridge_reply r;
	int err, status;

	if (strlen(req->param[0]) >= ASK_NAME_MAX)
		return reply_error(req, 404, "Resource not found");
	err = ask_groups(req, PROXIES_GROUP, req->param[0], &r);
	status = answer_value(req, err, &r, "", "");
	bridge_free(&r);
	return status;
}

int
group_delete(struct api_req *req)
{
	struct bridge_reply r;
	int err, status;

	if (strlen(req->param[0]) >= ASK_NAME_MAX)
		return reply_error(req, 404, "Resource not found");
	err = ask_groups(req, PROXIES_GROUP, req->param[0], &r);
	if (answer_status(err, &r) == 200)
		status = proxies_delete(req);
	else
		status = answer_error(req, err, &r);
	bridge_free(&r);
	return status;
}

static void
on_delays(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct api_req *req = ask_take(ctl, arg);

	if (req == NULL)
		return;
	if (err == -E_TIMEOUT)
		reply_error(req, 504, ALL_LATE);
	else
		answer_value(req, err, r, "", "");
	api_done(ctl, req);
}

/* The fixed member is cleared (or there was none to clear); now the test, or what is wrong with it. */
static void
on_cleared(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct ask *a = arg;
	int status = result_status(err, r);

	(void)ctl;
	if (status == 404) {
		ask_end(a, 404, "Resource not found");
	} else if (a->status == 0) {
		delay_put(a, a->name);
		ask_again(a, QUERY_GROUP_DELAY, delay_wait(a), on_delays);
	} else {
		wire_put_u8(&a->args, PROXIES_GROUP);
		wire_put_str(&a->args, a->name);
		ask_again(a, QUERY_PROXIES, ASK_MS, delay_on_lookup);
	}
}

/* The reference clears the fixed member of URLTest and Fallback before it even reads the parameters. */
int
group_delay(struct api_req *req)
{
	struct ask *a;

	if (strlen(req->param[0]) >= ASK_NAME_MAX)
		return reply_error(req, 404, "Resource not found");
	a = ask_new(req);
	if (a != NULL) {
		delay_read(req, a, INT32_MAX, 504, ALL_LATE);
		str_copy(a->name, sizeof(a->name), req->param[0]);
		change_begin(&a->args, CHANGE_SELECT);
		wire_put_str(&a->args, a->name);
		wire_put_str(&a->args, "");
	}
	return ask_order(req, a, MSG_CHANGE, -1, ASK_MS, on_cleared);
}
