/* SPDX-License-Identifier: MIT */
/* Rule lists in YAML are read line by line (spec/config.md 10): after the head "payload:" each line is one item of a
 * block list by itself. A whole YAML parser per line would cost a hundred times as much, so this reads the one-line
 * scalars of YAML 1.2 (7.3: plain, single and double quoted), and takes every other line for none. Called by ruleset.c. */
#include <string.h>

#include "worker/loader/ruleset.h"

static size_t
skip_blanks(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n && (s[i] == ' ' || s[i] == '\t'))
		i++;
	return i;
}

/* Nothing but blanks or a comment. */
static int
ends(const char *s, size_t n)
{
	size_t i = skip_blanks(s, n);

	return i == n || (s[i] == '#' && i > 0);
}

static int
single_quoted(const char *s, size_t n, char *out)
{
	int len = 0;

	for (size_t i = 1; i < n; i++) {
		if (s[i] == '\'') {
			if (i + 1 == n || s[i + 1] != '\'')
				return ends(s + i + 1, n - i - 1) ? len : -1;
			i++;
		}
		out[len++] = s[i];
	}
	return -1;
}

static int
put_utf8(char *out, unsigned c)
{
	if (c == 0 || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		return -1;
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 63));
		out[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 63));
	out[2] = (char)(0x80 | (c >> 6 & 63));
	out[3] = (char)(0x80 | (c & 63));
	return 4;
}

static int
hex(const char *s, size_t n, int digits, unsigned *out)
{
	unsigned v = 0;

	if (n < (size_t)digits)
		return -1;
	for (int i = 0; i < digits; i++) {
		char c = s[i];

		if (c >= '0' && c <= '9')
			v = v << 4 | (unsigned)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			v = v << 4 | (unsigned)((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	*out = v;
	return 0;
}

/* The escape behind a backslash at s (YAML 1.2 5.7); bytes of s used, or -1. */
static int
escape(const char *s, size_t n, char *out, int *len)
{
	static const char from[] = "\"\\/ \tntrbfave", to[] = "\"\\/ \t\n\t\r\b\f\a\v\033";
	int digits, put;
	unsigned c;
	const char *at;

	if (n == 0)
		return -1;
	digits = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0;
	if (digits > 0) {
		if (hex(s + 1, n - 1, digits, &c) != 0 || (put = put_utf8(out + *len, c)) < 0)
			return -1;
		*len += put;
		return digits + 1;
	}
	at = s[0] != '\0' ? strchr(from, s[0]) : NULL;
	if (at == NULL)
		return -1;
	out[(*len)++] = to[at - from];
	return 1;
}

static int
double_quoted(const char *s, size_t n, char *out)
{
	int len = 0;

	for (size_t i = 1; i < n; i++) {
		if (s[i] == '"')
			return ends(s + i + 1, n - i - 1) ? len : -1;
		if (s[i] == '\\') {
			int used = escape(s + i + 1, n - i - 1, out, &len);

			if (used < 0)
				return -1;
			i += (size_t)used;
		} else {
			out[len++] = s[i];
		}
	}
	return -1;
}

/* YAML 1.2 7.3.3: no indicator in front, no ": " and no " #" inside. */
static int
plain(const char *s, size_t n, char *out)
{
	size_t len = n;

	if (strchr(",[]{}#&*!|>'\"%@`", s[0]) != NULL || (strchr("-?:", s[0]) != NULL && (n == 1 || s[1] == ' ' || s[1] == '\t')))
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (s[i] == ':' && (i + 1 == len || s[i + 1] == ' ' || s[i + 1] == '\t'))
			return -1;	/* a map */
		if (s[i] == '#' && i > 0 && (s[i - 1] == ' ' || s[i - 1] == '\t'))
			len = i;
	}
	while (len > 0 && (s[len - 1] == ' ' || s[len - 1] == '\t'))
		len--;
	memcpy(out, s, len);
	return (int)len;
}

int
yaml_item(const char *line, size_t n, char out[static RULESET_LINE_MAX])
{
	size_t at;
	int len;

	while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n'))
		n--;
	at = skip_blanks(line, n);
	line += at;
	n -= at;
	if (n < 2 || n >= RULESET_LINE_MAX || line[0] != '-' || (line[1] != ' ' && line[1] != '\t') ||
	    memchr(line, '\0', n) != NULL)
		return -1;
	at = 1 + skip_blanks(line + 1, n - 1);
	line += at;
	n -= at;
	if (n == 0)
		return -1;
	len = line[0] == '\'' ? single_quoted(line, n, out) : line[0] == '"' ? double_quoted(line, n, out) : plain(line, n, out);
	if (len >= 0)
		out[len] = '\0';
	return len;
}

int
yaml_head(const char *line, size_t n, const char *key)
{
	size_t k = strlen(key);

	while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n'))
		n--;
	if (n > k + 2 && (line[0] == '"' || line[0] == '\'') && line[k + 1] == line[0]) {
		line++;
		n -= 2;
		return memcmp(line, key, k) == 0 && line[k + 1] == ':' && ends(line + k + 2, n - k - 1);
	}
	return n > k && memcmp(line, key, k) == 0 && line[k] == ':' && ends(line + k + 1, n - k - 1);
}
