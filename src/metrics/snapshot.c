/*
 * snapshot.c
 *	  Copies of what is counted: see snapshot.h.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "metrics/metrics_private.h"
#include "metrics/snapshot.h"
#include "registry.h"

/* ---- organizations ---- */

static void
copy_counts(uint64 *target, pg_atomic_uint64 *source, int n)
{
	for (int i = 0; i < n; i++)
		target[i] = pg_atomic_read_u64(&source[i]);
}

static void
copy_organization(PfaOrganizationSnapshot *o, const char *organization,
				  PfaOrganizationCounters *c)
{
	memset(o, 0, sizeof(*o));
	strlcpy(o->organization_id, organization, sizeof(o->organization_id));
	for (int mode = 0; mode < PFA_NMODES; mode++)
		copy_counts(o->finished[mode], c->finished[mode], PFA_NSYNC_RESULTS);
	copy_counts(o->busy_us, c->busy_us, PFA_NMODES);
	copy_counts(o->errors, c->errors, PFA_NERROR_KINDS);
	copy_counts(o->rows, c->rows, PFA_NROW_KINDS);
	copy_counts(o->writes, c->writes, PFA_NWRITE_RESULTS);
	o->api_calls = pg_atomic_read_u64(&c->api_calls);
	o->retries = pg_atomic_read_u64(&c->retries);
	o->records_per_second = pg_atomic_read_u64(&c->rate_milli) / 1000.0;
	o->last_success_at = pg_atomic_read_u64(&c->last_success_at);
	o->waiting_since = pfa_metrics_waiting_since(o->last_success_at,
												 pg_atomic_read_u64(
													 &c->added_at));
	o->next_sync_at = pg_atomic_read_u64(&c->next_sync_at);
	o->interval_us = pg_atomic_read_u64(&c->interval_us);
	o->failures = pg_atomic_read_u64(&c->failures);
	o->idle = pg_atomic_read_u64(&c->idle) != 0;
	o->rejected = pg_atomic_read_u64(&c->rejected);
	o->write_back_pending = pg_atomic_read_u64(&c->write_back_pending);
	o->conflicts_open = pg_atomic_read_u64(&c->conflicts_open);
}

TimestampTz
pfa_metrics_waiting_since(TimestampTz last_success_at, TimestampTz added_at)
{
	return Max(Max(last_success_at, added_at), pfa_metrics_started_at());
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const PfaOrganizationSnapshot *) a)->organization_id,
				  ((const PfaOrganizationSnapshot *) b)->organization_id);
}

/* Anything counted or known of those that have no entry? */
static bool
is_used(PfaOrganizationCounters *counters)
{
	const char *bytes = (const char *) counters;

	for (size_t i = 0; i < sizeof(*counters); i++)
	{
		if ((i < offsetof(PfaOrganizationCounters, idle) ||
			 i >= offsetof(PfaOrganizationCounters, idle) + sizeof(uint64)) &&
			bytes[i] != 0)
			return true;
	}
	return false;
}

/* What runs just now, from the slots of the syncs themselves. */
static void
add_running(PfaOrganizationSnapshot *organizations, int n)
{
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < PFA_MAX_SLOTS; i++)
	{
		PfaSlot *slot = pfa_slot_by_index(i);
		PfaOrganizationSnapshot key = {0};
		PfaOrganizationSnapshot *o;
		int64 usecs;

		if (!pg_atomic_read_u32(&slot->in_use) ||
			slot->database != MyDatabaseId)
			continue;
		strlcpy(key.organization_id, slot->organization_id,
				sizeof(key.organization_id));
		o = bsearch(&key, organizations, n, sizeof(key), by_name);
		if (o == NULL)
		{
			strlcpy(key.organization_id, PFA_OTHER,
					sizeof(key.organization_id));
			o = bsearch(&key, organizations, n, sizeof(key), by_name);
		}
		if (o == NULL)
			continue;
		o->running++;
		usecs = now - slot->started_at;
		if (usecs > 0)
			o->records_per_second = pg_atomic_read_u64(&slot->rows_seen) * 1e6 /
				usecs;
	}
}

int
pfa_metrics_snapshot(PfaOrganizationSnapshot **organizations)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	PfaOrganizationSnapshot *o;
	int max;
	int n = 0;

	*organizations = NULL;
	if (block == NULL)
		return 0;
	max = pfa_metrics.shared->max_organizations;
	o = palloc(sizeof(PfaOrganizationSnapshot) * (max + 1));
	LWLockAcquire(pfa_metrics.lock, LW_SHARED);
	for (int i = 0; i < max; i++)
	{
		if (pg_atomic_read_u32(&pfa_metrics.keys[i].database) == MyDatabaseId)
			copy_organization(&o[n++],
							  pfa_metrics.organizations[i].organization_id,
							  &pfa_metrics.organizations[i].counters);
	}
	LWLockRelease(pfa_metrics.lock);
	if (is_used(&block->other))
		copy_organization(&o[n++], PFA_OTHER, &block->other);
	qsort(o, n, sizeof(PfaOrganizationSnapshot), by_name);
	add_running(o, n);
	*organizations = o;
	return n;
}

int
pfa_metrics_organizations_used(void)
{
	int n = 0;

	for (int i = 0; pfa_metrics.shared != NULL &&
		 i < pfa_metrics.shared->max_organizations;
		 i++)
		n += OidIsValid(pg_atomic_read_u32(&pfa_metrics.keys[i].database));
	return n;
}

/* ---- statements, calls, cache ---- */

uint64
pfa_metrics_statements(PfaHistogramValues *duration)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	uint64 slow = 0;

	memset(duration, 0, sizeof(*duration));
	/* Slow ones first: they are among those that are read after them. */
	for (int i = 0; block != NULL && i < PFA_STATEMENT_SHARDS; i++)
		slow += pg_atomic_read_u64(&block->statements[i].s.slow);
	pg_read_barrier();
	for (int i = 0; block != NULL && i < PFA_STATEMENT_SHARDS; i++)
		pfa_histogram_read(&block->statements[i].s.duration, duration);
	return slow;
}

void
pfa_metrics_in_flight(int counts[PFA_NENDPOINTS])
{
	memset(counts, 0, sizeof(int) * PFA_NENDPOINTS);
	for (int i = 0; pfa_metrics.shared != NULL && i < pfa_metrics.nbackends;
		 i++)
	{
		uint64 word = pg_atomic_read_u64(&pfa_metrics.backends[i]);
		uint32 endpoint = (uint32) word;

		if ((Oid) (word >> 32) == MyDatabaseId && endpoint > 0 &&
			endpoint <= PFA_NENDPOINTS)
			counts[endpoint - 1]++;
	}
}

static bool
is_waiting_call(PfaEndpoint endpoint)
{
	return endpoint == PFA_ENDPOINT_SYNC_WAIT ||
		endpoint == PFA_ENDPOINT_SYNC || endpoint == PFA_ENDPOINT_TEST_SOURCE ||
		endpoint == PFA_ENDPOINT_REFRESH_MV ||
		endpoint == PFA_ENDPOINT_KPI_VERIFY ||
		endpoint == PFA_ENDPOINT_INDEX_ADVICE ||
		endpoint == PFA_ENDPOINT_PREWARM;
}

void
pfa_metrics_calls(PfaCallTotals *totals, bool wait)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	memset(totals, 0, sizeof(*totals));
	for (int i = 0; block != NULL && i < PFA_NENDPOINTS; i++)
	{
		PfaEndpointCounters *counters = &block->endpoints[i];

		totals->failed += pg_atomic_read_u64(&counters->failed);
		totals->succeeded += pg_atomic_read_u64(&counters->succeeded);
		if (wait || !is_waiting_call(i))
			pfa_histogram_read(&counters->duration, &totals->duration);
	}
}

void
pfa_metrics_cache_totals(PfaCacheTotals *totals)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	memset(totals, 0, sizeof(*totals));
	if (block == NULL)
		return;
	totals->state = (int) pg_atomic_read_u64(&block->cache_state);
	for (int i = 0; i < PFA_NKEYSPACES; i++)
	{
		totals->hits += pg_atomic_read_u64(&block->cache_hits[i]);
		totals->misses += pg_atomic_read_u64(&block->cache_misses[i]);
	}
}

/* ---- processes, the rest ---- */

/*
 * The launcher's messages are in the server's encoding, this database's may be
 * another.
 */
static void
make_valid(char *text)
{
	if (pg_verifymbstr(text, strlen(text), true))
		return;
	for (; *text != '\0'; text++)
	{
		if (IS_HIGHBIT_SET(*text))
			*text = '?';
	}
}

bool
pfa_metrics_process(PfaProcess process, PfaProcessSnapshot *snapshot)
{
	static const PfaWorkerKind kinds[PFA_NPROCESSES] = {PFA_WORKER_LAUNCHER,
														PFA_WORKER_SCHEDULER,
														PFA_WORKER_SYNC};
	PfaDatabaseBlock *block = pfa_metrics_block();
	PfaProcessEntry *entry;

	memset(snapshot, 0, sizeof(*snapshot));
	if (block == NULL)
		return false;
	entry = process == PFA_PROCESS_LAUNCHER ? &pfa_metrics.shared->launcher :
											  &block->processes[process];
	snapshot->pid = pfa_worker_pid(kinds[process],
								   process == PFA_PROCESS_LAUNCHER ?
									   InvalidOid :
									   MyDatabaseId);
	snapshot->started_at = pg_atomic_read_u64(&entry->started_at);
	snapshot->restarts = pg_atomic_read_u64(&entry->restarts);
	snapshot->failed_at = pg_atomic_read_u64(&entry->failed_at);
	LWLockAcquire(pfa_metrics.lock, LW_SHARED);
	memcpy(snapshot->error, entry->error, sizeof(snapshot->error));
	LWLockRelease(pfa_metrics.lock);
	snapshot->error[sizeof(snapshot->error) - 1] = '\0';
	make_valid(snapshot->error);
	return true;
}

TimestampTz
pfa_metrics_started_at(void)
{
	return pfa_metrics.shared == NULL ? 0 : pfa_metrics.shared->started_at;
}

TimestampTz
pfa_metrics_facts_at(void)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	return block == NULL ? 0 : pg_atomic_read_u64(&block->facts_at);
}

uint64
pfa_metrics_events_dropped(void)
{
	PfaDatabaseBlock *block = pfa_metrics_block();

	return block == NULL ? 0 : pg_atomic_read_u64(&block->events_dropped);
}
