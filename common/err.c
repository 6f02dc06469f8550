/* SPDX-License-Identifier: MIT */
/* Texts of the error codes, and the way from errno to a code. Used by every program; owns nothing. The texts appear in logs
 * and in API answers, so they say what happened in words that stand alone. */
#include "common/err.h"

#include <errno.h>
#include <stddef.h>

static const char *const texts[E_MAX_] = {
	[E_OK] = "no error",
	[E_AGAIN] = "would block",
	[E_EOF] = "end of file",
	[E_INVAL] = "invalid value",
	[E_PROTO] = "protocol error",
	[E_NOMEM] = "out of memory",
	[E_LIMIT] = "limit reached",
	[E_UNSUP] = "not supported",
	[E_SYS] = "system call failed",
	[E_REFUSED] = "connection refused",
	[E_RESET] = "connection reset",
	[E_TIMEOUT] = "timed out",
	[E_UNREACH] = "unreachable",
	[E_NOTFOUND] = "not found",
	[E_PERM] = "not permitted",
	[E_BUSY] = "already in use",
	[E_CLOSED] = "closed",
	[E_AUTH] = "authentication failed",
	[E_DNS] = "name resolution failed",
	[E_TLS] = "TLS failure",
	[E_CANCELED] = "canceled",
	[E_REJECTED] = "rejected by rule",
};

const char *
err_text(int code)
{
	if (code < 0 && code > -E_MAX_)
		code = -code;
	if (code < 0 || code >= E_MAX_ || texts[code] == NULL)
		return "unknown error";
	return texts[code];
}

int
err_from_errno(int sys_errno)
{
	switch (sys_errno) {
	case 0:
		return E_OK;
	case EAGAIN:
	case EINTR:
	case EINPROGRESS:
	case EALREADY:
		return E_AGAIN;
	case EINVAL:
		return E_INVAL;
	case EPROTO:
	case EBADMSG:
		return E_PROTO;
	case ENOMEM:
	case ENOBUFS:
		return E_NOMEM;
	case EMFILE:
	case ENFILE:
	case EMSGSIZE:
	case ENOSPC:
	case EDQUOT:
	case ETOOMANYREFS:
		return E_LIMIT;
	case ENOSYS:
	case EOPNOTSUPP:
	case EAFNOSUPPORT:
	case EPROTONOSUPPORT:
		return E_UNSUP;
	case ECONNREFUSED:
		return E_REFUSED;
	case ECONNRESET:
	case ECONNABORTED:
		return E_RESET;
	case ETIMEDOUT:
		return E_TIMEOUT;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
	case EHOSTDOWN:
	case EADDRNOTAVAIL:
		return E_UNREACH;
	case ENOENT:
	case ESRCH:
	case ENODEV:
		return E_NOTFOUND;
	case EPERM:
	case EACCES:
		return E_PERM;
	case EADDRINUSE:
	case EBUSY:
	case EEXIST:
		return E_BUSY;
	case EPIPE:
	case ENOTCONN:
	case EBADF:
		return E_CLOSED;
	case ECANCELED:
		return E_CANCELED;
	default:
		return E_SYS;
	}
}
