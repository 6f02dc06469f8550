/* SPDX-License-Identifier: MIT */
/* See geo_set.h. A list that the database does not have refuses the configuration, as the reference does; a database that is
 * not there does not. One that is damaged is E_PROTO where it may count as missing, which the supervisor decides. */
#include "worker/rule/geo_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/err.h"
#include "common/log.h"
#include "common/strutil.h"
#include "worker/worker.h"

/* Names that a database may have. download: where it goes when none of them is there. */
static const char *const site_files[] = { "GeoSite.dat", "geosite.dat", NULL };
static const char *const ip_files[] = { "GeoIP.dat", "geoip.dat", NULL };
static const char *const mmdb_files[] = { "Country.mmdb", "country.mmdb", "geoip.db", "geoip.metadb", NULL };
static const char *const asn_files[] = { "ASN.mmdb", "GeoLite2-ASN.mmdb", NULL };

struct database {
	const char *name, *download;
	const char *const *files;
	uint32_t format;
};
static const struct database site = { "GeoSite", "GeoSite.dat", site_files, FORMAT_DAT };
static const struct database ip_dat = { "GeoIP", "GeoIP.dat", ip_files, FORMAT_DAT };
static const struct database ip_mmdb = { "MMDB", "geoip.metadb", mmdb_files, FORMAT_MMDB };
static const struct database asn = { "ASN", "ASN.mmdb", asn_files, FORMAT_MMDB };

static const struct database *
database(const struct gen *g, uint32_t kind)
{
	if (kind == IMAGE_GEOSITE)
		return &site;
	if (kind == IMAGE_ASN)
		return &asn;
	return g->general.geodata_mode ? &ip_dat : &ip_mmdb;
}

static bool
loader_known(const char *name)
{
	return str_case_equal(name, "memconservative") || str_case_equal(name, "memc") || str_case_equal(name, "standard");
}

static struct msg_compile
question(const struct geo_set *gs, const char *path)
{
	struct msg_compile q = { .kind = gs->set.kind, .format = gs->format };

	(void)str_copy(q.name, sizeof q.name, gs->set.name);
	(void)str_copy(q.path, sizeof q.path, path);
	return q;
}

static int
fail(struct geo_set *gs, const char *text)
{
	gs->state = GEO_FAILED;
	(void)str_copy(gs->text, sizeof gs->text, text);
	return -E_INVAL;
}

/* A loader knows no paths; of a list that is not there it says in what. */
static void
fail_file(struct geo_set *gs, const char *text)
{
	gs->state = GEO_FAILED;
	if (strstr(text, gs->path) != NULL)
		(void)str_copy(gs->text, sizeof gs->text, text);
	else
		(void)snprintf(gs->text, sizeof gs->text, "%s: %.460s", gs->path, text);
}

/* Takes fd. */
static int
take(struct geo_set *gs, const struct msg_image *m, int fd)
{
	int rc = ruleset_load(gs->g, &gs->set, m, fd);

	close(fd);
	if (rc == 0)
		gs->state = GEO_LOADED;
	return rc;
}

/* ---- while the configuration is read */

static void ask(struct geo_set *gs);

static void
on_image(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct geo_set *gs = arg;

	(void)w;
	if (m->err == E_NOTFOUND && gs->file[1] != NULL) {
		gs->file++;
		ask(gs);
		return;
	}
	if (m->err == E_NOTFOUND) {
		gs->state = GEO_NO_FILE;
		return;
	}
	gs->path = *gs->file;
	if (m->err == E_PROTO) {	/* not even a database: a download is as good as where there is none */
		fail_file(gs, m->text);
		gs->state = GEO_NO_FILE;
		return;
	}
	if (m->err != 0)
		fail_file(gs, m->text);
	else if (take(gs, m, fd) != 0)
		fail_file(gs, "its image is damaged");
}

static void
ask(struct geo_set *gs)
{
	struct msg_compile q = question(gs, *gs->file);

	gs->state = GEO_ASKED;
	if (priv_compile(gs->g->w, &q, on_image, gs) != 0)
		(void)fail(gs, "too many lists are asked for at once");
}

struct geo_set *
geo_set_get(struct gen *g, uint32_t kind, const char *name)
{
	const char *key = arena_printf(&g->arena, "%u %s", kind, name);
	const struct database *db = database(g, kind);
	struct geo_set *gs = map_get(&g->geo_sets, key);

	if (gs != NULL || strlen(name) >= COMPILE_NAME_MAX)
		return gs;
	if (g->w != NULL && g->w->built)	/* a set that is replaced later may use what is there, and name nothing new */
		return NULL;
	gs = arena_alloc(&g->arena, sizeof *gs);
	gs->set.name = arena_strdup(&g->arena, name);
	gs->set.kind = kind;
	gs->g = g;
	gs->format = db->format;
	gs->file = db->files;
	gs->path = db->download;
	(void)map_put(&g->geo_sets, key, gs);
	if (gs->format == FORMAT_DAT && !loader_known(g->general.geodata_loader))
		(void)fail(gs, arena_printf(&g->arena, "unable to locate GeoData loader %.64s", g->general.geodata_loader));
	else if (g->w != NULL)
		ask(gs);
	return gs;
}

int
geo_set_check(struct geo_set *gs, const char *who, struct cfg_err *err)
{
	const struct worker *w = gs->g->w;
	bool any = gs->set.kind == IMAGE_GEOIP && gs->format == FORMAT_MMDB;

	if (gs->state == GEO_ASKED)
		priv_compile_wait(gs->g->w);
	if (gs->state == GEO_FAILED)
		return cfg_fail(err, NULL, NULL, "%s", gs->text);
	if (gs->state == GEO_NO_FILE && !gs->reported && w->lead)
		log_error("%s matches nothing: %s%s%s", who,
		    gs->text[0] != '\0' ? gs->text : any ? "geoip.metadb or Country.mmdb" : gs->path,
		    gs->text[0] != '\0' ? "" : " is not in the working directory",
		    w->test ? "" : "; it is downloaded when this configuration serves");
	gs->reported = true;
	return 0;
}

const struct ruleset *
geo_dns_list(struct gen *g, enum dns_list kind, const char *name, const char *who, struct cfg_err *err)
{
	struct geo_set *gs;

	if (kind == DNS_LIST_RULE_SET)
		return ruleset_get(g, name);
	gs = geo_set_get(g, kind == DNS_LIST_GEOSITE ? IMAGE_GEOSITE : IMAGE_GEOIP, name);
	if (gs == NULL)
		(void)cfg_fail(err, NULL, NULL, "the name is too long");
	else if (who == NULL || geo_set_check(gs, who, err) == 0)
		return &gs->set;
	return NULL;
}

/* ---- databases */

struct geo_set *
geo_db(const struct gen *g, uint32_t kind)
{
	for (size_t i = 0; i < g->geo_sets.cap; i++) {
		struct geo_set *gs = g->geo_sets.slots[i].key != NULL ? g->geo_sets.slots[i].value : NULL;

		if (gs != NULL && gs->set.kind == kind)
			return gs;
	}
	return NULL;
}

const char *
geo_db_name(const struct gen *g, uint32_t kind)
{
	return database(g, kind)->name;
}

struct renewal {
	struct gen *g;
	geo_done_fn *done;
	void *arg;
	unsigned left;
	int err;
	char text[sizeof ((struct msg_image *)0)->text];
};
struct renewed {		/* one set */
	struct renewal *r;
	struct geo_set *gs;
};

static void
settle(struct renewal *r, int err, const char *text)
{
	if (err != 0 && r->err == 0) {
		r->err = err;
		(void)str_copy(r->text, sizeof r->text, text);
	}
	if (--r->left > 0)
		return;
	rules_renew(r->g);		/* rules that had no data have it now */
	worker_touch(r->g->w);
	r->done(r->arg, r->err, r->text);
	free(r);
}

static void
on_renewed(struct worker *w, void *arg, const struct msg_image *m, int fd)
{
	struct renewed *one = arg;
	struct renewal *r = one->r;
	struct geo_set *gs = one->gs;

	(void)w;
	free(one);
	if (m->err != 0)
		settle(r, m->err < E_MAX_ ? (int)m->err : E_SYS, m->text);
	else if (take(gs, m, fd) != 0)
		settle(r, E_PROTO, "its image is damaged");
	else
		settle(r, 0, "");
}

static int
renew_one(struct renewal *r, struct geo_set *gs)
{
	struct renewed *one = calloc(1, sizeof *one);
	struct msg_compile q = question(gs, gs->path);
	int rc = one != NULL ? 0 : -E_NOMEM;

	if (rc == 0) {
		*one = (struct renewed){ r, gs };
		rc = priv_compile(r->g->w, &q, on_renewed, one);
	}
	if (rc != 0)
		free(one);
	else
		r->left++;
	return rc;
}

int
geo_db_renew(struct gen *g, uint32_t kind, geo_done_fn *done, void *arg)
{
	struct renewal *r = calloc(1, sizeof *r);
	int rc = r != NULL ? 0 : -E_NOMEM;

	if (rc != 0)
		return rc;
	*r = (struct renewal){ .g = g, .done = done, .arg = arg };
	for (size_t i = 0; i < g->geo_sets.cap; i++) {
		struct geo_set *gs = g->geo_sets.slots[i].key != NULL ? g->geo_sets.slots[i].value : NULL;

		if (gs == NULL || gs->set.kind != kind)
			continue;
		rc = renew_one(r, gs);
		if (rc != 0 && r->err == 0) {
			r->err = -rc;
			(void)str_copy(r->text, sizeof r->text, err_text(rc));
		}
	}
	if (r->left > 0)
		return 0;
	rc = r->err != 0 ? -r->err : -E_NOTFOUND;
	free(r);
	return rc;
}
