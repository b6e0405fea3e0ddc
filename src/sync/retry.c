/*
 * retry.c
 *	  How long to wait before asking PEMS again.
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "sync/retry.h"

#define BASE_MS    500.0
#define CEILING_MS 30000.0

long
pfa_retry_delay_ms(int attempt, double retry_after)
{
	double ceiling = BASE_MS;

	/* Asked for no wait at all, the usual one still protects the server. */
	if (retry_after > 0)
		return (long) (Min(retry_after, PFA_RETRY_AFTER_MAX) * 1000.0 +
					   pg_prng_double(&pg_global_prng_state) * 1000.0);

	for (int i = 1; i < attempt && ceiling < CEILING_MS; i++)
		ceiling *= 2;

	/* Never at once: half of the base is the least that helps a server. */
	return (long) (BASE_MS / 2 +
				   pg_prng_double(&pg_global_prng_state) *
					   (Min(ceiling, CEILING_MS) - BASE_MS / 2));
}
