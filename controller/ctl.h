/* SPDX-License-Identifier: MIT */
/* The controller process: its parts and what of the configuration it uses. One instance; owned by main.c. Fields marked L
 * belong to the loop's thread; conf is replaced as a whole on SIGHUP and read by civetweb threads through
 * ctl_conf()/ctl_conf_put(). */
#ifndef SLUICE_CONTROLLER_CTL_H
#define SLUICE_CONTROLLER_CTL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/config_tree.h"
#include "common/ev.h"
#include "common/imsg_types.h"

enum { CTL_ORIGINS_MAX = 64 };

struct ctl_conf {		/* immutable once made; reference counted */
	atomic_int refs;
	char secret[256];	/* "" = open */
	bool private_network;	/* external-controller-cors.allow-private-network */
	char *origins[CTL_ORIGINS_MAX];	/* external-controller-cors.allow-origins as written */
	int norigins;
	bool any_origin;	/* the list is empty or holds "*" */
	bool origins_written;	/* the user wrote a list */
	bool allow_open;	/* sluice.allow-open-controller */
	bool ui;		/* external-ui is set */
	bool debug;		/* log-level was debug: /debug is there */
	char home[1024];
	char tcp[256], tls[256], unix_path[256];	/* listen addresses, "" = none */
	unsigned unix_mode;	/* sluice.controller.unix-mode, default 0660 */
	char doh[256];		/* external-doh-server: a path, "" = none */
	const char *cert, *key;	/* tls.certificate, tls.private-key: PEM text or path; malloc'ed, NULL = none */
};

struct front;			/* front.c: listeners, clients */
struct feed;			/* feed.c: civetweb and its socketpairs */
struct bridge;			/* bridge.c */
struct streams;			/* stream.c: /traffic /memory /logs /connections */
struct life;			/* life.c: what the supervisor orders: configuration, ready, serve, stop */

struct ctl {
	struct ev_loop *loop;	/* L */
	struct front *front;	/* L */
	struct feed *feed;
	struct bridge *bridge;
	struct streams *streams;	/* L */
	struct life *life;		/* L */
	pthread_mutex_t conf_lock;	/* guards conf's pointer against the last put */
	_Atomic(struct ctl_conf *) conf;
	bool test;		/* -t: check the configuration only */
	struct msg_note note;	/* under conf_lock: what /version says beside the version */
};

/* Makes the controller's part of a configuration; 0 or -E_INVAL with err filled (config.c). The closed defaults of design 6
 * are checked here: no secret on an address that is not loopback is refused unless allow_open. */
int ctl_conf_parse(struct ctl_conf **out, const struct tree *tree, const struct msg_ctl_config *over, struct cfg_err *err);
struct ctl_conf *ctl_conf(struct ctl *ctl);	/* adds a reference */
void ctl_conf_put(struct ctl_conf *c);
void ctl_note(struct ctl *ctl, const struct msg_note *note);
void ctl_note_get(struct ctl *ctl, struct msg_note *out);	/* any thread */
void ctl_conf_swap(struct ctl *ctl, struct ctl_conf *next);	/* loop only; takes next, puts the old one */

#endif
