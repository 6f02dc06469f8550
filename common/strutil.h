/* SPDX-License-Identifier: MIT */
/* Small text helpers; all bounded, none depends on the locale. */
#ifndef SLUICE_COMMON_STRUTIL_H
#define SLUICE_COMMON_STRUTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define countof(a) (sizeof(a) / sizeof((a)[0]))

bool str_equal(const char *a, const char *b);		/* NULL equals NULL only */
bool str_case_equal(const char *a, const char *b);	/* ASCII case */
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
void str_lower(char *s);				/* ASCII, in place */
/* Copies with a terminating NUL, cut at cap; returns strlen(src), so a result >= cap means it was cut. */
size_t str_copy(char *dst, size_t cap, const char *src);
/* Cuts blanks and tabs at both ends in place; returns the new start. */
char *str_trim(char *s);
/* Decimal digits only, the whole string, within [min, max]; 0 or -E_INVAL. */
int str_to_i64(const char *s, int64_t min, int64_t max, int64_t *out);
/* Percent-decodes once into out (may be the input); an undecodable escape leaves the whole text as it is. Returns the length. */
size_t str_percent_decode(char *out, const char *in, size_t n);
/* Number of single-character edits between two short strings (at most 64 bytes each are looked at); for "did you mean". */
unsigned str_distance(const char *a, const char *b);
/* Validates UTF-8; false on overlong forms, surrogates and what is past U+10FFFF. */
bool utf8_valid(const char *s, size_t n);
size_t utf8_length(const char *s, size_t n);	/* bytes of the valid character at s, 0 = none */

/* Base64. Decoders take padded or unpadded, standard or URL alphabet, no white space; -E_INVAL otherwise, else the length. */
int base64_decode(uint8_t *out, size_t cap, const char *in, size_t n);
size_t base64_encode(char *out, size_t cap, const uint8_t *in, size_t n);	/* with padding and a NUL; 0 if cap is too small */

/* UUID version 4. */
void uuid_make(uint8_t out[static 16]);		/* from a per-process generator seeded by getrandom once; not for secrets */
void uuid_text(char out[static 37], const uint8_t u[static 16]);
int uuid_parse(uint8_t out[static 16], const char *s);
uint64_t rand_u64(void);			/* the same generator; not for secrets */
void rand_secret(void *out, size_t n);		/* getrandom; fatal when the kernel has none */

/* Constant-time comparison of two texts of any length (only the length may leak). */
bool secret_equal(const char *a, size_t na, const char *b, size_t nb);

#endif
