/* SPDX-License-Identifier: MIT */
/* Where the content of a provider comes from (spec/config.md 9 "Fetch"): a file, or a download that is kept in a file. Of
 * proxy-providers (nodes.c) and rule-providers (rule_sets.c).
 *
 * Every worker asks the supervisor for what a loader made of the file; the supervisor has it made once. The lead alone
 * updates: it downloads, has the content compiled, checked and then written, takes it, and tells the others, who then take the
 * same. What fails on the way changes nothing. Nothing here waits: a start and a reload use what is stored. */
#ifndef SLUICE_WORKER_SOURCE_H
#define SLUICE_WORKER_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/imsg_types.h"
#include "common/list.h"
#include "common/wire.h"
#include "worker/provider/config.h"
#include "worker/worker.h"

struct source;
struct userinfo;

struct source_type {
	enum change_kind change;	/* tells the other workers */
	const char *what;		/* "proxy provider" */
	/* Whether take would take what was compiled of a download, before that is written to the file; err and fd as there. NULL:
	 * what compiles is taken. */
	int (*check)(struct source *s, int fd, struct cfg_err *err);
	/* Takes what was compiled; m->err is 0, fd stays the caller's. 0, *changed tells whether anything is different now; or
	 * -E_* with err filled: all is as it was. */
	int (*take)(struct source *s, const struct msg_image *m, int fd, bool *changed, struct cfg_err *err);
	bool (*empty)(const struct source *s);	/* it never had a content */
	void (*changed)(struct source *s);	/* the lead: every worker has another content now */
};

enum { SOURCE_ETAG_MAX = 256, SOURCE_DATE_MAX = 64, SOURCE_WHY_MAX = 256 };
struct fetch;
struct source {
	struct list link;		/* of all, in file order */
	struct worker *w;
	const struct source_type *type;
	void *owner;			/* its provider */
	/* as configured, borrowed; "" */
	const char *name, *url, *path, *proxy;
	const struct cfg_node *item;
	enum vehicle vehicle;
	uint32_t kind, format;		/* of msg_compile */
	int64_t interval_s, size_limit;
	/* the provider's; NULL: it keeps none */
	int64_t *updated_ns;		/* Unix time, 0 = never */
	struct userinfo *info;
	/* while CONFIGURING */
	struct msg_image answer;
	int fd;
	/* what was last taken: the file's time, the image's inode */
	int64_t file_ns;
	uint64_t image;
	char why[SOURCE_WHY_MAX];	/* the last update failed; "" = it did not */
	/* the lead */
	int step;
	struct fetch *fetch;
	int content;			/* while CHECKING: a sealed memfd */
	char etag[SOURCE_ETAG_MAX], modified[SOURCE_DATE_MAX];		/* of the content that serves */
	char new_etag[SOURCE_ETAG_MAX], new_modified[SOURCE_DATE_MAX];	/* of what is being compiled */
	bool changed;
	unsigned failures;		/* in a row */
	uint64_t next_ms;		/* loop time; 0 = never */
	struct list waiters;
	int n_waiters;
};

/* While CONFIGURING: enters s, filled as configured, and asks for what its file holds; then, when all have been entered, waits
 * and takes it: 0, or -E_* after a log line of the lead. */
void source_ask(struct source *s);
int source_take_first(struct source *s);
/* source_store.c: STATE_NODES, what is known of downloads. */
void sources_store(struct worker *w);
void sources_restore(struct worker *w, struct wire *in);
struct list *sources_all(void);
struct source *source_find(uint32_t change, const char *name);	/* NULL */

/* This worker begins to serve, or to drain. */
void sources_start(struct worker *w);
void sources_stop(struct worker *w);
/* The lead: now; done is called once, later or from inside: status 204, or 503 with the reason (lent). */
typedef void source_done_fn(void *arg, int status, const char *text);
void source_update(struct source *s, source_done_fn *done, void *arg);
/* CHANGE_NODES, CHANGE_RULE_SET. True when the acknowledgement of seq comes later. */
bool sources_renew(struct worker *w, const struct msg_change *m, struct wire *in, int *status, const char **text);

#endif
