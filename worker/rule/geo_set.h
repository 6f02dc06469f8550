/* SPDX-License-Identifier: MIT */
/* Lists of the geodata files (spec/config.md 13.2 to 13.4): each geosite list, country or ASN that something names is one
 * compiled image of a database in the working directory, and everything that names the same shares it. Databases are called by
 * enum image_kind: IMAGE_GEOSITE, IMAGE_GEOIP, IMAGE_ASN.
 *
 * Named while the configuration is read, by the rules and by dns/; taken anew while it serves, when worker/geo.c has had a
 * database replaced. The sets live in gen.geo_sets. */
#ifndef SLUICE_WORKER_RULE_GEO_SET_H
#define SLUICE_WORKER_RULE_GEO_SET_H

#include "worker/rule/ruleset.h"

enum geo_state { GEO_NEW, GEO_ASKED, GEO_LOADED, GEO_NO_FILE, GEO_FAILED };

struct geo_set {
	struct ruleset set;		/* matches nothing until it is loaded */
	enum geo_state state;
	const char *const *file;	/* the one that was asked for last, of the database's possible names */
	const char *path;		/* where it lies, or would be downloaded to */
	uint32_t format;
	struct gen *g;
	bool reported;
	char text[sizeof ((struct msg_image *)0)->text];	/* why it failed; of NO_FILE: what is wrong with the file, "" = there is none */
};

/* The set of a list (lower case), asked for when it is new; priv_compile_wait() brings the answers. NULL: the name is too
 * long, or it is new and the configuration was read already. */
struct geo_set *geo_set_get(struct gen *g, uint32_t kind, const char *name);
/* After the answers: 0, also when the database is not there, which is told in the log, once, with who wants it; or -E_INVAL and
 * err has the reason. */
int geo_set_check(struct geo_set *gs, const char *who, struct cfg_err *err);

/* For dns_hooks. */
const struct ruleset *geo_dns_list(struct gen *g, enum dns_list kind, const char *name, const char *who, struct cfg_err *err);

/* ---- databases */

/* The first set of a database; NULL: the configuration does not use it. Its path and state are those of the database. */
struct geo_set *geo_db(const struct gen *g, uint32_t kind);
const char *geo_db_name(const struct gen *g, uint32_t kind);	/* "GeoSite", "GeoIP", "MMDB", "ASN" */
/* Takes every set of a database anew from its file. done is called once, later; what cannot be had stays as it is, and the first
 * reason is told. 0, or -E_*: it is not called. */
typedef void geo_done_fn(void *arg, int err, const char *text);
int geo_db_renew(struct gen *g, uint32_t kind, geo_done_fn *done, void *arg);

#endif
