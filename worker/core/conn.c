/* SPDX-License-Identifier: MIT */
/* The record of one connection: made for the inbounds, closed by anybody, shown by the API. Owns the record, its strings, its
 * two streams and what it holds of a handshake. Closing is in one place, with a reason, and frees at the end of the turn. */
#include "worker/core/conn.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/strutil.h"

static struct {			/* typed pool, at most CONN_FREE_MAX; one per process as those of loop/pool.h */
	struct conn *head;	/* linked by link.next */
	int n;
} spare;

const char *
close_reason_name(enum close_reason r)
{
	static const char *const names[CLOSE_REASONS_] = {
		[BY_EOF] = "end of data", [BY_CLIENT] = "client", [BY_REMOTE] = "remote", [BY_ERROR] = "error", [BY_API] = "API",
		[BY_IDLE] = "idle", [BY_TIMEOUT] = "time-out", [BY_RULE] = "rule", [BY_LIMIT] = "limit", [BY_STOP] = "stop",
		[BY_HANDOFF] = "handed over",
	};

	return (unsigned)r < CLOSE_REASONS_ ? names[r] : "unknown";
}

static struct conn *
record_get(void)
{
	struct conn *c = spare.head;

	if (c == NULL)
		return mem_got(malloc(sizeof(*c)));
	spare.head = c->link.next == NULL ? NULL : container_of(c->link.next, struct conn, link);
	spare.n--;
	return c;
}

static void
record_put(struct conn *c)
{
	if (spare.n >= CONN_FREE_MAX) {
		mem_free(c);
		return;
	}
	c->link.next = spare.head == NULL ? NULL : &spare.head->link;
	spare.head = c;
	spare.n++;
}

static void
labels_free(struct conn_labels *l)
{
	if (l == NULL)
		return;
	for (int i = 0; i < l->n; i++)
		free(l->chain[i]);
	for (size_t i = 0; i < countof(l->meta); i++)
		free(l->meta[i]);
	free(l->rule_type);
	free(l->rule_payload);
	mem_free(l);
}

static void
on_free(struct loop_task *t)
{
	struct conn *c = container_of(t, struct conn, task);

	while (c->early != NULL) {
		struct buf *b = c->early;

		c->early = b->next;
		buf_put(b);
	}
	free(c->host);
	free(c->user);
	free(c->process);
	labels_free(c->labels);
	record_put(c);
}

static void
count_open(struct conn *c, int by)
{
	struct shm_stat *st = c->w->stat;
	_Atomic uint32_t *n;

	c->w->n_conns += (uint32_t)by;
	if (st == NULL)
		return;
	n = c->meta.network == NET_UDP ? &st->open_udp : &st->open_tcp;
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + (uint32_t)by, memory_order_relaxed);
}

static bool
memory_short(const struct worker *w)
{
	return w->memory_limit != 0 && mem_in_use() >= w->memory_limit / 10 * 9;
}

static void
shed(struct worker *w, const struct conn_from *from, const char *why)
{
	static uint64_t told_ms;	/* one line a second and process */
	char ip[ADDR_TEXT_MAX];

	if (w->stat != NULL) {
		stat_add(&w->stat->shed, 1);
		stat_add(&w->stat->shed_memory, memory_short(w));
	}
	if (told_ms != 0 && w->loop.now_ms - told_ms < 1000)
		return;
	told_ms = w->loop.now_ms;
	log_warn("connection from %s refused: %s (%u open, limit %u)",
	    ip_text(&from->src_ip, ip), why, w->n_conns, w->conn_limit);
}

static const char *
or_empty(const char *s)
{
	return s != NULL ? s : "";
}

static void
meta_from(struct meta *m, const struct conn_from *from)
{
	meta_init(m);
	m->src_ip = from->src_ip;
	m->src_port = from->src_port;
	m->in_ip = from->in_ip;
	m->in_port = from->in_port;
	m->in_name = or_empty(from->in_name);
	m->special_proxy = or_empty(from->special_proxy);
	m->special_rules = or_empty(from->special_rules);
}

static struct conn *
record_new(struct worker *w, const struct conn_from *from, enum network network)
{
	struct conn *c = record_get();

	if (c == NULL)
		return NULL;
	*c = (struct conn){ .w = w, .inbound = from->inbound, .state = CONN_HANDSHAKE, .remote_host = "" };
	meta_from(&c->meta, from);
	c->meta.network = (uint8_t)network;
	uuid_make(c->id);
	c->start_ns = loop_wall_ns();
	c->active_ms = w->loop.now_ms;
	c->deadline_ms = w->loop.now_ms + HANDSHAKE_TIMEOUT_MS;
	loop_task_init(&c->task, on_free);
	list_append(&w->conns, &c->link);
	count_open(c, 1);
	conns_wake(w);
	return c;
}

struct conn *
conn_record(struct worker *w, const struct conn_from *from, enum network network)
{
	bool little = memory_short(w), many = w->n_conns >= w->conn_limit;
	struct conn *c = little || many ? NULL : record_new(w, from, network);

	if (c == NULL)
		shed(w, from, little ? "sluice.worker-memory-limit is nearly reached" : many ? "too many connections" : err_text(E_NOMEM));
	return c;
}

struct conn *
conn_record_moved(struct worker *w, enum network network)
{
	static const struct conn_from nowhere;

	return record_new(w, &nowhere, network);
}

struct conn *
conn_new(struct worker *w, const struct conn_from *from, struct stream *in)
{
	struct conn *c = conn_record(w, from, NET_TCP);

	if (c == NULL) {
		stream_close(in, CLOSE_RESET);
		return NULL;
	}
	c->in = in;
	if (w->stat != NULL)
		stat_add(&w->stat->accepted, 1);
	return c;
}

int
conn_set_host(struct conn *c, const char *host, size_t n)
{
	char text[HOST_MAX + 2], *copy;
	struct ip ip;

	if (n > 0 && n <= HOST_MAX + 1 && host[n - 1] == '.')
		n--;
	if (n == 0 || n > HOST_MAX || memchr(host, '\0', n) != NULL)
		return -E_INVAL;
	memcpy(text, host, n);
	text[n] = '\0';
	if (ip_parse(&ip, text) == 0) {
		c->meta.dst_ip = ip;
		c->meta.host = "";
		return 0;
	}
	str_lower(text);
	copy = strdup(text);
	if (copy == NULL)
		return -E_NOMEM;
	free(c->host);
	c->host = copy;
	c->meta.host = copy;
	return 0;
}

int
conn_set_user(struct conn *c, const char *user)
{
	char *copy = strdup(user);

	if (copy == NULL)
		return -E_NOMEM;
	free(c->user);
	c->user = copy;
	c->meta.in_user = copy;
	return 0;
}

void
conn_set_process(struct conn *c, uint32_t uid, const char *path)
{
	char *copy = path[0] != '\0' ? strdup(path) : NULL, *slash;

	c->meta.uid = uid;
	if (copy == NULL)
		return;
	for (char *s = copy; *s != '\0';) {
		size_t n = utf8_length(s, strlen(s));

		if (n == 0)
			*s = '?';
		s += n > 0 ? n : 1;
	}
	free(c->process);
	c->process = copy;
	slash = strrchr(copy, '/');
	c->meta.process_path = copy;
	c->meta.process = slash != NULL ? slash + 1 : copy;
}

int
conn_early(struct conn *c, const void *p, size_t n)
{
	struct buf *b = c->early;

	if (n == 0)
		return 0;
	if (b == NULL)
		b = buf_get();
	if (b == NULL)
		return -E_NOMEM;
	c->early = b;
	if (n > BUF_SIZE - b->len)
		return -E_LIMIT;
	memcpy(b->data + b->len, p, n);
	b->len += (uint32_t)n;
	return 0;
}

/* A relay that broke tells both ends so; what ends in order, or by our decision, ends in order. */
static enum stream_close_how
how_to_close(int state, enum close_reason why)
{
	if (why == BY_LIMIT || why == BY_HANDOFF)	/* handed over: no socket is left that could be reset or waited for */
		return CLOSE_RESET;
	return state == CONN_RELAY && (why == BY_CLIENT || why == BY_REMOTE || why == BY_ERROR) ? CLOSE_RESET : CLOSE_FLUSH;
}

void
conn_close(struct conn *c, enum close_reason why)
{
	enum stream_close_how how = how_to_close(c->state, why);

	if (c->state == CONN_CLOSED)
		return;
	c->state = CONN_CLOSED;
	c->listed = false;
	if (log_enabled(LL_DEBUG)) {
		char id[37];

		uuid_text(id, c->id);
		log_debug("connection %s closed: %s", id, close_reason_name(why));
	}
	if (c->routing != NULL)
		route_cancel(c);
	relay_stop(c);
	stream_close(c->in, how);
	stream_close(c->out, how);
	c->in = c->out = NULL;
	if (c->hs != NULL && c->hs_free != NULL)
		c->hs_free(c);
	c->hs = NULL;
	if (c->udp != NULL)
		udp_session_close(c);
	list_remove(&c->link);
	count_open(c, -1);
	loop_bury(&c->w->loop, &c->task);
}

const char *
conn_chain_name(const struct conn *c, int i)
{
	if (c->labels != NULL)
		return i >= 0 && i < c->labels->n ? c->labels->chain[i] : NULL;
	return i >= 0 && i < c->chain.n ? c->chain.ob[i]->name : NULL;
}

const char *
conn_rule_type(const struct conn *c)
{
	if (c->labels != NULL)
		return or_empty(c->labels->rule_type);
	return c->rule != NULL ? c->rule->type->api_name : "";
}

const char *
conn_rule_payload(const struct conn *c)
{
	if (c->labels != NULL)
		return or_empty(c->labels->rule_payload);
	return c->rule != NULL ? c->rule->payload : "";
}
