/* SPDX-License-Identifier: MIT */
/* Sealed memory files. A sealed one cannot change or shrink under its reader, so a mapping that was checked once stays what
 * it was and never raises SIGBUS; memfd_map() therefore refuses any fd without the seals. Callers own fds and mappings. */
#include "common/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/err.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U		/* Linux 6.3; older kernels answer EINVAL */
#endif

enum { SEALS_CONTENT = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

static int
create(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	if (fd == -1 && errno == EINVAL)
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd;
}

static int
fail(int fd)
{
	int saved = errno;

	if (fd != -1)
		close(fd);
	errno = saved;
	return -E_SYS;
}

int
memfd_from(const char *name, const void *p, size_t n)
{
	const uint8_t *b = p;
	size_t off = 0;
	int fd = create(name);

	if (fd == -1)
		return -E_SYS;
	while (off < n) {
		ssize_t r = write(fd, b + off, n - off);

		if (r == -1 && errno == EINTR)
			continue;
		if (r == -1)
			return fail(fd);
		off += (size_t)r;
	}
	if (memfd_seal(fd) != 0)
		return fail(fd);
	return fd;
}

int
memfd_open(const char *name)
{
	int fd = create(name);

	return fd == -1 ? -E_SYS : fd;
}

int
memfd_seal(int fd)
{
	return fcntl(fd, F_ADD_SEALS, SEALS_CONTENT | F_SEAL_SEAL) == -1 ? -E_SYS : 0;
}

int
memfd_shared(const char *name, size_t n)
{
	int fd = create(name);

	if (fd == -1)
		return -E_SYS;
	if (n > INT64_MAX) {
		errno = EFBIG;
		return fail(fd);
	}
	/* F_SEAL_SEAL: who gets the fd must not be able to stop its writers */
	if (ftruncate(fd, (off_t)n) == -1 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1)
		return fail(fd);
	return fd;
}

/* Size of a memory file that carries the given seals; false for anything else. */
static bool
sealed_size(int fd, int seals, uint64_t *size)
{
	struct stat st;
	int have = fcntl(fd, F_GET_SEALS);

	if (have == -1 || (have & seals) != seals)
		return false;
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode) || st.st_size < 0)
		return false;
	*size = (uint64_t)st.st_size;
	return true;
}

int
memfd_map(int fd, const void **p, size_t *n, size_t max)
{
	uint64_t size;
	void *m = NULL;

	if (!sealed_size(fd, SEALS_CONTENT, &size) || size > max)
		return -E_PROTO;
	if (size > 0) {
		/* private: before Linux 6.7 a write-sealed file could not be mapped shared, even to read */
		m = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (m == MAP_FAILED)
			return -E_PROTO;
	}
	*p = m;
	*n = (size_t)size;
	return 0;
}

void *
memfd_map_shared(int fd, size_t n, int writable)
{
	uint64_t size;
	void *m;

	if (n == 0 || !sealed_size(fd, F_SEAL_SHRINK, &size) || size < n)
		return NULL;
	m = mmap(NULL, n, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	return m == MAP_FAILED ? NULL : m;
}
