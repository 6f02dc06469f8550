/* SPDX-License-Identifier: MIT */
/* One code space for every recoverable error. Codes are positive and returned negated (-E_AGAIN); 0 is success. Syscall errno
 * values travel beside them where a caller needs one. */
#ifndef SLUICE_COMMON_ERR_H
#define SLUICE_COMMON_ERR_H

enum err_code {
	E_OK,
	E_AGAIN,	/* would block; ask again after an event */
	E_EOF,		/* the peer ended its direction */
	E_INVAL,	/* bad value from a caller or a configuration */
	E_PROTO,	/* the peer broke its protocol */
	E_NOMEM,
	E_LIMIT,	/* a stated cap is reached */
	E_UNSUP,
	E_SYS,		/* a syscall failed; errno tells */
	E_REFUSED,
	E_RESET,
	E_TIMEOUT,
	E_UNREACH,
	E_NOTFOUND,
	E_PERM,
	E_BUSY,		/* address in use, another one at it */
	E_CLOSED,
	E_AUTH,
	E_DNS,
	E_TLS,
	E_CANCELED,
	E_REJECTED,	/* a rule says no */
	E_MAX_
};

/* Text of a code, with or without its minus sign; static storage, never NULL. */
const char *err_text(int code);
/* The nearest code for an errno value, positive. */
int err_from_errno(int sys_errno);

/* Where and why a configuration is refused. line and column are 1-based, 0 = unknown. */
struct cfg_err {
	unsigned line, column;
	char key[64];
	char text[512];
};

#endif
