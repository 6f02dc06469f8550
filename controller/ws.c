/* SPDX-License-Identifier: MIT */
/* WebSocket: handshake and framing. Called by stream.c; owns one wslay context a client. Outbound text frames are made once and
 * shared by all clients of a tick, so they do not pass through the client's context; control frames do, and go between whole
 * frames. */
#include "controller/ws.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#include "common/err.h"
#include "common/strutil.h"
#include "controller/router.h"

struct ws {
	wslay_event_context_ptr ctx;
	ws_out_cb *out;
	void *arg;
	const uint8_t *in;		/* lent during ws_input() */
	size_t left;
	bool heard;
};

/* RFC 6455 4.2.2 item 5.4 */
static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

static int
accept_value(const char *key, char accept[static WS_ACCEPT_MAX])
{
	unsigned char text[24 + sizeof(guid)], digest[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	memcpy(text, key, 24);
	memcpy(text + 24, guid, sizeof(guid));
	if (EVP_Digest(text, 24 + sizeof(guid) - 1, digest, &n, EVP_sha1(), NULL) != 1)
		return 500;
	base64_encode(accept, WS_ACCEPT_MAX, digest, n);
	return 0;
}

/* RFC 6455 4.2.1, in the reference's order and with its texts. */
int
ws_handshake(const struct http_req *r, char accept[static WS_ACCEPT_MAX], const char **why)
{
	const char *key = http_get(r, "Sec-WebSocket-Key");
	const char *version = http_get(r, "Sec-WebSocket-Version");

	*why = "handshake error: bad HTTP request method";
	if (strcmp(r->method, "GET") != 0)
		return 405;
	*why = "handshake error: bad HTTP protocol version";
	if (r->minor < 1)
		return 505;
	*why = "handshake error: bad \"Host\" header";
	if (r->host[0] == '\0')
		return 400;
	*why = "handshake error: bad \"Upgrade\" header";
	if (!router_is_websocket(r))
		return 400;
	*why = "handshake error: bad \"Connection\" header";
	if (!http_token(http_get(r, "Connection"), "upgrade"))
		return 400;
	*why = "handshake error: bad \"Sec-WebSocket-Key\" header";
	if (key == NULL || strlen(key) != 24)
		return 400;
	*why = "handshake error: bad \"Sec-WebSocket-Version\" header";
	if (version == NULL || version[0] == '\0')
		return 400;
	if (strcmp(version, "13") != 0)
		return 426;
	*why = "handshake error: internal error";
	return accept_value(key, accept);
}

static ssize_t
on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg)
{
	struct ws *ws = arg;
	size_t n = len < ws->left ? len : ws->left;

	(void)flags;
	if (n == 0) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	memcpy(buf, ws->in, n);
	ws->in += n;
	ws->left -= n;
	return (ssize_t)n;
}

static ssize_t
on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags, void *arg)
{
	struct ws *ws = arg;

	(void)ctx;
	(void)flags;
	ws->out(ws->arg, data, len);
	return (ssize_t)len;
}

struct ws *
ws_new(ws_out_cb *out, void *arg)
{
	static const struct wslay_event_callbacks callbacks = { .recv_callback = on_recv, .send_callback = on_send };
	struct ws *ws = calloc(1, sizeof(*ws));

	if (ws == NULL)
		return NULL;
	ws->out = out;
	ws->arg = arg;
	ws->heard = true;
	if (wslay_event_context_server_init(&ws->ctx, &callbacks, ws) != 0) {
		free(ws);
		return NULL;
	}
	wslay_event_config_set_max_recv_msg_length(ws->ctx, WS_IN_MAX);
	return ws;
}

void
ws_free(struct ws *ws)
{
	if (ws == NULL)
		return;
	wslay_event_context_free(ws->ctx);
	free(ws);
}

static int
flush(struct ws *ws)
{
	while (wslay_event_want_write(ws->ctx))
		if (wslay_event_send(ws->ctx) != 0)
			return -E_EOF;
	return wslay_event_want_read(ws->ctx) ? 0 : -E_EOF;
}

int
ws_input(struct ws *ws, const void *p, size_t n)
{
	int r;

	ws->in = p;
	ws->left = n;
	ws->heard = true;
	r = wslay_event_recv(ws->ctx);
	ws->left = 0;
	return flush(ws) != 0 || r != 0 ? -E_EOF : 0;
}

void
ws_ping(struct ws *ws)
{
	const struct wslay_event_msg ping = { .opcode = WSLAY_PING };

	if (wslay_event_queue_msg(ws->ctx, &ping) == 0)
		(void)flush(ws);
}

void
ws_close(struct ws *ws, uint16_t code)
{
	if (wslay_event_queue_close(ws->ctx, code, NULL, 0) == 0)
		(void)flush(ws);
}

bool
ws_heard(struct ws *ws)
{
	bool heard = ws->heard;

	ws->heard = false;
	return heard;
}

struct frame {
	char *p;
	size_t len, cap;
};

static ssize_t
on_frame(const uint8_t *data, size_t len, int flags, void *arg)
{
	struct frame *f = arg;

	(void)flags;
	if (len > f->cap - f->len)
		return -1;
	memcpy(f->p + f->len, data, len);
	f->len += len;
	return (ssize_t)len;
}

char *
ws_text(const char *p, size_t n, size_t *len)
{
	static const struct wslay_frame_callbacks callbacks = { .send_callback = on_frame };
	struct frame f = { .cap = n + 16 };	/* a header is at most 14 bytes (RFC 6455 5.2) */
	struct wslay_frame_iocb io = { .fin = 1, .opcode = WSLAY_TEXT_FRAME, .payload_length = n };
	wslay_frame_context_ptr ctx;
	size_t done = 0;

	f.p = malloc(f.cap);
	if (f.p == NULL || wslay_frame_context_init(&ctx, &callbacks, &f) != 0) {
		free(f.p);
		return NULL;
	}
	do {
		ssize_t r;
		io.data = (const uint8_t *)p + done;
		io.data_length = n - done;
		r = wslay_frame_send(ctx, &io);
		if (r < 0 || (r == 0 && done < n)) {
			free(f.p);
			f.p = NULL;
			break;
		}
		done += (size_t)r;
	} while (done < n);
	wslay_frame_context_free(ctx);
	*len = f.len;
	return f.p;
}
