/* SPDX-License-Identifier: MIT */
/* /storage/{key}: texts that dashboards keep here (spec/api.md 2.14). The supervisor holds one file per key; values travel as
 * files, never inside a message. What is put must be JSON, what is got is sent back byte by byte. */
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/memfd.h"
#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

enum { STORE_CHUNK = 16384 };

static int
ask_store(struct api_req *req, uint32_t op, int fd, struct bridge_reply *r)
{
	struct msg_store m = { .op = op };

	str_copy(m.key, sizeof(m.key), req->param[0]);
	return ask_supervisor(req, MSG_STORE, &m, sizeof(m), fd, r);
}

static bool
key_valid(struct api_req *req)
{
	size_t n = strlen(req->param[0]);

	return n > 0 && n <= STORE_KEY_MAX;
}

static int
refuse_key(struct api_req *req)
{
	return reply_error(req, 400, "storage key is longer than %d bytes", STORE_KEY_MAX);
}

static int
copy_file(struct reply *out, int fd)
{
	char chunk[STORE_CHUNK];
	ssize_t n;

	while (out->len <= STORE_VALUE_MAX) {
		n = pread(fd, chunk, sizeof(chunk), (off_t)out->len);
		if (n == -1)
			return -E_SYS;
		if (n == 0)
			return 0;
		json_raw_n(out, chunk, (size_t)n);
		if (out->oom)
			return -E_NOMEM;
	}
	return -E_LIMIT;
}

static int
reply_stored(struct api_req *req, int err, const struct bridge_reply *r)
{
	struct msg_file m;

	if (err != 0 || r->n < 1)
		return reply_error(req, 503, "the supervisor did not answer in time");
	if (r->type != MSG_FILE || r->answer[0].len < sizeof(m))
		return answer_result(req, err, r, 500);
	memcpy(&m, r->answer[0].data, sizeof(m));
	m.text[sizeof(m.text) - 1] = '\0';
	if (m.err == E_NOTFOUND)
		return reply_text(req, 200, "application/json", "null");
	if (m.err != 0 || r->answer[0].fd == -1)
		return reply_error(req, 500, "%s", m.text[0] != '\0' ? m.text : err_text((int)m.err));
	req->reply->len = 0;
	if (copy_file(req->reply, r->answer[0].fd) != 0)
		return reply_error(req, 500, "the stored value cannot be read");
	req->reply->status = 200;	/* raw: no line feed is added */
	str_copy(req->reply->type, sizeof(req->reply->type), "application/json");
	return 200;
}

int
storage_get(struct api_req *req)
{
	struct bridge_reply r;
	int err, status;

	if (!key_valid(req))
		return refuse_key(req);
	err = ask_store(req, STORE_GET, -1, &r);
	status = reply_stored(req, err, &r);
	bridge_free(&r);
	return status;
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One JSON value and nothing but white space after it. */
static bool
document_valid(const char *p, size_t n)
{
	size_t used = n == 0 ? 0 : json_scan(p, n, JSON_DEPTH_MAX, NULL);

	if (used == 0)
		return false;
	while (used < n && is_space(p[used]))
		used++;
	return used == n;
}

int
storage_put(struct api_req *req)
{
	struct bridge_reply r;
	int err, status, fd;

	if (!key_valid(req))
		return refuse_key(req);
	if (!document_valid(req->body, req->body_len))
		return reply_error(req, 400, "Body invalid");
	if (req->body_len > STORE_VALUE_MAX)
		return reply_error(req, 413, "payload exceeds 1MB limit");
	fd = memfd_from("storage", req->body, req->body_len);
	if (fd < 0)
		return reply_error(req, 500, "%s", err_text(fd));
	err = ask_store(req, STORE_PUT, fd, &r);
	status = answer_result(req, err, &r, 204);
	bridge_free(&r);
	return status;
}

int
storage_delete(struct api_req *req)
{
	struct bridge_reply r;
	int err, status;

	if (!key_valid(req))
		return reply_empty(req, 204);	/* never stored */
	err = ask_store(req, STORE_DELETE, -1, &r);
	status = result_status(err, &r) == 404 ? reply_empty(req, 204) : answer_result(req, err, &r, 204);
	bridge_free(&r);
	return status;
}
