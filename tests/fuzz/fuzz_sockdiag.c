/* SPDX-License-Identifier: MIT */
/* What the nethelper reads: a worker's question, which becomes one to the kernel, and the kernel's answers to it; then the text
 * of a link of /proc. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/err.h"
#include "supervisor/helper/local.h"
#include "supervisor/helper/procfs.h"
#include "supervisor/helper/sockdiag.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sock_owner owner = { 0 };
	uint8_t ask[SOCKDIAG_ASK_MAX];
	struct msg_find q;
	uint8_t *answer;
	int n, rc;

	(void)procfs_inode((const char *)data, size);
	if (size < sizeof q)
		return 0;
	memcpy(&q, data, sizeof q);
	data += sizeof q;
	size -= sizeof q;
	n = sockdiag_write(ask, &q, 2, 1);
	assert(n == -E_INVAL || (n > 0 && n <= SOCKDIAG_ASK_MAX));
	answer = malloc(size > 0 ? size : 1);	/* its own block: what is read past its end is seen */
	memcpy(answer, data, size);
	rc = sockdiag_read(answer, size, &q, 1, &owner);
	assert(rc == 0 || rc == -E_NOTFOUND || rc == -E_AGAIN || rc == -E_PROTO);
	assert((rc == 0) == (owner.inode != 0));
	rc = local_read(answer, size, 1);
	assert(rc == 0 || rc == 1 || rc == -E_AGAIN || rc == -E_PROTO);
	free(answer);
	return 0;
}
