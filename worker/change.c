/* SPDX-License-Identifier: MIT */
/* Changes while running: every worker applies the same ones in the same order and acknowledges, so all decide alike. The lead
 * also hands up the blob that makes the change outlive this process. Payloads: common/imsg_types.h (enum change_kind). */
#include "worker/change.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/apply.h"
#include "worker/delays.h"
#include "worker/dns/fakeip.h"
#include "worker/dns/resolver.h"
#include "worker/geo.h"
#include "worker/group/group.h"
#include "worker/ipc.h"
#include "worker/loop/pool.h"
#include "worker/patch.h"
#include "worker/rule/rule.h"
#include "worker/source.h"

enum { NAME_TEXT_MAX = 1024, TOLD_MAX = 64 };

static int
patch(struct worker *w, struct wire *in, const char **text)
{
	static char why[256];
	struct gen *g = w->gen;
	struct general before = g->general;
	struct patch_effect effect = { 0 };
	struct wire out;
	int status = patch_apply(g, in, &effect, text);

	if (status != 204)
		return status;
	if (effect.ports && !w->draining) {
		int rc = apply_ports(w, why, sizeof why);

		if (rc < 0) {	/* nothing of the patch happened */
			g->general = before;
			*text = why;
			return rc == -E_BUSY ? 409 : 500;
		}
		wire_init(&out);
		patch_save_ports(g, &out);
		ipc_save(w, STATE_PORTS, &out);
	}
	if (effect.log_level && w->lead && w->serving) {
		struct msg_log_level m = { .level = g->general.log_level };

		peer_send(&w->sup, MSG_LOG_LEVEL, 0, &m, sizeof m, NULL, 0);
	}
	wire_init(&out);
	patch_save_live(g, &out);
	ipc_save(w, STATE_PATCH, &out);
	return 204;
}

static int
choose(struct worker *w, struct wire *in, const char **text)
{
	char group[NAME_TEXT_MAX], name[NAME_TEXT_MAX];
	struct wire out;
	int status;

	if (wire_get_str(in, group, sizeof group) != 0 || wire_get_str(in, name, sizeof name) != 0) {
		*text = "Body invalid";
		return 400;
	}
	status = group_select(w->gen, group, name, text);
	if (status == 204 && w->gen->general.store_selected) {
		wire_init(&out);
		groups_save(w->gen, &out);
		ipc_save(w, STATE_SELECT, &out);
	}
	return status;
}

void
change_save_rules(const struct gen *g, struct wire *out)
{
	uint32_t n = 0;
	size_t at = out->len;

	wire_put_u32(out, 0);
	for (int i = 0; i < g->rules->n; i++)
		if (g->rules->rule[i].disabled) {
			wire_put_u32(out, (uint32_t)i);
			wire_put_bool(out, true);
			n++;
		}
	wire_set_u32(out, at, n);
}

void
change_load_rules(struct gen *g, struct wire *in)
{
	uint32_t n, index;
	bool off;

	if (wire_get_u32(in, &n) != 0)
		return;
	for (uint32_t i = 0; i < n && wire_get_u32(in, &index) == 0 && wire_get_bool(in, &off) == 0; i++)
		if (index < (uint32_t)g->rules->n)
			g->rules->rule[index].disabled = off;
}

static int
switch_rules(struct worker *w, struct wire *in)
{
	struct wire out;

	change_load_rules(w->gen, in);
	wire_init(&out);
	change_save_rules(w->gen, &out);
	ipc_save(w, STATE_RULES, &out);
	return 204;
}

/* ---- providers */

static struct told {		/* what the lead told and waits for; id 0 = free */
	uint32_t id;
	change_cb *cb;
	void *arg;
} told[TOLD_MAX];

void
change_tell_provider(struct worker *w, enum change_kind kind, const char *name, change_cb *cb, void *arg)
{
	static uint32_t last_id;
	struct msg_result full = { .status = 503, .text = "too many updates are waiting" };
	struct msg_change m = { .kind = kind };
	struct told *t = told;
	struct wire out;

	while (t < told + TOLD_MAX && t->id != 0)
		t++;
	if (t == told + TOLD_MAX) {
		cb(arg, &full);
		return;
	}
	last_id += last_id == UINT32_MAX ? 2 : 1;
	*t = (struct told){ last_id, cb, arg };
	wire_init(&out);
	wire_put(&out, &m, sizeof m);
	wire_put_str(&out, name);
	peer_send_wire(&w->sup, MSG_CHANGE, t->id, &out, NULL, 0);
}

void
change_result(uint32_t id, struct msg_result *r)
{
	r->text[sizeof r->text - 1] = '\0';
	for (struct told *t = told; t < told + TOLD_MAX; t++)
		if (t->id == id && id != 0) {
			t->id = 0;
			t->cb(t->arg, r);
			return;
		}
}

void
change_apply(struct worker *w, const struct msg_change *m, struct wire *payload)
{
	struct msg_result r = { .status = 204 };
	const char *text = "";

	switch (m->kind) {
	case CHANGE_PATCH:
		r.status = patch(w, payload, &text);
		break;
	case CHANGE_SELECT:
		r.status = choose(w, payload, &text);
		break;
	case CHANGE_RULES:
		r.status = switch_rules(w, payload);
		break;
	case CHANGE_FLUSH_DNS:
		resolver_flush(w->gen);
		break;
	case CHANGE_FLUSH_FAKEIP:
		fakeip_flush(w->gen);
		break;
	case CHANGE_GC:
		pool_trim();
		malloc_trim(0);
		break;
	case CHANGE_DELAY:
		r.status = delays_take(w->gen, payload);
		break;
	case CHANGE_NODES:
	case CHANGE_RULE_SET:
		if (sources_renew(w, m, payload, &r.status, &text))
			return;
		break;
	case CHANGE_GEO:
		if (geo_renew(w, m->seq, payload, &r.status, &text))
			return;
		break;
	default:
		r.status = 400;
		text = "unknown change";
		break;
	}
	worker_touch(w);
	str_copy(r.text, sizeof r.text, text);
	peer_send(&w->sup, MSG_CHANGE_ACK, m->seq, &r, sizeof r, NULL, 0);
}
