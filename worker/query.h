/* SPDX-License-Identifier: MIT */
#ifndef SLUICE_WORKER_QUERY_H
#define SLUICE_WORKER_QUERY_H

#include "common/peer.h"
#include "common/wire.h"
#include "worker/worker.h"

/* MSG_QUERY of a controller. */
int query_handle(struct peer *p, struct wire *b, const int *fds);
/* A controller went away: answers that are still being made have nowhere to go. */
void query_peer_gone(struct peer *p);

/* Answers: status 200 with data, or an error with a text. data is freed. */
void query_answer(struct peer *p, uint32_t id, struct wire *data);
void query_error(struct peer *p, uint32_t id, int status, const char *text);

/* show_proxies.c, show_providers.c, show_conns.c */
void show_proxy(struct outbound *ob, struct wire *out);		/* one object */
int show_providers(struct gen *g, bool all, const char *name, struct wire *out);	/* 0 or -E_NOTFOUND */
int show_proxies(struct gen *g, unsigned what, const char *name, struct wire *out);	/* PROXIES_*; 0 or -E_NOTFOUND */
void show_connections(struct worker *w, struct wire *out);
/* query_delay.c: asynchronous */
void query_delay(struct worker *w, struct peer *p, uint32_t id, struct wire *args, bool group);
void query_before_select(struct worker *w, struct peer *p, uint32_t id, struct wire *args);
void query_delay_peer_gone(struct peer *p);
/* query_providers.c: asynchronous; 0 or -E_PROTO */
int query_update_nodes(struct worker *w, struct peer *p, uint32_t id, struct wire *args);
int query_check_nodes(struct worker *w, struct peer *p, uint32_t id, struct wire *args);
int query_update_rules(struct worker *w, struct peer *p, uint32_t id, struct wire *args);
void query_update_geo(struct worker *w, struct peer *p, uint32_t id);
void query_providers_peer_gone(struct peer *p);
/* query_explain.c: asynchronous; 0 or -E_PROTO */
int query_explain(struct worker *w, struct peer *p, uint32_t id, struct wire *args);
void query_explain_peer_gone(struct peer *p);

#endif
