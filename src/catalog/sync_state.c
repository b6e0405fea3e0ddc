/*
 * sync_state.c
 *	  What a completed run learned about its organization.
 *
 * Only organizations that exist get a row: one may be removed while its last
 * run is ending.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "catalog/pfa_catalog.h"
#include "catalog/schedule.h"
#include "catalog/spi.h"

void
pfa_state_update(const char *organization_id, const char *watermark,
				 uint64 mapping_hash, const char *layout, bool full)
{
	Oid argtypes[5] = {TEXTOID, TEXTOID, INT8OID, TEXTOID, BOOLOID};
	Datum values[5];
	char nulls[5] = {' ', ' ', ' ', ' ', ' '};

	values[0] = CStringGetTextDatum(organization_id);
	pfa_spi_set_text(values, nulls, 1, watermark);
	values[2] = Int64GetDatum((int64) mapping_hash);
	pfa_spi_set_text(values, nulls, 3, layout);
	values[4] = BoolGetDatum(full);

	/*
	 * A delta looks at some records only, so it leaves alone what tells when
	 * and how all of them were last read.
	 */
	(void)
		pfa_spi_run("INSERT INTO @.@.pfa_sync_state AS s "
					"(organization_id, next_sync_at, last_full_at, "
					"watermark, mapping_hash, layout) "
					"SELECT organization_id, pg_catalog.clock_timestamp(), "
					"CASE WHEN $5 THEN pg_catalog.clock_timestamp() END, $2, "
					"CASE WHEN $5 THEN $3 ELSE 0 END, $4 "
					"FROM @.@.pfa_organization WHERE organization_id = $1 "
					"ON CONFLICT (organization_id) DO UPDATE SET "
					"watermark = COALESCE(excluded.watermark, s.watermark), "
					"layout = COALESCE(excluded.layout, s.layout), "
					"mapping_hash = CASE WHEN $5 THEN excluded.mapping_hash "
					"ELSE s.mapping_hash END, "
					"last_full_at = CASE WHEN $5 THEN excluded.last_full_at "
					"ELSE s.last_full_at END",
					5, argtypes, values, nulls);
}
