/* SPDX-License-Identifier: MIT */
/* Typed values on the wire: what a worker tells the controller for rendering as JSON, and what the controller passes on of a JSON body. One
 * tag byte, then: INT, UINT, TIME u64; STR u32 length + bytes; UUID 16 bytes; LIST values until END; MAP (u8 key length 1..255, key, value)*
 * then a 0 length. The reader (value_next) is iterative, bounds depth at VALUE_DEPTH_MAX and everything else by the data's end.
 *
 *   value_map(w); value_key_str(w, "name", ob->name); value_key_bool(w, "udp", true); value_map_end(w);
 */
#ifndef SLUICE_COMMON_VALUE_H
#define SLUICE_COMMON_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

enum value_tag { V_END, V_NULL, V_FALSE, V_TRUE, V_INT, V_UINT, V_STR, V_TIME /* unix ns; 0 = never */, V_UUID, V_LIST, V_MAP };
enum { VALUE_DEPTH_MAX = 16 };

/* The small writers are inline: a key known at compile time costs one copy. */
static inline void
value_tag(struct wire *w, enum value_tag tag)
{
	wire_put_u8(w, (uint8_t)tag);
}

static inline void
value_null(struct wire *w)
{
	value_tag(w, V_NULL);
}

static inline void
value_bool(struct wire *w, bool v)
{
	value_tag(w, v ? V_TRUE : V_FALSE);
}

static inline void
value_strn(struct wire *w, const char *s, size_t n)
{
	value_tag(w, V_STR);
	wire_put_bytes(w, s, n);
}

static inline void
value_str(struct wire *w, const char *s)	/* NULL = "" */
{
	value_strn(w, s == NULL ? "" : s, s == NULL ? 0 : strlen(s));
}

static inline void
value_uuid(struct wire *w, const uint8_t id[static 16])
{
	value_tag(w, V_UUID);
	wire_put(w, id, 16);
}

static inline void
value_list(struct wire *w)
{
	value_tag(w, V_LIST);
}

static inline void
value_list_end(struct wire *w)
{
	value_tag(w, V_END);
}

static inline void
value_map(struct wire *w)
{
	value_tag(w, V_MAP);
}

static inline void
value_map_end(struct wire *w)
{
	wire_put_u8(w, 0);
}

static inline void
value_key(struct wire *w, const char *key)	/* 1..255 bytes; longer ones are cut, none is written as "_": a 0 would end the map */
{
	size_t n = strlen(key);

	if (n == 0)
		key = "_", n = 1;
	if (n > UINT8_MAX)
		n = UINT8_MAX;
	wire_put_u8(w, (uint8_t)n);
	wire_put(w, key, n);
}

void value_int(struct wire *w, int64_t v);
void value_uint(struct wire *w, uint64_t v);
void value_time(struct wire *w, int64_t unix_ns);

/* A member of a map: key and value. */
static inline void
value_key_str(struct wire *w, const char *key, const char *s)
{
	value_key(w, key);
	value_str(w, s);
}

static inline void
value_key_bool(struct wire *w, const char *key, bool v)
{
	value_key(w, key);
	value_bool(w, v);
}

static inline void
value_key_int(struct wire *w, const char *key, int64_t v)
{
	value_key(w, key);
	value_int(w, v);
}

static inline void
value_key_null(struct wire *w, const char *key)
{
	value_key(w, key);
	value_null(w);
}

/* One step of a reader. For members of a map key/key_len are filled (lent), else key is NULL. depth counts open lists and maps
 * after the step; V_END closes the innermost. Returns 0, or -E_PROTO on bad data, -E_EOF after the outermost value. */
struct value_reader {
	struct wire *w;
	int depth;
	uint8_t open[VALUE_DEPTH_MAX];	/* V_LIST or V_MAP */
	bool done;
};
struct value {
	enum value_tag tag;
	const char *key;
	size_t key_len;
	const char *str;	/* V_STR; V_UUID: 16 bytes */
	size_t len;
	int64_t i;		/* V_INT, V_TIME */
	uint64_t u;		/* V_UINT */
};
void value_reader_init(struct value_reader *r, struct wire *w);
int value_next(struct value_reader *r, struct value *v);

#endif
