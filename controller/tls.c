/* SPDX-License-Identifier: MIT */
/* The TLS end of the controller: one SSL_CTX a configuration, one SSL a client. Called by client.c on the loop; owns no file
 * descriptor. TLS 1.2 and 1.3, ALPN "http/1.1" only (spec/api.md 1.1: HTTP/1.1 is enough). */
#include "controller/tls.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"

struct tls_server {
	SSL_CTX *ctx;
};
struct tls {
	SSL *ssl;
	bool wants_write;
};

static void
set_error(char *err, size_t cap, const char *what)
{
	char text[160];
	unsigned long code = ERR_get_error();

	ERR_error_string_n(code, text, sizeof(text));
	snprintf(err, cap, "%s: %s", what, code != 0 ? text : "not usable");
	ERR_clear_error();
}

/* No password is ever asked for on a terminal. */
static int
no_password(char *buf, int size, int rwflag, void *arg)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	(void)arg;
	return -1;
}

static BIO *
text_bio(const char *p, size_t n)
{
	return n <= INT_MAX ? BIO_new_mem_buf(p, (int)n) : NULL;
}

/* The leaf first, then the chain, as in the file. */
static int
use_certificates(SSL_CTX *ctx, const char *p, size_t n)
{
	BIO *bio = text_bio(p, n);
	X509 *x = bio != NULL ? PEM_read_bio_X509_AUX(bio, NULL, no_password, NULL) : NULL;
	int ok = x != NULL && SSL_CTX_use_certificate(ctx, x) == 1;

	X509_free(x);
	while (ok && (x = PEM_read_bio_X509(bio, NULL, no_password, NULL)) != NULL) {
		ok = SSL_CTX_add0_chain_cert(ctx, x) == 1;
		if (!ok)
			X509_free(x);
	}
	if (ok)
		ERR_clear_error();	/* the end of the text */
	BIO_free(bio);
	return ok;
}

static int
use_key(SSL_CTX *ctx, const char *p, size_t n)
{
	BIO *bio = text_bio(p, n);
	EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
	int ok = key != NULL && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;

	EVP_PKEY_free(key);
	BIO_free(bio);
	return ok;
}

/* RFC 7301 */
static int
choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in, unsigned inlen, void *arg)
{
	static const unsigned char own[] = "\x08http/1.1";
	unsigned char *chosen;

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto(&chosen, outlen, own, sizeof(own) - 1, in, inlen) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

struct tls_server *
tls_server_new(const char *cert, size_t ncert, const char *key, size_t nkey, char *err, size_t cap)
{
	struct tls_server *s = calloc(1, sizeof(*s));

	ERR_clear_error();
	if (s == NULL || (s->ctx = SSL_CTX_new(TLS_server_method())) == NULL) {
		set_error(err, cap, "TLS");
		goto out;
	}
	if (SSL_CTX_set_min_proto_version(s->ctx, TLS1_2_VERSION) != 1) {
		set_error(err, cap, "TLS");
		goto out;
	}
	SSL_CTX_set_options(s->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(s->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_alpn_select_cb(s->ctx, choose_alpn, NULL);
	SSL_CTX_set_session_cache_mode(s->ctx, SSL_SESS_CACHE_OFF);
	if (!use_certificates(s->ctx, cert, ncert)) {
		set_error(err, cap, "certificate");
		goto out;
	}
	if (!use_key(s->ctx, key, nkey)) {
		set_error(err, cap, "private key");
		goto out;
	}
	return s;
out:
	tls_server_free(s);
	return NULL;
}

void
tls_server_free(struct tls_server *s)
{
	if (s == NULL)
		return;
	SSL_CTX_free(s->ctx);		/* its clients hold references of their own */
	free(s);
}

struct tls *
tls_accept(struct tls_server *s, int fd)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->ssl = SSL_new(s->ctx);
	if (t->ssl == NULL || SSL_set_fd(t->ssl, fd) != 1) {
		ERR_clear_error();
		SSL_free(t->ssl);
		free(t);
		return NULL;
	}
	SSL_set_accept_state(t->ssl);
	return t;
}

void
tls_bye(struct tls *t)
{
	if (t == NULL)
		return;
	ERR_clear_error();
	if (SSL_is_init_finished(t->ssl) && (SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN) == 0)
		(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
}

void
tls_free(struct tls *t)
{
	if (t == NULL)
		return;
	tls_bye(t);
	SSL_free(t->ssl);
	free(t);
}

/* r <= 0 was answered by OpenSSL: what does it mean? */
static int
meaning(struct tls *t, int r)
{
	int e = SSL_get_error(t->ssl, r);

	ERR_clear_error();
	t->wants_write = e == SSL_ERROR_WANT_WRITE;
	if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)
		return -E_AGAIN;
	return e == SSL_ERROR_ZERO_RETURN ? 0 : -E_TLS;
}

int
tls_handshake(struct tls *t)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(t->ssl);
	if (r == 1) {
		t->wants_write = false;
		return 0;
	}
	r = meaning(t, r);
	return r == 0 ? -E_TLS : r;
}

ssize_t
tls_read(struct tls *t, void *p, size_t n)
{
	size_t got;
	int r;

	ERR_clear_error();
	r = SSL_read_ex(t->ssl, p, n, &got);
	return r == 1 ? (ssize_t)got : meaning(t, r);
}

ssize_t
tls_write(struct tls *t, const void *p, size_t n)
{
	size_t put;
	int r;

	ERR_clear_error();
	r = SSL_write_ex(t->ssl, p, n, &put);
	if (r == 1) {
		t->wants_write = false;
		return (ssize_t)put;
	}
	r = meaning(t, r);
	return r == 0 ? -E_TLS : r;
}

bool
tls_wants_write(const struct tls *t)
{
	return t->wants_write;
}
