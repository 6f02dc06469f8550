/* SPDX-License-Identifier: MIT */
/* TLS for external-controller-tls: OpenSSL on a non-blocking socket, driven by client.c. civetweb's own TLS is never used. */
#ifndef SLUICE_CONTROLLER_TLS_H
#define SLUICE_CONTROLLER_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls_server;
struct tls;

/* From PEM texts; NULL with the reason in err. */
struct tls_server *tls_server_new(const char *cert, size_t ncert, const char *key, size_t nkey, char *err, size_t cap);
void tls_server_free(struct tls_server *s);

struct tls *tls_accept(struct tls_server *s, int fd);	/* fd stays the caller's; NULL: out of memory */
void tls_free(struct tls *t);				/* takes NULL, as the next */
void tls_bye(struct tls *t);				/* says close_notify if that needs no waiting */
int tls_handshake(struct tls *t);			/* 0, -E_AGAIN, -E_TLS */
ssize_t tls_read(struct tls *t, void *p, size_t n);	/* > 0, 0 = end, -E_AGAIN, -E_TLS */
ssize_t tls_write(struct tls *t, const void *p, size_t n);	/* after -E_AGAIN the same bytes must come again */
bool tls_wants_write(const struct tls *t);		/* what answered -E_AGAIN waits for the socket to be writable */

#endif
