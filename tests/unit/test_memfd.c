/* SPDX-License-Identifier: MIT */
/* common/memfd.c: what is sealed stays as it is, and nothing unsealed is ever mapped as if it were. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/err.h"
#include "common/memfd.h"

static void
test_memfd_from_is_sealed(void **state)
{
	int fd = memfd_from("t", "hello", 5);
	const void *p = NULL;
	size_t n = 0;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 1), -1);
	assert_int_equal(ftruncate(fd, 100), -1);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(memfd_map(fd, &p, &n, 5), 0);
	assert_int_equal(n, 5);
	assert_memory_equal(p, "hello", 5);
	munmap((void *)(uintptr_t)p, n);
	close(fd);
}

static void
test_memfd_from_large(void **state)
{
	size_t len = 3 << 20, n;
	uint8_t *b = malloc(len);
	const void *p;
	int fd;

	(void)state;
	assert_non_null(b);
	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)(i * 7 >> 3);
	fd = memfd_from("t", b, len);
	assert_true(fd >= 0);
	assert_int_equal(memfd_map(fd, &p, &n, len), 0);
	assert_int_equal(n, len);
	assert_int_equal(memcmp(p, b, len), 0);
	munmap((void *)(uintptr_t)p, n);
	close(fd);
	free(b);
}

static void
test_memfd_map_empty(void **state)
{
	int fd = memfd_from("t", NULL, 0);
	const void *p = "";
	size_t n = 1;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(memfd_map(fd, &p, &n, 0), 0);
	assert_null(p);
	assert_int_equal(n, 0);
	close(fd);
}

static void
test_memfd_map_over_max(void **state)
{
	int fd = memfd_from("t", "hello", 5);
	const void *p;
	size_t n;

	(void)state;
	assert_int_equal(memfd_map(fd, &p, &n, 4), -E_PROTO);
	close(fd);
}

/* Each seal alone missing must be enough to refuse. */
static void
test_memfd_map_missing_seal(void **state)
{
	static const int some[] = { 0, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_WRITE, F_SEAL_GROW | F_SEAL_WRITE };
	const void *p;
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		int fd = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);

		assert_int_equal(write(fd, "data", 4), 4);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, some[i]), 0);
		assert_int_equal(memfd_map(fd, &p, &n, 100), -E_PROTO);
		close(fd);
	}
}

static void
test_memfd_map_other_files(void **state)
{
	int pair[2], fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	const void *p;
	size_t n;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(memfd_map(fd, &p, &n, SIZE_MAX), -E_PROTO);
	close(fd);
	assert_int_equal(pipe(pair), 0);
	assert_int_equal(memfd_map(pair[0], &p, &n, SIZE_MAX), -E_PROTO);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(memfd_map(-1, &p, &n, SIZE_MAX), -E_PROTO);
}

static void
test_memfd_shared_is_shared(void **state)
{
	int fd = memfd_shared("t", 8192);
	volatile uint8_t *w, *r;

	(void)state;
	assert_true(fd >= 0);
	w = memfd_map_shared(fd, 8192, 1);
	r = memfd_map_shared(fd, 4096, 0);
	assert_non_null((void *)(uintptr_t)w);
	assert_non_null((void *)(uintptr_t)r);
	w[7] = 42;
	assert_int_equal(r[7], 42);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);	/* a receiver cannot stop the writer */
	assert_null(memfd_map_shared(fd, 8193, 0));
	munmap((void *)(uintptr_t)w, 8192);
	munmap((void *)(uintptr_t)r, 4096);
	close(fd);
}

/* A file that can shrink would raise SIGBUS in who mapped it. */
static void
test_memfd_map_shared_unsealed(void **state)
{
	int fd = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_null(memfd_map_shared(fd, 4096, 0));
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memfd_from_is_sealed),
		cmocka_unit_test(test_memfd_from_large),
		cmocka_unit_test(test_memfd_map_empty),
		cmocka_unit_test(test_memfd_map_over_max),
		cmocka_unit_test(test_memfd_map_missing_seal),
		cmocka_unit_test(test_memfd_map_other_files),
		cmocka_unit_test(test_memfd_shared_is_shared),
		cmocka_unit_test(test_memfd_map_shared_unsealed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
