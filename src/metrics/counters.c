/*
 * counters.c
 *	  Counting in shared memory: see counters.h for the contract and
 *	  metrics_private.h for the layout.
 *
 * A count is one atomic addition to memory that was found before: no lock, no
 * allocation.  Statements, the hot ones, are spread over groups of backends,
 * so that two processors seldom want the same cache line; all else happens
 * a few thousand times a second at most.
 *
 * Nothing here survives the server: a value restored after a crash would be
 * older than what was last scraped, and a reader would add it a second time.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/errcodes.h"
#include "utils/timestamp.h"

#include "guc.h"
#include "metrics/metrics_private.h"

/* A freed entry is used again after so long, see metrics_private.h. */
#define REUSE_USECS (60 * USECS_PER_SEC)

PfaMetrics pfa_metrics;

/* ---- set-up ---- */

static int
count_backends(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

static Size
keys_size(void)
{
	return MAXALIGN(
		mul_size(pfa_guc_max_organizations, sizeof(PfaOrganizationKey)));
}

static Size
organizations_size(void)
{
	return MAXALIGN(
		mul_size(pfa_guc_max_organizations, sizeof(PfaOrganizationEntry)));
}

Size
pfa_metrics_shmem_size(void)
{
	Size size = CACHELINEALIGN(sizeof(PfaMetricsShared));

	size = add_size(size, PG_CACHE_LINE_SIZE);
	size = add_size(size, keys_size());
	size = add_size(size, organizations_size());
	return add_size(size, mul_size(count_backends(), sizeof(PfaBackendWord)));
}

void
pfa_metrics_shmem_request(void)
{
	RequestAddinShmemSpace(pfa_metrics_shmem_size());
	RequestNamedLWLockTranche("pfa_vanguard_metrics", 1);
}

/*
 * Zeroed memory is an atomic of 0 wherever 64-bit atomics are the processor's
 * own, as they are on every platform that is supported here.
 */
StaticAssertDecl(sizeof(pg_atomic_uint64) == sizeof(uint64),
				 "64-bit atomics must be native");

void
pfa_metrics_shmem_startup(void)
{
	bool found;
	char *memory;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	memory = ShmemInitStruct("pfa_vanguard metrics", pfa_metrics_shmem_size(),
							 &found);
	if (!found)
		memset(memory, 0, pfa_metrics_shmem_size());
	pfa_metrics.lock = &(GetNamedLWLockTranche("pfa_vanguard_metrics"))->lock;
	pfa_metrics.nbackends = count_backends();

	memory = (char *) CACHELINEALIGN(memory);
	pfa_metrics.shared = (PfaMetricsShared *) memory;
	memory += CACHELINEALIGN(sizeof(PfaMetricsShared));
	pfa_metrics.keys = (PfaOrganizationKey *) memory;
	memory += keys_size();
	pfa_metrics.organizations = (PfaOrganizationEntry *) memory;
	memory += organizations_size();
	pfa_metrics.backends = (PfaBackendWord *) memory;
	if (!found)
	{
		pfa_metrics.shared->started_at = GetCurrentTimestamp();
		pfa_metrics.shared->max_organizations = pfa_guc_max_organizations;
	}
	LWLockRelease(AddinShmemInitLock);
}

/* ---- databases ---- */

PfaDatabaseBlock *
pfa_metrics_find_block(Oid database)
{
	if (pfa_metrics.shared == NULL || !OidIsValid(database))
		return NULL;
	for (int i = 0; i < PFA_METRICS_DATABASES; i++)
	{
		PfaDatabaseBlock *block = &pfa_metrics.shared->databases[i];

		if (pg_atomic_read_u32(&block->database) == database)
			return block;
	}
	return NULL;
}

static PfaDatabaseBlock *
make_block(Oid database)
{
	PfaDatabaseBlock *block;

	LWLockAcquire(pfa_metrics.lock, LW_EXCLUSIVE);
	block = pfa_metrics_find_block(database);
	for (int i = 0; block == NULL && i < PFA_METRICS_DATABASES; i++)
	{
		PfaDatabaseBlock *candidate = &pfa_metrics.shared->databases[i];

		if (OidIsValid(pg_atomic_read_u32(&candidate->database)))
			continue;
		block = candidate;
		pg_write_barrier();
		pg_atomic_write_u32(&block->database, database);
	}
	LWLockRelease(pfa_metrics.lock);
	return block;
}

PfaDatabaseBlock *
pfa_metrics_block(void)
{
	/* A process does not change its database, and looks for a block once. */
	if (pfa_metrics.mine != NULL)
		return pfa_metrics.mine;
	if (pfa_metrics.shared == NULL || !OidIsValid(MyDatabaseId) ||
		pfa_metrics.none_free)
		return NULL;
	pfa_metrics.mine = pfa_metrics_find_block(MyDatabaseId);
	if (pfa_metrics.mine == NULL)
		pfa_metrics.mine = make_block(MyDatabaseId);
	pfa_metrics.none_free = pfa_metrics.mine == NULL;
	return pfa_metrics.mine;
}

/* Nobody is connected to it any more, so nobody counts in it. */
void
pfa_metrics_forget_database(Oid database)
{
	PfaDatabaseBlock *block;

	if (pfa_metrics.shared == NULL)
		return;
	LWLockAcquire(pfa_metrics.lock, LW_EXCLUSIVE);
	block = pfa_metrics_find_block(database);
	if (block != NULL)
	{
		/* The key goes first: found by its OID it must not be half zeroed. */
		pg_atomic_write_u32(&block->database, InvalidOid);
		pg_write_barrier();
		memset(block, 0, sizeof(PfaDatabaseBlock));
	}
	for (int i = 0; i < pfa_metrics.shared->max_organizations; i++)
	{
		if (pg_atomic_read_u32(&pfa_metrics.keys[i].database) != database)
			continue;
		pg_atomic_write_u32(&pfa_metrics.keys[i].database, InvalidOid);
		pfa_metrics.organizations[i].freed_at = GetCurrentTimestamp();
	}
	LWLockRelease(pfa_metrics.lock);
}

int
pfa_metrics_backend(void)
{
	int index;

	if (MyProc == NULL || pfa_metrics.shared == NULL)
		return -1;
	index = MyProc - ProcGlobal->allProcs;
	return index < pfa_metrics.nbackends ? index : -1;
}

/* ---- organizations ---- */

static int
find_organization(const char *organization, uint32 hash)
{
	for (int i = 0; i < pfa_metrics.shared->max_organizations; i++)
	{
		PfaOrganizationKey *key = &pfa_metrics.keys[i];

		if (pg_atomic_read_u32(&key->database) != MyDatabaseId ||
			key->hash != hash)
			continue;
		pg_read_barrier();
		if (strcmp(pfa_metrics.organizations[i].organization_id,
				   organization) == 0)
			return i;
	}
	return -1;
}

static int
make_organization(const char *organization, uint32 hash)
{
	TimestampTz now = GetCurrentTimestamp();
	int found;

	/* Under the lock, so that no organization is entered twice. */
	LWLockAcquire(pfa_metrics.lock, LW_EXCLUSIVE);
	found = find_organization(organization, hash);
	for (int i = 0; found < 0 && i < pfa_metrics.shared->max_organizations; i++)
	{
		PfaOrganizationEntry *entry = &pfa_metrics.organizations[i];
		PfaOrganizationKey *key = &pfa_metrics.keys[i];

		if (OidIsValid(pg_atomic_read_u32(&key->database)) ||
			(entry->freed_at != 0 && entry->freed_at + REUSE_USECS > now))
			continue;
		memset(entry, 0, sizeof(PfaOrganizationEntry));
		strlcpy(entry->organization_id, organization,
				sizeof(entry->organization_id));
		key->hash = hash;
		pg_write_barrier();
		pg_atomic_write_u32(&key->database, MyDatabaseId);
		found = i;
	}
	LWLockRelease(pfa_metrics.lock);
	return found;
}

PfaOrganizationEntry *
pfa_metrics_organization_entry(const char *organization, bool make)
{
	uint32 hash;
	int i;

	/* One that is really called so must not give a second series of the name. */
	if (pfa_metrics_block() == NULL || organization == NULL ||
		organization[0] == '\0' || strcmp(organization, PFA_OTHER) == 0 ||
		strlen(organization) >= PFA_METRICS_LABEL_LEN)
		return NULL;
	hash = hash_bytes((const unsigned char *) organization,
					  (int) strlen(organization));
	i = find_organization(organization, hash);
	if (i < 0 && make)
		i = make_organization(organization, hash);
	return i < 0 ? NULL : &pfa_metrics.organizations[i];
}

/* Never NULL where there is shared memory. */
static PfaOrganizationCounters *
organization_counters(const char *organization)
{
	PfaOrganizationEntry *entry;

	if (pfa_metrics_block() == NULL)
		return NULL;
	entry = pfa_metrics_organization_entry(organization, true);
	return entry != NULL ? &entry->counters : &pfa_metrics.mine->other;
}

static inline void
add(pg_atomic_uint64 *counter, int64 n)
{
	if (n > 0)
		pg_atomic_fetch_add_u64(counter, n);
}

/* ---- syncs ---- */

PfaErrorKind
pfa_metrics_error_kind(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
			return PFA_ERROR_NETWORK;
		case ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION:
			return PFA_ERROR_DENIED;
		case ERRCODE_FDW_ERROR:
			return sqlstate == ERRCODE_FDW_ERROR ? PFA_ERROR_ANSWER :
												   PFA_ERROR_SETUP;
		case ERRCODE_DATA_EXCEPTION:
			return sqlstate == ERRCODE_DATA_EXCEPTION ? PFA_ERROR_GUARD :
														PFA_ERROR_SETUP;
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
			return PFA_ERROR_SETUP;
	}
	return PFA_ERROR_DATABASE;
}

void
pfa_metrics_sync_progress(const char *organization,
						  const PfaSyncProgress *progress)
{
	PfaOrganizationCounters *counters = organization_counters(organization);

	if (counters == NULL)
		return;
	add(&counters->rows[PFA_ROWS_INSERTED], progress->inserted);
	add(&counters->rows[PFA_ROWS_UPDATED], progress->updated);
	add(&counters->rows[PFA_ROWS_DELETED], progress->deleted);
	add(&counters->rows[PFA_ROWS_UNCHANGED], progress->unchanged);
	add(&counters->rows[PFA_ROWS_REJECTED], progress->rejected);
	add(&counters->api_calls, progress->api_calls);
	add(&counters->retries, progress->retries);
}

void
pfa_metrics_sync_finished(const char *organization, PfaSyncMode mode,
						  PfaSyncResult result, PfaErrorKind kind, int64 usecs,
						  int64 records)
{
	PfaOrganizationCounters *counters = organization_counters(organization);

	if (counters == NULL)
		return;
	usecs = Max(usecs, 0);
	records = Max(records, 0);
	add(&counters->busy_us[mode], usecs);
	if (result == PFA_SYNC_FAILED)
		add(&counters->errors[kind], 1);
	if (result == PFA_SYNC_SUCCESS)
	{
		/* How long a sync takes is asked of those that did their work. */
		pfa_histogram_observe(&pfa_metrics.mine->sync_duration[mode],
							  &pfa_histogram_sync, usecs);
		pfa_histogram_observe(&pfa_metrics.mine->sync_records[mode],
							  &pfa_histogram_records, records);
		pg_atomic_write_u64(&counters->last_success_at, GetCurrentTimestamp());
	}
	pg_atomic_write_u64(&counters->rate_milli,
						usecs > 0 ? (uint64) (records * 1e9 / usecs) : 0);
	/* Last: who sees it counted sees the rest too. */
	pg_write_barrier();
	add(&counters->finished[mode][result], 1);
}

void
pfa_metrics_write_back(const char *organization, PfaWriteResult result)
{
	PfaOrganizationCounters *counters = organization_counters(organization);

	if (counters != NULL)
		add(&counters->writes[result], 1);
}

/* ---- cache ---- */

void
pfa_metrics_cache_lookup(PfaKeyspace keyspace, bool hit)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	if (block != NULL)
		add(hit ? &block->cache_hits[keyspace] : &block->cache_misses[keyspace],
			1);
}

void
pfa_metrics_cache_evicted(PfaKeyspace keyspace, uint64 entries)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	if (block != NULL)
		add(&block->cache_evictions[keyspace], entries);
}

void
pfa_metrics_cache_operation(PfaCacheOperation operation, uint64 nsecs)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	if (block != NULL)
		pfa_histogram_observe(&block->cache_duration[operation],
							  &pfa_histogram_cache, nsecs);
}

void
pfa_metrics_cache_state(bool up, uint64 size_bytes)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	if (block == NULL)
		return;
	pg_atomic_write_u64(&block->cache_size, size_bytes);
	pg_atomic_write_u64(&block->cache_state, up ? 2 : 1);
}

/* ---- views, events ---- */

void
pfa_metrics_view_refreshed(PfaView view, TimestampTz at)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	if (block != NULL)
		pg_atomic_write_u64(&block->view_refreshed_at[view], at);
}

void
pfa_metrics_event(PfaEventLevel level)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	if (block != NULL)
		add(&block->events[level], 1);
}

/* ---- processes ---- */

static PfaProcessEntry *
process_entry(PfaProcess process, Oid database)
{
	PfaDatabaseBlock *block;

	if (pfa_metrics.shared == NULL)
		return NULL;
	if (process == PFA_PROCESS_LAUNCHER)
		return &pfa_metrics.shared->launcher;
	block = database == MyDatabaseId ? pfa_metrics_block() :
									   pfa_metrics_find_block(database);
	return block == NULL ? NULL : &block->processes[process];
}

void
pfa_metrics_process_started(PfaProcess process, Oid database)
{
	PfaProcessEntry *entry = process_entry(process, database);

	if (entry == NULL)
		return;
	/* Nobody but the postmaster starts the launcher, so nobody else counts. */
	if (process == PFA_PROCESS_LAUNCHER &&
		pg_atomic_read_u64(&entry->started_at) != 0)
		add(&entry->restarts, 1);
	pg_atomic_write_u64(&entry->started_at, GetCurrentTimestamp());
}

void
pfa_metrics_process_restarted(PfaProcess process, Oid database)
{
	PfaProcessEntry *entry = process_entry(process, database);

	if (entry != NULL)
		add(&entry->restarts, 1);
}

void
pfa_metrics_process_failed(PfaProcess process, Oid database, const char *error)
{
	PfaProcessEntry *entry = process_entry(process, database);

	if (entry == NULL)
		return;
	LWLockAcquire(pfa_metrics.lock, LW_EXCLUSIVE);
	strlcpy(entry->error, error, sizeof(entry->error));
	LWLockRelease(pfa_metrics.lock);
	pg_atomic_write_u64(&entry->failed_at, GetCurrentTimestamp());
}
