/* SPDX-License-Identifier: MIT */
/* What the data of each MSG_QUERY and its MSG_ANSWER holds; "value" means common/value.h, rendered by the controller as it
 * stands (key order is the worker's, spec/api.md 3). A status other than 200 is followed by wire str message instead. Times
 * are Unix nanoseconds, 0 = never.
 *
 *  CONFIG       -                                          value map: GET /configs, keys in order of spec/api.md 3.8
 *  PROXIES      u8 what (PROXIES_*), str name               ALL: value map sorted by name; ONE, GROUP: value map of that one (404);
 *                                                          GROUPS: value list in configuration order, GLOBAL last
 *  RULES        -                                          u32 n, n * (str type, str payload, str target, u32 size (~0 = -1), bool disabled)
 *  RULE_COUNTS  -                                          u32 n, n * (u64 hits, u64 hit_at, u64 misses, u64 miss_at)
 *  CONNECTIONS  -                                          value list of connection objects (spec/api.md 3.6)
 *  CLOSE        nothing = all, or 16 bytes id              u32 number closed
 *  DELAY        str proxy, str url, u32 timeout_ms, str expected [, str provider]   u16 ms; 400 404 503 504 with the reference's message
 *  GROUP_DELAY  str group, str url, u32 timeout_ms, str expected    value map member -> int
 *  PROVIDERS    u8 what (0 all, 1 one), str name            value map of providers, or of that one (404)
 *  RULE_PROVIDERS u8 what, str name                         the same
 *  DNS          str name, u16 type                          value map: GET /dns/query
 *  UPDATE_NODES str provider                                nothing; 404, 503 with the reason
 *  CHECK_NODES  str provider or group                       nothing; 404, 503
 *  BEFORE_SELECT str group, str name                        nothing
 *  UPDATE_RULES str provider                                nothing; 404, 503 with the reason
 *  EXPLAIN      bool text, n * (str key, str word): a key   str, or value map: network, host, destinationIP, port, error, decidedBy,
 *               of explain_keys and what it is; host must   chains, passed (index, type, payload, proxy, why), passedLeftOut, rule (or null);
 *               be there: HOST[:PORT]                       400 with the key that is not understood
 *
 * CHANGE_PATCH carries a value map: the members of the PATCH /configs body as JSON had them (INT for whole numbers; any other
 * number as V_UINT with all bits set, which the worker refuses). The worker answers 204 or 400 "Body invalid", and 409 with a
 * text when a port cannot be bound. CHANGE_SELECT: 204, 404 "Resource not found", 400 "Must be a Selector" / "Selector update
 * error: proxy not exist" / "Body invalid". */
#ifndef SLUICE_COMMON_SNAPSHOT_H
#define SLUICE_COMMON_SNAPSHOT_H

enum { PROXIES_ALL, PROXIES_ONE, PROXIES_GROUPS, PROXIES_GROUP };

/* The keys of QUERY_EXPLAIN beside host: query parameters of GET /rules/explain, options of `sluice explain`. */
#define EXPLAIN_KEYS \
	"port", "network", "src", "in-type", "in-port", "in-user", "in-name", "process", "process-path", "uid", "dscp"

#endif
