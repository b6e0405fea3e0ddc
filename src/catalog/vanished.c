/*
 * vanished.c
 *	  Mirror records that a run did not find in PEMS, read for its sweep.
 *
 * Neighbouring pages overlap, so the table can name an id twice; both calls
 * look at distinct ids.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog/pfa_catalog.h"

int64
pfa_vanished_count(int64 run_id)
{
	Oid argtypes[1] = {INT8OID};
	Datum values[1] = {Int64GetDatum(run_id)};
	bool isnull;
	int64 count;

	pfa_spi_execute(
		"SELECT pg_catalog.count(DISTINCT pfa_id) FROM @.@.pfa_sync_vanished "
		"WHERE run_id OPERATOR(pg_catalog.=) $1",
		1, argtypes, values, NULL, false);
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										SPI_tuptable->tupdesc, 1, &isnull));
	pfa_spi_finish();
	return count;
}

const char **
pfa_vanished_next(int64 run_id, const char *after, int limit, int *nids)
{
	Oid argtypes[3] = {INT8OID, TEXTOID, INT4OID};
	Datum values[3];
	MemoryContext caller = CurrentMemoryContext;
	const char **ids;
	uint64 n;

	values[0] = Int64GetDatum(run_id);
	values[1] = CStringGetTextDatum(after == NULL ? "" : after);
	values[2] = Int32GetDatum(limit);
	n = pfa_spi_execute("SELECT DISTINCT pfa_id FROM @.@.pfa_sync_vanished "
						"WHERE run_id OPERATOR(pg_catalog.=) $1 "
						"AND pfa_id OPERATOR(pg_catalog.>) $2 "
						"ORDER BY pfa_id LIMIT $3",
						3, argtypes, values, NULL, false);
	ids = MemoryContextAlloc(caller, Max(n, 1) * sizeof(char *));
	for (uint64 i = 0; i < n; i++)
		ids[i] = MemoryContextStrdup(caller,
									 SPI_getvalue(SPI_tuptable->vals[i],
												  SPI_tuptable->tupdesc, 1));
	pfa_spi_finish();
	*nids = (int) n;
	return ids;
}

/* Rows that the organization's runs deleted in the last interval_us. */
int64
pfa_run_deleted_since(const char *organization_id, int64 interval_us)
{
	Oid argtypes[2] = {TEXTOID, TIMESTAMPTZOID};
	Datum values[2];
	bool isnull;
	int64 deleted;

	values[0] = CStringGetTextDatum(organization_id);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp() - interval_us);
	pfa_spi_execute(
		"SELECT COALESCE(pg_catalog.sum(rows_deleted), 0)::pg_catalog.int8 "
		"FROM @.@.pfa_sync_run "
		"WHERE organization_id OPERATOR(pg_catalog.=) $1 "
		"AND finished_at OPERATOR(pg_catalog.>=) $2 "
		"AND mode OPERATOR(pg_catalog.<>) 'force'",
		2, argtypes, values, NULL, false);
	deleted = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
										  SPI_tuptable->tupdesc, 1, &isnull));
	pfa_spi_finish();
	return deleted;
}
