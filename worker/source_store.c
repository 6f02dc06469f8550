/* SPDX-License-Identifier: MIT */
/* What is known of downloads, and outlives processes (STATE_NODES), so that nothing is asked again too early:
 *
 *   u32 0, u32 n, n * (u32 change, str name, str url, str etag, str modified, u64 file_ns, u64 checked_ns,
 *                      bool seen, u64 upload, u64 download, u64 total, u64 expire)
 *
 * The 0 is where an earlier form had its count. Called by source.c and apply.c. */
#include "worker/source.h"

#include <string.h>

#include "common/strutil.h"
#include "worker/ipc.h"
#include "worker/provider/fetch.h"
#include "worker/provider/userinfo.h"

enum { NAME_TEXT_MAX = 1024, STORED_MAX = 4096 /* sources; more are forgotten */ };

void
sources_store(struct worker *w)
{
	static const struct userinfo none;
	struct wire out;
	uint32_t n = 0;

	wire_init(&out);
	wire_put_u32(&out, 0);
	wire_put_u32(&out, 0);
	list_each(at, sources_all()) {
		const struct source *s = container_of(at, struct source, link);
		const struct userinfo *info = s->info != NULL ? s->info : &none;

		if (s->vehicle != VEHICLE_HTTP || n == STORED_MAX)
			continue;
		wire_put_u32(&out, s->type->change);
		wire_put_str(&out, s->name);
		wire_put_str(&out, s->url);
		wire_put_str(&out, s->etag);
		wire_put_str(&out, s->modified);
		wire_put_u64(&out, (uint64_t)s->file_ns);
		wire_put_u64(&out, (uint64_t)*s->updated_ns);
		wire_put_bool(&out, info->seen);
		wire_put_u64(&out, (uint64_t)info->upload);
		wire_put_u64(&out, (uint64_t)info->download);
		wire_put_u64(&out, (uint64_t)info->total);
		wire_put_u64(&out, (uint64_t)info->expire);
		n++;
	}
	wire_set_u32(&out, sizeof n, n);
	ipc_save(w, STATE_NODES, &out);
}

static int
restore_one(struct wire *in)
{
	char name[NAME_TEXT_MAX], url[FETCH_URL_MAX], etag[SOURCE_ETAG_MAX], modified[SOURCE_DATE_MAX];
	uint64_t file_ns, checked_ns, v[4];
	uint32_t change;
	struct source *s;
	bool seen;

	if (wire_get_u32(in, &change) != 0 || wire_get_str(in, name, sizeof name) != 0 ||
	    wire_get_str(in, url, sizeof url) != 0 || wire_get_str(in, etag, sizeof etag) != 0 ||
	    wire_get_str(in, modified, sizeof modified) != 0 || wire_get_u64(in, &file_ns) != 0 ||
	    wire_get_u64(in, &checked_ns) != 0 || wire_get_bool(in, &seen) != 0 || wire_get_u64(in, &v[0]) != 0 ||
	    wire_get_u64(in, &v[1]) != 0 || wire_get_u64(in, &v[2]) != 0 || wire_get_u64(in, &v[3]) != 0)
		return -E_PROTO;
	s = source_find(change, name);
	if (s == NULL || s->vehicle != VEHICLE_HTTP || strcmp(s->url, url) != 0)
		return 0;
	if (s->info != NULL)
		*s->info = (struct userinfo){ seen, (int64_t)v[0], (int64_t)v[1], (int64_t)v[2], (int64_t)v[3] };
	/* of another file the server must not answer "not modified" */
	if (s->file_ns != 0 && s->file_ns == (int64_t)file_ns) {
		(void)str_copy(s->etag, sizeof s->etag, etag);
		(void)str_copy(s->modified, sizeof s->modified, modified);
		if ((int64_t)checked_ns > *s->updated_ns && (int64_t)checked_ns <= loop_wall_ns())
			*s->updated_ns = (int64_t)checked_ns;
	}
	return 0;
}

void
sources_restore(struct worker *w, struct wire *in)
{
	uint32_t earlier, n;

	(void)w;
	if (wire_get_u32(in, &earlier) != 0 || earlier != 0 || wire_get_u32(in, &n) != 0)
		return;
	while (n-- > 0)
		if (restore_one(in) != 0)
			return;
}
