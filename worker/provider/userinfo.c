/* SPDX-License-Identifier: MIT */
/* Reads Subscription-Userinfo. Called by the update of a provider, with a text that a server chose. */
#include "worker/provider/userinfo.h"

#include <stddef.h>
#include <string.h>

#include "common/strutil.h"

enum { FIELD_MAX = 64 }; /* bytes of one field without blanks; longer ones are passed over */

/* Digits, a fraction is cut off; a sign counts. */
static bool
number(const char *s, int64_t *out)
{
	bool minus = *s == '-';
	int64_t v;
	char digits[FIELD_MAX];
	size_t n;

	s += *s == '-' || *s == '+';
	n = strspn(s, "0123456789");
	if (n == 0 || n >= sizeof digits || (s[n] != '\0' && s[n] != '.') ||
	    (s[n] == '.' && s[n + 1 + strspn(s + n + 1, "0123456789")] != '\0'))
		return false;
	memcpy(digits, s, n);
	digits[n] = '\0';
	if (str_to_i64(digits, 0, INT64_MAX, &v) != 0)
		return false;
	*out = minus ? -v : v;
	return true;
}

static void
take(struct userinfo *u, const char *field)
{
	const struct {
		const char *name;
		int64_t *out;
	} known[] = { { "upload=", &u->upload }, { "download=", &u->download }, { "total=", &u->total },
		{ "expire=", &u->expire } };

	for (size_t i = 0; i < countof(known); i++)
		if (str_starts(field, known[i].name))
			(void)number(field + strlen(known[i].name), known[i].out);
}

void
userinfo_parse(struct userinfo *out, const char *text)
{
	struct userinfo u = { .seen = true };
	char field[FIELD_MAX];
	size_t n;

	if (*text == '\0')
		return;
	for (; *text != '\0'; text += *text == ';') {
		for (n = 0; *text != '\0' && *text != ';'; text++)
			if (*text != ' ' && *text != '\t' && n < sizeof field)
				field[n++] = *text;
		if (n == sizeof field)
			continue;
		field[n] = '\0';
		str_lower(field);
		take(&u, field);
	}
	*out = u;
}
