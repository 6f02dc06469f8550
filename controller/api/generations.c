/* SPDX-License-Identifier: MIT */
/* GET /generations, our own: what runs besides the generation that serves, and how long a drain still takes. The supervisor
 * answers with a value list that is rendered as it stands. */
#include "common/wire.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

int
generations_get(struct api_req *req)
{
	struct bridge_reply r;
	struct wire w;
	int status = 503;

	if (ask_supervisor(req, MSG_GENERATIONS, NULL, 0, -1, &r) == 0 && r.n > 0) {
		wire_read(&w, r.answer[0].data, r.answer[0].len);
		json_raw(req->reply, "{\"generations\":");
		if (json_value(req->reply, &w) == 0) {
			json_raw(req->reply, "}");
			status = 200;
		}
	}
	bridge_free(&r);
	if (status == 200)
		return reply_built(req, 200);
	req->reply->len = 0;
	return reply_error(req, 503, "the supervisor did not answer in time");
}
