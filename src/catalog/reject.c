/*
 * reject.c
 *	  Records that could not be mapped, and why.
 *
 * An operator finds the latest reason a record in pfa_rejected_record.  A run
 * keeps at most MAX_REJECTS of them: a renamed field can spoil every record
 * of a listing, and a thousand examples say as much as all of them.
 *
 * Ids and reasons quote what PEMS sent, which is why it was refused; nothing
 * in it may make the keeping of the reason fail as well.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"

#define MAX_REJECTS 1000

/* Bytes; the id is part of an index. */
#define MAX_ID     1000
#define MAX_REASON 2000

/*
 * Text that the database can hold, cut at the first byte that is not UTF-8.
 * With another server encoding all but ASCII becomes a question mark.
 */
static Datum
safe_text(const char *text, int max)
{
	int len = (int) strlen(text);
	char *copy;

	len = pg_encoding_verifymbstr(PG_UTF8, text, len);
	len = pg_encoding_mbcliplen(PG_UTF8, text, len, max);
	copy = pnstrdup(text, len);
	if (GetDatabaseEncoding() != PG_UTF8)
	{
		for (char *p = copy; *p != '\0'; p++)
		{
			if (IS_HIGHBIT_SET(*p))
				*p = '?';
		}
	}
	return CStringGetTextDatum(copy);
}

static Datum
text_array(Datum *elements, int n)
{
	return PointerGetDatum(
		construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static int
count_kept(int64 run_id, const char *organization_id)
{
	Oid argtypes[2] = {TEXTOID, INT8OID};
	Datum values[2] = {CStringGetTextDatum(organization_id),
					   Int64GetDatum(run_id)};
	int64 count;

	pfa_spi_execute("SELECT pg_catalog.count(*) FROM @.@.pfa_rejected_record "
					"WHERE organization_id = $1 AND run_id = $2",
					2, argtypes, values, NULL, false);
	count = pfa_spi_get_int64(0, 1);
	pfa_spi_finish();
	return (int) count;
}

/*
 * Records without an id are not told apart: those of this run are kept beside
 * each other, those of earlier runs are replaced.
 */
void
pfa_reject_insert(int64 run_id, const char *organization_id,
				  const PfaReject *rejects, int nrejects)
{
	Oid argtypes[4] = {TEXTOID, INT8OID, TEXTARRAYOID, TEXTARRAYOID};
	Datum values[4];
	Datum *ids;
	Datum *reasons;

	if (nrejects > 0)
		nrejects = Min(nrejects,
					   MAX_REJECTS - count_kept(run_id, organization_id));
	if (nrejects <= 0)
		return;

	ids = palloc(nrejects * sizeof(Datum));
	reasons = palloc(nrejects * sizeof(Datum));
	for (int i = 0; i < nrejects; i++)
	{
		ids[i] = safe_text(rejects[i].id, MAX_ID);
		reasons[i] = safe_text(rejects[i].reason, MAX_REASON);
	}
	values[0] = CStringGetTextDatum(organization_id);
	values[1] = Int64GetDatum(run_id);
	values[2] = text_array(ids, nrejects);
	values[3] = text_array(reasons, nrejects);
	(void) pfa_spi_run("DELETE FROM @.@.pfa_rejected_record "
					   "WHERE organization_id = $1 AND pfa_id = ANY ($3) "
					   "AND (pfa_id <> '' OR run_id <> $2)",
					   3, argtypes, values, NULL);
	(void) pfa_spi_run(
		"INSERT INTO @.@.pfa_rejected_record "
		"(organization_id, pfa_id, run_id, reason) "
		"SELECT DISTINCT ON (r.id, CASE WHEN r.id = '' THEN r.n END) "
		"$1, r.id, $2, r.reason "
		"FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4)) "
		"WITH ORDINALITY AS r (id, reason, n) "
		"ORDER BY r.id, CASE WHEN r.id = '' THEN r.n END, r.n DESC",
		4, argtypes, values, NULL);
}

/* After a complete listing: what this run did not reject is fine again. */
void
pfa_reject_forget(const char *organization_id, int64 run_id)
{
	Oid argtypes[2] = {TEXTOID, INT8OID};
	Datum values[2] = {CStringGetTextDatum(organization_id),
					   Int64GetDatum(run_id)};

	(void) pfa_spi_run("DELETE FROM @.@.pfa_rejected_record "
					   "WHERE organization_id = $1 AND run_id <> $2",
					   2, argtypes, values, NULL);
}
