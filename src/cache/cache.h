/*
 * cache.h
 *	  Answers that are kept for the next who asks.
 *
 * Three parts: which answer may be given to whom (generation.h), where answers
 * are kept (backend.h: shared memory, or Redis), and this, which joins them.
 * Nothing here knows what an answer is about, and nothing here raises an error
 * of its own: an answer that cannot be found or kept is computed.
 *
 * Who may see an answer is decided by the caller before it asks, at each call.
 * What an answer depends on besides (the user, the arguments) is part of the
 * key.
 *
 * Keys are those of the specification.  Names within them are written so that
 * two organizations, or users, never share one: pfa_cache_key_name.
 */
#ifndef PFA_CACHE_H
#define PFA_CACHE_H

#include "postgres.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"

#include "generation.h"
#include "metrics/counters.h"

/* Longest key, in bytes; what would have a longer one is not cached. */
#define PFA_CACHE_MAX_KEY 800

/* Appended to a key for what only this server reads: see cache_redis.c. */
#define PFA_CACHE_SEALED ":sealed"

typedef struct PfaCacheItem
{
	PfaKeyspace keyspace;
	const char *key;
	Oid scope;     /* of the extension: once it is dropped and
								 * created again, nothing is left */
	int nsubjects; /* what the answer is made from */
	PfaSubject subjects[PFA_STAMP_SUBJECTS];
	int64 ttl_ms;
} PfaCacheItem;

/* Append a name as keys spell it: ':' and '%' and such as %XX. */
extern void pfa_cache_key_name(StringInfo key, const char *name);
/* Read one from *key to the next ':' or the end; palloc'd, *key moves on. */
extern char *pfa_cache_key_parse(const char **key);

/* Whether there is a backend to ask now. */
extern bool pfa_cache_is_on(void);

/* NULL is an answer that is not kept. */
typedef Jsonb *(*PfaCacheCompute)(void *arg);

/*
 * The answer, from the cache or computed and kept.  While one process computes
 * an answer, others that need the same one wait for it, for a while.
 */
extern Jsonb *
pfa_cache_fetch(const PfaCacheItem *item, PfaCacheCompute compute, void *arg);

/* For callers who keep values of their own; NULL: not there. */
extern Jsonb *pfa_cache_get_value(const PfaCacheItem *item);
/* Whether it was kept. */
extern bool pfa_cache_set_value(const PfaCacheItem *item, Jsonb *value);

/*
 * Drop what this database keeps under keys that match a pattern of Redis' kind
 * (*, ?, [a-z], \ quotes).  Returns how many.
 */
extern int64 pfa_cache_remove(const char *pattern);
extern bool pfa_cache_glob(const char *pattern, int pattern_len,
						   const char *key, int key_len);

/*
 * A scheduler's turn: notice that Redis answers again, and drop there what
 * could not be dropped when it changed.
 */
extern void pfa_cache_maintain(void);

/* ---- what pfa_cache_stats shows ---- */

typedef struct PfaCacheKeyspaceStats
{
	uint64 hits;
	uint64 misses;
	uint64 fills;     /* kept */
	uint64 evictions; /* to make room */
} PfaCacheKeyspaceStats;

typedef struct PfaCacheStats
{
	const char *backend; /* "off" too where there is no shared memory */
	bool up;
	bool has_size;
	uint64 size_bytes;
	uint64 max_bytes;
	uint64 entries;
	uint64 bypasses; /* calls that had to read the tables */
	uint64 waits;    /* for another process's answer */
	uint64 too_large;
	uint64 rejected; /* values in Redis that this server did not
								 * write so */
	uint64 errors;   /* Redis: operations that failed */
	PfaCacheKeyspaceStats keyspaces[PFA_NKEYSPACES];
} PfaCacheStats;

extern void pfa_cache_read_stats(PfaCacheStats *stats);
extern const char *pfa_cache_keyspace_name(PfaKeyspace keyspace);

/* ---- for shmem.c and pfa_vanguard.c ---- */
extern void pfa_cache_shmem_request(void);
extern void pfa_cache_shmem_startup(void);
extern void pfa_cache_init(void);

#endif /* PFA_CACHE_H */
