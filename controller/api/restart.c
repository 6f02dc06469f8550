/* SPDX-License-Identifier: MIT */
/* POST /restart: a new generation from the same configuration that takes over listeners, connections and state; answered when it
 * serves. */
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

int
restart_post(struct api_req *req)
{
	struct msg_reload order = { .flags = RELOAD_SAME };
	struct ask *a = ask_new(req);

	if (a != NULL)
		wire_put(&a->args, &order, sizeof(order));
	return ask_order(req, a, MSG_RELOAD, -1, ASK_RELOAD_MS, ask_end_ok);
}
