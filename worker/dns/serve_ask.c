/* SPDX-License-Identifier: MIT */
/* Questions that reach the DNS server on other ways than dns.listen: of external-doh-server, of outbounds of type dns. The lead
 * answers them as a client's; another worker sends them to the lead. Owns the questions that are there. */
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "worker/dns/internal.h"
#include "worker/dns/link.h"
#include "worker/dns/reply.h"
#include "worker/dns/serve.h"
#include "worker/dns/serve_impl.h"

/* Whoever asked within the process hears of an error, beside the SERVFAIL that a client gets. */
void
serve_tell(struct query *q, int n)
{
	dns_serve_cb *cb = q->cb;
	struct serve *s = q->s;
	void *arg = q->arg;
	int err = n > 0 ? 0 : n < 0 ? -n : E_PROTO;

	if (n < 0)
		n = dns_reply_empty(&q->q, serve_room(s), serve_limit(q), DNS_R_SERVFAIL);
	serve_query_free(q);
	s->answered++;
	cb(arg, err, serve_room(s), n > 0 ? (size_t)n : 0);
}

int
serve_ask_here(struct gen *g, const uint8_t *p, size_t n, bool udp, dns_serve_cb *cb, void *arg)
{
	struct serve *s = g->resolver != NULL && g->resolver->conf.enable ? serve_get(g) : NULL;
	struct query *q;

	if (s == NULL)
		return -E_UNSUP;
	q = n <= QUESTION_MAX ? serve_query_new(s, NULL) : NULL;
	if (q == NULL)
		return -E_LIMIT;
	q->tcp = !udp;
	q->cb = cb;
	q->arg = arg;
	serve_query_run(q, p, n);
	return 0;
}

struct forward {		/* a question at the lead; at most DNS_SERVE_QUESTIONS_MAX */
	struct link_ask ask;
	struct gen *g;
	dns_serve_cb *cb;
	void *arg;
	bool udp;
	size_t n;
	uint8_t question[];
};
static unsigned n_forwards;

static void
on_forwarded(void *arg, int err, const uint8_t *msg, size_t n, bool keep)
{
	struct forward *f = arg;
	int rc;

	(void)keep;
	n_forwards--;
	if (err != -E_AGAIN) {
		f->cb(f->arg, err, msg, n);
	} else {
		rc = serve_ask_here(f->g, f->question, f->n, f->udp, f->cb, f->arg);
		if (rc != 0)
			f->cb(f->arg, -rc, NULL, 0);
	}
	free(f);
}

int
dns_serve_ask(struct gen *g, const uint8_t *p, size_t n, bool udp, dns_serve_cb *cb, void *arg)
{
	struct forward *f;

	if (g->resolver == NULL || !g->resolver->conf.enable || !link_asks(g->resolver))
		return serve_ask_here(g, p, n, udp, cb, arg);
	f = n <= QUESTION_MAX && n_forwards < DNS_SERVE_QUESTIONS_MAX ? malloc(sizeof(*f) + n) : NULL;
	if (f == NULL)
		return -E_LIMIT;
	*f = (struct forward){ .g = g, .cb = cb, .arg = arg, .udp = udp, .n = n };
	memcpy(f->question, p, n);
	n_forwards++;
	link_serve(g->resolver, &f->ask, f->question, n, udp, on_forwarded, f);
	return 0;
}
