/* SPDX-License-Identifier: MIT */
/* HTTP/1.1 request framing: finds the head, takes it apart in place, decodes the body. Called by client.c for every request of
 * every listener; owns nothing. RFC 9112 sections are cited at each rule; what a lenient reader would repair is refused here. */
#include "controller/http.h"

#include <string.h>
#include <strings.h>

#include "common/err.h"
#include "common/strutil.h"

enum { BODY_DONE, BODY_PLAIN, BODY_SIZE, BODY_EXT, BODY_SIZE_LF, BODY_DATA, BODY_DATA_CR, BODY_DATA_LF, BODY_TRAILER, BODY_TRAILER_LF };

/* RFC 9110 5.6.2 */
static bool
is_token_char(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	    (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is_token(const char *s)
{
	if (*s == '\0')
		return false;
	for (; *s != '\0'; s++)
		if (!is_token_char((unsigned char)*s))
			return false;
	return true;
}

ssize_t
http_head_length(const char *in, size_t n, size_t *scan)
{
	size_t limit = n < HTTP_HEAD_MAX ? n : HTTP_HEAD_MAX;

	for (size_t i = *scan; i < limit; i++) {
		if (in[i] != '\n')
			continue;
		if (i == 0 || in[i - 1] != '\r')
			return -E_PROTO;
		if (i >= 3 && in[i - 2] == '\n')
			return (ssize_t)i + 1;
	}
	if (n >= HTTP_HEAD_MAX)
		return -E_LIMIT;
	*scan = limit;
	return 0;
}

/* Cuts the next CRLF line out of [*at, end); NULL when it holds a byte that no head may hold (RFC 9110 5.5). */
static char *
next_line(char **at, const char *end)
{
	char *line = *at, *p = line;

	for (; p < end && *p != '\r'; p++)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return NULL;
	if (p + 1 >= end || p[1] != '\n')
		return NULL;
	*p = '\0';
	*at = p + 2;
	return line;
}

/* RFC 9112 3.2: origin form, absolute form (whose authority replaces Host), or "*" with OPTIONS. */
static int
parse_target(struct http_req *r, char *target)
{
	char *q;

	for (const char *p = target; *p != '\0'; p++)
		if (*p == ' ' || *p == '\t' || *p == '#')
			return 400;
	if (str_starts(target, "http://") || str_starts(target, "https://")) {
		char *authority = strchr(target, ':') + 3;
		char *slash = strchr(authority, '/');
		if (slash == NULL || slash == authority)
			return 400;
		/* the authority moves one to the left, so that its end has room for a NUL before the path */
		memmove(authority - 1, authority, (size_t)(slash - authority));
		slash[-1] = '\0';
		r->host = authority - 1;
		target = slash;
	} else if (strcmp(target, "*") == 0 && strcmp(r->method, "OPTIONS") == 0) {
		r->path = target;
		r->query = "";
		return 0;
	}
	if (*target != '/')
		return 400;
	q = strchr(target, '?');
	if (q != NULL)
		*q++ = '\0';
	r->path = target;
	r->query = q != NULL ? q : "";
	return 0;
}

static int
parse_request_line(struct http_req *r, char *line)
{
	char *target = strchr(line, ' '), *version;

	if (target == NULL)
		return 400;
	*target++ = '\0';
	version = strrchr(target, ' ');
	if (version == NULL || !is_token(line))
		return 400;
	*version++ = '\0';
	r->method = line;
	if (strcmp(version, "HTTP/1.1") == 0)
		r->minor = 1;
	else if (strcmp(version, "HTTP/1.0") == 0)
		r->minor = 0;
	else
		return str_starts(version, "HTTP/") ? 505 : 400;
	return parse_target(r, target);
}

/* One field line (RFC 9112 5): no blank before the colon, no folding. */
static int
parse_field(struct http_req *r, char *line)
{
	char *colon = strchr(line, ':');

	if (colon == NULL)
		return 400;
	*colon = '\0';
	if (!is_token(line))
		return 400;
	if (r->n == HTTP_HEADERS_MAX)
		return 431;
	r->h[r->n].name = line;
	r->h[r->n].value = str_trim(colon + 1);
	r->n++;
	return 0;
}

/* The fields that frame the message (RFC 9112 3.2, 6.1-6.3). */
static int
parse_framing(struct http_req *r)
{
	bool host = false, coding = false;
	bool absolute = r->host[0] != '\0';
	bool keep = false;

	for (unsigned i = 0; i < r->n; i++) {
		const char *name = r->h[i].name, *value = r->h[i].value;
		if (str_case_equal(name, "Host")) {
			if (host)
				return 400;
			host = true;
			if (!absolute)
				r->host = value;
		} else if (str_case_equal(name, "Content-Length")) {
			if (r->length >= 0 || str_to_i64(value, 0, INT64_MAX, &r->length) != 0)
				return 400;
		} else if (str_case_equal(name, "Transfer-Encoding")) {
			if (coding)
				return 400;
			coding = true;
			if (!str_case_equal(value, "chunked"))
				return 501;
			r->chunked = true;
		} else if (str_case_equal(name, "Connection")) {
			r->close |= http_token(value, "close");
			keep |= http_token(value, "keep-alive");
		} else if (str_case_equal(name, "Expect")) {
			if (!str_case_equal(value, "100-continue"))
				return 417;
			r->expect = r->minor == 1;
		}
	}
	if (r->chunked && (r->length >= 0 || r->minor == 0))
		return 400;
	if (r->minor == 1 && !host)
		return 400;
	if (r->minor == 0 && !keep)
		r->close = true;
	return 0;
}

int
http_parse(struct http_req *r, char *head, size_t n)
{
	char *at = head, *line;
	const char *end = head + n;
	int status;

	memset(r, 0, sizeof(*r));
	r->length = -1;
	r->host = "";
	r->method = r->path = r->query = "";
	line = next_line(&at, end);
	if (line == NULL)
		return 400;
	status = parse_request_line(r, line);
	while (status == 0) {
		line = next_line(&at, end);
		if (line == NULL)
			return 400;
		if (*line == '\0')
			return parse_framing(r);
		status = parse_field(r, line);
	}
	return status;
}

const char *
http_get(const struct http_req *r, const char *name)
{
	for (unsigned i = 0; i < r->n; i++)
		if (str_case_equal(r->h[i].name, name))
			return r->h[i].value;
	return NULL;
}

bool
http_token(const char *list, const char *token)
{
	size_t want = strlen(token);

	while (list != NULL && *list != '\0') {
		size_t n;
		list += strspn(list, " \t,");
		n = strcspn(list, ",");
		while (n > 0 && (list[n - 1] == ' ' || list[n - 1] == '\t'))
			n--;
		if (n == want && strncasecmp(list, token, n) == 0)
			return true;
		list += strcspn(list, ",");
	}
	return false;
}

const char *
http_reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} reasons[] = {
		{ 100, "Continue" }, { 101, "Switching Protocols" }, { 200, "OK" }, { 201, "Created" }, { 202, "Accepted" },
		{ 204, "No Content" }, { 206, "Partial Content" }, { 301, "Moved Permanently" }, { 302, "Found" }, { 304, "Not Modified" },
		{ 307, "Temporary Redirect" }, { 308, "Permanent Redirect" }, { 400, "Bad Request" }, { 401, "Unauthorized" },
		{ 403, "Forbidden" }, { 404, "Not Found" }, { 405, "Method Not Allowed" }, { 408, "Request Timeout" }, { 409, "Conflict" },
		{ 413, "Request Entity Too Large" }, { 416, "Requested Range Not Satisfiable" }, { 417, "Expectation Failed" },
		{ 426, "Upgrade Required" }, { 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" }, { 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" }, { 505, "HTTP Version Not Supported" },
	};

	for (size_t i = 0; i < countof(reasons); i++)
		if (reasons[i].status == status)
			return reasons[i].text;
	return "Status";
}

void
http_body_init(struct http_body *b, const struct http_req *r)
{
	memset(b, 0, sizeof(*b));
	if (r->chunked) {
		b->state = BODY_SIZE;
	} else if (r->length > 0) {
		b->state = BODY_PLAIN;
		b->left = (uint64_t)r->length;
	}
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* One byte of a chunk's size line, its end, or the trailer section (RFC 9112 7.1). */
static int
chunk_byte(struct http_body *b, char c)
{
	int v = hex(c);

	switch (b->state) {
	case BODY_SIZE:
		if (v >= 0) {
			if (++b->digits > 15)
				return -E_PROTO;
			b->left = b->left << 4 | (unsigned)v;
			return 0;
		}
		if (b->digits == 0)
			return -E_PROTO;
		b->line = 0;
		b->state = BODY_EXT;
		if (c != '\r' && c != ';' && c != ' ' && c != '\t')
			return -E_PROTO;
		/* fall through */
	case BODY_EXT:
		if (c == '\r')
			b->state = BODY_SIZE_LF;
		else if (c == '\n' || ++b->line > HTTP_CHUNK_EXT_MAX)
			return -E_PROTO;
		return 0;
	case BODY_SIZE_LF:
		b->line = b->digits = 0;
		b->state = b->left > 0 ? BODY_DATA : BODY_TRAILER;
		return c == '\n' ? 0 : -E_PROTO;
	case BODY_DATA_CR:
		b->state = BODY_DATA_LF;
		return c == '\r' ? 0 : -E_PROTO;
	case BODY_DATA_LF:
		b->state = BODY_SIZE;
		return c == '\n' ? 0 : -E_PROTO;
	case BODY_TRAILER:
		/* left counts every trailer byte, line those of this line */
		if (c == '\r') {
			b->state = BODY_TRAILER_LF;
			return 0;
		}
		b->line++;
		return c != '\n' && ++b->left <= HTTP_TRAILER_MAX ? 0 : -E_PROTO;
	case BODY_TRAILER_LF:
		b->state = b->line == 0 ? BODY_DONE : BODY_TRAILER;
		b->line = 0;
		return c == '\n' ? 0 : -E_PROTO;
	default:
		return -E_PROTO;
	}
}

int
http_body_feed(struct http_body *b, const char *in, size_t n, size_t *used, const char **data, size_t *len)
{
	size_t i = 0;

	*data = NULL;
	*len = 0;
	while (b->state != BODY_DONE && i < n) {
		if (b->state == BODY_PLAIN || b->state == BODY_DATA) {
			size_t take = n - i < b->left ? n - i : (size_t)b->left;
			*data = in + i;
			*len = take;
			b->left -= take;
			i += take;
			if (b->left == 0)
				b->state = b->state == BODY_PLAIN ? BODY_DONE : BODY_DATA_CR;
			break;
		}
		if (chunk_byte(b, in[i++]) != 0) {
			*used = i;
			return -E_PROTO;
		}
	}
	*used = i;
	return b->state == BODY_DONE;
}
