/* SPDX-License-Identifier: MIT */
/* PUT /providers/proxies/NAME, GET .../healthcheck, PUT /providers/rules/NAME and POST /upgrade/geo, run by the lead. At most
 * ASKS_MAX at once, then 503; one that lost its controller goes on. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "worker/geo.h"
#include "worker/health.h"
#include "worker/nodes.h"
#include "worker/provider/provider.h"
#include "worker/query.h"
#include "worker/rule_sets.h"

enum { ASKS_MAX = 256, NAME_TEXT_MAX = 1024 };

static struct ask {
	struct peer *peer; /* NULL: gone */
	uint32_t id;
	bool used;
} asks[ASKS_MAX];

void
query_providers_peer_gone(struct peer *p)
{
	for (int i = 0; i < ASKS_MAX; i++)
		if (asks[i].peer == p)
			asks[i].peer = NULL;
}

static struct ask *
new_ask(struct peer *p, uint32_t id)
{
	for (int i = 0; i < ASKS_MAX; i++)
		if (!asks[i].used) {
			asks[i] = (struct ask){ p, id, true };
			return &asks[i];
		}
	query_error(p, id, 503, "too many of these calls are waiting");
	return NULL;
}

static void
finish(void *arg, int status, const char *text)
{
	struct ask *a = arg;
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
on_checked(void *arg)
{
	finish(arg, 204, "");
}

/* Those that stand for groups, and `default`, have nothing to fetch. */
static bool
stands_for_groups(struct worker *w, const char *name)
{
	struct wire out;
	int rc;

	wire_init(&out);
	rc = show_providers(w->gen, false, name, &out);
	wire_free(&out);
	return rc == 0;
}

int
query_update_nodes(struct worker *w, struct peer *p, uint32_t id, struct wire *args)
{
	char name[NAME_TEXT_MAX];
	struct ask *a;

	if (wire_get_str(args, name, sizeof name) != 0)
		return -E_PROTO;
	a = new_ask(p, id);
	if (a == NULL)
		return 0;
	if (provider_find(w->gen, name) == NULL && stands_for_groups(w, name))
		finish(a, 204, "");
	else
		nodes_update(w, name, finish, a);
	return 0;
}

int
query_update_rules(struct worker *w, struct peer *p, uint32_t id, struct wire *args)
{
	char name[NAME_TEXT_MAX];
	struct ask *a;

	if (wire_get_str(args, name, sizeof name) != 0)
		return -E_PROTO;
	a = new_ask(p, id);
	if (a != NULL)
		rule_sets_update(w, name, finish, a);
	return 0;
}

void
query_update_geo(struct worker *w, struct peer *p, uint32_t id)
{
	struct ask *a = new_ask(p, id);

	if (a != NULL)
		geo_update(w, finish, a);
}

int
query_check_nodes(struct worker *w, struct peer *p, uint32_t id, struct wire *args)
{
	char name[NAME_TEXT_MAX];
	struct ask *a;
	int rc;

	if (wire_get_str(args, name, sizeof name) != 0)
		return -E_PROTO;
	a = new_ask(p, id);
	if (a == NULL)
		return 0;
	rc = health_check_now(w, name, on_checked, a);
	if (rc == -E_NOTFOUND)
		finish(a, stands_for_groups(w, name) ? 204 : 404, "Resource not found");
	else if (rc != 0)
		finish(a, 503, "too many of these calls are waiting");
	return 0;
}
