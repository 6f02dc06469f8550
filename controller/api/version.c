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

int
version_get(struct api_req *req)
{
	const char *own = version_text();
	char note[512];

	json_raw(req->reply, "{\"meta\":true,\"sluice\":");
	json_str(req->reply, own, strlen(own));
	ctl_note_get(req->ctl, note, sizeof(note));
	if (note[0] != '\0') {		/* an upgrade that did not work and was undone */
		json_raw(req->reply, ",\"upgrade\":");
		json_str(req->reply, note, strlen(note));
	}
	json_raw(req->reply, ",\"version\":\"" SLUICE_COMPAT "\"}");
	return reply_built(req, 200);
}
