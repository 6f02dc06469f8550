/* SPDX-License-Identifier: MIT */
/* PUT /debug/gc: every worker gives unused memory back. There only when log-level was debug at start (API_DEBUG), and behind the
 * secret. */
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

int
debug_gc(struct api_req *req)
{
	struct bridge_reply r;
	int err = ask_change(req, CHANGE_GC, NULL, &r);
	int status = answer_result(req, err, &r, 200);	/* 200 and empty, as the reference */

	bridge_free(&r);
	return status;
}
