/* SPDX-License-Identifier: MIT */
/* Delay tests: what GET .../delay and .../healthcheck take and answer (spec/api.md 2.8, 2.9). The test itself is the lead's.
 * Called on the loop; the struct ask is the caller's until one of the two callbacks here took it. */
#include "controller/api/delay.h"

#include <string.h>

#include "common/err.h"
#include "common/strutil.h"

enum { EXPECTED_ITEMS_MAX = 28 };

static void
refuse(struct ask *a, int status, const char *message)
{
	a->status = status;
	a->message = message;
}

/* One number of a range, blanks and brackets around it dropped. */
static bool
status_valid(const char *s, size_t n)
{
	char text[16];

	while (n > 0 && strchr("[ ]", s[0]) != NULL)
		s++, n--;
	while (n > 0 && strchr("[ ]", s[n - 1]) != NULL)
		n--;
	if (n == 0 || n >= sizeof(text))
		return false;
	memcpy(text, s, n);
	text[n] = '\0';
	return str_to_i64(text, 0, UINT16_MAX, NULL) == 0;
}

static bool
range_valid(const char *s, size_t n)
{
	const char *dash = memchr(s, '-', n);
	size_t left = dash == NULL ? n : (size_t)(dash - s);

	return status_valid(s, left) && (dash == NULL || status_valid(dash + 1, n - left - 1));
}

bool
delay_expected_valid(const char *s)
{
	unsigned items = 0;
	size_t n;

	s += strspn(s, " \t");
	if (*s == '\0' || (*s == '*' && s[1 + strspn(s + 1, " \t")] == '\0'))
		return true;
	for (;; s += n + 1) {
		n = strcspn(s, "/,");
		if (++items > EXPECTED_ITEMS_MAX || (n > 0 && !range_valid(s, n)))
			return false;
		if (s[n] == '\0')
			return true;
	}
}

void
delay_read(struct api_req *req, struct ask *a, int64_t limit, int late_status, const char *late)
{
	int64_t timeout = 0;

	if (!api_query(req, "url", a->url, sizeof(a->url)))
		a->url[0] = '\0';
	if (!api_query(req, "expected", a->expected, sizeof(a->expected)))
		a->expected[0] = '\0';
	if (api_query_int(req, "timeout", -limit - 1, limit, &timeout) != 0 || !delay_expected_valid(a->expected))
		refuse(a, 400, "Body invalid");
	else if (timeout <= 0)
		refuse(a, late_status, late);
	else
		a->timeout_ms = timeout > DELAY_MAX_MS ? DELAY_MAX_MS : (unsigned)timeout;
}

void
delay_put(struct ask *a, const char *name)
{
	wire_put_str(&a->args, name);
	wire_put_str(&a->args, a->url);
	wire_put_u32(&a->args, a->timeout_ms);
	wire_put_str(&a->args, a->expected);
}

unsigned
delay_wait(const struct ask *a)
{
	return a->timeout_ms + ASK_MS;
}

static int
reply_delay(struct api_req *req, int err, const struct bridge_reply *r)
{
	uint16_t ms = 0;
	struct wire w;

	if (err == -E_TIMEOUT)
		return reply_error(req, 504, "Timeout");
	if (answer_status(err, r) != 200)
		return answer_error(req, err, r);
	wire_read(&w, r->answer[0].data, r->answer[0].len);
	if (wire_get_u16(&w, &ms) != 0 || ms == 0)	/* 0 means dead to every client */
		return reply_error(req, 503, "An error occurred in the delay test");
	json_raw(req->reply, "{\"delay\":");
	json_uint(req->reply, ms);
	json_raw(req->reply, "}");
	return reply_built(req, 200);
}

void
delay_on_answer(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	struct api_req *req = ask_take(ctl, arg);

	if (req == NULL)
		return;
	reply_delay(req, err, r);
	api_done(ctl, req);
}

void
delay_on_lookup(struct ctl *ctl, int err, struct bridge_reply *r, void *arg)
{
	const struct ask *a = arg;
	const char *message = a->message;
	int status = a->status;
	struct api_req *req = ask_take(ctl, arg);

	if (req == NULL)
		return;
	if (answer_status(err, r) != 200)
		answer_error(req, err, r);
	else
		reply_error(req, status, "%s", message);
	api_done(ctl, req);
}
