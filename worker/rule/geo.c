/* SPDX-License-Identifier: MIT */
/* GEOSITE, GEOIP, SRC-GEOIP, IP-ASN, SRC-IP-ASN (spec/config.md 11, 13.2, 13.3). Each list, country or ASN that is named
 * becomes one compiled image of a database in the working directory; rules that name the same share it. geo_prepare()
 * asks for all of them at once. A list that the database does not have refuses the configuration, as the reference does;
 * a database that is not there leaves its rules without effect, and says so by name.
 *
 * Called by the parser and the engine; the sets live in gen.geo_sets. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/rule/ruleset.h"
#include "worker/rule/types.h"
#include "worker/worker.h"

enum { CANDIDATES_MAX = 5, TEXT_MAX = 2048 };
enum ask { ASK_NEW, ASK_SENT, ASK_LOADED, ASK_NO_FILE, ASK_FAILED };

struct geo_set {
	struct ruleset set;
	enum ask state;
	const char *const *file;	/* candidates that have not been tried */
	uint32_t format;
	struct gen *g;
	bool reported;
	char text[sizeof ((struct msg_image *)0)->text];	/* why it failed */
};
struct geo {			/* a rule's data */
	struct geo_set *gs;	/* NULL: lan */
	bool negate;
};

static const char *const site_files[] = { "GeoSite.dat", "geosite.dat", NULL };
static const char *const ip_files[] = { "GeoIP.dat", "geoip.dat", NULL };
static const char *const mmdb_files[] = { "Country.mmdb", "country.mmdb", "geoip.db", "geoip.metadb", NULL };
static const char *const asn_files[] = { "ASN.mmdb", "GeoLite2-ASN.mmdb", NULL };

static void ask(struct geo_set *gs);

static void
on_image(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct geo_set *gs = arg;

	(void)w;
	if (m->err == E_NOTFOUND && gs->file[0] != NULL) {
		ask(gs);
		return;
	}
	if (m->err == E_NOTFOUND) {
		gs->state = ASK_NO_FILE;
		return;
	}
	gs->state = ASK_FAILED;
	(void)str_copy(gs->text, sizeof gs->text, m->text);
	if (m->err != 0)
		return;
	if (ruleset_load(gs->g, &gs->set, m, fd) == 0)
		gs->state = ASK_LOADED;
	else
		(void)str_copy(gs->text, sizeof gs->text, "its image is damaged");
	close(fd);
}

static void
ask(struct geo_set *gs)
{
	struct msg_compile q = { .kind = gs->set.kind, .format = gs->format };

	(void)str_copy(q.name, sizeof q.name, gs->set.name);
	(void)str_copy(q.path, sizeof q.path, *gs->file++);
	gs->state = ASK_SENT;
	if (priv_compile(gs->g->w, &q, on_image, gs) != 0) {
		gs->state = ASK_FAILED;
		(void)str_copy(gs->text, sizeof gs->text, "too many lists are asked for at once");
	}
}

/* The set of a list, asked for when it is new and the configuration is still read. */
static struct geo_set *
geo_get(struct gen *g, uint32_t kind, const char *name)
{
	const char *key = arena_printf(&g->arena, "%u %s", kind, name);
	struct geo_set *gs = map_get(&g->geo_sets, key);

	if (gs != NULL || strlen(name) >= COMPILE_NAME_MAX)
		return gs;
	if (g->w != NULL && g->w->built)	/* a set that is replaced later may use what is there, and name nothing new */
		return NULL;
	gs = arena_alloc(&g->arena, sizeof *gs);
	gs->set.name = arena_strdup(&g->arena, name);
	gs->set.kind = kind;
	gs->g = g;
	gs->format = kind == IMAGE_GEOSITE || (kind == IMAGE_GEOIP && g->general.geodata_mode) ? FORMAT_DAT : FORMAT_MMDB;
	gs->file = kind == IMAGE_GEOSITE ? site_files :
	    kind == IMAGE_ASN ? asn_files :
	    gs->format == FORMAT_DAT ? ip_files : mmdb_files;
	(void)map_put(&g->geo_sets, key, gs);
	if (g->w != NULL)
		ask(gs);
	return gs;
}

/* ---- all that the rules name, before they are compiled */

static void
prepare_line(struct gen *g, const char *line)
{
	static const struct { const char *word; uint32_t kind; } words[] = {
		{ "GEOSITE,", IMAGE_GEOSITE }, { "GEOIP,", IMAGE_GEOIP }, { "IP-ASN,", IMAGE_ASN },
	};

	for (size_t i = 0; i < countof(words); i++)
		for (const char *at = line; (at = strcasestr(at, words[i].word)) != NULL;) {
			char name[COMPILE_NAME_MAX];
			size_t n;

			at += strlen(words[i].word);
			at += strspn(at, " !");
			n = strcspn(at, ",)");
			while (n > 0 && at[n - 1] == ' ')
				n--;
			if (n == 0 || n >= sizeof name)
				continue;
			memcpy(name, at, n);
			name[n] = '\0';
			str_lower(name);
			if (words[i].kind != IMAGE_GEOIP || strcmp(name, "lan") != 0)
				(void)geo_get(g, words[i].kind, name);
		}
}

void
geo_prepare(struct gen *g, const struct cfg_node *rules, const struct cfg_node *sub_rules)
{
	if (g->w == NULL)
		return;
	cfg_each(c, rules)
		if (cfg_text(c) != NULL)
			prepare_line(g, cfg_text(c));
	cfg_each(list, sub_rules)
		cfg_each(c, list)
			if (cfg_text(c) != NULL)
				prepare_line(g, cfg_text(c));
	priv_compile_wait(g->w);
}

/* ---- the rules */

static const char *
missing(const struct geo_set *gs)
{
	switch (gs->set.kind) {
	case IMAGE_GEOSITE:
		return "GeoSite.dat";
	case IMAGE_ASN:
		return "ASN.mmdb";
	default:
		return gs->format == FORMAT_DAT ? "GeoIP.dat" : "geoip.metadb or Country.mmdb";
	}
}

static int
use_set(struct gen *g, struct rule *r, uint32_t kind, const char *name, bool negate, struct cfg_err *err)
{
	struct geo *geo = arena_alloc(&g->arena, sizeof *geo);
	struct geo_set *gs = geo_get(g, kind, name);

	if (gs == NULL)
		return cfg_fail(err, NULL, "rules", "payloadRule error");
	if (gs->state == ASK_SENT)
		priv_compile_wait(g->w);
	geo->gs = gs;
	geo->negate = negate;
	r->data = geo;
	if (gs->state == ASK_LOADED)
		return 0;
	if (gs->state == ASK_FAILED)
		return cfg_fail(err, NULL, "rules", "%s", gs->text);
	if (gs->state == ASK_NO_FILE && !gs->reported && g->w->lead)
		log_error("%s,%s matches nothing: %s is not in the working directory", r->type->name, name, missing(gs));
	gs->reported = true;
	r->later = r->type;
	return 0;
}

static int
compile_site(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	char *name = arena_strdup(&g->arena, payload + strspn(payload, "!"));

	if (name[strspn(name, "@ ")] == '\0')
		return cfg_fail(err, NULL, "rules", "payloadRule error");
	r->payload = payload;
	str_lower(name);
	return use_set(g, r, IMAGE_GEOSITE, name, payload[0] == '!', err);
}

static int
compile_country(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	char *code = arena_strdup(&g->arena, payload);

	if (payload[strspn(payload, "! ")] == '\0')
		return cfg_fail(err, NULL, "rules", "payloadRule error");
	str_lower(code);
	r->payload = code;
	if (strcmp(code, "lan") == 0) {		/* needs no data */
		r->data = arena_alloc(&g->arena, sizeof(struct geo));
		return 0;
	}
	return use_set(g, r, IMAGE_GEOIP, code + strspn(code, "!"), code[0] == '!', err);
}

static int
compile_asn(struct gen *g, struct rule *r, const char *payload, struct cfg_err *err)
{
	if (payload[0] == '\0')
		return cfg_fail(err, NULL, "rules", "payloadRule error");
	r->payload = payload;
	return use_set(g, r, IMAGE_ASN, payload, false, err);
}

static int
match_site(const struct rule *r, const struct meta *m, struct verdict *v)
{
	const struct geo *geo = r->data;

	(void)v;
	if (r->later != NULL || rule_host(m)[0] == '\0')
		return 0;
	return ruleset_match(&geo->gs->set, m) != geo->negate;
}

static int
match_address(const struct rule *r, const struct ip *ip)
{
	const struct geo *geo = r->data;

	if (r->later != NULL || ip->family == 0)
		return 0;
	if (geo->gs == NULL)
		return ip_is_private(ip);
	return image_has_ip(&geo->gs->set.image, ip) != geo->negate;
}

static int
match_dst(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return match_address(r, &m->dst_ip);
}

static int
match_src(const struct rule *r, const struct meta *m, struct verdict *v)
{
	(void)v;
	return match_address(r, &m->src_ip);
}

/* spec/api.md: domains of a list; ranges of a country, but only those of a .dat file are counted. */
static uint32_t
size_of(const struct rule *r)
{
	const struct geo *geo = r->data;

	if (geo->gs == NULL || (geo->gs->set.kind == IMAGE_GEOIP && geo->gs->format == FORMAT_MMDB))
		return 0;
	return geo->gs->set.count;
}

const struct rule_type rule_geosite = {
	.name = "GEOSITE", .api_name = "GeoSite", .compile = compile_site, .match = match_site, .size = size_of
};
const struct rule_type rule_geoip = { .name = "GEOIP",
	.api_name = "GeoIP", .about = ABOUT_DST,
	.needs = NEED_IP,
	.flags = RT_PARAMS,
	.compile = compile_country,
	.match = match_dst,
	.src = &rule_src_geoip,
	.size = size_of };
const struct rule_type rule_src_geoip = {
	.name = "SRC-GEOIP", .api_name = "SrcGeoIP", .about = ABOUT_SRC, .compile = compile_country, .match = match_src
};
const struct rule_type rule_ip_asn = { .name = "IP-ASN", .api_name = "IPASN", .about = ABOUT_DST, .needs = NEED_IP,
    .flags = RT_PARAMS, .compile = compile_asn, .match = match_dst, .src = &rule_src_ip_asn };
const struct rule_type rule_src_ip_asn = {
	.name = "SRC-IP-ASN", .api_name = "SrcIPASN", .about = ABOUT_SRC, .compile = compile_asn, .match = match_src
};
