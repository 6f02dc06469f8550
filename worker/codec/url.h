/* SPDX-License-Identifier: MIT */
/* http:// and https:// URLs taken apart (RFC 3986 3) and references resolved (RFC 3986 5.2, without dot segments). Pure. */
#ifndef SLUICE_WORKER_CODEC_URL_H
#define SLUICE_WORKER_CODEC_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"

enum { URL_USER_MAX = 512 };

struct url {
	bool https;
	uint16_t port;			/* of the scheme when not written */
	char host[HOST_MAX + 1];	/* no brackets */
	char user[URL_USER_MAX];	/* "name:password" as written, "" = none */
	const char *path;		/* in the text: begins with '/', '?' or is empty; ends before the fragment */
	size_t path_len;
};

/* out->path lies in s. 0 or -E_INVAL: another scheme, no host, control bytes or blanks, parts that are too long. */
int url_parse(struct url *out, const char *s);
/* What Location: reference means at base, both texts; 0, -E_INVAL or -E_LIMIT when it does not fit. */
int url_resolve(char *out, size_t cap, const char *base, const char *reference);
/* "host" or "host:port" for the Host field, brackets where needed. */
void url_host_field(const struct url *u, char *out, size_t cap);

#endif
