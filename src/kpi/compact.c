/*
 * compact.c
 *	  Add what stands in pfa_kpi_delta to pfa_kpi.
 *
 * Each row of either table is a summand, so compaction replaces rows by their
 * sum, in one transaction: no snapshot sees both or neither.  It never waits
 * for a row: one that somebody else is about to delete or update is left to
 * him, so any number of processes may compact at a time.  Two of them may each
 * insert a row of one key; the next compaction that touches the key makes one
 * of it.
 *
 * The price of deltas is what queues in tables pay: a snapshot held for long
 * keeps deleted ones in the way of readers.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "catalog/kpi.h"
#include "catalog/mirror.h"
#include "catalog/mv_change.h"
#include "catalog/pfa_catalog.h"
#include "compat.h"
#include "kpi/compact.h"
#include "registry.h"

/* Statements of one process between its compactions without a scheduler. */
#define STATEMENTS_ALONE 100

/* ---- deltas ---- */

/* Take deltas away and add them up by facet; how many. */
static int
take_deltas(Relation rel, Snapshot snapshot, PfaKpiSet *set)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	int ntaken = 0;

	while (ntaken < PFA_KPI_COMPACT_ROWS &&
		   table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (!pfa_kpi_try_delete(rel, &slot->tts_tid, snapshot))
			continue;
		pfa_kpi_row_expand(set, slot, PFA_KPI_STATE);
		ntaken++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return ntaken;
}

/* ---- rows of pfa_kpi ---- */

typedef struct HomeFinder
{
	Relation rel;
	Snapshot snapshot;
	PfaKpiSet *set;
} HomeFinder;

/* Of rows with one key the first is the home, others are added to the group. */
static void
find_home(TupleTableSlot *slot, void *arg)
{
	HomeFinder *finder = arg;
	PfaKpiKey key;
	PfaKpiGroup *group;

	CHECK_FOR_INTERRUPTS();
	pfa_kpi_row_key(slot, &key);
	group = pfa_kpi_set_find(finder->set, &key);
	if (group == NULL)
		return;
	if (!group->has_home)
	{
		group->has_home = true;
		group->home = slot->tts_tid;
	}
	else if (pfa_kpi_try_delete(finder->rel, &slot->tts_tid, finder->snapshot))
		pfa_kpi_row_add(finder->set, group, slot);
}

/* Find a home for groups among the rows of pfa_kpi. */
static void
find_homes(Relation rel, Snapshot snapshot, PfaKpiSet *set)
{
	HomeFinder finder = {rel, snapshot, set};
	PfaKpiSet *seen = pfa_kpi_set_create();

	for (int i = 0; i < set->ngroups; i++)
	{
		PfaKpiKey key = {0};
		int nseen = seen->ngroups;

		key.organization = set->groups[i]->key.organization;
		(void) pfa_kpi_set_enter(seen, &key);
		if (seen->ngroups > nseen)
			pfa_kpi_scan(rel, &key.organization, PFA_KPI_STATE, snapshot,
						 find_home, &finder);
	}
	pfa_kpi_set_free(seen);
}

typedef struct Updater
{
	Relation rel;
	Snapshot snapshot;
	EState *estate;
	ResultRelInfo *info;
	TupleTableSlot *stored;
	TupleTableSlot *formed;
} Updater;

/* Write the group over its home; false where somebody else changes that. */
static bool
update_home(Updater *updater, PfaKpiGroup *group)
{
	Relation rel = updater->rel;
	TM_FailureData failure;
	LockTupleMode lock;
	PfaUpdateIndexes indexes;

	if (pfa_kpi_group_is_zero(group))
		return pfa_kpi_try_delete(rel, &group->home, updater->snapshot);
	(void) pfa_kpi_row_form(updater->formed, group, 0);
	updater->formed->tts_tableOid = RelationGetRelid(rel);
	if (table_tuple_update(rel, &group->home, updater->formed,
						   GetCurrentCommandId(true), updater->snapshot,
						   InvalidSnapshot, false, &failure, &lock,
						   &indexes) != TM_Ok)
		return false;
	if (updater->info->ri_NumIndices > 0 && pfa_update_needs_indexes(indexes))
		list_free(pfa_insert_index_entries(updater->info, updater->formed,
										   updater->estate,
										   pfa_update_summarizing(indexes)));
	return true;
}

/*
 * Add the group to the row that is its home.  True if nothing of it is left to
 * be inserted.
 */
static bool
add_to_home(Updater *updater, PfaKpiGroup *group)
{
	PfaKpiSet *both;
	PfaKpiGroup *sum;
	Numeric part;
	bool whole = true;

	if (!table_tuple_fetch_row_version(updater->rel, &group->home,
									   updater->snapshot, updater->stored))
		return false;
	both = pfa_kpi_set_create();
	sum = pfa_kpi_set_enter(both, &group->key);
	sum->home = group->home;
	pfa_kpi_group_add(both, sum, group);
	pfa_kpi_row_add(both, sum, updater->stored);

	/* Sums that one numeric cannot hold stay in two rows. */
	for (int i = 0; i < PFA_KPI_NMEASURES; i++)
		whole &= !pfa_kpi_sum_stored(&sum->sums[i], 1, &part);
	whole = whole && update_home(updater, sum);
	pfa_kpi_set_free(both);
	ExecClearTuple(updater->stored);
	return whole;
}

/* Add groups to their homes; those that are left go to the front. */
static int
add_groups(Relation rel, Snapshot snapshot, PfaKpiSet *set)
{
	Updater updater = {rel, snapshot};
	int nleft = 0;

	updater.estate = CreateExecutorState();
	updater.info = makeNode(ResultRelInfo);
	InitResultRelInfo(updater.info, rel, 1, NULL, 0);
	ExecOpenIndices(updater.info, false);
	updater.stored = table_slot_create(rel, NULL);
	updater.formed = table_slot_create(rel, NULL);
	for (int i = 0; i < set->ngroups; i++)
	{
		PfaKpiGroup *group = set->groups[i];

		CHECK_FOR_INTERRUPTS();
		if (pfa_kpi_group_is_zero(group) ||
			(group->has_home && add_to_home(&updater, group)))
			continue;
		set->groups[nleft++] = group;
	}
	ExecDropSingleTupleTableSlot(updater.stored);
	ExecDropSingleTupleTableSlot(updater.formed);
	ExecCloseIndices(updater.info);
	FreeExecutorState(updater.estate);
	return nleft;
}

/* ---- entry points ---- */

bool
pfa_kpi_is_installed(void)
{
	return pfa_kpi_exists(pfa_extension_schema());
}

static Relation
open_ours(const char *name)
{
	return table_open(pfa_extension_relation(name), RowExclusiveLock);
}

int
pfa_kpi_compact_deltas(void)
{
	Relation kpi = open_ours("pfa_kpi");
	Relation delta = open_ours("pfa_kpi_delta");
	int ntaken = 0;
	Snapshot snapshot;

	PushActiveSnapshot(GetTransactionSnapshot());
	snapshot = GetActiveSnapshot();
	if (RelationGetNumberOfBlocks(delta) > 0)
	{
		PfaKpiSet *set = pfa_kpi_set_create();

		ntaken = take_deltas(delta, snapshot, set);
		if (set->ngroups > 0)
		{
			int nleft;

			find_homes(kpi, snapshot, set);
			nleft = add_groups(kpi, snapshot, set);
			pfa_kpi_insert(kpi, set->groups, nleft);
		}
		pfa_kpi_set_free(set);
	}
	pfa_mv_collapse(RelationGetNamespace(kpi), snapshot);
	PopActiveSnapshot();
	table_close(delta, NoLock);
	table_close(kpi, NoLock);
	return ntaken;
}

void
pfa_kpi_compact_without_scheduler(void)
{
	static int nstatements;

	/*
	 * In a transaction that keeps one snapshot, rows that others have changed
	 * since would raise no error but be of no use either.
	 */
	if (pfa_registry_available() || IsolationUsesXactSnapshot() ||
		++nstatements < STATEMENTS_ALONE)
		return;
	nstatements = 0;
	(void) pfa_kpi_compact_deltas();
}

/* ---- counting anew ---- */

static void
delete_all(Relation rel, Snapshot snapshot)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		simple_table_tuple_delete(rel, &slot->tts_tid, snapshot);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

static int64
count_mirror(Relation mirror, Snapshot snapshot, PfaKpiSet *set)
{
	TupleTableSlot *slot = table_slot_create(mirror, NULL);
	TableScanDesc scan = table_beginscan(mirror, snapshot, 0, NULL);
	int64 nrecords = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(slot, PFA_MIRROR_NATTS);
		pfa_kpi_record(set, slot->tts_values, slot->tts_isnull, 1);
		nrecords++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return nrecords;
}

/*
 * Rows are deleted, not truncated: a snapshot that is older sees the mirror as
 * it was, and so the KPI.  The locks keep writers and compaction out, so a
 * fresh snapshot sees every row there is.
 */
int64
pfa_kpi_recount(void)
{
	Relation mirror = table_open(pfa_extension_relation("pfa_mirror"),
								 ShareLock);
	Relation kpi = table_open(pfa_extension_relation("pfa_kpi"),
							  ShareRowExclusiveLock);
	Relation delta = table_open(pfa_extension_relation("pfa_kpi_delta"),
								ShareRowExclusiveLock);
	PfaKpiSet *set = pfa_kpi_set_create();
	PfaKpiSet *facets;
	Snapshot snapshot;
	int64 nrecords;

	if (IsolationUsesXactSnapshot())
		ereport(
			ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg(
				 "cannot count the mirror anew in a transaction of isolation level %s",
				 XactIsoLevel == XACT_SERIALIZABLE ? "serializable" :
													 "repeatable read"),
			 errdetail("Its snapshot does not see what was committed since.")));
	PushActiveSnapshot(GetTransactionSnapshot());
	snapshot = GetActiveSnapshot();
	delete_all(kpi, snapshot);
	delete_all(delta, snapshot);
	nrecords = count_mirror(mirror, snapshot, set);
	facets = pfa_kpi_set_expand(set);
	pfa_kpi_insert(kpi, facets->groups, facets->ngroups);
	pfa_mv_mark_changed(RelationGetNamespace(mirror));
	pfa_kpi_set_free(facets);
	pfa_kpi_set_free(set);
	PopActiveSnapshot();
	table_close(delta, NoLock);
	table_close(kpi, NoLock);
	table_close(mirror, NoLock);
	return nrecords;
}
