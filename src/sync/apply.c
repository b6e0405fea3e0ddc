/*
 * apply.c
 *	  Write one decoded batch into pfa_mirror.
 *
 * First the batch is merged with what is stored, read in the order of ids:
 * equal hashes mean equal records, so a page without news leaves no trace, no
 * row version, no WAL, no lock.  What is new or differs is noted, and written
 * when the scan has ended: first the new rows, then the changed ones, each in
 * the order of ids, so that two processes cannot wait for one another.
 *
 * A row that another process has written since the snapshot was taken ends the
 * transaction with a unique violation or a serialization failure.  The caller
 * repeats it, and the repetition sees that row.
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "catalog/mirror.h"
#include "sync/apply.h"
#include "sync/record_jsonb.h"

/*
 * Without judge, so many stored rows are read in vain before the scan looks
 * for the next id instead.
 */
#define ROWS_BEFORE_SEEK 8

/* Rows of the direct insert are bounded in memory as in number. */
#define INSERT_BYTES ((size_t) 1536 * 1024)

struct PfaApply
{
	char *organization_id;
	const PfaMapping *mapping;
	PfaRowBuilder *builder;
	PfaMirrorBulk bulk; /* of all batches */
	char tomorrow[11];  /* no record has been changed later */
	MemoryContext work; /* of one call */
	TimestampTz now;    /* of one call; a foreground sync's
								 * transactions all begin with its CALL */
};

/* A stored row that differs from its record. */
typedef struct Change
{
	int record;
	int64 version;
	ItemPointerData tid;
} Change;

/* What a batch comes to. */
typedef struct Merge
{
	PfaRecord *records;
	int nrecords;
	int *inserts;
	int ninserts;
	Change *changes;
	int nchanges;
	const char **rejected; /* ids, in byte order */
	int nrejected;
	MemoryContext caller;
	PfaApplyResult *result;
} Merge;

/*
 * The latest date at which something may have happened by now, in whichever
 * time zone PEMS lives, as an ISO date.
 */
static void
write_tomorrow(char *out, size_t size)
{
	pg_time_t then = (pg_time_t) time(NULL) + 14 * SECS_PER_HOUR;
	struct pg_tm *tm = pg_gmtime(&then);

	snprintf(out, size, "%04d-%02d-%02d", tm->tm_year + 1900, tm->tm_mon + 1,
			 tm->tm_mday);
}

PfaApply *
pfa_apply_create(MemoryContext ctx, const char *organization_id,
				 const PfaMapping *mapping)
{
	PfaApply *apply = MemoryContextAllocZero(ctx, sizeof(PfaApply));

	apply->organization_id = MemoryContextStrdup(ctx, organization_id);
	apply->mapping = mapping;
	apply->builder = pfa_row_builder_create(ctx, organization_id, mapping);
	pfa_mirror_bulk_init(&apply->bulk, ctx);
	write_tomorrow(apply->tomorrow, sizeof(apply->tomorrow));
	apply->work = AllocSetContextCreate(ctx, "pfa_vanguard apply",
										ALLOCSET_DEFAULT_SIZES);
	return apply;
}

/* ---- ids ---- */

/* The order of COLLATE "C". */
static inline int
compare_ids(const char *a, int a_len, const char *b, int b_len)
{
	int order = memcmp(a, b, Min(a_len, b_len));

	if (order != 0)
		return order;
	return a_len < b_len ? -1 : a_len > b_len;
}

static int
compare_records(const void *a, const void *b)
{
	const PfaRecord *x = a;
	const PfaRecord *y = b;

	return compare_ids(x->id, x->id_len, y->id, y->id_len);
}

/* Records with the place they came in, to sort them stably. */
typedef struct Placed
{
	PfaRecord record;
	int place;
} Placed;

static int
compare_placed(const void *a, const void *b)
{
	int order = compare_records(a, b);

	if (order != 0)
		return order;
	return ((const Placed *) a)->place < ((const Placed *) b)->place ? -1 : 1;
}

/* Sort by id; of two with one id the later stays.  Returns how many stay. */
static int
sort_records(PfaRecord *records, int nrecords)
{
	Placed *placed;
	int nkept = 0;
	bool sorted = true;

	for (int i = 1; i < nrecords && sorted; i++)
		sorted = compare_records(&records[i - 1], &records[i]) < 0;
	if (sorted)
		return nrecords;

	placed = MemoryContextAllocHuge(CurrentMemoryContext,
									sizeof(Placed) * nrecords);
	for (int i = 0; i < nrecords; i++)
	{
		placed[i].record = records[i];
		placed[i].place = i;
	}
	qsort(placed, nrecords, sizeof(Placed), compare_placed);

	/*
	 * What is left behind at the end of the array is harmless when the call
	 * is repeated: the latest of an id is still the last one of it.
	 */
	for (int i = 0; i < nrecords; i++)
	{
		bool last = i + 1 == nrecords ||
			compare_records(&placed[i].record, &placed[i + 1].record) != 0;

		if (last)
			records[nkept++] = placed[i].record;
	}
	pfree(placed);
	return nkept;
}

static int
compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Ids that are not judged because the record came, but could not be used. */
static void
collect_rejected(Merge *merge, PfaBatch *batch)
{
	const PfaReject *rejects = pfa_batch_rejects(batch);

	merge->nrejected = pfa_batch_nrejects(batch);
	merge->rejected = palloc(sizeof(char *) * Max(merge->nrejected, 1));
	for (int i = 0; i < merge->nrejected; i++)
		merge->rejected[i] = rejects[i].id;
	qsort(merge->rejected, merge->nrejected, sizeof(char *), compare_texts);
}

static bool
is_rejected(const Merge *merge, const char *id, int id_len)
{
	int low = 0;
	int high = merge->nrejected;

	while (low < high)
	{
		int middle = (low + high) / 2;
		const char *other = merge->rejected[middle];
		int order = compare_ids(other, strlen(other), id, id_len);

		if (order == 0)
			return true;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/* ---- what is to be done ---- */

/* Stored rows are judged between these; NULL: no bound. */
typedef struct Range
{
	bool judge;
	const char *lower; /* exclusive */
	int lower_len;
	const char *upper;
	int upper_len;
	bool upper_inclusive;
} Range;

static bool
in_range(const Range *range, const PfaMirrorRow *row)
{
	int order;

	if (range->lower != NULL &&
		compare_ids(row->id, row->id_len, range->lower, range->lower_len) <= 0)
		return false;
	if (range->upper == NULL)
		return true;
	order = compare_ids(row->id, row->id_len, range->upper, range->upper_len);
	return order < 0 || (order == 0 && range->upper_inclusive);
}

static void
note_vanished(Merge *merge, const Range *range, const PfaMirrorRow *row)
{
	PfaApplyResult *result = merge->result;
	MemoryContext work;
	int n = result->nvanished;

	if (!range->judge || !in_range(range, row) ||
		is_rejected(merge, row->id, row->id_len))
		return;
	work = MemoryContextSwitchTo(merge->caller);
	if (n == 0)
		result->vanished = palloc(sizeof(char *));
	else if ((n & (n - 1)) == 0)
		result->vanished = repalloc_huge(result->vanished,
										 sizeof(char *) * n * 2);
	result->vanished[n] = pnstrdup(row->id, row->id_len);
	result->nvanished++;
	MemoryContextSwitchTo(work);
}

/*
 * Go to the first stored row that is not before the record; those that are
 * passed have no record.
 */
static bool
find_stored(PfaMirrorScan *scan, Merge *merge, const Range *range,
			const PfaRecord *record)
{
	int passed = 0;

	while (!scan->ended)
	{
		int order = compare_ids(scan->row.id, scan->row.id_len, record->id,
								record->id_len);

		if (order >= 0)
			return order == 0;
		note_vanished(merge, range, &scan->row);
		if (!range->judge && ++passed > ROWS_BEFORE_SEEK)
		{
			pfa_mirror_scan_seek(scan, record->id, record->id_len);
			passed = 0;
		}
		else
			pfa_mirror_scan_next(scan);
	}
	return false;
}

static void
compare_stored(PfaMirrorScan *scan, Merge *merge, const Range *range)
{
	for (int i = 0; i < merge->nrecords; i++)
	{
		const PfaRecord *record = &merge->records[i];

		if (!find_stored(scan, merge, range, record))
			merge->inserts[merge->ninserts++] = i;
		else
		{
			if (scan->row.content_hash == pfa_row_hash(record))
				merge->result->unchanged++;
			else
			{
				Change *change = &merge->changes[merge->nchanges++];

				pfa_mirror_scan_fetch(scan);
				change->record = i;
				change->version = scan->row.version;
				change->tid = scan->row.tid;
			}
			pfa_mirror_scan_next(scan);
		}
	}
	while (!scan->ended)
	{
		note_vanished(merge, range, &scan->row);
		pfa_mirror_scan_next(scan);
	}
}

/*
 * Read what is stored of the range and of the batch's own ids, which may lie
 * outside of it: a page's lower bound is its first record's id.
 */
static void
merge_stored(Merge *merge, PfaMirror *mirror, const Range *range)
{
	PfaMirrorScan scan;
	const PfaRecord *first = merge->records;
	const PfaRecord *last = merge->records + merge->nrecords - 1;
	const char *lower = range->lower;
	const char *upper = range->upper;
	int lower_len = range->lower_len;
	int upper_len = range->upper_len;

	merge->inserts = MemoryContextAllocHuge(CurrentMemoryContext,
											sizeof(int) *
												(merge->nrecords + 1));
	merge->changes = MemoryContextAllocHuge(CurrentMemoryContext,
											sizeof(Change) *
												(merge->nrecords + 1));
	if (merge->nrecords > 0)
	{
		if (!range->judge ||
			(lower != NULL &&
			 compare_ids(first->id, first->id_len, lower, lower_len) < 0))
		{
			lower = first->id;
			lower_len = first->id_len;
		}
		if (!range->judge ||
			(upper != NULL &&
			 compare_ids(last->id, last->id_len, upper, upper_len) > 0))
		{
			upper = last->id;
			upper_len = last->id_len;
		}
	}
	pfa_mirror_scan_begin(&scan, mirror, lower, lower_len, upper, upper_len);
	compare_stored(&scan, merge, range);
	pfa_mirror_scan_end(&scan);
}

/* ---- doing it ---- */

static void
build_row(PfaApply *apply, const PfaRecord *record, int64 version,
		  Datum *values, bool *nulls)
{
	pfa_row_build(apply->builder, record, values, nulls);
	values[PFA_MIRROR_VERSION - 1] = Int64GetDatum(version);
	values[PFA_MIRROR_SYNCED_AT - 1] = TimestampTzGetDatum(apply->now);
}

static void
insert_directly(PfaApply *apply, PfaMirror *mirror, const Merge *merge)
{
	PfaMirrorInsert *insert = pfa_mirror_insert_begin(mirror, &apply->bulk);

	for (int i = 0; i < merge->ninserts; i++)
	{
		TupleTableSlot *slot;

		if (insert->nused == PFA_MIRROR_INSERT_ROWS ||
			pfa_row_builder_bytes(apply->builder) > INSERT_BYTES)
		{
			CHECK_FOR_INTERRUPTS();
			pfa_mirror_insert_flush(insert);
			pfa_row_builder_reset(apply->builder);
		}
		slot = pfa_mirror_insert_slot(insert);
		build_row(apply, &merge->records[merge->inserts[i]], 1,
				  slot->tts_values, slot->tts_isnull);
		ExecStoreVirtualTuple(slot);
	}
	pfa_mirror_insert_end(insert);
	pfa_row_builder_reset(apply->builder);
}

static void
update_directly(PfaApply *apply, PfaMirror *mirror, const Merge *merge)
{
	Datum values[PFA_MIRROR_NATTS];
	bool nulls[PFA_MIRROR_NATTS];

	for (int i = 0; i < merge->nchanges; i++)
	{
		Change *change = &merge->changes[i];

		CHECK_FOR_INTERRUPTS();
		build_row(apply, &merge->records[change->record], change->version + 1,
				  values, nulls);
		pfa_mirror_update(mirror, &change->tid, values, nulls);
		pfa_row_builder_reset(apply->builder);
	}
}

static void
store_row(PfaApply *apply, PfaMirror *mirror, Tuplestorestate *rows,
		  const PfaRecord *record, int64 version)
{
	Datum values[PFA_MIRROR_NATTS];
	bool nulls[PFA_MIRROR_NATTS];

	build_row(apply, record, version, values, nulls);
	tuplestore_putvalues(rows, mirror->own_columns, values, nulls);
	pfa_row_builder_reset(apply->builder);
}

static void
insert_by_sql(PfaApply *apply, PfaMirror *mirror, const Merge *merge)
{
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);

	for (int i = 0; i < merge->ninserts; i++)
		store_row(apply, mirror, rows, &merge->records[merge->inserts[i]], 1);
	pfa_mirror_sql_insert(mirror, rows);
	tuplestore_end(rows);
}

static void
update_by_sql(PfaApply *apply, PfaMirror *mirror, const Merge *merge)
{
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);

	for (int i = 0; i < merge->nchanges; i++)
		store_row(apply, mirror, rows,
				  &merge->records[merge->changes[i].record],
				  merge->changes[i].version + 1);
	pfa_mirror_sql_update(mirror, rows);
	tuplestore_end(rows);
}

static void
carry_out(PfaApply *apply, PfaMirror *mirror, const Merge *merge)
{
	if (merge->ninserts > 0)
	{
		if (mirror->direct_insert)
			insert_directly(apply, mirror, merge);
		else
			insert_by_sql(apply, mirror, merge);
	}
	if (merge->nchanges > 0)
	{
		if (mirror->direct_update)
			update_directly(apply, mirror, merge);
		else
			update_by_sql(apply, mirror, merge);
	}
	merge->result->inserted += merge->ninserts;
	merge->result->updated += merge->nchanges;
}

/* ---- a batch ---- */

static PfaRecord *
copy_records(const PfaRecord *records, int nrecords)
{
	Size size = sizeof(PfaRecord) * nrecords;
	PfaRecord *copy = MemoryContextAllocHuge(CurrentMemoryContext, size);

	memcpy(copy, records, size);
	return copy;
}

static void
refuse_oversized(PfaApply *apply, Merge *merge)
{
	PfaApplyResult *result = merge->result;
	PfaReject *rejects = NULL;
	int nkept = 0;

	for (int i = 0; i < merge->nrecords; i++)
	{
		PfaRecord *record = &merge->records[i];
		const char *reason = pfa_row_refusal(apply->builder, record);
		MemoryContext work;

		if (likely(reason == NULL))
		{
			if (unlikely(nkept != i))
				merge->records[nkept] = *record;
			nkept++;
			continue;
		}
		if (rejects == NULL)
		{
			/* The batch itself stays as it is, for a repetition. */
			merge->records = copy_records(merge->records, merge->nrecords);
			record = &merge->records[i];
			rejects = MemoryContextAllocHuge(merge->caller,
											 sizeof(PfaReject) *
												 merge->nrecords);
		}
		work = MemoryContextSwitchTo(merge->caller);
		rejects[result->nrejected].id = pnstrdup(record->id, record->id_len);
		rejects[result->nrejected].reason = pstrdup(reason);
		result->nrejected++;
		MemoryContextSwitchTo(work);
	}
	merge->nrecords = nkept;
	result->rejects = rejects;

	/* Refused records exist in PEMS: what is stored of them stays. */
	if (result->nrejected > 0)
	{
		merge->rejected = repalloc_huge(merge->rejected,
										sizeof(char *) *
											(merge->nrejected +
											 result->nrejected));
		for (int i = 0; i < result->nrejected; i++)
			merge->rejected[merge->nrejected++] = rejects[i].id;
		qsort(merge->rejected, merge->nrejected, sizeof(char *), compare_texts);
	}
}

/*
 * Is it an ISO date of the future?  One such record, set by a clock that was
 * wrong, must not become the mark from which deltas ask.
 */
static bool
is_in_future(const PfaApply *apply, const PfaValue *version)
{
	return version->len >= 10 && version->ptr[4] == '-' &&
		version->ptr[7] == '-' && strspn(version->ptr, "0123456789") == 4 &&
		memcmp(version->ptr, apply->tomorrow, 10) > 0;
}

static void
find_max_version(PfaApply *apply, const Merge *merge)
{
	int field = apply->mapping->version_field;
	const PfaValue *max = NULL;

	if (field < 0 || apply->mapping->fields[field].kind != PFA_KIND_TEXT)
		return;
	for (int i = 0; i < merge->nrecords; i++)
	{
		const PfaValue *value = &merge->records[i].values[field];

		if (!value->isnull && !is_in_future(apply, value) &&
			(max == NULL ||
			 compare_ids(value->ptr, value->len, max->ptr, max->len) > 0))
			max = value;
	}
	if (max != NULL)
	{
		char *text = MemoryContextAlloc(merge->caller, max->len + 1);

		memcpy(text, max->ptr, max->len);
		text[max->len] = '\0';
		merge->result->max_version = text;
	}
}

void
pfa_apply_batch(PfaApply *apply, PfaBatch *batch, bool judge, const char *lower,
				const char *upper, bool upper_inclusive, PfaApplyResult *result)
{
	PfaMirror mirror;
	Range range = {0};
	Merge merge = {0};

	memset(result, 0, sizeof(*result));
	if (!judge && pfa_batch_nrecords(batch) == 0)
		return;

	/* A call that failed half way has left rows in the builder. */
	MemoryContextReset(apply->work);
	pfa_row_builder_reset(apply->builder);
	merge.caller = MemoryContextSwitchTo(apply->work);
	apply->now = GetCurrentTimestamp();
	merge.result = result;
	merge.records = pfa_batch_records(batch);
	merge.nrecords = sort_records(merge.records, pfa_batch_nrecords(batch));
	collect_rejected(&merge, batch);
	refuse_oversized(apply, &merge);

	range.judge = judge;
	if (judge)
	{
		range.lower = lower;
		range.lower_len = lower == NULL ? 0 : strlen(lower);
		range.upper = upper;
		range.upper_len = upper == NULL ? 0 : strlen(upper);
		range.upper_inclusive = upper_inclusive;
	}
	if (judge || merge.nrecords > 0)
	{
		pfa_mirror_open(&mirror, apply->organization_id);
		merge_stored(&merge, &mirror, &range);
		carry_out(apply, &mirror, &merge);
		pfa_mirror_close(&mirror);
	}
	find_max_version(apply, &merge);
	MemoryContextSwitchTo(merge.caller);
	MemoryContextReset(apply->work);
}

/* ---- deleting ---- */

static int64
delete_directly(PfaMirror *mirror, const char **ids, int nids)
{
	PfaMirrorScan scan;
	int64 ndeleted = 0;

	pfa_mirror_scan_begin(&scan, mirror, ids[0], strlen(ids[0]), ids[nids - 1],
						  strlen(ids[nids - 1]));
	for (int i = 0; i < nids && !scan.ended; i++)
	{
		int id_len = strlen(ids[i]);
		int order;

		CHECK_FOR_INTERRUPTS();
		order = compare_ids(scan.row.id, scan.row.id_len, ids[i], id_len);
		if (order < 0)
		{
			pfa_mirror_scan_seek(&scan, ids[i], id_len);
			if (scan.ended)
				break;
			order = compare_ids(scan.row.id, scan.row.id_len, ids[i], id_len);
		}
		if (order == 0)
		{
			pfa_mirror_scan_fetch(&scan);
			pfa_mirror_delete(mirror, &scan.row.tid);
			ndeleted++;
			pfa_mirror_scan_next(&scan);
		}
	}
	pfa_mirror_scan_end(&scan);
	return ndeleted;
}

int64
pfa_apply_delete(PfaApply *apply, const char **ids, int nids)
{
	PfaMirror mirror;
	MemoryContext caller;
	const char **sorted;
	int64 ndeleted;

	if (nids == 0)
		return 0;
	MemoryContextReset(apply->work);
	caller = MemoryContextSwitchTo(apply->work);
	sorted = palloc_extended(sizeof(char *) * nids, MCXT_ALLOC_HUGE);
	memcpy(sorted, ids, sizeof(char *) * nids);
	qsort(sorted, nids, sizeof(char *), compare_texts);

	pfa_mirror_open(&mirror, apply->organization_id);
	if (mirror.direct_delete)
		ndeleted = delete_directly(&mirror, sorted, nids);
	else
		ndeleted = pfa_mirror_sql_delete(&mirror, sorted, nids);
	pfa_mirror_close(&mirror);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(apply->work);
	return ndeleted;
}
