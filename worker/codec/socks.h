/* SPDX-License-Identifier: MIT */
/* SOCKS4, SOCKS4a and SOCKS5 messages, both ends: RFC 1928, RFC 1929, the SOCKS4 protocol note and its 4A addition. Used by
 * inbound/socks.c, outbound/socks5.c and whoever writes addresses in the same form. Pure: no state, no I/O; every parser looks
 * at the bytes so far and answers
 *
 *   > 0          the message is complete and this many bytes long
 *   -E_AGAIN     more bytes are needed
 *   -E_PROTO     it is no such message (or what the function says)
 *
 * so a caller keeps the bytes of one unfinished message, at most SOCKS_MESSAGE_MAX. Writers answer the length written; the
 * buffer must hold the bound stated. Texts in parsed messages point into the input and are not terminated. */
#ifndef SLUICE_WORKER_CODEC_SOCKS_H
#define SLUICE_WORKER_CODEC_SOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/addr.h"

enum { SOCKS_MESSAGE_MAX = 600,		/* longest of all client messages: 513 of RFC 1929, 521 of SOCKS4a with our cap on the user id */
       SOCKS4_USER_MAX = 255,
       SOCKS_ADDR_MAX = 259,		/* ATYP, length, 255 bytes, port */
       SOCKS5_GREETING_MAX = 4, SOCKS5_AUTH_MAX = 513, SOCKS5_REQUEST_MAX = 3 + SOCKS_ADDR_MAX, SOCKS5_REPLY_MAX = 3 + SOCKS_ADDR_MAX,
       SOCKS5_UDP_HEADER_MAX = 3 + SOCKS_ADDR_MAX, SOCKS4_REPLY_SIZE = 8 };
enum socks_command { SOCKS_CONNECT = 1, SOCKS_BIND = 2, SOCKS_UDP_ASSOCIATE = 3 };
enum socks_method { SOCKS5_NO_AUTH = 0, SOCKS5_USERPASS = 2, SOCKS5_NO_METHOD = 255 };
enum socks5_rep { SOCKS5_OK, SOCKS5_FAILURE, SOCKS5_NOT_ALLOWED, SOCKS5_NET_UNREACH, SOCKS5_HOST_UNREACH, SOCKS5_REFUSED, SOCKS5_TTL_EXPIRED,
	SOCKS5_BAD_COMMAND, SOCKS5_BAD_ADDRESS };
enum socks4_rep { SOCKS4_GRANTED = 90, SOCKS4_REJECTED = 91, SOCKS4_BAD_USER = 93 };

struct socks_addr {			/* ATYP DST.ADDR DST.PORT */
	const char *host;		/* name, not terminated; NULL = the address */
	size_t host_len;		/* 1..255 */
	struct ip ip;			/* family 0 with a name */
	uint16_t port;
};

/* ---- ATYP form alone (RFC 1928 5). -E_UNSUP for an unknown ATYP, -E_PROTO for an empty name or one with a NUL. A name that
 * is an address literal comes back as that address. */
int socks_addr_parse(const uint8_t *p, size_t n, struct socks_addr *out);
/* At most SOCKS_ADDR_MAX bytes. -E_INVAL for a name of more than 255 bytes, or when there is neither name nor address. */
int socks_addr_write(uint8_t *out, const struct socks_addr *a);

/* ---- server side of SOCKS5 */
struct socks5_greeting {		/* what the client offers, RFC 1928 3 */
	bool no_auth, userpass;
};
int socks5_greeting_parse(const uint8_t *p, size_t n, struct socks5_greeting *out);
struct socks_auth {			/* RFC 1929 2 */
	const char *user, *password;
	size_t nu, np;
};
int socks5_auth_parse(const uint8_t *p, size_t n, struct socks_auth *out);
struct socks_request {
	uint8_t command;		/* enum socks_command, or any other byte */
	struct socks_addr to;		/* SOCKS5 UDP ASSOCIATE may have port 0 and an unspecified address */
	const char *user;		/* SOCKS4 user id */
	size_t nu;
};
/* RFC 1928 4. -E_UNSUP: unknown ATYP, to be answered by SOCKS5_BAD_ADDRESS. */
int socks5_request_parse(const uint8_t *p, size_t n, struct socks_request *out);
/* From its version byte 4 on; 4a names. -E_LIMIT: user id over SOCKS4_USER_MAX or name over HOST_MAX. */
int socks4_request_parse(const uint8_t *p, size_t n, struct socks_request *out);
/* The two-byte answers: method (version 5) and authentication status (version 1, 0 = good). */
void socks5_choice_write(uint8_t out[static 2], uint8_t method);
void socks5_auth_reply_write(uint8_t out[static 2], bool good);
/* bound: the address to show (family 0 = 0.0.0.0). At most 22 bytes. */
int socks5_reply_write(uint8_t out[static 22], uint8_t rep, const struct ip *bound, uint16_t port);
int socks4_reply_write(uint8_t out[static SOCKS4_REPLY_SIZE], uint8_t rep, const struct ip *bound, uint16_t port);
uint8_t socks5_rep_from_err(int err);	/* E_* of a dial (either sign) -> REP */

/* ---- client side of SOCKS5 */
int socks5_greeting_write(uint8_t out[static SOCKS5_GREETING_MAX], bool no_auth, bool userpass);
int socks5_choice_parse(const uint8_t *p, size_t n, uint8_t *method);
/* -E_INVAL: user or password over 255 bytes. Empty ones are written though RFC 1929 2 knows none: servers take them. */
int socks5_auth_write(uint8_t out[static SOCKS5_AUTH_MAX], const char *user, const char *password);
int socks5_auth_reply_parse(const uint8_t *p, size_t n);	/* 2, or -E_AUTH when refused */
int socks5_request_write(uint8_t out[static SOCKS5_REQUEST_MAX], uint8_t command, const struct socks_addr *to);
int socks5_reply_parse(const uint8_t *p, size_t n, uint8_t *rep, struct socks_addr *bound);
int socks5_err_from_rep(uint8_t rep);	/* REP -> positive E_*, 0 for success */
const char *socks5_rep_text(uint8_t rep);

/* ---- UDP, RFC 1928 7: header length, the payload follows. -E_UNSUP: FRAG is not 0 (we reassemble nothing) or an unknown
 * ATYP; -E_PROTO also when cut short: a datagram has no more to come. */
int socks5_udp_parse(const uint8_t *p, size_t n, struct socks_addr *to);
int socks5_udp_write(uint8_t out[static SOCKS5_UDP_HEADER_MAX], const struct socks_addr *from);

#endif
