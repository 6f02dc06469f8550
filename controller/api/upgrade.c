/* SPDX-License-Identifier: MIT */
/* POST /upgrade: the supervisor switches to the programs that were installed over the running ones, or says what to do; the
 * answer comes from the controller that was asked, after another one has relieved it. /upgrade/ui: there is no feed to
 * download from; dashboards come by packages. /upgrade/geo, the same as /configs/geo: the lead downloads the geodata files
 * that the configuration uses (spec/api.md 4.4, 4.5). */
#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

enum { UPGRADE_MS = 170000,		/* two proofs, a controller, a generation, and all of it back again */
       GEO_MS = 150000 };		/* downloads of 90 s, compilation, every worker */

int
upgrade_post(struct api_req *req)
{
	struct msg_upgrade order = { 0 };
	struct ask *a = ask_new(req);
	char force[8];

	/* channel names a feed in the reference and is not used here */
	if (api_query(req, "force", force, sizeof(force)) && (str_case_equal(force, "true") || str_equal(force, "1")))
		order.flags = UPGRADE_FORCE;
	if (a != NULL)
		wire_put(&a->args, &order, sizeof(order));
	return ask_order(req, a, MSG_UPGRADE, -1, UPGRADE_MS, ask_end_ok);
}

int
upgrade_ui_post(struct api_req *req)
{
	return reply_error(req, 500, "update error: this version does not download dashboards; put the files into external-ui");
}

int
geo_update(struct api_req *req)
{
	return ask_query(req, ask_new(req), QUERY_UPDATE_GEO, GEO_MS, ask_end_empty);
}
