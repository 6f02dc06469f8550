/* SPDX-License-Identifier: MIT */
/* Reads what the supervisor needs of a configuration, for the loader's main: the supervisor parses nothing itself, so these
 * values reach it as integers. Owns nothing. */
#include "worker/loader/settings.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/strutil.h"

enum { WORKERS_MAX = 16, GENERATIONS_MAX = 32 };
enum { WORKERS_DEFAULT = 0, STOP_GRACE_MS = 0, DRAIN_TIMEOUT_S = 86400, GENERATIONS = 4 };
enum { STOP_GRACE_MS_MAX = 3600 * 1000, DRAIN_TIMEOUT_S_MAX = 366 * 86400 };

/* Takes the unit at *s; its milliseconds, or 0 for none of ms, s, m, h, d. */
static int64_t
take_unit(const char **s)
{
	const char *p = *s;
	int64_t ms = 0;

	if (*p == 'm' && p[1] == 's') {
		*s += 2;
		return 1;
	}
	switch (*p) {
	case 's':
		ms = 1000;
		break;
	case 'm':
		ms = 60 * 1000;
		break;
	case 'h':
		ms = 3600 * 1000;
		break;
	case 'd':
		ms = 86400 * 1000;
		break;
	default:
		return 0;
	}
	*s += 1;
	return ms;
}

/* "500ms", "5s", "1h30m", or seconds without a unit; -E_INVAL for anything else or over max. */
static int
parse_duration(const char *s, int64_t max, int64_t *out)
{
	const char *start = s;
	int64_t sum = 0;

	do {
		int64_t v = 0, unit;
		const char *digits = s;

		for (; *s >= '0' && *s <= '9'; s++)
			if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s - '0', &v))
				return -E_INVAL;
		if (s == digits)
			return -E_INVAL;
		unit = *s == '\0' && digits == start ? 1000 : take_unit(&s);
		if (unit == 0 || __builtin_mul_overflow(v, unit, &v) || __builtin_add_overflow(sum, v, &sum))
			return -E_INVAL;
	} while (*s != '\0');
	if (sum > max)
		return -E_INVAL;
	*out = sum;
	return 0;
}

/* A duration in milliseconds; absent keeps *ms. */
static int
get_duration(const struct cfg_node *map, const char *key, int64_t max, int64_t *ms, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(map, key);
	const char *s = NULL;
	int rc = cfg_str(n, key, &s, err);

	if (rc != 0 || s == NULL || parse_duration(s, max, ms) == 0)
		return rc;
	return cfg_fail(err, n, key, "line %u: sluice.%s: not a duration (like 30, 500ms, 5s, 24h) of at most %" PRId64 " s",
	    n->line, key, max / 1000);
}

/* external-ui as written; "" when absent. */
static int
get_ui(const struct cfg_node *root, struct msg_job_done *out, struct cfg_err *err)
{
	const struct cfg_node *n = cfg_get(root, "external-ui");
	const char *ui = "";
	int rc = cfg_str(n, "external-ui", &ui, err);

	if (rc == 0 && str_copy(out->external_ui, sizeof out->external_ui, ui) >= sizeof out->external_ui)
		rc = cfg_fail(err, n, "external-ui", "line %u: external-ui: longer than %zu bytes", n->line,
		    sizeof out->external_ui - 1);
	return rc;
}

int
settings_read(const struct cfg_node *root, struct msg_job_done *out, struct cfg_err *err)
{
	int64_t workers = WORKERS_DEFAULT, generations = GENERATIONS;
	int64_t grace = STOP_GRACE_MS, drain = (int64_t)DRAIN_TIMEOUT_S * 1000;
	const struct cfg_node *map = NULL;
	bool last_good = false;
	int rc;

	rc = cfg_map(cfg_get(root, "sluice"), "sluice", &map, err);
	if (rc == 0)
		rc = cfg_int(cfg_get(map, "workers"), "workers", 0, WORKERS_MAX, &workers, err);
	if (rc == 0)
		rc = cfg_int(cfg_get(map, "max-generations"), "max-generations", 1, GENERATIONS_MAX, &generations, err);
	if (rc == 0)
		rc = get_duration(map, "stop-grace", STOP_GRACE_MS_MAX, &grace, err);
	if (rc == 0)
		rc = get_duration(map, "drain-timeout", (int64_t)DRAIN_TIMEOUT_S_MAX * 1000, &drain, err);
	if (rc == 0)
		rc = cfg_bool(cfg_get(map, "start-with-last-good"), "start-with-last-good", &last_good, err);
	if (rc != 0)
		return rc;
	*out = (struct msg_job_done){ .workers = (uint32_t)workers, .max_generations = (uint32_t)generations,
		.stop_grace_ms = (uint32_t)grace, .drain_timeout_s = (uint32_t)((drain + 999) / 1000),
		.flags = last_good ? JOB_START_WITH_LAST_GOOD : 0 };
	return get_ui(root, out, err);
}
