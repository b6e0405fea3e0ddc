/*
 * sync_page.c
 *	  What a run has read so far: pages, and ids that it did not find.
 *
 * Both tables are written in the transactions that write the records, read
 * when a run ends or is taken up again, and emptied when it has ended.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"

#define NCOUNTS 10

/* The order of the column counts; new ones go to the end. */
static ArrayType *
counts_to_array(const PfaRunCounts *counts)
{
	Datum elements[NCOUNTS] = {Int64GetDatum(counts->rows_seen),
							   Int64GetDatum(counts->rows_inserted),
							   Int64GetDatum(counts->rows_updated),
							   Int64GetDatum(counts->rows_deleted),
							   Int64GetDatum(counts->rows_unchanged),
							   Int64GetDatum(counts->rows_rejected),
							   Int64GetDatum(counts->rows_vanished),
							   Int64GetDatum(counts->bytes_received),
							   Int64GetDatum(counts->api_calls),
							   Int64GetDatum(counts->retries)};

	return construct_array(elements, NCOUNTS, INT8OID, sizeof(int64),
						   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

static void
counts_from_array(Datum value, PfaRunCounts *counts)
{
	int64 *fields[NCOUNTS] = {&counts->rows_seen,      &counts->rows_inserted,
							  &counts->rows_updated,   &counts->rows_deleted,
							  &counts->rows_unchanged, &counts->rows_rejected,
							  &counts->rows_vanished,  &counts->bytes_received,
							  &counts->api_calls,      &counts->retries};
	Datum *elements;
	bool *nulls;
	int n;

	deconstruct_array(DatumGetArrayTypeP(value), INT8OID, sizeof(int64),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements, &nulls, &n);
	for (int i = 0; i < Min(n, NCOUNTS); i++)
		*fields[i] = nulls[i] ? 0 : DatumGetInt64(elements[i]);
}

void
pfa_page_insert(int64 run_id, const PfaPageRow *page)
{
	Oid argtypes[6] = {INT8OID, INT8OID, TEXTOID,
					   TEXTOID, BOOLOID, INT8ARRAYOID};
	Datum values[6];
	char nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};

	values[0] = Int64GetDatum(run_id);
	values[1] = Int64GetDatum(page->page_no);
	pfa_spi_set_text(values, nulls, 2, page->lower_id);
	pfa_spi_set_text(values, nulls, 3, page->upper_id);
	values[4] = BoolGetDatum(page->upper_is_ours);
	values[5] = PointerGetDatum(counts_to_array(&page->counts));
	(void) pfa_spi_run("INSERT INTO @.@.pfa_sync_page "
					   "(run_id, page_no, lower_id, upper_id, upper_is_ours, "
					   "counts) VALUES ($1, $2, $3, $4, $5, $6)",
					   6, argtypes, values, nulls);
}

PfaPageRow *
pfa_page_list(int64 run_id, int *npages)
{
	Oid argtypes[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(run_id)};
	MemoryContext caller = CurrentMemoryContext;
	PfaPageRow *pages;
	uint64 n;

	n = pfa_spi_execute("SELECT page_no, lower_id, upper_id, counts, "
						"upper_is_ours "
						"FROM @.@.pfa_sync_page WHERE run_id = $1 "
						"ORDER BY page_no",
						1, argtypes, values, NULL, false);
	pages = MemoryContextAllocZero(caller, Max(n, 1) * sizeof(PfaPageRow));
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;
		Datum counts = pfa_spi_get_datum(i, 4, &isnull);

		pages[i].page_no = pfa_spi_get_int64(i, 1);
		pages[i].lower_id = pfa_spi_get_text(caller, i, 2);
		pages[i].upper_id = pfa_spi_get_text(caller, i, 3);
		pages[i].upper_is_ours = pfa_spi_get_bool(i, 5);
		if (!isnull)
			counts_from_array(counts, &pages[i].counts);
	}
	pfa_spi_finish();
	*npages = (int) n;
	return pages;
}

void
pfa_vanished_insert(int64 run_id, int64 page_no, const char **ids, int nids)
{
	Oid argtypes[3] = {INT8OID, INT8OID, TEXTARRAYOID};
	Datum values[3];
	Datum *elements;

	if (nids <= 0)
		return;
	elements = palloc(nids * sizeof(Datum));
	for (int i = 0; i < nids; i++)
		elements[i] = CStringGetTextDatum(ids[i]);
	values[0] = Int64GetDatum(run_id);
	values[1] = Int64GetDatum(page_no);
	values[2] = PointerGetDatum(
		construct_array(elements, nids, TEXTOID, -1, false, TYPALIGN_INT));
	(void) pfa_spi_run("INSERT INTO @.@.pfa_sync_vanished "
					   "(run_id, page_no, pfa_id) "
					   "SELECT $1, $2, pg_catalog.unnest($3)",
					   3, argtypes, values, NULL);
	for (int i = 0; i < nids; i++)
		pfree(DatumGetPointer(elements[i]));
	pfree(elements);
	pfree(DatumGetPointer(values[2]));
}

void
pfa_vanished_forget(int64 run_id, int64 page_no)
{
	Oid argtypes[2] = {INT8OID, INT8OID};
	Datum values[2] = {Int64GetDatum(run_id), Int64GetDatum(page_no)};

	(void) pfa_spi_run("DELETE FROM @.@.pfa_sync_vanished "
					   "WHERE run_id = $1 AND page_no = $2",
					   2, argtypes, values, NULL);
}

void
pfa_vanished_forget_unread(int64 run_id)
{
	Oid argtypes[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(run_id)};

	(void) pfa_spi_run("DELETE FROM @.@.pfa_sync_vanished v "
					   "WHERE run_id = $1 AND NOT EXISTS (SELECT 1 "
					   "FROM @.@.pfa_sync_page p WHERE p.run_id = v.run_id "
					   "AND p.page_no = v.page_no)",
					   1, argtypes, values, NULL);
}

void
pfa_page_forget(int64 run_id)
{
	Oid argtypes[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(run_id)};

	(void) pfa_spi_run("DELETE FROM @.@.pfa_sync_page WHERE run_id = $1", 1,
					   argtypes, values, NULL);
	(void) pfa_spi_run("DELETE FROM @.@.pfa_sync_vanished WHERE run_id = $1", 1,
					   argtypes, values, NULL);
}
