/* SPDX-License-Identifier: MIT */
/* supervisor/helper/procfs.c and cache.c: links of /proc as text, a walk over a /proc of our own making and over the real one,
 * what is kept. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/strutil.h"
#include "supervisor/helper/cache.h"
#include "supervisor/helper/procfs.h"

static void
test_inode_of_links(void **state)
{
	static const struct { const char *link; uint32_t inode; } cases[] = {
		{ "socket:[29655896]", 29655896 }, { "socket:[1]", 1 }, { "socket:[4294967295]", UINT32_MAX }, { "socket:[4294967296]", 0 },
		{ "socket:[99999999999999999999]", 0 }, { "socket:[]", 0 }, { "socket:[12", 0 }, { "socket:[12]x", 0 }, { "socket:[-1]", 0 },
		{ "socket:[ 1]", 0 }, { "pipe:[12]", 0 }, { "anon_inode:[eventpoll]", 0 }, { "/tmp/socket:[12]", 0 }, { "", 0 },
	};

	(void)state;
	for (size_t i = 0; i < countof(cases); i++)
		assert_int_equal(procfs_inode(cases[i].link, strlen(cases[i].link)), cases[i].inode);
}

static void
test_trim_deleted(void **state)
{
	static const struct { const char *is, *want; } cases[] = {
		{ "/usr/bin/curl", "/usr/bin/curl" }, { "/usr/bin/curl (deleted)", "/usr/bin/curl" }, { " (deleted)", " (deleted)" },
		{ "/x (deleted) (deleted)", "/x (deleted)" }, { "", "" },
	};

	(void)state;
	for (size_t i = 0; i < countof(cases); i++) {
		char b[64];

		str_copy(b, sizeof b, cases[i].is);
		assert_int_equal(procfs_trim(b, strlen(b)), strlen(cases[i].want));
		assert_string_equal(b, cases[i].want);
	}
}

/* ---- a tree that looks like /proc */

static char root[] = "/tmp/test-procfs-XXXXXX";
static char said[8][128];		/* by question */

static void
on_found(struct sought *s, const char *path)
{
	str_copy(said[(size_t)(uintptr_t)s->arg], sizeof said[0], path);
}

static void
add_process(int proc, unsigned pid, const char *exe, const char *const *links, size_t n)
{
	char name[64];

	snprintf(name, sizeof name, "%u", pid);
	assert_int_equal(mkdirat(proc, name, 0700), 0);
	snprintf(name, sizeof name, "%u/fd", pid);
	assert_int_equal(mkdirat(proc, name, 0700), 0);
	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof name, "%u/fd/%zu", pid, i);
		assert_int_equal(symlinkat(links[i], proc, name), 0);
	}
	snprintf(name, sizeof name, "%u/exe", pid);
	if (exe != NULL)
		assert_int_equal(symlinkat(exe, proc, name), 0);
}

static int
make_tree(void **state)
{
	static const char *const one[] = { "/dev/null", "socket:[100]", "socket:[356]", "pipe:[101]" };	/* 100 and 356 share a bucket */
	static const char *const two[] = { "socket:[102]" };
	int proc;

	assert_non_null(mkdtemp(root));
	proc = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_not_equal(proc, -1);
	assert_int_equal(mkdirat(proc, "self", 0700), 0);
	assert_int_equal(mkdirat(proc, "77x", 0700), 0);
	add_process(proc, 10, "/opt/one (deleted)", one, countof(one));
	add_process(proc, 4194304, "/opt/two", two, countof(two));
	add_process(proc, 12, NULL, two, 0);
	*state = (void *)(intptr_t)proc;
	return 0;
}

static int
remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static int
remove_tree(void **state)
{
	close((int)(intptr_t)*state);
	return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void
test_search_tree(void **state)
{
	int proc = (int)(intptr_t)*state;
	uint32_t uid = geteuid();
	struct sought q[] = {
		{ .inode = 356, .uid = uid, .arg = (void *)0 }, { .inode = 102, .uid = uid + 1, .arg = (void *)1 },	/* made as another user */
		{ .inode = 100, .uid = uid, .arg = (void *)2 }, { .inode = 356, .uid = uid, .arg = (void *)3 },
		{ .inode = 101, .uid = uid, .arg = (void *)4 },								/* a pipe's */
	};

	for (int round = 0; round < 2; round++) {	/* the second finds by what it remembers */
		memset(said, 0, sizeof said);
		assert_true(procfs_search(proc, q, countof(q), on_found));
		assert_string_equal(said[0], "/opt/one");
		assert_string_equal(said[1], "/opt/two");
		assert_string_equal(said[2], "/opt/one");
		assert_string_equal(said[3], "/opt/one");
		assert_true(q[0].found && q[1].found && q[2].found && q[3].found && !q[4].found);
	}
}

/* This process, by the real /proc. */
static void
test_search_self(void **state)
{
	struct sought q = { .uid = geteuid(), .arg = (void *)5 };
	char path[64], link[64], exe[128] = "";
	int fd = socket(AF_INET, SOCK_DGRAM, 0), proc = procfs_open();
	ssize_t n;

	(void)state;
	assert_true(proc >= 0);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	n = readlink(path, link, sizeof link);
	assert_true(n > 0);
	q.inode = procfs_inode(link, (size_t)n);
	assert_int_not_equal(q.inode, 0);
	assert_true(readlink("/proc/self/exe", exe, sizeof exe - 1) > 0);
	(void)procfs_search(proc, &q, 1, on_found);
	assert_true(q.found);
	assert_string_equal(said[5], exe);
	close(fd);
	close(proc);
}

/* A socket among more descriptors than are looked at first. */
static void
test_search_beyond_the_first(void **state)
{
	struct rlimit r;
	struct sought q = { .uid = geteuid(), .arg = (void *)6 };
	char link[64];
	int fd = socket(AF_INET, SOCK_DGRAM, 0), proc = procfs_open();
	ssize_t n;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &r), 0);
	r.rlim_cur = r.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &r), 0);
	if (dup2(fd, 1500) == -1)
		skip();
	close(fd);
	n = readlink("/proc/self/fd/1500", link, sizeof link);
	assert_true(n > 0);
	q.inode = procfs_inode(link, (size_t)n);
	(void)procfs_search(proc, &q, 1, on_found);
	assert_true(q.found);
	close(1500);
	close(proc);
}

/* ---- the cache */

static void
test_cache_time_and_place(void **state)
{
	char longest[CACHE_PATH_MAX + 1];

	(void)state;
	assert_null(cache_get(0, 1));
	assert_null(cache_get(5, 1));
	cache_put(5, "/bin/a", 1000);
	assert_string_equal(cache_get(5, 1000 + CACHE_MS - 1), "/bin/a");
	assert_null(cache_get(5, 1000 + CACHE_MS));
	cache_put(6, "", 1000);
	assert_string_equal(cache_get(6, 1000), "");
	cache_put(6 + CACHE_MAX, "/bin/b", 1000);	/* the same place */
	assert_null(cache_get(6, 1000));
	assert_string_equal(cache_get(6 + CACHE_MAX, 1000), "/bin/b");
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	cache_put(7, longest, 1000);
	assert_null(cache_get(7, 1000));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inode_of_links), cmocka_unit_test(test_trim_deleted),
		cmocka_unit_test_setup_teardown(test_search_tree, make_tree, remove_tree), cmocka_unit_test(test_search_self),
		cmocka_unit_test(test_search_beyond_the_first),
		cmocka_unit_test(test_cache_time_and_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
