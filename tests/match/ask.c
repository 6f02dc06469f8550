/* SPDX-License-Identifier: MIT */
/* Answers what a rule set matches, for differential.py: match-ask KIND FORMAT FILE, KIND one of domain ipcidr classical
 * geosite geoip asn, FORMAT of text yaml mrs dat mmdb. The file goes through the loader's readers and builder and the worker's
 * verifier, rules and searches, as it does in the service. Lines of standard input: "=NAME" compiles a list of the file and
 * prints "=COUNT" or "!WHY"; "hHOST", "iADDRESS" (of the target) and "sADDRESS" (of the source) print 1 or 0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/strutil.h"
#include "tests/unit/gen_kit.h"
#include "worker/loader/ruleset.h"
#include "worker/rule/ruleset.h"

enum { LINE_SIZE = 4096 };

static uint32_t
number_of(const char *word, const char *const *words, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++)
		if (words[i] != NULL && strcmp(word, words[i]) == 0)
			return i;
	return 0;
}

static char *
read_file(const char *path, size_t *n)
{
	FILE *f = fopen(path, "r");
	char *p = NULL;
	long size;

	if (f == NULL || fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0)
		return NULL;
	rewind(f);
	p = malloc((size_t)size + 1);
	if (p != NULL && fread(p, 1, (size_t)size, f) != (size_t)size) {
		free(p);
		p = NULL;
	}
	*n = (size_t)size;
	(void)fclose(f);
	return p;
}

static void
load(struct kit *k, struct ruleset *s, const struct ruleset_job *job)
{
	struct msg_image m = { 0 };
	struct cfg_err err = { 0 };
	uint32_t count;
	int fd;

	if (s->image.h != NULL)
		ruleset_free(s);
	if (ruleset_compile(job, &fd, &count, &err) != 0) {
		printf("!%s\n", err.text);
		return;
	}
	if (ruleset_load(&k->gen, s, &m, fd) != 0)
		printf("!its image is refused\n");
	else
		printf("=%u\n", s->count);
	close(fd);
}

static int
answer(const struct ruleset *s, const char *line)
{
	struct meta m;

	meta_init(&m);
	m.dst_port = 443;
	if (line[0] == 'h')
		m.host = line + 1;
	else if (ip_parse(line[0] == 's' ? &m.src_ip : &m.dst_ip, line + 1) != 0)
		return '?';
	return ruleset_match(s, &m) ? '1' : '0';
}

int
main(int argc, char **argv)
{
	static const char *const kinds[IMAGE_KINDS_] = { NULL, "domain", "ipcidr", "classical", "geosite", "geoip", "asn" };
	static const char *const formats[FORMAT_KINDS_] = { NULL, "yaml", "text", "mrs", NULL, "dat", "mmdb" };
	struct ruleset_job job = { 0 };
	struct ruleset set = { 0 };
	char line[LINE_SIZE], name[LINE_SIZE], *file;
	struct kit k;

	if (argc != 4 || (job.kind = number_of(argv[1], kinds, countof(kinds))) == 0 ||
	    (job.format = number_of(argv[2], formats, countof(formats))) == 0 || (file = read_file(argv[3], &job.n)) == NULL ||
	    kit_open(&k, "{}") != 0) {
		(void)fprintf(stderr, "usage: match-ask KIND FORMAT FILE\n");
		return 2;
	}
	log_set_level(LL_SILENT);
	job.p = file;
	set.kind = job.kind;
	while (fgets(line, sizeof line, stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '=') {
			(void)str_copy(name, sizeof name, line + 1);
			job.name = set.name = name;
			load(&k, &set, &job);
		} else {
			printf("%c\n", answer(&set, line));
		}
	}
	if (set.image.h != NULL)
		ruleset_free(&set);
	kit_close(&k);
	free(file);
	return 0;
}
