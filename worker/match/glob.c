/* SPDX-License-Identifier: MIT */
/* Glob matching without recursion: at a mismatch the last '*' takes one more character, so the time is at most pattern times
 * text. Characters are bytes, except that '?' takes a whole UTF-8 character. Called by DOMAIN-WILDCARD and
 * PROCESS-*-WILDCARD; owns nothing. */
#include "worker/match/glob.h"

#include <stddef.h>

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static const char *
next(const char *s)
{
	for (s++; ((unsigned char)*s & 0xc0) == 0x80; s++)
		;
	return s;
}

static bool
match(const char *p, const char *s, bool fold)
{
	const char *star = NULL, *retry = NULL;

	while (*s != '\0') {
		if (*p == '*') {
			star = ++p;
			retry = s;
		} else if (*p == '?') {
			p++;
			s = next(s);
		} else if (*p != '\0' && *p == (fold ? lower(*s) : *s)) {
			p++;
			s++;
		} else if (star != NULL) {
			p = star;
			s = ++retry;
		} else {
			return false;
		}
	}
	while (*p == '*')
		p++;
	return *p == '\0';
}

bool
glob_match(const char *pattern, const char *text)
{
	return match(pattern, text, false);
}

bool
glob_match_case(const char *pattern, const char *text)
{
	return match(pattern, text, true);
}
