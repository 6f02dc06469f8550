/* SPDX-License-Identifier: MIT */
/* GET / and GET /version. Dashboards detect the core by the version text (spec/api.md 5.3): the reference's is kept, our own
 * stands beside it. No question is asked. */
#include <string.h>

#include "common/version.h"
#include "controller/api.h"
#include "controller/api/handlers.h"
#include "controller/ctl.h"

int
hello_get(struct api_req *req)
{
	json_raw(req->reply, "{\"hello\":\"mihomo\"}");
	return reply_built(req, 200);
}

static void
member(struct reply *r, const char *key, const char *text)
{
	if (text[0] == '\0')
		return;
	json_raw(r, key);
	json_str(r, text, strlen(text));
}

int
version_get(struct api_req *req)
{
	struct msg_note note;

	ctl_note_get(req->ctl, &note);
	json_raw(req->reply, "{\"meta\":true");
	member(req->reply, ",\"sluice\":", version_text());
	member(req->reply, ",\"rollback\":", note.rollback);	/* a configuration that crashed and was undone */
	member(req->reply, ",\"upgrade\":", note.upgrade);		/* the same of an upgrade */
	json_raw(req->reply, ",\"version\":\"" SLUICE_COMPAT "\"}");
	return reply_built(req, 200);
}
