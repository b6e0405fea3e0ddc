/*
 * tap.h
 *	  What the unit tests have in common: results as TAP, random numbers.
 */
#ifndef PFA_TEST_TAP_H
#define PFA_TEST_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define lengthof(a) ((int) (sizeof(a) / sizeof((a)[0])))

static int ntests;
static int nfailed;

__attribute__((format(printf, 2, 3))) static inline bool
check(bool ok, const char *fmt, ...)
{
	va_list args;

	printf("%sok %d - ", ok ? "" : "not ", ++ntests);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	nfailed += !ok;
	return ok;
}

/* What main returns. */
static inline int
end_of_tests(void)
{
	printf("1..%d\n", ntests);
	return nfailed > 0;
}

static uint64_t random_state = 88172645463325252u;

static inline uint64_t
random_bits(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * UINT64_C(0x9e3779b97f4a7c15);
}

static inline size_t
random_below(size_t n)
{
	return (size_t) ((random_bits() >> 16) % n);
}

#endif /* PFA_TEST_TAP_H */
