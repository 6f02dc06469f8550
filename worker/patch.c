/* SPDX-License-Identifier: MIT */
/* PATCH /configs (spec/api.md 4.1): a body is read twice, first to judge all of it, then to take it over, so a refused one
 * changes nothing and allocates nothing. Below it the blobs by which values outlive a worker. Called by change.c and
 * apply.c. Texts and lists go to the generation's arena; what says the same as before is not copied, so repeating a patch
 * costs no memory. */
#include "worker/patch.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "common/addr.h"
#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "common/value.h"
#include "worker/general_show.h"
#include "worker/match/check.h"

enum {
	TEXT_MAX = 1024,	/* bytes of a patched text; longer ones are refused */
	PREFIXES_MAX = 4096,	/* of one list; more are refused */
	BLOB_VERSION = 1, PORT_MAX = 65535
};

enum kind { KIND_BOOL, KIND_PORT, KIND_STR, KIND_PREFIXES, KIND_MODE, KIND_LEVEL, KIND_FIND, KIND_SNIFFING, KIND_OBJECT };

struct key {
	const char *name;
	enum kind kind;
	size_t at;		/* of the member in struct general */
	bool ports;		/* listeners must follow */
	bool later;		/* accepted, but does nothing yet */
};
#define MEMBER(m) offsetof(struct general, m)

static const struct key keys[] = {
	{ "port", KIND_PORT, MEMBER(port), true, false }, { "socks-port", KIND_PORT, MEMBER(socks_port), true, false },
	{ "mixed-port", KIND_PORT, MEMBER(mixed_port), true, false }, { "redir-port", KIND_PORT, MEMBER(redir_port), true, true },
	{ "tproxy-port", KIND_PORT, MEMBER(tproxy_port), true, true },
	{ "allow-lan", KIND_BOOL, MEMBER(allow_lan), true, false }, { "bind-address", KIND_STR, MEMBER(bind_address), true,
	    false },
	{ "skip-auth-prefixes", KIND_PREFIXES, MEMBER(skip_auth), false, false },
	{ "lan-allowed-ips", KIND_PREFIXES, MEMBER(lan_allowed), false, false },
	{ "lan-disallowed-ips", KIND_PREFIXES, MEMBER(lan_disallowed), false, false },
	{ "mode", KIND_MODE, MEMBER(mode), false, false }, { "log-level", KIND_LEVEL, MEMBER(log_level), false, false },
	{ "find-process-mode", KIND_FIND, MEMBER(find_process), false, false },
	{ "ipv6", KIND_BOOL, MEMBER(ipv6), false, false }, { "sniffing", KIND_SNIFFING, MEMBER(sniffing), false, false },
	{ "tcp-concurrent", KIND_BOOL, MEMBER(tcp_concurrent), false, false },
	{ "unified-delay", KIND_BOOL, MEMBER(unified_delay), false, false },
	{ "interface-name", KIND_STR, MEMBER(interface_name), false, false },
	{ "ss-config", KIND_STR, MEMBER(ss_config), false, true }, { "vmess-config", KIND_STR, MEMBER(vmess_config), false,
	    true },
	{ "tun", KIND_OBJECT, 0, false, true }, { "tuic-server", KIND_OBJECT, 0, false, true },
};

struct patch {
	struct gen *gen;
	struct general *out;	/* NULL: judge only */
	struct patch_effect *effect;
	struct value_reader reader;
};

static void
changed(struct patch *p, const struct key *k)
{
	p->effect->anything = true;
	p->effect->ports = p->effect->ports || k->ports;
	p->effect->log_level = p->effect->log_level || k->kind == KIND_LEVEL;
}

static void
put_int(struct patch *p, const struct key *k, int v)
{
	int *at = p->out != NULL ? (int *)(void *)((char *)p->out + k->at) : NULL;

	if (at == NULL || *at == v)
		return;
	*at = v;
	changed(p, k);
}

static void
put_bool(struct patch *p, const struct key *k, bool v)
{
	bool *at = p->out != NULL ? (bool *)(void *)((char *)p->out + k->at) : NULL;

	if (at == NULL || *at == v)
		return;
	*at = v;
	changed(p, k);
}

static void
put_str(struct patch *p, const struct key *k, const struct value *v)
{
	const char **at = p->out != NULL ? (const char **)(void *)((char *)p->out + k->at) : NULL;

	if (at == NULL || (strlen(*at) == v->len && memcmp(*at, v->str, v->len) == 0))
		return;
	*at = arena_strndup(&p->gen->arena, v->str, v->len);
	changed(p, k);
}

static int
patch_bool(struct patch *p, const struct key *k, const struct value *v)
{
	bool on = v->tag == V_TRUE;

	if (v->tag != V_TRUE && v->tag != V_FALSE)
		return -E_INVAL;
	if (k->kind == KIND_SNIFFING)	/* there is nothing to switch on where the sniffer is off */
		on = on && check_on(cfg_get(p->gen->root, "sniffer"), "enable");
	put_bool(p, k, on);
	return 0;
}

/* The reference answers 204 to any number, and only logs what is no port. */
static int
patch_port(struct patch *p, const struct key *k, const struct value *v)
{
	bool valid = v->i >= 0 && v->i <= PORT_MAX;

	if (v->tag != V_INT)
		return -E_INVAL;
	if (!valid && p->out != NULL)
		log_error("%s: %lld is no port: nothing listens", k->name, (long long)v->i);
	put_int(p, k, valid ? (int)v->i : 0);
	return 0;
}

static int
patch_name(struct patch *p, const struct key *k, const struct value *v)
{
	char name[32];
	int i;

	if (v->tag != V_STR || v->len >= sizeof name || memchr(v->str, '\0', v->len) != NULL)
		return -E_INVAL;
	memcpy(name, v->str, v->len);
	name[v->len] = '\0';
	i = k->kind == KIND_MODE ? general_mode_parse(name) : k->kind == KIND_LEVEL ?
	    log_level_parse(name) : general_find_parse(name);
	if (i < 0)
		return -E_INVAL;
	put_int(p, k, i);
	return 0;
}

static int
patch_str(struct patch *p, const struct key *k, const struct value *v)
{
	if (v->tag != V_STR || v->len > TEXT_MAX || memchr(v->str, '\0', v->len) != NULL)
		return -E_INVAL;
	put_str(p, k, v);
	return 0;
}

/* One list to its end; up to cap prefixes to out (NULL: none are kept). Their number, or -E_INVAL. */
static int
read_prefixes(struct value_reader *r, struct prefix *out)
{
	char text[ADDR_TEXT_MAX];
	struct prefix prefix;
	struct value v;

	for (int n = 0; n <= PREFIXES_MAX; n++) {
		if (value_next(r, &v) != 0)
			return -E_INVAL;
		if (v.tag == V_END)
			return n;
		if (v.tag != V_STR || v.len >= sizeof text || n == PREFIXES_MAX)
			return -E_INVAL;
		memcpy(text, v.str, v.len);
		text[v.len] = '\0';
		if (prefix_parse(&prefix, text) != 0)
			return -E_INVAL;
		if (out != NULL)
			out[n] = prefix;
	}
	return -E_INVAL;
}

static bool
same_prefixes(const struct prefix_list *a, const struct prefix_list *b)
{
	bool same = a->set == b->set && a->n == b->n;

	for (int i = 0; same && i < a->n; i++)
		same = ip_equal(&a->p[i].ip, &b->p[i].ip) && a->p[i].bits == b->p[i].bits;
	return same;
}

static int
patch_prefixes(struct patch *p, const struct key *k, const struct value *v)
{
	struct value_reader again = p->reader;
	size_t off = p->reader.w->off;
	struct prefix_list list = { .set = true }, *at;

	if (v->tag != V_LIST)
		return -E_INVAL;
	list.n = read_prefixes(&p->reader, NULL);
	if (list.n < 0)
		return -E_INVAL;
	if (p->out == NULL)
		return 0;
	p->reader.w->off = off;
	list.p = arena_array(&p->gen->arena, (size_t)list.n + 1, sizeof *list.p);
	(void)read_prefixes(&again, list.p);
	p->reader = again;
	at = (struct prefix_list *)(void *)((char *)p->out + k->at);
	if (same_prefixes(at, &list))
		return 0;
	*at = list;
	changed(p, k);
	return 0;
}

/* Reads to the end of the list or map that v opened. */
static int
skip(struct patch *p, const struct value *v)
{
	int depth = p->reader.depth;
	struct value inner;

	if (v->tag != V_LIST && v->tag != V_MAP)
		return 0;
	while (p->reader.depth >= depth)
		if (value_next(&p->reader, &inner) != 0)
			return -E_INVAL;
	return 0;
}

static const struct key *
find_key(const struct value *v)
{
	for (size_t i = 0; i < countof(keys); i++)
		if (strlen(keys[i].name) == v->key_len && strncasecmp(keys[i].name, v->key, v->key_len) == 0)	/* spec/api.md 1.6 */
			return &keys[i];
	return NULL;
}

static int
patch_member(struct patch *p, const struct value *v)
{
	const struct key *k = find_key(v);

	if (k == NULL)
		return skip(p, v);
	if (v->tag == V_NULL)		/* as if it were not there */
		return 0;
	if (k->later && p->out != NULL)
		log_warn("%s does not work yet: the change does nothing", k->name);
	switch (k->kind) {
	case KIND_BOOL:
	case KIND_SNIFFING:
		return patch_bool(p, k, v);
	case KIND_PORT:
		return patch_port(p, k, v);
	case KIND_STR:
		return patch_str(p, k, v);
	case KIND_PREFIXES:
		return patch_prefixes(p, k, v);
	case KIND_MODE:
	case KIND_LEVEL:
	case KIND_FIND:
		return patch_name(p, k, v);
	case KIND_OBJECT:
		break;
	}
	return v->tag == V_MAP ? skip(p, v) : -E_INVAL;
}

static int
patch_body(struct patch *p, struct wire *w)
{
	struct value v;
	int rc;

	value_reader_init(&p->reader, w);
	if (value_next(&p->reader, &v) != 0 || v.tag != V_MAP)
		return -E_INVAL;
	while ((rc = value_next(&p->reader, &v)) == 0) {
		if (v.tag == V_END)
			return 0;
		rc = patch_member(p, &v);
		if (rc != 0)
			break;
	}
	return rc;
}

int
patch_apply(struct gen *g, struct wire *value_map, struct patch_effect *effect, const char **text)
{
	struct patch p = { .gen = g, .effect = effect };
	size_t start = value_map->off;

	*effect = (struct patch_effect){ 0 };
	if (patch_body(&p, value_map) != 0) {
		*text = "Body invalid";
		return 400;
	}
	value_map->off = start;
	p.out = &g->general;
	(void)patch_body(&p, value_map);
	return 204;
}

/* ---- blobs */

static void
save_prefixes(struct wire *w, const struct prefix_list *list)
{
	wire_put_bool(w, list->set);
	wire_put_u32(w, (uint32_t)list->n);
	for (int i = 0; i < list->n; i++) {
		wire_put_u8(w, list->p[i].ip.family);
		wire_put(w, list->p[i].ip.b, sizeof list->p[i].ip.b);
		wire_put_u8(w, list->p[i].bits);
	}
}

static int
load_prefix(struct wire *w, struct prefix *p)
{
	uint8_t b[sizeof p->ip.b];

	*p = (struct prefix){ 0 };
	if (wire_get_u8(w, &p->ip.family) != 0 || wire_get(w, b, sizeof b) != 0 || wire_get_u8(w, &p->bits) != 0)
		return -E_PROTO;
	if (p->ip.family == 4 && p->bits <= 32)
		memcpy(p->ip.b, b, 4);
	else if (p->ip.family == 6 && p->bits <= 128)
		memcpy(p->ip.b, b, sizeof b);
	else
		return -E_PROTO;
	return 0;
}

static int
load_prefixes(struct gen *g, struct wire *w, struct prefix_list *list)
{
	struct prefix_list in = { 0 };
	uint32_t n;

	/* a configuration may hold longer lists than a patch */
	if (wire_get_bool(w, &in.set) != 0 || wire_get_u32(w, &n) != 0 || n > wire_left(w) / (2 + sizeof in.p->ip.b))
		return -E_PROTO;
	in.p = arena_array(&g->arena, (size_t)n + 1, sizeof *in.p);
	for (uint32_t i = 0; i < n; i++, in.n++)
		if (load_prefix(w, &in.p[i]) != 0)
			return -E_PROTO;
	*list = in;
	return 0;
}

static int
load_str(struct gen *g, struct wire *w, const char **out)
{
	const void *p;
	size_t n;

	if (wire_get_bytes(w, &p, &n, WIRE_MAX) != 0 || memchr(p, '\0', n) != NULL)
		return -E_PROTO;
	*out = arena_strndup(&g->arena, p, n);
	return 0;
}

void
patch_save_ports(struct gen *g, struct wire *w)
{
	const struct general *o = &g->general;
	const int ports[] = { o->port, o->socks_port, o->mixed_port, o->redir_port, o->tproxy_port };

	wire_put_u8(w, BLOB_VERSION);
	for (size_t i = 0; i < countof(ports); i++)
		wire_put_u16(w, (uint16_t)ports[i]);
	wire_put_bool(w, o->allow_lan);
	wire_put_str(w, o->bind_address);
	save_prefixes(w, &o->lan_allowed);
	save_prefixes(w, &o->lan_disallowed);
	save_prefixes(w, &o->skip_auth);
}

int
patch_load_ports(struct gen *g, struct wire *w)
{
	struct general next = g->general;
	int *const ports[] = { &next.port, &next.socks_port, &next.mixed_port, &next.redir_port, &next.tproxy_port };
	uint8_t version;

	if (wire_get_u8(w, &version) != 0 || version != BLOB_VERSION)
		return -E_PROTO;
	for (size_t i = 0; i < countof(ports); i++) {
		uint16_t v;

		if (wire_get_u16(w, &v) != 0)
			return -E_PROTO;
		*ports[i] = v;
	}
	if (wire_get_bool(w, &next.allow_lan) != 0 || load_str(g, w, &next.bind_address) != 0 ||
	    load_prefixes(g, w, &next.lan_allowed) != 0 || load_prefixes(g, w, &next.lan_disallowed) != 0 ||
	    load_prefixes(g, w, &next.skip_auth) != 0 || wire_done(w) != 0)
		return -E_PROTO;
	g->general = next;
	return 0;
}

void
patch_save_live(struct gen *g, struct wire *w)
{
	const struct general *o = &g->general;

	wire_put_u8(w, BLOB_VERSION);
	wire_put_u8(w, (uint8_t)o->mode);
	wire_put_u8(w, (uint8_t)o->log_level);
	wire_put_u8(w, (uint8_t)o->find_process);
	wire_put_bool(w, o->ipv6);
	wire_put_bool(w, o->sniffing);
	wire_put_bool(w, o->tcp_concurrent);
	wire_put_bool(w, o->unified_delay);
	wire_put_str(w, o->interface_name);
}

int
patch_load_live(struct gen *g, struct wire *w)
{
	struct general next = g->general;
	uint8_t version, mode, level, find;

	if (wire_get_u8(w, &version) != 0 || version != BLOB_VERSION || wire_get_u8(w, &mode) != 0 || wire_get_u8(w,
	    &level) != 0 ||
	    wire_get_u8(w, &find) != 0 || wire_get_bool(w, &next.ipv6) != 0 || wire_get_bool(w, &next.sniffing) != 0 ||
	    wire_get_bool(w, &next.tcp_concurrent) != 0 || wire_get_bool(w, &next.unified_delay) != 0 ||
	    load_str(g, w, &next.interface_name) != 0 || wire_done(w) != 0)
		return -E_PROTO;
	if (mode > MODE_DIRECT || level > LL_SILENT || find > FIND_OFF)
		return -E_PROTO;
	next.mode = mode;
	next.log_level = level;
	next.find_process = find;
	g->general = next;
	return 0;
}
