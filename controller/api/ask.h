/* SPDX-License-Identifier: MIT */
/* What endpoints share: asking the lead, the workers or the supervisor, and making an answer of what came. Short calls block in
 * ask_*() on a civetweb thread; API_ASYNC calls make a struct ask, start it and return API_PARKED:
 *
 *   struct ask *a = ask_new(req);
 *   wire_put_str(&a->args, name);
 *   return ask_query(req, a, QUERY_DNS, 6000, ask_end_value);   // takes a and its args, whatever it returns
 *
 * Where none of the ready-made ends fits:
 *
 *   static void on_dns(struct ctl *ctl, int err, struct bridge_reply *r, void *arg) {
 *       struct api_req *req = ask_take(ctl, arg);               // frees the struct ask
 *       if (req != NULL) { answer_value(req, err, r, "", ""); api_done(ctl, req); }
 *   } */
#ifndef SLUICE_CONTROLLER_API_ASK_H
#define SLUICE_CONTROLLER_API_ASK_H

#include <stdint.h>

#include "common/wire.h"
#include "controller/api.h"
#include "controller/bridge.h"

enum {
	ASK_MS = 2000,			/* short calls: longer than the 1 s after which a silent worker is replaced */
	ASK_CHANGE_MS = 10000,		/* a change that may open listeners */
	ASK_RELOAD_MS = 60000,		/* a generation */
	ASK_NAME_MAX = 1024		/* longest name of a proxy, group or provider that is asked for */
};

#define DATA_PLANE_LATE "the data plane did not answer in time"

/* ---- short calls, civetweb threads only. args, payload: taken and freed. The result is bridge_call()'s; -E_NOMEM when args
 * failed. out is to be freed by bridge_free() whatever is returned. */
int ask_workers(struct api_req *req, enum bridge_to to, uint32_t kind, struct wire *args, struct bridge_reply *out);
int ask_supervisor(struct api_req *req, uint16_t type, const void *body, size_t len, int fd, struct bridge_reply *out);
int ask_change(struct api_req *req, uint32_t kind, struct wire *payload, struct bridge_reply *out);

/* ---- parked calls, loop only */
struct ask {
	uint64_t parked;
	struct ctl *ctl;
	struct wire args;		/* of the question being made */
	int status;			/* 0, or what to answer once it is known that the name exists */
	const char *message;		/* beside status; static text */
	unsigned timeout_ms;		/* of a delay test */
	char name[ASK_NAME_MAX], member[ASK_NAME_MAX];
	char url[4096], expected[256];
};
struct ask *ask_new(struct api_req *req);	/* NULL when memory ran out */
void ask_free(struct ask *a);			/* of one that was not started */
/* First question of a request: API_PARKED, or the status of the error that was put into req (a is then gone). a may be NULL. */
int ask_query(struct api_req *req, struct ask *a, uint32_t kind, unsigned ms, bridge_cb *done);
/* The same to the supervisor: args is the whole body, fd is taken. */
int ask_order(struct api_req *req, struct ask *a, uint16_t type, int fd, unsigned ms, bridge_cb *done);
/* A further question of the same request, from within a bridge_cb; ends the request with an error when it cannot be asked. */
void ask_again(struct ask *a, uint32_t kind, unsigned ms, bridge_cb *done);
void ask_order_again(struct ask *a, uint16_t type, unsigned ms, bridge_cb *done);	/* of the supervisor */
struct api_req *ask_take(struct ctl *ctl, void *ask);	/* NULL: the client is gone; frees ask */
/* Ends the request with {"message":text}. */
void ask_end(struct ask *a, int status, const char *text);
/* Ends for ask_query(): the value, or an empty 204, or the error. For ask_order(): an empty 204, or {"status":"ok"}, or what the
 * MSG_RESULT says. */
bridge_cb ask_end_value, ask_end_empty, ask_end_result, ask_end_ok;

/* ---- answers */
/* Status of the first answer of a question to workers: 200.. as given, 503 when none came. */
int answer_status(int err, const struct bridge_reply *r);
/* Renders the first answer's value between two texts, or its error. */
int answer_value(struct api_req *req, int err, const struct bridge_reply *r, const char *before, const char *after);
/* The error that the first answer, or its absence, stands for. */
int answer_error(struct api_req *req, int err, const struct bridge_reply *r);
/* A MSG_RESULT: an empty answer of status good when it says 2xx, else its message with line, column and key. */
int answer_result(struct api_req *req, int err, const struct bridge_reply *r, int good);
int result_status(int err, const struct bridge_reply *r);	/* of a MSG_RESULT; 503 when none came */
/* For a body of a MSG_CHANGE: the struct, to be followed by the payload. */
void change_begin(struct wire *w, uint32_t kind);
/* The text of member key of a value map, at most cap; false when it is not there. */
bool answer_member(const struct bridge_reply *r, const char *key, char *out, size_t cap);

#endif
