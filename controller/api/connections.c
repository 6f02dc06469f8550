/* SPDX-License-Identifier: MIT */
/* /connections: the snapshot of every worker's connections, old generations included, and closing them (spec/api.md 2.12, 3.6).
 * The objects come from the workers as typed values and are rendered as they stand; totals come from the counter pages, memory
 * from the supervisor. */
#include "controller/api/connections.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "common/value.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

/* One worker's list without its brackets; what follows a bad value is dropped. Returns whether anything is in the list now. */
static bool
render_list(struct reply *r, const struct bridge_answer *a, bool any)
{
	struct wire w;
	uint8_t tag;
	size_t before;

	wire_read(&w, a->data, a->len);
	if (wire_get_u8(&w, &tag) != 0 || tag != V_LIST)
		return any;
	while (wire_left(&w) > 0 && w.p[w.off] != V_END) {
		before = r->len;
		if (any)
			json_raw_n(r, ",", 1);
		if (json_value(r, &w) != 0) {
			r->len = before;
			break;
		}
		any = true;
	}
	return any;
}

void
connections_render(struct reply *r, struct ctl *ctl, struct bridge_reply *answers, uint64_t memory)
{
	struct bridge_totals totals = { 0 };
	size_t start;
	bool any = false;

	bridge_totals(ctl, &totals);
	json_raw(r, "{\"downloadTotal\":");
	json_uint(r, totals.down);
	json_raw(r, ",\"uploadTotal\":");
	json_uint(r, totals.up);
	json_raw(r, ",\"connections\":");
	start = r->len;
	json_raw_n(r, "[", 1);
	for (int i = 0; i < answers->n; i++)
		if (answers->answer[i].status == 200)
			any = render_list(r, &answers->answer[i], any);
	if (any) {
		json_raw_n(r, "]", 1);
	} else {
		r->len = start;
		json_raw(r, "null");	/* what the reference sends, and clients expect, for none */
	}
	json_raw(r, ",\"memory\":");
	json_uint(r, memory);
	json_raw(r, "}");
}

unsigned
connections_interval(const struct api_req *req)
{
	char text[32];
	int64_t ms;

	switch (api_query_int(req, "interval", INT64_MIN, INT64_MAX, &ms)) {
	case 0:
		break;
	case -E_NOTFOUND:
		return CONNECTIONS_INTERVAL_MS;
	default:
		return api_query(req, "interval", text, sizeof(text)) && text[0] == '\0' ? CONNECTIONS_INTERVAL_MS : 0;
	}
	if (ms < CONNECTIONS_INTERVAL_MIN_MS)
		return CONNECTIONS_INTERVAL_MIN_MS;
	return ms > CONNECTIONS_INTERVAL_MAX_MS ? CONNECTIONS_INTERVAL_MAX_MS : (unsigned)ms;
}

static uint64_t
resident(struct api_req *req)
{
	struct msg_memory m = { 0 };
	struct bridge_reply r;

	if (ask_supervisor(req, MSG_MEMORY, NULL, 0, -1, &r) == 0 && r.n > 0 && r.answer[0].len >= sizeof(m))
		memcpy(&m, r.answer[0].data, sizeof(m));
	bridge_free(&r);
	return m.rss;
}

/* Asks that overlap share one snapshot: always one that began after each of them came, so nobody is shown what was true before
 * it asked. Thirty dashboards then cost what two do. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t ended;
	uint64_t begun, finished;	/* snapshots; one runs while they differ */
	unsigned waiting;		/* asks that will take the text of one that they do not run */
	int status;			/* of the last one that somebody waited for */
	char *body;			/* its text; owned */
	size_t len;
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER };

static int take_snapshot(struct api_req *req);

/* Keeps the text for those who wait; called locked. */
static void
share(int status, const struct reply *r)
{
	free(shared.body);
	shared.body = malloc(r->len + 1);
	shared.len = shared.body != NULL ? r->len : 0;
	shared.status = shared.body != NULL ? status : 503;
	if (shared.body != NULL)
		memcpy(shared.body, r->body, r->len);
}

/* Called locked, as the one who runs it. Nobody who comes while it runs may take its text, so who waits for it is known now. */
static void
run_snapshot(struct api_req *req)
{
	bool wanted = shared.waiting > 0;
	int status;

	if (!wanted) {
		free(shared.body);
		shared.body = NULL;
	}
	shared.begun++;
	pthread_mutex_unlock(&shared.lock);
	status = take_snapshot(req);
	pthread_mutex_lock(&shared.lock);
	if (wanted)
		share(status, req->reply);
	shared.finished = shared.begun;
	pthread_cond_broadcast(&shared.ended);
}

static int
copy_snapshot(struct api_req *req, int status)
{
	if (status != 200)
		return reply_error(req, status, "the data plane did not answer in time");
	json_raw_n(req->reply, shared.body, shared.len - 1);	/* reply_built() adds the line feed again */
	return reply_built(req, status);
}

int
connections_get(struct api_req *req)
{
	uint64_t mine;
	int status;

	if (req->upgrade)
		return connections_interval(req) == 0 ? reply_error(req, 400, "Body invalid") : 0;
	pthread_mutex_lock(&shared.lock);
	mine = shared.begun + 1;
	shared.waiting++;
	while (shared.finished < mine && shared.begun != shared.finished)
		pthread_cond_wait(&shared.ended, &shared.lock);
	shared.waiting--;
	if (shared.finished < mine) {
		run_snapshot(req);
		status = req->reply->status;
	} else
		status = copy_snapshot(req, shared.status);
	pthread_mutex_unlock(&shared.lock);
	return status;
}

static int
take_snapshot(struct api_req *req)
{
	struct bridge_reply r;
	uint64_t memory;
	bool heard = false;
	int err;

	memory = resident(req);
	err = ask_workers(req, BRIDGE_WORKERS, QUERY_CONNECTIONS, NULL, &r);
	for (int i = 0; i < r.n; i++)
		heard |= r.answer[i].status == 200;
	if (!heard) {
		bridge_free(&r);
		return answer_error(req, err, NULL);
	}
	connections_render(req->reply, req->ctl, &r, memory);
	bridge_free(&r);
	return reply_built(req, 200);
}

/* 204 whatever came: a connection that is not there is closed. */
static int
close_by(struct api_req *req, const uint8_t *id)
{
	struct bridge_reply r;
	struct wire args;

	wire_init(&args);
	if (id != NULL)
		wire_put(&args, id, 16);
	ask_workers(req, BRIDGE_WORKERS, QUERY_CLOSE, &args, &r);
	bridge_free(&r);
	return reply_empty(req, 204);
}

int
connections_close_all(struct api_req *req)
{
	return close_by(req, NULL);
}

int
connections_close(struct api_req *req)
{
	uint8_t id[16];

	if (uuid_parse(id, req->param[0]) != 0)
		return reply_empty(req, 204);	/* no connection has such an id */
	return close_by(req, id);
}
