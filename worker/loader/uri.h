/* SPDX-License-Identifier: MIT */
/* Share links (spec/config.md 9.1) to proxy maps: what the families (uri_*.c) share, and THE table of schemes (uri.c). A
 * link becomes one node, or several (mierus); a node is a list of fields whose paths make its map:
 *
 *   struct link *l = links_new(out, "trojan", &u);		// name, type, server, port
 *   link_text(l, "password", u.user);
 *   link_some(l, "ws-opts/headers/Host", url_get(&u, "host"));	// nothing when ""
 *   link_list(l, "alpn", "h3,h2");
 *
 * Everything lies in the arena of the job. Input is hostile: a parser answers false and leaves nothing behind. */
#ifndef SLUICE_LOADER_URI_H
#define SLUICE_LOADER_URI_H

#include <stdbool.h>
#include <stddef.h>

#include "common/arena.h"
#include "common/config_tree.h"
#include "common/map.h"

enum {
	LINK_MAX = 65536, /* bytes of one link; longer ones are skipped */
	LINK_FIELDS_MAX = 64, /* of one node; a link that says more is skipped */
	LINK_NODES_MAX = 16, /* of one link */
	LINK_ITEMS_MAX = 32 /* of one list, such as alpn; more are left out */
};

struct url { /* scheme://[user[:pass]@]host[:port][/path][?query][#fragment], RFC 3986 3; all decoded but query, never NULL */
	struct arena *a;
	const char *user, *pass, *userinfo; /* userinfo: "user:pass" */
	bool has_user, has_pass;
	const char *host, *port, *path, *query, *name;
};

enum link_kind { LINK_TEXT, LINK_PLAIN /* a number or a boolean */, LINK_ITEM /* one more of a list */ };
struct link {
	struct arena *a;
	const char *name;
	bool overflow;
	int n;
	struct {
		const char *path, *text;
		enum link_kind kind;
	} field[LINK_FIELDS_MAX];
};
struct links { /* the nodes of one link */
	struct arena *a;
	int n;
	struct link *link[LINK_NODES_MAX];
};

struct link_family {
	const char *scheme;
	bool (*parse)(struct links *out, const char *rest); /* rest: what follows "://", without blanks at its ends */
};

/* ---- uri.c */
/* Every line of text as a link; adds maps to the list at parent. The number of nodes, or -E_*; skipped counts lines that
 * look like links and are none. */
int64_t links_parse(
    struct arena *a, const char *text, size_t n, struct tree_builder *to, int64_t parent, int64_t nodes_max, unsigned *skipped);

/* ---- link.c */
bool url_split(struct url *u, struct arena *a, const char *rest);
const char *url_get(const struct url *u, const char *key); /* of the query, decoded; "" */
bool url_has_server(const struct url *u); /* a host, and a port from 1 to 65535 */
bool text_true(const char *s); /* 1 t T true TRUE True */
/* Base64 of either alphabet, padded or not, line ends ignored; NULL when it is none, or no text (UTF-8 without NUL). */
char *text_base64(struct arena *a, const char *s, size_t n);
char *text_lower(struct arena *a, const char *s);

/* A node of this type with name, server and port of u (NULL: none of them). NULL over LINK_NODES_MAX. */
struct link *links_new(struct links *out, const char *type, const struct url *u);
void link_text(struct link *l, const char *path, const char *text);
void link_some(struct link *l, const char *path, const char *text);
void link_plain(struct link *l, const char *path, const char *text); /* a number as it stands */
void link_bool(struct link *l, const char *path, bool on);
void link_list(struct link *l, const char *path, const char *text); /* separated by commas; nothing when "" */
/* Adds the node under parent. 0, or -E_INVAL for one that is no valid text or has too many fields (nothing was added),
 * -E_LIMIT, -E_NOMEM. */
int link_emit(const struct link *l, struct tree_builder *to, int64_t parent);

/* ---- uri_v2ray.c: what vmess and vless links share; query form. uuid from the user. */
bool v2ray_common(struct link *l, const struct url *u);

extern const struct link_family uri_ss[], uri_v2ray[], uri_quic[], uri_plain[], uri_other[]; /* ended by a NULL scheme */

#endif
