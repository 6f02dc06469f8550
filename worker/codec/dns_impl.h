/* SPDX-License-Identifier: MIT */
/* Shared by dns.c and dns_text.c only. */
#ifndef SLUICE_WORKER_CODEC_DNS_IMPL_H
#define SLUICE_WORKER_CODEC_DNS_IMPL_H

#include <stddef.h>
#include <stdint.h>

size_t dns_name_skip(const uint8_t *p, size_t n, size_t off);

static inline uint16_t
dns_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t
dns_get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void
dns_set16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

#endif
