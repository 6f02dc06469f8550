/* SPDX-License-Identifier: MIT */
/* /ui: the dashboard's files (spec/api.md 1.8). The supervisor opens each one beneath external-ui, without following links; this
 * file only gets a descriptor. Paths are checked here all the same, and nothing is listed. Runs on civetweb threads; keeps
 * nothing. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/err.h"
#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"
#include "controller/ctl.h"

enum { UI_FILE_MAX = 32 << 20, UI_PATH_MAX = 1024, UI_CHUNK = 16384 };

static const struct {
	const char *suffix, *type;
} types[] = {
	{ ".html", "text/html; charset=utf-8" }, { ".htm", "text/html; charset=utf-8" },
	{ ".js", "text/javascript; charset=utf-8" }, { ".mjs", "text/javascript; charset=utf-8" },
	{ ".css", "text/css; charset=utf-8" }, { ".json", "application/json" }, { ".map", "application/json" },
	{ ".webmanifest", "application/manifest+json" }, { ".svg", "image/svg+xml" }, { ".png", "image/png" },
	{ ".ico", "image/x-icon" }, { ".jpg", "image/jpeg" }, { ".jpeg", "image/jpeg" }, { ".gif", "image/gif" },
	{ ".webp", "image/webp" }, { ".avif", "image/avif" }, { ".woff", "font/woff" }, { ".woff2", "font/woff2" },
	{ ".ttf", "font/ttf" }, { ".otf", "font/otf" }, { ".wasm", "application/wasm" }, { ".txt", "text/plain; charset=utf-8" },
	{ ".md", "text/plain; charset=utf-8" }, { ".xml", "text/xml; charset=utf-8" },
};

static int
missing(struct api_req *req)
{
	reply_header(req, "X-Content-Type-Options", "nosniff");
	return reply_text(req, 404, "text/plain; charset=utf-8", "404 page not found\n");
}

static bool
ui_is_set(struct api_req *req)
{
	struct ctl_conf *conf = ctl_conf(req->ctl);
	bool set = conf->ui;

	ctl_conf_put(conf);
	return set;
}

static int
redirect(struct api_req *req, int status, const char *where)
{
	if (reply_header(req, "Location", where) != 0)
		return missing(req);
	return reply_text(req, status, "text/html; charset=utf-8",
	    status == 307 ? "<a href=\"/ui/\">Temporary Redirect</a>.\n" : "");
}

int
ui_redirect(struct api_req *req)
{
	return ui_is_set(req) ? redirect(req, 307, "/ui/") : missing(req);
}

/* ---- the path */

static bool
segment_valid(const char *s, size_t n, bool last)
{
	if (n == 0)
		return last;
	return !(s[0] == '.' && (n == 1 || (n == 2 && s[1] == '.')));
}

/* Decodes the path below /ui/ once; false when it is none that a file could have: no segment "." or "..", none empty but the
 * last, no backslash, no control byte, no encoded slash. */
static bool
path_read(const char *raw, char *out)
{
	size_t n = strlen(raw), segment;

	if (n >= UI_PATH_MAX - sizeof("index.html"))
		return false;
	for (const char *s = raw; (s = strchr(s, '%')) != NULL; s++)
		if (s[1] == '\0' || strncasecmp(s, "%2f", 3) == 0 || strncasecmp(s, "%5c", 3) == 0 || strncmp(s, "%00", 3) == 0)
			return false;
	n = str_percent_decode(out, raw, n);
	out[n] = '\0';
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)out[i] < 0x20 || out[i] == 0x7f || out[i] == '\\')
			return false;
	for (const char *s = out;; s += segment + 1) {
		segment = strcspn(s, "/");
		if (!segment_valid(s, segment, s[segment] == '\0'))
			return false;
		if (s[segment] == '\0')
			return true;
	}
}

static const char *
type_of(const char *path)
{
	for (size_t i = 0; i < countof(types); i++) {
		size_t n = strlen(path), k = strlen(types[i].suffix);
		if (n > k && strcasecmp(path + n - k, types[i].suffix) == 0)
			return types[i].type;
	}
	return "application/octet-stream";
}

/* ---- the file */

/* A regular file's descriptor, -E_NOTFOUND, or -E_TIMEOUT; -E_INVAL for a directory. The caller closes it. */
static int
open_file(struct api_req *req, const char *path, struct stat *st)
{
	struct bridge_reply r;
	struct msg_file m;
	struct wire args;
	int err, fd = -1;

	wire_init(&args);
	wire_put_str(&args, path);
	if (args.failed) {
		wire_free(&args);
		return -E_NOMEM;
	}
	err = ask_supervisor(req, MSG_OPEN_UI, args.p, args.len, -1, &r);
	wire_free(&args);
	if (err != 0 || r.n < 1) {
		err = -E_TIMEOUT;
	} else if (r.type != MSG_FILE || r.answer[0].len < sizeof(m) || r.answer[0].fd == -1) {
		err = -E_NOTFOUND;
	} else {
		memcpy(&m, r.answer[0].data, sizeof(m));
		err = m.err != 0 || fstat(r.answer[0].fd, st) == -1 ? -E_NOTFOUND : S_ISREG(st->st_mode) ? 0 : -E_INVAL;
		fd = r.answer[0].fd;
		if (err == 0)
			r.answer[0].fd = -1;	/* ours now */
	}
	bridge_free(&r);
	return err == 0 ? fd : err;
}

struct range {
	int64_t from, to;	/* both included */
	bool set;
};

static int
range_number(const char *s, size_t n, int64_t *out)
{
	char text[24];

	if (n == 0 || n >= sizeof(text))
		return -E_INVAL;
	memcpy(text, s, n);
	text[n] = '\0';
	return str_to_i64(text, 0, INT64_MAX, out);
}

/* One "bytes=" range (RFC 9110 section 14.1.2) of a file of size bytes; 0, or -E_LIMIT when it lies outside. What is malformed,
 * or more than one range, is ignored, as the RFC allows. */
static int
range_read(const char *header, int64_t size, struct range *out)
{
	const char *dash;
	int64_t a = 0, b = 0;
	bool has_a, has_b;

	out->set = false;
	if (header == NULL || !str_starts(header, "bytes=") || size == 0)
		return 0;
	header += strlen("bytes=");
	dash = strchr(header, '-');
	if (dash == NULL)
		return 0;
	has_a = dash > header;
	has_b = dash[1] != '\0';
	if ((!has_a && !has_b) || (has_a && range_number(header, (size_t)(dash - header), &a) != 0) ||
	    (has_b && range_number(dash + 1, strlen(dash + 1), &b) != 0) || (has_a && has_b && b < a))
		return 0;
	if (has_a ? a >= size : b == 0)
		return -E_LIMIT;
	out->from = has_a ? a : b >= size ? 0 : size - b;
	out->to = !has_a || !has_b || b >= size ? size - 1 : b;
	out->set = true;
	return 0;
}

static int
copy_range(struct reply *r, int fd, int64_t from, int64_t to)
{
	char chunk[UI_CHUNK];
	ssize_t n;

	while (from <= to) {
		size_t want = to - from + 1 < (int64_t)sizeof(chunk) ? (size_t)(to - from + 1) : sizeof(chunk);
		n = pread(fd, chunk, want, (off_t)from);
		if (n <= 0)		/* it shrank meanwhile, or cannot be read */
			return -E_SYS;
		json_raw_n(r, chunk, (size_t)n);
		from += n;
	}
	return r->oom ? -E_NOMEM : 0;
}

/* IMF-fixdate (RFC 9110 section 5.6.7). */
static void
date_text(time_t t, char *out, size_t cap)
{
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(out, cap, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
		out[0] = '\0';
}

static bool
not_modified(const struct api_req *req, time_t mtime)
{
	struct tm tm = { 0 };
	const char *end;

	if (req->if_modified_since == NULL)
		return false;
	end = strptime(req->if_modified_since, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	return end != NULL && *end == '\0' && mtime <= timegm(&tm);
}

static void
add_headers(struct api_req *req, const char *path, const struct stat *st)
{
	char date[64];

	date_text(st->st_mtim.tv_sec, date, sizeof(date));
	reply_header(req, "X-Content-Type-Options", "nosniff");
	reply_header(req, "Referrer-Policy", "no-referrer");
	if (date[0] != '\0')
		reply_header(req, "Last-Modified", date);
	if (str_equal(path, "index.html") || str_ends(path, "/index.html"))
		reply_header(req, "Cache-Control", "no-cache");
}

static int
send_file(struct api_req *req, int fd, const char *path, const struct stat *st)
{
	struct reply *r = req->reply;
	struct range range;
	char text[96];
	int64_t size = st->st_size;

	if (size > UI_FILE_MAX)
		return reply_text(req, 500, "text/plain; charset=utf-8", "file too large\n");
	add_headers(req, path, st);
	if (not_modified(req, st->st_mtim.tv_sec))
		return reply_empty(req, 304);
	reply_header(req, "Accept-Ranges", "bytes");
	if (range_read(req->range, size, &range) != 0) {
		snprintf(text, sizeof(text), "bytes */%lld", (long long)size);
		reply_header(req, "Content-Range", text);
		return reply_text(req, 416, "text/plain; charset=utf-8", "invalid range: failed to overlap\n");
	}
	if (range.set) {
		snprintf(text, sizeof(text), "bytes %lld-%lld/%lld", (long long)range.from, (long long)range.to, (long long)size);
		reply_header(req, "Content-Range", text);
	}
	r->len = 0;
	if (copy_range(r, fd, range.set ? range.from : 0, range.set ? range.to : size - 1) != 0)
		return reply_text(req, 500, "text/plain; charset=utf-8", "the file cannot be read\n");
	r->status = range.set ? 206 : 200;
	str_copy(r->type, sizeof(r->type), type_of(path));
	return r->status;
}

/* A directory named without its slash: "name/", so that relative links in it work; false when it has no index either. */
static bool
is_directory(struct api_req *req, const char *path)
{
	char index[UI_PATH_MAX + 16];
	struct stat st;
	int fd;

	snprintf(index, sizeof(index), "%s/index.html", path);
	fd = open_file(req, index, &st);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int
redirect_to_slash(struct api_req *req)
{
	const char *last = strrchr(req->path, '/') + 1;
	char where[UI_PATH_MAX + 4];

	snprintf(where, sizeof(where), "./%.1000s/", last);	/* "./": a name with a colon is no scheme */
	return redirect(req, 301, where);
}

int
ui_get(struct api_req *req)
{
	const char *raw = str_starts(req->path, "/ui/") ? req->path + strlen("/ui/") : "";
	char path[UI_PATH_MAX];
	struct stat st;
	int fd, status;

	if (!ui_is_set(req) || !path_read(raw, path))
		return missing(req);
	if (str_equal(path, "index.html") || str_ends(path, "/index.html"))
		return redirect(req, 301, "./");
	if (path[0] == '\0' || str_ends(path, "/"))
		str_copy(path + strlen(path), sizeof(path) - strlen(path), "index.html");
	fd = open_file(req, path, &st);
	if (fd == -E_TIMEOUT)
		return reply_text(req, 503, "text/plain; charset=utf-8", "the supervisor did not answer in time\n");
	if (fd < 0) {
		if (!str_ends(path, "/index.html") && !str_equal(path, "index.html") && is_directory(req, path))
			return redirect_to_slash(req);
		return missing(req);
	}
	status = send_file(req, fd, path, &st);
	close(fd);
	return status;
}
