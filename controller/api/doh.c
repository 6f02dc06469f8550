/* SPDX-License-Identifier: MIT */
/* external-doh-server: DNS over HTTPS (RFC 8484) on the API's listeners (spec/api.md 1.9). The question goes unread to the lead,
 * whose DNS server answers it as one of dns.listen; the wire answer goes back. Without the secret, so bounded: a question's size
 * and the number in flight, that others of the API's requests always find a place. Loop only. */
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

enum {
	DOH_MS = 6000,			/* the resolver's own limit is 5 s */
	DOH_QUESTION_MAX = 4096,	/* bytes; more are answered 413 */
	DOH_INFLIGHT_MAX = API_PARKED_MAX / 2	/* more are answered 503 */
};
static const char type_dns[] = "application/dns-message", type_text[] = "text/plain; charset=utf-8";

static unsigned n_inflight;

static int
fail(struct api_req *req, int status, const char *text)
{
	return reply_text(req, status, type_text, text);
}

static int
answer(struct api_req *req, int err, const struct bridge_reply *r)
{
	const struct bridge_answer *a = &r->answer[0];
	int status = answer_status(err, r);
	char text[256] = DATA_PLANE_LATE;
	struct wire w;

	if (status == 200) {
		(void)reply_text(req, 200, type_dns, "");
		json_raw_n(req->reply, (const char *)a->data, a->len);
		return 200;
	}
	if (r->n > 0 && a->status != 0) {
		wire_read(&w, a->data, a->len);
		if (wire_get_str(&w, text, sizeof(text)) != 0)
			str_copy(text, sizeof(text), "the data plane's answer cannot be read");
	}
	return fail(req, status, text);
}

static void
on_answer(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct api_req *req = ask_take(ctl, arg);

	n_inflight--;
	if (req == NULL)
		return;
	answer(req, err, r);
	api_done(ctl, req);
}

static int
ask(struct api_req *req, const void *question, size_t n)
{
	struct ask *a;
	int status;

	if (n > DOH_QUESTION_MAX)
		return fail(req, 413, "the question is too long");
	if (n_inflight >= DOH_INFLIGHT_MAX)
		return fail(req, 503, "too many questions are waiting");
	a = ask_new(req);
	if (a != NULL)
		wire_put(&a->args, question, n);
	status = ask_query(req, a, QUERY_DOH, DOH_MS, on_answer);
	if (status != API_PARKED)
		return fail(req, status, status == 503 ? DATA_PLANE_LATE : "out of memory");
	n_inflight++;
	return API_PARKED;
}

/* Where the text stops being unpadded base64url (RFC 4648 5). */
static size_t
bad_at(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_");

	return s[n] == '\0' && n > 0 ? n - 1 : n;
}

static int
ask_query_text(struct api_req *req)
{
	char text[DOH_QUESTION_MAX / 3 * 4 + 8] = "", why[64];
	uint8_t question[DOH_QUESTION_MAX];
	int n;

	if (!api_query(req, "dns", text, sizeof(text)) && strlen(req->query) >= sizeof(text))
		return fail(req, 413, "the question is too long");
	n = strpbrk(text, "=+/") == NULL ? base64_decode(question, sizeof(question), text, strlen(text)) : -E_INVAL;
	if (n >= 0)
		return ask(req, question, (size_t)n);
	snprintf(why, sizeof(why), "illegal base64 data at input byte %zu", bad_at(text));
	return fail(req, 500, why);
}

int
doh_serve(struct api_req *req)
{
	if (str_equal(req->method, "GET"))
		return ask_query_text(req);
	if (!str_equal(req->method, "POST"))
		return fail(req, 405, "method not allowed");
	if (req->content_type == NULL || !str_equal(req->content_type, type_dns))
		return fail(req, 500, "invalid content-type");
	return ask(req, req->body, req->body_len);
}
