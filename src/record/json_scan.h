/*
 * json_scan.h
 *	  The innermost steps of reading JSON, for the compiler to inline.
 *
 * Nearly all bytes of a griddata answer lie in strings, and nearly all
 * strings are short and without escapes: looking at 16 bytes at a time for
 * the quote that ends them is where the speed comes from.  SSE2 is part of
 * x86-64; elsewhere the plain loop does the same.
 */
#ifndef PFA_JSON_SCAN_H
#define PFA_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* The first quote or backslash in [p, end), or end. */
static inline const char *
json_string_stop(const char *p, const char *end)
{
#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"');
	const __m128i backslash = _mm_set1_epi8('\\');

	while (end - p >= 16)
	{
		__m128i chunk = _mm_loadu_si128((const __m128i *) p);
		int mask;

		mask = _mm_movemask_epi8(
			_mm_or_si128(_mm_cmpeq_epi8(chunk, quote),
						 _mm_cmpeq_epi8(chunk, backslash)));
		if (mask != 0)
			return p + __builtin_ctz(mask);
		p += 16;
	}
#endif
	while (p < end && *p != '"' && *p != '\\')
		p++;
	return p;
}

/* The first quote, bracket or brace in [p, end), or end. */
static inline const char *
json_structure_stop(const char *p, const char *end)
{
#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"');
	const __m128i open = _mm_set1_epi8('{');
	const __m128i close = _mm_set1_epi8('}');
	const __m128i lower = _mm_set1_epi8(0x20);

	/* setting bit 0x20 makes '[' a '{' and ']' a '}' */
	while (end - p >= 16)
	{
		__m128i chunk = _mm_loadu_si128((const __m128i *) p);
		__m128i folded = _mm_or_si128(chunk, lower);
		__m128i hit;
		int mask;

		hit = _mm_or_si128(_mm_cmpeq_epi8(chunk, quote),
						   _mm_or_si128(_mm_cmpeq_epi8(folded, open),
										_mm_cmpeq_epi8(folded, close)));
		mask = _mm_movemask_epi8(hit);
		if (mask != 0)
			return p + __builtin_ctz(mask);
		p += 16;
	}
#endif
	while (p < end && *p != '"' && *p != '{' && *p != '}' && *p != '[' &&
		   *p != ']')
		p++;
	return p;
}

/* memcmp() == 0 for a few dozen bytes, without the call. */
static inline bool
json_same_bytes(const char *a, const char *b, size_t len)
{
	uint64_t x;
	uint64_t y;
	size_t at;

	if (len < 8)
		return memcmp(a, b, len) == 0;
	for (at = 0; at < len - 8; at += 8)
	{
		memcpy(&x, a + at, 8);
		memcpy(&y, b + at, 8);
		if (x != y)
			return false;
	}
	memcpy(&x, a + len - 8, 8);
	memcpy(&y, b + len - 8, 8);
	return x == y;
}

static inline bool
json_is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static inline const char *
json_skip_space(const char *p, const char *end)
{
	while (p < end && json_is_space(*p))
		p++;
	return p;
}

/* May c be part of a number, true, false or null? */
static inline bool
json_is_scalar(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' ||
		c == '+' || c == '.' || c == 'E';
}

#endif /* PFA_JSON_SCAN_H */
