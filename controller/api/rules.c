/* SPDX-License-Identifier: MIT */
/* GET /rules and PATCH /rules/disable (spec/api.md 2.11, 3.4). The list is the lead's; each worker of the serving generation has
 * counters of its own, which are summed here. A switch is a change that every worker acknowledges. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

enum { RULE_BYTES_MIN = 17 };	/* of one rule on the wire: bounds the count that a worker claims */

struct counts {
	uint64_t hits, hit_at, misses, miss_at;
};

static uint64_t
later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void
add_counts(struct counts *sum, uint32_t n, const struct bridge_answer *a)
{
	struct counts c;
	struct wire w;
	uint32_t rows;

	wire_read(&w, a->data, a->len);
	if (a->status != 200 || wire_get_u32(&w, &rows) != 0)
		return;
	for (uint32_t i = 0; i < rows && i < n; i++) {
		wire_get_u64(&w, &c.hits);
		wire_get_u64(&w, &c.hit_at);
		wire_get_u64(&w, &c.misses);
		if (wire_get_u64(&w, &c.miss_at) != 0)
			return;
		sum[i].hits += c.hits;
		sum[i].hit_at = later(sum[i].hit_at, c.hit_at);
		sum[i].misses += c.misses;
		sum[i].miss_at = later(sum[i].miss_at, c.miss_at);
	}
}

/* NULL only when memory ran out or there is no rule. */
static struct counts *
ask_counts(struct api_req *req, uint32_t n)
{
	struct counts *sum = n == 0 ? NULL : calloc(n, sizeof(*sum));
	struct bridge_reply r;

	if (sum == NULL)
		return NULL;
	ask_workers(req, BRIDGE_SERVING, QUERY_RULE_COUNTS, NULL, &r);
	for (int i = 0; i < r.n; i++)
		add_counts(sum, n, &r.answer[i]);
	bridge_free(&r);
	return sum;
}

static int
put_text(struct reply *r, const char *name, struct wire *w)
{
	const void *p;
	size_t n;

	if (wire_get_bytes(w, &p, &n, BRIDGE_DATA_MAX) != 0)
		return -E_PROTO;
	json_raw(r, name);
	json_str(r, p, n);
	return 0;
}

static int
put_rule(struct reply *r, uint32_t index, struct wire *w, const struct counts *c)
{
	uint32_t size;
	bool disabled;

	json_raw(r, index == 0 ? "{\"index\":" : ",{\"index\":");
	json_uint(r, index);
	if (put_text(r, ",\"type\":", w) != 0 || put_text(r, ",\"payload\":", w) != 0 || put_text(r, ",\"proxy\":", w) != 0 ||
	    wire_get_u32(w, &size) != 0 || wire_get_bool(w, &disabled) != 0)
		return -E_PROTO;
	json_raw(r, ",\"size\":");
	json_int(r, size == UINT32_MAX ? -1 : (int64_t)size);
	json_raw(r, disabled ? ",\"extra\":{\"disabled\":true,\"hitCount\":" : ",\"extra\":{\"disabled\":false,\"hitCount\":");
	json_uint(r, c->hits);
	json_raw(r, ",\"hitAt\":");
	json_time(r, (int64_t)c->hit_at);
	json_raw(r, ",\"missCount\":");
	json_uint(r, c->misses);
	json_raw(r, ",\"missAt\":");
	json_time(r, (int64_t)c->miss_at);
	json_raw(r, "}}");
	return 0;
}

static int
render_rules(struct api_req *req, const struct bridge_answer *a)
{
	const struct counts none = { 0 };
	struct counts *sum;
	struct wire w;
	uint32_t n;
	int rc = 0;

	wire_read(&w, a->data, a->len);
	if (wire_get_u32(&w, &n) != 0 || n > wire_left(&w) / RULE_BYTES_MIN)
		return -E_PROTO;
	sum = ask_counts(req, n);
	json_raw(req->reply, "{\"rules\":[");
	for (uint32_t i = 0; i < n && rc == 0; i++)
		rc = put_rule(req->reply, i, &w, sum == NULL ? &none : &sum[i]);
	json_raw(req->reply, "]}");
	free(sum);
	return rc;
}

int
rules_list(struct api_req *req)
{
	struct bridge_reply r;
	int err = ask_workers(req, BRIDGE_LEAD, QUERY_RULES, NULL, &r), status;

	if (answer_status(err, &r) != 200)
		status = answer_error(req, err, &r);
	else if (render_rules(req, &r.answer[0]) != 0)
		status = reply_error(req, 500, "the data plane's answer cannot be read");
	else
		status = reply_built(req, 200);
	bridge_free(&r);
	return status;
}

/* {"0":true,...} as u32 n, n * (u32 index, bool disabled); false when a key or value is none such. An index that no rule can have
 * is skipped. */
static bool
put_switches(struct wire *w, const cJSON *object)
{
	const cJSON *c;
	uint32_t n = 0;
	int64_t index;
	bool minus;

	wire_put_u32(w, 0);
	cJSON_ArrayForEach(c, object) {
		minus = c->string[0] == '-';
		if (!cJSON_IsBool(c) || str_to_i64(c->string + minus, 0, INT64_MAX, &index) != 0)
			return false;
		if ((minus && index > 0) || index > UINT32_MAX)
			continue;
		wire_put_u32(w, (uint32_t)index);
		wire_put_bool(w, cJSON_IsTrue(c));
		n++;
	}
	wire_set_u32(w, 0, n);
	return true;
}

int
rules_disable(struct api_req *req)
{
	cJSON *body = api_json(req);
	struct bridge_reply r;
	struct wire args;
	int err, status;

	wire_init(&args);
	if (!cJSON_IsObject(body) || !put_switches(&args, body)) {
		wire_free(&args);
		cJSON_Delete(body);
		return reply_error(req, 400, "Body invalid");
	}
	cJSON_Delete(body);
	err = ask_change(req, CHANGE_RULES, &args, &r);
	status = answer_result(req, err, &r, 204);
	bridge_free(&r);
	return status;
}
