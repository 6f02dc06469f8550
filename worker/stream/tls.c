/* SPDX-License-Identifier: MIT */
/* TLS 1.2 and 1.3 (RFC 8446) over any stream, by OpenSSL. Used by outbounds and transports as client, by inbounds as server.
 * Owns its SSL object and, only while the lower layer does not take it, sealed bytes that are not out yet: one record, or a
 * handshake flight. Bytes pass by a BIO that reads and writes the lower stream. Contexts are shared: one that checks
 * certificates, one that does not. */
#include "worker/stream/stream.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/strutil.h"
#include "worker/loop/pool.h"

enum {
	RECORD_MAX = 16384,		/* RFC 8446, section 5.1 */
	PENDING_MAX = 131072,		/* sealed and unsent: a handshake flight with long certificate chains */
	ALPN_MAX = 256,
	SESSION_BYTES = 16384		/* what OpenSSL holds for a session with released buffers, about; for the memory limit */
};

struct tls {
	struct stream s;
	SSL *ssl;
	uint8_t *out;			/* sealed, unsent: [off, len) of cap */
	size_t off, len, cap;
	bool server, shaken, closing;	/* handshake done; close_notify sealed */
	int lower_err;			/* positive: what the lower layer said last */
	bool pinned;
	uint8_t pin[32];		/* SHA-256 of the certificate */
};

static struct {			/* process-wide, made on first use */
	char *pem;			/* of the authorities; freed when parsed */
	size_t n;
	SSL_CTX *strict, *lax;
	BIO_METHOD *bio;
} shared;

static struct tls *
tls_of(struct stream *s)
{
	return container_of(s, struct tls, s);
}

/* ---- the bytes below */

/* Sends what is sealed. 0, -E_AGAIN, -E_*. */
static int
push(struct tls *t)
{
	while (t->off < t->len) {
		ssize_t n = stream_write(t->s.lower, t->out + t->off, t->len - t->off);

		if (n == -E_AGAIN)
			return -E_AGAIN;
		if (n < 0) {
			t->lower_err = (int)-n;
			return (int)n;
		}
		t->off += (size_t)n;
	}
	free(t->out);
	t->out = NULL;
	t->off = t->len = t->cap = 0;
	return 0;
}

static int
hold(struct tls *t, const char *p, size_t n)
{
	uint8_t *grown;
	size_t cap = t->len + n;

	if (cap > PENDING_MAX)
		return -E_LIMIT;
	if (cap > t->cap) {
		grown = realloc(t->out, cap);
		if (grown == NULL)
			return -E_NOMEM;
		t->out = grown;
		t->cap = cap;
	}
	memcpy(t->out + t->len, p, n);
	t->len += n;
	return 0;
}

static int
on_bio_write(BIO *b, const char *p, int n)
{
	struct tls *t = BIO_get_data(b);
	ssize_t sent = 0;
	int r;

	BIO_clear_retry_flags(b);
	if (n <= 0)
		return 0;
	if (t->len == 0) {
		sent = stream_write(t->s.lower, p, (size_t)n);
		if (sent == -E_AGAIN)
			sent = 0;
		if (sent < 0) {
			t->lower_err = (int)-sent;
			return -1;
		}
	}
	if (sent < n) {
		r = hold(t, p + sent, (size_t)(n - sent));
		if (r != 0) {
			t->lower_err = -r;
			return -1;
		}
	}
	return n;
}

static int
on_bio_read(BIO *b, char *p, int n)
{
	struct tls *t = BIO_get_data(b);
	ssize_t r;

	BIO_clear_retry_flags(b);
	if (n <= 0)
		return 0;
	r = stream_read(t->s.lower, p, (size_t)n);
	if (r == -E_AGAIN) {
		BIO_set_retry_read(b);
		return -1;
	}
	if (r < 0) {
		t->lower_err = (int)-r;
		return -1;
	}
	return (int)r;
}

static long
on_bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	const struct tls *t = BIO_get_data(b);

	(void)num;
	(void)ptr;
	if (cmd == BIO_CTRL_EOF)
		return t != NULL && (t->s.lower->state & ST_EOF) != 0;
	return cmd == BIO_CTRL_FLUSH;
}

static BIO *
bio_make(struct tls *t)
{
	BIO *b;

	if (shared.bio == NULL) {
		shared.bio = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
		if (shared.bio == NULL)
			return NULL;
		BIO_meth_set_write(shared.bio, on_bio_write);
		BIO_meth_set_read(shared.bio, on_bio_read);
		BIO_meth_set_ctrl(shared.bio, on_bio_ctrl);
	}
	b = BIO_new(shared.bio);
	if (b != NULL) {
		BIO_set_data(b, t);
		BIO_set_init(b, 1);
	}
	return b;
}

/* ---- contexts */

static int
load_authorities(SSL_CTX *ctx)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	BIO *b = shared.pem == NULL ? NULL : BIO_new_mem_buf(shared.pem, (int)shared.n);
	X509 *x;
	int count = 0;

	if (shared.pem == NULL)
		return 0;
	if (b == NULL)
		return -E_NOMEM;
	while ((x = PEM_read_bio_X509(b, NULL, NULL, NULL)) != NULL) {
		count += X509_STORE_add_cert(store, x) == 1;
		X509_free(x);
	}
	ERR_clear_error();	/* the end of the list is one */
	BIO_free(b);
	free(shared.pem);
	shared.pem = NULL;
	return count > 0 ? 0 : -E_TLS;
}

static void
context_common(SSL_CTX *ctx)
{
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* many servers end without close_notify (RFC 8446, section 6.1, wants one): that is an end of file to the relay */
	SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_read_ahead(ctx, 1);
}

static SSL_CTX *
client_context(bool strict)
{
	SSL_CTX **at = strict ? &shared.strict : &shared.lax;
	SSL_CTX *ctx = *at;

	if (ctx != NULL)
		return ctx;
	ctx = SSL_CTX_new(TLS_client_method());
	if (ctx == NULL)
		return NULL;
	context_common(ctx);
	SSL_CTX_set_verify(ctx, strict ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	if (strict)
		(void)load_authorities(ctx);	/* without any every check fails, and says why */
	*at = ctx;
	return ctx;
}

int
tls_add_authority(const char *pem)
{
	BIO *b = BIO_new_mem_buf(pem, -1);
	X509 *x = b != NULL ? PEM_read_bio_X509(b, NULL, NULL, NULL) : NULL;
	size_t n = strlen(pem), old = shared.pem != NULL ? shared.n : 0;
	char *more;

	BIO_free(b);
	ERR_clear_error();
	if (x == NULL)
		return -E_INVAL;
	X509_free(x);
	more = realloc(shared.pem, old + n + 1);
	if (more == NULL)
		return -E_NOMEM;
	more[old] = '\n'; /* what is before may not end a line */
	memcpy(more + old + 1, pem, n);
	shared.pem = more;
	shared.n = old + n + 1;
	return shared.strict != NULL ? load_authorities(shared.strict) : 0;
}

int
tls_setup(const char *ca_pem, size_t n)
{
	if (ca_pem == NULL || n == 0)
		return 0;
	free(shared.pem);
	shared.pem = malloc(n);
	if (shared.pem == NULL)
		return -E_TLS;
	memcpy(shared.pem, ca_pem, n);
	shared.n = n;
	if (shared.strict != NULL)		/* used before: add to it now */
		return load_authorities(shared.strict);
	return 0;
}

/* ---- handshake */

static void
fail_tls(struct tls *t, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	long verify = SSL_get_verify_result(t->ssl);
	const char *reason = e != 0 ? ERR_reason_error_string(e) : NULL;

	if (t->lower_err != 0)
		stream_fail(&t->s, t->lower_err, 0, "tls: %s: %s", what, err_text(t->lower_err));
	else if (!t->server && verify != X509_V_OK)
		stream_fail(&t->s, E_TLS, 0, "tls: certificate verify failed: %s", X509_verify_cert_error_string(verify));
	else if ((t->s.lower->state & ST_EOF) != 0)
		stream_fail(&t->s, E_TLS, 0, "tls: %s: the peer closed the connection", what);
	else
		stream_fail(&t->s, E_TLS, 0, "tls: %s: %s", what, reason != NULL ? reason : "protocol error");
	ERR_clear_error();
}

static void
update_lower(struct tls *t)
{
	unsigned want = 0;

	if ((t->s.state & ST_FAIL) != 0)
		want = 0;
	else if (!t->shaken)
		want = ST_READ;
	else
		want = t->s.wanted & ((t->s.state & ST_EOF) != 0 ? ST_WRITE : ST_READ | ST_WRITE);
	if (t->len != 0)
		want |= ST_WRITE;
	if (t->s.lower->wanted != want)
		stream_want(t->s.lower, (int)want);
}

static bool
pin_matches(struct tls *t)
{
	X509 *x = SSL_get1_peer_certificate(t->ssl);
	uint8_t md[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	bool same = x != NULL && X509_digest(x, EVP_sha256(), md, &n) == 1 && n == sizeof(t->pin) && memcmp(md, t->pin, n) == 0;

	X509_free(x);
	return same;
}

/* One step of the handshake; tells ST_OPEN or ST_FAIL at the end of the turn. */
static void
shake(struct tls *t)
{
	int r, e;

	ERR_clear_error();
	r = SSL_do_handshake(t->ssl);
	e = r == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, r);
	if (r == 1 && t->pinned && !pin_matches(t)) {
		stream_fail(&t->s, E_TLS, 0, "tls: certificate fingerprint mismatch");
	} else if (r == 1) {
		t->shaken = true;
		stream_ready(&t->s, ST_OPEN);
	} else if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE) {
		fail_tls(t, "handshake");
	}
	update_lower(t);
}

static void
on_lower(struct stream *lower, int events, void *arg)
{
	struct tls *t = arg;
	unsigned up = 0;

	if ((events & ST_FAIL) != 0) {
		stream_fail(&t->s, lower->err, 0, "%s", stream_why(lower));
		return;
	}
	if ((t->s.state & ST_FAIL) != 0)
		return;
	if (t->len != 0 && (events & ST_WRITE) != 0 && push(t) == -E_AGAIN)
		events &= ~ST_WRITE;
	if (!t->shaken) {
		shake(t);
		return;
	}
	update_lower(t);
	up = (unsigned)events & t->s.wanted & (ST_READ | ST_WRITE);
	if (up != 0)
		stream_tell(&t->s, (int)up);
}

/* ---- the layer */

static ssize_t
record_error(struct tls *t, int r)
{
	int e = SSL_get_error(t->ssl, r);

	if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
		return -E_AGAIN;
	if (e == SSL_ERROR_ZERO_RETURN) {
		t->s.state |= ST_EOF;
		return 0;
	}
	t->s.err = t->lower_err != 0 ? t->lower_err : E_TLS;
	ERR_clear_error();
	return -t->s.err;
}

static ssize_t
tls_readv(struct stream *s, const struct iovec *v, int n)
{
	struct tls *t = tls_of(s);
	ssize_t total = 0;

	if ((s->state & (ST_OPEN | ST_FAIL)) != ST_OPEN)
		return s->err != 0 ? -s->err : -E_AGAIN;
	if ((s->state & ST_EOF) != 0)
		return 0;
	for (int i = 0; i < n; i++) {
		size_t at = 0;

		while (at < v[i].iov_len) {
			size_t room = v[i].iov_len - at, got = 0;

			ERR_clear_error();
			if (SSL_read_ex(t->ssl, (char *)v[i].iov_base + at, room, &got) == 1) {
				at += got;
				total += (ssize_t)got;
				if (SSL_has_pending(t->ssl))
					continue;
				goto out;
			}
			if (total > 0)
				goto out;	/* an end or an error is met again */
			total = record_error(t, 0);
			update_lower(t);
			return total;
		}
	}
out:
	if (SSL_has_pending(t->ssl) && (s->wanted & ST_READ) != 0)
		stream_ready(s, ST_READ);
	return total;
}

/* Seals records while the lower layer takes them; the last one may be left unsent. */
static ssize_t
tls_writev(struct stream *s, const struct iovec *v, int n)
{
	struct tls *t = tls_of(s);
	ssize_t total = 0;
	int r;

	if ((s->state & (ST_OPEN | ST_FAIL)) != ST_OPEN)
		return s->err != 0 ? -s->err : -E_AGAIN;
	if (t->closing)
		return -E_CLOSED;
	for (int i = 0; i < n; i++) {
		size_t at = 0;

		while (at < v[i].iov_len) {
			size_t room = v[i].iov_len - at, done = 0;

			r = push(t);
			if (r != 0) {
				update_lower(t);
				s->err = r == -E_AGAIN ? s->err : -r;
				return total > 0 ? total : r;
			}
			ERR_clear_error();
			if (room > RECORD_MAX)
				room = RECORD_MAX;
			if (SSL_write_ex(t->ssl, (const char *)v[i].iov_base + at, room, &done) != 1)
				return total > 0 ? total : record_error(t, 0);
			at += done;
			total += (ssize_t)done;
		}
	}
	if (t->len != 0)
		update_lower(t);
	return total;
}

static int
tls_flush(struct stream *s)
{
	struct tls *t = tls_of(s);
	int r = push(t);

	if (r == 0)
		r = stream_flush(s->lower);
	else if (r == -E_AGAIN)
		update_lower(t);
	return r;
}

/* close_notify (RFC 8446, section 6.1) ends our direction; the connection below stays for the other one. */
static int
tls_shut_wr(struct stream *s)
{
	struct tls *t = tls_of(s);

	if ((s->state & (ST_OPEN | ST_FAIL)) != ST_OPEN)
		return s->err != 0 ? -s->err : -E_AGAIN;
	if (!t->closing) {
		ERR_clear_error();
		t->closing = true;
		if (SSL_shutdown(t->ssl) < 0) {
			ERR_clear_error();
			return t->lower_err != 0 ? -t->lower_err : -E_TLS;
		}
	}
	return tls_flush(s);
}

static void
tls_want(struct stream *s, int events)
{
	struct tls *t = tls_of(s);

	s->wanted = (unsigned)events & (ST_READ | ST_WRITE);
	if ((s->state & (ST_OPEN | ST_FAIL)) == ST_OPEN && (s->wanted & ST_READ) != 0 &&
	    (s->state & ST_EOF) == 0 && SSL_has_pending(t->ssl))
		stream_ready(s, ST_READ);
	update_lower(t);
}

static void
tls_destroy(struct stream *s)
{
	struct tls *t = tls_of(s);

	mem_charge(-SESSION_BYTES);
	SSL_free(t->ssl);
	free(t->out);
	mem_free(t);
}

static const struct stream_ops tls_ops = {
	.name = "tls",
	.readv = tls_readv,
	.writev = tls_writev,
	.flush = tls_flush,
	.shut_wr = tls_shut_wr,
	.want = tls_want,
	.destroy = tls_destroy,
};

static struct tls *
tls_new(struct stream *lower, SSL_CTX *ctx)
{
	struct tls *t = ctx == NULL ? NULL : mem_got(calloc(1, sizeof(*t)));
	BIO *b = NULL;

	if (t != NULL) {
		stream_init(&t->s, &tls_ops, lower->loop, lower);
		t->ssl = SSL_new(ctx);
		b = t->ssl == NULL ? NULL : bio_make(t);
	}
	if (b == NULL) {
		if (t != NULL)
			SSL_free(t->ssl);
		mem_free(t);
		stream_close(lower, CLOSE_FLUSH);
		return NULL;
	}
	SSL_set_bio(t->ssl, b, b);
	mem_charge(SESSION_BYTES);
	stream_set_cb(lower, on_lower, t);
	return t;
}

/* "ab:cd..." or "abcd..." to 32 bytes. */
static int
pin_parse(uint8_t out[static 32], const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++) {
		const char *hex = "0123456789abcdef", *at;
		char c = (char)(*s >= 'A' && *s <= 'F' ? *s - 'A' + 'a' : *s);

		if (*s == ':')
			continue;
		at = strchr(hex, c);
		if (at == NULL || n >= 64)
			return -E_INVAL;
		out[n / 2] = (uint8_t)(n % 2 == 0 ? (at - hex) << 4 : out[n / 2] | (at - hex));
		n++;
	}
	return n == 64 ? 0 : -E_INVAL;
}

/* RFC 7301, section 3.1: names with a length byte each. */
static int
alpn_set(SSL *ssl, const char *const *alpn)
{
	uint8_t list[ALPN_MAX];
	size_t n = 0;

	for (; *alpn != NULL; alpn++) {
		size_t len = strlen(*alpn);

		if (len == 0 || len > 255 || n + 1 + len > sizeof(list))
			return -E_INVAL;
		list[n++] = (uint8_t)len;
		memcpy(list + n, *alpn, len);
		n += len;
	}
	return n == 0 || SSL_set_alpn_protos(ssl, list, (unsigned)n) == 0 ? 0 : -E_TLS;
}

/* The name goes into SNI (RFC 6066, section 3: never an address) and is what the certificate must show (RFC 6125). */
static int
name_set(struct tls *t, const char *name, const char *verify, bool strict)
{
	X509_VERIFY_PARAM *p = SSL_get0_param(t->ssl);
	char sni[HOST_MAX + 1];		/* OpenSSL's macro takes no const; it copies */
	struct ip ip;

	if (name == NULL || name[0] == '\0')
		return strict ? -E_INVAL : 0;
	if (ip_parse(&ip, name) != 0 &&
	    (str_copy(sni, sizeof(sni), name) >= sizeof(sni) || SSL_set_tlsext_host_name(t->ssl, sni) != 1))
		return -E_TLS;
	if (verify == NULL)
		verify = name;
	if (ip_parse(&ip, verify) == 0)
		return !strict || X509_VERIFY_PARAM_set1_ip(p, ip.b, ip.family == 4 ? 4 : 16) == 1 ? 0 : -E_TLS;
	X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return !strict || X509_VERIFY_PARAM_set1_host(p, verify, 0) == 1 ? 0 : -E_TLS;
}

/* A lower layer that is open already gets its first flight now; nothing is told from inside. */
static struct stream *
begin(struct tls *t)
{
	if ((t->s.state & ST_FAIL) == 0 && (t->s.lower->state & (ST_OPEN | ST_FAIL)) == ST_OPEN)
		shake(t);
	return &t->s;
}

struct stream *
tls_client(struct stream *lower, const struct tls_client_opts *opts)
{
	bool pinned = opts->fingerprint != NULL && opts->fingerprint[0] != '\0', strict = !pinned && !opts->skip_verify;
	struct tls *t = tls_new(lower, client_context(strict));

	if (t == NULL)
		return NULL;
	SSL_set_connect_state(t->ssl);
	t->pinned = pinned;
	if (pinned && pin_parse(t->pin, opts->fingerprint) != 0)
		stream_fail(&t->s, E_INVAL, 0, "tls: bad fingerprint");
	else if (name_set(t, opts->server_name, opts->verify_name, strict) != 0)
		stream_fail(&t->s, E_INVAL, 0, "tls: bad server name");
	else if (opts->alpn != NULL && alpn_set(t->ssl, opts->alpn) != 0)
		stream_fail(&t->s, E_INVAL, 0, "tls: bad alpn list");
	return begin(t);
}

const char *
tls_alpn(const struct stream *s)
{
	static char name[ALPN_MAX];
	const struct tls *t = (const struct tls *)(const void *)s;	/* its first member */
	const unsigned char *p = NULL;
	unsigned n = 0;

	SSL_get0_alpn_selected(t->ssl, &p, &n);
	if (n >= sizeof(name))
		n = 0;
	if (n > 0)
		memcpy(name, p, n);
	name[n] = '\0';
	return name;
}

static int
no_password(char *buf, int size, int rw, void *arg)
{
	(void)buf;
	(void)size;
	(void)rw;
	(void)arg;
	return -1;		/* never a prompt */
}

/* The chain: the first certificate is ours, the others go along. */
static const char *
use_certificates(SSL_CTX *ctx, const char *pem)
{
	BIO *b = BIO_new_mem_buf(pem, -1);
	X509 *x = b == NULL ? NULL : PEM_read_bio_X509(b, NULL, no_password, NULL);
	const char *why = NULL;

	if (x == NULL || SSL_CTX_use_certificate(ctx, x) != 1)
		why = "no usable certificate";
	X509_free(x);
	while (why == NULL && (x = PEM_read_bio_X509(b, NULL, no_password, NULL)) != NULL) {
		if (SSL_CTX_add0_chain_cert(ctx, x) != 1) {
			X509_free(x);
			why = "bad certificate chain";
		}
	}
	BIO_free(b);
	return why;
}

static const char *
use_key(SSL_CTX *ctx, const char *pem)
{
	BIO *b = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *k = b == NULL ? NULL : PEM_read_bio_PrivateKey(b, NULL, no_password, NULL);
	const char *why = NULL;

	if (k == NULL || SSL_CTX_use_PrivateKey(ctx, k) != 1)
		why = "no usable private key";
	else if (SSL_CTX_check_private_key(ctx) != 1)
		why = "private key does not belong to the certificate";
	EVP_PKEY_free(k);
	BIO_free(b);
	return why;
}

int
tls_server_prepare(struct tls_server_opts *opts, char *why, size_t cap)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	const char *bad = ctx == NULL ? err_text(E_NOMEM) : NULL;

	if (bad == NULL) {
		context_common(ctx);
		bad = use_certificates(ctx, opts->cert_pem);
	}
	if (bad == NULL)
		bad = use_key(ctx, opts->key_pem);
	ERR_clear_error();
	if (bad != NULL) {
		str_copy(why, cap, bad);
		SSL_CTX_free(ctx);
		return -E_TLS;
	}
	opts->ctx = ctx;
	return 0;
}

struct stream *
tls_server(struct stream *lower, const struct tls_server_opts *opts)
{
	struct tls *t = tls_new(lower, opts->ctx);

	if (t == NULL)
		return NULL;
	t->server = true;
	SSL_set_accept_state(t->ssl);
	return begin(t);
}
