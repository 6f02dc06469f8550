/* SPDX-License-Identifier: MIT */
/* POST /cache/fakeip/flush and /cache/dns/flush: a change that every worker acknowledges before the answer. */
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

static int
flush(struct api_req *req, uint32_t kind)
{
	struct bridge_reply r;
	int err = ask_change(req, kind, NULL, &r), status = answer_result(req, err, &r, 204);

	bridge_free(&r);
	return status;
}

int
cache_flush_fakeip(struct api_req *req)
{
	return flush(req, CHANGE_FLUSH_FAKEIP);
}

int
cache_flush_dns(struct api_req *req)
{
	return flush(req, CHANGE_FLUSH_DNS);
}
