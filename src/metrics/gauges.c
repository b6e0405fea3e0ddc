/*
 * gauges.c
 *	  Keep what the scheduler found in tables: see gauges.h.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "metrics/metrics_private.h"

/* ---- organizations ---- */

static void
set_if_known(pg_atomic_uint64 *gauge, int64 value)
{
	if (value >= 0)
		pg_atomic_write_u64(gauge, value);
}

static void
keep_facts(PfaOrganizationCounters *counters, const PfaOrganizationFacts *facts)
{
	/* A run may have ended since the table was read. */
	if (facts->last_success_at >
		(TimestampTz) pg_atomic_read_u64(&counters->last_success_at))
		pg_atomic_write_u64(&counters->last_success_at, facts->last_success_at);
	pg_atomic_write_u64(&counters->added_at, facts->added_at);
	pg_atomic_write_u64(&counters->next_sync_at, facts->next_sync_at);
	pg_atomic_write_u64(&counters->interval_us, facts->interval_us);
	pg_atomic_write_u64(&counters->failures, facts->failures);
	pg_atomic_write_u64(&counters->idle, facts->idle);
	set_if_known(&counters->rejected, facts->rejected);
	set_if_known(&counters->write_back_pending, facts->write_back_pending);
	set_if_known(&counters->conflicts_open, facts->conflicts_open);
}

/* Give free what the facts of this round did not name. */
static void
free_unnamed(PfaDatabaseBlock *block)
{
	LWLockAcquire(pfa_metrics.lock, LW_EXCLUSIVE);
	for (int i = 0; i < pfa_metrics.shared->max_organizations; i++)
	{
		PfaOrganizationEntry *entry = &pfa_metrics.organizations[i];
		PfaOrganizationKey *key = &pfa_metrics.keys[i];

		if (pg_atomic_read_u32(&key->database) != MyDatabaseId)
			continue;

		/*
		 * One that was made since the last round may be newer than the facts.
		 */
		if (entry->round == 0)
			entry->round = block->round;
		if (entry->round == block->round)
			continue;
		pg_atomic_write_u32(&key->database, InvalidOid);
		entry->freed_at = GetCurrentTimestamp();
	}
	LWLockRelease(pfa_metrics.lock);
}

static void
sum_other(PfaOrganizationFacts *other, const PfaOrganizationFacts *facts)
{
	other->last_success_at = Max(other->last_success_at,
								 facts->last_success_at);
	other->rejected += Max(facts->rejected, 0);
	other->write_back_pending += Max(facts->write_back_pending, 0);
	other->conflicts_open += Max(facts->conflicts_open, 0);
}

void
pfa_gauges_organizations(const PfaOrganizationFacts *facts, int nfacts)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	PfaOrganizationFacts other = {0};

	if (block == NULL)
		return;
	block->round++;
	other.idle = true;
	for (int i = 0; i < nfacts; i++)
	{
		PfaOrganizationEntry *entry =
			pfa_metrics_organization_entry(facts[i].organization_id, true);

		if (entry == NULL)
		{
			sum_other(&other, &facts[i]);
			continue;
		}
		entry->round = block->round;
		keep_facts(&entry->counters, &facts[i]);
	}
	keep_facts(&block->other, &other);
	free_unnamed(block);
	pg_atomic_write_u64(&block->facts_at, GetCurrentTimestamp());
}

/* ---- tables ---- */

static int
by_oid(const void *a, const void *b)
{
	Oid x = ((const PfaRelationFacts *) a)->oid;
	Oid y = ((const PfaRelationFacts *) b)->oid;

	return x < y ? -1 : x > y;
}

static bool
are_known(PfaDatabaseBlock *block, const PfaRelationFacts *facts, int nfacts)
{
	if (pg_atomic_read_u32(&block->noids) != nfacts)
		return false;
	for (int i = 0; i < nfacts; i++)
	{
		if (pg_atomic_read_u32(&block->oids[i]) != facts[i].oid)
			return false;
	}
	return true;
}

static void
enter_relations(PfaDatabaseBlock *block, const PfaRelationFacts *facts,
				int nfacts)
{
	pg_atomic_write_u32(&block->noids, 0);
	pg_write_barrier();
	for (int i = 0; i < nfacts; i++)
	{
		PfaRelationEntry *entry = &block->relations[i];

		memset(entry, 0, sizeof(PfaRelationEntry));
		entry->name = facts[i].name;
		pg_atomic_write_u32(&block->oids[i], facts[i].oid);
	}
	pg_write_barrier();
	pg_atomic_write_u32(&block->noids, nfacts);
}

void
pfa_gauges_relations(const PfaRelationFacts *facts, int nfacts)
{
	PfaDatabaseBlock *block = pfa_metrics_block();
	PfaRelationFacts *sorted;

	if (block == NULL)
		return;
	nfacts = Min(nfacts, PFA_METRICS_RELATIONS);
	sorted = palloc(sizeof(PfaRelationFacts) * Max(nfacts, 1));
	memcpy(sorted, facts, sizeof(PfaRelationFacts) * nfacts);
	qsort(sorted, nfacts, sizeof(PfaRelationFacts), by_oid);

	/* Tables come and go with CREATE, ALTER and DROP EXTENSION only. */
	if (!are_known(block, sorted, nfacts))
	{
		LWLockAcquire(pfa_metrics.lock, LW_EXCLUSIVE);
		enter_relations(block, sorted, nfacts);
		LWLockRelease(pfa_metrics.lock);
	}
	for (int i = 0; i < nfacts; i++)
	{
		PfaRelationEntry *entry = &block->relations[i];

		entry->name = sorted[i].name; /* ALTER TABLE RENAME */
		set_if_known(&entry->size, sorted[i].size);
		pg_atomic_write_u64(&entry->rows, Max(sorted[i].rows, 0));
		pg_atomic_write_u64(&entry->index_hit, sorted[i].index_hit);
		pg_atomic_write_u64(&entry->index_read, sorted[i].index_read);
	}
	pfree(sorted);
}

void
pfa_gauges_forget(void)
{
	PfaDatabaseBlock *block = pfa_metrics_find_block(MyDatabaseId);

	if (block == NULL)
		return;
	pfa_gauges_organizations(NULL, 0);
	pg_atomic_write_u32(&block->noids, 0);
}
