/* SPDX-License-Identifier: MIT */
/* POST /upgrade, /upgrade/ui, /upgrade/geo and /configs/geo. There is no feed to download from: programs and dashboards come by
 * packages, so the first two say what to do instead; no geodata file is used, so their update has nothing to do (spec/api.md
 * 4.5). */
#include "controller/api.h"
#include "controller/api/handlers.h"

int
upgrade_post(struct api_req *req)
{
	return reply_error(req, 503, "update error: no other build is installed; install a newer package, then call /upgrade");
}

int
upgrade_ui_post(struct api_req *req)
{
	return reply_error(req, 500, "update error: this version does not download dashboards; put the files into external-ui");
}

int
geo_update(struct api_req *req)
{
	return reply_empty(req, 204);
}
