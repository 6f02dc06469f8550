/* SPDX-License-Identifier: MIT */
/* The protocol between sluice's processes, and its only definition. Bodies are the fixed structs below, as bytes, or a struct
 * followed by wire data (common/wire.h) where said so. S supervisor, W worker, C controller, L loader, N nethelper, T the
 * sluice command on the control socket. The columns: who sends it to whom; the states of the sender in which it is legal; what
 * it carries. The handler tables of each program hold the same columns in code: supervisor/messages.c, worker/ipc.c,
 * controller/bridge.c, supervisor/helper/main.c. */
#ifndef SLUICE_COMMON_IMSG_TYPES_H
#define SLUICE_COMMON_IMSG_TYPES_H

#include <stdint.h>

#include "common/addr.h"

/* States of a child, one bit each in peer.state. A child starts CONFIGURING; READY moves it on; SERVE and DRAIN are orders. */
enum child_state { CH_CONFIGURING = 1, CH_READY = 2, CH_SERVING = 4, CH_DRAINING = 8 };
enum { CH_ANY = 15, CH_LIVE = CH_READY | CH_SERVING | CH_DRAINING };

enum imsg_type {
	/* life of a child */
	MSG_HELLO = 1,	/* S>WCN first message: msg_hello; W: 2 fds, its counter page and the page all workers share (memfd_shared, STAT_PAGE bytes) */
	MSG_STATE,	/* S>W	before CONFIG: msg_state, 1 fd; W>S lead, any state: save this blob of that kind */
	MSG_CONFIG,	/* S>W	msg_config, 1 fd = tree; S>C msg_ctl_config, 1 fd = tree, again whenever SIGHUP applies it */
	MSG_READY,	/* WCN>S CONFIGURING: everything is built, every file and listener is there */
	MSG_CONF_ERR,	/* WCL>S CONFIGURING: msg_conf_err; the sender then waits for its end */
	MSG_SERVE,	/* S>W	READY: start accepting */
	MSG_DRAIN,	/* S>W	SERVING: stop accepting, hand over, keep what cannot move, exit when empty */
	MSG_HANDOFF,	/* S>W	to both ends before DRAIN or RETURN, and while one drains: msg_handoff, 1 fd, a channel between an old and a new worker */
	MSG_STOP,	/* S>WCN msg_stop: end now or when the connections ended (N: its workers), at most grace_ms from now */
	MSG_PING,	/* S>WC	any; answered by MSG_PONG with the same id through the loop; W, id not 0: when no UDP session is on its way */
	MSG_PONG,	/* WC>S */
	MSG_ADOPT,	/* S>W	SERVING: msg_adopt, n fds: slots of a worker that died; this one reads them, too, until they are asked back */
	MSG_RETURN,	/* S>W	SERVING: msg_return, after HANDOFF to the worker that reads those slots from now on */
	MSG_REPLACE_ME,	/* W>S	SERVING: msg_replace_me; over its memory limit: a successor is started, then it gets HANDOFF and DRAIN */

	/* files and sockets */
	MSG_OPEN = 20,	/* WC>S	CONFIGURING: msg_open; answered by MSG_FILE */
	MSG_FILE,	/* S>WC	msg_file, 1 fd if err is 0 */
	MSG_LISTEN,	/* WC>S	CONFIGURING, SERVING: msg_listen; answered by MSG_LISTENER */
	MSG_LISTENER,	/* S>WC	msg_listener and nslots fds if err is 0. W: those slots that are this worker's; they accept only after SERVE */
	MSG_UNLISTEN,	/* WC>S	SERVING: msg_listen, the key is no longer wanted by this child */
	MSG_OPEN_UI,	/* C>S	SERVING: wire str relative path; answered by MSG_FILE */
	MSG_COMPILE,	/* W>S	CONFIGURING: any; later: only what this generation has asked for before; msg_compile; answered by
			 *	MSG_IMAGE, possibly much later. SERVING, the lead, 1 fd = a new content of that file, sealed: when all that
			 *	was asked for of the file can be made of it, it is written, and only then answered; with no path in
			 *	msg_compile it is compiled and not stored */
	MSG_IMAGE,	/* S>W	msg_image, 1 fd = the compiled image (common/image.h) if err is 0 */
	MSG_SYSFILE,	/* S>W	READY, SERVING: msg_sysfile, 1 fd: a file of the system that this worker has read is another one now */

	/* changes while running: acknowledged by every worker before the API answers */
	MSG_CHANGE = 40,/* C>S	msg_change + opaque wire; answered by MSG_RESULT. W>S lead: the same for the other workers, answered if
			 *	its id is not 0. S>W msg_change with seq, answered by CHANGE_ACK */
	MSG_CHANGE_ACK,	/* W>S	msg_result of that change, id = seq */
	MSG_RESULT,	/* S>C,T,W msg_result */
	MSG_RELOAD,	/* C>S	msg_reload, 0..1 fd = payload; T>S the same without; answered by MSG_RESULT */
	MSG_STORE,	/* C>S	msg_store, 0..1 fd = value to put; answered by MSG_FILE (get) or MSG_RESULT */
	MSG_MEMORY,	/* C>S	empty; answered by msg_memory, the same type */
	MSG_GENERATIONS,/* C>S	empty; answered by a value list, the same type */
	MSG_STATUS,	/* T>S	empty; answered by MSG_TEXT */
	MSG_TEXT,	/* S>T	wire str */
	MSG_INTRODUCE,	/* T>S	empty; answered by MSG_PEER: a channel to the lead, to ask as a controller does; MSG_RESULT if there is none */
	MSG_SHUTDOWN,	/* T>S	empty; answered by MSG_RESULT when the order is taken, end of file when it is done */
	MSG_UPGRADE,	/* C,T>S msg_upgrade; answered by MSG_RESULT when the new programs serve, or why they do not */
	MSG_NOTE,	/* S>C	msg_note: what GET /version says beside the version */

	/* logs */
	MSG_LOG_LEVEL = 60, /* W>S lead: msg_log_level, what the configuration says; S>WCN: msg_log_level, records below it need not be sent */
	MSG_LOG_TAP,	/* C>S	msg_log_level: the lowest level any API subscriber wants, LL_SILENT = none */
	MSG_LOG_REC,	/* S>C	msg_log_rec + text; dropped and counted when the channel is full */

	/* controller <-> worker, direct */
	MSG_PEER = 80,	/* S>WCT msg_peer, 1 fd = a channel to that peer (to C also a 2nd fd: the counter page of the slot); a serving worker.
			 *	To W: flags PEER_CLIENT = of the sluice command */
	MSG_PEER_STATE,	/* S>C	msg_peer: a worker changed its state (DRAINING); its end is end of file on its channel */
	MSG_PAGE,	/* S>C	msg_peer (slot), 1 fd: the counter page of a slot that had workers before; its sums still count */
	MSG_QUERY,	/* C>W	msg_query + wire arguments; answered by MSG_ANSWER with the same id */
	MSG_ANSWER,	/* W>C	msg_answer + wire data, or 1 fd = sealed memfd with the data when it is larger than a message */

	/* loader */
	MSG_JOB = 100,	/* S>L	msg_job, 1 fd = input */
	MSG_JOB_DONE,	/* L>S	msg_job_done, 1 fd = sealed result of JOB_CONFIG */
	MSG_IMAGE_DONE,	/* L>S	msg_image_done, 1 fd = sealed result of JOB_IMAGE, JOB_CONVERT */

	/* old worker <-> new worker (hand-over) */
	MSG_MOVE = 120,	/* W>W	msg_move + wire per object, fds: see worker/handoff.c */
	MSG_MOVED,	/* W>W	msg_moved: how many of that batch were adopted */
	MSG_MOVE_DONE,	/* W>W	empty: no UDP session comes on this channel any more; the new worker may read its UDP listeners */

	/* nethelper */
	MSG_WANT_HELPER = 140,	/* W>S any: empty; processes are to be looked up; HELPER comes, and again whenever the helper is started anew */
	MSG_HELPER,	/* S>WN	any: empty, 1 fd = a channel between the two */
	MSG_FIND,	/* W>N	msg_find: whose socket is it? Answered by FOUND with the same id, soon or never: the asker has a deadline */
	MSG_FOUND,	/* N>W	msg_found + wire str path of the program, "" = unknown */

	/* workers of one generation: worker 0, or its stand-in, leads for DNS (worker/dns/link.c) */
	MSG_DNS_LEAD = 160, /* S>W SERVING: msg_dns_lead, 0..1 fd: the stand-in leads from now on until RETURN of worker 0, and may write this
			 *	memory of common/shm_fakeip.h; once without, then once for each there is */
	MSG_DNS_LINK,	/* S>W	READY, SERVING: msg_dns_link, 1 fd: a channel between the lead and another worker, instead of any before */
	MSG_RESOLVE,	/* W>W to the lead: msg_resolve + wire str name, or of RESOLVE_SERVE the question in wire form, as a client's of the DNS
			 *	server; answered by MSG_RESOLVED with the same id */
	MSG_RESOLVED,	/* W>W	msg_resolved + the message if err is 0, or 1 fd = sealed memfd with it when it is too long */
};

enum { STAT_PAGE = 4096, STAT_SLOTS = 64 };

struct msg_hello {
	uint32_t generation, index, workers;	/* index 0 is the lead */
	uint32_t slot;				/* of the counter page */
	uint32_t flags;				/* HELLO_* */
	uint32_t log_level;
};
enum { HELLO_TEST = 1,		/* -t: build everything, bind and write nothing */
       HELLO_GEODATA_MODE = 2,	/* -m */
       HELLO_SYSTEMD = 4 };

struct msg_state { uint32_t kind, reserved; };
/* Opaque to the supervisor. SELECT and NODES (what is known of subscriptions) are written to disk and outlive everything;
 * DELAYS outlive processes; RULES and PATCH survive a crash, /restart and upgrade and are dropped by a reload; PORTS (what the
 * reference applies with force only) is dropped by a reload with force. */
enum state_kind { STATE_SELECT = 1, STATE_RULES, STATE_PATCH, STATE_PORTS, STATE_DELAYS, STATE_NODES, STATE_KINDS_ };
enum { STATE_MAX = 4 << 20 };

struct msg_config { uint32_t flags, reserved; };

struct msg_ctl_config {
	uint32_t flags;			/* CTL_* */
	uint32_t workers;
	char home[1024];		/* real path of the working directory, for messages only */
	char ext_ctl[256], ext_ctl_unix[256], ext_ui[1024], secret[256];	/* overrides of command line and environment */
};
enum { CTL_EXT_CTL = 1, CTL_EXT_CTL_UNIX = 2, CTL_EXT_UI = 4, CTL_SECRET = 8, /* these are set */ CTL_TEST = 16 };

struct msg_conf_err {
	uint32_t code;			/* enum err_code */
	uint32_t line, column;
	char key[64];
	char text[512];
};

struct msg_stop { uint32_t grace_ms, flags; };	/* STOP_* */
enum { STOP_RELIEVED = 1 /* C: another one has the listeners; end when every client has its answer, at the latest after grace_ms */ };

/* sender 1: this end gives. peer_workers: of the generation at the other end; a UDP session goes to worker slot % peer_workers
 * of it. primary: the channel that connections take, which belong to no slot any more; an old worker has one, and a later one
 * takes the place of the one before. LATE: only connections come by it. */
enum { HANDOFF_PRIMARY = 1, HANDOFF_LATE = 2 };
struct msg_handoff { uint32_t peer_generation, peer_index, peer_workers; uint16_t sender, flags; };
struct msg_return { uint32_t index, reserved; };	/* whose slots */
struct msg_replace_me { uint64_t used, limit; };

enum open_kind { OPEN_CERT = 1, OPEN_KEY, OPEN_CA, OPEN_GEO, OPEN_PROVIDER, OPEN_RESOLV, OPEN_HOSTS, OPEN_SHARED };
struct msg_open { uint32_t kind; char path[1024]; };		/* RESOLV, HOSTS, and CA with "": the system's file */
/* SHARED, workers only: memory of common/shm_fakeip.h, writable for the lead. "sluice.fakeip", "sluice.fakeip6": files of the
 * working directory; "fakeip", "fakeip6", "mapping": as long as the supervisor lives */
struct msg_file { uint32_t err; uint32_t reserved; int64_t mtime_ns; char text[256]; };	/* err: enum err_code */

struct msg_sysfile { uint32_t kind, reserved; };	/* RESOLV, HOSTS */

enum { COMPILE_NAME_MAX = 256 };
struct msg_compile {		/* what image_kind and image_format say is in common/image.h */
	uint32_t kind, format;
	char name[COMPILE_NAME_MAX];	/* the list, country or number; of FORMAT_INLINE, and for messages, the provider's */
	char path[1024];		/* "": the configuration tree (FORMAT_INLINE), or, with a descriptor, no file */
};
struct msg_image {
	uint32_t err;			/* enum err_code: NOTFOUND no such file, INVAL no such list in it, else it could not be read */
	uint32_t count;			/* entries, without those the worker must compile itself */
	int64_t mtime_ns;		/* of the file */
	char text[512];
};

enum listen_kind { LISTEN_TCP = 1, LISTEN_UDP, LISTEN_UNIX };
enum { LISTEN_TFO = 1, LISTEN_MPTCP = 2, LISTEN_ONE = 4 /* one slot: the controller's */, LISTEN_LEAD = 8 /* one slot, worker 0's: DNS */ };
enum { LISTEN_SLOTS_MAX = 16 };
struct msg_listen {
	uint16_t kind, flags;
	uint16_t port, mode;		/* mode: of a Unix socket */
	struct ip ip;			/* none: every address, dual stack */
	uint8_t pad[3];
	char path[256];			/* Unix */
};
struct msg_listener { uint32_t err; uint32_t nslots; uint8_t slot[LISTEN_SLOTS_MAX]; char text[256]; };	/* slot: the number of each fd's */
struct msg_adopt { struct msg_listen key; uint32_t index, n; uint8_t slot[LISTEN_SLOTS_MAX]; };	/* index: of the worker they belong to */

enum change_kind {
	CHANGE_PATCH = 1,	/* wire: worker/patch.h */
	CHANGE_SELECT,		/* str group, str name ("" = clear fixed) */
	CHANGE_RULES,		/* u32 n, n * (u32 index, bool disabled) */
	CHANGE_FLUSH_DNS, CHANGE_FLUSH_FAKEIP, CHANGE_GC,
	CHANGE_DELAY,		/* by the lead: what delay tests found, worker/delays.c */
	CHANGE_NODES,		/* by the lead: str proxy-provider: take its nodes anew; acknowledged when that is done */
	CHANGE_RULE_SET,	/* by the lead: str provider: take its image anew; acknowledged when that is done */
	CHANGE_GEO,		/* by the lead: str database: take its lists anew; acknowledged when that is done */
	CHANGE_KINDS_
};
struct msg_change { uint32_t seq; uint32_t kind; };

struct msg_result {
	int32_t status;			/* HTTP status: 204, 400, 404, 409, 500, 503 */
	uint32_t line, column;
	char key[64];
	char text[1024];
};

enum { RELOAD_FORCE = 1, RELOAD_PATH = 2, RELOAD_PAYLOAD = 4, RELOAD_SAME = 8 /* restart: same tree, same state */, RELOAD_CONTROLLER = 16 /* SIGHUP */,
       RELOAD_ROLLBACK = 32, RELOAD_UPGRADE = 64 /* the supervisor's own */ };
struct msg_reload { uint32_t flags; char path[1024]; };

enum store_op { STORE_GET = 1, STORE_PUT, STORE_DELETE };
enum { STORE_KEY_MAX = 200, STORE_VALUE_MAX = 1 << 20, STORE_FILES_MAX = 256 };
struct msg_store { uint32_t op; uint32_t reserved; char key[STORE_KEY_MAX + 8]; };

enum { UPGRADE_FORCE = 1 /* also when the programs on disk are those that run */ };
struct msg_upgrade { uint32_t flags, reserved; };
struct msg_note { char upgrade[512], rollback[512]; };	/* why the last upgrade, or the last configuration, was rolled back; "" = it was not */

struct msg_memory { uint64_t rss, workers, controller, supervisor; };

struct msg_log_level { int32_t level, reserved; };
struct msg_log_rec { uint32_t level, dropped; };	/* followed by the text, no line end */

enum { PEER_CLIENT = 1 };
struct msg_peer { uint32_t generation, index, slot, state, pid, flags; };

enum query_kind {
	QUERY_CONFIG = 1,	/* lead: what GET /configs shows (stat/snapshot.h) */
	QUERY_PROXIES,		/* lead: [str name] -> proxies and groups */
	QUERY_RULES,		/* lead: list; all: counters */
	QUERY_RULE_COUNTS,
	QUERY_CONNECTIONS,	/* all */
	QUERY_CLOSE,		/* all: 16 bytes id, or nothing = every one */
	QUERY_DELAY,		/* lead: str proxy, str url, u32 timeout_ms, str expected */
	QUERY_GROUP_DELAY,	/* lead: str group, the same */
	QUERY_PROVIDERS, QUERY_RULE_PROVIDERS,
	QUERY_DNS,		/* lead: str name, u16 type */
	QUERY_UPDATE_NODES,	/* lead: str proxy-provider, as UPDATE_RULES */
	QUERY_CHECK_NODES,	/* lead: str provider: tests its nodes; answered when all have been */
	QUERY_BEFORE_SELECT,	/* lead: str group, str name: answered at once, or after a test of a dead member that a fallback is to be fixed to */
	QUERY_UPDATE_RULES,	/* lead: str provider: read it anew; answered when every worker has it */
	QUERY_EXPLAIN,		/* lead: which rule decides about a connection that is described: common/snapshot.h */
	QUERY_UPDATE_GEO,	/* lead: download the geodata files in use; answered when every worker has them */
	QUERY_DOH,		/* lead: a question in wire form, answered in wire form by the DNS server */
	QUERY_KINDS_
};
struct msg_query { uint32_t kind, reserved; };
struct msg_answer { int32_t status; uint32_t reserved; };	/* 200, or an HTTP error status, then wire str message */

enum job_kind { JOB_CONFIG = 1, JOB_IMAGE, JOB_CONVERT };
struct msg_job {
	uint32_t kind;
	uint32_t to;			/* of JOB_CONVERT: enum image_format of the result */
	uint32_t image, format;		/* of JOB_IMAGE, JOB_CONVERT: enum image_kind, enum image_format of the input */
	char name[COMPILE_NAME_MAX];	/* of JOB_CONVERT: the file's, for messages */
};
struct msg_job_done {
	uint32_t workers;		/* 0 = automatic */
	uint32_t stop_grace_ms, drain_timeout_s, max_generations;
	uint32_t flags;			/* JOB_* */
	char external_ui[1024];		/* as written, "" = none: the root that OPEN_UI is confined to */
};
enum { JOB_START_WITH_LAST_GOOD = 1 };
struct msg_image_done { uint32_t count, reserved; };

struct msg_move { uint32_t count, reserved; };
struct msg_moved { uint32_t count, reserved; };

struct msg_find {		/* src is the socket asked for, dst what it is connected to or sends to; dst none: not known */
	uint8_t udp, reserved;
	struct ip src, dst;
	uint16_t src_port, dst_port;
};
enum { FIND_PATH_MAX = 4096 };	/* with its end; the kernel's own limit of a link */
struct msg_found { uint32_t uid, reserved; };	/* uid 0: unknown, or root's */

struct msg_dns_lead { char name[16]; };			/* as in OPEN_SHARED; "": without memory */
struct msg_dns_link { uint32_t lead, reserved; };	/* lead 1: the receiver leads, the other end asks */
struct msg_resolve { uint16_t use, type; uint32_t reserved; };	/* use: enum resolve_use */
enum { RESOLVE_SERVE = 100 };				/* as use; type 1: the answer goes into a datagram, 0: it does not */
struct msg_resolved { uint32_t err, flushes; };		/* enum err_code; flushes of the lead's cache since the channel was made */

#endif
