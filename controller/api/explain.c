/* SPDX-License-Identifier: MIT */
/* GET /rules/explain?host=HOST[:PORT], our own: which rule decides about a connection, and why those before it do not. The
 * other parameters (EXPLAIN_KEYS of common/snapshot.h) say more of it; the lead understands them, routes and answers. */
#include "common/snapshot.h"
#include "common/strutil.h"
#include "controller/api/ask.h"
#include "controller/api/handlers.h"

enum { EXPLAIN_MS = 8000, WORD_MAX = 1024 };	/* the resolver's own limit is 5 s */

int
rules_explain(struct api_req *req)
{
	static const char *const keys[] = { "host", EXPLAIN_KEYS };
	char word[WORD_MAX];
	struct ask *a = ask_new(req);

	if (a != NULL)
		wire_put_bool(&a->args, false);
	for (size_t i = 0; a != NULL && i < countof(keys); i++) {
		if (!api_query(req, keys[i], word, sizeof word))
			continue;
		wire_put_str(&a->args, keys[i]);
		wire_put_str(&a->args, word);
	}
	return ask_query(req, a, QUERY_EXPLAIN, EXPLAIN_MS, ask_end_value);
}
