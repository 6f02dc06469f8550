/* SPDX-License-Identifier: MIT */
/* The answers of the API: JSON text written straight into the growing body, encoded byte by byte as the reference does
 * (spec/api.md 1.6), and the reply_*() ends of handlers. Used by every file in controller/api/ and by the stream code; runs on
 * civetweb threads and on the loop, and keeps no state between calls. The body belongs to the struct reply, which the transport
 * sends and frees. */
#include "controller/api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/err.h"
#include "common/strutil.h"
#include "common/value.h"

enum {
	REPLY_FIRST = 4096,		/* bytes of a body's first allocation */
	REPLY_MAX = 256 << 20,		/* no body grows past this: it becomes a 500 */
	REPLY_TREE_MAX = 64,		/* nesting of a tree given to reply_json() */
	VALUE_AROUND = UINT8_MAX * 6 + 6	/* at most what stands around a value: its key, escaped, and punctuation */
};

static const char HEX[] = "0123456789abcdef";

/* ---- the growing body */

static char *
grow(struct reply *r, size_t n)
{
	size_t cap = r->cap == 0 ? REPLY_FIRST : r->cap;
	char *p;

	if (r->oom || n > REPLY_MAX - r->len) {
		r->oom = true;
		return NULL;
	}
	while (cap - r->len < n)
		cap *= 2;
	p = realloc(r->body, cap);
	if (p == NULL) {
		r->oom = true;
		return NULL;
	}
	r->body = p;
	r->cap = cap;
	return p + r->len;
}

/* Room for n more bytes; NULL when there is none. Inline: an answer of megabytes is made of pieces of a few bytes. */
static inline char *
room(struct reply *r, size_t n)
{
	return r->cap - r->len >= n && !r->oom && r->body != NULL ? r->body + r->len : grow(r, n);
}

void
json_raw_n(struct reply *r, const char *text, size_t n)
{
	char *p = room(r, n);

	if (p == NULL || n == 0)
		return;
	memcpy(p, text, n);
	r->len += n;
}

void
json_raw(struct reply *r, const char *text)
{
	json_raw_n(r, text, strlen(text));
}

/* ---- strings */

enum char_class { CC_PLAIN, CC_CONTROL, CC_QUOTE /* backslash before it */, CC_HTML /* \u00XX */, CC_HIGH };
static const uint8_t classes[256] = {
	[0x00 ... 0x1f] = CC_CONTROL, ['"'] = CC_QUOTE, ['\\'] = CC_QUOTE, ['<'] = CC_HTML, ['>'] = CC_HTML, ['&'] = CC_HTML,
	[0x80 ... 0xff] = CC_HIGH,
};

static char *
put_u00(char *o, unsigned char c)
{
	memcpy(o, "\\u00", 4);
	o[4] = HEX[c >> 4];
	o[5] = HEX[c & 15];
	return o + 6;
}

static char *
put_control(char *o, unsigned char c)
{
	static const char letters[32] = { ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r' };

	if (letters[c] == 0)
		return put_u00(o, c);
	*o++ = '\\';
	*o++ = letters[c];
	return o;
}

/* Length of the valid UTF-8 sequence at s (RFC 3629 section 4), or 0. */
static size_t
utf8_len(const unsigned char *s, size_t n)
{
	unsigned char c = s[0], low = 0x80, high = 0xbf;
	size_t len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

	if (c < 0xc2 || c > 0xf4 || n < len)
		return 0;
	if (c == 0xe0)
		low = 0xa0;
	else if (c == 0xed)
		high = 0x9f;
	else if (c == 0xf0)
		low = 0x90;
	else if (c == 0xf4)
		high = 0x8f;
	if (s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* One character past ASCII: raw, but U+2028 and U+2029 escaped, an invalid byte as U+FFFD. */
static char *
put_high(char *o, const unsigned char *s, size_t n, size_t *used)
{
	size_t len = utf8_len(s, n);

	*used = len == 0 ? 1 : len;
	if (len == 0) {
		memcpy(o, "\\ufffd", 6);
		return o + 6;
	}
	if (len == 3 && s[0] == 0xe2 && s[1] == 0x80 && (s[2] == 0xa8 || s[2] == 0xa9)) {
		memcpy(o, s[2] == 0xa8 ? "\\u2028" : "\\u2029", 6);
		return o + 6;
	}
	memcpy(o, s, len);
	return o + len;
}

/* Not 0 when a byte of x is not CC_PLAIN: eight at once, by the borrows of a subtraction (a byte below one that is special may
 * be taken for one too, which changes nothing). '<' and '>' differ in one bit, '"' and '&' too. */
static inline uint64_t
special(uint64_t x)
{
	const uint64_t one = 0x0101010101010101;
	uint64_t html = (x | 0x02 * one) ^ '>' * one, quote = (x | 0x04 * one) ^ '&' * one, slash = x ^ '\\' * one;

	return (x | ((x - 0x20 * one) & ~x) | ((html - one) & ~html) | ((quote - one) & ~quote) | ((slash - one) & ~slash)) &
	    0x80 * one;
}

/* Copies a text of nothing but plain bytes, what nearly all are; false when there are others. n bytes are free at o. */
static inline bool
put_plain(char *o, const char *s, size_t n)
{
	uint64_t x, any = 0;
	uint32_t head, tail;

	if (n < 4) {
		for (size_t i = 0; i < n; i++) {
			any |= classes[(unsigned char)s[i]];
			o[i] = s[i];
		}
	} else if (n < 8) {	/* two halves that overlap */
		memcpy(&head, s, 4);
		memcpy(&tail, s + n - 4, 4);
		memcpy(o, &head, 4);
		memcpy(o + n - 4, &tail, 4);
		any = special((uint64_t)tail << 32 | head);
	} else {
		for (size_t i = 0; i < n; i += 8) {	/* the last eight overlap those before */
			size_t at = n - i < 8 ? n - 8 : i;

			memcpy(&x, s + at, 8);
			memcpy(o + at, &x, 8);
			any |= special(x);
		}
	}
	return any == 0;
}

/* Writes the quoted text to o, where n * 6 + 2 bytes are free (the longest escape of a byte has 6); returns its end. */
static char *
put_str(char *o, const char *text, size_t n)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t i = 0, used;

	*o++ = '"';
	if (put_plain(o, text, n)) {
		o[n] = '"';
		return o + n + 1;
	}
	while (i < n) {
		if (classes[s[i]] == CC_PLAIN) {
			*o++ = text[i++];
			continue;
		}
		used = 1;
		switch ((enum char_class)classes[s[i]]) {
		case CC_CONTROL:
			o = put_control(o, s[i]);
			break;
		case CC_QUOTE:
			*o++ = '\\';
			*o++ = text[i];
			break;
		case CC_HTML:
			o = put_u00(o, s[i]);
			break;
		case CC_HIGH:
			o = put_high(o, s + i, n - i, &used);
			break;
		case CC_PLAIN:
			break;
		}
		i += used;
	}
	*o++ = '"';
	return o;
}

void
json_str(struct reply *r, const char *text, size_t n)
{
	char *o;

	if (n > REPLY_MAX / 6) {
		r->oom = true;
		return;
	}
	o = room(r, n * 6 + 2);
	if (o != NULL)
		r->len = (size_t)(put_str(o, text, n) - r->body);
}

/* ---- numbers and times */

void
json_uint(struct reply *r, uint64_t v)
{
	char buf[20], *p = buf + sizeof(buf);

	do {
		*--p = (char)('0' + v % 10);
		v /= 10;
	} while (v != 0);
	json_raw_n(r, p, (size_t)(buf + sizeof(buf) - p));
}

void
json_int(struct reply *r, int64_t v)
{
	if (v < 0)
		json_raw_n(r, "-", 1);
	json_uint(r, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

/* Exactly n decimal digits. */
static char *
put_digits(char *o, unsigned long v, unsigned n)
{
	for (unsigned i = n; i > 0; i--) {
		o[i - 1] = (char)('0' + v % 10);
		v /= 10;
	}
	return o + n;
}

static char *
put_zone(char *o, long offset)
{
	unsigned long minutes = (unsigned long)(offset < 0 ? -offset : offset) / 60;

	if (minutes == 0) {
		*o++ = 'Z';
		return o;
	}
	*o++ = offset < 0 ? '-' : '+';
	o = put_digits(o, minutes / 60, 2);
	*o++ = ':';
	return put_digits(o, minutes % 60, 2);
}

/* RFC 3339 section 5.6, in local time; the fraction without trailing zeros, none when it is 0. */
void
json_time(struct reply *r, int64_t unix_ns)
{
	int64_t ns = unix_ns % 1000000000;
	time_t sec = (time_t)(unix_ns / 1000000000);
	struct tm tm;
	char buf[48], *o = buf;

	if (ns < 0) {
		ns += 1000000000;
		sec--;
	}
	if (unix_ns == 0 || localtime_r(&sec, &tm) == NULL) {
		json_raw(r, "\"0001-01-01T00:00:00Z\"");
		return;
	}
	*o++ = '"';
	o = put_digits(o, (unsigned long)tm.tm_year + 1900, 4);
	*o++ = '-';
	o = put_digits(o, (unsigned long)tm.tm_mon + 1, 2);
	*o++ = '-';
	o = put_digits(o, (unsigned long)tm.tm_mday, 2);
	*o++ = 'T';
	o = put_digits(o, (unsigned long)tm.tm_hour, 2);
	*o++ = ':';
	o = put_digits(o, (unsigned long)tm.tm_min, 2);
	*o++ = ':';
	o = put_digits(o, (unsigned long)tm.tm_sec, 2);
	if (ns != 0) {
		*o++ = '.';
		o = put_digits(o, (unsigned long)ns, 9);
		while (o[-1] == '0')
			o--;
	}
	o = put_zone(o, tm.tm_gmtoff);
	*o++ = '"';
	json_raw_n(r, buf, (size_t)(o - buf));
}

/* ---- typed values */

static void
put_uuid(struct reply *r, const char *bytes)
{
	uint8_t id[16];
	char text[37];

	memcpy(id, bytes, sizeof(id));
	uuid_text(text, id);
	json_str(r, text, 36);
}

static void
put_scalar(struct reply *r, const struct value *v)
{
	switch (v->tag) {
	case V_FALSE:
		json_raw_n(r, "false", 5);
		break;
	case V_TRUE:
		json_raw_n(r, "true", 4);
		break;
	case V_INT:
		json_int(r, v->i);
		break;
	case V_UINT:
		json_uint(r, v->u);
		break;
	case V_STR:
		json_str(r, v->str, v->len);
		break;
	case V_TIME:
		json_time(r, v->i);
		break;
	case V_UUID:
		put_uuid(r, v->str);
		break;
	case V_NULL:
	default:
		json_raw_n(r, "null", 4);
		break;
	}
}

int
json_value(struct reply *r, struct wire *w)
{
	struct value_reader vr;
	struct value v;
	size_t start = r->len;
	bool first = true;
	char *o;
	int rc;

	value_reader_init(&vr, w);
	do {
		rc = value_next(&vr, &v);
		if (rc != 0) {
			r->len = start;
			return rc;
		}
		o = room(r, VALUE_AROUND);
		if (o == NULL)
			break;		/* the answer becomes a 500 */
		if (v.tag == V_END) {
			*o++ = vr.open[vr.depth] == V_MAP ? '}' : ']';
		} else {
			if (!first)
				*o++ = ',';
			if (v.key != NULL) {
				o = put_str(o, v.key, v.key_len);
				*o++ = ':';
			}
		}
		first = v.tag == V_LIST || v.tag == V_MAP;
		if (first)
			*o++ = v.tag == V_MAP ? '{' : '[';
		r->len = (size_t)(o - r->body);
		if (!first && v.tag != V_END)
			put_scalar(r, &v);
	} while (!vr.done);
	return r->oom ? -E_NOMEM : 0;
}

/* ---- ends of handlers */

static int
finish(struct reply *r, int status, const char *type)
{
	if (r->oom) {		/* what was written is not whole: nothing of it is sent */
		r->len = 0;
		status = 500;
		type = "";
	}
	r->status = status;
	str_copy(r->type, sizeof(r->type), type);
	return status;
}

int
reply_built(struct api_req *req, int status)
{
	json_raw_n(req->reply, "\n", 1);
	return finish(req->reply, status, "application/json");
}

int
reply_empty(struct api_req *req, int status)
{
	req->reply->len = 0;
	return finish(req->reply, status, "");
}

int
reply_text(struct api_req *req, int status, const char *type, const char *text)
{
	req->reply->len = 0;
	json_raw(req->reply, text);
	return finish(req->reply, status, type);
}

int
reply_error(struct api_req *req, int status, const char *fmt, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';
	va_end(ap);
	req->reply->len = 0;
	json_raw(req->reply, "{\"message\":");
	json_str(req->reply, text, strlen(text));
	json_raw(req->reply, "}");
	return reply_built(req, status);
}

int
reply_header(struct api_req *req, const char *name, const char *value)
{
	struct reply *r = req->reply;
	size_t used = strlen(r->headers), n = strlen(name) + strlen(value) + 4;

	for (const char *s = value; *s != '\0'; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)	/* no field may end early (RFC 9110 section 5.5) */
			return -E_INVAL;
	if (n >= sizeof(r->headers) - used)
		return -E_LIMIT;
	snprintf(r->headers + used, sizeof(r->headers) - used, "%s: %s\r\n", name, value);
	return 0;
}

static void put_tree(struct reply *r, const cJSON *node, unsigned depth);

static void
put_children(struct reply *r, const cJSON *node, unsigned depth)
{
	const cJSON *c;

	json_raw(r, cJSON_IsObject(node) ? "{" : "[");
	cJSON_ArrayForEach(c, node) {
		if (c != node->child)
			json_raw_n(r, ",", 1);
		if (cJSON_IsObject(node)) {
			json_str(r, c->string, strlen(c->string));
			json_raw_n(r, ":", 1);
		}
		put_tree(r, c, depth + 1);
	}
	json_raw(r, cJSON_IsObject(node) ? "}" : "]");
}

static void
put_number(struct reply *r, double v)
{
	char text[40];

	if (v > -9007199254740992.0 && v < 9007199254740992.0 && (double)(int64_t)v == v) {	/* whole: no fraction is shown */
		json_int(r, (int64_t)v);
		return;
	}
	snprintf(text, sizeof(text), "%.17g", v);
	json_raw(r, v - v == 0 ? text : "null");	/* JSON has no infinity */
}

/* Recursive: the trees are our own or passed api_json(), which bounds them. */
static void
put_tree(struct reply *r, const cJSON *node, unsigned depth)
{
	if (node == NULL || depth > REPLY_TREE_MAX || cJSON_IsNull(node))
		json_raw(r, "null");
	else if (cJSON_IsBool(node))
		json_raw(r, cJSON_IsTrue(node) ? "true" : "false");
	else if (cJSON_IsNumber(node))
		put_number(r, node->valuedouble);
	else if (cJSON_IsString(node))
		json_str(r, node->valuestring, strlen(node->valuestring));
	else
		put_children(r, node, depth);
}

int
reply_json(struct api_req *req, int status, cJSON *value)
{
	req->reply->len = 0;
	if (value == NULL)
		req->reply->oom = true;	/* the caller's constructor failed */
	put_tree(req->reply, value, 0);
	cJSON_Delete(value);
	return reply_built(req, status);
}
