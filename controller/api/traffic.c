/* SPDX-License-Identifier: MIT */
/* GET /traffic: a stream without parameters; controller/stream.c sends it. */
#include "controller/api.h"
#include "controller/api/handlers.h"

int
traffic_check(struct api_req *req)
{
	(void)req;
	return 0;
}
