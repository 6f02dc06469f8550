/* SPDX-License-Identifier: MIT */
/* Name filters and override patterns on names that a subscription chose, and its userinfo header. Lines: pattern, target,
 * name, header. Whatever they are, matching ends in time, a replaced name fits and is UTF-8, a header is read or left. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_tree.h"
#include "common/strutil.h"
#include "worker/group/filter.h"
#include "worker/provider/userinfo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES = 4, LINE_MAX_BYTES = 512 };

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char line[LINES][LINE_MAX_BYTES] = { "" }, out[256];
	struct userinfo info = { 0 };
	struct cfg_err err = { 0 };
	struct filter *f = NULL;
	size_t at = 0;

	for (int i = 0; i < LINES; i++) {
		size_t n = 0;

		for (; at < size && data[at] != '\n'; at++)
			if (n + 1 < LINE_MAX_BYTES && data[at] != '\0')
				line[i][n++] = (char)data[at];
		at += at < size;
	}
	userinfo_parse(&info, line[3]);
	for (int i = 0; i < 3; i++) /* as the tree guarantees */
		if (!utf8_valid(line[i], strlen(line[i])))
			return 0;
	if (filter_compile(line[0], "filter", NULL, &f, &err) == 0 && f != NULL)
		(void)filter_match_any(f, line[2]);
	filter_free(f);
	memset(&err, 0, sizeof(err));
	if (filter_compile_one(line[0], "pattern", NULL, &f, &err) != 0) {
		if (err.text[0] == '\0')
			abort();
		return 0;
	}
	if (filter_replace(f, line[2], line[1], out, sizeof(out)) == 0 && !utf8_valid(out, strlen(out)))
		abort();
	filter_free(f);
	return 0;
}
