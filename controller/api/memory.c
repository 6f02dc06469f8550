/* SPDX-License-Identifier: MIT */
/* GET /memory: a stream without parameters; controller/stream.c sends it. */
#include "controller/api.h"
#include "controller/api/handlers.h"

int
memory_check(struct api_req *req)
{
	(void)req;
	return 0;
}
