/* SPDX-License-Identifier: MIT */
/* The reader of typed values on any bytes: it ends, stays inside its buffer, and keeps its depth within bounds. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct value_reader r;
	struct value v;
	struct wire w;
	size_t steps = 0, sum = 0;

	wire_read(&w, data, size);
	value_reader_init(&r, &w);
	while (value_next(&r, &v) == 0) {
		if (r.depth < 0 || r.depth > VALUE_DEPTH_MAX || ++steps > size || w.off > w.len)
			abort();
		for (size_t i = 0; i < v.key_len; i++)
			sum += (uint8_t)v.key[i];
		for (size_t i = 0; v.str != NULL && i < v.len; i++)
			sum += (uint8_t)v.str[i];
	}
	return sum == 1 ? 0 : 0;
}
