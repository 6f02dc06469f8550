/* SPDX-License-Identifier: MIT */
/* From a request's head to the decision what is to be done with it, without I/O: paths, authentication, CORS, and the checks of
 * Host and Origin that keep web pages away from a controller without a secret. Called by front.c. spec/api.md 1.2-1.5, 6.2. */
#ifndef SLUICE_CONTROLLER_ROUTER_H
#define SLUICE_CONTROLLER_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

#include "controller/api.h"
#include "controller/http.h"

struct ctl_conf;

enum { ROUTER_ALLOW_MAX = 256, ROUTER_CORS_MAX = 2048 };

struct router_peer {
	bool local;			/* came by the Unix socket: no secret, no Host check */
	bool loopback;			/* from an address of this host */
	bool tls;
};

struct router_hit {
	const struct api_route *route;	/* of status 0 */
	bool guarded;			/* the path is, or lies below, something that needs the secret */
	bool exact;			/* 405 of a simple route: said before authentication */
	char allow[ROUTER_ALLOW_MAX];	/* 405: whole "Allow: X" lines */
	char *text;			/* owns what param[] points into */
	const char *param[API_PARAMS_MAX];
};
void router_hit_free(struct router_hit *hit);

/* Finds the route; 0, 404, 405 or 500 (out of memory). A pattern's segment is text, {name} (never empty) or a last "*" (the
 * rest of the path, maybe empty). Text beats {name} beats "*". A pattern without API_EXACT matches with one more slash at its
 * end too. */
int router_match(const struct api_route *table, const char *method, const char *path, bool debug, struct router_hit *hit);

/* The whole decision: 0 = run hit->route, 200 = a CORS preflight, else the status to refuse with (401 403 404 405 500). */
int router_decide(const struct api_route *table, const struct ctl_conf *conf, const struct http_req *r, const struct router_peer *peer,
    struct router_hit *hit);
bool router_auth(const struct ctl_conf *conf, const struct http_req *r, bool debug);
/* Writes the header lines of CORS for a preflight or a real request; out holds ROUTER_CORS_MAX bytes. */
void router_cors(const struct ctl_conf *conf, const struct http_req *r, const struct router_peer *peer, bool preflight, char *out);
bool router_is_websocket(const struct http_req *r);

#endif
