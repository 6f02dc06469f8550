/* SPDX-License-Identifier: MIT */
/* GET /logs: the check of its query, before any upgrade (spec/api.md 2.2); controller/stream.c sends the stream. */
#include <string.h>

#include "common/strutil.h"
#include "controller/api.h"
#include "controller/api/handlers.h"

int
logs_check(struct api_req *req)
{
	/* "" is the default, info */
	static const char *const levels[] = { "", "debug", "info", "warning", "error", "silent" };
	char level[512];

	if (!api_query(req, "level", level, sizeof(level)))
		return 0;
	for (size_t i = 0; i < countof(levels); i++)
		if (strcmp(level, levels[i]) == 0)
			return 0;
	return reply_error(req, 400, "Body invalid");
}
