/*
 * memory.c
 *	  What the process keeps of its memory between calls: see memory.h.
 *
 * An answer of 100 records passes through half a dozen buffers of 100 to 300
 * kB, the largest of them in jsonb_out and the protocol.  By default glibc
 * returns memory of this size to the kernel whenever it is freed, and has it
 * faulted in page by page again in the next call: more than a hundred faults,
 * which cost as much as the rest of the call, and twenty times as much as the
 * rest of a hit in the cache.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "memory.h"

/* Largest allocation, and free memory in all, that malloc keeps; bytes. */
#define KEPT_BLOCK  (1024 * 1024)
#define KEPT_MEMORY (4 * 1024 * 1024)

void
pfa_keep_memory(void)
{
#ifdef __GLIBC__
	static bool done = false;

	if (done)
		return;
	(void) mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK);
	(void) mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY);
	done = true;
#endif
}
