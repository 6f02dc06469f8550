/* SPDX-License-Identifier: MIT */
/* Where an HTTP/1 body ends: RFC 9112 6 and 7.1. Walks along bytes that are passed on or decoded by the caller; keeps no bytes
 * itself. See http1.h. */
#include "worker/codec/http1.h"

#include <string.h>

#include "common/err.h"

/*  SIZE -> (digits) -> EXT -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE
 *                                  \-> (size 0) TRAILER -> (a line) -> TRAILER ... -> END_LF -> done */
enum { SIZE, DIGITS, SPACE, EXT, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_LINE, TRAILER_LF, END_LF };

void
http1_body_set(struct http1_body *b, enum http1_framing framing, uint64_t length)
{
	memset(b, 0, sizeof(*b));
	b->framing = framing;
	b->left = framing == HTTP1_LENGTH ? length : 0;
	b->done = framing == HTTP1_EMPTY || (framing == HTTP1_LENGTH && length == 0);
}

void
http1_body_init(struct http1_body *b, const struct http1_head *h)
{
	http1_body_set(b, h->framing, h->length);
}

static int
hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of a chunk-size or its extension: 1*HEXDIG *( BWS ";" ... ) CRLF. */
static int
size_byte(struct http1_body *b, uint8_t c)
{
	int v;

	if (++b->line > HTTP1_CHUNK_LINE_MAX)
		return -E_PROTO;
	switch (b->state) {
	case SIZE:
	case DIGITS:
		v = hex_value(c);
		if (v >= 0) {
			if (b->left >> 58 != 0)
				return -E_PROTO;
			b->left = b->left << 4 | (uint64_t)v;
			b->state = DIGITS;
			return 0;
		}
		if (b->state == SIZE)
			return -E_PROTO;
		/* fall through */
	case SPACE:
		if (c == '\r')
			b->state = SIZE_LF;
		else if (c == ';')
			b->state = EXT;
		else if (c == ' ' || c == '\t')
			b->state = SPACE;
		else
			return -E_PROTO;
		return 0;
	default:	/* EXT */
		if (c == '\r')
			b->state = SIZE_LF;
		else if (c == '\n' || c == '\0')
			return -E_PROTO;
		return 0;
	}
}

/* One byte after the last chunk: *( field-line CRLF ) CRLF. The fields are not looked at. */
static int
trailer_byte(struct http1_body *b, uint8_t c)
{
	if (++b->line > HTTP1_TRAILER_MAX)
		return -E_PROTO;
	switch (b->state) {
	case TRAILER:
		if (c == '\r')
			b->state = END_LF;
		else if (c == '\n' || c == '\0' || c == ' ' || c == '\t')
			return -E_PROTO;
		else
			b->state = TRAILER_LINE;
		return 0;
	case TRAILER_LINE:
		if (c == '\r')
			b->state = TRAILER_LF;
		else if (c == '\n' || c == '\0')
			return -E_PROTO;
		return 0;
	case TRAILER_LF:
		b->state = TRAILER;
		return c == '\n' ? 0 : -E_PROTO;
	default:	/* END_LF */
		b->done = true;
		return c == '\n' ? 0 : -E_PROTO;
	}
}

static int
chunk_byte(struct http1_body *b, uint8_t c)
{
	switch (b->state) {
	case SIZE_LF:
		b->line = 0;
		b->state = b->left > 0 ? DATA : TRAILER;
		return c == '\n' ? 0 : -E_PROTO;
	case DATA_CR:
		b->state = DATA_LF;
		return c == '\r' ? 0 : -E_PROTO;
	case DATA_LF:
		b->state = SIZE;
		return c == '\n' ? 0 : -E_PROTO;
	case TRAILER:
	case TRAILER_LINE:
	case TRAILER_LF:
	case END_LF:
		return trailer_byte(b, c);
	default:
		return size_byte(b, c);
	}
}

ssize_t
http1_body_step(struct http1_body *b, const uint8_t *p, size_t n, bool *content)
{
	size_t i;

	*content = b->framing != HTTP1_CHUNKED || b->state == DATA;
	if (b->done || n == 0)
		return 0;
	if (b->framing == HTTP1_UNTIL_CLOSE)
		return (ssize_t)n;
	if (*content) {
		if (n > b->left)
			n = (size_t)b->left;
		b->left -= n;
		if (b->left == 0 && b->framing == HTTP1_CHUNKED)
			b->state = DATA_CR;
		else if (b->left == 0)
			b->done = true;
		return (ssize_t)n;
	}
	for (i = 0; i < n && !b->done && b->state != DATA; i++)
		if (chunk_byte(b, p[i]) != 0)
			return -E_PROTO;
	return (ssize_t)i;
}

ssize_t
http1_body_pass(struct http1_body *b, const uint8_t *p, size_t n)
{
	size_t at = 0;
	ssize_t k;
	bool content;

	while (at < n && !b->done) {
		k = http1_body_step(b, p + at, n - at, &content);
		if (k < 0)
			return k;
		at += (size_t)k;
	}
	return (ssize_t)at;
}
