/* SPDX-License-Identifier: MIT */
/* POST /restart: a new generation from the same configuration that takes over listeners, connections and state; answered when it
 * serves. */
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

static void
on_result(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
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

int
restart_post(struct api_req *req)
{
	struct msg_reload order = { .flags = RELOAD_SAME };
	struct ask *a = ask_new(req);

	if (a != NULL)
		wire_put(&a->args, &order, sizeof(order));
	return ask_order(req, a, MSG_RELOAD, -1, ASK_RELOAD_MS, on_result);
}
