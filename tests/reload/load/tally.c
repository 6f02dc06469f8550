/* SPDX-License-Identifier: MIT */
/* Counters, histograms and what is told to the driver: one JSON object a line on standard output. */
#include "tests/reload/load/load.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SUB = 32, BUCKETS = 40 * SUB, NOTES_MAX = 400 /* failures that are told one by one */ };
static const char *const why_name[BAD_COUNT] = { "refused", "reset", "closed", "reply", "timeout", "corrupt", "short", "other" };
static const char *const kind_name[K_COUNT] = { "churn", "ping", "busy", "assoc" };
static const char *const hist_name[H_COUNT] = { "connect", "ping", "udp", "dns" };

struct tally tally[K_COUNT];
struct counts counts;
static struct {
	uint64_t n, max;
	uint32_t count[BUCKETS];
} hist[H_COUNT];
static unsigned n_notes;

enum why
tally_errno(int e)
{
	return e == ECONNREFUSED ? BAD_REFUSED : e == ECONNRESET || e == EPIPE ? BAD_RESET : e == ETIMEDOUT ? BAD_TIMEOUT : BAD_OTHER;
}

void
tally_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void
tally_fail(enum kind k, enum why w, bool own, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	(own ? tally[k].own : tally[k].bad)[w]++;
	if (own || n_notes++ >= NOTES_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	tally_note("{\"event\":\"fail\",\"kind\":\"%s\",\"why\":\"%s\",\"at\":%.6f,\"text\":\"%s\"}", kind_name[k], why_name[w],
	    (double)clock_us() / 1e6, text);
}

/* SUB buckets a power of two: 3 % wide. */
static unsigned
bucket(uint64_t us)
{
	unsigned top = 63 - (unsigned)__builtin_clzll(us | SUB), shift = top - 5;
	unsigned b = (shift * SUB) + (unsigned)(us >> shift);

	return b < BUCKETS ? b : BUCKETS - 1;
}

void
tally_time(enum hist h, uint64_t us)
{
	hist[h].n++;
	if (us > hist[h].max)
		hist[h].max = us;
	hist[h].count[bucket(us)]++;
}

static uint64_t
quantile(enum hist h, double q)
{
	uint64_t want = (uint64_t)((double)hist[h].n * q), seen = 0;

	for (unsigned b = 0; b < BUCKETS; b++) {
		seen += hist[h].count[b];
		if (seen > want || (seen == hist[h].n && seen > 0)) {
			unsigned shift = b < 2 * SUB ? 0 : b / SUB - 1;

			return (uint64_t)(b - shift * SUB) << shift;
		}
	}
	return 0;
}

void
tally_phase(void)
{
	memset(hist, 0, sizeof hist);
}

static void
print_bad(const char *name, const uint64_t *n)
{
	uint64_t sum = 0;

	printf(",\"%s\":{", name);
	for (int w = 0; w < BAD_COUNT; w++) {
		sum += n[w];
		if (n[w] > 0)
			printf("\"%s\":%" PRIu64 ",", why_name[w], n[w]);
	}
	printf("\"all\":%" PRIu64 "}", sum);
}

void
tally_print(void)
{
	printf("{\"event\":\"report\"");
	for (int k = 0; k < K_COUNT; k++) {
		printf(",\"%s\":{\"ok\":%" PRIu64 ",\"living\":%u", kind_name[k], tally[k].ok, flow_living((enum kind)k));
		print_bad("bad", tally[k].bad);
		print_bad("own", tally[k].own);
		printf("}");
	}
	for (int h = 0; h < H_COUNT; h++)
		printf(",\"%s_us\":{\"n\":%" PRIu64 ",\"p50\":%" PRIu64 ",\"p99\":%" PRIu64 ",\"max\":%" PRIu64 "}", hist_name[h],
		    hist[h].n, quantile((enum hist)h, 0.5), quantile((enum hist)h, 0.99), hist[h].max);
	printf(",\"transfers\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"accepted\":%" PRIu64, counts.transfers, counts.bytes,
	    counts.accepted);
	printf(",\"udp\":{\"flows\":%u,\"sent\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"own\":%" PRIu64
	       ",\"twice\":%" PRIu64 ",\"corrupt\":%" PRIu64 ",\"astray\":%" PRIu64 ",\"ports\":%" PRIu64 "}",
	    udp_living(), counts.udp_sent, counts.udp_answered, counts.udp_lost, counts.udp_own, counts.udp_twice,
	    counts.udp_corrupt, counts.udp_astray, counts.udp_ports);
	printf(",\"dns\":{\"sent\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"own\":%" PRIu64
	       ",\"wrong\":%" PRIu64 ",\"twice\":%" PRIu64 "}}\n",
	    counts.dns_sent, counts.dns_answered, counts.dns_lost, counts.dns_own, counts.dns_wrong, counts.dns_twice);
	fflush(stdout);
}
