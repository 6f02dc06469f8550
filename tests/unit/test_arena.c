/* SPDX-License-Identifier: MIT */
/* common/arena.c: alignment, zeroing, no overlap across blocks, and overflow ends the program rather than wrapping. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/arena.h"

static void
test_arena_alloc_no_overlap(void **state)
{
	enum { N = 3000 };
	static uint8_t *p[N];
	struct arena a;

	(void)state;
	arena_init(&a);
	for (size_t i = 0; i < N; i++) {
		size_t n = i * 37 % 400;

		if (i % 100 == 0)
			n = 40000;	/* gets a block of its own */
		p[i] = arena_alloc(&a, n);
		assert_int_equal((uintptr_t)p[i] % 16, 0);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(p[i][k], 0);
		memset(p[i], (int)(i & 0xff), n);
	}
	for (size_t i = 0; i < N; i++) {
		size_t n = i % 100 == 0 ? 40000 : i * 37 % 400;

		for (size_t k = 0; k < n; k++)
			assert_int_equal(p[i][k], i & 0xff);
	}
	assert_true(a.used >= 30 * 40000);
	arena_free(&a);
	assert_int_equal(a.used, 0);
	assert_null(a.head);
}

static void
test_arena_alloc_large_keeps_head(void **state)
{
	struct arena a;
	char *p, *q;

	(void)state;
	arena_init(&a);
	p = arena_alloc(&a, 16);
	(void)arena_alloc(&a, 1 << 20);
	q = arena_alloc(&a, 16);
	assert_ptr_equal(q, p + 16);
	arena_free(&a);
}

static void
test_arena_strings(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a);
	assert_null(arena_strdup(&a, NULL));
	assert_string_equal(arena_strdup(&a, ""), "");
	assert_string_equal(arena_strdup(&a, "abc"), "abc");
	assert_string_equal(arena_strndup(&a, "abcdef", 3), "abc");
	assert_string_equal(arena_strndup(&a, "ab\0def", 6), "ab");
	assert_string_equal(arena_printf(&a, "%s-%d", "x", 12345), "x-12345");
	arena_free(&a);
}

static void
test_arena_array_overflow_is_fatal(void **state)
{
	int status = 0;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		struct arena a;

		(void)close(STDERR_FILENO);	/* the reason need not be seen here */
		arena_init(&a);
		(void)arena_array(&a, SIZE_MAX / 2 + 2, 2);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arena_alloc_no_overlap),
		cmocka_unit_test(test_arena_alloc_large_keeps_head),
		cmocka_unit_test(test_arena_strings),
		cmocka_unit_test(test_arena_array_overflow_is_fatal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
