/* SPDX-License-Identifier: MIT */
/* PUT /providers/rules/NAME, run by the lead: it reads the set anew first, so that what cannot be read changes nothing
 * anywhere; then the other workers take the same image, and when all have it the controller is answered. At most
 * ASKS_MAX at once, then 503; one that lost its controller goes on. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "worker/change.h"
#include "worker/provider/ruleset.h"
#include "worker/query.h"

enum { ASKS_MAX = 64, NAME_TEXT_MAX = 1024 };

struct ask {
	struct worker *w;
	struct peer *peer;	/* NULL: gone */
	uint32_t id;
	bool used;
	struct rule_provider *provider;
};
static struct ask asks[ASKS_MAX];

void
query_update_peer_gone(struct peer *p)
{
	for (int i = 0; i < ASKS_MAX; i++)
		if (asks[i].peer == p)
			asks[i].peer = NULL;
}

static void
finish(struct ask *a, int status, const char *text)
{
	struct wire out;

	a->used = false;
	if (a->peer == NULL)
		return;
	if (status == 204) {
		wire_init(&out);
		query_answer(a->peer, a->id, &out);
	} else {
		query_error(a->peer, a->id, status, text);
	}
}

static void
on_others(void *arg, const struct msg_result *r)
{
	finish(arg, r->status == 204 ? 204 : 503, r->text);
}

static void
on_renewed(void *arg, int err, const char *text)
{
	struct ask *a = arg;

	if (err != 0)
		finish(a, 503, text[0] != '\0' ? text : err_text(err));
	else
		change_tell_provider(a->w, CHANGE_RULE_SET, a->provider->set->name, on_others, a);
}

int
query_update_rules(struct worker *w, struct peer *p, uint32_t id, struct wire *args)
{
	char name[NAME_TEXT_MAX];
	struct rule_provider *provider;
	struct ask *a = asks;

	if (wire_get_str(args, name, sizeof name) != 0)
		return -E_PROTO;
	provider = rule_provider_find(w->gen, name);
	if (provider == NULL) {
		query_error(p, id, 404, "Resource not found");
		return 0;
	}
	while (a < asks + ASKS_MAX && a->used)
		a++;
	if (a == asks + ASKS_MAX) {
		query_error(p, id, 503, "too many updates are waiting");
		return 0;
	}
	*a = (struct ask){ w, p, id, true, provider };
	if (rule_provider_renew(provider, on_renewed, a) != 0)
		finish(a, 503, "too many updates are waiting");
	return 0;
}
