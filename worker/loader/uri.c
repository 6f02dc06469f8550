/* SPDX-License-Identifier: MIT */
/* A subscription as a list of share links: one a line, unknown schemes and broken links skipped, equal names numbered as the
 * reference numbers them ("home", "home-01", "home-02": spec/config.md 9.1). Called by provider_proxy.c. */
#include "worker/loader/uri.h"

#include <stdint.h>
#include <string.h>

#include "common/err.h"
#include "common/strutil.h"

static const struct link_family *const families[] = { uri_ss, uri_v2ray, uri_quic, uri_plain, uri_other };

static const struct link_family *
family_of(const char *scheme)
{
	for (size_t i = 0; i < countof(families); i++)
		for (const struct link_family *f = families[i]; f->scheme != NULL; f++)
			if (strcmp(f->scheme, scheme) == 0)
				return f;
	return NULL;
}

/* The first of a name keeps it; a number that is taken by another node's own name is passed over. */
static void
number_name(struct arena *a, struct map *seen, struct link *l)
{
	const char *base = l->name;
	uintptr_t n = (uintptr_t)map_get(seen, base);

	if (n == 0) {
		(void)map_put(seen, base, (void *)(uintptr_t)1);
		return;
	}
	do
		l->name = arena_printf(a, "%s-%02u", base, (unsigned)n++);
	while (map_get(seen, l->name) != NULL);
	(void)map_remove(seen, base);
	(void)map_put(seen, base, (void *)n);
	(void)map_put(seen, l->name, (void *)(uintptr_t)1);
}

/* The nodes of one line; 0: none, or skipped. */
static int64_t
parse_line(
    struct arena *a, const char *line, size_t n, struct map *seen, struct tree_builder *to, int64_t parent, unsigned *skipped)
{
	struct links out = { .a = a };
	const struct link_family *f;
	const char *sep = n < LINK_MAX ? memmem(line, n, "://", 3) : NULL;
	int64_t added = 0;

	if (sep == NULL)
		return 0;
	f = family_of(text_lower(a, arena_strndup(a, line, (size_t)(sep - line))));
	if (f == NULL || memchr(line, '\0', n) != NULL ||
	    !f->parse(&out, arena_strndup(a, sep + 3, n - (size_t)(sep + 3 - line))))
		out.n = 0;
	for (int i = 0; i < out.n; i++) {
		int rc;

		if (out.link[i]->name[0] != '\0')
			number_name(a, seen, out.link[i]);
		rc = link_emit(out.link[i], to, parent);
		if (rc != 0 && rc != -E_INVAL)
			return rc;
		added += rc == 0;
	}
	if (added == 0)
		(*skipped)++;
	return added;
}

int64_t
links_parse(
    struct arena *a, const char *text, size_t n, struct tree_builder *to, int64_t parent, int64_t nodes_max, unsigned *skipped)
{
	const char *end = text + n;
	struct map seen;
	int64_t nodes = 0, rc = 0;

	map_init(&seen);
	for (const char *p = text; p < end && nodes < nodes_max && rc >= 0; p++) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		const char *stop = nl != NULL ? nl : end;
		size_t len = (size_t)(stop - p);

		while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\r' || p[len - 1] == '\t'))
			len--;
		while (len > 0 && (*p == ' ' || *p == '\t')) {
			p++;
			len--;
		}
		rc = parse_line(a, p, len, &seen, to, parent, skipped);
		nodes += rc > 0 ? rc : 0;
		p = stop;
	}
	map_free(&seen);
	return rc < 0 ? rc : nodes;
}
