/* SPDX-License-Identifier: MIT */
/* POST /upgrade: the supervisor switches to the programs that were installed over the running ones, or says what to do; the answer comes from the
 * controller that was asked, after another one has relieved it. /upgrade/ui: there is no feed to download from; dashboards come by packages. /upgrade/geo,
 * the same as /configs/geo: the lead downloads the geodata files that the configuration uses (spec/api.md 4.4, 4.5). */
#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

enum { UPGRADE_MS = 170000,		/* two proofs, a controller, a generation, and all of it back again */
       GEO_MS = 150000 };		/* downloads of 90 s, compilation, every worker */

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
	return ask_order(req, a, MSG_UPGRADE, -1, UPGRADE_MS, on_result);
}

int
upgrade_ui_post(struct api_req *req)
{
	return reply_error(req, 500, "update error: this version does not download dashboards; put the files into external-ui");
}

static void
on_geo(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct api_req *req = ask_take(ctl, arg);

	if (req == NULL)
		return;
	if (answer_status(err, r) != 200)
		answer_error(req, err, r);
	else
		reply_empty(req, 204);
	api_done(ctl, req);
}

int
geo_update(struct api_req *req)
{
	return ask_query(req, ask_new(req), QUERY_UPDATE_GEO, GEO_MS, on_geo);
}
