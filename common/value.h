/* SPDX-License-Identifier: MIT */
/* Typed values on the wire: what a worker tells the controller for rendering as JSON, and what the controller passes on of a JSON body. One
 * tag byte, then: INT, UINT, TIME u64; STR u32 length + bytes; UUID 16 bytes; LIST values until END; MAP (u8 key length 1..255, key, value)*
 * then a 0 length. The reader (value_next) is iterative, bounds depth at VALUE_DEPTH_MAX and everything else by the data's end.
 *
 *   value_map(w); value_key(w, "name"); value_str(w, ob->name); value_key(w, "udp"); value_bool(w, true); value_map_end(w);
 */
#ifndef SLUICE_COMMON_VALUE_H
#define SLUICE_COMMON_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/wire.h"

enum value_tag { V_END, V_NULL, V_FALSE, V_TRUE, V_INT, V_UINT, V_STR, V_TIME /* unix ns; 0 = never */, V_UUID, V_LIST, V_MAP };
enum { VALUE_DEPTH_MAX = 16 };

void value_null(struct wire *w);
void value_bool(struct wire *w, bool v);
void value_int(struct wire *w, int64_t v);
void value_uint(struct wire *w, uint64_t v);
void value_str(struct wire *w, const char *s);		/* NULL = "" */
void value_strn(struct wire *w, const char *s, size_t n);
void value_time(struct wire *w, int64_t unix_ns);
void value_uuid(struct wire *w, const uint8_t id[static 16]);
void value_list(struct wire *w);
void value_list_end(struct wire *w);
void value_map(struct wire *w);
void value_key(struct wire *w, const char *key);	/* 1..255 bytes; longer ones are cut */
void value_map_end(struct wire *w);

/* One step of a reader. For members of a map key/key_len are filled (lent), else key is NULL. depth counts open lists and maps after the step;
 * V_END closes the innermost. Returns 0, or -E_PROTO on bad data, -E_EOF after the outermost value. */
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
