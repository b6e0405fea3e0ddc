/*
 * cache.c
 *	  Look up, compute, keep: see cache.h.
 *
 * Lifetimes are shortened by up to a tenth, by chance, so that answers that
 * were kept together do not end together.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "common/pg_prng.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "cache/backend.h"
#include "guc.h"
#include "memory.h"

typedef struct Shared
{
	pg_atomic_uint64 counters[PFA_CACHE_NCOUNTERS];
	pg_atomic_uint64 hits[PFA_NKEYSPACES];
	pg_atomic_uint64 misses[PFA_NKEYSPACES];
	pg_atomic_uint64 fills[PFA_NKEYSPACES];
	pg_atomic_uint64 evictions[PFA_NKEYSPACES];
} Shared;

static Shared *shared;

static const char *const keyspace_names[PFA_NKEYSPACES] =
	{[PFA_KEYSPACE_DATA] = "data",
	 [PFA_KEYSPACE_STATS] = "stats",
	 [PFA_KEYSPACE_CONFIG] = "config",
	 [PFA_KEYSPACE_PERMISSIONS] = "permissions",
	 [PFA_KEYSPACE_AI] = "ai",
	 [PFA_KEYSPACE_OTHER] = "other"};

/* ---- set-up ---- */

void
pfa_cache_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
	RequestAddinShmemSpace(pfa_flight_shmem_size());
	RequestAddinShmemSpace(pfa_cache_redis_shmem_size());
	pfa_cache_shared_memory_request();
}

void
pfa_cache_shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("pfa_vanguard cache", sizeof(Shared), &found);
	if (!found)
	{
		pg_atomic_uint64 *all = (pg_atomic_uint64 *) shared;

		for (size_t i = 0; i < sizeof(Shared) / sizeof(pg_atomic_uint64); i++)
			pg_atomic_init_u64(&all[i], 0);
	}
	LWLockRelease(AddinShmemInitLock);
	pfa_flight_shmem_startup();
	pfa_cache_redis_shmem_startup();
	pfa_cache_shared_memory_startup();
}

void
pfa_cache_init(void)
{
	pfa_flight_init();
	pfa_generation_changed_hook = pfa_cache_redis_changed;
}

static const PfaCacheBackend *
present_backend(void)
{
	if (shared == NULL)
		return NULL;
	switch (pfa_guc_cache_backend)
	{
		case PFA_CACHE_BACKEND_SHARED_MEMORY:
			return &pfa_cache_shared_memory;
		case PFA_CACHE_BACKEND_REDIS:
			return &pfa_cache_redis;
		default:
			return NULL;
	}
}

/* ---- counting ---- */

void
pfa_cache_count(PfaCacheCounter counter)
{
	pg_atomic_fetch_add_u64(&shared->counters[counter], 1);
}

void
pfa_cache_count_eviction(PfaKeyspace keyspace)
{
	pg_atomic_fetch_add_u64(&shared->evictions[keyspace], 1);
	pfa_metrics_cache_evicted(keyspace, 1);
}

static void
count_lookup(PfaKeyspace keyspace, bool hit)
{
	pg_atomic_fetch_add_u64(hit ? &shared->hits[keyspace] :
								  &shared->misses[keyspace],
							1);
	pfa_metrics_cache_lookup(keyspace, hit);
}

static void
count_duration(PfaCacheOperation operation, instr_time start)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	pfa_metrics_cache_operation(operation,
								(uint64) (INSTR_TIME_GET_DOUBLE(now) * 1e9));
}

/* ---- one operation of the backend ---- */

static Jsonb *
timed_get(const PfaCacheBackend *backend, const PfaCacheItem *item,
		  const PfaStamp *stamp)
{
	instr_time start;
	Jsonb *value;

	pfa_keep_memory();
	INSTR_TIME_SET_CURRENT(start);
	value = backend->get(item, stamp);
	count_duration(PFA_CACHE_GET, start);
	return value;
}

static bool
timed_set(const PfaCacheBackend *backend, const PfaCacheItem *item,
		  const PfaStamp *stamp, Jsonb *value)
{
	PfaCacheItem jittered = *item;
	instr_time start;
	bool kept;

	jittered.ttl_ms -= (int64) (pg_prng_double(&pg_global_prng_state) *
								(item->ttl_ms / 10));
	INSTR_TIME_SET_CURRENT(start);
	kept = backend->set(&jittered, stamp, value);
	count_duration(PFA_CACHE_SET, start);
	if (kept)
		pg_atomic_fetch_add_u64(&shared->fills[item->keyspace], 1);
	return kept;
}

/* ---- answers ---- */

static Jsonb *
compute_and_keep(const PfaCacheBackend *backend, const PfaCacheItem *item,
				 const PfaStamp *stamp, PfaCacheCompute compute, void *arg)
{
	Jsonb *value = compute(arg);

	if (value != NULL)
		(void) timed_set(backend, item, stamp, value);
	return value;
}

/*
 * A miss.  Who has waited for another's answer and finds none computes his
 * own at once: the other could not keep it.
 */
static Jsonb *
miss(const PfaCacheBackend *backend, const PfaCacheItem *item,
	 const PfaStamp *stamp, PfaCacheCompute compute, void *arg)
{
	PfaFlight flight = pfa_flight_begin(item, stamp, true);
	Jsonb *value = NULL;

	if (flight == PFA_FLIGHT_WAITED)
	{
		value = timed_get(backend, item, stamp);
		if (value != NULL)
		{
			count_lookup(item->keyspace, true);
			return value;
		}
		flight = pfa_flight_begin(item, stamp, false);
	}
	count_lookup(item->keyspace, false);
	if (flight != PFA_FLIGHT_MINE)
		return compute_and_keep(backend, item, stamp, compute, arg);

	PG_TRY();
	{
		value = compute_and_keep(backend, item, stamp, compute, arg);
	}
	PG_FINALLY();
	{
		pfa_flight_end();
	}
	PG_END_TRY();
	return value;
}

static bool
is_key_usable(const PfaCacheItem *item)
{
	return strlen(item->key) <= PFA_CACHE_MAX_KEY;
}

bool
pfa_cache_is_on(void)
{
	return present_backend() != NULL;
}

Jsonb *
pfa_cache_fetch(const PfaCacheItem *item, PfaCacheCompute compute, void *arg)
{
	const PfaCacheBackend *backend = present_backend();
	PfaStamp stamp;
	Jsonb *value;

	if (backend == NULL)
		return compute(arg);
	if (!is_key_usable(item) ||
		!pfa_generation_stamp(item->subjects, item->nsubjects, &stamp))
	{
		pfa_cache_count(PFA_CACHE_BYPASSES);
		return compute(arg);
	}
	value = timed_get(backend, item, &stamp);
	if (value == NULL)
		return miss(backend, item, &stamp, compute, arg);
	count_lookup(item->keyspace, true);
	return value;
}

/* ---- values of the caller's own ---- */

/* Those without subjects are what they are, whatever a snapshot shows. */
static bool
value_stamp(const PfaCacheItem *item, PfaStamp *stamp)
{
	memset(stamp, 0, sizeof(*stamp));
	return is_key_usable(item) && !RecoveryInProgress() &&
		(item->nsubjects == 0 ||
		 pfa_generation_stamp(item->subjects, item->nsubjects, stamp));
}

Jsonb *
pfa_cache_get_value(const PfaCacheItem *item)
{
	const PfaCacheBackend *backend = present_backend();
	PfaStamp stamp;
	Jsonb *value;

	if (backend == NULL || !value_stamp(item, &stamp))
		return NULL;
	value = timed_get(backend, item, &stamp);
	count_lookup(item->keyspace, value != NULL);
	return value;
}

bool
pfa_cache_set_value(const PfaCacheItem *item, Jsonb *value)
{
	const PfaCacheBackend *backend = present_backend();
	PfaStamp stamp;

	return backend != NULL && value_stamp(item, &stamp) &&
		timed_set(backend, item, &stamp, value);
}

int64
pfa_cache_remove(const char *pattern)
{
	const PfaCacheBackend *backend = present_backend();
	instr_time start;
	int64 n;

	if (backend == NULL)
		return 0;
	INSTR_TIME_SET_CURRENT(start);
	n = backend->remove(pattern);
	count_duration(PFA_CACHE_INVALIDATE, start);
	return n;
}

/* ---- the scheduler's part ---- */

void
pfa_cache_maintain(void)
{
	const PfaCacheBackend *backend = present_backend();
	uint64 bytes = 0;
	uint64 max_bytes;
	uint64 entries;

	if (shared == NULL)
		return;
	pfa_cache_redis_maintain();
	if (backend == NULL)
		return;
	if (backend->measure != NULL)
		backend->measure(&bytes, &max_bytes, &entries);
	pfa_metrics_cache_state(backend->is_up(), bytes);
}

/* ---- statistics ---- */

const char *
pfa_cache_keyspace_name(PfaKeyspace keyspace)
{
	return keyspace_names[keyspace];
}

static uint64
read_counter(PfaCacheCounter counter)
{
	return pg_atomic_read_u64(&shared->counters[counter]);
}

void
pfa_cache_read_stats(PfaCacheStats *stats)
{
	const PfaCacheBackend *backend = present_backend();

	memset(stats, 0, sizeof(*stats));
	stats->backend = backend == NULL ? "off" : backend->name;
	stats->up = backend != NULL && backend->is_up();
	stats->has_size = backend != NULL && backend->measure != NULL;
	if (stats->has_size)
		backend->measure(&stats->size_bytes, &stats->max_bytes,
						 &stats->entries);
	if (shared == NULL)
		return;
	stats->bypasses = read_counter(PFA_CACHE_BYPASSES);
	stats->waits = read_counter(PFA_CACHE_WAITS);
	stats->too_large = read_counter(PFA_CACHE_TOO_LARGE);
	stats->rejected = read_counter(PFA_CACHE_REJECTED);
	stats->errors = read_counter(PFA_CACHE_ERRORS);
	for (int i = 0; i < PFA_NKEYSPACES; i++)
	{
		PfaCacheKeyspaceStats *keyspace = &stats->keyspaces[i];

		keyspace->hits = pg_atomic_read_u64(&shared->hits[i]);
		keyspace->misses = pg_atomic_read_u64(&shared->misses[i]);
		keyspace->fills = pg_atomic_read_u64(&shared->fills[i]);
		keyspace->evictions = pg_atomic_read_u64(&shared->evictions[i]);
	}
}
