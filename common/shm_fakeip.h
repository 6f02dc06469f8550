/* SPDX-License-Identifier: MIT */
/* The memory that the workers share for DNS, and the sizes that the supervisor makes it with; it never looks inside. Written
 * by the lead (two of them for the moment in which a generation takes over from another), read by every worker.
 *
 * Fake addresses: HOME/sluice.fakeip and sluice.fakeip6, or memory that lives as long as the supervisor. Slot i holds the
 * name of the address whose offset in the pool is i modulo the number of slots, so a reader needs no index. A slot is
 * written between two odd and even values of seq and carries a checksum over its content, keyed by the pool: what a crash or
 * another pool left is empty. Names that do not fit go on in a tail. Everything else is the writers': a lock, the place
 * where the pool is at, and an index from names to slots, made anew by each lead that takes over. */
#ifndef SLUICE_COMMON_SHM_FAKEIP_H
#define SLUICE_COMMON_SHM_FAKEIP_H

#include <stdatomic.h>
#include <stdint.h>

enum {
	FAKE_SLOTS = 65536,		/* addresses that stand for a name at once; at the cap the least recently asked one goes */
	FAKE_INDEX = 2 * FAKE_SLOTS,
	FAKE_TAILS = 4096,		/* of long names; at the cap one of them goes */
	FAKE_NAME = 108, FAKE_TAIL = 148,
	MAPPING_SETS = 1024, MAPPING_WAYS = 4	/* addresses of real answers; at the cap that which runs out first goes */
};

struct fake_slot {
	_Atomic uint32_t seq;		/* odd: being written */
	uint32_t offset;		/* of the address, from the first of the pool */
	uint64_t sum;
	uint16_t tail;			/* 1 + its number, 0 = none */
	uint8_t len;			/* of the name, 0 = empty */
	_Atomic uint8_t touched;	/* asked for since the pool came by */
	char name[FAKE_NAME];
};
struct fake_tail {
	uint32_t owner;			/* slot */
	char name[FAKE_TAIL];
};
struct fake_table {
	char magic[8];
	_Atomic uint32_t lock;		/* the generation that writes, 0 = nobody */
	uint32_t cursor;		/* offset that is given next */
	uint32_t next_tail;
	uint32_t reserved;
	uint8_t secret[16];		/* of the index */
	uint8_t pad[4096 - 40];
	uint32_t index[FAKE_INDEX];	/* 1 + slot, by the hash of the name; 0 = none */
	struct fake_slot slot[FAKE_SLOTS];
	struct fake_tail tail[FAKE_TAILS];
};

/* Which name a real address was told for: redir-host. */
struct mapping_slot {
	_Atomic uint32_t seq;
	uint8_t family, len;
	uint8_t ip[16];
	uint64_t sum, expires_ms;	/* CLOCK_MONOTONIC */
	char name[256];
};
struct mapping_table {
	struct mapping_slot slot[MAPPING_SETS][MAPPING_WAYS];
};

_Static_assert(sizeof(struct fake_slot) == 128, "a slot is two cache lines");
_Static_assert(sizeof(struct fake_table) <= 16000000, "65,000 fake addresses take at most 16 MB");

#endif
