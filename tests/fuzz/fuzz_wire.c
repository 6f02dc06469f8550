/* SPDX-License-Identifier: MIT */
/* Fuzzes the readers of common/wire.c. The first half of the input is a program (one byte a read), the second half is what
 * it reads. What a read lends must lie inside the buffer, and what can be read must come out the same when it is written
 * again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool ok)
{
	if (!ok)
		abort();
}

static void
step(struct wire *r, struct wire *w, uint8_t op)
{
	uint8_t u8;
	uint16_t u16;
	uint32_t u32;
	uint64_t u64;
	bool b;
	char text[40], *dup;
	const void *p;
	size_t n;

	switch (op % 8) {
	case 0:
		if (wire_get_u8(r, &u8) == 0)
			wire_put_u8(w, u8);
		break;
	case 1:
		if (wire_get_u16(r, &u16) == 0)
			wire_put_u16(w, u16);
		break;
	case 2:
		if (wire_get_u32(r, &u32) == 0)
			wire_put_u32(w, u32);
		break;
	case 3:
		if (wire_get_u64(r, &u64) == 0)
			wire_put_u64(w, u64);
		break;
	case 4:
		if (wire_get_bool(r, &b) == 0)
			wire_put_bool(w, b);
		break;
	case 5:
		if (wire_get_bytes(r, &p, &n, op) != 0)
			break;
		require((const uint8_t *)p >= r->p && n <= op && (size_t)((const uint8_t *)p - r->p) + n == r->off);
		wire_put_bytes(w, p, n);
		break;
	case 6:
		if (wire_get_str(r, text, op % (sizeof(text) + 1)) != 0)
			break;
		require(strlen(text) < op % (sizeof(text) + 1));
		wire_put_str(w, text);
		break;
	default:
		dup = wire_get_strdup(r, op);
		if (dup == NULL)
			break;
		require(strlen(dup) <= op);
		wire_put_str(w, dup);
		free(dup);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t half = size / 2, left;
	struct wire r, w;

	wire_init(&w);
	wire_read(&r, data + half, size - half);
	for (size_t i = 0; i < half; i++) {
		left = wire_left(&r);
		step(&r, &w, data[i]);
		require(wire_left(&r) <= left && r.off <= r.len);
		if (r.failed)
			require(wire_left(&r) == 0 && wire_get(&r, NULL, 0) != 0 && wire_done(&r) != 0);
	}
	/* a failed read may have consumed a length that was not written again */
	require(!w.failed && w.len <= r.off && (w.len == 0 || memcmp(w.p, data + half, w.len) == 0));
	if (!r.failed)
		require(w.len == r.off);
	wire_free(&w);
	return 0;
}
