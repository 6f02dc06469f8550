/* SPDX-License-Identifier: MIT */
/* GEOSITE, GEOIP, SRC-GEOIP, IP-ASN, SRC-IP-ASN (spec/config.md 11): rules on lists of geo_set.h. A list that its database does
 * not have refuses the configuration; one whose database is not there matches nothing until it comes, and under NOT neither.
 *
 * Called by the parser and the engine. */
#include <stdio.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/rule/geo_set.h"
#include "worker/rule/types.h"
#include "worker/worker.h"

struct geo {			/* a rule's data */
	struct geo_set *gs;	/* NULL: lan */
	bool negate;
};

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
				(void)geo_set_get(g, words[i].kind, name);
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

static void
renew(struct rule *r)
{
	const struct geo *geo = r->data;

	r->later = geo->gs == NULL || geo->gs->state == GEO_LOADED ? NULL : r->type;
}

static int
use_set(struct gen *g, struct rule *r, uint32_t kind, const char *name, bool negate, struct cfg_err *err)
{
	struct geo *geo = arena_alloc(&g->arena, sizeof *geo);
	char who[COMPILE_NAME_MAX + 16];

	geo->gs = geo_set_get(g, kind, name);
	geo->negate = negate;
	r->data = geo;
	if (geo->gs == NULL)
		return cfg_fail(err, NULL, "rules", "payloadRule error");
	(void)snprintf(who, sizeof who, "%s,%s", r->type->name, name);
	if (geo_set_check(geo->gs, who, err) != 0)
		return -E_INVAL;
	renew(r);
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
	if (geo->gs->state != GEO_LOADED || rule_host(m)[0] == '\0')
		return 0;
	return ruleset_match(&geo->gs->set, m) != geo->negate;
}

static int
match_address(const struct rule *r, const struct ip *ip)
{
	const struct geo *geo = r->data;

	if (ip->family == 0 || (geo->gs != NULL && geo->gs->state != GEO_LOADED))
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
	.name = "GEOSITE", .api_name = "GeoSite", .compile = compile_site, .match = match_site, .renew = renew, .size = size_of
};
const struct rule_type rule_geoip = { .name = "GEOIP",
	.api_name = "GeoIP", .about = ABOUT_DST,
	.needs = NEED_IP,
	.flags = RT_PARAMS,
	.compile = compile_country,
	.match = match_dst,
	.src = &rule_src_geoip,
	.renew = renew,
	.size = size_of };
const struct rule_type rule_src_geoip = { .name = "SRC-GEOIP",
	.api_name = "SrcGeoIP",
	.about = ABOUT_SRC,
	.compile = compile_country,
	.match = match_src,
	.renew = renew };
const struct rule_type rule_ip_asn = { .name = "IP-ASN", .api_name = "IPASN", .about = ABOUT_DST, .needs = NEED_IP,
    .flags = RT_PARAMS, .compile = compile_asn, .match = match_dst, .src = &rule_src_ip_asn, .renew = renew };
const struct rule_type rule_src_ip_asn = { .name = "SRC-IP-ASN",
	.api_name = "SrcIPASN",
	.about = ABOUT_SRC,
	.compile = compile_asn,
	.match = match_src,
	.renew = renew };
