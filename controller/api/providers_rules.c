/* SPDX-License-Identifier: MIT */
/* /providers/rules: the rule sets, one of them, and its update (spec/api.md 2.10, 3.3), asked of the lead. */
#include <string.h>

#include "controller/api/ask.h"
#include "controller/api/handlers.h"

enum { ONE = 1 };

static void
put_provider(struct wire *args, const char *name)
{
	wire_put_u8(args, name == NULL ? 0 : ONE);
	wire_put_str(args, name == NULL ? "" : name);
}

static int
show(struct api_req *req, const char *name)
{
	struct bridge_reply r;
	struct wire args;
	int err, status;

	wire_init(&args);
	put_provider(&args, name);
	err = ask_workers(req, BRIDGE_LEAD, QUERY_RULE_PROVIDERS, &args, &r);
	status = answer_value(req, err, &r, name == NULL ? "{\"providers\":" : "", name == NULL ? "}" : "");
	bridge_free(&r);
	return status;
}

int
rule_providers_list(struct api_req *req)
{
	return show(req, NULL);
}

int
rule_providers_get(struct api_req *req)
{
	if (strlen(req->param[0]) >= ASK_NAME_MAX)
		return reply_error(req, 404, "Resource not found");
	return show(req, req->param[0]);
}

int
rule_providers_update(struct api_req *req)
{
	struct ask *a;

	if (strlen(req->param[0]) >= ASK_NAME_MAX)
		return reply_error(req, 404, "Resource not found");
	a = ask_new(req);
	if (a != NULL)
		wire_put_str(&a->args, req->param[0]);
	return ask_query(req, a, QUERY_UPDATE_RULES, ASK_RELOAD_MS, ask_end_empty);
}
