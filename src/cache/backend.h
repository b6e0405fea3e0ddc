/*
 * backend.h
 *	  Where answers are kept, and what the files of cache/ share.
 *
 * A backend is a table of functions.  None of them raises an error but for an
 * interrupt or lack of memory, and none waits longer than its settings say.
 */
#ifndef PFA_CACHE_BACKEND_H
#define PFA_CACHE_BACKEND_H

#include "postgres.h"
#include "port/atomics.h"

#include "cache/cache.h"

typedef struct PfaCacheBackend
{
	const char *name;

	/*
	 * The value kept under the item's key for this stamp, palloc'd; NULL where
	 * there is none.
	 */
	Jsonb *(*get)(const PfaCacheItem *item, const PfaStamp *stamp);

	/*
	 * Keep it.  A value of an older state never replaces one of a newer.
	 */
	bool (*set)(const PfaCacheItem *item, const PfaStamp *stamp, Jsonb *value);
	int64 (*remove)(const char *pattern);
	bool (*is_up)(void);
	/* Bytes and values kept; NULL where nobody knows. */
	void (*measure)(uint64 *bytes, uint64 *max_bytes, uint64 *entries);
} PfaCacheBackend;

extern const PfaCacheBackend pfa_cache_shared_memory;
extern const PfaCacheBackend pfa_cache_redis;

/* ---- counters, in shared memory ---- */

typedef enum PfaCacheCounter
{
	PFA_CACHE_BYPASSES,
	PFA_CACHE_WAITS,
	PFA_CACHE_TOO_LARGE,
	PFA_CACHE_REJECTED,
	PFA_CACHE_ERRORS,
	PFA_CACHE_NCOUNTERS
} PfaCacheCounter;

extern void pfa_cache_count(PfaCacheCounter counter);
extern void pfa_cache_count_eviction(PfaKeyspace keyspace);

/* ---- flight.c: one computes, others wait ---- */

typedef enum PfaFlight
{
	PFA_FLIGHT_MINE,   /* compute, and land */
	PFA_FLIGHT_WAITED, /* another has landed, or has taken too long */
	PFA_FLIGHT_NONE    /* compute without: this process, or the place,
								 * has another one under way */
} PfaFlight;

/* Take off; may_wait: or wait for who has. */
extern PfaFlight pfa_flight_begin(const PfaCacheItem *item,
								  const PfaStamp *stamp, bool may_wait);
/* Land, if this process is in the air. */
extern void pfa_flight_end(void);
extern Size pfa_flight_shmem_size(void);
extern void pfa_flight_shmem_startup(void);
extern void pfa_flight_init(void);

/* ---- cache_shmem.c ---- */
extern void pfa_cache_shared_memory_request(void);
extern void pfa_cache_shared_memory_startup(void);

/* ---- cache_redis.c ---- */
extern Size pfa_cache_redis_shmem_size(void);
extern void pfa_cache_redis_shmem_startup(void);
/* pfa_generation_changed_hook */
extern void pfa_cache_redis_changed(const PfaSubject *subjects, int nsubjects);
extern void pfa_cache_redis_maintain(void);

#endif /* PFA_CACHE_BACKEND_H */
