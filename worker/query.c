/* SPDX-License-Identifier: MIT */
/* Questions of the controller: what the API shows. Formats: common/snapshot.h. Everything here runs on request only and costs
 * idle workers nothing. */
#include "worker/query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/imsg_types.h"
#include "common/memfd.h"
#include "common/snapshot.h"
#include "common/strutil.h"
#include "common/value.h"
#include "worker/codec/dns.h"
#include "worker/core/conn.h"
#include "worker/dns/resolver.h"
#include "worker/dns/serve.h"
#include "worker/general_show.h"
#include "worker/provider/ruleset.h"
#include "worker/rule/rule.h"
#include "worker/sections.h"

enum { NAME_TEXT_MAX = 1024, DNS_ASKS_MAX = 64, DOH_ASKS_MAX = 1024 /* in flight; the controller asks fewer */ };

void
query_error(struct peer *p, uint32_t id, int status, const char *text)
{
	struct msg_answer a = { .status = status };
	struct wire w;

	wire_init(&w);
	wire_put(&w, &a, sizeof a);
	wire_put_str(&w, text);
	peer_send_wire(p, MSG_ANSWER, id, &w, NULL, 0);
}

void
query_answer(struct peer *p, uint32_t id, struct wire *data)
{
	struct msg_answer a = { .status = 200 };
	struct wire w;
	int fd;

	if (data->failed) {
		wire_free(data);
		query_error(p, id, 500, "out of memory");
		return;
	}
	if (data->len + sizeof a <= IMSG_BODY_MAX) {
		wire_init(&w);
		wire_put(&w, &a, sizeof a);
		wire_put(&w, data->p, data->len);
		wire_free(data);
		peer_send_wire(p, MSG_ANSWER, id, &w, NULL, 0);
		return;
	}
	fd = memfd_from("answer", data->p, data->len);
	wire_free(data);
	if (fd < 0)
		query_error(p, id, 500, "out of memory");
	else
		peer_send(p, MSG_ANSWER, id, &a, sizeof a, &fd, 1);
}

static void
rules(struct gen *g, struct wire *out)
{
	wire_put_u32(out, (uint32_t)g->rules->n);
	for (int i = 0; i < g->rules->n; i++) {
		const struct rule *r = &g->rules->rule[i];

		wire_put_str(out, rule_api_name(r));
		wire_put_str(out, r->payload);
		wire_put_str(out, r->target);
		wire_put_u32(out, r->type->size != NULL ? r->type->size(r) : ~0u);
		wire_put_bool(out, r->disabled);
	}
}

static void
rule_counts(struct gen *g, struct wire *out)
{
	wire_put_u32(out, (uint32_t)g->rules->n);
	for (int i = 0; i < g->rules->n; i++) {
		const struct rule *r = &g->rules->rule[i];

		wire_put_u64(out, r->hits);
		wire_put_u64(out, (uint64_t)r->hit_at);
		wire_put_u64(out, r->misses);
		wire_put_u64(out, (uint64_t)r->miss_at);
	}
}

static int
close_some(struct worker *w, struct wire *args, struct wire *out)
{
	uint8_t id[16];
	struct conn *c;
	uint32_t n = 0;

	if (wire_left(args) == 0) {
		list_each(k, &w->conns)
			n += container_of(k, struct conn, link)->listed;
		conns_close_all(w, BY_API);
	} else {
		if (wire_get(args, id, sizeof id) != 0)
			return -E_PROTO;
		c = conn_find(w, id);
		if (c != NULL) {
			conn_close(c, BY_API);
			n = 1;
		}
	}
	wire_put_u32(out, n);
	return 0;
}

/* ---- GET /dns/query */

struct dns_ask {
	struct peer *peer;	/* NULL: the controller went away */
	uint32_t id;
	bool used;
	struct dns_wait wait;
};
static struct dns_ask dns_asks[DNS_ASKS_MAX];

static void
on_dns(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct dns_ask *a = arg;
	struct wire out;

	a->used = false;
	if (a->peer == NULL)
		return;
	wire_init(&out);
	if (err != 0 || dns_show(msg, n, &out) != 0) {
		char text[128];

		wire_free(&out);
		snprintf(text, sizeof text, "all DNS requests failed, first error: %s", err_text(err != 0 ? err : E_PROTO));
		query_error(a->peer, a->id, 500, text);
		return;
	}
	query_answer(a->peer, a->id, &out);
}

static int
ask_dns(struct worker *w, struct peer *p, uint32_t id, struct wire *args)
{
	char name[NAME_TEXT_MAX];
	const uint8_t *msg;
	uint16_t type;
	size_t n;
	int slot = 0, rc;

	if (wire_get_str(args, name, sizeof name) != 0 || wire_get_u16(args, &type) != 0)
		return -E_PROTO;
	while (slot < DNS_ASKS_MAX && dns_asks[slot].used)
		slot++;
	if (slot == DNS_ASKS_MAX) {
		query_error(p, id, 503, "too many DNS questions are waiting");
		return 0;
	}
	dns_asks[slot] = (struct dns_ask){ .peer = p, .id = id, .used = true };
	if (resolver_known(w->gen, name, type, &msg, &n)) {
		on_dns(&dns_asks[slot], 0, msg, n);
		return 0;
	}
	rc = resolver_query(w->gen, &dns_asks[slot].wait, name, type, on_dns, &dns_asks[slot]);
	if (rc != 0) {
		dns_asks[slot].used = false;
		query_error(p, id, 500, rc == -E_UNSUP ? "DNS section is disabled" : err_text(rc));
	}
	return 0;
}

/* ---- external-doh-server */

static struct dns_ask doh_asks[DOH_ASKS_MAX];	/* without wait */

static void
on_doh(void *arg, int err, const uint8_t *msg, size_t n)
{
	struct dns_ask *a = arg;
	struct wire out;

	a->used = false;
	if (a->peer == NULL)
		return;
	if (err != 0) {
		query_error(a->peer, a->id, 500, err_text(err));
		return;
	}
	wire_init(&out);
	wire_put(&out, msg, n);
	query_answer(a->peer, a->id, &out);
}

static int
ask_doh(struct worker *w, struct peer *p, uint32_t id, const struct wire *args)
{
	static unsigned next;
	struct dns_ask *a = NULL;
	int rc = -E_LIMIT;

	for (unsigned i = 0; i < DOH_ASKS_MAX && a == NULL; i++, next++)
		if (!doh_asks[next % DOH_ASKS_MAX].used)
			a = &doh_asks[next % DOH_ASKS_MAX];
	if (a != NULL) {
		*a = (struct dns_ask){ .peer = p, .id = id, .used = true };
		rc = dns_serve_ask(w->gen, args->p + args->off, wire_left(args), false, on_doh, a);
	}
	if (rc != 0) {
		if (a != NULL)
			a->used = false;
		query_error(p, id, rc == -E_LIMIT ? 503 : 500, rc == -E_UNSUP ? "DNS section is disabled" : err_text(rc));
	}
	return 0;
}

void
query_peer_gone(struct peer *p)
{
	for (int i = 0; i < DOH_ASKS_MAX; i++)
		if (doh_asks[i].peer == p)
			doh_asks[i].peer = NULL;
	for (int i = 0; i < DNS_ASKS_MAX; i++)
		if (dns_asks[i].peer == p)
			dns_asks[i].peer = NULL;
	query_delay_peer_gone(p);
	query_providers_peer_gone(p);
	query_explain_peer_gone(p);
}

/* ---- */

static int
proxies(struct worker *w, struct peer *p, uint32_t id, struct wire *args, struct wire *out)
{
	char name[NAME_TEXT_MAX];
	uint8_t what;

	if (wire_get_u8(args, &what) != 0 || wire_get_str(args, name, sizeof name) != 0)
		return -E_PROTO;
	if (show_proxies(w->gen, what, name, out) == 0)
		return 0;
	query_error(p, id, 404, "Resource not found");
	return -E_NOTFOUND;
}

static int
providers(struct worker *w, struct peer *p, uint32_t id, struct wire *args, struct wire *out, bool of_rules)
{
	char name[NAME_TEXT_MAX];
	uint8_t what;

	if (wire_get_u8(args, &what) != 0 || wire_get_str(args, name, sizeof name) != 0)
		return -E_PROTO;
	if (of_rules ? rule_providers_show(w->gen, what == 0 ? NULL : name, out) == 0 :
		       show_providers(w->gen, what == 0, name, out) == 0)
		return 0;
	query_error(p, id, 404, "Resource not found");
	return -E_NOTFOUND;
}

int
query_handle(struct peer *p, struct wire *b, const int *fds)
{
	struct worker *w = p->arg;
	struct msg_query q;
	struct wire out;
	uint32_t id = p->cur_id;
	int rc = 0;

	(void)fds;
	if (wire_get(b, &q, sizeof q) != 0)
		return -E_PROTO;
	wire_init(&out);
	switch (q.kind) {
	case QUERY_CONFIG:
		general_show(w->gen, &out);
		break;
	case QUERY_PROXIES:
		rc = proxies(w, p, id, b, &out);
		break;
	case QUERY_RULES:
		rules(w->gen, &out);
		break;
	case QUERY_RULE_COUNTS:
		rule_counts(w->gen, &out);
		break;
	case QUERY_CONNECTIONS:
		show_connections(w, &out);
		break;
	case QUERY_CLOSE:
		rc = close_some(w, b, &out);
		break;
	case QUERY_PROVIDERS:
	case QUERY_RULE_PROVIDERS:
		rc = providers(w, p, id, b, &out, q.kind == QUERY_RULE_PROVIDERS);
		break;
	case QUERY_DELAY:
	case QUERY_GROUP_DELAY:
		query_delay(w, p, id, b, q.kind == QUERY_GROUP_DELAY);
		return 0;
	case QUERY_BEFORE_SELECT:
		query_before_select(w, p, id, b);
		return 0;
	case QUERY_UPDATE_NODES:
		return query_update_nodes(w, p, id, b);
	case QUERY_CHECK_NODES:
		return query_check_nodes(w, p, id, b);
	case QUERY_UPDATE_RULES:
		return query_update_rules(w, p, id, b);
	case QUERY_EXPLAIN:
		return query_explain(w, p, id, b);
	case QUERY_UPDATE_GEO:
		query_update_geo(w, p, id);
		return 0;
	case QUERY_DNS:
		return ask_dns(w, p, id, b);
	case QUERY_DOH:
		return ask_doh(w, p, id, b);
	default:
		rc = -E_PROTO;
		break;
	}
	if (rc != 0) {
		wire_free(&out);
		return rc == -E_NOTFOUND ? 0 : rc;
	}
	query_answer(p, id, &out);
	return 0;
}
